/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/loop.h"

#include "server/os/process.h"

#include <sched.h>
#include <time.h>

enum {
	SHORT_WAIT_NS = 25 * 1000,
	SHORT_WAITS_MIN = 16,
	QUICK_WAITS_MIN = 4,
};

uint64_t clock_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

int loop_init(struct loop *loop)
{
	loop->pending = loop->next = 0;
	loop->now_ns = clock_now_ns();
	loop->short_waits = 0;
	loop->may_spin = os_cpu_count() > 1;
	loop->busy = (struct busy_poll){.ns = 0};
	loop->poller = poller_new();
	return loop->poller < 0 ? -1 : 0;
}

int loop_watch(struct loop *loop, struct source *source, unsigned events)
{
	if (source->watched)
		return poller_change(loop->poller, source->fd, events, source);
	if (poller_add(loop->poller, source->fd, events, source) < 0)
		return -1;
	source->watched = true;
	return 0;
}

void loop_unwatch(struct loop *loop, struct source *source)
{
	if (!source->watched)
		return;
	poller_remove(loop->poller, source->fd);
	source->watched = false;
	for (int i = loop->next; i < loop->pending; i++) {
		if (loop->batch[i].data == source)
			loop->batch[i].data = NULL;
	}
}

static bool take_turn(const struct busy_poll *b)
{
	uint32_t nobody = 0;

	return atomic_load_explicit(b->turn, memory_order_relaxed) == b->self ||
	       atomic_compare_exchange_strong(b->turn, &nobody, b->self);
}

static void leave_turn(const struct busy_poll *b)
{
	uint32_t self = b->self;

	if (b->ns > 0)
		atomic_compare_exchange_strong(b->turn, &self, 0);
}

/*
 * How long to look before sleeping. A destination that is drained as fast as it is filled (a pipe, 64 KiB at a time) would
 * have us fall asleep and be woken ten thousand times a second, and those switches are most of the cost. So after some
 * waits in a row that were shorter than a sleep is worth, the next ones look again for about that long first. Requests are
 * looked for for longer.
 */
static uint64_t look_ns(struct loop *loop)
{
	const struct busy_poll *b = &loop->busy;

	if (!loop->may_spin)
		return 0;
	if (b->ns > 0 && b->quick >= QUICK_WAITS_MIN && take_turn(b))
		return b->ns;
	return loop->short_waits >= SHORT_WAITS_MIN ? SHORT_WAIT_NS : 0;
}

static void note_wait(struct loop *loop, uint64_t waited_ns, bool in_vain)
{
	loop->short_waits = waited_ns < SHORT_WAIT_NS ? loop->short_waits + 1 : 0;
	loop->busy.quick = waited_ns < loop->busy.ns && !in_vain ? loop->busy.quick + 1 : 0;
}

/*
 * The processor is offered to others between two looks, and one look in vain ends it: a quiet loop always sleeps.
 */
static int wait_for_events(struct loop *loop, int timeout_ms)
{
	uint64_t start, end, most;
	int n = 0;

	if (timeout_ms == 0 || !loop->may_spin)
		return poller_wait(loop->poller, loop->batch, LOOP_BATCH, timeout_ms);
	start = end = clock_now_ns();
	most = look_ns(loop);
	while (n == 0 && end - start < most) {
		n = poller_wait(loop->poller, loop->batch, LOOP_BATCH, 0);
		if (n == 0)
			sched_yield();
		end = clock_now_ns();
	}
	if (n != 0)
		return n;
	leave_turn(&loop->busy);
	n = poller_wait(loop->poller, loop->batch, LOOP_BATCH, timeout_ms);
	note_wait(loop, clock_now_ns() - start, n <= 0);
	return n;
}

static int take_events(struct loop *loop, int n)
{
	loop->now_ns = clock_now_ns();
	loop->pending = n < 0 ? 0 : n;
	loop->next = 0; /* sources may go before they are dispatched */
	return n < 0 ? -1 : 0;
}

int loop_wait(struct loop *loop, int timeout_ms)
{
	return take_events(loop, wait_for_events(loop, timeout_ms));
}

int loop_rest(struct loop *loop, uint64_t ns)
{
	leave_turn(&loop->busy);
	return take_events(loop, poller_rest(loop->poller, loop->batch, LOOP_BATCH, ns));
}

void loop_dispatch(struct loop *loop)
{
	while (loop->next < loop->pending) {
		struct poller_event *e = &loop->batch[loop->next++];
		struct source *source = e->data;

		if (source)
			source->on_event(source, e->events);
	}
	loop->pending = 0;
}
