/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the operator is told of clients that do what they must not: a line for the first few, and for the rest, now and then,
 * how many there were. However many there are, of however many users, the log grows slowly.
 */
#ifndef SFD_NOTICES_H
#define SFD_NOTICES_H

#include "server/access.h"

#include <stdint.h>

enum notice_kind {
	NOTICE_REFUSED,   /* it is not served */
	NOTICE_MALFORMED, /* its message cannot be read */
	NOTICE_QUOTA,     /* it has its share already */
	NOTICE_KINDS,
};

enum { NOTICE_PLACES = 64 };

struct notice_bucket {
	uint64_t due_ns; /* when all lines so far should have been written */
};

struct notice_place {
	struct notice_bucket bucket;
	uid_t uid;
	enum notice_kind kind;
	uint64_t suppressed;
};

struct notices {
	struct notice_bucket all;
	struct notice_place places[NOTICE_PLACES];
	uint64_t suppressed; /* of users whose place somebody else has got */
	uint64_t flush_ns;   /* not before */
};

/* `err`: what it was answered. */
void notices_add(struct notices *n, enum notice_kind kind, const struct owner *who, int err, uint64_t now_ns);

/* Tells of what has been suppressed for a while; to be called now and then. */
void notices_flush(struct notices *n, uint64_t now_ns);

#endif
