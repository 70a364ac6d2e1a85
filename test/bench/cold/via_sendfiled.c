/* SPDX-License-Identifier: BSD-2-Clause */
/* An event loop that has its files sent by the daemon. */
#include "test/bench/cold/load.h"

#include <sendfiled/sendfiled.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

static void send_cold(const struct load *l, int status[COLD_MAX])
{
	struct pollfd room = {.fd = l->arena->srv, .events = POLLOUT};
	char name[PATH_SIZE];

	for (unsigned i = 0; i < l->n_cold; i++) {
		load_cold_name(l, i, name);
		while ((status[i] = sfd_send(l->arena->srv, name, l->cold_dest[i], 0, 0, true)) < 0) {
			if (errno != EAGAIN)
				die("sfd_send of a cold file");
			poll(&room, 1, -1);
		}
	}
}

/* Sends what is due, as far as the daemon takes it; the rest at the next tick. */
static void send_due(struct load *l, int epoll, int status[SLOTS])
{
	int slot;

	while ((slot = load_next(l)) >= 0) {
		struct epoll_event e = {.events = EPOLLIN, .data.u32 = (uint32_t)slot};

		status[slot] = sfd_send(l->arena->srv, HOT_NAME, l->hot_dest[slot], 0, 0, true);
		if (status[slot] < 0 && errno == EAGAIN)
			return;
		if (status[slot] < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, status[slot], &e) < 0)
			die("sfd_send");
		load_began(l);
	}
}

static void serve(struct load *l)
{
	struct epoll_event events[SLOTS + 1], tick = {.events = EPOLLIN, .data.u32 = SLOTS};
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	int cold[COLD_MAX] = {0}, status[SLOTS];

	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, l->timer, &tick) < 0)
		die("epoll");
	send_cold(l, cold);
	load_start(l, true);
	while (!load_over(l)) {
		int n = epoll_wait(epoll, events, SLOTS + 1, -1);

		for (int i = 0; i < n; i++) {
			unsigned slot = events[i].data.u32;

			if (slot == SLOTS) {
				load_tick(l);
			} else if (saw_success(status[slot])) {
				close(status[slot]);
				load_done(l, slot);
			}
		}
		send_due(l, epoll, status);
	}
	load_finish(l);
	for (unsigned i = 0; i < l->n_cold; i++)
		await_success(cold[i]);
}

const struct server via_sendfiled = {.name = "sendfiled", .serve = serve, .nonblock_dest = true};
