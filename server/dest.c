/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/dest.h"

#include "server/os/files.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/stat.h>

static bool writable(int flags)
{
	/* An O_PATH descriptor has access mode O_RDONLY (open(2)). */
	return (flags & O_ACCMODE) == O_WRONLY || (flags & O_ACCMODE) == O_RDWR;
}

int dest_socket_option(int fd, int name)
{
	int value;

	return getsockopt(fd, SOL_SOCKET, name, &value, &(socklen_t){sizeof value}) == 0 ? value : -1;
}

static bool is_known_stream(int fd, int domain)
{
	return domain == AF_UNIX ||
	       ((domain == AF_INET || domain == AF_INET6) && os_linger_is_all(dest_socket_option(fd, SO_PROTOCOL)));
}

/* 0, or an errno: ENOTSOCK. */
static int classify_socket(int fd, int flags, struct dest *dest)
{
	const int type = dest_socket_option(fd, SO_TYPE);
	int domain;

	if (type < 0)
		return errno;
	domain = dest_socket_option(fd, SO_DOMAIN);
	if (type != SOCK_STREAM || !is_known_stream(fd, domain))
		return EINVAL;
	dest->kind = flags & O_NONBLOCK ? DEST_STREAM : DEST_STREAM_BLOCKING;
	dest->is_unix = domain == AF_UNIX;
	return 0;
}

/*
 * Most destinations are like the one before, and each question costs a small request a fiftieth of its time: so after a socket
 * another one is expected. A stream whose protocol has TCP's number is TCP. Sockets are always open for reading and writing, and
 * an O_PATH descriptor is none.
 */
enum expected { EXPECT_ANYTHING, EXPECT_TCP, EXPECT_UNIX };

static bool is_as_expected(int fd, enum expected expected, struct dest *dest)
{
	if (expected == EXPECT_ANYTHING)
		return false;
	if (expected == EXPECT_TCP ? dest_socket_option(fd, SO_PROTOCOL) != IPPROTO_TCP
				   : dest_socket_option(fd, SO_DOMAIN) != AF_UNIX)
		return false;
	if (dest_socket_option(fd, SO_TYPE) != SOCK_STREAM)
		return false;
	*dest = (struct dest){.kind = DEST_STREAM, .is_unix = expected == EXPECT_UNIX, .unseen = true};
	return true;
}

static enum expected like(const struct dest *dest)
{
	if (dest->kind != DEST_STREAM && dest->kind != DEST_STREAM_BLOCKING)
		return EXPECT_ANYTHING;
	return dest->is_unix ? EXPECT_UNIX : EXPECT_TCP;
}

static int classify(int fd, struct dest *dest)
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

int dest_classify(int fd, struct dest *dest)
{
	static enum expected expected;
	int err;

	if (is_as_expected(fd, expected, dest))
		return 0;
	err = classify(fd, dest);
	expected = err == 0 ? like(dest) : EXPECT_ANYTHING;
	return err;
}

bool dest_is_channel(int fd, bool *has_name)
{
	int flags = fcntl(fd, F_GETFL);

	*has_name = os_pipe_has_name(flags);
	return flags >= 0 && (flags & O_ACCMODE) == O_WRONLY && os_is_pipe(fd);
}
