/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/closer.h"

#include "server/dest.h"
#include "server/log.h"
#include "server/loop.h"
#include "server/os/files.h"
#include "server/os/process.h"
#include "server/tick.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	WAITERS_MAX = 256,
	SAME_CLASS_MAX =
		4, /* of files of one device that wait for long; more of them wait for their turn, and others overtake */
	BATCH_MAX = 256,                /* that one process closes, of a class in which waiting is rare, */
	CROWD = 4,                      /* or of another if there are very many, which so many share then */
	NUMBERS_MAX = 1 << 20,          /* of descriptors: proc(5), nr_open */
	KEPT_MAX = 8192,                /* that a table is left with which the worker has left */
	PATIENCE_NS = 30 * 1000 * 1000, /* whoever has not closed by then is left alone with what it closes */
	NAP_MS = 2,
	LONG_NAP_MS = 100, /* between two looks at those who wait for long */
	SWEEP_LOOK_MS = 100,
	GATHER_MAX = 512, /* as many as a datagram brings, a file for each of its requests, and some */
};

/*
 * A descriptor to be closed, and what may hang together with it: files of one device (its number), and these. What is neither
 * a file nor a socket seldom waits: eventfd, epoll, a character device. (A terminal's other side waits for its end, so it
 * counts as a file, with which nothing else is kept open.)
 */
#define CLASS_SOCKET (UINT64_MAX)
#define CLASS_PARKED (UINT64_MAX - 1)
#define CLASS_OTHER  (UINT64_MAX - 2)

struct closing {
	int fd;
	uint64_t class;
};

struct waiter {
	pid_t pid;
	uint64_t class;
	uint64_t since_ns;
	bool alone; /* it has a table of its own by now */
	unsigned count;
	int fds[BATCH_MAX]; /* not close-on-exec, unlike all others: so a number that is used again is not taken for one */
};

/* A worker has one table of descriptors, so there is one of these. */
static struct {
	bool ready;
	bool cannot_leave;      /* the system does not let us have a table of our own */
	uint64_t device, pipes; /* that of the files that may be closed at once, and that of pipe(2) */
	unsigned most, count, sweepers;
	struct waiter waiters[WAITERS_MAX];
	struct closing *queue; /* those that wait for their turn */
	unsigned queued, room;
	bool gathers;
	unsigned gathered;
	int gather[GATHER_MAX];
} closer;

/* 0: not known, then all pipes are taken for FIFOs. */
static uint64_t device_of_pipes(void)
{
	struct os_look look = {0};
	int ends[2];

	if (os_pipe(ends, 4096) < 0)
		return 0;
	if (os_look_at(ends[0], &look) < 0)
		look.device = 0;
	close(ends[0]);
	close(ends[1]);
	return look.device;
}

void closer_init(uint64_t device, unsigned most)
{
	closer.ready = true;
	closer.device = device;
	closer.most = most;
	closer.pipes = device_of_pipes();
}

/* ---- What can be closed at once */

void closer_settle(void)
{
	for (unsigned i = 0; i < closer.gathered;) {
		unsigned first = i++;

		while (i < closer.gathered && closer.gather[i] == closer.gather[i - 1] + 1)
			i++;
		if (i - first > 1)
			os_close_run(closer.gather[first], closer.gather[i - 1]);
		else
			close(closer.gather[first]);
	}
	closer.gathered = 0;
}

/* They come nearly in order, so each finds its place soon. */
static void close_now(int fd)
{
	unsigned i;

	if (!closer.gathers) {
		close(fd);
		return;
	}
	if (closer.gathered == GATHER_MAX)
		closer_settle_later();
	for (i = closer.gathered++; i > 0 && closer.gather[i - 1] > fd; i--)
		closer.gather[i] = closer.gather[i - 1];
	closer.gather[i] = fd;
}

/*
 * Not gathered: the sooner the look is followed by the close, the less time there is for a client to change what was looked
 * at. One that succeeds, in the end, makes this wait until the tick ends it.
 */
static void close_socket(int fd)
{
	tick_guard();
	close(fd);
}

void closer_gather(void)
{
	closer.gathers = true;
}

void closer_finish(void)
{
	closer_settle();
	closer.gathers = false;
}

/*
 * A socket's close waits for its peer if an option says so; a UNIX socket's never does, but drops the descriptors that were
 * sent to it and not received, whatever those are. Nothing to read means that there are none, in a stream: a datagram may
 * have no byte, and descriptors.
 */
static bool socket_closes_at_once(int fd, bool is_unix)
{
	struct linger linger = {0};
	int unread = 0;

	if (is_unix)
		return ioctl(fd, FIONREAD, &unread) == 0 && unread == 0;
	if (getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &(socklen_t){sizeof linger}) < 0 ||
		(linger.l_onoff && linger.l_linger > 0))
		return false;
	return true;
}

static bool any_socket_closes_at_once(int fd)
{
	const bool is_unix = dest_socket_option(fd, SO_DOMAIN) == AF_UNIX;

	if (is_unix ? dest_socket_option(fd, SO_TYPE) != SOCK_STREAM
		    : !os_linger_is_all(dest_socket_option(fd, SO_PROTOCOL)))
		return false;
	return socket_closes_at_once(fd, is_unix);
}

/* Of files, FIFOs among them, only those of one device are known. */
static bool closes_at_once(int fd, bool *is_socket)
{
	struct os_look look;

	if (os_look_at(fd, &look) < 0)
		return errno == EBADF;
	switch (look.type) {
	case S_IFSOCK:
		*is_socket = true;
		return any_socket_closes_at_once(fd);
	case S_IFIFO:
		if (look.device == closer.pipes)
			return true;
		/* fall through */
	case S_IFREG:
	case S_IFDIR:
		return look.links > 0 && look.device == closer.device;
	default:
		return false;
	}
}

/* Never fails in a way that leaks: where there is no memory to remember a descriptor, closing it here is the lesser evil. */
static void enqueue(int fd, uint64_t class)
{
	if (closer.queued == closer.room) {
		unsigned room = closer.room ? closer.room * 2 : 16;
		struct closing *queue = realloc(closer.queue, room * sizeof *queue);

		if (!queue) {
			close(fd);
			return;
		}
		closer.queue = queue;
		closer.room = room;
	}
	closer.queue[closer.queued++] = (struct closing){fd, class};
}

static uint64_t class_of(int fd)
{
	struct os_look look;

	if (os_look_at(fd, &look) < 0 || look.type == S_IFSOCK)
		return CLASS_SOCKET;
	if (look.type == S_IFREG || look.type == S_IFIFO || look.type == S_IFDIR || look.is_terminal)
		return look.device;
	return CLASS_OTHER;
}

/* In a process of its own. What is left when one has waited is the worker's again: see take_back(). */
static _Noreturn void close_batch(const struct waiter *w)
{
	const uint64_t begin_ns = clock_now_ns();

	os_end_with_parent();
	for (unsigned i = 0; i < w->count && (i == 0 || clock_now_ns() - begin_ns <= PATIENCE_NS); i++)
		close(w->fds[i]);
	_exit(0);
}

/*
 * A number that comes again belongs to whoever was given it last: those before have closed what it was, although they may not
 * have been reaped. Else it would be taken back from them, and closed when it is something else.
 */
static void disown(const int *fds, unsigned n)
{
	static uint64_t given[NUMBERS_MAX / 64];

	for (unsigned i = 0; i < n; i++)
		given[(unsigned)fds[i] % NUMBERS_MAX / 64] |= UINT64_C(1) << (fds[i] % 64);
	for (unsigned k = 0; k < closer.count; k++) {
		struct waiter *w = &closer.waiters[k];

		for (unsigned i = 0; !w->alone && i < w->count; i++) {
			const unsigned number = (unsigned)w->fds[i] % NUMBERS_MAX;

			if (w->fds[i] >= 0 && (given[number / 64] >> (number % 64) & 1))
				w->fds[i] = -1;
		}
	}
	for (unsigned i = 0; i < n; i++)
		given[(unsigned)fds[i] % NUMBERS_MAX / 64] = 0;
}

/* False if there is no process to be had; then all are still open, and the caller's. */
static bool start_one(uint64_t class, const int *fds, unsigned n, uint64_t now_ns)
{
	struct waiter *w = &closer.waiters[closer.count];

	disown(fds, n);
	*w = (struct waiter){.class = class, .since_ns = now_ns, .count = n};
	memcpy(w->fds, fds, n * sizeof *fds);
	for (unsigned i = 0; i < n; i++)
		fcntl(fds[i], F_SETFD, 0);
	w->pid = os_fork_sharing_files();
	if (w->pid == 0)
		close_batch(w);
	if (w->pid < 0)
		return false;
	closer.count++;
	return true;
}

/*
 * Those that wait for long have been left alone. There may be many, but not so many for one reason. (Any socket may turn out to
 * wait, so all are counted.)
 */
static bool may_start(uint64_t class)
{
	unsigned young = 0, same = 0;

	for (unsigned i = 0; i < closer.count; i++) {
		young += !closer.waiters[i].alone;
		same += (closer.waiters[i].alone || class == CLASS_SOCKET) && closer.waiters[i].class == class;
	}
	return closer.count < WAITERS_MAX && young < closer.most &&
	       same < (class == CLASS_SOCKET ? CLOSER_SOCKETS_MAX : SAME_CLASS_MAX);
}

/* Files and sockets are closed side by side, since any of them may wait, as long as there are not too many of them. */
static unsigned batch_size(uint64_t class)
{
	unsigned n = 0;

	if (class == CLASS_OTHER)
		return BATCH_MAX;
	for (unsigned i = 0; i < closer.queued; i++)
		n += closer.queue[i].class == class;
	if (n <= closer.most)
		return 1;
	n = n / CROWD + 1;
	return n < BATCH_MAX ? n : BATCH_MAX;
}

/* Takes the first of a class out of the queue, and what else its process is to close; -1 is left in their places. */
static unsigned take_batch(unsigned first, int fds[BATCH_MAX])
{
	const uint64_t class = closer.queue[first].class;
	const unsigned most = batch_size(class);
	unsigned n = 0;

	for (unsigned i = first; i < closer.queued && n < most; i++) {
		if (closer.queue[i].class == class && closer.queue[i].fd >= 0) {
			fds[n++] = closer.queue[i].fd;
			closer.queue[i].fd = -1;
		}
	}
	return n;
}

/* The next in the queue whose class may have one more process; `closer.queued` if there is none. */
static unsigned next_to_start(unsigned i)
{
	uint64_t full = 0; /* there may be thousands of one class */

	for (; i < closer.queued; i++) {
		if (closer.queue[i].fd < 0 || closer.queue[i].class == full)
			continue;
		if (may_start(closer.queue[i].class))
			break;
		full = closer.queue[i].class;
	}
	return i;
}

static void put_back(const int *fds, unsigned n, uint64_t class)
{
	for (unsigned i = 0; n > 0; i++) {
		if (closer.queue[i].fd < 0)
			closer.queue[i] = (struct closing){fds[--n], class};
	}
}

static void start_some(uint64_t now_ns)
{
	unsigned kept = 0;

	for (unsigned i = 0; (i = next_to_start(i)) < closer.queued;) {
		const uint64_t class = closer.queue[i].class;
		int fds[BATCH_MAX];
		unsigned n = take_batch(i, fds);

		if (!start_one(class, fds, n, now_ns)) {
			put_back(fds, n, class);
			break;
		}
	}
	for (unsigned i = 0; i < closer.queued; i++) {
		if (closer.queue[i].fd >= 0)
			closer.queue[kept++] = closer.queue[i];
	}
	closer.queued = kept;
}

void closer_close(int fd)
{
	bool is_socket = false;

	if (fd < 0)
		return;
	if (!closer.ready)
		close(fd);
	else if (!closes_at_once(fd, &is_socket))
		enqueue(fd, class_of(fd));
	else if (is_socket)
		close_socket(fd);
	else
		close_now(fd);
}

void closer_close_harmless(int fd)
{
	close_now(fd);
}

void closer_close_socket(int fd, bool is_unix_socket)
{
	if (!closer.ready || socket_closes_at_once(fd, is_unix_socket))
		close_socket(fd);
	else
		enqueue(fd, CLASS_SOCKET);
}

void closer_close_later(int fd)
{
	uint64_t class = closer.ready && fd >= 0 ? class_of(fd) : 0;

	if (fd >= 0 && closer.ready)
		enqueue(fd, class == CLASS_SOCKET ? CLASS_PARKED : class);
	else if (fd >= 0)
		close(fd);
}

void closer_settle_later(void)
{
	for (unsigned i = 0; i < closer.gathered; i++)
		closer_close_later(closer.gather[i]);
	closer.gathered = 0;
}

bool closer_has_gathered(void)
{
	return closer.gathered > 0;
}

void closer_close_file(int fd, bool has_name)
{
	struct os_look look;

	if (!closer.ready || has_name || (os_look_at(fd, &look) == 0 && look.links > 0))
		close_now(fd);
	else
		enqueue(fd, closer.device);
}

/* It was started in this table, and has not come to its close(2). */
static bool has_yet_to_close(const struct waiter *w, unsigned i)
{
	const int flags = w->alone || w->fds[i] < 0 ? -1 : fcntl(w->fds[i], F_GETFD);

	return flags >= 0 && !(flags & FD_CLOEXEC);
}

/*
 * Waits until the worker has left the table, then empties it. Files are left, those in the queue and those that somebody who was
 * started has not come to, for closing them could wait here too (flush), and it hurts nobody if they are closed later. All else
 * is not, since the peers of sockets wait for their end, and cannot wait, since the worker has it until we are done.
 */
static _Noreturn void sweep(int go, pid_t worker)
{
	struct pollfd p = {.fd = go, .events = POLLIN};
	static int keep[KEPT_MAX];
	unsigned n = 0;
	char byte;

	os_end_with_parent();
	while (poll(&p, 1, SWEEP_LOOK_MS) <= 0) {
		if (getppid() != worker)
			_exit(1);
	}
	if (!(p.revents & POLLIN) || read(go, &byte, 1) != 1)
		_exit(1);
	for (unsigned i = 0; i < closer.count; i++) {
		const struct waiter *w = &closer.waiters[i];

		for (unsigned k = 0; k < w->count && n < KEPT_MAX && w->class < CLASS_OTHER; k++) {
			if (has_yet_to_close(w, k))
				keep[n++] = w->fds[k];
		}
	}
	for (unsigned i = 0; i < closer.queued && n < KEPT_MAX; i++) {
		if (closer.queue[i].class < CLASS_OTHER)
			keep[n++] = closer.queue[i].fd;
	}
	os_close_except(keep, n);
	_exit(0);
}

/* What a process has not come to yet is for somebody else to close. */
static void take_back(const struct waiter *w)
{
	for (unsigned i = 0; i < w->count; i++) {
		if (has_yet_to_close(w, i))
			enqueue(w->fds[i], w->class);
	}
}

/* They close in the old table only: in ours others have to. */
static void take_all_back(void)
{
	for (unsigned i = 0; i < closer.count; i++) {
		struct waiter *w = &closer.waiters[i];

		if (w->alone)
			continue;
		take_back(w);
		w->alone = true;
		w->count = 1; /* the one that it waits for */
	}
}

/* The worker goes on with a copy of the table, and those who wait are left with an empty one. */
static void leave_alone(void)
{
	pid_t worker = getpid(), pid;
	int go[2];

	if (os_pipe(go, 1) < 0)
		return; /* tried again in the next round */
	pid = os_fork_sharing_files();
	if (pid == 0)
		sweep(go[0], worker);
	if (pid > 0)
		closer.sweepers++;
	if (pid > 0 && os_leave_shared_files() < 0) {
		/* It must not look at the pipe again once that is closed. */
		kill(pid, SIGKILL);
		closer.cannot_leave = true;
		log_line(LOG_LEVEL_WARNING,
			"processes that wait in close(2) keep all descriptors of a worker: unshare(2): %s",
			strerror(errno));
	} else if (pid > 0) {
		take_all_back();
		if (write(go[1], "", 1) != 1)
			log_line(LOG_LEVEL_WARNING,
				"a process that waits in close(2) keeps all descriptors of a worker: %s",
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
		if (i < closer.count) {
			take_back(&closer.waiters[i]);
			closer.waiters[i] = closer.waiters[--closer.count];
		} else if (closer.sweepers > 0) {
			closer.sweepers--;
		}
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
	if (waits && !closer.cannot_leave)
		leave_alone();
	if (closer.sweepers == 0)
		start_some(now_ns);
}

int closer_nap_ms(void)
{
	if (next_to_start(0) < closer.queued)
		return NAP_MS;
	for (unsigned i = 0; i < closer.count; i++) {
		if (!closer.waiters[i].alone && !closer.cannot_leave)
			return NAP_MS;
	}
	if (closer.sweepers > 0)
		return NAP_MS;
	return closer.count > 0 ? LONG_NAP_MS : -1;
}

unsigned closer_backlog(void)
{
	unsigned n = closer.queued;

	for (unsigned i = 0; i < closer.count; i++)
		n += closer.waiters[i].count;
	return n;
}
