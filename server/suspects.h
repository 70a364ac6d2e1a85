/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Users on whose account another worker seems to hang in the kernel, in a pipe or socket whose lock its owner holds for as long
 * as he likes. That no second one hangs in such a thing of his is touch.h's; but whatever else he sends may hang as well, so the
 * workers that are left leave it alone until the other one has come back, or is replaced. That is for the others' sake. Where
 * there are none what a user sends is not left alone, since it may be the disk that the other worker waits for, whatever it was
 * told of that; nor is what they send who have no limits.
 */
#ifndef SFD_SUSPECTS_H
#define SFD_SUSPECTS_H

#include "server/shares.h"
#include "server/stats.h"

#include <stdbool.h>

enum {
	SUSPECTS_MAX = 8,
	SUSPECTS_LOOK_MS = 10, /* how often to look */
	SUSPECTS_LOOK_NS = SUSPECTS_LOOK_MS * 1000 * 1000,
};

struct suspects {
	uid_t uids[SUSPECTS_MAX];
	unsigned count;
	uint64_t looked_ns;
};

/* All workers' columns, and which is the caller's. */
struct suspects_view {
	struct stats *columns;
	unsigned count, own;
	struct shares *shares;
};

/* Looks at the other workers' columns, if it is time to. True if it did. `now_ns`: CLOCK_MONOTONIC. */
bool suspects_look(struct suspects *s, const struct suspects_view *view, uint64_t now_ns);

static inline bool suspects_have(const struct suspects *s, uid_t uid)
{
	for (unsigned i = 0; i < s->count; i++) {
		if (s->uids[i] == uid)
			return true;
	}
	return false;
}

#endif
