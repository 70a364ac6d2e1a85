/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Datagrams that a worker has received and has not done with. Each is received into a slot of the journal, so that what is in it is
 * told if the worker dies, and may be moved out of it: slots are few, and if those who send much had them all, nothing
 * would be received of others.
 */
#ifndef SFD_DELIVERY_H
#define SFD_DELIVERY_H

#include "server/fdpass.h"
#include "server/journal.h"
#include "server/turns.h"

struct channel;

/* A datagram that was received, until all of its requests have been begun. */
struct delivery {
	struct turn turn;
	struct fdpass m;
	struct wire_header h;
	struct wire_cursor cursor; /* the requests that are left */
	unsigned next_fd;
	int err;           /* what all of its requests are told; 0: they are done */
	bool is_too_much;  /* its user's share does not allow of more beginnings */
	bool is_begun;     /* `c` and `cursor` are set */
	struct channel *c; /* where they report; NULL: nowhere. One reference */
	unsigned place;    /* of its user's share, in which what is left of `turn` counts */
	const void *moved; /* its bytes, if they are no longer in a slot, */
	uint32_t *line;    /* and so many lines of the journal that stand for it */
	unsigned lines;
};

struct deliveries {
	struct journal_pen *pen;
	struct delivery *all;         /* JOURNAL_SLOTS of them, each in the slot of its number */
	unsigned free[JOURNAL_SLOTS]; /* their numbers; the first `used` places mean nothing */
	unsigned used;                /* slots */
	unsigned waiting, fds;        /* datagrams, and descriptors in them */
	size_t moved_bytes;           /* what was moved takes so much memory */
	unsigned transfers;           /* so many descriptors there are, and lines that are not for this */
};

/* `transfers`: how many this worker may have under way, each with a descriptor and a line of the journal. 0, or -1 and ENOMEM. */
int deliveries_init(struct deliveries *all, struct journal_pen *pen, unsigned transfers);

/* Receives one; never waits. NULL if there is none, or no slot. */
struct delivery *delivery_receive(struct deliveries *all, int sock);

/* The next calls, and the journal's, are about this one. */
void delivery_take_in_hand(struct deliveries *all, const struct delivery *d);
const void *delivery_bytes(const struct deliveries *all, const struct delivery *d);

/* Request `i` is being worked on. */
void delivery_at_request(struct deliveries *all, const struct delivery *d, unsigned i);

/*
 * Moves one that is in hand, is in nobody's line yet and has not been begun, out of its slot. `is_of_queue`: its requests report to
 * a queue, which its sender has. Returns where it is now: where it was if it cannot be moved.
 */
struct delivery *delivery_move(struct deliveries *all, struct delivery *d, bool is_of_queue);

/* All has been begun and told, and nothing of it is owned any more. */
void delivery_forget(struct deliveries *all, struct delivery *d);

/* Few slots are left, or descriptors. */
static inline bool deliveries_are_many(const struct deliveries *all)
{
	return all->used > JOURNAL_SLOTS * 3 / 4 || all->fds > all->transfers / 4 * 3;
}

#endif
