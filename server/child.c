/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/child.h"

#include "server/log.h"
#include "server/os/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

pid_t child_fork(void)
{
	sigset_t all, old;
	pid_t pid;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	pid = fork();
	if (pid != 0)
		sigprocmask(SIG_SETMASK, &old, NULL);
	else
		log_forked();
	return pid;
}

/*
 * The master's handlers are not ours; SIGINT and the like are for it to act on, also when typed at a terminal. What a
 * client's destination can cause (SIGPIPE, SIGTTOU of a terminal, SIGXFSZ of a file) is an error of one transfer.
 */
static void set_signals(void)
{
	const int ignored[] = {SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGPIPE, SIGTSTP, SIGTTIN, SIGTTOU, SIGXFSZ};
	struct sigaction sa = {.sa_handler = SIG_IGN};
	sigset_t none;

	for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++)
		sigaction(ignored[i], &sa, NULL);
	sa.sa_handler = SIG_DFL;
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGCHLD, &sa, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

void child_settle(const char *title, int *keep, unsigned n, const struct identity *identity)
{
	os_set_title(title);
	set_signals();
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		keep[n++] = fd;
	os_close_except(keep, n);
	if (identity_assume(identity) < 0) {
		log_line(LOG_LEVEL_ERROR, "cannot become uid %u, gid %u for good: %s", (unsigned)identity->uid,
			(unsigned)identity->gid, strerror(errno));
		_exit(EX_NOPERM);
	}
	/* An ordinary user's daemon protects nothing from that user; it stays open to debuggers. */
	if (identity->change && os_harden() < 0) {
		log_line(LOG_LEVEL_ERROR, "cannot protect the process: %s", strerror(errno));
		_exit(EX_OSERR);
	}
}

void child_close_ranks(int highest)
{
	int fd;

	do
		fd = open("/dev/null", O_PATH | O_CLOEXEC);
	while (fd >= 0 && fd < highest);
	if (fd >= 0)
		close(fd);
}
