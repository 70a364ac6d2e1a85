// SPDX-License-Identifier: BSD-2-Clause
// A daemon's beginning and its end.
#include "test/support/fixture.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <sys/stat.h>
#include <sys/wait.h>

namespace
{

// The socket directory and the root of SfdTest, but the daemon is started by the library.
class Spawn : public SfdTest
{
      protected:
	void TearDown() override
	{
		/* No process is left behind, whatever failed. (Zombies count: they were not waited for.) */
		EXPECT_EQ(-1, waitpid(-1, nullptr, WNOHANG)) << "a child is left behind";
		EXPECT_TRUE(std::filesystem::is_empty(sockdir()));
		SfdTest::TearDown();
	}

	std::string sockdir()
	{
		return daemon().socket_dir();
	}

	std::string socket_file()
	{
		return daemon().socket_path();
	}

	pid_t spawn(const std::string &name = "test")
	{
		return sfd_spawn(name.c_str(), root().c_str(), sockdir().c_str(), 0, 0);
	}

	// A transfer through whatever daemon has that name.
	bool serves(const std::string &name = "test")
	{
		const Fd connection(sfd_connect(sockdir().c_str(), name.c_str()));
		const Fd pipe(connection < 0 ? -1 : sfd_read(connection, "canary", 0, 0, false));

		return pipe >= 0 && read_file_pipe(pipe).content.size() == 1000;
	}

	static void expect_clean_exit(int status)
	{
		EXPECT_TRUE(WIFEXITED(status));
		EXPECT_EQ(0, WEXITSTATUS(status));
	}

	// Fails with that errno, says why on standard error, and leaves no process.
	template <typename Call> void expect_failure(int err, Call call)
	{
		::testing::internal::CaptureStderr();
		errno = 0;
		const pid_t pid = call();
		const int saved = errno;
		const std::string said = ::testing::internal::GetCapturedStderr();

		EXPECT_EQ(-1, pid);
		EXPECT_EQ(err, saved) << strerror(saved) << "; said: " << said;
		EXPECT_LE(std::count(said.begin(), said.end(), '\n'), 1) << said;
		EXPECT_TRUE(children_of(getpid()).empty());
	}
};

TEST_F(Spawn, ServesUntilItIsShutDown)
{
	const pid_t pid = spawn();

	ASSERT_GT(pid, 0) << strerror(errno);
	EXPECT_TRUE(serves());
	const std::vector<pid_t> workers = workers_of(pid);
	EXPECT_FALSE(workers.empty());
	expect_clean_exit(sfd_shutdown(pid));
	for (pid_t worker : workers)
		EXPECT_FALSE(process_lives(worker));
	EXPECT_EQ(-1, sfd_connect(sockdir().c_str(), "test"));
	EXPECT_EQ(ENOENT, errno);
	EXPECT_EQ(-1, sfd_shutdown(pid));
	EXPECT_EQ(ECHILD, errno);
}

TEST_F(Spawn, ShutdownOfNobody)
{
	for (pid_t pid : {0, -1, -2}) {
		EXPECT_EQ(-1, sfd_shutdown(pid));
		EXPECT_EQ(EINVAL, errno);
	}
	EXPECT_EQ(-1, sfd_shutdown(1));
	EXPECT_EQ(ECHILD, errno);
}

TEST_F(Spawn, ANameThatIsTakenIsNoError)
{
	const pid_t pid = spawn();

	ASSERT_GT(pid, 0);
	::testing::internal::CaptureStderr();
	EXPECT_EQ(0, spawn());
	EXPECT_EQ(0, spawn());
	::testing::internal::GetCapturedStderr();
	EXPECT_TRUE(serves());
	EXPECT_EQ(std::vector<pid_t>{pid}, children_of(getpid()));
	/* Another name is another daemon. */
	const pid_t other = spawn("other");
	EXPECT_GT(other, 0);
	EXPECT_TRUE(serves("other"));
	expect_clean_exit(sfd_shutdown(pid));
	EXPECT_TRUE(serves("other"));
	expect_clean_exit(sfd_shutdown(other));
}

TEST_F(Spawn, WhatCannotBeStarted)
{
	const std::string dir_path = sockdir();
	const char *s = dir_path.c_str();
	const std::string root_path = root(), missing = dir() + "/missing", file = in_root("canary");
	const char *r = root_path.c_str();
	const std::string long_name(100, 'n'), deep = "/tmp/" + std::string(150, 'd');

	expect_failure(ENOENT, [&] { return sfd_spawn("test", missing.c_str(), s, 0, 0); });
	expect_failure(ENOTDIR, [&] { return sfd_spawn("test", file.c_str(), s, 0, 0); });
	expect_failure(ENOENT, [&] { return sfd_spawn("test", r, missing.c_str(), 0, 0); });
	expect_failure(ENAMETOOLONG, [&] { return sfd_spawn(long_name.c_str(), r, s, 0, 0); });
	expect_failure(ENAMETOOLONG, [&] { return sfd_spawn("test", r, deep.c_str(), 0, 0); });
	expect_failure(EINVAL, [&] { return sfd_spawn("a/b", r, s, 0, 0); });
	expect_failure(EINVAL, [&] { return sfd_spawn("", r, s, 0, 0); });
	expect_failure(EINVAL, [&] { return sfd_spawn(nullptr, r, s, 0, 0); });
	expect_failure(EINVAL, [&] { return sfd_spawn("test", nullptr, s, 0, 0); });
	expect_failure(EINVAL, [&] { return sfd_spawn("test", r, s, -1, 0); });
	expect_failure(EINVAL, [&] { return sfd_spawn("test", r, s, 0, -1); });
	expect_failure(EINVAL, [&] { return sfd_spawnv(nullptr, 1000); });
	const char *const usage[] = {"sendfiled", "--no-such-option", nullptr};
	expect_failure(EINVAL, [&] { return sfd_spawnv(usage, 10000); });
	const char *const nobody[] = {"sendfiled", "-s", "test", "-r", r, "-S", s, "-u", "no-such-user", nullptr};
	expect_failure(EINVAL, [&] { return sfd_spawnv(nobody, 10000); });
	setenv("SFD_DAEMON", missing.c_str(), 1);
	expect_failure(ENOENT, [&] { return sfd_spawn("test", r, s, 0, 0); });
	setenv("SFD_DAEMON", file.c_str(), 1);
	expect_failure(EACCES, [&] { return sfd_spawn("test", r, s, 0, 0); });
}

TEST_F(Spawn, GivesUpInTime)
{
	const std::string program = dir() + "/slow";
	const char *const argv[] = {"slow", nullptr};

	write_whole(program, "#!/bin/sh\nexec sleep 100\n", 0755);
	setenv("SFD_DAEMON", program.c_str(), 1);
	const auto begin = Clock::now();
	expect_failure(ETIMEDOUT, [&] { return sfd_spawnv(argv, 100); });
	EXPECT_LT(Clock::now() - begin, 5s);
	/* One that leaves without a word. */
	write_whole(program, "#!/bin/sh\nexit 3\n", 0755);
	::testing::internal::CaptureStderr();
	EXPECT_EQ(-1, sfd_spawnv(argv, 10000));
	::testing::internal::GetCapturedStderr();
}

TEST_F(Spawn, PassesItsOptionsOn)
{
	const std::string root_path = root(), dir_path = sockdir();
	const char *const argv[] = {"sendfiled", "--name", "test", "--root", root_path.c_str(), "--socket-dir",
		dir_path.c_str(), "--workers", "3", "--max-transfers", "7", nullptr};
	const pid_t pid = sfd_spawnv(argv, -1);

	ASSERT_GT(pid, 0) << strerror(errno);
	EXPECT_EQ(3u, workers_of(pid).size());
	EXPECT_TRUE(serves());
	expect_clean_exit(sfd_shutdown(pid));
}

TEST_F(Spawn, LimitsOfTheShortForm)
{
	const pid_t pid = sfd_spawn("test", root().c_str(), sockdir().c_str(), 1, 150);
	ASSERT_GT(pid, 0);
	const Fd connection(sfd_connect(sockdir().c_str(), "test"));
	sfd_file_info info;
	const Fd first(sfd_open(connection, "canary", 0, 0, false));

	ASSERT_TRUE(read_info(first, &info));
	const Fd second(sfd_open(connection, "canary", 0, 0, false));
	expect_refused(read_outcome(second), EMFILE);
	EXPECT_EQ(ETIMEDOUT, read_rest(first, info).stat());
	expect_clean_exit(sfd_shutdown(pid));
}

// The daemon belongs to the process, not to the thread that happened to start it.
TEST_F(Spawn, OutlivesTheThreadThatStartedIt)
{
	pid_t pid = -1;
	std::thread starter([&] { pid = spawn(); });

	starter.join();
	ASSERT_GT(pid, 0);
	EXPECT_TRUE(serves());
	EXPECT_FALSE(await_gone(pid, 300ms));
	EXPECT_TRUE(serves());
	expect_clean_exit(sfd_shutdown(pid));
}

class SpawnerEnds : public Spawn, public ::testing::WithParamInterface<bool>
{
};

TEST_P(SpawnerEnds, TheDaemonLeaves)
{
	Ends told = make_pipe();
	const pid_t child = fork();
	pid_t pid = -1;
	int status;

	if (child == 0) {
		const pid_t mine = spawn();

		if (write(told.in, &mine, sizeof mine) != sizeof mine)
			_exit(1);
		if (GetParam())
			pause();
		_exit(0);
	}
	ASSERT_NE(0, await(told.out, POLLIN));
	ASSERT_EQ(static_cast<ssize_t>(sizeof pid), read(told.out, &pid, sizeof pid));
	ASSERT_GT(pid, 0);
	const std::vector<pid_t> workers = workers_of(pid);
	if (GetParam()) {
		EXPECT_TRUE(serves());
		ASSERT_EQ(0, kill(child, SIGKILL));
	}
	ASSERT_TRUE(await_exit(child, &status));
	EXPECT_TRUE(await_gone(pid));
	for (pid_t worker : workers)
		EXPECT_TRUE(await_gone(worker));
	EXPECT_FALSE(std::filesystem::exists(socket_file()));
}

INSTANTIATE_TEST_SUITE_P(
	Spawn, SpawnerEnds, ::testing::Bool(), [](const auto &i) { return i.param ? "Killed" : "ByItself"; });

// However many are started at the same time, one wins, and every caller finds it serving.
TEST_F(Spawn, RaceForAName)
{
	for (int round = 0; round < 5; round++) {
		constexpr int N = 6;
		std::vector<std::thread> threads;
		pid_t pids[N];
		int won = 0;

		::testing::internal::CaptureStderr();
		for (int i = 0; i < N; i++)
			threads.emplace_back([&, i] { pids[i] = spawn(); });
		for (std::thread &t : threads)
			t.join();
		const std::string said = ::testing::internal::GetCapturedStderr();
		for (pid_t pid : pids) {
			EXPECT_GE(pid, 0) << said;
			won += pid > 0;
		}
		EXPECT_EQ(1, won) << said;
		EXPECT_TRUE(serves());
		for (pid_t pid : pids) {
			if (pid > 0)
				expect_clean_exit(sfd_shutdown(pid));
		}
	}
}

// ---- Signals

class Stop : public SfdTest, public ::testing::WithParamInterface<int>
{
};

TEST_P(Stop, LeavesNothing)
{
	DaemonOptions options;
	options.workers = 3;
	ASSERT_NO_FATAL_FAILURE(start(options));
	add_file("large", 16 << 20);
	Dest dest({Kind::Unix, false}, dir());
	sfd_file_info info;
	const Fd blocked(sfd_send(srv(), "large", dest.fd(), 0, 0, false));

	ASSERT_TRUE(read_info(blocked, &info));
	ASSERT_TRUE(std::filesystem::exists(daemon().socket_path()));
	stop(GetParam(), 0);
	EXPECT_TRUE(std::filesystem::is_empty(daemon().socket_dir()));
	EXPECT_TRUE(read_rest(blocked, info).ended);
	dest.finish();
}

INSTANTIATE_TEST_SUITE_P(Signals, Stop, ::testing::Values(SIGTERM, SIGINT),
	[](const auto &i) { return i.param == SIGTERM ? "Term" : "Int"; });

class Master : public SfdTest
{
};

// A worker that is stopped does not keep the daemon from leaving.
TEST_F(Master, LeavesAlthoughAWorkerDoesNot)
{
	ASSERT_NO_FATAL_FAILURE(start());
	freeze({daemon().workers().at(0)});
	stop(SIGTERM, 0);
}

TEST_F(Master, KilledLeavesNoWorkerAndItsNameIsTakenOver)
{
	ASSERT_NO_FATAL_FAILURE(start());
	const Fd old(daemon().connect());
	const std::vector<pid_t> workers = daemon().workers();

	daemon().stop(SIGKILL);
	for (pid_t pid : workers)
		EXPECT_TRUE(await_gone(pid)) << "worker " << pid << " outlives its master";
	EXPECT_TRUE(std::filesystem::exists(daemon().socket_path())) << "nobody could remove it";
	EXPECT_EQ(-1, sfd_read(old, "canary", 0, 0, false));
	EXPECT_TRUE(errno == ECONNREFUSED || errno == ENOTCONN) << strerror(errno);
	EXPECT_EQ(-1, daemon().connect());
	EXPECT_EQ(ECONNREFUSED, errno);
	ASSERT_NO_FATAL_FAILURE(start());
	canary();
}

TEST_F(Master, ASignalForItsCountersHarmsNothing)
{
	ASSERT_NO_FATAL_FAILURE(start());
	for (int i = 0; i < 20; i++) {
		ASSERT_EQ(0, kill(daemon().pid(), SIGUSR1));
		canary();
	}
	EXPECT_TRUE(daemon().await_log("counters: "));
	const std::string log = daemon().log();
	const std::string line = log.substr(log.find("counters: "));
	for (const char *word :
		{"active=", "requests=", "bytes=", "fallbacks=", "forwarded=", "restarts=0", "outcome.0="})
		EXPECT_NE(std::string::npos, line.find(word)) << word << " is not in: " << line;
	for (pid_t pid : daemon().workers()) {
		/* Whatever reaches a worker by mistake, SIGTERM and SIGKILL aside, is not for it. */
		for (int signo : {SIGINT, SIGHUP, SIGUSR1, SIGPIPE, SIGALRM, SIGCHLD})
			ASSERT_EQ(0, kill(pid, signo));
	}
	canary();
	expect_same_workers();
}

} // namespace
