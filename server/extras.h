/* SPDX-License-Identifier: BSD-2-Clause */
/* What a request asks for beyond a range of a file: the options of sfd_opts, as the daemon keeps them. */
#ifndef SFD_EXTRAS_H
#define SFD_EXTRAS_H

#include "lib/wire.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

struct extras {
	uint32_t flags;                 /* WIRE_FLAG_* */
	uint32_t readahead;             /* pages */
	uint64_t deadline_ns, max_rate; /* 0: none */
	struct wire_same_as same_as;
	uint32_t head_len, tail_len;
	uint32_t size_at, mtime_at; /* places in the head; 0: none */
	unsigned char text[];       /* head and tail */
};

/* Whether a request asks for any of it. */
bool extras_wanted(const struct wire_request *r);

/* Copies what it asks for, in addition to what an earlier one did (`before`, may be NULL). To be freed. NULL and ENOMEM. */
struct extras *extras_new(const struct wire_request *r, const struct extras *before);

/* Whether the file is still the one that is meant. */
bool extras_same(const struct wire_same_as *meant, const struct stat *st);

/* Fills in the places in the head. */
void extras_fill(struct extras *x, uint64_t size, int64_t mtime);

#endif
