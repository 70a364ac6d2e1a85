/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Whose turn it is, where much waits of some users and little of others: users take turns, and what waits of one user stays in
 * order. Memory is the caller's: each thing that waits has a struct turn in it.
 */
#ifndef SFD_TURNS_H
#define SFD_TURNS_H

#include "server/list.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { TURNS_LATELY_NS = 100 * 1000 * 1000 };

struct turn {
	struct list line;  /* a ring of all that waits of this user; */
	struct list round; /* the first of them is in turns.round */
	uid_t uid;
};

struct turns {
	struct list round;  /* one of each user, the next one first */
	uid_t last;         /* who came last */
	uint64_t shared_ns; /* when somebody else came than the time before; 0: never */
};

void turns_init(struct turns *t);

static inline void turn_init(struct turn *turn)
{
	list_init(&turn->line);
	list_init(&turn->round);
}

/* Puts it behind all that waits of that user. `now_ns`: CLOCK_MONOTONIC. */
void turns_add(struct turns *t, struct turn *turn, uid_t uid, uint64_t now_ns);

/* The first that waits of the user whose turn it is, who is the last in the next round. It goes on waiting. NULL: nothing does. */
struct turn *turns_next(struct turns *t);

/* It waits no more: what waits behind it takes its place. */
void turns_done(struct turn *turn);

/* Whether more than one user has come lately. */
bool turns_are_shared(const struct turns *t, uint64_t now_ns);

#endif
