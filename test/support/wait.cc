// SPDX-License-Identifier: BSD-2-Clause
#include "test/support/wait.h"

#include "test/support/fd.h"
#include "test/support/files.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>

int Deadline::left_ms() const
{
	auto left = std::chrono::duration_cast<milliseconds>(at_ - Clock::now()).count();

	return static_cast<int>(std::max<long>(left, 0));
}

bool eventually(const std::function<bool()> &what, milliseconds patience)
{
	const Deadline deadline(patience);

	while (!what()) {
		if (deadline.passed())
			return what();
		std::this_thread::sleep_for(1ms);
	}
	return true;
}

short await(int fd, short events, milliseconds patience)
{
	const Deadline deadline(patience);
	pollfd p = {fd, events, 0};

	for (;;) {
		int n = poll(&p, 1, deadline.left_ms());

		if (n > 0)
			return p.revents;
		if (n == 0 || errno != EINTR)
			return 0;
	}
}

bool await_exit(pid_t child, int *status, milliseconds patience)
{
	const Fd process(static_cast<int>(syscall(SYS_pidfd_open, child, 0)));

	if (process < 0 || await(process, POLLIN, patience) == 0)
		return false;
	return waitpid(child, status, 0) == child;
}

/* As in /proc/PID/stat, behind the name, which may hold anything; 'X' if there is no such process. */
static char process_state(pid_t pid)
{
	const std::string stat = read_whole("/proc/" + std::to_string(pid) + "/stat");
	const size_t at = stat.rfind(") ");

	return at == std::string::npos ? 'X' : stat[at + 2];
}

bool process_lives(pid_t pid)
{
	const char state = process_state(pid);

	return state != 'Z' && state != 'X';
}

void freeze(const std::vector<pid_t> &pids)
{
	for (pid_t pid : pids)
		EXPECT_EQ(0, kill(pid, SIGSTOP));
	/* It takes effect when the process is next about to run its own code. */
	for (pid_t pid : pids)
		EXPECT_TRUE(eventually([pid] { return process_state(pid) == 'T'; }));
}

void thaw(const std::vector<pid_t> &pids)
{
	for (pid_t pid : pids)
		EXPECT_EQ(0, kill(pid, SIGCONT));
}

bool await_gone(pid_t pid, milliseconds patience)
{
	return eventually([pid] { return !process_lives(pid); }, patience);
}
