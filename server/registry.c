/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/registry.h"

#include "server/os/poller.h"
#include "server/os/process.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	EVENTS_MAX = 64,
	MAIL_PER_ROUND = 256,
	PUMP_MS = 2,
	UNTOLD_MS = 50, /* who has no room for so long may be stuck for good */
};

int registry_init(struct registry *r, const int *mailboxes, unsigned workers, unsigned most, bool shared)
{
	*r = (struct registry){
		.most = most,
		.box = {-1, -1},
		.mailboxes = mailboxes,
		.workers = workers,
		.shared = shared,
	};
	outbox_init(&r->outbox, mailboxes, workers, LETTER_FDS_MAX);
	r->poller = poller_new();
	if (r->poller < 0 || mailbox_new(r->box) < 0)
		return -1;
	return poller_add(r->poller, r->box[0], POLLER_IN, NULL);
}

static struct registered **bucket(struct registry *r, uint64_t id)
{
	return &r->buckets[id % QUEUE_BUCKETS];
}

static struct registered *find(struct registry *r, uint64_t id)
{
	struct registered *q = *bucket(r, id);

	while (q && q->facts.id != id)
		q = q->next;
	return q;
}

/* Only who registered a queue is told anything by it. */
static struct registered *find_owned(struct registry *r, uint64_t id, const struct owner *who)
{
	struct registered *q = find(r, id);

	if (!q || q->facts.owner.uid != who->uid)
		return NULL;
	return r->shared || owner_same(&q->facts.owner, who) ? q : NULL;
}

static unsigned count_of(const struct registry *r, uid_t uid)
{
	unsigned n = 0;

	for (unsigned i = 0; i < QUEUE_BUCKETS; i++) {
		for (const struct registered *q = r->buckets[i]; q; q = q->next)
			n += q->facts.owner.uid == uid;
	}
	return n;
}

static void drop(struct registry *r, struct registered *q)
{
	struct registered **at = bucket(r, q->facts.id);

	while (*at != q)
		at = &(*at)->next;
	*at = q->next;
	r->count--;
	poller_remove(r->poller, q->facts.fd);
	if (q->process >= 0)
		poller_remove(r->poller, q->process);
	if (q->process >= 0)
		close(q->process);
	/* Nothing is in it that the close would have to wait for: see register.c. */
	close(q->facts.fd);
	notes_free(&q->notes);
	free(q);
}

/* ---- What clients are told */

/* False if the queue is no more. */
static bool send_notes(struct registry *r, struct registered *q)
{
	int err = notes_send(&q->notes, q->facts.fd, NULL, 0);
	uint32_t events = POLLER_EDGE | (err == EAGAIN ? POLLER_OUT : 0);

	if (err == 0 && q->watching == events)
		return true;
	if ((err == 0 || err == EAGAIN) && poller_change(r->poller, q->facts.fd, events, &q->channel_end) == 0) {
		q->watching = events;
		return true;
	}
	shutdown(q->facts.fd, SHUT_RDWR); /* so that workers let go of it, and the client knows */
	drop(r, q);
	return false;
}

static void tell(struct registry *r, struct registered *q, uint64_t tag, int stat)
{
	const struct wire_note note = {.kind = WIRE_NOTE_DONE, .stat = stat, .tag = tag};

	/* More than there can be: the client has told us of requests that it cannot have. */
	if (q->notes.outcomes > q->facts.depth + WIRE_COUNT_MAX ||
		notes_put(&q->notes, &note, NULL, JOURNAL_NONE) < 0) {
		shutdown(q->facts.fd, SHUT_RDWR);
		drop(r, q);
	}
}

/* ---- Registration */

/* Takes over `fd`. The worker that asked tells the client. */
static void refuse(struct registry *r, unsigned slot, uint64_t id, int fd, int err)
{
	const struct mail m = {.kind = MAIL_REFUSED, .id = id, .seq = (uint64_t)err};

	if (slot < r->workers)
		outbox_send(&r->outbox, slot, &m, -1);
	close(fd);
}

static int judge(struct registry *r, const struct queue_facts *facts)
{
	if (find(r, facts->id))
		return EEXIST;
	if (r->count >= r->most)
		return ENFILE;
	return count_of(r, facts->owner.uid) >= REGISTRY_UID_MAX ? EDQUOT : 0;
}

/* Before the client may send anything each worker is to have it in the mail. Who has no room there is told later. */
static void tell_workers(struct registry *r, struct registered *q)
{
	const struct mail m = {
		.kind = MAIL_QUEUE,
		.owner = q->facts.owner,
		.id = q->facts.id,
		.seq = q->facts.depth,
	};

	for (unsigned i = 0; i < r->workers; i++) {
		const uint64_t bit = UINT64_C(1) << i;

		if (q->untold & bit && list_empty(&r->outbox.letters[i]) &&
			mailbox_send(r->mailboxes[i], &m, q->facts.fd) == 0)
			q->untold &= ~bit;
	}
	r->has_untold = r->has_untold || q->untold != 0;
}

static void tell_untold(struct registry *r)
{
	r->has_untold = false;
	for (unsigned i = 0; i < QUEUE_BUCKETS; i++) {
		for (struct registered *q = r->buckets[i]; q; q = q->next) {
			if (q->untold != 0)
				tell_workers(r, q);
		}
	}
}

/*
 * A process that ends takes its queues with it, also if a forked child has a copy of the channel: another process may get
 * its number. 0, or an errno: ESRCH (it has ended already).
 */
static int watch(struct registry *r, struct registered *q)
{
	if (poller_add(r->poller, q->facts.fd, q->watching, &q->channel_end) < 0)
		return errno;
	if (q->facts.owner.pid == 0)
		return 0;
	q->process = os_watch_process(q->facts.owner.pid);
	if (q->process < 0) /* what a container may say tells nothing of the process */
		return errno == ENOSYS || errno == EPERM ? 0 : errno;
	return poller_add(r->poller, q->process, POLLER_IN, &q->process_end) < 0 ? errno : 0;
}

/* Takes over `facts->fd`. `slot`: the worker that asks. */
static void enter(struct registry *r, const struct queue_facts *facts, unsigned slot)
{
	const struct wire_note note = {.kind = WIRE_NOTE_REGISTERED};
	struct registered **at = bucket(r, facts->id);
	int err = judge(r, facts);
	struct registered *q = err == 0 ? malloc(sizeof *q) : NULL;

	if (!q) {
		refuse(r, slot, facts->id, facts->fd, err != 0 ? err : ENOMEM);
		return;
	}
	*q = (struct registered){
		.next = *at,
		.facts = *facts,
		.process = -1,
		.channel_end = {q, false},
		.process_end = {q, true},
		.watching = POLLER_EDGE,
		.untold = UINT64_MAX >> (WORKERS_MAX - r->workers),
	};
	err = watch(r, q);
	if (err == 0 && notes_put(&q->notes, &note, NULL, 0) < 0)
		err = ENOMEM;
	if (err != 0) {
		poller_remove(r->poller, q->facts.fd);
		if (q->process >= 0)
			close(q->process);
		refuse(r, slot, facts->id, facts->fd, err);
		notes_free(&q->notes);
		free(q);
		return;
	}
	*at = q;
	r->count++;
	tell_workers(r, q);
	send_notes(r, q);
}

/* A worker has received something for a queue that it knows nothing of, though it has read its mail. It is told again. */
static void unknown(struct registry *r, const struct mail *m)
{
	struct registered *q = find_owned(r, m->id, &m->owner);

	for (unsigned i = 0; q && i < m->count && i < MAIL_TAGS_MAX; i++) {
		tell(r, q, m->tags[i], EBUSY);
		q = find(r, m->id); /* it may have been too much for it */
	}
	if (!q || m->from_slot >= r->workers)
		return;
	q->untold |= UINT64_C(1) << m->from_slot;
	tell_workers(r, q);
	send_notes(r, q);
}

static void heed_workers(struct registry *r)
{
	struct mail m;
	int fd;

	for (int i = 0; i < MAIL_PER_ROUND && mailbox_receive(r->box[0], &m, &fd); i++) {
		if (m.kind == MAIL_QUEUE && fd >= 0) {
			const struct queue_facts facts = {
				.id = m.id,
				.owner = m.owner,
				.depth = (uint32_t)m.seq,
				.fd = fd,
			};

			enter(r, &facts, m.from_slot);
		} else {
			if (m.kind == MAIL_UNKNOWN)
				unknown(r, &m);
			if (fd >= 0)
				close(fd);
		}
	}
}

static void heed_channel(struct registry *r, struct registered *q, unsigned events)
{
	if (events & POLLER_ERR)
		drop(r, q);
	else if (q->notes.len > 0)
		send_notes(r, q);
}

static void drop_orphans(struct registry *r)
{
	for (unsigned i = 0; i < QUEUE_BUCKETS; i++) {
		struct registered *next;

		for (struct registered *q = r->buckets[i]; q; q = next) {
			next = q->next;
			if (!q->orphaned)
				continue;
			shutdown(q->facts.fd, SHUT_RDWR);
			drop(r, q);
		}
	}
}

void registry_heed(struct registry *r)
{
	struct poller_event events[EVENTS_MAX];
	int n = poller_wait(r->poller, events, EVENTS_MAX, 0);
	bool mail = false, orphans = false;

	for (int i = 0; i < n; i++) {
		const struct registered_end *end = events[i].data;

		if (end && !end->is_process)
			continue;
		if (end)
			end->queue->orphaned = orphans = true;
		else
			mail = true;
		events[i].data = NULL;
	}
	/* What is left is channels. Each is in these events once, and is still there; but not when it has been dropped. */
	for (int i = 0; i < n; i++) {
		const struct registered_end *end = events[i].data;

		if (end)
			heed_channel(r, end->queue, events[i].events);
	}
	if (orphans)
		drop_orphans(r);
	if (mail)
		heed_workers(r);
}

int registry_pump(struct registry *r)
{
	if (r->has_untold)
		tell_untold(r);
	if (!outbox_pump(&r->outbox))
		return PUMP_MS;
	return r->has_untold ? UNTOLD_MS : -1;
}

void registry_each(const struct registry *r, void (*each)(void *arg, const struct queue_facts *facts), void *arg)
{
	for (unsigned i = 0; i < QUEUE_BUCKETS; i++) {
		for (const struct registered *q = r->buckets[i]; q; q = q->next)
			each(arg, &q->facts);
	}
}

/* ---- The dead */

static void bury_request(void *arg, uint64_t queue, uint64_t tag, const struct owner *who)
{
	struct registry *r = arg;
	struct registered *q = who ? find_owned(r, queue, who) : find(r, queue);

	if (q)
		tell(r, q, tag, SFD_STAT_WORKER_DIED);
}

/*
 * The worker that has the file open is told that a send-open was lost. Mail is read in order, so if the dead worker passed
 * it on after all, that comes first, and this means nothing.
 */
static void bury_second(void *arg, uint64_t txnid)
{
	struct registry *r = arg;
	const struct mail m = {.kind = MAIL_LOST, .id = txnid};
	unsigned slot = (unsigned)(txnid >> 56);

	if (slot < r->workers)
		outbox_send(&r->outbox, slot, &m, -1);
}

static void bury_cancel(void *arg, uint64_t queue, uint64_t tag, const struct owner *who)
{
	struct registry *r = arg;
	const struct mail m = {.kind = MAIL_CANCEL_TAGS, .owner = *who, .id = queue, .count = 1, .tags = {tag}};

	for (unsigned i = 0; find_owned(r, queue, who) && i < r->workers; i++)
		outbox_send(&r->outbox, i, &m, -1);
}

void registry_bury(struct registry *r, const struct journal *journal, bool current)
{
	const struct journal_reader reader = {
		.request = bury_request,
		.second = bury_second,
		.cancel = bury_cancel,
		.arg = r,
	};

	journal_read(journal, current, &reader);
	for (unsigned i = 0; i < QUEUE_BUCKETS; i++) {
		struct registered *next;

		for (struct registered *q = r->buckets[i]; q; q = next) {
			next = q->next;
			if (q->notes.len > 0)
				send_notes(r, q);
		}
	}
}
