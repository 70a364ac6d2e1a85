/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/inbox.h"

#include "server/closer.h"
#include "server/dest.h"
#include "server/extras.h"
#include "server/fault.h"
#include "server/fdpass.h"
#include "server/request.h"
#include "server/transfer.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>

enum {
	QUANTUM_FIRST = 128 * 1024,      /* what a transfer may move on arrival, */
	QUANTUM_BATCH = 4 * 1024 * 1024, /* and all of a datagram together */
	TELL_EACH = 16, /* requests: so a client begins with what is done while the rest is being done */
};

/* A datagram in hand. */
struct delivery {
	struct fdpass m;
	struct wire_header h;
	int err;             /* what all of its requests are told; 0: they are done */
	struct channel *c;   /* where they report; NULL: nowhere. One reference */
	struct mail cancels; /* gathered for all other workers */
};

/* ---- Messages for another worker */

static void pass_on(struct inbox *in, struct mail *m, int dest)
{
	struct outbox *outbox = in->config.outbox;
	const unsigned slot = id_slot(m->id);

	counter_add(&in->config.engine->own->forwarded, 1);
	if (m->kind == MAIL_CANCEL) {
		outbox_send(outbox, slot, m, -1);
		return;
	}
	fault_point("forward-before");
	m->line = journal_note_second(in->config.pen, m->id);
	if (outbox_send(outbox, slot, m, dest) <= 0)
		journal_strike(in->config.pen, m->line); /* else it is struck out when the letter goes */
	fault_point("forward-after");
	closer_settle();
	/* In this order: our copy is closed when the letter before has been mailed, and so before this one is. */
	m->kind = MAIL_CLOSED;
	m->line = JOURNAL_NONE;
	m->count = 0;
	outbox_send(outbox, slot, m, -1);
}

/* Whether the worker that made the id may still be there. A message to one that is not would only fill its mailbox. */
static bool is_current(const struct inbox *in, uint64_t id)
{
	return id_slot(id) < in->config.workers &&
	       (stats_generation(&in->config.stats[id_slot(id)]) & 0xff) == id_generation(id);
}

/* Whoever gets it decodes what it asks for as it came. */
static void enclose(struct mail *m, const struct wire_request *r)
{
	if (m->kind != MAIL_SEND_OPEN || !extras_wanted(r))
		return;
	m->body = r->bytes;
	m->count = (uint32_t)wire_request_bytes(r);
}

/* `dest` is taken over (-1: a cancel). */
static void second_message(struct inbox *in, const struct wire_request *r, const struct owner *who, int dest)
{
	const bool is_cancel = r->op == WIRE_OP_CANCEL;
	struct mail m = {
		.kind = is_cancel ? MAIL_CANCEL : MAIL_SEND_OPEN,
		.from_slot = in->config.slot,
		.from_generation = in->config.generation,
		.owner = *who,
		.id = r->txnid,
		.seq = ++in->mail_seq,
		.line = JOURNAL_NONE,
	};

	if (id_slot(r->txnid) == in->config.slot) {
		if (is_cancel)
			transfer_cancel(in->config.engine, r->txnid, who);
		else
			transfer_send_open(in->config.engine, r, who, &dest, NULL);
		closer_close(dest);
	} else if (is_current(in, r->txnid)) {
		enclose(&m, r);
		pass_on(in, &m, dest);
	} else {
		closer_close(dest);
	}
}

static void mail_cancels(struct inbox *in, struct delivery *d)
{
	for (unsigned i = 0; d->cancels.count > 0 && i < in->config.workers; i++) {
		if (i != in->config.slot)
			outbox_send(in->config.outbox, i, &d->cancels, -1);
	}
	d->cancels.count = 0;
}

/* A queue's request may be anybody's, or nobody's any more: all are asked, in a letter for many. */
static void cancel_tag(struct inbox *in, struct delivery *d, uint64_t tag)
{
	const struct queue *q = queue_of(d->c);
	struct mail *m = &d->cancels;

	if ((uint32_t)tag >= q->depth || transfer_cancel_tag(q, tag))
		return;
	m->kind = MAIL_CANCEL_TAGS;
	m->owner = d->m.owner;
	m->id = d->h.queue_id;
	m->tags[m->count++] = tag;
	if (m->count == MAIL_TAGS_MAX)
		mail_cancels(in, d);
}

/* ---- Requests */

static void answer_ping(struct channel *c, uint64_t tag)
{
	const struct sfd_xfer_stat ok = {.cmd = SFD_XFER_STAT, .complete = 1, .tag = tag};

	stats_outcome(c->own, SFD_STAT_OK);
	channel_end(c, &ok, JOURNAL_NONE);
}

/* One request of a well-formed datagram. Its descriptors are taken over. */
static void handle_request(struct inbox *in, struct delivery *d, const struct wire_request *r, int *fds)
{
	int err = request_check(r, &d->h);

	if (err != 0) {
		for (unsigned i = 0; i < r->fds; i++)
			closer_close(fds[i]);
		if (d->c)
			channel_refuse(d->c, r->tag, err, JOURNAL_NONE);
	} else if (r->op == WIRE_OP_CANCEL && d->h.channel == WIRE_CHANNEL_QUEUE) {
		cancel_tag(in, d, r->tag);
	} else if (r->op == WIRE_OP_SEND_OPEN || r->op == WIRE_OP_CANCEL) {
		second_message(in, r, &d->m.owner, r->fds > 0 ? fds[0] : -1);
	} else if (r->op == WIRE_OP_PING) {
		assert(d->c); /* wire_check(): only the second messages come without a channel */
		answer_ping(d->c, r->tag);
	} else {
		transfer_begin(in->config.engine, r, &d->m.owner, d->c, fds);
	}
}

/* Whole pages: a page that is moved in two pieces takes two of a pipe's places. */
static uint64_t first_quantum(unsigned count)
{
	const uint64_t page = 4096, share = QUANTUM_BATCH / (count > 0 ? count : 1) & ~(page - 1);

	return share < QUANTUM_FIRST ? share : QUANTUM_FIRST;
}

static void run_requests(struct inbox *in, struct delivery *d)
{
	const unsigned count = d->h.count;
	unsigned next_fd = d->h.channel == WIRE_CHANNEL_FD ? 1 : 0;
	struct wire_cursor cursor;
	struct wire_request r;

	wire_cursor_init(&cursor, journal_datagram(in->config.pen), d->m.len, &d->h);
	while (cursor.count > 0 && wire_next(&cursor, &r) == 0) {
		int fds[WIRE_REQUEST_FDS_MAX];

		for (unsigned i = 0; i < r.fds; i++)
			fds[i] = fdpass_take(&d->m, next_fd++);
		/* Mail that was read meanwhile may have changed it. */
		in->config.engine->first_quantum = first_quantum(count);
		journal_turn_request(in->config.pen, count - cursor.count - 1);
		handle_request(in, d, &r, fds);
		if (d->h.channel == WIRE_CHANNEL_QUEUE && (count - cursor.count) % TELL_EACH == 0) {
			closer_settle();
			channel_uncork(d->c);
			d->c->corked = true;
		}
	}
	mail_cancels(in, d);
}

/* Tells every request of a datagram that can be told apart, and at any rate somebody, that it was refused. */
static void refuse_all(struct inbox *in, struct delivery *d)
{
	struct wire_cursor cursor;
	struct wire_request r;
	unsigned told = 0;

	if (d->h.count > 0) {
		wire_cursor_init(&cursor, journal_datagram(in->config.pen), d->m.len, &d->h);
		while (cursor.count > 0 && wire_next(&cursor, &r) == 0) {
			channel_refuse(d->c, r.tag, d->err, JOURNAL_NONE);
			told++;
		}
		if (cursor.count > 0 && r.tag != 0) {
			channel_refuse(d->c, r.tag, d->err, JOURNAL_NONE);
			told++;
		}
	}
	if (told == 0 && d->h.channel != WIRE_CHANNEL_QUEUE)
		channel_refuse(d->c, 0, d->err, JOURNAL_NONE);
}

/* ---- Datagrams */

/* The status channel of a datagram, from its first descriptor; NULL if it cannot be one or nobody listens any more. */
static struct channel *open_channel(struct inbox *in, struct delivery *d)
{
	struct pollfd p = {.fd = fdpass_take(&d->m, 0)};
	struct channel *c = NULL;
	bool has_name;

	if (p.fd < 0)
		return NULL;
	/*
	 * A pipe whose readers have gone reports POLLERR; such a request is dropped, its destination untouched. (A signal of
	 * the tick may end even a poll(2) that does not wait; that says nothing.)
	 */
	if (dest_is_channel(p.fd, &has_name) && !(poll(&p, 1, 0) > 0 && p.revents & POLLERR))
		c = channel_new(
			&in->config.engine->loop, in->config.engine->own, p.fd, d->h.count > 0 ? d->h.count : 1);
	if (c)
		c->has_name = has_name;
	else
		closer_close(p.fd);
	return c;
}

static struct channel *find_queue(struct inbox *in, const struct delivery *d)
{
	struct queue *q = queues_find(in->config.queues, d->h.queue_id);

	if (!q) {
		in->config.find_queue(in->config.arg, d->h.queue_id);
		q = queues_find(in->config.queues, d->h.queue_id);
	}
	/* One that is another's is none. */
	if (!q || !owner_same(&q->owner, &d->m.owner))
		return NULL;
	channel_take(&q->channel);
	return &q->channel;
}

/* It is in no letter either: there was no room for that. The master knows whether there is such a queue. */
static void ask_master(struct inbox *in, const struct delivery *d)
{
	struct mail m = {
		.kind = MAIL_UNKNOWN,
		.from_slot = in->config.slot,
		.owner = d->m.owner,
		.id = d->h.queue_id,
	};
	struct wire_cursor cursor;
	struct wire_request r;

	wire_cursor_init(&cursor, journal_datagram(in->config.pen), d->m.len, &d->h);
	while (cursor.count > 0 && wire_next(&cursor, &r) == 0) {
		if (r.op == WIRE_OP_SEND || r.op == WIRE_OP_SENDFD || r.op == WIRE_OP_OPEN)
			m.tags[m.count++] = r.tag;
		if (m.count > 0 && (m.count == MAIL_TAGS_MAX || cursor.count == 0)) {
			outbox_send(in->config.to_master, 0, &m, -1);
			m.count = 0;
		}
	}
}

/* Whether the datagram as a whole may be acted on: 0, or what all of its requests are told. */
static int judge(const struct inbox *in, struct delivery *d)
{
	const void *bytes = journal_datagram(in->config.pen);
	int err = wire_get_header(bytes, d->m.len, &d->h);

	if (!d->m.has_owner || !access_allowed(in->config.access, &d->m.owner, d->m.gid))
		return EACCES;
	if (in->config.access->shared)
		d->m.owner.pid = 0;
	if (d->m.data_cut)
		return EMSGSIZE;
	if (err != 0)
		return err;
	if (d->m.fds_lost)
		return EMFILE;
	return wire_check(bytes, d->m.len, &d->h, d->m.nfds);
}

/* Whether it is one request that asks for a queue, which is then in `r`. */
static bool is_registration(const struct inbox *in, const struct delivery *d, struct wire_request *r)
{
	struct wire_cursor cursor;

	if (d->h.channel != WIRE_CHANNEL_QUEUE || d->h.count != 1 || d->m.nfds != 1)
		return false;
	wire_cursor_init(&cursor, journal_datagram(in->config.pen), d->m.len, &d->h);
	return wire_next(&cursor, r) == 0 && r->op == WIRE_OP_REGISTER;
}

static void handle_registration(struct inbox *in, struct delivery *d, const struct wire_request *r)
{
	const struct queue_facts facts = {
		.id = d->h.queue_id,
		.owner = d->m.owner,
		.depth = r->length <= WIRE_DEPTH_MAX ? (uint32_t)r->length : 0,
		.fd = fdpass_take(&d->m, 0),
	};

	if (d->err == 0)
		d->err = request_check(r, &d->h);
	applicants_add(in->config.applicants, &facts, d->err);
}

static void handle(struct inbox *in, struct delivery *d)
{
	if (d->h.channel == WIRE_CHANNEL_QUEUE) {
		fault_point("datagram-received");
		d->c = d->m.has_owner ? find_queue(in, d) : NULL;
		if (!d->c && d->err == 0)
			ask_master(in, d);
		if (!d->c)
			return;
	} else if (d->h.channel == WIRE_CHANNEL_FD || d->h.count == 0) {
		d->c = open_channel(in, d);
		if (!d->c)
			return;
	}
	if (d->c)
		d->c->corked = true;
	closer_gather();
	if (d->err == 0)
		run_requests(in, d);
	else if (d->c)
		refuse_all(in, d);
}

static void tell_operator(struct inbox *in, const struct delivery *d)
{
	struct engine *e = in->config.engine;
	const enum notice_kind kind = d->err == EACCES ? NOTICE_REFUSED : NOTICE_MALFORMED;

	if (d->m.has_owner)
		notices_add(&e->notices, kind, &d->m.owner, d->err, e->loop.now_ns);
}

bool inbox_receive(struct inbox *in, int sock)
{
	struct journal_pen *pen = in->config.pen;
	struct delivery d = {.c = NULL};
	struct wire_request r;

	if (fdpass_receive_into(sock, journal_datagram(pen), WIRE_DATAGRAM_MAX, journal_control(pen), &d.m) < 0)
		return false;
	stats_client(in->config.engine->own, d.m.owner.uid, d.m.owner.pid);
	d.err = judge(in, &d);
	if (d.err != 0)
		tell_operator(in, &d);
	counter_add(&in->config.engine->own->requests, d.h.count > 0 ? d.h.count : 1);
	if (is_registration(in, &d, &r))
		handle_registration(in, &d, &r);
	else
		handle(in, &d);
	fdpass_drop(&d.m);
	closer_finish(); /* before anybody can read that it is over */
	if (d.c) {
		channel_uncork(d.c);
		channel_release(d.c);
	}
	journal_turn(pen, JOURNAL_NONE);
	journal_forget_datagram(pen, d.m.len);
	return true;
}
