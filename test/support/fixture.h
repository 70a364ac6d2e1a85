// SPDX-License-Identifier: BSD-2-Clause
// The base of all integration tests. Each test has a time limit, directories of its own, and, if it starts one, a daemon;
// afterwards nothing may be left: no descriptor of ours, none in a worker, no process, no socket file.
#pragma once

#include "test/support/daemon.h"
#include "test/support/dest.h"
#include "test/support/fd.h"
#include "test/support/files.h"
#include "test/support/frames.h"
#include "test/support/wait.h"

#include <gtest/gtest.h>
#include <map>
#include <memory>
#include <string>
#include <type_traits>

// After a call has failed: true once there may be room for another try, false if it failed for another reason.
bool wait_for_room(int srv);

// Makes a call of the library again while the daemon's queue is full.
template <typename Call> auto when_room(int srv, Call call) -> decltype(call())
{
	for (;;) {
		const auto result = call();
		bool failed;

		if constexpr (std::is_same_v<decltype(call()), bool>)
			failed = !result;
		else
			failed = result < 0;
		if (!failed || !wait_for_room(srv))
			return result;
	}
}

class SfdTest : public ::testing::Test
{
      protected:
	void SetUp() override;
	void TearDown() override;

	// Seconds until the whole program is aborted.
	static void limit(unsigned seconds);

	// Starts the daemon, connects, and notes how many descriptors its workers hold while idle.
	void start(const DaemonOptions &options = {});
	// For a test that kills the daemon, or does something else after which it cannot be stopped in the usual way.
	void stop(int signo, int expected_status);

	Daemon &daemon()
	{
		return *daemon_;
	}
	int srv() const
	{
		return srv_;
	}
	std::string dir() const
	{
		return temp_->path();
	}
	std::string root() const
	{
		return dir() + "/root";
	}
	std::string in_root(const std::string &name) const
	{
		return root() + "/" + name;
	}
	// Makes a file below the root; returns its content.
	std::string add_file(const std::string &name, size_t size, uint64_t seed = 1) const;
	// A short transfer that must succeed soon.
	void canary();
	// Waits until the workers hold no descriptor more than while idle, and no fewer.
	void expect_idle(milliseconds patience = PATIENCE);
	// The daemon's counters by name.
	std::map<std::string, uint64_t> counters();
	// The workers are still those that were there at the start.
	void expect_same_workers();
	// Whether tests can take another user's part.
	static bool is_root();

      private:
	std::unique_ptr<TempDir> temp_;
	std::unique_ptr<Daemon> daemon_;
	Fd srv_;
	size_t own_fds_ = 0;
	std::string own_list_;
	std::vector<size_t> idle_;
	std::vector<pid_t> first_workers_;
};
