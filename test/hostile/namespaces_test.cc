// SPDX-License-Identifier: BSD-2-Clause
// Users who are root in a namespace of their own: to the daemon they are who they were.
#include "test/hostile/hostile.h"
#include "test/support/datagram.h"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>

namespace
{

// Exit statuses of a client.
enum { SERVED = 0, NO_NAMESPACE = 100, NO_MAP, NOT_SENT, NO_ANSWER, REFUSED_FROM = 150 };

class Namespaces : public Hostile
{
      protected:
	void SetUp() override
	{
		Hostile::SetUp();
		REQUIRE_ROOT();
		if (as_user(STRANGER, [] { return unshare(CLONE_NEWUSER | CLONE_NEWPID) < 0; }) != 0)
			GTEST_SKIP() << "users may not make user namespaces here";
		start_open();
		add_file("file", 100);
	}

	static bool write_map(const char *name, uid_t id)
	{
		const Fd map(open((std::string("/proc/self/") + name).c_str(), O_WRONLY | O_CLOEXEC));
		const std::string line = "0 " + std::to_string(id) + " 1";

		return write(map, line.data(), line.size()) == static_cast<ssize_t>(line.size());
	}
	// From now on this process is in a user namespace of its own, as root there if it is mapped.
	static int enter(uid_t uid, bool mapped)
	{
		if (unshare(CLONE_NEWUSER) < 0)
			return NO_NAMESPACE;
		if (!mapped)
			return 0;
		/* Who has changed his user may not write to his own /proc/self, until he says so. */
		if (prctl(PR_SET_DUMPABLE, 1) < 0)
			return NO_MAP;
		const Fd groups(open("/proc/self/setgroups", O_WRONLY | O_CLOEXEC));
		if (write(groups, "deny", 4) != 4 || !write_map("uid_map", uid) || !write_map("gid_map", uid) ||
			setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
			return NO_MAP;
		return 0;
	}
	// Asks for the file's information: how that went.
	static int outcome_of(int status)
	{
		unsigned char frame[SFD_MAX_RESP_SIZE];

		if (status < 0)
			return NOT_SENT;
		if (read_frame(status, frame) != Got::Frame)
			return NO_ANSWER;
		return sfd_get_stat(frame) == SFD_STAT_OK ? SERVED : REFUSED_FROM + sfd_get_stat(frame);
	}
	int ask()
	{
		const Fd own(daemon().connect()), status(sfd_open(own, "file", 0, 0, false));

		return outcome_of(status);
	}
	// The same, with credentials that it says itself to be its own.
	int ask_as(uid_t uid, gid_t gid)
	{
		const Fd own(daemon().connect());
		Ends channel = make_pipe();
		const Bytes bytes = Datagram().add(make_request(WIRE_OP_OPEN, "file", 1)).bytes();

		if (send_bytes_as(own, bytes, {getpid(), uid, gid}, channel.in) != 0)
			return NOT_SENT;
		channel.in.reset();
		return outcome_of(channel.out);
	}

	template <typename What> int in_namespace(uid_t uid, bool mapped, What what)
	{
		return as_user(uid, [&] {
			const int err = enter(uid, mapped);

			return err != 0 ? err : what();
		});
	}

	// The stranger is refused there as he is outside, and the friend is served.
	template <typename What> void expect_who_they_were(bool mapped, What what)
	{
		EXPECT_EQ(REFUSED_FROM + EACCES, in_namespace(STRANGER, mapped, what));
		EXPECT_EQ(+SERVED, in_namespace(FRIEND, mapped, what));
	}
};

TEST_F(Namespaces, RootOfOneIsWhoHeWas)
{
	expect_who_they_were(true, [&] { return ask(); });
}

// There he may say that he is root, which is root of the namespace: himself.
TEST_F(Namespaces, WhatHeSaysOfHimself)
{
	expect_who_they_were(true, [&] { return ask_as(0, 0); });
	for (const uid_t uid : {uid_t{0}, FRIEND})
		EXPECT_EQ(+NOT_SENT, as_user(STRANGER, [&] { return ask_as(uid, STRANGER); })) << uid;
	for (const uid_t uid : {FRIEND, uid_t{65534}, STRANGER})
		EXPECT_EQ(+NOT_SENT, in_namespace(STRANGER, true, [&] { return ask_as(uid, 0); })) << uid;
}

TEST_F(Namespaces, WithoutAMap)
{
	expect_who_they_were(false, [&] { return ask(); });
}

// A process of a PID namespace below the daemon's has a number there, too.
TEST_F(Namespaces, OfProcesses)
{
	expect_who_they_were(true, [&] {
		int status = -1;

		if (unshare(CLONE_NEWPID) < 0)
			return +NO_NAMESPACE;
		const pid_t child = fork();
		if (child == 0)
			_exit(getpid() == 1 ? ask() : NO_MAP);
		waitpid(child, &status, 0);
		return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	});
}

} // namespace
