/* SPDX-License-Identifier: BSD-2-Clause */
/* Opening, looking at and moving files, where systems differ. */
#ifndef SFD_OS_FILES_H
#define SFD_OS_FILES_H

#include <sys/types.h>

/*
 * Opens a file for reading below the directory `root_fd`: absolute paths, "..", and symbolic links stay inside, magic
 * links (/proc/PID/fd) are refused, a FIFO does not block. A descriptor, or -1 and errno.
 * Linux: openat2(2), since 5.6.
 */
int os_open_beneath(int root_fd, const char *path);

/* 0 if os_open_beneath() works here and confines; else errno (Linux: ENOSYS, or EPERM from a seccomp filter). */
int os_probe_open_beneath(int root_fd);

/* The file type bits (S_IFMT) of any descriptor, without asking a file system's server: it cannot hang. -1 and errno. */
int os_file_type(int fd);

/* Whether the descriptor is a pipe or FIFO. Cannot hang. */
int os_is_pipe(int fd);

/*
 * Move up to `n` bytes from the file at `*offset`, which advances; the file's own position is not used. Return the
 * bytes moved, 0 at the end of the file, -1 and errno. os_splice_to_pipe() never waits for room in the pipe, whatever
 * its flags; os_sendfile() waits if the destination is a blocking one (tick.h bounds that).
 */
ssize_t os_sendfile(int dest, int file, off_t *offset, size_t n);
ssize_t os_splice_to_pipe(int pipe, int file, off_t *offset, size_t n);

/* write(2) to a pipe that does not wait, whatever the pipe's flags: EAGAIN. Up to PIPE_BUF bytes go whole or not at all. */
ssize_t os_write_pipe(int pipe, const void *buf, size_t n);

#endif
