// SPDX-License-Identifier: BSD-2-Clause
// Clients that die, stall, flood, and change what they have handed over.
#include "test/hostile/hostile.h"
#include "test/support/datagram.h"
#include "test/support/queue.h"
#include "test/support/raw_queue.h"
#include "test/support/user.h"

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <map>
#include <memory>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <thread>

namespace
{

constexpr size_t LARGE = 16 << 20, MEDIUM = 256 << 10; // more than a socket holds, more than a pipe does

class Clients : public Hostile
{
      protected:
	// In a child, as somebody who is served, but whom the limits of the system are for: his exit status.
	template <typename What> int as_friend(What what)
	{
		return as_user(is_root() ? FRIEND : geteuid(), what);
	}

	// Processor time of all workers so far, in clock ticks.
	long cpu_ticks()
	{
		long sum = 0;

		for (const pid_t pid : daemon().workers()) {
			const std::string stat = read_whole("/proc/" + std::to_string(pid) + "/stat");
			const size_t at = stat.rfind(") ");
			long user = 0, kernel = 0;

			if (at == std::string::npos)
				continue;
			sscanf(stat.c_str() + at, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %ld %ld", &user,
				&kernel);
			sum += user + kernel;
		}
		return sum;
	}

	// They sleep: at most a tenth of a processor in a second, the best of five, since much may still be under way.
	void expect_sleeping()
	{
		const long allowed = sysconf(_SC_CLK_TCK) / 10;
		long used = 0;

		for (int i = 0; i < 5; i++) {
			const long before = cpu_ticks();

			/* Time itself is what is measured here. */
			std::this_thread::sleep_for(1s);
			used = cpu_ticks() - before;
			printf("workers used %ld of %ld ticks in a second\n", used, sysconf(_SC_CLK_TCK));
			if (used <= allowed)
				break;
		}
		EXPECT_LE(used, allowed);
	}

	// A child that goes on and on, until it is killed.
	template <typename What> pid_t start_flood(uid_t uid, What what)
	{
		const pid_t child = fork();

		if (child == 0) {
			alarm(100);
			if (geteuid() == 0 && !become(uid))
				_exit(254);
			for (;;)
				what();
		}
		return child;
	}

	void end_flood(pid_t child)
	{
		int status = -1;

		ASSERT_GT(child, 0);
		EXPECT_EQ(0, kill(child, SIGKILL));
		EXPECT_TRUE(await_exit(child, &status));
		EXPECT_TRUE(WIFSIGNALED(status)) << "it has ended by itself, with status " << WEXITSTATUS(status);
	}
};

// ---- Floods

enum class Load { Pipe, Event, Socket, Directory };

class Flood : public Clients, public ::testing::WithParamInterface<Load>
{
};

// He is not served, but each of his descriptors has to be closed: the others are served meanwhile. Pipes are known to close at
// once; what the others do is not known to the daemon.
TEST_P(Flood, OfDescriptorsFromSomebodyWhoIsRefused)
{
	if (!is_root())
		GTEST_SKIP() << "only root can take another user's part";
	limit(120);
	start_open();
	const Ends pipe = make_pipe(), sockets = make_socketpair(SOCK_DGRAM);
	const Fd event(eventfd(0, EFD_CLOEXEC)), directory(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	const std::map<Load, int> loads = {{Load::Pipe, pipe.out}, {Load::Event, event}, {Load::Socket, sockets.out},
		{Load::Directory, directory}};
	const Fd connection(daemon().connect());
	const Bytes ping = Datagram().add(make_request(WIRE_OP_PING)).bytes();
	const std::vector<int> many(253, loads.at(GetParam()));
	Clock::duration longest{};
	int served = 0;
	const pid_t flood = start_flood(STRANGER, [&] { send_bytes(connection, ping, many); });
	const auto begin = Clock::now();

	for (; served < 50 && Clock::now() - begin < 5s; served++) {
		const auto asked = Clock::now();

		canary();
		longest = std::max(longest, Clock::now() - asked);
	}
	end_flood(flood);
	printf("%d were served; a request took %ld ms at most\n", served, static_cast<long>(longest / 1ms));
	/* Alone it takes less than one millisecond: this is for machines that are slow or busy. */
	EXPECT_LT(longest / 1ms, 1000) << "somebody who is not served holds up the others";
	expect_idle(60s);
}

std::string name_of_load(const ::testing::TestParamInfo<Load> &load)
{
	const char *const names[] = {"Pipes", "Events", "Sockets", "Directories"};

	return names[static_cast<int>(load.param)];
}

INSTANTIATE_TEST_SUITE_P(
	Of, Flood, ::testing::Values(Load::Pipe, Load::Event, Load::Socket, Load::Directory), name_of_load);

// ---- Clients that are short of something, or gone

// He has more in flight than he may: the library says so, each time, and keeps nothing.
TEST_F(Clients, SenderOutOfDescriptors)
{
	constexpr rlim_t LIMIT = 100;
	start_open();
	const Fd null(open("/dev/null", O_WRONLY | O_CLOEXEC));
	const Bytes ping = Datagram().add(make_request(WIRE_OP_PING)).bytes();

	freeze(daemon().workers());
	EXPECT_EQ(0, as_friend([&] {
		const rlimit few = {LIMIT, LIMIT};
		const int srv = daemon().connect();

		/* More than that are in flight, so that the next one is refused. */
		if (setrlimit(RLIMIT_NOFILE, &few) < 0 || send_bytes(srv, ping, std::vector<int>(250, null)) != 0)
			return 1;
		const size_t before = count_fds("self");
		for (int i = 0; i < 200; i++) {
			errno = 0;
			if (sfd_send(srv, "canary", null, 0, 0, false) != -1 || errno != ETOOMANYREFS)
				return 2;
			if (sfd_read(srv, "canary", 0, 0, false) != -1 || errno != ETOOMANYREFS)
				return 3;
			if (sfd_open(srv, "canary", 0, 0, false) != -1 || errno != ETOOMANYREFS)
				return 4;
			if (sfd_sendfd(srv, null, null, 0, 0, false, nullptr) != -1 || errno != ETOOMANYREFS)
				return 5;
			if (sfd_send_open(srv, 12345, null) || errno != ETOOMANYREFS)
				return 6;
		}
		return count_fds("self") == before ? 0 : 7;
	}));
	thaw(daemon().workers());
	/* And it is none of his business any more when they have been received. */
	EXPECT_EQ(0, as_friend([&] {
		const int srv = daemon().connect();
		const int pipe = when_room(srv, [&] { return sfd_send(srv, "canary", null, 0, 0, false); });

		return pipe >= 0 && read_outcome(pipe).stat() == SFD_STAT_OK ? 0 : 1;
	}));
}

// There is no descriptor left for the pipe.
TEST_F(Clients, SenderWithoutAPipe)
{
	start_open();
	const Fd null(open("/dev/null", O_WRONLY | O_CLOEXEC));

	EXPECT_EQ(0, as_friend([&] {
		const int srv = daemon().connect();
		const rlimit none = {3, 3};

		if (setrlimit(RLIMIT_NOFILE, &none) < 0)
			return 1;
		for (int i = 0; i < 200; i++) {
			errno = 0;
			if (sfd_send(srv, "canary", null, 0, 0, false) != -1 || errno != EMFILE)
				return 2;
			if (sfd_read(srv, "canary", 0, 0, false) != -1 || errno != EMFILE)
				return 3;
			if (sfd_queue_new(srv, 8) || errno != EMFILE)
				return 4;
		}
		return 0;
	}));
}

// Killed while all that he has asked for is in the socket: it is received when nobody is there to be told.
TEST_F(Clients, KilledWhileQueued)
{
	start_open();
	add_file("medium", MEDIUM);
	for (int round = 0; round < 10; round++) {
		Ends ready = make_pipe(), dest = make_pipe();
		int status = -1;

		freeze(daemon().workers());
		const pid_t child = fork();
		if (child == 0) {
			const int srv = daemon().connect();
			sfd_queue *q = sfd_queue_new(srv, 8);

			/* One of each kind, again and again until it is full. */
			for (int i = 0; i < 100; i++) {
				const int file = open(in_root("medium").c_str(), O_RDONLY | O_CLOEXEC);

				sfd_send(srv, "medium", dest.in, 0, 0, false);
				sfd_open(srv, "medium", 0, 0, false);
				sfd_sendfd(srv, file, dest.in, 0, 0, false, nullptr);
				sfd_read(srv, "medium", 0, 0, false);
				sfd_queue_send(q, "medium", dest.in, 0, 0, nullptr, 1);
				sfd_queue_submit(q);
			}
			ready.in.reset();
			pause();
		}
		ready.in.reset();
		EXPECT_NE(0, await(ready.out, POLLHUP));
		ASSERT_GT(child, 0);
		EXPECT_EQ(0, kill(child, SIGKILL));
		EXPECT_TRUE(await_exit(child, &status));
		thaw(daemon().workers());
		EXPECT_EQ("", drain(&dest)) << "it was sent though nobody waits for it";
		expect_idle();
	}
}

// The same when his queue is known already: what is sent, if anything, ends soon.
TEST_F(Clients, KilledWhileAQueuesRequestsAreQueued)
{
	start_open();
	const std::string content = add_file("medium", MEDIUM);
	for (int round = 0; round < 10; round++) {
		Ends known = make_pipe(), go = make_pipe(), ready = make_pipe(), dest = make_pipe();
		int status = -1;
		const pid_t child = fork();

		if (child == 0) {
			sfd_queue *q = sfd_queue_new(daemon().connect(), 256);
			sfd_event e;

			if (!q || sfd_queue_open(q, "missing", 0, 0, nullptr, 1) != 0 || !await_event(q, &e))
				_exit(1);
			known.in.reset();
			go.in.reset();
			await(go.out, POLLHUP);
			for (int i = 0; i < 128; i++)
				sfd_queue_send(q, "medium", dest.in, 0, 0, nullptr, 2);
			if (sfd_queue_submit(q) <= 0)
				_exit(2);
			ready.in.reset();
			pause();
		}
		known.in.reset();
		ready.in.reset();
		EXPECT_NE(0, await(known.out, POLLHUP));
		freeze(daemon().workers());
		go.in.reset();
		EXPECT_NE(0, await(ready.out, POLLHUP));
		ASSERT_GT(child, 0);
		EXPECT_EQ(0, kill(child, SIGKILL));
		EXPECT_TRUE(await_exit(child, &status));
		EXPECT_TRUE(WIFSIGNALED(status)) << "it stopped at step " << WEXITSTATUS(status);
		thaw(daemon().workers());
		/* Nobody reads while it is decided, so that it cannot all be delivered. */
		expect_idle();
		EXPECT_LT(drain(&dest).size(), MEDIUM);
	}
}

// Two thousand ends, for which there is no room in the one pipe: they cost nothing, hold up nobody, and are not lost.
TEST_F(Clients, StatusThatIsNeverRead)
{
	constexpr uint64_t MANY = 2048;
	start_open();
	Dest dest({Kind::Unix, true}, dir());
	Ends status = make_pipe();
	const std::string canary_name = "canary";

	dest.start_reading();
	for (uint64_t tag = 1; tag <= MANY;) {
		Datagram d;
		std::vector<int> fds = {status.in};

		for (unsigned n = 0; n < WIRE_COUNT_MAX; n++, tag++) {
			d.add(make_request(WIRE_OP_SEND, canary_name, tag));
			fds.push_back(dest.fd());
		}
		ASSERT_EQ(0, send_bytes(srv(), d.bytes(), fds));
	}
	status.in.reset();
	for (int i = 0; i < 50; i++)
		canary();
	expect_sleeping();
	const auto outcomes = read_outcomes(status.out, 60s);
	EXPECT_EQ(MANY, outcomes.size());
	for (const auto &[tag, o] : outcomes)
		EXPECT_EQ(SFD_STAT_OK, o.stat()) << "tag " << tag << ": " << sfd_strstat(o.stat());
	EXPECT_EQ(MANY * 1000, dest.finish().size());
}

// ---- Clients that change what they have handed over

class Flipping : public Clients, public ::testing::WithParamInterface<Kind>
{
};

// With one worker, for which each call may turn out to be one that waits.
TEST_P(Flipping, FlagsInALoop)
{
	constexpr size_t SIZE = 8 << 20;
	start_open({}, 1);
	const std::string content = add_file("file", SIZE);
	Dest dest({GetParam(), true}, dir());
	const int fd = dest.fd(), flags = fcntl(fd, F_GETFL);
	std::atomic<bool> done{false};
	std::thread flipper([&] {
		for (unsigned i = 0; !done; i++)
			fcntl(fd, F_SETFL, i % 2 ? flags : flags & ~O_NONBLOCK);
	});
	const Fd status(sfd_send(srv(), "file", fd, 0, 0, false));
	std::string got(SIZE, '\0');
	size_t total = 0;

	/* Little by little, so that it is full again and again. */
	for (int i = 0; total < SIZE && await(dest.peer(), POLLIN) != 0; i++) {
		const ssize_t n = read(dest.peer(), &got[total], std::min<size_t>(SIZE - total, 100000));

		if (n <= 0)
			break;
		total += static_cast<size_t>(n);
		if (i % 8 == 0)
			canary();
	}
	expect_success(read_outcome(status), SIZE);
	done = true;
	flipper.join();
	EXPECT_EQ(SIZE, total);
	EXPECT_TRUE(same_content(content, got));
	EXPECT_EQ("", dest.finish());
}

INSTANTIATE_TEST_SUITE_P(Of, Flipping, ::testing::Values(Kind::Pipe, Kind::Tcp, Kind::Unix), [](const auto &i) {
	return name_of(DestType{i.param, false});
});

// SO_LINGER is set when the socket is the daemon's already, at any moment of the transfer; then its copy is the last one.
TEST_F(Clients, LingerAfterHandingOver)
{
	constexpr int TIMES = 60;
	const linger patient = {1, 30};
	std::vector<Ends> kept;
	limit(120);
	start_open({}, 1);
	add_file("large", LARGE);

	for (int i = 0; i < TIMES; i++) {
		Ends tcp = make_tcp_pair();
		sfd_file_info info;

		ASSERT_EQ(0, fcntl(tcp.out, F_SETFL, O_NONBLOCK));
		Fd status(when_room(srv(), [&] { return sfd_send(srv(), "large", tcp.out, 0, 0, false); }));
		ASSERT_GE(status, 0) << strerror(errno);
		if (i % 3 == 1) {
			ASSERT_TRUE(read_info(status, &info));
		}
		if (i % 3 == 2) {
			ASSERT_NE(0, await(tcp.in, POLLIN));
		}
		ASSERT_EQ(0, setsockopt(tcp.out, SOL_SOCKET, SO_LINGER, &patient, sizeof patient));
		/* Which ends the transfer as well, for nobody waits for its outcome. */
		status.reset();
		/* Ours would wait as well, were it the last copy: so it is closed where nobody waits for it. */
		std::thread([sock = tcp.out.release()] { close(sock); }).detach();
		kept.push_back(std::move(tcp));
		canary();
	}
	expect_idle();
	for (Ends &k : kept)
		k.in.reset();
}

// ---- Very many

// As many files as that, for this process and, if the system lets us, beyond what we were started with.
class Room
{
      public:
	explicit Room(rlim_t wanted)
	{
		EXPECT_EQ(0, getrlimit(RLIMIT_NOFILE, &before_));
		rlimit more = {wanted, std::max(wanted, before_.rlim_max)};

		if (setrlimit(RLIMIT_NOFILE, &more) < 0) {
			more = {std::min(wanted, before_.rlim_max), before_.rlim_max};
			EXPECT_EQ(0, setrlimit(RLIMIT_NOFILE, &more));
		}
		size_ = more.rlim_cur;
	}
	~Room()
	{
		EXPECT_EQ(0, setrlimit(RLIMIT_NOFILE, &before_));
	}
	Room(const Room &) = delete;
	Room &operator=(const Room &) = delete;
	rlim_t size() const
	{
		return size_;
	}

      private:
	rlimit before_ = {};
	rlim_t size_ = 0;
};

struct Stalled {
	Fd status, out;
	size_t size;
};

class TenThousand : public Clients
{
      protected:
	// Now and then a socket, mostly pipes: what is given away is closed here.
	void stall_one(size_t i)
	{
		Ends dest = i % 500 == 0 ? make_tcp_pair() : i % 50 == 1 ? make_socketpair(SOCK_STREAM) : make_pipe();
		const bool is_socket = i % 500 == 0 || i % 50 == 1;
		const char *name = is_socket ? "large" : "medium";
		Stalled s;

		s.size = is_socket ? LARGE : MEDIUM;
		s.status.reset(when_room(srv(), [&] { return sfd_send(srv(), name, dest.in, 0, 0, false); }));
		ASSERT_GE(s.status, 0) << i << ": " << strerror(errno);
		s.out = std::move(dest.out);
		all_.push_back(std::move(s));
	}

	// What somebody else gets who asks for a file that takes a reader, as these do: how long that took.
	milliseconds ask_as_friend()
	{
		const auto begin = Clock::now();

		EXPECT_EQ(0, as_friend([&] {
			const int pipe = sfd_read(daemon().connect(), "medium", 0, 0, false);

			return pipe >= 0 && read_file_pipe(pipe, 30s).content.size() == MEDIUM ? 0 : 1;
		}));
		return std::chrono::duration_cast<milliseconds>(Clock::now() - begin);
	}

	// Each has got as much as there is room for.
	void await_first_bytes()
	{
		const auto begin = Clock::now();

		for (size_t i = 0; i < all_.size(); i++)
			ASSERT_NE(0, await(all_[i].out, POLLIN, 60s)) << i;
		printf("the first bytes of all were there after %ld ms\n",
			static_cast<long>((Clock::now() - begin) / 1ms));
	}

	// Reads those to their ends.
	void finish(size_t begin, size_t end)
	{
		std::vector<char> buf(1 << 20);

		for (size_t i = begin; i < end; i++) {
			size_t total = 0;
			ssize_t got;

			while (await(all_[i].out, POLLIN) != 0 && (got = read(all_[i].out, buf.data(), buf.size())) > 0)
				total += static_cast<size_t>(got);
			EXPECT_EQ(all_[i].size, total);
			expect_success(read_rest(all_[i].status, infos_[i]), all_[i].size);
		}
	}

	std::vector<Stalled> all_;
	std::vector<sfd_file_info> infos_;
};

TEST_F(TenThousand, Stalled)
{
	constexpr size_t WANTED = 10000, OTHERS = 200;
	limit(200);
	const Room room(2 * WANTED + OTHERS);
	const size_t n = std::min(WANTED, (room.size() - OTHERS) / 2);
	start_open({"--max-transfers", "20000", "--idle-timeout", "0"});
	add_file("large", LARGE);
	add_file("medium", MEDIUM);

	for (size_t i = 0; i < n; i++)
		ASSERT_NO_FATAL_FAILURE(stall_one(i));
	infos_.resize(n);
	for (size_t i = 0; i < n; i++)
		ASSERT_TRUE(read_info(all_[i].status, &infos_[i]));
	EXPECT_EQ(n, counters()["active"]);
	/* Few of them have had a pipe of their reader's yet; the others wait for one, and he does not wait for them all. */
	const milliseconds early = ask_as_friend();
	ASSERT_NO_FATAL_FAILURE(await_first_bytes());
	printf("%zu of %zu transfers are stalled; somebody else waited for %ld ms before, and for %ld ms now\n", n,
		WANTED, static_cast<long>(early.count()), static_cast<long>(ask_as_friend().count()));
	expect_sleeping();
	const auto begin = Clock::now();
	for (int i = 0; i < 200; i++)
		canary();
	printf("200 requests beside them took %ld ms\n", static_cast<long>((Clock::now() - begin) / 1ms));
	/* Usually 200 ms; what takes time for each that is stalled would show. */
	EXPECT_LT(Clock::now() - begin, 10s);
	finish(1, 11);
	EXPECT_EQ(n - 10, counters()["active"]);
	/* The others lose their reader, or whoever waits for their outcome. */
	for (size_t i = 0; i < n; i++) {
		(i % 2 ? all_[i].out : all_[i].status).reset();
		if (i > 10 && i % 2) {
			EXPECT_EQ(EPIPE, read_rest(all_[i].status, infos_[i]).stat());
		}
	}
	expect_idle(60s);
	all_.clear();
}

} // namespace
