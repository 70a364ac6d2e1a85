/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Ids and the table that finds what they name.
 *
 * An id holds the slot (8 bits) and the generation (8 bits) of the worker that made it, so that any worker knows whom to
 * pass a message on to, and 48 bits from the system's random source, so that nobody can guess it. It is never 0 and never
 * that of another entry in the table.
 */
#ifndef SFD_TABLE_H
#define SFD_TABLE_H

#include <stdint.h>

struct table_entry {
	uint64_t id;
	struct table_entry *next;
};

struct table {
	struct table_entry **buckets;
	uint32_t mask;
	uint32_t count;
	uint8_t slot, generation;
	unsigned spare; /* random numbers left in the pool */
	uint64_t pool[64];
};

static inline unsigned id_slot(uint64_t id)
{
	return (unsigned)(id >> 56);
}

static inline unsigned id_generation(uint64_t id)
{
	return (unsigned)(id >> 48) & 0xff;
}

/* A table that works best with up to `expect` entries. 0, or -1 and ENOMEM. */
int table_init(struct table *t, uint32_t expect, unsigned slot, unsigned generation);
void table_free(struct table *t);

/* Gives the entry an id of its own and adds it. Dies if the system has no random numbers (it never blocks for them). */
void table_add(struct table *t, struct table_entry *e);
void table_remove(struct table *t, struct table_entry *e);

/* The entry whose whole id this is, or NULL. */
struct table_entry *table_find(const struct table *t, uint64_t id);

#endif
