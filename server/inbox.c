/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/inbox.h"

#include "server/closer.h"
#include "server/dest.h"
#include "server/extras.h"
#include "server/fault.h"
#include "server/fdpass.h"
#include "server/os/process.h"
#include "server/request.h"
#include "server/touch.h"
#include "server/transfer.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	QUANTUM_FIRST = 128 * 1024,      /* what a transfer may move on arrival, */
	QUANTUM_BATCH = 4 * 1024 * 1024, /* and all of a datagram together */
	AT_A_TIME = 16, /* requests: so a client begins with what is done while the rest is being done; */
	AT_A_TURN = 8,  /* or, while users compete, and then it is told at the end of the datagram */
	/* While somebody has a descriptor of a process open, the next one takes Linux half the time. */
	SENDER_MS = 20,
	/*
	 * What a request takes of its user's processor beside what it takes of ours: see doc/performance.md. A call makes a pipe,
	 * and wakes him.
	 */
	PRICE_IN_QUEUE = 1,
	PRICE_OF_CALL = 4,
	REFUSAL_MS = 100, /* which takes some us: who takes longer hangs */
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
	touch_settle(&m->owner);
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

static void mail_cancels(struct inbox *in)
{
	for (unsigned i = 0; in->cancels.count > 0 && i < in->config.workers; i++) {
		if (i != in->config.slot)
			outbox_send(in->config.outbox, i, &in->cancels, -1);
	}
	in->cancels.count = 0;
}

/* A queue's request may be anybody's, or nobody's any more: all are asked, in a letter for many. */
static void cancel_tag(struct inbox *in, struct delivery *d, uint64_t tag)
{
	struct queue *q = queue_of(d->c);
	struct mail *m = &in->cancels;

	if ((uint32_t)tag >= q->depth || transfer_cancel_tag(q, tag))
		return;
	if (in->held.waiting > 1) /* what is too much does not wait its turn, and so may come before what it cancels */
		queue_cancel_waiting(q, tag);
	m->kind = MAIL_CANCEL_TAGS;
	m->owner = d->m.owner;
	m->id = d->h.queue_id;
	m->tags[m->count++] = tag;
	if (m->count == MAIL_TAGS_MAX)
		mail_cancels(in);
}

static bool begins(const struct wire_request *r)
{
	return r->op == WIRE_OP_SEND || r->op == WIRE_OP_SENDFD || r->op == WIRE_OP_OPEN || r->op == WIRE_OP_READ;
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

	if (err == 0 && d->is_too_much && begins(r))
		err = EDQUOT;
	if (err == 0 && d->h.channel == WIRE_CHANNEL_QUEUE && begins(r) && queue_was_cancelled(queue_of(d->c), r->tag))
		err = ECANCELED;
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
		transfer_begin(in->config.engine, r, &d->m.owner, d->m.process, d->c, fds);
	}
}

/* Whole pages: a page that is moved in two pieces takes two of a pipe's places. */
static uint64_t first_quantum(unsigned count)
{
	const uint64_t page = 4096, share = QUANTUM_BATCH / (count > 0 ? count : 1) & ~(page - 1);

	return share < QUANTUM_FIRST ? share : QUANTUM_FIRST;
}

bool inbox_is_shared(const struct inbox *in)
{
	const struct engine *e = in->config.engine;

	return e->suspects.count > 0 || turns_are_shared(&in->turns, e->loop.now_ns);
}

/* As many as are done at a time. */
static void run_some(struct inbox *in, struct delivery *d)
{
	const unsigned most = inbox_is_shared(in) ? AT_A_TURN : AT_A_TIME;
	struct wire_request r;

	for (unsigned n = 0; n < most && d->cursor.count > 0 && wire_next(&d->cursor, &r) == 0; n++) {
		int fds[WIRE_REQUEST_FDS_MAX];

		for (unsigned i = 0; i < r.fds; i++)
			fds[i] = fdpass_take(&d->m, d->next_fd++);
		/* Mail that was read meanwhile may have changed it. */
		in->config.engine->first_quantum = first_quantum(d->h.count);
		delivery_at_request(&in->held, d, d->h.count - d->cursor.count - 1);
		handle_request(in, d, &r, fds);
	}
	mail_cancels(in);
}

/* Tells every request of a datagram that can be told apart, and at any rate somebody, that it was refused. */
static void refuse_all(struct inbox *in, struct delivery *d)
{
	struct wire_cursor cursor;
	struct wire_request r;
	unsigned told = 0;

	if (d->h.count > 0) {
		wire_cursor_init(&cursor, delivery_bytes(&in->held, d), d->m.len, &d->h);
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
	if (c) {
		c->has_name = has_name;
		c->who = d->m.owner;
	} else {
		closer_close(p.fd);
	}
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

	wire_cursor_init(&cursor, delivery_bytes(&in->held, d), d->m.len, &d->h);
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
	const void *bytes = delivery_bytes(&in->held, d);
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
	/* A queue ends with its process. */
	if (d->h.channel != WIRE_CHANNEL_QUEUE && d->m.owner.pid != 0)
		d->m.owner.mark = os_process_mark(d->m.process);
	return wire_check(bytes, d->m.len, &d->h, d->m.nfds);
}

/* Whether it is one request that asks for a queue, which is then in `r`. */
static bool is_registration(const struct inbox *in, const struct delivery *d, struct wire_request *r)
{
	struct wire_cursor cursor;

	if (d->h.channel != WIRE_CHANNEL_QUEUE || d->h.count != 1 || d->m.nfds != 1)
		return false;
	wire_cursor_init(&cursor, delivery_bytes(&in->held, d), d->m.len, &d->h);
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
	applicants_add(in->config.applicants, &facts, d->m.process, d->err);
}

/* Finds out where it reports. False if nothing of it is to be done: there is nobody to tell, or all have been told. */
static bool begin(struct inbox *in, struct delivery *d)
{
	struct wire_request r;

	d->is_begun = true;
	if (is_registration(in, d, &r)) {
		handle_registration(in, d, &r);
		return false;
	}
	if (d->h.channel == WIRE_CHANNEL_QUEUE) {
		fault_point("datagram-received");
		d->c = d->m.has_owner ? find_queue(in, d) : NULL;
		if (!d->c && d->err == 0)
			ask_master(in, d);
		if (!d->c)
			return false;
	} else if (d->h.channel == WIRE_CHANNEL_FD || d->h.count == 0) {
		d->c = open_channel(in, d);
		if (!d->c)
			return false;
	}
	if (d->c)
		d->c->corked = true;
	if (d->err != 0 && d->c)
		refuse_all(in, d);
	if (d->err != 0)
		return false;
	d->next_fd = d->h.channel == WIRE_CHANNEL_FD ? 1 : 0;
	wire_cursor_init(&d->cursor, delivery_bytes(&in->held, d), d->m.len, &d->h);
	return true;
}

/* So many of its requests have yet to be begun. */
static void unqueue(struct inbox *in, struct delivery *d, unsigned left)
{
	if (d->turn.left <= left)
		return;
	share_unqueue(in->config.engine->shares, in->config.slot, d->place, d->turn.left - left);
	turns_did(&in->turns, &d->turn, left);
}

static void keep_sender(struct inbox *in, int process)
{
	if (in->sender >= 0)
		closer_close_harmless(in->sender);
	in->sender = process;
	in->sender_ns = in->config.engine->loop.now_ns;
}

/* What it holds is given back; the channel is released when that has told. */
static void let_go(struct inbox *in, struct delivery *d)
{
	in->held.fds -= fdpass_count(&d->m);
	if (d->m.process >= 0)
		keep_sender(in, d->m.process);
	d->m.process = OS_PROCESS_UNSAID;
	turns_done(&in->turns, &d->turn);
	fdpass_drop(&d->m);
}

/*
 * To tell somebody that he is refused, and to close what he has sent, is to touch what may hold on to a worker for good: a pipe whose
 * lock he has, and gives up when a file system of his own lets him. So one worker at a time does it for all who are not served at
 * all. If that one does not come back from it this is false for the others: they tell nothing, and leave the closing to other processes.
 */
static bool begin_refusing(struct inbox *in)
{
	uint64_t since = clock_now_ns();
	uint32_t holder = 0;

	for (;;) {
		uint32_t who = 0;

		if (atomic_compare_exchange_strong(&in->config.stats[0].refusing, &who, in->self)) {
			in->hung = 0; /* whoever it was has come back, or has ended */
			return true;
		}
		if (who == in->hung)
			return false;
		if (who != holder) {
			holder = who;
			since = clock_now_ns();
		} else if (clock_now_ns() - since > REFUSAL_MS * UINT64_C(1000000)) {
			in->hung = who;
		}
		sched_yield();
	}
}

static void end_refusing(struct inbox *in)
{
	atomic_store(&in->config.stats[0].refusing, 0);
}

static void drop_later(struct delivery *d)
{
	for (unsigned i = 0; i < d->m.nfds; i++)
		closer_close_later(fdpass_take(&d->m, i));
}

/* True when nothing of it is left. */
static bool work_on(struct inbox *in, struct delivery *d)
{
	struct journal_pen *pen = in->config.pen;
	const bool refuses = d->err == EACCES, may_refuse = refuses && begin_refusing(in);
	bool goes_on = true;

	delivery_take_in_hand(&in->held, d);
	stats_client(in->config.engine->own, d->m.owner.uid, d->m.owner.pid, in->config.engine->loop.now_ns);
	closer_gather();
	if (refuses && !may_refuse) {
		drop_later(d);
		goes_on = false;
	} else if (!d->is_begun) {
		goes_on = begin(in, d);
	} else if (d->c) {
		d->c->corked = true;
	}
	if (goes_on) {
		run_some(in, d);
		goes_on = d->cursor.count > 0 && !(d->c && d->c->gone);
	}
	unqueue(in, d, goes_on ? d->cursor.count : 0);
	if (!goes_on)
		let_go(in, d);
	touch_settle(&d->m.owner); /* before anybody can read that it is over */
	closer_finish();
	if (d->c && (!goes_on || !inbox_is_shared(in)))
		channel_uncork(d->c);
	if (d->c && !goes_on)
		channel_release(d->c);
	if (may_refuse)
		end_refusing(in);
	journal_turn(pen, JOURNAL_NONE);
	if (!goes_on)
		delivery_forget(&in->held, d);
	return !goes_on;
}

static void tell_operator(struct inbox *in, const struct delivery *d)
{
	struct engine *e = in->config.engine;
	const enum notice_kind kind = d->err == EACCES ? NOTICE_REFUSED : NOTICE_MALFORMED;

	if (d->m.has_owner)
		notices_add(&e->notices, kind, &d->m.owner, d->err, e->loop.now_ns);
}

int inbox_init(struct inbox *in, const struct inbox_config *config)
{
	*in = (struct inbox){.config = *config, .sender = -1, .self = (uint32_t)getpid()};
	turns_init(&in->turns);
	return deliveries_init(&in->held, config->pen, config->transfers);
}

/*
 * Whose descriptors have held up too many workers has none of them touched: what came with this goes to closers, but for the letter
 * box of a queue, a socket on which he is told. What he has is still cancelled and ended.
 */
static void bar(const struct inbox *in, struct delivery *d)
{
	struct wire_request r;

	if (!is_registration(in, d, &r))
		drop_later(d);
	else if (d->err == 0)
		d->err = EDQUOT;
}

/* He is left alone for now, and what waits of him must not keep others out. */
static bool is_kept_out(const struct inbox *in, uid_t uid)
{
	struct engine *e = in->config.engine;

	return share_is_barred(e->shares, uid) || (suspects_have(&e->suspects, uid) && deliveries_are_many(&in->held));
}

/* While users compete all is received, and then nobody may use up the slots. */
static struct delivery *make_room(struct inbox *in, struct delivery *d)
{
	const bool is_of_queue = d->h.channel == WIRE_CHANNEL_QUEUE;
	const struct queue *q = is_of_queue ? queues_find(in->config.queues, d->h.queue_id) : NULL;

	if (!inbox_is_shared(in) || (is_of_queue && (!q || !owner_same(&q->owner, &d->m.owner))))
		return d;
	return delivery_move(&in->held, d, is_of_queue);
}

/*
 * Who is served gets turns, and what waits counts in his share. What is too much is refused at once, as is he who is not served,
 * who makes nobody take turns.
 */
static void take_in(struct inbox *in, struct delivery *d)
{
	struct engine *e = in->config.engine;
	const uid_t uid = d->m.owner.uid;
	const bool kept_out = d->err != EACCES && is_kept_out(in, uid);

	turn_init(&d->turn);
	if (d->err == 0 && !kept_out &&
		share_queue(e->shares, e->slot, uid, d->h.count, e->loop.now_ns, &d->place) == 0) {
		d = make_room(in, d);
		turns_add(&in->turns, &d->turn, uid, d->h.count, e->loop.now_ns);
		return;
	}
	/* To tell a suspect of it is to touch what he has sent. */
	if (kept_out || (d->err != EACCES && suspects_have(&e->suspects, uid)))
		bar(in, d);
	d->is_too_much = true;
	while (!work_on(in, d))
		;
}

bool inbox_receive(struct inbox *in, int sock)
{
	struct delivery *d = delivery_receive(&in->held, sock);

	if (!d)
		return false;
	d->err = judge(in, d);
	if (d->err != 0)
		tell_operator(in, d);
	counter_add(&in->config.engine->own->requests, d->h.count > 0 ? d->h.count : 1);
	take_in(in, d);
	return true;
}

int inbox_rest(struct inbox *in)
{
	const uint64_t now = in->config.engine->loop.now_ns;

	if (in->sender < 0)
		return -1;
	if (now - in->sender_ns < SENDER_MS * UINT64_C(1000000))
		return SENDER_MS;
	keep_sender(in, -1);
	return -1;
}

/* Not if what waits of those who rest would keep others from being heard at all. */
static bool users_rest(const struct inbox *in)
{
	return inbox_is_shared(in) && !deliveries_are_many(&in->held);
}

uint64_t inbox_pause_ns(const struct inbox *in)
{
	return in->held.waiting > 0 ? turns_rest_ns(&in->turns, clock_now_ns(), users_rest(in)) : 0;
}

/* Not if that kept others from being heard: whoever fills the slots first may then hold up this worker as well. */
static void leave_suspects_alone(struct inbox *in)
{
	const struct engine *e = in->config.engine;

	if (deliveries_are_many(&in->held))
		return;
	for (unsigned i = 0; i < e->suspects.count; i++)
		turns_leave_alone(&in->turns, e->suspects.uids[i], e->suspects.looked_ns + SUSPECTS_LOOK_NS);
}

bool inbox_work(struct inbox *in)
{
	const bool is_shared = inbox_is_shared(in);
	const uint64_t start = is_shared ? clock_now_ns() : in->config.engine->loop.now_ns;
	struct turn *turn;
	struct delivery *d;
	unsigned user, price;
	uint64_t now;

	leave_suspects_alone(in);
	turn = turns_next(&in->turns, start, users_rest(in));
	if (!turn)
		return false;
	d = container_of(turn, struct delivery, turn);
	user = turn->user;
	price = d->h.channel == WIRE_CHANNEL_QUEUE ? PRICE_IN_QUEUE : PRICE_OF_CALL;
	work_on(in, d);
	if (is_shared) {
		now = clock_now_ns();
		turns_charge(&in->turns, user, now - start, price, now);
	}
	return true;
}
