// SPDX-License-Identifier: BSD-2-Clause
// Waiting with a deadline.
#pragma once

#include <chrono>
#include <functional>
#include <sys/types.h>
#include <vector>

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using namespace std::chrono_literals;

// How long a test waits for what ought to come at once: long, for slow machines and instrumented builds.
constexpr milliseconds PATIENCE = 15s;

// A point in time, and what is left until then in milliseconds, as poll(2) wants it; never negative.
class Deadline
{
      public:
	explicit Deadline(milliseconds from_now) : at_(Clock::now() + from_now)
	{
	}
	int left_ms() const;
	bool passed() const
	{
		return Clock::now() >= at_;
	}

      private:
	Clock::time_point at_;
};

// Looks again and again, for what sends no event (an entry in /proc, for instance). True once `what` is.
bool eventually(const std::function<bool()> &what, milliseconds patience = PATIENCE);

// Waits for events on a descriptor: what poll(2) reported; 0 if the time ran out.
short await(int fd, short events, milliseconds patience = PATIENCE);

// Waits until a child has ended: true and its status as of waitpid(2), or false after that time.
bool await_exit(pid_t child, int *status, milliseconds patience = PATIENCE);

// True if there is such a process; one that has ended but was not waited for is none.
bool process_lives(pid_t pid);

// Stops processes, and waits until they are; lets them go on.
void freeze(const std::vector<pid_t> &pids);
void thaw(const std::vector<pid_t> &pids);

// Waits for a process that may not be a child.
bool await_gone(pid_t pid, milliseconds patience = PATIENCE);
