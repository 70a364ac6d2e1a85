/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/dest.h"

#include "server/os/files.h"
#include "server/tick.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static bool writable(int flags)
{
	/* An O_PATH descriptor has access mode O_RDONLY (open(2)). */
	return (flags & O_ACCMODE) == O_WRONLY || (flags & O_ACCMODE) == O_RDWR;
}

/* 0 and the socket's type; an errno otherwise, ENOTSOCK for anything but a socket. */
static int classify_socket(int fd, int flags, enum dest_kind *kind)
{
	int type, domain;

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &(socklen_t){sizeof type}) < 0)
		return errno;
	if (type != SOCK_STREAM)
		return EINVAL;
	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &(socklen_t){sizeof domain}) < 0)
		return errno;
	if (domain != AF_UNIX && domain != AF_INET && domain != AF_INET6)
		return EINVAL;
	*kind = flags & O_NONBLOCK ? DEST_STREAM : DEST_STREAM_BLOCKING;
	return 0;
}

int dest_classify(int fd, enum dest_kind *kind)
{
	int flags = fcntl(fd, F_GETFL);
	int err;

	if (flags < 0)
		return errno;
	if (!writable(flags))
		return EBADF;
	if (os_is_pipe(fd)) {
		*kind = DEST_PIPE;
		return 0;
	}
	err = classify_socket(fd, flags, kind);
	if (err != ENOTSOCK)
		return err;
	switch (os_file_type(fd)) {
	case S_IFREG:
		*kind = DEST_FILE;
		return 0;
	case S_IFCHR:
		*kind = DEST_DEVICE;
		return 0;
	default:
		return EINVAL;
	}
}

bool dest_is_channel(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && (flags & O_ACCMODE) == O_WRONLY && os_is_pipe(fd);
}

void dest_close(int fd)
{
	struct linger linger = {0};

	if (fd < 0)
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &(socklen_t){sizeof linger}) < 0 || !linger.l_onoff ||
		linger.l_linger == 0) {
		close(fd);
		return;
	}
	tick_hurry();
	close(fd);
	tick_relax();
}
