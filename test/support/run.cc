// SPDX-License-Identifier: BSD-2-Clause
#include "test/support/run.h"

#include "test/support/fd.h"
#include "test/support/files.h"
#include "test/support/wait.h"

#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

/* A file rather than a pipe: what a program leaves in the background may hold it open as long as it likes. */
static Fd open_file(const std::string &path)
{
	return Fd(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
}

RunResult run(const std::vector<std::string> &args)
{
	const TempDir dir;
	const std::string out_path = dir.path() + "/out", err_path = dir.path() + "/err";
	const Fd out = open_file(out_path), err = open_file(err_path);
	std::vector<std::string> copy = args;
	std::vector<char *> argv;
	posix_spawn_file_actions_t actions;
	RunResult r = {-1, "", ""};
	pid_t pid;

	for (std::string &arg : copy)
		argv.push_back(arg.data());
	argv.push_back(nullptr);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, err, STDERR_FILENO);
	const int failed = posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
	posix_spawn_file_actions_destroy(&actions);
	if (failed != 0)
		return r;
	if (!await_exit(pid, &r.status)) {
		kill(pid, SIGKILL);
		waitpid(pid, &r.status, 0);
		r.status = -1;
	}
	r.out = read_whole(out_path);
	r.err = read_whole(err_path);
	return r;
}

int exit_status(const RunResult &r)
{
	return r.status >= 0 && WIFEXITED(r.status) ? WEXITSTATUS(r.status) : -1;
}

ShellResult sh(const std::string &command)
{
	FILE *p = popen(("exec 2>&1; " + command).c_str(), "re");
	ShellResult out{-1, ""};
	char buf[4096];

	if (!p)
		return out;
	while (const size_t n = fread(buf, 1, sizeof buf, p))
		out.text.append(buf, n);
	const int status = pclose(p);
	out.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	return out;
}
