/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/bench/cold/figures.h"

#include <stdlib.h>

const char *const time_names[TIMES] = {"p50", "p99", "p99.9", "longest", "longest gap"};

/* The value that `share` of them lie below. They are in order. */
static double percentile(const double *ordered, unsigned n, double share)
{
	unsigned rank = (unsigned)(share * n);

	return ordered[rank < n ? rank : n - 1];
}

/* Puts the times of completion in order. Returns the longest between two, start and end included. */
static double longest_gap(const struct record *r, double *done, unsigned n)
{
	double last = (double)r->start, gap = 0;

	if (n > 0)
		median(done, n);
	for (unsigned i = 0; i < n; i++) {
		gap = done[i] - last > gap ? done[i] - last : gap;
		last = done[i];
	}
	return gap;
}

struct figures figures_of(const struct record *r, unsigned count, long held)
{
	double *latency = must_alloc(count * sizeof *latency);
	double *done = must_alloc((count + 1) * sizeof *done);
	/* With every request answered the end is when the last one was due: the time of grace is no gap. */
	double end = (double)r->start + (double)count * (double)PERIOD_NS;
	struct figures f;
	unsigned n = 0;

	for (unsigned i = 0; i < count; i++) {
		uint64_t due = r->start + i * PERIOD_NS;

		if (r->done_at[i])
			done[n++] = (double)r->done_at[i];
		latency[i] = (double)((r->done_at[i] ? r->done_at[i] : r->end) - due) / 1e3;
	}
	f.is[P50] = median(latency, count);
	f.is[P99] = percentile(latency, count, 0.99);
	f.is[P999] = percentile(latency, count, 0.999);
	f.is[LONGEST] = latency[count - 1];
	f.is[SHARE] = (double)n / count;
	f.is[HELD] = (double)held;
	done[n] = end;
	f.is[LONGEST_GAP] = longest_gap(r, done, n + 1) / 1e3;
	/* Nothing at all in the last quarter. */
	f.is[STOPPED] = n < count && (n == 0 || done[n - 1] < end - (double)count / 4 * (double)PERIOD_NS) ? 1 : 0;
	free(latency);
	free(done);
	return f;
}

struct figures figures_median(const struct figures *of, unsigned n)
{
	double *values = must_alloc(n * sizeof *values);
	struct figures m;

	for (unsigned i = 0; i < FIGURES; i++) {
		for (unsigned k = 0; k < n; k++)
			values[k] = of[k].is[i];
		m.is[i] = median(values, n);
	}
	free(values);
	return m;
}
