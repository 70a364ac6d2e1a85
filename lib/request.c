/* SPDX-License-Identifier: BSD-2-Clause */
/* The one-request calls: each is a datagram of one request, with a pipe of its own for the outcome. */
#include "build.h"
#include "fdmsg.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static void close_keep_errno(int fd)
{
	int saved = errno;

	close(fd);
	errno = saved;
}

/* Builds the datagram and sends it; `fds` are the status channel, if there is one, and the request's own. */
static int send_request(int srv, const struct wire_request *r, enum wire_channel channel, const int *fds, unsigned nfds)
{
	_Alignas(8) unsigned char buf[WIRE_HEADER_SIZE + WIRE_REQUEST_SIZE + WIRE_PATH_MAX + 8];
	struct wire_header h = {.version = WIRE_VERSION, .count = 1, .channel = channel};
	size_t total = WIRE_HEADER_SIZE + wire_request_bytes(r);

	wire_put_header(buf, &h, total);
	wire_put_request(buf + WIRE_HEADER_SIZE, r);
	return fdmsg_send(srv, buf, total, fds, nfds);
}

/* Sends a request that answers on a new pipe. Returns the pipe's read end. `dest_fd` counts if the operation has one. */
static int request_with_pipe(int srv, struct wire_request *r, int dest_fd, bool nonblock)
{
	int ends[2];
	int fds[2];

	if (pipe2(ends, O_CLOEXEC | (nonblock ? O_NONBLOCK : 0)) < 0)
		return -1;
	fds[0] = ends[1];
	fds[1] = dest_fd;
	if (send_request(srv, r, WIRE_CHANNEL_FD, fds, 1 + wire_op_fds(r->op)) < 0) {
		close_keep_errno(ends[0]);
		close_keep_errno(ends[1]);
		return -1;
	}
	close(ends[1]);
	return ends[0];
}

static int request_on_path(
	int srv, enum wire_op op, const char *path, int dest_fd, off_t offset, size_t len, bool nonblock)
{
	struct wire_request r = {.op = op};
	int err = build_path_request(&r, path, offset, len);

	if (err != 0) {
		errno = err;
		return -1;
	}
	return request_with_pipe(srv, &r, dest_fd, nonblock);
}

int sfd_send(int srv, const char *path, int dest_fd, off_t offset, size_t len, bool nonblock)
{
	return request_on_path(srv, WIRE_OP_SEND, path, dest_fd, offset, len, nonblock);
}

int sfd_read(int srv, const char *path, off_t offset, size_t len, bool nonblock)
{
	return request_on_path(srv, WIRE_OP_READ, path, -1, offset, len, nonblock);
}

int sfd_open(int srv, const char *path, off_t offset, size_t len, bool nonblock)
{
	return request_on_path(srv, WIRE_OP_OPEN, path, -1, offset, len, nonblock);
}

bool sfd_send_open(int srv, size_t txnid, int dest_fd)
{
	struct wire_request r = {.op = WIRE_OP_SEND_OPEN, .txnid = txnid};

	return send_request(srv, &r, WIRE_CHANNEL_NONE, &dest_fd, 1) == 0;
}

bool sfd_cancel(int srv, size_t txnid)
{
	struct wire_request r = {.op = WIRE_OP_CANCEL, .txnid = txnid};

	return send_request(srv, &r, WIRE_CHANNEL_NONE, NULL, 0) == 0;
}
