// SPDX-License-Identifier: BSD-2-Clause
// Malformed messages, and sound ones with descriptors that do not belong there. What datagram_test.cc sends as somebody who is
// served is sent here as somebody who is not; and by both what is dangerous to close, and what chance makes of all that.
#include "test/hostile/hostile.h"
#include "test/hostile/zoo.h"
#include "test/support/datagram.h"
#include "test/support/queue.h"
#include "test/support/raw_queue.h"
#include "test/support/slow_fs.h"

#include <cstring>
#include <poll.h>
#include <random>
#include <sys/wait.h>
#include <unistd.h>

namespace
{

using namespace field;

constexpr uint64_t TAG = 7;

// A sound datagram of one send.
Bytes sound(const std::string &path = "canary")
{
	return Datagram().add(make_request(WIRE_OP_SEND, path, TAG)).bytes();
}

Bytes changed(size_t at, uint64_t value, size_t width, Bytes bytes = sound())
{
	memcpy(&bytes.at(at), &value, width);
	return bytes;
}

class Messages : public Hostile
{
      protected:
	// As the user who is served, or as the other one.
	int say(bool refused, const Bytes &bytes, const std::vector<int> &fds)
	{
		if (!refused)
			return send_bytes(srv(), bytes, fds);
		return as_user(STRANGER, [&] { return send_bytes(daemon().connect(), bytes, fds); });
	}

	// An operation of which nothing else is wrong than what comes along.
	static Bytes plain(wire_op op, wire_channel channel)
	{
		const bool has_path = op == WIRE_OP_SEND || op == WIRE_OP_READ || op == WIRE_OP_OPEN;
		const std::string path = has_path ? "canary" : "";
		wire_request r = make_request(op, path, TAG);

		if (op == WIRE_OP_SEND_OPEN || op == WIRE_OP_CANCEL)
			r.txnid = 12345;
		if (op == WIRE_OP_REGISTER)
			r.length = 4;
		return Datagram(channel).add(r).bytes();
	}

	// Exactly one refusal, by the request's tag or by none.
	static void expect_told_once(int status, int err)
	{
		const auto outcomes = read_outcomes(status);

		ASSERT_EQ(1U, outcomes.size());
		EXPECT_TRUE(outcomes.begin()->first == TAG || outcomes.begin()->first == 0);
		expect_refused(outcomes.begin()->second, err);
	}

	// So many copies of a destination come along; all are let go of, and none was written to.
	void expect_descriptors_refused(bool refused, wire_op op, wire_channel channel, unsigned n)
	{
		SCOPED_TRACE("operation " + std::to_string(op) + ", channel " + std::to_string(channel) + ", " +
			     std::to_string(n) + " descriptors");
		const bool has_status = channel == WIRE_CHANNEL_FD && n > 0;
		Ends status = make_pipe(), dest = make_pipe();
		std::vector<int> fds(n, dest.in);

		if (has_status)
			fds[0] = status.in;
		ASSERT_EQ(0, say(refused, plain(op, channel), fds));
		status.in.reset();
		if (has_status)
			expect_told_once(status.out, refused ? EACCES : EPROTO);
		EXPECT_EQ("", drain(&dest));
		EXPECT_EQ("", drain(&status));
	}
};

// ---- Somebody who is not served

class RefusedMessages : public Messages
{
      protected:
	void SetUp() override
	{
		Hostile::SetUp();
		if (!is_root())
			GTEST_SKIP() << "only root can take another user's part";
		start_open();
	}

	void expect_refusal(const Bytes &bytes)
	{
		SCOPED_TRACE(std::to_string(bytes.size()) + " bytes");
		Ends status = make_pipe(), dest = make_pipe();

		ASSERT_EQ(0, say(true, bytes, {status.in, dest.in}));
		status.in.reset();
		expect_told_once(status.out, EACCES);
		EXPECT_EQ("", drain(&dest));
	}
};

TEST_F(RefusedMessages, EveryLength)
{
	const Bytes whole = sound();

	for (size_t n = 0; n <= whole.size(); n++)
		expect_refusal(Bytes(whole.begin(), whole.begin() + static_cast<long>(n)));
}

TEST_F(RefusedMessages, Oversized)
{
	for (const size_t size : {size_t{WIRE_DATAGRAM_MAX}, size_t{WIRE_DATAGRAM_MAX} + 1, size_t{100000}}) {
		Bytes bytes = sound();

		bytes.resize(size);
		expect_refusal(bytes);
		put32(&bytes, LENGTH, static_cast<uint32_t>(size));
		expect_refusal(bytes);
		ASSERT_EQ(0, say(true, bytes, {}));
	}
}

TEST_F(RefusedMessages, HeadersThatLie)
{
	struct {
		size_t at;
		uint64_t value;
		size_t width;
	} const lies[] = {
		{MAGIC, 0, 4},
		{MAGIC, 0x53444631, 4},
		{VERSION, 0, 2},
		{VERSION, 1, 2},
		{VERSION, 3, 2},
		{VERSION, 65535, 2},
		{COUNT, 0, 2},
		{COUNT, 2, 2},
		{COUNT, WIRE_COUNT_MAX, 2},
		{COUNT, WIRE_COUNT_MAX + 1, 2},
		{COUNT, 65535, 2},
		{LENGTH, 0, 4},
		{LENGTH, UINT32_MAX, 4},
		{CHANNEL, 3, 4},
		{CHANNEL, UINT32_MAX, 4},
		{QUEUE_ID, 1, 8},
		{HEADER_RESERVED, 1, 8},
		{REQUEST_SIZE, 0, 4},
		{REQUEST_SIZE, 8, 4},
		{REQUEST_SIZE, UINT32_MAX, 4},
		{REQUEST_SIZE, UINT32_MAX - 7, 4},
		{OP, 0, 2},
		{OP, WIRE_OP_REGISTER, 2},
		{OP, WIRE_OP_SENDFD, 2},
		{OP, WIRE_OP_END, 2},
		{OP, 65535, 2},
		{FLAGS, WIRE_FLAG_SAME_AS, 4},
		{FLAGS, WIRE_FLAGS_ALL + 1, 4},
		{FLAGS, UINT32_MAX, 4},
		{PATH_LEN, 0, 2},
		{PATH_LEN, 65535, 2},
		{HEADERS_LEN, UINT32_MAX, 4},
		{TRAILERS_LEN, UINT32_MAX, 4},
		{RESERVED0, 1, 4},
		{RESERVED1, 1, 8},
	};

	for (const auto &lie : lies) {
		SCOPED_TRACE("offset " + std::to_string(lie.at) + ", value " + std::to_string(lie.value));
		expect_refusal(changed(lie.at, lie.value, lie.width));
	}
}

// He cannot even find out what there is.
TEST_F(RefusedMessages, Paths)
{
	for (const std::string &path : {std::string("missing"), std::string("../../etc/passwd"), std::string(),
		     std::string("canary\0", 7), std::string("can\0ary", 7), std::string(4095, 'x'),
		     std::string(4096, 'x'), std::string(60000, '/')})
		expect_refusal(sound(path));
}

// Header, channel: whoever reads both sees a request without a channel, or one of a queue. There is nobody to tell.
TEST_F(RefusedMessages, NobodyToTell)
{
	for (const uint64_t channel : {WIRE_CHANNEL_NONE, WIRE_CHANNEL_QUEUE}) {
		Ends status = make_pipe(), dest = make_pipe();

		ASSERT_EQ(0, say(true, changed(CHANNEL, channel, 4), {status.in, dest.in}));
		EXPECT_EQ("", drain(&status));
		EXPECT_EQ("", drain(&dest));
	}
}

TEST_F(RefusedMessages, TheSamePipeForAll)
{
	Ends pipe = make_pipe();

	ASSERT_EQ(0, say(true, sound(), {pipe.in, pipe.in}));
	pipe.in.reset();
	expect_told_once(pipe.out, EACCES);
}

TEST_F(RefusedMessages, TwoBlocksOfDescriptors)
{
	Ends status = make_pipe(), dest = make_pipe();
	const int err = as_user(STRANGER, [&] {
		return send_blocks(daemon().connect(), sound(), {{status.in}, {dest.in, dest.in}});
	});

	status.in.reset();
	/* Where the kernel takes them they count as one list. */
	if (err == 0)
		expect_told_once(status.out, EACCES);
	else
		EXPECT_EQ(EINVAL, err) << strerror(err);
	EXPECT_EQ("", drain(&dest));
}

// The kernel lets nobody but root lie about it.
TEST_F(RefusedMessages, OneWhoSaysThatHeIsAnother)
{
	const Bytes ping = Datagram().add(make_request(WIRE_OP_PING, {}, TAG)).bytes();
	Ends honest = make_pipe(), liar = make_pipe();

	EXPECT_EQ(0, as_user(STRANGER, [&] {
		return send_bytes_as(daemon().connect(), ping, {getpid(), STRANGER, STRANGER}, honest.in);
	}));
	honest.in.reset();
	expect_told_once(honest.out, EACCES);
	for (const uid_t other : {uid_t{0}, FRIEND}) {
		EXPECT_EQ(EPERM, as_user(STRANGER, [&] {
			return send_bytes_as(daemon().connect(), ping, {getpid(), other, STRANGER}, liar.in);
		}));
	}
	EXPECT_EQ("", drain(&liar));
}

// ---- However many descriptors, with whatever operation

class Counts : public Messages, public ::testing::WithParamInterface<wire_op>
{
};

TEST_P(Counts, OfSomebodyWhoIsNotServed)
{
	if (!is_root())
		GTEST_SKIP() << "only root can take another user's part";
	start_open();
	for (const wire_channel channel : {WIRE_CHANNEL_NONE, WIRE_CHANNEL_FD, WIRE_CHANNEL_QUEUE}) {
		for (const unsigned n : {0U, 1U, 2U, 3U, 253U})
			expect_descriptors_refused(true, GetParam(), channel, n);
	}
}

INSTANTIATE_TEST_SUITE_P(Operations, Counts,
	::testing::Values(WIRE_OP_SEND, WIRE_OP_READ, WIRE_OP_OPEN, WIRE_OP_SEND_OPEN, WIRE_OP_CANCEL, WIRE_OP_PING,
		WIRE_OP_REGISTER, WIRE_OP_SENDFD));

// The operations that datagram_test.cc leaves out.
class ServedMessages : public Messages
{
      protected:
	void SetUp() override
	{
		Hostile::SetUp();
		start_open();
	}
};

TEST_F(ServedMessages, CountsOfDescriptors)
{
	for (const wire_op op : {WIRE_OP_SENDFD, WIRE_OP_REGISTER}) {
		for (const wire_channel channel : {WIRE_CHANNEL_NONE, WIRE_CHANNEL_FD, WIRE_CHANNEL_QUEUE}) {
			for (const unsigned n : {0U, 1U, 2U, 3U, 4U, 253U}) {
				if (op != WIRE_OP_SENDFD || channel != WIRE_CHANNEL_FD || n != 3)
					expect_descriptors_refused(false, op, channel, n);
			}
		}
	}
}

// As many as there should be, but a pipe is no file.
TEST_F(ServedMessages, APipeInsteadOfAFile)
{
	Ends status = make_pipe(), dest = make_pipe(), file = make_pipe();

	ASSERT_EQ(0, say(false, plain(WIRE_OP_SENDFD, WIRE_CHANNEL_FD), {status.in, file.out, dest.in}));
	status.in.reset();
	expect_told_once(status.out, EINVAL);
	EXPECT_EQ("", drain(&dest));
}

// Root may say that it is somebody else, and is then treated like him.
TEST_F(ServedMessages, OneWhoSaysThatHeIsAnother)
{
	if (!is_root())
		GTEST_SKIP() << "only root can take another user's part";
	const Bytes ping = Datagram().add(make_request(WIRE_OP_PING, {}, TAG)).bytes();
	Ends status = make_pipe();

	ASSERT_EQ(0, send_bytes_as(srv(), ping, {getpid(), STRANGER, STRANGER}, status.in));
	status.in.reset();
	expect_told_once(status.out, EACCES);
}

// ---- Descriptors of all kinds, from both

class FromBoth : public Messages, public ::testing::WithParamInterface<bool>
{
      protected:
	static bool refused()
	{
		return GetParam();
	}

	void SetUp() override
	{
		Hostile::SetUp();
		if (refused() && !is_root())
			GTEST_SKIP() << "only root can take another user's part";
		limit(120);
		/* What is opened by chance is not to wait for long. */
		start_open({"--open-timeout", "500"});
	}

	// With a status channel that is one: exactly one end, whatever it is.
	void expect_one_answer(wire_op op, std::vector<int> fds)
	{
		Ends status = make_pipe();

		fds.insert(fds.begin(), status.in);
		ASSERT_EQ(0, say(refused(), plain(op, WIRE_CHANNEL_FD), fds));
		status.in.reset();
		const auto outcomes = read_outcomes(status.out);
		ASSERT_EQ(1U, outcomes.size());
		EXPECT_TRUE(outcomes.begin()->second.has_terminal());
		if (refused())
			expect_refused(outcomes.begin()->second, EACCES);
	}
};

INSTANTIATE_TEST_SUITE_P(
	Who, FromBoth, ::testing::Bool(), [](const auto &i) { return i.param ? "Refused" : "Served"; });

// Each in every place where a descriptor can be, of sound requests and of such as are not.
TEST_P(FromBoth, EveryKindInEveryPlace)
{
	const Fd trap(daemon().connect()), file(open(in_root("canary").c_str(), O_RDONLY | O_CLOEXEC));
	const Zoo zoo(dir(), trap);

	for (size_t i = 0; i < zoo.size(); i++) {
		SCOPED_TRACE(zoo.name(i));
		const int fd = zoo.fd(i);
		Ends pipe = make_pipe();

		expect_one_answer(WIRE_OP_SEND, {fd});
		expect_one_answer(WIRE_OP_SENDFD, {file, fd});
		expect_one_answer(WIRE_OP_SENDFD, {fd, pipe.in});
		expect_one_answer(WIRE_OP_SEND, {fd, fd, fd});
		expect_one_answer(WIRE_OP_PING, {fd});
		ASSERT_EQ(0, say(refused(), plain(WIRE_OP_SEND, WIRE_CHANNEL_FD), {fd, fd}));
		ASSERT_EQ(0, say(refused(), plain(WIRE_OP_OPEN, WIRE_CHANNEL_FD), {fd}));
		ASSERT_EQ(0, say(refused(), plain(WIRE_OP_REGISTER, WIRE_CHANNEL_QUEUE), {fd}));
		ASSERT_EQ(0, say(refused(), plain(WIRE_OP_SEND_OPEN, WIRE_CHANNEL_NONE), {fd}));
		ASSERT_EQ(0, say(refused(), Bytes(), {fd}));
		canary();
	}
}

// The last copies are in messages: whoever closes them waits for half a minute, and for as long as a test likes.
TEST_P(FromBoth, LastCopies)
{
	REQUIRE_SLOW_FS();
	SlowFs fs(dir() + "/slow");
	const linger patient = {1, 30};
	const std::string much(1 << 20, 'x');
	std::vector<Ends> tcp;
	std::vector<Fd> files, socks;

	fs.add("file", 1000);
	for (int i = 0; i < 8; i++) {
		tcp.push_back(make_tcp_pair());
		ASSERT_EQ(0, setsockopt(tcp[i].out, SOL_SOCKET, SO_LINGER, &patient, sizeof patient));
		/* Both unread and unsent bytes are left. */
		ASSERT_EQ(5, send(tcp[i].in, "hello", 5, 0));
		while (send(tcp[i].out, much.data(), much.size(), MSG_DONTWAIT) > 0)
			;
		files.emplace_back(open(fs.path("file").c_str(), O_RDWR | O_CLOEXEC));
		/* And once more, in a socket that comes along itself. */
		Ends nest = make_socketpair(SOCK_DGRAM);
		ASSERT_EQ(0, send_bytes(nest.in, {}, {tcp[i].out, files.back()}));
		socks.push_back(std::move(nest.out));
	}
	const std::vector<Bytes> messages = {sound(), changed(MAGIC, 0, 4), changed(COUNT, 2, 2), changed(OP, 99, 2),
		Bytes(), changed(VERSION, 9, 2), changed(CHANNEL, 0, 4), Bytes(WIRE_DATAGRAM_MAX + 1)};
	freeze(daemon().workers());
	for (size_t i = 0; i < messages.size(); i++) {
		Ends status = make_pipe();
		ASSERT_EQ(0,
			say(refused(), messages[i], {status.in, tcp[i].out, files[i], socks[i], tcp[i].out, files[i]}));
		tcp[i].out.reset();
		socks[i].reset();
	}
	/* Ours are not the last copies, but would wait nevertheless. */
	files.clear();
	for (const char *op : {"flush", "release", "getattr"})
		fs.hold(op);
	thaw(daemon().workers());
	fs.await("flush");
	for (int i = 0; i < 20; i++)
		canary();
	expect_same_workers();
	EXPECT_LT(0U, fs.held("flush")) << "nobody has closed anything, so nothing is shown";
	fs.release();
	tcp.clear(); /* with what is unread, so that nobody lingers any longer */
}

// Messages that were sound, changed here and there, with descriptors of all kinds in all numbers.
Bytes make_nonsense(std::mt19937 &random)
{
	const std::string paths[] = {"", "canary", "missing", "../canary", std::string(5000, 'x')};
	const auto channel = static_cast<wire_channel>(random() % 3);
	Datagram d(channel, random() % 8 ? 2 : 1);

	for (unsigned n = 1 + random() % 3; n > 0; n--) {
		const std::string &path = paths[random() % 5];
		wire_request r = make_request(static_cast<wire_op>(1 + random() % (WIRE_OP_END - 1)), path, random());

		if (random() % 4 == 0)
			r.txnid = random();
		if (random() % 4 == 0)
			r.length = random() % 5000;
		d.add(r);
	}
	Bytes bytes = d.bytes();
	if (channel == WIRE_CHANNEL_QUEUE)
		put64(&bytes, QUEUE_ID, random() % 4);
	for (unsigned n = random() % 4; n > 0; n--)
		bytes[random() % bytes.size()] = static_cast<unsigned char>(random());
	if (random() % 8 == 0)
		bytes.resize(random() % (bytes.size() + 100));
	return bytes;
}

// All of them, from now on: 0 if they were refusals and nothing else.
int read_refusals(int fd)
{
	unsigned char frame[SFD_MAX_RESP_SIZE];
	Got got;

	while ((got = read_frame(fd, frame, 60s)) == Got::Frame) {
		if (sfd_get_cmd(frame) != SFD_FILE_INFO || sfd_get_stat(frame) != EACCES)
			return 1;
	}
	return got == Got::End ? 0 : 2;
}

TEST_P(FromBoth, Nonsense)
{
	/* Whatever is closed with care takes the daemon a while: clients_test.cc looks at that. */
	constexpr int MANY = 2000;
	const Fd trap(daemon().connect());
	const Zoo zoo(dir(), trap);
	Ends status = make_pipe();
	/* A process: what is forked beside a thread may wait for a lock of that thread for ever. */
	const pid_t reader = fork();
	if (reader == 0) {
		char bytes[65536];

		status.in.reset();
		if (refused())
			_exit(read_refusals(status.out));
		/* The contents of files are among it. */
		while (await(status.out, POLLIN, 60s) != 0 && read(status.out, bytes, sizeof bytes) != 0)
			;
		_exit(0);
	}
	ASSERT_GT(reader, 0);
	const auto speak = [&] {
		std::mt19937 random(20261126);
		const int srv = daemon().connect();

		for (int i = 0; i < MANY; i++) {
			std::vector<std::vector<int>> blocks(1);

			if (random() % 2)
				blocks[0].push_back(status.in);
			for (unsigned n = random() % 256 ? random() % 3 : random() % 253; n > 0; n--)
				blocks[0].push_back(zoo.fd(random() % zoo.size()));
			if (send_blocks(srv, make_nonsense(random), blocks) != 0)
				return 1;
		}
		return 0;
	};

	EXPECT_EQ(0, as_user(refused() ? STRANGER : geteuid(), speak));
	status.in.reset();
	/* Nothing of ours is unread: no transfer waits for room in it. */
	canary();
	if (refused()) {
		for (const int peer : zoo.peers())
			EXPECT_EQ(0, await(peer, POLLIN, 0ms)) << "something was written";
		EXPECT_EQ("", zoo.memory());
	}
	int result = -1;
	EXPECT_TRUE(await_exit(reader, &result, 60s));
	EXPECT_EQ(0, result) << "something else than refusals";
}

} // namespace
