/* SPDX-License-Identifier: BSD-2-Clause */
/* Few requests at a time: what counts is how long one takes from the client to the daemon and back. */
#include "test/bench/queue/queue.h"

#include <math.h>
#include <stdio.h>

enum { SERVERS = 3 };

static struct server servers[SERVERS] = {
	{.name = "default"},
	{.name = "busy0", .busy_poll = "0"},
	{.name = "busy50", .busy_poll = "50"},
};

static void measure(const struct bench *b, unsigned n_servers, unsigned in_flight, enum dest kind)
{
	const struct variant waiting = {.name = "epoll", .how = QUEUE_ALL | QUEUE_EPOLL};
	struct row r = {.load = {.arena = &b->arena, .kind = kind, .size = SMALL, .in_flight = in_flight}};
	struct span queue[SERVERS] = {{0}}, libuv, uring, process;
	double q;

	for (unsigned i = 0; i < n_servers; i++)
		queue[i] = row_add(&r, &via_queue, waiting, servers[i].name);
	libuv = row_add_all(&r, &via_libuv, NULL);
	uring = row_add_all(&r, &via_uring, NULL);
	process = row_add_all(&r, &via_process, NULL);
	row_measure(&r, b->rounds);
	q = best_rate(&r, queue[0]);
	printf("%9u %-5s", in_flight, dest_names[kind]);
	for (unsigned i = 0; i < SERVERS; i++)
		put(11, 1, best_rate(&r, queue[i]) / 1e3);
	put_best(12, &r, libuv);
	put_best(20, &r, uring);
	put(10, 1, best_rate(&r, process) / 1e3);
	put(14, 1, (double)in_flight * 1e6 / q);
	put(8, 2, q / best_rate(&r, libuv));
	put(9, 2, q / best_rate(&r, uring));
	put(11, 2, q / best_rate(&r, process));
	printf("\n");
}

void bench_latency(const struct bench *b)
{
	static const unsigned in_flight[] = {1, 4};
	unsigned n_servers = server_knows("--busy-poll") ? SERVERS : 1;

	printf("\nFew in flight: 4 KiB; thousand requests/s, medians of %u rounds. Every client sleeps until something is done. "
	       "The queue with\nthree daemons: of the default options, which the ratios are of, and of other --busy-poll.\n",
		b->rounds);
	if (n_servers == 1)
		printf("The daemon has no option --busy-poll: left out.\n");
	printf("%9s %-5s %11s %11s %11s %12s %20s %10s %14s %8s %9s %11s\n", "in flight", "to", "queue", "busy-poll 0",
		"b.-poll 50", "libuv", "io_uring", "in process", "queue us/req", "/libuv", "/io_uring", "/in process");
	for (unsigned i = 0; i < n_servers; i++)
		server_start(&servers[i], &b->arena);
	for (unsigned i = 0; i < sizeof in_flight / sizeof in_flight[0]; i++) {
		for (int kind = 0; kind < DEST_COUNT; kind++)
			measure(b, n_servers, in_flight[i], (enum dest)kind);
	}
	for (unsigned i = 0; i < n_servers; i++)
		server_stop(&servers[i]);
}
