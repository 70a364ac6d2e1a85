/* SPDX-License-Identifier: BSD-2-Clause */
/* Messages with descriptors over UNIX sockets, between processes of the daemon and from its clients. */
#ifndef SFD_FDPASS_H
#define SFD_FDPASS_H

#include "server/access.h"

#include <stdbool.h>
#include <stddef.h>

enum { FDPASS_MAX = 253 }; /* SCM_MAX_FD, unix(7) */

/* A message received. Owns the descriptors that are not -1. */
struct fdpass {
	size_t len;
	bool data_cut;  /* the message was longer than the buffer */
	bool fds_lost;  /* more descriptors came than there was room for */
	bool has_owner; /* the kernel said who sent it */
	struct owner owner;
	gid_t gid;   /* its real group */
	int process; /* the sender's, if the socket says (os_get_process()): owned like the descriptors */
	unsigned nfds;
	int fds[FDPASS_MAX + 1];
};

enum { FDPASS_SEND_MAX = 3 };

/* Sends one message with up to FDPASS_SEND_MAX descriptors, which stay the caller's. Never blocks. 0, or -1 and errno. */
int fdpass_send(int sock, const void *buf, size_t len, const int *fds, unsigned nfds);

/* The same, with a second piece behind the first. */
int fdpass_send_two(
	int sock, const void *buf, size_t len, const void *more, size_t more_len, const int *fds, unsigned nfds);

/* Receives one message. Never blocks. 0, or -1 and errno (EAGAIN: there is none); then nothing is owned. */
int fdpass_receive(int sock, void *buf, size_t size, struct fdpass *m);

/* The same, with the control messages where the caller wants them: room for as much as can come (FDPASS_CONTROL_MAX). */
enum { FDPASS_CONTROL_MAX = 1280 };
int fdpass_receive_into(int sock, void *buf, size_t size, void *control, struct fdpass *m);

/* The same as fdpass_receive(), but the message stays in the socket, with its descriptors: what is owned are copies. */
int fdpass_peek(int sock, void *buf, size_t size, struct fdpass *m);

/* How many descriptors came with it. */
unsigned fdpass_count(const struct fdpass *m);

/* Hands descriptor `i` over to the caller; -1 if there is none. */
int fdpass_take(struct fdpass *m, unsigned i);

/* Closes what was not taken. */
void fdpass_drop(struct fdpass *m);

#endif
