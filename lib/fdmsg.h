/* SPDX-License-Identifier: BSD-2-Clause */
/* One datagram with descriptors, out of the client. */
#ifndef SFD_LIB_FDMSG_H
#define SFD_LIB_FDMSG_H

#include <stddef.h>
#include <sys/uio.h>

enum { FDMSG_MAX = 253 }; /* SCM_MAX_FD, unix(7) */

/*
 * Sends `len` bytes and `nfds` descriptors (at most FDMSG_MAX) as one datagram. Never blocks, never raises SIGPIPE.
 * 0, or -1 and errno; the descriptors stay the caller's either way.
 */
int fdmsg_send(int sock, const void *buf, size_t len, const int *fds, unsigned nfds);

/* The same for bytes in several pieces. */
int fdmsg_send_pieces(int sock, struct iovec *iov, unsigned pieces, const int *fds, unsigned nfds);

#endif
