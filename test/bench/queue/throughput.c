/* SPDX-License-Identifier: BSD-2-Clause */
/* How many requests per second when there are always many to do. */
#include "test/bench/queue/queue.h"

#include <stdio.h>

/* What the queue is asked to be, in multiples of the others. */
static const double in_process_floor[DEST_COUNT] = {[DEST_PIPE] = 0.75, [DEST_TCP] = 0.85, [DEST_UNIX] = 0.75};
static const double calls_floor[DEST_COUNT] = {[DEST_PIPE] = 2.5};
static const double libuv_floor = 1.5, uring_floor = 1.3;

static void measure(const struct bench *b, const char *server, unsigned size, enum dest kind)
{
	struct row r = {.load = {.arena = &b->arena, .kind = kind, .size = size, .in_flight = IN_FLIGHT}};
	struct span process = row_add_all(&r, &via_process, NULL);
	struct span queue = row_add_all(&r, &via_queue, server);
	struct span calls = row_add_all(&r, &via_calls, server);
	struct span libuv = row_add_all(&r, &via_libuv, NULL);
	struct span uring = row_add_all(&r, &via_uring, NULL);
	double q;

	row_measure(&r, b->rounds);
	q = best_rate(&r, queue);
	printf("%2u KiB %-5s", size / 1024, dest_names[kind]);
	put(10, 1, best_rate(&r, process) / 1e3);
	for (unsigned i = 0; i < queue.count; i++)
		put(8, 1, r.entries[queue.first + i].median.rate / 1e3);
	put(11, 1, best_rate(&r, calls) / 1e3);
	put_best(13, &r, libuv);
	put_best(20, &r, uring);
	put_ratio(q / best_rate(&r, process), in_process_floor[kind]);
	put_ratio(q / best_rate(&r, calls), calls_floor[kind]);
	put_ratio(q / best_rate(&r, libuv), libuv_floor);
	put_ratio(q / best_rate(&r, uring), uring_floor);
	printf("\n");
}

void bench_throughput(const struct bench *b)
{
	static const unsigned sizes[] = {SMALL, LARGE};
	struct server server = {.name = "throughput"};

	printf("\nThroughput: %d hot files, %d in flight; thousand requests/s, medians of %u rounds. The queue: as much as there is in "
	       "one submit,\nor 16 at most; the ratios are of the better of the two to the others, and what they are asked to be. "
	       "libuv: so many threads.\n",
		FILES, IN_FLIGHT, b->rounds);
	printf("%-12s %10s %8s %8s %11s %13s %20s %13s %13s %13s %13s\n", "file, to", "in process", "queue all",
		"by 16", "one-request", "libuv", "io_uring", "/in process", "/one-request", "/libuv", "/io_uring");
	server_start(&server, &b->arena);
	for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		for (int kind = 0; kind < DEST_COUNT; kind++)
			measure(b, server.name, sizes[i], (enum dest)kind);
	}
	server_stop(&server);
}
