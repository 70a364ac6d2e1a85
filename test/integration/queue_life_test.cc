// SPDX-License-Identifier: BSD-2-Clause
// How queues are used: waited for, by several threads, next to forked children; and what is left when they are freed.
#include "test/support/fixture.h"
#include "test/support/queue.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <sys/wait.h>

namespace
{

constexpr size_t SIZE = 5000, LARGE = 8 << 20;

class QueueLife : public SfdTest
{
      protected:
	void SetUp() override
	{
		SfdTest::SetUp();
		start();
		content_ = add_file("file", SIZE);
		add_file("large", LARGE, 2);
	}

	std::string content_;
};

// ---- Waiting

class QueueWait : public QueueLife
{
};

// It submits, so that nothing else has to be called.
TEST_F(QueueWait, SubmitsAndReaps)
{
	sfd_queue *q = sfd_queue_new(srv(), 100);
	std::vector<Ends> pipes;
	sfd_event events[64];
	int over = 0;

	for (uint64_t i = 0; i < 100; i++) {
		pipes.push_back(make_pipe());
		ASSERT_EQ(0, sfd_queue_send(q, "file", pipes[i].in, 0, 0, nullptr, i));
	}
	while (over < 100) {
		const int n = sfd_queue_wait(q, events, 64, static_cast<int>(PATIENCE / 1ms));

		ASSERT_GT(n, 0) << over << ": " << strerror(errno);
		for (int i = 0; i < n; i++) {
			EXPECT_EQ(SFD_EV_DONE, events[i].type);
			EXPECT_EQ(SFD_STAT_OK, events[i].stat);
		}
		over += n;
	}
	for (Ends &pipe : pipes)
		EXPECT_TRUE(same_content(content_, drain(&pipe)));
	EXPECT_EQ(0, sfd_queue_wait(q, events, 64, -1)) << "nothing is outstanding";
	sfd_queue_free(q);
}

TEST_F(QueueWait, NoLongerThanItIsTold)
{
	Queue q(srv());
	sfd_event e;

	q.open("file", 1);
	q.info_of(1);
	for (const int ms : {0, 1, 50, 300}) {
		const auto begin = Clock::now();

		EXPECT_EQ(0, sfd_queue_wait(q, &e, 1, ms)) << strerror(errno);
		EXPECT_GE(Clock::now() - begin, milliseconds(ms));
	}
	EXPECT_EQ(0, sfd_queue_wait(q, &e, 1, 0));
	q.cancel(1);
	q.finish();
}

// What the daemon has not consented to yet is waited for too.
TEST_F(QueueWait, WithoutADaemonThatAnswers)
{
	const std::vector<pid_t> workers = daemon().workers();
	sfd_event e;

	freeze(workers);
	Queue q(srv());
	q.open("missing", 1);
	EXPECT_EQ(0, sfd_queue_wait(q, &e, 1, 0)) << strerror(errno);
	EXPECT_EQ(0, sfd_queue_wait(q, &e, 1, 100)) << strerror(errno);
	thaw(workers);
	q.expect_end(1, ENOENT);
}

TEST_F(QueueWait, NothingOutstanding)
{
	Queue q(srv());
	sfd_event e;

	for (const int ms : {-1, 0, 100000})
		EXPECT_EQ(0, sfd_queue_wait(q, &e, 1, ms)) << strerror(errno);
	q.open("missing", 1);
	q.finish();
	EXPECT_EQ(0, sfd_queue_wait(q, &e, 1, -1)) << strerror(errno);
}

TEST_F(QueueWait, Arguments)
{
	Queue q(srv());
	sfd_event e;

	for (const int max : {0, -1}) {
		EXPECT_EQ(-1, sfd_queue_wait(q, &e, max, 0));
		EXPECT_EQ(EINVAL, errno);
	}
	EXPECT_EQ(-1, sfd_queue_wait(q, nullptr, 1, 0));
	EXPECT_EQ(EINVAL, errno);
}

void ignore_it(int)
{
}

TEST_F(QueueWait, EndedByASignal)
{
	struct sigaction handle = {}, before;
	std::atomic<bool> waits{true};
	const pthread_t self = pthread_self();
	sfd_event e;
	Queue q(srv());

	handle.sa_handler = ignore_it; /* without SA_RESTART, and with: nobody starts poll(2) again */
	ASSERT_EQ(0, sigaction(SIGUSR2, &handle, &before));
	q.open("file", 1);
	q.info_of(1);
	/* Again and again, since the first one may come before there is a wait. */
	std::thread sender([&] {
		while (waits) {
			pthread_kill(self, SIGUSR2);
			std::this_thread::sleep_for(10ms);
		}
	});
	errno = 0;
	EXPECT_EQ(-1, sfd_queue_wait(q, &e, 1, -1));
	EXPECT_EQ(EINTR, errno) << strerror(errno);
	EXPECT_EQ(-1, sfd_queue_wait(q, &e, 1, static_cast<int>(PATIENCE / 1ms)));
	EXPECT_EQ(EINTR, errno) << strerror(errno);
	waits = false;
	sender.join();
	ASSERT_EQ(0, sigaction(SIGUSR2, &before, nullptr));
	q.cancel(1);
	q.expect_end(1, ECANCELED);
}

// ---- Several at a time

// A load of its own for one thread: how many came as they should.
unsigned run_load(int srv, const std::string &content, uint64_t seed)
{
	constexpr uint64_t AT_A_TIME = 64, ROUNDS = 30;
	unsigned good = 0;
	Queue q(srv, AT_A_TIME);
	std::vector<Ends> pipes(AT_A_TIME);

	for (uint64_t round = 0; round < ROUNDS; round++) {
		for (uint64_t i = 0; i < AT_A_TIME; i++) {
			const uint64_t at = (seed + round * 7 + i * 31) % content.size();

			pipes[i] = make_pipe();
			q.send("file", pipes[i].in, i, nullptr, static_cast<off_t>(at));
		}
		q.finish();
		for (uint64_t i = 0; i < AT_A_TIME; i++) {
			const uint64_t at = (seed + round * 7 + i * 31) % content.size();

			good += drain(&pipes[i]) == content.substr(at) && q.of(i).stat == SFD_STAT_OK;
		}
	}
	return good;
}

TEST_F(QueueLife, ThreadsWithAQueueEach)
{
	const Fd second(daemon().connect());
	std::vector<std::thread> threads;
	std::atomic<unsigned> good{0};

	for (uint64_t t = 0; t < 4; t++) {
		const int connection = t == 3 ? static_cast<int>(second) : srv();

		threads.emplace_back([&, connection, t] { good += run_load(connection, content_, t * 1000); });
	}
	for (std::thread &t : threads)
		t.join();
	EXPECT_EQ(4u * 64 * 30, good);
	expect_same_workers();
}

// Made and freed again and again, with something outstanding or not.
TEST_F(QueueLife, ManyQueuesOneAfterTheOther)
{
	for (uint64_t i = 0; i < 300; i++) {
		Queue q(srv(), 16);
		Ends pipe = make_pipe();

		if (i % 4 == 0)
			continue;
		q.send("file", pipe.in, i);
		if (i % 4 == 1)
			continue;
		q.open("file", 1000 + i);
		if (i % 4 == 2) {
			sfd_queue_submit(q);
			continue;
		}
		q.expect_success(i, SIZE);
		q.info_of(1000 + i);
	}
	EXPECT_TRUE(eventually([&] { return active_transfers(daemon()) == 0; }, 5s));
	expect_idle();
	canary();
}

TEST_F(QueueLife, ManyQueuesAtATime)
{
	std::vector<std::unique_ptr<Queue>> queues;
	std::vector<Ends> pipes;

	for (size_t i = 0; i < 50; i++)
		queues.push_back(std::make_unique<Queue>(srv(), 16));
	for (size_t i = 0; i < 50; i++) {
		pipes.push_back(make_pipe());
		queues[i]->send("file", pipes[i].in, i, nullptr, static_cast<off_t>(i));
		ASSERT_EQ(0, queues[i]->submit());
	}
	for (size_t i = 50; i-- > 0;) {
		queues[i]->expect_success(i, SIZE - i);
		EXPECT_TRUE(same_content(content_.substr(i), drain(&pipes[i])));
	}
}

// Three numbers for all, while others of the same number are outstanding.
TEST_F(QueueLife, UserDataIsReused)
{
	constexpr unsigned MANY = 3000;
	Queue q(srv(), 60);
	std::vector<Ends> pipes(20);
	const Ends stalled = make_pipe();
	unsigned added = 0;

	q.send("large", stalled.in, 1000);
	for (Ends &pipe : pipes)
		pipe = make_pipe();
	while (added < MANY) {
		for (size_t i = 0; i < pipes.size(); i++) {
			q.send("file", pipes[i].in, i % 3, nullptr, 0, 100);
			q.open("missing", i % 3);
			added += 2;
		}
		ASSERT_TRUE(q.until([&] { return q.outstanding() == 1; }));
		for (Ends &pipe : pipes) {
			char buf[101];

			ASSERT_EQ(100, read(pipe.out, buf, sizeof buf));
		}
	}
	EXPECT_EQ(added, q.of(0).ended + q.of(1).ended + q.of(2).ended);
	q.cancel(1000);
	q.expect_end(1000, ECANCELED);
	q.expect_quiet();
}

// ---- Freed

// The destinations are let go of, and nothing is written to them any more. (Cold files: see queue_cancel_test.)
TEST_F(QueueLife, FreeWhileADestinationIsStalled)
{
	Queue q(srv());
	std::vector<Ends> pipes;

	for (uint64_t i = 0; i < 100; i++) {
		pipes.push_back(make_pipe());
		q.send("large", pipes[i].in, i);
	}
	ASSERT_EQ(0, q.submit());
	for (Ends &pipe : pipes)
		ASSERT_NE(0, await(pipe.out, POLLIN));
	q.free();
	for (Ends &pipe : pipes)
		EXPECT_GT(LARGE, drain(&pipe).size());
	EXPECT_TRUE(eventually([&] { return active_transfers(daemon()) == 0; }, 5s));
	expect_idle();
	expect_same_workers();
}

// ---- Forks

class QueueFork : public QueueLife
{
      protected:
	// In a forked child: runs `what`, which says whether all was well. Returns its process id.
	template <typename What> pid_t start_child(What what)
	{
		const pid_t child = fork();

		if (child == 0) {
			alarm(50);
			_exit(what() ? 0 : 1);
		}
		EXPECT_GT(child, 0);
		return child;
	}

	void expect_good_end(pid_t child)
	{
		int status = -1;

		EXPECT_TRUE(await_exit(child, &status));
		EXPECT_EQ(0, status);
	}
};

bool is_refused(long result)
{
	return result == -1 && errno == EPERM;
}

// Every call but the one that frees it.
bool all_calls_are_refused(sfd_queue *q, size_t txnid)
{
	sfd_event e;

	return is_refused(sfd_queue_fd(q)) && is_refused(sfd_queue_send(q, "file", 1, 0, 0, nullptr, 1)) &&
	       is_refused(sfd_queue_open(q, "file", 0, 0, nullptr, 1)) &&
	       is_refused(sfd_queue_send_open(q, txnid, 1, nullptr)) && is_refused(sfd_queue_cancel(q, 1)) &&
	       is_refused(sfd_queue_submit(q)) && is_refused(sfd_queue_reap(q, &e, 1)) &&
	       is_refused(sfd_queue_wait(q, &e, 1, 0));
}

TEST_F(QueueFork, ChildMayOnlyFreeIt)
{
	Queue q(srv());
	std::vector<Ends> pipes;

	q.open("file", 1);
	const size_t txnid = q.info_of(1).txnid;
	for (uint64_t i = 10; i < 50; i++) {
		pipes.push_back(make_pipe());
		q.send("file", pipes.back().in, i);
		if (i == 30) {
			ASSERT_EQ(0, q.submit());
		}
	}
	/* Some of them are done, some on their way, some not submitted. */
	const pid_t child = start_child([&] {
		const bool good = all_calls_are_refused(q, txnid);

		sfd_queue_free(q);
		return good;
	});
	expect_good_end(child);
	/* Of all that nothing is seen here. */
	q.send_open(1, pipes.emplace_back(make_pipe()).in);
	q.finish();
	q.expect_success(1, SIZE);
	for (uint64_t i = 10; i < 50; i++)
		q.expect_success(i, SIZE);
	for (Ends &pipe : pipes)
		EXPECT_TRUE(same_content(content_, drain(&pipe)));
	q.expect_quiet();
}

// A child that ends without having freed it, by a signal too.
TEST_F(QueueFork, ChildThatJustEnds)
{
	Queue q(srv());

	for (const bool is_killed : {false, true}) {
		q.open("file", 1);
		q.info_of(1);
		const pid_t child = start_child([&] {
			if (is_killed)
				raise(SIGKILL);
			return true;
		});
		int status = -1;
		ASSERT_TRUE(await_exit(child, &status));
		Ends pipe = make_pipe();
		q.send_open(1, pipe.in);
		q.expect_success(1, SIZE);
		EXPECT_TRUE(same_content(content_, drain(&pipe)));
	}
}

// The child has copies of all descriptors. What the parent frees is freed all the same.
TEST_F(QueueFork, FreeWhileAChildLives)
{
	Ends word = make_pipe();
	Queue q(srv());
	std::vector<Ends> pipes;

	for (uint64_t i = 0; i < 20; i++) {
		pipes.push_back(make_pipe());
		q.send("large", pipes.back().in, i);
		q.open("file", 100 + i);
	}
	ASSERT_EQ(0, q.submit());
	for (uint64_t i = 0; i < 20; i++) {
		q.info_of(100 + i);
		ASSERT_NE(0, await(pipes[i].out, POLLIN));
	}
	const pid_t child = start_child([&] {
		char byte;

		word.in.reset();
		pipes.clear();
		return read(word.out, &byte, 1) == 0 && all_calls_are_refused(q, 1);
	});
	q.free();
	EXPECT_TRUE(eventually([&] { return active_transfers(daemon()) == 0; }, 5s));
	expect_idle();
	EXPECT_TRUE(process_lives(child));
	for (Ends &pipe : pipes)
		EXPECT_GT(LARGE, drain(&pipe).size());
	word.in.reset();
	expect_good_end(child);
	/* What the child frees then, if it does, is nobody's any more. */
	canary();
}

// The child makes its own on the same connection.
TEST_F(QueueFork, ChildHasItsOwn)
{
	Queue q(srv());
	Ends pipe = make_pipe(), theirs = make_pipe();

	q.open("file", 1);
	q.info_of(1);
	const pid_t child = start_child([&] {
		sfd_queue_free(q);
		sfd_queue *own = sfd_queue_new(srv(), 8);
		sfd_event e;

		return own && sfd_queue_send(own, "file", theirs.in, 0, 0, nullptr, 5) == 0 && await_event(own, &e) &&
		       e.type == SFD_EV_DONE && e.stat == SFD_STAT_OK && e.user_data == 5;
	});
	q.send_open(1, pipe.in);
	q.expect_success(1, SIZE);
	expect_good_end(child);
	EXPECT_TRUE(same_content(content_, drain(&pipe)));
	EXPECT_TRUE(same_content(content_, drain(&theirs)));
}

} // namespace
