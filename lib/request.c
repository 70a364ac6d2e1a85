/* SPDX-License-Identifier: BSD-2-Clause */
/* The one-request calls: each is a datagram of one request, with a pipe of its own for the outcome. */
#include "request.h"

#include "fdmsg.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static int fail(int err)
{
	errno = err;
	return -1;
}

static void close_keep_errno(int fd)
{
	int saved = errno;

	close(fd);
	errno = saved;
}

/* Sends the datagram; `status_fd` (-1: none) goes first, then the request's own descriptors. */
static int send_request(int srv, struct build *b, int status_fd)
{
	const struct wire_header h = {
		.version = WIRE_VERSION,
		.count = 1,
		.channel = status_fd >= 0 ? WIRE_CHANNEL_FD : WIRE_CHANNEL_NONE,
	};
	unsigned char header[WIRE_HEADER_SIZE], fixed[WIRE_FIXED_MAX];
	struct iovec iov[1 + BUILD_PIECES_MAX];
	int fds[1 + WIRE_REQUEST_FDS_MAX];
	unsigned nfds = 0, pieces;

	if (status_fd >= 0)
		fds[nfds++] = status_fd;
	for (unsigned i = 0; i < wire_op_fds(b->wire.op); i++) {
		if (b->fds[i] < 0)
			return fail(EBADF);
		fds[nfds++] = b->fds[i];
	}
	b->wire.deadline_ns = build_deadline_ns(b->timeout_ms);
	wire_put_header(header, &h, sizeof header + wire_request_bytes(&b->wire));
	iov[0] = (struct iovec){.iov_base = header, .iov_len = sizeof header};
	pieces = 1 + build_pieces(b, fixed, iov + 1);
	return fdmsg_send_pieces(srv, iov, pieces, fds, nfds);
}

int request_with_pipe(int srv, struct build *b, bool nonblock)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC | (nonblock ? O_NONBLOCK : 0)) < 0)
		return -1;
	if (send_request(srv, b, ends[1]) < 0) {
		close_keep_errno(ends[0]);
		close_keep_errno(ends[1]);
		return -1;
	}
	close(ends[1]);
	return ends[0];
}

/* `dest_fd` counts if the operation has one. */
static int request_on_path(int srv, enum wire_op op, const char *path, int dest_fd, off_t offset, size_t len,
	bool nonblock, const struct sfd_opts *opts)
{
	struct build b = {.wire = {.op = op}, .fds = {dest_fd, -1}};
	int err = build_path(&b, path, offset, len);

	if (err == 0)
		err = build_options(&b, opts);
	return err == 0 ? request_with_pipe(srv, &b, nonblock) : fail(err);
}

int sfd_send(int srv, const char *path, int dest_fd, off_t offset, size_t len, bool nonblock)
{
	return request_on_path(srv, WIRE_OP_SEND, path, dest_fd, offset, len, nonblock, NULL);
}

int sfd_send_opts(
	int srv, const char *path, int dest_fd, off_t offset, size_t len, bool nonblock, const struct sfd_opts *opts)
{
	return request_on_path(srv, WIRE_OP_SEND, path, dest_fd, offset, len, nonblock, opts);
}

int sfd_read(int srv, const char *path, off_t offset, size_t len, bool nonblock)
{
	return request_on_path(srv, WIRE_OP_READ, path, -1, offset, len, nonblock, NULL);
}

int sfd_open(int srv, const char *path, off_t offset, size_t len, bool nonblock)
{
	return request_on_path(srv, WIRE_OP_OPEN, path, -1, offset, len, nonblock, NULL);
}

int sfd_open_opts(int srv, const char *path, off_t offset, size_t len, bool nonblock, const struct sfd_opts *opts)
{
	return request_on_path(srv, WIRE_OP_OPEN, path, -1, offset, len, nonblock, opts);
}

int sfd_sendfd(int srv, int file_fd, int dest_fd, off_t offset, size_t len, bool nonblock, const struct sfd_opts *opts)
{
	struct build b = {.wire = {.op = WIRE_OP_SENDFD}, .fds = {file_fd, dest_fd}};
	int err = build_range(&b, offset, len);

	if (err == 0)
		err = build_options(&b, opts);
	return err == 0 ? request_with_pipe(srv, &b, nonblock) : fail(err);
}

bool sfd_send_open(int srv, size_t txnid, int dest_fd)
{
	return sfd_send_open_opts(srv, txnid, dest_fd, NULL);
}

bool sfd_send_open_opts(int srv, size_t txnid, int dest_fd, const struct sfd_opts *opts)
{
	struct build b = {.wire = {.op = WIRE_OP_SEND_OPEN, .txnid = txnid}, .fds = {dest_fd, -1}};
	int err = build_options(&b, opts);

	if (err != 0) {
		errno = err;
		return false;
	}
	return send_request(srv, &b, -1) == 0;
}

bool sfd_cancel(int srv, size_t txnid)
{
	struct build b = {.wire = {.op = WIRE_OP_CANCEL, .txnid = txnid}};

	return send_request(srv, &b, -1) == 0;
}
