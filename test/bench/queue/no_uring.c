/* SPDX-License-Identifier: BSD-2-Clause */
/* Stands in for via_uring.c where there is no liburing. */
#include "test/bench/queue/queue.h"

static const char *missing(void)
{
	return "liburing (2.3 at least) was missing when this was built: 'make deps-bench' installs it";
}

const struct client via_uring = {.name = "io_uring", .missing = missing};
