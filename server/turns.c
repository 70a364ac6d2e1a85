/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/turns.h"

#include <stddef.h>

void turns_init(struct turns *t)
{
	*t = (struct turns){.last = (uid_t)-1};
	list_init(&t->round);
}

static struct turn *first_of(const struct turns *t, uid_t uid)
{
	for (struct list *n = t->round.next; n != &t->round; n = n->next) {
		if (container_of(n, struct turn, round)->uid == uid)
			return container_of(n, struct turn, round);
	}
	return NULL;
}

void turns_add(struct turns *t, struct turn *turn, uid_t uid, uint64_t now_ns)
{
	struct turn *first = first_of(t, uid);

	turn->uid = uid;
	turn_init(turn);
	if (first)
		list_append(&first->line, &turn->line);
	else
		list_append(&t->round, &turn->round);
	if (uid != t->last && t->last != (uid_t)-1)
		t->shared_ns = now_ns;
	t->last = uid;
}

struct turn *turns_next(struct turns *t)
{
	struct list *n = t->round.next;

	if (list_empty(&t->round))
		return NULL;
	list_remove(n);
	list_append(&t->round, n);
	return container_of(n, struct turn, round);
}

void turns_done(struct turn *turn)
{
	if (!list_empty(&turn->line) && !list_empty(&turn->round))
		list_append(&turn->round, &container_of(turn->line.next, struct turn, line)->round);
	list_remove(&turn->round);
	list_remove(&turn->line);
}

bool turns_are_shared(const struct turns *t, uint64_t now_ns)
{
	return t->shared_ns != 0 && now_ns < t->shared_ns + TURNS_LATELY_NS;
}
