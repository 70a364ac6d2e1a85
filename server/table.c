/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/table.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static const uint64_t RANDOM_BITS = (UINT64_C(1) << 48) - 1;

int table_init(struct table *t, uint32_t expect, unsigned slot, unsigned generation)
{
	uint32_t size = 64;

	while (size < expect && size < UINT32_C(1) << 20)
		size *= 2;
	memset(t, 0, sizeof *t);
	t->buckets = calloc(size, sizeof(*t->buckets));
	t->mask = size - 1;
	t->slot = (uint8_t)slot;
	t->generation = (uint8_t)generation;
	return t->buckets ? 0 : -1;
}

void table_free(struct table *t)
{
	free(t->buckets);
	t->buckets = NULL;
}

/* One call fills the pool for many ids; a number leaves no copy behind. */
static uint64_t draw(struct table *t)
{
	uint64_t n;

	if (t->spare == 0) {
		/* At most 256 bytes come whole once the system's source is seeded (random(7)), long before we run. */
		for (size_t at = 0; at < sizeof t->pool; at += 256) {
			if (getrandom((char *)t->pool + at, 256, 0) != 256)
				abort();
		}
		t->spare = sizeof t->pool / sizeof t->pool[0];
	}
	n = t->pool[--t->spare];
	t->pool[t->spare] = 0;
	return n & RANDOM_BITS;
}

/* The low bits are as random as any: they are the hash. */
static struct table_entry **bucket(const struct table *t, uint64_t id)
{
	return &t->buckets[id & t->mask];
}

void table_add(struct table *t, struct table_entry *e)
{
	uint64_t prefix = (uint64_t)t->slot << 56 | (uint64_t)t->generation << 48;
	struct table_entry **b;
	uint64_t n;

	do
		n = draw(t);
	while (n == 0 || table_find(t, prefix | n));
	e->id = prefix | n;
	b = bucket(t, e->id);
	e->next = *b;
	*b = e;
	t->count++;
}

void table_remove(struct table *t, struct table_entry *e)
{
	struct table_entry **at = bucket(t, e->id);

	while (*at && *at != e)
		at = &(*at)->next;
	if (*at) {
		*at = e->next;
		e->next = NULL;
		t->count--;
	}
}

struct table_entry *table_find(const struct table *t, uint64_t id)
{
	struct table_entry *e = *bucket(t, id);

	while (e && e->id != id)
		e = e->next;
	return e;
}
