/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/reader.h"

#include "server/open.h"
#include "server/os/files.h"
#include "server/park.h"

#include <errno.h>
#include <unistd.h>

/* Now that it is in memory: would it still take a wait? Asked only where it takes none to ask. */
static enum open_reason reason_of(const struct work *w)
{
	int fd;

	if (!w->config->root.local || !w->config->root.opens_cached)
		return OPEN_OTHER;
	fd = os_open_cached(&w->config->root.dir, w->path);
	if (fd >= 0) {
		close(fd);
		return OPEN_COLD;
	}
	return errno == EAGAIN && !os_is_beyond_mount(&w->config->root.dir, w->path) ? OPEN_LINK : OPEN_OTHER;
}

static enum open_reason reason_of_error(int err)
{
	switch (err) {
	case ENOENT:
		return OPEN_MISSING;
	case EAGAIN:
		return OPEN_LEASED;
	default:
		return OPEN_OTHER;
	}
}

void reader_open(struct work *w)
{
	struct opened file;
	int err = open_file(&file, &w->config->root.dir, w->path, false);

	if (err != 0) {
		w->answer.err = err;
		w->answer.reason = (uint32_t)reason_of_error(err);
		return;
	}
	w->answer.st = file.st;
	w->answer.reason = (uint32_t)reason_of(w);
	w->file = file.fd;
	if (w->config->root.local && file.st.st_dev == w->config->root.device)
		return;
	/* The original is closed with the others of this job, once the answer is on its way. */
	w->fds[0] = file.fd;
	w->file = park(file.fd);
	w->answer.parked = 1;
	if (w->file < 0)
		w->answer.err = errno;
}

/* ---- Reading */

enum { COPY_SIZE = 256 * 1024, BLOCK = 4096 };

/* Aligned, and read at aligned offsets, in whole blocks: whoever lent the file may make it O_DIRECT at any time, open(2). */
static _Alignas(BLOCK) unsigned char buffer[COPY_SIZE];

/* Up to `n` bytes from `offset` on, of which `*at` is the first; how many, 0 at the end, -1 and errno. */
static ssize_t fetch(const struct work *w, off_t offset, size_t n, const unsigned char **at)
{
	const size_t skew = (size_t)(offset % BLOCK);
	size_t size = (n + skew + BLOCK - 1) / BLOCK * BLOCK;
	ssize_t got;

	if (size > COPY_SIZE)
		size = COPY_SIZE;
	if (w->letter->flags & JOB_NOWAIT && !os_is_memory(w->fds[0]))
		got = os_read_cached(w->fds[0], buffer, size, offset - (off_t)skew);
	else if (w->letter->flags & JOB_NOCACHE)
		got = os_read_once(w->fds[0], buffer, size, offset - (off_t)skew);
	else
		got = pread(w->fds[0], buffer, size, offset - (off_t)skew);
	if (got <= 0)
		return got;
	*at = buffer + skew;
	if ((size_t)got <= skew)
		return 0;
	return (size_t)got - skew < n ? got - (ssize_t)skew : (ssize_t)n;
}

/* Each moves up to `n` bytes into the pipe: how many, 0 at the end of the file, -1 and errno; EAGAIN: the pipe is full. */
typedef ssize_t way_fn(const struct work *w, off_t offset, size_t n);

static ssize_t by_copy(const struct work *w, off_t offset, size_t n)
{
	const unsigned char *at = NULL;
	ssize_t got = fetch(w, offset, n, &at);

	/* A file system that cannot be asked not to wait is not asked at all. */
	if (got < 0 && w->letter->flags & JOB_NOWAIT && (errno == EAGAIN || errno == EOPNOTSUPP || errno == EINVAL))
		errno = EBUSY;
	return got > 0 ? write(w->fds[1], at, (size_t)got) : got;
}

static ssize_t by_splice(const struct work *w, off_t offset, size_t n)
{
	return os_fill_pipe(w->fds[1], w->fds[0], &offset, n);
}

static void fill(struct work *w, way_fn *way)
{
	while (w->answer.bytes < w->letter->length) {
		ssize_t n = way(w, w->letter->offset + (off_t)w->answer.bytes, w->letter->length - w->answer.bytes);

		if (n > 0) {
			w->answer.bytes += (uint64_t)n;
		} else if (n == 0) {
			w->answer.at_end = 1;
			return;
		} else if (errno == EAGAIN && w->answer.bytes > 0) {
			return; /* the pipe is full */
		} else if (errno == EINVAL && way == by_splice) {
			way = by_copy; /* no file for splice(2), or one that is O_DIRECT */
		} else if (errno != EINTR) {
			w->answer.err = errno == EAGAIN ? EIO : errno; /* no disk says "again", but some servers do */
			return;
		}
	}
}

void reader_read(struct work *w)
{
	const struct job_letter *l = w->letter;
	struct os_pages before = {.known = false};

	if (l->flags & (JOB_NOCACHE | JOB_ONLY_AHEAD) && !(l->flags & JOB_IS_LENT))
		os_read_only_what_is_asked(w->fds[0]);
	if (l->flags & JOB_NOCACHE)
		os_note_pages(w->fds[0], l->offset, l->length, &before);
	if (l->ahead > 0)
		os_read_ahead(w->fds[0], l->offset + (off_t)l->length, l->ahead);
	fill(w, l->flags & (JOB_COPIES | JOB_NOCACHE | JOB_NOWAIT) ? by_copy : by_splice);
	if (l->flags & JOB_NOCACHE)
		os_drop_other_pages(w->fds[0], &before);
}

/* ---- Looking */

void reader_look(struct work *w)
{
	if (fstat(w->fds[0], &w->answer.st) < 0)
		w->answer.err = errno;
}
