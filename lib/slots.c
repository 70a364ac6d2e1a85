/* SPDX-License-Identifier: BSD-2-Clause */
#include "slots.h"

#include <string.h>

/* Chains: at least two. */
static unsigned bits_for(uint32_t n)
{
	unsigned bits = 1;

	while (UINT32_C(1) << bits < n)
		bits++;
	return bits;
}

static uint32_t round_up(uint32_t n)
{
	return UINT32_C(1) << bits_for(n);
}

size_t slots_bytes(uint32_t depth)
{
	return depth * sizeof(struct slot) + 2 * (size_t)round_up(depth) * sizeof(uint32_t);
}

void slots_init(struct slots *s, uint32_t depth, void *memory)
{
	const uint32_t size = round_up(depth);

	*s = (struct slots){
		.all = memory,
		.depth = depth,
		.shift = 64 - bits_for(depth),
		.free = 0,
		.over_first = SLOT_NONE,
		.over_last = SLOT_NONE,
	};
	s->by_data = (uint32_t *)(s->all + depth);
	s->by_txn = s->by_data + size;
	memset(s->all, 0, depth * sizeof *s->all);
	memset(s->by_data, 0xff, 2 * (size_t)size * sizeof(uint32_t)); /* SLOT_NONE, all of them */
	for (uint32_t i = 0; i < depth; i++)
		s->all[i].next = i + 1 < depth ? i + 1 : SLOT_NONE;
}

/* Pointers and small numbers alike: the highest bits of the product depend on all of them. */
static uint32_t hash(const struct slots *s, uint64_t n)
{
	return (uint32_t)(n * UINT64_C(0x9e3779b97f4a7c15) >> s->shift);
}

uint32_t slots_take(struct slots *s, uint64_t user_data)
{
	uint32_t i = s->free, *chain = &s->by_data[hash(s, user_data)];
	struct slot *slot;

	if (i == SLOT_NONE)
		return SLOT_NONE;
	slot = &s->all[i];
	s->free = slot->next;
	s->used++;
	*slot = (struct slot){
		.user_data = user_data,
		.generation = slot->generation,
		.next = SLOT_NONE,
		.next_in_data = *chain,
		.prev_in_data = SLOT_NONE,
		.next_in_txn = SLOT_NONE,
		.state = SLOT_STAGED,
	};
	if (*chain != SLOT_NONE)
		s->all[*chain].prev_in_data = i;
	*chain = i;
	return i;
}

void slots_give_back(struct slots *s, uint32_t i)
{
	struct slot *slot = &s->all[i];

	slots_unopen(s, i);
	if (slot->prev_in_data == SLOT_NONE)
		s->by_data[hash(s, slot->user_data)] = slot->next_in_data;
	else
		s->all[slot->prev_in_data].next_in_data = slot->next_in_data;
	if (slot->next_in_data != SLOT_NONE)
		s->all[slot->next_in_data].prev_in_data = slot->prev_in_data;
	slot->generation++;
	slot->state = SLOT_FREE;
	slot->next = s->free;
	s->free = i;
	s->used--;
}

uint64_t slots_tag(const struct slots *s, uint32_t i)
{
	return (uint64_t)s->all[i].generation << 32 | i;
}

uint32_t slots_find_tag(const struct slots *s, uint64_t tag)
{
	uint32_t i = (uint32_t)tag;

	if (i >= s->depth || s->all[i].generation != tag >> 32)
		return SLOT_NONE;
	return s->all[i].state == SLOT_SENT ? i : SLOT_NONE;
}

static uint32_t first_with(const struct slots *s, uint32_t i, uint64_t user_data)
{
	while (i != SLOT_NONE && s->all[i].user_data != user_data)
		i = s->all[i].next_in_data;
	return i;
}

uint32_t slots_find_data(const struct slots *s, uint64_t user_data)
{
	return first_with(s, s->by_data[hash(s, user_data)], user_data);
}

uint32_t slots_next_data(const struct slots *s, uint32_t i)
{
	return first_with(s, s->all[i].next_in_data, s->all[i].user_data);
}

void slots_open(struct slots *s, uint32_t i, uint64_t txnid)
{
	uint32_t *chain = &s->by_txn[hash(s, txnid)];

	slots_unopen(s, i);
	s->all[i].txnid = txnid;
	s->all[i].next_in_txn = *chain;
	*chain = i;
}

void slots_unopen(struct slots *s, uint32_t i)
{
	struct slot *slot = &s->all[i];
	uint32_t *at;

	if (slot->txnid == 0)
		return;
	at = &s->by_txn[hash(s, slot->txnid)];
	while (*at != i)
		at = &s->all[*at].next_in_txn;
	*at = slot->next_in_txn;
	slot->txnid = 0;
}

uint32_t slots_find_txn(const struct slots *s, uint64_t txnid)
{
	uint32_t i = txnid == 0 ? SLOT_NONE : s->by_txn[hash(s, txnid)];

	while (i != SLOT_NONE && s->all[i].txnid != txnid)
		i = s->all[i].next_in_txn;
	return i;
}

void slots_end(struct slots *s, uint32_t i, int stat)
{
	struct slot *slot = &s->all[i];

	slots_unopen(s, i);
	slot->state = SLOT_OVER;
	slot->stat = stat;
	slot->next = SLOT_NONE;
	if (s->over_last == SLOT_NONE)
		s->over_first = i;
	else
		s->all[s->over_last].next = i;
	s->over_last = i;
}

uint32_t slots_next_over(struct slots *s)
{
	uint32_t i = s->over_first;

	if (i == SLOT_NONE)
		return SLOT_NONE;
	s->over_first = s->all[i].next;
	if (s->over_first == SLOT_NONE)
		s->over_last = SLOT_NONE;
	return i;
}
