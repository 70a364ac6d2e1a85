// SPDX-License-Identifier: BSD-2-Clause
// What the operator says about who may connect, who is served, and how strictly paths are taken.
#include "test/support/fixture.h"
#include "test/support/namespaces.h"
#include "test/support/queue.h"
#include "test/support/user.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

namespace
{

constexpr uid_t FRIEND = 54321, STRANGER = 54322, SERVER = 54323, NOBODY = 65534;
constexpr gid_t GROUP = 54330;
constexpr int NO_FRAME = 255;

class Policy : public SfdTest
{
      protected:
	// With the socket open to all, so that it is the second gate that answers.
	void start_with(std::vector<std::string> more, const std::string &mode = "0666")
	{
		DaemonOptions options;

		options.more = std::move(more);
		options.more.insert(options.more.end(), {"--socket-mode", mode});
		start(options);
	}

	// What a request over that connection is answered: 0, an errno, or NO_FRAME.
	static int answer(int srv, const std::string &path = "canary")
	{
		unsigned char frame[SFD_MAX_RESP_SIZE];
		const Fd null(open("/dev/null", O_WRONLY | O_CLOEXEC));
		const Fd status(sfd_send(srv, path.c_str(), null, 0, 0, false));

		if (status < 0 || read(status, frame, sizeof frame) != sizeof frame)
			return NO_FRAME;
		return sfd_get_stat(frame);
	}

	// The same when that user asks, over a connection of its own.
	int answer_to(uid_t uid, gid_t gid)
	{
		return as_user(uid, gid, [&] {
			const int srv = daemon().connect();

			return srv < 0 ? NO_FRAME : answer(srv);
		});
	}

	struct stat socket_stat()
	{
		struct stat st = {};

		EXPECT_EQ(0, stat(daemon().socket_path().c_str(), &st));
		return st;
	}

	// A start that must fail: all that was said.
	std::string refusal(std::vector<std::string> more, int exit_status)
	{
		DaemonOptions options;
		int status = -1;

		options.more = std::move(more);
		EXPECT_NE(0, daemon().start(options));
		EXPECT_TRUE(await_exit(daemon().pid(), &status));
		daemon().forget();
		EXPECT_EQ(exit_status, WEXITSTATUS(status));
		return daemon().log();
	}
};

#define REQUIRE_ROOT()                                                                                                 \
	do {                                                                                                           \
		if (!is_root())                                                                                        \
			GTEST_SKIP() << "only root can take another user's part";                                      \
	} while (0)

// ---- The first gate

TEST_F(Policy, TheSocketHasTheModeAskedFor)
{
	const mode_t mask = umask(0077);

	for (const mode_t mode : {0600, 0660, 0666, 0777, 0606}) {
		char text[8];

		snprintf(text, sizeof text, "%o", mode);
		ASSERT_NO_FATAL_FAILURE(start_with({}, text));
		EXPECT_EQ(mode, socket_stat().st_mode & 07777);
		stop(SIGTERM, 0);
	}
	umask(mask);
	ASSERT_NO_FATAL_FAILURE(start_with({}, "0600"));
}

TEST_F(Policy, TheSocketHasTheOwnerAskedFor)
{
	REQUIRE_ROOT();
	ASSERT_NO_FATAL_FAILURE(
		start_with({"--socket-user", std::to_string(FRIEND), "--socket-group", std::to_string(GROUP),
				   "--allow-user", std::to_string(FRIEND), "--allow-group", std::to_string(GROUP)},
			"0620"));
	EXPECT_EQ(FRIEND, socket_stat().st_uid);
	EXPECT_EQ(GROUP, socket_stat().st_gid);
	EXPECT_EQ(0, answer_to(FRIEND, FRIEND));
	EXPECT_EQ(0, answer_to(STRANGER, GROUP));
	EXPECT_EQ(EACCES, as_user(STRANGER, STRANGER, [&] { return daemon().connect() < 0 ? errno : 0; }));
}

// By default it is the user's that serves, and the group is as it comes.
TEST_F(Policy, EachOwnerForItself)
{
	REQUIRE_ROOT();
	const std::string server = std::to_string(SERVER);

	ASSERT_NO_FATAL_FAILURE(start_with({"-u", server, "--socket-group", std::to_string(GROUP)}));
	EXPECT_EQ(SERVER, socket_stat().st_uid);
	EXPECT_EQ(GROUP, socket_stat().st_gid);
	stop(SIGTERM, 0);
	ASSERT_NO_FATAL_FAILURE(start_with({"-u", server, "--socket-user", "0"}));
	EXPECT_EQ(0U, socket_stat().st_uid);
	EXPECT_EQ(0U, socket_stat().st_gid);
}

// Whoever looks all the time never sees it under its name with less to keep others out.
TEST_F(Policy, NeverWiderForAMoment)
{
	const std::string where = dir() + "/run/sendfiled.test.socket";
	int pipes[2];

	ASSERT_EQ(0, pipe2(pipes, O_CLOEXEC));
	Fd out(pipes[0]), in(pipes[1]);
	const mode_t mask = umask(0);
	const pid_t watcher = fork();
	if (watcher == 0) {
		struct stat st = {};

		alarm(50);
		in.reset();
		/* Until the test lets go of its end. */
		while (poll(std::array<pollfd, 1>{pollfd{out, 0, 0}}.data(), 1, 0) == 0) {
			if (stat(where.c_str(), &st) == 0 && (st.st_mode & 07777) != 0640)
				_exit(1);
		}
		_exit(0);
	}
	for (int i = 0; i < 10; i++) {
		ASSERT_NO_FATAL_FAILURE(start_with({}, "0640"));
		stop(SIGTERM, 0);
	}
	umask(mask);
	int status = -1;
	in.reset();
	ASSERT_TRUE(await_exit(watcher, &status));
	EXPECT_EQ(0, status);
	ASSERT_NO_FATAL_FAILURE(start_with({}, "0640"));
}

TEST_F(Policy, WhatCannotBeGivenAwayIsSaid)
{
	if (is_root())
		GTEST_SKIP() << "root can give everything away";
	EXPECT_NE(std::string::npos, refusal({"--socket-user", "0"}, 78).find("--socket-user"));
	ASSERT_NO_FATAL_FAILURE(start_with({}));
}

TEST_F(Policy, UnknownNamesAreSaid)
{
	for (const char *option : {"--socket-user", "--socket-group", "--allow-user", "--allow-group"}) {
		const std::string said = refusal({option, "no-such-name"}, 78);

		EXPECT_NE(std::string::npos, said.find("'no-such-name'")) << said;
		EXPECT_NE(std::string::npos, said.find(option)) << said;
	}
	ASSERT_NO_FATAL_FAILURE(start_with({}));
}

// ---- The second gate

TEST_F(Policy, NamedUsersAreServed)
{
	REQUIRE_ROOT();
	ASSERT_NO_FATAL_FAILURE(start_with({"-u", std::to_string(SERVER), "--allow-user", std::to_string(FRIEND)}));
	EXPECT_EQ(0, answer_to(FRIEND, FRIEND));
	EXPECT_EQ(0, answer_to(0, 0));
	EXPECT_EQ(EACCES, answer_to(STRANGER, FRIEND));
	EXPECT_EQ(EACCES, answer_to(NOBODY, NOBODY));
	EXPECT_EQ(EACCES, answer_to(SERVER, SERVER)) << "it was not named";
}

TEST_F(Policy, NamedGroupsAreServed)
{
	REQUIRE_ROOT();
	ASSERT_NO_FATAL_FAILURE(start_with({"--allow-group", std::to_string(GROUP)}));
	EXPECT_EQ(0, answer_to(FRIEND, GROUP));
	EXPECT_EQ(0, answer_to(STRANGER, GROUP));
	EXPECT_EQ(EACCES, answer_to(FRIEND, FRIEND));
	EXPECT_EQ(EACCES, answer_to(NOBODY, GROUP));
}

TEST_F(Policy, NobodyIsServedIfNamed)
{
	REQUIRE_ROOT();
	ASSERT_NO_FATAL_FAILURE(start_with({"--allow-user", std::to_string(NOBODY)}));
	EXPECT_EQ(0, answer_to(NOBODY, NOBODY));
	EXPECT_EQ(EACCES, answer_to(FRIEND, FRIEND));
}

// A queue's registration goes through the same gate, and so does all that is said about one.
TEST_F(Policy, QueuesAreRefusedToo)
{
	REQUIRE_ROOT();
	ASSERT_NO_FATAL_FAILURE(start_with({"--allow-user", std::to_string(FRIEND)}));
	const auto try_queue = [&] {
		const int srv = daemon().connect();
		sfd_queue *q = srv < 0 ? nullptr : sfd_queue_new(srv, 8);
		int n = -1;

		if (!q || sfd_queue_open(q, "canary", 0, 0, nullptr, 1) != 0)
			return NO_FRAME;
		/* Readable once the daemon has consented, or has not. */
		while ((n = sfd_queue_submit(q)) < 0 && errno == EAGAIN)
			await(sfd_queue_fd(q), POLLIN);
		const int err = n < 0 ? errno : 0;
		sfd_queue_free(q);
		return err;
	};

	EXPECT_EQ(0, as_user(FRIEND, FRIEND, try_queue));
	EXPECT_EQ(EACCES, as_user(STRANGER, STRANGER, try_queue));
}

// A process outside the daemon's PID namespace has no number there.
TEST_F(Policy, ForeignPidNamespaces)
{
	REQUIRE_ROOT();
	for (const bool allowed : {false, true}) {
		DaemonOptions options;
		sfd_file_info info = {};

		options.wrapper = {
			"unshare", "--pid", "--fork", "--kill-child", "/bin/sh", "-c", "\"$@\"; exit $?", "sh"};
		if (allowed)
			options.more = {"--allow-foreign-pidns"};
		ASSERT_EQ(0, daemon().start(options)) << daemon().log();
		const Fd srv(daemon().connect());
		ASSERT_GE(srv, 0);
		EXPECT_EQ(allowed ? 0 : EACCES, answer(srv));
		if (allowed) {
			/* Whoever has heard the id on the status channel may go on, as that user. */
			const Fd status(sfd_open(srv, "canary", 0, 0, false));
			Ends pipe = make_pipe();

			ASSERT_TRUE(read_info(status, &info));
			EXPECT_EQ(1,
				as_user(STRANGER, STRANGER, [&] { return sfd_send_open(srv, info.txnid, pipe.in); }));
			ASSERT_EQ(0, await(status, POLLIN, 100ms));
			ASSERT_TRUE(sfd_send_open(srv, info.txnid, pipe.in));
			ASSERT_EQ(POLLIN, await(status, POLLIN) & POLLIN);
			EXPECT_EQ(1000U, drain(&pipe).size());
		}
		EXPECT_EQ(0, daemon().stop(SIGTERM));
	}
	ASSERT_NO_FATAL_FAILURE(start_with({}));
}

// ---- What the operator is told

// However often somebody tries who is not served, the log grows slowly.
TEST_F(Policy, RefusalsAreFewLines)
{
	REQUIRE_ROOT();
	DaemonOptions options;
	options.workers = 1;
	options.more = {"--socket-mode", "0666"};
	ASSERT_NO_FATAL_FAILURE(start(options));
	const size_t before = daemon().log().size();

	EXPECT_EQ(EACCES, as_user(STRANGER, STRANGER, [&] {
		const Fd connection(daemon().connect());
		int last = 0;

		for (int i = 0; i < 500; i++)
			last = answer(connection);
		return last;
	}));
	EXPECT_EQ(0, answer(srv()));
	std::string log;
	EXPECT_TRUE(eventually([&] {
		log = daemon().log().substr(before);
		return std::count(log.begin(), log.end(), '\n') == 4;
	})) << log;
	EXPECT_NE(std::string::npos, log.find("refused uid " + std::to_string(STRANGER) + " (pid ")) << log;
	/* The rest is said when ten seconds are over. */
	EXPECT_TRUE(daemon().await_log("suppressed 496 more lines"));
}

// Whoever reads the log may stop to: the daemon, its master included, does not wait for it.
TEST_F(Policy, NobodyReadsTheLog)
{
	const std::string fifo = dir() + "/go";
	DaemonOptions options;

	ASSERT_EQ(0, mkfifo(fifo.c_str(), 0600));
	options.wrapper = {"/bin/sh", "-c", "{ \"$@\"; } 2>&1 | read line < " + fifo, "sh"};
	ASSERT_NO_FATAL_FAILURE(start(options));
	const std::vector<pid_t> before = daemon().workers();
	/* Each is several lines: more than a pipe holds. */
	for (int i = 0; i < 500; i++)
		ASSERT_TRUE(daemon().signal(SIGUSR1));
	ASSERT_EQ(2U, before.size());
	ASSERT_EQ(0, kill(before[0], SIGKILL));
	ASSERT_TRUE(eventually([&] {
		const std::vector<pid_t> now = daemon().workers();

		return now.size() == 2 && std::find(now.begin(), now.end(), before[0]) == now.end();
	}));
	canary();
	const pid_t master = daemon().master();
	ASSERT_TRUE(daemon().signal(SIGTERM));
	EXPECT_TRUE(await_gone(master));
	/* Now the reader may go, and the shell. */
	Fd go;
	ASSERT_TRUE(eventually([&] {
		go.reset(open(fifo.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
		return go >= 0;
	}));
	go.reset();
	int status = -1;
	EXPECT_TRUE(await_exit(daemon().pid(), &status));
	daemon().forget();
}

// ---- What is served

TEST_F(Policy, NoSymlinks)
{
	ASSERT_NO_FATAL_FAILURE(start_with({"--no-symlinks"}));
	ASSERT_EQ(0, mkdir(in_root("dir").c_str(), 0755));
	add_file("dir/file", 10);
	ASSERT_EQ(0, symlink("dir/file", in_root("to_file").c_str()));
	ASSERT_EQ(0, symlink("dir", in_root("to_dir").c_str()));
	for (int round = 0; round < 2; round++) {
		EXPECT_EQ(ELOOP, answer(srv(), "to_file"));
		EXPECT_EQ(ELOOP, answer(srv(), "to_dir/file"));
		EXPECT_EQ(0, answer(srv(), "dir/file"));
	}
	stop(SIGTERM, 0);
	ASSERT_NO_FATAL_FAILURE(start_with({}));
	EXPECT_EQ(0, answer(srv(), "to_file"));
	EXPECT_EQ(0, answer(srv(), "to_dir/file"));
}

TEST_F(Policy, OneFileSystem)
{
	REQUIRE_MOUNTS();
	own_mounts();
	mount_at(in_root("mnt"), "tmpfs", "none");
	add_file("mnt/file", 10);
	add_file("file", 10);
	ASSERT_EQ(0, symlink("mnt/file", in_root("link").c_str()));
	ASSERT_NO_FATAL_FAILURE(start_with({"--one-file-system"}));
	for (int round = 0; round < 2; round++) {
		EXPECT_EQ(EXDEV, answer(srv(), "mnt/file"));
		EXPECT_EQ(EXDEV, answer(srv(), "link"));
		EXPECT_EQ(0, answer(srv(), "file"));
	}
	stop(SIGTERM, 0);
	ASSERT_NO_FATAL_FAILURE(start_with({}));
	EXPECT_EQ(0, answer(srv(), "mnt/file"));
	EXPECT_EQ(0, answer(srv(), "link"));
	umount2(in_root("mnt").c_str(), MNT_DETACH);
}

// What is read there is made up by the kernel, about the process that reads: a daemon's memory, say.
TEST_F(Policy, NoRootThatTheKernelMakesUp)
{
	for (const char *where : {"/proc", "/proc/self", "/sys", "/sys/kernel"}) {
		const std::string said = refusal({"-r", where}, 78);

		EXPECT_NE(std::string::npos, said.find(std::string("will not serve ") + where)) << said;
	}
	ASSERT_NO_FATAL_FAILURE(start_with({}));
}

} // namespace
