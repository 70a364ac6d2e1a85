// SPDX-License-Identifier: BSD-2-Clause
// What a single client can do to its own descriptors must not cost the others the daemon.
#include "test/support/datagram.h"
#include "test/support/fixture.h"
#include "test/support/run.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <fstream>
#include <poll.h>
#include <sstream>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>

namespace
{

class Availability : public SfdTest
{
      protected:
	void start_with(unsigned workers, std::vector<std::string> more = {}, std::vector<std::string> wrapper = {})
	{
		DaemonOptions options;

		options.workers = workers;
		options.more = std::move(more);
		options.wrapper = std::move(wrapper);
		start(options);
	}

	// Processor time of all workers so far, in clock ticks.
	long cpu_ticks()
	{
		long sum = 0;

		for (const pid_t pid : daemon().workers()) {
			std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
			std::string line, field;

			std::getline(in, line);
			std::istringstream fields(line.substr(line.rfind(')') + 2));
			for (int i = 0; i < 13 && fields >> field; i++) {
				if (i >= 11) // utime and stime
					sum += std::stol(field);
			}
		}
		return sum;
	}
};

// A TCP socket reports an error for as long as its queue of zero-copy notices is not read; that is no obstacle.
TEST_F(Availability, UnreadErrorQueueDoesNotSpin)
{
	start_with(1);
	add_file("large", 16 << 20);
	Ends tcp = make_tcp_pair();
	const int one = 1;
	const long per_second = sysconf(_SC_CLK_TCK);

	if (setsockopt(tcp.out, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof one) < 0)
		GTEST_SKIP() << "no SO_ZEROCOPY here";
	ASSERT_EQ(1, send(tcp.out, "x", 1, MSG_ZEROCOPY));
	ASSERT_EQ(0, fcntl(tcp.out, F_SETFL, O_NONBLOCK));
	ASSERT_NE(0, await(tcp.out, 0) & POLLERR) << "the notice is there";
	Fd status(sfd_send(srv(), "large", tcp.out, 0, 0, false));
	sfd_file_info info;
	ASSERT_TRUE(read_info(status, &info));

	const long before = cpu_ticks();
	ASSERT_EQ(0, await(status, POLLHUP, 1s)) << "stalled: neither frame nor end";
	EXPECT_LT(cpu_ticks() - before, per_second / 4) << "a worker spins";
	canary();

	// And it goes on, to the end, as soon as there is room.
	std::string got(1 << 20, 0);
	uint64_t total = 0;
	while (total < 1 + (16 << 20)) {
		ASSERT_NE(0, await(tcp.in, POLLIN));
		const ssize_t n = read(tcp.in, got.data(), got.size());
		ASSERT_GT(n, 0);
		total += static_cast<uint64_t>(n);
	}
	expect_success(read_rest(status, info), 16 << 20);
	tcp = Ends();
	status.reset();
	expect_idle();
}

// close(2) of such a socket waits until its peer has read everything, or for so many seconds; and a worker that closed these
// itself would wait for one after the other, if only for a tick each.
TEST_F(Availability, LingeringSocketsDoNotHoldUpOthers)
{
	constexpr int SOCKETS = 60;
	start_with(1);
	add_file("large", 16 << 20);
	const linger patient = {1, 30};
	std::vector<Ends> kept;
	std::vector<Fd> channels;

	for (int i = 0; i < SOCKETS; i++) {
		Ends tcp = make_tcp_pair();

		ASSERT_EQ(0, fcntl(tcp.out, F_SETFL, O_NONBLOCK));
		ASSERT_EQ(0, setsockopt(tcp.out, SOL_SOCKET, SO_LINGER, &patient, sizeof patient));
		channels.emplace_back(sfd_send(srv(), "large", tcp.out, 0, 0, false));
		sfd_file_info info;
		ASSERT_TRUE(read_info(channels.back(), &info));
		kept.push_back(std::move(tcp));
	}
	freeze(daemon().workers());
	for (Ends &tcp : kept)
		tcp.out.reset(); // the daemon's copy is the last one
	channels.clear();
	thaw(daemon().workers());
	const auto begin = Clock::now();
	for (int i = 0; i < 10; i++)
		canary();
	EXPECT_LT(Clock::now() - begin, SOCKETS * 25ms); // of a tick, 100 ms, it would be half on average
	expect_idle(5s);
}

// A client that never reads its refusals fills its own pipe, not the daemon.
TEST_F(Availability, UnreadRefusalsAreBounded)
{
	start_with(1, {"-n", "10"});
	int ends[2];
	ASSERT_EQ(0, pipe2(ends, O_CLOEXEC));
	Fd in(ends[0]), out(ends[1]);
	const std::string filler(1 << 16, 'x');
	ASSERT_EQ(0, fcntl(out, F_SETFL, O_NONBLOCK));
	ASSERT_EQ(1 << 16, write(out, filler.data(), filler.size()));

	/* Once it has been looked up, that it is missing is known in memory: no helper is waited for, by a transfer each. */
	const Fd first(sfd_open(srv(), "no-such-file", 0, 0, false));
	ASSERT_EQ(ENOENT, read_outcome(first).stat());
	Datagram d;
	d.add(make_request(WIRE_OP_OPEN, "no-such-file"));
	for (int i = 0; i < 300; i++)
		ASSERT_EQ(0, send_bytes(srv(), d.bytes(), {out}));
	canary();
	in.reset();
	out.reset();
	expect_idle();
}

// Mail for a worker that does not read it: cancels that anybody may send, for ids that nobody has.
TEST_F(Availability, StoppedWorkerHoldsUpNoOther)
{
	start_with(3);
	add_file("file", 4096);
	const std::vector<pid_t> workers = daemon().workers();
	// An id of each worker, so that the generation in it is right; the rest is guessed.
	std::vector<size_t> ids;

	for (unsigned slot = 0; slot < 3; slot++)
		ids.push_back(static_cast<size_t>(slot) << 56 | size_t{1} << 48 | 12345);
	for (const pid_t stopped : workers) {
		ASSERT_EQ(0, kill(stopped, SIGSTOP));
		for (int i = 0; i < 400; i++) {
			for (const size_t id : ids)
				ASSERT_TRUE(when_room(srv(), [&] { return sfd_cancel(srv(), id); }));
		}
		canary();
		ASSERT_EQ(0, kill(stopped, SIGCONT));
	}
	expect_idle();
	expect_same_workers();
}

// Such a descriptor is its own reader: its client's death would never be seen.
TEST_F(Availability, StatusChannelOpenForReadingTooIsNotTaken)
{
	start_with(1);
	add_file("file", 4096);
	const std::string path = dir() + "/fifo";
	ASSERT_EQ(0, mkfifo(path.c_str(), 0600));
	Fd both(open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
	char byte;

	Datagram d;
	d.add(make_request(WIRE_OP_OPEN, "file"));
	ASSERT_EQ(0, send_bytes(srv(), d.bytes(), {both}));
	canary();
	EXPECT_EQ(-1, read(both, &byte, 1));
	EXPECT_EQ(EAGAIN, errno);
	both.reset();
	expect_idle();
}

// The limit on the size of files is an error of the transfer that reaches it.
TEST_F(Availability, FileSizeLimitIsTheTransfersError)
{
	start_with(1, {}, {"sh", "-c", "ulimit -f 100; exec \"$@\"", "sh"});
	add_file("file", 1 << 20);
	const std::string path = dir() + "/out";
	Fd out(open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	Fd status(sfd_send(srv(), "file", out, 0, 0, false));
	const Outcome o = read_outcome(status);

	EXPECT_EQ(EFBIG, o.stat());
	struct stat st;
	ASSERT_EQ(0, fstat(out, &st));
	EXPECT_EQ(static_cast<uint64_t>(st.st_size), o.total());
	status.reset();
	out.reset();
	expect_idle();
	expect_same_workers();
}

// The tick's signal may come at any moment; it may end a wait, and nothing else.
TEST_F(Availability, SignalsOfTheTickLoseNothing)
{
	start_with(2);
	const std::string content = add_file("file", 5000);
	const std::vector<pid_t> workers = daemon().workers();
	std::atomic<bool> done{false};
	std::thread ticker([&] {
		while (!done) {
			for (const pid_t pid : workers)
				kill(pid, SIGALRM);
		}
	});

	for (int i = 0; i < 1000 && !HasFailure(); i++) {
		Ends tcp = make_tcp_pair();
		ASSERT_EQ(0, fcntl(tcp.out, F_SETFL, O_NONBLOCK));
		Fd status(when_room(srv(), [&] { return sfd_send(srv(), "file", tcp.out, 0, 0, false); }));
		expect_success(read_outcome(status), content.size());

		status = Fd(when_room(srv(), [&] { return sfd_open(srv(), "file", 0, 0, false); }));
		sfd_file_info info;
		if (!read_info(status, &info))
			break;
		if (i % 2 == 0) {
			ASSERT_TRUE(when_room(srv(), [&] { return sfd_send_open(srv(), info.txnid, tcp.out); }));
			expect_success(read_rest(status, info), content.size());
		} else {
			ASSERT_TRUE(when_room(srv(), [&] { return sfd_cancel(srv(), info.txnid); }));
			EXPECT_EQ(ECANCELED, read_rest(status, info).stat());
		}
	}
	done = true;
	ticker.join();
	expect_idle();
	expect_same_workers();
}

// A batch shares what one transfer may move on arrival, so that it does not hold up the rest for long.
TEST_F(Availability, LargeBatchIsServedWhole)
{
	start_with(1);
	const std::string content = add_file("file", 300000);
	std::vector<std::unique_ptr<Dest>> dests;
	std::vector<int> fds;
	int ends[2];
	ASSERT_EQ(0, pipe2(ends, O_CLOEXEC));
	Fd in(ends[0]), out(ends[1]);
	Datagram d;

	fds.push_back(out);
	for (unsigned i = 0; i < WIRE_COUNT_MAX; i++) {
		dests.push_back(std::make_unique<Dest>(DestType{Kind::Unix, true}, dir()));
		dests.back()->start_reading();
		fds.push_back(dests.back()->fd());
		d.add(make_request(WIRE_OP_SEND, "file", i + 1));
	}
	ASSERT_EQ(0, send_bytes(srv(), d.bytes(), fds));
	out.reset();
	const auto outcomes = read_outcomes(in);
	EXPECT_EQ(size_t{WIRE_COUNT_MAX}, outcomes.size());
	for (const auto &[tag, o] : outcomes)
		expect_success(o, content.size());
	for (const auto &dest : dests)
		EXPECT_TRUE(same_content(content, dest->finish()));
	dests.clear();
	in.reset();
	expect_idle();
}

// Whoever starts a daemon in the background gets its end-of-file, as a shell's $(...) waits for it.
TEST_F(Availability, BackgroundDaemonLeavesItsStartersDescriptors)
{
	const std::string name = "background", sock = dir() + "/sock";
	ASSERT_EQ(0, mkdir(sock.c_str(), 0755));
	const auto begin = Clock::now();
	const RunResult r = run(
		{"sh", "-c", "out=$(\"$0\" -d -s background -r / -S \"$1\" 2>&1); echo \"$out\"", daemon_path, sock});

	EXPECT_EQ(0, exit_status(r)) << r.err;
	EXPECT_LT(Clock::now() - begin, PATIENCE);
	EXPECT_NE(std::string::npos, r.out.find("ready")) << r.out;
	EXPECT_EQ(0, exit_status(run({daemon_path, "-s", name, "-S", sock, "--ping"})));
	// Stop it: it is no child of ours, but the lock names nobody else.
	const RunResult killed = run({"pkill", "-f", "--", "-s background -r / -S " + sock});
	EXPECT_EQ(0, exit_status(killed));
	EXPECT_TRUE(eventually([&] { return access((sock + "/sendfiled.background.socket").c_str(), F_OK) != 0; }));
	EXPECT_TRUE(eventually([&] { return access((sock + "/sendfiled.background.lock").c_str(), F_OK) != 0; }));
}

} // namespace
