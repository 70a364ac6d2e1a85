// SPDX-License-Identifier: BSD-2-Clause
// Who serves: never root, and for good.
extern "C" {
#include "server/privilege.h"
}
#include "test/support/user.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <grp.h>
#include <pwd.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

namespace
{

struct Resolved {
	identity id;
	int result;
	std::string error;
};

Resolved resolve(const char *user, const char *group)
{
	Resolved r{};
	char error[256] = "";

	r.result = identity_resolve(&r.id, user, group, error, sizeof error);
	r.error = error;
	return r;
}

bool is_one_line(const std::string &s)
{
	return !s.empty() && s.find('\n') == std::string::npos;
}

// Runs `body` in a child and returns its exit status: identities are given up for good.
int in_child(const std::function<int()> &body)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0)
		_exit(body());
	EXPECT_EQ(pid, waitpid(pid, &status, 0));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

class AsRoot : public testing::Test
{
      protected:
	void SetUp() override
	{
		if (geteuid() != 0)
			GTEST_SKIP() << "needs root";
	}
};

TEST_F(AsRoot, TheDefaultIsSendfiledElseNobody)
{
	const passwd *pw = getpwnam("sendfiled") ? getpwnam("sendfiled") : getpwnam("nobody");
	const Resolved r = resolve(nullptr, nullptr);

	ASSERT_NE(nullptr, pw);
	ASSERT_EQ(0, r.result) << r.error;
	EXPECT_TRUE(r.id.change);
	EXPECT_EQ(pw->pw_uid, r.id.uid);
	EXPECT_EQ(pw->pw_gid, r.id.gid);
}

TEST_F(AsRoot, NamesAndNumbers)
{
	if (!getpwnam("daemon") || !getgrnam("tty"))
		GTEST_SKIP() << "there is no user daemon or no group tty here";
	const passwd daemon = *getpwnam("daemon"); /* the next call overwrites what it points to */
	const gid_t tty = getgrnam("tty")->gr_gid;
	Resolved r = resolve("daemon", nullptr);

	ASSERT_EQ(0, r.result) << r.error;
	EXPECT_EQ(daemon.pw_uid, r.id.uid);
	EXPECT_EQ(daemon.pw_gid, r.id.gid) << "the user's own group";
	r = resolve("daemon", "tty");
	ASSERT_EQ(0, r.result) << r.error;
	EXPECT_EQ(daemon.pw_uid, r.id.uid);
	EXPECT_EQ(tty, r.id.gid);
	r = resolve(std::to_string(daemon.pw_uid).c_str(), "54322");
	ASSERT_EQ(0, r.result) << r.error;
	EXPECT_EQ(daemon.pw_uid, r.id.uid);
	EXPECT_EQ(54322u, r.id.gid);
	r = resolve("54321", nullptr);
	ASSERT_EQ(0, r.result) << r.error;
	EXPECT_EQ(54321u, r.id.uid);
	EXPECT_EQ(54321u, r.id.gid) << "of a uid without a name: the same number, never root's";
}

TEST_F(AsRoot, RootIsRefused)
{
	const char *const pairs[][2] = {{"root", nullptr}, {"0", nullptr}, {"00", nullptr}, {"root", "daemon"},
		{"daemon", "root"}, {"daemon", "0"}, {nullptr, "root"}};

	for (const auto &p : pairs) {
		const Resolved r = resolve(p[0], p[1]);

		EXPECT_EQ(-1, r.result) << (p[0] ? p[0] : "-") << ":" << (p[1] ? p[1] : "-");
		EXPECT_TRUE(is_one_line(r.error)) << r.error;
		EXPECT_NE(std::string::npos, r.error.find("root")) << r.error;
		EXPECT_FALSE(r.id.change);
	}
}

TEST(Identity, WhoDoesNotExist)
{
	/* The last two mean "leave it as it is" to setresuid(2). */
	for (const char *who : {"no-such-user-here", "", "-1", "+5", " 5", "5x", "99999999999", "4294967295",
		     "18446744073709551615"}) {
		Resolved r = resolve(who, nullptr);

		EXPECT_EQ(-1, r.result) << who;
		EXPECT_TRUE(is_one_line(r.error)) << r.error;
		EXPECT_NE(std::string::npos, r.error.find(std::string("'") + who + "'")) << r.error;
		r = resolve(nullptr, who);
		EXPECT_EQ(-1, r.result) << who;
		EXPECT_TRUE(is_one_line(r.error)) << r.error;
		EXPECT_NE(std::string::npos, r.error.find(std::string("'") + who + "'")) << r.error;
	}
}

// As an ordinary user, which root becomes for the purpose.
int as_ordinary_user(const std::function<int()> &body)
{
	return in_child([&] {
		if (geteuid() == 0 && !become(54321, 54322))
			return 100;
		return body();
	});
}

TEST(Identity, AnOrdinaryUserServesAsItself)
{
	EXPECT_EQ(0, as_ordinary_user([] {
		const Resolved r = resolve(nullptr, nullptr);

		if (r.result != 0 || r.id.change)
			return 1;
		if (r.id.uid != geteuid() || r.id.gid != getegid())
			return 2;
		return identity_assume(&r.id) == 0 ? 0 : 3;
	}));
}

TEST(Identity, AnOrdinaryUserMaySayWhoItIs)
{
	EXPECT_EQ(0, as_ordinary_user([] {
		const std::string uid = std::to_string(geteuid()), gid = std::to_string(getegid());
		const Resolved r = resolve(uid.c_str(), gid.c_str());

		return r.result == 0 && !r.id.change && r.id.uid == geteuid() && r.id.gid == getegid() ? 0 : 1;
	}));
}

TEST(Identity, AnOrdinaryUserIsNobodyElse)
{
	EXPECT_EQ(0, as_ordinary_user([] {
		const Resolved root = resolve("root", nullptr), other = resolve("1", nullptr),
			       group = resolve(nullptr, "0");

		if (root.result != -1 || other.result != -1 || group.result != -1)
			return 1;
		return is_one_line(root.error) && root.error.find("root") != std::string::npos ? 0 : 2;
	}));
}

TEST_F(AsRoot, AssumedForGood)
{
	EXPECT_EQ(0, in_child([] {
		const identity id = {54321, 54322, true};
		const gid_t groups[] = {0, 1, 2};
		uid_t r, e, s;
		gid_t rg, eg, sg;

		if (setgroups(3, groups) < 0 || identity_assume(&id) < 0)
			return 1;
		if (getresuid(&r, &e, &s) < 0 || r != 54321 || e != 54321 || s != 54321)
			return 2;
		if (getresgid(&rg, &eg, &sg) < 0 || rg != 54322 || eg != 54322 || sg != 54322)
			return 3;
		if (getgroups(0, nullptr) != 0)
			return 4;
		return setresuid(0, 0, 0) < 0 && seteuid(0) < 0 && setegid(0) < 0 && setgroups(0, nullptr) < 0 ? 0 : 5;
	}));
}

TEST_F(AsRoot, WhatCannotBeAssumedIsAnError)
{
	EXPECT_EQ(0, in_child([] {
		const identity id = {54321, 54322, true};

		/* No right to change groups any more. */
		if (setresuid(1, 1, 1) < 0)
			return 1;
		return identity_assume(&id) == -1 && errno == EPERM ? 0 : 2;
	}));
}

// The proof is one: with root's ids to be "assumed" it must fail.
TEST_F(AsRoot, TheProofFindsAWayBack)
{
	EXPECT_EQ(0, in_child([] {
		const identity id = {0, 0, true};

		return identity_assume(&id) == -1 && errno == EPERM ? 0 : 1;
	}));
}

} // namespace
