// SPDX-License-Identifier: BSD-2-Clause
// Queues and those who mean no good: other processes that know an id, channels that are none, datagrams that lie, clients
// that never read. The owner's requests go on, and nothing is left behind.
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
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

namespace
{

constexpr uid_t STRANGER = 54321, SERVER = 54322; // the second is served
constexpr size_t SIZE = 1000, LARGE = 8 << 20;
constexpr uint64_t ID = 0x123456789abcdef0;
constexpr int MOST_QUEUES = 64; // of one user: sendfiled.h

class QueueSecurity : public SfdTest
{
      protected:
	void SetUp() override
	{
		SfdTest::SetUp();
		DaemonOptions options;
		options.workers = 4;
		if (is_root())
			options.more = {"-u", std::to_string(SERVER)};
		start(options);
		content_ = add_file("file", SIZE);
		large_ = add_file("large", LARGE, 2);
	}

	void TearDown() override
	{
		if (!HasFatalFailure()) {
			expect_idle();
			expect_same_workers();
			canary();
			EXPECT_EQ(0u, active_transfers(daemon()));
		}
		SfdTest::TearDown();
	}

	// In a child, of that user if it is not 0: runs `what`, whose result must be 0.
	template <typename What> void in_child(uid_t uid, What what)
	{
		EXPECT_EQ(0, as_user(uid != 0 ? uid : getuid(), what)) << "the child stopped at that line";
	}

	// All that was sent before has been received.
	void flush_requests()
	{
		for (int i = 0; i < 16; i++)
			canary();
	}

	// The queue serves its owner.
	void expect_served(RawQueue &q)
	{
		Ends pipe = make_pipe();

		ASSERT_EQ(0, q.send({queue_send_request("file", 0)}, {pipe.in}));
		EXPECT_EQ(SFD_STAT_OK, q.end_of(0));
		EXPECT_TRUE(same_content(content_, drain(&pipe)));
		EXPECT_TRUE(q.is_quiet());
	}

	// Whoever was given the other end, or a copy, has let go of it.
	static void expect_released(Ends &pipe)
	{
		EXPECT_EQ("", drain(&pipe));
	}

	std::string content_, large_;
};

// ---- Others who know the id

// Everything that can be asked for under that id, again and again: 0, or the line that failed.
int meddle(int srv, uint64_t txnid, int dest)
{
	const Ends own = make_socketpair(SOCK_SEQPACKET);
	wire_request cancel = make_request(WIRE_OP_CANCEL), send_open = make_request(WIRE_OP_SEND_OPEN);
	RawQueue q(srv, ID);

	cancel.txnid = send_open.txnid = txnid;
	for (int i = 0; i < 20; i++) {
		for (const uint64_t tag : {1, 2, 3}) {
			if (q.send({queue_send_request("file", tag)}, {dest}) != 0)
				return __LINE__;
			if (q.send({queue_open_request("file", tag)}) != 0)
				return __LINE__;
			if (q.send({queue_send_open_request(txnid, tag)}, {dest}) != 0)
				return __LINE__;
			if (q.send({queue_cancel_request(tag)}) != 0)
				return __LINE__;
		}
		if (q.ask(16, own.out) != 0)
			return __LINE__;
		if (send_bytes(srv, Datagram(WIRE_CHANNEL_NONE).add(send_open).add(cancel).bytes(), {dest}) != 0)
			return __LINE__;
	}
	return 0;
}

class QueueOthers : public QueueSecurity, public ::testing::WithParamInterface<uid_t>
{
};

TEST_P(QueueOthers, AnotherProcessDoesNothing)
{
	if (GetParam() != 0 && !is_root())
		GTEST_SKIP() << "only root can take another user's part";
	RawQueue q(srv(), ID);
	Ends theirs = make_pipe(), ours = make_pipe(), stalled = make_pipe();

	ASSERT_NO_FATAL_FAILURE(q.open());
	ASSERT_EQ(0, q.send({queue_open_request("file", 1)}));
	const Note info = q.next();
	ASSERT_EQ(static_cast<uint32_t>(WIRE_NOTE_INFO), info.note.kind);
	ASSERT_EQ(0, q.send({queue_send_request("large", 2)}, {stalled.in}));
	ASSERT_NE(0, await(stalled.out, POLLIN));
	in_child(GetParam(), [&] { return meddle(srv(), info.info.txnid, theirs.in); });
	flush_requests();
	EXPECT_TRUE(q.is_quiet()) << "the owner was told something";
	expect_released(theirs);
	/* What is the owner's goes on. */
	ASSERT_EQ(0, q.send({queue_send_open_request(info.info.txnid, 1)}, {ours.in}));
	EXPECT_EQ(SFD_STAT_OK, q.end_of(1));
	EXPECT_TRUE(same_content(content_, drain(&ours)));
	EXPECT_TRUE(q.is_quiet());
	std::thread reader([&] { EXPECT_TRUE(same_content(large_, drain(&stalled))); });
	EXPECT_EQ(SFD_STAT_OK, q.end_of(2));
	reader.join();
	expect_served(q);
}

INSTANTIATE_TEST_SUITE_P(Who, QueueOthers, ::testing::Values(0, SERVER, STRANGER),
	[](const auto &i) { return std::to_string(i.param); });

TEST_F(QueueSecurity, AnIdThatThereIs)
{
	RawQueue first(srv(), ID);

	ASSERT_NO_FATAL_FAILURE(first.open());
	for (int i = 0; i < 200; i++) {
		RawQueue second(srv(), ID);

		ASSERT_EQ(0, second.ask());
		const wire_note note = second.answer();
		ASSERT_EQ(static_cast<uint32_t>(WIRE_NOTE_REFUSED), note.kind);
		EXPECT_EQ(EEXIST, note.stat) << strerror(note.stat);
		EXPECT_TRUE(second.is_closed());
	}
	EXPECT_TRUE(first.is_quiet());
	expect_served(first);
}

// An id is to be used once. Who uses it again may miss something, but leaves nothing behind, and hurts nobody else.
TEST_F(QueueSecurity, AnIdThatIsUsedAgain)
{
	RawQueue other(srv(), ID + 1);

	ASSERT_NO_FATAL_FAILURE(other.open());
	for (int i = 0; i < 100; i++) {
		RawQueue q(srv(), ID);
		Ends stalled = make_pipe();

		ASSERT_NO_FATAL_FAILURE(q.open_in_the_end());
		ASSERT_EQ(0, q.send({queue_open_request("file", 1), queue_send_request("large", 2)}, {stalled.in}));
		ASSERT_NO_FATAL_FAILURE(expect_served(other));
		if (i % 2) {
			q.channel().reset();
			EXPECT_GT(LARGE, drain(&stalled).size());
		}
	}
	EXPECT_TRUE(eventually([&] { return active_transfers(daemon()) == 0; }));
}

// ---- How many

TEST_F(QueueSecurity, SoManyQueuesOfOneUser)
{
	std::vector<std::unique_ptr<Queue>> queues;
	const Ends pipe = make_pipe();

	for (int i = 0; i < MOST_QUEUES; i++) {
		queues.push_back(std::make_unique<Queue>(srv(), 4));
		queues.back()->open("missing", 1);
		queues.back()->expect_end(1, ENOENT);
	}
	for (int round = 0; round < 3; round++) {
		Queue more(srv(), 4);

		for (uint64_t i = 0; i < 3; i++)
			more.open("file", i);
		more.finish();
		for (uint64_t i = 0; i < 3; i++)
			more.expect_end(i, EDQUOT);
		EXPECT_EQ(-1, sfd_queue_open(more, "file", 0, 0, nullptr, 5));
		EXPECT_EQ(EDQUOT, errno) << strerror(errno);
		EXPECT_EQ(-1, sfd_queue_send(more, "file", pipe.in, 0, 0, nullptr, 5));
		EXPECT_EQ(EDQUOT, errno) << strerror(errno);
		EXPECT_EQ(-1, sfd_queue_submit(more));
		EXPECT_EQ(EDQUOT, errno) << strerror(errno);
		more.expect_quiet();
	}
	if (is_root()) {
		in_child(SERVER, [&] {
			sfd_queue *q = sfd_queue_new(srv(), 4);
			sfd_event e;

			return q && sfd_queue_open(q, "missing", 0, 0, nullptr, 1) == 0 && await_event(q, &e) &&
					       e.stat == ENOENT
				       ? 0
				       : __LINE__;
		});
	}
	queues.pop_back();
	/* The daemon learns of that soon. */
	EXPECT_TRUE(eventually([&] {
		Queue again(srv(), 4);

		again.open("missing", 1);
		return again.end_of(1).stat == ENOENT;
	}));
	for (auto &q : queues) {
		q->open("missing", 2);
		q->expect_end(2, ENOENT);
	}
}

// ---- Letter boxes that are none

TEST_F(QueueSecurity, ThingsThatAreNoLetterBox)
{
	const Fd file(open((dir() + "/file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	const Fd udp(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	const Fd lonely(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
	const Fd by_path(open((dir() + "/file").c_str(), O_PATH | O_CLOEXEC));
	Ends pipe = make_pipe(), stream = make_socketpair(SOCK_STREAM), packets = make_socketpair(SOCK_DGRAM);

	/* More often than there may be queues. */
	for (int i = 0; i < 2 * MOST_QUEUES; i++) {
		for (const int end : {static_cast<int>(pipe.in), static_cast<int>(pipe.out),
			     static_cast<int>(stream.in), static_cast<int>(packets.in), static_cast<int>(file),
			     static_cast<int>(udp), static_cast<int>(lonely), static_cast<int>(by_path), srv()}) {
			RawQueue q(srv(), ID + static_cast<uint64_t>(i));

			ASSERT_EQ(0, q.ask(16, end));
			ASSERT_EQ(0, q.send({queue_open_request("file", 1)}));
		}
	}
	flush_requests();
	expect_released(pipe);
	stream.in.reset();
	char byte;
	EXPECT_EQ(0, recv(stream.out, &byte, 1, 0)) << "somebody has it, or wrote to it";
	EXPECT_EQ(-1, recv(packets.out, &byte, 1, MSG_DONTWAIT));
	EXPECT_EQ("", read_whole(dir() + "/file"));
	RawQueue q(srv(), ID);
	ASSERT_NO_FATAL_FAILURE(q.open());
	expect_served(q);
}

TEST_F(QueueSecurity, DepthsThatAreNone)
{
	for (const uint64_t depth : {uint64_t{0}, uint64_t{WIRE_DEPTH_MAX} + 1, uint64_t{1} << 32, UINT64_MAX}) {
		RawQueue q(srv(), ID);

		ASSERT_EQ(0, q.ask(depth));
		const wire_note note = q.answer();
		EXPECT_EQ(static_cast<uint32_t>(WIRE_NOTE_REFUSED), note.kind);
		EXPECT_EQ(EINVAL, note.stat) << strerror(note.stat);
		EXPECT_TRUE(q.is_closed());
	}
	RawQueue q(srv(), ID);
	ASSERT_NO_FATAL_FAILURE(q.open(WIRE_DEPTH_MAX));
	expect_served(q);
}

// Nobody waits for the answer any more, or for the channel.
TEST_F(QueueSecurity, ClientsThatHaveGone)
{
	for (int i = 0; i < 4 * MOST_QUEUES; i++) {
		RawQueue q(srv(), ID + static_cast<uint64_t>(i));

		if (i % 3 == 0)
			q.letter_box().in.reset();
		ASSERT_EQ(0, q.ask());
		if (i % 3 == 1)
			q.answer();
		ASSERT_EQ(0, q.send({queue_open_request("file", 1)}));
	}
	flush_requests();
	EXPECT_TRUE(eventually([&] { return active_transfers(daemon()) == 0; }));
	RawQueue q(srv(), 1);
	ASSERT_NO_FATAL_FAILURE(q.open_in_the_end());
	expect_served(q);
}

// ---- What clients put into what they were given

int send_with_descriptor(int channel, int fd, size_t size)
{
	const std::vector<unsigned char> bytes(size, 0x55);

	return send_bytes(channel, bytes, fd >= 0 ? std::vector<int>{fd} : std::vector<int>{});
}

// Nobody reads it, and nobody keeps it longer than the client.
TEST_F(QueueSecurity, RecordsAndDescriptorsFromTheClient)
{
	uint64_t id = ID;

	for (const bool has_descriptor : {false, true}) {
		for (const size_t size : {size_t{100}, size_t{0}}) {
			SCOPED_TRACE(std::to_string(size) + (has_descriptor ? " with" : " without"));
			Ends passed = make_pipe();
			{
				RawQueue q(srv(), id++);

				ASSERT_EQ(0,
					send_with_descriptor(q.letter_box().in, has_descriptor ? passed.in : -1, size));
				ASSERT_NO_FATAL_FAILURE(q.open());
				expect_served(q);
				/* The daemon's end takes nothing. */
				EXPECT_EQ(EPIPE,
					send_with_descriptor(q.channel(), has_descriptor ? passed.in : -1, size));
				expect_served(q);
			}
			expect_released(passed);
		}
	}
}

TEST_F(QueueSecurity, ChannelsThatAreShutDown)
{
	for (const int how : {SHUT_RD, SHUT_WR, SHUT_RDWR}) {
		for (const bool is_early : {false, true}) {
			RawQueue q(srv(), ID + 2 * static_cast<uint64_t>(how) + is_early);
			Ends stalled = make_pipe();

			if (is_early) {
				ASSERT_EQ(0, shutdown(q.letter_box().in, how));
				ASSERT_EQ(0, q.ask());
				/* Who says that nothing more will come from him still reads. */
				EXPECT_EQ(how == SHUT_WR, q.answer().kind == WIRE_NOTE_REGISTERED);
			} else {
				ASSERT_NO_FATAL_FAILURE(q.open());
			}
			ASSERT_EQ(0,
				q.send({queue_send_request("large", 1), queue_open_request("file", 2)}, {stalled.in}));
			if (!is_early) {
				ASSERT_EQ(0, shutdown(q.channel(), how));
			}
			flush_requests();
		}
	}
	EXPECT_TRUE(eventually([&] { return active_transfers(daemon()) == 0; }));
	expect_idle();
}

// ---- Clients that do not read

TEST_F(QueueSecurity, ClientThatNeverReads)
{
	RawQueue q(srv(), ID);
	Queue other(srv());
	const size_t masters = count_fds(std::to_string(daemon().master()));

	ASSERT_NO_FATAL_FAILURE(q.open(WIRE_DEPTH_MAX));
	/* As many as it said that it would have, with information, which takes the most. */
	for (uint64_t tag = 0; tag < 4000; tag++)
		ASSERT_EQ(0, q.send({queue_open_request("file", tag)}));
	for (uint64_t tag = 4000; tag < WIRE_DEPTH_MAX; tag++)
		ASSERT_EQ(0, q.send({queue_open_request("missing", tag)}));
	flush_requests();
	for (uint64_t i = 0; i < 100; i++) {
		Ends pipe = make_pipe();

		other.send("file", pipe.in, i);
		other.expect_success(i, SIZE);
		EXPECT_TRUE(same_content(content_, drain(&pipe)));
	}
	q.channel().reset();
	EXPECT_TRUE(eventually([&] { return active_transfers(daemon()) == 0; }));
	other.free();
	expect_idle();
	EXPECT_GE(masters, count_fds(std::to_string(daemon().master())));
}

// More than it said that it would have: that is the end of it, and of nobody else.
TEST_F(QueueSecurity, ClientThatNeverStops)
{
	RawQueue q(srv(), ID);
	Queue other(srv());
	Ends stalled = make_pipe();

	ASSERT_NO_FATAL_FAILURE(q.open(8));
	ASSERT_EQ(0, q.send({queue_send_request("large", 7)}, {stalled.in}));
	for (int i = 0; i < 20000; i++)
		ASSERT_EQ(0, q.send({queue_open_request("missing", 1)}));
	flush_requests();
	EXPECT_TRUE(q.is_closed());
	EXPECT_GT(LARGE, drain(&stalled).size());
	other.open("missing", 1);
	other.expect_end(1, ENOENT);
}

// It does read, but late, and then all of it is there.
TEST_F(QueueSecurity, ClientThatReadsLate)
{
	constexpr uint64_t MANY = 8000;
	RawQueue q(srv(), ID);
	std::vector<bool> seen(MANY);

	ASSERT_NO_FATAL_FAILURE(q.open(WIRE_DEPTH_MAX));
	for (uint64_t tag = 0; tag < MANY; tag++)
		ASSERT_EQ(0, q.send({queue_open_request("missing", tag)}));
	flush_requests();
	for (uint64_t i = 0; i < MANY; i++) {
		const Note n = q.next();

		ASSERT_EQ(static_cast<uint32_t>(WIRE_NOTE_DONE), n.note.kind);
		ASSERT_EQ(ENOENT, n.note.stat);
		ASSERT_LT(n.note.tag, MANY);
		EXPECT_FALSE(seen[n.note.tag]) << "told twice: " << n.note.tag;
		seen[n.note.tag] = true;
	}
	EXPECT_TRUE(q.is_quiet());
	expect_served(q);
}

} // namespace
