// SPDX-License-Identifier: BSD-2-Clause
// Closing what may wait: whoever asks for it never does, and who does wait holds nothing else. The closer keeps its state
// for the whole process, so each test has a process of its own.
extern "C" {
#include "server/closer.h"
}

#include "test/support/bounded.h"
#include "test/support/daemon.h"
#include "test/support/dest.h"
#include "test/support/fd.h"
#include "test/support/refuse.h"
#include "test/support/slow_fs.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <functional>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <vector>

namespace
{

bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

// A TCP socket whose close waits until its peer has read all, or a minute.
struct Lingering {
	Ends ends = make_tcp_pair();

	Lingering()
	{
		const linger for_long = {1, 60};
		const std::string some(65536, 'x');
		const int little = 65536;

		/* A buffer whose size was chosen does not grow later on, so that all would fit. */
		EXPECT_EQ(0, setsockopt(ends.out, SOL_SOCKET, SO_RCVBUF, &little, sizeof little));
		EXPECT_EQ(0, setsockopt(ends.in, SOL_SOCKET, SO_LINGER, &for_long, sizeof for_long));
		/* What is sent may still go over to the peer for a moment, and make room. */
		while (await(ends.in, POLLOUT, 5ms) != 0 && send(ends.in, some.data(), some.size(), MSG_DONTWAIT) > 0)
			;
	}

	// Reads all that was sent, up to end-of-file. False if that does not come.
	bool read_all()
	{
		std::string buf(1 << 20, '\0');

		while (await(ends.out, POLLIN) != 0) {
			const ssize_t n = recv(ends.out, buf.data(), buf.size(), MSG_DONTWAIT);

			if (n <= 0)
				return n == 0;
		}
		return false;
	}
};

// Reads what there is, a part at a time, until the end has come.
struct InParts {
	int fd;
	bool over = false;

	explicit InParts(int socket) : fd(socket)
	{
	}

	bool ended()
	{
		std::string buf(1 << 20, '\0');
		ssize_t n = 1;

		while (!over && (n = recv(fd, buf.data(), buf.size(), MSG_DONTWAIT)) > 0)
			;
		over = over || n == 0;
		return over;
	}
};

// Goes on in rounds, as a worker does, until something is so.
bool work_until(const std::function<bool()> &what, milliseconds patience = PATIENCE)
{
	return eventually(
		[&] {
			closer_work(now_ns());
			return what();
		},
		patience);
}

bool closes_all(milliseconds patience = PATIENCE)
{
	return work_until([] { return closer_backlog() == 0 && closer_nap_ms() < 0; }, patience);
}

// Children of this process that hold no descriptor at all.
size_t empty_children()
{
	size_t n = 0;

	for (const pid_t pid : children_of(getpid()))
		n += process_lives(pid) && count_fds(std::to_string(pid)) == 0;
	return n;
}

class Closer : public BoundedTest
{
      protected:
	uint64_t device() const
	{
		struct stat st = {};

		EXPECT_EQ(0, stat(path("").c_str(), &st));
		return st.st_dev;
	}

	int make_file(const char *name) const
	{
		return open(path(name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	}
};

TEST_F(Closer, WithoutPreparationClosesInPlace)
{
	in_child([&] {
		const int file = make_file("file"), event = eventfd(0, EFD_CLOEXEC);

		unlink(path("file").c_str());
		closer_close(-1);
		closer_close(file);
		closer_close(event);
		EXPECT_FALSE(is_open(file));
		EXPECT_FALSE(is_open(event));
		EXPECT_EQ(0U, closer_backlog());
		EXPECT_EQ(-1, closer_nap_ms());
		closer_work(now_ns());
	});
}

TEST_F(Closer, WhatCannotWaitIsClosedAtOnce)
{
	in_child([&] {
		Ends pipe = make_pipe(), tcp = make_tcp_pair();
		const linger at_once = {1, 0};

		closer_init(device(), 4);
		EXPECT_EQ(0, setsockopt(tcp.out, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once));
		const std::vector<int> fds = {
			pipe.in.release(), pipe.out.release(), tcp.in.release(), tcp.out.release(), make_file("file")};
		for (const int fd : fds) {
			ASSERT_GE(fd, 0);
			closer_close(fd);
			EXPECT_FALSE(is_open(fd)) << fd;
		}
		EXPECT_EQ(0U, closer_backlog());
		EXPECT_TRUE(children_of(getpid()).empty());
		closer_close(-1);
		EXPECT_EQ(-1, closer_nap_ms());
	});
}

// A file that has no name any more, or is on another device, or is none: nobody knows what its close takes.
TEST_F(Closer, WhatMightWaitIsClosedByOthers)
{
	in_child([&] {
		closer_init(device(), 4);
		const size_t before = count_fds("self");
		const int unlinked = make_file("file");
		ASSERT_EQ(0, unlink(path("file").c_str()));
		const std::vector<int> fds = {unlinked, open("/proc/self/stat", O_RDONLY | O_CLOEXEC),
			open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC), eventfd(0, EFD_CLOEXEC)};

		for (const int fd : fds) {
			ASSERT_GE(fd, 0);
			closer_close(fd);
		}
		EXPECT_EQ(fds.size(), closer_backlog());
		EXPECT_GE(closer_nap_ms(), 0);
		EXPECT_TRUE(closes_all());
		EXPECT_EQ(before, count_fds("self")) << list_fds("self");
	});
}

TEST_F(Closer, LocalSocketsAreClosedSoon)
{
	in_child([&] {
		closer_init(device(), 4);
		for (const int type : {SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM}) {
			Ends pair = make_socketpair(type);
			const int fd = pair.in.release();

			closer_close(fd);
			EXPECT_TRUE(closes_all());
			EXPECT_FALSE(is_open(fd));
			EXPECT_EQ(-1, send(pair.out, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT));
		}
	});
}

// Its last close may write to the file system on which it had a name.
TEST_F(Closer, AFifoIsLikeAFile)
{
	in_child([&] {
		std::vector<int> fds;

		closer_init(device(), 4);
		for (const char *name : {"named", "unlinked"}) {
			ASSERT_EQ(0, mkfifo(path(name).c_str(), 0600));
			fds.push_back(open(path(name).c_str(), O_RDWR | O_CLOEXEC));
			ASSERT_LE(0, fds.back());
		}
		ASSERT_EQ(0, unlink(path("unlinked").c_str()));
		closer_close(fds[0]);
		EXPECT_FALSE(is_open(fds[0]));
		EXPECT_EQ(0U, closer_backlog());
		closer_close(fds[1]);
		EXPECT_EQ(1U, closer_backlog());
		EXPECT_TRUE(closes_all());
		EXPECT_FALSE(is_open(fds[1]));
	});
}

TEST_F(Closer, WithoutADeviceNoFileIsKnown)
{
	in_child([&] {
		closer_init(0, 4);
		const int fd = make_file("file");
		closer_close(fd);
		EXPECT_EQ(1U, closer_backlog());
		EXPECT_TRUE(closes_all());
		EXPECT_FALSE(is_open(fd));
	});
}

TEST_F(Closer, AFileOfItsDeviceIsClosedAtOnceIfItHasAName)
{
	in_child([&] {
		const int linked = make_file("file"), unlinked = make_file("other");

		closer_init(device(), 4);
		closer_close_file(linked, false);
		EXPECT_FALSE(is_open(linked));
		EXPECT_EQ(0U, closer_backlog());
		ASSERT_EQ(0, unlink(path("other").c_str()));
		closer_close_file(unlinked, false);
		EXPECT_EQ(1U, closer_backlog());
		EXPECT_TRUE(closes_all());
		EXPECT_FALSE(is_open(unlinked));
	});
}

// Somebody waits in epoll_wait(2) for the page that he wants his events in, and holds what the close of one of many takes.
TEST_F(Closer, OfManyOnlyTheOneThatWaitsIsLeft)
{
	REQUIRE_SLOW_FS();
	SlowFs fs(path("slow"));

	fs.add("hang", 4096);
	fs.hold("read", "hang");
	in_child([&] {
		std::vector<Fd> fds(600);
		const Fd epoll(epoll_create1(EPOLL_CLOEXEC));
		epoll_event event = {};

		for (Fd &fd : fds)
			fd.reset(eventfd(0, EFD_CLOEXEC));
		event.events = EPOLLOUT;
		ASSERT_EQ(0, epoll_ctl(epoll, EPOLL_CTL_ADD, fds[100], &event));
		const pid_t holder = start_child([&] {
			fds.clear();
			const Fd file(open(fs.path("hang").c_str(), O_RDONLY | O_CLOEXEC));
			void *map = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);

			ASSERT_NE(MAP_FAILED, map);
			EXPECT_EQ(1, epoll_wait(epoll, static_cast<epoll_event *>(map), 1, -1));
		});
		ASSERT_TRUE(eventually([&] { return fs.held("read", "hang") > 0; }));
		closer_init(device(), 4);
		for (Fd &fd : fds)
			closer_close(fd.release());
		EXPECT_EQ(fds.size(), closer_backlog());
		closer_work(now_ns());
		EXPECT_GE(4U, children_of(getpid()).size()) << "one for each is too many";
		EXPECT_TRUE(work_until([&] {
			return closer_backlog() == 1 && children_of(getpid()).size() == 2 && closer_nap_ms() > 50;
		}));
		EXPECT_EQ(1U, empty_children()) << "whoever waits holds something else";
		fs.release();
		EXPECT_TRUE(closes_all());
		EXPECT_TRUE(eventually([&] { return !process_lives(holder); }));
	});
}

// A number that is free again is soon somebody else's, and must not be closed once more for who had it before.
TEST_F(Closer, NumbersThatComeAgain)
{
	in_child([&] {
		struct Live {
			int fd;
			ino_t inode;
		};
		std::vector<Live> live;

		closer_init(device(), 4);
		for (int round = 0; round < 1000; round++) {
			struct stat st = {};

			for (int i = 0; i < 40; i++)
				closer_close(eventfd(0, EFD_CLOEXEC));
			closer_work(now_ns());
			/* They take what has just become free; the older ones are given away in their turn. */
			for (int i = 0; i < 4; i++) {
				const int fd = memfd_create("live", MFD_CLOEXEC);

				ASSERT_EQ(0, fstat(fd, &st));
				live.push_back({fd, st.st_ino});
			}
			closer_work(now_ns());
			for (const Live &l : live) {
				ASSERT_EQ(0, fstat(l.fd, &st)) << "closed in round " << round;
				ASSERT_EQ(l.inode, st.st_ino) << "closed, and another one, in round " << round;
			}
			for (; live.size() > 20; live.erase(live.begin()))
				closer_close_later(live.front().fd);
		}
		for (const Live &l : live)
			close(l.fd);
		EXPECT_TRUE(closes_all());
	});
}

// The one that waits has an otherwise empty table, so that the end of this process is the end of all that it had open.
TEST_F(Closer, WhoWaitsHoldsNothingElse)
{
	in_child([&] {
		closer_init(device(), 4);
		Ends pipe = make_pipe();
		Lingering socket;
		const int fd = socket.ends.in.release();

		const auto begin = Clock::now();
		closer_close(fd);
		EXPECT_EQ(1U, closer_backlog());
		/* If whoever was to close it was slow, somebody else is. */
		ASSERT_TRUE(work_until(
			[&] { return !is_open(fd) && empty_children() == 1 && children_of(getpid()).size() == 1; }));
		EXPECT_LT(Clock::now() - begin, 30s) << "it was waited for";
		EXPECT_EQ(1U, closer_backlog());
		/* What is open here is open here alone. */
		pipe.in.reset();
		EXPECT_NE(0, await(pipe.out, POLLHUP, 5s) & POLLHUP);
		EXPECT_TRUE(socket.read_all());
		EXPECT_TRUE(closes_all());
		EXPECT_TRUE(children_of(getpid()).empty());
	});
}

TEST_F(Closer, EndOfTheProcessIsSeenWhileAnotherWaits)
{
	Ends pipe = make_pipe();
	Lingering socket;

	const pid_t child = start_child([&] {
		closer_init(device(), 4);
		pipe.out.reset();
		closer_close(socket.ends.in.release());
		EXPECT_TRUE(work_until([] { return empty_children() == 1; }));
	});
	pipe.in.reset();
	socket.ends.in.reset();
	end_child(child);
	EXPECT_NE(0, await(pipe.out, POLLHUP, 5s) & POLLHUP);
	EXPECT_TRUE(socket.read_all());
}

// More than may wait at a time: all are counted, and all are closed in the end.
TEST_F(Closer, NoMoreThanSoManyWaitAtATime)
{
	in_child([&] {
		closer_init(device(), 2);
		const size_t before = count_fds("self");
		{
			std::vector<Lingering> sockets(CLOSER_SOCKETS_MAX + 3);

			for (Lingering &s : sockets)
				closer_close(s.ends.in.release());
			EXPECT_EQ(sockets.size(), closer_backlog());
			/* Until they are left alone, and whoever helps with that has ended. */
			ASSERT_TRUE(work_until([] {
				return children_of(getpid()).size() == CLOSER_SOCKETS_MAX && closer_nap_ms() > 50;
			}));
			for (int i = 0; i < 10; i++) {
				closer_work(now_ns());
				EXPECT_LE(children_of(getpid()).size(), size_t{CLOSER_SOCKETS_MAX});
			}
			EXPECT_EQ(sockets.size(), closer_backlog());
			std::vector<InParts> parts;
			for (Lingering &s : sockets)
				parts.emplace_back(s.ends.out);
			EXPECT_TRUE(work_until([&] {
				size_t n = 0;

				for (InParts &p : parts)
					n += p.ended();
				return n == parts.size();
			}));
			EXPECT_TRUE(closes_all());
		}
		EXPECT_EQ(before, count_fds("self")) << list_fds("self");
	});
}

// One that was still queued when others were left alone is closed once its turn has come, though others go on waiting.
TEST_F(Closer, WhatIsQueuedIsNotKeptOpenByThoseWhoWait)
{
	in_child([&] {
		closer_init(device(), 2);
		std::vector<Lingering> sockets(CLOSER_SOCKETS_MAX + 1);
		std::vector<int> numbers;

		for (Lingering &s : sockets) {
			numbers.push_back(s.ends.in.release());
			closer_close(numbers.back());
		}
		ASSERT_TRUE(work_until(
			[] { return children_of(getpid()).size() == CLOSER_SOCKETS_MAX && closer_nap_ms() > 50; }));
		const auto left = std::find_if(numbers.begin(), numbers.end(), is_open);
		ASSERT_NE(numbers.end(), left);
		const size_t queued = static_cast<size_t>(left - numbers.begin());
		InParts first(sockets[queued == 0 ? 1 : 0].ends.out), last(sockets[queued].ends.out);
		EXPECT_TRUE(work_until([&] { return first.ended(); }));
		EXPECT_TRUE(work_until([&] { return last.ended(); }, 5s)) << "whoever waits for another holds it";
		for (Lingering &s : sockets)
			EXPECT_TRUE(s.read_all());
		EXPECT_TRUE(closes_all());
	});
}

// One whose process has been started, but has not run yet, when the worker leaves the table to another that waits.
void close_while_another_waits()
{
	constexpr uint64_t MS = 1000 * 1000;
	const linger for_long = {1, 60};
	cpu_set_t one;
	Lingering slow;
	Ends tcp = make_tcp_pair();

	/* With one processor, a child does not run before its parent sleeps. */
	ASSERT_EQ(0, sched_getaffinity(0, sizeof one, &one));
	for (int cpu = CPU_SETSIZE - 1, found = 0; cpu >= 0; cpu--) {
		if (CPU_ISSET(cpu, &one) && found++ > 0)
			CPU_CLR(cpu, &one);
	}
	ASSERT_EQ(0, sched_setaffinity(0, sizeof one, &one));
	/* Its close does not wait, since nothing was sent; but that is not known. */
	ASSERT_EQ(0, setsockopt(tcp.in, SOL_SOCKET, SO_LINGER, &for_long, sizeof for_long));
	const int fd = tcp.in.release();
	const uint64_t begin = now_ns();
	closer_close(slow.ends.in.release());
	closer_work(begin);
	usleep(1000);
	closer_close(fd);
	closer_work(begin + 29 * MS);
	closer_work(begin + 31 * MS);
	EXPECT_TRUE(work_until([] { return closer_backlog() == 1; }));
	EXPECT_NE(0, await(tcp.out, POLLIN, 5s)) << "no end-of-file";
	EXPECT_FALSE(is_open(fd));
	/* It may have been taken back as well, and its turn may not have come yet. */
	InParts rest(slow.ends.out);
	EXPECT_TRUE(work_until([&] { return rest.ended(); }));
	EXPECT_TRUE(closes_all());
}

TEST_F(Closer, WhatHasOnlyJustBeenStartedIsClosedToo)
{
	for (int i = 0; i < 5; i++) {
		in_child([&] {
			closer_init(device(), 4);
			close_while_another_waits();
		});
	}
}

// As in a container whose seccomp profile forbids unshare(2): closes still wait elsewhere, and nothing else is lost.
TEST_F(Closer, WithoutUnshareNothingElseIsClosed)
{
	in_child([&] {
		Ends pipe = make_pipe();
		Lingering socket;

		closer_init(device(), 4);
		refuse_call(SYS_unshare, EPERM);
		closer_close(socket.ends.in.release());
		const Deadline deadline(500ms);
		while (!deadline.passed() && is_open(pipe.in)) {
			closer_work(now_ns());
			usleep(2000);
		}
		ASSERT_TRUE(is_open(pipe.in)) << "this process has lost its descriptors";
		EXPECT_TRUE(is_open(pipe.out));
		EXPECT_TRUE(socket.read_all());
		EXPECT_TRUE(closes_all());
	});
}

} // namespace
