/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/pipes.h"

#include "server/loop.h"
#include "server/os/files.h"

#include <errno.h>
#include <unistd.h>

static const uint64_t STALL_NS = UINT64_C(100) * 1000 * 1000; /* who has been stalled for so long can be robbed */
static const uint64_t SPARE_NS = UINT64_C(50) * 1000 * 1000;  /* so long spare ones are kept */

void pipes_init(struct pipes *ps, unsigned most)
{
	*ps = (struct pipes){.most = most < PIPES_MAX ? most : PIPES_MAX};
	list_init(&ps->stalled);
}

/*
 * Half of what the user may have: its other pipes need some too. A pipe more than that is a smaller one, but a reader
 * without a pipe could not work at all.
 */
unsigned pipes_share(unsigned workers, unsigned readers)
{
	const uint64_t least = readers + PIPES_SPARE, most = os_pipe_budget() / 2 / PIPE_CHUNK / workers;

	if (most < least)
		return (unsigned)least;
	return most > PIPES_MAX ? PIPES_MAX : (unsigned)most;
}

int pipes_get(struct pipes *ps, struct pipe_pair *out)
{
	int ends[2];

	if (ps->spare_count > 0) {
		*out = ps->spare[--ps->spare_count];
		return 0;
	}
	if (ps->made < ps->most && os_pipe(ends, PIPE_CHUNK) == 0) {
		*out = (struct pipe_pair){ends[0], ends[1]};
		ps->made++;
		return 0;
	}
	ps->wanted = true;
	errno = EAGAIN;
	return -1;
}

bool pipes_plenty(const struct pipes *ps)
{
	return !ps->wanted && ps->made - ps->spare_count < ps->most / 2;
}

static void close_pair(struct pipes *ps, const struct pipe_pair *pair)
{
	close(pair->read_fd);
	close(pair->write_fd);
	ps->made--;
}

void pipes_put(struct pipes *ps, struct pipe_pair *pair, bool empty)
{
	ps->used = true;
	if (empty && ps->spare_count < PIPES_MAX)
		ps->spare[ps->spare_count++] = *pair;
	else
		close_pair(ps, pair);
}

void pipes_stalled(struct pipes *ps, struct pipe_holder *h, uint64_t now_ns)
{
	if (!list_empty(&h->node))
		return;
	h->since_ns = now_ns;
	list_append(&ps->stalled, &h->node);
}

void pipes_moving(struct pipe_holder *h)
{
	list_remove(&h->node);
}

static void close_unused(struct pipes *ps, uint64_t now_ns)
{
	if (ps->used)
		ps->used_ns = now_ns;
	ps->used = false;
	while (ps->spare_count > 0 && ps->used_ns + SPARE_NS <= now_ns)
		close_pair(ps, &ps->spare[--ps->spare_count]);
}

bool pipes_work(struct pipes *ps, uint64_t now_ns)
{
	close_unused(ps, now_ns);
	if (!ps->wanted)
		return false;
	while (ps->spare_count == 0 && ps->made >= ps->most && !list_empty(&ps->stalled)) {
		struct pipe_holder *h = container_of(ps->stalled.next, struct pipe_holder, node);

		if (h->since_ns + STALL_NS > now_ns)
			return false;
		list_remove(&h->node);
		h->rob(h);
	}
	if (ps->spare_count == 0 && ps->made >= ps->most)
		return false;
	ps->wanted = false;
	return true;
}

int pipes_nap_ms(const struct pipes *ps)
{
	return ps->spare_count > 0 ? (int)(SPARE_NS / 1000000) : -1;
}
