// SPDX-License-Identifier: BSD-2-Clause
// What ends a transfer whose file or destination does not answer: its time is over, its client cancels it or goes away, its
// worker dies. In each case somebody still waits in the kernel, and that must not matter to anybody.
#include "test/support/cold_fixture.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <sendfiled/sendfiled.h>

namespace
{

constexpr size_t SIZE = 100000;

class TimeOut : public ColdTest
{
      protected:
	static constexpr const char *SHORT = "--io-timeout=500";

	// The master sees every second whether somebody is stuck.
	void await_stuck(unsigned times)
	{
		EXPECT_TRUE(eventually([&] { return counters()["stuck_ever"] >= times; })) << daemon().log();
		EXPECT_EQ(times, counters()["stuck_ever"]);
		EXPECT_TRUE(daemon().await_log("has waited for a disk or a file system's server for more than 500 ms"));
	}

	// Nobody is stuck any more, and those processes are gone.
	void expect_reaped(const std::vector<pid_t> &pids)
	{
		for (const pid_t pid : pids)
			EXPECT_TRUE(await_gone(pid));
		EXPECT_TRUE(eventually([&] {
			auto now = counters();
			return now["stuck.openers"] + now["stuck.readers"] + now["stuck.writers"] == 0;
		})) << daemon().log();
	}
};

TEST_F(TimeOut, OfARead)
{
	const std::string content = add_slow("file", SIZE), other = add_slow("other", SIZE, 2);

	ASSERT_NO_FATAL_FAILURE(serve({SHORT}));
	fs().hold("read", "file");
	const auto begin = Clock::now();
	Request r = send("slow/file");
	fs().await("read", 1, "file");
	const pid_t stuck = helper("reader");
	r.expect_failure(ETIMEDOUT, content);
	EXPECT_EQ("", r.arrived);
	EXPECT_GE(Clock::now() - begin, 500ms);
	EXPECT_LE(1U, fs().held("read", "file"));
	await_stuck(1);
	EXPECT_LE(1U, fs().held("read", "file"));
	send("slow/other").expect(other);
	const std::vector<pid_t> now = helpers("reader");
	EXPECT_FALSE(now.empty());
	fs().release();
	expect_reaped({stuck});
	send("slow/file").expect(content);
	expect_same_workers();
	expect_nothing_left();
}

TEST_F(TimeOut, OfAnOpen)
{
	const std::string content = add_slow("dir/file", SIZE), other = add_slow("other", SIZE, 2);
	std::vector<pid_t> stuck;
	unsigned times = 0;

	ASSERT_NO_FATAL_FAILURE(serve({SHORT}));
	for (const char *op : {"lookup", "open", "getattr"}) {
		SCOPED_TRACE(op);
		fs().hold(op, "dir/file");
		Request r = send("slow/dir/file");
		fs().await(op, 1, "dir/file");
		expect_refused(r.finish(), ETIMEDOUT);
		EXPECT_EQ("", r.arrived);
		EXPECT_EQ(1U, fs().held(op, "dir/file"));
		await_stuck(++times);
		/* It waits for the server even if it is killed. */
		EXPECT_EQ(1U, counters()["stuck.openers"]);
		/* That it took so long is what tells of the device. */
		EXPECT_TRUE(times > 1 || eventually([&] {
			return daemon().log().find(": jobs=1 up to:") != std::string::npos;
		})) << daemon().log();
		stuck = helpers("opener");
		send("slow/other").expect(other);
		EXPECT_EQ(1U, fs().held(op, "dir/file"));
		fs().release();
		EXPECT_TRUE(eventually([&] { return counters()["stuck.openers"] == 0; }));
		send("slow/dir/file").expect(content);
	}
	expect_reaped({});
	expect_same_workers();
	expect_nothing_left();
}

// The answer comes when the client has been told, and before anybody has been given up.
TEST_F(TimeOut, LateAnswersAreDiscarded)
{
	const std::string content = add_slow("file", SIZE);

	ASSERT_NO_FATAL_FAILURE(serve({SHORT}));
	for (const char *op : {"lookup", "open", "read", "getattr", "open", "read"}) {
		SCOPED_TRACE(op);
		fs().hold(op, "file");
		Request r = send("slow/file");
		fs().await(op, 1, "file");
		EXPECT_EQ(ETIMEDOUT, r.finish().stat());
		fs().release();
		send("slow/file").expect(content);
		expect_nothing_left();
	}
	expect_same_workers();
}

// Many at a time, more than there are helpers: those that wait for one have the same deadline.
TEST_F(TimeOut, OfManyAtOnce)
{
	const std::string other = add_file("other", SIZE, 2);
	std::vector<Request> requests;

	ASSERT_NO_FATAL_FAILURE(serve({SHORT}));
	for (int i = 0; i < 20; i++)
		add_slow(std::to_string(i), SIZE);
	fs().hold("read");
	for (int i = 0; i < 20; i++)
		requests.push_back(send("slow/" + std::to_string(i)));
	for (Request &r : requests)
		r.expect_failure(ETIMEDOUT, "");
	EXPECT_EQ(4U, std::min<uint64_t>(4, fs().held("read")));
	send("other").expect(other);
	EXPECT_TRUE(eventually([&] { return counters()["stuck_ever"] == 4; })) << daemon().log();
	fs().release();
	expect_reaped({});
	expect_same_workers();
	expect_nothing_left();
}

TEST_F(TimeOut, OfAWrite)
{
	ASSERT_NO_FATAL_FAILURE(serve({SHORT}));
	write_whole(fs().path("dest"), "", 0666);
	add_file("file", SIZE);
	Fd dest(open(fs().path("dest").c_str(), O_WRONLY | O_CLOEXEC));
	fs().hold("write", "dest");
	const Fd status(sfd_send(srv(), "file", dest, 0, 0, false));
	fs().await("write", 1, "dest");
	const Outcome o = read_outcome(status);
	EXPECT_EQ(ETIMEDOUT, o.stat());
	EXPECT_EQ(0U, o.total());
	EXPECT_EQ(1U, fs().held("write", "dest"));
	await_stuck(1);
	EXPECT_EQ(1U, counters()["stuck.writers"]);
	run_hot();
	fs().release();
	expect_reaped({});
	dest.reset();
	expect_same_workers();
	expect_nothing_left();
}

TEST_F(TimeOut, NoneIfItIsZero)
{
	const std::string content = add_slow("file", SIZE);

	ASSERT_NO_FATAL_FAILURE(serve({"--io-timeout=0"}));
	for (const char *op : {"open", "read"}) {
		fs().hold(op, "file");
		Request r = send("slow/file");
		fs().await(op, 1, "file");
		run_hot();
		/* Time is what is waited for here: longer than the master lets pass between two looks. */
		EXPECT_EQ(0, await(r.dest().peer(), POLLIN, 2s));
		EXPECT_EQ(1U, fs().held(op, "file"));
		fs().release();
		r.expect(content);
	}
	EXPECT_EQ(0U, counters()["stuck_ever"]);
	EXPECT_EQ(0U, counters()["helper_deaths"]);
	expect_nothing_left();
}

class Leave : public ColdTest
{
};

TEST_F(Leave, CancelDuringARead)
{
	const std::string content = add_slow("file", SIZE);

	ASSERT_NO_FATAL_FAILURE(serve());
	fs().hold("read", "file");
	Request r = send("slow/file", {Kind::Tcp, true});
	ASSERT_NE(0U, r.info().txnid);
	fs().await("read", 1, "file");
	ASSERT_TRUE(sfd_cancel(srv(), r.info().txnid));
	r.expect_failure(ECANCELED, content);
	EXPECT_EQ("", r.arrived);
	EXPECT_LE(1U, fs().held("read", "file"));
	expect_idle();
	fs().release();
	send("slow/file").expect(content);
	expect_same_workers();
	expect_nothing_left();
}

// The bytes that were delivered are those that are counted.
TEST_F(Leave, CancelBetweenTwoReads)
{
	const std::string content = add_slow("file", 4 << 20);

	ASSERT_NO_FATAL_FAILURE(serve());
	fs().hold("read", "file");
	Request r = send("slow/file", {Kind::Tcp, true});
	ASSERT_NE(0U, r.info().txnid);
	r.dest().start_reading();
	/* Until some of it, and not all, has been read. */
	while (fs().count("read", "file") < 12) {
		fs().await("read", 1, "file");
		fs().step("read", 1, "file");
	}
	ASSERT_TRUE(sfd_cancel(srv(), r.info().txnid));
	const Outcome o = read_rest(r.status(), r.info());
	r.arrived = r.dest().finish();
	EXPECT_EQ(ECANCELED, o.stat()) << sfd_strstat(o.stat());
	EXPECT_EQ(o.total(), r.arrived.size());
	EXPECT_TRUE(same_content(content.substr(0, r.arrived.size()), r.arrived));
	expect_idle();
	fs().release();
	expect_nothing_left();
}

// The other end of the destination sees the end although the daemon's helper still waits.
TEST_F(Leave, AbandonDuringAnOpenOrARead)
{
	const std::string content = add_slow("file", SIZE);

	ASSERT_NO_FATAL_FAILURE(serve());
	for (const DestType &type : stallable_dest_types()) {
		for (const char *op : {"lookup", "open", "read"}) {
			SCOPED_TRACE(name_of(type) + " " + op);
			fs().hold(op, "file");
			Request r = send("slow/file", type);
			fs().await(op, 1, "file");
			r.status().reset();
			EXPECT_EQ("", r.dest().finish());
			EXPECT_TRUE(r.dest().saw_end());
			EXPECT_LE(1U, fs().held(op, "file"));
			expect_idle();
			fs().release();
			send("slow/file").expect(content);
		}
	}
	expect_same_workers();
	expect_nothing_left();
}

// Its pipe is the destination too.
TEST_F(Leave, AbandonOfReadsAndOpens)
{
	const std::string content = add_slow("file", SIZE);

	ASSERT_NO_FATAL_FAILURE(serve());
	for (const char *op : {"open", "read"}) {
		fs().hold(op, "file");
		{
			const Fd a(sfd_read(srv(), "slow/file", 0, 0, false));
			const Fd b(sfd_open(srv(), "slow/file", 0, 0, false));
			fs().await(op, 1, "file");
		}
		expect_idle();
		EXPECT_LE(1U, fs().held(op, "file"));
		fs().release();
		const Fd again(sfd_read(srv(), "slow/file", 0, 0, false));
		EXPECT_TRUE(same_content(content, read_file_pipe(again).content));
	}
	expect_same_workers();
	expect_nothing_left();
}

// There is one helper of each kind only: if its place were lost with the worker, nothing cold would be served any more.
TEST_F(Leave, WorkerIsKilledWhileItsHelpersWait)
{
	const std::string content = add_slow("file", SIZE), other = add_slow("other", SIZE, 2);

	ASSERT_NO_FATAL_FAILURE(serve({"--readers=1", "--readers-per-device=1"}));
	for (const char *op : {"lookup", "open", "read"}) {
		SCOPED_TRACE(op);
		const pid_t worker = daemon().workers().at(0);

		fs().hold(op, "file");
		Request r = send("slow/file");
		fs().await(op, 1, "file");
		Request waiting = send("slow/other");
		run_hot(1); /* by then it has been received */
		ASSERT_EQ(0, kill(worker, SIGKILL));
		const Outcome o = r.finish();
		EXPECT_TRUE(o.ended);
		EXPECT_FALSE(o.has_terminal());
		EXPECT_EQ("", r.arrived);
		EXPECT_FALSE(waiting.finish().has_terminal());
		EXPECT_LE(1U, fs().held(op, "file"));
		run_hot();
		fs().release();
		send("slow/other").expect(other);
		send("slow/file").expect(content);
		expect_nothing_left();
	}
}

// The daemon itself can be stopped, and killed, while helpers wait.
TEST_F(Leave, DaemonIsStoppedWhileItsHelpersWait)
{
	add_slow("file", SIZE);
	for (const int signo : {SIGTERM, SIGKILL}) {
		ASSERT_NO_FATAL_FAILURE(serve());
		std::vector<pid_t> all;

		fs().hold("read", "file");
		Request r = send("slow/file");
		fs().await("read", 1, "file");
		all = daemon().helpers();
		EXPECT_LE(2U, all.size());
		const std::vector<pid_t> workers = daemon().workers();
		all.insert(all.end(), workers.begin(), workers.end());
		stop(signo, signo == SIGTERM ? 0 : SIGKILL);
		EXPECT_FALSE(r.finish().has_terminal());
		fs().release();
		for (const pid_t pid : all)
			EXPECT_TRUE(await_gone(pid));
	}
}

} // namespace
