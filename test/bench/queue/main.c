/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The queue beside what a server could use instead: its own loop, the one-request calls, libuv's threads, io_uring.
 *
 *   SFD_DAEMON=build/sendfiled [ROUNDS=5] [VARIANTS=all] build/bench/bench_queue [throughput | latency | cpu | growth]
 *
 * VARIANTS=all also measures the ways to use libuv and io_uring that are otherwise left out as no better.
 */
#include "test/bench/cold/supervise.h"
#include "test/bench/queue/queue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { ROUNDS = 5, MOST_ROUNDS = 1000 };

static const struct table {
	const char *name;
	void (*measure)(const struct bench *b);
} tables[] = {
	{"throughput", bench_throughput},
	{"latency", bench_latency},
	{"cpu", bench_cpu},
	{"growth", bench_growth},
};

enum { TABLES = sizeof tables / sizeof tables[0] };

static _Noreturn void usage(void)
{
	fprintf(stderr, "usage: [ROUNDS=1...%d] bench_queue [throughput | latency | cpu | growth]\n", MOST_ROUNDS);
	exit(64);
}

static unsigned rounds_wanted(void)
{
	const char *text = getenv("ROUNDS");
	unsigned long n;
	char *end;

	if (!text || !*text)
		return ROUNDS;
	n = strtoul(text, &end, 10);
	if (*end || n < 1 || n > MOST_ROUNDS)
		usage();
	return (unsigned)n;
}

static void check_table(const char *name)
{
	for (unsigned i = 0; i < TABLES; i++) {
		if (strcmp(name, tables[i].name) == 0)
			return;
	}
	usage();
}

/* As far as one may; the daemons that are started have it too. */
static void raise_limit(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
		die("getrlimit");
	rl.rlim_cur = rl.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &rl) < 0)
		die("setrlimit");
}

static void say_what_is_missing(void)
{
	const struct client *const optional[] = {&via_libuv, &via_uring};

	for (unsigned i = 0; i < sizeof optional / sizeof optional[0]; i++) {
		const char *why = optional[i]->missing ? optional[i]->missing() : NULL;

		if (why)
			printf("\n%s is left out: %s\n", optional[i]->name, why);
	}
}

static void work(void *arg)
{
	const struct bench *b = arg;

	say_what_is_missing();
	for (unsigned i = 0; i < TABLES; i++) {
		if (!b->only || strcmp(b->only, tables[i].name) == 0)
			tables[i].measure(b);
	}
}

int main(int argc, char *argv[])
{
	struct bench b = {.rounds = rounds_wanted()};
	int status;

	if (argc > 2)
		usage();
	if (argc == 2) {
		b.only = argv[1];
		check_table(b.only);
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	raise_limit();
	arena_open(&b.arena);
	load_files(&b.arena);
	status = supervise(work, &b);
	arena_close(&b.arena);
	return status;
}
