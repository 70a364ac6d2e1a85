/* SPDX-License-Identifier: BSD-2-Clause */
/* Opening, looking at and moving files, where systems differ. */
#ifndef SFD_OS_FILES_H
#define SFD_OS_FILES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Of what is in memory, read ahead, and lent to pipes. (Where pages are larger, some questions are asked more often.) */
enum { OS_PAGE_BYTES = 4096 };

/* A directory that paths never leave. */
struct os_dir {
	int fd;
	bool no_symlinks;     /* a path that meets a symbolic link is refused, ELOOP, */
	bool one_file_system; /* and one that meets a mount point, EXDEV */
};

/*
 * Opens a file for reading below the directory: absolute paths, "..", and symbolic links stay inside, magic links
 * (/proc/PID/fd) are refused, a FIFO does not block. A descriptor, or -1 and errno.
 * Linux: openat2(2), since 5.6.
 */
int os_open_beneath(const struct os_dir *dir, const char *path);

/*
 * The same for what is in memory and on the root's own file system: it never waits for a disk or a file system's server.
 * -1 and errno: EAGAIN (not in memory, or a symbolic link or lease that needs a wait), EXDEV (beyond a mount point),
 * EINVAL (the system cannot do this at all), or what os_open_beneath() would say.
 * Linux: RESOLVE_CACHED, since 5.12.
 */
int os_open_cached(const struct os_dir *dir, const char *path);

/*
 * The device (st_dev) on which a path below the root ends, as far as that is in memory: that of its deepest directory that
 * is. Never waits. 0 if nothing is known.
 */
uint64_t os_device_beneath(const struct os_dir *dir, const char *path);

/* The type (S_IFMT) of what a path below the root names, or 0. Waits as os_open_beneath() does, unless `cached`. */
mode_t os_type_beneath(const struct os_dir *dir, const char *path, bool cached);

/*
 * Whether a path below the root leads across a mount point. Waits as os_open_beneath() does. (os_open_cached() does not tell:
 * it says EAGAIN before it comes to that.)
 */
bool os_is_beyond_mount(const struct os_dir *dir, const char *path);

/* 0 if os_open_beneath() works here and confines; else errno (Linux: ENOSYS, or EPERM from a seccomp filter). */
int os_probe_open_beneath(const struct os_dir *dir);

/* What is known of any descriptor without asking a file system's server: it cannot hang. */
struct os_look {
	mode_t type; /* S_IFMT bits */
	uint64_t device;
	uint32_t links;
	bool is_terminal; /* a character device of a terminal's kind */
};

/* 0, or -1 and errno. */
int os_look_at(int fd, struct os_look *out);

/*
 * Whether all bytes of a range are in memory, and so many behind it that moving it does not start to read those: then it
 * waits for no disk. It may be wrong by what the system
 * reclaims, or reads in, at the same moment. OS_HEAT_UNKNOWN: this process may not be told (Linux: cachestat(2), since 6.5,
 * refuses those who neither own the file nor may write it), or the system cannot say.
 */
enum os_heat { OS_HEAT_HOT, OS_HEAT_COLD, OS_HEAT_UNKNOWN };
enum os_heat os_heat(int fd, off_t offset, uint64_t n, uint64_t ahead);

/* The same, but what is just being read in counts too: for a caller whose own read does not wait for it. */
enum os_heat os_presence(int fd, off_t offset, uint64_t n, uint64_t ahead);

/* pread(2) of what is in memory: -1 and EAGAIN if the first byte is not. Linux: RWF_NOWAIT. */
ssize_t os_read_cached(int fd, void *buf, size_t n, off_t offset);

/* Whether the descriptor is a pipe or FIFO. Cannot hang. */
int os_is_pipe(int fd);

/*
 * Whether SO_LINGER says all that there is to say of how a close of this protocol (SO_PROTOCOL) waits. Linux: an SMC socket's
 * waits two seconds for what was not sent, whatever the option (net/smc), and of others little is known.
 */
bool os_linger_is_all(int protocol);

/* Whether the file is shared memory, memfd_create(2) or tmpfs, which waits for no disk and in no close(2). Cannot hang. */
bool os_is_memory(int fd);

/*
 * Whether a pipe with these flags (F_GETFL) was opened by a name, so that using and closing it may have to write to a file
 * system. Linux: one that was opened by a process of 32 bits without O_LARGEFILE passes for one of pipe(2).
 */
bool os_pipe_has_name(int flags);

/*
 * Move up to `n` bytes from the file at `*offset`, which advances; the file's own position is not used. Return the
 * bytes moved, 0 at the end of the file, -1 and errno. os_splice_to_pipe() never waits for room in the pipe, whatever
 * its flags; os_sendfile() waits if the destination is a blocking one (tick.h bounds that).
 */
ssize_t os_sendfile(int dest, int file, off_t *offset, size_t n);
ssize_t os_splice_to_pipe(int pipe, int file, off_t *offset, size_t n);

/*
 * Move up to `n` bytes out of a pipe: to another pipe, without waiting, or to a socket, which may be waited for if it is a
 * blocking one (tick.h bounds that); or, waiting for the disk, to a file at `*offset`, which advances.
 */
ssize_t os_splice_from_pipe(int dest, int pipe, size_t n);
ssize_t os_splice_to_file(int file, off_t *offset, int pipe, size_t n);

/* Like os_splice_to_pipe(), for who means to wait for the disk; not for room in the pipe: EAGAIN. */
ssize_t os_fill_pipe(int pipe, int file, off_t *offset, size_t n);

/*
 * What of a range is in memory, page by page, as far as this process may be told; and later, let all others of those pages go:
 * those that were read in meanwhile. (Nobody who reads the same file at the same moment is told apart.) Linux: cachestat(2);
 * where nothing is told, nothing is let go.
 */
enum { OS_PAGES_MAX = 1024 };
struct os_pages {
	off_t offset; /* of the first page */
	uint32_t count;
	bool known;
	uint64_t there[OS_PAGES_MAX / 64];
};
void os_note_pages(int file, off_t offset, size_t n, struct os_pages *out);
void os_drop_other_pages(int file, const struct os_pages *before);

/*
 * pread(2) that lets go of what it has read in, where the file system can. Linux: RWF_DONTCACHE, since 6.14; pages that were
 * in memory before stay.
 */
ssize_t os_read_once(int file, void *buf, size_t n, off_t offset);

/* The system reads no more into memory than is asked for, through whatever descriptor of the same open(2). */
void os_read_only_what_is_asked(int file);

/* Reading writes no access time from now on. 0, or -1 and errno: EPERM, that is for the file's owner to say. */
int os_spare_atime(int file);

/* Has the system begin to read a range into memory. May wait for other requests of the disk, not for this one. */
void os_read_ahead(int file, off_t offset, size_t n);

/* Copies within the system, sharing blocks where the file system can; both offsets advance. Waits for the disk. */
ssize_t os_copy_range(int dest, off_t *dest_offset, int file, off_t *offset, size_t n);

/* A close-on-exec, non-blocking pipe with room for `size` bytes, or for less if the system grants less. -1 and errno. */
int os_pipe(int ends[2], size_t size);

/* How many bytes a user's pipes may have room for before the system grants small ones only. */
uint64_t os_pipe_budget(void);

/*
 * write(2) to a pipe or FIFO that does not wait, whatever its flags: EAGAIN. Up to PIPE_BUF bytes go whole or not at all.
 * Nor does it wait for the disk that a FIFO's name is on, whose times write(2) would note there.
 */
ssize_t os_write_pipe(int pipe, const void *buf, size_t n);

#endif
