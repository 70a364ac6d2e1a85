/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/timer.h"

#include <errno.h>
#include <stdlib.h>

int timers_init(struct timers *ts, uint32_t capacity)
{
	ts->heap = malloc((capacity ? capacity : 1) * sizeof(*ts->heap));
	ts->count = 0;
	ts->capacity = ts->heap ? capacity : 0;
	return ts->heap ? 0 : -1;
}

void timers_free(struct timers *ts)
{
	free(ts->heap);
	*ts = (struct timers){0};
}

static void place(struct timers *ts, struct timer *t, uint32_t pos)
{
	ts->heap[pos] = t;
	t->pos = pos;
}

static void sift_up(struct timers *ts, struct timer *t, uint32_t pos)
{
	while (pos > 0) {
		uint32_t parent = (pos - 1) / 2;

		if (ts->heap[parent]->when_ns <= t->when_ns)
			break;
		place(ts, ts->heap[parent], pos);
		pos = parent;
	}
	place(ts, t, pos);
}

static void sift_down(struct timers *ts, struct timer *t, uint32_t pos)
{
	for (;;) {
		uint32_t child = 2 * pos + 1;

		if (child >= ts->count)
			break;
		if (child + 1 < ts->count && ts->heap[child + 1]->when_ns < ts->heap[child]->when_ns)
			child++;
		if (ts->heap[child]->when_ns >= t->when_ns)
			break;
		place(ts, ts->heap[child], pos);
		pos = child;
	}
	place(ts, t, pos);
}

int timers_set(struct timers *ts, struct timer *t, uint64_t when_ns)
{
	if (ts->count == ts->capacity) {
		errno = ENOSPC;
		return -1;
	}
	t->when_ns = when_ns;
	sift_up(ts, t, ts->count++);
	return 0;
}

void timers_clear(struct timers *ts, struct timer *t)
{
	uint32_t pos = t->pos;
	struct timer *last;

	if (pos == TIMER_IDLE)
		return;
	t->pos = TIMER_IDLE;
	last = ts->heap[--ts->count];
	if (last == t)
		return;
	/* The last one takes the hole's place, from where it may have to go either way. */
	sift_down(ts, last, pos);
	sift_up(ts, last, last->pos);
}

struct timer *timers_due(struct timers *ts, uint64_t now_ns)
{
	struct timer *t;

	if (ts->count == 0 || ts->heap[0]->when_ns > now_ns)
		return NULL;
	t = ts->heap[0];
	timers_clear(ts, t);
	return t;
}

uint64_t timers_next(const struct timers *ts)
{
	return ts->count ? ts->heap[0]->when_ns : UINT64_MAX;
}
