// SPDX-License-Identifier: BSD-2-Clause
// The most transfers at a time, over all workers.
#include "test/support/fixture.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <sys/resource.h>
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
