/* SPDX-License-Identifier: BSD-2-Clause */
/* A worker's event loop: sources with callbacks over the system's poller. */
#ifndef SFD_LOOP_H
#define SFD_LOOP_H

#include "server/list.h"
#include "server/os/poller.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LOOP_BATCH = 64 };

/* Something that is waited for; a member of the struct that it belongs to (container_of()). Does not own `fd`. */
struct source {
	int fd;
	bool watched;
	void (*on_event)(struct source *source, unsigned events);
};

/*
 * Looking for events for a while before sleeping, as long as they come quickly: whoever waits for an answer is not kept
 * waiting for a processor to wake up. Of all processes that share `turn` one does so at a time.
 */
struct busy_poll {
	uint64_t ns;            /* how long; 0: not at all */
	_Atomic uint32_t *turn; /* 0, or whose turn it is */
	uint32_t self;          /* this one's name there; not 0 */
	unsigned quick;         /* waits in a row that were shorter than that */
};

struct loop {
	int poller;
	int pending, next;    /* events of the current batch */
	uint64_t now_ns;      /* CLOCK_MONOTONIC, read after each wait */
	unsigned short_waits; /* in a row */
	bool may_spin;        /* there is another processor for whoever is waited for */
	struct busy_poll busy;
	struct poller_event batch[LOOP_BATCH];
};

uint64_t clock_now_ns(void);

/* 0, or -1 and errno. The loop lives as long as its process. */
int loop_init(struct loop *loop);

/* Starts to wait for `events`, or changes what is waited for. 0, or -1 and errno (EPERM: cannot be polled). */
int loop_watch(struct loop *loop, struct source *source, unsigned events);

/* Stops waiting; an event of it that was fetched already is dropped. Before the descriptor is closed, always. */
void loop_unwatch(struct loop *loop, struct source *source);

/* Waits up to `timeout_ms` (-1: for ever). 0, or -1 and errno. */
int loop_wait(struct loop *loop, int timeout_ms);

/* The same for less than a second, and always asleep: somebody else is to have the processor. */
int loop_rest(struct loop *loop, uint64_t ns);

/* Calls back every source that has something. */
void loop_dispatch(struct loop *loop);

#endif
