/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One descriptor that is readable while any of several things is so: what a queue shows to its owner's event loop.
 * Linux: an epoll(7) instance, which other pollers take like any descriptor; an edge-triggered one sees each change in it.
 */
#ifndef SFD_LIB_READY_H
#define SFD_LIB_READY_H

#include <stdbool.h>

struct ready {
	int poller; /* the descriptor to show */
	int bell;   /* readable while the library itself has something to say */
	int timer;  /* readable when it is worth trying again, where no descriptor would tell; -1 until it is needed */
	int srv;
	bool rings, wants_room, waits;
};

/* For the socket `srv`, which is not owned. 0, or -1 and errno. */
int ready_init(struct ready *r, int srv);
void ready_close(struct ready *r);

/*
 * Readable while `fd` is. 0, or -1 and errno. To be stopped before `fd` is closed: a forked child may hold a copy, which would
 * go on reporting.
 */
int ready_watch(struct ready *r, int fd);
void ready_unwatch(struct ready *r, int fd);

/* Readable because the library has something; again, if it was so before. Not so any more. */
void ready_ring(struct ready *r);
void ready_silence(struct ready *r);

/* Readable while the socket has room, or no more because of that. */
void ready_want_room(struct ready *r, bool wants);

/* Readable in a moment, and until ready_stop_waiting(). */
void ready_wait(struct ready *r);
void ready_stop_waiting(struct ready *r);

/* Whether that moment is over, or none is waited for. */
bool ready_is_time(const struct ready *r);

#endif
