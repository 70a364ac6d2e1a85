/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/logger.h"

#include "server/child.h"
#include "server/log.h"
#include "server/loop.h"
#include "server/os/process.h"
#include "server/park.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

enum {
	RECORD_MAX = 64 * 1024, /* of what is not ours: a sanitizer's report, perhaps */
	PATIENCE_MS = 1000,     /* how long the master waits for it, and it for those that outlive the master */
};

/* What the master says between two lines, each of which begins with '<'. It hears when all before that has been written. */
static const char said_flush = '\0', said_to_system = '\1';

/* ---- The writer */

/* True if it is standard error now. */
static bool move_to_stderr(int fd)
{
	const bool moved = fd >= 0 && dup2(fd, STDERR_FILENO) >= 0;

	if (fd >= 0)
		close(fd);
	return moved;
}

static void leave_stderr(void)
{
	move_to_stderr(open("/dev/null", O_WRONLY | O_CLOEXEC));
	log_to_system();
}

/* The next record, 0 at the end: all who could write one are gone or have said that there is no more. */
static ssize_t next_record(int records, int life_fd, char *record)
{
	static bool is_alone;
	struct pollfd p[2] = {{.fd = records, .events = POLLIN}, {.fd = is_alone ? -1 : life_fd, .events = POLLIN}};
	ssize_t n;

	for (;;) {
		if (poll(p, 2, is_alone ? PATIENCE_MS : -1) == 0)
			return 0;
		if (p[1].revents != 0) {
			is_alone = true;
			p[1].fd = -1;
		}
		if (p[0].revents == 0)
			continue;
		n = recv(records, record, RECORD_MAX, MSG_DONTWAIT);
		if (n >= 0)
			return n;
		if (errno != EAGAIN && errno != EINTR)
			return 0;
	}
}

static void heed(int records, const char *record, size_t n)
{
	if (n > 1 || (*record != said_flush && *record != said_to_system)) {
		log_record(record, n);
		return;
	}
	if (*record == said_to_system)
		leave_stderr();
	send(records, record, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static _Noreturn void write_all(const struct logger *l)
{
	static char record[RECORD_MAX];
	int keep[8] = {l->records, l->life_fd};
	ssize_t n;

	if (!move_to_stderr(park_copy(l->original)))
		_exit(EX_OSERR);
	log_directly();
	child_settle("sendfiled-log", keep, 2, l->identity);
	/* Whoever stops all of a service's processes at once wants to read what they say then. */
	signal(SIGTERM, SIG_IGN);
	if (l->to_system)
		leave_stderr();
	while ((n = next_record(l->records, l->life_fd, record)) > 0)
		heed(l->records, record, (size_t)n);
	_exit(EX_OK);
}

/* ---- The master */

static int start(struct logger *l)
{
	l->pid = child_fork();
	if (l->pid == 0)
		write_all(l);
	if (l->pid < 0) {
		l->pid = 0;
		return -1;
	}
	l->started_ns = clock_now_ns();
	return 0;
}

static int make_ends(struct logger *l, int *end)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -1;
	l->records = ends[0];
	*end = ends[1];
	return 0;
}

static void forget(struct logger *l)
{
	const int saved = errno;

	if (l->original >= 0)
		close(l->original);
	if (l->records >= 0)
		close(l->records);
	l->original = l->records = -1;
	errno = saved;
}

/*
 * From here on nobody but the writer has the old standard error in its table: where a file's disk hangs, closing it does, and so
 * does the end of a process that has it open.
 */
int logger_start(struct logger *l, int life_fd, const struct identity *identity)
{
	int end = -1;

	*l = (struct logger){.records = -1, .life_fd = life_fd, .identity = identity};
	l->original = park(STDERR_FILENO);
	if (l->original >= 0 && make_ends(l, &end) == 0 && start(l) == 0 && move_to_stderr(end)) {
		log_to_writer();
		return 0;
	}
	if (l->pid == 0 && end >= 0)
		close(end);
	forget(l);
	return -1;
}

/* However many signals come. */
static bool await(int fd)
{
	const uint64_t deadline = clock_now_ns() + PATIENCE_MS * UINT64_C(1000000);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int n = -1;

	for (uint64_t now; n < 0 && (now = clock_now_ns()) < deadline;)
		n = poll(&p, 1, (int)((deadline - now) / 1000000) + 1);
	return n > 0;
}

/* Says something, and waits until it has been heard. */
static void say(char what)
{
	char heard;

	if (send(STDERR_FILENO, &what, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 && await(STDERR_FILENO))
		recv(STDERR_FILENO, &heard, 1, MSG_DONTWAIT);
}

void logger_flush(const struct logger *l)
{
	if (l->original >= 0)
		say(said_flush);
}

void logger_to_system(struct logger *l)
{
	const int null = open("/dev/null", O_WRONLY | O_CLOEXEC), parked = null >= 0 ? park(null) : -1;

	if (parked >= 0) {
		close(l->original);
		l->original = parked;
	}
	if (null >= 0)
		close(null);
	l->to_system = true;
	log_to_system();
	say(said_to_system);
}

bool logger_reaped(struct logger *l, pid_t pid)
{
	const uint64_t now = clock_now_ns();

	if (l->pid == 0 || pid != l->pid)
		return false;
	l->pid = 0;
	l->due_ns = now + restart_delay(&l->restart, (now - l->started_ns) / 1000000) * UINT64_C(1000000);
	return true;
}

int logger_watch(struct logger *l, uint64_t now_ns)
{
	if (l->pid != 0)
		return -1;
	if (l->due_ns <= now_ns) {
		if (start(l) == 0) {
			log_line(LOG_LEVEL_WARNING, "the log's writer had ended, and was replaced");
			return -1;
		}
		l->due_ns = now_ns + restart_delay(&l->restart, 0) * UINT64_C(1000000);
	}
	return (int)((l->due_ns - now_ns) / 1000000) + 1;
}

/* Whether it has ended in time, and with what status. */
static bool await_end(const struct logger *l, int *status)
{
	const int process = l->pid > 0 ? os_watch_process(l->pid) : -1;
	const bool ended = process >= 0 && await(process);

	if (process >= 0)
		close(process);
	return ended && waitpid(l->pid, status, WNOHANG) == l->pid;
}

/* All has been written: it ends in another way where it was killed, by somebody or for want of memory. */
static bool await_all(struct logger *l)
{
	int status = 0;
	bool ended = await_end(l, &status);

	if (ended && status != 0 && start(l) == 0)
		ended = await_end(l, &status);
	return ended;
}

void logger_finish(struct logger *l)
{
	if (l->original < 0)
		return;
	if (l->pid == 0)
		start(l);                 /* for what has been said since */
	shutdown(STDERR_FILENO, SHUT_WR); /* for everybody's copies; what is in it is still read */
	if (await_all(l)) {
		log_directly();
		move_to_stderr(park_copy(l->original));
	}
	forget(l);
	l->pid = 0;
}
