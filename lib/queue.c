/* SPDX-License-Identifier: BSD-2-Clause */
/* The queue: requests that gather, go out together, and report through one descriptor. sendfiled.h says what each call does. */
#include "queue.h"

#include "build.h"
#include "clock.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static int fail(int err)
{
	errno = err;
	return -1;
}

/* ---- Whose it is */

/*
 * Whether this is the process that made the queue: asked in each call, so it must cost nothing. Linux, since 4.14, zeroes a
 * page so marked in a forked child.
 */
static bool is_ours(const struct sfd_queue *q)
{
	return q->mark ? *q->mark != 0 : getpid() == q->pid;
}

static void mark_ours(struct sfd_queue *q)
{
	const size_t size = (size_t)sysconf(_SC_PAGESIZE);
	void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	q->pid = getpid();
	if (page == MAP_FAILED)
		return;
	if (madvise(page, size, MADV_WIPEONFORK) < 0) {
		munmap(page, size);
		return;
	}
	q->mark = page;
	*q->mark = 1;
}

/* ---- Making and freeing */

static void release(struct sfd_queue *q)
{
	if (q->channel >= 0)
		close(q->channel);
	ready_close(&q->ready);
	if (q->mark)
		munmap(q->mark, (size_t)sysconf(_SC_PAGESIZE));
	free(q->records);
	free(q);
}

static size_t align64(size_t n)
{
	return (n + 63) & ~(size_t)63;
}

/* All the memory that there will ever be. */
static int allocate(struct sfd_queue *q, unsigned depth)
{
	const size_t records = (size_t)RECORDS_PER_READ * WIRE_RECORD_MAX, slots = align64(slots_bytes(depth));
	unsigned char *memory = malloc(records + slots + stage_bytes(depth));

	if (!memory)
		return -1;
	q->records = memory;
	slots_init(&q->slots, depth, memory + records);
	stage_init(&q->stage, depth, &q->slots, memory + records + slots);
	return 0;
}

static struct sfd_queue *give_up(struct sfd_queue *q, int err)
{
	release(q);
	errno = err;
	return NULL;
}

struct sfd_queue *sfd_queue_new(int srv, unsigned depth)
{
	struct sfd_queue *q;
	int err;

	if (depth < 1 || depth > SFD_QUEUE_DEPTH_MAX) {
		errno = EINVAL;
		return NULL;
	}
	q = calloc(1, sizeof *q);
	if (!q)
		return NULL;
	*q = (struct sfd_queue){.srv = srv, .channel = -1, .first_cancel = SLOT_NONE};
	if (ready_init(&q->ready, srv) < 0 || allocate(q, depth) < 0)
		return give_up(q, errno);
	mark_ours(q);
	err = queue_register(q);
	/* A socket that is full now is no reason to fail; descriptors or memory that are missing here are one. */
	if (err != 0 && err != EAGAIN && err != ETOOMANYREFS && err != ENOBUFS)
		return give_up(q, err);
	if (err != 0 && err != EAGAIN)
		ready_wait(&q->ready);
	queue_show(q);
	return q;
}

void sfd_queue_free(struct sfd_queue *q)
{
	if (!q)
		return;
	/* A child may hold a copy of our end; the daemon sees the end all the same. In a child this would end the parent's. */
	if (is_ours(q) && q->channel >= 0)
		shutdown(q->channel, SHUT_RDWR);
	release(q);
}

int sfd_queue_fd(const struct sfd_queue *q)
{
	return is_ours(q) ? q->ready.poller : fail(EPERM);
}

/* ---- Adding */

static int may_add(const struct sfd_queue *q)
{
	if (!is_ours(q))
		return EPERM;
	return q->state == QUEUE_ENDED ? q->ended_by : 0;
}

/* What every call that adds a request does last: its range or path is set, and its descriptors are. */
static int add(struct sfd_queue *q, struct build *b, const struct sfd_opts *opts, uint64_t user_data)
{
	int err = build_options(b, opts);
	uint32_t i;

	for (unsigned n = 0; n < wire_op_fds(b->wire.op); n++) {
		if (b->fds[n] < 0 && err == 0)
			err = EBADF;
	}
	if (err != 0)
		return fail(err);
	i = slots_take(&q->slots, user_data);
	if (i == SLOT_NONE)
		return fail(EAGAIN);
	b->wire.tag = slots_tag(&q->slots, i);
	q->slots.all[i].is_open = b->wire.op == WIRE_OP_OPEN;
	err = stage_add(&q->stage, b, i);
	if (err != 0) {
		slots_give_back(&q->slots, i);
		return fail(err);
	}
	return 0;
}

/* `dest_fd` counts if the operation has one. */
static int add_path(struct sfd_queue *q, enum wire_op op, const char *path, int dest_fd, off_t offset, size_t len,
	const struct sfd_opts *opts, uint64_t user_data)
{
	struct build b = {.wire = {.op = op}, .fds = {dest_fd, -1}};
	int err = may_add(q);

	if (err == 0)
		err = build_path(&b, path, offset, len);
	return err == 0 ? add(q, &b, opts, user_data) : fail(err);
}

int sfd_queue_send(struct sfd_queue *q, const char *path, int dest_fd, off_t offset, size_t len,
	const struct sfd_opts *opts, uint64_t user_data)
{
	return add_path(q, WIRE_OP_SEND, path, dest_fd, offset, len, opts, user_data);
}

int sfd_queue_open(struct sfd_queue *q, const char *path, off_t offset, size_t len, const struct sfd_opts *opts,
	uint64_t user_data)
{
	return add_path(q, WIRE_OP_OPEN, path, -1, offset, len, opts, user_data);
}

int sfd_queue_sendfd(struct sfd_queue *q, int file_fd, int dest_fd, off_t offset, size_t len,
	const struct sfd_opts *opts, uint64_t user_data)
{
	struct build b = {.wire = {.op = WIRE_OP_SENDFD}, .fds = {file_fd, dest_fd}};
	int err = may_add(q);

	if (err == 0)
		err = build_range(&b, offset, len);
	return err == 0 ? add(q, &b, opts, user_data) : fail(err);
}

int sfd_queue_send_open(struct sfd_queue *q, size_t txnid, int dest_fd, const struct sfd_opts *opts)
{
	struct build b = {.wire = {.op = WIRE_OP_SEND_OPEN, .txnid = txnid}, .fds = {dest_fd, -1}};
	int err = may_add(q);
	uint32_t i;

	if (err == 0 && dest_fd < 0)
		err = EBADF;
	if (err == 0)
		err = build_options(&b, opts);
	if (err != 0)
		return fail(err);
	i = slots_find_txn(&q->slots, txnid);
	if (i == SLOT_NONE)
		return fail(ENOENT);
	b.wire.tag = slots_tag(&q->slots, i);
	err = stage_add(&q->stage, &b, i);
	if (err != 0)
		return fail(err);
	slots_unopen(&q->slots, i);
	q->slots.all[i].second_staged = true;
	return 0;
}

/* ---- Cancelling */

static void cancel_one(struct sfd_queue *q, uint32_t i)
{
	struct slot *slot = &q->slots.all[i];

	if (slot->state == SLOT_STAGED) {
		stage_drop(&q->stage, slot->staged);
		slots_end(&q->slots, i, ECANCELED);
		ready_ring(&q->ready);
		return;
	}
	if (slot->state != SLOT_SENT)
		return; /* it has ended already, and its event waits */
	if (slot->second_staged) {
		stage_drop(&q->stage, slot->staged);
		slot->second_staged = false;
	}
	slots_unopen(&q->slots, i);
	queue_cancel_later(q, i);
}

/* Nothing is left of what a submit had to leave behind. */
static void forget_refusal(struct sfd_queue *q)
{
	if (q->stage.live == 0)
		q->refused = false;
}

int sfd_queue_cancel(struct sfd_queue *q, uint64_t user_data)
{
	uint32_t i;

	if (!is_ours(q))
		return fail(EPERM);
	i = slots_find_data(&q->slots, user_data);
	if (i == SLOT_NONE)
		return fail(ENOENT);
	for (; i != SLOT_NONE; i = slots_next_data(&q->slots, i))
		cancel_one(q, i);
	forget_refusal(q);
	queue_push(q);
	queue_show(q);
	return 0;
}

/* ---- Submitting and reaping */

static void take_note(struct sfd_queue *q, const struct wire_note *note, const struct sfd_file_info *info,
	struct sfd_event *events, int *n);

/* What the daemon has said of the queue itself, which comes before all else. */
static void await_consent(struct sfd_queue *q)
{
	struct sfd_file_info info;
	struct wire_note note;
	int none = 0;

	if (q->state == QUEUE_NEW)
		queue_push(q);
	if ((q->state == QUEUE_ASKED || q->state == QUEUE_REGISTERED) && queue_next_note(q, &note, &info))
		take_note(q, &note, &info, NULL, &none);
}

int sfd_queue_submit(struct sfd_queue *q)
{
	int sent = 0, err = 0;

	if (!is_ours(q))
		return fail(EPERM);
	if (q->state != QUEUE_OPEN)
		await_consent(q);
	if (q->state == QUEUE_ENDED) {
		err = q->ended_by;
	} else if (q->state == QUEUE_OPEN) {
		ready_stop_waiting(&q->ready);
		queue_push(q);
		sent = queue_send_staged(q, &err);
		if (err != 0 && err != EAGAIN)
			ready_wait(&q->ready);
		queue_push(q); /* descriptors that turned out to be closed */
	} else if (q->stage.live > 0) {
		err = EAGAIN;
	}
	q->refused = q->stage.live > 0;
	if (q->slots.over_first != SLOT_NONE)
		ready_ring(&q->ready);
	queue_show(q);
	return sent > 0 || err == 0 ? sent : fail(err);
}

static struct sfd_event *add_event(struct sfd_event *events, int *n, const struct slot *slot, int type, int stat)
{
	struct sfd_event *e = &events[(*n)++];

	memset(e, 0, sizeof *e);
	e->user_data = slot->user_data;
	e->type = type;
	e->stat = stat;
	return e;
}

/* A send-open whose descriptor was closed was cancelled on that account. */
static int cancel_stat(const struct slot *slot, int stat)
{
	return stat == ECANCELED && slot->stat != 0 ? slot->stat : stat;
}

static void take_done(struct sfd_queue *q, uint32_t i, const struct wire_note *note, struct sfd_event *events, int *n)
{
	struct slot *slot = &q->slots.all[i];
	struct sfd_event *e = add_event(events, n, slot, SFD_EV_DONE, cancel_stat(slot, note->stat));

	e->bytes = note->bytes;
	e->written = note->written;
	if (slot->second_staged)
		stage_drop(&q->stage, slot->staged);
	queue_cancel_no_more(q, i);
	slots_give_back(&q->slots, i);
	forget_refusal(q);
}

static void take_info(
	struct sfd_queue *q, uint32_t i, const struct sfd_file_info *info, struct sfd_event *events, int *n)
{
	struct slot *slot = &q->slots.all[i];
	struct sfd_event *e = add_event(events, n, slot, SFD_EV_INFO, SFD_STAT_OK);

	e->info = *info;
	e->info.tag = 0; /* it is the library's, and says nothing to the caller */
	if (slot->is_open && !slot->cancel_waits && info->txnid != 0)
		slots_open(&q->slots, i, info->txnid);
}

/* What calls fail with when the daemon has refused the queue: with nothing that would have the caller try again. */
static int refusal_errno(int stat)
{
	return stat == EAGAIN || stat == ETOOMANYREFS || stat == ENOBUFS || stat == ENOMEM ? ENFILE : stat;
}

/* What the daemon says; one event at most. */
static void take_note(struct sfd_queue *q, const struct wire_note *note, const struct sfd_file_info *info,
	struct sfd_event *events, int *n)
{
	uint32_t i;

	if (note->kind == WIRE_NOTE_REGISTERED) {
		queue_open(q);
		return;
	}
	if (note->kind == WIRE_NOTE_REFUSED) {
		queue_end(q, note->stat, refusal_errno(note->stat));
		return;
	}
	i = slots_find_tag(&q->slots, note->tag);
	if (i == SLOT_NONE || !events)
		return;
	if (note->kind == WIRE_NOTE_DONE) {
		take_done(q, i, note, events, n);
	} else if (note->kind == WIRE_NOTE_INFO) {
		take_info(q, i, info, events, n);
	} else {
		struct sfd_event *e = add_event(events, n, &q->slots.all[i], SFD_EV_PROGRESS, SFD_STAT_OK);

		e->bytes = note->bytes;
		e->written = note->written;
	}
}

static bool take_over(struct sfd_queue *q, struct sfd_event *events, int *n)
{
	uint32_t i = slots_next_over(&q->slots);

	if (i == SLOT_NONE)
		return false;
	add_event(events, n, &q->slots.all[i], SFD_EV_DONE, q->slots.all[i].stat);
	slots_give_back(&q->slots, i);
	return true;
}

static int reap(struct sfd_queue *q, struct sfd_event *events, int max)
{
	struct sfd_file_info info;
	struct wire_note note;
	int n = 0;

	while (n < max) {
		if (take_over(q, events, &n))
			continue;
		if (queue_next_note(q, &note, &info))
			take_note(q, &note, &info, events, &n);
		else if (q->slots.over_first == SLOT_NONE) /* that the daemon is gone may just have been found out */
			break;
	}
	if (q->state == QUEUE_NEW || q->first_cancel != SLOT_NONE)
		queue_push(q);
	if (q->slots.over_first != SLOT_NONE || !queue_is_drained(q))
		ready_ring(&q->ready);
	else
		ready_silence(&q->ready);
	queue_show(q);
	return n;
}

int sfd_queue_reap(struct sfd_queue *q, struct sfd_event *events, int max)
{
	if (!is_ours(q))
		return fail(EPERM);
	if (!events || max < 1)
		return fail(EINVAL);
	return reap(q, events, max);
}

/* ---- Waiting */

/* For what the descriptor shows, without the detour through it. poll(2)'s result. */
static int wait_for_news(const struct sfd_queue *q, int timeout_ms)
{
	struct pollfd p[2] = {
		{.fd = q->channel, .events = POLLIN},
		{.fd = q->ready.wants_room ? q->srv : -1, .events = POLLOUT},
	};

	if (q->ready.waits || q->ready.rings || q->channel < 0)
		p[0].fd = q->ready.poller;
	return poll(p, 2, timeout_ms);
}

int sfd_queue_wait(struct sfd_queue *q, struct sfd_event *events, int max, int timeout_ms)
{
	const int64_t deadline = timeout_ms > 0 ? clock_ms() + timeout_ms : 0;
	int left = timeout_ms;

	if (!is_ours(q))
		return fail(EPERM);
	if (!events || max < 1)
		return fail(EINVAL);
	for (;;) {
		int n;

		if (q->stage.live > 0 || q->state != QUEUE_OPEN)
			sfd_queue_submit(q); /* why it may have failed is seen in what is reaped */
		n = reap(q, events, max);
		if (n > 0 || q->slots.used == 0 || left == 0)
			return n;
		if (wait_for_news(q, left) < 0)
			return -1;
		if (timeout_ms > 0) {
			const int64_t now = clock_ms();

			left = now < deadline ? (int)(deadline - now) : 0;
		}
	}
}
