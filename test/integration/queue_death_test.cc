// SPDX-License-Identifier: BSD-2-Clause
// Workers that are killed while queues have much outstanding: each request ends exactly once, and never in success without
// its bytes.
#include "test/support/fixture.h"
#include "test/support/queue.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <random>
#include <sendfiled/sendfiled.h>
#include <set>

namespace
{

constexpr auto LOAD_TIME = 30s;
constexpr size_t FILES = 8, LARGE = 300000;

/* What a pipe takes at once, so that nobody has to read. */
size_t size_of(size_t file)
{
	return 100 + file * 7001;
}

// ---- A load

// Keeps many requests of all kinds outstanding in one queue, each with a number of its own.
class Load
{
      public:
	Load(int srv, unsigned seed, const std::vector<std::string> &contents, const std::string &large)
	    : random_(seed), contents_(contents), large_(large), queue_(srv, AT_A_TIME)
	{
	}

	// Until it is told to stop; then until all has ended.
	void run(const std::atomic<bool> &stop)
	{
		while (!stop && good_) {
			while (flights_.size() < AT_A_TIME && good_)
				begin_one();
			go_on();
		}
		for (auto &[number, f] : flights_)
			cancel(number, f);
		while (!flights_.empty() && good_)
			go_on();
	}

	bool good() const
	{
		return good_;
	}
	// How many ended with that status.
	unsigned ends(int stat)
	{
		return ends_[stat];
	}

      private:
	static constexpr size_t AT_A_TIME = 64;

	enum class Sort { Send, Open, Stalled, Left };

	struct Flight {
		Sort sort;
		size_t file = 0;
		Ends pipe;
		bool sent = false, cancelled = false;
	};

	void fail(const std::string &what)
	{
		ADD_FAILURE() << what;
		good_ = false;
	}

	const std::string &content_of(const Flight &f) const
	{
		return f.sort == Sort::Stalled ? large_ : contents_[f.file];
	}

	void begin_one()
	{
		static const Sort sorts[] = {Sort::Send, Sort::Send, Sort::Send, Sort::Send, Sort::Open, Sort::Open,
			Sort::Open, Sort::Stalled, Sort::Left};
		const uint64_t number = ++last_;
		Flight f;

		f.sort = sorts[random_() % (sizeof sorts / sizeof sorts[0])];
		f.file = random_() % FILES;
		f.pipe = make_pipe();
		const std::string name = f.sort == Sort::Stalled ? "large" : "file" + std::to_string(f.file);
		if (f.sort == Sort::Send || f.sort == Sort::Stalled)
			queue_.send(name, f.pipe.in, number);
		else
			queue_.open(name, number);
		good_ = good_ && !::testing::Test::HasFailure();
		flights_.emplace(number, std::move(f));
	}

	void cancel(uint64_t number, Flight &f)
	{
		f.cancelled = true;
		queue_.cancel(number);
	}

	void send_open(uint64_t number, Flight &f)
	{
		if (sfd_queue_send_open(queue_, queue_.of(number).info.txnid, f.pipe.in, nullptr) == 0)
			f.sent = true;
		else if (errno != ENOENT && errno != EAGAIN)
			fail("second message of " + std::to_string(number) + ": " + strerror(errno));
	}

	void go_on()
	{
		std::vector<uint64_t> over;

		if (!queue_.step())
			fail(describe());
		for (auto &[number, f] : flights_) {
			const Result &r = queue_.of(number);

			if (r.over())
				over.push_back(number);
			else if (f.sort == Sort::Open && r.infos > 0 && !f.sent)
				send_open(number, f);
			else if ((f.sort == Sort::Stalled || f.sort == Sort::Left) && !f.cancelled &&
				 random_() % 8 == 0)
				cancel(number, f);
		}
		for (const uint64_t number : over) {
			end(number, flights_.at(number));
			flights_.erase(number);
			queue_.forget(number);
		}
		good_ = good_ && !::testing::Test::HasFailure();
	}

	void end(uint64_t number, Flight &f)
	{
		const Result &r = queue_.of(number);
		const std::string &content = content_of(f), arrived = take_arrived(&f.pipe);

		SCOPED_TRACE("request " + std::to_string(number) + ", " + std::to_string(arrived.size()) + " of " +
			     std::to_string(content.size()) + " bytes, " + std::to_string(r.bytes) +
			     " said: " + sfd_strstat(r.stat));
		ends_[r.stat]++;
		EXPECT_TRUE(same_content(content.substr(0, arrived.size()), arrived));
		switch (r.stat) {
		case SFD_STAT_OK:
			EXPECT_TRUE(f.sort == Sort::Send || (f.sort == Sort::Open && f.sent));
			EXPECT_EQ(content.size(), arrived.size());
			EXPECT_EQ(content.size(), r.bytes);
			break;
		case ECANCELED:
			EXPECT_TRUE(f.cancelled);
			EXPECT_EQ(r.bytes, arrived.size());
			break;
		case SFD_STAT_WORKER_DIED:
			EXPECT_GE(arrived.size(), r.bytes);
			break;
		default:
			ADD_FAILURE() << "that is no end of this";
		}
	}

	std::string describe()
	{
		std::string out = std::to_string(flights_.size()) + " requests do not end:";

		for (const auto &[number, f] : flights_) {
			static const char *const names[] = {"send", "open", "stalled", "left"};

			out += " " + std::to_string(number) + " " + names[static_cast<int>(f.sort)] +
			       (queue_.of(number).infos ? " open" : "") + (f.sent ? " sent" : "") +
			       (f.cancelled ? " cancelled" : "") + ",";
		}
		return out;
	}

	std::mt19937 random_;
	const std::vector<std::string> &contents_;
	const std::string &large_;
	Queue queue_;
	std::map<uint64_t, Flight> flights_;
	std::map<int, unsigned> ends_;
	uint64_t last_ = 0;
	bool good_ = true;
};

// ---- The fixture

class QueueDeath : public SfdTest
{
      protected:
	void begin(unsigned workers)
	{
		DaemonOptions options;

		options.workers = workers;
		ASSERT_NO_FATAL_FAILURE(start(options));
		for (size_t i = 0; i < FILES; i++)
			contents_.push_back(add_file("file" + std::to_string(i), size_of(i), i + 1));
		large_ = add_file("large", LARGE, 77);
	}

	void kill_all(int signo)
	{
		std::vector<pid_t> all = daemon().workers();
		const std::vector<pid_t> helpers = daemon().helpers();

		all.insert(all.end(), helpers.begin(), helpers.end());
		EXPECT_EQ(signo == SIGTERM ? 0 : signo, daemon().stop(signo));
		for (const pid_t pid : all) {
			if (signo == SIGKILL)
				kill(pid, signo);
			EXPECT_TRUE(await_gone(pid));
		}
	}

	// Kills one, some of them or all, and says how many.
	unsigned kill_some(std::mt19937 &random)
	{
		std::vector<pid_t> old;
		unsigned n = 0;

		for (const pid_t pid : daemon().workers()) {
			const auto seen = seen_.emplace(pid, Clock::now()).first;

			/* Who dies young is replaced late, so that soon there would be nobody to be killed. */
			if (Clock::now() - seen->second > 1s)
				old.push_back(pid);
			else if (random() % 64 == 0)
				n += kill(pid, SIGKILL) == 0;
		}
		if (old.empty())
			return n;
		if (random() % 16 != 0)
			old = {old[random() % old.size()]};
		for (const pid_t pid : old)
			n += kill(pid, SIGKILL) == 0;
		return n;
	}

	void await_workers(size_t count)
	{
		EXPECT_TRUE(eventually([&] { return daemon().workers().size() == count; }, 30s)) << daemon().log();
	}

	std::vector<std::string> contents_;
	std::string large_;
	std::map<pid_t, Clock::time_point> seen_;
};

TEST_F(QueueDeath, ExactlyOneEnd)
{
	constexpr unsigned QUEUES = 8;
	std::vector<std::unique_ptr<Load>> loads;
	std::vector<std::thread> threads;
	std::atomic<bool> stop{false};
	std::mt19937 random(static_cast<unsigned>(getpid()));
	unsigned kills = 0, succeeded = 0, died = 0;

	limit(static_cast<unsigned>(LOAD_TIME / 1s) + 90);
	ASSERT_NO_FATAL_FAILURE(begin(4));
	const std::string master = std::to_string(daemon().master());
	const size_t masters = count_fds(master);
	for (unsigned i = 0; i < QUEUES; i++)
		loads.push_back(std::make_unique<Load>(srv(), i, contents_, large_));
	for (auto &load : loads)
		threads.emplace_back([&] { load->run(stop); });
	for (const Deadline deadline(LOAD_TIME); !deadline.passed() && !HasFailure();) {
		std::this_thread::sleep_for(50ms);
		kills += kill_some(random);
	}
	stop = true;
	for (std::thread &t : threads)
		t.join();
	for (auto &load : loads) {
		EXPECT_TRUE(load->good());
		succeeded += load->ends(SFD_STAT_OK);
		died += load->ends(SFD_STAT_WORKER_DIED);
	}
	loads.clear();
	RecordProperty("kills", static_cast<int>(kills));
	RecordProperty("succeeded", static_cast<int>(succeeded));
	RecordProperty("died", static_cast<int>(died));
	EXPECT_LT(20u, kills);
	EXPECT_LT(0u, died);
	EXPECT_LT(died, succeeded);
	await_workers(4);
	EXPECT_TRUE(eventually([&] { return active_transfers(daemon()) == 0; }));
	EXPECT_TRUE(eventually([&] { return count_fds(master) == masters; })) << masters << " and then\n"
									      << list_fds(master);
}

// All of them at once, with nothing but a queue to tell of it.
TEST_F(QueueDeath, AllWorkersAtOnce)
{
	ASSERT_NO_FATAL_FAILURE(begin(4));
	Queue q(srv());
	std::vector<Ends> pipes;

	for (int round = 0; round < 3; round++) {
		for (uint64_t i = 0; i < 40; i++) {
			pipes.push_back(make_pipe());
			q.open("file1", i);
			q.send("large", pipes.back().in, 100 + i);
		}
		for (uint64_t i = 0; i < 40; i++) {
			q.info_of(i);
			ASSERT_NE(0, await(pipes[i].out, POLLIN));
		}
		for (const pid_t pid : daemon().workers())
			ASSERT_EQ(0, kill(pid, SIGKILL));
		q.finish();
		for (uint64_t i = 0; i < 40; i++) {
			q.expect_end(i, SFD_STAT_WORKER_DIED);
			q.expect_end(100 + i, SFD_STAT_WORKER_DIED);
			EXPECT_LE(q.of(100 + i).bytes, take_arrived(&pipes[i]).size());
		}
		pipes.clear();
		/* The queue lives on. */
		Ends pipe = make_pipe();
		q.send("file2", pipe.in, 1000);
		q.expect_success(1000, size_of(2));
		EXPECT_TRUE(same_content(contents_[2], drain(&pipe)));
		q.expect_quiet();
		await_workers(4);
	}
	q.free();
	expect_idle();
}

// What others hold goes on.
TEST_F(QueueDeath, OnlyWhatTheDeadOneHeld)
{
	ASSERT_NO_FATAL_FAILURE(begin(2));
	const std::vector<pid_t> workers = daemon().workers();
	Queue q(srv());

	q.open("missing", 1000);
	q.finish();
	for (size_t w = 0; w < 2; w++) {
		freeze({workers[1 - w]});
		for (uint64_t i = 0; i < 50; i++)
			q.open("file3", w * 100 + i);
		for (uint64_t i = 0; i < 50; i++)
			q.info_of(w * 100 + i);
		thaw({workers[1 - w]});
	}
	ASSERT_EQ(0, kill(workers[0], SIGKILL));
	for (uint64_t i = 0; i < 50; i++)
		q.expect_end(i, SFD_STAT_WORKER_DIED);
	EXPECT_EQ(50u, q.outstanding());
	for (uint64_t i = 100; i < 150; i++) {
		Ends pipe = make_pipe();

		q.send_open(i, pipe.in);
		q.expect_success(i, size_of(3));
		EXPECT_TRUE(same_content(contents_[3], drain(&pipe)));
	}
	q.expect_quiet();
	await_workers(2);
}

// Requests that wait in the socket while nobody is there are served by the replacement.
TEST_F(QueueDeath, WaitingRequestsAreNotLost)
{
	ASSERT_NO_FATAL_FAILURE(begin(1));
	const std::vector<pid_t> dead = daemon().workers();
	std::vector<Ends> pipes;
	Queue q(srv());

	q.open("missing", 1000);
	q.finish();
	freeze(dead);
	for (uint64_t i = 0; i < 200; i++) {
		pipes.push_back(make_pipe());
		q.send("file4", pipes[i].in, i);
	}
	ASSERT_EQ(0, q.submit());
	ASSERT_EQ(0, kill(dead[0], SIGKILL));
	q.finish();
	for (uint64_t i = 0; i < 200; i++) {
		q.expect_success(i, size_of(4));
		EXPECT_TRUE(same_content(contents_[4], drain(&pipes[i])));
	}
}

// Few numbers for many requests: as many ends as there were requests.
TEST_F(QueueDeath, UserDataIsReused)
{
	ASSERT_NO_FATAL_FAILURE(begin(4));
	Queue q(srv(), 64);
	const Fd null(open("/dev/null", O_WRONLY | O_CLOEXEC));
	std::mt19937 random(1);
	uint64_t added = 0;
	unsigned kills = 0;

	for (const Deadline deadline(5s); !deadline.passed() && !HasFailure();) {
		while (q.outstanding() < 64) {
			if (random() % 2)
				q.send("file5", null, added++ % 4);
			else
				q.open("file6", added++ % 4);
		}
		ASSERT_EQ(0, q.submit());
		if (random() % 50 == 0)
			kills += kill_some(random);
		if (random() % 4 == 0)
			sfd_queue_cancel(q, random() % 4);
		q.reap();
	}
	for (uint64_t i = 0; i < 4; i++)
		sfd_queue_cancel(q, i);
	q.finish();
	EXPECT_EQ(added, q.ended());
	EXPECT_LT(0u, kills);
	q.expect_quiet();
	await_workers(4);
}

// ---- The whole daemon

class QueueDaemonDeath : public QueueDeath, public ::testing::WithParamInterface<int>
{
};

TEST_P(QueueDaemonDeath, EndsEverything)
{
	ASSERT_NO_FATAL_FAILURE(begin(4));
	std::vector<std::unique_ptr<Queue>> queues;
	std::vector<Ends> pipes;

	for (size_t t = 0; t < 8; t++) {
		Queue &q = *queues.emplace_back(std::make_unique<Queue>(srv(), 128));

		for (uint64_t i = 0; i < 32; i++) {
			pipes.push_back(make_pipe());
			q.send("large", pipes.back().in, i);
			q.open("file1", 100 + i);
		}
		ASSERT_EQ(0, q.submit());
		q.info_of(100 + t);
		for (uint64_t i = 0; i < 16; i++) /* staged */
			q.open("file1", 200 + i);
		q.send_open(100 + t, pipes[t].in);
	}
	kill_all(GetParam());
	for (auto &q : queues) {
		q->finish();
		for (uint64_t i = 0; i < 32; i++) {
			q->expect_end(i, SFD_STAT_WORKER_DIED);
			q->expect_end(100 + i, SFD_STAT_WORKER_DIED);
		}
		for (uint64_t i = 0; i < 16; i++)
			q->expect_end(200 + i, SFD_STAT_WORKER_DIED);
		EXPECT_EQ(-1, sfd_queue_submit(*q));
		EXPECT_EQ(ECONNREFUSED, errno) << strerror(errno);
		q->expect_quiet();
	}
	for (Ends &pipe : pipes)
		drain(&pipe);
}

INSTANTIATE_TEST_SUITE_P(How, QueueDaemonDeath, ::testing::Values(SIGKILL, SIGTERM));

} // namespace
