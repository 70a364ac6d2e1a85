/* SPDX-License-Identifier: BSD-2-Clause */
/* What is said of a phase, or of several of the same kind. */
#ifndef SFD_BENCH_COLD_FIGURES_H
#define SFD_BENCH_COLD_FIGURES_H

#include "test/bench/cold/load.h"

/* The times are in microseconds. */
enum figure {
	P50,
	P99,
	P999,
	LONGEST,
	LONGEST_GAP, /* between two answers */
	TIMES,
	SHARE = TIMES, /* of the requests that were answered in time */
	HELD,          /* cold reads that hung at the end */
	STOPPED,       /* 1: from some time on nothing was answered any more; 0 */
	FIGURES
};

extern const char *const time_names[TIMES];

struct figures {
	double is[FIGURES];
};

/* Of `count` requests. One that was not answered counts as if it had been at the end: it took that long at least. */
struct figures figures_of(const struct record *record, unsigned count, long held);

/* The median of each. */
struct figures figures_median(const struct figures *of, unsigned n);

#endif
