// SPDX-License-Identifier: BSD-2-Clause
// Many transfers at a time, each of which must bring its own file, whole.
#include "test/support/fixture.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

namespace
{

class Concurrency : public SfdTest
{
      protected:
	static constexpr size_t FILES = 16;

	void SetUp() override
	{
		SfdTest::SetUp();
		start();
		for (size_t i = 0; i < FILES; i++)
			contents_.push_back(add_file("file" + std::to_string(i), size_of(i), i + 1));
	}

	/* From less than a page to more than a pipe or a socket takes. */
	static size_t size_of(size_t i)
	{
		return 100 + i * i * 3001;
	}

	std::vector<std::string> contents_;
};

struct Flight {
	size_t file = 0;
	Fd status;
	Ends dest;
	std::string arrived;
};

/* Takes in everything that arrives at any of them, until all have ended. */
void drain(std::vector<Flight> &flights)
{
	const Fd poller(epoll_create1(EPOLL_CLOEXEC));
	std::vector<char> buf(1 << 16);
	size_t open = flights.size();
	const Deadline deadline(45s);

	for (size_t i = 0; i < flights.size(); i++) {
		epoll_event e = {};

		e.events = EPOLLIN;
		e.data.u64 = i;
		ASSERT_EQ(0, epoll_ctl(poller, EPOLL_CTL_ADD, flights[i].dest.out, &e));
	}
	while (open > 0) {
		epoll_event events[64];
		const int n = epoll_wait(poller, events, 64, deadline.left_ms());

		ASSERT_GT(n, 0) << open << " of " << flights.size() << " have not ended";
		for (int i = 0; i < n; i++) {
			Flight &f = flights[events[i].data.u64];
			const ssize_t got = read(f.dest.out, buf.data(), buf.size());

			ASSERT_GE(got, 0) << strerror(errno);
			f.arrived.append(buf.data(), static_cast<size_t>(got));
			if (got == 0) {
				epoll_ctl(poller, EPOLL_CTL_DEL, f.dest.out, nullptr);
				open--;
			}
		}
	}
}

Ends make_dest(size_t i)
{
	switch (i % 6) {
	case 0:
		return make_pipe();
	case 1:
		return make_pipe(O_NONBLOCK);
	case 2:
		return make_tcp_pair();
	case 3: {
		Ends ends = make_tcp_pair();

		fcntl(ends.in, F_SETFL, O_RDWR | O_NONBLOCK);
		return ends;
	}
	case 4:
		return make_socketpair(SOCK_STREAM);
	default:
		return make_socketpair(SOCK_STREAM | SOCK_NONBLOCK);
	}
}

// All are held at once: nothing is read before the last has been accepted.
TEST_F(Concurrency, AThousandTransfersAtATime)
{
	if (!may_open(4096))
		GTEST_SKIP() << "the hard limit on open files (ulimit -Hn) is below 4096";
	std::vector<Flight> flights(1000);

	for (size_t i = 0; i < flights.size(); i++) {
		Flight &f = flights[i];
		const std::string name = "file" + std::to_string(f.file = i * 7 % FILES);

		f.dest = make_dest(i);
		f.status.reset(when_room(srv(), [&] { return sfd_send(srv(), name.c_str(), f.dest.in, 0, 0, false); }));
		ASSERT_GE(f.status, 0) << strerror(errno);
		f.dest.in.reset();
	}
	ASSERT_NO_FATAL_FAILURE(drain(flights));
	for (Flight &f : flights) {
		expect_success(read_outcome(f.status), contents_[f.file].size());
		ASSERT_TRUE(same_content(contents_[f.file], f.arrived));
	}
	expect_same_workers();
}

TEST_F(Concurrency, AThousandReadsAtATime)
{
	if (!may_open(4096))
		GTEST_SKIP() << "the hard limit on open files (ulimit -Hn) is below 4096";
	std::vector<Fd> pipes;

	for (size_t i = 0; i < 1000; i++) {
		const std::string name = "file" + std::to_string(i % FILES);

		pipes.emplace_back(when_room(srv(), [&] { return sfd_read(srv(), name.c_str(), 0, 0, i % 2); }));
		ASSERT_GE(pipes.back(), 0) << strerror(errno);
	}
	for (size_t i = pipes.size(); i-- > 0;) {
		const ReadResult r = read_file_pipe(pipes[i]);

		ASSERT_EQ(contents_[i % FILES].size(), r.info.size);
		ASSERT_TRUE(same_content(contents_[i % FILES], r.content));
	}
}

// One connection for several threads, several connections in one process.
TEST_F(Concurrency, ThreadsShareAConnection)
{
	const Fd other(daemon().connect());
	std::vector<std::thread> threads;
	std::atomic<int> right{0};

	for (int t = 0; t < 4; t++) {
		threads.emplace_back([&, t] {
			const int connection = t % 2 ? static_cast<int>(other) : srv();

			for (size_t i = 0; i < 100; i++) {
				const std::string name = "file" + std::to_string(i % FILES);
				const Fd pipe(when_room(
					connection, [&] { return sfd_read(connection, name.c_str(), 0, 0, false); }));

				right += read_file_pipe(pipe).content == contents_[i % FILES];
			}
		});
	}
	for (std::thread &t : threads)
		t.join();
	EXPECT_EQ(400, right);
}

// While the workers are stopped the queue fills; what is refused was not sent, and the rest is served later.
TEST_F(Concurrency, FullQueueIsWaitedForWithPoll)
{
	std::vector<Fd> pipes;
	int refusals = 0;

	freeze(daemon().workers());
	for (;;) {
		Fd pipe(sfd_read(srv(), "file1", 0, 0, false));

		if (pipe < 0)
			break;
		pipes.push_back(std::move(pipe));
		ASSERT_LT(pipes.size(), 10000u) << "the queue never fills";
	}
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_GE(pipes.size(), 1u);
	EXPECT_EQ(0, await(srv(), POLLOUT, 0ms)) << "not writable while full";
	EXPECT_FALSE(sfd_cancel(srv(), 1));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_FALSE(sfd_send_open(srv(), 1, srv()));
	EXPECT_EQ(EAGAIN, errno);
	thaw(daemon().workers());
	EXPECT_EQ(POLLOUT, await(srv(), POLLOUT));
	/* And now as a program would. */
	for (int i = 0; i < 300; i++) {
		for (;;) {
			Fd pipe(sfd_read(srv(), "file1", 0, 0, false));

			if (pipe >= 0) {
				pipes.push_back(std::move(pipe));
				break;
			}
			ASSERT_EQ(EAGAIN, errno);
			refusals++;
			ASSERT_EQ(POLLOUT, await(srv(), POLLOUT));
		}
	}
	for (Fd &pipe : pipes)
		ASSERT_TRUE(same_content(contents_[1], read_file_pipe(pipe).content));
	RecordProperty("refusals", refusals);
}

} // namespace
