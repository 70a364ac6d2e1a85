/* SPDX-License-Identifier: BSD-2-Clause */
/* A worker process: receives requests, and moves files until it is told to stop. */
#ifndef SFD_WORKER_H
#define SFD_WORKER_H

#include "server/access.h"
#include "server/options.h"
#include "server/os/root.h"
#include "server/pool.h"
#include "server/privilege.h"
#include "server/registry.h"
#include "server/stats.h"

enum { WORKER_FDS_MAX = WORKERS_MAX + POOL_KINDS * POOL_PLACES * READERS_MAX + REGISTRY_MAX + 16 };

struct worker_config {
	unsigned slot, generation;
	unsigned workers;          /* how many slots there are */
	unsigned max_transfers;    /* of all workers together */
	unsigned worker_transfers; /* what this worker's descriptors are enough for */
	unsigned open_timeout_ms;
	unsigned io_timeout_ms; /* these two 0: none */
	unsigned idle_timeout_ms;
	unsigned max_readahead;        /* pages */
	struct user_paces *user_paces; /* NULL: no limit */
	struct touches *touches;
	struct shares *shares;           /* what users hold of it all */
	unsigned busy_poll_us;           /* 0: not at all */
	unsigned readers;                /* of each kind */
	unsigned max_pipes;              /* for cold bytes */
	int request_sock;                /* shared by all workers */
	int life_fd;                     /* end-of-file: the master is gone */
	int ready_fd;                    /* gets one byte when the worker serves; closed then */
	int mail_fd;                     /* this slot's mailbox */
	int master_fd;                   /* a byte there asks the master for a helper */
	int highest_fd;                  /* of all those here that stay open */
	int registry_box;                /* mail there is for the master: queues */
	const struct registry *registry; /* what queues there were when the worker was started */
	struct journal *journal;         /* this worker's */
	const int *mailboxes;            /* everybody's, to write to */
	const int *const *boxes;         /* helpers', by kind and place, to send jobs to */
	struct pools *pools;
	const struct os_root *root;
	struct stats *stats; /* a column for each slot */
	const struct access *access;
	struct identity identity;
};

/* The body of a forked child. Never returns; its exit status is one of sysexits.h. */
_Noreturn void worker_main(const struct worker_config *config);

#endif
