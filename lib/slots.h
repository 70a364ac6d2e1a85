/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The outstanding requests of a queue, by number, by user_data and by transaction id. Memory only; no system call.
 *
 * What goes over the wire as a tag is a slot's number and its generation, which changes whenever the slot is given back.
 * So an outcome that comes a second time, as it may when a worker is killed between telling it and noting that it did, names
 * nothing any more, whatever user_data the application uses again.
 */
#ifndef SFD_LIB_SLOTS_H
#define SFD_LIB_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SLOT_NONE UINT32_MAX

enum slot_state {
	SLOT_FREE,
	SLOT_STAGED, /* its request has not been sent */
	SLOT_SENT,   /* the daemon answers for it */
	SLOT_OVER    /* ended by the library itself: the event has yet to be reaped */
};

struct slot {
	uint64_t user_data;
	uint64_t txnid; /* of an open that waits for its send-open; else 0 */
	uint32_t generation;
	uint32_t next;                       /* free: the next free one; over: the next one whose event waits */
	uint32_t next_in_data, prev_in_data; /* in the chain of those whose user_data hash alike */
	uint32_t next_in_txn;                /* and of those whose txnid does */
	uint32_t next_cancel, prev_cancel;   /* of those whose cancel could not be sent yet */
	uint32_t staged;                     /* where its request, or its send-open, is staged */
	int32_t stat;                        /* over: how */
	uint8_t state;
	bool is_open;       /* it is an open, not a send */
	bool second_staged; /* its send-open has not been sent */
	bool cancel_waits;
};

struct slots {
	struct slot *all;
	uint32_t *by_data, *by_txn;
	uint32_t depth;
	unsigned shift; /* of a hash, for as many chains as there are */
	uint32_t free;
	uint32_t used;
	uint32_t over_first, over_last;
};

/* How many bytes slots_init() needs; `depth` is at least 1. */
size_t slots_bytes(uint32_t depth);
void slots_init(struct slots *s, uint32_t depth, void *memory);

/* A free one, now staged; SLOT_NONE: all are in use. */
uint32_t slots_take(struct slots *s, uint64_t user_data);
void slots_give_back(struct slots *s, uint32_t i);

/* What the wire says, and the slot that it means: SLOT_NONE if that has another generation by now. */
uint64_t slots_tag(const struct slots *s, uint32_t i);
uint32_t slots_find_tag(const struct slots *s, uint64_t tag);

/* The first slot in use with that user_data, or the next one after `i`; SLOT_NONE. */
uint32_t slots_find_data(const struct slots *s, uint64_t user_data);
uint32_t slots_next_data(const struct slots *s, uint32_t i);

/* An open waits for its send-open (`txnid` is not 0), or does so no more. */
void slots_open(struct slots *s, uint32_t i, uint64_t txnid);
void slots_unopen(struct slots *s, uint32_t i);
uint32_t slots_find_txn(const struct slots *s, uint64_t txnid);

/* Ends one by the library's own word. */
void slots_end(struct slots *s, uint32_t i, int stat);
/* Takes the first of those out of their line, still to be given back; SLOT_NONE. */
uint32_t slots_next_over(struct slots *s);

#endif
