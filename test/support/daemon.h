// SPDX-License-Identifier: BSD-2-Clause
// The built daemon, running over directories of a test's own.
#pragma once

#include "test/support/fd.h"
#include "test/support/wait.h"

#include <string>
#include <sys/types.h>
#include <vector>

struct DaemonOptions {
	unsigned workers = 2;
	std::vector<std::string> more;    // further arguments
	std::vector<std::string> wrapper; // a program, and its arguments, that runs the daemon
	std::string name = "test";
};

extern const char *const daemon_path;

// The processes whose parent that is.
std::vector<pid_t> children_of(pid_t parent);

// Those of them that are workers, of a daemon that somebody else has started.
std::vector<pid_t> workers_of(pid_t master);

class Daemon
{
      public:
	// `dir` gets a socket directory "run" and a log; what is served is "root" there.
	explicit Daemon(std::string dir);
	~Daemon();
	Daemon(const Daemon &) = delete;
	Daemon &operator=(const Daemon &) = delete;

	// Starts it and waits until it is ready: what it said, 0 or an errno; -1 if it said nothing.
	int start(const DaemonOptions &options = {});
	// The process that was started is our child; the master is that, or, with a wrapper, below it.
	pid_t pid() const
	{
		return pid_;
	}
	pid_t master() const;
	// To the master. False if there is none.
	bool signal(int signo) const;
	std::vector<pid_t> workers() const;
	// Those that open, read and write files for them.
	std::vector<pid_t> helpers() const;
	// How many descriptors each has open, in ascending order.
	std::vector<size_t> worker_fds() const;
	// A new connection; -1 and errno.
	int connect() const;
	std::string log() const;
	// Waits until a text is in the log.
	bool await_log(const std::string &text, milliseconds patience = PATIENCE) const;
	std::string socket_path() const;
	std::string socket_dir() const;
	// Sends the signal, waits until the process is gone, and returns its status; -1 if it does not go.
	int stop(int signo);
	// After somebody else has seen to its end.
	void forget()
	{
		pid_ = -1;
	}

      private:
	std::string dir_;
	DaemonOptions options_;
	pid_t pid_ = -1;
};
