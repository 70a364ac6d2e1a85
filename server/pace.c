/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/pace.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>

enum {
	PORTION_MS = 20, /* is moved at a time; and who comes too late */
	LATE_MS = 25,    /* may catch up so much: both together are less than 5 % of a second */
	USER_PORTION_MAX = 1024 * 1024,
	USERS = 1024, /* places; a user has one of NEIGHBOURS */
	NEIGHBOURS = 8,
};

static const uint64_t SECOND_NS = UINT64_C(1000000000), MS_NS = UINT64_C(1000000);

/* Faster than any machine: no limit. (Up to it, a portion's product with SECOND_NS has 64 bits.) */
static const uint64_t RATE_MAX = UINT64_C(100000000000);

/* `done_ns` is as a transfer's. A place is free for another user once that lies back. */
struct user_pace {
	_Atomic uint64_t owner; /* uid + 1; 0: nobody */
	_Atomic uint64_t done_ns;
};

struct user_paces {
	uint64_t rate;
	struct user_pace users[USERS];
};

struct user_paces *user_paces_new(uint64_t rate)
{
	struct user_paces *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (s == MAP_FAILED)
		return NULL;
	s->rate = rate < RATE_MAX ? rate : RATE_MAX;
	return s;
}

static uint64_t portion_of(uint64_t rate)
{
	uint64_t n = rate / (1000 / PORTION_MS);

	return n > 0 ? n : 1;
}

/* How long that many bytes take, rounded up. */
static uint64_t time_of(uint64_t bytes, uint64_t rate)
{
	return (bytes * SECOND_NS + rate - 1) / rate;
}

/* From when on time that was not used is made up for. (A portion of less than a byte does not become one otherwise.) */
static uint64_t horizon(uint64_t now_ns, uint64_t rate)
{
	const uint64_t back = time_of(portion_of(rate), rate) + LATE_MS * MS_NS;

	return now_ns > back ? now_ns - back : 0;
}

/* ---- Users */

static bool is_idle(const struct user_paces *s, struct user_pace *u, uint64_t now_ns)
{
	return atomic_load(&u->done_ns) < horizon(now_ns, s->rate);
}

/* If all neighbours are taken, the last one is shared: two users then have one user's rate. */
static struct user_pace *find_user(struct user_paces *s, uid_t uid, uint64_t now_ns)
{
	const uint64_t owner = (uint64_t)uid + 1;
	const unsigned first = (unsigned)((owner * UINT64_C(0x9e3779b97f4a7c15)) >> 32) % USERS;
	struct user_pace *u = NULL;

	for (unsigned i = 0; i < NEIGHBOURS; i++) {
		u = &s->users[(first + i) % USERS];
		if (atomic_load(&u->owner) == owner)
			return u;
	}
	for (unsigned i = 0; i < NEIGHBOURS; i++) {
		uint64_t old;

		u = &s->users[(first + i) % USERS];
		old = atomic_load(&u->owner);
		if ((old == 0 || is_idle(s, u, now_ns)) && atomic_compare_exchange_strong(&u->owner, &old, owner))
			return u;
	}
	return u;
}

/* In turn: who asks next is granted what comes next. When the bytes may be moved. */
static uint64_t reserve(struct user_paces *s, uid_t uid, uint64_t bytes, uint64_t now_ns)
{
	struct user_pace *u = find_user(s, uid, now_ns);
	uint64_t done = atomic_load(&u->done_ns), start;

	do
		start = done > horizon(now_ns, s->rate) ? done : horizon(now_ns, s->rate);
	while (!atomic_compare_exchange_weak(&u->done_ns, &done, start + time_of(bytes, s->rate)));
	/* A portion that is complete at that time is due then; the one that begins there is not. */
	return start + time_of(bytes, s->rate);
}

static uint64_t user_portion(const struct user_paces *s)
{
	const uint64_t n = portion_of(s->rate);

	return n < USER_PORTION_MAX ? n : USER_PORTION_MAX;
}

/* ---- Transfers */

void pace_init(struct pace *p, uint64_t rate, struct user_paces *users, uid_t uid, uint64_t now_ns)
{
	*p = (struct pace){
		.rate = rate < RATE_MAX ? rate : 0,
		.users = users,
		.uid = uid,
		.done_ns = now_ns - PORTION_MS * MS_NS, /* it begins with a portion */
	};
}

static uint64_t own_share(struct pace *p, uint64_t left, uint64_t now_ns)
{
	uint64_t portion, most;

	if (p->rate == 0)
		return left;
	portion = portion_of(p->rate);
	if (p->done_ns < horizon(now_ns, p->rate))
		p->done_ns = horizon(now_ns, p->rate);
	if (portion > left)
		portion = left;
	p->next_ns = p->done_ns + time_of(portion, p->rate);
	if (p->next_ns > now_ns)
		return 0;
	most = (now_ns - p->done_ns) * p->rate / SECOND_NS;
	return most < left ? most : left;
}

uint64_t pace_allows(struct pace *p, uint64_t left, uint64_t now_ns)
{
	uint64_t n = own_share(p, left, now_ns);

	if (n == 0 || !p->users)
		return n;
	if (p->granted == 0) {
		p->granted = n < user_portion(p->users) ? n : user_portion(p->users);
		p->granted_ns = reserve(p->users, p->uid, p->granted, now_ns);
	}
	if (p->granted_ns > now_ns) {
		p->next_ns = p->granted_ns;
		return 0;
	}
	return n < p->granted ? n : p->granted;
}

uint64_t pace_rate(const struct pace *p)
{
	if (!p->users)
		return p->rate > 0 ? p->rate : RATE_MAX;
	return p->rate > 0 && p->rate < p->users->rate ? p->rate : p->users->rate;
}

uint64_t pace_portion(const struct pace *p)
{
	return portion_of(pace_rate(p));
}

void pace_moved(struct pace *p, uint64_t n)
{
	if (p->rate > 0)
		p->done_ns += time_of(n, p->rate);
	p->granted -= n < p->granted ? n : p->granted;
}
