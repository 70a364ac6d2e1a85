/* SPDX-License-Identifier: BSD-2-Clause */
/* What helpers do that write to what cannot be polled: files, and devices that are no terminals. */
#ifndef SFD_WRITER_H
#define SFD_WRITER_H

#include "server/helper.h"

/*
 * Tells the destination's position, copies a file's range to it, or a pipe's bytes. A file is written at the position that
 * the job names, so that doing a job again duplicates nothing, and its own position is then set to the end of what was
 * written; unless it appends, or has no position.
 */
void writer_write(struct work *w);

#endif
