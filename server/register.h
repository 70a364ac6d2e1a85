/* SPDX-License-Identifier: BSD-2-Clause */
/* A client asks for a queue: is what it sends fit to be the queue's channel? */
#ifndef SFD_REGISTER_H
#define SFD_REGISTER_H

#include "server/queue.h"

/*
 * Takes over facts->fd, and passes it on to the master (`box`) if it is one end of a pair of SOCK_SEQPACKET sockets. If `err`
 * is not 0, or the depth is 0, it is told of that instead. What is no such socket is closed without a word.
 */
void register_queue(int box, const struct queue_facts *facts, int err);

#endif
