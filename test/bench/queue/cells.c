/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/bench/queue/queue.h"

#include <math.h>
#include <stdio.h>

enum { TEXT_SIZE = 64 };

void put(int width, int decimals, double value)
{
	if (isnan(value))
		printf(" %*s", width, "-");
	else
		printf(" %*.*f", width, decimals, value);
}

void put_best(int width, const struct row *r, struct span s)
{
	const struct entry *best = best_of(r, s);
	char text[TEXT_SIZE] = "-";

	if (best)
		snprintf(text, sizeof text, "%.1f (%s)", best->median.rate / 1e3, best->variant.name);
	printf(" %*s", width, text);
}

void put_ratio(double ratio, double floor)
{
	char text[TEXT_SIZE] = "-";

	if (!isnan(ratio) && floor > 0)
		snprintf(text, sizeof text, "%.2f%s%.2f", ratio, ratio < floor ? " !<" : " >=", floor);
	else if (!isnan(ratio))
		snprintf(text, sizeof text, "%.2f       ", ratio);
	printf(" %13s", text);
}
