/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Mail to workers, from each other, from the master, and from helpers. A second message (send-open, cancel) may be received by any worker; the one that got it passes it
 * on to the one whose slot is in the id, and, for a send-open, says "closed" once it holds no copy of the destination any
 * more. Each slot has a mailbox, a socket pair that the master made, so mail outlives a worker; its successor finds no
 * transfer of that generation and closes what came.
 */
#ifndef SFD_MAILBOX_H
#define SFD_MAILBOX_H

#include "server/access.h"
#include "server/job.h"
#include "server/list.h"
#include "server/options.h"
#include "server/pool.h"

#include <stdbool.h>
#include <stdint.h>

enum mail_kind {
	MAIL_SEND_OPEN = 1, /* with the destination, and the request as it came if it has options */
	MAIL_CANCEL,
	MAIL_CLOSED,      /* the sender has closed its copy of what it mailed under `seq` */
	MAIL_POKE,        /* look around: a worker or helper died */
	MAIL_ANSWER,      /* of a helper, to a job */
	MAIL_OFFER,       /* a helper has nothing to do: its place may be taken */
	MAIL_QUEUE,       /* with a queue's channel: to the master, to be registered; from it, to be known */
	MAIL_UNKNOWN,     /* to the master: requests for a queue that this worker, `from_slot`, does not know */
	MAIL_CANCEL_TAGS, /* a queue's requests */
	MAIL_REFUSED,     /* from the master: a queue, `seq` the errno */
	MAIL_LOST,        /* from the master: a send-open died with the worker that had received it */
};

enum {
	MAIL_TAGS_MAX = 20,
	MAIL_BODY_MAX = WIRE_FIXED_MAX + WIRE_TEXT_MAX + 8,
};

struct mail {
	uint32_t kind;
	uint32_t from_slot, from_generation;
	struct owner owner; /* the client's */
	uint64_t id;        /* the transfer's, or the queue's */
	uint64_t seq;       /* of what was passed on; or a tag, or a queue's depth */
	uint32_t line;      /* the sender's own: where its journal notes it until it has gone */
	uint32_t count;     /* of tags, or of the body's bytes */
	union {
		struct job_answer answer; /* of an offer only the place; from_slot is the worker at which it began */
		uint64_t tags[MAIL_TAGS_MAX]; /* `count` of them */
	};
	const void *body; /* of MAIL_SEND_OPEN; it travels behind what is before the union */
};

/* Makes a mailbox: ends[0] to read from, ends[1] to write to. 0, or -1 and errno. */
int mailbox_new(int ends[2]);

/* 0, or -1 and errno (EAGAIN: full). Never blocks; `fd` (-1: none) stays the caller's. */
int mailbox_send(int box, const struct mail *m, int fd);

/* Whether that error of mailbox_send() may go away by itself. */
bool mailbox_must_wait(int err);

/*
 * True if there was a letter; `*fd`, the caller's to close, is -1 if it had no descriptor. A body stays where it is until the
 * next call.
 */
bool mailbox_receive(int box, struct mail *m, int *fd);

/*
 * Hands a place on (pool_hand_on()), and tells the worker, if any, that it was offered to; `origin` is where the round of
 * offers began. That is not waited for: if the worker does not take its mail, the master takes the offer back in a while.
 * False if the place was not the caller's any more.
 */
bool mailbox_hand_on(struct pools *pools, const int *mailboxes, const struct place *place, unsigned origin,
	unsigned after, unsigned hops);

enum {
	LETTERS_MAX = 2048, /* kept for one slot; what comes while so many wait is dropped, */
	CANCELS_MAX = 1024, /* and cancels, of which a client can make any number, while so many do */
	LETTER_FDS_MAX =
		512, /* descriptors that wait in letters for all slots together, if there is room for so many */
};

/* Letters that a full mailbox had no room for, in order. One that is not emptied holds up its own slot's letters only. */
struct outbox {
	struct list letters[WORKERS_MAX];
	unsigned count[WORKERS_MAX];
	unsigned total, fds, fds_max;
	unsigned slots;
	const int *boxes; /* by slot: where to write to */
	/* Called for what has left, or was dropped, after it had been kept. May be NULL. */
	void (*gone)(void *arg, const struct mail *m);
	void *arg;
};

/* `fds_max`: how many descriptors may wait in letters. */
void outbox_init(struct outbox *o, const int *boxes, unsigned slots, unsigned fds_max);

/*
 * Mails, now or, if there is no room, with outbox_pump(). Takes over `fd` (-1: none), and closes it as soon as it has
 * been mailed. Letters to one slot arrive in the order in which they were given. 0; or -1 if it was dropped, `fd` closed:
 * too many wait (never MAIL_CLOSED, of which there is one for each letter with a descriptor), or ENOMEM. 1: it is kept.
 */
int outbox_send(struct outbox *o, unsigned slot, const struct mail *m, int fd);

/* Tries again. True if nothing is left. */
bool outbox_pump(struct outbox *o);

#endif
