/* SPDX-License-Identifier: BSD-2-Clause */
/* Jobs: what a worker asks of a helper process, and what it hears of it. Both sides are the same program. */
#ifndef SFD_JOB_H
#define SFD_JOB_H

#include "lib/wire.h"

#include <stdint.h>
#include <sys/stat.h>

/*
 * A pipe comes with both ends: while a helper waits for a disk in the middle of a splice(2) it has the pipe locked, and
 * who closes the last descriptor of an end waits for that lock. With copies in the helper that is never the worker.
 */
enum job_kind {
	JOB_NONE, /* nothing; sent by the master, so that a place whose worker died without sending a job is free again */
	JOB_OPEN, /* `path` below the root; the answer has the file */
	JOB_LOOK, /* descriptor: a file. The answer has its status */
	JOB_READ, /* descriptors: file, pipe's write end, its other end. Fills the pipe with `length` bytes of the file from `offset` on */
	JOB_TELL, /* destination. Its position */
	JOB_COPY, /* destination, file. Copies `length` bytes from `offset` to `position` */
	JOB_DRAIN /* destination, pipe's read end, its other end. Writes the pipe's `length` bytes at `position` */
};

enum job_flag {
	JOB_FILE_PARKED = 1 << 0, /* the file, or the destination, is in a socket: see park.h */
	JOB_DEST_PARKED = 1 << 1,
	JOB_APPENDS = 1 << 2,        /* the destination writes at its end, whatever the position */
	JOB_IS_STREAM = 1 << 3,      /* the destination has no position */
	JOB_CLOSES_AT_ONCE = 1 << 4, /* none of its descriptors can wait in close(2) */
	JOB_COPIES = 1 << 5,         /* no page of the file goes into the pipe */
	JOB_NOCACHE = 1 << 6,        /* what is read in leaves memory again; implies JOB_COPIES */
	JOB_NOWAIT = 1 << 7,         /* only what is in memory, then EBUSY; implies JOB_COPIES */
	JOB_IS_LENT = 1 << 8,        /* somebody else's open file: what is advised of it would count there too */
	JOB_ONLY_AHEAD = 1 << 9      /* nothing but the range and `ahead` is to be read in */
};

/* The path follows, with a NUL. */
struct job_letter {
	uint32_t kind;
	uint32_t worker; /* whom to answer */
	uint32_t seq;    /* of the place */
	uint32_t flags;
	int64_t offset;
	uint64_t length;
	int64_t position;
	uint64_t ahead; /* of a read: so many bytes behind the range are wanted soon; their disk may be asked already */
};

enum { JOB_LETTER_MAX = sizeof(struct job_letter) + WIRE_PATH_MAX + 1, JOB_FDS_MAX = 3 };

/* Why a file could not be opened by the worker itself. */
enum open_reason {
	OPEN_COLD,    /* a directory or the inode was not in memory */
	OPEN_LINK,    /* a symbolic link on the way that this file system resolves only by waiting */
	OPEN_MISSING, /* there is no such file, and nobody had looked before */
	OPEN_LEASED,  /* somebody has a lease on it */
	OPEN_OTHER,   /* another file system, or another error */
	OPEN_REASONS
};

struct job_answer {
	uint32_t pool, index, seq; /* the place */
	int32_t err;               /* 0, or an errno: after `bytes` */
	uint32_t at_end;           /* a read met the end of the file after `bytes` */
	uint32_t reason;           /* of an open */
	uint32_t parked;           /* the file that comes with it is in a socket */
	uint32_t fallbacks;        /* ways to write that were refused */
	uint64_t bytes;
	uint64_t took_ns; /* without the time in the queue */
	int64_t position;
	struct stat st;
};

#endif
