/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Requests that have been encoded and not been sent: a line of them, of which the next datagram takes as many as it can
 * hold. What is dropped from the line leaves a gap that no datagram contains. Memory only; no system call.
 */
#ifndef SFD_LIB_STAGE_H
#define SFD_LIB_STAGE_H

#include "build.h"
#include "slots.h"

struct staged {
	uint32_t at, size; /* where in `bytes` */
	uint32_t slot;
	unsigned timeout_ms;           /* counts from when it is sent; 0: none */
	int fds[WIRE_REQUEST_FDS_MAX]; /* not owned; -1: none */
	bool dropped;
};

struct stage {
	unsigned char *bytes;
	struct staged *line;
	struct slots *slots; /* slot.staged is kept true */
	uint32_t bytes_room, line_room;
	uint32_t first, last; /* of the line: [first, last) */
	uint32_t live;        /* those in it that have not been dropped */
};

/* How many bytes stage_init() needs for a queue of that depth. */
size_t stage_bytes(uint32_t depth);
void stage_init(struct stage *s, uint32_t depth, struct slots *slots, void *memory);

/* Appends a request of that slot. 0, or EAGAIN: there is no room. */
int stage_add(struct stage *s, const struct build *b, uint32_t slot);

void stage_drop(struct stage *s, uint32_t i);
void stage_drop_all(struct stage *s);

/* What one datagram takes: after its header, in `iov`; the descriptors that go with it, in order. */
struct stage_batch {
	unsigned char header[WIRE_HEADER_SIZE];
	struct iovec iov[1 + WIRE_COUNT_MAX];
	int fds[WIRE_COUNT_MAX * WIRE_REQUEST_FDS_MAX];
	unsigned pieces, nfds, count;
	uint32_t end; /* where the line goes on */
};

/* Up to `most` requests for the queue `id`; at least one must be live. Their time runs from now on. */
void stage_collect(const struct stage *s, uint64_t id, unsigned most, struct stage_batch *b);

/* That batch was sent. */
void stage_sent(struct stage *s, const struct stage_batch *b);

#endif
