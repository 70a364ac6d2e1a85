/* SPDX-License-Identifier: BSD-2-Clause */
/* Datagrams of requests: each is received, judged as a whole, and done, request by request. */
#ifndef SFD_INBOX_H
#define SFD_INBOX_H

#include "server/engine.h"
#include "server/mailbox.h"
#include "server/queue.h"
#include "server/register.h"

struct inbox_config {
	unsigned slot, generation, workers;
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
};

/* Receives one datagram and does what it says; never waits. False if there is none. */
bool inbox_receive(struct inbox *in, int sock);

#endif
