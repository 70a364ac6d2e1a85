// SPDX-License-Identifier: BSD-2-Clause
// Programs run to their end.
#pragma once

#include <string>
#include <vector>

struct RunResult {
	int status; // as of waitpid(2); -1 if it could not be started or did not end
	std::string out, err;
};

// Runs a program, found in PATH, and collects what it prints.
RunResult run(const std::vector<std::string> &args);

// Its exit status; -1 if it was not started, or was killed.
int exit_status(const RunResult &r);

struct ShellResult {
	int status;       // the exit status; -1 if it was killed
	std::string text; // what it said, on either channel
};

// Runs a shell command.
ShellResult sh(const std::string &command);
