/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A worker's jobs for helpers: those that wait for a place, and those that are under way. Those that wait are queued by the
 * device that they are for, and there by the client's uid; devices, and uids of a device, are served in turn.
 */
#ifndef SFD_JOBS_H
#define SFD_JOBS_H

#include "server/job.h"
#include "server/list.h"
#include "server/pool.h"
#include "server/stats.h"

#include <stdbool.h>

struct job;

/* The job is over. `answer` is NULL if its helper died. `fd` (-1: none) came with the answer and is the callee's. */
typedef void job_done_fn(void *owner, const struct job_answer *answer, int fd);

struct job_spec {
	enum pool_kind pool;
	struct pool_use use;
	struct job_letter letter; /* kind, flags, offset, length, position */
	const char *path;         /* of an open: not NUL-terminated */
	uint32_t path_len;
	int fds[JOB_FDS_MAX]; /* lent until the job is over or abandoned */
	unsigned nfds;
	/* Called when there is a place: may fill in `fds` and `nfds`. False: not now. May be NULL. */
	bool (*prepare)(void *owner, struct job_spec *spec);
};

struct jobs {
	struct pools *pools;
	struct stats *own;
	const int *const *boxes; /* by kind and place: where to send jobs to */
	const int *mailboxes;    /* by worker */
	unsigned worker;
	int master_fd;                   /* a byte there has it look for places that are wanted */
	struct list devices[POOL_KINDS]; /* with jobs that wait */
	unsigned queued[POOL_KINDS];
	struct job **running; /* by kind and place */
	unsigned running_count;
	uint64_t look_ns; /* when to try again at the latest */
};

struct jobs_config {
	struct pools *pools;
	struct stats *own;
	const int *const *boxes;
	const int *mailboxes;
	unsigned worker;
	int master_fd;
};

/* 0, or -1 and ENOMEM. */
int jobs_init(struct jobs *js, const struct jobs_config *config);

/* Starts a job, now or when there is a place for it; `done` is called once, later, unless it is abandoned. NULL: ENOMEM. */
struct job *jobs_submit(struct jobs *js, const struct job_spec *spec, uint64_t now_ns, job_done_fn *done, void *owner);

/* Nobody waits for it any more: it is taken out of the queue, or what it says is dropped. */
void jobs_abandon(struct jobs *js, struct job *job);

/* Whether it has no place yet: nobody has begun it. */
bool jobs_is_queued(const struct job *job);

/* ---- For the worker, which reads the mail */

void jobs_answer(struct jobs *js, const struct job_answer *answer, int fd, uint64_t now_ns);
void jobs_offer(struct jobs *js, const struct job_answer *offer, unsigned origin, uint64_t now_ns);

/* Whether helpers of ours have died; if so, all mail is to be read, in which their answers may be, and then: */
bool jobs_suspect(struct jobs *js);
void jobs_bury(struct jobs *js, uint64_t now_ns);

/* What jobs_submit()'s `prepare` has waited for may be there now. */
void jobs_look_soon(struct jobs *js);

/* Tries again, if it is time, to find places for those that wait. */
void jobs_work(struct jobs *js, uint64_t now_ns);

/* How soon to call jobs_work() again; -1 if nothing waits. */
int jobs_nap_ms(const struct jobs *js);

#endif
