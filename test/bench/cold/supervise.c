/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/bench/cold/supervise.h"

#include "test/bench/common.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* How long processes whose parent has gone may take to notice and to leave. */
enum { LEAVE_SECONDS = 15 };

void end_with_parent(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() == 1)
		_exit(1);
}

int run_program(const char *const argv[])
{
	int err, status;
	pid_t pid;

	err = posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)argv, environ);
	if (err == ENOENT)
		return -1;
	if (err != 0 || waitpid(pid, &status, 0) < 0) {
		errno = err ? err : errno;
		die(argv[0]);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void unmount_leftover(const char *mount_point, const char *dir)
{
	const char *argv[] = {"fusermount3", "-u", "-z", "-q", mount_point, NULL};
	struct stat on, below;

	if (stat(dir, &below) < 0)
		return;
	if (stat(mount_point, &on) < 0 ? errno == ENOENT : on.st_dev == below.st_dev)
		return;
	if (run_program(argv) != 0)
		fprintf(stderr, "bench: %s is still mounted\n", mount_point);
}

static void say_how_it_ended(int status)
{
	if (!WIFSIGNALED(status))
		return;
	if (WTERMSIG(status) == SIGALRM)
		fprintf(stderr, "bench: a step took longer than it may\n");
	else
		fprintf(stderr, "bench: ended by a signal: %s\n", strsignal(WTERMSIG(status)));
}

/* Waits for the child, or for a signal to stop, which kills it. Its status, as of wait(2). */
static int await_work(pid_t work, const sigset_t *signals)
{
	int status;

	for (;;) {
		siginfo_t info;
		pid_t pid;

		while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
			if (pid == work) {
				say_how_it_ended(status);
				return status;
			}
		}
		if (sigwaitinfo(signals, &info) < 0 || info.si_signo == SIGCHLD)
			continue;
		fprintf(stderr, "bench: interrupted\n");
		kill(work, SIGKILL);
		waitpid(work, &status, 0);
		return status;
	}
}

/*
 * What the child has started became ours when it ended. The file system and the daemon leave by themselves, and in good
 * order; what does not is killed.
 */
static void await_others(pid_t group, const sigset_t *signals)
{
	const struct timespec moment = {.tv_nsec = 100000000};
	const uint64_t patience = LEAVE_SECONDS * UINT64_C(1000000000), start = now_ns();

	for (;;) {
		pid_t pid = waitpid(-1, NULL, WNOHANG);

		if (pid < 0)
			return;
		if (pid == 0) {
			if (now_ns() > start + patience)
				kill(-group, SIGKILL);
			if (now_ns() > start + 2 * patience)
				return;
			sigtimedwait(signals, NULL, &moment);
		}
	}
}

int supervise(void (*work)(void *), void *arg)
{
	sigset_t signals, before;
	int status;
	pid_t pid;

	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &signals, &before);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		/* A group of its own: what the terminal sends is for the supervisor alone. */
		setpgid(0, 0);
		end_with_parent();
		sigprocmask(SIG_SETMASK, &before, NULL);
		work(arg);
		exit(0);
	}
	status = await_work(pid, &signals);
	await_others(pid, &signals);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
