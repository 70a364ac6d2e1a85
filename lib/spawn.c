/* SPDX-License-Identifier: BSD-2-Clause */
/* The embedded mode: a private daemon that lives as long as the process that started it. */
#include "clock.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SFD_DAEMON_PATH
#error "SFD_DAEMON_PATH, where the daemon is installed, comes from the Makefile"
#endif

enum {
	SPAWN_TIMEOUT_MS = 10000,
	SHUTDOWN_TIMEOUT_MS = 10000,
	READY_FD = 3, /* in the daemon: where it writes its errno, 0 when it is ready */
};

static bool is_program(const char *path)
{
	return access(path, X_OK) == 0;
}

/* Looks for `sendfiled` in the directories of PATH. */
static bool search_path(char *out, size_t size)
{
	const char *at = secure_getenv("PATH");

	while (at && *at) {
		size_t n = strcspn(at, ":");
		int len = snprintf(out, size, "%.*s/sendfiled", (int)n, at);

		if (n > 0 && len > 0 && (size_t)len < size && is_program(out))
			return true;
		at += n + (at[n] == ':');
	}
	return false;
}

static int find_daemon(char *out, size_t size)
{
	const char *named = secure_getenv("SFD_DAEMON");

	if (!named && is_program(SFD_DAEMON_PATH))
		named = SFD_DAEMON_PATH;
	if (named) {
		int n = snprintf(out, size, "%s", named);

		return n < 0 || (size_t)n >= size ? ENAMETOOLONG : 0;
	}
	return search_path(out, size) ? 0 : ENOENT;
}

/*
 * The caller's arguments and our own two, which come first: behind an option that lacks its value they would be taken for
 * it, and the daemon is to know where to report before it finds anything wrong. The strings stay where they are.
 */
static const char **extend_argv(const char *const argv[])
{
	const char **out;
	size_t n = 0;

	while (argv[n])
		n++;
	out = calloc(n + 4, sizeof *out);
	if (!out)
		return NULL;
	out[0] = n > 0 ? argv[0] : "sendfiled";
	out[1] = "--sync-parent";
	out[2] = "--ready-fd=3";
	if (n > 1)
		memcpy(out + 3, argv + 1, (n - 1) * sizeof *out);
	return out;
}

/* posix_spawn(3) makes only async-signal-safe calls in the child, so this is safe in a threaded program. */
static int start(pid_t *pid, const char *path, const char **argv, int ready)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none;
	int err;

	err = posix_spawn_file_actions_init(&actions);
	if (err != 0)
		return err;
	err = posix_spawnattr_init(&attr);
	if (err != 0) {
		posix_spawn_file_actions_destroy(&actions);
		return err;
	}
	sigemptyset(&none);
	err = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	if (err == 0)
		err = posix_spawnattr_setsigmask(&attr, &none);
	if (err == 0)
		err = posix_spawn_file_actions_adddup2(&actions, ready, READY_FD);
	/* Standard input and output may be a client's connection, which is not the daemon's to hold open. */
	if (err == 0)
		err = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	if (err == 0)
		err = posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	if (err == 0)
		err = posix_spawn(pid, path, &actions, &attr, (char *const *)argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	return err;
}

/* What the daemon says of its start: 0, its errno, ETIMEDOUT; EPROTO if it left without a word. */
static int await_ready(int fd, int timeout_ms)
{
	int64_t deadline = clock_ms() + timeout_ms;
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int64_t left = -1;
	int status, n;

	do {
		if (timeout_ms >= 0) {
			left = deadline - clock_ms();
			if (left < 0)
				left = 0;
		}
		n = poll(&p, 1, left > INT_MAX ? INT_MAX : (int)left);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno;
	if (n == 0)
		return ETIMEDOUT;
	return read(fd, &status, sizeof status) == sizeof status ? status : EPROTO;
}

/* Ends a daemon that did not become ready. */
static void give_up(pid_t pid)
{
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static pid_t spawn_and_wait(const char *path, const char **argv, int timeout_ms)
{
	int ready[2];
	pid_t pid;
	int err;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return -1;
	err = start(&pid, path, argv, ready[1]);
	close(ready[1]);
	if (err != 0) {
		close(ready[0]);
		errno = err;
		return -1;
	}
	err = await_ready(ready[0], timeout_ms);
	close(ready[0]);
	if (err == 0)
		return pid;
	give_up(pid);
	if (err == EADDRINUSE) /* a daemon of that name serves already */
		return 0;
	errno = err;
	return -1;
}

pid_t sfd_spawnv(const char *const argv[], int timeout_ms)
{
	char path[PATH_MAX];
	const char **args;
	pid_t pid;
	int err;

	if (!argv) {
		errno = EINVAL;
		return -1;
	}
	err = find_daemon(path, sizeof path);
	if (err != 0) {
		errno = err;
		return -1;
	}
	args = extend_argv(argv);
	if (!args)
		return -1;
	pid = spawn_and_wait(path, args, timeout_ms);
	err = errno;
	free(args);
	errno = err;
	return pid;
}

pid_t sfd_spawn(const char *name, const char *root_dir, const char *sockdir, int maxfiles, int open_timeout_ms)
{
	char max[16], timeout[16];
	const char *argv[12] = {"sendfiled"};
	size_t n = 1;

	if (!name || !root_dir || maxfiles < 0 || open_timeout_ms < 0) {
		errno = EINVAL;
		return -1;
	}
	argv[n++] = "-s";
	argv[n++] = name;
	argv[n++] = "-r";
	argv[n++] = root_dir;
	if (sockdir) {
		argv[n++] = "-S";
		argv[n++] = sockdir;
	}
	if (maxfiles > 0) {
		snprintf(max, sizeof max, "-n%d", maxfiles);
		argv[n++] = max;
	}
	if (open_timeout_ms > 0) {
		snprintf(timeout, sizeof timeout, "-t%d", open_timeout_ms);
		argv[n] = timeout;
	}
	return sfd_spawnv(argv, SPAWN_TIMEOUT_MS);
}

/* 0: still running; else what waitpid(2) said, EINTR aside. */
static pid_t try_wait(pid_t pid, int *status)
{
	pid_t n;

	do
		n = waitpid(pid, status, WNOHANG);
	while (n < 0 && errno == EINTR);
	return n;
}

int sfd_shutdown(pid_t pid)
{
	const int64_t deadline = clock_ms() + SHUTDOWN_TIMEOUT_MS;
	struct timespec nap = {.tv_nsec = 1000000};
	int status;
	pid_t n;

	if (pid <= 0) {
		errno = EINVAL;
		return -1;
	}
	/* Look first: signalling a pid that is not (any more) our child could hit a stranger. */
	n = try_wait(pid, &status);
	if (n == 0)
		kill(pid, SIGTERM);
	while (n == 0) {
		nanosleep(&nap, NULL);
		if (nap.tv_nsec < 20000000)
			nap.tv_nsec *= 2;
		n = try_wait(pid, &status);
		if (n == 0 && clock_ms() > deadline)
			kill(pid, SIGKILL);
	}
	return n < 0 ? -1 : status;
}
