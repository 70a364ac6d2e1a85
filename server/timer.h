/* SPDX-License-Identifier: BSD-2-Clause */
/* Points in time that something waits for: a binary heap of intrusive nodes, O(log n), no descriptor. */
#ifndef SFD_TIMER_H
#define SFD_TIMER_H

#include <stdint.h>

enum { TIMER_IDLE = UINT32_MAX };

struct timer {
	uint64_t when_ns;
	uint32_t pos; /* in the heap; TIMER_IDLE: not set */
};

struct timers {
	struct timer **heap;
	uint32_t count, capacity;
};

/* Room for `capacity` timers set at a time. 0, or -1 and ENOMEM. */
int timers_init(struct timers *ts, uint32_t capacity);
void timers_free(struct timers *ts);

static inline void timer_init(struct timer *t)
{
	t->pos = TIMER_IDLE;
}

/* Sets an idle timer. 0, or -1 and ENOSPC if `capacity` are set. */
int timers_set(struct timers *ts, struct timer *t, uint64_t when_ns);

/* Makes a timer idle; harmless if it is. */
void timers_clear(struct timers *ts, struct timer *t);

/* Takes out and returns one that is due, or NULL. */
struct timer *timers_due(struct timers *ts, uint64_t now_ns);

/* When the next is due; UINT64_MAX: none is set. */
uint64_t timers_next(const struct timers *ts);

#endif
