/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/stats.h"

#include "server/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>

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

static void format_outcomes(char *buf, size_t size, struct stats *sum)
{
	size_t at = 0;

	for (unsigned i = 0; i < STATS_CODES && at < size; i++) {
		uint64_t n = counter_get(&sum->outcomes[i].count);
		int code = atomic_load_explicit(&sum->outcomes[i].code, memory_order_relaxed);
		int len;

		if (n == 0)
			continue;
		if (i == STATS_CODES - 1)
			len = snprintf(buf + at, size - at, " outcome.other=%" PRIu64, n);
		else
			len = snprintf(buf + at, size - at, " outcome.%d=%" PRIu64, code, n);
		at += len > 0 ? (size_t)len : 0;
	}
}

void stats_log(struct stats *columns, unsigned n, uint64_t restarts)
{
	struct stats sum = {0};
	char outcomes[640] = "";

	for (unsigned i = 0; i < n; i++) {
		counter_add(&sum.active, counter_get(&columns[i].active));
		counter_add(&sum.requests, counter_get(&columns[i].requests));
		counter_add(&sum.bytes, counter_get(&columns[i].bytes));
		counter_add(&sum.fallbacks, counter_get(&columns[i].fallbacks));
		counter_add(&sum.forwarded, counter_get(&columns[i].forwarded));
		merge_outcomes(&sum, &columns[i]);
	}
	format_outcomes(outcomes, sizeof outcomes, &sum);
	log_line(LOG_LEVEL_INFO,
		"counters: active=%" PRIu64 " requests=%" PRIu64 " bytes=%" PRIu64 " fallbacks=%" PRIu64
		" forwarded=%" PRIu64 " restarts=%" PRIu64 "%s",
		counter_get(&sum.active), counter_get(&sum.requests), counter_get(&sum.bytes),
		counter_get(&sum.fallbacks), counter_get(&sum.forwarded), restarts, outcomes);
}
