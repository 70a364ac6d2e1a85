/* SPDX-License-Identifier: BSD-2-Clause */
/* The calls that wait: a request, and then its frames, until the daemon has let go of the destination. */
#include "clock.h"
#include "request.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

enum {
	LATE_MS = 50,     /* how much later than its time the daemon may end a transfer by itself */
	LET_GO_MS = 1000, /* how long it has for a cancel */
	NAP_MS = 2,
	/* As much as sendfile(2) moves in one call. */
	COUNT_MAX = 0x7ffff000,
};

static const int64_t NEVER = INT64_MAX;

/* Until there is something, or it is time: 0 if there is, ETIMEDOUT, or another errno. */
static int wait_for(int fd, short events, int64_t until_ms)
{
	struct pollfd p = {.fd = fd, .events = events};

	for (;;) {
		int64_t left = until_ms == NEVER ? -1 : until_ms - clock_ms();
		int n;

		if (until_ms != NEVER && left <= 0)
			return ETIMEDOUT;
		n = poll(&p, 1, left > 1000000 ? 1000000 : (int)left);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return errno;
	}
}

/* What is known of a request that waits for its outcome. */
struct call {
	int srv, status_fd;
	int64_t until_ms;
	bool cancelled;
	uint64_t txnid; /* 0: not known yet */
	struct sfd_xfer_stat last;
};

/* Until there may be room again for what failed with `err`: 0, ETIMEDOUT, or another errno, `err` if no room will come. */
static int wait_for_room(const struct call *c, int err)
{
	if (err == EAGAIN)
		return wait_for(c->srv, POLLOUT, c->until_ms);
	if (err != ETOOMANYREFS && err != ENOBUFS)
		return err;
	poll(NULL, 0, NAP_MS); /* nothing tells of that room: unix(7) */
	return c->until_ms != NEVER && clock_ms() >= c->until_ms ? ETIMEDOUT : 0;
}

/* The daemon's socket may be full. 0, or an errno: then the daemon has not seen the request. */
static int begin(struct call *c, struct build *b)
{
	for (;;) {
		int err;

		c->status_fd = request_with_pipe(c->srv, b, true);
		if (c->status_fd >= 0)
			return 0;
		err = wait_for_room(c, errno);
		if (err != 0)
			return err;
	}
}

/* Takes in a frame. True if it is the last one, and then `*stat` says how it ended. */
static bool take_frame(struct call *c, const void *frame, int *stat)
{
	struct sfd_file_info info;

	*stat = sfd_get_stat(frame);
	if (sfd_unmarshal_file_info(&info, frame))
		c->txnid = info.txnid;
	else if (sfd_get_cmd(frame) == SFD_XFER_STAT)
		sfd_unmarshal_xfer_stat(&c->last, frame);
	return *stat != SFD_STAT_OK || sfd_xfer_complete(&c->last);
}

/* True if it is over, and then `*stat` says how it ended. */
static bool read_frames(struct call *c, int *stat)
{
	char frame[SFD_MAX_RESP_SIZE];
	ssize_t n;

	while ((n = read(c->status_fd, frame, sizeof frame)) == (ssize_t)sizeof frame) {
		if (take_frame(c, frame, stat))
			return true;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	*stat = SFD_STAT_WORKER_DIED;
	return true;
}

/* Its time is over. The daemon, which knows when that is, ends it by itself; one that is late is told. */
static void cancel(struct call *c)
{
	c->cancelled = true;
	c->until_ms = clock_ms() + LET_GO_MS;
	while (c->txnid != 0 && !sfd_cancel(c->srv, c->txnid) && wait_for_room(c, errno) == 0)
		;
}

static int errno_of(const struct call *c, int stat)
{
	switch (stat) {
	case SFD_STAT_TRUNCATED:
		return EIO;
	case SFD_STAT_WORKER_DIED:
		return ECONNABORTED;
	case SFD_STAT_CHANGED:
		return ESTALE;
	case ECANCELED:
		return c->cancelled ? ETIMEDOUT : ECANCELED;
	default:
		return stat;
	}
}

static int finish(struct call *c)
{
	int stat;

	while (!read_frames(c, &stat)) {
		int err = wait_for(c->status_fd, POLLIN, c->until_ms);

		if (err == 0)
			continue;
		if (c->cancelled || err != ETIMEDOUT)
			return ECONNABORTED; /* whether anything more comes nobody knows */
		cancel(c);
	}
	return errno_of(c, stat);
}

/* 0, or an errno; c->last says how far it came. */
static int run(struct call *c, struct build *b, int timeout_ms)
{
	int err;

	c->until_ms = NEVER;
	if (timeout_ms > 0 && (b->timeout_ms == 0 || b->timeout_ms > (unsigned)timeout_ms))
		b->timeout_ms = (unsigned)timeout_ms;
	if (b->timeout_ms > 0)
		c->until_ms = clock_ms() + (int64_t)b->timeout_ms + LATE_MS;
	err = begin(c, b);
	if (err != 0)
		return err;
	err = finish(c);
	close(c->status_fd);
	return err;
}

static int result(int err)
{
	errno = err;
	return err == 0 ? 0 : -1;
}

int sfd_sendfile(int srv, const char *path, int dest_fd, off_t offset, size_t len, const struct sfd_opts *opts,
	off_t *sbytes, int timeout_ms)
{
	struct build b = {.wire = {.op = WIRE_OP_SEND}, .fds = {dest_fd, -1}};
	struct call c = {.srv = srv};
	int err = build_path(&b, path, offset, len);

	if (err == 0)
		err = build_options(&b, opts);
	if (err == 0)
		err = run(&c, &b, timeout_ms);
	if (sbytes)
		*sbytes = (off_t)c.last.written;
	return result(err);
}

/* Where the transfer begins: `offset`, or the file's own position. -1 and errno. */
static off_t start_of(int file_fd, const off_t *offset)
{
	if (!offset)
		return lseek(file_fd, 0, SEEK_CUR);
	if (*offset >= 0)
		return *offset;
	errno = EINVAL;
	return -1;
}

ssize_t sfd_sendfile_fd(int srv, int dest_fd, int file_fd, off_t *offset, size_t count, int timeout_ms)
{
	struct build b = {.wire = {.op = WIRE_OP_SENDFD}, .fds = {file_fd, dest_fd}};
	struct call c = {.srv = srv};
	off_t at = start_of(file_fd, offset);
	int err;

	if (at < 0)
		return -1;
	if (count > COUNT_MAX)
		count = COUNT_MAX;
	if (count > (uint64_t)(INT64_MAX - at))
		count = (size_t)(INT64_MAX - at);
	if (count == 0)
		return fcntl(file_fd, F_GETFD) < 0 || fcntl(dest_fd, F_GETFD) < 0 ? -1 : 0;
	err = build_range(&b, at, count);
	if (err == 0)
		err = run(&c, &b, timeout_ms);
	at += (off_t)c.last.total;
	if (offset)
		*offset = at;
	else if (c.last.total > 0)
		lseek(file_fd, at, SEEK_SET);
	return err == 0 ? (ssize_t)c.last.total : result(err);
}
