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
	fd = os_open_cached(w->config->root_fd, w->path);
	if (fd >= 0) {
		close(fd);
		return OPEN_COLD;
	}
	return errno == EAGAIN && !os_is_beyond_mount(w->config->root_fd, w->path) ? OPEN_LINK : OPEN_OTHER;
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
	int err = open_file(&file, w->config->root_fd, w->path, false);

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

void reader_read(struct work *w)
{
	off_t offset = w->letter->offset;

	/* Its disk shall not stand idle until the next job comes. */
	if (w->letter->flags & JOB_READS_ON)
		os_read_ahead(w->fds[0], offset + (off_t)w->letter->length, w->letter->length);
	while (w->answer.bytes < w->letter->length) {
		ssize_t n = os_fill_pipe(w->fds[1], w->fds[0], &offset, w->letter->length - w->answer.bytes);

		if (n > 0) {
			w->answer.bytes += (uint64_t)n;
		} else if (n == 0) {
			w->answer.at_end = 1;
			return;
		} else if (errno == EAGAIN && w->answer.bytes > 0) {
			return; /* the pipe is full */
		} else if (errno != EINTR) {
			w->answer.err = errno == EAGAIN ? EIO : errno; /* no disk says "again", but some servers do */
			return;
		}
	}
}
