/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The load that every kind of server gets: requests for one hot file, due at fixed times whether or not those before
 * have been answered, beside requests for cold files. A server that stalls is charged for all that became due
 * meanwhile, since what counts is the time from when a request was due.
 */
#ifndef SFD_BENCH_COLD_LOAD_H
#define SFD_BENCH_COLD_LOAD_H

#include "test/bench/cold/slow.h"
#include "test/bench/common.h"

#define PERIOD_NS (UINT64_C(1000000000) / RATE)

enum {
	HOT_SIZE = 4096,
	COLD_SIZE = 4096, /* one page: one read(2) that the file system can hold */
	COLD_MAX = 8,
	SLOTS = 64,     /* destinations, and so the most hot requests that are under way at a time */
	RATE = 2000,    /* hot requests per second */
	WARM_UP = 500,  /* requests before those that count */
	GRACE_MS = 500, /* how long after the last one was due a request may still count as answered */
	PATH_SIZE = 160,
};

#define HOT_NAME "hot"
#define SLOW_DIR "slow"

/* What came of a phase. Shared with the parent, so that there is something even of a server that never came back. */
struct record {
	uint64_t start;     /* when the first request that counts is due */
	uint64_t end;       /* what comes later does not count */
	uint64_t done_at[]; /* for each request that counts; 0: never */
};

struct load {
	const struct arena *arena;
	const struct slow *slow;
	const char *prefix; /* of the cold files' names */
	unsigned n_cold;
	unsigned count, next; /* requests, with the warm-up; the first that was not begun */
	uint64_t start;       /* when request 0 is due */
	int timer;            /* readable when a request becomes due */
	int notice;           /* tells the parent that nothing counts any more */
	int hot_dest[SLOTS], cold_dest[COLD_MAX];
	unsigned idle[SLOTS], n_idle;
	unsigned request[SLOTS]; /* the request that has the slot */
	struct record *record;
};

struct server {
	const char *name;
	/*
	 * Serves the load from beginning to end. The cold requests come first; but where one makes all others wait, so that
	 * nothing would be seen to happen, they come later.
	 */
	void (*serve)(struct load *load);
	bool nonblock_dest; /* whether its destinations are non-blocking */
};

extern const struct server via_sendfiled, via_libuv, via_inline;

/* In the child: destinations, and somebody who reads what arrives at their other ends. */
void load_open(struct load *l, bool nonblock_dest);

/* The path of a cold file or the hot one, for the daemon; and for those who open files themselves. */
void load_cold_name(const struct load *l, unsigned i, char name[PATH_SIZE]);
void load_full_path(const struct load *l, const char *name, char path[PATH_SIZE]);

/* If cold requests have been made, waits until one hangs. Then the schedule begins. */
void load_start(struct load *l, bool made_cold);

/* Takes the timer's news, so that it is readable only when the next request becomes due. */
void load_tick(struct load *l);

/* The slot for a request that is due; -1 if none is, or if all slots are in use. load_began() says that it is taken. */
int load_next(const struct load *l);
void load_began(struct load *l);
void load_done(struct load *l, unsigned slot);

/* Everything was answered, or the time is over. */
bool load_over(const struct load *l);

/* Lets the parent know; the cold reads return from now on. */
void load_finish(struct load *l);

#endif
