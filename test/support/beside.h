// SPDX-License-Identifier: BSD-2-Clause
// Programs that run beside a test.
#pragma once

#include "test/support/fd.h"
#include "test/support/wait.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <poll.h>
#include <regex.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

// Where the text matches the extended regular expression: that and its parts in parentheses; nothing if it does not. (Of <regex>
// the compiler complains under the sanitizers.)
inline std::vector<std::string> find_match(const std::string &text, const char *pattern)
{
	regex_t re;
	regmatch_t at[8];
	std::vector<std::string> found;

	if (regcomp(&re, pattern, REG_EXTENDED) != 0)
		return found;
	if (regexec(&re, text.c_str(), 8, at, 0) == 0) {
		for (const regmatch_t &m : at) {
			if (m.rm_so >= 0)
				found.push_back(text.substr(
					static_cast<size_t>(m.rm_so), static_cast<size_t>(m.rm_eo - m.rm_so)));
		}
	}
	regfree(&re);
	return found;
}

// A program that runs beside the test, in a process group of its own, and what it prints.
class Beside
{
      public:
	Beside(const std::vector<std::string> &args, const std::vector<std::string> &environment)
	{
		Ends pipe = make_pipe();
		std::vector<char *> argv;

		for (const std::string &arg : args)
			argv.push_back(const_cast<char *>(arg.c_str()));
		argv.push_back(nullptr);
		pid_ = fork();
		if (pid_ == 0) {
			setpgid(0, 0);
			dup2(pipe.in, STDOUT_FILENO);
			dup2(pipe.in, STDERR_FILENO);
			for (const std::string &one : environment)
				putenv(const_cast<char *>(one.c_str()));
			execvp(argv[0], argv.data());
			_exit(127);
		}
		out_ = std::move(pipe.out);
	}
	~Beside()
	{
		if (pid_ > 0)
			end(SIGKILL);
	}
	Beside(const Beside &) = delete;
	Beside &operator=(const Beside &) = delete;

	// Reads until something that was printed matches: that, or nothing if it ends or takes too long.
	std::vector<std::string> await_text(const char *pattern, milliseconds patience)
	{
		const Deadline deadline(patience);
		std::vector<std::string> match;
		char buf[4096];
		ssize_t n = 1;

		while ((match = find_match(text_, pattern)).empty() && n > 0 && !deadline.passed()) {
			if (await(out_, POLLIN, milliseconds(deadline.left_ms())) == 0)
				break;
			n = read(out_, buf, sizeof buf);
			if (n > 0)
				text_.append(buf, static_cast<size_t>(n));
		}
		return match;
	}

	// Sends the signal, and waits: the status as of waitpid(2), or -1.
	int end(int signal)
	{
		int status = -1;

		kill(signal == SIGKILL ? -pid_ : pid_, signal);
		if (!await_exit(pid_, &status, 30s)) {
			kill(-pid_, SIGKILL);
			await_exit(pid_, &status);
			status = -1;
		}
		pid_ = -1;
		return status;
	}

	// Waits for its end: the status as of waitpid(2), or -1.
	int wait()
	{
		int status = -1;

		if (!await_exit(pid_, &status, 30s))
			return -1;
		pid_ = -1;
		return status;
	}

	pid_t pid() const
	{
		return pid_;
	}
	const std::string &text() const
	{
		return text_;
	}

      private:
	pid_t pid_ = -1;
	Fd out_;
	std::string text_;
};
