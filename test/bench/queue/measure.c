/* SPDX-License-Identifier: BSD-2-Clause */
/* Runs, each in a process of its own, so that no contestant inherits anything from another. */
#include "test/bench/cold/supervise.h"
#include "test/bench/queue/queue.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* How long a run lasts, and what warms up before it; and when it is hopeless. */
static const double RUN_NS = 0.18e9, WARM_UP_NS = 0.03e9;

enum { LIMIT_S = 60 };

struct span row_add(struct row *r, const struct client *c, struct variant v, const char *server)
{
	if (r->n == MOST_ENTRIES) {
		errno = E2BIG;
		die("entries");
	}
	r->entries[r->n] = (struct entry){.client = c, .variant = v, .server = server};
	return (struct span){.first = r->n++, .count = 1};
}

struct span row_add_all(struct row *r, const struct client *c, const char *server)
{
	unsigned when = r->load.in_flight < IN_FLIGHT ? FEW : MANY;
	const char *wanted = getenv("VARIANTS");
	bool all = wanted && strcmp(wanted, "all") == 0;
	struct span s = {.first = r->n};

	if (c->missing && c->missing())
		return s;
	for (unsigned i = 0; i < c->n_variants; i++) {
		if (all || c->variants[i].when & when) {
			row_add(r, c, c->variants[i], server);
			s.count++;
		}
	}
	return s;
}

const struct entry *best_of(const struct row *r, struct span s)
{
	const struct entry *best = NULL;

	for (unsigned i = s.first; i < s.first + s.count; i++) {
		if (!best || r->entries[i].median.rate > best->median.rate)
			best = &r->entries[i];
	}
	return best;
}

double best_rate(const struct row *r, struct span s)
{
	const struct entry *best = best_of(r, s);

	return best ? best->median.rate : NAN;
}

static double used_us(int who)
{
	struct rusage u;

	if (getrusage(who, &u) < 0)
		die("getrusage");
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* Requests per second. */
static double timed(const struct client *c, struct load *l, double ns)
{
	uint64_t start = now_ns();

	load_start(l, ns);
	c->run(l);
	return (double)l->begun * 1e9 / (double)(now_ns() - start);
}

static _Noreturn void serve(const struct entry *e, struct load l, struct outcome *o)
{
	double cpu, loop_cpu;

	end_with_parent();
	alarm(LIMIT_S);
	load_open(&l, e->client->nonblock);
	if (e->client->open)
		e->client->open(&l);
	timed(e->client, &l, WARM_UP_NS);
	cpu = used_us(RUSAGE_SELF);
	loop_cpu = used_us(RUSAGE_THREAD);
	o->rate = timed(e->client, &l, RUN_NS);
	o->cpu = (used_us(RUSAGE_SELF) - cpu) / (double)l.begun;
	o->loop_cpu = (used_us(RUSAGE_THREAD) - loop_cpu) / (double)l.begun;
	_exit(0);
}

static _Noreturn void say_how_it_ended(const struct entry *e, const struct load *l, int status)
{
	const char *how = "failed";

	if (WIFSIGNALED(status))
		how = WTERMSIG(status) == SIGALRM ? "took longer than a minute" : strsignal(WTERMSIG(status));
	fprintf(stderr, "bench: %s %s, %u in flight, %u bytes to %s: %s\n", e->client->name, e->variant.name,
		l->in_flight, l->size, dest_names[l->kind], how);
	exit(1);
}

static struct outcome measure(const struct entry *e, struct load l)
{
	struct outcome *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct outcome o;
	int status;
	pid_t pid;

	if (shared == MAP_FAILED)
		die("mmap");
	l.server = e->server;
	l.how = e->variant.how;
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0)
		serve(e, l, shared);
	if (waitpid(pid, &status, 0) < 0)
		die("waitpid");
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		say_how_it_ended(e, &l, status);
	o = *shared;
	munmap(shared, sizeof *shared);
	return o;
}

void row_measure(struct row *r, unsigned rounds)
{
	double *values = must_alloc((size_t)3 * r->n * rounds * sizeof *values);

	for (unsigned k = 0; k < rounds; k++) {
		load_warm(r->load.arena, r->load.size);
		/* Each round begins with another, so that a change in the course of a round favours nobody. */
		for (unsigned i = 0; i < r->n; i++) {
			unsigned at = (i + k) % r->n;
			struct outcome o = measure(&r->entries[at], r->load);
			double *v = values + (size_t)3 * at * rounds + k;

			v[0] = o.rate;
			v[rounds] = o.cpu;
			v[(size_t)2 * rounds] = o.loop_cpu;
		}
	}
	for (unsigned i = 0; i < r->n; i++) {
		double *v = values + (size_t)3 * i * rounds;

		r->entries[i].median = (struct outcome){.rate = median(v, rounds),
			.cpu = median(v + rounds, rounds),
			.loop_cpu = median(v + (size_t)2 * rounds, rounds)};
	}
	free(values);
}
