/* SPDX-License-Identifier: BSD-2-Clause */
#include "stage.h"

#include <errno.h>
#include <string.h>

enum {
	BYTES_PER_REQUEST = 192, /* the fixed part and a path of usual length */
	BYTES_MIN = 64 * 1024,
};

static uint32_t bytes_room(uint32_t depth)
{
	const uint32_t n = depth * BYTES_PER_REQUEST;

	return n < BYTES_MIN ? BYTES_MIN : n;
}

/* Those that were dropped take a place too until the line is put together. */
static uint32_t line_room(uint32_t depth)
{
	return 2 * depth + WIRE_COUNT_MAX;
}

size_t stage_bytes(uint32_t depth)
{
	return bytes_room(depth) + line_room(depth) * sizeof(struct staged);
}

void stage_init(struct stage *s, uint32_t depth, struct slots *slots, void *memory)
{
	*s = (struct stage){
		.bytes = memory,
		.slots = slots,
		.bytes_room = bytes_room(depth),
		.line_room = line_room(depth),
	};
	s->line = (struct staged *)(void *)(s->bytes + s->bytes_room);
}

static uint32_t bytes_end(const struct stage *s)
{
	return s->last == s->first ? 0 : s->line[s->last - 1].at + s->line[s->last - 1].size;
}

/* Moves what is live to the front. */
static void put_together(struct stage *s)
{
	uint32_t n = 0, at = 0;

	for (uint32_t i = s->first; i < s->last; i++) {
		struct staged e = s->line[i];

		if (e.dropped)
			continue;
		memmove(s->bytes + at, s->bytes + e.at, e.size);
		e.at = at;
		at += e.size;
		s->slots->all[e.slot].staged = n;
		s->line[n++] = e;
	}
	s->first = 0;
	s->last = n;
}

static bool has_room(const struct stage *s, uint32_t size)
{
	return s->last < s->line_room && s->bytes_room - bytes_end(s) >= size;
}

static void copy(unsigned char *to, const struct build *b)
{
	unsigned char fixed[WIRE_FIXED_MAX];
	struct iovec iov[BUILD_PIECES_MAX];
	const unsigned pieces = build_pieces(b, fixed, iov);

	for (unsigned i = 0; i < pieces; i++) {
		memcpy(to, iov[i].iov_base, iov[i].iov_len);
		to += iov[i].iov_len;
	}
}

int stage_add(struct stage *s, const struct build *b, uint32_t slot)
{
	const uint32_t size = (uint32_t)wire_request_bytes(&b->wire);
	struct staged *e;

	if (s->live == 0)
		s->first = s->last = 0;
	if (!has_room(s, size) && s->live < s->last)
		put_together(s);
	if (!has_room(s, size))
		return EAGAIN;
	e = &s->line[s->last];
	*e = (struct staged){
		.at = bytes_end(s), .size = size, .slot = slot, .timeout_ms = b->timeout_ms, .fds = {-1, -1}};
	for (unsigned i = 0; i < wire_op_fds(b->wire.op); i++)
		e->fds[i] = b->fds[i];
	copy(s->bytes + e->at, b);
	s->slots->all[slot].staged = s->last;
	s->last++;
	s->live++;
	return 0;
}

void stage_drop(struct stage *s, uint32_t i)
{
	s->line[i].dropped = true;
	s->live--;
}

void stage_drop_all(struct stage *s)
{
	s->first = s->last = s->live = 0;
}

static void put_piece(struct stage_batch *b, unsigned char *bytes, uint32_t size)
{
	struct iovec *last = &b->iov[b->pieces - 1];

	if (b->pieces > 1 && (unsigned char *)last->iov_base + last->iov_len == bytes)
		last->iov_len += size;
	else
		b->iov[b->pieces++] = (struct iovec){.iov_base = bytes, .iov_len = size};
}

void stage_collect(const struct stage *s, uint64_t id, unsigned most, struct stage_batch *b)
{
	struct wire_header h = {.version = WIRE_VERSION, .channel = WIRE_CHANNEL_QUEUE, .queue_id = id};
	size_t total = WIRE_HEADER_SIZE;

	b->pieces = 1;
	b->nfds = b->count = 0;
	for (b->end = s->first; b->end < s->last && b->count < most; b->end++) {
		const struct staged *e = &s->line[b->end];

		if (e->dropped)
			continue;
		if (total + e->size > WIRE_DATAGRAM_MAX)
			break;
		put_piece(b, s->bytes + e->at, e->size);
		if (e->timeout_ms > 0)
			wire_set_deadline(s->bytes + e->at, build_deadline_ns(e->timeout_ms));
		for (unsigned i = 0; i < WIRE_REQUEST_FDS_MAX && e->fds[i] >= 0; i++)
			b->fds[b->nfds++] = e->fds[i];
		total += e->size;
		b->count++;
	}
	h.count = b->count;
	wire_put_header(b->header, &h, total);
	b->iov[0] = (struct iovec){.iov_base = b->header, .iov_len = WIRE_HEADER_SIZE};
}

void stage_sent(struct stage *s, const struct stage_batch *b)
{
	for (uint32_t i = s->first; i < b->end; i++) {
		struct slot *slot = &s->slots->all[s->line[i].slot];

		if (s->line[i].dropped)
			continue;
		if (slot->state == SLOT_STAGED)
			slot->state = SLOT_SENT;
		slot->second_staged = false;
	}
	s->first = b->end;
	s->live -= b->count;
}
