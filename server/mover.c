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

static ssize_t by_sendfile(struct move *m, size_t n)
{
	return os_sendfile(m->dest, m->file, &m->offset, n);
}

/*
 * The socket was non-blocking when it came, and is perhaps no longer: see tick.h. One that took less than it was given is
 * looked at again, and gets copies from now on if it would wait.
 */
static ssize_t by_sendfile_to_stream(struct move *m, size_t n)
{
	ssize_t moved;

	tick_guard();
	moved = os_sendfile(m->dest, m->file, &m->offset, n);
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

static ssize_t by_splice(struct move *m, size_t n)
{
	return os_splice_to_pipe(m->dest, m->file, &m->offset, n);
}

static ssize_t advance(struct move *m, ssize_t n)
{
	if (n > 0)
		m->offset += n;
	return n;
}

static ssize_t fetch(const struct move *m, size_t n, size_t max)
{
	return pread(m->file, buffer, n < max ? n : max, m->offset);
}

/* What the destination does not take is read again in the next turn: from memory, and only a copy is lost. */
static ssize_t by_send(struct move *m, size_t n)
{
	ssize_t got = fetch(m, n, COPY_SIZE);

	if (got <= 0)
		return got;
	return advance(m, send(m->dest, buffer, (size_t)got, MSG_DONTWAIT | MSG_NOSIGNAL));
}

static ssize_t by_write_pipe(struct move *m, size_t n)
{
	ssize_t got = fetch(m, n, PIPE_BUF);

	if (got <= 0)
		return got;
	return advance(m, os_write_pipe(m->dest, buffer, (size_t)got));
}

static ssize_t by_write(struct move *m, size_t n)
{
	ssize_t got = fetch(m, n, COPY_SIZE);

	if (got <= 0)
		return got;
	return advance(m, write(m->dest, buffer, (size_t)got));
}

/*
 * A terminal may take less than it is given and then wait for its reader, whatever it said of its room, and no flag of
 * write(2) prevents that. The tick does; bytes taken until then count.
 */
static ssize_t by_timed_write(struct move *m, size_t n)
{
	struct pollfd p = {.fd = m->dest, .events = POLLOUT};
	ssize_t got, put;

	if (poll(&p, 1, 0) <= 0) {
		errno = EAGAIN;
		return -1;
	}
	got = fetch(m, n, DEVICE_SIZE);
	if (got <= 0)
		return got;
	tick_hurry();
	put = write(m->dest, buffer, (size_t)got);
	if (put < 0 && errno == EINTR)
		errno = EAGAIN;
	tick_relax();
	return advance(m, put);
}

enum { WAYS_MAX = 2 };

/* Best first. Each kind's last way is one that the kind never refuses. */
static way_fn *const ways[DEST_KINDS][WAYS_MAX] = {
	[DEST_PIPE] = {by_splice, by_write_pipe},
	[DEST_STREAM] = {by_sendfile_to_stream, by_send},
	[DEST_STREAM_BLOCKING] = {by_send},
	[DEST_FILE] = {by_sendfile, by_write},
	[DEST_DEVICE] = {by_timed_write},
};

/* Errors that say "not this way", not "not at all". */
static bool is_refusal(int err)
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
	return !m->until_refused && (size_t)moved < asked && (m->kind == DEST_PIPE || m->kind == DEST_STREAM) &&
	       m->way == 0;
}

static bool next_way(struct move *m)
{
	if (m->way + 1 >= WAYS_MAX || !ways[m->kind][m->way + 1])
		return false;
	m->way++;
	return true;
}

enum move_result move_run(struct move *m, uint64_t budget, uint64_t *fallbacks)
{
	while (m->left > 0 && budget > 0) {
		size_t n = m->left < budget ? m->left : budget;
		ssize_t moved = ways[m->kind][m->way](m, n);

		if (moved > 0) {
			m->left -= (uint64_t)moved;
			budget -= (uint64_t)moved;
			if (took_less(m, n, moved)) {
				errno = EAGAIN;
				return MOVE_BLOCKED;
			}
		} else if (moved == 0) {
			return MOVE_SHORT;
		} else if (errno == EAGAIN) {
			return MOVE_BLOCKED;
		} else if (is_refusal(errno) && next_way(m)) {
			++*fallbacks;
		} else if (errno != EINTR) {
			return MOVE_FAILED;
		}
	}
	return m->left == 0 ? MOVE_DONE : MOVE_MORE;
}
