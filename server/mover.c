/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/mover.h"

#include "server/os/files.h"
#include "server/tick.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	COPY_SIZE = 64 * 1024,
	DEVICE_SIZE = 4096,
};

/* A process moves one thing at a time. */
static unsigned char buffer[COPY_SIZE];

/* Moves up to `n` bytes and advances m->offset: the bytes moved, 0 at the file's end, -1 and errno. */
typedef ssize_t way_fn(struct move *m, size_t n);

/* One that took less than it was given is looked at again, and gets copies from now on if it would wait. */
static ssize_t check_stream(struct move *m, size_t n, ssize_t moved)
{
	if (moved == (ssize_t)n)
		return moved;
	if (moved < 0 && errno != EINTR && errno != EAGAIN)
		return moved;
	if (!(fcntl(m->dest, F_GETFL) & O_NONBLOCK))
		m->kind = DEST_STREAM_BLOCKING;
	if (moved < 0)
		errno = EAGAIN;
	return moved;
}

/* The socket was non-blocking when it came, and is perhaps no longer: see tick.h. */
static ssize_t by_sendfile(struct move *m, size_t n)
{
	tick_guard();
	return check_stream(m, n, os_sendfile(m->dest, m->file, &m->offset, n));
}

static ssize_t by_splice(struct move *m, size_t n)
{
	return os_splice_to_pipe(m->dest, m->file, &m->offset, n);
}

/*
 * A terminal may take less than it is given and then wait for its reader, whatever it said of its room, and no flag of
 * write(2) prevents that. The tick does; bytes taken until then count.
 */
static ssize_t put_timed(int fd, const void *buf, size_t n)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	ssize_t put;

	if (poll(&p, 1, 0) <= 0) {
		errno = EAGAIN;
		return -1;
	}
	tick_hurry();
	put = write(fd, buf, n < DEVICE_SIZE ? n : DEVICE_SIZE);
	if (put < 0 && errno == EINTR)
		errno = EAGAIN;
	tick_relax();
	return put;
}

ssize_t move_put(struct move *m, const void *buf, size_t n)
{
	switch (m->kind) {
	case DEST_PIPE:
		return os_write_pipe(m->dest, buf, n);
	case DEST_STREAM:
	case DEST_STREAM_BLOCKING:
		return send(m->dest, buf, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	case DEST_TERMINAL:
		return put_timed(m->dest, buf, n);
	default:
		errno = EINVAL;
		return -1;
	}
}

enum { FETCH_WAITS = -2 };

/* What the destination does not take is fetched again in the next turn: from memory, and only a copy is lost. */
static ssize_t by_copy(struct move *m, size_t n)
{
	ssize_t got, put;

	if (n > COPY_SIZE)
		n = COPY_SIZE;
	got = m->peeks ? os_read_cached(m->file, buffer, n, m->offset) : pread(m->file, buffer, n, m->offset);
	if (got < 0 && errno == EAGAIN)
		return FETCH_WAITS;
	if (got <= 0)
		return got;
	put = move_put(m, buffer, (size_t)got);
	if (put > 0)
		m->offset += put;
	return put;
}

ssize_t move_from_pipe(struct move *m, int pipe, size_t n)
{
	if (m->kind != DEST_STREAM)
		return os_splice_from_pipe(m->dest, pipe, n);
	tick_guard();
	return check_stream(m, n, os_splice_from_pipe(m->dest, pipe, n));
}

/* Tried first; what it refuses, or a kind that has none, is copied. */
static way_fn *const ways[DEST_KINDS] = {
	[DEST_PIPE] = by_splice,
	[DEST_STREAM] = by_sendfile,
};

static way_fn *way_of(const struct move *m)
{
	return m->copies || !ways[m->kind] ? by_copy : ways[m->kind];
}

bool move_is_refusal(int err)
{
	return err == EINVAL || err == ENOSYS || err == EOPNOTSUPP || err == EXDEV || err == EBADF || err == EPERM ||
	       err == ETXTBSY;
}

/*
 * The system's own movers take less than they were asked for when the destination is full, so another call would only
 * say EAGAIN. (If there was another reason, the poller, which reports the state and not its changes, says so at once.)
 */
static bool took_less(const struct move *m, size_t asked, ssize_t moved)
{
	return !m->until_refused && (size_t)moved < asked && way_of(m) != by_copy;
}

enum move_result move_run(struct move *m, uint64_t budget, uint64_t *fallbacks)
{
	while (m->left > 0 && budget > 0) {
		size_t n = m->left < budget ? m->left : budget;
		ssize_t moved = way_of(m)(m, n);

		if (moved > 0) {
			m->left -= (uint64_t)moved;
			budget -= (uint64_t)moved;
			if (took_less(m, n, moved)) {
				errno = EAGAIN;
				return MOVE_BLOCKED;
			}
		} else if (moved == 0) {
			return MOVE_SHORT;
		} else if (moved == FETCH_WAITS) {
			return MOVE_COLD;
		} else if (errno == EAGAIN) {
			return MOVE_BLOCKED;
		} else if (move_is_refusal(errno) && way_of(m) != by_copy) {
			m->copies = true;
			++*fallbacks;
		} else if (errno != EINTR) {
			return MOVE_FAILED;
		}
	}
	return m->left == 0 ? MOVE_DONE : MOVE_MORE;
}
