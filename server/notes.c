/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/notes.h"

#include "server/fault.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { ROOM_FIRST = WIRE_RECORD_MAX, LINES_FIRST = 128 };

void notes_free(struct notes *n)
{
	free(n->kept);
	free(n->lines);
	*n = (struct notes){0};
}

/* `array`, with room for `need` things of that size, or NULL; `*room` says for how many. */
static void *grown(void *array, uint32_t *room, uint32_t need, uint32_t first, size_t size)
{
	uint32_t want = *room ? *room : first;
	void *larger;

	if (array && need <= *room)
		return array;
	while (want < need)
		want *= 2;
	larger = realloc(array, want * size);
	if (larger)
		*room = want;
	return larger;
}

static int make_room(struct notes *n, uint32_t bytes, uint32_t outcomes)
{
	unsigned char *kept = grown(n->kept, &n->room, n->len + bytes, ROOM_FIRST, 1);
	uint32_t *lines;

	if (!kept)
		return -1;
	n->kept = kept;
	lines = grown(n->lines, &n->lines_room, n->outcomes + outcomes, LINES_FIRST, sizeof *n->lines);
	if (!lines)
		return -1;
	n->lines = lines;
	return 0;
}

int notes_put(struct notes *n, const struct wire_note *note, const struct sfd_file_info *info, uint32_t line)
{
	const uint32_t size = (uint32_t)wire_note_bytes(note->kind);
	const bool is_outcome = note->kind == WIRE_NOTE_DONE;

	if (make_room(n, size, is_outcome) < 0)
		return -1;
	wire_put_note(n->kept + n->len, note);
	if (note->kind == WIRE_NOTE_INFO && info)
		wire_put_info(n->kept + n->len + WIRE_NOTE_SIZE, info);
	n->len += size;
	if (is_outcome)
		n->lines[n->outcomes++] = line;
	return 0;
}

/* How many bytes from `at` on make one record, and how many outcomes are in it. */
static uint32_t measure(const struct notes *n, uint32_t at, uint32_t *outcomes)
{
	uint32_t start = at;

	*outcomes = 0;
	while (at < n->len) {
		struct wire_note note;
		uint32_t size;

		memcpy(&note, n->kept + at, sizeof note);
		size = (uint32_t)wire_note_bytes(note.kind);
		if (at + size - start > WIRE_RECORD_MAX)
			break;
		at += size;
		*outcomes += note.kind == WIRE_NOTE_DONE;
	}
	return at - start;
}

/* What the journal knows by the datagram only will soon not stand there any more. */
static int note_the_rest(struct notes *n, struct journal_pen *pen, uint64_t queue)
{
	uint32_t outcome = 0;

	for (uint32_t at = 0; pen && at < n->len;) {
		struct wire_note note;

		memcpy(&note, n->kept + at, sizeof note);
		at += (uint32_t)wire_note_bytes(note.kind);
		if (note.kind != WIRE_NOTE_DONE || n->lines[outcome++] != JOURNAL_NONE)
			continue;
		n->lines[outcome - 1] = journal_note_request(pen, queue, note.tag);
		if (n->lines[outcome - 1] == JOURNAL_NONE)
			return -1;
	}
	return 0;
}

int notes_send(struct notes *n, int channel, struct journal_pen *pen, uint64_t queue)
{
	uint32_t at = 0, told = 0, outcomes;
	int err = 0;

	while (at < n->len) {
		uint32_t size = measure(n, at, &outcomes);

		if (send(channel, n->kept + at, size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
			if (errno == EINTR)
				continue;
			err = errno == ENOBUFS || errno == ENOMEM ? EAGAIN : errno;
			break;
		}
		at += size;
		if (pen)
			fault_point("outcome-written");
		for (; outcomes > 0; outcomes--, told++) {
			if (pen)
				journal_strike(pen, n->lines[told]);
		}
	}
	n->len -= at;
	n->outcomes -= told;
	n->blocked = err == EAGAIN;
	if (n->len > 0 && at > 0)
		memmove(n->kept, n->kept + at, n->len);
	if (n->outcomes > 0 && told > 0)
		memmove(n->lines, n->lines + told, n->outcomes * sizeof *n->lines);
	return err == EAGAIN && note_the_rest(n, pen, queue) < 0 ? ENOBUFS : err;
}
