// SPDX-License-Identifier: BSD-2-Clause
// Whole files: each way to ask for one, to each kind of destination, in each size.
#include "test/support/fixture.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <tuple>

namespace
{

constexpr size_t MiB = 1024 * 1024;

enum class Way { Send, OpenThenSend };

class Send : public SfdTest
{
      protected:
	void SetUp() override
	{
		SfdTest::SetUp();
		start();
	}

	// The status pipe of a transfer to that destination.
	Fd ask(Way way, const char *path, int dest)
	{
		sfd_file_info info;

		if (way == Way::Send)
			return Fd(sfd_send(srv(), path, dest, 0, 0, false));

		Fd status(sfd_open(srv(), path, 0, 0, true));
		EXPECT_GE(status, 0);
		if (status < 0 || !read_info(status, &info))
			return Fd();
		opened_ = info;
		EXPECT_TRUE(sfd_send_open(srv(), info.txnid, dest));
		return status;
	}

	Outcome outcome(Way way, int status)
	{
		if (way == Way::Send)
			return read_outcome(status);
		return read_rest(status, opened_);
	}

	void check(Way way, const DestType &type, size_t size)
	{
		const std::string content = add_file("file", size, size + 7);
		Dest dest(type, dir());
		const int flags = fcntl(dest.fd(), F_GETFL);

		const auto begin = Clock::now();
		dest.start_reading();
		const Fd status = ask(way, "file", dest.fd());
		ASSERT_GE(status, 0) << strerror(errno);
		const Outcome o = outcome(way, status);
		expect_success(o, size);
		expect_paced(o, Clock::now() - begin);
		EXPECT_EQ(size, o.info().file_size);
		EXPECT_EQ(flags, fcntl(dest.fd(), F_GETFL));
		if (dest.is_file()) {
			/* With O_APPEND the position moves when something is written, not before. */
			const auto first = type.kind == Kind::Append && size == 0 ? 0 : Dest::before.size();

			EXPECT_EQ(static_cast<off_t>(first + size), lseek(dest.fd(), 0, SEEK_CUR));
		}
		const std::string got = dest.finish();
		if (type.kind != Kind::Null) {
			EXPECT_TRUE(same_content((dest.is_file() ? Dest::before : "") + content, got));
		}
		expect_same_workers();
	}

      private:
	sfd_file_info opened_ = {};
};

using Case = std::tuple<Way, DestType, size_t>;

class SendEach : public Send, public ::testing::WithParamInterface<Case>
{
};

std::string case_name(const ::testing::TestParamInfo<Case> &info)
{
	return std::string(std::get<0>(info.param) == Way::Send ? "Send" : "Open") + name_of(std::get<1>(info.param)) +
	       std::to_string(std::get<2>(info.param));
}

TEST_P(SendEach, DeliversTheFile)
{
	check(std::get<0>(GetParam()), std::get<1>(GetParam()), std::get<2>(GetParam()));
}

INSTANTIATE_TEST_SUITE_P(All, SendEach,
	::testing::Combine(::testing::Values(Way::Send, Way::OpenThenSend), ::testing::ValuesIn(all_dest_types()),
		::testing::Values(0, 1, 4095, 4096, 65536, MiB + 13)),
	case_name);

INSTANTIATE_TEST_SUITE_P(Large, SendEach,
	::testing::Combine(::testing::Values(Way::Send),
		::testing::Values(DestType{Kind::Pipe, false}, DestType{Kind::Tcp, false}, DestType{Kind::Tcp, true},
			DestType{Kind::Unix, true}, DestType{Kind::File, false}),
		::testing::Values(64 * MiB)),
	case_name);

class ReadEach : public Send, public ::testing::WithParamInterface<size_t>
{
};

TEST_P(ReadEach, BringsTheFile)
{
	for (bool nonblock : {false, true}) {
		const std::string content = add_file("file", GetParam());
		const Fd pipe(sfd_read(srv(), "file", 0, 0, nonblock));

		ASSERT_GE(pipe, 0) << strerror(errno);
		EXPECT_EQ(nonblock, (fcntl(pipe, F_GETFL) & O_NONBLOCK) != 0);
		EXPECT_NE(0, fcntl(pipe, F_GETFD) & FD_CLOEXEC);
		const ReadResult r = read_file_pipe(pipe);
		EXPECT_TRUE(r.has_info);
		EXPECT_EQ(SFD_STAT_OK, r.info.stat);
		EXPECT_EQ(GetParam(), r.info.size);
		EXPECT_TRUE(same_content(content, r.content));
	}
}

INSTANTIATE_TEST_SUITE_P(All, ReadEach, ::testing::Values(0, 1, 4095, 4096, 65536, MiB + 13, 64 * MiB));

TEST_F(Send, StatusPipeIsAsAskedFor)
{
	for (bool nonblock : {false, true}) {
		const Ends pipe = make_pipe();
		const Fd sent(sfd_send(srv(), "canary", pipe.in, 0, 0, nonblock));
		const Fd opened(sfd_open(srv(), "canary", 0, 0, nonblock));

		for (int fd : {static_cast<int>(sent), static_cast<int>(opened)}) {
			EXPECT_EQ(nonblock, (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
			EXPECT_NE(0, fcntl(fd, F_GETFD) & FD_CLOEXEC);
			EXPECT_EQ(O_RDONLY, fcntl(fd, F_GETFL) & O_ACCMODE);
		}
		expect_success(read_outcome(sent), 1000);
	}
}

// The caller may close its descriptors as soon as the call has returned.
TEST_F(Send, DestinationMayBeClosedAtOnce)
{
	const std::string content = add_file("file", 3 * MiB);
	Dest dest({Kind::Tcp, false}, dir());
	const Fd status(sfd_send(srv(), "file", dest.fd(), 0, 0, false));

	/* Nobody reads yet, so this end is closed while the transfer is on its way. */
	EXPECT_TRUE(same_content(content, dest.finish()));
	expect_success(read_outcome(status), content.size());
}

TEST_F(Send, SeveralInTurnGoToTheSameDestination)
{
	const std::string first = add_file("first", 100000, 1), second = add_file("second", 200000, 2);
	Dest dest({Kind::Unix, true}, dir());

	dest.start_reading();
	for (const char *name : {"first", "second", "first"}) {
		const Fd status(sfd_send(srv(), name, dest.fd(), 0, 0, false));

		EXPECT_EQ(SFD_STAT_OK, read_outcome(status).stat());
	}
	EXPECT_TRUE(same_content(first + second + first, dest.finish()));
}

// A long transfer is told of while it goes on, and what is told adds up.
TEST_F(Send, ProgressIsReported)
{
	constexpr size_t SIZE = 64 * MiB;
	Dest dest({Kind::Tcp, true}, dir());
	std::string chunk(MiB, '\0');
	size_t taken = 0;
	sfd_file_info info;

	add_file("file", SIZE);
	const Fd status(sfd_send(srv(), "file", dest.fd(), 0, 0, false));
	ASSERT_TRUE(read_info(status, &info));
	/* At the receiver's pace, with pauses longer than the time between two frames, until one has come. */
	while (await(status, POLLIN, 120ms) == 0 && taken < SIZE / 2) {
		const ssize_t n = recv(dest.peer(), chunk.data(), chunk.size(), MSG_WAITALL);

		ASSERT_GT(n, 0);
		taken += static_cast<size_t>(n);
	}
	EXPECT_LT(taken, SIZE / 2) << "no progress was reported";
	dest.start_reading();
	const Outcome o = read_rest(status, info);
	expect_success(o, SIZE);
	EXPECT_GT(o.stats.size(), 1u);
	EXPECT_EQ(SIZE - taken, dest.finish().size());
}

// A status pipe that nobody empties costs progress frames, never the information and never the end.
TEST_F(Send, FullStatusPipeStillBringsTheEnd)
{
	constexpr size_t SIZE = 64 * MiB;
	add_file("file", SIZE);
	Dest dest({Kind::Pipe, false}, dir());
	dest.start_reading();
	const Fd status(sfd_send(srv(), "file", dest.fd(), 0, 0, false));
	ASSERT_GE(fcntl(status, F_SETPIPE_SZ, 4096), 4096);
	EXPECT_EQ(SIZE, dest.finish().size());

	const Outcome o = read_outcome(status);
	expect_success(o, SIZE);
	EXPECT_LE(o.stats.size(), 33u);
}

} // namespace
