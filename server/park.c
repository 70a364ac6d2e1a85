/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/park.h"

#include "server/fdpass.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

int park(int fd)
{
	int ends[2];
	int err = 0;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
		return -1;
	if (fdpass_send(ends[1], "", 1, &fd, 1) < 0)
		err = errno;
	close(ends[1]); /* what was sent stays where it is */
	if (err == 0)
		return ends[0];
	close(ends[0]);
	errno = err;
	return -1;
}

int park_copy(int sock)
{
	struct fdpass m;
	char byte;
	int fd;

	if (fdpass_peek(sock, &byte, sizeof byte, &m) < 0)
		return -1;
	fd = fdpass_take(&m, 0);
	fdpass_drop(&m);
	if (fd < 0)
		errno = EMFILE;
	return fd;
}
