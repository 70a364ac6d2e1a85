/* SPDX-License-Identifier: BSD-2-Clause */
/* How the queue takes more requests at a time, and the daemon more workers. */
#include "test/bench/queue/queue.h"

#include <stdio.h>
#include <sys/resource.h>

/* One worker may get them all, and needs more descriptors for each than the client. */
enum { COUNTS = 4, SERVERS = 3, FDS_EACH = 4, OTHER_FDS = 1024 };

static struct server servers[SERVERS] = {
	{.name = "workers1", .workers = "1"},
	{.name = "workers2", .workers = "2"},
	{.name = "workers4", .workers = "4"},
};

static void measure(const struct bench *b, unsigned in_flight, double rates[SERVERS])
{
	const struct variant all = {.name = "all", .how = QUEUE_ALL};
	struct row r = {.load = {.arena = &b->arena, .kind = DEST_PIPE, .size = SMALL, .in_flight = in_flight}};

	for (unsigned i = 0; i < SERVERS; i++)
		row_add(&r, &via_queue, all, servers[i].name);
	row_measure(&r, b->rounds);
	for (unsigned i = 0; i < SERVERS; i++)
		rates[i] = r.entries[i].median.rate;
}

/* The most that there are descriptors for; main() has raised the limit as far as it goes. */
static unsigned possible(unsigned wanted)
{
	struct rlimit rl;
	unsigned most;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
		die("getrlimit");
	if (rl.rlim_cur >= OTHER_FDS + FDS_EACH * (rlim_t)wanted)
		return wanted;
	most = rl.rlim_cur > OTHER_FDS + FDS_EACH ? (unsigned)(rl.rlim_cur - OTHER_FDS) / FDS_EACH : 1;
	printf("%u in flight instead of %u: more open files are not allowed here (ulimit -n).\n", most, wanted);
	return most;
}

static double greater(double a, double b)
{
	return a > b ? a : b;
}

static void print(const unsigned counts[COUNTS], double rates[COUNTS][SERVERS])
{
	double of_column[SERVERS] = {0};

	for (unsigned k = 0; k < COUNTS; k++) {
		for (unsigned i = 0; i < SERVERS; i++)
			of_column[i] = greater(of_column[i], rates[k][i]);
	}
	for (unsigned k = 0; k < COUNTS; k++) {
		double of_row = greater(rates[k][0], greater(rates[k][1], rates[k][2]));

		printf("%9u", counts[k]);
		for (unsigned i = 0; i < SERVERS; i++) {
			put(15, 1, rates[k][i] / 1e3);
			put(6, 2, rates[k][i] / of_row);
			put(6, 2, rates[k][i] / of_column[i]);
		}
		printf("\n");
	}
}

void bench_growth(const struct bench *b)
{
	static const unsigned wanted[COUNTS] = {1, 16, 256, MOST_IN_FLIGHT};
	unsigned counts[COUNTS];
	double rates[COUNTS][SERVERS];

	printf("\nGrowth of the queue: 4 KiB to pipes, all in one submit; thousand requests/s, medians of %u rounds; as a "
	       "part of the best of\nthe same row; of the same column.\n",
		b->rounds);
	for (unsigned k = 0; k < COUNTS; k++)
		counts[k] = possible(wanted[k]);
	printf("%9s %15s %6s %6s %15s %6s %6s %15s %6s %6s\n", "in flight", "1 worker", "row", "column", "2 workers",
		"row", "column", "4 workers", "row", "column");
	for (unsigned i = 0; i < SERVERS; i++)
		server_start(&servers[i], &b->arena);
	for (unsigned k = 0; k < COUNTS; k++)
		measure(b, counts[k], rates[k]);
	for (unsigned i = 0; i < SERVERS; i++)
		server_stop(&servers[i]);
	print(counts, rates);
}
