/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/register.h"

#include "server/closer.h"
#include "server/fault.h"
#include "server/fdpass.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CHANNEL_BYTES = 1024 * 1024 }; /* or as many as net.core.wmem_max allows */

static bool is_seqpacket(int fd)
{
	int type, domain;

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &(socklen_t){sizeof type}) == 0 && type == SOCK_SEQPACKET &&
	       getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &(socklen_t){sizeof domain}) == 0 && domain == AF_UNIX;
}

/*
 * ends[0] is to be the client's. Nothing can ever be sent into ends[1], which nobody else has had: so its last close, by
 * the master perhaps, never has to let go of somebody's descriptors.
 */
static int make_channel(int ends[2])
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
		return -1;
	setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &(int){CHANNEL_BYTES}, sizeof(int));
	return shutdown(ends[1], SHUT_RD);
}

/* Whatever fails, the client sees the end of what it waits for, and asks anew. */
static void grant(struct outbox *to_master, const struct queue_facts *facts)
{
	const struct mail m = {.kind = MAIL_QUEUE, .owner = facts->owner, .id = facts->id, .seq = facts->depth};
	const struct wire_note note = {.kind = WIRE_NOTE_CHANNEL};
	int ends[2] = {-1, -1};

	if (make_channel(ends) == 0 && fdpass_send(facts->fd, &note, sizeof note, &ends[0], 1) == 0) {
		outbox_send(to_master, 0, &m, ends[1]);
		ends[1] = -1;
	}
	for (int i = 0; i < 2; i++) {
		if (ends[i] >= 0)
			close(ends[i]);
	}
}

static void refuse(int fd, int err)
{
	const struct wire_note note = {.kind = WIRE_NOTE_REFUSED, .stat = err};

	fdpass_send(fd, &note, sizeof note, NULL, 0);
}

void register_queue(struct outbox *to_master, const struct queue_facts *facts, int err)
{
	fault_point("register-received");
	if (err == 0 && facts->depth == 0)
		err = EINVAL;
	if (facts->fd >= 0 && is_seqpacket(facts->fd)) {
		if (err != 0)
			refuse(facts->fd, err);
		else
			grant(to_master, facts);
	}
	fault_point("register-passed");
	closer_close(facts->fd);
}
