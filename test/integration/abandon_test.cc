// SPDX-License-Identifier: BSD-2-Clause
// Clients that lose interest: they close their status pipe.
#include "test/support/fixture.h"

#include "test/support/datagram.h"

#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <sys/socket.h>

namespace
{

class Abandon : public SfdTest
{
      protected:
	static constexpr size_t LARGE = 16 << 20;

	void SetUp() override
	{
		SfdTest::SetUp();
		start();
		add_file("large", LARGE);
	}
};

class AbandonEach : public Abandon, public ::testing::WithParamInterface<DestType>
{
};

// The destination is let go of soon, though there is no event on it.
TEST_P(AbandonEach, BlockedTransfer)
{
	std::vector<std::unique_ptr<Dest>> dests;
	std::vector<Fd> statuses;

	for (int i = 0; i < 10; i++) {
		sfd_file_info info;

		dests.push_back(std::make_unique<Dest>(GetParam(), dir()));
		statuses.emplace_back(sfd_send(srv(), "large", dests.back()->fd(), 0, 0, false));
		ASSERT_TRUE(read_info(statuses.back(), &info));
		ASSERT_NE(0, await(dests.back()->peer(), POLLIN));
	}
	statuses.clear();
	expect_idle(1s);
	for (auto &dest : dests)
		EXPECT_LT(dest->finish().size(), LARGE);
}

INSTANTIATE_TEST_SUITE_P(
	All, AbandonEach, ::testing::ValuesIn(stallable_dest_types()), [](const auto &i) { return name_of(i.param); });

TEST_F(Abandon, OpenedFile)
{
	std::vector<Fd> statuses;
	sfd_file_info info;

	for (int i = 0; i < 20; i++) {
		statuses.emplace_back(when_room(srv(), [&] { return sfd_open(srv(), "large", 0, 0, false); }));
		ASSERT_TRUE(read_info(statuses.back(), &info));
	}
	statuses.clear();
	expect_idle(1s);
	/* And it can no longer be sent. */
	Dest dest({Kind::Pipe, false}, dir());
	ASSERT_TRUE(sfd_send_open(srv(), info.txnid, dest.fd()));
	canary();
	EXPECT_EQ("", dest.finish());
}

TEST_F(Abandon, Read)
{
	std::vector<Fd> pipes;

	for (int i = 0; i < 20; i++) {
		pipes.emplace_back(when_room(srv(), [&] { return sfd_read(srv(), "large", 0, 0, false); }));
		ASSERT_NE(0, await(pipes.back(), POLLIN));
	}
	pipes.clear();
	expect_idle(1s);
}

// Closed in full flight, with a reader at the other end that takes all it can get.
TEST_F(Abandon, MovingTransfer)
{
	Dest dest({Kind::Tcp, true}, dir());
	sfd_file_info info;

	add_file("huge", 256 << 20);
	Fd status(sfd_send(srv(), "huge", dest.fd(), 0, 0, false));
	ASSERT_TRUE(read_info(status, &info));
	dest.start_reading();
	status.reset();
	EXPECT_LT(dest.finish().size(), size_t{256} << 20);
	expect_idle(1s);
}

// A request whose asker is gone before it is even received: nothing is written anywhere.
TEST_F(Abandon, BeforeItIsReceived)
{
	std::vector<std::unique_ptr<Dest>> dests;

	freeze(daemon().workers());
	for (int i = 0; i < 4; i++) {
		dests.push_back(std::make_unique<Dest>(DestType{i % 2 ? Kind::File : Kind::Pipe, false}, dir()));
		const Fd closed(sfd_send(srv(), "canary", dests.back()->fd(), 0, 0, false));
		ASSERT_GE(closed, 0);
	}
	thaw(daemon().workers());
	canary();
	expect_idle(1s);
	for (auto &dest : dests)
		EXPECT_EQ(dest->is_file() ? Dest::before : "", dest->finish());
}

// The requests of one datagram share a pipe; its closing ends all of them.
TEST_F(Abandon, AllRequestsOfADatagram)
{
	constexpr unsigned N = 8;
	std::vector<std::unique_ptr<Dest>> dests;
	const std::string path = "large";
	Ends status = make_pipe();
	std::vector<int> fds = {status.in};
	Datagram datagram;

	for (unsigned i = 0; i < N; i++) {
		dests.push_back(std::make_unique<Dest>(DestType{Kind::Unix, i % 2 == 0}, dir()));
		fds.push_back(dests.back()->fd());
		datagram.add(make_request(WIRE_OP_SEND, path, i + 1));
	}
	ASSERT_EQ(0, send_bytes(srv(), datagram.bytes(), fds));
	status.in.reset();
	for (auto &dest : dests)
		ASSERT_NE(0, await(dest->peer(), POLLIN));
	status.out.reset();
	expect_idle(1s);
	for (auto &dest : dests)
		EXPECT_LT(dest->finish().size(), LARGE);
}

// A client that ends, however it does, is one that closes all.
TEST_F(Abandon, KilledClient)
{
	Dest dest({Kind::Tcp, false}, dir());
	Ends told = make_pipe();
	const pid_t child = fork();

	if (child == 0) {
		sfd_file_info info;
		unsigned char frame[SFD_MAX_RESP_SIZE];
		const int send_pipe = sfd_send(srv(), "large", dest.fd(), 0, 0, false);
		const int read_pipe = sfd_read(srv(), "large", 0, 0, false);
		const int open_pipe = sfd_open(srv(), "large", 0, 0, false);

		if (send_pipe < 0 || read_pipe < 0 || read(open_pipe, frame, sizeof frame) != sizeof frame ||
			!sfd_unmarshal_file_info(&info, frame) || write(told.in, "", 1) != 1)
			_exit(1);
		pause();
		_exit(0);
	}
	ASSERT_NE(0, await(told.out, POLLIN));
	ASSERT_NE(0, await(dest.peer(), POLLIN));
	ASSERT_EQ(0, kill(child, SIGKILL));
	int status;
	ASSERT_TRUE(await_exit(child, &status));
	expect_idle(1s);
	EXPECT_LT(dest.finish().size(), LARGE);
}

} // namespace
