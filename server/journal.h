/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a worker has in hand, in memory that the master shares: when a worker is killed no code of its own runs any more, and
 * the master tells the clients of queues which requests died with it.
 *
 * A datagram is received straight into the journal, credentials and all, so there is no moment at which it has left the
 * socket and stands nowhere. What of it does not end at once gets a line of its own. A line is struck out when the outcome
 * has been written to the queue's channel; a kill in between has the master report what was reported already, which
 * the library knows by the tag. There is no lock: each journal has one writer, and the master reads it when that is dead.
 */
#ifndef SFD_JOURNAL_H
#define SFD_JOURNAL_H

#include "lib/wire.h"
#include "server/access.h"

#define JOURNAL_NONE UINT32_MAX

/* Datagrams that may be in hand at a time: as many requests as one user may have waiting, 64 to each, and some of others. */
enum { JOURNAL_SLOTS = 144 };

struct journal; /* one worker's */

/* For `workers` of them, shared by forked children; NULL and errno. Each has that many lines, which take memory once used. */
struct journal *journals_new(unsigned workers, uint32_t lines);
struct journal *journal_of(struct journal *all, unsigned slot);

/* ---- The worker's side */

struct journal_pen {
	struct journal *journal;
	unsigned slot;    /* of the datagram in hand, */
	unsigned kept;    /* and how many are in memory for sure */
	uint32_t *struck; /* lines that nothing stands in any more, */
	uint32_t struck_count;
	uint32_t fresh; /* and the first of those in which nothing has stood yet */
};

/* Takes over the journal of a slot that is empty, and keeps its buffers in memory. 0, or -1 and ENOMEM. */
int journal_open(struct journal_pen *pen, struct journal *journal);

/* Which of JOURNAL_SLOTS datagrams the next calls mean; at first the one with the number 0. Low numbers cost less memory. */
void journal_use_slot(struct journal_pen *pen, unsigned slot);

/* Where it is to be received: bytes (WIRE_DATAGRAM_MAX), and control messages (FDPASS_CONTROL_MAX). */
void *journal_datagram(const struct journal_pen *pen);
void *journal_control(const struct journal_pen *pen);
/*
 * It had `len` bytes, and has been dealt with. To be called before another is received there, which may say that it is longer
 * than it is.
 */
void journal_forget_datagram(struct journal_pen *pen, size_t len);

/* Notes a request of a queue, by its tag, or a send-open for another worker's transfer, by that one's id. The line, or NONE. */
uint32_t journal_note_request(struct journal_pen *pen, uint64_t queue, uint64_t tag);
uint32_t journal_note_second(struct journal_pen *pen, uint64_t txnid);
void journal_strike(struct journal_pen *pen, uint32_t line); /* NONE is passed over */
uint32_t journal_left(const struct journal_pen *pen);        /* how many lines there are to be had */

/* What is being worked on from now on: request `i` of the datagram; that line, or something that has none (NONE); nothing. */
void journal_turn_request(struct journal_pen *pen, unsigned i);
void journal_turn(struct journal_pen *pen, uint32_t line);
void journal_rest(struct journal_pen *pen);

/* ---- The master's side, when the worker runs no more */

struct journal_reader {
	/* A queue's request. `who` sent it; NULL if that stands in the queue's registration (a line does not say). */
	void (*request)(void *arg, uint64_t queue, uint64_t tag, const struct owner *who);
	/* A send-open that may not have reached the transfer of that id. */
	void (*second)(void *arg, uint64_t txnid);
	/* A queue's cancel that may not have reached everybody. */
	void (*cancel)(void *arg, uint64_t queue, uint64_t tag, const struct owner *who);
	void *arg;
};

/*
 * Reads all that stands there; but not what is being worked on unless `current` too, since the kernel may still be busy with
 * it on behalf of a worker that was killed and is not gone.
 */
void journal_read(const struct journal *j, bool current, const struct journal_reader *reader);

/* For the next worker. */
void journal_clear(struct journal *j);

/* Changes whenever something else is worked on; 0: the worker sleeps. For the master to see one that is stuck. */
uint64_t journal_position(const struct journal *j);

#endif
