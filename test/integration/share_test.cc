// SPDX-License-Identifier: BSD-2-Clause
// What one user may hold of what there is for all, whoever asks how: what goes beyond is EDQUOT, and costs nobody else
// anything.
#include "test/support/fixture.h"
#include "test/support/queue.h"
#include "test/support/user.h"

#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <sys/wait.h>

namespace
{

constexpr uid_t GREEDY = 54321, MODEST = 54322;

class Share : public SfdTest
{
      protected:
	void SetUp() override
	{
		SfdTest::SetUp();
		if (!is_root())
			GTEST_SKIP() << "only root can take another user's part";
	}

	void start_with(std::vector<std::string> more)
	{
		DaemonOptions options;

		options.more = std::move(more);
		options.more.insert(
			options.more.end(), {"--socket-mode", "0666", "--allow-user", std::to_string(GREEDY),
						    "--allow-user", std::to_string(MODEST)});
		start(options);
	}

	// A process of a user, which holds what it has opened until it is told to go.
	class Holder
	{
	      public:
		// `what` returns how many it holds, and keeps them.
		template <typename What> Holder(uid_t uid, What what)
		{
			Ends answer = make_pipe(), life = make_pipe();

			pid_ = fork();
			if (pid_ == 0) {
				alarm(50);
				life.in.reset();
				if (!become(uid))
					_exit(254);
				std::vector<Fd> held;
				const int n = what(&held);
				if (write(answer.in, &n, sizeof n) != sizeof n)
					_exit(253);
				await(life.out, POLLHUP, 50s);
				_exit(0);
			}
			answer.in.reset();
			life_ = std::move(life.in);
			EXPECT_EQ(static_cast<ssize_t>(sizeof count), read(answer.out, &count, sizeof count));
		}
		~Holder()
		{
			int status = -1;

			life_.reset();
			EXPECT_TRUE(await_exit(pid_, &status));
			EXPECT_EQ(0, status);
		}
		Holder(const Holder &) = delete;
		Holder &operator=(const Holder &) = delete;

		int count = -1;

	      private:
		pid_t pid_ = -1;
		Fd life_;
	};

	// Asks until it is refused, at most so often: how many were not. -1: refused with something else.
	template <typename Ask> static int until_refused(int most, std::vector<Fd> *held, int err, Ask ask)
	{
		for (int i = 0; i < most; i++) {
			unsigned char frame[SFD_MAX_RESP_SIZE];
			Fd status(ask());

			if (status < 0 || read_frame(status, frame) != Got::Frame)
				return -1;
			if (sfd_get_stat(frame) != SFD_STAT_OK)
				return sfd_get_stat(frame) == err ? i : -1;
			held->push_back(std::move(status));
		}
		return most;
	}

	// Opens files.
	std::unique_ptr<Holder> opener(uid_t uid, int most, int err = EDQUOT)
	{
		return std::make_unique<Holder>(uid, [=](std::vector<Fd> *held) {
			const int srv = daemon().connect();

			return until_refused(most, held, err,
				[&] { return when_room(srv, [&] { return sfd_open(srv, "canary", 0, 0, false); }); });
		});
	}

	// Sends a large file into pipes that nobody reads.
	std::unique_ptr<Holder> sender(uid_t uid, int most, int err = EDQUOT)
	{
		return std::make_unique<Holder>(uid, [=](std::vector<Fd> *held) {
			const int srv = daemon().connect();
			std::vector<Ends> pipes;
			const int n = until_refused(most, held, err, [&] {
				pipes.push_back(make_pipe());
				return when_room(
					srv, [&] { return sfd_send(srv, "large", pipes.back().in, 0, 0, false); });
			});

			/* They stay open, and full. */
			for (Ends &p : pipes)
				held->push_back(std::move(p.out));
			return n;
		});
	}
};

TEST_F(Share, OpensThatWait)
{
	ASSERT_NO_FATAL_FAILURE(start_with({"--max-opens-per-user", "4"}));
	{
		const auto greedy = opener(GREEDY, 10), modest = opener(MODEST, 3);

		EXPECT_EQ(4, greedy->count);
		EXPECT_EQ(3, modest->count);
		EXPECT_EQ(0, opener(GREEDY, 1)->count) << "another process of the user's";
		EXPECT_EQ(20, opener(0, 20)->count) << "root is free";
		canary();
	}
	expect_idle();
	EXPECT_EQ(4, opener(GREEDY, 10)->count);
}

TEST_F(Share, Transfers)
{
	ASSERT_NO_FATAL_FAILURE(start_with({"--max-transfers-per-user", "6"}));
	add_file("large", 1 << 20);
	{
		const auto greedy = sender(GREEDY, 10);

		EXPECT_EQ(6, greedy->count);
		EXPECT_EQ(0, opener(GREEDY, 1)->count);
		EXPECT_EQ(5, sender(MODEST, 5)->count);
		EXPECT_EQ(10, sender(0, 10)->count);
	}
	expect_idle();
	EXPECT_EQ(6, sender(GREEDY, 10)->count);
}

// When they run short each gets what leaves as much for the others; alone, a user has it all.
TEST_F(Share, WhatIsLeft)
{
	ASSERT_NO_FATAL_FAILURE(start_with({"-n", "40"}));
	{
		const auto modest = opener(MODEST, 1), greedy = opener(GREEDY, 40);

		EXPECT_EQ(1, modest->count);
		EXPECT_GE(greedy->count, 19);
		EXPECT_LE(greedy->count, 20);
		EXPECT_EQ(5, opener(MODEST, 5)->count);
	}
	expect_idle();
	EXPECT_EQ(40, opener(GREEDY, 50, EMFILE)->count);
}

// Those in a queue are refused one by one, and the others of the batch go on.
TEST_F(Share, Queues)
{
	ASSERT_NO_FATAL_FAILURE(start_with({"--max-opens-per-user", "4"}));
	const Holder greedy(GREEDY, [&](std::vector<Fd> *) {
		const int srv = daemon().connect();
		sfd_queue *q = sfd_queue_new(srv, 16);
		std::vector<Ends> pipes;
		int refused = 0, opened = 0, sent = 0, other = 0;

		for (uint64_t i = 0; i < 12; i++) {
			if (i >= 10)
				pipes.push_back(make_pipe());
			if ((i < 10 ? sfd_queue_open(q, "canary", 0, 0, nullptr, i)
				    : sfd_queue_send(q, "canary", pipes.back().in, 0, 0, nullptr, i)) != 0)
				return -1;
		}
		while (sfd_queue_submit(q) < 0) {
			if (errno != EAGAIN)
				return -2;
			await(sfd_queue_fd(q), POLLIN);
		}
		while (refused + opened + sent + other < 12) {
			sfd_event ev[16];
			const int n = sfd_queue_reap(q, ev, 16);

			for (int i = 0; i < n; i++) {
				if (ev[i].type == SFD_EV_INFO)
					opened++;
				else if (ev[i].user_data >= 10)
					sent += ev[i].stat == SFD_STAT_OK;
				else if (ev[i].stat == EDQUOT)
					refused++;
				else
					other++;
			}
			if (n == 0 && await(sfd_queue_fd(q), POLLIN) == 0)
				return -3;
		}
		return opened * 100 + refused * 10 + sent;
	});

	EXPECT_EQ(462, greedy.count) << "opened, refused, sent";
}

TEST_F(Share, RequestsInASecond)
{
	ASSERT_NO_FATAL_FAILURE(start_with({"--max-requests-per-user", "20"}));
	const auto greedy = opener(GREEDY, 200);

	/* Sixteen at once, and what comes due while it asks. */
	EXPECT_GE(greedy->count, 16);
	EXPECT_LT(greedy->count, 200);
	EXPECT_EQ(16, opener(MODEST, 16)->count);
	EXPECT_EQ(200, opener(0, 200)->count);
}

TEST_F(Share, WhatADeadWorkerHeldIsGivenBack)
{
	ASSERT_NO_FATAL_FAILURE(start_with({"--max-opens-per-user", "8"}));
	const auto greedy = opener(GREEDY, 10);

	EXPECT_EQ(8, greedy->count);
	for (const pid_t pid : daemon().workers()) {
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_TRUE(await_gone(pid));
	}
	ASSERT_TRUE(eventually([&] { return daemon().workers().size() == 2; }));
	EXPECT_EQ(8, opener(GREEDY, 10)->count);
}

} // namespace
