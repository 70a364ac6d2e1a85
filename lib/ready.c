/* SPDX-License-Identifier: BSD-2-Clause */
#include "ready.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { WAIT_NS = 2 * 1000 * 1000 };

static int watch(const struct ready *r, int fd, uint32_t events)
{
	struct epoll_event e = {.events = events};

	return epoll_ctl(r->poller, EPOLL_CTL_ADD, fd, &e);
}

int ready_init(struct ready *r, int srv)
{
	*r = (struct ready){.poller = -1, .bell = -1, .timer = -1, .srv = srv};
	r->poller = epoll_create1(EPOLL_CLOEXEC);
	r->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return r->poller < 0 || r->bell < 0 ? -1 : watch(r, r->bell, EPOLLIN);
}

static void close_one(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void ready_close(struct ready *r)
{
	close_one(&r->timer);
	close_one(&r->bell);
	close_one(&r->poller);
}

int ready_watch(struct ready *r, int fd)
{
	return watch(r, fd, EPOLLIN);
}

void ready_unwatch(struct ready *r, int fd)
{
	epoll_ctl(r->poller, EPOLL_CTL_DEL, fd, NULL);
}

/* Adding to a count that is not zero says nothing new to who polls, but wakes who waits for an edge. */
void ready_ring(struct ready *r)
{
	const uint64_t one = 1;

	r->rings = write(r->bell, &one, sizeof one) == sizeof one || r->rings;
}

void ready_silence(struct ready *r)
{
	uint64_t count;

	if (r->rings)
		r->rings = read(r->bell, &count, sizeof count) != sizeof count;
}

void ready_want_room(struct ready *r, bool wants)
{
	if (r->wants_room == wants)
		return;
	if (wants)
		r->wants_room = watch(r, r->srv, EPOLLOUT) == 0;
	else
		r->wants_room = epoll_ctl(r->poller, EPOLL_CTL_DEL, r->srv, NULL) != 0;
	/* Without memory for that, or a descriptor: better too early than never. */
	if (wants && !r->wants_room)
		ready_wait(r);
}

void ready_wait(struct ready *r)
{
	const struct itimerspec when = {.it_value = {.tv_nsec = WAIT_NS}};

	if (r->timer < 0) {
		r->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
		if (r->timer >= 0 && watch(r, r->timer, EPOLLIN) < 0)
			close_one(&r->timer);
	}
	r->waits = r->timer >= 0 && timerfd_settime(r->timer, 0, &when, NULL) == 0;
	if (!r->waits)
		ready_ring(r);
}

void ready_stop_waiting(struct ready *r)
{
	const struct itimerspec never = {0};

	if (!r->waits)
		return;
	timerfd_settime(r->timer, 0, &never, NULL);
	r->waits = false;
}

bool ready_is_time(const struct ready *r)
{
	struct itimerspec left;

	if (!r->waits || timerfd_gettime(r->timer, &left) < 0)
		return true;
	return left.it_value.tv_sec == 0 && left.it_value.tv_nsec == 0;
}
