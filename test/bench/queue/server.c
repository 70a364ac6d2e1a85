/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/bench/queue/queue.h"

#include <sendfiled/sendfiled.h>

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE_MS = 10000, MOST_ARGS = 16, HELP_SIZE = 16384 };

void server_start(struct server *s, const struct arena *a)
{
	const char *argv[MOST_ARGS] = {"sendfiled", "-s", s->name, "-r", a->root, "-S", a->sock};
	unsigned n = 7;

	if (s->workers) {
		argv[n++] = "--workers";
		argv[n++] = s->workers;
	}
	if (s->busy_poll) {
		argv[n++] = "--busy-poll";
		argv[n++] = s->busy_poll;
	}
	s->pid = sfd_spawnv(argv, PATIENCE_MS);
	if (s->pid <= 0)
		die("cannot start the daemon (SFD_DAEMON names it)");
}

void server_stop(const struct server *s)
{
	if (sfd_shutdown(s->pid) < 0)
		die("sfd_shutdown");
}

bool server_knows(const char *option)
{
	const char *program = getenv("SFD_DAEMON");
	const char *argv[] = {program ? program : "sendfiled", "--help", NULL};
	static char help[HELP_SIZE];
	posix_spawn_file_actions_t actions;
	size_t have = 0;
	int ends[2];
	ssize_t n;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		die("pipe");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
	errno = posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)argv, environ);
	if (errno != 0)
		die("cannot start the daemon (SFD_DAEMON names it)");
	posix_spawn_file_actions_destroy(&actions);
	close(ends[1]);
	while (have < sizeof help - 1 && (n = read(ends[0], help + have, sizeof help - 1 - have)) > 0)
		have += (size_t)n;
	help[have] = '\0';
	close(ends[0]);
	waitpid(pid, NULL, 0);
	return strstr(help, option) != NULL;
}
