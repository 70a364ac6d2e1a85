/* SPDX-License-Identifier: BSD-2-Clause */
/* What the parts of a queue share: queue.c (the calls), queue_wire.c (what goes to the daemon and comes from it). */
#ifndef SFD_LIB_QUEUE_H
#define SFD_LIB_QUEUE_H

#include "ready.h"
#include "slots.h"
#include "stage.h"
#include "wire.h"

#include <sys/types.h>

enum {
	RECORDS_PER_READ = 16,
	REGISTER_TRIES_MAX = 1000, /* two seconds or more */
	REGISTER_TRIES_AT_ONCE = 4,
};

enum queue_state {
	QUEUE_NEW,        /* the daemon has not been told of the queue: its socket was full, or a worker died with it */
	QUEUE_ASKED,      /* it has been told, and is to send the channel; `channel` is where */
	QUEUE_REGISTERED, /* the channel is there, and the daemon has not consented */
	QUEUE_OPEN,
	QUEUE_ENDED /* it refused, or is gone: `ended_by` is what calls fail with */
};

struct sfd_queue {
	int srv;     /* not owned */
	int channel; /* -1: none */
	uint64_t id;
	enum queue_state state;
	int ended_by;
	unsigned tries; /* to register */
	bool refused;   /* the last submit left something behind */
	struct ready ready;
	struct slots slots;
	struct stage stage;
	uint32_t first_cancel;
	unsigned char *records; /* the beginning of all the memory that the queue has, slots and stage included */
	unsigned lengths[RECORDS_PER_READ];
	unsigned count, current, at; /* of the records: how many were read, and how far they have been looked at */
	bool more;                   /* there may be others to be read */
	pid_t pid;
	unsigned char *mark; /* a byte that a fork sets to 0; NULL: the system cannot do that */
};

/* Tells the daemon of the queue, if its socket has room. 0, or an errno; EAGAIN and the like leave it QUEUE_NEW. */
int queue_register(struct sfd_queue *q);

/* Sends staged requests: how many went; `*err` is what stopped it, or 0. */
int queue_send_staged(struct sfd_queue *q, int *err);

/* The cancel of a slot waits to be sent from now on, or does so no more. */
void queue_cancel_later(struct sfd_queue *q, uint32_t i);
void queue_cancel_no_more(struct sfd_queue *q, uint32_t i);

/* Sends what has to go without a submit: the registration, cancels. */
void queue_push(struct sfd_queue *q);

/* The next note, of those that were read and otherwise of those that can be. False if there is none now. */
bool queue_next_note(struct sfd_queue *q, struct wire_note *note, struct sfd_file_info *info);

/* Whether all that was read has been looked at, and nothing else can have been left. */
bool queue_is_drained(const struct sfd_queue *q);

/* The daemon takes requests. */
void queue_open(struct sfd_queue *q);

/* The daemon is gone, or will not have the queue: everything outstanding ends with `stat`, and calls with `err`. */
void queue_end(struct sfd_queue *q, int stat, int err);

/* Sets what makes the queue's descriptor readable, beside the channel. */
void queue_show(struct sfd_queue *q);

#endif
