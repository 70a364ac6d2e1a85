/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/os/files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN_FLAGS = O_RDONLY | O_NONBLOCK | O_NOCTTY };

static int try_openat2(const struct os_dir *dir, const char *path, uint64_t flags, uint64_t resolve)
{
	struct open_how how = {
		.flags = flags | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve |
			   (dir->no_symlinks ? RESOLVE_NO_SYMLINKS : 0) | (dir->one_file_system ? RESOLVE_NO_XDEV : 0),
	};

	return (int)syscall(SYS_openat2, dir->fd, path, &how, sizeof how);
}

int os_open_beneath(const struct os_dir *dir, const char *path)
{
	/* openat2(2): EAGAIN if a rename or mount raced with ".."; trying again is what the page advises. */
	int tries = 8;
	int fd;

	do
		fd = try_openat2(dir, path, OPEN_FLAGS, 0);
	while (fd < 0 && (errno == EINTR || (errno == EAGAIN && --tries > 0)));
	return fd;
}

int os_open_cached(const struct os_dir *dir, const char *path)
{
	int fd;

	do
		fd = try_openat2(dir, path, OPEN_FLAGS, RESOLVE_CACHED | RESOLVE_NO_XDEV);
	while (fd < 0 && errno == EINTR);
	return fd;
}

mode_t os_type_beneath(const struct os_dir *dir, const char *path, bool cached)
{
	int fd = try_openat2(dir, path, O_PATH, cached ? RESOLVE_CACHED | RESOLVE_NO_XDEV : 0);
	struct os_look look = {0};

	if (fd < 0)
		return 0;
	if (os_look_at(fd, &look) < 0)
		look.type = 0;
	close(fd);
	return look.type;
}

bool os_is_beyond_mount(const struct os_dir *dir, const char *path)
{
	int fd = try_openat2(dir, path, O_PATH, RESOLVE_NO_XDEV);

	if (fd < 0)
		return errno == EXDEV;
	close(fd);
	return false;
}

/*
 * With RESOLVE_CACHED the walk stays in the mode in which it takes no lock and asks nobody; O_PATH opens nothing. A mount
 * point is in memory for as long as something is mounted on it, and so are the directories above it.
 */
static uint64_t cached_device(const struct os_dir *dir, const char *path)
{
	int fd = try_openat2(dir, path, O_PATH, RESOLVE_CACHED);
	struct os_look look;
	int err;

	if (fd < 0)
		return 0;
	err = os_look_at(fd, &look);
	close(fd);
	return err < 0 ? 0 : look.device;
}

/* The length of the path's first `n` components. */
static size_t prefix_length(const char *path, unsigned n)
{
	size_t at = 0;

	for (; n > 0; n--) {
		at += strspn(path + at, "/");
		at += strcspn(path + at, "/");
	}
	return at;
}

static unsigned count_components(const char *path)
{
	unsigned n = 0;

	while (*(path += strspn(path, "/")) != '\0') {
		path += strcspn(path, "/");
		n++;
	}
	return n;
}

/* If a path is in memory, so is each of its beginnings: the longest one is found by bisection, since each look is a walk. */
uint64_t os_device_beneath(const struct os_dir *dir, const char *path)
{
	unsigned low = 0, high = count_components(path);
	uint64_t found = cached_device(dir, ".");
	char prefix[PATH_MAX];

	if (strlen(path) >= sizeof prefix)
		return found;
	while (low < high) {
		unsigned middle = (low + high + 1) / 2;
		size_t len = prefix_length(path, middle);
		uint64_t device;

		memcpy(prefix, path, len);
		prefix[len] = '\0';
		device = cached_device(dir, prefix);
		if (device != 0) {
			found = device;
			low = middle;
		} else {
			high = middle - 1;
		}
	}
	return found;
}

int os_probe_open_beneath(const struct os_dir *dir)
{
	int fd = try_openat2(dir, "..", O_PATH | O_DIRECTORY, 0);
	struct stat root, up;
	int err = 0;

	if (fd < 0)
		return errno;
	/* Confined means that the root's parent is the root itself. */
	if (fstat(dir->fd, &root) < 0 || fstat(fd, &up) < 0)
		err = errno;
	else if (root.st_dev != up.st_dev || root.st_ino != up.st_ino)
		err = ENOSYS;
	close(fd);
	return err;
}

/* The numbers are for ever (the kernel's admin-guide/devices.txt): consoles, /dev/tty, pseudo-terminals. */
static bool is_terminal(unsigned major)
{
	return major == 4 || major == 5 || (major >= 136 && major <= 143);
}

int os_look_at(int fd, struct os_look *out)
{
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_NLINK, &st) < 0)
		return -1;
	*out = (struct os_look){
		.type = st.stx_mode & S_IFMT,
		.device = makedev(st.stx_dev_major, st.stx_dev_minor),
		.links = st.stx_nlink,
		.is_terminal = (st.stx_mode & S_IFMT) == S_IFCHR && is_terminal(st.stx_rdev_major),
	};
	return 0;
}

/* linux/mman.h has the structs only since 6.5; the system call's number is the same everywhere. */
enum { SYS_CACHESTAT = 451 };

struct cachestat_range {
	uint64_t off, len;
};

struct cachestat {
	uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

enum os_heat os_presence(int fd, off_t offset, uint64_t n, uint64_t ahead)
{
	const uint64_t first = (uint64_t)offset / OS_PAGE_BYTES,
		       last = ((uint64_t)offset + n + ahead - 1) / OS_PAGE_BYTES;
	struct cachestat_range range = {.off = (uint64_t)offset, .len = n + ahead};
	struct cachestat found = {0};

	if (syscall(SYS_CACHESTAT, fd, &range, &found, 0U) < 0)
		return OS_HEAT_UNKNOWN;
	return found.cached < last - first + 1 ? OS_HEAT_COLD : OS_HEAT_HOT;
}

/*
 * Pages that are being read count as cached too, so the first and the last byte are also asked for without waiting, which
 * only those that are up to date answer. (That alone would start to read cold ones.)
 */
enum os_heat os_heat(int fd, off_t offset, uint64_t n, uint64_t ahead)
{
	const off_t last = offset + (off_t)n - 1;
	enum os_heat heat = os_presence(fd, offset, n, ahead);
	char byte;

	if (heat != OS_HEAT_HOT)
		return heat;
	if (os_read_cached(fd, &byte, 1, last) != 1)
		return OS_HEAT_COLD;
	if (last / OS_PAGE_BYTES > offset / OS_PAGE_BYTES && os_read_cached(fd, &byte, 1, offset) != 1)
		return OS_HEAT_COLD;
	return OS_HEAT_HOT;
}

ssize_t os_read_cached(int fd, void *buf, size_t n, off_t offset)
{
	struct iovec iov = {.iov_base = buf, .iov_len = n};

	return preadv2(fd, &iov, 1, offset, RWF_NOWAIT);
}

/*
 * posix_fadvise(2) has an error for just that, and a length that makes it refuse all else before it does anything. (statx(2)
 * takes three times as long, and F_GETPIPE_SZ waits for whoever has the pipe locked, in a splice(2) from a file that hangs,
 * for instance.)
 */
int os_is_pipe(int fd)
{
	return posix_fadvise(fd, 0, -1, POSIX_FADV_NORMAL) == ESPIPE;
}

bool os_linger_is_all(int protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP || protocol == IPPROTO_UDP;
}

/* Other files have no seals: fcntl(2). */
bool os_is_memory(int fd)
{
	return fcntl(fd, F_GET_SEALS) >= 0;
}

/*
 * open(2) sets O_LARGEFILE, which F_SETFL cannot change, and pipe(2) does not. (Its value is not in the C library's headers
 * where long has 64 bits, so all flags are taken out that a pipe can have otherwise.)
 */
bool os_pipe_has_name(int flags)
{
	return (flags & ~(O_ACCMODE | O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME | O_ASYNC)) != 0;
}

ssize_t os_sendfile(int dest, int file, off_t *offset, size_t n)
{
	return sendfile(dest, file, offset, n);
}

ssize_t os_splice_to_pipe(int pipe, int file, off_t *offset, size_t n)
{
	return splice(file, offset, pipe, NULL, n, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
}

ssize_t os_splice_from_pipe(int dest, int pipe, size_t n)
{
	return splice(pipe, NULL, dest, NULL, n, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
}

ssize_t os_splice_to_file(int file, off_t *offset, int pipe, size_t n)
{
	return splice(pipe, NULL, file, offset, n, SPLICE_F_MOVE);
}

/* Only the pipe is asked not to wait: splice(2) reads the file's pages as read(2) would. */
ssize_t os_fill_pipe(int pipe, int file, off_t *offset, size_t n)
{
	return splice(file, offset, pipe, NULL, n, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
}

/* One call begins no more than the device's own window, so that a long range takes several. */
void os_read_ahead(int file, off_t offset, size_t n)
{
	enum { STEP = 128 * 1024 };

	for (size_t done = 0; done < n; done += STEP)
		posix_fadvise(
			file, offset + (off_t)done, n - done < STEP ? (off_t)(n - done) : STEP, POSIX_FADV_WILLNEED);
}

void os_read_only_what_is_asked(int file)
{
	posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM);
}

int os_spare_atime(int file)
{
	const int flags = fcntl(file, F_GETFL);

	return flags < 0 ? -1 : fcntl(file, F_SETFL, flags | O_NOATIME);
}

/* The C library has no name for it yet. */
enum { READ_ONCE = 0x80 };

ssize_t os_read_once(int file, void *buf, size_t n, off_t offset)
{
	struct iovec iov = {.iov_base = buf, .iov_len = n};
	ssize_t got = preadv2(file, &iov, 1, offset, READ_ONCE);

	/* Neither old kernels nor all file systems know it. */
	return got < 0 && (errno == EOPNOTSUPP || errno == EINVAL) ? pread(file, buf, n, offset) : got;
}

/* ---- Pages that are to leave again */

static void set_pages(struct os_pages *p, uint32_t first, uint32_t count)
{
	for (uint32_t i = first; i < first + count; i++)
		p->there[i / 64] |= UINT64_C(1) << (i % 64);
}

/* Halves what is neither all there nor all missing. */
static void note_pages(int file, struct os_pages *p, uint32_t first, uint32_t count)
{
	struct cachestat_range range = {
		.off = (uint64_t)p->offset + (uint64_t)first * OS_PAGE_BYTES,
		.len = (uint64_t)count * OS_PAGE_BYTES,
	};
	struct cachestat found = {0};

	if (!p->known || syscall(SYS_CACHESTAT, file, &range, &found, 0U) < 0) {
		p->known = false;
	} else if (found.cached >= count) {
		set_pages(p, first, count);
	} else if (found.cached > 0) {
		note_pages(file, p, first, count / 2);
		note_pages(file, p, first + count / 2, count - count / 2);
	}
}

void os_note_pages(int file, off_t offset, size_t n, struct os_pages *out)
{
	const off_t first = offset / OS_PAGE_BYTES, last = (offset + (off_t)n - 1) / OS_PAGE_BYTES;

	*out = (struct os_pages){.offset = first * OS_PAGE_BYTES, .known = n > 0 && last - first < OS_PAGES_MAX};
	if (!out->known)
		return;
	out->count = (uint32_t)(last - first + 1);
	note_pages(file, out, 0, out->count);
}

static bool is_there(const struct os_pages *p, uint32_t i)
{
	return p->there[i / 64] >> (i % 64) & 1;
}

void os_drop_other_pages(int file, const struct os_pages *before)
{
	if (!before->known)
		return;
	for (uint32_t i = 0; i < before->count; i++) {
		const uint32_t first = i;

		while (i < before->count && !is_there(before, i))
			i++;
		if (i > first)
			posix_fadvise(file, before->offset + (off_t)first * OS_PAGE_BYTES,
				(off_t)(i - first) * OS_PAGE_BYTES, POSIX_FADV_DONTNEED);
	}
}

ssize_t os_copy_range(int dest, off_t *dest_offset, int file, off_t *offset, size_t n)
{
	return copy_file_range(file, offset, dest, dest_offset, n, 0);
}

int os_pipe(int ends[2], size_t size)
{
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return -1;
	/* EPERM: the user has so many pipes that no more of them may grow. Then it is as large as it is. */
	fcntl(ends[1], F_SETPIPE_SZ, (int)size);
	return 0;
}

uint64_t os_pipe_budget(void)
{
	uint64_t pages = 16384; /* the kernel's default */
	char text[32];
	int fd = open("/proc/sys/fs/pipe-user-pages-soft", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

	if (fd >= 0)
		close(fd);
	if (n > 0) {
		text[n] = '\0';
		pages = strtoull(text, NULL, 10);
	}
	return pages == 0 ? UINT64_MAX : pages * OS_PAGE_BYTES; /* 0: no limit */
}

/*
 * For a FIFO with a name, which refuses RWF_NOWAIT, and for kernels whose pipes do. write(2) would set the FIFO's times, which
 * can wait for a journal; splice(2) from another pipe does not (Linux 6.18). Up to PIPE_BUF bytes lie in one page there,
 * which moves whole.
 */
static ssize_t write_through_pipe(int pipe, const void *buf, size_t n)
{
	ssize_t moved;
	int own[2], err;

	if (pipe2(own, O_CLOEXEC | O_NONBLOCK) < 0)
		return -1;
	moved = write(own[1], buf, n);
	if (moved > 0)
		moved = splice(own[0], NULL, pipe, NULL, (size_t)moved, SPLICE_F_NONBLOCK);
	err = errno;
	close(own[0]);
	close(own[1]);
	errno = err;
	return moved;
}

ssize_t os_write_pipe(int pipe, const void *buf, size_t n)
{
	struct iovec iov = {.iov_base = (void *)buf, .iov_len = n};
	ssize_t written = pwritev2(pipe, &iov, 1, -1, RWF_NOWAIT);

	if (written < 0 && (errno == EOPNOTSUPP || errno == EINVAL))
		return write_through_pipe(pipe, buf, n);
	return written;
}
