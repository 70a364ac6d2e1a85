// SPDX-License-Identifier: BSD-2-Clause
// The daemon as a program: what it says, how it exits, what it leaves behind.
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <functional>
#include <grp.h>
#include <iterator>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <sstream>
#include <string>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace
{

namespace fs = std::filesystem;
using Args = std::vector<std::string>;
using Clock = std::chrono::steady_clock;

const char daemon_path[] = BUILD_DIR "/sendfiled";
const uid_t some_uid = 54321, some_gid = 54322; /* nobody's in particular */

enum {
	TEST_SECONDS = 60,
	WAIT_SECONDS = 20,
	READY_FD = 9,
};

bool eventually(const std::function<bool()> &holds)
{
	const auto deadline = Clock::now() + std::chrono::seconds(WAIT_SECONDS);

	while (!holds()) {
		if (Clock::now() > deadline)
			return false;
		std::this_thread::sleep_for(std::chrono::milliseconds(5));
	}
	return true;
}

std::string slurp(const std::string &path)
{
	std::ifstream in(path, std::ios::binary);

	return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// The processes that this one is the parent of, or has become so because theirs ended.
std::vector<pid_t> children_of(pid_t pid)
{
	std::istringstream in(slurp("/proc/" + std::to_string(pid) + "/task/" + std::to_string(pid) + "/children"));

	return {std::istream_iterator<pid_t>(in), std::istream_iterator<pid_t>()};
}

bool writes_the_log(pid_t pid)
{
	return slurp("/proc/" + std::to_string(pid) + "/comm") == "sendfiled-log\n";
}

std::vector<pid_t> workers_of(pid_t pid)
{
	std::vector<pid_t> out = children_of(pid);

	out.erase(std::remove_if(out.begin(), out.end(), writes_the_log), out.end());
	return out;
}

// That descriptor of a daemon's process leads nowhere; or, all but the one that writes the log, to that one.
void expect_leads_nowhere(pid_t pid, int fd)
{
	const std::string target = fs::read_symlink("/proc/" + std::to_string(pid) + "/fd/" + std::to_string(fd));

	EXPECT_EQ(fd == STDERR_FILENO && !writes_the_log(pid) ? "socket:" : "/dev/null",
		target.substr(0, target.find('[')))
		<< pid << ' ' << fd;
}

bool is_running(pid_t pid)
{
	return kill(pid, 0) == 0;
}

// A line of /proc/PID/status without its name: "Uid", "Groups"...
std::string status_of(pid_t pid, const std::string &field)
{
	std::istringstream in(slurp("/proc/" + std::to_string(pid) + "/status"));
	std::string line, word, out;

	while (std::getline(in, line)) {
		if (line.compare(0, field.size() + 1, field + ":") != 0)
			continue;
		std::istringstream words(line.substr(field.size() + 1));
		while (words >> word)
			out += (out.empty() ? "" : " ") + word;
	}
	return out;
}

std::string four_times(unsigned id)
{
	const std::string s = std::to_string(id);

	return s + " " + s + " " + s + " " + s;
}

// Waits for a child: its status as of waitpid(2), or -1 if it did not end in time.
int wait_for(pid_t pid)
{
	int status = -1;

	if (!eventually([&] { return waitpid(pid, &status, WNOHANG) == pid; }))
		ADD_FAILURE() << "process " << pid << " does not end";
	return status;
}

int exit_status(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

// What ended: its exit status (1000 and the signal's number if it was killed) and what it said.
struct Result {
	int status;
	std::string out, err;
};

bool is_one_line(const std::string &s)
{
	return s.size() > 1 && std::count(s.begin(), s.end(), '\n') == 1 && s.back() == '\n';
}

// What a daemon said but for the line that tells what its root directory is.
std::string without_root(const std::string &said)
{
	const size_t at = said.find(": root /");
	const size_t begin = at == std::string::npos ? at : said.rfind('\n', at) + 1;

	if (begin == std::string::npos)
		return said;
	return said.substr(0, begin) + said.substr(said.find('\n', at) + 1);
}

void on_alarm(int)
{
	static const char text[] = "cli_test: ran out of time\n";

	/* Our own process group: every process that a test started, except those with a session of their own. */
	(void)!write(STDERR_FILENO, text, sizeof text - 1);
	signal(SIGTERM, SIG_IGN);
	kill(0, SIGTERM);
	_exit(124);
}

class Cli : public testing::Test
{
      protected:
	static void SetUpTestSuite()
	{
		/* Whatever a daemon in the background leaves behind becomes ours, and is found. */
		prctl(PR_SET_CHILD_SUBREAPER, 1);
		setpgid(0, 0);
		signal(SIGALRM, on_alarm);
		signal(SIGPIPE, SIG_DFL);
	}

	void SetUp() override
	{
		char path[] = "/tmp/sfd-cli.XXXXXX";

		ASSERT_NE(nullptr, mkdtemp(path));
		dir_ = path;
		ASSERT_EQ(0, chmod(path, 0755));
		root_ = dir_ + "/root";
		sock_ = dir_ + "/sock";
		fs::create_directory(root_);
		fs::create_directory(sock_);
		std::ofstream(dir_ + "/file") << "a file\n";
		unsetenv("XDG_RUNTIME_DIR");
		alarm(TEST_SECONDS);
	}

	void TearDown() override
	{
		for (pid_t pid : started_)
			kill(pid, SIGTERM);
		for (pid_t pid : started_)
			wait_for(pid);
		/* A worker may outlive its killed master by a moment. */
		if (!eventually([] {
			    while (waitpid(-1, nullptr, WNOHANG) > 0)
				    continue;
			    return children_of(getpid()).empty();
		    })) {
			for (pid_t pid : children_of(getpid())) {
				ADD_FAILURE() << "left behind: process " << pid;
				kill(pid, SIGKILL);
				waitpid(pid, nullptr, 0);
			}
		}
		alarm(0);
		fs::remove_all(dir_);
	}

	std::string out() const
	{
		return slurp(dir_ + "/out");
	}
	std::string err() const
	{
		return slurp(dir_ + "/err");
	}

	// Starts the daemon's program; what it says goes to the files `out` and `err`. `prepare` runs in the new process.
	pid_t start(const Args &args, const std::function<void()> &prepare = nullptr)
	{
		const int flags = O_WRONLY | O_CREAT | O_APPEND | O_TRUNC | O_CLOEXEC;
		int o = open((dir_ + "/out").c_str(), flags, 0644), e = open((dir_ + "/err").c_str(), flags, 0644);
		int program = open(daemon_path, O_RDONLY | O_CLOEXEC);
		std::vector<char *> argv;
		pid_t pid;

		argv.push_back(const_cast<char *>("sendfiled"));
		for (const auto &a : args)
			argv.push_back(const_cast<char *>(a.c_str()));
		argv.push_back(nullptr);
		pid = fork();
		if (pid == 0) {
			signal(SIGALRM, SIG_DFL);
			dup2(o, STDOUT_FILENO);
			dup2(e, STDERR_FILENO);
			if (prepare)
				prepare();
			/* Should this program crash, its daemons go too. (Those of a child's end as their test says.) */
			if (getppid() == test_pid_)
				prctl(PR_SET_PDEATHSIG, SIGTERM);
			/* By descriptor: another user may not reach the build directory. */
			if (geteuid() != 0)
				fexecve(program, argv.data(), environ);
			execv(daemon_path, argv.data());
			_exit(127);
		}
		close(o);
		close(e);
		close(program);
		return pid;
	}

	Result run(const Args &args, const std::function<void()> &prepare = nullptr)
	{
		int status = wait_for(start(args, prepare));

		return {exit_status(status), out(), err()};
	}

	// The same, with what it writes to --ready-fd: the bytes until end-of-file.
	pid_t start_and_wait(Args args, std::string *announced, const std::function<void()> &prepare = nullptr)
	{
		char buf[64];
		int ends[2];
		ssize_t n;
		pid_t pid;

		EXPECT_EQ(0, pipe2(ends, O_CLOEXEC));
		args.push_back("--ready-fd=" + std::to_string(READY_FD));
		pid = start(args, [&] {
			dup2(ends[1], READY_FD);
			if (prepare)
				prepare();
		});
		close(ends[1]);
		while ((n = read(ends[0], buf, sizeof buf)) > 0)
			announced->append(buf, static_cast<size_t>(n));
		close(ends[0]);
		return pid;
	}

	// A daemon that serves: started in the foreground, stopped when the test ends.
	pid_t start_daemon(const Args &more = {}, const std::function<void()> &prepare = nullptr)
	{
		Args args = daemon_args();
		std::string announced;
		pid_t pid;

		args.insert(args.end(), more.begin(), more.end());
		pid = start_and_wait(args, &announced, prepare);
		EXPECT_EQ(std::string(sizeof(int), '\0'), announced) << err();
		started_.push_back(pid);
		return pid;
	}

	Args daemon_args() const
	{
		return {"-s", "test", "-r", root_, "-S", sock_, "--workers", "2", "-n", "50"};
	}
	Args ping_args() const
	{
		return {"-s", "test", "-S", sock_, "--ping"};
	}
	std::string socket_path() const
	{
		return sock_ + "/sendfiled.test.socket";
	}

	// Ends a daemon and returns its exit status.
	int stop(pid_t pid, int signo = SIGTERM)
	{
		started_.erase(std::remove(started_.begin(), started_.end(), pid), started_.end());
		kill(pid, signo);
		return exit_status(wait_for(pid));
	}

	// An error as every error has to be: that exit status, nothing on stdout, one line on stderr that names the problem.
	void expect_error(
		int status, const Args &args, const std::string &names, const std::function<void()> &prepare = nullptr)
	{
		const Result r = run(args, prepare);
		std::string line = "sendfiled";

		for (const auto &a : args)
			line += " " + a;
		EXPECT_EQ(status, r.status) << line << "\n" << r.err;
		EXPECT_EQ("", r.out) << line;
		EXPECT_TRUE(is_one_line(r.err)) << line << "\n" << r.err;
		EXPECT_EQ(0u, r.err.find("sendfiled")) << line << "\n" << r.err;
		EXPECT_NE(std::string::npos, r.err.find(names)) << line << "\n" << r.err << "does not name " << names;
		EXPECT_TRUE(fs::is_empty(sock_)) << line << ": something was left in the socket directory";
	}

	std::string dir_, root_, sock_;

      private:
	const pid_t test_pid_ = getpid();
	std::vector<pid_t> started_;
};

void become_ordinary()
{
	if (geteuid() == 0 && (setgroups(0, nullptr) < 0 || setresgid(some_gid, some_gid, some_gid) < 0 ||
				      setresuid(some_uid, some_uid, some_uid) < 0))
		_exit(126);
}

void give_to_ordinary(const std::string &path)
{
	if (geteuid() == 0) {
		ASSERT_EQ(0, chown(path.c_str(), some_uid, some_gid));
	}
}

// ---- Errors

TEST_F(Cli, UsageErrors)
{
	expect_error(EX_USAGE, {}, "-s");
	expect_error(EX_USAGE, {"-s", "test"}, "-r");
	expect_error(EX_USAGE, {"-r", root_}, "-s");
	expect_error(EX_USAGE, {"-s", "test", "-r", root_, "-x"}, "-x");
	expect_error(EX_USAGE, {"-s", "test", "-r", root_, "--nonsense=1"}, "--nonsense");
	expect_error(EX_USAGE, {"-s", "test", "-r"}, "-r");
	expect_error(EX_USAGE, {"-s", "test", "-r", root_, "-n", "0"}, "--max-transfers");
	expect_error(EX_USAGE, {"-s", "test", "-r", root_, "-t", "soon"}, "--open-timeout");
	expect_error(EX_USAGE, {"-s", "test", "-r", root_, "--workers=65"}, "--workers");
	expect_error(EX_USAGE, {"-s", "test", "-r", root_, "--ready-fd=2"}, "--ready-fd");
	expect_error(EX_USAGE, {"-s", "test", "-r", root_, "extra"}, "extra");
	expect_error(EX_USAGE, {"-s", "a/b", "-r", root_}, "a/b");
	expect_error(EX_USAGE, {"-s", "", "-r", root_}, "name");
	expect_error(EX_USAGE, {"--ping"}, "-s");
}

TEST_F(Cli, RootDirectoryErrors)
{
	expect_error(EX_CONFIG, {"-s", "test", "-r", dir_ + "/missing", "-S", sock_}, dir_ + "/missing");
	expect_error(EX_CONFIG, {"-s", "test", "-r", dir_ + "/file", "-S", sock_}, dir_ + "/file");
	expect_error(EX_CONFIG, {"-s", "test", "-r", "", "-S", sock_}, "root");
}

TEST_F(Cli, SocketDirectoryErrors)
{
	const std::string longest(200, 'x');
	const std::string name(90, 'n');

	expect_error(EX_CONFIG, {"-s", "test", "-r", root_, "-S", dir_ + "/missing"}, dir_ + "/missing");
	expect_error(EX_CONFIG, {"-s", "test", "-r", root_, "-S", dir_ + "/file"}, dir_ + "/file");
	expect_error(EX_CONFIG, {"-s", "test", "-r", root_, "-S", "/tmp/" + longest}, "-S");
	expect_error(EX_CONFIG, {"-s", name, "-r", root_, "-S", sock_}, "107");
	expect_error(EX_CONFIG, {"-s", std::string(600, 'n'), "-r", root_, "-S", sock_}, "shorter -S or -s");
	expect_error(EX_CONFIG, {"-s", "test", "-S", "/tmp/" + longest, "--ping"}, "-S");
}

TEST_F(Cli, AnOrdinaryUserWithoutADefaultDirectory)
{
	expect_error(EX_CONFIG, {"-s", "test", "-r", root_}, "XDG_RUNTIME_DIR", become_ordinary);
	expect_error(EX_CONFIG, {"-s", "test", "--ping"}, "XDG_RUNTIME_DIR", become_ordinary);
}

TEST_F(Cli, UserErrors)
{
	const Args args = {"-s", "test", "-r", root_, "-S", sock_};
	const auto with = [&](const char *option, const char *value) {
		Args a = args;

		a.insert(a.end(), {option, value});
		return a;
	};

	expect_error(EX_CONFIG, with("-u", "no-such-user-here"), "no-such-user-here");
	expect_error(EX_CONFIG, with("-g", "no-such-group-here"), "no-such-group-here");
	expect_error(EX_CONFIG, with("-u", ""), "user");
	expect_error(EX_CONFIG, with("-u", "root"), "root");
	expect_error(EX_CONFIG, with("-u", "0"), "root");
	expect_error(EX_CONFIG, with("-g", "0"), "root");
	expect_error(EX_CONFIG, with("-u", "1"), "-u", become_ordinary);
	expect_error(EX_CONFIG, with("-u", "root"), "-u", become_ordinary);
}

// It is read by programs too: a status that depends on who listens would mislead them.
TEST_F(Cli, NobodyHearsTheComplaint)
{
	const auto deaf = [] {
		int ends[2];

		if (pipe(ends) < 0)
			_exit(126);
		dup2(ends[1], STDERR_FILENO);
		close(ends[0]);
		close(ends[1]);
	};

	EXPECT_EQ(EX_USAGE, run({"-x"}, deaf).status);
	EXPECT_EQ(EX_CONFIG, run({"-s", "test", "-r", dir_ + "/missing", "-S", sock_}, deaf).status);
	EXPECT_EQ(EX_UNAVAILABLE, run(ping_args(), deaf).status);
}

// ---- Help, version, ping

TEST_F(Cli, Help)
{
	const Result r = run({"--help"});

	EXPECT_EQ(0, r.status);
	EXPECT_EQ(0u, r.out.find("usage: sendfiled "));
	EXPECT_NE(std::string::npos, r.out.find("--max-transfers"));
	EXPECT_EQ("", r.err);
}

TEST_F(Cli, Version)
{
	const Result r = run({"--version"});

	EXPECT_EQ(0, r.status);
	EXPECT_EQ("sendfiled " SFD_VERSION "\n", r.out);
	EXPECT_EQ("", r.err);
}

TEST_F(Cli, PingWithoutADaemon)
{
	expect_error(EX_UNAVAILABLE, ping_args(), "test");
	expect_error(EX_UNAVAILABLE, {"-s", "test", "-S", dir_ + "/missing", "--ping"}, "test");
}

TEST_F(Cli, PingOfADaemonThatServes)
{
	start_daemon();
	const Result r = run(ping_args());

	EXPECT_EQ(0, r.status) << r.err;
	EXPECT_TRUE(is_one_line(r.out)) << r.out;
	EXPECT_NE(std::string::npos, r.out.find("test"));
	EXPECT_EQ("", r.err);
}

TEST_F(Cli, PingOfAStaleSocket)
{
	pid_t pid = start_daemon();

	EXPECT_EQ(1000 + SIGKILL, stop(pid, SIGKILL));
	ASSERT_TRUE(fs::exists(socket_path()));
	ASSERT_TRUE(eventually([&] { return run(ping_args()).status == EX_UNAVAILABLE; }));
	EXPECT_TRUE(is_one_line(err())) << err();
}

// Up is not enough: it must serve.
TEST_F(Cli, PingOfADaemonThatDoesNotServe)
{
	pid_t pid = start_daemon();
	const std::vector<pid_t> workers = workers_of(pid);
	const auto begin = Clock::now();

	ASSERT_EQ(2u, workers.size());
	for (pid_t w : workers)
		kill(w, SIGSTOP);
	const Result r = run(ping_args());
	for (pid_t w : workers)
		kill(w, SIGCONT);
	EXPECT_EQ(EX_UNAVAILABLE, r.status);
	EXPECT_TRUE(is_one_line(r.err)) << r.err;
	EXPECT_LT(Clock::now() - begin, std::chrono::seconds(10));
	EXPECT_EQ(0, run(ping_args()).status) << "it goes on where it was stopped";
}

// ---- Living and leaving

TEST_F(Cli, ServesInTheForegroundAndSaysSo)
{
	pid_t pid = start_daemon();

	const std::string said = err();

	EXPECT_EQ(0u, said.find("sendfiled[test]: root " + dir_ + "/root: ")) << said;
	EXPECT_NE(std::string::npos, said.find("\nsendfiled[test]: ready\n")) << said;
	EXPECT_EQ(2, std::count(said.begin(), said.end(), '\n')) << said;
	EXPECT_EQ("", out());
	EXPECT_EQ(2u, workers_of(pid).size());
}

TEST_F(Cli, OneWorkerForEachProcessorUnlessToldOtherwise)
{
	const long online = sysconf(_SC_NPROCESSORS_ONLN);
	std::string announced;
	pid_t pid = start_and_wait({"-s", "test", "-r", root_, "-S", sock_}, &announced);

	EXPECT_EQ(static_cast<size_t>(std::min(online, 64L)), workers_of(pid).size());
	EXPECT_EQ(0, stop(pid));
	pid = start_and_wait({"-s", "test", "-r", root_, "-S", sock_, "--workers=5"}, &announced);
	EXPECT_EQ(5u, workers_of(pid).size());
	EXPECT_EQ(0, stop(pid));
}

TEST_F(Cli, LeavesNothingBehind)
{
	for (int signo : {SIGTERM, SIGINT}) {
		pid_t pid = start_daemon();
		const std::vector<pid_t> workers = workers_of(pid);

		ASSERT_TRUE(fs::exists(socket_path()));
		EXPECT_EQ(0, stop(pid, signo));
		EXPECT_TRUE(fs::is_empty(sock_)) << "after signal " << signo;
		for (pid_t w : workers)
			EXPECT_FALSE(is_running(w)) << "worker " << w;
	}
}

TEST_F(Cli, TheSocketIsPrivate)
{
	struct stat st;

	start_daemon(geteuid() == 0 ? Args{"-u", std::to_string(some_uid)} : Args{}, [] { umask(0); });
	ASSERT_EQ(0, stat(socket_path().c_str(), &st));
	EXPECT_TRUE(S_ISSOCK(st.st_mode));
	EXPECT_EQ(0600u, st.st_mode & 07777);
	EXPECT_EQ(geteuid() == 0 ? some_uid : geteuid(), st.st_uid);
}

TEST_F(Cli, ASecondDaemonOfTheSameNameLeavesTheFirstAlone)
{
	pid_t first = start_daemon();
	struct stat before, after;

	ASSERT_EQ(0, stat(socket_path().c_str(), &before));
	for (int i = 0; i < 3; i++) {
		const Result r = run(daemon_args());

		EXPECT_EQ(EX_UNAVAILABLE, r.status);
		EXPECT_TRUE(is_one_line(r.err)) << r.err;
		EXPECT_NE(std::string::npos, r.err.find("'test'")) << r.err;
	}
	ASSERT_EQ(0, stat(socket_path().c_str(), &after));
	EXPECT_EQ(before.st_ino, after.st_ino);
	EXPECT_TRUE(is_running(first));
	EXPECT_EQ(2u, workers_of(first).size());
	EXPECT_EQ(0, run(ping_args()).status);
	EXPECT_EQ(0, stop(first));
	EXPECT_TRUE(fs::is_empty(sock_));
}

TEST_F(Cli, TwoDaemonsOfDifferentNames)
{
	std::string announced;

	start_daemon();
	pid_t other = start_and_wait({"-s", "other", "-r", root_, "-S", sock_, "--workers=1"}, &announced);
	EXPECT_EQ(0, run(ping_args()).status);
	EXPECT_EQ(0, run({"-s", "other", "-S", sock_, "--ping"}).status);
	EXPECT_EQ(0, stop(other));
	EXPECT_EQ(0, run(ping_args()).status) << "the other one's end is not its own";
}

TEST_F(Cli, AStaleSocketIsTakenOver)
{
	pid_t pid = start_daemon();

	EXPECT_EQ(1000 + SIGKILL, stop(pid, SIGKILL));
	ASSERT_TRUE(fs::exists(socket_path()));
	pid = start_daemon();
	EXPECT_EQ(0, run(ping_args()).status);
	EXPECT_EQ(0, stop(pid));
	EXPECT_TRUE(fs::is_empty(sock_));
}

// Its workers may still be there when its successor starts.
TEST_F(Cli, WorkersLeaveWhenTheirMasterIsKilled)
{
	pid_t pid = start_daemon();
	const std::vector<pid_t> workers = workers_of(pid);

	ASSERT_EQ(2u, workers.size());
	EXPECT_EQ(1000 + SIGKILL, stop(pid, SIGKILL));
	for (pid_t w : workers)
		EXPECT_EQ(0, exit_status(wait_for(w))) << "they have become our children";
}

TEST_F(Cli, AKilledWorkerIsReplaced)
{
	pid_t pid = start_daemon();
	const std::vector<pid_t> workers = workers_of(pid);

	ASSERT_EQ(2u, workers.size());
	kill(workers[0], SIGKILL);
	ASSERT_TRUE(eventually([&] {
		const auto now = workers_of(pid);

		return now.size() == 2 && std::find(now.begin(), now.end(), workers[0]) == now.end();
	}));
	const auto now = workers_of(pid);
	EXPECT_NE(now.end(), std::find(now.begin(), now.end(), workers[1])) << "the other one was left alone";
	EXPECT_TRUE(eventually([&] { return err().find("killed by signal 9") != std::string::npos; })) << err();
	EXPECT_EQ(0, run(ping_args()).status);
}

TEST_F(Cli, Usr1LogsTheCounters)
{
	pid_t pid = start_daemon();
	const std::string log = dir_ + "/log";
	std::string counters;

	for (int i = 0; i < 3; i++) {
		/* run() would write over the daemon's log, which is the same file. */
		fs::rename(dir_ + "/err", log);
		ASSERT_EQ(0, run(ping_args()).status);
		fs::rename(log, dir_ + "/err");
	}
	kill(pid, SIGUSR1);
	ASSERT_TRUE(eventually([&] { return err().find("counters:") != std::string::npos; })) << err();
	ASSERT_TRUE(eventually([&] { return err().find("helpers:") != std::string::npos; })) << err();
	counters = err().substr(err().find("counters:"));
	for (const char *count : {" hot_turns=0 ", " cold_turns=0 ", " opens.cold=0 ", " opens.link=0 ",
		     " opens.missing=0 ", " opens.leased=0 ", " jobs.read=0 ", " stuck.readers=0 ", " jobs_lost=0 "})
		EXPECT_NE(std::string::npos, counters.find(count)) << count << " is not in " << counters;
	for (const char *count :
		{" active=0 ", " requests=3 ", " bytes=0 ", " fallbacks=0 ", " restarts=0 ", " outcome.0=3"})
		EXPECT_NE(std::string::npos, counters.find(count)) << count << " is not in " << counters;
	EXPECT_TRUE(is_running(pid));
}

TEST_F(Cli, Usr1CountsRestarts)
{
	pid_t pid = start_daemon();

	std::this_thread::sleep_for(std::chrono::milliseconds(1100)); /* who dies older than that is replaced at once */
	const std::vector<pid_t> before = workers_of(pid);
	kill(before.at(0), SIGKILL);
	/* Who died counts until it is reaped, which is before its replacement is forked and counted. */
	ASSERT_TRUE(eventually([&] {
		const std::vector<pid_t> now = workers_of(pid);
		return now.size() == before.size() && std::count(now.begin(), now.end(), before[0]) == 0;
	}));
	kill(pid, SIGUSR1);
	EXPECT_TRUE(eventually([&] { return err().find(" restarts=1") != std::string::npos; })) << err();
}

TEST_F(Cli, HangupEndsNothing)
{
	pid_t pid = start_daemon();

	kill(pid, SIGHUP);
	std::this_thread::sleep_for(std::chrono::milliseconds(50));
	EXPECT_TRUE(is_running(pid));
	EXPECT_EQ(0, run(ping_args()).status);
}

// ---- In the background

// Of its own: a private /dev with a system log in it, which is this test.
class SystemLog : public Cli
{
      protected:
	void SetUp() override
	{
		Cli::SetUp();
		if (geteuid() != 0)
			GTEST_SKIP() << "only root can give the daemon another /dev/log";
		sockaddr_un sa = {};

		fs::create_directory(dir_ + "/dev");
		std::ofstream(dir_ + "/dev/null");
		sa.sun_family = AF_UNIX;
		snprintf(sa.sun_path, sizeof sa.sun_path, "%s/dev/log", dir_.c_str());
		log_ = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		ASSERT_EQ(0, bind(log_, reinterpret_cast<sockaddr *>(&sa), sizeof sa));
		ASSERT_EQ(0, chmod(sa.sun_path, 0666));
	}
	void TearDown() override
	{
		if (log_ >= 0)
			close(log_);
		Cli::TearDown();
	}

	// In the daemon, before it is one.
	void use_own_dev() const
	{
		const std::string dev = dir_ + "/dev";

		if (unshare(CLONE_NEWNS) < 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0 ||
			mount("/dev/null", (dev + "/null").c_str(), nullptr, MS_BIND, nullptr) < 0 ||
			mount(dev.c_str(), "/dev", nullptr, MS_BIND | MS_REC, nullptr) < 0)
			_exit(126);
	}

	// The next line with that in it.
	std::string await_line(const std::string &part) const
	{
		pollfd p = {log_, POLLIN, 0};
		char line[4096];

		while (poll(&p, 1, 10000) > 0) {
			const ssize_t n = recv(log_, line, sizeof line, 0);
			const std::string got(line, static_cast<size_t>(n > 0 ? n : 0));

			if (got.find(part) != std::string::npos)
				return got;
		}
		return "";
	}

	int log_ = -1;
};

TEST_F(SystemLog, GetsTheLinesOfADaemonInTheBackground)
{
	Args args = daemon_args();

	args.push_back("-d");
	ASSERT_EQ(0, run(args, [this] { use_own_dev(); }).status) << err();
	EXPECT_NE(std::string::npos, err().find("ready\n")) << "until it serves, standard error gets them";
	const pid_t daemon = children_of(getpid()).at(0);
	kill(daemon, SIGUSR1);
	EXPECT_EQ(0U, await_line("counters: ").find("<30>sendfiled[test]: counters: ")); /* daemon.info */
	kill(workers_of(daemon).at(0), SIGKILL);
	EXPECT_EQ(0U, await_line("killed by signal 9").find("<28>sendfiled[test]: worker 0 ")); /* daemon.warning */
	/* Nobody reads: it is told of what was lost, and not waited for. */
	for (int i = 0; i < 300; i++) {
		kill(daemon, SIGUSR1);
		ASSERT_EQ(0, i % 100 == 0 ? run(ping_args()).status : 0) << err();
		std::this_thread::sleep_for(std::chrono::milliseconds(1)); /* signals that come together are one */
	}
	EXPECT_NE("", await_line("counters: "));
	for (bool told = false; !told;) {
		kill(daemon, SIGUSR1);
		const std::string line = await_line("");

		ASSERT_NE("", line);
		told = line.find("lines lost, because the log was full: ") != std::string::npos;
	}
	EXPECT_EQ(0, stop(daemon));
	EXPECT_EQ(0U, await_line("counters: ").find("<30>"));
}

TEST_F(Cli, DaemonizeReturnsWhenItServes)
{
	Args args = daemon_args();

	args.push_back("-d");
	for (int round = 0; round < 5; round++) {
		ASSERT_EQ(0, run(args).status) << err();
		ASSERT_EQ(0, run(ping_args()).status) << "round " << round << ": " << err();

		const std::vector<pid_t> mine = children_of(getpid()); /* what the command left has become ours */
		ASSERT_EQ(1u, mine.size());
		EXPECT_EQ(mine[0], getsid(mine[0])) << "in a session of its own";
		EXPECT_EQ("/", fs::read_symlink("/proc/" + std::to_string(mine[0]) + "/cwd"));
		std::vector<pid_t> all = children_of(mine[0]);
		for (pid_t child : all)
			EXPECT_EQ(mine[0], getsid(child));
		all.push_back(mine[0]);
		for (pid_t pid : all) {
			for (int fd = 0; fd <= 2; fd++)
				expect_leads_nowhere(pid, fd);
		}
		EXPECT_EQ(0, stop(mine[0]));
		EXPECT_TRUE(fs::is_empty(sock_));
	}
}

TEST_F(Cli, DaemonizeReportsWhatIsWrong)
{
	expect_error(EX_CONFIG, {"-s", "test", "-r", dir_ + "/missing", "-S", sock_, "-d"}, dir_ + "/missing");
	expect_error(EX_CONFIG, {"-s", "test", "-r", root_, "-S", dir_ + "/missing", "-d"}, dir_ + "/missing");
	start_daemon();
	Args args = daemon_args();
	args.push_back("-d");
	EXPECT_EQ(EX_UNAVAILABLE, run(args).status);
	EXPECT_TRUE(is_one_line(err())) << err();
}

TEST_F(Cli, DaemonizeWithRelativePaths)
{
	const auto there = [&] {
		if (chdir(dir_.c_str()) < 0)
			_exit(126);
	};

	std::ofstream(root_ + "/f") << "x";
	ASSERT_EQ(0, run({"-s", "test", "-r", "root", "-S", "sock", "--workers=2", "-d"}, there).status) << err();
	const std::vector<pid_t> mine = children_of(getpid());
	ASSERT_EQ(1u, mine.size());
	EXPECT_EQ(0, run({"-s", "test", "-S", "sock", "--ping"}, there).status) << err();
	EXPECT_EQ(0, stop(mine[0]));
	EXPECT_TRUE(fs::is_empty(sock_)) << "it removes its socket although it has left the directory";
}

// ---- In step with the parent

// Runs the daemon in a process that ends when told to. Returns the daemon, and the end to close.
pid_t start_in_child(const std::function<pid_t()> &start, int *hold, pid_t *parent)
{
	int tell[2], stay[2];
	pid_t pid = -1;

	EXPECT_EQ(0, pipe2(tell, O_CLOEXEC));
	EXPECT_EQ(0, pipe2(stay, O_CLOEXEC));
	*parent = fork();
	if (*parent == 0) {
		char c;

		close(stay[1]);
		pid = start();
		if (write(tell[1], &pid, sizeof pid) != sizeof pid)
			_exit(1);
		_exit(static_cast<int>(read(stay[0], &c, 1)));
	}
	close(tell[1]);
	close(stay[0]);
	EXPECT_EQ(static_cast<ssize_t>(sizeof pid), read(tell[0], &pid, sizeof pid));
	close(tell[0]);
	*hold = stay[1];
	return pid;
}

TEST_F(Cli, SyncParentLeavesWithTheProcessThatStartedIt)
{
	for (int signo : {0, SIGKILL}) {
		pid_t parent;
		int hold;
		pid_t pid = start_in_child([&] { return start_daemon({"-p"}); }, &hold, &parent);

		ASSERT_GT(pid, 0);
		EXPECT_EQ(0, run(ping_args()).status);
		std::this_thread::sleep_for(std::chrono::milliseconds(50));
		EXPECT_TRUE(is_running(pid));
		if (signo != 0)
			kill(parent, signo);
		close(hold);
		wait_for(parent);
		EXPECT_EQ(0, exit_status(wait_for(pid))) << "has become our child, and ends";
		EXPECT_TRUE(fs::is_empty(sock_));
	}
}

TEST_F(Cli, WithoutSyncParentItStays)
{
	pid_t parent;
	int hold;
	pid_t pid = start_in_child([&] { return start_daemon(); }, &hold, &parent);

	close(hold);
	wait_for(parent);
	std::this_thread::sleep_for(std::chrono::milliseconds(100));
	EXPECT_EQ(0, run(ping_args()).status);
	EXPECT_EQ(0, stop(pid));
}

TEST_F(Cli, SyncParentInTheBackgroundFollowsTheCaller)
{
	pid_t parent;
	int hold;

	start_in_child(
		[&] {
			Args args = daemon_args();

			args.insert(args.end(), {"-d", "-p"});
			return run(args).status == 0 ? 1 : -1;
		},
		&hold, &parent);
	EXPECT_EQ(0, run(ping_args()).status) << "the command that started it has ended, its caller has not";
	close(hold);
	wait_for(parent);
	EXPECT_TRUE(eventually([&] { return fs::is_empty(sock_); }));
}

// ---- --ready-fd

std::string as_bytes(int n)
{
	return {reinterpret_cast<const char *>(&n), sizeof n};
}

TEST_F(Cli, ReadyFdGetsOneIntAndEndOfFile)
{
	std::string announced;
	pid_t pid = start_and_wait(daemon_args(), &announced);

	EXPECT_EQ(as_bytes(0), announced);
	EXPECT_EQ(0, run(ping_args()).status) << "ready means that it serves";
	EXPECT_EQ(0, stop(pid));
}

TEST_F(Cli, ReadyFdGetsTheErrno)
{
	const struct {
		Args args;
		int err;
		int status;
	} cases[] = {
		{{"-s", "test", "-r", dir_ + "/missing", "-S", sock_}, ENOENT, EX_CONFIG},
		{{"-s", "test", "-r", dir_ + "/file", "-S", sock_}, ENOTDIR, EX_CONFIG},
		{{"-s", "test", "-r", root_, "-S", dir_ + "/missing"}, ENOENT, EX_CONFIG},
		{{"-s", "test", "-r", root_, "-S", dir_ + "/file"}, ENOTDIR, EX_CONFIG},
		{{"-s", std::string(100, 'n'), "-r", root_, "-S", sock_}, ENAMETOOLONG, EX_CONFIG},
		{{"-s", "test", "-r", root_, "-S", sock_, "-u", "no-such-user"}, EINVAL, EX_CONFIG},
	};

	for (const auto &c : cases) {
		std::string announced;
		pid_t pid = start_and_wait(c.args, &announced);

		EXPECT_EQ(c.status, exit_status(wait_for(pid))) << err();
		EXPECT_EQ(as_bytes(c.err), announced) << err();
		EXPECT_TRUE(is_one_line(err())) << err();
	}
}

TEST_F(Cli, ReadyFdSaysThatTheNameIsTaken)
{
	std::string announced;

	start_daemon();
	pid_t pid = start_and_wait(daemon_args(), &announced);
	EXPECT_EQ(EX_UNAVAILABLE, exit_status(wait_for(pid)));
	EXPECT_EQ(as_bytes(EADDRINUSE), announced);
}

// The errno must be that of the problem, also when nobody hears the complaint about it.
TEST_F(Cli, ReadyFdGetsTheErrnoThoughStderrIsFull)
{
	std::string announced;
	pid_t pid = start_and_wait({"-s", "test", "-r", dir_ + "/missing", "-S", sock_}, &announced, [] {
		int full = open("/dev/full", O_WRONLY);

		dup2(full, STDERR_FILENO);
		close(full);
	});

	EXPECT_EQ(EX_CONFIG, exit_status(wait_for(pid)));
	EXPECT_EQ(as_bytes(ENOENT), announced);
}

// A usage error is found before the option is known to be good: end-of-file, and the status says it.
TEST_F(Cli, ReadyFdAfterAUsageError)
{
	std::string announced;
	pid_t pid = start_and_wait({"-x"}, &announced);

	EXPECT_EQ(EX_USAGE, exit_status(wait_for(pid)));
	EXPECT_EQ("", announced);
}

TEST_F(Cli, ReadyFdWhoseReaderHasGoneIsNoReasonToStop)
{
	pid_t pid = start(Args{"-s", "test", "-r", root_, "-S", sock_, "--workers=1", "--ready-fd=9"}, [] {
		int ends[2];

		if (pipe(ends) < 0)
			_exit(126);
		dup2(ends[1], READY_FD);
		close(ends[0]);
		close(ends[1]);
	});

	EXPECT_TRUE(eventually([&] { return err().find("ready") != std::string::npos; })) << err();
	EXPECT_EQ(0, stop(pid));
}

// Otherwise the number becomes that of a file of the daemon's own, which the int is then written to.
TEST_F(Cli, ReadyFdThatIsNotOpenIsAnError)
{
	for (const char *fd : {"--ready-fd=3", "--ready-fd=8", "--ready-fd=500"}) {
		pid_t pid = start({"-s", "test", "-r", root_, "-S", sock_, "--workers=1", fd}, [] {
			for (int i = 3; i < 20; i++)
				close(i);
		});
		int status = -1;
		bool ended = false;
		const auto patience = Clock::now() + std::chrono::seconds(2);

		while (!ended && Clock::now() < patience) {
			ended = waitpid(pid, &status, WNOHANG) == pid;
			std::this_thread::sleep_for(std::chrono::milliseconds(5));
		}
		if (!ended) {
			ADD_FAILURE() << fd << ": it serves: " << err();
			stop(pid, SIGKILL);
			continue;
		}
		EXPECT_NE(0, exit_status(status)) << fd;
		EXPECT_NE(std::string::npos, err().find("--ready-fd")) << err();
		EXPECT_TRUE(is_one_line(err())) << err();
	}
}

// ---- Limits, users, descriptors

TEST_F(Cli, ALowLimitOnOpenFilesLowersTheNumberWithAWarning)
{
	give_to_ordinary(sock_);
	start_daemon({"-n", "10000"}, [] {
		const rlimit rl = {1000, 1000};

		setrlimit(RLIMIT_NOFILE, &rl);
		become_ordinary();
	});
	for (const char *part : {"RLIMIT_NOFILE", "1000", "--max-transfers", "10000"})
		EXPECT_NE(std::string::npos, err().find(part)) << part << " is not in " << err();
	const std::string said = err();
	EXPECT_EQ(3, std::count(said.begin(), said.end(), '\n')) << "a warning, what the root is, and that it is ready";
	EXPECT_EQ(0, run(ping_args()).status) << "it serves all the same";
}

TEST_F(Cli, ALimitThatLeavesNoRoomIsRefused)
{
	const auto low = [] {
		const rlimit rl = {64, 64};

		setrlimit(RLIMIT_NOFILE, &rl);
		become_ordinary();
	};
	std::string announced;

	expect_error(EX_CONFIG, daemon_args(), "RLIMIT_NOFILE", low);
	pid_t pid = start_and_wait(daemon_args(), &announced, low);
	EXPECT_EQ(EX_CONFIG, exit_status(wait_for(pid)));
	EXPECT_EQ(as_bytes(EMFILE), announced);
}

TEST_F(Cli, RaisesTheSoftLimit)
{
	pid_t pid = start_daemon({"-n", "100"}, [] {
		rlimit rl;

		getrlimit(RLIMIT_NOFILE, &rl);
		rl.rlim_cur = 64;
		setrlimit(RLIMIT_NOFILE, &rl);
	});

	EXPECT_EQ("sendfiled[test]: ready\n", without_root(err())) << "nothing to warn of";
	for (pid_t w : workers_of(pid)) {
		const std::string limits = slurp("/proc/" + std::to_string(w) + "/limits");
		const size_t at = limits.find("Max open files");

		ASSERT_NE(std::string::npos, at);
		EXPECT_GE(atoi(limits.c_str() + at + strlen("Max open files")), 700);
	}
}

class CliAsRoot : public Cli
{
      protected:
	void SetUp() override
	{
		Cli::SetUp();
		if (geteuid() != 0)
			GTEST_SKIP() << "needs root";
	}

	void expect_workers_are(pid_t daemon, uid_t uid, gid_t gid)
	{
		const std::vector<pid_t> workers = workers_of(daemon);

		EXPECT_EQ(2u, workers.size());
		for (pid_t w : workers) {
			EXPECT_EQ(four_times(uid), status_of(w, "Uid"));
			EXPECT_EQ(four_times(gid), status_of(w, "Gid"));
			EXPECT_EQ("", status_of(w, "Groups"));
			EXPECT_EQ("1", status_of(w, "NoNewPrivs"));
			for (const char *set : {"CapPrm", "CapEff", "CapAmb"})
				EXPECT_EQ("0000000000000000", status_of(w, set)) << set;
		}
	}
};

void have_groups()
{
	const gid_t groups[] = {0, 4, 20};

	if (setgroups(3, groups) < 0)
		_exit(126);
}

TEST_F(CliAsRoot, WorkersAreTheUserThatWasNamed)
{
	pid_t pid = start_daemon({"-u", std::to_string(some_uid), "-g", std::to_string(some_gid)}, have_groups);

	expect_workers_are(pid, some_uid, some_gid);
}

TEST_F(CliAsRoot, AUserByNameBringsItsGroup)
{
	if (!getpwnam("daemon"))
		GTEST_SKIP() << "there is no user daemon here";
	const passwd pw = *getpwnam("daemon");

	expect_workers_are(start_daemon({"--user=daemon"}, have_groups), pw.pw_uid, pw.pw_gid);
}

TEST_F(CliAsRoot, TheDefaultUserIsSendfiledElseNobody)
{
	const passwd *pw = getpwnam("sendfiled");

	if (!pw)
		pw = getpwnam("nobody");
	ASSERT_NE(nullptr, pw);
	expect_workers_are(start_daemon({}, have_groups), pw->pw_uid, pw->pw_gid);
}

TEST_F(CliAsRoot, ReplacedWorkersAreTheSameUser)
{
	pid_t pid = start_daemon({"-u", std::to_string(some_uid), "-g", std::to_string(some_gid)}, have_groups);
	const std::vector<pid_t> before = workers_of(pid);

	for (pid_t w : before)
		kill(w, SIGKILL);
	ASSERT_TRUE(eventually([&] {
		const auto now = workers_of(pid);

		return now.size() == 2 && now[0] != before[0] && now[1] != before[1] && now[0] != before[1] &&
		       status_of(now[0], "NoNewPrivs") == "1" && status_of(now[1], "NoNewPrivs") == "1";
	}));
	expect_workers_are(pid, some_uid, some_gid);
}

// A client of root's own is served though no process of root's serves it.
TEST_F(CliAsRoot, RootMayPingWhateverTheUser)
{
	start_daemon({"-u", std::to_string(some_uid)});
	EXPECT_EQ(0, run(ping_args()).status) << err();
}

TEST_F(CliAsRoot, AForeignUserMayNot)
{
	start_daemon({"-u", std::to_string(some_uid + 1)});
	ASSERT_EQ(0, chmod(socket_path().c_str(), 0666)); /* past the first gate */
	const Result r = run(ping_args(), become_ordinary);

	EXPECT_EQ(EX_UNAVAILABLE, r.status);
	/* The daemon, which writes there too, says whom it has refused. */
	const size_t own = r.err.find("sendfiled: the daemon");
	ASSERT_NE(std::string::npos, own) << r.err;
	EXPECT_TRUE(is_one_line(r.err.substr(own))) << r.err;
	EXPECT_NE(std::string::npos, r.err.find(strerror(EACCES), own)) << r.err;
	EXPECT_NE(std::string::npos, r.err.find("refused uid " + std::to_string(some_uid))) << r.err;
}

TEST_F(Cli, AnOrdinaryUserServesAsItself)
{
	give_to_ordinary(sock_);
	pid_t pid = start_daemon({}, become_ordinary);
	const uid_t uid = geteuid() == 0 ? some_uid : geteuid();

	for (pid_t w : workers_of(pid))
		EXPECT_EQ(four_times(uid), status_of(w, "Uid"));
	EXPECT_EQ(0, run(ping_args(), become_ordinary).status) << err();
}

TEST_F(Cli, StandardDescriptorsThatAreClosedAtTheStart)
{
	for (int mask = 1; mask < 8; mask++) {
		SCOPED_TRACE("closed: " + std::to_string(mask));
		pid_t pid = start_daemon({}, [&] {
			for (int fd = 0; fd <= 2; fd++) {
				if (mask & 1 << fd)
					close(fd);
			}
		});
		std::vector<pid_t> all = children_of(pid);

		/* What takes the number must not be the socket or the like: the log would be written to it. */
		all.push_back(pid);
		for (pid_t p : all) {
			for (int fd = 0; fd <= 2; fd++) {
				if (mask & 1 << fd)
					expect_leads_nowhere(p, fd);
			}
		}
		const std::string said = err();
		EXPECT_EQ(mask & 4 ? "" : "sendfiled[test]: ready\n", without_root(said));
		EXPECT_EQ(0, run(ping_args()).status) << err();
		kill(pid, SIGUSR1);
		EXPECT_EQ(0, run(ping_args()).status) << err();
		EXPECT_EQ(0, stop(pid));
	}
}

// What it inherits by accident would otherwise stay open as long as it runs.
TEST_F(Cli, InheritedDescriptorsAreClosed)
{
	int ends[2];
	char c;

	ASSERT_EQ(0, pipe2(ends, O_CLOEXEC));
	start_daemon({}, [&] {
		for (int fd : {3, 10, 11, 63, 200})
			dup2(ends[1], fd);
	});
	close(ends[1]);
	ASSERT_EQ(0, fcntl(ends[0], F_SETFL, O_NONBLOCK));
	EXPECT_EQ(0, read(ends[0], &c, 1)) << "somebody still holds the other end";
	close(ends[0]);
}

TEST_F(Cli, BlockedSignalsAreInheritedWithoutHarm)
{
	pid_t pid = start_daemon({}, [] {
		sigset_t all;

		sigfillset(&all);
		sigprocmask(SIG_SETMASK, &all, nullptr);
		signal(SIGTERM, SIG_IGN);
		signal(SIGCHLD, SIG_IGN);
	});

	EXPECT_EQ(0, run(ping_args()).status);
	EXPECT_EQ(0, stop(pid));
}

} // namespace
