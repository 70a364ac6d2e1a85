/* SPDX-License-Identifier: BSD-2-Clause */
/* The ways to move a file's bytes into a destination, and which of them serves which. */
#ifndef SFD_MOVER_H
#define SFD_MOVER_H

#include "server/dest.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Bytes on their way. Owns no descriptor. */
struct move {
	int file, dest;
	enum dest_kind kind;
	off_t offset;       /* in the file: where the next byte comes from */
	uint64_t left;      /* bytes still to move; never more is asked for */
	bool until_refused; /* do not take a short count for "full": go on until the destination says EAGAIN */
	bool peeks;         /* copy only what is in memory: MOVE_COLD at the first byte that is not */
	bool copies;        /* by no other way: a better one was refused, or must not be used */
};

enum move_result {
	MOVE_DONE,    /* nothing is left */
	MOVE_MORE,    /* the budget is used up */
	MOVE_BLOCKED, /* the destination has no room */
	MOVE_SHORT,   /* the file ended early */
	MOVE_COLD,    /* the next byte is to come through a helper */
	MOVE_WAITING, /* for a helper */
	MOVE_FAILED   /* errno says why */
};

/*
 * Moves until one of the above holds, at most `budget` bytes or so, from a file whose bytes are in memory (os_heat()), to
 * a pipe, stream socket or terminal. Never waits for the destination. `*fallbacks` is increased by the number of ways that
 * were refused.
 */
enum move_result move_run(struct move *m, uint64_t budget, uint64_t *fallbacks);

/* The same from a pipe that holds at least `n` bytes, in one step: the bytes moved, or -1 and errno: EAGAIN, no room. */
ssize_t move_from_pipe(struct move *m, int pipe, size_t n);

/* Writes some of what is in memory: the bytes written, or -1 and errno: EAGAIN, no room. */
ssize_t move_put(struct move *m, const void *buf, size_t n);

/* Errors that say "not this way", not "not at all". */
bool move_is_refusal(int err);

#endif
