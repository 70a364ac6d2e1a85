// SPDX-License-Identifier: BSD-2-Clause
// The most transfers at a time, over all workers.
#include "test/support/fixture.h"
#include "test/support/user.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

extern "C" {
#include "server/limits.h"
#include "server/options.h"
}

namespace
{

class Limit : public SfdTest
{
      protected:
	static constexpr uid_t USER = 54321; // nobody's in particular

	// As a user who may change the limits of its processes, which root may not everywhere.
	void begin_as_user(int max)
	{
		const std::string id = std::to_string(USER);
		const timespec times[2] = {{time(nullptr) + 1000, 0}, {1000000000, 0}};
		DaemonOptions options;

		options.workers = 1;
		options.more = {"-n", std::to_string(max)};
		/* For its own file, whose access time is not due, a worker needs no helper, nor a pipe from one. */
		ASSERT_EQ(0, utimensat(AT_FDCWD, in_root("canary").c_str(), times, 0));
		if (is_root()) {
			options.wrapper = {"setpriv", "--reuid", id, "--regid", id, "--clear-groups"};
			ASSERT_EQ(0, chown(daemon().socket_dir().c_str(), USER, USER));
			ASSERT_EQ(0, chown(in_root("canary").c_str(), USER, USER));
		}
		ASSERT_NO_FATAL_FAILURE(start(options));
	}

	static void set_limit(pid_t pid, size_t fds)
	{
		const pid_t child = fork();
		int status = -1;
		rlimit limit;

		if (child == 0) {
			if (is_root() && !become(USER))
				_exit(1);
			if (prlimit(pid, RLIMIT_NOFILE, nullptr, &limit) < 0)
				_exit(2);
			limit.rlim_cur = fds > 0 ? fds : limit.rlim_max;
			_exit(prlimit(pid, RLIMIT_NOFILE, &limit, nullptr) == 0 ? 0 : 3);
		}
		ASSERT_TRUE(await_exit(child, &status));
		ASSERT_EQ(0, status);
	}

	void begin(int max, unsigned workers)
	{
		DaemonOptions options;

		options.workers = workers;
		options.more = {"-n", std::to_string(max)};
		ASSERT_NO_FATAL_FAILURE(start(options));
	}

	// Opens files until one is refused; the pipes of those that were not.
	std::vector<Fd> fill(size_t most)
	{
		std::vector<Fd> pipes;

		for (size_t i = 0; i <= most; i++) {
			unsigned char frame[SFD_MAX_RESP_SIZE];
			Fd pipe(sfd_open(srv(), "canary", 0, 0, false));

			EXPECT_EQ(Got::Frame, read_frame(pipe, frame));
			if (sfd_get_stat(frame) != SFD_STAT_OK) {
				EXPECT_EQ(SFD_FILE_INFO, sfd_get_cmd(frame));
				EXPECT_EQ(EMFILE, sfd_get_stat(frame));
				EXPECT_EQ(Got::End, read_frame(pipe, frame));
				return pipes;
			}
			pipes.push_back(std::move(pipe));
		}
		return pipes;
	}
};

TEST_F(Limit, IsOneForAllWorkers)
{
	ASSERT_NO_FATAL_FAILURE(begin(5, 4));
	for (int round = 0; round < 3; round++) {
		std::vector<Fd> pipes = fill(5);

		EXPECT_EQ(5u, pipes.size());
		/* Every operation is refused, and the destination of a send let go of. */
		Dest dest({Kind::Tcp, false}, dir());
		const Fd sent(sfd_send(srv(), "canary", dest.fd(), 0, 0, false));
		expect_refused(read_outcome(sent), EMFILE);
		const Fd read(sfd_read(srv(), "canary", 0, 0, false));
		expect_refused(read_outcome(read), EMFILE);
		EXPECT_EQ("", dest.finish());

		/* One goes, one comes. */
		pipes.pop_back();
		ASSERT_TRUE(eventually([&] {
			pipes.emplace_back(sfd_open(srv(), "canary", 0, 0, false));
			unsigned char frame[SFD_MAX_RESP_SIZE];

			if (read_frame(pipes.back(), frame) == Got::Frame && sfd_get_stat(frame) == SFD_STAT_OK)
				return true;
			pipes.pop_back();
			return false;
		}));
		EXPECT_EQ(0u, fill(5).size());
		pipes.clear();
		expect_idle(1s);
	}
	canary();
}

// However a transfer ends, its place is free again.
TEST_F(Limit, PlacesAreGivenBack)
{
	ASSERT_NO_FATAL_FAILURE(begin(1, 1));
	for (int i = 0; i < 20; i++) {
		sfd_file_info info;

		canary();
		const Fd missing(sfd_read(srv(), "missing", 0, 0, false));
		expect_refused(read_outcome(missing), ENOENT);
		const Fd bad(sfd_send(srv(), "canary", srv(), 0, 0, false));
		expect_refused(read_outcome(bad), EINVAL);
		const Fd cancelled(sfd_open(srv(), "canary", 0, 0, false));
		ASSERT_TRUE(read_info(cancelled, &info));
		ASSERT_TRUE(sfd_cancel(srv(), info.txnid));
		EXPECT_EQ(ECANCELED, read_rest(cancelled, info).stat());
	}
	ASSERT_EQ(0, kill(daemon().pid(), SIGUSR1));
	EXPECT_TRUE(daemon().await_log("counters: active=0 "));
}

TEST_F(Limit, ADeadWorkersPlacesAreFreeAgain)
{
	ASSERT_NO_FATAL_FAILURE(begin(5, 2));
	std::vector<Fd> pipes = fill(5);

	ASSERT_EQ(5u, pipes.size());
	for (pid_t pid : daemon().workers())
		ASSERT_EQ(0, kill(pid, SIGKILL));
	for (Fd &pipe : pipes)
		ASSERT_NE(0, await(pipe, POLLHUP));
	pipes.clear();
	canary();
	pipes = fill(5);
	EXPECT_EQ(5u, pipes.size());
}

// A transfer whose last frame nobody takes holds its place until somebody does.
TEST_F(Limit, UnreadStatusHoldsItsPlace)
{
	ASSERT_NO_FATAL_FAILURE(begin(1, 1));
	std::vector<Fd> pipes = fill(1);

	ASSERT_EQ(1u, pipes.size());
	EXPECT_EQ(0u, fill(1).size());
	pipes.clear();
	expect_idle(1s);
	canary();
}

// Somebody takes a worker's descriptors away while it serves, as an operator may with prlimit(1). Requests fail, and each is told.
TEST_F(Limit, OutOfDescriptorsAtAnyPoint)
{
	ASSERT_NO_FATAL_FAILURE(begin_as_user(100));
	const pid_t worker = daemon().workers().at(0);
	const size_t idle = count_fds(std::to_string(worker));
	unsigned told = 0, failed = 0;

	for (size_t more = 0; more < 12; more++) {
		ASSERT_NO_FATAL_FAILURE(set_limit(worker, idle + more));
		for (int i = 0; i < 5; i++) {
			Dest dest({i % 2 ? Kind::Tcp : Kind::Pipe, false}, dir());
			dest.start_reading();
			Fd status(i < 4 ? sfd_send(srv(), "canary", dest.fd(), 0, 0, false)
					: sfd_open(srv(), "canary", 0, 0, false));
			unsigned char frame[SFD_MAX_RESP_SIZE];

			/* Where not even the pipe that tells came in, it ends. */
			ASSERT_NE(0, await(status, POLLIN)) << idle << " and " << more;
			if (read(status, frame, sizeof frame) > 0) {
				told++;
				failed += sfd_get_stat(frame) != SFD_STAT_OK;
			} else {
				failed++;
			}
			status.reset();
			dest.finish();
		}
	}
	ASSERT_NO_FATAL_FAILURE(set_limit(worker, 0));
	EXPECT_GT(told, 0U);
	EXPECT_GT(failed, 0U) << "it was never short of any";
	canary();
	expect_same_workers();
	expect_idle();
}

// Whether this user may raise its hard limit on open files: found out in a child, which keeps the change.
bool may_raise_limit()
{
	const pid_t child = fork();
	int status = 0;

	if (child == 0) {
		const rlimit low = {1000, 1000}, more = {1001, 1001};

		_exit(setrlimit(RLIMIT_NOFILE, &low) == 0 && setrlimit(RLIMIT_NOFILE, &more) == 0);
	}
	EXPECT_TRUE(await_exit(child, &status));
	return WEXITSTATUS(status) == 1;
}

// Where the system allows fewer descriptors than the limit needs, the limit is lowered, holds, and the log says why.
TEST_F(Limit, IsLoweredToWhatTheSystemAllows)
{
	DaemonOptions options;

	if (may_raise_limit())
		GTEST_SKIP() << "here the daemon may raise its limit on open files as it likes";
	/* The limit is the daemon's, not ours. */
	/* For five transfers in each of two workers, beside the room for a datagram's. */
	const unsigned needed =
		FDS_RESERVED + limits_helper_fds(2, READERS_DEFAULT) + (BATCH_RESERVED + 5) * FDS_PER_TRANSFER;
	unsigned allowed = needed;

	while (allowed - limits_queues(allowed) < needed)
		allowed++;

	options.wrapper = {"/bin/sh", "-c", "ulimit -n " + std::to_string(allowed) + " && exec \"$@\"", "sh"};
	options.workers = 2;
	ASSERT_NO_FATAL_FAILURE(start(options));
	EXPECT_NE(std::string::npos, daemon().log().find("RLIMIT_NOFILE"));
	EXPECT_NE(std::string::npos, daemon().log().find("--max-transfers lowered from 10000 to 10"));
	EXPECT_EQ(10u, fill(10).size());
}

} // namespace
