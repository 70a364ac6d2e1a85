// SPDX-License-Identifier: BSD-2-Clause
// Users who ask at the same time: one who asks for much does not keep another waiting, and of what waits nothing is lost.
#include "test/support/fixture.h"
#include "test/support/queue.h"
#include "test/support/user.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <sys/mman.h>
#include <sys/wait.h>

namespace
{

constexpr uid_t GREEDY = 54321, MODEST = 54322;
constexpr size_t SIZE = 3000;

class TurnsTest : public SfdTest
{
      protected:
	// What processes of the test have in common.
	struct Shared {
		std::atomic<bool> stop;
		std::atomic<unsigned> done, refused;
	};

	void SetUp() override
	{
		SfdTest::SetUp();
		if (!is_root())
			GTEST_SKIP() << "only root can take another user's part";
		limit(120);
		void *memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		ASSERT_NE(MAP_FAILED, memory);
		shared_ = new (memory) Shared();
	}
	void TearDown() override
	{
		if (shared_)
			munmap(static_cast<void *>(shared_), sizeof *shared_);
		SfdTest::TearDown();
	}

	void serve(unsigned workers, std::vector<std::string> more = {})
	{
		DaemonOptions options;

		content_ = add_file("file", SIZE);
		options.workers = workers;
		options.more = std::move(more);
		options.more.insert(
			options.more.end(), {"--socket-mode", "0666", "--allow-user", std::to_string(GREEDY),
						    "--allow-user", std::to_string(MODEST)});
		start(options);
	}

	template <typename What> static pid_t start_as(uid_t uid, What what)
	{
		const pid_t child = fork();

		if (child != 0)
			return child;
		alarm(100);
		if (!become(uid))
			_exit(254);
		what();
		_exit(::testing::Test::HasFailure() ? 1 : 0);
	}

	// One that does nothing but ask, and counts what was done.
	pid_t start_flood(uid_t uid, unsigned depth)
	{
		return start_as(uid, [=] { flood(depth); });
	}
	void flood(unsigned depth)
	{
		const Fd srv(daemon().connect());
		sfd_queue *queue = sfd_queue_new(srv, depth);
		std::vector<sfd_event> events(depth);
		std::vector<Ends> pipes;

		for (unsigned i = 0; i < depth; i++) {
			pipes.push_back(make_pipe(O_NONBLOCK));
			EXPECT_EQ(0, sfd_queue_send(queue, "file", pipes[i].in, 0, 0, nullptr, i));
		}
		while (!shared_->stop) {
			const int n = sfd_queue_wait(queue, events.data(), static_cast<int>(depth), 1000);
			std::array<char, SIZE> bytes;

			for (int i = 0; i < n; i++) {
				const Ends &pipe = pipes[events[static_cast<size_t>(i)].user_data];

				EXPECT_EQ(SFD_STAT_OK, events[static_cast<size_t>(i)].stat);
				EXPECT_EQ(static_cast<ssize_t>(SIZE), read(pipe.out, bytes.data(), bytes.size()));
				sfd_queue_send(queue, "file", pipe.in, 0, 0, nullptr,
					events[static_cast<size_t>(i)].user_data);
			}
			shared_->done += static_cast<unsigned>(std::max(n, 0));
		}
		sfd_queue_free(queue);
	}

	// The same by calls of one request each.
	void flood_by_calls(unsigned count)
	{
		const Fd srv(daemon().connect());
		std::vector<Ends> pipes;
		std::vector<Fd> status(count);
		std::vector<pollfd> polled(count);

		for (unsigned i = 0; i < count; i++)
			pipes.push_back(make_pipe(O_NONBLOCK));
		while (!shared_->stop) {
			for (unsigned i = 0; i < count; i++) {
				if (status[i] < 0)
					status[i] =
						Fd(sfd_send(srv, "file", pipes[i].in, 0, 0, true)); /* or it is full */
				polled[i] = {status[i], POLLIN, 0};
			}
			poll(polled.data(), count, 1);
			for (unsigned i = 0; i < count; i++) {
				sfd_xfer_stat end[8];

				if (!(polled[i].revents & (POLLIN | POLLHUP)))
					continue;
				EXPECT_LT(0, read(status[i], end, sizeof end));
				EXPECT_EQ(SIZE, take(pipes[i].out).size());
				status[i].reset();
				shared_->done++;
			}
		}
	}

	// While that user waits for one request, so many of the other's are done: the mean of 400.
	double others_meanwhile()
	{
		constexpr unsigned COUNT = 400;
		Queue queue(srv(), 1);
		Ends pipe = make_pipe(O_NONBLOCK);
		const unsigned before = shared_->done;

		for (unsigned i = 0; i < COUNT; i++) {
			queue.send("file", pipe.in, i);
			queue.expect_success(i, SIZE);
			EXPECT_TRUE(same_content(content_, take(pipe.out)));
		}
		return static_cast<double>(shared_->done - before) / COUNT;
	}

	// A process of that user, which keeps so many requests outstanding until it is told to stop. Each of them ends once, and
	// with the right bytes if it is a success.
	pid_t start_asking(uid_t uid, unsigned depth, bool may_lose = false)
	{
		return start_as(uid, [=] { ask_until_told(depth, may_lose); });
	}
	void ask_until_told(unsigned depth, bool may_lose)
	{
		const Fd srv(daemon().connect());
		Queue queue(srv, depth);
		std::vector<Ends> pipes;

		ASSERT_GE(srv, 0);
		for (unsigned i = 0; i < depth; i++) {
			pipes.push_back(make_pipe(O_NONBLOCK));
			queue.send("file", pipes[i].in, i);
		}
		while (!shared_->stop || queue.outstanding() > 0) {
			ASSERT_TRUE(queue.step());
			for (unsigned i = 0; i < depth; i++) {
				if (!queue.of(i).over())
					continue;
				check(queue.of(i), &pipes[i], may_lose);
				queue.forget(i);
				if (!shared_->stop)
					queue.send("file", pipes[i].in, i);
			}
		}
	}
	// All that is there.
	static std::string take(int fd)
	{
		std::string got(2 * SIZE, '\0');
		const ssize_t n = read(fd, got.data(), got.size());

		got.resize(n > 0 ? static_cast<size_t>(n) : 0);
		return got;
	}
	void check(const Result &r, Ends *pipe, bool may_lose)
	{
		const std::string got = take(pipe->out);

		shared_->done++;
		if (r.stat == EDQUOT) {
			shared_->refused++;
			EXPECT_EQ("", got);
		} else if (r.stat == SFD_STAT_WORKER_DIED && may_lose) {
			*pipe = make_pipe(O_NONBLOCK); /* who knows what is on its way */
		} else {
			EXPECT_EQ(SFD_STAT_OK, r.stat) << sfd_strstat(r.stat);
			EXPECT_TRUE(same_content(content_, got));
		}
	}
	void end_asking(pid_t child)
	{
		int status = -1;

		shared_->stop = true;
		EXPECT_TRUE(await_exit(child, &status, 60s));
		EXPECT_EQ(0, status);
	}
	void await_done(unsigned n)
	{
		EXPECT_TRUE(eventually([&] { return shared_->done >= n; }));
	}

	Shared *shared_ = nullptr;
	std::string content_;
};

// While one waits for his request, so many of the other's are done, who has two thousand outstanding at all times. In the order in
// which they came it would be about six hundred: ten datagrams of 64 are before it in the socket.
TEST_F(TurnsTest, OneWhoAsksForLittleIsNotKeptWaiting)
{
	ASSERT_NO_FATAL_FAILURE(serve(2));
	const pid_t greedy = start_flood(GREEDY, 2000);
	await_done(4000);
	EXPECT_GE(100, others_meanwhile());
	end_asking(greedy);
	expect_same_workers();
	expect_idle();
}

// Nor by calls, more of them than a worker's journal has slots. (They cost more, so even fewer of them are done meanwhile.)
TEST_F(TurnsTest, NorBesideManyCalls)
{
	ASSERT_NO_FATAL_FAILURE(serve(2));
	const pid_t greedy = start_as(GREEDY, [=] { flood_by_calls(250); });
	await_done(1000);
	/* Whatever else keeps the modest one from a processor makes it more. */
	double least = others_meanwhile();
	for (int i = 0; i < 4 && least > 5; i++)
		least = std::min(least, others_meanwhile());
	EXPECT_GE(5, least);
	end_asking(greedy);
	expect_same_workers();
	expect_idle();
}

// Whatever is where when workers are killed.
TEST_F(TurnsTest, NothingIsLostWithAWorker)
{
	ASSERT_NO_FATAL_FAILURE(serve(4));
	const pid_t greedy = start_asking(GREEDY, 1000, true), modest = start_asking(MODEST, 20, true);

	for (unsigned i = 1; i <= 12; i++) {
		await_done(i * 3000);
		const auto workers = daemon().workers();
		if (!workers.empty())
			kill(workers[i % workers.size()], SIGKILL);
	}
	end_asking(greedy);
	end_asking(modest);
	EXPECT_EQ(0U, shared_->refused);
	EXPECT_TRUE(eventually([&] { return daemon().workers().size() == 4; }));
	canary();
}

// Wherever it waits: the pipes are full, so nothing else ends them.
TEST_F(TurnsTest, WhatWaitsCanBeCancelled)
{
	constexpr unsigned MANY = 1000;

	ASSERT_NO_FATAL_FAILURE(serve(4));
	const pid_t greedy = start_asking(GREEDY, 1000);
	await_done(2000);
	for (int round = 0; round < 5; round++) {
		Queue queue(srv(), MANY);
		std::vector<Ends> pipes;

		for (unsigned i = 0; i < MANY; i++) {
			pipes.push_back(make_pipe(O_NONBLOCK));
			ASSERT_EQ(4096, fcntl(pipes[i].in, F_SETPIPE_SZ, 4096));
			ASSERT_EQ(4096, write(pipes[i].in, std::string(4096, 'x').data(), 4096));
			queue.send("file", pipes[i].in, i);
		}
		EXPECT_EQ(0, queue.submit());
		for (unsigned i = 0; i < MANY; i++)
			queue.cancel(i);
		queue.finish();
		for (unsigned i = 0; i < MANY; i++)
			EXPECT_EQ(ECANCELED, queue.of(i).stat) << i;
	}
	end_asking(greedy);
	expect_same_workers();
	expect_idle();
}

// What goes beyond a user's share is refused, and touches nothing; the rest goes on.
TEST_F(TurnsTest, SoManyMayWait)
{
	ASSERT_NO_FATAL_FAILURE(serve(1, {"--max-queued-per-user", "100"}));
	const pid_t greedy = start_asking(GREEDY, 2000), modest = start_asking(MODEST, 20);

	EXPECT_TRUE(eventually([&] { return shared_->refused > 100 && shared_->done > 1000 + shared_->refused; }));
	end_asking(greedy);
	end_asking(modest);
	expect_same_workers();
	expect_idle();
}

} // namespace
