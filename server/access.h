/* SPDX-License-Identifier: BSD-2-Clause */
/* Who may ask for anything at all. The socket file's mode is the first gate; this is the second. */
#ifndef SFD_ACCESS_H
#define SFD_ACCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Stands for every sender that has no uid here, and is `nobody` on most systems: that we serve as it lets none in. */
enum { UID_UNMAPPED = 65534 };

enum { NAMES_MAX = 256 };

/* What an option named that may be given again and again. */
struct names {
	const char *all[NAMES_MAX];
	unsigned count;
};

struct access {
	uid_t starter; /* who started the daemon */
	uid_t serving; /* whom it runs as */
	bool listed;   /* those below are served, and not `serving` for its own sake */
	bool foreign;  /* so are senders outside our pid namespace */
	bool shared;   /* what one process of a user has asked for is its other processes' too */
	bool unmapped; /* UID_UNMAPPED was named */
	uid_t *users;  /* in ascending order; allocated */
	gid_t *groups; /* allocated */
	size_t user_count, group_count;
};

/* A client: what the kernel said of a datagram's sender. */
struct owner {
	uid_t uid;
	pid_t pid;     /* 0: outside our pid namespace; or it does not matter which one it is */
	uint64_t mark; /* os_process_mark() */
};

static inline bool owner_same(const struct owner *a, const struct owner *b)
{
	return a->uid == b->uid && a->pid == b->pid && (a->mark == b->mark || a->mark == 0 || b->mark == 0);
}

/*
 * Has those served that the operator has named; members of groups are those of now. 0, or -1 with a line in `error`.
 */
int access_allow(struct access *a, const struct names *users, const struct names *groups, char *error, size_t size);

/* Lets go of the lists, also after a failure. */
void access_free(struct access *a);

/* `gid`: the sender's real group. */
bool access_allowed(const struct access *a, const struct owner *who, gid_t gid);

#endif
