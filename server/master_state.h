/* SPDX-License-Identifier: BSD-2-Clause */
/* What these share, and nobody else includes: master.c, which runs the daemon, and stuck.c, which knows whom the kernel holds. */
#ifndef SFD_MASTER_STATE_H
#define SFD_MASTER_STATE_H

#include "server/helpers.h"
#include "server/logger.h"
#include "server/master.h"
#include "server/registry.h"
#include "server/restart.h"
#include "server/shares.h"
#include "server/touch.h"
#include "server/watch.h"

enum { SPARE_JOURNALS = 8 }; /* so many workers may be replaced before the kernel lets go of them */

struct child {
	pid_t pid; /* 0: none */
	unsigned generation;
	uint64_t started_ns;
	uint64_t respawn_ns; /* while there is none: when there shall be */
	struct restart restart;
	struct journal *journal;
	uint64_t position;     /* in its journal, at the last look */
	enum os_fate reported; /* how much of what it held has been reported */
	struct watch watch;
};

/* A worker that was killed and replaced, and that the kernel has not let go of. */
struct stuck {
	pid_t pid; /* 0: this place is free */
	uid_t uid; /* whose request it hangs on */
	struct journal *journal;
	enum os_fate reported;
};

struct master {
	const struct master_config *config;
	struct stats *stats;
	int life[2]; /* its write end is the master's alone: end-of-file tells workers that it is gone */
	int mail_read[WORKERS_MAX];
	int mail_write[WORKERS_MAX];
	struct child children[WORKERS_MAX];
	struct stuck stuck[SPARE_JOURNALS];
	struct journal *spare[SPARE_JOURNALS];
	unsigned spares;
	uint64_t watched_ns;           /* when it was looked whether workers are stuck */
	struct user_paces *user_paces; /* NULL: no limit */
	struct shares *shares;
	struct touches *touches;
	struct pools *pools;
	struct helpers helpers;
	struct logger logger;
	struct registry registry;
	struct journal *journals;
	uint64_t restarts;
	uint64_t look_ns; /* when to look for workers that were killed and are not gone */
};

/*
 * Of a worker of which no code of its own runs any more, whether or not it is `gone`: what others are to know. Its place is
 * free for another in `delay` ms.
 */
void master_forget_worker(struct master *m, unsigned slot, uint32_t delay, bool gone);

/* ---- stuck.c */

/* A process has been reaped: whether it was a worker that had been replaced. What it was at work on can be told now. */
bool stuck_reaped(struct master *m, pid_t pid);

/* How many workers have been replaced, and are not gone. */
unsigned stuck_count(const struct master *m);

/*
 * A worker that was killed while it waited in the kernel is gone only when the kernel lets go of it, which may be never. What
 * it was not at work on is reported before that. Only one that has been at the same thing since the last look is suspected.
 * These two return how soon to call again, in ms; -1: there is no need.
 */
int stuck_report(struct master *m, uint64_t now);

/* Replaces workers that are stuck. */
int stuck_watch(struct master *m, uint64_t now);

#endif
