/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/os/files.h"

#include "server/tick.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <stdint.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int try_openat2(int root_fd, const char *path, uint64_t flags)
{
	struct open_how how = {
		.flags = flags | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};

	return (int)syscall(SYS_openat2, root_fd, path, &how, sizeof how);
}

int os_open_beneath(int root_fd, const char *path)
{
	/* openat2(2): EAGAIN if a rename or mount raced with ".."; trying again is what the page advises. */
	int tries = 8;
	int fd;

	do
		fd = try_openat2(root_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	while (fd < 0 && (errno == EINTR || (errno == EAGAIN && --tries > 0)));
	return fd;
}

int os_probe_open_beneath(int root_fd)
{
	int fd = try_openat2(root_fd, "..", O_PATH | O_DIRECTORY);
	struct stat root, up;
	int err = 0;

	if (fd < 0)
		return errno;
	/* Confined means that the root's parent is the root itself. */
	if (fstat(root_fd, &root) < 0 || fstat(fd, &up) < 0)
		err = errno;
	else if (root.st_dev != up.st_dev || root.st_ino != up.st_ino)
		err = ENOSYS;
	close(fd);
	return err;
}

int os_file_type(int fd)
{
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0)
		return -1;
	return st.stx_mode & S_IFMT;
}

int os_is_pipe(int fd)
{
	return fcntl(fd, F_GETPIPE_SZ) > 0;
}

ssize_t os_sendfile(int dest, int file, off_t *offset, size_t n)
{
	return sendfile(dest, file, offset, n);
}

ssize_t os_splice_to_pipe(int pipe, int file, off_t *offset, size_t n)
{
	return splice(file, offset, pipe, NULL, n, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
}

/*
 * For a FIFO with a name, which refuses RWF_NOWAIT, and for kernels whose pipes do: one that polls writable takes PIPE_BUF
 * bytes without waiting, unless somebody else fills it at this moment.
 */
static ssize_t write_polled(int pipe, const void *buf, size_t n)
{
	struct pollfd p = {.fd = pipe, .events = POLLOUT};

	if (poll(&p, 1, 0) == 1 && p.revents & (POLLOUT | POLLERR)) {
		tick_guard();
		return write(pipe, buf, n);
	}
	errno = EAGAIN;
	return -1;
}

ssize_t os_write_pipe(int pipe, const void *buf, size_t n)
{
	struct iovec iov = {.iov_base = (void *)buf, .iov_len = n};
	ssize_t written = pwritev2(pipe, &iov, 1, -1, RWF_NOWAIT);

	if (written < 0 && (errno == EOPNOTSUPP || errno == EINVAL))
		return write_polled(pipe, buf, n);
	return written;
}
