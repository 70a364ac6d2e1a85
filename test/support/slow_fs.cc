// SPDX-License-Identifier: BSD-2-Clause
#include "test/support/slow_fs.h"

#include "test/support/files.h"
#include "test/support/run.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdexcept>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

static const char *const server_path = BUILD_DIR "/test/support/slowfs";

/* A file system may be mounted there several times. */
static bool is_mounted(const std::string &mount_point)
{
	return read_whole("/proc/self/mounts").find(" " + mount_point + " ") != std::string::npos;
}

bool SlowFs::is_root()
{
	return geteuid() == 0;
}

bool SlowFs::required()
{
	const char *value = getenv("REQUIRE_FUSE");

	return value && strcmp(value, "1") == 0;
}

/* Only trying tells: root may lack the right in a container, and others may have it through fusermount3. */
static std::string try_it()
{
	const Fd device(open("/dev/fuse", O_RDWR | O_CLOEXEC));

	if (device < 0)
		return std::string("/dev/fuse: ") + strerror(errno);
	if (geteuid() != 0 && exit_status(run({"fusermount3", "--version"})) != 0)
		return "neither root nor fusermount3";
	try {
		const TempDir dir;
		SlowFs fs(dir.path() + "/mnt");
	} catch (const std::exception &e) {
		return e.what();
	}
	return "";
}

bool SlowFs::available(std::string *why)
{
	static const std::string reason = try_it();

	*why = reason;
	return reason.empty();
}

SlowFs::SlowFs(std::string mount_point, bool allow_other) : mount_point_(std::move(mount_point))
{
	mkdir(mount_point_.c_str(), 0755);
	try {
		start(allow_other);
	} catch (...) {
		stop();
		throw;
	}
}

SlowFs::~SlowFs()
{
	std::string complaint;

	try {
		release();
	} catch (const std::exception &e) {
		complaint = e.what();
	}
	const int status = stop();
	if (complaint.empty() && status != 0)
		complaint = "the server of " + mount_point_ + " ended with status " + std::to_string(status);
	if (!complaint.empty())
		ADD_FAILURE() << complaint;
}

void SlowFs::start(bool allow_other)
{
	/* A socket rather than pipes: one can write to it without a signal if the server is gone. */
	Ends ends = make_socketpair(SOCK_STREAM);
	std::string program = server_path, where = mount_point_, option = "--allow-other";
	char *argv[] = {program.data(), where.data(), allow_other ? option.data() : nullptr, nullptr};
	posix_spawn_file_actions_t actions;
	int err;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, ends.out, STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, ends.out, STDOUT_FILENO);
	err = posix_spawn(&pid_, argv[0], &actions, nullptr, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (err != 0) {
		pid_ = -1;
		throw std::runtime_error(program + ": " + strerror(err));
	}
	server_ = std::move(ends.in);
	ends.out.reset();
	const std::string first = read_line(PATIENCE);
	if (first != "ready")
		throw std::runtime_error(program + ": " + first);
}

/* The server's status as of waitpid(2). */
int SlowFs::stop()
{
	int status = -1;

	/* Also if a child of ours has a copy of it. */
	shutdown(server_, SHUT_WR);
	if (pid_ > 0 && !await_exit(pid_, &status)) {
		ADD_FAILURE() << "the server of " << mount_point_ << " does not end";
		kill(pid_, SIGKILL);
		waitpid(pid_, &status, 0);
	}
	pid_ = -1;
	server_.reset();
	/* Without a server it is of no use, and would keep the directory from being removed. */
	if (is_mounted(mount_point_) && umount2(mount_point_.c_str(), MNT_DETACH) < 0)
		run({"fusermount3", "-u", "-z", mount_point_});
	if (is_mounted(mount_point_))
		ADD_FAILURE() << mount_point_ << " is left mounted";
	return status;
}

std::string SlowFs::read_line(milliseconds patience)
{
	const Deadline deadline(patience);
	size_t end;

	while ((end = unread_.find('\n')) == std::string::npos) {
		char buf[512];

		if (::await(server_, POLLIN, milliseconds(deadline.left_ms())) == 0)
			throw std::runtime_error("the server of " + mount_point_ + " does not answer");
		const ssize_t n = read(server_, buf, sizeof buf);
		if (n <= 0)
			throw std::runtime_error("the server of " + mount_point_ + " has ended");
		unread_.append(buf, static_cast<size_t>(n));
	}
	const std::string line = unread_.substr(0, end);
	unread_.erase(0, end + 1);
	return line;
}

std::string SlowFs::ask(const std::string &line, milliseconds patience)
{
	const std::lock_guard<std::mutex> guard(mutex_);
	const std::string whole = line + "\n";

	try {
		if (send(server_, whole.data(), whole.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(whole.size()))
			throw std::runtime_error("the server of " + mount_point_ + " has ended");
		return read_line(patience);
	} catch (...) {
		/* An answer that comes late must not be taken for that to another command. */
		shutdown(server_, SHUT_RDWR);
		throw;
	}
}

uint64_t SlowFs::command(const std::string &line, milliseconds patience)
{
	const std::string answer = ask(line, patience);

	if (answer.compare(0, 2, "ok") != 0)
		throw std::runtime_error(line + ": " + answer);
	return answer.size() > 3 ? std::stoull(answer.substr(3)) : 0;
}

/* A path may be missing. */
static std::string with_path(const std::string &line, const std::string &name)
{
	return name.empty() ? line : line + " " + name;
}

void SlowFs::add(const std::string &name, uint64_t size, uint64_t seed)
{
	command("add " + name + " " + std::to_string(size) + " " + std::to_string(seed));
}

void SlowFs::truncate(const std::string &name, uint64_t size)
{
	command("truncate " + name + " " + std::to_string(size));
}

void SlowFs::hold(const std::string &op, const std::string &name)
{
	command(with_path("hold " + op, name));
}

void SlowFs::release(const std::string &op, const std::string &name)
{
	command(with_path("release " + op, name));
}

uint64_t SlowFs::step(const std::string &op, uint64_t n, const std::string &name)
{
	return command(with_path("step " + op + " " + std::to_string(n), name));
}

void SlowFs::delay(const std::string &op, milliseconds by, const std::string &name)
{
	command(with_path("delay " + op + " " + std::to_string(by.count()), name));
}

void SlowFs::fail(const std::string &op, int err, const std::string &name)
{
	command(with_path("fail " + op + " " + std::to_string(err), name));
}

uint64_t SlowFs::await(const std::string &op, uint64_t n, const std::string &name, milliseconds patience)
{
	const std::string ms = std::to_string(std::max<long>(patience.count(), 1));

	/* The server says when that time is over, so we wait a little longer for it to say so. */
	return command(with_path("await " + op + " " + std::to_string(n) + " " + ms, name), patience + PATIENCE);
}

uint64_t SlowFs::count(const std::string &op, const std::string &name)
{
	return command(with_path("count " + op, name));
}

uint64_t SlowFs::held(const std::string &op, const std::string &name)
{
	return command(with_path("held " + op, name));
}

void SlowFs::cache(unsigned seconds)
{
	command("timeout " + std::to_string(seconds));
}

void SlowFs::direct_io(bool on)
{
	command(std::string("direct_io ") + (on ? "on" : "off"));
}

void SlowFs::keep_cache(bool on)
{
	command(std::string("keep_cache ") + (on ? "on" : "off"));
}

void SlowFs::abort()
{
	command("abort");
}
