/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/register.h"

#include "server/closer.h"
#include "server/fault.h"
#include "server/mailbox.h"
#include "server/os/process.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

static bool is_seqpacket(int fd)
{
	int type, domain;

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &(socklen_t){sizeof type}) == 0 && type == SOCK_SEQPACKET &&
	       getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &(socklen_t){sizeof domain}) == 0 && domain == AF_UNIX;
}

/*
 * What the client has sent into our end will never be read, and may hold descriptors whose last close waits for a file
 * system's server, on whoever closes the socket last: the master, perhaps. So nothing may come any more, and nothing may be
 * there. A record of no bytes looks like the end, but for the credentials that come with every record.
 */
static bool is_empty_for_good(int fd)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(64)];
	char byte;
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof control,
	};
	ssize_t n;

	if (os_want_credentials(fd) < 0 || shutdown(fd, SHUT_RD) < 0)
		return false;
	do
		n = recvmsg(fd, &msg, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n == 0 && msg.msg_controllen == 0 && !(msg.msg_flags & MSG_CTRUNC))
		return true;
	/* Copies of descriptors that came with it. They are not the last ones. */
	for (struct cmsghdr *c = n >= 0 ? CMSG_FIRSTHDR(&msg) : NULL; c; c = CMSG_NXTHDR(&msg, c)) {
		for (size_t at = 0; c->cmsg_type == SCM_RIGHTS && at + CMSG_LEN(sizeof(int)) <= c->cmsg_len;
			at += sizeof(int)) {
			int copy;

			memcpy(&copy, CMSG_DATA(c) + at, sizeof copy);
			closer_close(copy);
		}
	}
	return false;
}

static void refuse(int fd, int err)
{
	const struct wire_note note = {.kind = WIRE_NOTE_REFUSED, .stat = err};

	send(fd, &note, sizeof note, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void register_queue(int box, const struct queue_facts *facts, int err)
{
	const struct mail m = {.kind = MAIL_QUEUE, .owner = facts->owner, .id = facts->id, .seq = facts->depth};

	fault_point("register-received");
	if (err == 0 && facts->depth == 0)
		err = EINVAL;
	if (facts->fd >= 0 && is_seqpacket(facts->fd) && is_empty_for_good(facts->fd)) {
		if (err != 0)
			refuse(facts->fd, err);
		else
			mailbox_send(
				box, &m, facts->fd); /* if there is no room: the client sees the end, and asks anew */
	}
	fault_point("register-passed");
	closer_close(facts->fd);
}
