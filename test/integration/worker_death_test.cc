// SPDX-License-Identifier: BSD-2-Clause
// Workers that are killed: their clients see end-of-file without a terminal frame, everyone else is served.
#include "test/support/fixture.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <set>

namespace
{

class WorkerDeath : public SfdTest
{
      protected:
	static constexpr size_t LARGE = 16 << 20;

	void begin(unsigned workers)
	{
		DaemonOptions options;

		options.workers = workers;
		ASSERT_NO_FATAL_FAILURE(start(options));
		content_ = add_file("large", LARGE);
	}

	// Waits until as many workers as at the start are there, none of them one of those.
	void await_replacement(const std::vector<pid_t> &dead, size_t count)
	{
		ASSERT_TRUE(eventually([&] {
			const std::vector<pid_t> now = daemon().workers();

			return now.size() == count && std::none_of(now.begin(), now.end(), [&](pid_t pid) {
				return std::find(dead.begin(), dead.end(), pid) != dead.end();
			});
		})) << daemon().log();
	}

	long restarts()
	{
		const size_t before = daemon().log().size();

		EXPECT_EQ(0, kill(daemon().pid(), SIGUSR1));
		EXPECT_TRUE(eventually([&] { return daemon().log().find("restarts=", before) != std::string::npos; }));
		const std::string log = daemon().log();
		return atol(log.c_str() + log.find("restarts=", before) + strlen("restarts="));
	}

	std::string content_;
};

TEST_F(WorkerDeath, ClientsSeeEndOfFileWithoutATerminalFrame)
{
	ASSERT_NO_FATAL_FAILURE(begin(1));
	const std::vector<pid_t> dead = daemon().workers();
	Dest dest({Kind::Unix, false}, dir());
	sfd_file_info sending, opened;
	const Fd send_pipe(sfd_send(srv(), "large", dest.fd(), 0, 0, false));
	const Fd open_pipe(sfd_open(srv(), "large", 0, 0, false));
	const Fd read_pipe(sfd_read(srv(), "large", 0, 0, false));

	ASSERT_TRUE(read_info(send_pipe, &sending));
	ASSERT_TRUE(read_info(open_pipe, &opened));
	ASSERT_NE(0, await(dest.peer(), POLLIN));
	ASSERT_NE(0, await(read_pipe, POLLIN));
	ASSERT_EQ(0, kill(dead[0], SIGKILL));

	const Outcome sent = read_rest(send_pipe, sending);
	EXPECT_TRUE(sent.ended);
	EXPECT_FALSE(sent.has_terminal());
	const Outcome waited = read_rest(open_pipe, opened);
	EXPECT_TRUE(waited.ended);
	EXPECT_FALSE(waited.has_terminal());
	const ReadResult r = read_file_pipe(read_pipe);
	EXPECT_LT(r.content.size(), LARGE);
	EXPECT_TRUE(same_content(content_.substr(0, r.content.size()), r.content));
	EXPECT_LT(dest.finish().size(), LARGE);

	/* The next request finds somebody, and the dead one's ids nobody. */
	canary();
	ASSERT_TRUE(sfd_cancel(srv(), opened.txnid));
	ASSERT_NO_FATAL_FAILURE(await_replacement(dead, 1));
	canary();
	expect_idle();
	EXPECT_EQ(1, restarts());
	EXPECT_NE(std::string::npos, daemon().log().find("killed by signal 9"));
}

// What the other worker holds goes on, and requests are served all the time.
TEST_F(WorkerDeath, OthersGoOn)
{
	ASSERT_NO_FATAL_FAILURE(begin(2));
	const std::vector<pid_t> workers = daemon().workers();
	std::vector<Fd> pipes;
	std::vector<sfd_file_info> infos;
	std::vector<std::unique_ptr<Dest>> dests;
	std::set<unsigned> slots;
	size_t survived = 0;

	/* Until both hold some; which worker made an id is in its first byte. */
	for (int i = 0; i < 2000 && slots.size() < 2; i++) {
		sfd_file_info info;
		Fd pipe(sfd_open(srv(), "large", 0, 0, false));

		ASSERT_TRUE(read_info(pipe, &info));
		if (pipes.size() < 8 || slots.count(static_cast<unsigned>(info.txnid >> 56)) == 0) {
			pipes.push_back(std::move(pipe));
			infos.push_back(info);
		}
		slots.insert(static_cast<unsigned>(info.txnid >> 56));
		if (i % 2)
			canary();
	}
	if (slots.size() < 2)
		GTEST_SKIP() << "one worker took everything, so that there is no other";
	ASSERT_EQ(0, kill(workers[0], SIGKILL));
	for (int i = 0; i < 20; i++)
		canary();
	for (size_t i = 0; i < pipes.size(); i++) {
		dests.push_back(std::make_unique<Dest>(DestType{Kind::Unix, true}, dir()));
		dests.back()->start_reading();
		ASSERT_TRUE(when_room(srv(), [&] { return sfd_send_open(srv(), infos[i].txnid, dests[i]->fd()); }));
		const Outcome o = read_rest(pipes[i], infos[i]);
		const std::string arrived = dests[i]->finish();

		EXPECT_TRUE(o.ended);
		if (o.has_terminal()) {
			expect_success(o, LARGE);
			EXPECT_TRUE(same_content(content_, arrived));
			survived++;
		} else {
			EXPECT_EQ("", arrived);
		}
	}
	EXPECT_GT(survived, 0u);
	EXPECT_LT(survived, pipes.size());
	await_replacement({workers[0]}, 2);
	EXPECT_EQ(1, restarts());
}

TEST_F(WorkerDeath, AllAtOnce)
{
	ASSERT_NO_FATAL_FAILURE(begin(4));
	const std::vector<pid_t> dead = daemon().workers();
	std::vector<Fd> pipes;

	for (int i = 0; i < 40; i++) {
		pipes.emplace_back(when_room(srv(), [&] { return sfd_open(srv(), "large", 0, 0, false); }));
		ASSERT_NE(0, await(pipes.back(), POLLIN));
	}
	for (pid_t pid : dead)
		ASSERT_EQ(0, kill(pid, SIGKILL));
	for (Fd &pipe : pipes) {
		const Outcome o = read_outcome(pipe);

		EXPECT_TRUE(o.ended);
		EXPECT_FALSE(o.has_terminal());
	}
	for (int i = 0; i < 10; i++)
		canary();
	ASSERT_NO_FATAL_FAILURE(await_replacement(dead, 4));
	EXPECT_EQ(4, restarts());
	expect_idle();
}

// A request that waits in the socket while nobody is there is served by the replacement.
TEST_F(WorkerDeath, QueuedRequestsAreNotLost)
{
	ASSERT_NO_FATAL_FAILURE(begin(1));
	const std::vector<pid_t> dead = daemon().workers();
	std::vector<Fd> pipes;

	freeze(dead);
	for (int i = 0; i < 5; i++) {
		pipes.emplace_back(sfd_read(srv(), "canary", 0, 0, false));
		ASSERT_GE(pipes.back(), 0);
	}
	ASSERT_EQ(0, kill(dead[0], SIGKILL));
	for (Fd &pipe : pipes)
		EXPECT_EQ(1000u, read_file_pipe(pipe).content.size());
	ASSERT_NO_FATAL_FAILURE(await_replacement(dead, 1));
}

// The second message meets a worker that dies: the client hears of the end all the same.
TEST_F(WorkerDeath, InTheMiddleOfSecondMessages)
{
	ASSERT_NO_FATAL_FAILURE(begin(4));

	for (int round = 0; round < 3; round++) {
		std::vector<Fd> pipes;
		std::vector<sfd_file_info> infos;
		std::vector<Ends> dests;
		const std::vector<pid_t> workers = daemon().workers();
		size_t ended = 0;

		for (int i = 0; i < 40; i++) {
			sfd_file_info info;
			Fd pipe(sfd_open(srv(), "canary", 0, 0, false));

			ASSERT_TRUE(read_info(pipe, &info));
			pipes.push_back(std::move(pipe));
			infos.push_back(info);
			dests.push_back(make_pipe());
		}
		for (size_t i = 0; i < pipes.size(); i++) {
			if (i == 20) {
				ASSERT_EQ(0, kill(workers[static_cast<size_t>(round)], SIGKILL));
			}
			ASSERT_TRUE(
				when_room(srv(), [&] { return sfd_send_open(srv(), infos[i].txnid, dests[i].in); }));
		}
		for (size_t i = 0; i < pipes.size(); i++) {
			/*
			 * A message that the dead worker had in its hands is lost, which is said if the file is still open.
			 * One that was in the dead worker's mailbox leaves it open until it is cancelled.
			 */
			if (await(pipes[i], POLLIN, 2s) == 0) {
				ASSERT_TRUE(when_room(srv(), [&] { return sfd_cancel(srv(), infos[i].txnid); }));
			}
			const Outcome o = read_rest(pipes[i], infos[i]);

			EXPECT_TRUE(o.ended);
			EXPECT_TRUE(!o.has_terminal() || o.stat() == SFD_STAT_OK || o.stat() == ECANCELED ||
				    o.stat() == SFD_STAT_WORKER_DIED)
				<< sfd_strstat(o.stat());
			ended++;
		}
		EXPECT_EQ(pipes.size(), ended);
		ASSERT_NO_FATAL_FAILURE(await_replacement({workers[static_cast<size_t>(round)]}, 4));
	}
	expect_idle();
}

// One that dies again and again is not replaced at once each time, and the log says how long that takes.
TEST_F(WorkerDeath, ReplacementIsThrottled)
{
	ASSERT_NO_FATAL_FAILURE(begin(1));
	const auto begin = Clock::now();
	std::vector<pid_t> seen;

	for (int i = 0; i < 4; i++) {
		ASSERT_TRUE(eventually([&] {
			const std::vector<pid_t> now = daemon().workers();

			return now.size() == 1 && std::find(seen.begin(), seen.end(), now[0]) == seen.end();
		})) << daemon().log();
		seen.push_back(daemon().workers().at(0));
		ASSERT_EQ(0, kill(seen.back(), SIGKILL));
	}
	ASSERT_TRUE(daemon().await_log("replaced in 400 ms"));
	EXPECT_NE(std::string::npos, daemon().log().find("replaced in 100 ms"));
	EXPECT_NE(std::string::npos, daemon().log().find("replaced in 200 ms"));
	EXPECT_GE(Clock::now() - begin, 300ms);
	/* It still serves, as soon as there is one again. */
	canary();
	EXPECT_EQ(4, restarts());
}

} // namespace
