/* SPDX-License-Identifier: BSD-2-Clause */
/* The ways to move a file's bytes into a destination, and which of them serves which. */
#ifndef SFD_MOVER_H
#define SFD_MOVER_H

#include "server/dest.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What of the bytes before or after the file's own is still to move. */
struct move_text {
	const unsigned char *at; /* not owned */
	uint32_t left;
};

/* Bytes on their way: a head, then the file's, then a tail. Owns no descriptor. */
struct move {
	int file, dest;
	enum dest_kind kind;
	off_t offset;  /* in the file: where the next byte comes from */
	uint64_t left; /* bytes of the file still to move; never more is asked for */
	struct move_text head, tail;
	uint64_t written;   /* bytes that the destination has got, of all three */
	bool until_refused; /* do not take a short count for "full": go on until the destination says EAGAIN */
	bool peeks;         /* copy only what is in memory: MOVE_COLD at the first byte that is not */
	bool unseen;        /* a DEST_STREAM may be a DEST_STREAM_BLOCKING: to be found out when it matters */
	bool copies;        /* by no other way: a better one was refused, or must not be used */
};

enum move_result {
	MOVE_DONE,    /* nothing is left */
	MOVE_MORE,    /* the budget is used up */
	MOVE_BLOCKED, /* the destination has no room */
	MOVE_SHORT,   /* the file ended early */
	MOVE_COLD,    /* the next byte is to come through a helper */
	MOVE_WAITING, /* for a helper */
	MOVE_PACED,   /* for the time at which its rate allows some more */
	MOVE_FAILED   /* errno says why */
};

/* How much is left of all three. */
static inline uint64_t move_left(const struct move *m)
{
	return m->head.left + m->left + m->tail.left;
}

/* The destination has got the next `n` bytes. */
void move_advance(struct move *m, uint64_t n);

/*
 * Moves until one of the above holds, at most `budget` bytes, from a file whose bytes are in memory (os_heat()), to
 * a pipe, stream socket or terminal. Never waits for the destination. The head leaves with the first bytes of the file, and
 * not if those cannot be had. `*fallbacks` is increased by the number of ways that were refused.
 */
enum move_result move_run(struct move *m, uint64_t budget, uint64_t *fallbacks);

/* Moves the head alone, of which at most `budget` bytes, for a caller who has the file's first bytes at hand: MOVE_DONE if
 * nothing is left of it. */
enum move_result move_head(struct move *m, uint64_t budget);

/*
 * The file's bytes from a pipe that holds at least `n` of them, in one step: the bytes moved (for the caller to count), or -1
 * and errno: EAGAIN, no room.
 */
ssize_t move_from_pipe(struct move *m, int pipe, size_t n);

/*
 * Writes some of what is in memory: the bytes written (for the caller to count), or -1 and errno: EAGAIN, no room. `more`:
 * other bytes follow at once, and may share a packet with these.
 */
ssize_t move_put(struct move *m, const void *buf, size_t n, bool more);

/* Errors that say "not this way", not "not at all". */
bool move_is_refusal(int err);

#endif
