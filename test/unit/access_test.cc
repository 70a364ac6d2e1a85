// SPDX-License-Identifier: BSD-2-Clause
// Who is served, and when two messages are of the same client.
extern "C" {
#include "server/access.h"
}

#include "test/support/files.h"
#include "test/support/namespaces.h"
#include "test/support/wait.h"

#include <gtest/gtest.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace
{

bool allowed(uid_t starter, uid_t serving, uid_t uid, pid_t pid = 100)
{
	struct access a = {};
	const owner who = {uid, pid, 0};

	a.starter = starter;
	a.serving = serving;
	return access_allowed(&a, &who, uid);
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

// ---- Those whom the operator names

class AccessLists : public ::testing::Test
{
      protected:
	void TearDown() override
	{
		access_free(&access_);
	}

	// What is said of it; "" if it went well.
	std::string allow(const std::vector<const char *> &users, const std::vector<const char *> &groups = {})
	{
		names u = {}, g = {};
		char error[256] = "";

		for (const char *user : users)
			u.all[u.count++] = user;
		for (const char *group : groups)
			g.all[g.count++] = group;
		access_.starter = 1000;
		access_.serving = 990;
		access_free(&access_);
		const int result = access_allow(&access_, &u, &g, error, sizeof error);
		EXPECT_EQ(result == 0, *error == '\0') << error;
		return error;
	}

	bool allowed(uid_t uid, gid_t gid, pid_t pid = 100) const
	{
		const owner who = {uid, pid, 0};

		return access_allowed(&access_, &who, gid);
	}

	struct access access_ = {};
};

TEST_F(AccessLists, NoneIsTheDefault)
{
	ASSERT_EQ("", allow({}));
	EXPECT_TRUE(allowed(990, 5));
	EXPECT_TRUE(allowed(1000, 5));
	EXPECT_FALSE(allowed(1001, 990));
}

TEST_F(AccessLists, Users)
{
	ASSERT_EQ("", allow({"3003", "2000001", "7", "3003"}));
	for (const uid_t uid : {3003u, 2000001u, 7u, 0u, 1000u})
		EXPECT_TRUE(allowed(uid, 5)) << uid;
	for (const uid_t uid : {3002u, 3004u, 2000000u, 6u, 8u, 65534u, 0xffffffffu})
		EXPECT_FALSE(allowed(uid, 3003)) << uid;
	/* Whom the daemon runs as is not among the named ones. */
	EXPECT_FALSE(allowed(990, 5));
}

TEST_F(AccessLists, Groups)
{
	ASSERT_EQ("", allow({}, {"4004", "5005"}));
	EXPECT_TRUE(allowed(1, 4004));
	EXPECT_TRUE(allowed(1, 5005));
	EXPECT_FALSE(allowed(4004, 1));
	EXPECT_FALSE(allowed(1, 4005));
	EXPECT_FALSE(allowed(990, 990));
	EXPECT_TRUE(allowed(1000, 1));
	EXPECT_TRUE(allowed(0, 1));
}

TEST_F(AccessLists, Names)
{
	ASSERT_EQ("", allow({"root", "daemon"}, {"mail"}));
	EXPECT_TRUE(allowed(1, 1));
	EXPECT_TRUE(allowed(77, 8));
	EXPECT_FALSE(allowed(77, 77));
}

TEST_F(AccessLists, UnknownNames)
{
	EXPECT_NE(std::string::npos, allow({"daemon", "no-such-user"}).find("'no-such-user'"));
	EXPECT_NE(std::string::npos, allow({}, {"no-such-group"}).find("'no-such-group'"));
	for (const char *bad : {"", "-1", "4294967295", "4294967296", "1x", " 1"}) {
		EXPECT_NE(std::string::npos, allow({bad}).find("--allow-user")) << bad;
		EXPECT_NE(std::string::npos, allow({}, {bad}).find("--allow-group")) << bad;
	}
}

// Who has no uid here has none of the groups here, either; and nobody is let in by mistake.
TEST_F(AccessLists, TheUidThatNamesNoOneIsToBeNamed)
{
	ASSERT_EQ("", allow({"7"}, {"65534"}));
	EXPECT_FALSE(allowed(65534, 65534));
	EXPECT_TRUE(allowed(8, 65534));
	ASSERT_EQ("", allow({"65534"}));
	EXPECT_TRUE(allowed(65534, 65534));
}

TEST_F(AccessLists, ForeignPidNamespaces)
{
	ASSERT_EQ("", allow({"7"}));
	EXPECT_FALSE(allowed(7, 7, 0));
	access_.foreign = true;
	EXPECT_TRUE(allowed(7, 7, 0));
	EXPECT_FALSE(allowed(8, 8, 0));
	EXPECT_FALSE(allowed(65534, 65534, 0));
}

// Of a group's members too, whatever their own group is: as the database lists them, in mounts of our own.
TEST_F(AccessLists, MembersOfGroups)
{
	REQUIRE_MOUNTS();
	TempDir temp;
	const pid_t child = fork();
	int status = -1;

	if (child == 0) {
		write_whole(temp.path() + "/group", "media:x:4004:daemon,nosuchuser,mail\nempty:x:4005:\n");
		own_mounts();
		if (mount((temp.path() + "/group").c_str(), "/etc/group", nullptr, MS_BIND, nullptr) < 0)
			_exit(1);
		if (!allow({}, {"media", "empty"}).empty())
			_exit(2);
		if (!allowed(1, 1) || !allowed(8, 8) || !allowed(99, 4004) || !allowed(99, 4005))
			_exit(3);
		_exit(allowed(99, 99) || allowed(2, 2) ? 4 : 0);
	}
	ASSERT_TRUE(await_exit(child, &status));
	EXPECT_EQ(0, WEXITSTATUS(status)) << "the child stopped at that step";
}

TEST(Owner, IsUserAndProcess)
{
	const owner a = {1000, 100, 7}, same = {1000, 100, 7}, other_user = {1001, 100, 7},
		    other_process = {1000, 101, 7};

	EXPECT_TRUE(owner_same(&a, &same));
	EXPECT_FALSE(owner_same(&a, &other_user));
	EXPECT_FALSE(owner_same(&a, &other_process));
}

// A mark that is known tells apart what a number does not.
TEST(Owner, IsNotWhoeverHasTheNumberLater)
{
	const owner a = {1000, 100, 7}, later = {1000, 100, 8}, unknown = {1000, 100, 0};

	EXPECT_FALSE(owner_same(&a, &later));
	EXPECT_TRUE(owner_same(&a, &unknown));
	EXPECT_TRUE(owner_same(&unknown, &later));
}

} // namespace
