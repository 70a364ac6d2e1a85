/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/shares.h"

#include "server/options.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>

enum {
	USERS = 1024, /* places; a user has one of NEIGHBOURS */
	NEIGHBOURS = 8,
	BURST_PARTS = 10, /* of a second: so much of it may come at once */
	BURST_MIN = 16,
};

static const uint64_t SECOND_NS = UINT64_C(1000000000);
static const uint64_t COUNT_EVERY_NS = UINT64_C(1000000);
static const uint64_t OTHERS_NS = UINT64_C(10000000000);

enum what { TRANSFERS, OPENS, QUEUED, WHATS };

struct held {
	_Atomic uint32_t n[WHATS];
};

struct shares {
	struct share_limits limits;
	unsigned workers;
	_Atomic uint64_t barred[SHARES_BARRED_MAX]; /* uid + 1; 0: nobody */
	_Atomic uint64_t counted_ns;                /* when users with anything were counted last, */
	_Atomic unsigned counted;                   /* and how many there were */
	_Atomic uint64_t owners[USERS];             /* uid + 1; 0: nobody */
	_Atomic uint64_t asked_ns[USERS];           /* when all requests so far should have come */
	_Atomic uint64_t came_ns[USERS];            /* when somebody asked for something, to the second */
	struct held held[WORKERS_MAX][USERS];
};

struct shares *shares_new(const struct share_limits *limits, unsigned workers)
{
	struct shares *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (s == MAP_FAILED)
		return NULL;
	s->limits = *limits;
	s->workers = workers;
	return s;
}

/* Its one writer's. */
static void add(_Atomic uint32_t *n, int change)
{
	atomic_store_explicit(
		n, atomic_load_explicit(n, memory_order_relaxed) + (uint32_t)change, memory_order_relaxed);
}

/* By all workers. */
static unsigned held_of(struct shares *s, unsigned place, enum what what)
{
	unsigned n = 0;

	for (unsigned i = 0; i < s->workers; i++)
		n += atomic_load_explicit(&s->held[i][place].n[what], memory_order_relaxed);
	return n;
}

/* ---- Places */

static bool is_free(struct shares *s, unsigned place, uint64_t now_ns)
{
	return atomic_load(&s->owners[place]) == 0 ||
	       (held_of(s, place, TRANSFERS) == 0 && held_of(s, place, QUEUED) == 0 &&
		       atomic_load(&s->asked_ns[place]) < now_ns);
}

/* If all neighbours are taken, the last one is shared: two users then have one user's share. */
static unsigned find_place(struct shares *s, uid_t uid, uint64_t now_ns)
{
	const uint64_t owner = (uint64_t)uid + 1;
	const unsigned first = (unsigned)((owner * UINT64_C(0x9e3779b97f4a7c15)) >> 32) % USERS;
	unsigned place = first;

	for (unsigned i = 0; i < NEIGHBOURS; i++) {
		place = (first + i) % USERS;
		if (atomic_load_explicit(&s->owners[place], memory_order_relaxed) == owner)
			return place;
	}
	for (unsigned i = 0; i < NEIGHBOURS; i++) {
		uint64_t old;

		place = (first + i) % USERS;
		old = atomic_load(&s->owners[place]);
		if (is_free(s, place, now_ns) && atomic_compare_exchange_strong(&s->owners[place], &old, owner))
			return place;
	}
	return place;
}

/* ---- Limits */

/* How many users have anything. Many requests ask, and it changes slowly. */
static unsigned count_users(struct shares *s, uint64_t now_ns)
{
	unsigned n = 0;

	if (atomic_load_explicit(&s->counted_ns, memory_order_relaxed) + COUNT_EVERY_NS > now_ns)
		return atomic_load_explicit(&s->counted, memory_order_relaxed);
	for (unsigned place = 0; place < USERS; place++)
		n += atomic_load_explicit(&s->owners[place], memory_order_relaxed) != 0 &&
		     held_of(s, place, TRANSFERS) > 0;
	atomic_store_explicit(&s->counted, n, memory_order_relaxed);
	atomic_store_explicit(&s->counted_ns, now_ns, memory_order_relaxed);
	return n;
}

/*
 * While more than half is free nobody is in anybody's way. Then a user and the n others that have anything may each have
 * a part of what is left, 1 / (n + 1) of it, what this one has already included.
 */
static bool leaves_enough(struct shares *s, const struct share_claim *c, unsigned has)
{
	unsigned others;

	if (c->active < c->max / 2)
		return true;
	others = count_users(s, c->now_ns);
	if (has > 0 && others > 0)
		others--;
	return ((uint64_t)has + 1) * (others + 1) <= c->max - c->active + has;
}

/* Counts a request; false if it comes too soon. */
static bool comes_in_time(struct shares *s, unsigned place, uint64_t now_ns)
{
	const uint64_t rate = s->limits.requests;
	const uint64_t burst = rate / BURST_PARTS > BURST_MIN ? rate / BURST_PARTS : BURST_MIN;
	const uint64_t each = SECOND_NS / rate, ahead = each * (burst - 1);
	uint64_t asked = atomic_load(&s->asked_ns[place]), start;

	do {
		start = asked > now_ns ? asked : now_ns;
		if (start > now_ns + ahead)
			return false;
	} while (!atomic_compare_exchange_weak(&s->asked_ns[place], &asked, start + each));
	return true;
}

bool share_is_exempt(const struct shares *s, uid_t uid)
{
	return uid == 0 || uid == s->limits.starter;
}

int share_take(struct shares *s, const struct share_claim *c, struct share *out)
{
	const unsigned place = find_place(s, c->uid, c->now_ns);
	struct held *own = &s->held[c->slot][place];
	const unsigned has = held_of(s, place, TRANSFERS);

	if (!share_is_exempt(s, c->uid)) {
		if (s->limits.requests > 0 && !comes_in_time(s, place, c->now_ns))
			return EDQUOT;
		if (has >= s->limits.transfers || (c->is_open && held_of(s, place, OPENS) >= s->limits.opens) ||
			!leaves_enough(s, c, has))
			return EDQUOT;
	}
	add(&own->n[TRANSFERS], 1);
	if (has == 0)
		atomic_store_explicit(&s->counted_ns, 0, memory_order_relaxed); /* it is one more now */
	if (c->is_open)
		add(&own->n[OPENS], 1);
	*out = (struct share){.place = place, .is_open = c->is_open};
	return 0;
}

void share_sent(struct shares *s, unsigned slot, struct share *share)
{
	if (share->is_open)
		add(&s->held[slot][share->place].n[OPENS], -1);
	share->is_open = false;
}

void share_give_back(struct shares *s, unsigned slot, struct share *share)
{
	share_sent(s, slot, share);
	add(&s->held[slot][share->place].n[TRANSFERS], -1);
}

/* Seldom, for all workers read it. */
static void note_coming(struct shares *s, unsigned place, uint64_t now_ns)
{
	if (now_ns >= atomic_load_explicit(&s->came_ns[place], memory_order_relaxed) + SECOND_NS)
		atomic_store_explicit(&s->came_ns[place], now_ns, memory_order_relaxed);
}

int share_queue(struct shares *s, unsigned slot, uid_t uid, unsigned n, uint64_t now_ns, unsigned *place)
{
	*place = find_place(s, uid, now_ns);
	note_coming(s, *place, now_ns);
	if (!share_is_exempt(s, uid) && held_of(s, *place, QUEUED) + n > s->limits.queued)
		return EDQUOT;
	add(&s->held[slot][*place].n[QUEUED], (int)n);
	return 0;
}

bool shares_have_others(struct shares *s, uid_t uid, uint64_t now_ns)
{
	for (unsigned place = 0; place < USERS; place++) {
		const uint64_t owner = atomic_load_explicit(&s->owners[place], memory_order_relaxed);
		const uint64_t came = atomic_load_explicit(&s->came_ns[place], memory_order_relaxed);

		if (owner != 0 && owner != (uint64_t)uid + 1 && came != 0 && now_ns < came + OTHERS_NS)
			return true;
	}
	return false;
}

void share_unqueue(struct shares *s, unsigned slot, unsigned place, unsigned n)
{
	add(&s->held[slot][place].n[QUEUED], -(int)n);
}

void shares_bury(struct shares *s, unsigned slot)
{
	for (unsigned place = 0; place < USERS; place++) {
		for (unsigned what = 0; what < WHATS; what++)
			atomic_store_explicit(&s->held[slot][place].n[what], 0, memory_order_relaxed);
	}
}

void shares_bar(struct shares *s, const uid_t *uids, unsigned n)
{
	for (unsigned i = 0; i < SHARES_BARRED_MAX; i++)
		atomic_store(&s->barred[i], i < n ? (uint64_t)uids[i] + 1 : 0);
}

bool share_is_barred(struct shares *s, uid_t uid)
{
	for (unsigned i = 0; i < SHARES_BARRED_MAX; i++) {
		if (atomic_load_explicit(&s->barred[i], memory_order_relaxed) == (uint64_t)uid + 1)
			return !share_is_exempt(s, uid);
	}
	return false;
}
