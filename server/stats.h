/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Counters in memory that master and workers share. Each worker writes its own column only, so there is no lock that a
 * killed process could hold; readers add the columns up.
 */
#ifndef SFD_STATS_H
#define SFD_STATS_H

#include "server/job.h"
#include "server/pool.h"

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	STATS_CODES = 64,
	STATS_DEVICES = 16,
	STATS_LATENCIES = 7, /* up to 0.1, 1, 10, 100, 1,000 and 10,000 ms, and above */
};

typedef _Atomic uint64_t counter;

struct stats_code {
	_Atomic int code;
	counter count;
};

/* Jobs for one device, by how long they took. */
struct stats_device {
	_Atomic uint64_t device; /* 0: this place is free; the last place counts all that found none */
	counter latencies[STATS_LATENCIES];
};

/* One worker's counters. */
struct stats {
	_Alignas(64) counter active; /* transfers now: what --max-transfers bounds */
	_Atomic uint32_t
		polling; /* of the first column only: the slot, plus one, of the worker that polls; see loop.h */
	_Atomic uint32_t refusing;   /* of the first column only: the process that refuses a stranger; see inbox.c */
	_Atomic unsigned generation; /* which of the slot's workers this is; the master's to write */
	counter client;              /* whose request is being worked on: uid << 32 | pid */
	counter since_ns;            /* since when, to the round of the loop; 0: nobody's */
	counter refusals;            /* channels kept only because a refusal could not be written yet */
	counter idle_ns;             /* when the worker last had nothing to do (CLOCK_MONOTONIC) */
	counter requests;            /* received, refused ones included */
	counter bytes;               /* of files, delivered */
	counter fallbacks;           /* a way to move bytes was refused and the next one tried */
	counter forwarded;           /* messages passed on to the worker that they were for */
	counter hot_turns;           /* bytes moved by the worker itself, */
	counter cold_turns;          /* and chunks asked of a reader */
	counter opens[OPEN_REASONS]; /* files opened by a helper, and why */
	counter jobs[POOL_KINDS];    /* given to helpers */
	counter jobs_lost;           /* whose helper died */
	struct stats_device devices[STATS_DEVICES];
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

/* Whose work it is now that began at the time of the last stats_client(). */
static inline void stats_blame(struct stats *own, uid_t uid, pid_t pid)
{
	atomic_store_explicit(&own->client, (uint64_t)uid << 32 | (uint32_t)pid, memory_order_relaxed);
}

/* For the master, and the other workers, if this one does not come back from it. `now_ns`: CLOCK_MONOTONIC, roughly. */
static inline void stats_client(struct stats *own, uid_t uid, pid_t pid, uint64_t now_ns)
{
	stats_blame(own, uid, pid);
	atomic_store_explicit(&own->since_ns, now_ns, memory_order_relaxed);
}

static inline void stats_no_client(struct stats *column)
{
	atomic_store_explicit(&column->since_ns, 0, memory_order_relaxed);
}

static inline unsigned stats_generation(struct stats *column)
{
	return atomic_load_explicit(&column->generation, memory_order_acquire);
}

/* Zeroed columns for `n` workers that forked children share; NULL and errno. */
struct stats *stats_new(unsigned n);

void stats_outcome(struct stats *own, int code);

/* A job was answered. */
void stats_job(struct stats *own, uint64_t device, uint64_t took_ns);

/* The transfers of all workers. */
uint64_t stats_active(struct stats *columns, unsigned n);

/* What the master counts itself. */
struct stats_master {
	uint64_t restarts; /* of workers */
	uint64_t helper_deaths;
	uint64_t stuck_ever;
	unsigned stuck[POOL_KINDS]; /* now */
};

/* Logs the sums, in one line, and one for each device that helpers worked for. */
void stats_log(struct stats *columns, unsigned n, const struct stats_master *master);

#endif
