/* SPDX-License-Identifier: BSD-2-Clause */
/* The master's part in the helper processes: starts them when workers want some, replaces those that are stuck. */
#ifndef SFD_HELPERS_H
#define SFD_HELPERS_H

#include "server/helper.h"
#include "server/options.h"
#include "server/restart.h"
#include "server/stats.h"

enum { PLACES_MAX = POOL_PLACES * READERS_MAX };

struct helpers_config {
	struct pools *pools;
	const int *mailboxes; /* workers' */
	unsigned workers;
	int life_fd;
	unsigned io_timeout_ms; /* 0: none */
	const struct os_root *root;
	const struct identity *identity;
};

struct helpers {
	struct helpers_config config;
	unsigned places;
	int box_read[POOL_KINDS][PLACES_MAX];
	int box_write[POOL_KINDS][PLACES_MAX];
	const int *boxes[POOL_KINDS];       /* box_write, as workers need it */
	int wanted[2];                      /* a pipe: workers write a byte when they want a helper */
	pid_t pids[POOL_KINDS][PLACES_MAX]; /* 0: none */
	uint64_t started_ns[POOL_KINDS][PLACES_MAX];
	unsigned count;
	bool stopping;
	struct restart restart[POOL_KINDS];
	uint64_t respawn_ns[POOL_KINDS]; /* no sooner is another one of that kind started */
	uint64_t deaths, stuck_ever;
};

/* Makes the boxes for jobs. 0, or -1 and errno. */
int helpers_init(struct helpers *h, const struct helpers_config *config);

/* Workers have asked. */
void helpers_heed(struct helpers *h);

/* Starts those that are wanted, and gives up on those that are stuck; how soon to call it again in ms, -1: when asked. */
int helpers_work(struct helpers *h, uint64_t now_ns);

/* A child of the master has ended: true if it was one of ours. */
bool helpers_reaped(struct helpers *h, pid_t pid, int status);

/* What a worker that died had taken is free again. */
void helpers_worker_died(struct helpers *h, unsigned worker);

/* At the end. */
void helpers_kill(struct helpers *h);

/* For the log. */
void helpers_stats(const struct helpers *h, struct stats_master *out);

#endif
