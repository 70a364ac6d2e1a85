/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/engine.h"

#include "server/channel.h"
#include "server/os/files.h"
#include "server/transfer.h"

enum { ROUND_NS = 100 * 1000 }; /* of turns at least, before the loop looks for what is new */

int engine_init(struct engine *e, const struct engine_config *config)
{
	*e = (struct engine){
		.pen = config->pen,
		.columns = config->columns,
		.own = &config->columns[config->slot],
		.column_count = config->column_count,
		.max_transfers = config->max_transfers,
		.open_timeout_ns = (uint64_t)config->open_timeout_ms * 1000000,
		.io_timeout_ns = (uint64_t)config->io_timeout_ms * 1000000,
		.idle_timeout_ns = (uint64_t)config->idle_timeout_ms * 1000000,
		.max_readahead = (uint64_t)config->max_readahead * OS_PAGE_BYTES,
		.user_paces = config->user_paces,
		.shares = config->shares,
		.slot = config->slot,
	};
	list_init(&e->runnable);
	list_init(&e->held);
	list_init(&e->alone);
	residency_init(&e->residency, config->root, config->jobs.pools);
	pipes_init(&e->pipes, config->max_pipes);
	if (loop_init(&e->loop) < 0 || jobs_init(&e->jobs, &config->jobs) < 0)
		return -1;
	if (timers_init(&e->timers, config->max_transfers) < 0)
		return -1;
	return table_init(&e->table, config->max_transfers, config->slot, config->generation);
}

int engine_timeout_ms(const struct engine *e, int max_ms)
{
	uint64_t next = timers_next(&e->timers);
	int jobs_ms = jobs_nap_ms(&e->jobs), pipes_ms = pipes_nap_ms(&e->pipes);
	uint64_t ms;

	if ((!list_empty(&e->alone) || channels_are_held_up()) && max_ms > SUSPECTS_LOOK_MS)
		max_ms = SUSPECTS_LOOK_MS;
	if (jobs_ms >= 0 && jobs_ms < max_ms)
		max_ms = jobs_ms;
	if (pipes_ms >= 0 && pipes_ms < max_ms)
		max_ms = pipes_ms;
	if (!list_empty(&e->runnable) || next <= e->loop.now_ns)
		return 0;
	ms = (next - e->loop.now_ns) / 1000000 + 1; /* rounded up: too late by a little, not early in a spin */
	return ms < (uint64_t)max_ms ? (int)ms : max_ms;
}

static void review_holds(struct engine *e)
{
	struct list *next;

	for (struct list *n = e->held.next; n != &e->held; n = next) {
		next = n->next;
		transfer_review_hold(n);
	}
}

/* Those that are left alone get their turns, unless their users are suspects still. */
void engine_look_around(struct engine *e)
{
	const struct suspects_view view = {e->columns, e->column_count, e->slot, e->shares};

	if (!suspects_look(&e->suspects, &view, e->loop.now_ns))
		return;
	channels_try_again();
	while (!list_empty(&e->alone)) {
		struct list *n = e->alone.next;

		list_remove(n);
		list_append(&e->runnable, n);
	}
}

void engine_prepare(struct engine *e)
{
	if (pipes_work(&e->pipes, e->loop.now_ns))
		jobs_look_soon(&e->jobs);
	jobs_work(&e->jobs, e->loop.now_ns);
}

/*
 * One turn each for those that are runnable now; who becomes runnable meanwhile waits for the next round. What there is no
 * time for is first in that: a new request, of somebody else perhaps, is not to wait for a hundred large ones.
 */
static void give_turns(struct engine *e, uint64_t requests_ns)
{
	const uint64_t until = clock_now_ns() + (requests_ns > ROUND_NS ? requests_ns : ROUND_NS);
	struct list last, *n;

	list_append(&e->runnable, &last);
	while ((n = e->runnable.next) != &last) {
		list_remove(n);
		if (!transfer_left_alone(n))
			transfer_turn(n);
		if (clock_now_ns() >= until)
			break;
	}
	list_remove(&last);
}

void engine_work(struct engine *e, uint64_t requests_ns)
{
	struct timer *due;

	while ((due = timers_due(&e->timers, e->loop.now_ns)) != NULL)
		transfer_time_out(due);
	if (!list_empty(&e->runnable))
		give_turns(e, requests_ns);
	review_holds(e);
}
