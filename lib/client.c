/* SPDX-License-Identifier: BSD-2-Clause */
/* Connecting to a daemon. */
#include "wire.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef SFD_VERSION
#error "SFD_VERSION comes from the Makefile"
#endif

const char *sfd_version(void)
{
	return SFD_VERSION;
}

static int find_socket(struct sockaddr_un *sa, const char *sockdir, const char *name)
{
	char dir[sizeof sa->sun_path];
	int err;

	if (!sockdir) {
		err = wire_default_dir(dir, sizeof dir, geteuid(), secure_getenv("XDG_RUNTIME_DIR"));
		if (err != 0)
			return err;
		sockdir = dir;
	}
	sa->sun_family = AF_UNIX;
	return wire_socket_path(sa->sun_path, sizeof sa->sun_path, sockdir, name);
}

int sfd_connect(const char *sockdir, const char *name)
{
	struct sockaddr_un sa = {0};
	int fd, err;

	err = find_socket(&sa, sockdir, name);
	if (err != 0) {
		errno = err;
		return -1;
	}
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	if (connect(fd, (struct sockaddr *)&sa, sizeof sa) < 0) {
		err = errno;
		close(fd);
		errno = err;
		return -1;
	}
	return fd;
}
