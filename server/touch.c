/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/touch.h"

#include "server/closer.h"
#include "server/loop.h"
#include "server/options.h"
#include "server/os/process.h"
#include "server/stats.h"

#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
	PLACES_BITS = 22, /* users and processes may have to share one, if there are some thousands of them */
	SPINS = 64,
	YIELDS = 64,
	NAP_NS = 20000,
	HUNG_MAX = 16, /* that a worker remembers */
};

/* No touch takes longer that does not hang: tick.h ends what else a client can force, after 100 ms. */
static const uint64_t HANGS_NS = UINT64_C(150000000);

struct touches {
	struct {
		_Alignas(64) _Atomic uint32_t place; /* that it has, or is about to have, plus one; 0: none */
	} held[WORKERS_MAX];                         /* by each worker */
	_Atomic uint64_t places[1 << PLACES_BITS];   /* pid << 32 | which of its touches; 0: nobody's */
};

struct hung {
	uint32_t place;
	uint64_t holder, looked_ns; /* when it was looked whether it is only stopped */
};

/* A worker touches one thing at a time, so there is one of these. */
static struct {
	struct touches *all;
	struct shares *shares;
	struct stats *own;
	unsigned slot, depth;
	uint32_t place, count;
	uint64_t pid, self;
	unsigned next_hung;
	struct hung hung[HUNG_MAX];
} touch;

/* Memory that nobody touches takes none. */
struct touches *touches_new(void)
{
	struct touches *all =
		mmap(NULL, sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return all == MAP_FAILED ? NULL : all;
}

void touches_release(struct touches *all, unsigned slot, pid_t pid)
{
	const uint32_t place = atomic_exchange(&all->held[slot].place, 0);
	uint64_t holder;

	if (place == 0)
		return;
	holder = atomic_load(&all->places[place - 1]);
	if (holder >> 32 == (uint64_t)pid)
		atomic_compare_exchange_strong(&all->places[place - 1], &holder, 0);
}

void touch_init(struct touches *all, struct shares *shares, unsigned slot, struct stats *own)
{
	touch.all = all;
	touch.shares = shares;
	touch.slot = slot;
	touch.own = own;
	touch.pid = (uint64_t)getpid();
}

static uint32_t place_of(const struct owner *who)
{
	const bool by_process = who->pid > 0 && share_is_exempt(touch.shares, who->uid);
	const uint64_t id = by_process ? UINT64_C(1) << 32 | (uint32_t)who->pid : who->uid;
	const uint64_t group = touch.slot / TOUCH_GROUP;

	/* Fibonacci hashing: the upper bits of the product with 2^64 divided by the golden ratio. */
	return (uint32_t)(((group << 33 | id) * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - PLACES_BITS));
}

/* Somebody stopped it on its way out of the call, since in a call it could not be. */
static bool is_stopped(uint64_t holder)
{
	struct os_process_view view;

	return os_view_process((pid_t)(holder >> 32), &view) && view.is_stopped;
}

static struct hung *find_hung(uint32_t place, uint64_t holder)
{
	for (unsigned i = 0; i < HUNG_MAX; i++) {
		if (touch.hung[i].holder == holder && touch.hung[i].place == place)
			return &touch.hung[i];
	}
	return NULL;
}

static bool is_known_to_hang(uint32_t place, uint64_t holder)
{
	struct hung *h = holder != 0 ? find_hung(place, holder) : NULL;
	uint64_t now_ns;

	if (!h)
		return false;
	now_ns = clock_now_ns();
	if (now_ns - h->looked_ns < HANGS_NS)
		return true;
	h->looked_ns = now_ns;
	if (is_stopped(holder))
		h->holder = 0;
	return h->holder != 0;
}

static void remember(uint32_t place, uint64_t holder, uint64_t now_ns)
{
	touch.hung[touch.next_hung++ % HUNG_MAX] = (struct hung){place, holder, now_ns};
}

/* Whoever touches may need our processor, or be at a large piece. */
static void wait_a_moment(unsigned turn)
{
	if (turn >= SPINS + YIELDS)
		nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
	else if (turn >= SPINS)
		sched_yield();
}

/*
 * If it is held: waits until it may be free. False if whoever holds it hangs, or if with those before it there has been enough
 * of waiting. One that is stopped does no more.
 */
static bool wait_for(uint32_t place, uint64_t *holder, uint64_t *first_ns)
{
	const uint64_t found = *holder;
	uint64_t since_ns = 0, now_ns;

	if (is_known_to_hang(place, found))
		return false;
	for (unsigned turn = 0; (*holder = atomic_load(&touch.all->places[place])) == found; turn++) {
		wait_a_moment(turn);
		if (turn < SPINS)
			continue;
		now_ns = clock_now_ns();
		since_ns = since_ns != 0 ? since_ns : now_ns;
		*first_ns = *first_ns != 0 ? *first_ns : now_ns;
		if (now_ns - *first_ns <= HANGS_NS)
			continue;
		if (now_ns - since_ns <= HANGS_NS)
			return false;
		if (is_stopped(found))
			return true;
		remember(place, found, now_ns);
		return false;
	}
	*holder = 0;
	return true;
}

static bool take(uint32_t place)
{
	uint64_t holder = 0, first_ns = 0;

	touch.self = touch.pid << 32 | ++touch.count;
	while (!atomic_compare_exchange_strong(&touch.all->places[place], &holder, touch.self)) {
		if (holder != 0 && !wait_for(place, &holder, &first_ns))
			return false;
	}
	return true;
}

bool touch_begin(const struct owner *who)
{
	if (!touch.all)
		return true;
	if (touch.depth > 0) {
		touch.depth++;
		return true;
	}
	touch.place = place_of(who);
	/* Before it is taken: whoever buries us is to know of it. */
	atomic_store_explicit(&touch.all->held[touch.slot].place, touch.place + 1, memory_order_release);
	if (!take(touch.place))
		return false;
	stats_blame(touch.own, who->uid, who->pid);
	touch.depth = 1;
	return true;
}

void touch_end(void)
{
	uint64_t self = touch.self;

	/* Unless it was taken from us while we were stopped. */
	if (touch.all && --touch.depth == 0)
		atomic_compare_exchange_strong(&touch.all->places[touch.place], &self, 0);
}

bool touch_hangs(const struct owner *who)
{
	uint32_t place;

	if (!touch.all)
		return false;
	place = place_of(who);
	return is_known_to_hang(place, atomic_load_explicit(&touch.all->places[place], memory_order_relaxed));
}

void touch_close(const struct owner *who, int fd)
{
	if (fd < 0)
		return;
	if (!touch_begin(who)) {
		closer_close_later(fd);
		return;
	}
	closer_close(fd);
	touch_end();
}

void touch_close_pipe(const struct owner *who, int fd, bool has_name)
{
	if (has_name) {
		touch_close(who, fd);
		return;
	}
	if (!touch_begin(who)) {
		closer_close_later(fd);
		return;
	}
	closer_close_harmless(fd);
	touch_end();
}

void touch_settle(const struct owner *who)
{
	if (!closer_has_gathered())
		return;
	if (!touch_begin(who)) {
		closer_settle_later();
		return;
	}
	closer_settle();
	touch_end();
}
