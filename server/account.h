/* SPDX-License-Identifier: BSD-2-Clause */
/* Users and groups as operators write them: a name, or a number. Asks the user database, so it may wait. */
#ifndef SFD_ACCOUNT_H
#define SFD_ACCOUNT_H

#include <sys/types.h>

/* `gid` gets the user's own group; the number of a user that the database does not have stands for its group too. 0, or -1. */
int account_user(const char *user, uid_t *uid, gid_t *gid);

/* 0, or -1. */
int account_group(const char *group, gid_t *gid);

/*
 * The users whom the group lists as its members, in allocated memory that is the caller's (NULL for none). Those whose own
 * group it is are not listed. How many there are, or -1 and errno.
 */
int account_members(gid_t gid, uid_t **uids);

#endif
