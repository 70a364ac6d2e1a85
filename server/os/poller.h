/* SPDX-License-Identifier: BSD-2-Clause */
/* Waiting for many descriptors at once. Linux: epoll(7). */
#ifndef SFD_OS_POLLER_H
#define SFD_OS_POLLER_H

#include <stdint.h>

enum {
	POLLER_IN = 1 << 0,
	POLLER_OUT = 1 << 1,
	POLLER_ERR = 1 << 2,    /* reported whether or not asked for: the other end is gone */
	POLLER_EDGE = 1 << 3,   /* report changes only */
	POLLER_SHARED = 1 << 4, /* wake one of the processes that wait for this descriptor, not all */
};

struct poller_event {
	void *data;
	unsigned events;
};

/* A new poller (a close-on-exec descriptor), or -1 and errno. */
int poller_new(void);

/* 0, or -1 and errno: EPERM if the descriptor cannot be polled (a regular file). */
int poller_add(int poller, int fd, unsigned events, void *data);
int poller_change(int poller, int fd, unsigned events, void *data);

/* To be called before the descriptor is closed: the client may hold its file open, and it would go on reporting. */
void poller_remove(int poller, int fd);

/* The number of events, 0 when `timeout_ms` (-1: for ever) ran out, or when a signal came. -1 and errno. */
int poller_wait(int poller, struct poller_event *out, int max, int timeout_ms);

/* The same, to the nanosecond, up to a second; where the system cannot do that, up to the next millisecond. */
int poller_rest(int poller, struct poller_event *out, int max, uint64_t ns);

#endif
