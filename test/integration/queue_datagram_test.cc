// SPDX-License-Identifier: BSD-2-Clause
// Datagrams for a queue that our library does not make. Each request that can be told apart is told what is wrong with it, the
// others of its datagram are served if it is whole, and no descriptor is kept.
#include "test/support/fixture.h"
#include "test/support/queue.h"
#include "test/support/raw_queue.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <set>
#include <sys/socket.h>

namespace
{

constexpr uint64_t ID = 0x0123456789abcdef;
constexpr size_t SIZE = 1000, LARGE = 8 << 20;

using namespace field;

class QueueDatagram : public SfdTest
{
      protected:
	void SetUp() override
	{
		SfdTest::SetUp();
		start();
		content_ = add_file("file", SIZE);
		add_file("large", LARGE);
		queue_ = std::make_unique<RawQueue>(srv(), ID);
		queue_->open();
	}

	void TearDown() override
	{
		if (queue_ && !HasFatalFailure()) {
			expect_served();
			expect_same_workers();
		}
		queue_.reset();
		if (!HasFatalFailure()) {
			expect_idle();
			EXPECT_EQ(0u, active_transfers(daemon()));
		}
		SfdTest::TearDown();
	}

	RawQueue &q()
	{
		return *queue_;
	}

	void expect_served()
	{
		Ends pipe = make_pipe();

		ASSERT_EQ(0, q().send({queue_send_request("file", 0)}, {pipe.in}));
		EXPECT_EQ(SFD_STAT_OK, q().end_of(0));
		EXPECT_TRUE(same_content(content_, drain(&pipe)));
		EXPECT_TRUE(q().is_quiet());
	}

	// All that was sent before has been received.
	void flush_requests()
	{
		for (int i = 0; i < 8; i++)
			canary();
	}

	// Sent with so many copies of a destination, to which nothing is written: each of these tags is told that.
	void expect_refusal(const Bytes &bytes, unsigned copies, const std::vector<uint64_t> &tags, int err)
	{
		Ends dest = make_tcp_pair();
		char byte;

		ASSERT_EQ(0, send_bytes(srv(), bytes, std::vector<int>(copies, dest.in)));
		for (const uint64_t tag : tags)
			EXPECT_EQ(err, q().end_of(tag)) << "tag " << tag;
		if (tags.empty())
			flush_requests();
		dest.in.reset();
		EXPECT_NE(0, await(dest.out, POLLIN)) << "somebody still has the destination";
		EXPECT_EQ(0, recv(dest.out, &byte, 1, MSG_DONTWAIT)) << "something was written";
		EXPECT_TRUE(q().is_quiet());
	}

	Bytes sound(uint64_t tag = 3)
	{
		return q().datagram({queue_send_request("file", tag)});
	}

	std::string content_;

      private:
	std::unique_ptr<RawQueue> queue_;
};

// Of a datagram whose header lies it is not even known whose it is.
TEST_F(QueueDatagram, HeadersThatLie)
{
	const struct {
		size_t at;
		uint64_t value;
		int width;
	} lies[] = {{MAGIC, 0, 4}, {VERSION, 0, 2}, {VERSION, 99, 2}, {COUNT, 0, 2}, {COUNT, WIRE_COUNT_MAX + 1, 2},
		{LENGTH, 0, 4}, {LENGTH, 1, 4}, {LENGTH, UINT32_MAX, 4}, {CHANNEL, 0, 4}, {CHANNEL, 3, 4},
		{QUEUE_ID, 0, 8}, {QUEUE_ID, ID + 1, 8}, {HEADER_RESERVED, 1, 8}};

	for (const auto &lie : lies) {
		SCOPED_TRACE("offset " + std::to_string(lie.at) + ", value " + std::to_string(lie.value));
		Bytes bytes = sound();

		memcpy(&bytes[lie.at], &lie.value, static_cast<size_t>(lie.width));
		expect_refusal(bytes, 1, {}, 0);
	}
	Bytes bytes = sound();
	bytes.resize(WIRE_DATAGRAM_MAX + 1);
	put32(&bytes, LENGTH, static_cast<uint32_t>(bytes.size()));
	expect_refusal(bytes, 1, {}, 0);
	bytes = sound();
	bytes.resize(WIRE_HEADER_SIZE);
	expect_refusal(bytes, 1, {}, 0);
}

// What the header says fits, and what follows does not. The tag can be read nevertheless.
TEST_F(QueueDatagram, RequestsThatLie)
{
	const struct {
		size_t at;
		uint64_t value;
		int width;
	} lies[] = {{COUNT, 2, 2}, {REQUEST_SIZE, 0, 4}, {REQUEST_SIZE, 1, 4}, {REQUEST_SIZE, UINT32_MAX - 7, 4},
		{OP, 0, 2}, {OP, WIRE_OP_END, 2}, {OP, 65535, 2}, {OP, WIRE_OP_READ, 2}, {OP, WIRE_OP_PING, 2},
		{OP, WIRE_OP_OPEN, 2}, {PATH_LEN, 65535, 2}, {FLAGS, WIRE_FLAGS_ALL + 1, 4}, {RESERVED0, 1, 4},
		{RESERVED1, 1, 8}, {HEADERS_LEN, UINT32_MAX, 4}};

	for (const auto &lie : lies) {
		SCOPED_TRACE("offset " + std::to_string(lie.at) + ", value " + std::to_string(lie.value));
		Bytes bytes = sound(5);

		memcpy(&bytes[lie.at], &lie.value, static_cast<size_t>(lie.width));
		expect_refusal(bytes, 1, {5}, EPROTO);
	}
	Bytes bytes = sound(5);
	bytes.resize(bytes.size() + 8);
	put32(&bytes, LENGTH, static_cast<uint32_t>(bytes.size()));
	expect_refusal(bytes, 1, {5}, EPROTO);
}

// None of its requests is acted on, and each of them hears of it.
TEST_F(QueueDatagram, WrongNumbersOfDescriptors)
{
	for (const unsigned copies : {0u, 1u, 3u, 253u}) {
		SCOPED_TRACE(copies);
		expect_refusal(q().datagram({queue_send_request("file", 1), queue_open_request("file", 2),
				       queue_send_request("file", 3)}),
			copies, {1, 2, 3}, EPROTO);
	}
	expect_refusal(q().datagram({queue_open_request("file", 2)}), 1, {2}, EPROTO);
	expect_refusal(q().datagram({queue_send_request("file", 2)}), 0, {2}, EPROTO);
}

// What is whole is served, but for those requests that ask for what there is not.
TEST_F(QueueDatagram, BadRequestsAmongGoodOnes)
{
	const std::string file = "file", with_nul("fi\0le", 5), longest(5000, 'x');
	Ends good = make_pipe(), again = make_pipe(), bad = make_tcp_pair();
	std::vector<std::pair<wire_request, int>> all;
	std::map<uint64_t, int> stats;
	std::vector<wire_request> requests;

	all.emplace_back(queue_send_request(file, 0), SFD_STAT_OK);
	all.emplace_back(queue_send_request(with_nul, 1), EINVAL);
	all.emplace_back(queue_send_request(longest, 2), ENAMETOOLONG);
	all.emplace_back(queue_send_request("", 3), ENOENT);
	all.emplace_back(queue_send_request(file, 4), ETIMEDOUT);
	all.back().first.deadline_ns = 1;
	all.emplace_back(queue_send_request(file, 5), SFD_STAT_CHANGED);
	all.back().first.flags = WIRE_FLAG_SAME_AS;
	all.emplace_back(queue_send_request(file, 6), EINVAL);
	all.back().first.offset = -1;
	all.emplace_back(queue_send_request(file, 7), EINVAL);
	all.back().first.txnid = 99;
	all.emplace_back(queue_send_open_request(0, 8), EINVAL);
	all.emplace_back(make_request(WIRE_OP_REGISTER, {}, 9), EINVAL);
	all.emplace_back(queue_send_request(file, 16), EINVAL); /* more than the queue has */
	all.emplace_back(queue_send_request(file, UINT32_MAX), EINVAL);
	all.emplace_back(queue_send_request(file, 10), SFD_STAT_OK);
	std::vector<int> fds(all.size(), bad.in);
	fds.front() = good.in;
	fds.back() = again.in;
	for (const auto &[request, stat] : all)
		requests.push_back(request);
	ASSERT_EQ(0, q().send(requests, fds));
	for (size_t i = 0; i < all.size(); i++) {
		const Note n = q().next();

		ASSERT_EQ(static_cast<uint32_t>(WIRE_NOTE_DONE), n.note.kind);
		EXPECT_EQ(0u, stats.count(n.note.tag)) << n.note.tag;
		stats[n.note.tag] = n.note.stat;
	}
	for (const auto &[request, stat] : all)
		EXPECT_EQ(stat, stats[request.tag]) << "tag " << request.tag;
	EXPECT_TRUE(same_content(content_, drain(&good)));
	EXPECT_TRUE(same_content(content_, drain(&again)));
	EXPECT_EQ("", drain(&bad));
}

// A tag of which something is outstanding already. The first one goes on.
TEST_F(QueueDatagram, TheSameTagTwice)
{
	Ends stalled = make_pipe(), second = make_pipe();

	ASSERT_EQ(0, q().send({queue_send_request("large", 4)}, {stalled.in}));
	ASSERT_NE(0, await(stalled.out, POLLIN));
	/* Another worker may take it, which knows nothing of the first. */
	ASSERT_EQ(0, q().send({queue_send_request("file", 4)}, {second.in}));
	const int stat = q().end_of(4);
	EXPECT_TRUE(stat == EINVAL || stat == SFD_STAT_OK) << strerror(stat);
	EXPECT_EQ(stat == SFD_STAT_OK ? SIZE : 0, drain(&second).size());
	ASSERT_EQ(0, q().send({queue_cancel_request(4)}));
	EXPECT_EQ(ECANCELED, q().end_of(4));
	EXPECT_GT(LARGE, drain(&stalled).size());
	/* In one datagram. */
	ASSERT_EQ(0, q().send({queue_open_request("file", 4), queue_open_request("file", 4)}));
	unsigned refused = 0;
	for (int i = 0; i < 2; i++) {
		const Note n = q().next();

		EXPECT_EQ(4u, n.note.tag);
		refused += n.note.kind == WIRE_NOTE_DONE && n.note.stat == EINVAL;
	}
	EXPECT_EQ(1u, refused);
	ASSERT_EQ(0, q().send({queue_cancel_request(4)}));
	EXPECT_EQ(ECANCELED, q().end_of(4));
}

// Cancels and second messages of what there is not.
TEST_F(QueueDatagram, MessagesThatMeetNothing)
{
	std::vector<wire_request> cancels;
	Ends dest = make_pipe();

	for (uint64_t tag = 0; tag < WIRE_COUNT_MAX; tag++)
		cancels.push_back(queue_cancel_request(tag << (tag % 60)));
	for (int i = 0; i < 100; i++)
		ASSERT_EQ(0, q().send(cancels));
	for (const uint64_t txnid : {uint64_t{1}, UINT64_MAX, uint64_t{1} << 56, uint64_t{0xff} << 56})
		ASSERT_EQ(0, q().send({queue_send_open_request(txnid, 1)}, {dest.in}));
	flush_requests();
	EXPECT_TRUE(q().is_quiet());
	EXPECT_EQ("", drain(&dest));
}

// One that belongs to a request of its own channel, and the other way round.
TEST_F(QueueDatagram, ChannelsAreMixed)
{
	Ends ours = make_pipe(), theirs = make_pipe();
	sfd_file_info info;
	const Fd status(sfd_open(srv(), "file", 0, 0, false));

	ASSERT_TRUE(read_info(status, &info));
	/* The transfer reports where it always would have. */
	ASSERT_EQ(0, q().send({queue_send_open_request(info.txnid, 2)}, {ours.in}));
	expect_success(read_rest(status, info), SIZE);
	EXPECT_TRUE(same_content(content_, drain(&ours)));
	EXPECT_TRUE(q().is_quiet());

	ASSERT_EQ(0, q().send({queue_open_request("file", 2)}));
	const Note n = q().next();
	ASSERT_EQ(static_cast<uint32_t>(WIRE_NOTE_INFO), n.note.kind);
	ASSERT_TRUE(when_room(srv(), [&] { return sfd_send_open(srv(), n.info.txnid, theirs.in); }));
	EXPECT_EQ(SFD_STAT_OK, q().end_of(2));
	EXPECT_TRUE(same_content(content_, drain(&theirs)));
}

// A storm of nonsense under its id. What is said of it need not make sense either, but the queue is there afterwards.
TEST_F(QueueDatagram, Nonsense)
{
	const std::string noise = make_content(1 << 20, 42);
	const Fd null(open("/dev/null", O_WRONLY | O_CLOEXEC));
	std::set<uint64_t> tags; /* also those that chance has made */
	size_t at = 0;

	for (size_t i = 0; i < 3000; i++) {
		const auto size = static_cast<size_t>(static_cast<unsigned char>(noise[i]) % 40);
		Bytes bytes = sound(i % 16);

		at = (at + size) % (noise.size() - 256);
		std::copy(noise.begin() + static_cast<long>(at), noise.begin() + static_cast<long>(at + size),
			bytes.begin() + WIRE_HEADER_SIZE + static_cast<long>(i % 60));
		ASSERT_EQ(0, send_bytes(srv(), bytes, std::vector<int>(i % 4, null)));
		tags.insert(get64(bytes, REQUEST_TAG));
		while (i % 16 == 15 && !q().is_quiet())
			q().next();
	}
	flush_requests();
	while (!q().is_quiet())
		q().next();
	/* What it opened by chance, and what moves at a rate of a few bytes a second; of those with one tag, one at a time. */
	EXPECT_TRUE(eventually([&] {
		for (const uint64_t tag : tags)
			EXPECT_EQ(0, q().send({queue_cancel_request(tag)}));
		return active_transfers(daemon()) == 0;
	}));
	flush_requests(); /* it is told at the end of a round */
	while (!q().is_quiet())
		q().next();
}

} // namespace
