// SPDX-License-Identifier: BSD-2-Clause
// Other users' parts, which only root can take.
#pragma once

#include "test/support/wait.h"

#include <grp.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

// Gives this process's rights up for a user's, who is in no other group. False and errno if it may not.
inline bool become(uid_t uid, gid_t gid)
{
	return setgroups(0, nullptr) == 0 && setresgid(gid, gid, gid) == 0 && setresuid(uid, uid, uid) == 0;
}

inline bool become(uid_t uid)
{
	return become(uid, uid);
}

// In a child of that user and group: runs `what`, whose result is the child's exit status; -1 if it does not end in time.
template <typename What> int as_user(uid_t uid, gid_t gid, What what)
{
	const pid_t child = fork();
	int status = -1;

	if (child == 0) {
		alarm(50);
		if (getuid() != uid && !become(uid, gid))
			_exit(254);
		_exit(what());
	}
	EXPECT_TRUE(await_exit(child, &status, 55s)); /* it has a limit of its own */
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

template <typename What> int as_user(uid_t uid, What what)
{
	return as_user(uid, uid, what);
}
