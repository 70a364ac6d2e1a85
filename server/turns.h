/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Whose turn it is, where much waits of some users and little of others: users take turns, and what waits of one user stays in
 * order. And how long they rest: beside users who ask for little, one who asks for much gets his part of the time and no more,
 * even if nobody takes the rest. His own processes would be so busy with what he gets that others waited for a processor.
 *
 * Memory is the caller's: each thing that waits has a struct turn in it. Times are CLOCK_MONOTONIC, in nanoseconds.
 */
#ifndef SFD_TURNS_H
#define SFD_TURNS_H

#include "server/list.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	TURNS_LATELY_NS = 100 * 1000 * 1000,
	TURNS_COMPANY_NS = 10 * 1000 * 1000, /* for so long after somebody modest was there others rest */
	TURNS_REST_NS = 50 * 1000,           /* how long at a time */
	TURNS_DEBT_NS = 1000 * 1000,         /* and at most */
	TURNS_MODEST = 8,                    /* who has no more requests waiting than that asks for little */
	TURNS_USERS = 32,                    /* told apart; the last place is of all others */
};

struct turn {
	struct list line;  /* a ring of all that waits of this user; */
	struct list round; /* the first of them is in turns.round */
	uid_t uid;
	unsigned user, left; /* his place, and how many requests this has */
};

struct turns_user {
	uid_t uid;
	unsigned waiting;   /* requests, */
	unsigned had;       /* and how many when his turn came */
	uint64_t came_ns;   /* last; 0: the place is free */
	uint64_t greedy_ns; /* when he last asked for much, */
	uint64_t modest_ns; /* and for little, not having asked for much lately */
	uint64_t alone_ns;  /* until then he is left alone */
	uint64_t paid_ns;   /* by then what he has had is paid for, */
	bool rests;         /* and until then he rests */
};

struct turns {
	struct list round;  /* one of each user, the next one first */
	uid_t last;         /* who came last */
	uint64_t shared_ns; /* when somebody else came than the time before; 0: never */
	struct turns_user users[TURNS_USERS];
};

void turns_init(struct turns *t);

static inline void turn_init(struct turn *turn)
{
	list_init(&turn->line);
	list_init(&turn->round);
	turn->user = turn->left = 0;
}

/* Puts it, with so many requests, behind all that waits of that user. */
void turns_add(struct turns *t, struct turn *turn, uid_t uid, unsigned requests, uint64_t now_ns);

/*
 * The first that waits of the user whose turn it is, who is the last in the next round. It goes on waiting. NULL: nothing
 * does, or all whose it is are left alone or, if `may_rest`, at rest.
 */
struct turn *turns_next(struct turns *t, uint64_t now_ns, bool may_rest);

/* How long until somebody of whom something waits may go on; 0: there is nobody, or now. */
uint64_t turns_rest_ns(const struct turns *t, uint64_t now_ns, bool may_rest);

/* Until then nothing of that user is begun, if he has a place of his own. */
void turns_leave_alone(struct turns *t, uid_t uid, uint64_t until_ns);

/* It has `left` requests now. */
void turns_did(struct turns *t, struct turn *turn, unsigned left);

/*
 * So long was spent on what a user asked for, whose place that is. `price`: what that costs him and the system besides, as a
 * multiple of it.
 */
void turns_charge(struct turns *t, unsigned user, uint64_t took_ns, unsigned price, uint64_t now_ns);

/* It waits no more: what waits behind it takes its place. */
void turns_done(struct turns *t, struct turn *turn);

/* Whether more than one user has come lately. */
bool turns_are_shared(const struct turns *t, uint64_t now_ns);

#endif
