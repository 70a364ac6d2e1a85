/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/bench/cold/load.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

static const uint64_t SECOND = UINT64_C(1000000000);

enum { DESTS = SLOTS + COLD_MAX, HANG_MS = 5000 };

/* Whoever reads what the server sends. It ends with the process. */
static void *drain_all(void *arg)
{
	static char sink[256 * 1024];
	struct epoll_event events[DESTS];
	int epoll = *(const int *)arg;

	for (;;) {
		int n = epoll_wait(epoll, events, DESTS, -1);

		for (int i = 0; i < n; i++) {
			if (read(events[i].data.fd, sink, sizeof sink) <= 0)
				die("read of a destination's other end");
		}
		if (n < 0 && errno != EINTR)
			die("epoll_wait");
	}
	return NULL;
}

static int open_dest(int epoll, bool nonblock)
{
	struct epoll_event e = {.events = EPOLLIN};
	int ends[2];

	make_dest(DEST_UNIX, ends, nonblock);
	e.data.fd = ends[0];
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &e) < 0)
		die("epoll_ctl");
	return ends[1];
}

void load_open(struct load *l, bool nonblock_dest)
{
	static int epoll;
	pthread_t reader;

	epoll = epoll_create1(EPOLL_CLOEXEC);
	l->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (epoll < 0 || l->timer < 0)
		die("epoll_create1, timerfd_create");
	for (unsigned i = 0; i < SLOTS; i++) {
		l->hot_dest[i] = open_dest(epoll, nonblock_dest);
		l->idle[l->n_idle++] = i;
	}
	for (unsigned i = 0; i < l->n_cold; i++)
		l->cold_dest[i] = open_dest(epoll, nonblock_dest);
	if (pthread_create(&reader, NULL, drain_all, &epoll) != 0)
		die("pthread_create");
}

void load_cold_name(const struct load *l, unsigned i, char name[PATH_SIZE])
{
	snprintf(name, PATH_SIZE, "%s/%s-%u", SLOW_DIR, l->prefix, i);
}

void load_full_path(const struct load *l, const char *name, char path[PATH_SIZE])
{
	if (snprintf(path, PATH_SIZE, "%s/%s", l->arena->root, name) >= PATH_SIZE)
		die("path");
}

static struct timespec to_timespec(uint64_t ns)
{
	return (struct timespec){.tv_sec = (time_t)(ns / SECOND), .tv_nsec = (long)(ns % SECOND)};
}

void load_start(struct load *l, bool made_cold)
{
	struct itimerspec when;

	if (made_cold && l->n_cold > 0)
		slow_do(l->slow, "await read 1 %d", HANG_MS);
	l->start = now_ns() + PERIOD_NS;
	l->record->start = l->start + WARM_UP * PERIOD_NS;
	l->record->end = l->start + l->count * PERIOD_NS + GRACE_MS * (SECOND / 1000);
	when = (struct itimerspec){.it_value = to_timespec(l->start), .it_interval = to_timespec(PERIOD_NS)};
	if (timerfd_settime(l->timer, TFD_TIMER_ABSTIME, &when, NULL) < 0)
		die("timerfd_settime");
}

void load_tick(struct load *l)
{
	uint64_t times;

	if (read(l->timer, &times, sizeof times) < 0 && errno != EAGAIN)
		die("timer");
}

int load_next(const struct load *l)
{
	if (l->n_idle == 0 || l->next == l->count || now_ns() < l->start + l->next * PERIOD_NS || load_over(l))
		return -1;
	return (int)l->idle[l->n_idle - 1];
}

void load_began(struct load *l)
{
	l->request[l->idle[--l->n_idle]] = l->next++;
}

void load_done(struct load *l, unsigned slot)
{
	unsigned n = l->request[slot];
	uint64_t now = now_ns();

	l->idle[l->n_idle++] = slot;
	if (n >= WARM_UP && now < l->record->end)
		l->record->done_at[n - WARM_UP] = now;
}

bool load_over(const struct load *l)
{
	return (l->next == l->count && l->n_idle == SLOTS) || now_ns() >= l->record->end;
}

void load_finish(struct load *l)
{
	if (write(l->notice, "", 1) != 1)
		die("notice");
	close(l->timer);
}
