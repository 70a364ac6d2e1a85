// SPDX-License-Identifier: BSD-2-Clause
// Files opened by a queue, and what becomes of them: sent, cancelled, forgotten.
#include "test/support/fixture.h"
#include "test/support/queue.h"

#include <cerrno>
#include <climits>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

namespace
{

constexpr size_t SIZE = 5000;

class QueueOpen : public SfdTest
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

	// A call for a second message that finds no open to go with.
	void expect_unknown(Queue &q, size_t txnid, int dest)
	{
		EXPECT_EQ(-1, sfd_queue_send_open(q, txnid, dest, nullptr));
		EXPECT_EQ(ENOENT, errno) << strerror(errno);
	}

	std::string content_;
};

TEST_F(QueueOpen, OneEndForBothMessages)
{
	Queue q(srv());

	for (const DestType &type : all_dest_types()) {
		SCOPED_TRACE(type);
		Dest dest(type, dir());

		dest.start_reading();
		q.open("file", 1, nullptr, 10, 1000);
		EXPECT_EQ(1000u, q.info_of(1).size);
		q.expect_quiet();
		q.send_open(1, dest.fd());
		q.expect_success(1, 1000);
		const std::string arrived = dest.finish();
		if (type.kind != Kind::Null) {
			EXPECT_TRUE(same_content(
				(dest.is_file() ? Dest::before : "") + content_.substr(10, 1000), arrived));
		}
		q.expect_quiet();
	}
	expect_same_workers();
}

// Closing the destination after the end closes the connection, also where two workers had a hand in it.
TEST_F(QueueOpen, CloseAfterTheEndSendsFin)
{
	Queue q(srv());
	char buf[SIZE + 1];

	for (uint64_t i = 0; i < 300; i++) {
		Ends tcp = make_tcp_pair();

		q.open("file", i);
		q.send_open(i, tcp.in);
		q.expect_success(i, SIZE);
		tcp.in.reset();
		ASSERT_EQ(static_cast<ssize_t>(SIZE), recv(tcp.out, buf, SIZE, MSG_DONTWAIT | MSG_WAITALL));
		ASSERT_EQ(0, recv(tcp.out, buf, 1, MSG_DONTWAIT)) << "round " << i << ": " << strerror(errno);
	}
}

// Opens, second messages, sends and cancels in the same datagrams.
TEST_F(QueueOpen, ManyOfAllKinds)
{
	constexpr uint64_t MANY = 300;
	std::vector<Ends> pipes;
	Queue q(srv(), 3 * MANY);

	for (uint64_t i = 0; i < MANY; i++) {
		pipes.push_back(make_pipe());
		q.open("file", i);
	}
	for (uint64_t i = 0; i < MANY; i++)
		q.info_of(i);
	for (uint64_t i = 0; i < MANY; i++) {
		const Ends pipe = make_pipe();

		if (i % 3 == 0)
			q.cancel(i);
		else
			q.send_open(i, pipes[i].in);
		q.open("missing", MANY + i);
		q.open("file", 2 * MANY + i);
	}
	ASSERT_EQ(0, q.submit());
	for (uint64_t i = 0; i < MANY; i++) {
		q.expect_end(i, i % 3 == 0 ? ECANCELED : SFD_STAT_OK);
		q.expect_end(MANY + i, ENOENT);
		q.info_of(2 * MANY + i);
		q.cancel(2 * MANY + i);
		EXPECT_TRUE(same_content(i % 3 == 0 ? "" : content_, drain(&pipes[i])));
	}
	q.finish();
	for (uint64_t i = 0; i < MANY; i++)
		q.expect_end(2 * MANY + i, ECANCELED);
	q.expect_quiet();
	expect_same_workers();
}

// Whoever opened the file, and whoever receives the second message.
TEST_F(QueueOpen, EveryPairOfWorkers)
{
	const std::vector<pid_t> workers = daemon().workers();
	Queue q(srv());

	q.open("missing", 1);
	q.finish();
	freeze(workers);
	for (pid_t owner : workers) {
		for (pid_t receiver : workers) {
			std::vector<Ends> pipes;

			thaw({owner});
			for (uint64_t i = 0; i < 6; i++) {
				pipes.push_back(make_pipe());
				q.open("file", i);
			}
			for (uint64_t i = 0; i < 6; i++)
				q.info_of(i);
			freeze({owner});
			thaw({receiver});
			for (uint64_t i = 0; i < 6; i++) {
				if (i % 3 == 0)
					q.cancel(i);
				else
					q.send_open(i, pipes[i].in);
			}
			ASSERT_EQ(0, q.submit());
			/* Requests come in order: what was sent before this one has been received. */
			canary();
			thaw({owner});
			for (uint64_t i = 0; i < 6; i++) {
				q.expect_end(i, i % 3 == 0 ? ECANCELED : SFD_STAT_OK);
				EXPECT_TRUE(same_content(i % 3 == 0 ? "" : content_, drain(&pipes[i])));
			}
			freeze({owner, receiver});
		}
	}
	thaw(workers);
	expect_same_workers();
}

// ---- Ids

TEST_F(QueueOpen, UnknownIds)
{
	Queue q(srv()), other(srv());
	const Ends pipe = make_pipe(), big = make_pipe();
	sfd_opts opts = {};

	add_file("large", 8 << 20);
	expect_unknown(q, 0, pipe.in);
	expect_unknown(q, 1, pipe.in);
	expect_unknown(q, SIZE_MAX, pipe.in);
	q.open("file", 1);
	const size_t txnid = q.info_of(1).txnid;
	for (int bit = 0; bit < 64; bit++)
		expect_unknown(q, txnid ^ (size_t{1} << bit), pipe.in);
	expect_unknown(other, txnid, pipe.in);
	/* One that is no open. */
	opts.flags = SFD_WANT_INFO;
	q.send("large", big.in, 2, &opts);
	expect_unknown(q, q.info_of(2).txnid, pipe.in);
	/* One that is opened without this queue. */
	sfd_file_info info;
	const Fd status(sfd_open(srv(), "file", 0, 0, false));
	ASSERT_TRUE(read_info(status, &info));
	expect_unknown(q, info.txnid, pipe.in);
	EXPECT_EQ(0, await(pipe.out, POLLIN, 0ms));
	q.expect_quiet();
	q.cancel(1);
	q.cancel(2);
	q.finish();
	ASSERT_TRUE(sfd_cancel(srv(), info.txnid));
}

TEST_F(QueueOpen, OnlyTheFirstSecondMessageCounts)
{
	Queue q(srv());
	Ends first = make_pipe(), second = make_pipe();

	q.open("file", 1);
	const size_t txnid = q.info_of(1).txnid;
	q.send_open(1, first.in);
	expect_unknown(q, txnid, second.in);
	ASSERT_EQ(0, q.submit());
	expect_unknown(q, txnid, second.in);
	q.expect_success(1, SIZE);
	expect_unknown(q, txnid, second.in);
	EXPECT_TRUE(same_content(content_, drain(&first)));
	EXPECT_EQ("", drain(&second));
	q.expect_quiet();
}

// A call that was refused has done nothing: the file still waits.
TEST_F(QueueOpen, RefusedSecondMessage)
{
	Queue q(srv());
	Ends pipe = make_pipe();

	q.open("file", 1);
	for (const int fd : {-1, INT_MIN}) {
		EXPECT_EQ(-1, sfd_queue_send_open(q, q.info_of(1).txnid, fd, nullptr));
		EXPECT_EQ(EBADF, errno) << strerror(errno);
	}
	q.send_open(1, pipe.in);
	q.expect_success(1, SIZE);
	EXPECT_TRUE(same_content(content_, drain(&pipe)));
}

TEST_F(QueueOpen, SecondMessageAfterACancel)
{
	Queue q(srv());
	Ends pipe = make_pipe();

	q.open("file", 1);
	const size_t txnid = q.info_of(1).txnid;
	q.cancel(1);
	/* Whether or not its end has come. */
	if (sfd_queue_send_open(q, txnid, pipe.in, nullptr) < 0) {
		EXPECT_EQ(ENOENT, errno) << strerror(errno);
	}
	q.expect_end(1, ECANCELED);
	expect_unknown(q, txnid, pipe.in);
	q.finish();
	EXPECT_EQ("", drain(&pipe));
	q.expect_quiet();
}

// A second message that was not submitted goes with its open.
TEST_F(QueueOpen, CancelOfAStagedSecondMessage)
{
	Queue q(srv());
	Ends pipe = make_pipe();

	for (int i = 0; i < 20; i++) {
		q.open("file", 1);
		q.send_open(1, pipe.in);
		q.cancel(1);
		q.expect_end(1, ECANCELED);
		q.expect_quiet();
	}
	EXPECT_EQ("", drain(&pipe));
	q.free();
	expect_idle();
}

// ---- Destinations

// As with a send; the file is closed then.
TEST_F(QueueOpen, DestinationsThatAreNone)
{
	Queue q(srv());
	const Ends packets = make_socketpair(SOCK_SEQPACKET), pipe = make_pipe();
	const Fd directory(open(root().c_str(), O_RDONLY | O_CLOEXEC)), event(eventfd(0, EFD_CLOEXEC));
	const struct {
		int dest, stat;
	} bad[] = {{packets.in, EINVAL}, {directory, EBADF}, {pipe.out, EBADF}, {event, EINVAL}};

	for (const auto &b : bad) {
		q.open("file", 1);
		q.send_open(1, b.dest);
		q.expect_end(1, b.stat);
		EXPECT_EQ(0u, q.of(1).bytes);
	}
	EXPECT_EQ(0u, active_transfers(daemon()));
}

// Of a descriptor that was closed before the submit: that request alone, and nothing is left open.
TEST_F(QueueOpen, ClosedDescriptor)
{
	constexpr uint64_t MANY = 20;
	Queue q(srv());
	std::vector<Ends> pipes;

	for (uint64_t i = 0; i < MANY; i++) {
		q.open("file", i);
		pipes.push_back(make_pipe());
	}
	for (uint64_t i = 0; i < MANY; i++)
		q.info_of(i);
	for (uint64_t i = 0; i < MANY; i++)
		q.send_open(i, pipes[i].in);
	for (uint64_t i = 0; i < MANY; i += 3)
		pipes[i].in.reset();
	q.finish();
	for (uint64_t i = 0; i < MANY; i++) {
		q.expect_end(i, i % 3 == 0 ? EBADF : SFD_STAT_OK);
		EXPECT_TRUE(same_content(i % 3 == 0 ? "" : content_, drain(&pipes[i])));
	}
	EXPECT_TRUE(eventually([&] { return active_transfers(daemon()) == 0; }, 5s)) << "the open waits on";
	q.free();
	expect_idle();
}

// ---- Ends without a second message

TEST_F(QueueOpen, Cancelled)
{
	Queue q(srv());

	for (int i = 0; i < 50; i++) {
		q.open("file", 1);
		q.info_of(1);
		q.cancel(1);
		q.expect_end(1, ECANCELED);
	}
	q.free();
	expect_idle();
}

// The calls for requests with a channel of their own know the id too. Whatever they do, there is one end.
TEST_F(QueueOpen, CancelledById)
{
	Queue q(srv());

	for (int i = 0; i < 20; i++) {
		q.open("file", 1);
		const size_t txnid = q.info_of(1).txnid;

		ASSERT_TRUE(when_room(srv(), [&] { return sfd_cancel(srv(), txnid); }));
		canary();
		q.reap();
		if (!q.of(1).over())
			q.cancel(1);
		q.expect_end(1, ECANCELED);
		q.expect_quiet();
	}
}

class QueueOpenTimeout : public SfdTest
{
};

TEST_F(QueueOpenTimeout, EndsWhatNobodySends)
{
	DaemonOptions options;
	options.more = {"-t", "200"};
	ASSERT_NO_FATAL_FAILURE(start(options));
	Queue q(srv());
	const Ends pipe = make_pipe();
	const auto begin = Clock::now();

	for (uint64_t i = 0; i < 100; i++)
		q.open("canary", i);
	q.finish();
	EXPECT_GE(Clock::now() - begin, 195ms);
	for (uint64_t i = 0; i < 100; i++) {
		EXPECT_EQ(1u, q.of(i).infos);
		q.expect_end(i, ETIMEDOUT);
		EXPECT_EQ(-1, sfd_queue_send_open(q, q.of(i).info.txnid, pipe.in, nullptr));
		EXPECT_EQ(ENOENT, errno) << strerror(errno);
	}
	q.expect_quiet();
	q.free();
	expect_idle();
}

// The second message is staged while the daemon gives up: one end, which is the timeout's.
TEST_F(QueueOpenTimeout, BeforeTheSubmit)
{
	DaemonOptions options;
	options.more = {"-t", "200"};
	ASSERT_NO_FATAL_FAILURE(start(options));
	Queue q(srv());
	Ends pipe = make_pipe();

	q.open("canary", 1);
	q.send_open(1, pipe.in);
	/* Its end arrives, but is not reaped before the submit. */
	ASSERT_NE(0, await(q.fd(), POLLIN));
	sfd_queue_submit(q);
	q.expect_end(1, ETIMEDOUT);
	canary();
	canary();
	EXPECT_EQ("", drain(&pipe));
	q.expect_quiet();
	/* The place of the one that has ended is another's: it does not meet the late message. */
	Ends other = make_pipe();
	q.send("canary", other.in, 2);
	q.expect_success(2, 1000);
	EXPECT_EQ(1000u, drain(&other).size());
}

} // namespace
