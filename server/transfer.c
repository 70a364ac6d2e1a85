/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/closer.h"
#include "server/os/files.h"
#include "server/park.h"
#include "server/touch.h"
#include "server/transfer_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	QUANTUM = 1024 * 1024, /* in each turn after the first */
	PROGRESS_BYTES =
		1024 * 1024, /* the first progress frame comes after so much, or so long; all others after so long */
};

static const uint64_t GRACE_NS = UINT64_C(1000000000);

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
		.written = t->move.written,
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

/* What its user has sent is not touched for now. */
static bool is_left_alone(const struct transfer *t)
{
	return suspects_have(&t->engine->suspects, t->owner.uid) || (dest_may_hang(&t->kind) && touch_hangs(&t->owner));
}

static void let_go_of_dest(struct transfer *t)
{
	loop_unwatch(&t->engine->loop, &t->dest);
	if (t->is_read || t->dest.fd < 0)
		return;
	/* Of what is written the last close may write, and ours may be the last; a suspect's close may wait, whatever it is. */
	if (dest_is_written(t->move.kind) || is_left_alone(t))
		closer_close_later(t->dest.fd);
	else if (t->move.kind == DEST_PIPE)
		touch_close_pipe(&t->owner, t->dest.fd, t->kind.has_name);
	else if (t->move.kind == DEST_TERMINAL)
		closer_close(t->dest.fd);
	else
		closer_close_socket(t->dest.fd, t->kind.is_unix);
	t->dest.fd = -1;
}

/* What was seen when it was opened in this round of the loop is as good as another look, if only we have it open. */
static bool has_name(const struct transfer *t)
{
	return !t->file.is_near && t->file.links > 0 && t->file.opened_ns == t->engine->loop.now_ns;
}

static void let_go_of_files(struct transfer *t)
{
	journal_turn(t->engine->pen, t->line);
	stats_client(t->engine->own, t->owner.uid, t->owner.pid, t->engine->loop.now_ns);
	cold_free(t->cold);
	t->cold = NULL;
	opening_free(t);
	let_go_of_dest(t);
	if (t->file.fd >= 0 && (t->file.local || t->file.is_near))
		closer_close_file(t->file.fd, has_name(t));
	else if (t->file.fd >= 0 && t->file.is_memory)
		close(t->file.fd);
	else
		closer_close_later(t->file.fd);
	t->file.fd = -1;
	if (!t->channel->corked)
		touch_settle(&t->owner); /* what is said there may be read at once, and all must be closed by then */
}

static void transfer_free(struct transfer *t)
{
	struct engine *e = t->engine;

	let_go_of_files(t);
	transfer_unbind(t);
	timers_clear(&e->timers, &t->timer);
	list_remove(&t->run);
	list_remove(&t->on_channel);
	if (t->entry.id != 0)
		table_remove(&e->table, &t->entry);
	if (t->channel->ops->disclaim)
		t->channel->ops->disclaim(t->channel, t->tag);
	share_give_back(e->shares, e->slot, &t->share);
	counter_add(&e->own->active, (uint64_t)-1);
	channel_release(t->channel);
	free(t->extras);
	free(t);
}

void transfer_refuse(struct transfer *t, int err)
{
	let_go_of_files(t);
	channel_refuse(t->channel, t->tag, err, t->line);
	transfer_free(t);
}

void transfer_end(struct transfer *t, int outcome)
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
 * end waits for it; but not for longer than its deadline, nor a second if its time is over, and not if nobody listens.
 */
void transfer_finish(struct transfer *t, int outcome)
{
	const uint64_t now_ns = t->engine->loop.now_ns;

	if (t->state == TRANSFER_OPENING) {
		transfer_refuse(t, outcome);
	} else if (!t->channel->gone && is_being_written(t) && transfer_io_deadline(t) > now_ns) {
		list_remove(&t->run);
		t->state = TRANSFER_ENDING;
		t->outcome = outcome;
		t->end_by_ns = outcome == ETIMEDOUT ? now_ns + GRACE_NS : UINT64_MAX;
		transfer_arm_timer(t);
	} else {
		transfer_end(t, outcome);
	}
}

void transfer_end_hold(struct transfer *t)
{
	t->is_held = false;
	if (t->state == TRANSFER_HELD)
		transfer_end(t, t->outcome);
}

/* ---- Moving */

void transfer_make_runnable(struct transfer *t)
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
	transfer_make_runnable(t);
}

/* A helper has answered. While the destination has no room, what it has read waits. */
void transfer_on_helper(void *owner)
{
	struct transfer *t = owner;

	if (t->state == TRANSFER_ENDING) {
		if (!t->cold->writing)
			transfer_end(t, t->outcome);
		return;
	}
	if (t->state == TRANSFER_WAITING)
		transfer_make_runnable(t);
	else if (t->state != TRANSFER_RUNNABLE)
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
			transfer_make_runnable(t);
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
	if (t->dest.watched)
		return 0;
	return loop_watch(loop, &t->dest, POLLER_OUT | (t->move.until_refused ? POLLER_EDGE : 0));
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
	t->state = result == MOVE_BLOCKED   ? TRANSFER_BLOCKED
		   : result == MOVE_WAITING ? TRANSFER_WAITING
					    : TRANSFER_PACED;
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
	case MOVE_PACED:
		if (!wait_for(t, result, err))
			return false;
		break;
	case MOVE_MORE:
	case MOVE_COLD:
		transfer_make_runnable(t);
		break;
	}
	if (t->state != TRANSFER_RUNNABLE || t->extras)
		transfer_arm_timer(t);
	return true;
}

bool transfer_left_alone(struct list *run)
{
	struct transfer *t = container_of(run, struct transfer, run);

	if (t->channel->gone || !is_left_alone(t))
		return false;
	if (t->cold)
		cold_rest(t->cold); /* others may need its pipe */
	if (stop_waiting_for_dest(t) < 0)
		return false; /* its turn finds out what is wrong */
	list_append(&t->engine->alone, run);
	return true;
}

void transfer_turn(struct list *run)
{
	struct transfer *t = container_of(run, struct transfer, run);

	t->state = TRANSFER_BLOCKED; /* in no list until the turn says otherwise */
	if (t->channel->gone) {
		transfer_finish(t, EPIPE);
		return;
	}
	if (settle(t, transfer_move_some(t, QUANTUM)))
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
		.process = -1,
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
	t->move.unseen = dest->unseen;
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
	t->mtime = file->st.st_mtim.tv_sec;
	t->progress_at = PROGRESS_BYTES;
	t->progress_at_ns = t->moved_ns = t->engine->loop.now_ns;
	t->progress_at_ns += TRANSFER_PROGRESS_NS;
}

int transfer_ask(struct transfer *t, const struct wire_request *r)
{
	struct engine *e = t->engine;
	struct extras *x;

	if (extras_wanted(r)) {
		x = extras_new(r, t->extras);
		if (!x)
			return ENOMEM;
		free(t->extras);
		t->extras = x;
	}
	if (t->op == WIRE_OP_READ)
		return 0;
	if (transfer_flags(t) & WIRE_FLAG_NODISKIO)
		residency_spare_atime(&t->file);
	pace_init(&t->pace, t->extras ? t->extras->max_rate : 0, e->user_paces, t->owner.uid, e->loop.now_ns);
	/* A pipe has so many places, and each piece of a page that is lent takes one. */
	t->move.copies = pace_portion(&t->pace) < OS_PAGE_BYTES;
	return t->extras && t->extras->deadline_ns > 0 && t->extras->deadline_ns <= e->loop.now_ns ? ETIMEDOUT : 0;
}

void transfer_set_texts(struct transfer *t)
{
	struct extras *x = t->extras;

	if (!x)
		return;
	extras_fill(x, t->size, t->mtime);
	t->move.head = (struct move_text){x->text, x->head_len};
	t->move.tail = (struct move_text){x->text + x->head_len, x->tail_len};
}

void transfer_unbind(struct transfer *t)
{
	if (t->process >= 0)
		close(t->process);
	t->process = -1;
}

static void begin_open(struct transfer *t, const struct opened *file)
{
	struct engine *e = t->engine;

	t->state = TRANSFER_OPENED;
	t->end_by_ns = e->loop.now_ns + e->open_timeout_ns;
	timers_clear(&e->timers, &t->timer);
	transfer_arm_timer(t);
	if (channel_watch(t->channel) < 0)
		transfer_refuse(t, errno);
	else
		report_info(t, file);
}

/* What is left over and small beside the quantum goes with it: it would be a turn, and a packet, of its own. */
static enum move_result move_first(struct transfer *t)
{
	const uint64_t most = t->engine->first_quantum, left = move_left(&t->move);

	if (is_left_alone(t))
		return MOVE_MORE; /* which leaves it alone when its turn comes */
	return transfer_move_some(t, left <= most + most / 2 ? left : most);
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
	result = move_first(t);
	err = errno;
	if (!t->is_read)
		report_info(t, file);
	if ((result == MOVE_BLOCKED || result == MOVE_WAITING || result == MOVE_PACED || result == MOVE_MORE) &&
		channel_watch(t->channel) < 0) {
		transfer_finish(t, errno);
		return;
	}
	errno = err;
	settle(t, result);
}

/* It is another file by now, or another state of it: what it is comes with the refusal. */
static void refuse_changed(struct transfer *t, const struct opened *file)
{
	struct sfd_file_info info;

	open_describe(file, &info);
	info.tag = t->tag;
	if (t->channel->ops->claim && t->wants_info)
		channel_info(t->channel, &info); /* a queue's refusal has no room for it */
	info.stat = SFD_STAT_CHANGED;
	let_go_of_files(t);
	channel_refuse_with(t->channel, &info, t->line);
	transfer_free(t);
}

/* What must hold before the first byte goes out. 0, or an errno; SFD_STAT_CHANGED. */
static int judge(struct transfer *t, const struct opened *file)
{
	struct engine *e = t->engine;
	const uint32_t flags = transfer_flags(t);

	if (flags & WIRE_FLAG_SAME_AS && !extras_same(&t->extras->same_as, &file->st))
		return SFD_STAT_CHANGED;
	if (flags & WIRE_FLAG_NODISKIO && t->op == WIRE_OP_OPEN &&
		!residency_is_hot(&e->residency, &t->file, file->offset, file->size, e->loop.now_ns))
		return EBUSY;
	return 0;
}

void transfer_file_opened(struct transfer *t, const struct opened *file)
{
	int err = judge(t, file);

	t->channel->admitted = t->channel->admitted || err == 0;
	transfer_set_texts(t);
	if (t->channel->gone)
		transfer_finish(t, EPIPE);
	else if (err == SFD_STAT_CHANGED)
		refuse_changed(t, file);
	else if (err != 0)
		transfer_refuse(t, err);
	else if (t->op == WIRE_OP_OPEN)
		begin_open(t, file);
	else
		begin_move(t, file);
}

void transfer_move_at_once(struct transfer *t)
{
	t->state = TRANSFER_BLOCKED; /* in no list */
	settle(t, move_first(t));
}
