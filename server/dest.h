/* SPDX-License-Identifier: BSD-2-Clause */
/* What a destination is, found out without a call that a client could make hang. */
#ifndef SFD_DEST_H
#define SFD_DEST_H

#include <stdbool.h>
#include <stdint.h>

enum dest_kind {
	DEST_PIPE,
	DEST_STREAM,          /* a non-blocking TCP or UNIX stream socket */
	DEST_STREAM_BLOCKING, /* the same, but one that sendfile(2) would wait for */
	DEST_TERMINAL,
	DEST_FILE,   /* a regular file: this and the next are written by helpers, since they cannot be polled */
	DEST_DEVICE, /* a character device that is no terminal */
	DEST_KINDS
};

struct dest {
	enum dest_kind kind;
	bool appends;    /* a file that was opened with O_APPEND */
	bool is_unix;    /* a UNIX socket */
	bool unseen;     /* a DEST_STREAM that may be a DEST_STREAM_BLOCKING: nobody has looked (move.unseen) */
	bool has_name;   /* a FIFO */
	uint64_t device; /* that a file is on */
};

/*
 * Classifies a descriptor. 0, or the errno that is the client's answer: EBADF (not open for writing: read-only or
 * O_PATH), EINVAL (no kind of thing that a file can be sent to: a datagram socket, a directory, an epoll, ...).
 */
int dest_classify(int fd, struct dest *dest);

/* The value of a socket's option (SOL_SOCKET); -1 and errno: no socket, or one without it. */
int dest_socket_option(int fd, int name);

/* Whether only a helper may write to it. */
static inline bool dest_is_written(enum dest_kind kind)
{
	return kind == DEST_FILE || kind == DEST_DEVICE;
}

/* Whether its owner can hold on to whoever writes to it (touch.h): all others have no such lock, or are written by helpers. */
static inline bool dest_may_hang(const struct dest *dest)
{
	return dest->kind == DEST_PIPE ||
	       (!dest->is_unix && (dest->kind == DEST_STREAM || dest->kind == DEST_STREAM_BLOCKING));
}

/*
 * Whether the descriptor can be a status channel: a pipe open for writing only. (One open for both is its own reader, so
 * nobody would see its client go.) `*has_name`: it is a FIFO.
 */
bool dest_is_channel(int fd, bool *has_name);

#endif
