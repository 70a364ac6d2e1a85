// SPDX-License-Identifier: BSD-2-Clause
// Files kept open in sockets: as long as the socket is there, and no longer.
extern "C" {
#include "server/park.h"
}

#include "test/support/bounded.h"
#include "test/support/fd.h"

#include <cerrno>
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <vector>

namespace
{

class Park : public BoundedTest
{
      protected:
	// Whether somebody still has the write end of a pipe open.
	static bool has_writer(const Ends &pipe)
	{
		return (await(pipe.out, POLLIN, 0ms) & POLLHUP) == 0;
	}
};

TEST_F(Park, KeepsTheFileOpenUntilItIsClosed)
{
	Ends pipe = make_pipe();
	Fd sock(park(pipe.in));

	ASSERT_GE(sock, 0);
	EXPECT_GE(fcntl(pipe.in, F_GETFD), 0) << "it stays the caller's";
	pipe.in.reset();
	EXPECT_TRUE(has_writer(pipe));
	sock.reset();
	EXPECT_FALSE(has_writer(pipe));
}

TEST_F(Park, SocketIsCloseOnExecAndDoesNotBlock)
{
	Ends pipe = make_pipe();
	const Fd sock(park(pipe.in));

	EXPECT_NE(0, fcntl(sock, F_GETFD) & FD_CLOEXEC);
	EXPECT_NE(0, fcntl(sock, F_GETFL) & O_NONBLOCK);
}

TEST_F(Park, GivesAsManyCopiesAsOneLikes)
{
	Ends pipe = make_pipe();
	Fd sock(park(pipe.in));
	std::vector<Fd> copies;
	char c;

	pipe.in.reset();
	for (int i = 0; i < 5; i++) {
		copies.emplace_back(park_copy(sock));
		ASSERT_GE(copies.back(), 0);
		EXPECT_NE(0, fcntl(copies.back(), F_GETFD) & FD_CLOEXEC);
		EXPECT_EQ(1, write(copies.back(), "x", 1));
		EXPECT_EQ(1, read(pipe.out, &c, 1));
	}
	/* A copy outlives the socket, and closing copies leaves the socket as it is. */
	copies.resize(1);
	EXPECT_TRUE(has_writer(pipe));
	sock.reset();
	EXPECT_TRUE(has_writer(pipe));
	copies.clear();
	EXPECT_FALSE(has_writer(pipe));
}

TEST_F(Park, ACopyIsTheSameOpenFile)
{
	write_whole(path("file"), "0123456789");
	Fd file(open(path("file").c_str(), O_RDWR | O_APPEND | O_CLOEXEC));
	const Fd sock(park(file)), copy(park_copy(sock)), other(park_copy(sock));
	struct stat a = {}, b = {};

	ASSERT_EQ(0, fstat(file, &a));
	ASSERT_EQ(0, fstat(copy, &b));
	EXPECT_EQ(a.st_ino, b.st_ino);
	EXPECT_EQ(fcntl(file, F_GETFL), fcntl(copy, F_GETFL));
	EXPECT_EQ(7, lseek(other, 7, SEEK_SET));
	EXPECT_EQ(7, lseek(copy, 0, SEEK_CUR)) << "the position is shared";
	file.reset();
	EXPECT_EQ(7, lseek(copy, 0, SEEK_CUR));
}

TEST_F(Park, AnUnlinkedFileGoesWithItsSocket)
{
	write_whole(path("file"), "content");
	Fd file(open(path("file").c_str(), O_RDONLY | O_CLOEXEC)), sock(park(file));
	char buf[16];

	file.reset();
	ASSERT_EQ(0, unlink(path("file").c_str()));
	const Fd copy(park_copy(sock));
	EXPECT_EQ(7, read(copy, buf, sizeof buf));
}

TEST_F(Park, OtherProcessesTakeCopiesToo)
{
	Ends pipe = make_pipe();
	Fd sock(park(pipe.in));
	char c = 0;

	pipe.in.reset();
	in_child([&] {
		const Fd copy(park_copy(sock));
		EXPECT_EQ(1, write(copy, "y", 1));
	});
	EXPECT_EQ(1, read(pipe.out, &c, 1));
	EXPECT_EQ('y', c);
	sock.reset();
	EXPECT_FALSE(has_writer(pipe));
}

TEST_F(Park, ManyAtATime)
{
	std::vector<Ends> pipes;
	std::vector<Fd> socks;

	for (int i = 0; i < 200; i++) {
		pipes.push_back(make_pipe());
		socks.emplace_back(park(pipes.back().in));
		ASSERT_GE(socks.back(), 0) << i;
		pipes.back().in.reset();
	}
	for (size_t i = 0; i < pipes.size(); i++) {
		EXPECT_TRUE(has_writer(pipes[i]));
		socks[i].reset();
		EXPECT_FALSE(has_writer(pipes[i]));
	}
}

TEST_F(Park, WhatCannotBeParkedLeavesNothing)
{
	const size_t before = count_fds("self");

	EXPECT_EQ(-1, park(-1));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, park(1000000));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(before, count_fds("self"));
}

TEST_F(Park, WhatHoldsNothingGivesNothing)
{
	Ends pipe = make_pipe(), sock = make_socketpair(SOCK_SEQPACKET);

	EXPECT_EQ(-1, park_copy(-1));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, park_copy(pipe.out));
	EXPECT_EQ(ENOTSOCK, errno);
	EXPECT_EQ(-1, park_copy(sock.out));
	EXPECT_EQ(EAGAIN, errno);
	/* A message without a descriptor, and a socket whose other end is gone. */
	ASSERT_EQ(1, send(sock.in, "", 1, 0));
	EXPECT_EQ(-1, park_copy(sock.out));
	EXPECT_EQ(EMFILE, errno);
}

// There is no number left for the socket, for its other end, or for the copy: then for neither, and nothing is lost.
TEST_F(Park, WithoutRoomForDescriptorsNothingLeaks)
{
	Ends pipe = make_pipe();
	Fd sock(park(pipe.in));

	in_child([&] {
		const size_t open_now = count_fds("self");
		const Fd lowest(dup(0));
		const auto free_from = static_cast<rlim_t>(lowest);

		for (rlim_t room = 0; room < 3; room++) {
			const rlimit r = {free_from + 1 + room, free_from + 3};

			ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &r));
			const Fd other(park(pipe.in));
			EXPECT_EQ(room >= 2, other >= 0) << room;
			if (room < 2) {
				EXPECT_EQ(EMFILE, errno);
			}
			if (room > 0)
				continue;
			EXPECT_EQ(-1, park_copy(sock));
			EXPECT_EQ(EMFILE, errno);
		}
		EXPECT_EQ(open_now + 1, count_fds("self"));
	});
	const Fd copy(park_copy(sock));
	EXPECT_GE(copy, 0) << "it is still there";
}

} // namespace
