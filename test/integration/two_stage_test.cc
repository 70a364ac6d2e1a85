// SPDX-License-Identifier: BSD-2-Clause
// Open first, send or cancel later: the second message must find the worker that holds the file, wherever it arrives.
#include "test/support/fixture.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <sys/socket.h>

namespace
{

constexpr size_t SIZE = 300;

class TwoStage : public SfdTest
{
      protected:
	void SetUp() override
	{
		SfdTest::SetUp();
		DaemonOptions options;
		options.workers = 4;
		start(options);
		content_ = add_file("file", SIZE);
	}

	// Nothing came of a second message that had no business.
	void expect_untouched(Dest &dest)
	{
		/* Each worker has received all that was sent before, once it has served so many more. */
		for (int i = 0; i < 8; i++)
			canary();
		expect_idle();
		EXPECT_EQ("", dest.finish());
		expect_same_workers();
	}

	std::string content_;
};

TEST_F(TwoStage, OutcomeComesOnTheFirstPipe)
{
	Dest dest({Kind::Tcp, false}, dir());
	sfd_file_info info;
	const Fd status(sfd_open(srv(), "file", 10, 100, false));

	ASSERT_TRUE(read_info(status, &info));
	EXPECT_EQ(100u, info.size);
	EXPECT_EQ(0, await(status, POLLIN, 0ms));
	ASSERT_TRUE(sfd_send_open(srv(), info.txnid, dest.fd()));
	expect_success(read_rest(status, info), 100);
	EXPECT_TRUE(same_content(content_.substr(10, 100), dest.finish()));
}

// Closing the destination after the terminal frame ends the connection, also where two workers had a hand in it.
TEST_F(TwoStage, CloseAfterTheEndSendsFin)
{
	for (int i = 0; i < 300; i++) {
		Ends tcp = make_tcp_pair();
		char buf[SIZE + 1];
		sfd_file_info info;
		const Fd status(sfd_open(srv(), "file", 0, 0, false));

		ASSERT_TRUE(read_info(status, &info));
		ASSERT_TRUE(sfd_send_open(srv(), info.txnid, tcp.in));
		ASSERT_EQ(SFD_STAT_OK, read_rest(status, info).stat());
		tcp.in.reset();
		/* On the loopback what was sent, the end included, has arrived. */
		ASSERT_EQ(static_cast<ssize_t>(SIZE), recv(tcp.out, buf, SIZE, MSG_DONTWAIT | MSG_WAITALL));
		ASSERT_EQ(0, recv(tcp.out, buf, 1, MSG_DONTWAIT)) << "round " << i << ": " << strerror(errno);
	}
}

// Whoever opened the file, and whoever receives the second message: they find each other, and nobody else is needed.
TEST_F(TwoStage, EveryPairOfWorkers)
{
	const std::vector<pid_t> workers = daemon().workers();
	constexpr int FILES = 6;

	freeze(workers);
	for (pid_t owner : workers) {
		for (pid_t receiver : workers) {
			std::vector<Fd> pipes;
			std::vector<sfd_file_info> infos(FILES);
			std::vector<Ends> dests;
			char buf[SIZE + 1];

			thaw({owner});
			for (int i = 0; i < FILES; i++) {
				pipes.emplace_back(sfd_open(srv(), "file", 0, 0, false));
				dests.push_back(make_tcp_pair());
				ASSERT_TRUE(read_info(pipes.back(), &infos[static_cast<size_t>(i)]));
			}
			freeze({owner});
			thaw({receiver});
			for (size_t i = 0; i < FILES; i++) {
				ASSERT_TRUE(when_room(srv(), [&] {
					return i % 3 == 0 ? sfd_cancel(srv(), infos[i].txnid)
							  : sfd_send_open(srv(), infos[i].txnid, dests[i].in);
				}));
			}
			/* Requests come in order: what was sent before this one has been received. */
			canary();
			thaw({owner});
			for (size_t i = 0; i < FILES; i++) {
				const Outcome o = read_rest(pipes[i], infos[i]);

				EXPECT_EQ(i % 3 == 0 ? ECANCELED : SFD_STAT_OK, o.stat());
				dests[i].in.reset();
				const ssize_t n = i % 3 == 0 ? 0 : static_cast<ssize_t>(SIZE);
				/* Not one byte more, and the end: nobody else holds the socket. */
				EXPECT_EQ(n, recv(dests[i].out, buf, sizeof buf, MSG_DONTWAIT));
				if (n > 0) {
					EXPECT_EQ(0, recv(dests[i].out, buf, 1, MSG_DONTWAIT)) << strerror(errno);
				}
			}
			freeze({owner, receiver});
		}
	}
	thaw(workers);
	expect_same_workers();

	/* It was not always the same worker that both messages came to. */
	ASSERT_EQ(0, kill(daemon().pid(), SIGUSR1));
	ASSERT_TRUE(daemon().await_log("counters: "));
	const std::string log = daemon().log();
	const long forwarded = atol(log.c_str() + log.find("forwarded=") + strlen("forwarded="));
	EXPECT_EQ(static_cast<long>(workers.size() * (workers.size() - 1) * FILES), forwarded);
}

// ---- Many rounds

struct Round {
	Fd status;
	Ends dest;
	sfd_file_info info;
	bool cancel = false;
};

class Rounds
{
      public:
	Rounds(int srv, int count, const std::string &content) : srv_(srv), left_(count), content_(content)
	{
	}

	// Keeps a batch of opens in flight. Returns how many rounds went as they should.
	int run()
	{
		constexpr size_t BATCH = 32;
		std::deque<Round> opened, sent;

		while (left_ > 0 || !opened.empty() || !sent.empty()) {
			while (left_ > 0 && opened.size() < BATCH)
				open_one(&opened);
			while (!opened.empty() && sent.size() < BATCH)
				second_message(&opened, &sent);
			while (!sent.empty())
				finish_one(&sent);
		}
		return good_;
	}

      private:
	void open_one(std::deque<Round> *opened)
	{
		Round r;

		left_--;
		r.cancel = left_ % 3 == 0;
		r.status.reset(when_room(srv_, [&] { return sfd_open(srv_, "file", 0, 0, false); }));
		if (r.status >= 0)
			opened->push_back(std::move(r));
	}

	void second_message(std::deque<Round> *opened, std::deque<Round> *sent)
	{
		Round r = std::move(opened->front());
		bool ok;

		opened->pop_front();
		if (!read_info(r.status, &r.info))
			return;
		if (r.cancel) {
			ok = when_room(srv_, [&] { return sfd_cancel(srv_, r.info.txnid); });
		} else {
			if (spare_.empty())
				spare_.push_back(make_pipe());
			r.dest = std::move(spare_.back());
			spare_.pop_back();
			ok = when_room(srv_, [&] { return sfd_send_open(srv_, r.info.txnid, r.dest.in); });
		}
		if (ok)
			sent->push_back(std::move(r));
	}

	void finish_one(std::deque<Round> *sent)
	{
		Round r = std::move(sent->front());
		char buf[SIZE + 1];

		sent->pop_front();
		const Outcome o = read_rest(r.status, r.info);
		if (r.cancel) {
			good_ += o.terminal_kind() == SFD_XFER_STAT && o.stat() == ECANCELED && o.total() == 0;
			return;
		}
		good_ += o.stat() == SFD_STAT_OK && o.total() == SIZE &&
			 read(r.dest.out, buf, sizeof buf) == static_cast<ssize_t>(SIZE) &&
			 memcmp(buf, content_.data(), SIZE) == 0;
		spare_.push_back(std::move(r.dest));
	}

	int srv_, left_, good_ = 0;
	const std::string &content_;
	std::vector<Ends> spare_;
};

TEST_F(TwoStage, AHundredThousandRounds)
{
	constexpr int THREADS = 4, ROUNDS = 100000;
	const Fd second(daemon().connect());
	std::vector<std::thread> threads;
	std::atomic<int> good{0};

	limit(120);
	for (int t = 0; t < THREADS; t++) {
		const int connection = t % 2 ? static_cast<int>(second) : srv();

		threads.emplace_back([&, connection] { good += Rounds(connection, ROUNDS / THREADS, content_).run(); });
	}
	for (std::thread &t : threads)
		t.join();
	EXPECT_EQ(ROUNDS, good);
	expect_same_workers();
}

// ---- Ids that are none of the sender's business

TEST_F(TwoStage, IdsAreWidelySpread)
{
	std::vector<size_t> ids;
	size_t ones = ~size_t{0}, zeros = ~size_t{0};

	for (int i = 0; i < 200; i++) {
		sfd_file_info info;
		const Fd status(sfd_open(srv(), "file", 0, 0, false));

		ASSERT_TRUE(read_info(status, &info));
		ids.push_back(info.txnid);
		ones &= info.txnid;
		zeros &= ~info.txnid;
	}
	std::sort(ids.begin(), ids.end());
	EXPECT_EQ(ids.end(), std::adjacent_find(ids.begin(), ids.end()));
	/* 48 bits at least that are now this, now that. */
	EXPECT_LE(__builtin_popcountll(ones | zeros), 16);
}

TEST_F(TwoStage, UnknownIdsDoNothing)
{
	Dest dest({Kind::Pipe, false}, dir());
	sfd_file_info info;
	const Fd status(sfd_open(srv(), "file", 0, 0, false));

	ASSERT_TRUE(read_info(status, &info));
	std::vector<size_t> ids = {0, 1, SIZE_MAX, info.txnid + 1, info.txnid - 1};
	for (int bit = 0; bit < 64; bit++)
		ids.push_back(info.txnid ^ (size_t{1} << bit));
	for (size_t id : ids) {
		ASSERT_TRUE(when_room(srv(), [&] { return sfd_send_open(srv(), id, dest.fd()); }));
		ASSERT_TRUE(when_room(srv(), [&] { return sfd_cancel(srv(), id); }));
	}
	canary();
	EXPECT_EQ(0, await(status, POLLIN, 0ms)) << "the open file was touched";
	/* And the right one still does. */
	Dest right({Kind::Pipe, false}, dir());
	ASSERT_TRUE(when_room(srv(), [&] { return sfd_send_open(srv(), info.txnid, right.fd()); }));
	expect_success(read_rest(status, info), SIZE);
	EXPECT_TRUE(same_content(content_, right.finish()));
	expect_untouched(dest);
}

TEST_F(TwoStage, AnotherProcessesIdDoesNothing)
{
	Dest theirs({Kind::Pipe, false}, dir()), ours({Kind::Pipe, false}, dir());
	sfd_file_info info;
	const Fd status(sfd_open(srv(), "file", 0, 0, false));
	int exit_status = -1;

	ASSERT_TRUE(read_info(status, &info));
	const pid_t child = fork();
	if (child == 0) {
		bool ok = true;

		for (int i = 0; i < 20; i++) {
			ok = ok && when_room(srv(), [&] { return sfd_send_open(srv(), info.txnid, theirs.fd()); });
			ok = ok && when_room(srv(), [&] { return sfd_cancel(srv(), info.txnid); });
		}
		_exit(ok ? 0 : 1);
	}
	ASSERT_TRUE(await_exit(child, &exit_status));
	EXPECT_EQ(0, exit_status);
	canary();
	EXPECT_EQ(0, await(status, POLLIN, 0ms)) << "another process touched our file";
	ASSERT_TRUE(sfd_send_open(srv(), info.txnid, ours.fd()));
	expect_success(read_rest(status, info), SIZE);
	EXPECT_TRUE(same_content(content_, ours.finish()));
	expect_untouched(theirs);
}

TEST_F(TwoStage, OnlyTheFirstSendCounts)
{
	constexpr size_t LARGE = 8 << 20;
	const std::string large = add_file("large", LARGE);
	Dest first({Kind::Unix, false}, dir()), second({Kind::Pipe, false}, dir());
	sfd_file_info info;
	const Fd status(sfd_open(srv(), "large", 0, 0, false));

	ASSERT_TRUE(read_info(status, &info));
	ASSERT_TRUE(sfd_send_open(srv(), info.txnid, first.fd()));
	ASSERT_NE(0, await(first.peer(), POLLIN));
	for (int i = 0; i < 20; i++)
		ASSERT_TRUE(when_room(srv(), [&] { return sfd_send_open(srv(), info.txnid, second.fd()); }));
	first.start_reading();
	expect_success(read_rest(status, info), LARGE);
	EXPECT_TRUE(same_content(large, first.finish()));
	/* It is over: the id names nothing any more. */
	ASSERT_TRUE(when_room(srv(), [&] { return sfd_send_open(srv(), info.txnid, second.fd()); }));
	expect_untouched(second);
}

// A send that was asked for in one request has an id too, but not one to be sent again.
TEST_F(TwoStage, IdOfASendCannotBeSent)
{
	add_file("large", 8 << 20);
	Dest first({Kind::Unix, false}, dir()), second({Kind::Pipe, false}, dir());
	sfd_file_info info;
	const Fd status(sfd_send(srv(), "large", first.fd(), 0, 0, false));

	ASSERT_TRUE(read_info(status, &info));
	ASSERT_TRUE(sfd_send_open(srv(), info.txnid, second.fd()));
	canary();
	first.start_reading();
	expect_success(read_rest(status, info), 8 << 20);
	first.finish();
	expect_untouched(second);
}

// A worker that is kept from running for a while has its mail when it comes back: none of it is lost.
TEST_F(TwoStage, AStoppedWorkerLosesNoMail)
{
	constexpr size_t OPENS = 1000;
	std::vector<Fd> status;
	std::vector<sfd_file_info> infos(OPENS);
	std::vector<Ends> dests;

	for (size_t i = 0; i < OPENS; i++) {
		status.emplace_back(when_room(srv(), [&] { return sfd_open(srv(), "file", 0, 0, false); }));
		ASSERT_TRUE(read_info(status[i], &infos[i]));
		dests.push_back(make_pipe());
	}
	const std::vector<pid_t> workers = daemon().workers();
	for (size_t stopped = 0; stopped < workers.size(); stopped++) {
		/* Each in its turn: nobody knows which of them opened most of the files. */
		ASSERT_EQ(0, kill(workers[stopped], SIGSTOP));
		for (size_t i = 0; i < OPENS; i++) {
			if (infos[i].txnid >> 56 != stopped)
				continue;
			EXPECT_TRUE(when_room(srv(), [&] {
				return i % 3 == 0 ? sfd_cancel(srv(), infos[i].txnid)
						  : sfd_send_open(srv(), infos[i].txnid, dests[i].in);
			}));
		}
		for (int i = 0; i < 4; i++)
			canary(); /* the others have come to the end of it */
		ASSERT_EQ(0, kill(workers[stopped], SIGCONT));
	}
	for (size_t i = 0; i < OPENS; i++) {
		const Outcome o = read_rest(status[i], infos[i]);

		EXPECT_EQ(i % 3 == 0 ? ECANCELED : SFD_STAT_OK, o.stat());
	}
	expect_same_workers();
}

// ---- Time

class OpenTimeout : public SfdTest
{
};

TEST_F(OpenTimeout, EndsWhatNobodySends)
{
	DaemonOptions options;
	options.more = {"-t", "200"};
	ASSERT_NO_FATAL_FAILURE(start(options));
	add_file("file", SIZE);
	Dest dest({Kind::Pipe, false}, dir());
	const auto begin = Clock::now();
	const Fd status(sfd_open(srv(), "file", 0, 0, false));
	const Outcome o = read_outcome(status);
	const auto took = Clock::now() - begin;

	EXPECT_TRUE(o.accepted());
	EXPECT_EQ(SFD_XFER_STAT, o.terminal_kind());
	EXPECT_EQ(ETIMEDOUT, o.stat());
	EXPECT_EQ(0u, o.total());
	EXPECT_GE(took, 195ms);
	EXPECT_LT(took, 2s);
	expect_idle(1s);
	ASSERT_TRUE(sfd_send_open(srv(), o.info().txnid, dest.fd()));
	canary();
	EXPECT_EQ("", dest.finish());
}

// The time is for the second message, not for the transfer.
TEST_F(OpenTimeout, SparesWhatIsBeingSent)
{
	constexpr size_t LARGE = 8 << 20;
	DaemonOptions options;
	options.more = {"--open-timeout", "200"};
	ASSERT_NO_FATAL_FAILURE(start(options));
	const std::string content = add_file("large", LARGE);
	Dest dest({Kind::Tcp, true}, dir());
	sfd_file_info info;
	const Fd status(sfd_open(srv(), "large", 0, 0, false));
	const Fd other(sfd_open(srv(), "large", 0, 0, false));

	ASSERT_TRUE(read_info(status, &info));
	ASSERT_TRUE(sfd_send_open(srv(), info.txnid, dest.fd()));
	/* When the other one has timed out, this one's time would be over too. */
	EXPECT_EQ(ETIMEDOUT, read_outcome(other).stat());
	dest.start_reading();
	expect_success(read_rest(status, info), LARGE);
	EXPECT_TRUE(same_content(content, dest.finish()));
}

TEST_F(OpenTimeout, ManyAtOnce)
{
	DaemonOptions options;
	options.more = {"-t200"};
	ASSERT_NO_FATAL_FAILURE(start(options));
	std::vector<Fd> pipes;

	for (int i = 0; i < 500; i++)
		pipes.emplace_back(when_room(srv(), [&] { return sfd_open(srv(), "canary", 0, 0, false); }));
	for (Fd &pipe : pipes)
		ASSERT_EQ(ETIMEDOUT, read_outcome(pipe).stat());
	expect_idle(1s);
}

} // namespace
