/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/worker.h"

#include "lib/wire.h"
#include "server/child.h"
#include "server/closer.h"
#include "server/dest.h"
#include "server/fdpass.h"
#include "server/log.h"
#include "server/mailbox.h"
#include "server/os/files.h"
#include "server/request.h"
#include "server/tick.h"
#include "server/transfer.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

enum {
	LOOK_AROUND_MS = 1000, /* a wakeup may have died with the worker that got it, so look at least so often, */
	LOOK_AROUND_NS = 1000 * 1000, /* and when awake for something else, so often */
	MAIL_RETRY_MS = 2,
	DATAGRAMS_PER_ROUND = 64,
	ROUND_NS = 2 * 1000 * 1000,  /* after so long on arrivals the transfers under way get their turns */
	QUANTUM_FIRST = 128 * 1024,  /* what a transfer may move on arrival, */
	QUANTUM_BATCH = 1024 * 1024, /* and all of a datagram together */
	MAIL_PER_ROUND = 256,
	KEEPS_UP_NS = 1000 * 1000, /* who had nothing to do so lately keeps up with the requests */
	STAND_BY_NS =
		10 * 1000 * 1000, /* times the slot, to a limit: how long a worker that is not needed stays away */
	STAND_BY_TIMES_MAX = 10,
};

struct worker {
	const struct worker_config *config;
	struct engine engine;
	struct source requests, mail, life;
	struct outbox outbox;
	uint64_t mail_seq;
	uint64_t stand_by_until; /* 0: not standing by */
	uint64_t looked_ns;      /* when requests were looked for last */
	uint64_t review_ns;      /* when to see whether helpers have died, */
	bool review_jobs;        /* or now */
	bool got_requests;       /* woken for them in this round */
	_Alignas(8) unsigned char datagram[WIRE_DATAGRAM_MAX];
};

/* ---- The second message */

/* Passes a message on to the worker that made the id. Takes over `dest` (-1: none). */
static void forward(struct worker *w, const struct wire_request *r, const struct owner *who, int dest)
{
	const struct worker_config *config = w->config;
	struct mail m = {
		.kind = r->op == WIRE_OP_CANCEL ? MAIL_CANCEL : MAIL_SEND_OPEN,
		.from_slot = config->slot,
		.from_generation = config->generation,
		.owner = *who,
		.id = r->txnid,
		.seq = ++w->mail_seq,
	};

	counter_add(&w->engine.own->forwarded, 1);
	if (outbox_send(&w->outbox, id_slot(r->txnid), &m, dest) < 0 || r->op == WIRE_OP_CANCEL)
		return;
	/* In this order: our copy is closed when the letter before has been mailed, and so before this one is. */
	m.kind = MAIL_CLOSED;
	outbox_send(&w->outbox, id_slot(r->txnid), &m, -1);
}

/* Whether the worker that made the id may still be there. A message to one that is not would only fill its mailbox. */
static bool is_current(const struct worker *w, uint64_t id)
{
	return (stats_generation(&w->config->stats[id_slot(id)]) & 0xff) == id_generation(id);
}

/* `dest` is taken over (-1: a cancel). */
static void second_message(struct worker *w, const struct wire_request *r, const struct owner *who, int dest)
{
	struct engine *e = &w->engine;
	unsigned slot = id_slot(r->txnid);

	if (slot != w->config->slot) {
		if (slot < w->config->workers && is_current(w, r->txnid))
			forward(w, r, who, dest);
		else
			closer_close(dest);
		return;
	}
	if (r->op == WIRE_OP_CANCEL)
		transfer_cancel(e, r->txnid, who);
	else
		transfer_send_open(e, r->txnid, who, &dest, NULL);
	closer_close(dest);
}

static void handle_mail(struct worker *w, const struct mail *m, int fd)
{
	const struct hold hold = {.slot = m->from_slot, .generation = m->from_generation, .seq = m->seq};

	w->engine.first_quantum = QUANTUM_FIRST;

	switch ((enum mail_kind)m->kind) {
	case MAIL_SEND_OPEN:
		transfer_send_open(&w->engine, m->id, &m->owner, &fd, &hold);
		break;
	case MAIL_CANCEL:
		transfer_cancel(&w->engine, m->id, &m->owner);
		break;
	case MAIL_CLOSED:
		transfer_unhold(&w->engine, m->id, &hold);
		break;
	case MAIL_POKE:
		w->got_requests = true; /* perhaps: the dead worker may have been woken for them */
		w->review_jobs = true;  /* or it was a helper */
		break;
	case MAIL_ANSWER:
		jobs_answer(&w->engine.jobs, &m->answer, fd, w->engine.loop.now_ns);
		return;
	case MAIL_OFFER:
		jobs_offer(&w->engine.jobs, &m->answer, m->from_slot, w->engine.loop.now_ns);
		break;
	case MAIL_DETACH:
		dup2(STDOUT_FILENO, STDERR_FILENO); /* which is /dev/null already */
		log_to_system();
		break;
	}
	closer_close(fd);
}

static void on_mail(struct source *source, unsigned events)
{
	struct worker *w = container_of(source, struct worker, mail);
	struct mail m;
	int fd;

	(void)events;
	for (int i = 0; i < MAIL_PER_ROUND && mailbox_receive(source->fd, &m, &fd); i++)
		handle_mail(w, &m, fd);
}

/* A helper that has died may have answered before, so the mail comes first. */
static void review_jobs(struct worker *w)
{
	struct engine *e = &w->engine;
	struct mail m;
	int fd;

	if (!w->review_jobs && e->loop.now_ns < w->review_ns)
		return;
	w->review_jobs = false;
	w->review_ns = e->loop.now_ns + (uint64_t)LOOK_AROUND_MS * 1000000;
	if (!jobs_suspect(&e->jobs))
		return;
	while (mailbox_receive(w->mail.fd, &m, &fd))
		handle_mail(w, &m, fd);
	jobs_bury(&e->jobs, e->loop.now_ns);
}

/* ---- Requests */

static void answer_ping(struct channel *c, uint64_t tag)
{
	const struct sfd_xfer_stat ok = {.cmd = SFD_XFER_STAT, .complete = 1, .tag = tag};

	stats_outcome(c->own, SFD_STAT_OK);
	channel_end(c, &ok);
}

/* One request of a well-formed datagram. `c` is NULL if it came without a channel; `dest` is taken over (-1: none). */
static void handle_request(struct worker *w, const struct wire_request *r, unsigned count, const struct owner *who,
	struct channel *c, int dest)
{
	int err = request_check(r, count);

	if (err != 0) {
		closer_close(dest);
		if (c)
			channel_refuse(c, r->tag, err);
	} else if (r->op == WIRE_OP_SEND_OPEN || r->op == WIRE_OP_CANCEL) {
		second_message(w, r, who, dest);
	} else if (r->op == WIRE_OP_PING) {
		assert(c); /* wire_check(): only the second messages come without a channel */
		answer_ping(c, r->tag);
	} else {
		transfer_begin(&w->engine, r, who, c, &dest);
	}
}

/* Tells every request of a datagram that can be told apart, and at any rate somebody, that it was refused. */
static void refuse_all(struct worker *w, struct channel *c, const struct wire_header *h, size_t len, int err)
{
	struct wire_cursor cursor;
	struct wire_request r;
	unsigned told = 0;

	if (h->count > 0) {
		wire_cursor_init(&cursor, w->datagram, len, h);
		while (cursor.count > 0 && wire_next(&cursor, &r) == 0) {
			channel_refuse(c, r.tag, err);
			told++;
		}
		if (cursor.count > 0 && r.tag != 0) {
			channel_refuse(c, r.tag, err);
			told++;
		}
	}
	if (told == 0)
		channel_refuse(c, 0, err);
}

/* The status channel of a datagram, from its first descriptor; NULL if it cannot be one or nobody listens any more. */
static struct channel *open_channel(struct worker *w, struct fdpass *m, unsigned requests)
{
	struct pollfd p = {.fd = fdpass_take(m, 0)};
	struct channel *c = NULL;

	if (p.fd < 0)
		return NULL;
	/*
	 * A pipe whose readers have gone reports POLLERR; such a request is dropped, its destination untouched. (A signal of
	 * the tick may end even a poll(2) that does not wait; that says nothing.)
	 */
	if (dest_is_channel(p.fd) && !(poll(&p, 1, 0) > 0 && p.revents & POLLERR))
		c = channel_new(&w->engine.loop, w->engine.own, p.fd, requests);
	if (!c)
		closer_close(p.fd);
	else
		c->corked = true;
	return c;
}

/* Whether the datagram as a whole may be acted on: 0, or what all of its requests are told. */
static int judge(const struct worker *w, const struct fdpass *m, struct wire_header *h)
{
	int err = wire_get_header(w->datagram, m->len, h);

	if (!m->has_owner || !access_allowed(&w->config->access, &m->owner))
		return EACCES;
	if (m->data_cut)
		return EMSGSIZE;
	if (err != 0)
		return err;
	if (m->fds_lost)
		return EMFILE;
	if (h->channel == WIRE_CHANNEL_QUEUE)
		return EOPNOTSUPP;
	return wire_check(w->datagram, m->len, h, m->nfds);
}

static void run_requests(struct worker *w, struct fdpass *m, const struct wire_header *h, struct channel *c)
{
	unsigned next_fd = h->channel == WIRE_CHANNEL_FD ? 1 : 0;
	struct wire_cursor cursor;
	struct wire_request r;

	w->engine.first_quantum = h->count * QUANTUM_FIRST > QUANTUM_BATCH ? QUANTUM_BATCH / h->count : QUANTUM_FIRST;
	wire_cursor_init(&cursor, w->datagram, m->len, h);
	while (cursor.count > 0 && wire_next(&cursor, &r) == 0) {
		int dest = r.fds > 0 ? fdpass_take(m, next_fd++) : -1;

		handle_request(w, &r, h->count, &m->owner, c, dest);
	}
}

static void handle_datagram(struct worker *w, struct fdpass *m)
{
	struct wire_header h;
	int err = judge(w, m, &h);
	bool has_channel = h.count == 0 || h.channel == WIRE_CHANNEL_FD;
	struct channel *c = NULL;

	counter_add(&w->engine.own->requests, h.count > 0 ? h.count : 1);
	if (has_channel)
		c = open_channel(w, m, h.count > 0 ? h.count : 1);
	if (err == 0 && (c || !has_channel))
		run_requests(w, m, &h, c);
	else if (c)
		refuse_all(w, c, &h, m->len, err);
	fdpass_drop(m);
	if (c) {
		channel_uncork(c);
		channel_release(c);
	}
}

/* No descriptor may be left for another datagram: it waits in the socket, or another worker takes it. */
static bool is_full(const struct worker *w)
{
	return counter_get(&w->engine.own->active) + closer_backlog() + w->outbox.fds + WIRE_COUNT_MAX >
	       w->config->worker_transfers;
}

static void drain_requests(struct worker *w)
{
	uint64_t now = clock_now_ns();
	struct fdpass m;

	if (!w->got_requests && now - w->looked_ns < LOOK_AROUND_NS)
		return;
	w->looked_ns = now;
	for (int i = 0; i < DATAGRAMS_PER_ROUND && !is_full(w) && clock_now_ns() - now < ROUND_NS; i++) {
		if (fdpass_receive(w->requests.fd, w->datagram, sizeof w->datagram, &m) < 0)
			return;
		handle_datagram(w, &m);
	}
}

static void on_requests(struct source *source, unsigned events)
{
	(void)events;
	container_of(source, struct worker, requests)->got_requests = true;
}

/*
 * Whether a worker before us keeps up without us. A datagram wakes some worker that sleeps even if one that is awake would
 * have come to it in a microsecond; with as many workers as cores those wakeups take the cores from whoever is at work
 * (small files: a third of the throughput). So a worker that turns out to be spare stays away for a while. The first one
 * never does; who blocks or has its hands full has not been idle lately, and is helped again when the while is over.
 */
static bool is_spare(const struct worker *w)
{
	for (unsigned i = 0; i < w->config->slot; i++) {
		if (counter_get(&w->config->stats[i].idle_ns) + KEEPS_UP_NS > w->engine.loop.now_ns)
			return true;
	}
	return false;
}

/* Later ones stay away longer, so that many of them do not wake for nothing all the time. */
static uint64_t stand_by_ns(unsigned slot)
{
	return (uint64_t)STAND_BY_NS * (slot < STAND_BY_TIMES_MAX ? slot : STAND_BY_TIMES_MAX);
}

/* Starts or stops to wait for requests, as it is good for all. -1 and errno. */
static int arrange_requests(struct worker *w)
{
	uint64_t now = w->engine.loop.now_ns;

	if (w->got_requests && is_spare(w))
		w->stand_by_until = now + stand_by_ns(w->config->slot);
	else if (w->stand_by_until <= now)
		w->stand_by_until = 0;
	w->got_requests = false;
	if (w->stand_by_until > 0 || is_full(w)) {
		loop_unwatch(&w->engine.loop, &w->requests);
		return 0;
	}
	if (w->requests.watched)
		return 0;
	return loop_watch(&w->engine.loop, &w->requests, POLLER_IN | POLLER_SHARED);
}

/* How long to sleep at most, for the worker's own reasons. */
static int nap_ms(const struct worker *w)
{
	uint64_t now = w->engine.loop.now_ns;

	int closer_ms = closer_nap_ms();
	int ms = LOOK_AROUND_MS;

	if (w->outbox.total > 0)
		return MAIL_RETRY_MS;
	if (w->stand_by_until > now)
		ms = (int)((w->stand_by_until - now) / 1000000) + 1;
	return closer_ms >= 0 && closer_ms < ms ? closer_ms : ms;
}

/* ---- The process */

static void on_life(struct source *source, unsigned events)
{
	(void)source;
	(void)events;
	_exit(EX_OK); /* the master is gone, and with it everything that we would serve for */
}

static void settle(const struct worker_config *config)
{
	int keep[WORKER_FDS_MAX];
	char title[16];
	unsigned n = 0;

	keep[n++] = config->request_sock;
	keep[n++] = config->root_fd;
	keep[n++] = config->life_fd;
	keep[n++] = config->ready_fd;
	keep[n++] = config->mail_fd;
	keep[n++] = config->master_fd;
	for (unsigned i = 0; i < config->workers; i++)
		keep[n++] = config->mailboxes[i];
	for (unsigned kind = 0; kind < POOL_KINDS; kind++) {
		for (unsigned i = 0; i < pools_places(config->pools); i++)
			keep[n++] = config->boxes[kind][i];
	}
	snprintf(title, sizeof title, "sendfiled-w%u", config->slot);
	child_settle(title, keep, n, &config->identity);
	tick_init();
}

/* Every request would be refused, which may be what the operator wants to find out now. */
static void check_root(const struct worker_config *config)
{
	if (config->slot == 0 && os_probe_open_beneath(config->root_fd) == EACCES)
		log_line(LOG_LEVEL_WARNING,
			"uid %u may not search the root directory: requests will fail with EACCES; chmod it or use -u",
			(unsigned)geteuid());
}

static int watch_all(struct worker *w)
{
	struct loop *loop = &w->engine.loop;

	w->requests = (struct source){.fd = w->config->request_sock, .on_event = on_requests};
	w->mail = (struct source){.fd = w->config->mail_fd, .on_event = on_mail};
	w->life = (struct source){.fd = w->config->life_fd, .on_event = on_life};
	if (loop_watch(loop, &w->life, POLLER_IN) < 0)
		return -1;
	return loop_watch(loop, &w->mail, POLLER_IN);
}

/* A worker that does not take its mail may cost the others some of their room, not all of it. */
static unsigned letter_fds(const struct worker_config *config)
{
	return config->worker_transfers / 4 < LETTER_FDS_MAX ? config->worker_transfers / 4 : LETTER_FDS_MAX;
}

static struct worker *worker_new(const struct worker_config *config)
{
	const struct engine_config engine = {
		.root_fd = config->root_fd,
		.columns = config->stats,
		.column_count = config->workers,
		.slot = config->slot,
		.generation = config->generation,
		.max_transfers = config->max_transfers,
		.open_timeout_ms = config->open_timeout_ms,
		.io_timeout_ms = config->io_timeout_ms,
		.max_pipes = config->max_pipes,
		.root = config->root,
		.jobs =
			{
				.pools = config->pools,
				.own = &config->stats[config->slot],
				.boxes = config->boxes,
				.mailboxes = config->mailboxes,
				.worker = config->slot,
				.master_fd = config->master_fd,
			},
	};
	struct worker *w = calloc(1, sizeof *w);

	if (!w)
		return NULL;
	w->config = config;
	closer_init(config->root->local ? config->root->device : 0, config->readers);
	outbox_init(&w->outbox, config->mailboxes, config->workers, letter_fds(config));
	if (engine_init(&w->engine, &engine) < 0 || watch_all(w) < 0)
		return NULL; /* the process ends, and everything with it */
	return w;
}

static _Noreturn void serve(struct worker *w)
{
	struct engine *e = &w->engine;

	for (;;) {
		int timeout;

		outbox_pump(&w->outbox);
		engine_prepare(e);
		if (arrange_requests(w) < 0)
			break;
		timeout = engine_timeout_ms(e, nap_ms(w));
		if (timeout > 0 && w->requests.watched)
			atomic_store_explicit(&e->own->idle_ns, clock_now_ns(), memory_order_relaxed);
		if (loop_run_once(&e->loop, timeout) < 0)
			break;
		drain_requests(w);
		engine_work(e);
		review_jobs(w);
		closer_work(e->loop.now_ns);
		tick_rest();
	}
	log_line(LOG_LEVEL_ERROR, "worker %u: cannot wait for events: %s", w->config->slot, strerror(errno));
	_exit(EX_OSERR);
}

void worker_main(const struct worker_config *config)
{
	struct worker *w;

	settle(config);
	check_root(config);
	w = worker_new(config);
	if (!w) {
		log_line(LOG_LEVEL_ERROR, "worker %u: cannot start: %s", config->slot, strerror(errno));
		_exit(EX_OSERR);
	}
	if (write(config->ready_fd, "", 1) != 1)
		_exit(EX_OSERR);
	close(config->ready_fd);
	serve(w);
}
