/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/loop.h"

#include "server/os/process.h"

#include <sched.h>
#include <time.h>

enum {
	SHORT_WAIT_NS = 25 * 1000,
	SHORT_WAITS_MIN = 16,
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

/*
 * Waits. A destination that is drained as fast as it is filled (a pipe, 64 KiB at a time) would have us fall asleep and be
 * woken ten thousand times a second, and those switches are most of the cost. So after some waits in a row that were
 * shorter than a sleep is worth, the next ones look again for about that long first. The processor is offered to others
 * between two looks, and one look in vain ends it: a quiet loop always sleeps.
 */
static int wait_for_events(struct loop *loop, int timeout_ms)
{
	uint64_t start, end;
	int n = 0;

	if (timeout_ms == 0 || !loop->may_spin)
		return poller_wait(loop->poller, loop->batch, LOOP_BATCH, timeout_ms);
	start = end = clock_now_ns();
	while (n == 0 && loop->short_waits >= SHORT_WAITS_MIN && end - start < SHORT_WAIT_NS) {
		n = poller_wait(loop->poller, loop->batch, LOOP_BATCH, 0);
		if (n == 0)
			sched_yield();
		end = clock_now_ns();
	}
	if (n != 0)
		return n;
	n = poller_wait(loop->poller, loop->batch, LOOP_BATCH, timeout_ms);
	if (clock_now_ns() - start < SHORT_WAIT_NS)
		loop->short_waits++;
	else
		loop->short_waits = 0;
	return n;
}

int loop_run_once(struct loop *loop, int timeout_ms)
{
	int n = wait_for_events(loop, timeout_ms);

	loop->now_ns = clock_now_ns();
	if (n < 0)
		return -1;
	loop->pending = n;
	for (loop->next = 0; loop->next < loop->pending;) {
		struct poller_event *e = &loop->batch[loop->next++];
		struct source *source = e->data;

		if (source)
			source->on_event(source, e->events);
	}
	loop->pending = 0;
	return 0;
}
