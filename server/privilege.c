/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/privilege.h"

#include "server/account.h"
#include "server/complaint.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <unistd.h>

static int refuse_other(const struct identity *id, const struct identity *wanted, const struct complaint *c)
{
	if (wanted->uid == id->uid && wanted->gid == id->gid)
		return 0;
	return complain(c, -1, "only root can serve as another user or group: leave out -u and -g, or start as root");
}

int identity_resolve(struct identity *id, const char *user, const char *group, char *error, size_t size)
{
	const struct complaint c = {error, size};
	const bool root = geteuid() == 0;
	struct identity wanted = {.uid = geteuid(), .gid = getegid()};

	*id = wanted;
	if (!user && root)
		user = getpwnam("sendfiled") ? "sendfiled" : "nobody";
	if (user && account_user(user, &wanted.uid, &wanted.gid) < 0)
		return complain(&c, -1, "no such user: '%s'; name an existing one with -u", user);
	if (group && account_group(group, &wanted.gid) < 0)
		return complain(&c, -1, "no such group: '%s'; name an existing one with -g", group);
	if (!root)
		return refuse_other(id, &wanted, &c);
	if (wanted.uid == 0 || wanted.gid == 0)
		return complain(
			&c, -1, "files are never served as root: name another user with -u, another group with -g");
	*id = wanted;
	id->change = true;
	return 0;
}

/* The proof: an id that can be had again was not given up. */
static bool way_back_is_open(const struct identity *id)
{
	uid_t ruid, euid, suid;
	gid_t rgid, egid, sgid;

	if (setresuid(0, 0, 0) == 0 || seteuid(0) == 0 || setresgid(0, 0, 0) == 0 || setgroups(0, NULL) == 0)
		return true;
	if (getresuid(&ruid, &euid, &suid) < 0 || getresgid(&rgid, &egid, &sgid) < 0)
		return true;
	return ruid != id->uid || euid != id->uid || suid != id->uid || rgid != id->gid || egid != id->gid ||
	       sgid != id->gid;
}

int identity_assume(const struct identity *id)
{
	if (!id->change)
		return 0;
	/* Groups first and the user last: each step needs the right that the last one gives up. */
	if (setgroups(0, NULL) < 0 || setresgid(id->gid, id->gid, id->gid) < 0 ||
		setresuid(id->uid, id->uid, id->uid) < 0)
		return -1;
	if (way_back_is_open(id) || getgroups(0, NULL) != 0) {
		errno = EPERM;
		return -1;
	}
	return 0;
}
