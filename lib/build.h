/* SPDX-License-Identifier: BSD-2-Clause */
/* Building requests: everything that can be said to be wrong without asking the daemon. */
#ifndef SFD_LIB_BUILD_H
#define SFD_LIB_BUILD_H

#include "wire.h"

#include <sys/uio.h>

enum { BUILD_IOVECS_MAX = 64 }; /* of headers, and of trailers */

/* A request in the making. Nothing in it is owned, and nothing copied. */
struct build {
	struct wire_request wire; /* of headers and trailers only the lengths: the bytes are in */
	const struct iovec *headers, *trailers;
	unsigned header_count, trailer_count;
	unsigned timeout_ms;           /* 0: none; wire.deadline_ns is to be set when it is sent */
	int fds[WIRE_REQUEST_FDS_MAX]; /* wire_op_fds() of them */
};

/* Sets the range. 0, or EINVAL. */
int build_range(struct build *b, off_t offset, size_t len);

/* Sets path and range. 0, or the errno for the caller: EINVAL, ENOENT, ENAMETOOLONG. */
int build_path(struct build *b, const char *path, off_t offset, size_t len);

/*
 * Sets what `opts` (may be NULL) asks of b->wire.op, whose path is set. 0, or the errno for the caller: EINVAL (unknown or
 * contradictory, or not for this operation), EMSGSIZE (path, headers and trailers are longer than WIRE_TEXT_MAX).
 */
int build_options(struct build *b, const struct sfd_opts *opts);

/* The point in time (CLOCK_MONOTONIC) that is `timeout_ms` from now; 0 for 0. */
uint64_t build_deadline_ns(unsigned timeout_ms);

/* The request's bytes, in order: how many pieces. `fixed` has room for WIRE_FIXED_MAX bytes. */
enum { BUILD_PIECES_MAX = 3 + 2 * BUILD_IOVECS_MAX };
unsigned build_pieces(const struct build *b, void *fixed, struct iovec iov[BUILD_PIECES_MAX]);

#endif
