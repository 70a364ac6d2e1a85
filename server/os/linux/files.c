/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/os/files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <stdbool.h>
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
	enum { TRIES = 8 };
	int fd = -1;

	for (int i = 0; i < TRIES && fd < 0; i++) {
		fd = try_openat2(root_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
		if (fd < 0 && errno != EAGAIN && errno != EINTR)
			break;
	}
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

/* For kernels whose pipes refuse RWF_NOWAIT: a pipe that polls writable takes PIPE_BUF bytes without waiting. */
static ssize_t write_pipe_polled(int pipe, const void *buf, size_t n)
{
	struct pollfd p = {.fd = pipe, .events = POLLOUT};

	if (poll(&p, 1, 0) == 1 && p.revents & (POLLOUT | POLLERR))
		return write(pipe, buf, n);
	errno = EAGAIN;
	return -1;
}

ssize_t os_write_pipe(int pipe, const void *buf, size_t n)
{
	static bool refused; /* one per process, set once: what the kernel cannot do now it cannot do later */
	struct iovec iov = {.iov_base = (void *)buf, .iov_len = n};
	ssize_t written;

	if (refused)
		return write_pipe_polled(pipe, buf, n);
	written = pwritev2(pipe, &iov, 1, -1, RWF_NOWAIT);
	if (written < 0 && (errno == EOPNOTSUPP || errno == EINVAL)) {
		refused = true;
		return write_pipe_polled(pipe, buf, n);
	}
	return written;
}
