/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/turns.h"

#include <stddef.h>

enum { NOBODY = TURNS_USERS };

void turns_init(struct turns *t)
{
	*t = (struct turns){.last = (uid_t)-1};
	list_init(&t->round);
}

/* ---- Users */

static unsigned find_user(const struct turns *t, uid_t uid)
{
	for (unsigned i = 0; i < TURNS_USERS - 1; i++) {
		if (t->users[i].came_ns != 0 && t->users[i].uid == uid)
			return i;
	}
	return NOBODY;
}

/* A free place, or that of who has been away for longest and has nothing here. */
static unsigned take_place(struct turns *t, uid_t uid)
{
	unsigned found = TURNS_USERS - 1;
	uint64_t oldest = UINT64_MAX;

	for (unsigned i = 0; i < TURNS_USERS - 1; i++) {
		const struct turns_user *u = &t->users[i];

		if (u->waiting == 0 && u->came_ns < oldest) {
			oldest = u->came_ns;
			found = i;
		}
	}
	if (found < TURNS_USERS - 1)
		t->users[found] = (struct turns_user){.uid = uid};
	return found;
}

static bool is_near(uint64_t then_ns, uint64_t now_ns)
{
	return then_ns != 0 && now_ns < then_ns + TURNS_COMPANY_NS;
}

/* Whether somebody else was there just now who asks for little; how many there are altogether. */
static bool has_company(const struct turns *t, unsigned user, uint64_t now_ns, unsigned *count)
{
	bool found = false;

	*count = 0;
	for (unsigned i = 0; i < TURNS_USERS; i++) {
		*count += t->users[i].waiting > 0 || is_near(t->users[i].came_ns, now_ns);
		found = found || (i != user && is_near(t->users[i].modest_ns, now_ns));
	}
	return found;
}

/* ---- What waits */

static struct turn *first_of(const struct turns *t, uid_t uid)
{
	for (struct list *n = t->round.next; n != &t->round; n = n->next) {
		if (container_of(n, struct turn, round)->uid == uid)
			return container_of(n, struct turn, round);
	}
	return NULL;
}

void turns_add(struct turns *t, struct turn *turn, uid_t uid, unsigned requests, uint64_t now_ns)
{
	struct turn *first = first_of(t, uid);

	turn_init(turn);
	turn->uid = uid;
	turn->left = requests;
	turn->user = find_user(t, uid);
	if (turn->user == NOBODY)
		turn->user = take_place(t, uid);
	t->users[turn->user].waiting += requests;
	t->users[turn->user].came_ns = now_ns;
	if (first)
		list_append(&first->line, &turn->line);
	else
		list_append(&t->round, &turn->round);
	if (uid != t->last && t->last != (uid_t)-1)
		t->shared_ns = now_ns;
	t->last = uid;
}

/* When he may go on. */
static uint64_t goes_on_ns(const struct turns_user *u, bool may_rest)
{
	const uint64_t rested_ns = may_rest && u->rests ? u->paid_ns : 0;

	return rested_ns > u->alone_ns ? rested_ns : u->alone_ns;
}

struct turn *turns_next(struct turns *t, uint64_t now_ns, bool may_rest)
{
	for (struct list *n = t->round.next; n != &t->round; n = n->next) {
		struct turn *turn = container_of(n, struct turn, round);
		struct turns_user *u = &t->users[turn->user];

		if (goes_on_ns(u, may_rest) > now_ns)
			continue;
		list_remove(n);
		list_append(&t->round, n);
		u->had = u->waiting;
		return turn;
	}
	return NULL;
}

uint64_t turns_rest_ns(const struct turns *t, uint64_t now_ns, bool may_rest)
{
	uint64_t least = UINT64_MAX;

	for (struct list *n = t->round.next; n != &t->round; n = n->next) {
		const uint64_t then = goes_on_ns(&t->users[container_of(n, struct turn, round)->user], may_rest);

		if (then <= now_ns)
			return 0;
		least = then - now_ns < least ? then - now_ns : least;
	}
	return least == UINT64_MAX ? 0 : least;
}

void turns_leave_alone(struct turns *t, uid_t uid, uint64_t until_ns)
{
	const unsigned user = find_user(t, uid);

	if (user < NOBODY)
		t->users[user].alone_ns = until_ns;
}

/* He does not rest after each turn: that would wake everybody for each. */
static void charge(struct turns_user *u, uint64_t cost_ns, uint64_t now_ns)
{
	if (u->paid_ns + TURNS_REST_NS < now_ns)
		u->paid_ns = now_ns - TURNS_REST_NS;
	u->paid_ns += cost_ns;
	if (u->paid_ns > now_ns + TURNS_DEBT_NS)
		u->paid_ns = now_ns + TURNS_DEBT_NS; /* it may have been a clock's time, and not his */
	u->rests = u->paid_ns > now_ns + TURNS_REST_NS;
}

void turns_did(struct turns *t, struct turn *turn, unsigned left)
{
	t->users[turn->user].waiting -= turn->left - left;
	turn->left = left;
}

/* The tail of a large batch makes nobody modest. The last place may be of many: one is not to pay for another. */
void turns_charge(struct turns *t, unsigned user, uint64_t took_ns, unsigned price, uint64_t now_ns)
{
	struct turns_user *u = &t->users[user];
	unsigned users;

	if (u->had > TURNS_MODEST)
		u->greedy_ns = now_ns;
	else if (!is_near(u->greedy_ns, now_ns))
		u->modest_ns = now_ns;
	if (u->had > TURNS_MODEST && user < TURNS_USERS - 1 && has_company(t, user, now_ns, &users))
		charge(u, took_ns * users * price, now_ns);
}

void turns_done(struct turns *t, struct turn *turn)
{
	turns_did(t, turn, 0);
	if (!list_empty(&turn->line) && !list_empty(&turn->round))
		list_append(&turn->round, &container_of(turn->line.next, struct turn, line)->round);
	list_remove(&turn->round);
	list_remove(&turn->line);
}

bool turns_are_shared(const struct turns *t, uint64_t now_ns)
{
	return t->shared_ns != 0 && now_ns < t->shared_ns + TURNS_LATELY_NS;
}
