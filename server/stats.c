/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/stats.h"

#include "server/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

struct stats *stats_new(unsigned n)
{
	void *p = mmap(NULL, n * sizeof(struct stats), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* Slot 0 is success; a slot whose count is 0 is free. A reader may see a new slot a moment late, never a wrong one. */
void stats_outcome(struct stats *own, int code)
{
	unsigned i = 0;

	if (code != 0) {
		for (i = 1; i < STATS_CODES - 1; i++) {
			struct stats_code *c = &own->outcomes[i];

			if (atomic_load_explicit(&c->code, memory_order_relaxed) == code)
				break;
			if (counter_get(&c->count) == 0) {
				atomic_store_explicit(&c->code, code, memory_order_relaxed);
				break;
			}
		}
	}
	counter_add(&own->outcomes[i].count, 1);
}

static struct stats_device *find_device(struct stats *own, uint64_t device)
{
	unsigned i = 0;

	for (; i < STATS_DEVICES - 1; i++) {
		uint64_t here = atomic_load_explicit(&own->devices[i].device, memory_order_relaxed);

		if (here == device)
			break;
		if (here == 0) {
			atomic_store_explicit(&own->devices[i].device, device, memory_order_relaxed);
			break;
		}
	}
	return &own->devices[i];
}

void stats_job(struct stats *own, uint64_t device, uint64_t took_ns)
{
	uint64_t limit_ns = UINT64_C(100000);
	unsigned i = 0;

	while (i < STATS_LATENCIES - 1 && took_ns > limit_ns) {
		limit_ns *= 10;
		i++;
	}
	counter_add(&find_device(own, device)->latencies[i], 1);
}

uint64_t stats_active(struct stats *columns, unsigned n)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < n; i++)
		sum += counter_get(&columns[i].active);
	return sum;
}

/* Adds another worker's outcomes to a private sum. */
static void merge_outcomes(struct stats *sum, struct stats *column)
{
	for (unsigned i = 0; i < STATS_CODES; i++) {
		uint64_t n = counter_get(&column->outcomes[i].count);
		int code = atomic_load_explicit(&column->outcomes[i].code, memory_order_relaxed);
		unsigned at = i;

		if (n == 0)
			continue;
		if (i > 0 && i < STATS_CODES - 1) {
			at = 1;
			while (at < STATS_CODES - 1 && counter_get(&sum->outcomes[at].count) > 0 &&
				atomic_load_explicit(&sum->outcomes[at].code, memory_order_relaxed) != code)
				at++;
			atomic_store_explicit(&sum->outcomes[at].code, code, memory_order_relaxed);
		}
		counter_add(&sum->outcomes[at].count, n);
	}
}

/* A line that grows; what does not fit is cut off. */
struct line {
	char text[1000];
	size_t at;
};

static void add(struct line *l, const char *name, uint64_t n)
{
	int len = snprintf(l->text + l->at, sizeof l->text - l->at, " %s=%" PRIu64, name, n);

	if (len > 0)
		l->at += (size_t)len < sizeof l->text - l->at ? (size_t)len : sizeof l->text - l->at - 1;
}

static void add_outcomes(struct line *l, struct stats *sum)
{
	for (unsigned i = 0; i < STATS_CODES; i++) {
		uint64_t n = counter_get(&sum->outcomes[i].count);
		char name[32];

		snprintf(name, sizeof name, "outcome.%d",
			atomic_load_explicit(&sum->outcomes[i].code, memory_order_relaxed));
		if (n > 0)
			add(l, i == STATS_CODES - 1 ? "outcome.other" : name, n);
	}
}

static void merge_devices(struct stats *sum, struct stats *column)
{
	for (unsigned i = 0; i < STATS_DEVICES; i++) {
		uint64_t device = atomic_load_explicit(&column->devices[i].device, memory_order_relaxed);
		struct stats_device *to = &sum->devices[STATS_DEVICES - 1];

		if (i < STATS_DEVICES - 1 && device == 0)
			continue;
		if (i < STATS_DEVICES - 1)
			to = find_device(sum, device);
		for (unsigned j = 0; j < STATS_LATENCIES; j++)
			counter_add(&to->latencies[j], counter_get(&column->devices[i].latencies[j]));
	}
}

static void log_devices(struct stats *sum)
{
	static const char *const names[STATS_LATENCIES] = {"0.1ms", "1ms", "10ms", "100ms", "1s", "10s", "more"};

	for (unsigned i = 0; i < STATS_DEVICES; i++) {
		uint64_t device = atomic_load_explicit(&sum->devices[i].device, memory_order_relaxed), n = 0;
		struct line l = {.at = 0};

		for (unsigned j = 0; j < STATS_LATENCIES; j++) {
			n += counter_get(&sum->devices[i].latencies[j]);
			add(&l, names[j], counter_get(&sum->devices[i].latencies[j]));
		}
		if (n > 0)
			log_line(LOG_LEVEL_INFO, "device %u:%u: jobs=%" PRIu64 " up to:%s", major(device),
				minor(device), n, l.text);
	}
}

static void merge(struct stats *sum, struct stats *column)
{
	counter_add(&sum->active, counter_get(&column->active));
	counter_add(&sum->requests, counter_get(&column->requests));
	counter_add(&sum->bytes, counter_get(&column->bytes));
	counter_add(&sum->fallbacks, counter_get(&column->fallbacks));
	counter_add(&sum->forwarded, counter_get(&column->forwarded));
	counter_add(&sum->hot_turns, counter_get(&column->hot_turns));
	counter_add(&sum->cold_turns, counter_get(&column->cold_turns));
	counter_add(&sum->jobs_lost, counter_get(&column->jobs_lost));
	for (unsigned i = 0; i < OPEN_REASONS; i++)
		counter_add(&sum->opens[i], counter_get(&column->opens[i]));
	for (unsigned i = 0; i < POOL_KINDS; i++)
		counter_add(&sum->jobs[i], counter_get(&column->jobs[i]));
	merge_devices(sum, column);
	merge_outcomes(sum, column);
}

static void add_helpers(struct line *l, struct stats *sum, const struct stats_master *m)
{
	static const char *const opens[OPEN_REASONS] = {
		"opens.cold", "opens.link", "opens.missing", "opens.leased", "opens.other"};
	static const char *const jobs[POOL_KINDS] = {"jobs.open", "jobs.read", "jobs.write"};
	static const char *const stuck[POOL_KINDS] = {"stuck.openers", "stuck.readers", "stuck.writers"};

	add(l, "hot_turns", counter_get(&sum->hot_turns));
	add(l, "cold_turns", counter_get(&sum->cold_turns));
	for (unsigned i = 0; i < OPEN_REASONS; i++)
		add(l, opens[i], counter_get(&sum->opens[i]));
	for (unsigned i = 0; i < POOL_KINDS; i++)
		add(l, jobs[i], counter_get(&sum->jobs[i]));
	for (unsigned i = 0; i < POOL_KINDS; i++)
		add(l, stuck[i], m->stuck[i]);
	add(l, "stuck_ever", m->stuck_ever);
	add(l, "jobs_lost", counter_get(&sum->jobs_lost));
	add(l, "helper_deaths", m->helper_deaths);
}

void stats_log(struct stats *columns, unsigned n, const struct stats_master *master)
{
	struct line l = {.at = 0}, helpers = {.at = 0};
	struct stats sum = {0};

	for (unsigned i = 0; i < n; i++)
		merge(&sum, &columns[i]);
	add(&l, "active", counter_get(&sum.active));
	add(&l, "requests", counter_get(&sum.requests));
	add(&l, "bytes", counter_get(&sum.bytes));
	add(&l, "fallbacks", counter_get(&sum.fallbacks));
	add(&l, "forwarded", counter_get(&sum.forwarded));
	add(&l, "restarts", master->restarts);
	add_outcomes(&l, &sum);
	log_line(LOG_LEVEL_INFO, "counters:%s", l.text);
	add_helpers(&helpers, &sum, master);
	log_line(LOG_LEVEL_INFO, "helpers:%s", helpers.text);
	log_devices(&sum);
}
