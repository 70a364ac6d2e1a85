/* SPDX-License-Identifier: BSD-2-Clause */
/* The queue: many requests to a datagram, and one descriptor for all their events. */
#include "test/bench/queue/queue.h"

#include <sendfiled/sendfiled.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

enum { EVENTS = 64 };

static struct sfd_queue *queue;
static int epoll = -1;
static unsigned grain;
static unsigned *idle, n_idle;
static unsigned added; /* since the last submit */

static void open_queue(struct load *l)
{
	struct epoll_event e = {.events = EPOLLIN};
	int srv = sfd_connect(l->arena->sock, l->server);

	if (srv < 0)
		die("sfd_connect");
	queue = sfd_queue_new(srv, l->in_flight);
	if (!queue)
		die("sfd_queue_new");
	grain = l->how & QUEUE_GRAIN;
	idle = must_alloc(l->in_flight * sizeof *idle);
	for (unsigned i = l->in_flight; i > 0; i--)
		idle[n_idle++] = i - 1;
	if (!(l->how & QUEUE_EPOLL))
		return;
	epoll = epoll_create1(EPOLL_CLOEXEC);
	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, sfd_queue_fd(queue), &e) < 0)
		die("epoll");
}

/* What did not go, the socket being full for instance, stays in the queue. */
static void submit(void)
{
	added = 0;
	if (sfd_queue_submit(queue) < 0 && errno != EAGAIN && errno != ETOOMANYREFS && errno != ENOBUFS &&
		errno != ENOMEM)
		die("sfd_queue_submit");
}

static bool add(struct load *l, unsigned slot)
{
	if (sfd_queue_send(queue, load_file(l), l->dests[slot][1], 0, 0, NULL, slot) < 0) {
		if (errno != EAGAIN)
			die("sfd_queue_send");
		return false;
	}
	load_next(l);
	if (++added == grain)
		submit();
	return true;
}

/* Adds what there is to add, if there are room and destinations. */
static void fill(struct load *l)
{
	while (n_idle > 0 && load_wants(l)) {
		if (!add(l, idle[n_idle - 1])) {
			submit();
			if (!add(l, idle[n_idle - 1]))
				return;
		}
		n_idle--;
	}
}

static void finish(const struct load *l, const struct sfd_event *e)
{
	if (e->type != SFD_EV_DONE || e->stat != SFD_STAT_OK || e->bytes != l->size || e->user_data >= l->in_flight) {
		fprintf(stderr, "bench: event %d of request %llu: %s, %llu bytes\n", e->type,
			(unsigned long long)e->user_data, sfd_strstat(e->stat), (unsigned long long)e->bytes);
		exit(1);
	}
	load_drain(l, (unsigned)e->user_data);
	idle[n_idle++] = (unsigned)e->user_data;
}

static int next_events(struct sfd_event *events)
{
	struct epoll_event ready;
	int n;

	if (epoll < 0) {
		n = sfd_queue_wait(queue, events, EVENTS, -1);
	} else {
		submit();
		if (epoll_wait(epoll, &ready, 1, -1) < 0)
			die("epoll_wait");
		n = sfd_queue_reap(queue, events, EVENTS);
	}
	if (n < 0)
		die("sfd_queue_wait, sfd_queue_reap");
	return n;
}

static void run(struct load *l)
{
	struct sfd_event events[EVENTS];

	fill(l);
	while (load_wants(l) || n_idle < l->in_flight) {
		int n = next_events(events);

		/* Each destination is used again as soon as it is drained, so that a submit need not wait for the others. */
		for (int i = 0; i < n; i++) {
			finish(l, &events[i]);
			fill(l);
		}
		fill(l);
	}
}

static const struct variant variants[] = {{"all", QUEUE_ALL, MANY}, {"by 16", QUEUE_BY_16, MANY}};

const struct client via_queue = {
	.name = "queue",
	.nonblock = true,
	.open = open_queue,
	.run = run,
	.variants = variants,
	.n_variants = sizeof variants / sizeof variants[0],
};
