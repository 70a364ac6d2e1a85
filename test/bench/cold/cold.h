/* SPDX-License-Identifier: BSD-2-Clause */
/* The parts of the benchmark. */
#ifndef SFD_BENCH_COLD_COLD_H
#define SFD_BENCH_COLD_COLD_H

#include "test/bench/cold/figures.h"

enum {
	SICK = 3,         /* file systems that hang, */
	LARGE_STREAMS = 4 /* and parts of the large file that are sent at the same time */
};

#define SICK_DIR "sick"

struct bench {
	struct arena arena;
	const char *slowfs;       /* the program */
	const char *out;          /* the directory that the chart goes to */
	unsigned rounds, seconds; /* how often every kind of phase is measured, and for how long */
	unsigned large_rounds;    /* the same for the large file; 0: leave it out */
	char mount_point[PATH_SIZE];
	char sick_points[SICK][PATH_SIZE];
};

/* One line of the table: a kind of phase, and what came of it. */
struct variant {
	const struct server *server;
	const char *workers; /* of the daemon, in words; empty: there is no daemon */
	unsigned n_workers;  /* 0: the default number */
	unsigned n_cold;
	struct figures *figures; /* of each round */
	struct figures median;
};

/* Hot requests beside cold ones that hang. */
void bench_latency(struct bench *b);

/* One large file that is not in memory, and the same when it is. */
void bench_large_cold(struct bench *b);

/* The same while three other file systems hang. Needs what bench_large_cold() leaves. */
void bench_beside_sick(struct bench *b);

/* Sends the large file, which is made cold first, to pipes, in so many parts at the same time: gigabytes per second. */
double large_cold_rate(const struct arena *a, unsigned streams);

/* Runs one phase of that kind. */
struct figures run_phase(struct bench *b, const struct slow *slow, const struct variant *v);

/* Draws the latencies, if gnuplot is there. */
void draw_chart(const struct bench *b, const struct variant *variants, unsigned n);

#endif
