/* SPDX-License-Identifier: BSD-2-Clause */
/* One phase: a server, in a process of its own, gets the load, while the file system holds its reads of cold files. */
#include "test/bench/cold/cold.h"
#include "test/bench/cold/supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	MAX_TRANSFERS = 1000,
	MARGIN_S = 3, /* for what comes before the schedule */
	LIMIT_S = 40, /* for all but the schedule, when something is wrong */
};

static unsigned serial;

static void make_cold(const struct slow *slow, const struct variant *v, const char *prefix)
{
	for (unsigned i = 0; i < v->n_cold; i++)
		slow_do(slow, "add %s-%u %d %u", prefix, i, COLD_SIZE, serial + i);
	slow_do(slow, "hold read");
}

static _Noreturn void serve(struct load *l, const struct server *server, unsigned limit)
{
	end_with_parent();
	alarm(limit);
	load_open(l, server->nonblock_dest);
	server->serve(l);
	_exit(0);
}

/*
 * Until the server says that the time is over. One that is stuck says nothing: then it is over all the same, and it
 * comes back when the reads return.
 */
static void await_notice(int notice, unsigned ms)
{
	struct pollfd p = {.fd = notice, .events = POLLIN};

	while (poll(&p, 1, (int)ms) < 0) {
		if (errno != EINTR)
			die("poll");
	}
}

/* Runs the server to its end. The number of cold reads that hung when the time was over. */
static long run_server(struct load *l, const struct server *server, unsigned seconds)
{
	int notice[2], status;
	long held;
	pid_t pid;

	if (pipe2(notice, O_CLOEXEC) < 0)
		die("pipe");
	l->notice = notice[1];
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0)
		serve(l, server, seconds + LIMIT_S);
	close(notice[1]);
	await_notice(notice[0], (seconds + MARGIN_S) * 1000 + GRACE_MS);
	held = slow_do(l->slow, "held read");
	slow_do(l->slow, "release read");
	if (waitpid(pid, &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		fprintf(stderr, "bench: %s did not get through\n", server->name);
		exit(1);
	}
	close(notice[0]);
	if (l->n_cold > 0 && held == 0) {
		fprintf(stderr, "bench: %s: no cold read hung until the end\n", server->name);
		exit(1);
	}
	return held;
}

struct figures run_phase(struct bench *b, const struct slow *slow, const struct variant *v)
{
	unsigned count = b->seconds * RATE;
	size_t size = sizeof(struct record) + count * sizeof(uint64_t);
	struct record *record = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct load load = {
		.arena = &b->arena, .slow = slow, .n_cold = v->n_cold, .count = WARM_UP + count, .record = record};
	struct figures f;
	char prefix[32];
	long held;

	if (record == MAP_FAILED)
		die("mmap");
	/* All of it is written to in the phase, and faults are not what is measured. */
	memset(record, 0, size);
	alarm(b->seconds + LIMIT_S + 10);
	snprintf(prefix, sizeof prefix, "cold-%u", serial++);
	load.prefix = prefix;
	make_cold(slow, v, prefix);
	arena_warm(&b->arena, HOT_NAME);
	if (v->workers[0])
		arena_spawn(&b->arena, v->n_workers, MAX_TRANSFERS);
	held = run_server(&load, v->server, b->seconds);
	if (v->workers[0])
		arena_stop(&b->arena);
	alarm(0);
	f = figures_of(record, count, held);
	munmap(record, size);
	return f;
}
