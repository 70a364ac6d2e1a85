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
	unsigned way;       /* which of the kind's ways is in use: one that was refused is not tried again */
	off_t offset;       /* in the file: where the next byte comes from */
	uint64_t left;      /* bytes still to move; never more is asked for */
	bool until_refused; /* do not take a short count for "full": go on until the destination says EAGAIN */
};

enum move_result {
	MOVE_DONE,    /* nothing is left */
	MOVE_MORE,    /* the budget is used up */
	MOVE_BLOCKED, /* the destination has no room */
	MOVE_SHORT,   /* the file ended early */
	MOVE_FAILED   /* errno says why */
};

/*
 * Moves until one of the above holds, at most `budget` bytes or so. `*fallbacks` is increased by the number of ways
 * that were refused. Never waits for a destination that is a pipe or a socket; see doc/architecture.md for the others.
 */
enum move_result move_run(struct move *m, uint64_t budget, uint64_t *fallbacks);

#endif
