// SPDX-License-Identifier: BSD-2-Clause
// What a worker asks of the kernel, under all the load there is: nothing but what doc/architecture.md lists, each with the
// reason why it cannot block.
#include "test/support/asking.h"
#include "test/support/datagram.h"
#include "test/support/fixture.h"
#include "test/support/run.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <set>
#include <sstream>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

namespace
{

#if defined(__SANITIZE_ADDRESS__)
constexpr bool instrumented = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool instrumented = true;
#else
constexpr bool instrumented = false;
#endif
#else
constexpr bool instrumented = false;
#endif

const char *const doc_path = SOURCE_DIR "/doc/architecture.md";

using Names = std::set<std::string>;

// The names in backticks in the first column of the table between the two marks.
Names documented_calls()
{
	std::istringstream lines(read_whole(doc_path));
	std::string line;
	bool inside = false;
	Names out;

	while (std::getline(lines, line)) {
		if (line.find("<!-- worker calls: begin -->") != std::string::npos)
			inside = true;
		else if (line.find("<!-- worker calls: end -->") != std::string::npos)
			inside = false;
		if (!inside || line.empty() || line[0] != '|')
			continue;

		/* One row may name several: | `pread64`, `write` | why | */
		const std::string cell = line.substr(1, line.find('|', 1) - 1);
		for (size_t at = cell.find('`'); at != std::string::npos;) {
			const size_t end = cell.find('`', at + 1);

			if (end == std::string::npos)
				break;
			out.insert(cell.substr(at + 1, end - at - 1));
			at = cell.find('`', end + 1);
		}
	}
	return out;
}

// What strace does not know yet it gives a number.
std::string name_of(const std::string &call)
{
	return call == "syscall_0x1c3" ? "cachestat" : call;
}

// The calls of one process in a trace, from the one after it announced that it is ready.
Names calls_of(const std::string &trace, pid_t pid)
{
	const std::string begin = std::to_string(pid) + " ";
	std::istringstream lines(trace);
	std::string line;
	bool ready = false;
	Names out;

	while (std::getline(lines, line)) {
		if (line.compare(0, begin.size(), begin) != 0)
			continue;
		const size_t at = line.find_first_not_of(' ', begin.size());
		const size_t end = line.find('(', at);

		/* Signals, exits, and second halves of calls whose first half counted. */
		if (end == std::string::npos || line[at] == '-' || line[at] == '+' || line[at] == '<')
			continue;
		if (ready)
			out.insert(name_of(line.substr(at, end - at)));
		else if (line.compare(at, 6, "write(") == 0 && line.find("\"\\0\", 1") != std::string::npos)
			ready = true;
	}
	return out;
}

class Trace : public SfdTest, public ::testing::WithParamInterface<unsigned>
{
      protected:
	static constexpr size_t LARGE = 4 << 20;

	void SetUp() override
	{
		if (exit_status(run({"strace", "-o", "/dev/null", "true"})) != 0)
			skip_ = "there is no strace here, or it may not trace";
		if (instrumented)
			skip_ = "instrumented code makes calls of its own";
		SfdTest::SetUp();
		limit(180); /* each call of the daemon is two wakeups of strace */
		if (!skip_.empty())
			GTEST_SKIP() << skip_;
		DaemonOptions options;
		options.workers = GetParam();
		options.wrapper = {"strace", "-f", "-qq", "-s", "8", "-o", dir() + "/trace"};
		options.more = {"-t", "200", "-n", "200"};
		start(options);
		small_ = add_file("small", 3000);
		large_ = add_file("large", LARGE);
		/* Of its own files a worker may know what is in memory; the small one is another's. */
		ASSERT_EQ(0, chown(in_root("large").c_str(), worker_uid(), static_cast<gid_t>(-1)));
	}

	uid_t worker_uid()
	{
		const std::string status = read_whole("/proc/" + std::to_string(daemon().workers().at(0)) + "/status");

		return static_cast<uid_t>(std::stoul(status.substr(status.find("\nUid:") + 5)));
	}

	void each_dest()
	{
		for (const DestType &type : all_dest_types()) {
			for (const std::string *content : {&small_, &large_}) {
				const char *path = content == &small_ ? "small" : "large";
				Dest sent(type, dir()), opened(type, dir());
				sfd_file_info info;

				const Fd a(sfd_send(srv(), path, sent.fd(), 0, 0, false));
				sent.start_reading();
				EXPECT_EQ(SFD_STAT_OK, read_outcome(a).stat());
				const Fd b(sfd_open(srv(), path, 0, 0, false));
				ASSERT_TRUE(read_info(b, &info));
				ASSERT_TRUE(sfd_send_open(srv(), info.txnid, opened.fd()));
				opened.start_reading();
				EXPECT_EQ(SFD_STAT_OK, read_rest(b, info).stat());
				sent.finish();
				opened.finish();
			}
		}
		for (const std::string *content : {&small_, &large_}) {
			const Fd pipe(sfd_read(srv(), content == &small_ ? "small" : "large", 0, 0, false));

			EXPECT_TRUE(same_content(*content, read_file_pipe(pipe).content));
		}
	}

	void cancelled_and_abandoned()
	{
		for (const DestType &type : stallable_dest_types()) {
			Dest dest(type, dir());
			sfd_file_info info;
			Fd status(sfd_send(srv(), "large", dest.fd(), 0, 0, false));

			ASSERT_TRUE(read_info(status, &info));
			ASSERT_NE(0, await(dest.peer(), POLLIN));
			if (type.nonblock) {
				ASSERT_TRUE(sfd_cancel(srv(), info.txnid));
				EXPECT_EQ(ECANCELED, read_rest(status, info).stat());
			} else {
				status.reset();
			}
			dest.finish();
		}
		const Fd timed_out(sfd_open(srv(), "small", 0, 0, false));
		EXPECT_EQ(ETIMEDOUT, read_outcome(timed_out).stat());
	}

	// Many requests in one datagram, of each kind, and their cancels.
	void queued()
	{
		sfd_queue *const q = sfd_queue_new(srv(), 64);
		std::vector<Ends> pipes;
		sfd_event events[64];
		size_t done = 0, asked = 0;

		ASSERT_NE(nullptr, q);
		for (uint64_t i = 0; i < 40; i++) {
			const char *path = i % 4 == 3 ? "missing" : i % 4 == 2 ? "large" : "small";

			pipes.push_back(make_pipe());
			asked += sfd_queue_send(q, path, pipes.back().in, 0, 0, nullptr, i) == 0;
			asked += i % 8 == 0 && sfd_queue_open(q, path, 0, 0, nullptr, 100 + i) == 0;
		}
		while (done < asked) {
			const int n = sfd_queue_wait(q, events, 64, 10000);

			ASSERT_GT(n, 0);
			for (int i = 0; i < n; i++) {
				done += events[i].type == SFD_EV_DONE;
				if (events[i].type == SFD_EV_INFO) {
					EXPECT_EQ(0, sfd_queue_cancel(q, events[i].user_data));
				}
			}
			/* The large ones fill their pipes. */
			for (uint64_t i = 2; i < 40; i += 4)
				sfd_queue_cancel(q, i);
		}
		sfd_queue_free(q);
	}

	void errors()
	{
		Ends dead = make_pipe(), sock = make_socketpair(SOCK_STREAM);
		const Fd full(open("/dev/full", O_WRONLY | O_CLOEXEC));
		const std::string path = "small";

		dead.out.reset();
		sock.out.reset();
		ASSERT_EQ(0, mkfifo(in_root("fifo").c_str(), 0666));
		for (const char *name : {"missing", ".", "fifo", "../../etc/passwd"}) {
			const Fd pipe(sfd_read(srv(), name, 0, 0, false));

			EXPECT_TRUE(read_outcome(pipe).has_terminal());
		}
		for (int fd : {static_cast<int>(dead.in), static_cast<int>(sock.in), static_cast<int>(full), srv()}) {
			const Fd pipe(sfd_send(srv(), "small", fd, 0, 0, false));

			EXPECT_NE(SFD_STAT_OK, read_outcome(pipe).stat());
		}
		/* Nonsense, with descriptors. */
		for (size_t n = 0; n < 100; n += 7) {
			std::vector<unsigned char> bytes = Datagram().add(make_request(WIRE_OP_SEND, path)).bytes();

			bytes.resize(n);
			ASSERT_EQ(0, send_bytes(srv(), bytes, std::vector<int>(n % 4, sock.in)));
		}
	}

	// Full channels, full limit, many at once.
	void crowd()
	{
		std::vector<Fd> pipes;
		std::vector<std::unique_ptr<Dest>> dests;
		const std::string path = "small";
		Ends status = make_pipe();
		Datagram datagram;
		std::vector<int> fds = {status.in};

		for (int i = 0; i < 250; i++)
			pipes.emplace_back(when_room(srv(), [&] { return sfd_open(srv(), "small", 0, 0, false); }));
		for (Fd &pipe : pipes)
			EXPECT_TRUE(read_outcome(pipe).has_terminal()); /* in time, or EMFILE */

		ASSERT_GE(fcntl(status.in, F_SETPIPE_SZ, 4096), 4096);
		for (unsigned i = 0; i < WIRE_COUNT_MAX; i++) {
			dests.push_back(std::make_unique<Dest>(DestType{Kind::Pipe, false}, dir()));
			fds.push_back(dests.back()->fd());
			datagram.add(make_request(WIRE_OP_SEND, path, i));
		}
		ASSERT_EQ(0, send_bytes(srv(), datagram.bytes(), fds));
		status.in.reset();
		canary();
		EXPECT_EQ(size_t{WIRE_COUNT_MAX}, read_outcomes(status.out).size());
		for (auto &dest : dests)
			dest->finish();
	}

	void second_messages()
	{
		for (int i = 0; i < 50; i++) {
			Ends pipe = make_pipe();
			sfd_file_info info;
			const Fd status(sfd_open(srv(), "small", 0, 0, false));

			ASSERT_TRUE(read_info(status, &info));
			ASSERT_TRUE(sfd_send_open(srv(), info.txnid ^ 1, pipe.in));
			ASSERT_TRUE(sfd_send_open(srv(), info.txnid, pipe.in));
			EXPECT_EQ(SFD_STAT_OK, read_rest(status, info).stat());
		}
	}

	// Each option, where it makes a worker call something, to each kind of destination; and files that are open already.
	void with_options()
	{
		const std::string path = in_root("large");
		const Fd file(open(path.c_str(), O_RDONLY | O_CLOEXEC)), memory(memfd_create("memory", MFD_CLOEXEC));
		char text[] = "header and trailer";
		const iovec iov = {text, sizeof text};

		ASSERT_EQ(static_cast<ssize_t>(sizeof text), write(memory, text, sizeof text));
		for (const unsigned flags : {0U, unsigned{SFD_NODISKIO}, unsigned{SFD_NOCACHE}, unsigned{SFD_SYNC},
			     unsigned{SFD_USER_READAHEAD}}) {
			for (const DestType &type : all_dest_types()) {
				sfd_opts opts = {};

				opts.flags = flags;
				opts.headers = opts.trailers = &iov;
				opts.hdr_cnt = opts.trl_cnt = 1;
				opts.timeout_ms = 60000;
				opts.max_rate = 100000000;
				for (const int source : {-1, -2, int{file}, int{memory}}) {
					const char *name = source == -1 ? "small" : source == -2 ? "large" : "";
					Dest dest(type, dir());
					Asked asked(Form::One, srv());

					dest.start_reading();
					asked.send({name, source}, dest.fd(), &opts);
					const int stat = asked.end().stat;
					EXPECT_TRUE(stat == SFD_STAT_OK || (flags == SFD_NODISKIO && stat == EBUSY))
						<< type << ", " << name << ": " << sfd_strstat(stat);
					dest.finish();
				}
			}
		}
	}

	void idle()
	{
		/* It looks around now and then when nothing happens. */
		std::this_thread::sleep_for(1200ms);
	}

	std::string small_, large_, skip_;
};

TEST_P(Trace, OnlyDocumentedCalls)
{
	const std::vector<pid_t> workers = daemon().workers();

	ASSERT_EQ(GetParam(), workers.size());
	ASSERT_NO_FATAL_FAILURE(each_dest());
	ASSERT_NO_FATAL_FAILURE(cancelled_and_abandoned());
	ASSERT_NO_FATAL_FAILURE(errors());
	ASSERT_NO_FATAL_FAILURE(crowd());
	ASSERT_NO_FATAL_FAILURE(second_messages());
	ASSERT_NO_FATAL_FAILURE(with_options());
	idle();
	expect_idle();
	if (workers.size() > 1) {
		ASSERT_EQ(0, kill(workers.back(), SIGKILL));
		canary();
	}
	stop(SIGTERM, 0);

	const std::string trace = read_whole(dir() + "/trace");
	const Names documented = documented_calls();
	std::string all, undocumented;
	Names seen;

	for (pid_t pid : workers) {
		const Names calls = calls_of(trace, pid);

		seen.insert(calls.begin(), calls.end());
	}
	for (const std::string &name : seen) {
		all += " " + name;
		if (documented.count(name) == 0)
			undocumented += " " + name;
	}
	RecordProperty("calls", all);
	/* Otherwise what was read is no trace of a worker. */
	for (const char *name : {"epoll_wait", "recvmsg", "openat2", "sendfile", "splice", "close"})
		EXPECT_EQ(1u, seen.count(name)) << name << " was not seen; seen:" << all;
	if (documented.empty()) {
		std::cerr << "calls of a worker:" << all << "\n";
		GTEST_SKIP() << doc_path << " has no table of a worker's calls; seen:" << all;
	}
	EXPECT_EQ("", undocumented) << "all that was seen:" << all;
}

INSTANTIATE_TEST_SUITE_P(Workers, Trace, ::testing::Values(1, 2));

} // namespace
