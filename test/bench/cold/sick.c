/* SPDX-License-Identifier: BSD-2-Clause */
/* Whether three file systems that hang slow down the cold files of a fourth. */
#include "test/bench/cold/cold.h"

#include <sendfiled/sendfiled.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	HANGING = 8,  /* requests for each of them, more than helpers may work for it */
	HUNG_MIN = 1, /* so many of its reads have begun before the measurement does */
	MAX_TRANSFERS = 1000,
};

static const double GOAL = 0.9;

struct hanging {
	struct slow slow[SICK];
	int status[SICK][HANGING], dest[SICK][HANGING];
};

static void hang(struct bench *b, struct hanging *h, unsigned round)
{
	for (int i = 0; i < SICK; i++) {
		slow_do(&h->slow[i], "hold read");
		for (unsigned k = 0; k < HANGING; k++) {
			char name[PATH_SIZE];
			int ends[2];

			/* Another one each time, so that none of it is in memory. */
			snprintf(name, sizeof name, SICK_DIR "%d/f%u-%u", i, round, k);
			slow_do(&h->slow[i], "add f%u-%u %d %u", round, k, COLD_SIZE, k);
			make_dest(DEST_PIPE, ends, false);
			h->dest[i][k] = ends[0];
			h->status[i][k] = sfd_send(b->arena.srv, name, ends[1], 0, 0, false);
			if (h->status[i][k] < 0)
				die("sfd_send of a file that hangs");
			close(ends[1]);
			usleep(1000); /* the daemon's queue is short */
		}
		slow_do(&h->slow[i], "await read %d", HUNG_MIN);
	}
}

static void let_go(struct hanging *h)
{
	for (int i = 0; i < SICK; i++) {
		slow_do(&h->slow[i], "release read");
		for (unsigned k = 0; k < HANGING; k++) {
			await_success(h->status[i][k]);
			close(h->status[i][k]);
			close(h->dest[i][k]);
		}
	}
}

static void measure(struct bench *b, struct hanging *h, unsigned streams, unsigned round, double *alone, double *beside)
{
	for (unsigned k = 0; k < 2; k++) {
		bool with = (round + k) % 2;

		if (with)
			hang(b, h, 2 * round + streams * 1000);
		*(with ? beside : alone) = large_cold_rate(&b->arena, streams);
		if (with)
			let_go(h);
	}
}

static void compare(struct bench *b, struct hanging *h, unsigned streams)
{
	const unsigned n = b->large_rounds;
	double *alone = must_alloc(n * sizeof *alone), *beside = must_alloc(n * sizeof *beside),
	       *ratios = must_alloc(n * sizeof *ratios), ratio;

	for (unsigned i = 0; i < n; i++) {
		measure(b, h, streams, i, &alone[i], &beside[i]);
		ratios[i] = beside[i] / alone[i];
	}
	ratio = median(ratios, n);
	printf("%-8u %10.2f %10.2f %8.2f   to be at least %.1f: %s\n", streams, median(alone, n), median(beside, n),
		ratio, GOAL, ratio >= GOAL ? "reached" : "missed");
	free(alone);
	free(beside);
	free(ratios);
}

void bench_beside_sick(struct bench *b)
{
	struct hanging h;

	for (int i = 0; i < SICK; i++)
		slow_start(&h.slow[i], b->slowfs, b->sick_points[i]);
	arena_spawn(&b->arena, 0, MAX_TRANSFERS);
	printf("\nCold files of 1 GiB together from the disk, beside %d file systems that hang, with %d requests each;\n"
	       "medians of %u runs in turn\n\n%-8s %10s %10s %8s\n",
		SICK, HANGING, b->large_rounds, "streams", "GB/s alone", "beside", "ratio");
	compare(b, &h, 1);
	compare(b, &h, LARGE_STREAMS);
	arena_stop(&b->arena);
	for (int i = 0; i < SICK; i++)
		slow_stop(&h.slow[i]);
}
