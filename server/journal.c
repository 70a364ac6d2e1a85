/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/journal.h"

#include "server/fdpass.h"
#include "server/os/process.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

enum kind { LINE_FREE, LINE_REQUEST, LINE_SECOND };

struct line {
	uint64_t queue, name;
	_Atomic uint32_t kind; /* set last, and cleared first */
	uint32_t padding;
};

/* What is being worked on: a line's number plus one, or a request's with this bit, or something else; 0: nothing. */
#define IN_DATAGRAM UINT32_C(0x80000000) /* the slot's number, and in the low byte the request's */
#define ELSEWHERE   UINT32_C(0x7fffffff)

_Static_assert(WIRE_COUNT_MAX <= 256, "requests of a datagram");

struct slot {
	_Alignas(64) unsigned char control[FDPASS_CONTROL_MAX];
	_Alignas(64) unsigned char datagram[WIRE_DATAGRAM_MAX];
};

struct journal {
	_Atomic uint32_t current;
	_Atomic uint32_t turns;
	uint32_t lines;
	_Atomic uint32_t high;       /* no line from here on was ever used, */
	_Atomic uint32_t slots_high; /* and no slot */
	struct slot slots[JOURNAL_SLOTS];
	_Alignas(64) struct line line[];
};

static size_t journal_size(uint32_t lines)
{
	const size_t page = 4096;

	return (sizeof(struct journal) + lines * sizeof(struct line) + page - 1) & ~(page - 1);
}

struct journal *journals_new(unsigned workers, uint32_t lines)
{
	const int flags = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE;
	void *p = mmap(NULL, workers * journal_size(lines), PROT_READ | PROT_WRITE, flags, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	((struct journal *)p)->lines = lines;
	for (unsigned i = 1; i < workers; i++)
		journal_of(p, i)->lines = lines;
	return p;
}

struct journal *journal_of(struct journal *all, unsigned slot)
{
	return (struct journal *)(void *)((unsigned char *)all + slot * journal_size(all->lines));
}

/* ---- The worker's side */

int journal_open(struct journal_pen *pen, struct journal *journal)
{
	*pen = (struct journal_pen){.journal = journal, .struck = malloc(journal->lines * sizeof *pen->struck)};
	if (!pen->struck)
		return -1;
	journal_use_slot(pen, 0);
	return 0;
}

void journal_use_slot(struct journal_pen *pen, unsigned slot)
{
	struct journal *j = pen->journal;

	pen->slot = slot;
	/* If a page were missing when the kernel copies a datagram there, and memory short, the datagram would be lost. */
	for (; pen->kept <= slot; pen->kept++)
		os_keep_in_memory(&j->slots[pen->kept], sizeof j->slots[pen->kept]);
	if (pen->kept > atomic_load_explicit(&j->slots_high, memory_order_relaxed))
		atomic_store_explicit(&j->slots_high, pen->kept, memory_order_release);
}

void *journal_datagram(const struct journal_pen *pen)
{
	return pen->journal->slots[pen->slot].datagram;
}

void *journal_control(const struct journal_pen *pen)
{
	return pen->journal->slots[pen->slot].control;
}

void journal_forget_datagram(struct journal_pen *pen, size_t len)
{
	memset(journal_datagram(pen), 0, len < WIRE_DATAGRAM_MAX ? len : WIRE_DATAGRAM_MAX);
	memset(journal_control(pen), 0, sizeof(struct cmsghdr));
	/* Nothing that is done with the next one may seem to come before this. */
	atomic_signal_fence(memory_order_seq_cst);
}

static uint32_t note(struct journal_pen *pen, enum kind kind, uint64_t queue, uint64_t name)
{
	struct journal *j = pen->journal;
	struct line *line;
	uint32_t i;

	if (journal_left(pen) == 0)
		return JOURNAL_NONE;
	i = pen->struck_count > 0 ? pen->struck[--pen->struck_count] : pen->fresh++;
	if (pen->fresh > atomic_load_explicit(&j->high, memory_order_relaxed))
		atomic_store_explicit(&j->high, pen->fresh, memory_order_release);
	line = &j->line[i];
	line->queue = queue;
	line->name = name;
	atomic_store_explicit(&line->kind, kind, memory_order_release);
	return i;
}

uint32_t journal_note_request(struct journal_pen *pen, uint64_t queue, uint64_t tag)
{
	return note(pen, LINE_REQUEST, queue, tag);
}

uint32_t journal_note_second(struct journal_pen *pen, uint64_t txnid)
{
	return note(pen, LINE_SECOND, 0, txnid);
}

void journal_strike(struct journal_pen *pen, uint32_t line)
{
	if (line == JOURNAL_NONE)
		return;
	atomic_store_explicit(&pen->journal->line[line].kind, LINE_FREE, memory_order_release);
	pen->struck[pen->struck_count++] = line;
}

uint32_t journal_left(const struct journal_pen *pen)
{
	return pen->struck_count + (pen->journal->lines - pen->fresh);
}

static void set_current(struct journal_pen *pen, uint32_t current)
{
	struct journal *j = pen->journal;

	atomic_store_explicit(&j->current, current, memory_order_release);
	atomic_store_explicit(
		&j->turns, atomic_load_explicit(&j->turns, memory_order_relaxed) + 1, memory_order_release);
}

void journal_turn_request(struct journal_pen *pen, unsigned i)
{
	set_current(pen, IN_DATAGRAM | pen->slot << 8 | i);
}

void journal_turn(struct journal_pen *pen, uint32_t line)
{
	set_current(pen, line == JOURNAL_NONE ? ELSEWHERE : line + 1);
}

void journal_rest(struct journal_pen *pen)
{
	set_current(pen, 0);
}

/* ---- The master's side */

/* Who sent the datagram; false if none came, or it came without credentials. */
static bool read_owner(const struct slot *slot, struct owner *who)
{
	struct msghdr msg = {.msg_control = (void *)slot->control, .msg_controllen = sizeof slot->control};
	struct os_credentials cred;

	if (!os_get_credentials(&msg, &cred))
		return false;
	*who = (struct owner){.uid = cred.uid, .pid = cred.pid};
	return true;
}

struct reading {
	const struct journal_reader *reader;
	bool skips;
	uint64_t queue, tag; /* what is skipped */
};

static void tell_request(const struct reading *r, uint64_t queue, uint64_t tag, const struct owner *who)
{
	if (!r->skips || r->queue != queue || r->tag != tag)
		r->reader->request(r->reader->arg, queue, tag, who);
}

/* False if there is none. Its length is what it says itself: there is nothing else to know it by. */
static bool read_header(const struct slot *slot, struct wire_header *h, struct wire_cursor *cursor)
{
	const uint32_t length = wire_length(slot->datagram);

	if (length > WIRE_DATAGRAM_MAX || wire_get_header(slot->datagram, length, h) != 0)
		return false;
	wire_cursor_init(cursor, slot->datagram, length, h);
	return true;
}

static void read_datagram(const struct slot *slot, const struct reading *reading)
{
	const struct journal_reader *reader = reading->reader;
	struct wire_cursor cursor;
	struct wire_header h;
	struct wire_request r;
	struct owner who;

	if (!read_header(slot, &h, &cursor) || !read_owner(slot, &who))
		return;
	while (cursor.count > 0 && wire_next(&cursor, &r) == 0) {
		if (r.op == WIRE_OP_SEND_OPEN)
			reader->second(reader->arg, r.txnid);
		else if (h.channel != WIRE_CHANNEL_QUEUE || r.op == WIRE_OP_REGISTER)
			continue; /* its channel's end tells of it */
		else if (r.op == WIRE_OP_CANCEL)
			reader->cancel(reader->arg, h.queue_id, r.tag, &who);
		else
			tell_request(reading, h.queue_id, r.tag, &who);
	}
}

static void find_current(const struct journal *j, struct reading *reading)
{
	const uint32_t current = atomic_load_explicit(&j->current, memory_order_acquire);
	const uint32_t slot = (current & ~IN_DATAGRAM) >> 8;
	struct wire_cursor cursor;
	struct wire_header h;
	struct wire_request r;

	if (current == 0 || current == ELSEWHERE)
		return;
	if (!(current & IN_DATAGRAM)) {
		reading->skips = true;
		reading->queue = j->line[current - 1].queue;
		reading->tag = j->line[current - 1].name;
		return;
	}
	if (slot >= JOURNAL_SLOTS || !read_header(&j->slots[slot], &h, &cursor))
		return;
	for (uint32_t i = 0; i <= (current & 0xff); i++) {
		if (cursor.count == 0 || wire_next(&cursor, &r) != 0)
			return;
	}
	*reading = (struct reading){.reader = reading->reader, .skips = true, .queue = h.queue_id, .tag = r.tag};
}

static uint32_t slots_used(const struct journal *j)
{
	const uint32_t n = atomic_load_explicit(&j->slots_high, memory_order_acquire);

	return n < JOURNAL_SLOTS ? n : JOURNAL_SLOTS;
}

void journal_read(const struct journal *j, bool current, const struct journal_reader *reader)
{
	struct reading reading = {.reader = reader};

	if (!current)
		find_current(j, &reading);
	for (uint32_t i = 0; i < slots_used(j); i++)
		read_datagram(&j->slots[i], &reading);
	for (uint32_t i = 0; i < atomic_load_explicit(&j->high, memory_order_acquire); i++) {
		const struct line *line = &j->line[i];

		switch (atomic_load_explicit(&line->kind, memory_order_acquire)) {
		case LINE_REQUEST:
			tell_request(&reading, line->queue, line->name, NULL);
			break;
		case LINE_SECOND:
			reader->second(reader->arg, line->name);
			break;
		default:
			break;
		}
	}
}

void journal_clear(struct journal *j)
{
	for (uint32_t i = 0; i < slots_used(j); i++) {
		memset(j->slots[i].datagram, 0, sizeof j->slots[i].datagram);
		memset(j->slots[i].control, 0, sizeof(struct cmsghdr));
	}
	for (uint32_t i = 0; i < atomic_load_explicit(&j->high, memory_order_relaxed); i++)
		atomic_store_explicit(&j->line[i].kind, LINE_FREE, memory_order_relaxed);
	atomic_store_explicit(&j->current, 0, memory_order_relaxed);
}

uint64_t journal_position(const struct journal *j)
{
	const uint64_t current = atomic_load_explicit(&j->current, memory_order_acquire);

	return current == 0 ? 0 : current << 32 | atomic_load_explicit(&j->turns, memory_order_acquire);
}
