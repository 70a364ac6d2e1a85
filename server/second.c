/* SPDX-License-Identifier: BSD-2-Clause */
/* Second messages: what is asked of a transfer that there is, directly or by another worker's mail. */
#include "server/closer.h"
#include "server/os/process.h"
#include "server/touch.h"
#include "server/transfer_state.h"

#include <errno.h>

static struct transfer *from_entry(struct table_entry *e)
{
	return e ? container_of(e, struct transfer, entry) : NULL;
}

static struct transfer *find_owned(struct engine *e, uint64_t id, const struct owner *who)
{
	struct transfer *t = from_entry(table_find(&e->table, id));

	if (!t || !owner_same(&t->owner, who))
		return NULL;
	return t->process < 0 || os_has_number(t->process) ? t : NULL;
}

/* What it asks for, and where to. 0, or an errno. */
static int equip(struct transfer *t, const struct wire_request *r, int *dest)
{
	struct dest d = {.kind = DEST_STREAM};                   /* if it is none, close it like one */
	int err = *dest < 0 ? EMFILE : dest_classify(*dest, &d); /* EMFILE: mailed, but there was no room for it here */

	if (err != 0)
		touch_close(&t->owner, *dest);
	else
		err = transfer_set_dest(t, *dest, &d);
	*dest = -1;
	if (err == 0)
		err = transfer_ask(t, r);
	if (err == 0)
		transfer_set_texts(t);
	return err;
}

void transfer_send_open(
	struct engine *e, const struct wire_request *r, const struct owner *who, int *dest, const struct hold *hold)
{
	struct transfer *t = find_owned(e, r->txnid, who);
	int err;

	if (!t || t->state != TRANSFER_OPENED || t->channel->gone)
		return;
	timers_clear(&e->timers, &t->timer);
	transfer_unbind(t);
	share_sent(e->shares, e->slot, &t->share);
	if (hold) {
		t->hold = *hold;
		t->is_held = true;
	}
	err = equip(t, r, dest);
	if (err != 0) {
		t->state = TRANSFER_BLOCKED; /* in no list */
		transfer_finish(t, err);
		return;
	}
	t->progress_at_ns = e->loop.now_ns + TRANSFER_PROGRESS_NS;
	t->moved_ns = e->loop.now_ns;
	transfer_move_at_once(t);
}

static void cancel(struct transfer *t)
{
	if (t->state != TRANSFER_HELD && t->state != TRANSFER_ENDING)
		transfer_finish(t, ECANCELED);
}

void transfer_cancel(struct engine *e, uint64_t id, const struct owner *who)
{
	struct transfer *t = find_owned(e, id, who);

	if (t)
		cancel(t);
}

bool transfer_cancel_tag(const struct queue *q, uint64_t tag)
{
	struct transfer *t = queue_claimed(q, tag);

	if (!t || t->tag != tag)
		return false;
	cancel(t);
	return true;
}

void transfer_lost(struct engine *e, uint64_t id)
{
	struct transfer *t = from_entry(table_find(&e->table, id));

	if (t && t->state == TRANSFER_OPENED)
		transfer_finish(t, SFD_STAT_WORKER_DIED);
}

void transfer_unhold(struct engine *e, uint64_t id, const struct hold *hold)
{
	struct transfer *t = from_entry(table_find(&e->table, id));

	if (t && t->is_held && t->hold.slot == hold->slot && t->hold.generation == hold->generation &&
		t->hold.seq == hold->seq)
		transfer_end_hold(t);
}

void transfer_review_hold(struct list *run)
{
	struct transfer *t = container_of(run, struct transfer, run);

	if (!t->is_held || stats_generation(&t->engine->columns[t->hold.slot]) != t->hold.generation)
		transfer_end_hold(t);
}
