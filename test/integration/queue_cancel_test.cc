// SPDX-License-Identifier: BSD-2-Clause
// Cancelled at every stage of a request's life, and queues that are freed with all of that outstanding.
#include "test/support/cold_fixture.h"
#include "test/support/queue.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sendfiled/sendfiled.h>

namespace
{

constexpr size_t SIZE = 5000, LARGE = 8 << 20;

class QueueCancel : public SfdTest
{
      protected:
	void SetUp() override
	{
		SfdTest::SetUp();
		start();
		content_ = add_file("file", SIZE);
		large_ = add_file("large", LARGE, 2);
	}

	std::string content_, large_;
};

// ---- Not submitted yet

TEST_F(QueueCancel, StagedIsNeverSent)
{
	Queue q(srv());
	Ends pipe = make_pipe(), other = make_pipe();

	q.open("missing", 100);
	q.finish();
	q.send("file", pipe.in, 1);
	q.open("file", 2);
	q.cancel(1);
	q.cancel(2);
	/* They may be closed at once, and their numbers stand for something else. */
	pipe.in.reset();
	EXPECT_NE(0, await(q.fd(), POLLIN, 0ms)) << "nothing tells of their ends";
	EXPECT_EQ(2u, q.reap());
	q.expect_end(1, ECANCELED);
	q.expect_end(2, ECANCELED);
	EXPECT_EQ(0u, q.of(1).bytes);
	EXPECT_EQ(0u, q.of(2).infos);
	EXPECT_EQ(0, sfd_queue_submit(q)) << "there was something to send";
	q.expect_quiet();
	EXPECT_EQ("", drain(&pipe));
	q.send("file", other.in, 3);
	q.expect_success(3, SIZE);
	EXPECT_TRUE(same_content(content_, drain(&other)));
}

// In the middle of others, whose order and descriptors it does not touch.
TEST_F(QueueCancel, StagedAmongOthers)
{
	constexpr uint64_t MANY = 200;
	std::vector<Ends> pipes;
	Queue q(srv());

	for (uint64_t i = 0; i < MANY; i++) {
		pipes.push_back(make_pipe());
		q.send("file", pipes[i].in, i, nullptr, static_cast<off_t>(i), 100);
	}
	for (uint64_t i = 0; i < MANY; i++) {
		if (i % 3 == 0 || (i > 60 && i < 130)) {
			q.cancel(i);
			pipes[i].in.reset();
		}
	}
	q.finish();
	for (uint64_t i = 0; i < MANY; i++) {
		const bool is_cancelled = i % 3 == 0 || (i > 60 && i < 130);

		q.expect_end(i, is_cancelled ? ECANCELED : SFD_STAT_OK);
		EXPECT_TRUE(same_content(is_cancelled ? "" : content_.substr(i, 100), drain(&pipes[i])));
	}
	q.expect_quiet();
}

// The room of what was cancelled is there again.
TEST_F(QueueCancel, StagedAgainAndAgain)
{
	const std::string path(4000, 'x');
	Queue q(srv(), 4);

	for (uint64_t i = 0; i < 2000; i++) {
		q.open(path, i);
		q.cancel(i);
		q.expect_end(i, ECANCELED);
	}
	q.expect_quiet();
	q.open("file", 5000);
	q.info_of(5000);
	q.cancel(5000);
	q.finish();
}

TEST_F(QueueCancel, AllThatIsStaged)
{
	Queue q(srv());

	for (uint64_t i = 0; i < 256; i++)
		q.open("file", i);
	for (uint64_t i = 0; i < 256; i++)
		q.cancel(i);
	EXPECT_EQ(256u, q.reap());
	q.expect_quiet();
	q.finish();
}

// ---- Under way

TEST_F(QueueCancel, UnderWay)
{
	Queue q(srv());

	for (const DestType &type : stallable_dest_types()) {
		SCOPED_TRACE(type);
		Dest dest(type, dir());

		q.send("large", dest.fd(), 1);
		ASSERT_EQ(0, q.submit());
		ASSERT_NE(0, await(dest.peer(), POLLIN));
		q.cancel(1);
		q.expect_end(1, ECANCELED);
		const std::string arrived = dest.finish();
		EXPECT_EQ(q.of(1).bytes, arrived.size());
		EXPECT_TRUE(same_content(large_.substr(0, arrived.size()), arrived));
	}
	q.free();
	expect_idle();
	expect_same_workers();
}

TEST_F(QueueCancel, ASecondMessageUnderWay)
{
	Queue q(srv());

	for (const DestType &type : stallable_dest_types()) {
		SCOPED_TRACE(type);
		Dest dest(type, dir());

		q.open("large", 1);
		q.send_open(1, dest.fd());
		ASSERT_EQ(0, q.submit());
		ASSERT_NE(0, await(dest.peer(), POLLIN));
		q.cancel(1);
		q.expect_end(1, ECANCELED);
		const std::string arrived = dest.finish();
		EXPECT_EQ(q.of(1).bytes, arrived.size());
	}
	q.free();
	expect_idle();
}

// Right behind the request, so that it may arrive before, while, or after it is served.
TEST_F(QueueCancel, AtOnce)
{
	Queue q(srv());
	unsigned cancelled = 0;

	for (uint64_t i = 0; i < 2000; i++) {
		Ends pipe = make_pipe();

		if (i % 2)
			q.open("file", i);
		else
			q.send("file", pipe.in, i);
		ASSERT_EQ(0, q.submit());
		q.cancel(i);
		const Result &r = q.end_of(i);
		const std::string arrived = drain(&pipe);

		EXPECT_EQ(r.bytes, arrived.size());
		ASSERT_TRUE(r.stat == ECANCELED || (r.stat == SFD_STAT_OK && i % 2 == 0)) << sfd_strstat(r.stat);
		cancelled += r.stat == ECANCELED;
	}
	EXPECT_LE(1000u, cancelled);
	q.expect_quiet();
	expect_same_workers();
}

// The same of a queue that the workers have only just been told of, by requests that only a cancel can end.
TEST_F(QueueCancel, AtOnceByANewQueue)
{
	for (uint64_t i = 0; i < 500; i++) {
		Queue q(srv(), 8);
		Ends pipe = make_pipe();

		q.open("missing", 1000); /* so that there is consent */
		q.finish();
		q.send("large", pipe.in, 1);
		q.open("file", 2);
		ASSERT_EQ(0, q.submit());
		q.cancel(1);
		q.cancel(2);
		q.finish();
		ASSERT_EQ(ECANCELED, q.of(1).stat);
		ASSERT_EQ(ECANCELED, q.of(2).stat);
		EXPECT_EQ(q.of(1).bytes, drain(&pipe).size());
	}
	expect_same_workers();
}

// ---- Whom it finds

TEST_F(QueueCancel, NothingOfThatNumber)
{
	Queue q(srv());
	Ends pipe = make_pipe();

	EXPECT_EQ(-1, sfd_queue_cancel(q, 1));
	EXPECT_EQ(ENOENT, errno);
	q.send("file", pipe.in, 2);
	EXPECT_EQ(-1, sfd_queue_cancel(q, 1));
	EXPECT_EQ(ENOENT, errno);
	q.expect_success(2, SIZE);
	EXPECT_EQ(-1, sfd_queue_cancel(q, 2));
	EXPECT_EQ(ENOENT, errno);
	EXPECT_TRUE(same_content(content_, drain(&pipe)));
	q.expect_quiet();
}

// One that is over although its end was not reaped stays what it was.
TEST_F(QueueCancel, AfterItsEnd)
{
	Queue q(srv());
	Ends pipe = make_pipe();

	for (int i = 0; i < 50; i++) {
		q.send("file", pipe.in, 1);
		ASSERT_EQ(0, q.submit());
		ASSERT_NE(0, await(q.fd(), POLLIN));
		q.cancel(1);
		q.expect_success(1, SIZE);
		q.expect_quiet();
		std::string got(SIZE + 1, '\0');
		ASSERT_EQ(static_cast<ssize_t>(SIZE), read(pipe.out, got.data(), got.size()));
	}
	canary();
	q.expect_quiet();
}

// Staged ones, open ones and stalled ones of the same number; all of them, and no other.
TEST_F(QueueCancel, AllOfTheSameNumber)
{
	Queue q(srv());
	std::vector<Ends> pipes;
	Ends other = make_pipe();

	for (int i = 0; i < 10; i++) {
		pipes.push_back(make_pipe());
		q.send("large", pipes.back().in, 7);
		q.open("file", 7);
	}
	q.open("file", 8);
	q.send("large", other.in, 9);
	ASSERT_EQ(0, q.submit());
	q.info_of(8);
	for (const Ends &pipe : pipes)
		ASSERT_NE(0, await(pipe.out, POLLIN));
	for (int i = 0; i < 10; i++)
		q.open("file", 7);
	q.cancel(7);
	q.expect_end(7, ECANCELED);
	EXPECT_EQ(30u, q.of(7).ended);
	EXPECT_EQ(2u, q.outstanding());
	for (Ends &pipe : pipes)
		drain(&pipe);
	EXPECT_EQ(-1, sfd_queue_cancel(q, 7));
	EXPECT_EQ(ENOENT, errno);
	q.cancel(8);
	q.cancel(9);
	q.finish();
}

TEST_F(QueueCancel, AgainAndAgain)
{
	Queue q(srv());
	const Ends pipe = make_pipe();

	q.send("large", pipe.in, 1);
	ASSERT_EQ(0, q.submit());
	ASSERT_NE(0, await(pipe.out, POLLIN));
	for (int i = 0; i < 100; i++)
		q.cancel(1);
	q.expect_end(1, ECANCELED);
	for (int i = 0; i < 4; i++)
		canary();
	q.expect_quiet();
	expect_same_workers();
}

// ---- Files that do not answer

class QueueCancelCold : public ColdTest
{
};

TEST_F(QueueCancelCold, WhileAnOperationHangs)
{
	Dest dest({Kind::Pipe, false}, dir());

	add_slow("dir/file", SIZE);
	ASSERT_NO_FATAL_FAILURE(serve());
	Queue q(srv());
	for (const char *op : {"lookup", "open", "getattr", "read"}) {
		SCOPED_TRACE(op);
		fs().hold(op, "dir/file");
		q.send("slow/dir/file", dest.fd(), 1);
		ASSERT_EQ(0, q.submit());
		fs().await(op, 1, "dir/file");
		q.cancel(1);
		/* Nobody waits for the file system. */
		q.expect_end(1, ECANCELED);
		EXPECT_EQ(0u, q.of(1).bytes);
		run_hot(10);
		q.expect_quiet();
		fs().release();
	}
	EXPECT_EQ("", dest.finish());
	for (const char *op : {"lookup", "open"}) {
		SCOPED_TRACE(op);
		fs().hold(op, "dir/file");
		q.open("slow/dir/file", 1);
		ASSERT_EQ(0, q.submit());
		fs().await(op, 1, "dir/file");
		q.cancel(1);
		q.expect_end(1, ECANCELED);
		fs().release();
	}
	q.expect_quiet();
	q.free();
	expect_same_workers();
	expect_nothing_left();
}

// ---- Freed with everything outstanding

TEST_F(QueueCancelCold, FreeLetsGoOfEverything)
{
	constexpr uint64_t EACH = 25;
	std::vector<std::unique_ptr<Dest>> dests;
	const Fd held(open("/dev/null", O_WRONLY | O_CLOEXEC));
	const size_t own = count_fds("self");

	add_file("large", LARGE);
	for (uint64_t i = 0; i < EACH; i++)
		add_slow("file" + std::to_string(i), SIZE);
	ASSERT_NO_FATAL_FAILURE(serve({}, 2));
	const std::string master = std::to_string(daemon().master());
	const size_t masters = count_fds(master);
	for (int round = 0; round < 3; round++) {
		Queue q(srv());

		fs().hold("open");
		for (uint64_t i = 0; i < EACH; i++) {
			dests.push_back(std::make_unique<Dest>(stallable_dest_types()[i % 8], dir()));
			q.send("large", dests.back()->fd(), i);
			q.open("canary", 100 + i);
			q.send("slow/file" + std::to_string(i), held, 200 + i);
		}
		ASSERT_EQ(0, q.submit());
		for (uint64_t i = 0; i < EACH; i++) {
			ASSERT_NE(0, await(dests[i]->peer(), POLLIN));
			q.info_of(100 + i);
			q.open("canary", 300 + i); /* staged */
		}
		for (uint64_t i = 0; i < EACH; i += 2)
			q.send_open(100 + i, dests[i]->fd()); /* as well */
		fs().await("open");
		q.free();
		EXPECT_TRUE(eventually([&] { return active_transfers(daemon()) == 0; }, 5s))
			<< active_transfers(daemon());
		for (auto &d : dests)
			d->finish();
		dests.clear();
		fs().release();
		expect_nothing_left();
	}
	EXPECT_TRUE(eventually([&] { return count_fds(master) == masters; }))
		<< "the master has " << masters << " and then\n"
		<< list_fds(master);
	EXPECT_EQ(own + 1, count_fds("self")); /* the connection */
	run_hot(10);
	expect_same_workers();
}

} // namespace
