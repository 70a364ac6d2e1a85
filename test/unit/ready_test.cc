// SPDX-License-Identifier: BSD-2-Clause
// The descriptor that a queue shows: readable exactly while there is something to do, whichever way it is polled.
extern "C" {
#include "lib/ready.h"
}

#include "test/support/bounded.h"
#include "test/support/fd.h"

#include <cerrno>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <vector>

namespace
{

// An event loop's poller that has the descriptor in it, as nearly all programs will.
class Poller
{
      public:
	Poller(int fd, uint32_t events) : epoll_(epoll_create1(EPOLL_CLOEXEC))
	{
		epoll_event e = {};

		e.events = events;
		EXPECT_EQ(0, epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &e));
	}
	// True if an event is reported; level: as long as there is something; edge: once for each.
	bool sees() const
	{
		epoll_event e = {};

		return epoll_wait(epoll_, &e, 1, 0) == 1;
	}

      private:
	const Fd epoll_;
};

class Ready : public BoundedTest
{
      protected:
	void SetUp() override
	{
		BoundedTest::SetUp();
		connect_pair();
		ASSERT_EQ(0, ready_init(&r_, client_));
		level_ = std::make_unique<Poller>(r_.poller, EPOLLIN);
		edge_ = std::make_unique<Poller>(r_.poller, EPOLLIN | EPOLLET);
		EXPECT_FALSE(edge_->sees());
	}
	void TearDown() override
	{
		level_.reset();
		edge_.reset();
		ready_close(&r_);
		EXPECT_TRUE(r_.poller < 0 && r_.bell < 0 && r_.timer < 0);
		client_.reset();
		server_.reset();
		BoundedTest::TearDown();
	}

	// As poll(2) and a level-triggered poller see it, who must agree.
	bool readable() const
	{
		const bool by_poll = await(r_.poller, POLLIN, 0ms) == POLLIN;

		EXPECT_EQ(by_poll, level_->sees());
		EXPECT_EQ(by_poll, level_->sees()) << "as long as it is so";
		return by_poll;
	}
	// An edge since the last time.
	bool edge() const
	{
		const bool seen = edge_->sees();

		EXPECT_FALSE(edge_->sees()) << "once";
		return seen;
	}
	bool soon() const
	{
		return await(r_.poller, POLLIN) == POLLIN;
	}

	// Sends until there is no room; how many datagrams that took.
	unsigned fill() const
	{
		unsigned n = 0;

		while (send(client_, "x", 1, MSG_DONTWAIT) == 1)
			n++;
		EXPECT_EQ(EAGAIN, errno);
		EXPECT_GT(n, 0u);
		return n;
	}
	void drain() const
	{
		char c;

		while (recv(server_, &c, 1, MSG_DONTWAIT) == 1)
			;
	}
	bool timer_runs() const
	{
		itimerspec left = {};

		EXPECT_EQ(0, timerfd_gettime(r_.timer, &left));
		return left.it_value.tv_sec != 0 || left.it_value.tv_nsec != 0;
	}

	ready r_ = {};
	Fd server_, client_;
	std::unique_ptr<Poller> level_, edge_;

      private:
	// A bound socket and one connected to it, as the daemon's and a client's are.
	void connect_pair()
	{
		sockaddr_un addr = {};

		addr.sun_family = AF_UNIX;
		path("s").copy(addr.sun_path, sizeof addr.sun_path - 1);
		server_.reset(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
		client_.reset(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
		ASSERT_EQ(0, bind(server_, reinterpret_cast<sockaddr *>(&addr), sizeof addr));
		ASSERT_EQ(0, connect(client_, reinterpret_cast<sockaddr *>(&addr), sizeof addr));
	}
};

TEST_F(Ready, ShowsNothingAtFirst)
{
	EXPECT_FALSE(readable());
	EXPECT_FALSE(edge());
	for (int fd : {r_.poller, r_.bell})
		EXPECT_NE(0, fcntl(fd, F_GETFD) & FD_CLOEXEC);
	EXPECT_EQ(-1, r_.timer) << "which few queues need";
}

// ---- The bell

TEST_F(Ready, IsReadableFromRingToSilence)
{
	for (int round = 0; round < 3; round++) {
		ready_ring(&r_);
		EXPECT_TRUE(readable());
		EXPECT_TRUE(edge());
		EXPECT_TRUE(readable()) << "still";
		EXPECT_FALSE(edge()) << "nothing new";
		ready_silence(&r_);
		EXPECT_FALSE(readable());
		EXPECT_FALSE(edge());
	}
}

// Who waits for edges has reaped a part, and is told that there is more.
TEST_F(Ready, EachRingIsAnEdge)
{
	for (int n = 0; n < 5; n++) {
		ready_ring(&r_);
		EXPECT_TRUE(edge()) << n;
	}
	EXPECT_TRUE(readable());
	ready_silence(&r_);
	EXPECT_FALSE(readable()) << "one silence ends them all";
	ready_ring(&r_);
	EXPECT_TRUE(edge());
}

TEST_F(Ready, SilenceWithoutARingIsHarmless)
{
	ready_silence(&r_);
	ready_silence(&r_);
	EXPECT_FALSE(readable());
	ready_ring(&r_);
	ready_silence(&r_);
	ready_silence(&r_);
	EXPECT_FALSE(readable());
}

// A bell can be rung 2^64 - 2 times, and after that it rings on.
TEST_F(Ready, RingsThatCannotBeCountedDoNoHarm)
{
	ready_ring(&r_);
	ASSERT_EQ(0, eventfd_write(r_.bell, UINT64_MAX - 2));
	ready_ring(&r_);
	EXPECT_TRUE(readable());
	ready_silence(&r_);
	EXPECT_FALSE(readable());
}

// ---- Room in the socket

TEST_F(Ready, ShowsRoomOnlyWhereItIsWanted)
{
	EXPECT_FALSE(readable()) << "there is room, but nobody asked";
	ready_want_room(&r_, true);
	EXPECT_TRUE(readable());
	EXPECT_TRUE(edge());
	ready_want_room(&r_, true);
	EXPECT_TRUE(readable());
	ready_want_room(&r_, false);
	EXPECT_FALSE(readable());
	ready_want_room(&r_, false);
	EXPECT_FALSE(readable());
	EXPECT_EQ(-1, r_.timer);
}

TEST_F(Ready, ShowsRoomWhenAFullSocketHasSomeAgain)
{
	for (int round = 0; round < 3; round++) {
		fill();
		ready_want_room(&r_, true);
		EXPECT_FALSE(readable());
		EXPECT_FALSE(edge());
		drain();
		EXPECT_TRUE(soon());
		EXPECT_TRUE(readable());
		EXPECT_TRUE(edge());
		fill();
		EXPECT_FALSE(readable()) << "full again";
		drain();
		EXPECT_TRUE(soon());
		EXPECT_TRUE(edge());
		ready_want_room(&r_, false);
		EXPECT_FALSE(readable());
	}
}

// Sending says then what is wrong.
TEST_F(Ready, ShowsThatNobodyReceivesAnyMore)
{
	fill();
	ready_want_room(&r_, true);
	EXPECT_FALSE(readable());
	server_.reset();
	EXPECT_TRUE(soon());
	EXPECT_TRUE(edge());
	EXPECT_EQ(-1, send(client_, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL));
	EXPECT_NE(EAGAIN, errno);
}

// ---- A while

TEST_F(Ready, IsReadableAWhileLaterAndUntilItWaitsNoMore)
{
	for (int round = 0; round < 3; round++) {
		ready_wait(&r_);
		EXPECT_TRUE(r_.waits);
		EXPECT_TRUE(soon());
		EXPECT_TRUE(edge());
		EXPECT_TRUE(readable());
		ready_stop_waiting(&r_);
		EXPECT_FALSE(readable());
		EXPECT_FALSE(timer_runs());
		EXPECT_FALSE(edge());
	}
	EXPECT_NE(0, fcntl(r_.timer, F_GETFD) & FD_CLOEXEC);
}

TEST_F(Ready, WhatIsStoppedEarlyNeverComes)
{
	ready_stop_waiting(&r_);
	EXPECT_EQ(-1, r_.timer);
	ready_wait(&r_);
	ready_wait(&r_);
	ready_stop_waiting(&r_);
	EXPECT_FALSE(timer_runs());
	EXPECT_FALSE(readable());
	ready_stop_waiting(&r_);
	ready_wait(&r_);
	EXPECT_TRUE(soon()) << "it can be had again";
}

// ---- Others

TEST_F(Ready, IsReadableWhileAWatchedOneIs)
{
	const Ends pipe = make_pipe();
	char c;

	ASSERT_EQ(0, ready_watch(&r_, pipe.out));
	EXPECT_FALSE(readable());
	for (int n = 0; n < 3; n++) {
		ASSERT_EQ(1, write(pipe.in, "x", 1));
		EXPECT_TRUE(edge()) << n;
		EXPECT_TRUE(readable());
	}
	while (await(pipe.out, POLLIN, 0ms) & POLLIN)
		ASSERT_EQ(1, read(pipe.out, &c, 1));
	EXPECT_FALSE(readable());
	ASSERT_EQ(1, write(pipe.in, "x", 1));
	ready_unwatch(&r_, pipe.out);
	EXPECT_FALSE(readable());
	ASSERT_EQ(0, ready_watch(&r_, pipe.out));
	EXPECT_TRUE(readable());
	EXPECT_TRUE(edge()) << "what was there before counts";
	ready_unwatch(&r_, pipe.out);
}

TEST_F(Ready, ShowsTheEndOfAChannel)
{
	Ends ends = make_socketpair(SOCK_SEQPACKET);

	ASSERT_EQ(0, ready_watch(&r_, ends.out));
	ends.in.reset();
	EXPECT_TRUE(readable());
	EXPECT_TRUE(edge());
	ready_unwatch(&r_, ends.out);
	EXPECT_FALSE(readable());
}

// A copy, as forked children have, keeps what is open, but not what is shown.
TEST_F(Ready, AnUnwatchedOneIsGoneThoughACopyLives)
{
	Ends ends = make_socketpair(SOCK_SEQPACKET);
	const Fd copy(dup(ends.out));

	ASSERT_EQ(0, ready_watch(&r_, ends.out));
	ASSERT_EQ(1, send(ends.in, "x", 1, 0));
	EXPECT_TRUE(readable());
	EXPECT_TRUE(edge());
	ready_unwatch(&r_, ends.out);
	ends.out.reset();
	EXPECT_FALSE(readable());
	ASSERT_EQ(1, send(ends.in, "y", 1, 0));
	ends.in.reset();
	EXPECT_FALSE(readable());
	EXPECT_FALSE(edge());
}

TEST_F(Ready, UnwatchingWhatIsNotWatchedIsHarmless)
{
	const Ends pipe = make_pipe();

	ready_unwatch(&r_, pipe.out);
	ready_unwatch(&r_, -1);
	EXPECT_EQ(-1, ready_watch(&r_, -1));
	EXPECT_EQ(EBADF, errno);
	ASSERT_EQ(0, ready_watch(&r_, pipe.out));
	EXPECT_EQ(-1, ready_watch(&r_, pipe.out));
	EXPECT_EQ(EEXIST, errno);
	EXPECT_FALSE(readable());
}

TEST_F(Ready, AnyOfThemIsEnough)
{
	Ends pipe = make_pipe();

	fill();
	ready_want_room(&r_, true);
	ready_wait(&r_);
	ready_ring(&r_);
	ASSERT_EQ(0, ready_watch(&r_, pipe.out));
	ASSERT_EQ(1, write(pipe.in, "x", 1));
	drain();
	ready_silence(&r_);
	EXPECT_TRUE(readable());
	ready_unwatch(&r_, pipe.out);
	EXPECT_TRUE(readable());
	ready_want_room(&r_, false);
	EXPECT_TRUE(soon());
	ready_stop_waiting(&r_);
	EXPECT_FALSE(readable());
}

// ---- When something cannot be had

TEST_F(Ready, WhatCannotBeWatchedForRoomIsTriedAgainInAWhile)
{
	ready other = {};

	ASSERT_EQ(0, ready_init(&other, -1));
	ready_want_room(&other, true);
	EXPECT_FALSE(other.wants_room);
	EXPECT_EQ(POLLIN, await(other.poller, POLLIN));
	ready_stop_waiting(&other);
	ready_want_room(&other, false);
	EXPECT_EQ(0, await(other.poller, POLLIN, 0ms));
	ready_close(&other);
}

TEST_F(Ready, WithoutADescriptorForATimerItRings)
{
	in_child([&] {
		const Fd lowest(dup(0));
		const rlimit none = {static_cast<rlim_t>(lowest) + 1, static_cast<rlim_t>(lowest) + 1};

		ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
		ready_wait(&r_);
		EXPECT_FALSE(r_.waits);
		EXPECT_EQ(-1, r_.timer);
		EXPECT_EQ(POLLIN, await(r_.poller, POLLIN, 0ms));
		ready_stop_waiting(&r_);
		ready_silence(&r_);
		EXPECT_EQ(0, await(r_.poller, POLLIN, 0ms));
	});
}

TEST_F(Ready, WhatCannotBeMadeLeavesNothing)
{
	in_child([&] {
		const size_t before = count_fds("self");
		rlim_t free_from[3];
		std::vector<Fd> lowest;

		for (auto &n : free_from) {
			lowest.emplace_back(dup(0));
			n = static_cast<rlim_t>(lowest.back());
		}
		lowest.clear();
		for (int room = 0; room < 3; room++) {
			const rlimit some = {free_from[room], free_from[2] + 1};
			ready other = {};

			ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &some));
			EXPECT_EQ(room < 2 ? -1 : 0, ready_init(&other, -1)) << room;
			if (room < 2) {
				EXPECT_EQ(EMFILE, errno);
			}
			ready_close(&other);
		}
		EXPECT_EQ(before, count_fds("self"));
	});
}

} // namespace
