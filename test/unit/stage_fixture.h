// SPDX-License-Identifier: BSD-2-Clause
// A line of staged requests, with what it should hold; for stage_test.cc and stage_room_test.cc.
#pragma once

extern "C" {
#include "lib/stage.h"
}

#include "test/support/datagram.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <ostream>
#include <string>
#include <vector>

namespace staging
{

constexpr uint64_t ID = 0x1122334455667788;

// One request, as it was put in or as it came out. The descriptor is -1 if it has none.
struct Request {
	wire_op op;
	uint64_t tag;
	uint64_t txnid;
	std::string path;
	int fd;

	bool operator==(const Request &o) const
	{
		return op == o.op && tag == o.tag && txnid == o.txnid && path == o.path && fd == o.fd;
	}
};

inline void PrintTo(const Request &r, std::ostream *out)
{
	*out << "op " << r.op << " tag " << r.tag << " path of " << r.path.size() << " fd " << r.fd;
}

using Requests = std::vector<Request>;

// What the daemon makes of a batch.
inline Requests decode(const stage_batch &b)
{
	std::vector<unsigned char> bytes;
	Requests out;
	wire_header h;
	wire_cursor c;
	wire_request r;
	unsigned fds = 0;

	EXPECT_EQ(b.header, b.iov[0].iov_base);
	EXPECT_EQ(size_t{WIRE_HEADER_SIZE}, b.iov[0].iov_len);
	EXPECT_LE(b.pieces, b.count + 1);
	for (unsigned i = 0; i < b.pieces; i++) {
		const auto *piece = static_cast<unsigned char *>(b.iov[i].iov_base);

		bytes.insert(bytes.end(), piece, piece + b.iov[i].iov_len);
	}
	EXPECT_LE(bytes.size(), size_t{WIRE_DATAGRAM_MAX});
	EXPECT_EQ(0, wire_get_header(bytes.data(), bytes.size(), &h));
	EXPECT_EQ(unsigned{WIRE_VERSION}, h.version);
	EXPECT_EQ(WIRE_CHANNEL_QUEUE, h.channel);
	EXPECT_EQ(ID, h.queue_id);
	EXPECT_EQ(b.count, h.count);
	EXPECT_EQ(0, wire_check(bytes.data(), bytes.size(), &h, b.nfds));
	wire_cursor_init(&c, bytes.data(), bytes.size(), &h);
	while (c.count > 0 && wire_next(&c, &r) == 0)
		out.push_back({r.op, r.tag, r.txnid, std::string(r.path, r.path_len), r.fds ? b.fds[fds++] : -1});
	EXPECT_EQ(b.nfds, fds);
	return out;
}

class Stage
{
      public:
	explicit Stage(uint32_t depth) : slots_memory_(malloc(slots_bytes(depth))), memory_(malloc(stage_bytes(depth)))
	{
		memset(memory_, 0xa5, stage_bytes(depth));
		slots_init(&slots_, depth, slots_memory_);
		stage_init(&s, depth, &slots_, memory_);
	}
	~Stage()
	{
		free(memory_);
		free(slots_memory_);
	}
	Stage(const Stage &) = delete;
	Stage &operator=(const Stage &) = delete;

	// Stages a request of that slot; what is to come out is in `last`.
	int add_to(uint32_t i, wire_op op, const std::string &path, uint64_t txnid = 0)
	{
		build b = {};

		b.wire = make_request(op, path, slots_tag(&slots_, i));
		b.wire.txnid = txnid;
		last = {op, b.wire.tag, txnid, path, wire_op_fds(op) > 0 ? ++fd_ : -1};
		b.fds[0] = last.fd;
		return stage_add(&s, &b, i);
	}
	// The same with a new slot, whose number is returned. There must be room.
	uint32_t add(const std::string &path = "file", wire_op op = WIRE_OP_SEND)
	{
		const uint32_t i = slots_take(&slots_, 0);

		EXPECT_NE(SLOT_NONE, i);
		EXPECT_EQ(0, add_to(i, op, path));
		expected.push_back(last);
		return i;
	}
	// Adds until there is no room; how many there were.
	uint32_t fill(const std::string &path)
	{
		for (uint32_t n = 0;; n++) {
			const uint32_t i = slots_take(&slots_, 0);

			if (i == SLOT_NONE)
				return n;
			if (const int err = add_to(i, WIRE_OP_SEND, path); err != 0) {
				EXPECT_EQ(EAGAIN, err);
				slots_give_back(&slots_, i);
				return n;
			}
			expected.push_back(last);
		}
	}
	// As a cancel does.
	void drop(uint32_t i)
	{
		stage_drop(&s, slot(i).staged);
		for (auto at = expected.begin(); at != expected.end(); ++at) {
			if (at->tag == slots_tag(&slots_, i)) {
				expected.erase(at);
				break;
			}
		}
		slots_give_back(&slots_, i);
	}
	// Sends one datagram, compares it with what was expected, and gives its slots back. How many were in it.
	unsigned send(unsigned most = WIRE_COUNT_MAX)
	{
		stage_batch b;

		stage_collect(&s, ID, most, &b);
		const Requests got = decode(b);
		EXPECT_LE(b.count, most);
		EXPECT_LE(got.size(), expected.size());
		for (const Request &r : got) {
			EXPECT_EQ(expected.front(), r);
			expected.pop_front();
		}
		stage_sent(&s, &b);
		EXPECT_EQ(expected.size(), s.live);
		for (const Request &r : got) {
			const auto i = static_cast<uint32_t>(r.tag);

			EXPECT_EQ(SLOT_SENT, slot(i).state);
			slots_give_back(&slots_, i);
		}
		return b.count;
	}
	void send_all()
	{
		while (s.live > 0 && !testing::Test::HasFailure())
			send();
		EXPECT_TRUE(expected.empty());
	}
	// What is staged stands where its slot says, as it was put in.
	void check_places()
	{
		for (const Request &r : expected) {
			const auto i = static_cast<uint32_t>(r.tag);
			const staged &e = s.line[slot(i).staged];

			ASSERT_GE(slot(i).staged, s.first);
			ASSERT_LT(slot(i).staged, s.last);
			ASSERT_EQ(i, e.slot);
			ASSERT_EQ(r.fd, e.fds[0]);
			ASSERT_FALSE(e.dropped);
		}
	}
	struct slot &slot(uint32_t i)
	{
		return slots_.all[i];
	}
	slots *all()
	{
		return &slots_;
	}

	stage s;
	std::deque<Request> expected; /* in order */
	Request last = {};

      private:
	slots slots_;
	void *slots_memory_, *memory_;
	int fd_ = 100;
};

} // namespace staging
