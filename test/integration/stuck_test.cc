// SPDX-License-Identifier: BSD-2-Clause
// Workers that a client makes the kernel hold on to: each is replaced, and told of, while the client still does so.
#include "test/support/cold_fixture.h"
#include "test/support/datagram.h"
#include "test/support/queue.h"
#include "test/support/user.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>

namespace
{

class Stuck : public ColdTest
{
      protected:
	static constexpr int PLACES = 8, FILES = PLACES + 1;

	void SetUp() override
	{
		ColdTest::SetUp();
		if (IsSkipped())
			return;
		for (int i = 0; i < FILES; i++) {
			add_slow(name(i), 100000);
			fs().hold("read", name(i));
		}
	}

	static std::string name(int i)
	{
		return "hang" + std::to_string(i);
	}

	// Forks a process that does that with a hung file's content, and waits until it hangs.
	template <typename What> pid_t hang(What what)
	{
		/* Each has a file of its own: a page that is being read is read once. */
		const std::string hung = name(hung_++);
		const pid_t child = fork();

		if (child == 0) {
			const int file = open(fs().path(hung).c_str(), O_RDONLY | O_CLOEXEC);

			alarm(100);
			_exit(what(file) ? 0 : 1);
		}
		EXPECT_GT(child, 0);
		EXPECT_TRUE(eventually([&] { return fs().held("read", hung) > 0; }));
		return child;
	}

	// It holds the pipe's lock meanwhile.
	pid_t hang_on(const Ends &pipe)
	{
		return hang([&](int file) { return splice(file, nullptr, pipe.in, nullptr, 4096, 0) > 0; });
	}

	// The same for a socket's lock.
	pid_t hang_on_socket(int sock)
	{
		return hang([&](int file) {
			void *map = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, file, 0);

			return map != MAP_FAILED && ::send(sock, map, 4096, 0) > 0;
		});
	}

	// The one worker that is none of those; 0: there is none. (Numbers of processes begin anew now and then.)
	pid_t other_than(const std::vector<pid_t> &workers)
	{
		for (const pid_t pid : daemon().workers()) {
			if (std::count(workers.begin(), workers.end(), pid) == 0)
				return pid;
		}
		return 0;
	}

	// Workers that wait for a lock, or something else that no signal ends.
	int hanging()
	{
		const std::vector<pid_t> all = daemon().workers();

		return (int)std::count_if(all.begin(), all.end(), waits_for_file);
	}

	// A client, which ends as it should once it has all that it asks for by calls and by a queue, when it is told to.
	[[noreturn]] void ask_for_all(const std::vector<Ends> &pipes, int socket, int ready, int go)
	{
		const int srv = daemon().connect();
		const Ends free = make_pipe();
		std::vector<int> dests = {socket}, channels;
		Queue q(srv, 16);
		char byte;

		alarm(100);
		for (const Ends &p : pipes)
			dests.push_back(p.in);
		q.send("canary", free.in, 100); /* it is known to the workers then */
		q.expect_success(100, 1000);
		if (write(ready, "", 1) != 1 || read(go, &byte, 1) != 1)
			_exit(1);
		for (size_t i = 0; i < dests.size(); i++) {
			channels.push_back(sfd_send(srv, "canary", dests[i], 0, 0, false));
			q.send("canary", dests[i], i);
		}
		if (q.submit() != 0 || write(ready, "", 1) != 1)
			_exit(2);
		for (size_t i = 0; i < dests.size(); i++)
			q.expect_success(i, 1000);
		for (const int channel : channels) {
			if (await(channel, POLLIN) == 0)
				_exit(3);
		}
		_exit(HasFailure() ? 4 : 0);
	}

	// Its reading end waits.
	static Ends make_full_fifo(const std::string &path)
	{
		const std::string page(4096, 'x');
		Ends f;

		EXPECT_EQ(0, mkfifo(path.c_str(), 0600));
		f.out.reset(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
		f.in.reset(open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
		while (write(f.in, page.data(), page.size()) > 0)
			;
		EXPECT_EQ(EAGAIN, errno);
		EXPECT_EQ(0, fcntl(f.out, F_SETFL, 0));
		return f;
	}

	// A client that asks for one more whenever it is told to, and ends when it is told to once more.
	[[noreturn]] void send_to_each(const std::vector<Ends> &dests, int ready, int go)
	{
		const int srv = daemon().connect();
		char byte;

		alarm(100);
		for (const Ends &d : dests) {
			if (read(go, &byte, 1) != 1 || sfd_send(srv, "canary", d.in, 0, 0, false) < 0 ||
				write(ready, "", 1) != 1)
				_exit(1);
		}
		_exit(read(go, &byte, 1) == 1 ? 0 : 2);
	}

	// And the others serve.
	void expect_one_hangs()
	{
		ASSERT_TRUE(eventually([&] { return hanging() > 0; }));
		for (int i = 0; i < 50; i++) {
			canary();
			ASSERT_EQ(1, hanging());
		}
	}

	// Those processes end well once what they wait for comes.
	void expect_all_go_on(const std::vector<pid_t> &children)
	{
		fs().release();
		for (const pid_t pid : children) {
			int status = -1;

			EXPECT_TRUE(await_exit(pid, &status));
			EXPECT_EQ(0, status);
		}
		expect_same_workers();
	}

	void expect_replaced(pid_t worker, size_t workers)
	{
		EXPECT_TRUE(daemon().await_log("(pid " + std::to_string(worker) + ") has been stuck for "));
		EXPECT_TRUE(daemon().await_log(
			"with a request of uid " + std::to_string(getuid()) + ", pid " + std::to_string(getpid())));
		/* The kernel still has it, and another one serves. */
		for (int i = 0; i < 20; i++)
			canary();
		EXPECT_TRUE(process_lives(worker));
		EXPECT_EQ(workers + 1, daemon().workers().size());
	}

	void expect_end(pid_t child, pid_t worker)
	{
		int status = -1;

		fs().release();
		EXPECT_TRUE(await_exit(child, &status));
		EXPECT_TRUE(await_gone(worker));
		EXPECT_TRUE(daemon().await_log("a worker that was stuck (pid " + std::to_string(worker) + ") is gone"));
	}

      private:
	int hung_ = 0;
};

TEST_F(Stuck, InAPipe)
{
	constexpr uint64_t MANY = 20;
	Ends locked = make_pipe();
	ASSERT_NO_FATAL_FAILURE(serve({"--worker-timeout", "2000"}, 1));
	const pid_t worker = daemon().workers()[0];
	Queue q(srv());

	for (uint64_t i = 0; i < MANY; i++)
		q.open("canary", i);
	ASSERT_EQ(0, q.submit());
	for (uint64_t i = 0; i < MANY; i++)
		q.info_of(i);
	const pid_t child = hang_on(locked);
	q.send("canary", locked.in, 500);
	ASSERT_EQ(0, q.submit());
	expect_replaced(worker, 1);
	/* All other requests that it held have ended; that one does when it is over. */
	EXPECT_TRUE(q.until([&] { return q.outstanding() <= 1; })) << q.outstanding();
	for (uint64_t i = 0; i < MANY; i++)
		q.expect_end(i, SFD_STAT_WORKER_DIED);
	/* The queue goes on with the new worker. */
	Ends pipe = make_pipe();
	q.send("canary", pipe.in, 600);
	ASSERT_EQ(0, q.submit());
	EXPECT_TRUE(q.until([&] { return q.of(600).ended == 1; }));
	EXPECT_EQ(1000U, drain(&pipe).size());
	expect_end(child, worker);
	q.finish();
	EXPECT_EQ(1U, q.of(500).ended);
	q.expect_quiet();
}

TEST_F(Stuck, InASocket)
{
	Ends tcp = make_tcp_pair();
	ASSERT_NO_FATAL_FAILURE(serve({"--worker-timeout", "2000"}, 1));
	const pid_t worker = daemon().workers()[0];

	ASSERT_EQ(0, fcntl(tcp.in, F_SETFL, O_NONBLOCK));
	const pid_t child = hang_on_socket(tcp.in);
	const Fd status(sfd_send(srv(), "canary", tcp.in, 0, 0, false));
	expect_replaced(worker, 1);
	expect_end(child, worker);
	/* Its client sees the end of the channel, or an outcome: nothing hangs. */
	EXPECT_NE(0, await(status, POLLIN));
}

// Somebody who is not served at all holds up one worker, by the pipe on which he is to be told so; and closing it would, too.
TEST_F(Stuck, ByAStranger)
{
	constexpr uid_t STRANGER = 54322;
	Ends locked = make_pipe();

	if (!is_root())
		GTEST_SKIP() << "only root can take another user's part";
	ASSERT_NO_FATAL_FAILURE(serve({"--worker-timeout", "0", "--socket-mode", "0666"}, 2));
	const pid_t child = hang_on(locked);
	const auto ask_as_stranger = [&](const std::vector<int> &fds) {
		const Bytes bytes = Datagram().add(make_request(WIRE_OP_PING, "")).bytes();

		EXPECT_EQ(0, as_user(STRANGER, [&] { return send_bytes(daemon().connect(), bytes, fds); }));
	};
	for (int i = 0; i < 20; i++) {
		ask_as_stranger(std::vector<int>(1 + i % 3, locked.in));
		canary();
	}
	/* Nobody has been replaced: it is as if there were one worker less. */
	expect_same_workers();
	int status = -1;
	fs().release();
	EXPECT_TRUE(await_exit(child, &status));
	locked.in.reset();
	expect_idle();
	/* And then each is told again. */
	for (int i = 0; i < 10; i++) {
		Ends channel = make_pipe();

		ask_as_stranger({channel.in});
		channel.in.reset();
		expect_refused(read_outcome(channel.out), EACCES);
	}
}

// One after the other, as many as there are places for: the master never waits, and the last one is not replaced.
TEST_F(Stuck, AgainAndAgain)
{
	std::vector<Ends> locked;
	std::vector<pid_t> children, workers;
	std::vector<Fd> channels;
	limit(150);
	ASSERT_NO_FATAL_FAILURE(serve({"--worker-timeout", "1000"}, 1));

	for (int i = 0; i <= PLACES; i++) {
		const pid_t worker = other_than(workers);

		ASSERT_GT(worker, 0);
		locked.push_back(make_pipe());
		children.push_back(hang_on(locked.back()));
		channels.emplace_back(sfd_send(srv(), "canary", locked.back().in, 0, 0, false));
		ASSERT_TRUE(daemon().await_log("(pid " + std::to_string(worker) + ") has been stuck for "));
		workers.push_back(worker);
		if (i < PLACES) {
			ASSERT_TRUE(eventually([&] { return other_than(workers) > 0; }));
			canary();
		}
	}
	EXPECT_TRUE(daemon().await_log("cannot be replaced before the kernel lets go of it"));
	fs().release();
	for (const pid_t child : children) {
		int status = -1;

		EXPECT_TRUE(await_exit(child, &status));
	}
	for (const pid_t worker : workers)
		EXPECT_TRUE(await_gone(worker));
	EXPECT_TRUE(eventually([&] { return daemon().workers().size() == 1; }));
	canary();
}

// Who hangs is given the time in which the master was there to see it: the machine may have been asleep, and all with it.
TEST_F(Stuck, NotForATimeInWhichTheMasterDidNotRun)
{
	Ends locked = make_pipe();
	ASSERT_NO_FATAL_FAILURE(serve({"--worker-timeout", "6000"}, 1));
	const pid_t worker = daemon().workers()[0];
	int status = -1;
	const pid_t child = hang_on(locked);
	const Fd channel(sfd_send(srv(), "canary", locked.in, 0, 0, false));

	ASSERT_TRUE(eventually([&] { return waits_for_file(worker); }));
	/* It looks each second: once or twice before, and as often after. */
	std::this_thread::sleep_for(1200ms);
	freeze({daemon().master()});
	std::this_thread::sleep_for(8s);
	thaw({daemon().master()});
	std::this_thread::sleep_for(1500ms);
	EXPECT_EQ(std::vector<pid_t>{worker}, daemon().workers());
	EXPECT_EQ(std::string::npos, daemon().log().find("has been stuck"));
	fs().release();
	EXPECT_TRUE(await_exit(child, &status));
	locked.in.reset();
	EXPECT_NE(0, await(channel, POLLIN));
	canary();
	expect_same_workers();
}

// A worker that goes round in circles. None does, but one that was built for it.
TEST_F(SfdTest, SpinningWorkerIsReplaced)
{
	const std::string hook = make_hook(dir());
	DaemonOptions options = dying_at("datagram-received:spins", hook);
	Ends pipe = make_pipe();

	options.workers = 1;
	options.more = {"--worker-timeout", "2000"};
	ASSERT_NO_FATAL_FAILURE(start(options));
	const pid_t worker = daemon().workers()[0];
	Queue q(srv());
	q.send("canary", pipe.in, 1);
	write_whole(hook, "", 0666);
	ASSERT_EQ(0, q.submit());
	/* It takes half of a processor at least for as long as that, which others may take from it for a while. */
	EXPECT_TRUE(daemon().await_log("(pid " + std::to_string(worker) + ") has been stuck for ", 40s));
	EXPECT_TRUE(daemon().await_log(", using the processor, with a request of uid "));
	q.expect_end(1, SFD_STAT_WORKER_DIED);
	EXPECT_TRUE(await_gone(worker));
	canary();
	EXPECT_EQ(1U, daemon().workers().size());
}

// What somebody who is served gets: 0, or his request's status; 2: his channel ends; 1: he could not ask.
class StuckByUser : public Stuck
{
      protected:
	static constexpr uid_t USER = 54321;

	int ask(int dest)
	{
		return as_user(USER, [&] {
			const int channel = sfd_send(daemon().connect(), "canary", dest, 0, 0, false);
			char frame[SFD_MAX_RESP_SIZE];

			return channel < 0 ? 1 : read(channel, frame, sizeof frame) == 0 ? 2 : 0;
		});
	}

	int ask_a_queue()
	{
		return as_user(USER, [&] {
			const Ends pipe = make_pipe();
			sfd_queue *q = sfd_queue_new(daemon().connect(), 4);
			sfd_event e;

			if (!q || sfd_queue_send(q, "canary", pipe.in, 0, 0, nullptr, 1) < 0)
				return 1;
			return sfd_queue_wait(q, &e, 1, 20000) != 1 ? 1 : e.stat;
		});
	}

	// Those that have been replaced, and the others.
	std::vector<pid_t> workers(bool stuck)
	{
		const std::string log = daemon().log();
		std::vector<pid_t> out;

		for (const pid_t pid : daemon().workers()) {
			const bool found =
				log.find("(pid " + std::to_string(pid) + ") has been stuck") != std::string::npos;

			if (found == stuck)
				out.push_back(pid);
		}
		return out;
	}

	// Has a worker hang on a request of that user, who stays there for it to be made.
	void wedge()
	{
		const Ends asked = make_pipe();

		locked_.push_back(make_pipe());
		children_.push_back(hang_on(locked_.back()));
		const pid_t client = fork();
		if (client == 0) {
			alarm(100);
			if (!become(USER) ||
				sfd_send(daemon().connect(), "canary", locked_.back().in, 0, 0, false) < 0 ||
				write(asked.in, "", 1) != 1)
				_exit(1);
			pause();
		}
		children_.push_back(client);
		ASSERT_NE(0, await(asked.out, POLLIN));
	}
	void await_replaced(size_t n)
	{
		ASSERT_TRUE(eventually([&] { return workers(true).size() == n && workers(false).size() == 2; }));
		canary();
	}

	// A child of that user, who has a queue and transfers. When he is told so he goes on; what he gets then is as for one who is
	// barred, or his exit status is not 0.
	pid_t start_owner(const Ends &ready, const Ends &told)
	{
		const pid_t child = fork();

		if (child != 0)
			return child;
		alarm(100);
		if (!become(USER))
			_exit(1);
		Ends full = make_pipe(), pipe = make_pipe();
		Queue q(daemon().connect(), 16);
		q.send("large", full.in, 1);
		q.open("canary", 2);
		q.info_of(2);
		if (write(ready.in, "", 1) != 1)
			_exit(1);
		await(told.out, POLLIN, 90s);
		q.send("canary", pipe.in, 3);
		q.expect_end(3, EDQUOT);
		q.cancel(1);
		q.expect_end(1, ECANCELED);
		q.send_open(2, pipe.in);
		q.expect_end(2, EMFILE);
		_exit(HasFailure() ? 2 : 0);
	}

	void TearDown() override
	{
		if (!children_.empty())
			fs().release();
		for (const pid_t pid : children_) {
			int status = -1;

			kill(pid, SIGKILL);
			EXPECT_TRUE(await_exit(pid, &status));
		}
		locked_.clear();
		Stuck::TearDown();
	}

	std::vector<Ends> locked_;
	std::vector<pid_t> children_;
};

// What holds up one worker does not hold up the other, however often it is asked for; and all is done when it is over.
TEST_F(StuckByUser, OneWorkerAndNotTheOther)
{
	constexpr int MANY = 20;
	Ends ready = make_pipe();

	if (!is_root())
		GTEST_SKIP() << "only root can take another user's part";
	ASSERT_NO_FATAL_FAILURE(
		serve({"--worker-timeout", "0", "--socket-mode", "0666", "--allow-user", std::to_string(USER)}, 2));
	canary(); /* without others he would hold up nobody but himself */
	wedge();
	ASSERT_TRUE(eventually([&] { return hanging() == 1; }));
	/* It may yet come back from it at once, as far as the other one knows. */
	std::this_thread::sleep_for(400ms);

	const pid_t client = fork();
	if (client == 0) {
		std::vector<int> channels;

		alarm(100);
		if (!become(USER))
			_exit(1);
		const int srv = daemon().connect();
		Ends pipe = make_pipe();
		Queue q(srv, 4);
		for (int i = 0; i < MANY; i++)
			channels.push_back(when_room(
				srv, [&] { return sfd_send(srv, "canary", locked_.back().in, 0, 0, false); }));
		q.send("canary", pipe.in, 1);
		if (q.submit() != 0 || write(ready.in, "", 1) != 1)
			_exit(2);
		q.expect_success(1, 1000);
		for (const int channel : channels) {
			if (await(channel, POLLIN) == 0)
				_exit(3);
		}
		_exit(HasFailure() ? 4 : 0);
	}
	for (int i = 0; i < 2 * MANY; i++)
		canary();
	EXPECT_EQ(1, hanging());
	expect_same_workers();

	int status = -1;
	fs().release();
	EXPECT_TRUE(await_exit(client, &status));
	EXPECT_EQ(0, status);
	EXPECT_NE(0, await(ready.out, POLLIN)) << "a queue of his was not to be had";
	expect_same_workers();
}

// They all come at the same moment, of several processes: one worker touches what is theirs, and whoever else has such a request waits.
TEST_F(StuckByUser, OneWorkerHoweverManyAtOnce)
{
	constexpr int WORKERS = 3;

	if (!is_root())
		GTEST_SKIP() << "only root can take another user's part";
	ASSERT_NO_FATAL_FAILURE(serve(
		{"--worker-timeout", "0", "--socket-mode", "0666", "--allow-user", std::to_string(USER)}, WORKERS));
	freeze(daemon().workers());
	for (int i = 0; i < WORKERS + 2; i++)
		ASSERT_NO_FATAL_FAILURE(wedge());
	thaw(daemon().workers());
	ASSERT_NO_FATAL_FAILURE(expect_one_hangs());
	std::this_thread::sleep_for(400ms);
	canary();
	EXPECT_EQ(1, hanging());
	expect_same_workers();
	fs().release();
	EXPECT_TRUE(eventually([&] { return hanging() == 0; }));
	EXPECT_EQ(0, ask(locked_[1].in)) << "it is served again";
	expect_same_workers();
}

// The same for one process of a user who has no limits: another process of his is served. By calls and a queue, to pipes and a socket.
TEST_F(Stuck, OneWorkerHoweverManyAtOnce)
{
	constexpr int PIPES = 3, WORKERS = 3;
	Ends ready = make_pipe(), go = make_pipe(), tcp = make_tcp_pair();
	std::vector<Ends> pipes;
	std::vector<pid_t> children;
	ASSERT_NO_FATAL_FAILURE(serve({"--worker-timeout", "0"}, WORKERS));
	ASSERT_EQ(0, fcntl(tcp.in, F_SETFL, O_NONBLOCK));
	for (int i = 0; i < PIPES; i++) {
		pipes.push_back(make_pipe());
		children.push_back(hang_on(pipes.back()));
	}
	children.push_back(hang_on_socket(tcp.in));

	const pid_t client = fork();
	if (client == 0) {
		ask_for_all(pipes, tcp.in, ready.in, go.out);
	}
	children.push_back(client);
	const auto next = [&] {
		char byte;

		return read(ready.out, &byte, 1) == 1;
	};
	ready.in.reset();
	ASSERT_TRUE(next());
	freeze(daemon().workers());
	ASSERT_EQ(1, write(go.in, "", 1));
	ASSERT_TRUE(next());
	thaw(daemon().workers());
	ASSERT_NO_FATAL_FAILURE(expect_one_hangs());
	expect_all_go_on(children);
}

// The daemon's are the last write ends, whose closing needs the lock that a reader has; of FIFOs, which are closed in a way of their own.
TEST_F(Stuck, OneWorkerHoweverManyCloses)
{
	constexpr int FIFOS = 6, WORKERS = 3;
	const Ends ready = make_pipe(), go = make_pipe();
	std::vector<Ends> fifos;
	std::vector<pid_t> children;

	ASSERT_NO_FATAL_FAILURE(serve({"--worker-timeout", "0"}, WORKERS));
	for (int i = 0; i < FIFOS; i++)
		fifos.push_back(make_full_fifo(in_root("fifo" + std::to_string(i))));
	const std::vector<pid_t> workers = daemon().workers();
	freeze(workers);
	const pid_t client = fork();
	if (client == 0)
		send_to_each(fifos, ready.in, go.out);
	for (int i = 0; i < FIFOS; i++) {
		char byte;

		ASSERT_EQ(1, write(go.in, "", 1));
		ASSERT_EQ(1, read(ready.out, &byte, 1));
		thaw({workers[i % WORKERS]}); /* so that each has some */
		canary();
		freeze({workers[i % WORKERS]});
		fifos[i].in.reset();
	}
	thaw(workers);
	for (const Ends &f : fifos) {
		children.push_back(hang([&](int file) {
			void *map = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);

			return map != MAP_FAILED && read(f.out, map, 4096) > 0;
		}));
	}
	ASSERT_EQ(1, write(go.in, "", 1));
	children.push_back(client);
	ASSERT_NO_FATAL_FAILURE(expect_one_hangs());
	expect_all_go_on(children);
}

// Who has had half as many replaced as can be is kept out until one of them is let go; others are served.
TEST_F(StuckByUser, AgainAndAgain)
{
	constexpr int TOO_MANY = PLACES / 2;
	Ends mine = make_pipe(), ready = make_pipe(), told = make_pipe();
	int status = -1;
	limit(150);

	if (!is_root())
		GTEST_SKIP() << "only root can take another user's part";
	add_file("large", 1 << 20);
	ASSERT_NO_FATAL_FAILURE(
		serve({"--worker-timeout", "1000", "--socket-mode", "0666", "--allow-user", std::to_string(USER)}, 2));
	ASSERT_EQ(0, ask(mine.in));
	ASSERT_EQ(0, ask_a_queue());
	for (int i = 1; i < TOO_MANY; i++) {
		wedge();
		ASSERT_NO_FATAL_FAILURE(await_replaced(i));
	}
	EXPECT_EQ(0, ask(mine.in)) << "it is too early";
	/* One worker has what the user has begun, and the other one is to hang. */
	const std::vector<pid_t> serving = workers(false);
	freeze({serving[0]});
	const pid_t owner = start_owner(ready, told);
	ASSERT_NE(0, await(ready.out, POLLIN));
	thaw({serving[0]});
	freeze({serving[1]});
	wedge();
	ASSERT_TRUE(eventually([&] { return waits_for_file(serving[0]); }));
	thaw({serving[1]});
	ASSERT_NO_FATAL_FAILURE(await_replaced(TOO_MANY));
	ASSERT_TRUE(daemon().await_log("uid " + std::to_string(USER) + " is not served while "));
	/* Also with a pipe that would hold the worker up. */
	EXPECT_EQ(2, ask(mine.in));
	EXPECT_EQ(2, ask(locked_[0].in));
	EXPECT_EQ(EDQUOT, ask_a_queue());
	ASSERT_EQ(1, write(told.in, "", 1));
	EXPECT_TRUE(await_exit(owner, &status));
	EXPECT_EQ(0, status);
	canary();
	EXPECT_EQ(size_t{TOO_MANY}, workers(true).size());
	fs().release();
	EXPECT_TRUE(eventually([&] { return workers(true).empty(); }));
	EXPECT_TRUE(eventually([&] { return ask(mine.in) == 0; })) << "it is not served again";
}

// A worker that does not run at all is left alone: it may be a debugger's.
TEST_F(Stuck, NotWhoIsStopped)
{
	ASSERT_NO_FATAL_FAILURE(serve({"--worker-timeout", "1000"}, 2));
	const std::vector<pid_t> workers = daemon().workers();

	freeze({workers[1]});
	/* So long as would have been enough, and longer; others are served. */
	for (const Deadline deadline(4s); !deadline.passed();)
		canary();
	thaw({workers[1]});
	EXPECT_EQ(workers, daemon().workers());
	EXPECT_EQ(std::string::npos, daemon().log().find("has been stuck"));
	fs().release();
}

} // namespace
