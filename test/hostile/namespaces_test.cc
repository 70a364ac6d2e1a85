// SPDX-License-Identifier: BSD-2-Clause
// Users who are root in a namespace of their own: to the daemon they are who they were.
#include "test/hostile/hostile.h"
#include "test/support/datagram.h"

#include <cstring>
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
		const ucred cred = {getpid(), uid, gid};
		const int fd = channel.in;
		alignas(cmsghdr) char control[CMSG_SPACE(sizeof cred) + CMSG_SPACE(sizeof fd)] = {};
		iovec iov = {const_cast<unsigned char *>(bytes.data()), bytes.size()};
		msghdr msg = {};

		msg.msg_iov = &iov;
		msg.msg_iovlen = 1;
		msg.msg_control = control;
		msg.msg_controllen = sizeof control;
		cmsghdr *c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_CREDENTIALS;
		c->cmsg_len = CMSG_LEN(sizeof cred);
		memcpy(CMSG_DATA(c), &cred, sizeof cred);
		c = CMSG_NXTHDR(&msg, c);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof fd);
		memcpy(CMSG_DATA(c), &fd, sizeof fd);
		if (sendmsg(own, &msg, MSG_NOSIGNAL) < 0)
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
};

#define SKIP_WITHOUT_NAMESPACE(result)                                                                                 \
	do {                                                                                                           \
		if ((result) == NO_NAMESPACE)                                                                          \
			GTEST_SKIP() << "users may not make user namespaces here";                                     \
	} while (0)

TEST_F(Namespaces, RootOfOneIsWhoHeWas)
{
	const int result = in_namespace(STRANGER, true, [&] { return ask(); });

	SKIP_WITHOUT_NAMESPACE(result);
	EXPECT_EQ(REFUSED_FROM + EACCES, result);
	EXPECT_EQ(+SERVED, in_namespace(FRIEND, true, [&] { return ask(); }));
}

// There he may say that he is root, which is root of the namespace: himself.
TEST_F(Namespaces, WhatHeSaysOfHimself)
{
	const int result = in_namespace(STRANGER, true, [&] { return ask_as(0, 0); });

	SKIP_WITHOUT_NAMESPACE(result);
	EXPECT_EQ(REFUSED_FROM + EACCES, result);
	EXPECT_EQ(+SERVED, in_namespace(FRIEND, true, [&] { return ask_as(0, 0); }));
	for (const uid_t uid : {uid_t{0}, FRIEND})
		EXPECT_EQ(+NOT_SENT, as_user(STRANGER, [&] { return ask_as(uid, STRANGER); })) << uid;
	for (const uid_t uid : {FRIEND, uid_t{65534}, STRANGER})
		EXPECT_EQ(+NOT_SENT, in_namespace(STRANGER, true, [&] { return ask_as(uid, 0); })) << uid;
}

TEST_F(Namespaces, WithoutAMap)
{
	const int result = in_namespace(STRANGER, false, [&] { return ask(); });

	SKIP_WITHOUT_NAMESPACE(result);
	EXPECT_EQ(REFUSED_FROM + EACCES, result);
	EXPECT_EQ(+SERVED, in_namespace(FRIEND, false, [&] { return ask(); }));
}

// A process of a PID namespace below the daemon's has a number there, too.
TEST_F(Namespaces, OfProcesses)
{
	const auto in_child = [&] {
		int status = -1;

		if (unshare(CLONE_NEWPID) < 0)
			return +NO_NAMESPACE;
		const pid_t child = fork();
		if (child == 0)
			_exit(getpid() == 1 ? ask() : NO_MAP);
		waitpid(child, &status, 0);
		return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	};
	const int result = in_namespace(STRANGER, true, in_child);

	SKIP_WITHOUT_NAMESPACE(result);
	EXPECT_EQ(REFUSED_FROM + EACCES, result);
	EXPECT_EQ(+SERVED, in_namespace(FRIEND, true, in_child));
}

} // namespace
