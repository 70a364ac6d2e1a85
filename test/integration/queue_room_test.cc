// SPDX-License-Identifier: BSD-2-Clause
// Queues that find no room: for descriptors, in the daemon's socket, in the daemon.
#include "test/support/datagram.h"
#include "test/support/fixture.h"
#include "test/support/queue.h"
#include "test/support/user.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

namespace
{

constexpr uid_t SERVER = 54322;
constexpr size_t SIZE = 1000;

class QueueRoom : public SfdTest
{
      protected:
	// Runs `what` in a child, whose result must be 0.
	template <typename What> void in_child(What what)
	{
		const pid_t child = fork();
		int status = -1;

		if (child == 0) {
			alarm(50);
			_exit(what());
		}
		EXPECT_TRUE(await_exit(child, &status, 55s));
		EXPECT_TRUE(WIFEXITED(status)) << status;
		EXPECT_EQ(0, WEXITSTATUS(status)) << "the child stopped at that line";
	}
};

// ---- Descriptors of the client

bool limit_descriptors(rlim_t n)
{
	const rlimit rl = {n, n};

	return setrlimit(RLIMIT_NOFILE, &rl) == 0;
}

// Whether a queue of this process does what it should.
bool serves(sfd_queue *q)
{
	sfd_event e;

	return sfd_queue_open(q, "missing", 0, 0, nullptr, 1) == 0 && await_event(q, &e) && e.type == SFD_EV_DONE &&
	       e.stat == ENOENT;
}

// A queue that cannot be made costs nothing. One that can be made works.
TEST_F(QueueRoom, FewDescriptors)
{
	ASSERT_NO_FATAL_FAILURE(start());
	in_child([&] {
		const Fd probe(open("/dev/null", O_RDONLY | O_CLOEXEC));
		const auto first = static_cast<rlim_t>(static_cast<int>(probe));
		bool made = false;

		for (rlim_t more = 0; more < 8; more++) {
			const size_t before = count_fds("self");
			const rlimit rl = {first + more, 1000};

			if (setrlimit(RLIMIT_NOFILE, &rl) < 0)
				return __LINE__;
			sfd_queue *q = sfd_queue_new(srv(), 16);
			const int err = errno;
			const rlimit enough = {1000, 1000};
			if (setrlimit(RLIMIT_NOFILE, &enough) < 0)
				return __LINE__;
			if (!q && (err != EMFILE || made))
				return __LINE__;
			if (q && !serves(q))
				return __LINE__;
			/* "Up to four" */
			if (q && count_fds("self") > before + 4)
				return __LINE__;
			sfd_queue_free(q);
			if (count_fds("self") != before)
				return __LINE__;
			made = made || q;
		}
		return made ? 0 : __LINE__;
	});
}

// So many of this user's are in flight that the kernel takes no more. Only root may go beyond that.
class QueueInFlight : public QueueRoom
{
      protected:
	static constexpr rlim_t LIMIT = 64;

	void SetUp() override
	{
		QueueRoom::SetUp();
		if (!is_root())
			GTEST_SKIP() << "only root can take another user's part";
		DaemonOptions options;
		options.more = {"-u", std::to_string(SERVER)};
		start(options);
		workers_ = daemon().workers();
	}

	void TearDown() override
	{
		if (!workers_.empty())
			stop_workers(SIGCONT);
		QueueRoom::TearDown();
	}

	// For the child: becomes a user whose descriptors in flight are counted, and makes a queue that the daemon has
	// consented to.
	sfd_queue *become_user(unsigned depth)
	{
		if (!become(SERVER) || !limit_descriptors(LIMIT))
			return nullptr;
		sfd_queue *q = sfd_queue_new(srv(), depth);
		return q && serves(q) ? q : nullptr;
	}

	// Those of the same user may be stopped by it.
	bool stop_workers(int signo)
	{
		for (const pid_t pid : workers_) {
			if (kill(pid, signo) < 0)
				return false;
		}
		/* It takes effect when they are next about to run their own code. */
		return signo != SIGSTOP || eventually([&] {
			for (const pid_t pid : workers_) {
				const std::string stat = read_whole("/proc/" + std::to_string(pid) + "/stat");

				if (stat[stat.rfind(") ") + 2] != 'T')
					return false;
			}
			return true;
		});
	}

	std::vector<pid_t> workers_;
};

// Reaps and submits whenever it is readable, as a program does: how often that was within the time.
unsigned count_wakeups(sfd_queue *q, milliseconds within)
{
	const Deadline deadline(within);
	unsigned wakeups = 0;
	sfd_event e;

	while (!deadline.passed() && await(sfd_queue_fd(q), POLLIN, milliseconds(deadline.left_ms())) != 0) {
		sfd_queue_reap(q, &e, 1);
		sfd_queue_submit(q);
		wakeups++;
	}
	return wakeups;
}

TEST_F(QueueInFlight, TriedAgainInAMoment)
{
	in_child([&] {
		constexpr int MANY = 500;
		const Fd null(open("/dev/null", O_WRONLY | O_CLOEXEC));
		sfd_queue *q = become_user(MANY);
		sfd_event e;
		int sent = 0, n;

		if (!q || !stop_workers(SIGSTOP))
			return __LINE__;
		for (uint64_t i = 0; i < MANY; i++) {
			if (sfd_queue_send(q, "canary", null, 0, 0, nullptr, i) < 0)
				return __LINE__;
		}
		while ((n = sfd_queue_submit(q)) > 0)
			sent += n;
		if (n != -1 || errno != ETOOMANYREFS || sent == 0 || sent >= MANY)
			return __LINE__;
		/* It is readable in a moment, again and again, but not all the time. */
		if (await(sfd_queue_fd(q), POLLIN, 5s) == 0)
			return __LINE__;
		if (count_wakeups(q, 200ms) > 200)
			return __LINE__;
		if (!stop_workers(SIGCONT))
			return __LINE__;
		for (int i = 0; i < MANY; i++) {
			if (!await_event(q, &e) || e.type != SFD_EV_DONE || e.stat != SFD_STAT_OK)
				return __LINE__;
		}
		if (sfd_queue_submit(q) != 0 || count_wakeups(q, 50ms) > 5)
			return __LINE__;
		sfd_queue_free(q);
		return 0;
	});
}

// First the one want, and then the other: the descriptor, which was readable because of the first, is not any more.
TEST_F(QueueInFlight, ThenTheSocketIsFull)
{
	in_child([&] {
		const Fd null(open("/dev/null", O_WRONLY | O_CLOEXEC));
		const Ends own = make_socketpair(SOCK_DGRAM);
		sfd_queue *q = become_user(100);
		sfd_event e;

		if (!q || !stop_workers(SIGSTOP))
			return __LINE__;
		for (uint64_t i = 0; i < 10; i++) {
			if (sfd_queue_send(q, "canary", null, 0, 0, nullptr, i) < 0)
				return __LINE__;
		}
		/* Descriptors that are in flight elsewhere. */
		const std::vector<int> many(2 * LIMIT, null);
		if (send_bytes(own.in, {0}, many) != 0)
			return __LINE__;
		if (sfd_queue_submit(q) != -1 || errno != ETOOMANYREFS)
			return __LINE__;
		/* What carries no descriptors fills the daemon's socket. */
		while (sfd_cancel(srv(), 1))
			;
		if (errno != EAGAIN || await(sfd_queue_fd(q), POLLIN, 5s) == 0)
			return __LINE__;
		char byte;
		if (recv(own.out, &byte, 1, 0) != 1) /* without a place for them: they are closed */
			return __LINE__;
		if (!eventually([&] { return sfd_queue_submit(q) == -1 && errno == EAGAIN; }))
			return __LINE__;
		if (count_wakeups(q, 200ms) > 20)
			return __LINE__;
		if (!stop_workers(SIGCONT))
			return __LINE__;
		for (int i = 0; i < 10; i++) {
			if (!await_event(q, &e) || e.type != SFD_EV_DONE || e.stat != SFD_STAT_OK)
				return __LINE__;
		}
		sfd_queue_free(q);
		return 0;
	});
}

// ---- The daemon

// The master, which is asked for its consent, is stopped; all of them have it in the end.
TEST_F(QueueRoom, ManyRegistrationsAtATime)
{
	constexpr size_t MANY = 64;
	std::vector<std::unique_ptr<Queue>> queues;

	ASSERT_NO_FATAL_FAILURE(start());
	freeze({daemon().master()});
	for (size_t i = 0; i < MANY; i++) {
		queues.push_back(std::make_unique<Queue>(srv(), 8));
		queues[i]->open("missing", i);
		EXPECT_EQ(-1, sfd_queue_submit(*queues[i]));
		EXPECT_EQ(EAGAIN, errno) << strerror(errno);
	}
	/* They have been received. */
	for (int i = 0; i < 16; i++)
		canary();
	for (auto &q : queues)
		q->reap();
	thaw({daemon().master()});
	for (size_t i = 0; i < MANY; i++)
		queues[i]->expect_end(i, ENOENT);
	queues.clear();
	expect_same_workers();
}

// Nobody reaps before all has been submitted, of several queues: what there is to tell is kept for them.
class QueueMany : public QueueRoom, public ::testing::WithParamInterface<bool>
{
};

TEST_P(QueueMany, FullQueues)
{
	constexpr size_t QUEUES = 20;
	const Ends dest = make_pipe(); /* nothing is sent but ends of the file, so it may serve many at a time */
	std::vector<std::unique_ptr<Queue>> queues;
	sfd_opts opts = {};

	limit(180);
	opts.flags = SFD_WANT_INFO;
	ASSERT_NO_FATAL_FAILURE(start());
	for (size_t i = 0; i < QUEUES; i++) {
		Queue &q = *queues.emplace_back(std::make_unique<Queue>(srv(), SFD_QUEUE_DEPTH_MAX));

		for (uint64_t k = 0; k < SFD_QUEUE_DEPTH_MAX; k++) {
			if (GetParam())
				q.send("canary", dest.in, k, &opts, SIZE);
			else
				q.open("missing", k);
			/* Each end comes in a record of its own, of which the channel holds fewer. */
			sfd_queue_submit(q);
		}
		ASSERT_TRUE(eventually([&] { return sfd_queue_submit(q) == 0; }, 30s));
	}
	for (int i = 0; i < 50; i++)
		canary();
	for (auto &q : queues) {
		q->finish(30s);
		for (uint64_t k = 0; k < SFD_QUEUE_DEPTH_MAX; k++) {
			const int stat = q->of(k).stat;

			ASSERT_EQ(GetParam() ? SFD_STAT_OK : ENOENT, stat) << sfd_strstat(stat);
		}
	}
	for (auto &q : queues) {
		q->open("canary", 1);
		EXPECT_EQ(SIZE, q->info_of(1).size);
	}
	queues.clear();
	expect_same_workers();
}

INSTANTIATE_TEST_SUITE_P(
	Of, QueueMany, ::testing::Bool(), [](const auto &i) { return i.param ? "Sends" : "Refusals"; });

// More transfers than the daemon has places for: those that are too many are told so, and the others are served.
TEST_F(QueueRoom, MoreThanTheDaemonHasPlacesFor)
{
	DaemonOptions options;
	unsigned refused = 0;

	options.more = {"-n", "20"};
	ASSERT_NO_FATAL_FAILURE(start(options));
	Queue q(srv());
	for (uint64_t i = 0; i < 100; i++)
		q.open("canary", i);
	ASSERT_TRUE(q.until([&] {
		size_t known = 0;

		for (uint64_t i = 0; i < 100; i++)
			known += q.of(i).infos > 0 || q.of(i).over();
		return known == 100;
	}));
	for (uint64_t i = 0; i < 100; i++) {
		if (q.of(i).over()) {
			EXPECT_EQ(EMFILE, q.of(i).stat) << sfd_strstat(q.of(i).stat);
			refused++;
		} else {
			Ends pipe = make_pipe();

			q.send_open(i, pipe.in);
			q.expect_success(i, SIZE);
			EXPECT_EQ(SIZE, drain(&pipe).size());
		}
	}
	EXPECT_EQ(80u, refused);
	EXPECT_EQ(0u, active_transfers(daemon()));
}

} // namespace
