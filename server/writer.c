/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/writer.h"

#include "server/mover.h"
#include "server/os/files.h"

#include <errno.h>
#include <stdbool.h>
#include <unistd.h>

enum { COPY_SIZE = 256 * 1024 };

static unsigned char buffer[COPY_SIZE];

/* Where bytes come from and go to. */
struct copy {
	int dest, from;
	off_t position, offset;
	bool from_pipe, is_device;
	bool at_position; /* write where `position` says, not where the destination stands */
	bool copies;      /* the better way was refused */
	int err;          /* met after some bytes were written */
};

/* Each moves up to `n` bytes and advances the offsets: the bytes moved, 0 at the end, -1 and errno. */
typedef ssize_t way_fn(struct copy *c, size_t n);

static ssize_t by_copy_range(struct copy *c, size_t n)
{
	return os_copy_range(c->dest, &c->position, c->from, &c->offset, n);
}

static ssize_t by_splice(struct copy *c, size_t n)
{
	return os_splice_to_file(c->dest, &c->position, c->from, n);
}

/* All of what was fetched, or an error, with which it is over: what came from a pipe cannot be fetched again. */
static ssize_t put(struct copy *c, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t put = c->at_position ? pwrite(c->dest, buffer + done, n - done, c->position)
					     : write(c->dest, buffer + done, n - done);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0) {
			c->err = put < 0 ? errno : EIO;
			break;
		}
		done += (size_t)put;
		c->position += put;
	}
	errno = c->err;
	return done > 0 || n == 0 ? (ssize_t)done : -1;
}

static ssize_t by_copy(struct copy *c, size_t n)
{
	ssize_t got, done;

	if (n > COPY_SIZE)
		n = COPY_SIZE;
	got = c->from_pipe ? read(c->from, buffer, n) : pread(c->from, buffer, n, c->offset);
	if (got <= 0)
		return got;
	done = put(c, (size_t)got);
	if (done > 0)
		c->offset += done;
	return done;
}

/* Best first; the copy is refused by none. */
static way_fn *next_way(const struct copy *c)
{
	if (c->copies || c->is_device)
		return by_copy;
	return c->from_pipe ? by_splice : by_copy_range;
}

/*
 * A way that moves nothing is at the end of the file; or it is copy_file_range(2) on a file of a kind that says that
 * it has no bytes (copy_file_range(2): BUGS), and then a copy tells.
 */
static void move_all(struct copy *c, struct work *w)
{
	uint64_t left = w->letter->length;

	while (left > 0) {
		ssize_t n = next_way(c)(c, left);

		if (n > 0) {
			left -= (uint64_t)n;
			w->answer.bytes += (uint64_t)n;
			w->answer.err = c->err;
			if (c->err != 0)
				return;
		} else if (n < 0 && errno == EINTR) {
			continue;
		} else if (next_way(c) != by_copy && (n == 0 || move_is_refusal(errno))) {
			w->answer.fallbacks += n < 0;
			c->copies = true;
		} else if (n == 0) {
			w->answer.at_end = 1;
			return;
		} else {
			w->answer.err = errno;
			return;
		}
	}
}

void writer_write(struct work *w)
{
	const struct job_letter *l = w->letter;
	struct copy c = {
		.dest = w->fds[0],
		.from = w->fds[1],
		.position = l->position,
		.offset = l->offset,
		.from_pipe = l->kind == JOB_DRAIN,
		.is_device = l->flags & JOB_IS_STREAM,
		.at_position = !(l->flags & (JOB_IS_STREAM | JOB_APPENDS)),
	};

	if (l->kind == JOB_TELL) {
		w->answer.position = c.at_position ? lseek(c.dest, 0, SEEK_CUR) : 0;
		if (w->answer.position < 0)
			w->answer.err = errno;
		return;
	}
	move_all(&c, w);
	w->answer.position = c.position;
	if (c.at_position && w->answer.bytes > 0 && lseek(c.dest, c.position, SEEK_SET) < 0 && w->answer.err == 0)
		w->answer.err = errno;
}
