// SPDX-License-Identifier: BSD-2-Clause
// Who is served, and when two messages are of the same client.
extern "C" {
#include "server/access.h"
}

#include <gtest/gtest.h>

namespace
{

bool allowed(uid_t starter, uid_t serving, uid_t uid, pid_t pid = 100)
{
	const struct access a = {starter, serving};
	const owner who = {uid, pid};

	return access_allowed(&a, &who);
}

TEST(Access, TheStarterTheServingUserAndRoot)
{
	EXPECT_TRUE(allowed(1000, 990, 1000));
	EXPECT_TRUE(allowed(1000, 990, 990));
	EXPECT_TRUE(allowed(1000, 990, 0));
	EXPECT_TRUE(allowed(0, 990, 990));
	EXPECT_TRUE(allowed(0, 990, 0));
	EXPECT_TRUE(allowed(1000, 1000, 1000));
}

TEST(Access, NobodyElse)
{
	for (uid_t uid : {1u, 989u, 991u, 999u, 1001u, 65533u, 65535u, 0x7fffffffu, 0xfffffffeu, 0xffffffffu})
		EXPECT_FALSE(allowed(1000, 990, uid)) << uid;
}

// 65534 is what every sender without a uid in our namespace looks like: that we serve as it lets
// none in, only that somebody started the daemon as it.
TEST(Access, TheUidThatNamesNoOne)
{
	EXPECT_EQ(65534, static_cast<int>(UID_UNMAPPED));
	EXPECT_FALSE(allowed(0, 65534, 65534));
	EXPECT_FALSE(allowed(1000, 65534, 65534));
	EXPECT_FALSE(allowed(1000, 990, 65534));
	EXPECT_TRUE(allowed(65534, 65534, 65534));
	EXPECT_TRUE(allowed(0, 65534, 0));
}

// Without a process that can be named, an id could be used by anyone of that user.
TEST(Access, ASenderOutsideThePidNamespace)
{
	EXPECT_FALSE(allowed(1000, 990, 1000, 0));
	EXPECT_FALSE(allowed(1000, 990, 990, 0));
	EXPECT_FALSE(allowed(1000, 990, 0, 0));
}

TEST(Owner, IsUserAndProcess)
{
	const owner a = {1000, 100}, same = {1000, 100}, other_user = {1001, 100}, other_process = {1000, 101};

	EXPECT_TRUE(owner_same(&a, &same));
	EXPECT_FALSE(owner_same(&a, &other_user));
	EXPECT_FALSE(owner_same(&a, &other_process));
}

} // namespace
