// SPDX-License-Identifier: BSD-2-Clause
#include "test/support/daemon.h"

#include "test/support/files.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>

const char *const daemon_path = BUILD_DIR "/sendfiled";

/* The fields after the name, which may itself hold anything: state, parent. */
static pid_t parent_of(const std::string &pid)
{
	const std::string stat = read_whole("/proc/" + pid + "/stat");
	const size_t at = stat.rfind(") ");
	char state;
	int parent;

	if (at == std::string::npos || sscanf(stat.c_str() + at, ") %c %d", &state, &parent) != 2)
		return -1;
	return state == 'Z' ? -1 : parent;
}

std::vector<pid_t> children_of(pid_t parent)
{
	std::vector<pid_t> out;
	DIR *dir = opendir("/proc");

	while (const dirent *e = dir ? readdir(dir) : nullptr) {
		if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && parent_of(e->d_name) == parent)
			out.push_back(atoi(e->d_name));
	}
	if (dir)
		closedir(dir);
	std::sort(out.begin(), out.end());
	return out;
}

Daemon::Daemon(std::string dir) : dir_(std::move(dir))
{
	mkdir(socket_dir().c_str(), 0755);
	chmod(socket_dir().c_str(), 0755);
}

Daemon::~Daemon()
{
	if (pid_ > 0)
		stop(SIGKILL);
}

std::string Daemon::socket_dir() const
{
	return dir_ + "/run";
}

std::string Daemon::socket_path() const
{
	return socket_dir() + "/sendfiled." + options_.name + ".socket";
}

static int read_status(int fd)
{
	int status;

	/* Under strace or valgrind, with a neighbour that measures, a start may take its time. */
	if (await(fd, POLLIN, 30s) == 0 || read(fd, &status, sizeof status) != sizeof status)
		return -1;
	return status;
}

int Daemon::start(const DaemonOptions &options)
{
	enum { READY_FD = 3 };
	std::vector<std::string> args = options.wrapper;
	std::vector<char *> argv;
	posix_spawn_file_actions_t actions;
	Ends ready = make_pipe();
	const Fd log_file(open((dir_ + "/log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
	int err;

	options_ = options;
	/* --sync-parent: if the test dies, so does the daemon. */
	for (const std::string &arg : {std::string(daemon_path), std::string("-s"), options.name, std::string("-r"),
		     dir_ + "/root", std::string("-S"), socket_dir(), "--workers=" + std::to_string(options.workers),
		     std::string("--ready-fd=3"), std::string("--sync-parent")})
		args.push_back(arg);
	args.insert(args.end(), options.more.begin(), options.more.end());
	for (std::string &arg : args)
		argv.push_back(arg.data());
	argv.push_back(nullptr);

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, log_file, STDERR_FILENO);
	posix_spawn_file_actions_adddup2(&actions, ready.in, READY_FD);
	err = posix_spawnp(&pid_, argv[0], &actions, nullptr, argv.data(), environ);
	posix_spawn_file_actions_destroy(&actions);
	if (err != 0) {
		ADD_FAILURE() << argv[0] << ": " << strerror(err);
		pid_ = -1;
		return err;
	}
	ready.in.reset();
	return read_status(ready.out);
}

// The first of that name from there on down; -1.
static pid_t find_daemon(pid_t from)
{
	if (read_whole("/proc/" + std::to_string(from) + "/comm") == "sendfiled\n")
		return from;
	for (pid_t child : children_of(from)) {
		const pid_t found = find_daemon(child);

		if (found > 0)
			return found;
	}
	return -1;
}

pid_t Daemon::master() const
{
	/* The wrapper may have become the daemon, by exec(3). */
	return options_.wrapper.empty() || pid_ <= 0 ? pid_ : find_daemon(pid_);
}

/* To kill(2), -1 is everybody. */
bool Daemon::signal(int signo) const
{
	const pid_t pid = master();

	return pid > 0 && kill(pid, signo) == 0;
}

// Workers are called "sendfiled-w" and their number.
static bool is_worker(const std::string &name)
{
	static const std::string prefix = "sendfiled-w";

	return name.compare(0, prefix.size(), prefix) == 0 && name.size() > prefix.size() &&
	       isdigit(name[prefix.size()]);
}

// What else the master has started are helpers.
static bool is_helper(const std::string &name)
{
	return !is_worker(name) && name != "sendfiled-log\n";
}

static std::vector<pid_t> children_named(pid_t parent, bool fits(const std::string &))
{
	std::vector<pid_t> out;

	for (pid_t pid : children_of(parent)) {
		if (fits(read_whole("/proc/" + std::to_string(pid) + "/comm")))
			out.push_back(pid);
	}
	return out;
}

std::vector<pid_t> workers_of(pid_t master)
{
	return children_named(master, is_worker);
}

std::vector<pid_t> Daemon::workers() const
{
	return workers_of(master());
}

std::vector<pid_t> Daemon::helpers() const
{
	return children_named(master(), is_helper);
}

std::vector<size_t> Daemon::worker_fds() const
{
	std::vector<size_t> out;

	for (pid_t pid : workers())
		out.push_back(count_fds(std::to_string(pid)));
	std::sort(out.begin(), out.end());
	return out;
}

int Daemon::connect() const
{
	return sfd_connect(socket_dir().c_str(), options_.name.c_str());
}

std::string Daemon::log() const
{
	return read_whole(dir_ + "/log");
}

bool Daemon::await_log(const std::string &text, milliseconds patience) const
{
	return eventually([&] { return log().find(text) != std::string::npos; }, patience);
}

int Daemon::stop(int signo)
{
	int status = -1;

	if (pid_ <= 0)
		return -1;
	if (signo == SIGKILL || !signal(signo))
		kill(pid_, signo);
	if (!await_exit(pid_, &status)) {
		ADD_FAILURE() << "the daemon does not leave on signal " << signo << "; its log:\n" << log();
		kill(pid_, SIGKILL);
		waitpid(pid_, &status, 0);
		status = -1;
	}
	pid_ = -1;
	return status;
}
