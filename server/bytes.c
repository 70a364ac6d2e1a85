/* SPDX-License-Identifier: BSD-2-Clause */
/* Which bytes a transfer moves next, how many of them, and in which way. */
#include "server/os/files.h"
#include "server/touch.h"
#include "server/transfer_state.h"

#include <errno.h>

enum {
	SMALL = 16 * 1024,            /* so much is sooner copied than proven to be in memory and spliced */
	NO_PIPE_NS = 2 * 1000 * 1000, /* until it is tried again */
};

/* Where it is known what is missing, nothing is asked for in vain. False if it is the next byte. */
static bool limit_to_memory(const struct transfer *t, uint64_t length, uint64_t *budget)
{
	const uint64_t there = residency_prefix(&t->engine->residency, &t->file, t->move.offset, length);

	if (there < length)
		*budget = t->move.head.left + there;
	return there > 0;
}

/* Bytes that are in memory; MOVE_COLD at the first that is not. */
static enum move_result move_hot(struct transfer *t, uint64_t budget)
{
	struct engine *e = t->engine;
	const uint32_t flags = transfer_flags(t);
	const struct heat_query query = {
		.offset = t->move.offset,
		.length = t->move.left < budget ? t->move.left : budget,
		.left = t->move.left,
		.copied = t->size <= SMALL || flags & WIRE_FLAG_SYNC,
		.proof = flags & WIRE_FLAG_NOCACHE    ? PROOF_CERTAIN
			 : flags & WIRE_FLAG_NODISKIO ? PROOF_NONE
						      : PROOF_USUAL,
	};
	uint64_t fallbacks = 0;
	enum move_result result;

	switch (residency_heat(&e->residency, &t->file, &query, e->loop.now_ns)) {
	case HEAT_HOT:
		break;
	case HEAT_TRY:
		t->move.copies = true;
		if (flags & WIRE_FLAG_NODISKIO && !limit_to_memory(t, query.length, &budget))
			return MOVE_COLD;
		break;
	case HEAT_COLD:
		return MOVE_COLD;
	}
	if (flags & (WIRE_FLAG_SYNC | WIRE_FLAG_NOCACHE))
		t->move.copies = true;
	t->move.peeks = !e->residency.root.resident;
	counter_add(&e->own->hot_turns, 1);
	result = move_run(&t->move, budget, &fallbacks);
	if (fallbacks > 0)
		counter_add(&e->own->fallbacks, fallbacks);
	return result;
}

/* What the options say of reading. */
static struct cold_wish wish_of(const struct transfer *t)
{
	const uint32_t flags = transfer_flags(t);
	struct cold_wish wish = {.flags = transfer_is_lent(t) ? JOB_IS_LENT : 0};

	wish.copies = pace_portion(&t->pace) < OS_PAGE_BYTES;
	if (pace_limits(&t->pace))
		wish.chunk_max = pace_rate(&t->pace) > OS_PAGE_BYTES ? pace_rate(&t->pace) : OS_PAGE_BYTES;
	if (!t->extras)
		return wish;
	wish.flags |= (flags & WIRE_FLAG_SYNC ? JOB_COPIES : 0U) | (flags & WIRE_FLAG_NOCACHE ? JOB_NOCACHE : 0U) |
		      (flags & WIRE_FLAG_NODISKIO ? JOB_NOWAIT : 0U) |
		      (flags & WIRE_FLAG_USER_READAHEAD ? JOB_ONLY_AHEAD : 0U);
	wish.ahead = (uint64_t)t->extras->readahead * OS_PAGE_BYTES;
	if (wish.ahead > t->engine->max_readahead)
		wish.ahead = t->engine->max_readahead;
	wish.only_hot = flags & WIRE_FLAG_NODISKIO && !transfer_is_lent(t);
	return wish;
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
		.wish = wish_of(t),
		.wake = transfer_on_helper,
		.owner = t,
	};

	t->cold = cold_new(&config);
	return t->cold != NULL;
}

/* The next byte is not in memory, or the destination is written and so gets its bytes otherwise. */
static enum move_result move_cold(struct transfer *t, uint64_t budget)
{
	struct engine *e = t->engine;

	if (transfer_flags(t) & WIRE_FLAG_NODISKIO && !transfer_is_lent(t)) {
		errno = EBUSY;
		if (!dest_is_written(t->move.kind) || !t->file.local || t->file.atime_due ||
			!residency_allows(&e->residency, e->loop.now_ns))
			return MOVE_FAILED;
		if (!limit_to_memory(t, t->move.left < budget ? t->move.left : budget, &budget))
			return MOVE_FAILED;
		t->resume_ns = e->loop.now_ns + NO_PIPE_NS;
		return cold_fill(t->cold, budget);
	}
	if ((!t->cold && !begin_cold(t)) || cold_read(t->cold) < 0)
		return MOVE_FAILED;
	residency_was_read(&e->residency, &t->file);
	return MOVE_WAITING;
}

/* What has been read already, and then whatever comes next in its own way. */
static enum move_result move_on(struct transfer *t, uint64_t budget)
{
	const bool is_written = dest_is_written(t->move.kind);
	enum move_result result;

	if (!t->cold && is_written && !begin_cold(t))
		return MOVE_FAILED;
	if (t->cold) {
		const uint64_t before = t->move.written;

		result = cold_run(t->cold, budget);
		if (result != MOVE_COLD && (result != MOVE_DONE || move_left(&t->move) == 0))
			return result;
		if (t->move.written - before >= budget)
			return MOVE_MORE;
		budget -= t->move.written - before;
	}
	if (t->move.left == 0)
		return move_run(&t->move, budget, &(uint64_t){0});
	result = is_written ? MOVE_COLD : move_hot(t, budget);
	return result == MOVE_COLD ? move_cold(t, budget) : result;
}

/* Helpers move bytes between turns. */
static void note_moved(struct transfer *t)
{
	const uint64_t n = t->move.written - t->seen;

	if (n == 0)
		return;
	t->seen = t->move.written;
	t->moved_ns = t->engine->loop.now_ns;
	if (pace_limits(&t->pace))
		pace_moved(&t->pace, n);
}

static enum move_result rest(struct transfer *t)
{
	t->resume_ns = t->pace.next_ns;
	t->moved_ns = t->resume_ns; /* it is not idle */
	if (t->cold)
		cold_rest(t->cold);
	return MOVE_PACED;
}

enum move_result transfer_move_some(struct transfer *t, uint64_t budget)
{
	const bool may_hang = dest_may_hang(&t->kind);
	enum move_result result;
	int err;

	journal_turn(t->engine->pen, t->line);
	stats_client(t->engine->own, t->owner.uid, t->owner.pid, t->engine->loop.now_ns);
	if (t->is_read && t->channel->len > 0) {
		/* The information goes first. The channel tells when it has gone. */
		errno = EAGAIN;
		return MOVE_BLOCKED;
	}
	note_moved(t);
	if (move_left(&t->move) == 0)
		return MOVE_DONE;
	if (pace_limits(&t->pace)) {
		const uint64_t most = pace_allows(&t->pace, move_left(&t->move), t->engine->loop.now_ns);

		if (most == 0)
			return rest(t);
		budget = most < budget ? most : budget;
	}
	if (may_hang && !touch_begin(&t->owner))
		return MOVE_MORE;
	result = move_on(t, budget);
	err = errno;
	if (may_hang)
		touch_end();
	note_moved(t);
	errno = err;
	return result;
}
