// SPDX-License-Identifier: BSD-2-Clause
// Helpers that are killed: others do their work, and nothing is sent twice or left out.
#include "test/support/cold_fixture.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <thread>
#include <unistd.h>

namespace
{

constexpr size_t SMALL = 100000, LARGE = 3 << 20;

class HelperDeath : public ColdTest
{
      protected:
	// The helper of that kind that waits for what the test holds; others may wait for a moment.
	pid_t waiting(const std::string &kind)
	{
		std::vector<pid_t> last;
		unsigned looks = 0;

		EXPECT_TRUE(eventually([&] {
			std::vector<pid_t> now = helpers(kind);

			now.erase(
				std::remove_if(now.begin(), now.end(), [](pid_t pid) { return !waits_for_file(pid); }),
				now.end());
			looks = now == last ? looks + 1 : 0;
			last = now;
			return last.size() == 1 && looks >= 10;
		})) << last.size()
		    << " processes wait: " << kind;
		return last.size() == 1 ? last[0] : -1;
	}

	// The kernel reads nothing ahead of what is asked for.
	void read_page_by_page()
	{
		struct stat st;

		ASSERT_EQ(0, stat(fs().path().c_str(), &st));
		const std::string bdi = "/sys/class/bdi/" + std::to_string(major(st.st_dev)) + ":" +
					std::to_string(minor(st.st_dev)) + "/read_ahead_kb";
		if (access(bdi.c_str(), W_OK) < 0)
			GTEST_SKIP() << bdi << ": " << strerror(errno);
		write_whole(bdi, "0");
	}

	void kill_one(pid_t pid)
	{
		ASSERT_GT(pid, 0);
		ASSERT_EQ(0, kill(pid, SIGKILL));
	}
};

TEST_F(HelperDeath, ReaderOnce)
{
	const std::string content = add_slow("file", LARGE);

	ASSERT_NO_FATAL_FAILURE(serve());
	/* At the first bytes, and after some. */
	for (const uint64_t reads : {0, 5}) {
		const uint64_t before = fs().count("read", "file");

		fs().hold("read", "file");
		Request r = send("slow/file", {Kind::Unix, true});
		ASSERT_NE(0U, r.info().txnid);
		r.dest().start_reading();
		while (fs().count("read", "file") < before + reads) {
			fs().await("read", 1, "file");
			fs().step("read", 1, "file");
		}
		fs().await("read", 1, "file");
		kill_one(waiting("reader"));
		fs().release();
		expect_success(read_rest(r.status(), r.info(), 30s), LARGE);
		EXPECT_TRUE(same_content(content, r.dest().finish()));
	}
	EXPECT_EQ(2U, counters()["jobs_lost"]);
	EXPECT_EQ(2U, counters()["helper_deaths"]);
	EXPECT_TRUE(daemon().await_log("was killed by signal 9; another one does its work"));
	expect_same_workers();
	expect_nothing_left();
}

// What it has put into the pipe is not read again: it arrives while whoever goes on still waits for the server.
TEST_F(HelperDeath, WhatAReaderLeavesInItsPipeIsSent)
{
	constexpr size_t PAGES = 10, PAGE = 4096;
	const std::string content = add_slow("file", SMALL);

	ASSERT_NO_FATAL_FAILURE(read_page_by_page());
	ASSERT_NO_FATAL_FAILURE(serve());
	fs().hold("read", "file");
	Request r = send("slow/file", {Kind::Unix, true});
	for (size_t i = 0; i < PAGES; i++) {
		fs().await("read", 1, "file");
		EXPECT_EQ(1U, fs().step("read", 1, "file"));
	}
	fs().await("read", 1, "file");
	ASSERT_NE(0U, r.info().txnid);
	EXPECT_EQ(0, await(r.dest().peer(), POLLIN, 0ms)) << "it is still at it";
	kill_one(waiting("reader"));
	EXPECT_TRUE(eventually([&] {
		int there = 0;

		return ioctl(r.dest().peer(), FIONREAD, &there) == 0 && there == PAGES * PAGE;
	}));
	fs().await("read", 1, "file");
	fs().release();
	r.expect(content);
	EXPECT_EQ(1U, counters()["jobs_lost"]);
	expect_same_workers();
	expect_nothing_left();
}

TEST_F(HelperDeath, ReaderTwiceIsAnError)
{
	const std::string content = add_slow("file", LARGE);

	ASSERT_NO_FATAL_FAILURE(serve());
	fs().hold("read", "file");
	Request r = send("slow/file");
	fs().await("read", 1, "file");
	const pid_t first = waiting("reader");
	kill_one(first);
	EXPECT_TRUE(await_gone(first));
	kill_one(waiting("reader"));
	r.expect_failure(EIO, content);
	fs().release();
	send("slow/file").expect(content);
	expect_same_workers();
	expect_nothing_left();
}

// What was sent to one that died before it received it is neither done nor kept.
TEST_F(HelperDeath, WhatWasNotReceivedIsLetGo)
{
	const std::string content = add_slow("file", SMALL);

	add_slow("a", SMALL, 2);
	add_slow("b", SMALL, 3);
	ASSERT_NO_FATAL_FAILURE(serve());
	/* Two readers, of which the first gets the next job. */
	fs().hold("read");
	Request a = send("slow/a");
	fs().await("read", 1, "a");
	const pid_t first = helper("reader");
	Request b = send("slow/b");
	fs().await("read", 1, "b");
	fs().release();
	a.expect(make_content(SMALL, 2));
	b.expect(make_content(SMALL, 3));
	const std::vector<pid_t> both = helpers("reader");
	ASSERT_EQ(2U, both.size());
	freeze(both);
	const uint64_t before = counters()["jobs.read"];
	Request r = send("slow/file");
	EXPECT_TRUE(eventually([&] { return counters()["jobs.read"] == before + 1; }));
	kill_one(first);
	EXPECT_TRUE(await_gone(first));
	thaw({both[0] == first ? both[1] : both[0]});
	r.expect(content);
	expect_nothing_left();
}

// It waits for the server even when it is killed. Its successor asks again.
TEST_F(HelperDeath, Opener)
{
	const std::string content = add_slow("dir/file", SMALL);
	uint64_t deaths = 0;

	ASSERT_NO_FATAL_FAILURE(serve());
	for (const char *op : {"lookup", "open", "getattr"}) {
		SCOPED_TRACE(op);
		const uint64_t before = fs().count(op, "dir/file");

		fs().hold(op, "dir/file");
		Request r = send("slow/dir/file");
		fs().await(op, 1, "dir/file");
		kill_one(waiting("opener"));
		run_hot(10);
		fs().release();
		r.expect(content);
		EXPECT_LE(before + 2, fs().count(op, "dir/file"));
		EXPECT_EQ(++deaths, counters()["jobs_lost"]);
	}
	expect_same_workers();
	expect_nothing_left();
}

TEST_F(HelperDeath, OpenerTwiceIsAnError)
{
	const std::string content = add_slow("dir/file", SMALL);

	ASSERT_NO_FATAL_FAILURE(serve());
	fs().hold("open", "dir/file");
	Request r = send("slow/dir/file");
	for (int i = 0; i < 2; i++) {
		fs().await("open", 1, "dir/file");
		const pid_t pid = waiting("opener");
		kill_one(pid);
		fs().step("open", 1, "dir/file");
		EXPECT_TRUE(await_gone(pid));
	}
	expect_refused(r.finish(), EIO);
	EXPECT_EQ("", r.arrived);
	fs().release();
	send("slow/dir/file").expect(content);
	expect_nothing_left();
}

// Nothing is duplicated, since each byte has its place.
TEST_F(HelperDeath, Writer)
{
	const std::string content = add_file("file", LARGE), before = make_content(5000, 77);

	ASSERT_NO_FATAL_FAILURE(serve());
	for (const uint64_t writes : {0, 1, 2, 3}) {
		SCOPED_TRACE(writes);

		write_whole(fs().path("dest"), before, 0666);
		Fd dest(open(fs().path("dest").c_str(), O_WRONLY | O_CLOEXEC));
		ASSERT_EQ(5000, lseek(dest, 0, SEEK_END));
		const uint64_t done = fs().count("write", "dest");
		fs().hold("write", "dest");
		const Fd status(sfd_send(srv(), "file", dest, 0, 0, false));
		while (fs().count("write", "dest") < done + writes) {
			fs().await("write", 1, "dest");
			fs().step("write", 1, "dest");
		}
		fs().await("write", 1, "dest");
		kill_one(waiting("writer"));
		fs().release();
		expect_success(read_outcome(status), LARGE);
		EXPECT_EQ(5000 + static_cast<off_t>(LARGE), lseek(dest, 0, SEEK_CUR));
		dest.reset();
		EXPECT_TRUE(same_content(before + content, read_whole(fs().path("dest"))));
	}
	EXPECT_EQ(4U, counters()["jobs_lost"]);
	expect_same_workers();
	expect_nothing_left();
}

// Nobody knows how much the one that was killed has appended.
TEST_F(HelperDeath, WriterThatAppendsIsAnError)
{
	const std::string content = add_file("file", LARGE), before = make_content(5000, 77);

	ASSERT_NO_FATAL_FAILURE(serve());
	write_whole(fs().path("dest"), before, 0666);
	Fd dest(open(fs().path("dest").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
	fs().hold("write", "dest");
	const Fd status(sfd_send(srv(), "file", dest, 0, 0, false));
	fs().await("write", 1, "dest");
	fs().step("write", 2, "dest");
	fs().await("write", 1, "dest");
	kill_one(waiting("writer"));
	fs().release();
	const Outcome o = read_outcome(status);
	EXPECT_EQ(EIO, o.stat()) << sfd_strstat(o.stat());
	dest.reset();
	const std::string got = read_whole(fs().path("dest"));
	EXPECT_TRUE(same_content((before + content).substr(0, got.size()), got));
	EXPECT_LE(before.size() + o.total(), got.size());
	expect_nothing_left();
}

// Again and again, whatever they do at that moment. Who replaces them takes its time then.
class Storm : public HelperDeath, public ::testing::WithParamInterface<unsigned>
{
      protected:
	static constexpr size_t MANY = 120;

	void kill_all_the_time(milliseconds how_long)
	{
		const Deadline deadline(how_long);

		while (!deadline.passed()) {
			for (const pid_t pid : daemon().helpers())
				kill(pid, SIGKILL);
			/* What is tested is that it happens at any time. */
			std::this_thread::sleep_for(20ms);
		}
	}
};

TEST_P(Storm, EachRequestHasOneOutcome)
{
	std::vector<Fd> statuses, ends;
	std::vector<std::string> contents;
	size_t good = 0, bad = 0;
	InBackground<std::vector<std::string>> reader;

	limit(180);
	for (size_t i = 0; i < MANY; i++) {
		const std::string name = "file" + std::to_string(i);
		const size_t size = i % 3 == 0 ? LARGE / 2 + i : SMALL + i;

		contents.push_back(i % 2 ? add_slow(name, size, i) : add_cold(name, size, i));
	}
	fs().delay("read", 2ms);
	ASSERT_NO_FATAL_FAILURE(serve({}, GetParam()));
	for (size_t i = 0; i < MANY; i++) {
		const std::string path = (i % 2 ? "slow/file" : "file") + std::to_string(i);
		Ends pipe = make_pipe();

		statuses.emplace_back(
			when_room(srv(), [&] { return sfd_send(srv(), path.c_str(), pipe.in, 0, 0, false); }));
		ASSERT_GE(statuses.back(), 0);
		ends.push_back(std::move(pipe.out));
	}
	reader.start([&] { return read_all_ends(ends, 60s); });
	kill_all_the_time(3s);
	const std::vector<std::string> arrived = reader.get(90s);
	for (size_t i = 0; i < MANY; i++) {
		const Outcome o = read_outcome(statuses[i]);

		EXPECT_TRUE(o.has_terminal());
		EXPECT_TRUE(o.stat() == SFD_STAT_OK || o.stat() == EIO) << sfd_strstat(o.stat());
		EXPECT_EQ(o.total(), arrived[i].size());
		EXPECT_TRUE(same_content(contents[i].substr(0, o.total()), arrived[i]));
		if (o.stat() == SFD_STAT_OK) {
			EXPECT_EQ(contents[i].size(), arrived[i].size());
		}
		++(o.stat() == SFD_STAT_OK ? good : bad);
	}
	RecordProperty("good", static_cast<int>(good));
	RecordProperty("bad", static_cast<int>(bad));
	EXPECT_LT(0U, counters()["helper_deaths"]);
	/* Now that nobody is killed any more. */
	fs().delay("read", 0ms);
	Request r = send("slow/file1");
	r.expect(contents[1], 15s);
	expect_same_workers();
	expect_nothing_left();
}

TEST_P(Storm, FilesHaveTheRightContent)
{
	constexpr size_t FEW = 40;
	std::vector<Fd> statuses, dests;

	limit(180);
	const std::string content = add_slow("file", LARGE), before = make_content(777, 9);
	ASSERT_NO_FATAL_FAILURE(serve({}, GetParam()));
	for (size_t i = 0; i < FEW; i++) {
		const std::string path =
			i % 2 ? fs().path("dest" + std::to_string(i)) : dir() + "/dest" + std::to_string(i);

		write_whole(path, before, 0666);
		dests.emplace_back(open(path.c_str(), O_RDWR | O_CLOEXEC));
		ASSERT_EQ(777, lseek(dests.back(), 0, SEEK_END));
		statuses.emplace_back(
			when_room(srv(), [&] { return sfd_send(srv(), "slow/file", dests.back(), 0, 0, false); }));
	}
	kill_all_the_time(2s);
	for (size_t i = 0; i < FEW; i++) {
		const Outcome o = read_outcome(statuses[i], 60s);
		std::string got(before.size() + LARGE + 1, '\0');
		const ssize_t n = pread(dests[i], got.data(), got.size(), 0);

		ASSERT_LE(0, n);
		got.resize(static_cast<size_t>(n));
		EXPECT_TRUE(o.stat() == SFD_STAT_OK || o.stat() == EIO) << sfd_strstat(o.stat());
		EXPECT_LE(before.size() + o.total(), got.size());
		EXPECT_TRUE(same_content((before + content).substr(0, got.size()), got));
	}
	dests.clear();
	expect_same_workers();
	expect_nothing_left();
}

INSTANTIATE_TEST_SUITE_P(Workers, Storm, ::testing::Values(1, 3));

} // namespace
