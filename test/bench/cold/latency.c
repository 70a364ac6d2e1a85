/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/bench/cold/cold.h"

#include <stdio.h>
#include <stdlib.h>

/* In the order in which they run in each round: what is compared stands side by side. */
static struct variant variants[] = {
	{.server = &via_sendfiled, .workers = "1 worker", .n_workers = 1, .n_cold = 0},
	{.server = &via_sendfiled, .workers = "1 worker", .n_workers = 1, .n_cold = COLD_MAX},
	{.server = &via_sendfiled, .workers = "default workers", .n_workers = 0, .n_cold = 0},
	{.server = &via_sendfiled, .workers = "default workers", .n_workers = 0, .n_cold = COLD_MAX},
	{.server = &via_libuv, .workers = "", .n_cold = 0},
	{.server = &via_libuv, .workers = "", .n_cold = COLD_MAX},
	{.server = &via_inline, .workers = "", .n_cold = 0},
	{.server = &via_inline, .workers = "", .n_cold = 1},
};

enum { VARIANTS = sizeof variants / sizeof variants[0], NAME_WIDTH = 28 };

static const double GOAL = 1.5;

static void print_variant(const struct variant *v)
{
	char name[64];

	snprintf(name, sizeof name, "%s%s%s", v->server->name, v->workers[0] ? ", " : "", v->workers);
	printf("%-*s %5u %5.0f", NAME_WIDTH, name, v->n_cold, v->median.is[HELD]);
	for (int i = 0; i < TIMES; i++) {
		if (v->median.is[STOPPED] > 0 && i != LONGEST_GAP)
			printf(" %11s", "stopped");
		else
			printf(" %11.0f", v->median.is[i]);
	}
	printf(" %8.1f %%\n", v->median.is[SHARE] * 100);
}

static void print_table(const struct bench *b)
{
	printf("Hot %d-byte requests, %d a second for %u s, beside cold requests that hang all the time.\n"
	       "Microseconds from when a request was due; medians of %u rounds in turn.\n"
	       "cold: requests for cold files; hung: how many of their reads had begun, and hung until the end.\n\n",
		HOT_SIZE, RATE, b->seconds, b->rounds);
	printf("%-*s %5s %5s", NAME_WIDTH, "", "cold", "hung");
	for (int i = 0; i < TIMES; i++)
		printf(" %11s", time_names[i]);
	printf(" %10s\n", "answered");
	for (int i = 0; i < VARIANTS; i++)
		print_variant(&variants[i]);
}

/* A variant with cold requests beside the same without, which is the one before it. */
static void print_ratio(const struct bench *b, const struct variant *v)
{
	double *ratios = must_alloc(b->rounds * sizeof *ratios), middle;

	for (unsigned i = 0; i < b->rounds; i++)
		ratios[i] = v->figures[i].is[P99] / v[-1].figures[i].is[P99];
	middle = median(ratios, b->rounds);
	printf("  %-*s", NAME_WIDTH - 2, v->workers);
	if (v->median.is[STOPPED] > 0)
		printf(" stopped\n");
	else
		printf(" %.2f (%.2f to %.2f): %s\n", middle, ratios[0], ratios[b->rounds - 1],
			middle <= GOAL ? "reached" : "missed");
	free(ratios);
}

static void print_ratios(const struct bench *b)
{
	printf("\nsendfiled, p99 beside cold requests to p99 without; to be at most %.1f\n", GOAL);
	for (int i = 0; i < VARIANTS; i++) {
		if (variants[i].workers[0] && variants[i].n_cold > 0)
			print_ratio(b, &variants[i]);
	}
	printf("\n");
	for (int i = 0; i < VARIANTS; i++) {
		if (!variants[i].workers[0] && variants[i].n_cold > 0)
			printf("%s: %s, with %.1f %% answered; to stop\n", variants[i].server->name,
				variants[i].median.is[STOPPED] > 0 ? "stopped" : "went on",
				variants[i].median.is[SHARE] * 100);
	}
}

void bench_latency(struct bench *b)
{
	struct slow slow;

	printf("Rounds: %u, of %d phases of %u s each.\n\n", b->rounds, VARIANTS, b->seconds);
	arena_file(&b->arena, HOT_NAME, HOT_SIZE);
	slow_start(&slow, b->slowfs, b->mount_point);
	for (int i = 0; i < VARIANTS; i++)
		variants[i].figures = must_alloc(b->rounds * sizeof *variants[i].figures);
	for (unsigned round = 0; round < b->rounds; round++) {
		for (int i = 0; i < VARIANTS; i++)
			variants[i].figures[round] = run_phase(b, &slow, &variants[i]);
	}
	slow_stop(&slow);
	for (int i = 0; i < VARIANTS; i++)
		variants[i].median = figures_median(variants[i].figures, b->rounds);
	print_table(b);
	print_ratios(b);
	draw_chart(b, variants, VARIANTS);
	for (int i = 0; i < VARIANTS; i++)
		free(variants[i].figures);
}
