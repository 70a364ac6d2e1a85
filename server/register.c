/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/register.h"

#include "server/closer.h"
#include "server/dest.h"
#include "server/fault.h"
#include "server/fdpass.h"
#include "server/os/process.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CHANNEL_BYTES = 1024 * 1024 }; /* or as many as net.core.wmem_max allows */

static bool is_seqpacket(int fd)
{
	return dest_socket_option(fd, SO_TYPE) == SOCK_SEQPACKET && dest_socket_option(fd, SO_DOMAIN) == AF_UNIX;
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
	shutdown(ends[1], SHUT_RD); /* fails only for sockets that are not connected */
	return 0;
}

static void tell(int answer, int err)
{
	const struct wire_note note = {.kind = WIRE_NOTE_REFUSED, .stat = err};

	fdpass_send(answer, &note, sizeof note, NULL, 0);
}

/* The client sees the end at once, whoever has copies, and however long the close takes. */
static void close_answer(int answer)
{
	shutdown(answer, SHUT_RDWR);
	closer_close_later(answer);
}

void applicants_init(struct applicants *a, struct outbox *to_master, unsigned slot)
{
	a->to_master = to_master;
	a->slot = slot;
	for (unsigned i = 0; i < APPLICANTS_MAX; i++)
		a->all[i].answer = -1;
}

static struct applicant *free_place(struct applicants *a)
{
	for (unsigned i = 0; i < APPLICANTS_MAX; i++) {
		if (a->all[i].answer < 0)
			return &a->all[i];
	}
	return NULL;
}

/* Whatever fails, the client sees the end of what it waits for, and asks anew. */
static int ask(struct applicants *a, const struct queue_facts *facts, int process)
{
	const struct mail m = {
		.kind = MAIL_QUEUE,
		.from_slot = a->slot,
		.owner = facts->owner,
		.id = facts->id,
		.seq = facts->depth,
	};
	struct applicant *place = free_place(a);
	int ends[2] = {-1, -1}, kept = -1;

	if (process >= 0 && (kept = fcntl(process, F_DUPFD_CLOEXEC, 0)) < 0)
		return -1;
	if (!place || make_channel(ends) < 0 || outbox_send(a->to_master, 0, &m, ends[1]) < 0) {
		if (ends[0] >= 0)
			close(ends[0]);
		if (kept >= 0)
			close(kept);
		return -1;
	}
	*place = (struct applicant){.id = facts->id, .answer = facts->fd, .channel = ends[0], .process = kept};
	return 0;
}

void applicants_add(struct applicants *a, const struct queue_facts *facts, int process, int err)
{
	fault_point("register-received");
	if (facts->fd < 0)
		return;
	if (!is_seqpacket(facts->fd)) {
		closer_close_later(facts->fd);
		return;
	}
	if (err == 0 && facts->depth == 0)
		err = EINVAL;
	/* Its queues would be nobody's, or everybody's of its user (owner.pid 0). */
	if (err == 0 && process == OS_PROCESS_ENDED && facts->owner.pid != 0)
		err = ESRCH;
	if (err != 0)
		tell(facts->fd, err);
	if (err != 0 || ask(a, facts, facts->owner.pid != 0 ? process : -1) < 0)
		close_answer(facts->fd);
	fault_point("register-passed");
}

void applicants_decide(struct applicants *a, uint64_t id, int err)
{
	const struct wire_note note = {.kind = WIRE_NOTE_CHANNEL};

	for (unsigned i = 0; i < APPLICANTS_MAX; i++) {
		struct applicant *who = &a->all[i];

		if (who->answer < 0 || who->id != id)
			continue;
		if (err == 0 && who->process >= 0 && !os_has_number(who->process))
			err = ESRCH;
		if (err == 0)
			fdpass_send(who->answer, &note, sizeof note, &who->channel, 1);
		else
			tell(who->answer, err);
		if (who->process >= 0)
			close(who->process);
		close(who->channel);
		close_answer(who->answer);
		who->answer = -1;
		return;
	}
}
