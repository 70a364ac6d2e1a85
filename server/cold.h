/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The way of bytes that are not in memory, or go where a worker must not write: through pipes that helpers fill, and to
 * destinations that helpers write.
 *
 *   file --(reader)--> filling pipe --> draining pipe --(worker)--> pipe, socket, terminal
 *                                                     --(writer)--> file, device
 *   file --(writer, if both are on one device)--> file
 *   head, tail --> a pipe of their own --(writer)--> file, device
 *
 * While one pipe is drained the next is filled. Of one transfer at most one reader and one writer are at work.
 */
#ifndef SFD_COLD_H
#define SFD_COLD_H

#include "server/dest.h"
#include "server/engine.h"
#include "server/mover.h"

/* What its request asks of reading. */
struct cold_wish {
	uint32_t flags; /* of each read: enum job_flag */
	uint64_t ahead; /* bytes to read ahead of what is being sent; more if the daemon likes, unless JOB_ONLY_AHEAD */
	uint64_t chunk_max; /* bytes to read at a time; 0: no limit of its own */
	bool copies;        /* no page is to be lent to the destination */
	bool only_hot;      /* no reader may be asked: what is next is the caller's to fetch (cold_fill()) */
};

struct cold {
	struct engine *engine;
	struct move *move;              /* the transfer's: offset and left say what the destination has got */
	const struct source_file *file; /* the transfer's */
	struct dest dest;
	bool dest_parked;
	uid_t uid;
	void (*wake)(void *owner); /* a helper has answered */
	void *owner;
	struct pipe_holder holder;
	struct job *reading, *writing;
	uint64_t reading_ns, writing_ns;          /* since when */
	struct pipe_pair draining, filling, text; /* `text`: of the head or tail, for a writer */
	uint64_t in_draining, in_filling;         /* bytes; of the draining one those in `carry` included */
	unsigned char *carry; /* read out of the pipe and not yet written: where splice(2) cannot be used */
	uint32_t carry_at, carry_len;
	int end; /* after what is in the pipes: 0, an errno, or COLD_EOF */
	int write_err;
	int64_t position; /* where the next byte is to be written */
	bool knows_position;
	bool slow;   /* the last chunk was not in memory */
	bool copies; /* splice(2) was refused, or is not wanted */
	struct cold_wish wish;
	bool retried; /* one helper has died */
};

enum { COLD_EOF = -1 };

/* What cold_new() is told of the transfer; the pointers stay valid as long as the transfer does. */
struct cold_config {
	struct engine *engine;
	struct move *move;
	const struct source_file *file;
	struct dest dest;
	bool dest_parked;
	uid_t uid;
	struct cold_wish wish;
	void (*wake)(void *owner);
	void *owner;
};

/* NULL and ENOMEM. */
struct cold *cold_new(const struct cold_config *config);

/* Abandons what helpers are doing. */
void cold_free(struct cold *c);

/* Asks a reader for the next bytes. 0, or -1 and errno. */
int cold_read(struct cold *c);

/*
 * Reads up to `n` of the next bytes itself, from memory, for a destination that is written: MOVE_MORE; else MOVE_SHORT,
 * MOVE_FAILED (EBUSY: the first one is not there), or MOVE_PACED (there is no pipe now).
 */
enum move_result cold_fill(struct cold *c, uint64_t n);

/* It may move nothing for a while: others may have its pipe. */
void cold_rest(struct cold *c);

/*
 * Moves on what has been read, at most `budget` bytes. MOVE_WAITING: for a helper; MOVE_COLD: nothing is under way, and the
 * next bytes are the caller's to judge.
 */
enum move_result cold_run(struct cold *c, uint64_t budget);

/* Since when the job has been under way that has been for longest; UINT64_MAX: none is. */
uint64_t cold_since_ns(const struct cold *c);

#endif
