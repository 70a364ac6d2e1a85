/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/mailbox.h"

#include "server/fdpass.h"
#include "server/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct letter {
	struct list node;
	unsigned slot;
	int fd;
	struct mail mail;
};

int mailbox_new(int ends[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends);
}

int mailbox_send(int box, const struct mail *m, int fd)
{
	return fdpass_send(box, m, sizeof *m, fd);
}

bool mailbox_receive(int box, struct mail *m, int *fd)
{
	struct fdpass in;

	bool whole;

	if (fdpass_receive(box, m, sizeof *m, &in) < 0)
		return false;
	whole = in.len == sizeof *m;
	*fd = whole ? fdpass_take(&in, 0) : -1;
	fdpass_drop(&in);
	return whole;
}

void outbox_init(struct outbox *o, const int *boxes)
{
	list_init(&o->letters);
	o->boxes = boxes;
}

static void letter_free(struct letter *l)
{
	list_remove(&l->node);
	if (l->fd >= 0)
		close(l->fd);
	free(l);
}

/* Whatever else goes wrong with a letter will go wrong again: it is given up. */
static bool must_wait(int err)
{
	return err == EAGAIN || err == ENOBUFS || err == ENOMEM || err == ETOOMANYREFS;
}

bool outbox_pump(struct outbox *o)
{
	while (!list_empty(&o->letters)) {
		struct letter *l = container_of(o->letters.next, struct letter, node);

		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): a letter that was freed has left the list before */
		if (mailbox_send(o->boxes[l->slot], &l->mail, l->fd) < 0 && must_wait(errno))
			return false;
		letter_free(l);
	}
	return true;
}

int outbox_send(struct outbox *o, unsigned slot, const struct mail *m, int fd)
{
	struct letter *l;

	/* The usual case: an empty outbox, and room in the mailbox. */
	if (list_empty(&o->letters) && (mailbox_send(o->boxes[slot], m, fd) == 0 || !must_wait(errno))) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	l = malloc(sizeof *l);
	if (!l) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	*l = (struct letter){.slot = slot, .fd = fd, .mail = *m};
	list_init(&l->node);
	list_append(&o->letters, &l->node);
	return 0;
}
