/* SPDX-License-Identifier: BSD-2-Clause */
/* When a transfer's time is over, by its own wish or the operator's. */
#include "server/transfer_state.h"

#include <errno.h>

uint64_t transfer_io_deadline(const struct transfer *t)
{
	const uint64_t since = t->opening ? t->opening->since_ns : t->cold ? cold_since_ns(t->cold) : UINT64_MAX;

	return since != UINT64_MAX && t->engine->io_timeout_ns > 0 ? since + t->engine->io_timeout_ns : UINT64_MAX;
}

/* When its time is over, by whichever limit. */
static uint64_t expiry(const struct transfer *t)
{
	const struct engine *e = t->engine;
	uint64_t when = transfer_io_deadline(t);

	if (t->state == TRANSFER_ENDING || t->state == TRANSFER_OPENED)
		when = t->end_by_ns < when ? t->end_by_ns : when;
	if (t->state == TRANSFER_ENDING)
		return when;
	if (t->extras && t->extras->deadline_ns > 0 && t->extras->deadline_ns < when)
		when = t->extras->deadline_ns;
	if ((t->state == TRANSFER_BLOCKED || t->state == TRANSFER_WAITING) && e->idle_timeout_ns > 0 &&
		t->moved_ns + e->idle_timeout_ns < when)
		when = t->moved_ns + e->idle_timeout_ns;
	return when;
}

/* When it is to be looked at again. */
static uint64_t due(const struct transfer *t)
{
	const uint64_t when = expiry(t);

	if (t->opening && !t->opening->job && t->opening->retry_ns < when)
		return t->opening->retry_ns;
	if (t->state == TRANSFER_PACED && t->resume_ns < when)
		return t->resume_ns;
	return when;
}

/* One that is set for an earlier time stays: most transfers get on before it is up, and then it is set anew. */
void transfer_arm_timer(struct transfer *t)
{
	struct engine *e = t->engine;
	const uint64_t when = due(t);

	if (t->timer.pos != TIMER_IDLE && t->timer.when_ns <= when)
		return;
	timers_clear(&e->timers, &t->timer);
	if (when != UINT64_MAX)
		timers_set(&e->timers, &t->timer, when); /* there is room for one of each transfer */
}

void transfer_time_out(struct timer *timer)
{
	struct transfer *t = container_of(timer, struct transfer, timer);
	const uint64_t now_ns = t->engine->loop.now_ns;

	if (expiry(t) <= now_ns) {
		if (t->state == TRANSFER_ENDING)
			transfer_end(t, t->outcome);
		else
			transfer_finish(t, ETIMEDOUT);
		return;
	}
	if (t->state == TRANSFER_OPENING && !opening_try_again(t)) {
		transfer_refuse(t, ENOMEM);
		return;
	}
	if (t->state == TRANSFER_PACED && t->resume_ns <= now_ns)
		transfer_make_runnable(t);
	transfer_arm_timer(t);
}
