/* SPDX-License-Identifier: BSD-2-Clause */
/* Who serves: found out while still root, assumed for good by every process that touches a client. */
#ifndef SFD_PRIVILEGE_H
#define SFD_PRIVILEGE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct identity {
	uid_t uid;
	gid_t gid;
	bool change; /* started as root: to be assumed */
};

/*
 * Started as root: the given user and group (names or numbers), by default `sendfiled` if there is such a user, else
 * `nobody`, and the user's own group; never root. Started by anyone else: that user, and another may not be asked for.
 * 0, or -1 with a line in `error`.
 */
int identity_resolve(struct identity *id, const char *user, const char *group, char *error, size_t size);

/*
 * Becomes that user and group for good, with no supplementary group, and proves that the way back is shut. 0, or -1 and
 * errno; then the process must not go on.
 */
int identity_assume(const struct identity *id);

#endif
