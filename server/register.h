/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Clients that ask for a queue. What one sends is a socket on which to answer, once; the queue's channel is made here. For
 * of a socket that clients had in hand nothing is certain: they may have put descriptors into it whose last close waits, and
 * may hold its locks for as long as they like, by receiving into memory of a file system's server that does not answer.
 *
 * The client's end of the channel is sent when the master has accepted the queue, and not before: until it is received it
 * counts against what the daemon's user may have on its way (ETOOMANYREFS), so there may not be more than there are queues.
 */
#ifndef SFD_REGISTER_H
#define SFD_REGISTER_H

#include "server/mailbox.h"
#include "server/queue.h"

enum { APPLICANTS_MAX = 64 };

struct applicant {
	uint64_t id;
	int answer;  /* where the answer goes; -1: nobody waits here */
	int channel; /* the client's end */
	int process; /* the client's, or -1: os_get_process() */
};

/* Those of a worker who wait for the master's decision. */
struct applicants {
	struct applicant all[APPLICANTS_MAX];
	struct outbox *to_master;
	unsigned slot;
};

void applicants_init(struct applicants *a, struct outbox *to_master, unsigned slot);

/*
 * Takes over facts->fd. If it is a SOCK_SEQPACKET socket, the master is asked, and has the daemon's end of a new channel. If
 * `err` is not 0, or the depth is 0, that is told instead. What is no such socket is closed without a word; so is it if
 * there is no room for more who wait: the client asks again. `process` is that of the client (os_get_process()), not taken over.
 */
void applicants_add(struct applicants *a, const struct queue_facts *facts, int process, int err);

/*
 * The master has decided: 0, and the channel is sent, or an errno, which is told. Nothing happens if that one is unknown. A
 * client whose process has ended gets no channel: the master, which finds it by number, may have found another.
 */
void applicants_decide(struct applicants *a, uint64_t id, int err);

#endif
