/* SPDX-License-Identifier: BSD-2-Clause */
/* What all transfers of a worker have in common: the loop, the ids, the timers, and whose turn it is. */
#ifndef SFD_ENGINE_H
#define SFD_ENGINE_H

#include "server/jobs.h"
#include "server/journal.h"
#include "server/list.h"
#include "server/loop.h"
#include "server/notices.h"
#include "server/pace.h"
#include "server/pipes.h"
#include "server/residency.h"
#include "server/shares.h"
#include "server/stats.h"
#include "server/suspects.h"
#include "server/table.h"
#include "server/timer.h"

/* How much is read of a device at a time. */
struct chunk_size {
	uint64_t device, bytes;
};

enum { ENGINE_CHUNKS = 16 };

struct engine {
	struct loop loop;
	struct table table;
	struct timers timers;
	struct list runnable, held;
	struct list alone; /* runnable, but of users who are left alone */
	struct suspects suspects;
	struct jobs jobs;
	struct pipes pipes;
	struct residency residency;
	struct chunk_size chunks[ENGINE_CHUNKS];
	struct journal_pen *pen;
	struct stats *columns, *own;
	unsigned column_count;
	uint64_t first_quantum; /* what a transfer may move on arrival */
	uint64_t max_transfers;
	uint64_t open_timeout_ns;
	uint64_t io_timeout_ns; /* these two 0: none */
	uint64_t idle_timeout_ns;
	uint64_t max_readahead;        /* bytes */
	struct user_paces *user_paces; /* NULL: no limit */
	struct shares *shares;
	struct notices notices;
	unsigned slot;
};

struct engine_config {
	struct journal_pen *pen;
	struct stats *columns; /* shared by all workers */
	unsigned column_count;
	unsigned slot, generation; /* this worker's */
	unsigned max_transfers;
	unsigned open_timeout_ms;
	unsigned io_timeout_ms; /* these two 0: none */
	unsigned idle_timeout_ms;
	unsigned max_readahead; /* pages */
	struct user_paces *user_paces;
	struct shares *shares;
	unsigned max_pipes;
	const struct os_root *root;
	struct jobs_config jobs;
};

/* 0, or -1 and errno. */
int engine_init(struct engine *e, const struct engine_config *config);

/* How long the loop may wait for events; 0 while there is work. */
int engine_timeout_ms(const struct engine *e, int max_ms);

/* What the loop does before it waits: starts jobs for which there is room now. */
void engine_prepare(struct engine *e);

/* What it does first when it has waited: finds out which users to leave alone. */
void engine_look_around(struct engine *e);

/*
 * Gives runnable transfers one turn each, as many as there is time for: as long as new requests took in this round of the loop,
 * and a little anyway. Ends opens that waited too long, and lets go of what a dead worker held.
 */
void engine_work(struct engine *e, uint64_t requests_ns);

#endif
