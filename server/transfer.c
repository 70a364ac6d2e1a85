/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/transfer.h"

#include "server/mover.h"
#include "server/open.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	QUANTUM = 1024 * 1024, /* in each turn after the first */
	PROGRESS_BYTES =
		1024 * 1024, /* the first progress frame comes after so much, or so long; all others after so long */
	PROGRESS_NS = 100 * 1000 * 1000,
};

enum transfer_state {
	TRANSFER_OPENED,
	TRANSFER_RUNNABLE,
	TRANSFER_BLOCKED,
	TRANSFER_HELD,
};

struct transfer {
	struct table_entry entry; /* entry.id: the transaction id */
	struct list run;          /* in engine.runnable or engine.held */
	struct list on_channel;
	struct source dest; /* dest.fd: owned, unless it is the channel's (a read); -1: none yet */
	struct timer timer;
	struct engine *engine;
	struct channel *channel; /* one reference */
	struct owner owner;
	struct move move; /* move.file: owned */
	struct hold hold;
	enum transfer_state state;
	bool is_read;
	bool saw_error; /* an event told of one, which may be no obstacle and last (a TCP socket's error queue) */
	bool is_held;
	int outcome; /* once HELD */
	uint64_t tag;
	uint64_t size;
	uint64_t reported;       /* bytes that frames have told of */
	uint64_t progress_at;    /* the next progress frame is due at so many bytes, */
	uint64_t progress_at_ns; /* or then */
};

static struct transfer *from_entry(struct table_entry *e)
{
	return e ? container_of(e, struct transfer, entry) : NULL;
}

static uint64_t delivered(const struct transfer *t)
{
	return t->size - t->move.left;
}

/* ---- Frames */

static void report_info(struct transfer *t, const struct opened *file)
{
	struct sfd_file_info info;

	open_describe(file, &info);
	info.txnid = t->entry.id;
	info.tag = t->tag;
	channel_info(t->channel, &info);
}

static struct sfd_xfer_stat stat_frame(const struct transfer *t, int stat)
{
	return (struct sfd_xfer_stat){
		.cmd = SFD_XFER_STAT,
		.stat = stat,
		.size = delivered(t) - t->reported,
		.total = delivered(t),
		.written = delivered(t),
		.tag = t->tag,
	};
}

static void report_progress(struct transfer *t)
{
	uint64_t now_ns = t->engine->loop.now_ns;
	struct sfd_xfer_stat frame;

	if (t->is_read || delivered(t) == t->reported)
		return;
	if (delivered(t) < t->progress_at && now_ns < t->progress_at_ns)
		return;
	frame = stat_frame(t, SFD_STAT_OK);
	if (channel_progress(t->channel, &frame))
		t->reported = delivered(t);
	t->progress_at = UINT64_MAX; /* only time counts after the first */
	t->progress_at_ns = now_ns + PROGRESS_NS;
}

static void report_end(struct transfer *t, int outcome)
{
	struct sfd_xfer_stat frame;

	stats_outcome(t->engine->own, outcome);
	counter_add(&t->engine->own->bytes, delivered(t));
	if (t->is_read)
		return; /* the pipe holds nothing but the file; its end is the end */
	frame = stat_frame(t, outcome);
	frame.complete = outcome == SFD_STAT_OK;
	channel_end(t->channel, &frame);
}

/* ---- The end */

static void close_dest(int *fd)
{
	dest_close(*fd);
	*fd = -1;
}

static void let_go_of_files(struct transfer *t)
{
	loop_unwatch(&t->engine->loop, &t->dest);
	if (!t->is_read && t->dest.fd >= 0 && t->move.kind == DEST_PIPE) {
		close(t->dest.fd); /* what dest_close() looks for is a socket's */
		t->dest.fd = -1;
	} else if (!t->is_read) {
		close_dest(&t->dest.fd);
	}
	if (t->move.file >= 0)
		close(t->move.file);
	t->move.file = -1;
}

static void transfer_free(struct transfer *t)
{
	struct engine *e = t->engine;

	let_go_of_files(t);
	timers_clear(&e->timers, &t->timer);
	list_remove(&t->run);
	list_remove(&t->on_channel);
	table_remove(&e->table, &t->entry);
	counter_add(&e->own->active, (uint64_t)-1);
	channel_release(t->channel);
	free(t);
}

/* Whatever happens to a transfer, it ends here. Its descriptors are closed before the last frame can be read. */
static void finish(struct transfer *t, int outcome)
{
	let_go_of_files(t);
	timers_clear(&t->engine->timers, &t->timer);
	list_remove(&t->run);
	if (t->is_held && !t->channel->gone) {
		t->state = TRANSFER_HELD;
		t->outcome = outcome;
		list_append(&t->engine->held, &t->run);
		return;
	}
	report_end(t, outcome);
	transfer_free(t);
}

static void end_hold(struct transfer *t)
{
	t->is_held = false;
	if (t->state == TRANSFER_HELD)
		finish(t, t->outcome);
}

/* ---- Moving */

static void make_runnable(struct transfer *t)
{
	if (t->state == TRANSFER_RUNNABLE || t->state == TRANSFER_HELD)
		return;
	t->state = TRANSFER_RUNNABLE;
	list_append(&t->engine->runnable, &t->run);
}

static void on_dest_event(struct source *source, unsigned events)
{
	struct transfer *t = container_of(source, struct transfer, dest);

	/* Room or an error: the next attempt to move bytes finds out. */
	if (events & POLLER_ERR)
		t->saw_error = true;
	make_runnable(t);
}

/* The channel's reader is gone, or there is room for a read's bytes: either way it is for the turn to see. */
static void on_channel_change(struct channel *c)
{
	for (struct list *n = c->transfers.next; n != &c->transfers; n = n->next) {
		struct transfer *t = container_of(n, struct transfer, on_channel);

		if (c->gone && t->state == TRANSFER_HELD)
			t->is_held = false; /* nobody waits for the frame that is being held */
		else if (c->gone || (t->is_read && t->state == TRANSFER_BLOCKED))
			make_runnable(t);
	}
}

/*
 * Waits for the destination (a read's destination is watched with its channel). An error that is still reported although
 * the attempt only found no room would be reported for ever; from then on changes are waited for, which are certain to come
 * once the destination has said EAGAIN.
 */
static int wait_for_dest(struct transfer *t)
{
	struct loop *loop = &t->engine->loop;

	if (t->is_read)
		return 0;
	if (t->saw_error && !t->move.until_refused) {
		t->move.until_refused = true;
		return loop_watch(loop, &t->dest, POLLER_OUT | POLLER_EDGE);
	}
	return t->dest.watched ? 0 : loop_watch(loop, &t->dest, POLLER_OUT);
}

/* True if the transfer is still there afterwards. */
static bool settle(struct transfer *t, enum move_result result)
{
	int err = errno;

	switch (result) {
	case MOVE_DONE:
		finish(t, SFD_STAT_OK);
		return false;
	case MOVE_SHORT:
		finish(t, SFD_STAT_TRUNCATED);
		return false;
	case MOVE_FAILED:
		finish(t, err);
		return false;
	case MOVE_BLOCKED:
		if (wait_for_dest(t) < 0) {
			/* EPERM: what cannot be polled has no reason to be full, so its EAGAIN is an error of its own. */
			finish(t, errno == EPERM ? err : errno);
			return false;
		}
		if (t->channel->gone) {
			finish(t, EPIPE);
			return false;
		}
		list_remove(&t->run);
		t->state = TRANSFER_BLOCKED;
		return true;
	case MOVE_MORE:
		make_runnable(t);
		return true;
	}
	return true;
}

static enum move_result move_some(struct transfer *t, uint64_t budget)
{
	uint64_t fallbacks = 0;
	enum move_result result;

	if (t->is_read && t->channel->len > 0) {
		/* The information goes first. The channel tells when it has gone. */
		errno = EAGAIN;
		return MOVE_BLOCKED;
	}
	result = move_run(&t->move, budget, &fallbacks);
	if (fallbacks > 0)
		counter_add(&t->engine->own->fallbacks, fallbacks);
	return result;
}

void transfer_turn(struct list *run)
{
	struct transfer *t = container_of(run, struct transfer, run);

	t->state = TRANSFER_BLOCKED; /* in no list until the turn says otherwise */
	if (t->channel->gone) {
		finish(t, EPIPE);
		return;
	}
	if (settle(t, move_some(t, QUANTUM)))
		report_progress(t);
}

/* ---- Beginning */

/* Counts first and looks then, so that two workers at the limit may both refuse but never both accept. */
static bool admit(struct engine *e)
{
	counter_add(&e->own->active, 1);
	if (stats_active(e->columns, e->column_count) <= e->max_transfers)
		return true;
	counter_add(&e->own->active, (uint64_t)-1);
	return false;
}

static struct transfer *transfer_new(struct engine *e, const struct wire_request *r, const struct owner *who,
	struct channel *c, const struct opened *file)
{
	struct transfer *t = malloc(sizeof *t);

	if (!t)
		return NULL;
	*t = (struct transfer){
		.dest = {.fd = -1, .on_event = on_dest_event},
		.engine = e,
		.channel = c,
		.owner = *who,
		.move = {.file = file->fd, .dest = -1, .offset = file->offset, .left = file->size},
		.is_read = r->op == WIRE_OP_READ,
		.tag = r->tag,
		.size = file->size,
		.progress_at = PROGRESS_BYTES,
		.progress_at_ns = e->loop.now_ns + PROGRESS_NS,
	};
	timer_init(&t->timer);
	list_init(&t->run);
	list_init(&t->on_channel);
	table_add(&e->table, &t->entry);
	channel_take(c);
	list_append(&c->transfers, &t->on_channel);
	c->on_change = on_channel_change;
	c->admitted = true;
	return t;
}

static void set_dest(struct transfer *t, int fd, enum dest_kind kind)
{
	t->dest.fd = t->move.dest = fd;
	t->move.kind = kind;
}

static void begin_open(struct transfer *t, const struct opened *file)
{
	struct engine *e = t->engine;

	t->state = TRANSFER_OPENED;
	if (timers_set(&e->timers, &t->timer, e->loop.now_ns + e->open_timeout_ns) < 0 ||
		channel_watch(t->channel) < 0) {
		channel_refuse(t->channel, t->tag, errno);
		transfer_free(t);
		return;
	}
	report_info(t, file);
}

/* The information comes first in a read's pipe, and with the outcome, in one write, for a send that is over at once. */
static void begin_move(struct transfer *t, const struct opened *file)
{
	enum move_result result;
	int err;

	t->state = TRANSFER_BLOCKED; /* in no list */
	if (t->is_read) {
		t->channel->is_dest = true;
		channel_uncork(t->channel);
		report_info(t, file);
		if (t->channel->gone) { /* no byte may come without the information */
			finish(t, EPIPE);
			return;
		}
	}
	result = move_some(t, t->engine->first_quantum);
	err = errno;
	if (!t->is_read)
		report_info(t, file);
	if ((result == MOVE_BLOCKED || result == MOVE_MORE) && channel_watch(t->channel) < 0) {
		finish(t, errno);
		return;
	}
	errno = err;
	settle(t, result);
}

/* Everything that is settled before the first byte: 0, or why not. */
static int prepare(struct engine *e, const struct wire_request *r, int dest, struct opened *file, enum dest_kind *kind)
{
	*kind = DEST_PIPE;
	if (r->op == WIRE_OP_SEND) {
		int err = dest_classify(dest, kind);

		if (err != 0)
			return err;
	}
	return open_file(file, e->root_fd, r->path, r->path_len, r->offset, r->length);
}

void transfer_begin(
	struct engine *e, const struct wire_request *r, const struct owner *who, struct channel *c, int *dest)
{
	struct opened file;
	enum dest_kind kind;
	struct transfer *t;
	int err;

	if (!admit(e)) {
		close_dest(dest);
		channel_refuse(c, r->tag, EMFILE);
		return;
	}
	err = prepare(e, r, *dest, &file, &kind);
	if (err == 0) {
		t = transfer_new(e, r, who, c, &file);
		if (!t) {
			close(file.fd);
			err = ENOMEM;
		}
	}
	if (err != 0) {
		close_dest(dest);
		counter_add(&e->own->active, (uint64_t)-1);
		channel_refuse(c, r->tag, err);
		return;
	}
	if (r->op == WIRE_OP_OPEN) {
		begin_open(t, &file);
		return;
	}
	set_dest(t, t->is_read ? c->source.fd : *dest, kind);
	*dest = -1;
	begin_move(t, &file);
}

/* ---- The second message */

static struct transfer *find_owned(struct engine *e, uint64_t id, const struct owner *who)
{
	struct transfer *t = from_entry(table_find(&e->table, id));

	return t && owner_same(&t->owner, who) ? t : NULL;
}

void transfer_send_open(struct engine *e, uint64_t id, const struct owner *who, int *dest, const struct hold *hold)
{
	struct transfer *t = find_owned(e, id, who);
	enum dest_kind kind = DEST_STREAM; /* if it is none, close it like one */
	int err;

	if (!t || t->state != TRANSFER_OPENED || t->channel->gone)
		return;
	timers_clear(&e->timers, &t->timer);
	if (hold) {
		t->hold = *hold;
		t->is_held = true;
	}
	err = *dest < 0 ? EMFILE : dest_classify(*dest, &kind); /* mailed, but there was no room for it here */
	set_dest(t, *dest, kind);
	*dest = -1;
	if (err != 0) {
		finish(t, err);
		return;
	}
	t->progress_at_ns = e->loop.now_ns + PROGRESS_NS;
	t->state = TRANSFER_BLOCKED; /* in no list */
	settle(t, move_some(t, e->first_quantum));
}

void transfer_cancel(struct engine *e, uint64_t id, const struct owner *who)
{
	struct transfer *t = find_owned(e, id, who);

	if (t && t->state != TRANSFER_HELD)
		finish(t, ECANCELED);
}

void transfer_unhold(struct engine *e, uint64_t id, const struct hold *hold)
{
	struct transfer *t = from_entry(table_find(&e->table, id));

	if (t && t->is_held && t->hold.slot == hold->slot && t->hold.generation == hold->generation &&
		t->hold.seq == hold->seq)
		end_hold(t);
}

void transfer_time_out(struct timer *timer)
{
	finish(container_of(timer, struct transfer, timer), ETIMEDOUT);
}

void transfer_review_hold(struct list *run)
{
	struct transfer *t = container_of(run, struct transfer, run);

	if (!t->is_held || stats_generation(&t->engine->columns[t->hold.slot]) != t->hold.generation)
		end_hold(t);
}
