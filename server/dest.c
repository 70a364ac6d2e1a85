/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/dest.h"

#include "server/os/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/stat.h>

static bool writable(int flags)
{
	/* An O_PATH descriptor has access mode O_RDONLY (open(2)). */
	return (flags & O_ACCMODE) == O_WRONLY || (flags & O_ACCMODE) == O_RDWR;
}

/* 0, or an errno: ENOTSOCK. */
static int classify_socket(int fd, int flags, struct dest *dest)
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
	dest->kind = flags & O_NONBLOCK ? DEST_STREAM : DEST_STREAM_BLOCKING;
	dest->is_unix = domain == AF_UNIX;
	return 0;
}

int dest_classify(int fd, struct dest *dest)
{
	int flags = fcntl(fd, F_GETFL);
	struct os_look look;
	int err;

	*dest = (struct dest){.kind = DEST_PIPE};
	if (flags < 0)
		return errno;
	if (!writable(flags))
		return EBADF;
	/* The cheapest question first: small requests come by the hundred thousand. */
	if (os_is_pipe(fd)) {
		dest->has_name = os_pipe_has_name(flags);
		return 0;
	}
	err = classify_socket(fd, flags, dest);
	if (err != ENOTSOCK)
		return err;
	if (os_look_at(fd, &look) < 0)
		return errno;
	dest->device = look.device;
	dest->appends = flags & O_APPEND;
	switch (look.type) {
	case S_IFREG:
		dest->kind = DEST_FILE;
		return 0;
	case S_IFCHR:
		dest->kind = look.is_terminal ? DEST_TERMINAL : DEST_DEVICE;
		return 0;
	default:
		return EINVAL;
	}
}

bool dest_is_channel(int fd, bool *has_name)
{
	int flags = fcntl(fd, F_GETFL);

	*has_name = os_pipe_has_name(flags);
	return flags >= 0 && (flags & O_ACCMODE) == O_WRONLY && os_is_pipe(fd);
}
