/* SPDX-License-Identifier: BSD-2-Clause */
/* The one-request calls: a status pipe for each request, all of them watched with epoll(7). */
#include "test/bench/queue/queue.h"

#include <sendfiled/sendfiled.h>

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { EVENTS = 64 };

static int srv, epoll;
static int *status;
static unsigned *idle, n_idle;

static void open_calls(struct load *l)
{
	srv = sfd_connect(l->arena->sock, l->server);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	if (srv < 0 || epoll < 0)
		die("sfd_connect, epoll_create1");
	status = must_alloc(l->in_flight * sizeof *status);
	idle = must_alloc(l->in_flight * sizeof *idle);
	for (unsigned i = 0; i < l->in_flight; i++)
		idle[n_idle++] = i;
}

static bool start(struct load *l, unsigned slot)
{
	struct epoll_event e = {.events = EPOLLIN, .data.u32 = slot};

	status[slot] = sfd_send(srv, load_file(l), l->dests[slot][1], 0, 0, true);
	if (status[slot] < 0) {
		if (errno != EAGAIN)
			die("sfd_send");
		return false;
	}
	load_next(l);
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, status[slot], &e) < 0)
		die("epoll_ctl");
	return true;
}

/* True if that was the end of it. */
static bool finish(const struct load *l, unsigned slot)
{
	if (!saw_success(status[slot]))
		return false;
	close(status[slot]);
	load_drain(l, slot);
	return true;
}

static void run(struct load *l)
{
	struct epoll_event events[EVENTS];

	while (load_wants(l) || n_idle < l->in_flight) {
		int n;

		while (n_idle > 0 && load_wants(l) && start(l, idle[n_idle - 1]))
			n_idle--;
		n = epoll_wait(epoll, events, EVENTS, -1);
		for (int i = 0; i < n; i++) {
			if (finish(l, events[i].data.u32))
				idle[n_idle++] = events[i].data.u32;
		}
	}
}

static const struct variant variants[] = {{"", 0, FEW | MANY}};

const struct client via_calls = {
	.name = "one-request",
	.nonblock = true,
	.open = open_calls,
	.run = run,
	.variants = variants,
	.n_variants = 1,
};
