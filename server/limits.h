/* SPDX-License-Identifier: BSD-2-Clause */
/* How many transfers the system's limit on open files leaves room for. */
#ifndef SFD_LIMITS_H
#define SFD_LIMITS_H

#include <stdint.h>

enum {
	FDS_PER_TRANSFER = 3, /* file, destination, status channel */
	FDS_RESERVED = 400,   /* a datagram's 253, the mailboxes, letters kept, and a few of a process's own */
};

/* The transfers that `limit` descriptors are enough for; any worker may come to hold them all. Pure. */
unsigned limits_transfers(uint64_t limit);

/*
 * Raises RLIMIT_NOFILE to what `wanted` transfers need. Returns how many it allows: `wanted`, or fewer with a warning in
 * the log, or 0 with an error there.
 */
unsigned limits_apply(unsigned wanted);

#endif
