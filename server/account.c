/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/account.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* A decimal id; false for anything else, and for the two that setresuid(2) takes as "leave it". */
static bool parse_id(const char *text, unsigned *out)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || n >= UINT32_MAX)
		return false;
	*out = (unsigned)n;
	return true;
}

int account_user(const char *user, uid_t *uid, gid_t *gid)
{
	const struct passwd *pw = getpwnam(user);
	unsigned n;

	if (pw) {
		*uid = pw->pw_uid;
		*gid = pw->pw_gid;
		return 0;
	}
	if (!parse_id(user, &n))
		return -1;
	pw = getpwuid(n);
	*uid = n;
	*gid = pw ? pw->pw_gid : n;
	return 0;
}

int account_group(const char *group, gid_t *gid)
{
	const struct group *gr = getgrnam(group);
	unsigned n;

	if (gr) {
		*gid = gr->gr_gid;
		return 0;
	}
	if (!parse_id(group, &n))
		return -1;
	*gid = n;
	return 0;
}

int account_members(gid_t gid, uid_t **uids)
{
	const struct group *gr = getgrgid(gid);
	size_t listed = 0;
	int n = 0;

	*uids = NULL;
	while (gr && gr->gr_mem[listed])
		listed++;
	if (listed == 0)
		return 0;
	*uids = calloc(listed, sizeof **uids);
	if (!*uids)
		return -1;
	/* The two databases keep what they return apart: getpwnam(3), getgrgid(3). */
	for (size_t i = 0; i < listed; i++) {
		const struct passwd *pw = getpwnam(gr->gr_mem[i]);

		if (pw)
			(*uids)[n++] = pw->pw_uid;
	}
	return n;
}
