/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/bench/cold/slow.h"

#include "test/bench/common.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LINE = 256 };

static _Noreturn void die_of(int err, const char *what)
{
	errno = err;
	die(what);
}

/* One line, without its end. Byte by byte: nothing of the next answer may be left where only this process sees it. */
static void read_line(int fd, char *line)
{
	size_t n = 0;

	for (;;) {
		ssize_t got = read(fd, line + n, 1);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0 || n == LINE - 1)
			die_of(got < 0 ? errno : EPIPE, "slowfs does not answer");
		if (line[n] == '\n')
			break;
		n++;
	}
	line[n] = '\0';
}

long slow_do(const struct slow *s, const char *format, ...)
{
	char line[LINE], answer[LINE];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(line, sizeof line - 1, format, args);
	va_end(args);
	if (n < 0 || n >= (int)sizeof line - 1)
		die_of(EMSGSIZE, "slowfs");
	line[n] = '\n';
	if (write(s->to, line, (size_t)n + 1) != n + 1)
		die("write to slowfs");
	line[n] = '\0';
	read_line(s->from, answer);
	if (strncmp(answer, "ok", 2) != 0) {
		fprintf(stderr, "bench: slowfs was told \"%s\" and said \"%s\"\n", line, answer);
		die_of(EPROTO, "slowfs");
	}
	return strtol(answer + 2, NULL, 10);
}

void slow_start(struct slow *s, const char *program, const char *mount_point)
{
	/* The daemon, if it serves as another user, is to be let in; who may mount for others only root can be sure of. */
	const char *argv[] = {program, mount_point, geteuid() == 0 ? "--allow-other" : NULL, NULL};
	posix_spawn_file_actions_t actions;
	int to[2], from[2], err;
	char line[LINE];

	if (pipe2(to, O_CLOEXEC) < 0 || pipe2(from, O_CLOEXEC) < 0)
		die("pipe");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, to[0], STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, from[1], STDOUT_FILENO);
	err = posix_spawn(&s->pid, program, &actions, NULL, (char *const *)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (err != 0)
		die_of(err, program);
	close(to[0]);
	close(from[1]);
	s->to = to[1];
	s->from = from[0];
	read_line(s->from, line);
	if (strcmp(line, "ready") != 0)
		die_of(EPROTO, line);
}

void slow_stop(struct slow *s)
{
	close(s->to);
	close(s->from);
	if (waitpid(s->pid, NULL, 0) < 0)
		die("waitpid");
}
