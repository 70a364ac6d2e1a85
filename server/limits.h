/* SPDX-License-Identifier: BSD-2-Clause */
/* How many transfers the system's limit on open files leaves room for. */
#ifndef SFD_LIMITS_H
#define SFD_LIMITS_H

#include <stdint.h>

enum {
	FDS_PER_TRANSFER = 3, /* file, destination, status channel */
	FDS_RESERVED = 480,   /* a datagram's 253, 64 mailboxes, 64 refusals, and some of a process's own */
	BATCH_RESERVED =
		64, /* a worker that has room for fewer receives nothing: a datagram may hold so many requests */
};

/*
 * The most that a worker can have at a time with `limit` descriptors, of which `others` are for something else beside
 * FDS_RESERVED. Pure.
 */
unsigned limits_worker_transfers(uint64_t limit, unsigned others);

/* How many descriptors a worker needs for helpers: their boxes, and pipes for cold bytes. */
unsigned limits_helper_fds(unsigned workers, unsigned readers);

/* How many queues there may be where so many files may be open; each costs a descriptor in every process. Pure. */
unsigned limits_queues(uint64_t limit);

/* How many files may be open, if the limit is raised as far as it goes. */
uint64_t limits_hard(void);

/* How many transfers that leaves room for: `wanted`, or what `workers` such workers can have together. Pure. */
unsigned limits_transfers(unsigned wanted, unsigned worker_transfers, unsigned workers);

/*
 * Raises RLIMIT_NOFILE to what `wanted` transfers need, so that any one worker could hold them all. Sets how many each can
 * hold, and returns how many there may be: `wanted`, or fewer with a warning in the log, or 0 with an error there.
 */
unsigned limits_apply(unsigned wanted, unsigned workers, unsigned others, unsigned *worker_transfers);

#endif
