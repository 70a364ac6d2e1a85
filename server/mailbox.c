/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/mailbox.h"

#include "server/fdpass.h"
#include "server/loop.h"
#include "server/touch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct letter {
	struct list node;
	unsigned slot;
	int fd;
	struct mail mail;
	unsigned char body[];
};

enum { MAILBOX_BYTES = 1024 * 1024 }; /* or as much as the system grants (net.core.wmem_max) */

int mailbox_new(int ends[2])
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
		return -1;
	setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &(int){MAILBOX_BYTES}, sizeof(int));
	return 0;
}

/* Only a helper's answer needs the room that it takes: the smaller a letter is, the more of them a mailbox holds. */
static size_t letter_size(const struct mail *m)
{
	if (m->kind == MAIL_ANSWER || m->kind == MAIL_OFFER)
		return sizeof *m;
	if ((m->kind == MAIL_CANCEL_TAGS || m->kind == MAIL_UNKNOWN) && m->count <= MAIL_TAGS_MAX)
		return offsetof(struct mail, tags) + m->count * sizeof m->tags[0];
	return offsetof(struct mail, answer);
}

static size_t body_size(const struct mail *m)
{
	return m->kind == MAIL_SEND_OPEN ? m->count : 0;
}

int mailbox_send(int box, const struct mail *m, int fd)
{
	return fdpass_send_two(box, m, letter_size(m), m->body, body_size(m), &fd, fd >= 0);
}

bool mailbox_receive(int box, struct mail *m, int *fd)
{
	static _Alignas(8) unsigned char buf[sizeof *m + MAIL_BODY_MAX];
	struct fdpass in;
	bool whole;

	if (fdpass_receive(box, buf, sizeof buf, &in) < 0)
		return false;
	memcpy(m, buf, in.len < sizeof *m ? in.len : sizeof *m);
	whole = in.len >= offsetof(struct mail, answer) && in.len == letter_size(m) + body_size(m);
	m->body = whole && body_size(m) > 0 ? buf + letter_size(m) : NULL;
	*fd = whole ? fdpass_take(&in, 0) : -1;
	fdpass_drop(&in);
	return whole;
}

bool mailbox_hand_on(struct pools *pools, const int *mailboxes, const struct place *place, unsigned origin,
	unsigned after, unsigned hops)
{
	struct place there = *place;
	struct mail m = {.kind = MAIL_OFFER, .from_slot = origin};
	bool lost;
	int worker = pool_hand_on(pools, &there, after, hops, clock_now_ns(), &lost);

	if (worker >= 0) {
		m.answer = (struct job_answer){.pool = there.kind, .index = there.index, .seq = there.seq};
		mailbox_send(mailboxes[worker], &m, -1);
	}
	return !lost;
}

void outbox_init(struct outbox *o, const int *boxes, unsigned slots, unsigned fds_max)
{
	*o = (struct outbox){.slots = slots, .boxes = boxes, .fds_max = fds_max};
	for (unsigned i = 0; i < slots; i++)
		list_init(&o->letters[i]);
}

static void letter_free(struct outbox *o, struct letter *l)
{
	list_remove(&l->node);
	o->count[l->slot]--;
	o->total--;
	o->fds -= l->fd >= 0;
	touch_close(&l->mail.owner, l->fd);
	if (o->gone)
		o->gone(o->arg, &l->mail);
	free(l);
}

/* Whatever else goes wrong with a letter will go wrong again: it is given up. */
bool mailbox_must_wait(int err)
{
	return err == EAGAIN || err == EINTR || err == ENOBUFS || err == ENOMEM || err == ETOOMANYREFS;
}

static void pump_slot(struct outbox *o, unsigned slot)
{
	while (!list_empty(&o->letters[slot])) {
		struct letter *l = container_of(o->letters[slot].next, struct letter, node);

		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): a letter that was freed has left the list before */
		if (mailbox_send(o->boxes[slot], &l->mail, l->fd) < 0 && mailbox_must_wait(errno))
			return;
		letter_free(o, l);
	}
}

bool outbox_pump(struct outbox *o)
{
	for (unsigned i = 0; i < o->slots && o->total > 0; i++)
		pump_slot(o, i);
	return o->total == 0;
}

static bool has_room(const struct outbox *o, unsigned slot, const struct mail *m, int fd)
{
	const unsigned most = m->kind == MAIL_CANCEL || m->kind == MAIL_CANCEL_TAGS ? CANCELS_MAX : LETTERS_MAX;

	if (m->kind == MAIL_CLOSED || m->kind == MAIL_LOST || m->kind == MAIL_REFUSED)
		return true;
	return o->count[slot] < most && (fd < 0 || o->fds < o->fds_max);
}

int outbox_send(struct outbox *o, unsigned slot, const struct mail *m, int fd)
{
	struct letter *l;

	/* The usual case: an empty outbox, and room in the mailbox. */
	if (list_empty(&o->letters[slot]) && (mailbox_send(o->boxes[slot], m, fd) == 0 || !mailbox_must_wait(errno))) {
		touch_close(&m->owner, fd);
		return 0;
	}
	l = has_room(o, slot, m, fd) ? malloc(sizeof *l + body_size(m)) : NULL;
	if (!l) {
		touch_close(&m->owner, fd);
		return -1;
	}
	*l = (struct letter){.slot = slot, .fd = fd, .mail = *m};
	l->mail.body = l->body;
	if (body_size(m) > 0)
		memcpy(l->body, m->body, body_size(m));
	list_init(&l->node);
	list_append(&o->letters[slot], &l->node);
	o->count[slot]++;
	o->total++;
	o->fds += fd >= 0;
	return 1;
}
