/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/mover.h"

#include "server/os/files.h"
#include "server/tick.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	/* What is copied at most where it need not be (bytes.c), and a header: with less, its end would be a packet of its own. */
	COPY_SIZE = (64 + 8) * 1024,
	DEVICE_SIZE = 4096,
};

/* A process moves one thing at a time. */
static unsigned char buffer[COPY_SIZE];

/* Moves up to `n` bytes and counts them: the bytes moved, 0 at the file's end, -1 and errno. */
typedef ssize_t way_fn(struct move *m, size_t n);

static uint64_t take(struct move_text *text, uint64_t n)
{
	if (n > text->left)
		n = text->left;
	if (n > 0)
		text->at += n;
	text->left -= (uint32_t)n;
	return n;
}

void move_advance(struct move *m, uint64_t n)
{
	uint64_t of_file;

	m->written += n;
	n -= take(&m->head, n);
	of_file = n < m->left ? n : m->left;
	m->offset += (off_t)of_file;
	m->left -= of_file;
	take(&m->tail, n - of_file);
}

/* Whether it would wait. What is only copied to it never does: send(2) is told not to. */
static void see(struct move *m)
{
	m->unseen = false;
	if (!(fcntl(m->dest, F_GETFL) & O_NONBLOCK))
		m->kind = DEST_STREAM_BLOCKING;
}

/* One that took less than it was given is looked at again, and gets copies from now on if it would wait. */
static ssize_t check_stream(struct move *m, size_t n, ssize_t moved)
{
	if (moved == (ssize_t)n)
		return moved;
	if (moved < 0 && errno != EINTR && errno != EAGAIN)
		return moved;
	see(m);
	if (moved < 0)
		errno = EAGAIN;
	return moved;
}

/* The socket was non-blocking when it came, and is perhaps no longer: see tick.h. */
static ssize_t by_sendfile(struct move *m, size_t n)
{
	off_t offset = m->offset;
	ssize_t moved;

	tick_guard();
	moved = check_stream(m, n, os_sendfile(m->dest, m->file, &offset, n));
	if (moved > 0)
		move_advance(m, (uint64_t)moved);
	return moved;
}

static ssize_t by_splice(struct move *m, size_t n)
{
	off_t offset = m->offset;
	ssize_t moved = os_splice_to_pipe(m->dest, m->file, &offset, n);

	if (moved > 0)
		move_advance(m, (uint64_t)moved);
	return moved;
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

ssize_t move_put(struct move *m, const void *buf, size_t n, bool more)
{
	switch (m->kind) {
	case DEST_PIPE:
		return os_write_pipe(m->dest, buf, n);
	case DEST_STREAM:
	case DEST_STREAM_BLOCKING:
		return send(m->dest, buf, n, MSG_DONTWAIT | MSG_NOSIGNAL | (more ? MSG_MORE : 0));
	case DEST_TERMINAL:
		return put_timed(m->dest, buf, n);
	default:
		errno = EINVAL;
		return -1;
	}
}

enum { FETCH_WAITS = -2 };

static size_t append(size_t at, const struct move_text *text)
{
	if (text->left > 0)
		memcpy(buffer + at, text->at, text->left);
	return at + text->left;
}

/*
 * In one piece with the head, and with the tail if both ends fit. What the destination does not take is fetched again in the
 * next turn: from memory, and only a copy is lost.
 */
static ssize_t by_copy(struct move *m, size_t n)
{
	size_t at = append(0, &m->head), room = n > at ? n - at : 1;
	ssize_t got, put;

	if (room > COPY_SIZE - at)
		room = COPY_SIZE - at;
	if (room > m->left)
		room = m->left;
	got = m->peeks ? os_read_cached(m->file, buffer + at, room, m->offset)
		       : pread(m->file, buffer + at, room, m->offset);
	if (got < 0 && errno == EAGAIN)
		return FETCH_WAITS;
	if (got <= 0)
		return got;
	at += (size_t)got;
	if ((uint64_t)got == m->left && m->tail.left <= COPY_SIZE - at)
		at = append(at, &m->tail);
	put = move_put(m, buffer, at < n ? at : n, false);
	if (put > 0)
		move_advance(m, (uint64_t)put);
	return put;
}

/* Head and tail have less than COPY_SIZE bytes together. Both in one piece, where no byte of the file comes between them. */
static ssize_t by_text(struct move *m, size_t n)
{
	size_t at = append(0, &m->head);
	ssize_t put;

	if (m->left == 0)
		at = append(at, &m->tail);
	put = move_put(m, buffer, at < n ? at : n, m->left > 0);
	if (put > 0)
		move_advance(m, (uint64_t)put);
	return put;
}

ssize_t move_from_pipe(struct move *m, int pipe, size_t n)
{
	if (m->kind != DEST_STREAM)
		return os_splice_from_pipe(m->dest, pipe, n);
	if (m->unseen)
		see(m);
	if (m->kind != DEST_STREAM) {
		errno = EAGAIN; /* the next turn copies */
		return -1;
	}
	tick_guard();
	return check_stream(m, n, os_splice_from_pipe(m->dest, pipe, n));
}

/* Tried first; what it refuses, or a kind that has none, is copied. */
static way_fn *const ways[DEST_KINDS] = {
	[DEST_PIPE] = by_splice,
	[DEST_STREAM] = by_sendfile,
};

/* Of the file's bytes. */
static way_fn *way_of(struct move *m)
{
	if (m->unseen && !m->copies)
		see(m);
	return m->copies || !ways[m->kind] ? by_copy : ways[m->kind];
}

/* Of what comes next. */
static way_fn *next_way(struct move *m)
{
	return m->left == 0 || (m->head.left > 0 && way_of(m) != by_copy) ? by_text : way_of(m);
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
static bool took_less(const struct move *m, way_fn *way, size_t asked, ssize_t moved)
{
	return !m->until_refused && (size_t)moved < asked && way != by_copy && way != by_text;
}

enum move_result move_run(struct move *m, uint64_t budget, uint64_t *fallbacks)
{
	while (move_left(m) > 0 && budget > 0) {
		way_fn *way = next_way(m);
		const bool copies = way == by_copy || way == by_text;
		size_t n = copies || m->left > budget ? budget : m->left;
		ssize_t moved = way(m, n);

		if (moved > 0) {
			budget -= (uint64_t)moved;
			if (took_less(m, way, n, moved)) {
				errno = EAGAIN;
				return MOVE_BLOCKED;
			}
		} else if (moved == 0) {
			return MOVE_SHORT;
		} else if (moved == FETCH_WAITS) {
			return MOVE_COLD;
		} else if (errno == EAGAIN) {
			return MOVE_BLOCKED;
		} else if (move_is_refusal(errno) && !copies) {
			m->copies = true;
			++*fallbacks;
		} else if (errno != EINTR) {
			return MOVE_FAILED;
		}
	}
	return move_left(m) == 0 ? MOVE_DONE : MOVE_MORE;
}

enum move_result move_head(struct move *m, uint64_t budget)
{
	while (m->head.left > 0 && budget > 0) {
		ssize_t moved = by_text(m, budget);

		if (moved > 0)
			budget -= (uint64_t)moved;
		else if (moved == 0 || errno == EAGAIN)
			return MOVE_BLOCKED;
		else if (errno != EINTR)
			return MOVE_FAILED;
	}
	return m->head.left == 0 ? MOVE_DONE : MOVE_MORE;
}
