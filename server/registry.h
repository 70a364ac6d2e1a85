/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The queues that there are: the master's part. A worker that receives a registration passes it on to here; every worker
 * is given the queue's channel, and then the client is told. The master never reads what a client sends, and what it
 * writes to a channel it never waits for.
 */
#ifndef SFD_REGISTRY_H
#define SFD_REGISTRY_H

#include "server/journal.h"
#include "server/mailbox.h"
#include "server/queue.h"

enum {
	REGISTRY_MAX = 1024,   /* queues; each costs a descriptor in the master and in each worker */
	REGISTRY_UID_MAX = 64, /* of one user */
};

/* One of the two things that the master watches of a queue. */
struct registered_end {
	struct registered *queue;
	bool is_process;
};

struct registered {
	struct registered *next;
	struct queue_facts facts; /* facts.fd: owned */
	int process;   /* owned: os_watch_process() of who registered it; -1: it may be anyone of that user */
	bool orphaned; /* that process has ended */
	struct registered_end channel_end, process_end;
	struct notes notes;
	uint32_t watching;
	uint64_t untold; /* workers that have not been told of it, a bit for each slot: their mailbox was full */
};

struct registry {
	struct registered *buckets[QUEUE_BUCKETS];
	unsigned count, most;
	int box[2]; /* what workers say comes in at box[0] */
	int poller; /* readable when there is something to heed */
	const int *mailboxes;
	unsigned workers;
	struct outbox outbox; /* for workers whose mailbox is full */
	bool has_untold;      /* there may be workers to be told of queues */
	bool shared;          /* any process of a user may use its queues */
};

/* For up to `most` queues, `shared` by a user's processes or not. 0, or -1 and errno. */
int registry_init(struct registry *r, const int *mailboxes, unsigned workers, unsigned most, bool shared);

/* Heeds workers and clients, once poll(2) says that `poller` is readable. */
void registry_heed(struct registry *r);

/* Tries again to mail what found no room. How soon to call it next in ms, -1: no need. */
int registry_pump(struct registry *r);

/*
 * A worker was killed: those whose requests it had are told. `current` as for journal_read(): whether it is gone for good.
 */
void registry_bury(struct registry *r, const struct journal *journal, bool current);

/* For a worker that is about to start: calls back for each queue. */
void registry_each(const struct registry *r, void (*each)(void *arg, const struct queue_facts *facts), void *arg);

#endif
