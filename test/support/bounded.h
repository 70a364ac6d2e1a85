// SPDX-License-Identifier: BSD-2-Clause
// The base of unit tests that use the system: a time limit, a directory, and afterwards no descriptor is left. What keeps
// state for the whole process, or might hang, runs in a child.
#pragma once

#include "test/support/files.h"
#include "test/support/wait.h"

#include <csignal>
#include <cstdio>
#include <ctime>
#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <unistd.h>

// As the daemon's clock_now_ns().
inline uint64_t now_ns()
{
	timespec t = {};

	clock_gettime(CLOCK_MONOTONIC, &t);
	return static_cast<uint64_t>(t.tv_sec) * 1000000000 + static_cast<uint64_t>(t.tv_nsec);
}

class BoundedTest : public ::testing::Test
{
      protected:
	void SetUp() override
	{
		alarm(60);
		own_fds_ = count_fds("self");
		temp_ = std::make_unique<TempDir>();
	}

	void TearDown() override
	{
		temp_.reset();
		EXPECT_EQ(own_fds_, count_fds("self")) << list_fds("self");
		alarm(0);
	}

	std::string path(const std::string &name) const
	{
		return temp_->path() + "/" + name;
	}

	// Runs `what` in a process of its own, whose failures are the test's.
	template <typename What> void in_child(What what)
	{
		const pid_t child = start_child(what);

		end_child(child);
	}

	template <typename What> pid_t start_child(What what)
	{
		fflush(nullptr);
		const pid_t child = fork();

		if (child == 0) {
			alarm(50);
			what();
			fflush(nullptr);
			_exit(HasFailure() ? 1 : 0);
		}
		EXPECT_GT(child, 0);
		return child;
	}

	void end_child(pid_t child)
	{
		int status = -1;

		if (!await_exit(child, &status, 50s)) {
			kill(child, SIGKILL);
			await_exit(child, &status);
			ADD_FAILURE() << "a process does not end";
		}
		EXPECT_EQ(0, status);
	}

      private:
	std::unique_ptr<TempDir> temp_;
	size_t own_fds_ = 0;
};
