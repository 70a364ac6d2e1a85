// SPDX-License-Identifier: BSD-2-Clause
// The base of attacks. Whatever somebody has done, afterwards the daemon is as it was: the same workers, which hold nothing
// and wait for nothing, serve the next one, and have not filled the log.
#pragma once

#include "test/support/fixture.h"
#include "test/support/user.h"

#include <cerrno>
#include <fcntl.h>
#include <sendfiled/sendfiled.h>
#include <sys/wait.h>

class Hostile : public SfdTest
{
      protected:
	static constexpr uid_t FRIEND = 54321, STRANGER = 54322;

	// With a socket that everybody may connect to, and of whom only root and FRIEND are served.
	void start_open(std::vector<std::string> more = {}, unsigned workers = 2)
	{
		DaemonOptions options;

		options.workers = workers;
		options.more = std::move(more);
		options.more.insert(options.more.end(), {"--socket-mode", "0666"});
		if (is_root())
			options.more.insert(options.more.end(), {"--allow-user", std::to_string(FRIEND)});
		start(options);
		log_size_ = daemon().log().size();
	}

	void TearDown() override
	{
		if (!HasFatalFailure() && !IsSkipped())
			oracle();
		SfdTest::TearDown();
	}

	void oracle()
	{
		expect_same_workers();
		EXPECT_TRUE(is_served_soon()) << "no canary was served within a second";
		expect_idle();
		for (const pid_t pid : all_processes())
			EXPECT_TRUE(eventually([&] { return state_of(pid) != 'D'; })) << pid << " waits in the kernel";
		EXPECT_LT(daemon().log().size() - log_size_, 64U * 1024) << "the log grows";
	}

	// Something else may take this machine's time for a while, so one of several is enough.
	bool is_served_soon()
	{
		for (const Deadline patience(10s); !patience.passed() && !HasFailure();) {
			const Deadline soon(1s);

			canary();
			if (!soon.passed())
				return true;
		}
		return false;
	}

	std::vector<pid_t> all_processes()
	{
		std::vector<pid_t> all = {daemon().master()};

		/* Those that close for a worker are its children. */
		for (size_t i = 0; i < all.size(); i++) {
			const std::vector<pid_t> more = children_of(all[i]);

			all.insert(all.end(), more.begin(), more.end());
		}
		return all;
	}

	static char state_of(pid_t pid)
	{
		const std::string stat = read_whole("/proc/" + std::to_string(pid) + "/stat");
		const size_t at = stat.rfind(") ");

		return at == std::string::npos ? '?' : stat[at + 2];
	}

      private:
	size_t log_size_ = 0;
};

#define REQUIRE_ROOT()                                                                                                 \
	do {                                                                                                           \
		if (geteuid() != 0)                                                                                    \
			GTEST_SKIP() << "only root can take another user's part";                                      \
	} while (0)
