/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/closer.h"
#include "server/park.h"
#include "server/transfer_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	QUANTUM = 1024 * 1024, /* in each turn after the first */
	SMALL = 16 * 1024,     /* so much is sooner copied than proven to be in memory and spliced */
	PROGRESS_BYTES =
		1024 * 1024, /* the first progress frame comes after so much, or so long; all others after so long */
};

/* ---- Frames */

static void report_info(struct transfer *t, const struct opened *file)
{
	struct sfd_file_info info;

	if (!t->wants_info)
		return;
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
		.size = transfer_delivered(t) - t->reported,
		.total = transfer_delivered(t),
		.written = transfer_delivered(t),
		.tag = t->tag,
	};
}

static void report_progress(struct transfer *t)
{
	uint64_t now_ns = t->engine->loop.now_ns, delivered = transfer_delivered(t);
	struct sfd_xfer_stat frame;

	if (!t->wants_progress || delivered == t->reported)
		return;
	if (delivered < t->progress_at && now_ns < t->progress_at_ns)
		return;
	frame = stat_frame(t, SFD_STAT_OK);
	if (channel_progress(t->channel, &frame))
		t->reported = delivered;
	t->progress_at = UINT64_MAX; /* only time counts after the first */
	t->progress_at_ns = now_ns + TRANSFER_PROGRESS_NS;
}

static void report_end(struct transfer *t, int outcome)
{
	struct sfd_xfer_stat frame;

	stats_outcome(t->engine->own, outcome);
	counter_add(&t->engine->own->bytes, transfer_delivered(t));
	if (t->is_read)
		return; /* the pipe holds nothing but the file; its end is the end */
	frame = stat_frame(t, outcome);
	frame.complete = outcome == SFD_STAT_OK;
	channel_end(t->channel, &frame, t->line);
}

/* ---- The end */

static void let_go_of_dest(struct transfer *t)
{
	loop_unwatch(&t->engine->loop, &t->dest);
	if (t->is_read || t->dest.fd < 0)
		return;
	if (t->move.kind == DEST_PIPE && !t->kind.has_name)
		closer_close_harmless(t->dest.fd);
	else if (dest_is_written(t->move.kind)) /* its last close may write, and ours may be the last */
		closer_close_later(t->dest.fd);
	else if (t->move.kind == DEST_PIPE || t->move.kind == DEST_TERMINAL)
		closer_close(t->dest.fd);
	else
		closer_close_socket(t->dest.fd, t->kind.is_unix);
	t->dest.fd = -1;
}

/* What was seen when it was opened in this round of the loop is as good as another look. */
static bool has_name(const struct transfer *t)
{
	return t->file.links > 0 && t->file.opened_ns == t->engine->loop.now_ns;
}

static void let_go_of_files(struct transfer *t)
{
	journal_turn(t->engine->pen, t->line);
	cold_free(t->cold);
	t->cold = NULL;
	opening_free(t);
	let_go_of_dest(t);
	if (t->file.fd >= 0 && t->file.local)
		closer_close_file(t->file.fd, has_name(t));
	else
		closer_close_later(t->file.fd);
	t->file.fd = -1;
	if (!t->channel->corked)
		closer_settle(); /* what is said there may be read at once, and all must be closed by then */
}

static void transfer_free(struct transfer *t)
{
	struct engine *e = t->engine;

	let_go_of_files(t);
	timers_clear(&e->timers, &t->timer);
	list_remove(&t->run);
	list_remove(&t->on_channel);
	if (t->entry.id != 0)
		table_remove(&e->table, &t->entry);
	if (t->channel->ops->disclaim)
		t->channel->ops->disclaim(t->channel, t->tag);
	counter_add(&e->own->active, (uint64_t)-1);
	channel_release(t->channel);
	free(t);
}

void transfer_refuse(struct transfer *t, int err)
{
	let_go_of_files(t);
	channel_refuse(t->channel, t->tag, err, t->line);
	transfer_free(t);
}

static void end(struct transfer *t, int outcome)
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

static bool is_being_written(const struct transfer *t)
{
	return t->cold && t->cold->writing && !jobs_is_queued(t->cold->writing);
}

/*
 * While a helper writes to the destination, nobody can say how much has been delivered, or that nothing more comes. So the
 * end waits for it; but not for longer than its deadline, and not if nobody listens.
 */
void transfer_finish(struct transfer *t, int outcome)
{
	if (t->state == TRANSFER_OPENING) {
		transfer_refuse(t, outcome);
	} else if (outcome != ETIMEDOUT && !t->channel->gone && is_being_written(t)) {
		list_remove(&t->run);
		t->state = TRANSFER_ENDING;
		t->outcome = outcome;
		transfer_arm_timer(t);
	} else {
		end(t, outcome);
	}
}

void transfer_end_hold(struct transfer *t)
{
	t->is_held = false;
	if (t->state == TRANSFER_HELD)
		end(t, t->outcome);
}

/* ---- Time */

void transfer_arm_timer(struct transfer *t)
{
	struct engine *e = t->engine;
	uint64_t since = t->cold ? cold_since_ns(t->cold) : UINT64_MAX;
	uint64_t when = UINT64_MAX;

	if (t->opening)
		since = t->opening->since_ns;
	if (since != UINT64_MAX && e->io_timeout_ns > 0)
		when = since + e->io_timeout_ns;
	if (t->opening && !t->opening->job && t->opening->retry_ns < when)
		when = t->opening->retry_ns;
	if (t->timer.pos != TIMER_IDLE && t->timer.when_ns == when)
		return;
	timers_clear(&e->timers, &t->timer);
	if (when != UINT64_MAX)
		timers_set(&e->timers, &t->timer, when); /* there is room for one of each transfer */
}

void transfer_time_out(struct timer *timer)
{
	struct transfer *t = container_of(timer, struct transfer, timer);

	if (t->state == TRANSFER_OPENING && opening_try_again(t))
		return;
	if (t->state == TRANSFER_ENDING)
		end(t, t->outcome);
	else
		transfer_finish(t, ETIMEDOUT);
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

/* A helper has answered. While the destination has no room, what it has read waits. */
static void on_helper(void *owner)
{
	struct transfer *t = owner;

	if (t->state == TRANSFER_ENDING) {
		if (!t->cold->writing)
			end(t, t->outcome);
		return;
	}
	if (t->state == TRANSFER_WAITING)
		make_runnable(t);
	else
		transfer_arm_timer(t);
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
 * Waits for the destination. An error that is still reported although the attempt only found no room would be reported for
 * ever; from then on changes are waited for, which are certain to come once the destination has said EAGAIN.
 */
static int wait_for_dest(struct transfer *t)
{
	struct loop *loop = &t->engine->loop;

	if (t->is_read)
		return channel_want_room(t->channel, true);
	if (t->saw_error && !t->move.until_refused) {
		t->move.until_refused = true;
		return loop_watch(loop, &t->dest, POLLER_OUT | POLLER_EDGE);
	}
	return t->dest.watched ? 0 : loop_watch(loop, &t->dest, POLLER_OUT);
}

/* A destination that has room would be reported all the time while a helper is waited for. 0, or -1 and errno. */
static int stop_waiting_for_dest(struct transfer *t)
{
	if (t->is_read)
		return channel_want_room(t->channel, false);
	loop_unwatch(&t->engine->loop, &t->dest);
	return 0;
}

/* True if the transfer is still there afterwards. `err` is what errno was. */
static bool wait_for(struct transfer *t, enum move_result result, int err)
{
	int failed = result == MOVE_BLOCKED ? wait_for_dest(t) : stop_waiting_for_dest(t);

	if (failed < 0) {
		/* EPERM: what cannot be polled has no reason to be full, so its EAGAIN is an error of its own. */
		transfer_finish(t, errno == EPERM ? err : errno);
		return false;
	}
	if (t->channel->gone) {
		transfer_finish(t, EPIPE);
		return false;
	}
	list_remove(&t->run);
	t->state = result == MOVE_BLOCKED ? TRANSFER_BLOCKED : TRANSFER_WAITING;
	return true;
}

/* The same. */
static bool settle(struct transfer *t, enum move_result result)
{
	int err = errno;

	switch (result) {
	case MOVE_DONE:
		transfer_finish(t, SFD_STAT_OK);
		return false;
	case MOVE_SHORT:
		transfer_finish(t, SFD_STAT_TRUNCATED);
		return false;
	case MOVE_FAILED:
		transfer_finish(t, err);
		return false;
	case MOVE_BLOCKED:
	case MOVE_WAITING:
		if (!wait_for(t, result, err))
			return false;
		break;
	case MOVE_MORE:
	case MOVE_COLD:
		make_runnable(t);
		break;
	}
	if (t->cold)
		transfer_arm_timer(t);
	return true;
}

/* Bytes that are in memory; MOVE_COLD at the first that is not. */
static enum move_result move_hot(struct transfer *t, uint64_t budget)
{
	struct engine *e = t->engine;
	uint64_t n = t->move.left < budget ? t->move.left : budget, fallbacks = 0;
	const bool small = t->size <= SMALL;
	enum move_result result;

	switch (residency_heat(&e->residency, &t->file, t->move.offset, n, t->move.left, small, e->loop.now_ns)) {
	case HEAT_HOT:
		break;
	case HEAT_TRY:
		t->move.copies = true;
		break;
	case HEAT_COLD:
		return MOVE_COLD;
	}
	t->move.peeks = !e->residency.root.resident;
	counter_add(&e->own->hot_turns, 1);
	result = move_run(&t->move, n, &fallbacks);
	if (fallbacks > 0)
		counter_add(&e->own->fallbacks, fallbacks);
	return result;
}

static bool begin_cold(struct transfer *t)
{
	const struct cold_config config = {
		.engine = t->engine,
		.move = &t->move,
		.file = &t->file,
		.dest = t->kind,
		.dest_parked = t->dest_parked,
		.uid = t->owner.uid,
		.wake = on_helper,
		.owner = t,
	};

	t->cold = cold_new(&config);
	return t->cold != NULL;
}

/* What has been read already, and then whatever comes next in its own way. */
static enum move_result move_some(struct transfer *t, uint64_t budget)
{
	enum move_result result;

	journal_turn(t->engine->pen, t->line);
	if (t->is_read && t->channel->len > 0) {
		/* The information goes first. The channel tells when it has gone. */
		errno = EAGAIN;
		return MOVE_BLOCKED;
	}
	if (t->move.left == 0)
		return MOVE_DONE;
	if (!t->cold && dest_is_written(t->move.kind) && !begin_cold(t))
		return MOVE_FAILED;
	if (t->cold) {
		uint64_t left = t->move.left;

		result = cold_run(t->cold, budget);
		left -= t->move.left;
		if (result != MOVE_COLD)
			return result;
		if (left >= budget)
			return MOVE_MORE;
		budget -= left;
	}
	result = move_hot(t, budget);
	if (result != MOVE_COLD)
		return result;
	if ((!t->cold && !begin_cold(t)) || cold_read(t->cold) < 0)
		return MOVE_FAILED;
	residency_was_read(&t->engine->residency, &t->file);
	return MOVE_WAITING;
}

void transfer_turn(struct list *run)
{
	struct transfer *t = container_of(run, struct transfer, run);

	t->state = TRANSFER_BLOCKED; /* in no list until the turn says otherwise */
	if (t->channel->gone) {
		transfer_finish(t, EPIPE);
		return;
	}
	if (settle(t, move_some(t, QUANTUM)))
		report_progress(t);
}

/* ---- Beginning */

struct transfer *transfer_new(
	struct engine *e, const struct wire_request *r, const struct owner *who, struct channel *c)
{
	struct transfer *t = malloc(sizeof *t);

	if (!t)
		return NULL;
	*t = (struct transfer){
		.dest = {.fd = -1, .on_event = on_dest_event},
		.engine = e,
		.channel = c,
		.owner = *who,
		.file = {.fd = -1},
		.move = {.file = -1, .dest = -1},
		.state = TRANSFER_BLOCKED, /* in no list */
		.op = r->op,
		.is_read = r->op == WIRE_OP_READ,
		.wants_info = !c->ops->claim || r->op == WIRE_OP_OPEN || r->flags & WIRE_FLAG_WANT_INFO,
		.wants_progress = (!c->ops->claim && r->op != WIRE_OP_READ) || r->flags & WIRE_FLAG_WANT_PROGRESS,
		.tag = r->tag,
		.line = JOURNAL_NONE,
	};
	if (c->ops->claim) {
		t->line = c->ops->claim(c, r->tag, t);
		if (t->line == JOURNAL_NONE) {
			free(t);
			return NULL;
		}
	}
	timer_init(&t->timer);
	list_init(&t->run);
	list_init(&t->on_channel);
	if (t->wants_info) /* an id that nobody is told of names nothing */
		table_add(&e->table, &t->entry);
	channel_take(c);
	list_append(&c->transfers, &t->on_channel);
	c->on_change = on_channel_change;
	return t;
}

/* What could make close(2) wait is kept in a socket from now on. */
int transfer_set_dest(struct transfer *t, int fd, const struct dest *dest)
{
	const struct os_root *root = &t->engine->residency.root;
	int err = 0;

	t->kind = *dest;
	t->move.kind = dest->kind;
	t->dest.fd = t->move.dest = fd;
	if (!dest_is_written(dest->kind) || (root->local && dest->device == root->device))
		return 0;
	t->dest.fd = t->move.dest = park(fd);
	t->dest_parked = true;
	if (t->dest.fd < 0)
		err = errno;
	closer_close(fd);
	return err;
}

void transfer_take_file(struct transfer *t, const struct opened *file, bool parked)
{
	t->file.fd = t->move.file = file->fd;
	residency_describe(&t->engine->residency, &file->st, parked, &t->file);
	t->file.opened_ns = t->engine->loop.now_ns;
	t->move.offset = file->offset;
	t->move.left = t->size = file->size;
	t->progress_at = PROGRESS_BYTES;
	t->progress_at_ns = t->engine->loop.now_ns + TRANSFER_PROGRESS_NS;
}

static void begin_open(struct transfer *t, const struct opened *file)
{
	struct engine *e = t->engine;

	t->state = TRANSFER_OPENED;
	timers_clear(&e->timers, &t->timer);
	if (timers_set(&e->timers, &t->timer, e->loop.now_ns + e->open_timeout_ns) < 0 ||
		channel_watch(t->channel) < 0) {
		transfer_refuse(t, errno);
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
		channel_uncork(t->channel);
		report_info(t, file);
		if (t->channel->gone) { /* no byte may come without the information */
			transfer_finish(t, EPIPE);
			return;
		}
	}
	result = move_some(t, t->engine->first_quantum);
	err = errno;
	if (!t->is_read)
		report_info(t, file);
	if ((result == MOVE_BLOCKED || result == MOVE_WAITING || result == MOVE_MORE) &&
		channel_watch(t->channel) < 0) {
		transfer_finish(t, errno);
		return;
	}
	errno = err;
	settle(t, result);
}

void transfer_file_opened(struct transfer *t, const struct opened *file)
{
	t->channel->admitted = true;
	if (t->channel->gone)
		transfer_finish(t, EPIPE);
	else if (t->op == WIRE_OP_OPEN)
		begin_open(t, file);
	else
		begin_move(t, file);
}

void transfer_move_at_once(struct transfer *t)
{
	t->state = TRANSFER_BLOCKED; /* in no list */
	settle(t, move_some(t, t->engine->first_quantum));
}
