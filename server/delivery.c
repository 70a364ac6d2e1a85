/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/delivery.h"

#include <stdlib.h>
#include <string.h>

enum { MOVED_MAX = 16 * 1024 * 1024 };

int deliveries_init(struct deliveries *all, struct journal_pen *pen, unsigned transfers)
{
	*all = (struct deliveries){.pen = pen, .all = calloc(JOURNAL_SLOTS, sizeof *all->all), .transfers = transfers};
	if (!all->all)
		return -1;
	for (unsigned i = 0; i < JOURNAL_SLOTS; i++)
		all->free[i] = i;
	return 0;
}

/* The slot that was given back last is the next to be used: it is in the caches. */
static void free_slot(struct deliveries *all, struct delivery *d)
{
	journal_forget_datagram(all->pen, d->m.len);
	all->free[--all->used] = (unsigned)(d - all->all);
}

struct delivery *delivery_receive(struct deliveries *all, int sock)
{
	struct journal_pen *pen = all->pen;
	struct delivery *d;

	if (all->used == JOURNAL_SLOTS)
		return NULL;
	d = &all->all[all->free[all->used]];
	journal_use_slot(pen, (unsigned)(d - all->all));
	if (fdpass_receive_into(sock, journal_datagram(pen), WIRE_DATAGRAM_MAX, journal_control(pen), &d->m) < 0)
		return NULL;
	all->used++;
	all->waiting++;
	all->fds += fdpass_count(&d->m);
	d->h = (struct wire_header){.count = 0};
	d->c = NULL;
	d->moved = NULL;
	d->lines = 0;
	d->is_begun = d->is_too_much = false;
	return d;
}

/* ---- Moved ones: the struct, its lines' numbers, its bytes, in one piece of memory */

static size_t moved_size(const struct delivery *d, unsigned lines)
{
	return sizeof *d + lines * sizeof *d->line + d->m.len;
}

static void strike_lines(struct deliveries *all, struct delivery *d)
{
	for (unsigned i = 0; i < d->lines; i++)
		journal_strike(all->pen, d->line[i]);
}

/*
 * A line says no more than: a queue's request, of that tag. Of a one-request call the journal need not know at all: if the worker
 * dies the end of its channel tells. But a second message is one of somebody's transfer, and a cancel ends something.
 */
static bool may_move(const struct deliveries *all, const struct delivery *d)
{
	struct wire_cursor cursor;
	struct wire_request r;

	wire_cursor_init(&cursor, journal_datagram(all->pen), d->m.len, &d->h);
	while (cursor.count > 0) {
		if (wire_next(&cursor, &r) != 0 || r.op == WIRE_OP_SEND_OPEN || r.op == WIRE_OP_CANCEL ||
			r.op == WIRE_OP_REGISTER)
			return false;
	}
	return true;
}

static bool note_lines(struct deliveries *all, struct delivery *moved)
{
	struct wire_cursor cursor;
	struct wire_request r;

	if (journal_left(all->pen) < moved->lines + all->transfers)
		return false;
	wire_cursor_init(&cursor, journal_datagram(all->pen), moved->m.len, &moved->h);
	for (unsigned i = 0; i < moved->lines && wire_next(&cursor, &r) == 0; i++)
		moved->line[i] = journal_note_request(all->pen, moved->h.queue_id, r.tag);
	return true;
}

struct delivery *delivery_move(struct deliveries *all, struct delivery *d, bool is_of_queue)
{
	const unsigned lines = is_of_queue ? d->h.count : 0;
	const size_t size = moved_size(d, lines);
	struct delivery *moved;

	if ((!is_of_queue && d->h.channel != WIRE_CHANNEL_FD) || !may_move(all, d) ||
		all->moved_bytes + size > MOVED_MAX)
		return d;
	moved = malloc(size);
	if (!moved)
		return d;
	*moved = *d;
	moved->line = (uint32_t *)(void *)(moved + 1);
	moved->lines = lines;
	moved->moved = moved->line + lines;
	if (lines > 0 && !note_lines(all, moved)) {
		free(moved);
		return d;
	}
	memcpy(moved->line + lines, journal_datagram(all->pen), d->m.len);
	free_slot(all, d);
	all->moved_bytes += size;
	return moved;
}

void delivery_forget(struct deliveries *all, struct delivery *d)
{
	all->waiting--;
	if (!d->moved) {
		free_slot(all, d);
		return;
	}
	strike_lines(all, d);
	all->moved_bytes -= moved_size(d, d->lines);
	free(d);
}

/* ---- In hand */

void delivery_take_in_hand(struct deliveries *all, const struct delivery *d)
{
	if (!d->moved)
		journal_use_slot(all->pen, (unsigned)(d - all->all));
}

const void *delivery_bytes(const struct deliveries *all, const struct delivery *d)
{
	return d->moved ? d->moved : journal_datagram(all->pen);
}

void delivery_at_request(struct deliveries *all, const struct delivery *d, unsigned i)
{
	if (!d->moved)
		journal_turn_request(all->pen, i);
	else
		journal_turn(all->pen, i < d->lines ? d->line[i] : JOURNAL_NONE);
}
