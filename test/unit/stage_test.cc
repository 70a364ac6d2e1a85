// SPDX-License-Identifier: BSD-2-Clause
// Requests on their way to the daemon: each in one datagram, in order, with its descriptor; what was dropped in none.
#include "test/unit/stage_fixture.h"

namespace
{

using namespace staging;

TEST(Stage, ARequestGoesAsItIs)
{
	Stage t(1);
	const std::string path = "a/path";
	build request = {};
	wire_request &r = request.wire;
	stage_batch b;
	wire_request got;
	wire_cursor c;

	r = make_request(WIRE_OP_SEND, path, 99);
	r.offset = 5;
	r.length = 17;
	r.flags = WIRE_FLAG_WANT_INFO;
	request.fds[0] = 12;
	ASSERT_EQ(0, stage_add(&t.s, &request, slots_take(t.all(), 0)));
	stage_collect(&t.s, ID, 64, &b);
	ASSERT_EQ((Requests{{WIRE_OP_SEND, 99, 0, "a/path", 12}}), decode(b));
	ASSERT_EQ(2u, b.pieces);
	c = {static_cast<unsigned char *>(b.iov[1].iov_base), b.iov[1].iov_len, WIRE_VERSION, 1};
	ASSERT_EQ(0, wire_next(&c, &got));
	EXPECT_EQ(5, got.offset);
	EXPECT_EQ(17u, got.length);
	EXPECT_EQ(r.flags, got.flags);
}

TEST(Stage, AllGoInOrderWithTheirDescriptors)
{
	const wire_op ops[] = {WIRE_OP_SEND, WIRE_OP_OPEN, WIRE_OP_OPEN, WIRE_OP_SEND, WIRE_OP_SEND};
	Stage t(64);

	for (size_t n = 0; n < 60; n++)
		t.add(std::string(n + 1, 'x'), ops[n % 5]);
	EXPECT_EQ(60u, t.send());
	EXPECT_EQ(0u, t.s.live);
}

// A send-open goes under the slot of its open, whose state it leaves alone.
TEST(Stage, ASendOpenGoesUnderItsOpen)
{
	Stage t(2);
	const uint32_t open = t.add("x", WIRE_OP_OPEN), other = t.add("y");
	stage_batch b;

	stage_collect(&t.s, ID, 1, &b);
	EXPECT_EQ(1u, decode(b).size());
	stage_sent(&t.s, &b);
	EXPECT_EQ(SLOT_SENT, t.slot(open).state);
	EXPECT_EQ(SLOT_STAGED, t.slot(other).state) << "it was not in the datagram";
	ASSERT_EQ(0, t.add_to(open, WIRE_OP_SEND_OPEN, "", 0xabc));
	t.slot(open).second_staged = true;
	stage_collect(&t.s, ID, 1, &b);
	stage_sent(&t.s, &b);
	EXPECT_TRUE(t.slot(open).second_staged);
	EXPECT_EQ(SLOT_SENT, t.slot(other).state);
	stage_collect(&t.s, ID, 64, &b);
	EXPECT_EQ((Requests{{WIRE_OP_SEND_OPEN, slots_tag(t.all(), open), 0xabc, "", t.last.fd}}), decode(b));
	stage_sent(&t.s, &b);
	EXPECT_FALSE(t.slot(open).second_staged);
	EXPECT_EQ(SLOT_SENT, t.slot(open).state);
	EXPECT_EQ(0u, t.s.live);
}

// ---- How many go at a time

TEST(StageBatch, HoldsSixtyFourRequestsAndNoMore)
{
	Stage t(200);

	t.fill("f");
	ASSERT_EQ(200u, t.s.live);
	for (unsigned n : {64u, 64u, 64u, 8u})
		EXPECT_EQ(n, t.send());
	EXPECT_TRUE(t.expected.empty());
}

TEST(StageBatch, HoldsAsManyAsIsSaid)
{
	Stage t(64);

	t.fill("f");
	for (unsigned most : {1u, 2u, 31u, 16u, 8u, 4u})
		EXPECT_EQ(most, t.send(most));
	EXPECT_EQ(2u, t.send(4));
	EXPECT_TRUE(t.expected.empty());
}

TEST(StageBatch, HoldsSixtyFourKilobytesAndNoMore)
{
	const std::string longest(WIRE_PATH_MAX, 'p');
	const size_t each = WIRE_REQUEST_SIZE + WIRE_PATH_MAX + 1;
	const size_t rest = WIRE_DATAGRAM_MAX - WIRE_HEADER_SIZE - 15 * each;

	for (size_t last : {rest - WIRE_REQUEST_SIZE, rest - WIRE_REQUEST_SIZE + 1}) {
		Stage t(400);

		for (int n = 0; n < 15; n++)
			t.add(longest);
		t.add(std::string(last, 'q'));
		EXPECT_EQ(last == rest - WIRE_REQUEST_SIZE ? 16u : 15u, t.send());
		t.send_all();
	}
}

TEST(StageBatch, IsOnePieceUnlessThereAreGaps)
{
	Stage t(64);
	std::vector<uint32_t> slots;
	stage_batch b;

	for (int n = 0; n < 64; n++)
		slots.push_back(t.add());
	stage_collect(&t.s, ID, 64, &b);
	EXPECT_EQ(2u, b.pieces);
	for (int n = 1; n < 64; n += 2)
		t.drop(slots[n]);
	stage_collect(&t.s, ID, 64, &b);
	EXPECT_EQ(33u, b.pieces);
	EXPECT_EQ(32u, t.send());
}

// ---- What was dropped

TEST(StageDrop, LeavesNoTrace)
{
	for (int which : {1, 2, 4, 8, 16, 9, 24, 17, 21, 10, 15, 30, 27}) {
		Stage t(5);
		std::vector<uint32_t> slots;

		for (int n = 0; n < 5; n++)
			slots.push_back(
				t.add(std::string(5, static_cast<char>('a' + n)), n % 2 ? WIRE_OP_OPEN : WIRE_OP_SEND));
		for (int n = 0; n < 5; n++) {
			if (which >> n & 1)
				t.drop(slots[n]);
		}
		EXPECT_EQ(t.expected.size(), t.s.live);
		t.send();
		EXPECT_EQ(0u, t.s.live);
		t.add("next");
		t.send_all();
	}
}

TEST(StageDrop, AllOfThem)
{
	Stage t(100);
	std::vector<uint32_t> slots;

	for (int round = 0; round < 3; round++) {
		for (int n = 0; n < 100; n++)
			slots.push_back(t.add());
		for (uint32_t i : slots)
			t.drop(i);
		slots.clear();
		EXPECT_EQ(0u, t.s.live);
		t.add("alone");
		EXPECT_EQ(1u, t.send());
		for (int n = 0; n < 100; n++)
			slots.push_back(t.add());
		t.expected.clear();
		for (uint32_t i : slots)
			slots_give_back(t.all(), i);
		slots.clear();
		stage_drop_all(&t.s);
		EXPECT_EQ(0u, t.s.live);
	}
}

// What stands after a datagram's last request and was dropped is not taken for something of the next.
TEST(StageDrop, BetweenDatagrams)
{
	Stage t(300);
	std::vector<uint32_t> slots;

	for (int n = 0; n < 300; n++)
		slots.push_back(t.add());
	for (int n = 60; n < 200; n++)
		t.drop(slots[n]);
	EXPECT_EQ(64u, t.send());
	t.drop(slots[299]);
	EXPECT_EQ(64u, t.send());
	EXPECT_EQ(31u, t.send());
	EXPECT_EQ(0u, t.s.live);
}

} // namespace
