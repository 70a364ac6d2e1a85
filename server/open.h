/* SPDX-License-Identifier: BSD-2-Clause */
/* Opening a file below the root, and what is known of it afterwards. */
#ifndef SFD_OPEN_H
#define SFD_OPEN_H

#include "server/os/files.h"

#include <sendfiled/sendfiled.h>

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

/* An open file and the range of it that a request asks for. */
struct opened {
	int fd; /* the caller's to close */
	struct stat st;
	int64_t offset; /* open_range() */
	uint64_t size;  /* of the range, cut at the end of the file */
};

/*
 * Opens a path, checked by request_check(), below `dir`. Regular files only: anything else is EINVAL, and a FIFO does
 * not block. 0, or the errno that is the client's answer; then nothing is open. Waits for a disk or a server, unless only
 * what is `cached` is asked for: see os_open_cached(); errors that a wait might change are then EAGAIN and EXDEV.
 */
int open_file(struct opened *out, const struct os_dir *dir, const char *path, bool cached);

/* Cuts a range at the end of the file. */
void open_range(struct opened *file, int64_t offset, uint64_t length);

/* Fills in what a client is told about the file and the range; the rest is zeroed. Pure. */
void open_describe(const struct opened *file, struct sfd_file_info *info);

#endif
