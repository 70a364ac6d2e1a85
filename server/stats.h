/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Counters in memory that master and workers share. Each worker writes its own column only, so there is no lock that a
 * killed process could hold; readers add the columns up.
 */
#ifndef SFD_STATS_H
#define SFD_STATS_H

#include <stdatomic.h>
#include <stdint.h>

enum { STATS_CODES = 64 };

typedef _Atomic uint64_t counter;

struct stats_code {
	_Atomic int code;
	counter count;
};

/* One worker's counters. */
struct stats {
	_Alignas(64) counter active;             /* transfers now: what --max-transfers bounds */
	_Atomic unsigned generation;             /* which of the slot's workers this is; the master's to write */
	counter refusals;                        /* channels kept only because a refusal could not be written yet */
	counter idle_ns;                         /* when the worker last had nothing to do (CLOCK_MONOTONIC) */
	counter requests;                        /* received, refused ones included */
	counter bytes;                           /* of files, delivered */
	counter fallbacks;                       /* a way to move bytes was refused and the next one tried */
	counter forwarded;                       /* messages passed on to the worker that they were for */
	struct stats_code outcomes[STATS_CODES]; /* by status code; the last one counts all that found no place */
};

/* The one writer's increment: no read-modify-write instruction is needed. */
static inline void counter_add(counter *c, uint64_t n)
{
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_relaxed);
}

static inline uint64_t counter_get(counter *c)
{
	return atomic_load_explicit(c, memory_order_relaxed);
}

static inline unsigned stats_generation(struct stats *column)
{
	return atomic_load_explicit(&column->generation, memory_order_acquire);
}

/* Zeroed columns for `n` workers that forked children share; NULL and errno. */
struct stats *stats_new(unsigned n);

void stats_outcome(struct stats *own, int code);

/* The transfers of all workers. */
uint64_t stats_active(struct stats *columns, unsigned n);

/* Logs the sums in one line, with what the master counted. */
void stats_log(struct stats *columns, unsigned n, uint64_t restarts);

#endif
