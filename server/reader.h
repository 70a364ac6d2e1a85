/* SPDX-License-Identifier: BSD-2-Clause */
/* What helpers do that open and read files. */
#ifndef SFD_READER_H
#define SFD_READER_H

#include "server/helper.h"

/*
 * Opens a file below the root and looks at it. The answer has the descriptor, or, unless it is on the root's own local
 * file system, a socket that holds it. ENOENT and the like; EINVAL for anything but a regular file; EAGAIN: it is leased.
 */
void reader_open(struct work *w);

/*
 * Moves a range of the file into the pipe: as much as there is room for, and as there is before the end; with JOB_NOWAIT, as
 * there is in memory (else EBUSY).
 */
void reader_read(struct work *w);

/* What there is to know of a file. It may be nobody's but the client's. */
void reader_look(struct work *w);

#endif
