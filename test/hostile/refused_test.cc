// SPDX-License-Identifier: BSD-2-Clause
// Somebody who is not served sends descriptors that are dangerous to close, with all kinds of messages. He is told so, once,
// where he can be; all that came is let go of; and nobody waits meanwhile.
#include "test/hostile/hostile.h"
#include "test/support/datagram.h"
#include "test/support/raw_queue.h"
#include "test/support/slow_fs.h"

#include <cstring>
#include <poll.h>
#include <random>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>

namespace
{

class Refused : public Hostile
{
      protected:
	void SetUp() override
	{
		Hostile::SetUp();
		if (!is_root())
			GTEST_SKIP() << "only root can take another user's part";
		start_open();
	}

	// Says it as STRANGER, with a status pipe in front: what comes there. Copies of `fds` are left with nobody else.
	Outcome ask(const Bytes &bytes, std::vector<int> fds)
	{
		Ends status = make_pipe();

		fds.insert(fds.begin(), status.in);
		EXPECT_EQ(0, as_user(STRANGER, [&] { return send_bytes(daemon().connect(), bytes, fds); }));
		status.in.reset();
		return read_outcome(status.out);
	}

	// Whatever it is that comes along, he is refused and the next one served.
	void expect_harmless(const std::vector<int> &fds)
	{
		for (const wire_op op : {WIRE_OP_SEND, WIRE_OP_SENDFD, WIRE_OP_OPEN, WIRE_OP_PING}) {
			const bool has_path = op == WIRE_OP_SEND || op == WIRE_OP_OPEN;
			const Bytes bytes = Datagram().add(make_request(op, has_path ? "canary" : "")).bytes();

			expect_refused(ask(bytes, fds), EACCES);
			canary();
		}
	}
};

// close(2) of the last copy waits until its peer has read everything, or for half a minute.
TEST_F(Refused, LingeringSockets)
{
	std::vector<Ends> kept;
	std::vector<int> fds;
	const linger patient = {1, 30};
	const std::string much(1 << 20, 'x');

	for (int i = 0; i < 8; i++) {
		kept.push_back(make_tcp_pair());
		const int sock = kept.back().out;
		ASSERT_EQ(0, fcntl(sock, F_SETFL, O_NONBLOCK));
		ASSERT_EQ(0, setsockopt(sock, SOL_SOCKET, SO_LINGER, &patient, sizeof patient));
		while (send(sock, much.data(), much.size(), MSG_DONTWAIT) > 0)
			;
		fds.push_back(sock);
	}
	Ends status = make_pipe();
	const Bytes bytes = Datagram().add(make_request(WIRE_OP_SEND, "canary")).bytes();
	fds.insert(fds.begin(), status.in);
	/* So that its copies are the last ones. */
	freeze(daemon().workers());
	ASSERT_EQ(0, as_user(STRANGER, [&] { return send_bytes(daemon().connect(), bytes, fds); }));
	status.in.reset();
	for (Ends &k : kept)
		k.out.reset();
	thaw(daemon().workers());
	expect_refused(read_outcome(status.out), EACCES);
	for (int i = 0; i < 20; i++)
		canary();
	expect_same_workers();
}

// close(2) of a file there waits for its server.
TEST_F(Refused, FilesWhoseServerDoesNotAnswer)
{
	REQUIRE_SLOW_FS();
	SlowFs fs(dir() + "/slow");
	std::vector<Fd> files;
	std::vector<int> fds;

	fs.add("file", 1000);
	for (int i = 0; i < 4; i++) {
		files.emplace_back(open(fs.path("file").c_str(), (i % 2 ? O_RDWR : O_RDONLY) | O_CLOEXEC));
		ASSERT_GE(files.back(), 0);
		fds.push_back(files.back());
	}
	std::vector<Ends> channels;
	freeze(daemon().workers());
	for (const wire_op op : {WIRE_OP_SEND, WIRE_OP_SENDFD, WIRE_OP_PING}) {
		const Bytes bytes = Datagram().add(make_request(op, op == WIRE_OP_SEND ? "canary" : "")).bytes();

		channels.push_back(make_pipe());
		fds.insert(fds.begin(), channels.back().in);
		ASSERT_EQ(0, as_user(STRANGER, [&] { return send_bytes(daemon().connect(), bytes, fds); }));
		fds.erase(fds.begin());
		channels.back().in.reset();
	}
	/* Only now: the child that sent it has closed its own. */
	for (const char *op : {"flush", "release", "getattr"})
		fs.hold(op);
	thaw(daemon().workers());
	for (Ends &channel : channels)
		EXPECT_NE(0, await(channel.out, POLLIN));
	for (int i = 0; i < 20; i++)
		canary();
	expect_same_workers();
	EXPECT_LT(0U, fs.held("flush")) << "nobody has closed anything, so nothing is shown";
	fs.release();
	for (Ends &channel : channels)
		expect_refused(read_outcome(channel.out), EACCES);
}

TEST_F(Refused, AllKindsOfDescriptors)
{
	const Fd epoll(epoll_create1(EPOLL_CLOEXEC)), path(open(dir().c_str(), O_PATH | O_CLOEXEC));
	const Fd memory(memfd_create("memory", MFD_CLOEXEC)), directory(open(dir().c_str(), O_RDONLY | O_CLOEXEC));
	const Fd terminal(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)), trap(daemon().connect());
	const Fd listening(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), null(open("/dev/null", O_RDWR | O_CLOEXEC));
	Ends pipe = make_pipe(), nested = make_socketpair(SOCK_DGRAM), watched = make_pipe();
	epoll_event event = {};

	event.events = EPOLLIN;
	ASSERT_EQ(0, epoll_ctl(epoll, EPOLL_CTL_ADD, watched.out, &event));
	/* A socket in which descriptors wait. */
	ASSERT_EQ(0, send_bytes(nested.in, Bytes(1), {pipe.in, nested.out}));
	expect_harmless({epoll, path, memory, directory, terminal, trap, listening, null, pipe.in, nested.out});
	for (const int fd : {int{epoll}, int{path}, int{memory}, int{terminal}, int{trap}, int{null}, int{nested.out}})
		expect_harmless({fd, fd, fd});
}

TEST_F(Refused, AsManyAsThereCanBe)
{
	Ends pipe = make_pipe();

	expect_harmless(std::vector<int>(252, pipe.in));
	pipe.in.reset();
	EXPECT_NE(0, await(pipe.out, POLLHUP));
}

// He may ask for a queue, and gets none; nor does he get into one of somebody else's.
TEST_F(Refused, Queues)
{
	constexpr uint64_t ID = 0x123456789abcdef0;
	const Fd connection(daemon().connect());
	RawQueue own(connection, ID);
	const Ends answer = make_socketpair(SOCK_SEQPACKET);

	EXPECT_EQ(EACCES, as_user(STRANGER, [&] {
		const int srv = daemon().connect();
		sfd_queue *q = sfd_queue_new(srv, 8);

		if (!q || sfd_queue_open(q, "canary", 0, 0, nullptr, 1) != 0)
			return 255;
		while (sfd_queue_submit(q) < 0) {
			if (errno != EAGAIN)
				return errno;
			await(sfd_queue_fd(q), POLLIN);
		}
		return 0;
	}));
	ASSERT_NO_FATAL_FAILURE(own.open());
	Ends pipe = make_pipe();
	EXPECT_EQ(0, as_user(STRANGER, [&] {
		RawQueue theirs(daemon().connect(), ID);

		for (int i = 0; i < 50; i++) {
			if (theirs.send({queue_send_request("canary", 0)}, {pipe.in}) != 0 ||
				theirs.send({queue_cancel_request(0)}) != 0 || theirs.ask(16, answer.out) != 0)
				return 1;
		}
		return 0;
	}));
	canary();
	EXPECT_TRUE(own.is_quiet());
	pipe.in.reset();
	EXPECT_NE(0, await(pipe.out, POLLHUP));
}

// Anything at all: messages that were sound, changed here and there, with whatever descriptors.
TEST_F(Refused, Nonsense)
{
	std::mt19937 random(11);
	const Fd null(open("/dev/null", O_RDWR | O_CLOEXEC)), memory(memfd_create("memory", MFD_CLOEXEC));
	Ends pipe = make_pipe(), tcp = make_tcp_pair(), packets = make_socketpair(SOCK_SEQPACKET);
	const std::vector<int> kinds = {null, memory, pipe.in, pipe.out, tcp.in, packets.in};
	const int done = as_user(STRANGER, [&] {
		const int srv = daemon().connect();

		for (int i = 0; i < 3000; i++) {
			const auto channel = static_cast<wire_channel>(random() % 3);
			const auto op = static_cast<wire_op>(1 + random() % (WIRE_OP_END - 1));
			Bytes bytes = Datagram(channel).add(make_request(op, random() % 2 ? "canary" : "")).bytes();
			std::vector<int> fds;

			for (unsigned n = static_cast<unsigned>(random() % 4); n > 0; n--)
				bytes[random() % bytes.size()] = static_cast<unsigned char>(random());
			if (random() % 8 == 0)
				bytes.resize(random() % (bytes.size() + 100));
			for (unsigned n = static_cast<unsigned>(random() % 5); n > 0; n--)
				fds.push_back(kinds[random() % kinds.size()]);
			if (send_bytes(srv, bytes, fds) != 0)
				return 1;
		}
		return 0;
	});

	EXPECT_EQ(0, done);
	canary();
	expect_idle();
	/* Frames, if any, are in the pipe; nothing of a file is anywhere else. */
	char byte;
	EXPECT_EQ(0, lseek(memory, 0, SEEK_END));
	EXPECT_EQ(-1, recv(tcp.out, &byte, 1, MSG_DONTWAIT));
	EXPECT_EQ(EAGAIN, errno);
}

} // namespace
