/* SPDX-License-Identifier: BSD-2-Clause */
/* The loop that a server without us would write. It serves all that there is, then its peers read. */
#include "test/bench/queue/queue.h"

static void run(struct load *l)
{
	unsigned n;

	do {
		for (n = 0; n < l->in_flight && load_wants(l); n++) {
			send_file(l->arena->root_fd, load_file(l), l->dests[n][1]);
			load_next(l);
		}
		for (unsigned i = 0; i < n; i++)
			load_drain(l, i);
	} while (n > 0);
}

static const struct variant variants[] = {{"", 0, FEW | MANY}};

const struct client via_process = {.name = "in process", .run = run, .variants = variants, .n_variants = 1};
