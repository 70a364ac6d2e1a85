// SPDX-License-Identifier: BSD-2-Clause
// Ids and queues belong to a process: not to its user, and not to whoever gets its number next.
#include "test/support/fixture.h"
#include "test/support/queue.h"
#include "test/support/raw_queue.h"
#include "test/support/user.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace
{

constexpr uid_t STRANGER = 54322;
constexpr uint64_t QUEUE_ID = 0x123456789abcdef0;

// Linux 6.5: the number of the option.
constexpr int PASS_PROCESS = 76;

class Identity : public SfdTest
{
      protected:
	// With the socket open to all.
	void start_with(std::vector<std::string> more)
	{
		DaemonOptions options;

		options.more = std::move(more);
		options.more.insert(options.more.end(), {"--socket-mode", "0666"});
		start(options);
	}

	// In a child of another user: runs `what`, whose result must be 0.
	template <typename What> void as_stranger(What what)
	{
		EXPECT_EQ(0, as_user(STRANGER, what));
	}
};

#define REQUIRE_ROOT()                                                                                                 \
	do {                                                                                                           \
		if (!is_root())                                                                                        \
			GTEST_SKIP() << "only root can choose a process's number, or take another user's part";        \
	} while (0)

// Before Linux 6.5 a process that sent something is found by its number only.
bool tells_processes()
{
	const Ends sockets = make_socketpair(SOCK_DGRAM);
	const int on = 1;

	return setsockopt(sockets.in, SOL_SOCKET, PASS_PROCESS, &on, sizeof on) == 0;
}

// Whoever goes on with an open; it says so by its exit status.
int go_on(int srv, uint64_t txnid, int dest)
{
	return sfd_send_open(srv, txnid, dest) ? 0 : 1;
}

// A child with a number of our choice, which must be free.
pid_t fork_as(pid_t pid)
{
	struct {
		uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
			set_tid_size, cgroup;
	} args = {};

	args.exit_signal = SIGCHLD;
	args.set_tid = reinterpret_cast<uint64_t>(&pid);
	args.set_tid_size = 1;
	return static_cast<pid_t>(syscall(SYS_clone3, &args, sizeof args));
}

// Asks for a file in a child, which then ends; the child's number, and what its status channel says.
class OpenedByAnother : public Identity
{
      protected:
	void open_in_child()
	{
		ask_in_child([&] { return sfd_open(srv(), "canary", 0, 0, false); });
	}

	template <typename Ask> void ask_in_child(Ask ask)
	{
		Ends channel = make_socketpair(SOCK_STREAM);

		opener_ = fork();
		if (opener_ == 0) {
			const int fd = ask();

			_exit(read_info(fd, &info_) && send_fd(channel.in, fd) ? 0 : 1);
		}
		int status = -1;
		ASSERT_TRUE(await_exit(opener_, &status));
		ASSERT_EQ(0, status);
		receive_fd(channel.out);
	}

	// With the information that it gave.
	bool send_fd(int sock, int fd)
	{
		iovec iov = {&info_, sizeof info_};
		alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
		const cmsghdr h = {CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS};
		msghdr m = {};

		m.msg_iov = &iov;
		m.msg_iovlen = 1;
		m.msg_control = control;
		m.msg_controllen = sizeof control;
		memcpy(control, &h, sizeof h);
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &fd, sizeof fd);
		return sendmsg(sock, &m, 0) == sizeof info_;
	}

	void receive_fd(int sock)
	{
		iovec iov = {&info_, sizeof info_};
		alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
		msghdr m = {};
		int fd = -1;

		m.msg_iov = &iov;
		m.msg_iovlen = 1;
		m.msg_control = control;
		m.msg_controllen = sizeof control;
		ASSERT_EQ(static_cast<ssize_t>(sizeof info_), recvmsg(sock, &m, MSG_CMSG_CLOEXEC));
		ASSERT_NE(nullptr, CMSG_FIRSTHDR(&m));
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
		status_.reset(fd);
	}

	void TearDown() override
	{
		status_.reset();
		Identity::TearDown();
	}

	pid_t opener_ = -1;
	Fd status_;
	sfd_file_info info_ = {};
};

TEST_F(OpenedByAnother, ANumberThatWasGivenAwayIsAnotherProcess)
{
	REQUIRE_ROOT();
	ASSERT_NO_FATAL_FAILURE(start_with({}));
	ASSERT_NO_FATAL_FAILURE(open_in_child());
	Ends pipe = make_pipe();
	int status = -1;
	const pid_t newcomer = fork_as(opener_);

	if (newcomer == 0)
		_exit(go_on(srv(), info_.txnid, pipe.in));
	ASSERT_EQ(opener_, newcomer) << strerror(errno);
	ASSERT_TRUE(await_exit(newcomer, &status));
	EXPECT_EQ(0, status);
	canary();
	EXPECT_EQ(0, await(status_, POLLIN, 100ms)) << "it is still waiting to be sent";
	EXPECT_EQ(0u, drain(&pipe).size());
}

TEST_F(OpenedByAnother, NorDoesANewcomerCancelWhatIsBeingSent)
{
	constexpr size_t SIZE = 1 << 20;
	REQUIRE_ROOT();
	if (!tells_processes())
		GTEST_SKIP() << "this kernel does not say which process sent a datagram";
	add_file("large", SIZE);
	ASSERT_NO_FATAL_FAILURE(start_with({}));
	Ends pipe = make_pipe();
	int status = -1;
	ASSERT_NO_FATAL_FAILURE(ask_in_child([&] { return sfd_send(srv(), "large", pipe.in, 0, 0, false); }));
	const pid_t newcomer = fork_as(opener_);

	if (newcomer == 0)
		_exit(sfd_cancel(srv(), info_.txnid) ? 0 : 1);
	ASSERT_EQ(opener_, newcomer) << strerror(errno);
	ASSERT_TRUE(await_exit(newcomer, &status));
	ASSERT_EQ(0, status);
	for (int i = 0; i < 20; i++)
		canary(); /* whichever worker has the cancel, it has come to it by then */
	EXPECT_EQ(SIZE, drain(&pipe).size());
}

// The number is given away while the request still waits in the socket.
TEST_F(OpenedByAnother, WhoSentItIsNotWhoHasItsNumberWhenItIsReceived)
{
	REQUIRE_ROOT();
	if (!tells_processes())
		GTEST_SKIP() << "this kernel does not say which process sent a datagram";
	ASSERT_NO_FATAL_FAILURE(start_with({}));
	Ends pipe = make_pipe(), channel = make_socketpair(SOCK_STREAM), go = make_pipe();
	const std::vector<pid_t> workers = daemon().workers();
	int status = -1;

	freeze(workers);
	opener_ = fork();
	if (opener_ == 0)
		_exit(send_fd(channel.in, sfd_open(srv(), "canary", 0, 0, false)) ? 0 : 1);
	ASSERT_TRUE(await_exit(opener_, &status));
	ASSERT_EQ(0, status);
	receive_fd(channel.out);
	const pid_t newcomer = fork_as(opener_);
	if (newcomer == 0) {
		go.in.reset();
		await(go.out, POLLHUP);
		_exit(read_info(status_, &info_) ? go_on(srv(), info_.txnid, pipe.in) : 0);
	}
	thaw(workers);
	go.in.reset();
	ASSERT_EQ(opener_, newcomer) << strerror(errno);
	ASSERT_TRUE(await_exit(newcomer, &status));
	EXPECT_EQ(0, status) << "it was refused, or asked for";
	canary();
	EXPECT_EQ(0u, drain(&pipe).size());
}

// The same of who asks for a queue: what answers the one that asked is now in other hands.
TEST_F(Identity, AQueueIsForTheProcessThatAskedForIt)
{
	REQUIRE_ROOT();
	if (!tells_processes())
		GTEST_SKIP() << "this kernel does not say which process sent a datagram";
	ASSERT_NO_FATAL_FAILURE(start_with({}));
	const std::vector<pid_t> workers = daemon().workers();
	RawQueue lost(srv(), QUEUE_ID), kept(srv(), QUEUE_ID + 1);
	Ends go = make_pipe();
	int status = -1;

	freeze(workers);
	const pid_t asker = fork();
	if (asker == 0)
		_exit(lost.ask());
	ASSERT_TRUE(await_exit(asker, &status));
	ASSERT_EQ(0, status);
	lost.letter_box().out.reset();
	/* Somebody has the number, so that the master finds a process by it. */
	const pid_t newcomer = fork_as(asker);
	if (newcomer == 0) {
		go.in.reset();
		await(go.out, POLLHUP);
		_exit(0);
	}
	ASSERT_EQ(asker, newcomer) << strerror(errno);
	thaw(workers);
	EXPECT_EQ(WIRE_NOTE_REFUSED, lost.answer().kind);
	EXPECT_FALSE(lost.channel() >= 0);
	kept.open();
	go.in.reset();
	ASSERT_TRUE(await_exit(newcomer, &status));
}

// The same process may go on, whoever else there is of its user; with an option any of them may.
TEST_F(OpenedByAnother, SharedIds)
{
	for (const bool shared : {false, true}) {
		ASSERT_NO_FATAL_FAILURE(
			start_with(shared ? std::vector<std::string>{"--shared-ids"} : std::vector<std::string>{}));
		ASSERT_NO_FATAL_FAILURE(open_in_child());
		Ends pipe = make_pipe();

		if (is_root())
			as_stranger([&] { return go_on(srv(), info_.txnid, pipe.in); });
		canary();
		ASSERT_EQ(0, await(status_, POLLIN, 100ms));
		ASSERT_EQ(0, go_on(srv(), info_.txnid, pipe.in));
		if (shared) {
			EXPECT_EQ(POLLIN, await(status_, POLLIN) & POLLIN);
			EXPECT_EQ(1000U, drain(&pipe).size());
		} else {
			canary();
			EXPECT_EQ(0, await(status_, POLLIN, 100ms));
			EXPECT_EQ(0u, drain(&pipe).size());
		}
		status_.reset();
		expect_idle();
		stop(SIGTERM, 0);
	}
	ASSERT_NO_FATAL_FAILURE(start_with({}));
}

// A queue ends with the process that has made it, though a forked child has all of its descriptors.
TEST_F(Identity, AQueueEndsWithItsProcess)
{
	ASSERT_NO_FATAL_FAILURE(start_with({}));
	Ends pipe = make_pipe(), life = make_pipe();
	int status = -1;
	add_file("large", 1 << 20);
	const pid_t owner = fork();

	if (owner == 0) {
		sfd_queue *q = sfd_queue_new(srv(), 8);

		pipe.out.reset();
		life.in.reset();
		if (!q || sfd_queue_send(q, "large", pipe.in, 0, 0, nullptr, 1) != 0)
			_exit(1);
		while (sfd_queue_submit(q) < 0)
			await(sfd_queue_fd(q), POLLIN);
		if (fork() == 0) {
			pipe.in.reset();
			await(life.out, POLLHUP, 50s);
			_exit(0);
		}
		_exit(0);
	}
	pipe.in.reset();
	ASSERT_TRUE(await_exit(owner, &status));
	ASSERT_EQ(0, status);
	/* Nobody reads, so what is there ends when the daemon lets go of the destination. */
	ASSERT_TRUE(eventually([&] { return (await(pipe.out, POLLHUP, 0ms) & POLLHUP) != 0; }));
	EXPECT_LT(drain(&pipe).size(), 1U << 20);
	expect_idle();
	life.in.reset();
}

// The master learns at once that the process and the channels of its queues are gone, in whatever order.
TEST_F(Identity, ManyQueuesOfAKilledProcess)
{
	ASSERT_NO_FATAL_FAILURE(start_with({}));

	for (int round = 0; round < 10; round++) {
		Ends ready = make_pipe();
		int status = -1;
		const pid_t owner = fork();

		if (owner == 0) {
			std::vector<sfd_queue *> queues;

			for (int i = 0; i < 40; i++) {
				queues.push_back(sfd_queue_new(srv(), 4));
				if (!queues.back() || sfd_queue_open(queues.back(), "canary", 0, 0, nullptr, 1) != 0)
					_exit(1);
				while (sfd_queue_submit(queues.back()) < 0)
					await(sfd_queue_fd(queues.back()), POLLIN);
			}
			ready.in.reset();
			pause();
		}
		ready.in.reset();
		ASSERT_NE(0, await(ready.out, POLLHUP));
		ASSERT_EQ(0, kill(owner, SIGKILL));
		ASSERT_TRUE(await_exit(owner, &status));
		expect_idle();
	}
	expect_same_workers();
}

} // namespace
