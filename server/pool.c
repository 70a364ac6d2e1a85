/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/pool.h"

#include "server/options.h"

#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>

enum phase { EMPTY, WANTED, IDLE, OFFERED, BUSY, LEAVING, STUCK };

enum { OFFER_NS = 1000 * 1000 * 1000 }; /* whoever does not take up an offer within that time does not want it */

struct slot {
	_Alignas(64) _Atomic uint64_t word; /* phase, worker, seq */
	_Atomic uint64_t since_ns;          /* of the last OFFERED or BUSY */
	_Atomic uint64_t device;            /* while BUSY */
	_Atomic uint32_t uid;
	_Atomic uint32_t deaths;
};

struct pools {
	unsigned readers, per_device, places;
	_Atomic uint32_t waiting[POOL_KINDS][WORKERS_MAX];
	struct slot slots[]; /* kind by kind */
};

static uint64_t pack(enum phase phase, unsigned worker, uint32_t seq)
{
	return (uint64_t)phase << 56 | (uint64_t)worker << 32 | seq;
}

static enum phase phase_of(uint64_t word)
{
	return (enum phase)(word >> 56);
}

static unsigned worker_of(uint64_t word)
{
	return (unsigned)(word >> 32) & 0xff;
}

static uint32_t seq_of(uint64_t word)
{
	return (uint32_t)word;
}

static struct slot *slot_at(struct pools *p, enum pool_kind kind, unsigned index)
{
	return &p->slots[(unsigned)kind * p->places + index];
}

static bool change(struct slot *s, uint64_t from, uint64_t to)
{
	return atomic_compare_exchange_strong(&s->word, &from, to);
}

struct pools *pools_new(unsigned readers, unsigned per_device)
{
	unsigned places = readers * POOL_PLACES;
	size_t size = sizeof(struct pools) + (size_t)POOL_KINDS * places * sizeof(struct slot);
	struct pools *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	p->readers = readers;
	p->per_device = per_device;
	p->places = places;
	return p;
}

unsigned pools_places(const struct pools *p)
{
	return p->places;
}

/* ---- The rules */

const uint64_t pool_overdue_ns = UINT64_C(100000000);

/* Those at work, and those that are overdue or stuck: in all, for that device, and for that uid. */
struct tally {
	unsigned busy, device, uid;
	unsigned lost, lost_device, lost_uid;
	unsigned overdue_device;
};

static bool is_overdue(struct slot *s, uint64_t now_ns)
{
	return atomic_load(&s->since_ns) + pool_overdue_ns < now_ns;
}

static struct tally count(struct pools *p, enum pool_kind kind, const struct pool_use *use, uint64_t now_ns)
{
	struct tally t = {0};

	for (unsigned i = 0; i < p->places; i++) {
		struct slot *s = slot_at(p, kind, i);
		enum phase phase = phase_of(atomic_load(&s->word));
		bool same_device = atomic_load(&s->device) == use->device, same_uid = atomic_load(&s->uid) == use->uid;

		if (phase == STUCK || (phase == BUSY && is_overdue(s, now_ns))) {
			t.lost++;
			t.lost_device += same_device;
			t.lost_uid += same_uid;
			t.overdue_device += same_device && phase == BUSY;
		} else if (phase == BUSY) {
			t.busy++;
			t.device += same_device;
			t.uid += same_uid;
		}
	}
	return t;
}

/*
 * A device that has lost some may have no more while that would leave the uid, or all others, too few places. (One that has
 * lost none may hang too, so what is left to it are as many as it could lose.)
 */
static bool leaves_places(const struct pools *p, struct tally t, unsigned half)
{
	unsigned of_device = t.device + t.lost_device, of_uid = t.uid + t.lost_uid, most = POOL_PLACES * half;

	if (of_uid >= most)
		return false;
	return t.lost_device == 0 ||
	       (t.lost < p->readers && of_device < 2 * p->per_device && of_device < most - of_uid);
}

/* Whether the counts allow one more. */
static bool allowed(const struct pools *p, struct tally t)
{
	unsigned half = p->readers > 1 ? p->readers / 2 : 1;
	unsigned room;

	if (t.device + t.overdue_device >= p->per_device || t.uid >= half || t.busy >= p->readers)
		return false;
	if (!leaves_places(p, t, half))
		return false;
	room = half - t.uid;
	if (p->readers - t.busy < room)
		room = p->readers - t.busy;
	return t.device < room;
}

bool pool_has_room(struct pools *p, enum pool_kind kind, const struct pool_use *use, uint64_t now_ns)
{
	return allowed(p, count(p, kind, use, now_ns));
}

/*
 * Makes a place BUSY and counts again, since another worker may have done the same at the same moment; then one of them, or
 * both, let go.
 */
static bool occupy(struct pools *p, enum pool_kind kind, unsigned index, uint64_t from, unsigned worker,
	const struct pool_use *use, uint64_t now_ns, uint32_t *seq)
{
	struct slot *s = slot_at(p, kind, index);
	const uint64_t mine = pack(BUSY, worker, seq_of(from) + 1);
	struct tally t;

	atomic_store(&s->since_ns, now_ns); /* before it can be seen as under way */
	if (!change(s, from, mine))
		return false;
	atomic_store(&s->device, use->device);
	atomic_store(&s->uid, use->uid);
	t = count(p, kind, use, now_ns);
	t.busy--; /* without ourselves */
	t.device--;
	t.uid--;
	if (allowed(p, t)) {
		*seq = seq_of(mine);
		return true;
	}
	change(s, mine, pack(phase_of(from), worker_of(from), seq_of(from)));
	return false;
}

/* ---- Workers */

bool pool_take(struct pools *p, enum pool_kind kind, unsigned worker, const struct pool_use *use, uint64_t now_ns,
	struct place *out)
{
	for (unsigned i = 0; i < p->places; i++) {
		uint64_t word = atomic_load(&slot_at(p, kind, i)->word);

		if (phase_of(word) != IDLE)
			continue;
		*out = (struct place){.kind = kind, .index = i};
		if (occupy(p, kind, i, word, worker, use, now_ns, &out->seq))
			return true;
	}
	return false;
}

bool pool_accept(struct pools *p, struct place *place, unsigned worker, const struct pool_use *use, uint64_t now_ns)
{
	const uint64_t offered = pack(OFFERED, worker, place->seq);

	return occupy(p, place->kind, place->index, offered, worker, use, now_ns, &place->seq);
}

bool pool_is_offered(struct pools *p, const struct place *place, unsigned worker)
{
	return atomic_load(&slot_at(p, place->kind, place->index)->word) == pack(OFFERED, worker, place->seq);
}

bool pool_want(struct pools *p, enum pool_kind kind, uint64_t now_ns)
{
	struct slot *empty = NULL;
	unsigned live = 0;
	uint64_t word;

	for (unsigned i = 0; i < p->places; i++) {
		struct slot *s = slot_at(p, kind, i);
		enum phase phase = phase_of(atomic_load(&s->word));

		if (phase == WANTED)
			return false;
		if (phase == EMPTY && !empty)
			empty = s;
		live += phase == IDLE || phase == OFFERED || (phase == BUSY && !is_overdue(s, now_ns));
	}
	if (live >= p->readers || !empty)
		return false;
	word = atomic_load(&empty->word);
	return phase_of(word) == EMPTY && change(empty, word, pack(WANTED, 0, seq_of(word)));
}

void pool_set_waiting(struct pools *p, enum pool_kind kind, unsigned worker, unsigned jobs)
{
	atomic_store(&p->waiting[kind][worker], jobs);
}

uint32_t pool_deaths(struct pools *p, enum pool_kind kind, unsigned index)
{
	return atomic_load(&slot_at(p, kind, index)->deaths);
}

bool pool_is_sick(struct pools *p, uint64_t device, uint64_t now_ns)
{
	for (unsigned i = 0; i < POOL_KINDS * p->places; i++) {
		struct slot *s = &p->slots[i];
		const uint32_t phase = phase_of(atomic_load_explicit(&s->word, memory_order_relaxed));

		/* One that is stuck is still in the kernel: nothing says that its device is well again. */
		if ((phase == BUSY || phase == STUCK) && atomic_load(&s->device) == device && is_overdue(s, now_ns))
			return true;
	}
	return false;
}

/* ---- Handing on */

static int next_waiting(struct pools *p, enum pool_kind kind, unsigned after, unsigned hops)
{
	for (unsigned i = 1; i <= hops && i <= WORKERS_MAX; i++) {
		unsigned worker = (after + i) % WORKERS_MAX;

		if (atomic_load(&p->waiting[kind][worker]) > 0)
			return (int)worker;
	}
	return -1;
}

int pool_hand_on(struct pools *p, struct place *place, unsigned after, unsigned hops, uint64_t now_ns, bool *lost)
{
	struct slot *s = slot_at(p, place->kind, place->index);
	uint64_t word = atomic_load(&s->word);

	*lost = seq_of(word) != place->seq || (phase_of(word) != BUSY && phase_of(word) != OFFERED);
	for (bool first = true; !*lost; first = false) {
		int worker = next_waiting(p, place->kind, after, hops);
		uint64_t next =
			worker >= 0 ? pack(OFFERED, (unsigned)worker, place->seq + 1) : pack(IDLE, 0, place->seq + 1);

		atomic_store(&s->since_ns, now_ns);
		if (!change(s, word, next)) {
			*lost = first; /* later it is idle, and whoever was quick has taken it */
			return -1;
		}
		place->seq++;
		word = next;
		/* A job that was queued after we looked, and before its worker could see us idle, would wait in vain. */
		if (worker >= 0 || next_waiting(p, place->kind, after, hops) < 0)
			return worker;
	}
	return -1;
}

/* ---- Helpers */

bool pool_is_busy(struct pools *p, const struct place *place)
{
	uint64_t word = atomic_load(&slot_at(p, place->kind, place->index)->word);

	return phase_of(word) == BUSY && seq_of(word) == place->seq;
}

bool pool_arrive(struct pools *p, struct place *place, uint64_t now_ns)
{
	struct slot *s = slot_at(p, place->kind, place->index);
	uint64_t word = atomic_load(&s->word);

	atomic_store(&s->since_ns, now_ns);
	atomic_store(&s->device, 0);
	atomic_store(&s->uid, UINT32_MAX);
	place->seq = seq_of(word) + 1;
	return phase_of(word) == WANTED && change(s, word, pack(BUSY, WORKERS_MAX, place->seq));
}

bool pool_leave(struct pools *p, enum pool_kind kind, unsigned index)
{
	struct slot *s = slot_at(p, kind, index);
	uint64_t word = atomic_load(&s->word);

	return phase_of(word) == IDLE && change(s, word, pack(LEAVING, 0, seq_of(word)));
}

/* ---- The master */

bool pool_is_wanted(struct pools *p, enum pool_kind kind, unsigned index)
{
	return phase_of(atomic_load(&slot_at(p, kind, index)->word)) == WANTED;
}

void pool_clear(struct pools *p, enum pool_kind kind, unsigned index)
{
	struct slot *s = slot_at(p, kind, index);
	uint64_t word = atomic_load(&s->word);

	/* What is still said of its job must not be taken for what is said of a later one: seq goes on. */
	while (!atomic_compare_exchange_weak(&s->word, &word, pack(EMPTY, 0, seq_of(word) + 1)))
		;
	atomic_fetch_add(&s->deaths, 1);
}

void pool_renew(struct pools *p, enum pool_kind kind, unsigned index)
{
	struct slot *s = slot_at(p, kind, index);
	uint64_t word = atomic_load(&s->word);

	if (phase_of(word) == EMPTY)
		change(s, word, pack(WANTED, 0, seq_of(word)));
}

bool pool_check_stuck(struct pools *p, enum pool_kind kind, unsigned index, uint64_t now_ns, uint64_t ns)
{
	struct slot *s = slot_at(p, kind, index);
	uint64_t word = atomic_load(&s->word);
	uint64_t since = atomic_load(&s->since_ns);

	if (phase_of(word) == OFFERED && since + OFFER_NS < now_ns)
		change(s, word, pack(IDLE, 0, seq_of(word) + 1));
	if (phase_of(word) != BUSY || ns == 0 || since + ns >= now_ns)
		return false;
	return change(s, word, pack(STUCK, worker_of(word), seq_of(word)));
}

unsigned pool_stuck(struct pools *p, enum pool_kind kind)
{
	unsigned n = 0;

	for (unsigned i = 0; i < p->places; i++)
		n += phase_of(atomic_load(&slot_at(p, kind, i)->word)) == STUCK;
	return n;
}

bool pool_worker_died(struct pools *p, enum pool_kind kind, unsigned index, unsigned worker, uint32_t *seq)
{
	struct slot *s = slot_at(p, kind, index);
	uint64_t word = atomic_load(&s->word);

	atomic_store(&p->waiting[kind][worker], 0);
	if (worker_of(word) != worker)
		return false;
	if (phase_of(word) == OFFERED)
		change(s, word, pack(IDLE, 0, seq_of(word) + 1));
	*seq = seq_of(word);
	return phase_of(word) == BUSY;
}
