/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/worker.h"

#include "server/child.h"
#include "server/closer.h"
#include "server/inbox.h"
#include "server/log.h"
#include "server/mailbox.h"
#include "server/os/files.h"
#include "server/os/process.h"
#include "server/tick.h"
#include "server/touch.h"
#include "server/transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

enum {
	LOOK_AROUND_MS = 1000, /* a wakeup may have died with the worker that got it, so look at least so often, */
	LOOK_AROUND_NS = 1000 * 1000, /* and when awake for something else, so often */
	MAIL_RETRY_MS = 2,
	LETTERS_TO_MASTER = 32, /* registrations that find its mailbox full */
	LEAVE_NS = 20 * 1000 * 1000,
	TURNS_PER_ROUND = 64,
	DATAGRAMS_PER_TURN = 8,     /* received, at most */
	ROUND_NS = 2 * 1000 * 1000, /* after so long on arrivals the transfers under way get their turns */
	QUANTUM_MAIL = 128 * 1024,  /* what a transfer may move at once when mail brings its destination */
	MAIL_PER_ROUND = 256,
	HELPED = 8, /* so many requests at once are a wakeup's worth, whoever else could have done them */
	KEEPS_UP_NS = 1000 * 1000, /* who had nothing to do so lately keeps up with the requests */
	STAND_BY_NS =
		10 * 1000 * 1000, /* times the slot, to a limit: how long a worker that is not needed stays away */
	STAND_BY_TIMES_MAX = 10,
};

struct worker {
	const struct worker_config *config;
	struct engine engine;
	struct source requests, mail, life;
	struct outbox outbox, to_master;
	struct journal_pen pen;
	struct queues queues;
	struct applicants applicants;
	struct inbox inbox;
	uint64_t stand_by_until; /* 0: not standing by */
	uint64_t looked_ns;      /* when requests were looked for last */
	uint64_t tell_ns;        /* not before: that it receives nothing */
	uint64_t review_ns;      /* when to see whether helpers have died, */
	bool review_jobs;        /* or now */
	bool got_requests;       /* woken for them in this round */
	uint64_t round_requests; /* how many came of it */
};

static void cancel_tags(struct worker *w, const struct mail *m)
{
	struct queue *q = queues_find(&w->queues, m->id);

	if (!q || !owner_same(&q->owner, &m->owner))
		return;
	for (unsigned i = 0; i < m->count; i++) {
		if (!transfer_cancel_tag(q, m->tags[i]) && w->inbox.held.waiting > 0)
			queue_cancel_waiting(q, m->tags[i]);
	}
}

/* A request of no options has no body; one that cannot be read is nobody's of ours. */
static void send_open(struct worker *w, const struct mail *m, int *fd, const struct hold *hold)
{
	struct wire_cursor cursor = {.at = m->body, .left = m->count, .version = WIRE_VERSION, .count = 1};
	struct wire_request r = {.op = WIRE_OP_SEND_OPEN, .txnid = m->id};

	if (!m->body || (wire_next(&cursor, &r) == 0 && r.txnid == m->id))
		transfer_send_open(&w->engine, &r, &m->owner, fd, hold);
}

static void handle_mail(struct worker *w, const struct mail *m, int fd)
{
	const struct hold hold = {.slot = m->from_slot, .generation = m->from_generation, .seq = m->seq};

	w->engine.first_quantum = QUANTUM_MAIL;

	switch ((enum mail_kind)m->kind) {
	case MAIL_SEND_OPEN:
		send_open(w, m, &fd, &hold);
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
	case MAIL_QUEUE:
		queues_add(&w->queues, &(struct queue_facts){m->id, m->owner, (uint32_t)m->seq, fd});
		applicants_decide(&w->applicants, m->id, 0);
		return;
	case MAIL_REFUSED:
		applicants_decide(&w->applicants, m->id, (int)m->seq);
		break;
	case MAIL_CANCEL_TAGS:
		cancel_tags(w, m);
		break;
	case MAIL_LOST:
		transfer_lost(&w->engine, m->id);
		break;
	case MAIL_UNKNOWN: /* for the master only */
		break;
	}
	touch_close(&m->owner, fd);
	touch_settle(&m->owner); /* whoever's datagram is in hand, that is not his */
}

/* How many letters there were. */
static int read_mail(struct worker *w, int most)
{
	struct mail m;
	int n, fd;

	for (n = 0; n < most && mailbox_receive(w->mail.fd, &m, &fd); n++)
		handle_mail(w, &m, fd);
	return n;
}

static void on_mail(struct source *source, unsigned events)
{
	(void)events;
	read_mail(container_of(source, struct worker, mail), MAIL_PER_ROUND);
}

/*
 * A queue is in the mail before its client may send anything, and comes before everything else about it. That is not to be
 * read now: a cancel would not find the request that the worker has in hand.
 */
static void on_unknown_queue(void *arg, uint64_t id)
{
	struct worker *w = arg;

	while (!queues_find(&w->queues, id) && read_mail(w, 1) > 0)
		;
}

/* A letter that had been kept has gone: whatever the journal knew by it is somebody else's to answer for. */
static void on_letter_gone(void *arg, const struct mail *m)
{
	struct worker *w = arg;

	if (m->kind == MAIL_SEND_OPEN)
		journal_strike(&w->pen, m->line);
}

/* A helper that has died may have answered before, so the mail comes first. */
static void review_jobs(struct worker *w)
{
	struct engine *e = &w->engine;

	if (!w->review_jobs && e->loop.now_ns < w->review_ns)
		return;
	w->review_jobs = false;
	w->review_ns = e->loop.now_ns + (uint64_t)LOOK_AROUND_MS * 1000000;
	notices_flush(&e->notices, e->loop.now_ns);
	if (!jobs_suspect(&e->jobs))
		return;
	read_mail(w, INT_MAX);
	jobs_bury(&e->jobs, e->loop.now_ns);
}

/* No descriptor may be left for another datagram: it waits in the socket, or another worker takes it. */
static bool is_full(const struct worker *w)
{
	return counter_get(&w->engine.own->active) + closer_backlog() + w->outbox.fds + w->to_master.fds +
		       w->inbox.held.fds + WIRE_COUNT_MAX >
	       w->config->worker_transfers;
}

enum { TELL_EACH_S = 60 };

/* Whoever sends files that hang in close(2) can fill a worker; who reads the log can find out whose they are (fuse, lsof). */
static void tell_if_clogged(struct worker *w, uint64_t now)
{
	const unsigned backlog = closer_backlog();

	if (backlog < w->config->worker_transfers / 2 || now < w->tell_ns)
		return;
	w->tell_ns = now + TELL_EACH_S * UINT64_C(1000000000);
	log_line(LOG_LEVEL_WARNING,
		"worker %u receives no requests: %u descriptors wait to be closed, for a file system or a peer that does not answer",
		w->config->slot, backlog);
}

/* What waits in the socket another worker may come to first, unless that keeps other users waiting. */
static bool may_receive(const struct worker *w)
{
	return !is_full(w) && (w->inbox.held.waiting == 0 || inbox_is_shared(&w->inbox));
}

static void receive_some(struct worker *w, uint64_t now)
{
	for (int i = 0; i < TURNS_PER_ROUND && clock_now_ns() - now < ROUND_NS; i++) {
		int came = 0;

		while (came < DATAGRAMS_PER_TURN && may_receive(w) && inbox_receive(&w->inbox, w->requests.fd))
			came++;
		if (!inbox_work(&w->inbox) && came == 0)
			return;
	}
}

/* How long that took, in ns. */
static uint64_t drain_requests(struct worker *w)
{
	uint64_t now = clock_now_ns();

	if (!w->got_requests && w->inbox.held.waiting == 0 && now - w->looked_ns < LOOK_AROUND_NS)
		return 0;
	w->looked_ns = now;
	w->round_requests = counter_get(&w->engine.own->requests);
	receive_some(w, now);
	w->round_requests = counter_get(&w->engine.own->requests) - w->round_requests;
	return clock_now_ns() - now;
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
 * never does, nor does one that was woken for a batch of requests; who blocks or has its hands full has not been idle
 * lately, and is helped again when the while is over.
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
	const bool full = is_full(w);
	uint64_t now = w->engine.loop.now_ns;

	if (w->got_requests && w->round_requests < HELPED && is_spare(w))
		w->stand_by_until = now + stand_by_ns(w->config->slot);
	else if (w->stand_by_until <= now)
		w->stand_by_until = 0;
	w->got_requests = false;
	if (full)
		tell_if_clogged(w, now);
	if (w->stand_by_until > 0 || full) {
		loop_unwatch(&w->engine.loop, &w->requests);
		return 0;
	}
	if (w->requests.watched)
		return 0;
	return loop_watch(&w->engine.loop, &w->requests, POLLER_IN | POLLER_SHARED);
}

/* How long to sleep at most, for the worker's own reasons. */
static int nap_ms(struct worker *w, uint64_t rest_ns)
{
	uint64_t now = w->engine.loop.now_ns;

	const int naps[] = {closer_nap_ms(), inbox_rest(&w->inbox)};
	int ms = LOOK_AROUND_MS;

	if (w->inbox.held.waiting > 0 && rest_ns == 0)
		return 0;
	if (w->outbox.total + w->to_master.total > 0)
		return MAIL_RETRY_MS;
	if (w->stand_by_until > now)
		ms = (int)((w->stand_by_until - now) / 1000000) + 1;
	for (unsigned i = 0; i < sizeof naps / sizeof naps[0]; i++)
		ms = naps[i] >= 0 && naps[i] < ms ? naps[i] : ms;
	return ms;
}

/* ---- The process */

/*
 * The master is gone, and with it everything that we would serve for. The clients of queues see the end when the last copy
 * of their channel is closed; a worker that is stuck in the kernel would keep one, so those who are not make an end of it, once
 * the others have had the time to leave.
 */
static void on_life(struct source *source, unsigned events)
{
	const struct timespec moment = {.tv_nsec = LEAVE_NS};
	struct worker *w = container_of(source, struct worker, life);

	(void)events;
	if (queues_any(&w->queues))
		nanosleep(&moment, NULL);
	queues_end(&w->queues);
	_exit(EX_OK);
}

struct keeping {
	int fds[WORKER_FDS_MAX];
	unsigned n;
};

static void keep_queue(void *arg, const struct queue_facts *facts)
{
	struct keeping *k = arg;

	k->fds[k->n++] = facts->fd;
}

static void settle(const struct worker_config *config)
{
	struct keeping keeping = {.n = 0};
	int *keep = keeping.fds;
	char title[16];
	unsigned n;

	registry_each(config->registry, keep_queue, &keeping);
	n = keeping.n;
	keep[n++] = config->request_sock;
	keep[n++] = config->root->dir.fd;
	keep[n++] = config->life_fd;
	keep[n++] = config->ready_fd;
	keep[n++] = config->mail_fd;
	keep[n++] = config->master_fd;
	keep[n++] = config->registry_box;
	for (unsigned i = 0; i < config->workers; i++)
		keep[n++] = config->mailboxes[i];
	for (unsigned kind = 0; kind < POOL_KINDS; kind++) {
		for (unsigned i = 0; i < pools_places(config->pools); i++)
			keep[n++] = config->boxes[kind][i];
	}
	snprintf(title, sizeof title, "sendfiled-w%u", config->slot);
	child_settle(title, keep, n, &config->identity);
	tick_init();
	os_sleep_exactly();
}

/* Every request would be refused, which may be what the operator wants to find out now. */
static void check_root(const struct worker_config *config)
{
	if (config->slot == 0 && os_probe_open_beneath(&config->root->dir) == EACCES)
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

/* Above the numbers of what stays: among those it would leave a gap when it goes (child_close_ranks()). */
static void add_queue(void *arg, const struct queue_facts *facts)
{
	struct worker *w = arg;
	struct queue_facts moved = *facts;

	moved.fd = fcntl(facts->fd, F_DUPFD_CLOEXEC, w->config->highest_fd + 1);
	close(facts->fd);
	queues_add(&w->queues, &moved);
}

/* Where requests of queues are noted, and where they report. 0, or -1 and errno. */
static int open_journal(struct worker *w)
{
	const struct worker_config *config = w->config;
	struct inbox_config inbox;

	if (journal_open(&w->pen, config->journal) < 0)
		return -1;
	outbox_init(&w->to_master, &config->registry_box, 1, LETTERS_TO_MASTER);
	applicants_init(&w->applicants, &w->to_master, config->slot);
	w->outbox.gone = on_letter_gone;
	w->outbox.arg = w;
	inbox = (struct inbox_config){
		.slot = config->slot,
		.generation = config->generation,
		.workers = config->workers,
		.transfers = config->worker_transfers,
		.access = config->access,
		.stats = config->stats,
		.to_master = &w->to_master,
		.applicants = &w->applicants,
		.engine = &w->engine,
		.queues = &w->queues,
		.outbox = &w->outbox,
		.pen = &w->pen,
		.find_queue = on_unknown_queue,
		.arg = w,
	};
	return inbox_init(&w->inbox, &inbox);
}

static struct worker *worker_new(const struct worker_config *config)
{
	struct engine_config engine = {
		.columns = config->stats,
		.column_count = config->workers,
		.slot = config->slot,
		.generation = config->generation,
		.max_transfers = config->max_transfers,
		.open_timeout_ms = config->open_timeout_ms,
		.io_timeout_ms = config->io_timeout_ms,
		.idle_timeout_ms = config->idle_timeout_ms,
		.max_readahead = config->max_readahead,
		.user_paces = config->user_paces,
		.shares = config->shares,
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
	engine.pen = &w->pen;
	closer_init(config->root->local ? config->root->device : 0, config->readers);
	touch_init(config->touches, config->shares, config->slot, &config->stats[config->slot]);
	outbox_init(&w->outbox, config->mailboxes, config->workers, letter_fds(config));
	if (open_journal(w) < 0 || engine_init(&w->engine, &engine) < 0 || watch_all(w) < 0)
		return NULL; /* the process ends, and everything with it */
	w->engine.loop.may_spin = w->engine.loop.may_spin && config->busy_poll_us > 0;
	w->engine.loop.busy = (struct busy_poll){
		.ns = (uint64_t)config->busy_poll_us * 1000,
		.turn = &config->stats[0].polling,
		.self = config->slot + 1,
	};
	queues_init(&w->queues, &w->pen, config->worker_transfers, &w->engine.loop, w->engine.own);
	registry_each(config->registry, add_queue, w);
	return w;
}

/*
 * Waits for events: as long as there is nothing to do, or while all of whom something waits are at rest or left alone. One look
 * at the clock decides of both: a rest that is over at a second one would be slept through. 0, or -1 and errno.
 */
static int wait_for_events(struct worker *w)
{
	struct engine *e = &w->engine;
	const uint64_t rest_ns = inbox_pause_ns(&w->inbox);
	const int timeout = engine_timeout_ms(e, nap_ms(w, rest_ns));

	if (timeout > 0 && w->requests.watched && w->inbox.held.waiting == 0)
		atomic_store_explicit(&e->own->idle_ns, clock_now_ns(), memory_order_relaxed);
	journal_rest(&w->pen);
	stats_no_client(e->own);
	if (rest_ns > 0 && rest_ns < (uint64_t)timeout * 1000000)
		return loop_rest(&e->loop, rest_ns);
	return loop_wait(&e->loop, timeout);
}

static _Noreturn void serve(struct worker *w)
{
	struct engine *e = &w->engine;

	for (;;) {
		outbox_pump(&w->outbox);
		outbox_pump(&w->to_master);
		engine_prepare(e);
		if (arrange_requests(w) < 0)
			break;
		if (wait_for_events(w) < 0)
			break;
		journal_turn(&w->pen, JOURNAL_NONE);
		engine_look_around(e);
		loop_dispatch(&e->loop);
		engine_work(e, drain_requests(w));
		review_jobs(w);
		closer_work(e->loop.now_ns);
		queues_flush(&w->queues);
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
	child_close_ranks(config->highest_fd);
	serve(w);
}
