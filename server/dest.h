/* SPDX-License-Identifier: BSD-2-Clause */
/* What a destination is, found out without a call that a client could make hang. */
#ifndef SFD_DEST_H
#define SFD_DEST_H

#include <stdbool.h>

enum dest_kind {
	DEST_PIPE,
	DEST_STREAM,          /* a non-blocking TCP or UNIX stream socket */
	DEST_STREAM_BLOCKING, /* the same, but one that sendfile(2) would wait for */
	DEST_FILE,            /* a regular file */
	DEST_DEVICE,          /* a terminal or another character device */
	DEST_KINDS
};

/*
 * Classifies a descriptor. 0, or the errno that is the client's answer: EBADF (not open for writing: read-only or
 * O_PATH), EINVAL (no kind of thing that a file can be sent to: a datagram socket, a directory, an epoll, ...).
 */
int dest_classify(int fd, enum dest_kind *kind);

/*
 * Whether the descriptor can be a status channel: a pipe open for writing only. (One open for both is its own reader, so
 * nobody would see its client go.)
 */
bool dest_is_channel(int fd);

/*
 * Closes any descriptor that a client passed. A TCP socket with SO_LINGER would make close(2) wait until its peer has read
 * everything; the option is the client's, so it stays, but the wait ends after a millisecond and TCP goes on by itself.
 */
void dest_close(int fd);

#endif
