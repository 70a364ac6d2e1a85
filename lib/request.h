/* SPDX-License-Identifier: BSD-2-Clause */
/* The one-request calls' common part. */
#ifndef SFD_LIB_REQUEST_H
#define SFD_LIB_REQUEST_H

#include "build.h"

/*
 * Sends a request whose outcome comes on a new pipe: the pipe's read end, the caller's to close, or -1 and errno; then the
 * daemon has not seen it. The descriptors in `b` stay the caller's.
 */
int request_with_pipe(int srv, struct build *b, bool nonblock);

#endif
