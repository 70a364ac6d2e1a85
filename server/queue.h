/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The queues that a worker may report to. Each is a status channel of many datagrams' requests: a socket that the client has
 * the other end of, and every worker and the master a copy of this one. Notes are gathered and leave many to a record, at
 * the end of a datagram or of a round of the loop.
 */
#ifndef SFD_QUEUE_H
#define SFD_QUEUE_H

#include "server/channel.h"
#include "server/notes.h"

struct queue {
	struct channel channel;
	struct list dirty; /* in queues.dirty, if something was gathered */
	struct queues *set;
	struct queue *next;
	struct notes notes;
	uint64_t id;
	struct owner owner;
	uint32_t depth;
	void **claims; /* by the tag's low half: the transfer of that tag */
	/* The complement of the last tag of that low half that was cancelled while it had none. NULL: none was. */
	uint64_t *cancelled;
};

/* Of a channel that is a queue's. */
static inline struct queue *queue_of(struct channel *c)
{
	return container_of(c, struct queue, channel);
}

enum { QUEUE_BUCKETS = 256 };

struct queues {
	struct queue *buckets[QUEUE_BUCKETS];
	struct list dirty;
	uint32_t reserve; /* lines of the journal that outcomes which nobody reads may not take */
	struct journal_pen *pen;
	struct loop *loop;
	struct stats *own;
};

/* `reserve`: for how many transfers there has to be a line in the journal, whoever does not read what he is told. */
void queues_init(struct queues *s, struct journal_pen *pen, uint32_t reserve, struct loop *loop, struct stats *own);

/* What the master says of a queue. */
struct queue_facts {
	uint64_t id;
	struct owner owner;
	uint32_t depth;
	int fd;
};

/* Takes over facts->fd. One that is known already is left as it is. */
void queues_add(struct queues *s, const struct queue_facts *facts);

/* NULL if there is none of that id. */
struct queue *queues_find(const struct queues *s, uint64_t id);

/* The transfer that reports there under that tag, or NULL. */
void *queue_claimed(const struct queue *q, uint64_t tag);

/* A request of that tag may have been received and wait to be begun: it is not to be. */
void queue_cancel_waiting(struct queue *q, uint64_t tag);

static inline bool queue_was_cancelled(const struct queue *q, uint64_t tag)
{
	return q->cancelled && (uint32_t)tag < q->depth && q->cancelled[(uint32_t)tag] == ~tag;
}

bool queues_any(const struct queues *s);

/* Ends all of them, for everybody who has a copy of their channels. */
void queues_end(struct queues *s);

/* Sends what was gathered in this round. */
void queues_flush(struct queues *s);

#endif
