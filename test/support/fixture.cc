// SPDX-License-Identifier: BSD-2-Clause
#include "test/support/fixture.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <sstream>
#include <sys/stat.h>
#include <sys/wait.h>

enum { LIMIT_S = 60, CANARY_SIZE = 1000 };

bool wait_for_room(int srv)
{
	/* The number of descriptors in flight cannot be polled for; it falls as soon as the daemon receives. */
	if (errno == ETOOMANYREFS || errno == ENOBUFS)
		return usleep(1000) == 0;
	return errno == EAGAIN && await(srv, POLLOUT) != 0;
}

static char current_test[256];

static void on_limit(int)
{
	static const char text[] = "\ntime limit exceeded in ";

	/* Only calls that are safe in a signal handler. */
	if (write(STDERR_FILENO, text, sizeof text - 1) > 0 &&
		write(STDERR_FILENO, current_test, strlen(current_test)) > 0 && write(STDERR_FILENO, "\n", 1) > 0)
		abort();
	abort();
}

void SfdTest::limit(unsigned seconds)
{
	const auto *info = ::testing::UnitTest::GetInstance()->current_test_info();

	snprintf(current_test, sizeof current_test, "%s.%s", info ? info->test_suite_name() : "",
		info ? info->name() : "");
	signal(SIGALRM, on_limit);
	alarm(seconds);
}

bool SfdTest::is_root()
{
	return geteuid() == 0;
}

void SfdTest::SetUp()
{
	limit(LIMIT_S);
	own_fds_ = count_fds("self");
	own_list_ = list_fds("self");
	temp_ = std::make_unique<TempDir>();
	ASSERT_EQ(0, mkdir(root().c_str(), 0755));
	ASSERT_EQ(0, chmod(root().c_str(), 0755));
	add_file("canary", CANARY_SIZE, 99);
	daemon_ = std::make_unique<Daemon>(dir());
	/* For the tests that start daemons through the library. */
	setenv("SFD_DAEMON", daemon_path, 1);
}

std::string SfdTest::add_file(const std::string &name, size_t size, uint64_t seed) const
{
	std::string content = make_content(size, seed);

	write_whole(in_root(name), content);
	return content;
}

/* No worker has a descriptor of a process. */
static bool keep_nobody(const std::vector<pid_t> &workers)
{
	return std::none_of(workers.begin(), workers.end(),
		[](pid_t pid) { return list_fds(std::to_string(pid)).find("[pidfd]") != std::string::npos; });
}

void SfdTest::start(const DaemonOptions &options)
{
	ASSERT_EQ(0, daemon_->start(options)) << daemon_->log();
	srv_.reset(daemon_->connect());
	ASSERT_GE(srv_, 0) << strerror(errno);
	/*
	 * A worker announces that it is ready just before it closes the descriptor for that. Whoever has served the canary
	 * has done so; the others do very soon. The one that served it also keeps who sent it for a moment.
	 */
	ASSERT_NO_FATAL_FAILURE(canary());
	ASSERT_TRUE(eventually([&] {
		const bool alone = keep_nobody(daemon_->workers());

		idle_ = daemon_->worker_fds();
		return alone && idle_.size() == options.workers && idle_.front() == idle_.back();
	})) << "the workers' numbers of descriptors differ, or they keep who sent something";
	first_workers_ = daemon_->workers();
}

void SfdTest::canary()
{
	Ends pipe = make_pipe();
	const Fd connection(daemon_->connect());
	const Fd status(when_room(connection, [&] { return sfd_send(connection, "canary", pipe.in, 0, 0, false); }));
	std::string got(CANARY_SIZE + 1, '\0');

	ASSERT_GE(status, 0) << strerror(errno);
	const Outcome o = read_outcome(status);
	pipe.in.reset();
	ASSERT_EQ(SFD_STAT_OK, o.stat()) << daemon_->log();
	ASSERT_EQ(CANARY_SIZE, read(pipe.out, got.data(), got.size()));
	got.resize(CANARY_SIZE);
	ASSERT_TRUE(same_content(make_content(CANARY_SIZE, 99), got));
}

void SfdTest::expect_idle(milliseconds patience)
{
	std::vector<size_t> now;

	if (eventually([&] { return (now = daemon_->worker_fds()) == idle_; }, patience))
		return;
	ADD_FAILURE() << "workers hold descriptors: " << ::testing::PrintToString(now) << " while idle "
		      << ::testing::PrintToString(idle_);
	for (pid_t pid : daemon_->workers())
		std::cerr << "worker " << pid << ":\n" << list_fds(std::to_string(pid));
}

std::map<std::string, uint64_t> SfdTest::counters()
{
	const size_t before = daemon().log().size();
	std::map<std::string, uint64_t> out;
	std::string text;

	EXPECT_TRUE(daemon().signal(SIGUSR1));
	EXPECT_TRUE(eventually([&] {
		text = daemon().log().substr(before);
		const size_t at = text.find(" helpers: ", std::min(text.find("counters: "), text.size()));
		return at != std::string::npos && text.find('\n', at) != std::string::npos;
	}));
	/* What comes before may be of the devices, and of an earlier time. */
	std::istringstream words(text.substr(std::min(text.find("counters: "), text.size())));
	for (std::string word; words >> word;) {
		const size_t at = word.find('=');

		/* The first two lines; what comes then, of each device, has the same names in each line. */
		if (word == "device")
			break;
		if (at != std::string::npos)
			out[word.substr(0, at)] = strtoull(word.c_str() + at + 1, nullptr, 10);
	}
	return out;
}

void SfdTest::expect_same_workers()
{
	EXPECT_EQ(first_workers_, daemon_->workers()) << daemon_->log();
}

void SfdTest::stop(int signo, int expected_status)
{
	const std::vector<pid_t> workers = daemon_->workers();

	srv_.reset();
	EXPECT_EQ(expected_status, daemon_->stop(signo)) << daemon_->log();
	for (pid_t pid : workers)
		EXPECT_TRUE(await_gone(pid)) << "worker " << pid << " is left behind";
}

void SfdTest::TearDown()
{
	if (daemon_ && daemon_->pid() > 0) {
		expect_idle();
		stop(SIGTERM, 0);
		EXPECT_TRUE(std::filesystem::is_empty(daemon_->socket_dir()))
			<< "files are left in the socket directory";
	}
	if (HasFailure() && daemon_)
		std::cerr << "the daemon's log:\n" << daemon_->log();
	srv_.reset();
	daemon_.reset();
	temp_.reset();
	EXPECT_EQ(own_fds_, count_fds("self")) << "descriptors of this process before:\n"
					       << own_list_ << "and after:\n"
					       << list_fds("self");
	alarm(0);
}
