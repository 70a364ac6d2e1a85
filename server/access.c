/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/access.h"

#include "server/account.h"
#include "server/complaint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int by_number(const void *a, const void *b)
{
	const uid_t x = *(const uid_t *)a, y = *(const uid_t *)b;

	return (x > y) - (x < y);
}

/* -1 and errno. */
static int add_users(struct access *a, const uid_t *uids, size_t n)
{
	uid_t *all = realloc(a->users, (a->user_count + n + 1) * sizeof *all);

	if (!all)
		return -1;
	a->users = all;
	memcpy(all + a->user_count, uids, n * sizeof *all);
	a->user_count += n;
	return 0;
}

static int add_members(struct access *a, gid_t gid)
{
	uid_t *uids;
	int n = account_members(gid, &uids);
	int err = n > 0 ? add_users(a, uids, (size_t)n) : n;

	free(uids);
	return err;
}

int access_allow(struct access *a, const struct names *users, const struct names *groups, char *error, size_t size)
{
	const struct complaint c = {error, size};

	a->listed = users->count + groups->count > 0;
	a->groups = calloc(groups->count + 1, sizeof *a->groups);
	if (!a->groups)
		return complain(&c, -1, "out of memory");
	for (unsigned i = 0; i < groups->count; i++) {
		gid_t gid;

		if (account_group(groups->all[i], &gid) < 0)
			return complain(
				&c, -1, "no such group: '%s'; name an existing one with --allow-group", groups->all[i]);
		a->groups[a->group_count++] = gid;
		if (add_members(a, gid) < 0)
			return complain(
				&c, -1, "cannot read the members of group '%s': %s", groups->all[i], strerror(errno));
	}
	for (unsigned i = 0; i < users->count; i++) {
		uid_t uid;
		gid_t gid;

		if (account_user(users->all[i], &uid, &gid) < 0)
			return complain(
				&c, -1, "no such user: '%s'; name an existing one with --allow-user", users->all[i]);
		a->unmapped = a->unmapped || uid == UID_UNMAPPED;
		if (add_users(a, &uid, 1) < 0)
			return complain(&c, -1, "out of memory");
	}
	if (a->user_count > 0)
		qsort(a->users, a->user_count, sizeof *a->users, by_number);
	return 0;
}

void access_free(struct access *a)
{
	free(a->users);
	free(a->groups);
	a->users = NULL;
	a->groups = NULL;
	a->user_count = a->group_count = 0;
}

static bool has_group(const struct access *a, gid_t gid)
{
	for (size_t i = 0; i < a->group_count; i++) {
		if (a->groups[i] == gid)
			return true;
	}
	return false;
}

bool access_allowed(const struct access *a, const struct owner *who, gid_t gid)
{
	/* A sender outside our pid namespace has pid 0: ids cannot be bound to its process. */
	if (who->pid == 0 && !a->foreign)
		return false;
	if (who->uid == 0 || who->uid == a->starter)
		return true;
	/* Of no group either does anything follow for whoever has no uid here. */
	if (who->uid == UID_UNMAPPED)
		return a->unmapped;
	if (!a->listed)
		return who->uid == a->serving;
	return has_group(a, gid) ||
	       (a->user_count > 0 && bsearch(&who->uid, a->users, a->user_count, sizeof *a->users, by_number));
}
