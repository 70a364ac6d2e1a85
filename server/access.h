/* SPDX-License-Identifier: BSD-2-Clause */
/* Who may ask for anything at all. The socket file's mode is the first gate; this is the second. */
#ifndef SFD_ACCESS_H
#define SFD_ACCESS_H

#include <stdbool.h>
#include <sys/types.h>

/* Stands for every sender that has no uid here, and is `nobody` on most systems: that we serve as it lets none in. */
enum { UID_UNMAPPED = 65534 };

struct access {
	uid_t starter; /* who started the daemon */
	uid_t serving; /* whom it runs as */
};

/* A client: what the kernel said of a datagram's sender. */
struct owner {
	uid_t uid;
	pid_t pid;
};

static inline bool owner_same(const struct owner *a, const struct owner *b)
{
	return a->uid == b->uid && a->pid == b->pid;
}

bool access_allowed(const struct access *a, const struct owner *who);

#endif
