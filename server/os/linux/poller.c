/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/os/poller.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { BATCH_MAX = 64 };

static struct epoll_event to_epoll(unsigned events, void *data)
{
	struct epoll_event e = {.data.ptr = data};

	if (events & POLLER_IN)
		e.events |= EPOLLIN;
	if (events & POLLER_OUT)
		e.events |= EPOLLOUT;
	if (events & POLLER_EDGE)
		e.events |= (uint32_t)EPOLLET;
	if (events & POLLER_SHARED)
		e.events |= EPOLLEXCLUSIVE;
	return e;
}

static unsigned from_epoll(uint32_t events)
{
	unsigned out = 0;

	if (events & EPOLLIN)
		out |= POLLER_IN;
	if (events & EPOLLOUT)
		out |= POLLER_OUT;
	if (events & (EPOLLERR | EPOLLHUP))
		out |= POLLER_ERR;
	return out;
}

int poller_new(void)
{
	return epoll_create1(EPOLL_CLOEXEC);
}

int poller_add(int poller, int fd, unsigned events, void *data)
{
	struct epoll_event e = to_epoll(events, data);

	return epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
}

int poller_change(int poller, int fd, unsigned events, void *data)
{
	struct epoll_event e = to_epoll(events, data);

	return epoll_ctl(poller, EPOLL_CTL_MOD, fd, &e);
}

void poller_remove(int poller, int fd)
{
	epoll_ctl(poller, EPOLL_CTL_DEL, fd, NULL);
}

static int gather(const struct epoll_event *batch, int n, struct poller_event *out)
{
	if (n < 0)
		return errno == EINTR ? 0 : -1;
	for (int i = 0; i < n; i++) {
		out[i].data = batch[i].data.ptr;
		out[i].events = from_epoll(batch[i].events);
	}
	return n;
}

int poller_wait(int poller, struct poller_event *out, int max, int timeout_ms)
{
	struct epoll_event batch[BATCH_MAX];
	int n = epoll_wait(poller, batch, max < BATCH_MAX ? max : BATCH_MAX, timeout_ms);

	return gather(batch, n, out);
}

/*
 * epoll_pwait2(2), since 5.11; the C library has it since 2.35 only. The kernel's struct has 64 bits everywhere. Who filters
 * system calls and does not know this one may give any error for it.
 */
int poller_rest(int poller, struct poller_event *out, int max, uint64_t ns)
{
	const struct {
		int64_t tv_sec, tv_nsec;
	} timeout = {.tv_nsec = ns < 1000000000 ? (int64_t)ns : 999999999};
	struct epoll_event batch[BATCH_MAX];
	static bool is_missing;
	long n = -1;

	if (!is_missing) {
		n = syscall(SYS_epoll_pwait2, poller, batch, max < BATCH_MAX ? max : BATCH_MAX, &timeout, NULL, 0);
		is_missing = n < 0 && errno != EINTR;
	}
	if (is_missing)
		return poller_wait(poller, out, max, (int)(timeout.tv_nsec / 1000000) + 1);
	return gather(batch, (int)n, out);
}
