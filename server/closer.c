/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/closer.h"

#include "server/log.h"
#include "server/os/files.h"
#include "server/os/process.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	WAITERS_MAX = 64,
	PATIENCE_NS = 10 * 1000 * 1000, /* whoever has not closed by then is left alone with what it closes */
	NAP_MS = 2,
	LONG_NAP_MS = 100, /* between two looks at those who wait for long */
	SWEEP_LOOK_MS = 100,
};

struct waiter {
	pid_t pid;
	uint64_t since_ns;
	bool alone; /* it has a table of its own by now */
};

/* A worker has one table of descriptors, so there is one of these. */
static struct {
	bool ready;
	uint64_t device;
	unsigned most, count, alone, sweepers;
	struct waiter waiters[WAITERS_MAX];
	int *queue; /* descriptors that wait for their turn */
	unsigned queued, room;
} closer;

void closer_init(uint64_t device, unsigned most)
{
	closer.ready = true;
	closer.device = device;
	closer.most = most < WAITERS_MAX ? most : WAITERS_MAX;
}

/* What a socket's close does is said by an option; anything else is a file, and only those of one device are known. */
static bool closes_at_once(int fd)
{
	struct linger linger = {0};
	struct os_look look;

	if (getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &(socklen_t){sizeof linger}) == 0)
		return !linger.l_onoff || linger.l_linger == 0;
	if (errno != ENOTSOCK || os_is_pipe(fd))
		return true;
	return os_look_at(fd, &look) == 0 && look.type == S_IFREG && look.links > 0 && look.device == closer.device;
}

/* Never fails in a way that leaks: where there is no memory to remember a descriptor, closing it here is the lesser evil. */
static void enqueue(int fd)
{
	if (closer.queued == closer.room) {
		unsigned room = closer.room ? closer.room * 2 : 16;
		int *queue = realloc(closer.queue, room * sizeof *queue);

		if (!queue) {
			close(fd);
			return;
		}
		closer.queue = queue;
		closer.room = room;
	}
	closer.queue[closer.queued++] = fd;
}

static bool start_one(int fd, uint64_t now_ns)
{
	pid_t pid = os_fork_sharing_files();

	if (pid == 0) {
		close(fd);
		_exit(0);
	}
	if (pid < 0)
		return false;
	closer.waiters[closer.count++] = (struct waiter){.pid = pid, .since_ns = now_ns};
	return true;
}

static void start_some(uint64_t now_ns)
{
	unsigned started = 0;

	while (started < closer.queued && closer.count < closer.most && start_one(closer.queue[started], now_ns))
		started++;
	closer.queued -= started;
	memmove(closer.queue, closer.queue + started, closer.queued * sizeof *closer.queue);
}

void closer_close(int fd)
{
	if (fd < 0)
		return;
	if (!closer.ready || closes_at_once(fd))
		close(fd);
	else
		enqueue(fd);
}

void closer_close_file(int fd)
{
	struct os_look look;

	if (!closer.ready || (os_look_at(fd, &look) == 0 && look.links > 0))
		close(fd);
	else
		enqueue(fd);
}

/*
 * Waits until the worker has left the table, then empties it, but for what would make this process wait too. A copy of the
 * worker's memory says what that is.
 */
static _Noreturn void sweep(int go, pid_t worker)
{
	struct pollfd p = {.fd = go, .events = POLLIN};

	os_end_with_parent();
	while (poll(&p, 1, SWEEP_LOOK_MS) <= 0) {
		if (getppid() != worker)
			_exit(1);
	}
	os_close_except(closer.queue, closer.queued);
	_exit(0);
}

/* The worker goes on with a copy of the table, and those who wait are left with an empty one. */
static void leave_alone(void)
{
	pid_t worker = getpid(), pid;
	int go[2];
	size_t room;

	if (os_pipe(go, 1, &room) < 0)
		return; /* tried again in the next round */
	pid = os_fork_sharing_files();
	if (pid == 0)
		sweep(go[0], worker);
	if (pid > 0 && os_leave_shared_files() == 0) {
		closer.sweepers++;
		for (unsigned i = 0; i < closer.count; i++)
			closer.waiters[i].alone = true;
		if (write(go[1], "", 1) != 1)
			log_line(LOG_LEVEL_WARNING, "a process that closes a file keeps more than that: %s",
				strerror(errno));
	}
	close(go[0]);
	close(go[1]);
}

static void reap(void)
{
	pid_t pid;

	while ((closer.count > 0 || closer.sweepers > 0) && (pid = waitpid(-1, NULL, WNOHANG)) > 0) {
		unsigned i = 0;

		while (i < closer.count && closer.waiters[i].pid != pid)
			i++;
		if (i < closer.count)
			closer.waiters[i] = closer.waiters[--closer.count];
		else if (closer.sweepers > 0)
			closer.sweepers--;
	}
}

void closer_work(uint64_t now_ns)
{
	bool waits = false;

	if (closer.count == 0 && closer.queued == 0 && closer.sweepers == 0)
		return;
	reap();
	for (unsigned i = 0; i < closer.count; i++)
		waits = waits || (!closer.waiters[i].alone && closer.waiters[i].since_ns + PATIENCE_NS < now_ns);
	if (waits)
		leave_alone();
	start_some(now_ns);
}

int closer_nap_ms(void)
{
	if (closer.queued > 0 && closer.count < closer.most)
		return NAP_MS;
	for (unsigned i = 0; i < closer.count; i++) {
		if (!closer.waiters[i].alone)
			return NAP_MS;
	}
	return closer.count > 0 || closer.sweepers > 0 ? LONG_NAP_MS : -1;
}

unsigned closer_backlog(void)
{
	return closer.queued + closer.count;
}
