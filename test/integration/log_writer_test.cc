// SPDX-License-Identifier: BSD-2-Clause
// The log as a file whose disk hangs: only the process that writes it waits, and nothing of what there is room for is lost.
#include "test/support/cold_fixture.h"
#include "test/support/daemon.h"

#include <algorithm>
#include <csignal>
#include <sstream>

namespace
{

class LogWriter : public SfdTest
{
      protected:
	void SetUp() override
	{
		REQUIRE_SLOW_FS();
		SfdTest::SetUp();
		fs_ = std::make_unique<SlowFs>(dir() + "/slow");
		fs_->direct_io(true);
	}

	void TearDown() override
	{
		if (fs_)
			fs_->release();
		if (daemon_is_up())
			stop(SIGTERM, 0);
		if (writer_ > 0) {
			EXPECT_TRUE(await_gone(writer_)) << "the log's writer is left behind";
		}
		fs_.reset();
		SfdTest::TearDown();
	}

	bool daemon_is_up()
	{
		return fs_ && daemon().pid() > 0;
	}

	void serve()
	{
		DaemonOptions options;

		options.wrapper = {"/bin/sh", "-c", "exec \"$@\" 2>'" + log_path() + "'", "sh"};
		ASSERT_NO_FATAL_FAILURE(start(options));
		writer_ = find_writer();
		ASSERT_GT(writer_, 0);
	}

	pid_t find_writer()
	{
		for (const pid_t pid : children_of(daemon().master())) {
			if (read_whole("/proc/" + std::to_string(pid) + "/comm") == "sendfiled-log\n")
				return pid;
		}
		return -1;
	}

	std::string log_path() const
	{
		return dir() + "/slow/log";
	}

	bool await_line(const std::string &text)
	{
		return eventually([&] { return read_whole(log_path()).find(text) != std::string::npos; });
	}

	// The writer waits for the disk, and has more to write. And whoever closes the log would wait as well.
	void hang()
	{
		fs_->hold("flush");
		fs_->hold("write");
		ASSERT_TRUE(daemon().signal(SIGUSR1));
		fs_->await("write");
		ASSERT_TRUE(eventually([&] { return waits_for_file(writer_); }));
	}

	// A worker is killed, and replaced.
	void replace_a_worker()
	{
		const std::vector<pid_t> before = daemon().workers();

		ASSERT_EQ(0, kill(before.at(0), SIGKILL));
		ASSERT_TRUE(eventually([&] {
			const std::vector<pid_t> now = daemon().workers();

			return now.size() == before.size() && std::count(now.begin(), now.end(), before[0]) == 0;
		}));
	}

	std::unique_ptr<SlowFs> fs_;
	pid_t writer_ = -1;
};

TEST_F(LogWriter, OnlyItWaitsForTheDisk)
{
	ASSERT_NO_FATAL_FAILURE(serve());
	ASSERT_NO_FATAL_FAILURE(hang());
	/* The master says that of a worker, and all that is counted, to nobody who would listen. */
	ASSERT_NO_FATAL_FAILURE(replace_a_worker());
	canary();
	for (int i = 0; i < 2000; i++)
		ASSERT_TRUE(daemon().signal(SIGUSR1));
	canary();
	ASSERT_NO_FATAL_FAILURE(replace_a_worker());
	for (const pid_t pid : daemon().workers())
		EXPECT_FALSE(waits_for_file(pid));
	EXPECT_FALSE(waits_for_file(daemon().master()));
	fs_->release();
	EXPECT_TRUE(await_line("killed by signal 9"));
	ASSERT_TRUE(daemon().signal(SIGUSR1));
	EXPECT_TRUE(await_line(" restarts=2"));
	canary();
}

// In order: what was said when it ended comes after what was said before.
TEST_F(LogWriter, WritesAllBeforeItEnds)
{
	ASSERT_NO_FATAL_FAILURE(serve());
	ASSERT_NO_FATAL_FAILURE(hang());
	ASSERT_NO_FATAL_FAILURE(replace_a_worker());
	canary(); /* by either of them */
	const pid_t master = daemon().master();
	ASSERT_TRUE(daemon().signal(SIGTERM));
	/* It does not wait for a disk for long, its writer does. */
	EXPECT_TRUE(await_gone(master));
	EXPECT_TRUE(process_lives(writer_));
	fs_->release();
	EXPECT_TRUE(await_gone(writer_));
	const std::string log = read_whole(log_path());
	const size_t killed = log.find("killed by signal 9"), last = log.rfind(" restarts=1");
	EXPECT_NE(std::string::npos, killed) << log;
	EXPECT_NE(std::string::npos, last) << log;
	EXPECT_LT(killed, last);
	int status = -1;
	EXPECT_TRUE(await_exit(daemon().pid(), &status));
	daemon().forget();
}

TEST_F(LogWriter, IsReplaced)
{
	ASSERT_NO_FATAL_FAILURE(serve());
	const pid_t first = writer_;
	ASSERT_EQ(0, kill(first, SIGKILL));
	ASSERT_TRUE(eventually([&] { return (writer_ = find_writer()) > 0 && writer_ != first; }));
	EXPECT_TRUE(await_line("the log's writer had ended, and was replaced"));
	EXPECT_TRUE(await_gone(first));
	ASSERT_TRUE(daemon().signal(SIGUSR1));
	EXPECT_TRUE(await_line(" restarts=0"));
	expect_same_workers();
}

// While it stops, too: what was said to nobody is written all the same.
TEST_F(LogWriter, IsReplacedAtTheEnd)
{
	ASSERT_NO_FATAL_FAILURE(serve());
	ASSERT_EQ(0, kill(daemon().master(), SIGSTOP));
	ASSERT_EQ(0, kill(writer_, SIGKILL));
	ASSERT_TRUE(daemon().signal(SIGTERM));
	ASSERT_TRUE(daemon().signal(SIGCONT));
	ASSERT_NO_FATAL_FAILURE(stop(SIGTERM, 0));
	EXPECT_NE(std::string::npos, read_whole(log_path()).rfind("counters: "));
}

// Whoever stops all processes of a service at once wants to read what they say then.
TEST_F(LogWriter, OutlivesTheOthers)
{
	ASSERT_NO_FATAL_FAILURE(serve());
	ASSERT_EQ(0, kill(writer_, SIGTERM));
	ASSERT_EQ(0, kill(writer_, SIGINT));
	ASSERT_TRUE(daemon().signal(SIGUSR1));
	EXPECT_TRUE(await_line(" restarts=0"));
	EXPECT_EQ(writer_, find_writer());
	for (const pid_t pid : daemon().workers())
		ASSERT_EQ(0, kill(pid, SIGTERM));
	ASSERT_NO_FATAL_FAILURE(stop(SIGTERM, 0));
	EXPECT_FALSE(process_lives(writer_)) << "the daemon has waited for it";
	EXPECT_NE(std::string::npos, read_whole(log_path()).rfind("counters: "));
}

TEST_F(LogWriter, LeavesWhenTheDaemonIsKilled)
{
	ASSERT_NO_FATAL_FAILURE(serve());
	ASSERT_NO_FATAL_FAILURE(stop(SIGKILL, SIGKILL));
	EXPECT_TRUE(await_gone(writer_));
}

} // namespace
