/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/queue.h"

#include "server/closer.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

static const struct channel_ops queue_ops;

void queues_init(struct queues *s, struct journal_pen *pen, uint32_t reserve, struct loop *loop, struct stats *own)
{
	*s = (struct queues){.reserve = reserve, .pen = pen, .loop = loop, .own = own};
	list_init(&s->dirty);
}

/* Ids are random. */
static struct queue **bucket(struct queues *s, uint64_t id)
{
	return &s->buckets[id % QUEUE_BUCKETS];
}

struct queue *queues_find(const struct queues *s, uint64_t id)
{
	struct queue *q = s->buckets[id % QUEUE_BUCKETS];

	while (q && q->id != id)
		q = q->next;
	return q;
}

/* ---- The end */

static void strike_all(struct queue *q)
{
	for (uint32_t i = 0; i < q->notes.outcomes; i++)
		journal_strike(q->set->pen, q->notes.lines[i]);
	q->notes.len = q->notes.outcomes = 0;
}

/* Nobody reads any more. Its transfers end, and with the last of them the queue does. */
static void set_gone(struct queue *q)
{
	struct queue **at = bucket(q->set, q->id);

	if (q->channel.gone)
		return;
	q->channel.gone = true;
	strike_all(q);
	loop_unwatch(q->set->loop, &q->channel.source);
	while (*at != q)
		at = &(*at)->next;
	*at = q->next;
	if (q->channel.on_change)
		q->channel.on_change(&q->channel);
	channel_release(&q->channel);
}

/* A client that has more outstanding than it said, or no memory for what it is told: the queue ends, for all workers. */
static void give_up(struct queue *q)
{
	shutdown(q->channel.source.fd, SHUT_RDWR);
	set_gone(q);
}

static void unused(struct channel *c)
{
	struct queue *q = queue_of(c);

	list_remove(&q->dirty);
	notes_free(&q->notes);
	closer_close_harmless(c->source.fd); /* nothing is in it: see register.c */
	free(q->claims);
	free(q->cancelled);
	free(q);
}

/* ---- Notes */

/* The client's going is always reported; room only where something waits for it. */
static int watch_room(struct queue *q)
{
	const unsigned events = POLLER_EDGE | (q->notes.blocked ? POLLER_OUT : 0);

	/* While there is no room it is asked again: an edge may have passed before there was something to send. */
	if (q->channel.source.watched && q->channel.watching == events && !q->notes.blocked)
		return 0;
	q->channel.watching = events;
	return loop_watch(q->set->loop, &q->channel.source, events);
}

static struct queue *largest(const struct queues *s)
{
	struct queue *found = NULL;

	for (unsigned i = 0; i < QUEUE_BUCKETS; i++) {
		for (struct queue *q = s->buckets[i]; q; q = q->next) {
			if (!found || q->notes.outcomes > found->notes.outcomes)
				found = q;
		}
	}
	return found;
}

/* Outcomes that their clients do not read have lines in the journal. Before others get none, who keeps most of them ends. */
static void relieve(struct queues *s)
{
	struct queue *q;

	while (journal_left(s->pen) < s->reserve && (q = largest(s)) != NULL && q->notes.outcomes > 0)
		give_up(q);
}

static void flush(struct queue *q)
{
	struct queues *set = q->set;
	int err;

	if (q->channel.gone)
		return;
	err = notes_send(&q->notes, q->channel.source.fd, q->set->pen, q->id);
	if (err == EAGAIN || err == 0)
		err = watch_room(q) < 0 ? errno : 0;
	if (err == EPIPE || err == ECONNRESET)
		set_gone(q);
	else if (err != 0)
		give_up(q);
	else if (q->notes.blocked)
		relieve(set);
}

static void put(struct queue *q, const struct wire_note *note, const struct sfd_file_info *info, uint32_t line)
{
	/* Each request is told of twice at most, its progress aside, and that is not kept. */
	const uint32_t most = q->depth * (uint32_t)(wire_note_bytes(WIRE_NOTE_INFO) + WIRE_NOTE_SIZE);

	if (q->channel.gone) {
		journal_strike(q->set->pen, line);
		return;
	}
	if (q->notes.len + wire_note_bytes(note->kind) > most + WIRE_RECORD_MAX ||
		q->notes.outcomes > q->depth + WIRE_COUNT_MAX || notes_put(&q->notes, note, info, line) < 0) {
		journal_strike(q->set->pen, line);
		give_up(q);
		return;
	}
	if (list_empty(&q->dirty))
		list_append(&q->set->dirty, &q->dirty);
}

static void tell_info(struct channel *c, const struct sfd_file_info *info)
{
	const struct wire_note note = {.kind = WIRE_NOTE_INFO, .tag = info->tag};

	put(queue_of(c), &note, info, JOURNAL_NONE);
}

static void tell_end(struct channel *c, const struct sfd_xfer_stat *stat, uint32_t line)
{
	const struct wire_note note = {
		.kind = WIRE_NOTE_DONE,
		.stat = stat->stat,
		.tag = stat->tag,
		.bytes = stat->total,
		.written = stat->written,
	};

	put(queue_of(c), &note, NULL, line);
}

static void tell_refusal(struct channel *c, const struct sfd_file_info *refusal, uint32_t line)
{
	const struct wire_note note = {.kind = WIRE_NOTE_DONE, .stat = refusal->stat, .tag = refusal->tag};

	put(queue_of(c), &note, NULL, line);
}

static bool tell_progress(struct channel *c, const struct sfd_xfer_stat *stat)
{
	const struct wire_note note = {
		.kind = WIRE_NOTE_PROGRESS,
		.tag = stat->tag,
		.bytes = stat->total,
		.written = stat->written,
	};

	if (queue_of(c)->notes.blocked)
		return false;
	put(queue_of(c), &note, NULL, JOURNAL_NONE);
	return !c->gone;
}

static void uncork(struct channel *c)
{
	c->corked = false;
	flush(queue_of(c));
}

/* It is watched for as long as it is there. */
static int watch(struct channel *c)
{
	(void)c;
	return 0;
}

static void on_event(struct source *source, unsigned events)
{
	struct queue *q = queue_of(container_of(source, struct channel, source));

	if (events & POLLER_ERR)
		set_gone(q);
	else if (q->notes.len > 0)
		flush(q);
}

void queues_flush(struct queues *s)
{
	while (!list_empty(&s->dirty)) {
		struct list *n = s->dirty.next;

		list_remove(n);
		flush(container_of(n, struct queue, dirty));
	}
}

bool queues_any(const struct queues *s)
{
	for (unsigned i = 0; i < QUEUE_BUCKETS; i++) {
		if (s->buckets[i])
			return true;
	}
	return false;
}

void queues_end(struct queues *s)
{
	for (unsigned i = 0; i < QUEUE_BUCKETS; i++) {
		for (const struct queue *q = s->buckets[i]; q; q = q->next)
			shutdown(q->channel.source.fd, SHUT_RDWR);
	}
}

/* ---- Who reports here */

void *queue_claimed(const struct queue *q, uint64_t tag)
{
	return (uint32_t)tag < q->depth ? q->claims[(uint32_t)tag] : NULL;
}

/* A tag is not used again, so it may stay there if nothing of it waits. */
void queue_cancel_waiting(struct queue *q, uint64_t tag)
{
	if ((uint32_t)tag >= q->depth || q->channel.gone)
		return;
	if (!q->cancelled)
		q->cancelled = calloc(q->depth, sizeof *q->cancelled);
	if (q->cancelled)
		q->cancelled[(uint32_t)tag] = ~tag;
	else
		shutdown(q->channel.source.fd,
			SHUT_RDWR); /* better no queue than one that does not do what it is told */
}

static uint32_t claim(struct channel *c, uint64_t tag, void *transfer)
{
	struct queue *q = queue_of(c);
	uint32_t line;

	if ((uint32_t)tag >= q->depth || q->claims[(uint32_t)tag]) {
		errno = EINVAL; /* no request of our library */
		return JOURNAL_NONE;
	}
	line = journal_note_request(q->set->pen, q->id, tag);
	if (line == JOURNAL_NONE)
		errno = EMFILE;
	else
		q->claims[(uint32_t)tag] = transfer;
	return line;
}

static void disclaim(struct channel *c, uint64_t tag)
{
	queue_of(c)->claims[(uint32_t)tag] = NULL;
}

static const struct channel_ops queue_ops = {
	.info = tell_info,
	.end = tell_end,
	.refuse = tell_refusal,
	.progress = tell_progress,
	.uncork = uncork,
	.watch = watch,
	.unused = unused,
	.claim = claim,
	.disclaim = disclaim,
};

/* ---- The beginning */

static bool has_hung_up(const struct queue *q)
{
	struct pollfd p = {.fd = q->channel.source.fd};

	return poll(&p, 1, 0) > 0 && p.revents & (POLLHUP | POLLERR);
}

void queues_add(struct queues *s, const struct queue_facts *facts)
{
	struct queue **at = bucket(s, facts->id), *q = queues_find(s, facts->id);

	if (facts->fd < 0)
		return; /* there was no descriptor left for it here */
	/* The master has let go of one whose client has: then it is another one by the same id. Else it is the same. */
	if (q && has_hung_up(q)) {
		set_gone(q);
		q = NULL;
	}
	q = q ? NULL : calloc(1, sizeof *q);
	if (q)
		q->claims = calloc(facts->depth, sizeof *q->claims);
	/* Without it the worker refuses what the queue asks of it: it knows none of that id. */
	if (!q || !q->claims) {
		free(q);
		closer_close_harmless(facts->fd);
		return;
	}
	q->channel = (struct channel){
		.ops = &queue_ops,
		.source = {.fd = facts->fd, .on_event = on_event},
		.loop = s->loop,
		.own = s->own,
		.refs = 1,
		.admitted = true,
	};
	list_init(&q->channel.transfers);
	list_init(&q->dirty);
	q->set = s;
	q->id = facts->id;
	q->owner = facts->owner;
	q->depth = facts->depth;
	q->next = *at;
	*at = q;
	if (watch_room(q) < 0)
		set_gone(q);
}
