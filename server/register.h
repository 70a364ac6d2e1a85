/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A client asks for a queue. What it sends is a socket on which to answer, once; the queue's channel is made here. For of
 * a socket that clients had in hand nothing is certain: they may have put descriptors into it whose last close waits, and
 * may hold its locks for as long as they like, by receiving into memory of a file system's server that does not answer.
 */
#ifndef SFD_REGISTER_H
#define SFD_REGISTER_H

#include "server/mailbox.h"
#include "server/queue.h"

/*
 * Takes over facts->fd. If it is a SOCK_SEQPACKET socket, one end of a new channel is sent there, and the other to the
 * master, who tells all workers. If `err` is not 0, or the depth is 0, that is told instead. What is no such socket is
 * closed without a word.
 */
void register_queue(struct outbox *to_master, const struct queue_facts *facts, int err);

#endif
