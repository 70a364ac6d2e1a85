/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Datagrams of requests: each is received, judged as a whole, and done, some requests at a time. While more than one user
 * sends, all that comes is received, so that nobody waits in the socket behind others, and users take turns.
 */
#ifndef SFD_INBOX_H
#define SFD_INBOX_H

#include "server/delivery.h"
#include "server/engine.h"
#include "server/mailbox.h"
#include "server/queue.h"
#include "server/register.h"

struct inbox_config {
	unsigned slot, generation, workers;
	unsigned transfers; /* that this worker's descriptors are enough for */
	const struct access *access;
	struct stats *stats; /* a column for each slot */
	struct engine *engine;
	struct queues *queues;
	struct outbox *outbox, *to_master;
	struct applicants *applicants;
	struct journal_pen *pen;
	void (*find_queue)(void *arg, uint64_t id); /* what the master says of it may wait in the mail */
	void *arg;
};

struct inbox {
	struct inbox_config config;
	uint64_t mail_seq;
	struct deliveries held;
	struct turns turns;
	int sender;          /* the process that sent the last one, kept for a while; -1: none */
	uint64_t sender_ns;  /* since when */
	uint32_t self, hung; /* our process; and the one that a stranger's descriptors hold on to, as far as is known */
	struct mail cancels; /* gathered for all other workers */
};

/* 0, or -1 and ENOMEM. */
int inbox_init(struct inbox *in, const struct inbox_config *config);

/* Receives one datagram; never waits. False if there is none, or no place for one more. */
bool inbox_receive(struct inbox *in, int sock);

/* Does some of what the next user asks for; never waits. False if nothing waits to be done, or all whose it is are at rest or left alone. */
bool inbox_work(struct inbox *in);

/* If all of whom something waits are at rest or left alone: until one of them goes on, in ns. Else 0. */
uint64_t inbox_pause_ns(const struct inbox *in);

/* Whether users compete, or one is left alone, so that it is good for others to receive what comes although something waits. */
bool inbox_is_shared(const struct inbox *in);

/*
 * Before the worker sleeps: lets go of what is kept only while there is work. How soon to call it again in ms, -1: no need.
 */
int inbox_rest(struct inbox *in);

#endif
