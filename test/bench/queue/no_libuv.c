/* SPDX-License-Identifier: BSD-2-Clause */
/* Stands in for via_libuv.c where there is no libuv. */
#include "test/bench/queue/queue.h"

static const char *missing(void)
{
	return "libuv was missing when this was built: 'make deps-bench' installs it";
}

const struct client via_libuv = {.name = "libuv", .missing = missing};
