/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How fast bytes may move: those of one transfer, and those of all transfers of a user together. They are granted in
 * portions of some milliseconds' worth, evenly, so that no second sees more than 5 % above the rate.
 */
#ifndef SFD_PACE_H
#define SFD_PACE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What the operator grants to each user, in memory that all workers share. */
struct user_paces;

/* `rate`: bytes per second for each user. NULL and errno. */
struct user_paces *user_paces_new(uint64_t rate);

struct pace {
	uint64_t rate;            /* bytes per second; 0: no limit of its own */
	uint64_t done_ns;         /* when all that was moved should have been moved */
	struct user_paces *users; /* NULL: no limit for users */
	uid_t uid;
	uint64_t granted;    /* bytes of the user's that are this one's next, */
	uint64_t granted_ns; /* from then on */
	uint64_t next_ns;    /* see pace_allows() */
};

void pace_init(struct pace *p, uint64_t rate, struct user_paces *users, uid_t uid, uint64_t now_ns);

/* Whether there is a limit at all. */
static inline bool pace_limits(const struct pace *p)
{
	return p->rate > 0 || p->users;
}

/* How many of the `left` bytes that there still are may be moved now. 0: none before p->next_ns. */
uint64_t pace_allows(struct pace *p, uint64_t left, uint64_t now_ns);

/* The strictest of its limits, in bytes per second. */
uint64_t pace_rate(const struct pace *p);

/* What it moves at a time, if nothing keeps it. */
uint64_t pace_portion(const struct pace *p);

/* So many were moved. */
void pace_moved(struct pace *p, uint64_t n);

#endif
