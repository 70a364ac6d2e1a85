/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Transfers: each a small struct in one state, moved on a quantum at a time.
 *
 *   begin --+--> OPENING (a helper opens what the worker must not wait for)
 *           |       |
 *           +-------+--> OPENED ----send_open----+
 *           |       |                            v
 *           +-------+----------------------> RUNNABLE <----> BLOCKED (no room at the destination)
 *                                             |    ^
 *                                             |    +-------> WAITING (for a helper that reads or writes)
 *                                             |    +-------> PACED (until its rate allows more)
 *                                             |
 *                                  (over) ----+--> ENDING (until a helper has stopped writing)
 *                                             |
 *                                             +--> HELD (its last frame waits until the worker that passed the
 *                                             |          destination on has closed its copy)
 *                                             v
 *                                           freed
 *
 * Most small transfers begin and are over in one call. A transfer ends in one place, transfer_finish(), from any state.
 */
#ifndef SFD_TRANSFER_H
#define SFD_TRANSFER_H

#include "lib/wire.h"
#include "server/access.h"
#include "server/channel.h"
#include "server/engine.h"
#include "server/queue.h"

/* Another worker that passed a destination on, and by which of its messages. */
struct hold {
	unsigned slot, generation;
	uint64_t seq;
};

/*
 * Starts a send, read or open that passed request_check() (of a datagram of any number of requests), and tries to finish
 * it at once. Reports on `c`, also every refusal. `fds` are the request's descriptors (wire_op_fds()), which are taken over;
 * `process` is that of its sender (os_get_process()), which is not.
 */
void transfer_begin(struct engine *e, const struct wire_request *r, const struct owner *who, int process,
	struct channel *c, int *fds);

/*
 * The second message: sends what is open under r->txnid. Takes over `*dest` if there is such an open of that owner;
 * otherwise nothing happens. `hold` is NULL unless another worker passed the message on.
 */
void transfer_send_open(
	struct engine *e, const struct wire_request *r, const struct owner *who, int *dest, const struct hold *hold);

/* Ends that owner's transfer with ECANCELED; nothing happens if there is none. */
void transfer_cancel(struct engine *e, uint64_t id, const struct owner *who);

/* The same for a queue's, by its tag: false if none of that tag is here. */
bool transfer_cancel_tag(const struct queue *q, uint64_t tag);

/* A send-open for that id was lost with the worker that had received it: an open that still waits ends. */
void transfer_lost(struct engine *e, uint64_t id);

/* The other worker has closed its copy of the destination. */
void transfer_unhold(struct engine *e, uint64_t id, const struct hold *hold);

/* ---- For the engine, which knows transfers by the nodes that it keeps */

/* Puts one that is in no list into engine.alone, if its user is to be left alone; else false. */
bool transfer_left_alone(struct list *run);

/* Moves some more of one that was runnable and is in no list now. */
void transfer_turn(struct list *run);

/* Its time is over. */
void transfer_time_out(struct timer *timer);

/* Ends one in engine.held if nothing holds it any more: a worker that died holds no copy, the kernel closed it. */
void transfer_review_hold(struct list *run);

#endif
