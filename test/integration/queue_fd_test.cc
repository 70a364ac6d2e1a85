// SPDX-License-Identifier: BSD-2-Clause
// A queue's descriptor, with each way of waiting for it: it never sleeps on something that could be reaped or sent, and
// never wakes anybody for nothing.
#include "test/support/fixture.h"
#include "test/support/queue.h"
#include "test/support/waiter.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <poll.h>
#include <sendfiled/sendfiled.h>

namespace
{

// ---- The fixture

class QueueFd : public SfdTest, public ::testing::WithParamInterface<Way>
{
      protected:
	static constexpr size_t LARGE = 8 << 20;

	static void SetUpTestSuite()
	{
		UvWaiter::open_what_stays_open();
	}

	void SetUp() override
	{
		SfdTest::SetUp();
		start();
		add_file("large", LARGE);
	}

	void TearDown() override
	{
		fillers_.clear();
		waiter_.reset();
		queue_.reset();
		SfdTest::TearDown();
	}

	// Makes the queue, and the waiter for it.
	Queue &make_queue(unsigned depth = 256)
	{
		queue_ = std::make_unique<Queue>(srv(), depth);
		waiter_ = make_waiter(GetParam(), queue_->fd());
		return *queue_;
	}

	// The same; the daemon has consented to it.
	Queue &make_registered_queue(unsigned depth = 256)
	{
		Queue &q = make_queue(depth);

		q.open("missing", 999999);
		drive([&] { return q.outstanding() == 0; });
		return q;
	}

	// As a program does: whenever the descriptor is readable it reaps `max` events, and submits.
	void drive(const std::function<bool()> &done, int max = 64, bool submits = true)
	{
		size_t spurious = 0, wakeups = 0;

		if (submits)
			sfd_queue_submit(*queue_);
		while (!done()) {
			size_t n = 0, got;

			ASSERT_TRUE(waiter_->wait(5s)) << "it sleeps; " << queue_->outstanding() << " are outstanding, "
						       << queue_->reap(64) << " events were there";
			do {
				n += got = queue_->reap_once(max);
			} while (got > 0 && waiter_->is_edge());
			if (submits && sfd_queue_submit(*queue_) > 0)
				n++;
			spurious += n == 0;
			wakeups++;
		}
		EXPECT_LE(spurious, 5 + wakeups / 4) << "of " << wakeups << " wakeups so many were for nothing";
	}

	// Nobody is woken for a while, or just a few times, by something that a reap is done with.
	void expect_quiet()
	{
		const Deadline deadline(50ms);
		unsigned wakeups = 0;

		while (!deadline.passed() && waiter_->wait(milliseconds(deadline.left_ms()))) {
			EXPECT_EQ(0u, queue_->reap());
			wakeups++;
		}
		EXPECT_LE(wakeups, 5u);
		EXPECT_EQ(0, await(queue_->fd(), POLLIN, 0ms)) << "readable, and nothing is there";
	}

	// All of its processes.
	void kill_daemon()
	{
		std::vector<pid_t> all = daemon().workers();
		const std::vector<pid_t> helpers = daemon().helpers();

		all.insert(all.end(), helpers.begin(), helpers.end());
		EXPECT_EQ(SIGKILL, daemon().stop(SIGKILL));
		for (const pid_t pid : all)
			kill(pid, SIGKILL);
		for (const pid_t pid : all)
			EXPECT_TRUE(await_gone(pid));
	}

	void expect_dead()
	{
		const Ends pipe = make_pipe();
		Queue &q = *queue_;
		sfd_event e;

		expect_quiet();
		EXPECT_EQ(-1, sfd_queue_send(q, "canary", pipe.in, 0, 0, nullptr, 1));
		EXPECT_EQ(ECONNREFUSED, errno) << strerror(errno);
		EXPECT_EQ(-1, sfd_queue_open(q, "canary", 0, 0, nullptr, 1));
		EXPECT_EQ(ECONNREFUSED, errno) << strerror(errno);
		EXPECT_EQ(-1, sfd_queue_submit(q));
		EXPECT_EQ(ECONNREFUSED, errno) << strerror(errno);
		EXPECT_EQ(0, sfd_queue_reap(q, &e, 1));
		EXPECT_EQ(0, sfd_queue_wait(q, &e, 1, -1));
		expect_quiet();
	}

	std::unique_ptr<Queue> queue_;
	std::unique_ptr<Waiter> waiter_;
	std::vector<Fd> fillers_;
};

// ---- Something to reap

TEST_P(QueueFd, OneEventAtATime)
{
	Queue &q = make_queue();

	for (uint64_t i = 0; i < 64; i++)
		q.open("missing", i);
	ASSERT_NO_FATAL_FAILURE(drive([&] { return q.outstanding() == 0; }, 1));
	expect_quiet();
	/* And when all of them are there already. */
	for (uint64_t i = 0; i < 64; i++)
		q.open("missing", i);
	ASSERT_EQ(0, q.submit());
	canary();
	canary();
	ASSERT_NO_FATAL_FAILURE(drive([&] { return q.outstanding() == 0; }, 1));
	expect_quiet();
}

TEST_P(QueueFd, ManyRecords)
{
	Queue &q = make_registered_queue(1000);

	for (uint64_t i = 0; i < 1000; i++) {
		q.open("missing", i);
		while (sfd_queue_submit(q) < 0) {
			ASSERT_EQ(EAGAIN, errno);
			ASSERT_TRUE(waiter_->wait(5s)) << "it sleeps although there is room";
			q.reap();
		}
	}
	ASSERT_NO_FATAL_FAILURE(drive([&] { return q.outstanding() == 0; }, 7));
	expect_quiet();
}

// Each event is the only one that can be had.
TEST_P(QueueFd, OneRequestAtATime)
{
	Queue &q = make_registered_queue();

	for (uint64_t i = 0; i < 500; i++) {
		q.open(i % 2 ? "missing" : "canary", i);
		ASSERT_NO_FATAL_FAILURE(drive([&] { return q.of(i).infos > 0 || q.of(i).over(); }, 1));
		if (i % 2 == 0) {
			q.cancel(i);
			ASSERT_NO_FATAL_FAILURE(drive([&] { return q.of(i).over(); }, 1));
		}
	}
	expect_quiet();
}

// What the library knows by itself.
TEST_P(QueueFd, StagedCancels)
{
	Queue &q = make_registered_queue();

	for (int round = 0; round < 3; round++) {
		for (uint64_t i = 0; i < 64; i++)
			q.open("canary", i);
		expect_quiet();
		for (uint64_t i = 0; i < 64; i++)
			q.cancel(i);
		ASSERT_NO_FATAL_FAILURE(drive([&] { return q.outstanding() == 0; }, 1, false));
		expect_quiet();
	}
}

TEST_P(QueueFd, ClosedDescriptors)
{
	Queue &q = make_registered_queue();

	for (uint64_t i = 0; i < 100; i++) {
		const Ends pipe = make_pipe();

		q.send("canary", pipe.in, i);
	}
	sfd_queue_submit(q);
	ASSERT_NO_FATAL_FAILURE(drive([&] { return q.outstanding() == 0; }, 1));
	for (uint64_t i = 0; i < 100; i++)
		EXPECT_EQ(EBADF, q.of(i).stat);
	expect_quiet();
}

// Something is outstanding, and nothing is there to be had.
TEST_P(QueueFd, QuietWhileNothingHappens)
{
	Queue &q = make_queue();
	const Ends pipe = make_pipe();

	expect_quiet();
	q.send("large", pipe.in, 1);
	q.open("canary", 2);
	drive([&] { return q.of(2).infos > 0; });
	ASSERT_NE(0, await(pipe.out, POLLIN));
	expect_quiet();
	q.open("canary", 3); /* staged */
	expect_quiet();
	for (uint64_t i = 1; i <= 3; i++)
		q.cancel(i);
	ASSERT_NO_FATAL_FAILURE(drive([&] { return q.outstanding() == 0; }));
	expect_quiet();
}

// ---- Something to send

// There is nothing outstanding, so that room is the only thing to be told of.
TEST_P(QueueFd, RoomInTheSocket)
{
	Queue &q = make_registered_queue(1000);

	freeze(daemon().workers());
	fillers_ = fill_socket(daemon());
	for (uint64_t i = 0; i < 100; i++)
		q.open("missing", i);
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(-1, sfd_queue_submit(q));
		EXPECT_EQ(EAGAIN, errno) << strerror(errno);
		expect_quiet();
	}
	thaw(daemon().workers());
	ASSERT_TRUE(waiter_->wait(5s)) << "it sleeps although there is room";
	ASSERT_NO_FATAL_FAILURE(drive([&] { return q.outstanding() == 0; }));
	expect_quiet();
}

// By its own requests, most of which are outstanding then.
TEST_P(QueueFd, FullOfItsOwn)
{
	Queue &q = make_registered_queue(4000);
	int sent = 0, n;

	for (uint64_t i = 0; i < 4000; i++)
		q.open("missing", i);
	freeze(daemon().workers());
	while ((n = sfd_queue_submit(q)) > 0)
		sent += n;
	EXPECT_EQ(-1, n);
	EXPECT_EQ(EAGAIN, errno) << strerror(errno);
	EXPECT_GT(4000, sent);
	expect_quiet();
	thaw(daemon().workers());
	ASSERT_NO_FATAL_FAILURE(drive([&] { return q.outstanding() == 0; }));
	expect_quiet();
}

// A cancel that the socket did not take is sent by the next call, whichever that is.
TEST_P(QueueFd, CancelThatIsKept)
{
	Queue &q = make_registered_queue();

	for (const bool by_submit : {false, true}) {
		Ends pipe = make_pipe();

		q.send("large", pipe.in, 1);
		q.open("canary", 2);
		ASSERT_NO_FATAL_FAILURE(drive([&] { return q.of(2).infos > 0; }));
		ASSERT_NE(0, await(pipe.out, POLLIN));
		freeze(daemon().workers());
		fillers_ = fill_socket(daemon());
		q.cancel(1);
		q.cancel(2);
		q.cancel(1);
		expect_quiet();
		thaw(daemon().workers());
		ASSERT_TRUE(waiter_->wait(5s)) << "it sleeps although there is room";
		const Deadline deadline(PATIENCE);
		while (q.outstanding() > 0 && !deadline.passed()) {
			if (by_submit)
				sfd_queue_submit(q);
			q.reap();
			waiter_->wait(100ms);
		}
		EXPECT_EQ(ECANCELED, q.of(1).stat);
		EXPECT_EQ(ECANCELED, q.of(2).stat);
		expect_quiet();
		drain(&pipe);
		fillers_.clear();
	}
}

// The daemon has not consented yet.
TEST_P(QueueFd, NotRegisteredYet)
{
	const std::vector<std::vector<pid_t>> stopped = {daemon().workers(), {daemon().master()}};

	for (const std::vector<pid_t> &pids : stopped) {
		freeze(pids);
		Queue &q = make_queue();
		for (uint64_t i = 0; i < 10; i++)
			q.open("missing", i);
		EXPECT_EQ(-1, sfd_queue_submit(q));
		EXPECT_EQ(EAGAIN, errno) << strerror(errno);
		q.cancel(7);
		EXPECT_TRUE(waiter_->wait(5s));
		EXPECT_EQ(1u, q.reap());
		expect_quiet();
		thaw(pids);
		ASSERT_TRUE(waiter_->wait(5s)) << "it sleeps although the daemon has consented";
		ASSERT_NO_FATAL_FAILURE(drive([&] { return q.outstanding() == 0; }));
		EXPECT_EQ(ECANCELED, q.of(7).stat);
		EXPECT_EQ(ENOENT, q.of(8).stat);
		expect_quiet();
		waiter_.reset();
		queue_.reset();
	}
}

// There was no room even for the registration.
TEST_P(QueueFd, NoRoomForTheRegistration)
{
	freeze(daemon().workers());
	fillers_ = fill_socket(daemon());
	Queue &q = make_queue();
	q.open("missing", 1);
	EXPECT_EQ(-1, sfd_queue_submit(q));
	EXPECT_EQ(EAGAIN, errno) << strerror(errno);
	expect_quiet();
	thaw(daemon().workers());
	ASSERT_NO_FATAL_FAILURE(drive([&] { return q.outstanding() == 0; }));
	EXPECT_EQ(ENOENT, q.of(1).stat);
	expect_quiet();
}

// ---- The daemon ends

TEST_P(QueueFd, DaemonIsKilled)
{
	Queue &q = make_registered_queue(1000);
	const Ends pipe = make_pipe();

	q.send("large", pipe.in, 1);
	for (uint64_t i = 100; i < 200; i++)
		q.open("canary", i);
	ASSERT_NO_FATAL_FAILURE(drive([&] { return q.of(199).infos > 0 && q.of(100).infos > 0; }));
	ASSERT_NE(0, await(pipe.out, POLLIN));
	for (uint64_t i = 200; i < 300; i++)
		q.open("canary", i); /* staged */
	kill_daemon();
	ASSERT_NO_FATAL_FAILURE(drive([&] { return q.outstanding() == 0; }, 1));
	for (uint64_t i = 100; i < 300; i++)
		EXPECT_EQ(SFD_STAT_WORKER_DIED, q.of(i).stat) << i << ": " << sfd_strstat(q.of(i).stat);
	EXPECT_EQ(SFD_STAT_WORKER_DIED, q.of(1).stat);
	expect_dead();
}

// Nothing was submitted, and nobody calls submit.
TEST_P(QueueFd, DaemonIsKilledWhileAllIsStaged)
{
	Queue &q = make_registered_queue();

	for (uint64_t i = 0; i < 10; i++)
		q.open("canary", i);
	kill_daemon();
	ASSERT_NO_FATAL_FAILURE(drive([&] { return q.outstanding() == 0; }, 1, false));
	for (uint64_t i = 0; i < 10; i++)
		EXPECT_EQ(SFD_STAT_WORKER_DIED, q.of(i).stat);
	expect_dead();
}

TEST_P(QueueFd, DaemonIsKilledBeforeItConsents)
{
	freeze(daemon().workers());
	Queue &q = make_queue();
	for (uint64_t i = 0; i < 10; i++)
		q.open("canary", i);
	EXPECT_EQ(-1, sfd_queue_submit(q));
	kill_daemon();
	ASSERT_NO_FATAL_FAILURE(drive([&] { return q.outstanding() == 0; }, 1));
	for (uint64_t i = 0; i < 10; i++)
		EXPECT_EQ(SFD_STAT_WORKER_DIED, q.of(i).stat);
	expect_dead();
}

// With nothing outstanding there is nothing to be told.
TEST_P(QueueFd, DaemonIsKilledWhileNothingIsOutstanding)
{
	Queue &q = make_registered_queue();

	kill_daemon();
	q.reap();
	expect_quiet();
	/* Whoever asks for something hears of it, from the call or from an event. */
	if (sfd_queue_open(q, "canary", 0, 0, nullptr, 5) == 0) {
		sfd_event e;

		sfd_queue_submit(q);
		ASSERT_TRUE(waiter_->wait(5s));
		ASSERT_TRUE(await_event(q, &e, 5s));
		EXPECT_EQ(SFD_STAT_WORKER_DIED, e.stat);
	} else {
		EXPECT_EQ(ECONNREFUSED, errno) << strerror(errno);
	}
	expect_dead();
}

INSTANTIATE_TEST_SUITE_P(Ways, QueueFd, ::testing::Values(Way::Poll, Way::Level, Way::Edge, Way::Uv),
	[](const auto &i) { return name_of(i.param); });

} // namespace
