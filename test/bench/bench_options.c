/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What options cost: hot files through a queue, 64 in flight, without options and with one of them in turn, in one run.
 * An open file is one that the client lends: helpers read it, whether or not it is in memory.
 * Headers are asked to cost at most a tenth on 4 KiB files; what copies, a deadline, and a rate that is never reached cost, is
 * reported. And how near to what was asked a rate comes.
 */
#include "test/bench/common.h"

#include <sendfiled/sendfiled.h>

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
	IN_FLIGHT = 64,
	ROUNDS = 5,
	HEADER = 200,
	VARIANTS = 7,
	RATE_SECONDS = 4,
};

static const char file_name[] = "file";
static const double header_floor = 0.9;

struct variant {
	const char *name;
	struct sfd_opts opts;
	bool is_lent; /* sfd_queue_sendfd() */
};

struct run {
	const struct arena *arena;
	struct sfd_queue *queue;
	uint64_t size;
	unsigned requests;
	int file; /* open, for those that are lent */
	int ends[IN_FLIGHT][2];
};

static void ask(struct run *r, const struct variant *v, unsigned i)
{
	const int dest = r->ends[i][1];
	int failed;

	if (v->is_lent)
		failed = sfd_queue_sendfd(r->queue, r->file, dest, 0, 0, &v->opts, i);
	else
		failed = sfd_queue_send(r->queue, file_name, dest, 0, 0, &v->opts, i);
	if (failed < 0)
		die("sfd_queue_send");
}

/* Requests per second. */
static double measure(struct run *r, const struct variant *v, enum dest kind)
{
	const uint64_t each = r->size + (v->opts.hdr_cnt > 0 ? HEADER : 0);
	struct sfd_event events[IN_FLIGHT];
	unsigned started = 0, done = 0;
	uint64_t start;

	for (unsigned i = 0; i < IN_FLIGHT; i++)
		make_dest(kind, r->ends[i], true);
	start = now_ns();
	for (; started < IN_FLIGHT; started++)
		ask(r, v, started);
	while (done < r->requests) {
		int n = sfd_queue_wait(r->queue, events, IN_FLIGHT, -1);

		if (n < 0)
			die("sfd_queue_wait");
		for (int i = 0; i < n; i++) {
			if (events[i].stat != SFD_STAT_OK || events[i].written != each)
				die("a transfer failed");
			drain(r->ends[events[i].user_data][0], each);
			done++;
			if (started < r->requests) {
				ask(r, v, (unsigned)events[i].user_data);
				started++;
			}
		}
	}
	start = now_ns() - start;
	for (unsigned i = 0; i < IN_FLIGHT; i++) {
		close(r->ends[i][0]);
		close(r->ends[i][1]);
	}
	return r->requests * 1e9 / (double)start;
}

static void compare(struct run *r, const struct variant *variants, enum dest kind)
{
	double rates[VARIANTS][ROUNDS], plain;

	for (unsigned i = 0; i < ROUNDS; i++) {
		for (unsigned v = 0; v < VARIANTS; v++)
			rates[v][i] = measure(r, &variants[v], kind);
	}
	plain = median(rates[0], ROUNDS);
	printf("%2llu KiB %-5s %10.1f", (unsigned long long)r->size / 1024, dest_names[kind], plain / 1e3);
	for (unsigned v = 1; v < VARIANTS; v++) {
		const double ratio = median(rates[v], ROUNDS) / plain;

		printf(" %13.2f%s", ratio,
			v > 1 || r->size > 4096 ? ""
			: ratio < header_floor  ? " (0.90: no)"
						: " (0.90)");
	}
	printf("\n");
	fflush(stdout);
}

/* ---- How well a rate is kept */

struct arrival {
	uint64_t ns;
	size_t bytes;
};

/* The most that came within any second, of what was asked. */
static double most_in_a_second(const struct arrival *all, unsigned count, uint64_t rate)
{
	uint64_t sum = 0, most = 0;

	for (unsigned first = 0, last = 0; last < count; last++) {
		sum += all[last].bytes;
		while (all[last].ns - all[first].ns >= 1000000000)
			sum -= all[first++].bytes;
		if (sum > most)
			most = sum;
	}
	return (double)most / (double)rate;
}

static void keep_rate(struct arena *a, struct sfd_queue *q, uint64_t rate)
{
	static struct arrival all[65536];
	static char bytes[1 << 16];
	const struct sfd_opts opts = {.max_rate = rate};
	const uint64_t size = rate * RATE_SECONDS, begin = now_ns();
	struct sfd_event e;
	uint64_t got = 0;
	unsigned count = 0;
	int ends[2];

	arena_file(a, "rated", size);
	arena_warm(a, "rated");
	make_dest(DEST_PIPE, ends, true);
	if (sfd_queue_send(q, "rated", ends[1], 0, 0, &opts, 0) < 0 || sfd_queue_submit(q) != 1)
		die("sfd_queue_send");
	while (got < size && count < sizeof all / sizeof all[0]) {
		struct pollfd p = {.fd = ends[0], .events = POLLIN};
		ssize_t n;

		if (poll(&p, 1, 10000) <= 0 || (n = read(ends[0], bytes, sizeof bytes)) <= 0)
			die("a rated transfer stands still");
		all[count++] = (struct arrival){.ns = now_ns(), .bytes = (size_t)n};
		got += (uint64_t)n;
	}
	if (sfd_queue_wait(q, &e, 1, 10000) != 1 || e.stat != SFD_STAT_OK)
		die("a rated transfer failed");
	printf("%10llu bytes/s asked: %.3f of it in all, %.3f at most within any second as its reader sees it (1.05)\n",
		(unsigned long long)rate, (double)size / (double)rate * 1e9 / (double)(all[count - 1].ns - begin),
		most_in_a_second(all, count, rate));
	close(ends[0]);
	close(ends[1]);
}

static void keep_rates(void)
{
	static const uint64_t rates[] = {20000, 1000000, 50000000};
	struct sfd_queue *q;
	struct arena a;

	printf("\nRates: %d seconds' worth of a hot file to a pipe.\n", RATE_SECONDS);
	arena_open(&a);
	arena_spawn(&a, 1, 1000);
	q = sfd_queue_new(a.srv, 1);
	if (!q)
		die("sfd_queue_new");
	for (unsigned i = 0; i < sizeof rates / sizeof rates[0]; i++)
		keep_rate(&a, q, rates[i]);
	sfd_queue_free(q);
	arena_stop(&a);
	arena_close(&a);
}

int main(void)
{
	static char text[HEADER];
	struct iovec iov = {.iov_base = text, .iov_len = sizeof text};
	const struct variant variants[VARIANTS] = {
		{.name = "no options"},
		{.name = "headers", .opts = {.headers = &iov, .hdr_cnt = 1}},
		{.name = "SYNC", .opts = {.flags = SFD_SYNC}},
		{.name = "NODISKIO", .opts = {.flags = SFD_NODISKIO}},
		{.name = "timeout", .opts = {.timeout_ms = 60000}},
		{.name = "rate", .opts = {.max_rate = UINT64_C(50000000000)}},
		{.name = "open file", .is_lent = true},
	};
	static const uint64_t sizes[] = {4096, 32768}; /* with the headers, what a pipe has room for */

	memset(text, 'h', sizeof text);
	printf("\nOptions: a hot file through a queue, %d in flight; thousand requests/s without, and the ratio to that with "
	       "one of them;\nmedians of %d runs in turn. Headers: %d bytes.\n",
		IN_FLIGHT, ROUNDS, HEADER);
	printf("%-12s %10s %20s", "file, to", variants[0].name, variants[1].name);
	for (unsigned v = 2; v < VARIANTS; v++)
		printf(" %13s", variants[v].name);
	printf("\n");
	for (unsigned s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
		struct arena a;
		struct run r = {.arena = &a, .size = sizes[s], .requests = sizes[s] > 4096 ? 2000 : 10000};

		arena_open(&a);
		arena_file(&a, file_name, sizes[s]);
		arena_spawn(&a, 1, 1000);
		arena_warm(&a, file_name);
		r.file = openat(a.root_fd, file_name, O_RDONLY | O_CLOEXEC);
		if (r.file < 0)
			die(file_name);
		r.queue = sfd_queue_new(a.srv, IN_FLIGHT);
		if (!r.queue)
			die("sfd_queue_new");
		for (int kind = 0; kind < DEST_COUNT; kind++)
			compare(&r, variants, (enum dest)kind);
		sfd_queue_free(r.queue);
		close(r.file);
		arena_stop(&a);
		arena_close(&a);
	}
	keep_rates();
	return 0;
}
