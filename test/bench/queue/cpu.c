/* SPDX-License-Identifier: BSD-2-Clause */
/* What a request costs the client's own process, and the thread in it that everything else waits for. */
#include "test/bench/queue/queue.h"

#include <stdio.h>

static void measure(const struct bench *b, const char *server, enum dest kind)
{
	struct row r = {.load = {.arena = &b->arena, .kind = kind, .size = SMALL, .in_flight = IN_FLIGHT}};
	struct span queue = row_add_all(&r, &via_queue, server);
	double q;

	row_add_all(&r, &via_libuv, NULL);
	row_add_all(&r, &via_process, NULL);
	row_measure(&r, b->rounds);
	q = best_of(&r, queue)->median.cpu;
	for (unsigned i = 0; i < r.n; i++) {
		const struct entry *e = &r.entries[i];

		printf("%-5s %-10s %-8s", dest_names[kind], e->client->name, e->variant.name);
		put(10, 1, e->median.rate / 1e3);
		put(14, 2, e->median.cpu);
		put(14, 2, e->median.loop_cpu);
		put(16, 2, q / e->median.cpu);
		put(14, 2, q / e->median.loop_cpu);
		printf("\n");
	}
}

void bench_cpu(const struct bench *b)
{
	struct server server = {.name = "cpu"};

	printf("\nThe client's CPU time: 4 KiB, %d in flight; medians of %u rounds. What the daemon uses is not in it. The "
	       "ratios are of the\nqueue's process, in the variant that is faster, to the others'. libuv: so many threads.\n",
		IN_FLIGHT, b->rounds);
	printf("%-5s %-19s %10s %14s %14s %16s %14s\n", "to", "client", "1000 req/s", "process us/req", "loop us/req",
		"queue/process", "queue/loop");
	server_start(&server, &b->arena);
	measure(b, server.name, DEST_PIPE);
	measure(b, server.name, DEST_TCP);
	server_stop(&server);
}
