// SPDX-License-Identifier: BSD-2-Clause
// Workers that die at a given point, or that cannot die since a client keeps them in the kernel; and children of the client
// that have copies of its descriptors. Each request ends exactly once.
#include "test/support/cold_fixture.h"
#include "test/support/queue.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <sys/stat.h>

namespace
{

constexpr size_t SIZE = 3000, LARGE = 300000;

// ---- Points to die at

// Its parameter: the point.
class QueueFault : public SfdTest, public ::testing::WithParamInterface<const char *>
{
      protected:
	static constexpr uint64_t MANY = 64;

	void SetUp() override
	{
		SfdTest::SetUp();
		hook_ = make_hook(dir());
		DaemonOptions options = dying_at(GetParam(), hook_);
		options.workers = 4;
		ASSERT_NO_FATAL_FAILURE(start(options));
		content_ = add_file("file", SIZE);
	}

	bool is(const char *point) const
	{
		return strcmp(GetParam(), point) == 0;
	}

	// Whoever gets there next dies.
	void arm()
	{
		write_whole(hook_, "", 0666);
	}
	bool has_fired() const
	{
		return access(hook_.c_str(), F_OK) < 0;
	}

	// Many requests of all kinds, until all have ended: how many by the death of a worker. With `splits`, one worker
	// opens, and another one is given the second messages.
	unsigned run_some(Queue &q, bool splits = false)
	{
		const std::vector<pid_t> workers = daemon().workers();
		const std::vector<pid_t> others(workers.begin() + 1, workers.end());
		std::vector<Ends> pipes;
		unsigned died = 0;

		if (splits)
			freeze(others);
		for (uint64_t i = 0; i < MANY; i++) {
			pipes.push_back(make_pipe());
			if (i % 4 == 0)
				q.send("file", pipes[i].in, i);
			else
				q.open("file", i);
		}
		await_opens(q);
		if (splits) {
			freeze({workers[0]});
			thaw({workers[1]});
		}
		for (uint64_t i = 0; i < MANY; i++) {
			if (i % 4 == 0 || q.of(i).over())
				continue;
			if (sfd_queue_send_open(q, q.of(i).info.txnid, pipes[i].in, nullptr) < 0) {
				EXPECT_EQ(ENOENT, errno) << strerror(errno);
			}
		}
		if (splits) {
			EXPECT_EQ(0, q.submit());
			EXPECT_TRUE(eventually([&] { return has_fired(); })) << "nothing was passed on";
			for (const pid_t pid : workers)
				kill(pid, SIGCONT);
		}
		q.finish();
		for (uint64_t i = 0; i < MANY; i++)
			died += check_one(q, i, &pipes[i]);
		q.expect_quiet();
		return died;
	}

	// Until of each open there is information, or its end.
	void await_opens(Queue &q)
	{
		EXPECT_TRUE(q.until([&] {
			bool ready = true;

			for (uint64_t i = 0; i < MANY; i++)
				ready = ready && (q.of(i).infos > 0 || q.of(i).over());
			return ready;
		}));
	}

	// Whether it ended by the death of a worker. Else it must be a success.
	bool check_one(Queue &q, uint64_t i, Ends *pipe)
	{
		const Result &r = q.of(i);
		const std::string arrived = take_arrived(pipe);

		SCOPED_TRACE("request " + std::to_string(i) + ": " + sfd_strstat(r.stat));
		EXPECT_TRUE(same_content(content_.substr(0, arrived.size()), arrived));
		EXPECT_LE(r.bytes, arrived.size());
		if (r.stat == SFD_STAT_WORKER_DIED)
			return true;
		EXPECT_EQ(SFD_STAT_OK, r.stat);
		EXPECT_EQ(SIZE, arrived.size());
		return false;
	}

	std::string content_, hook_;
};

TEST_P(QueueFault, ExactlyOneEnd)
{
	const bool registers = is("register-received") || is("register-passed");
	const bool splits = is("forward-before") || is("forward-after");
	unsigned died = 0;

	for (unsigned round = 0; round < 6 && !HasFailure(); round++) {
		SCOPED_TRACE(round);
		const std::vector<pid_t> before = daemon().workers();

		if (registers)
			arm();
		Queue q(srv());
		if (!registers) {
			q.open("missing", 1000);
			q.finish();
			arm();
		}
		for (const Deadline deadline(20s); !has_fired() && !deadline.passed();)
			died += run_some(q, splits);
		ASSERT_TRUE(has_fired()) << "nobody came to " << GetParam();
		if (registers) {
			died += run_some(q);
			EXPECT_EQ(0u, died) << "nothing had been submitted";
		}
		/* The death is told of, and what comes then is served. */
		EXPECT_TRUE(daemon().await_log("killed by signal 9"));
		EXPECT_TRUE(eventually([&] {
			const std::vector<pid_t> now = daemon().workers();

			return now.size() == 4 && now != before;
		})) << daemon().log();
		EXPECT_EQ(0u, run_some(q)) << "they ended by the death of a worker, and none died";
	}
	if (is("datagram-received")) {
		EXPECT_LT(0u, died) << "what the dead one had in its hands was served by somebody";
	}
	EXPECT_TRUE(eventually([&] { return active_transfers(daemon()) == 0; }));
}

INSTANTIATE_TEST_SUITE_P(Points, QueueFault,
	::testing::Values("register-received", "register-passed", "datagram-received", "forward-before",
		"forward-after", "outcome-written"),
	[](const auto &i) {
		std::string name = i.param;

		name[name.find('-')] = '_';
		return name;
	});

// ---- A worker that cannot die

class QueueWedge : public ColdTest
{
      protected:
	// A process that holds the pipe's lock until the file system answers. -1 if there is none.
	pid_t lock_pipe(const Ends &pipe, const std::string &path)
	{
		const pid_t child = fork();

		if (child == 0) {
			const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);

			_exit(splice(file, nullptr, pipe.in, nullptr, 4096, 0) < 0);
		}
		EXPECT_GT(child, 0);
		return child;
	}
};

// All other requests of that worker are told of its death at once, and this one when it is over.
TEST_F(QueueWedge, OnlyTheWedgedRequestWaits)
{
	constexpr uint64_t MANY = 20;
	std::vector<Ends> pipes;
	Ends locked = make_pipe();
	int status = -1;

	add_slow("hang", 100000);
	add_file("large", LARGE);
	ASSERT_NO_FATAL_FAILURE(serve({}, 2));
	const std::vector<pid_t> workers = daemon().workers();
	const pid_t worker = workers[0];
	Queue q(srv());
	q.open("missing", 1000);
	q.finish();
	/* All of them are the one's. */
	freeze({workers[1]});
	for (uint64_t i = 0; i < MANY; i++) {
		pipes.push_back(make_pipe());
		q.open("canary", i);
		q.send("large", pipes[i].in, 100 + i);
	}
	for (uint64_t i = 0; i < MANY; i++) {
		q.info_of(i);
		ASSERT_NE(0, await(pipes[i].out, POLLIN));
	}
	fs().hold("read", "hang");
	const pid_t child = lock_pipe(locked, fs().path("hang"));
	fs().await("read", 1, "hang");
	q.send("canary", locked.in, 500);
	ASSERT_EQ(0, q.submit());
	EXPECT_TRUE(eventually([&] { return waits_for_file(worker); })) << "it does not wait for the lock";
	thaw({workers[1]});
	ASSERT_EQ(0, kill(worker, SIGKILL));
	EXPECT_TRUE(q.until([&] { return q.outstanding() <= 1; })) << q.outstanding();
	EXPECT_LE(1u, fs().held("read", "hang"));
	for (uint64_t i = 0; i < MANY; i++) {
		q.expect_end(i, SFD_STAT_WORKER_DIED);
		q.expect_end(100 + i, SFD_STAT_WORKER_DIED);
	}
	/* Everybody else is served. */
	for (int i = 0; i < 10; i++)
		canary();
	fs().release();
	EXPECT_TRUE(await_exit(child, &status));
	q.finish();
	EXPECT_EQ(1u, q.of(500).ended);
	for (int i = 0; i < 10; i++)
		canary();
	q.expect_quiet();
	EXPECT_TRUE(eventually([&] { return daemon().workers().size() == 2; }));
	EXPECT_TRUE(await_gone(worker));
}

// ---- Children of the client

class QueueForkDeath : public SfdTest
{
      protected:
	// A child that does nothing but have copies of all descriptors until `word` is closed.
	pid_t start_child(Ends &word)
	{
		const pid_t child = fork();

		if (child == 0) {
			char byte;

			word.in.reset();
			_exit(read(word.out, &byte, 1) == 0 ? 0 : 1);
		}
		EXPECT_GT(child, 0);
		return child;
	}

	void end_child(pid_t child, Ends &word)
	{
		int status = -1;

		word.in.reset();
		EXPECT_TRUE(await_exit(child, &status));
		EXPECT_EQ(0, status);
	}

	void kill_daemon()
	{
		const std::vector<pid_t> workers = daemon().workers();

		EXPECT_EQ(SIGKILL, daemon().stop(SIGKILL));
		for (const pid_t pid : workers) {
			kill(pid, SIGKILL);
			EXPECT_TRUE(await_gone(pid));
		}
	}
};

TEST_F(QueueForkDeath, WorkersDie)
{
	ASSERT_NO_FATAL_FAILURE(start());
	Ends word = make_pipe();
	Queue q(srv());

	for (uint64_t i = 0; i < 20; i++)
		q.open("canary", i);
	for (uint64_t i = 0; i < 20; i++)
		q.info_of(i);
	const pid_t child = start_child(word);
	for (const pid_t pid : daemon().workers())
		ASSERT_EQ(0, kill(pid, SIGKILL));
	q.finish();
	for (uint64_t i = 0; i < 20; i++)
		q.expect_end(i, SFD_STAT_WORKER_DIED);
	q.open("missing", 100);
	q.expect_end(100, ENOENT);
	EXPECT_TRUE(process_lives(child));
	end_child(child, word);
	EXPECT_TRUE(eventually([&] { return daemon().workers().size() == 2; }));
	q.expect_quiet();
}

// When the child was made: what is in the client's hands then is in the child's too.
enum class When { Consented, Asked, Full, AskedLate };

class QueueForkDaemonDeath : public QueueForkDeath, public ::testing::WithParamInterface<When>
{
};

TEST_P(QueueForkDaemonDeath, EndsEverything)
{
	ASSERT_NO_FATAL_FAILURE(start());
	const std::vector<pid_t> workers = daemon().workers();
	std::vector<Fd> fillers;
	Ends word = make_pipe();

	if (GetParam() != When::Consented)
		freeze(workers);
	if (GetParam() == When::Full || GetParam() == When::AskedLate)
		fillers = fill_socket(daemon());
	Queue q(srv());
	for (uint64_t i = 0; i < 20; i++)
		q.open("canary", i);
	if (GetParam() == When::Consented)
		q.info_of(19);
	else
		EXPECT_EQ(-1, sfd_queue_submit(q));
	const pid_t child = start_child(word);
	if (GetParam() == When::Full) {
		/* The daemon learns of the queue after all, and serves it. */
		thaw(workers);
		for (uint64_t i = 0; i < 20; i++)
			q.info_of(i);
	}
	if (GetParam() == When::AskedLate) {
		/* It is sent, but nobody receives it. */
		thaw(workers);
		for (const Fd &filler : fillers)
			ASSERT_NE(0, await(filler, POLLIN));
		freeze(workers);
		EXPECT_EQ(-1, sfd_queue_submit(q));
	}
	kill_daemon();
	EXPECT_TRUE(process_lives(child));
	q.finish();
	ASSERT_EQ(0u, q.outstanding());
	for (uint64_t i = 0; i < 20; i++)
		q.expect_end(i, SFD_STAT_WORKER_DIED);
	q.expect_quiet();
	EXPECT_EQ(-1, sfd_queue_submit(q));
	EXPECT_EQ(ECONNREFUSED, errno) << strerror(errno);
	q.expect_quiet();
	end_child(child, word);
}

std::string name_of_time(const ::testing::TestParamInfo<When> &i)
{
	static const char *const names[] = {"Consented", "Asked", "Full", "AskedLate"};

	return names[static_cast<int>(i.param)];
}

INSTANTIATE_TEST_SUITE_P(Times, QueueForkDaemonDeath,
	::testing::Values(When::Consented, When::Asked, When::Full, When::AskedLate), name_of_time);

// The child was made before the daemon consented: it does not keep the queue alive when the client frees it.
TEST_F(QueueForkDeath, FreedWhileAnEarlyChildLives)
{
	ASSERT_NO_FATAL_FAILURE(start());
	Ends word = make_pipe();
	const std::vector<pid_t> workers = daemon().workers();

	freeze(workers);
	Queue q(srv());
	q.open("canary", 1);
	EXPECT_EQ(-1, sfd_queue_submit(q));
	const pid_t child = start_child(word);
	thaw(workers);
	q.info_of(1);
	q.free();
	EXPECT_TRUE(eventually([&] { return active_transfers(daemon()) == 0; }, 5s));
	expect_idle();
	end_child(child, word);
}

} // namespace
