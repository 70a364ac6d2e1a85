/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/loop.h"

#include <time.h>
#include <unistd.h>

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
	loop->poller = poller_new();
	return loop->poller < 0 ? -1 : 0;
}

void loop_free(struct loop *loop)
{
	if (loop->poller >= 0)
		close(loop->poller);
	loop->poller = -1;
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

int loop_run_once(struct loop *loop, int timeout_ms)
{
	int n = poller_wait(loop->poller, loop->batch, LOOP_BATCH, timeout_ms);

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
