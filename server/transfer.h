/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The engine of a worker: transfers, each a small struct in one state, moved on a quantum at a time.
 *
 *   begin --+--> OPENED ----send_open----+
 *           |                            v
 *           +---------------------> RUNNABLE <----> BLOCKED (no room at the destination)
 *                                        |
 *                             (over) ----+--> HELD (its last frame waits until the worker that
 *                                        |          passed the destination on has closed its copy)
 *                                        v
 *                                      freed
 *
 * Most small transfers begin and are over in one call. A transfer ends in one place, finish(), from any state.
 */
#ifndef SFD_TRANSFER_H
#define SFD_TRANSFER_H

#include "lib/wire.h"
#include "server/access.h"
#include "server/channel.h"
#include "server/list.h"
#include "server/loop.h"
#include "server/mover.h"
#include "server/stats.h"
#include "server/table.h"
#include "server/timer.h"

struct engine {
	struct loop loop;
	struct table table;
	struct timers timers;
	struct list runnable, held;
	int root_fd; /* not owned */
	struct stats *columns, *own;
	unsigned column_count;
	uint64_t max_transfers;
	uint64_t open_timeout_ns;
};

struct engine_config {
	int root_fd;
	struct stats *columns; /* shared by all workers */
	unsigned column_count;
	unsigned slot, generation; /* this worker's */
	unsigned max_transfers;
	unsigned open_timeout_ms;
};

/* Another worker that passed a destination on, and by which of its messages. */
struct hold {
	unsigned slot, generation;
	uint64_t seq;
};

/* 0, or -1 and errno. */
int engine_init(struct engine *e, const struct engine_config *config);

/*
 * Starts a send, read or open that passed request_check() (of a datagram of any number of requests), and tries to finish
 * it at once. Reports on `c`, also every refusal. `*dest` is taken over (and set to -1) if the operation has one.
 */
void transfer_begin(
	struct engine *e, const struct wire_request *r, const struct owner *who, struct channel *c, int *dest);

/*
 * The second message: sends what is open under that id. Takes over `*dest` if there is such an open of that owner;
 * otherwise nothing happens. `hold` is NULL unless another worker passed the message on.
 */
void transfer_send_open(struct engine *e, uint64_t id, const struct owner *who, int *dest, const struct hold *hold);

/* Ends that owner's transfer with ECANCELED; nothing happens if there is none. */
void transfer_cancel(struct engine *e, uint64_t id, const struct owner *who);

/* The other worker has closed its copy of the destination. */
void transfer_unhold(struct engine *e, uint64_t id, const struct hold *hold);

/* How long the loop may wait for events; 0 while there is work. */
int engine_timeout_ms(const struct engine *e, int max_ms);

/* Gives every runnable transfer one turn, ends opens that waited too long, and lets go of what a dead worker held. */
void engine_work(struct engine *e);

#endif
