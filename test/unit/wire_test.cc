// SPDX-License-Identifier: BSD-2-Clause
// The wire format: what is encoded is decoded, what lies is refused, and what was ever sent is
// understood.
extern "C" {
#include "lib/wire.h"
}

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <dirent.h>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace
{

using Bytes = std::vector<uint8_t>;
using Requests = std::vector<wire_request>;

// Where the parts of a datagram lie, said once more: the encoder and this list must not change
// together by accident.
enum HeaderAt : size_t {
	AT_MAGIC = 0,
	AT_VERSION = 4,
	AT_COUNT = 6,
	AT_LENGTH = 8,
	AT_CHANNEL = 12,
	AT_QUEUE_ID = 16,
	AT_HEADER_RESERVED = 24,
	HEADER_END = 32,
};

enum RequestAt : size_t {
	AT_SIZE = 0,
	AT_OP = 4,
	AT_PATH_LEN = 6,
	AT_TAG = 8,
	AT_TXNID = 16,
	AT_OFFSET = 24,
	AT_RANGE = 32,
	AT_FLAGS = 40,
	AT_RESERVED0 = 44,
	AT_RESERVED1 = 48,
	V1_END = 56,
	AT_DEADLINE = 56,
	AT_MAX_RATE = 64,
	AT_HEADERS_LEN = 72,
	AT_TRAILERS_LEN = 76,
	AT_HDR_SIZE_AT = 80,
	AT_HDR_MTIME_AT = 84,
	AT_READAHEAD = 88,
	AT_RESERVED2 = 92,
	V2_END = 96,
};

// A datagram in a heap block that ends where the datagram ends, so that a sanitizer sees whatever
// reads on.
class Exact
{
      public:
	explicit Exact(const Bytes &b, size_t shift = 0)
	    : block_(new uint8_t[b.size() + shift]), shift_(shift), size_(b.size())
	{
		std::copy(b.begin(), b.end(), block_.get() + shift);
	}
	const uint8_t *data() const
	{
		return block_.get() + shift_;
	}
	const uint8_t *end() const
	{
		return data() + size_;
	}
	size_t size() const
	{
		return size_;
	}

      private:
	std::unique_ptr<uint8_t[]> block_;
	size_t shift_, size_;
};

template <typename T> void poke(Bytes &b, size_t at, T value)
{
	ASSERT_LE(at + sizeof value, b.size());
	memcpy(b.data() + at, &value, sizeof value);
}

template <typename T> T peek(const Bytes &b, size_t at)
{
	T value{};

	EXPECT_LE(at + sizeof value, b.size());
	memcpy(&value, b.data() + at, sizeof value);
	return value;
}

template <typename T> void append(Bytes &b, T value)
{
	const auto *p = reinterpret_cast<const uint8_t *>(&value);

	b.insert(b.end(), p, p + sizeof value);
}

wire_request request(wire_op op, const char *path = nullptr, uint64_t tag = 0)
{
	wire_request r{};

	r.op = op;
	r.tag = tag;
	r.path = path;
	r.path_len = path ? static_cast<uint32_t>(strlen(path)) : 0;
	r.fds = wire_op_fds(op);
	return r;
}

wire_request second(wire_op op, uint64_t txnid, uint64_t tag = 0)
{
	wire_request r = request(op, nullptr, tag);

	r.txnid = txnid;
	return r;
}

// Every field has a value of its own, and each of its bytes differs, so that none can stand for
// another.
wire_request with_all_fields()
{
	static const char path[] = "dir/a file";
	static const char headers[] = "HTTP/1.1 200 OK\r\nContent-Length: ....................\r\n\r\n";
	static const char trailers[] = "the end\n";
	wire_request r = request(WIRE_OP_SEND, path, 0x1112131415161718);

	r.flags = WIRE_FLAGS_ALL;
	r.txnid = 0x2122232425262728;
	r.offset = 0x3132333435363738;
	r.length = 0x4142434445464748;
	r.deadline_ns = 0x5152535455565758;
	r.max_rate = 0x6162636465666768;
	r.readahead = 0x71727374;
	r.hdr_size_at = 0x75767778;
	r.hdr_mtime_at = 0x7a7b7c7d;
	r.same_as.dev = 0x8182838485868788;
	r.same_as.ino = 0x9192939495969798;
	r.same_as.file_size = 0xa1a2a3a4a5a6a7a8;
	r.same_as.mtime = 0x01b2b3b4b5b6b7b8;
	r.same_as.ctime = 0x01c2c3c4c5c6c7c8;
	r.same_as.mtime_nsec = 0xd1d2d3d4;
	r.same_as.ctime_nsec = 0xe1e2e3e4;
	r.headers = headers;
	r.headers_len = sizeof headers - 1;
	r.trailers = trailers;
	r.trailers_len = sizeof trailers - 1;
	return r;
}

Bytes encode(const Requests &rs, wire_channel channel, uint64_t queue_id = 0)
{
	Bytes b(WIRE_HEADER_SIZE);
	wire_header h{};

	for (const auto &r : rs) {
		size_t at = b.size();

		/* What must be written is told from what was there before. */
		b.resize(at + wire_request_bytes(&r), 0xee);
		wire_put_request(b.data() + at, &r);
	}
	h.version = WIRE_VERSION;
	h.count = static_cast<unsigned>(rs.size());
	h.channel = channel;
	h.queue_id = queue_id;
	wire_put_header(b.data(), &h, b.size());
	return b;
}

// Version 1, which the library does not write any more: by hand.
Bytes encode_v1(const Requests &rs, wire_channel channel)
{
	Bytes b(WIRE_HEADER_SIZE);

	for (const auto &r : rs) {
		size_t at = b.size();

		append<uint32_t>(b, 0);
		append<uint16_t>(b, static_cast<uint16_t>(r.op));
		append<uint16_t>(b, static_cast<uint16_t>(r.path_len));
		append<uint64_t>(b, r.tag);
		append<uint64_t>(b, r.txnid);
		append<int64_t>(b, r.offset);
		append<uint64_t>(b, r.length);
		append<uint32_t>(b, 0);
		append<uint32_t>(b, 0);
		append<uint64_t>(b, 0);
		if (r.path_len > 0)
			b.insert(b.end(), r.path, r.path + r.path_len);
		b.resize((b.size() + 7) / 8 * 8);
		poke(b, at + AT_SIZE, static_cast<uint32_t>(b.size() - at));
	}
	poke<uint32_t>(b, AT_MAGIC, WIRE_MAGIC);
	poke<uint16_t>(b, AT_VERSION, 1);
	poke(b, AT_COUNT, static_cast<uint16_t>(rs.size()));
	poke(b, AT_LENGTH, static_cast<uint32_t>(b.size()));
	poke(b, AT_CHANNEL, static_cast<uint32_t>(channel));
	return b;
}

// What the daemon makes of a datagram that came with so many descriptors.
int judge(const Bytes &b, unsigned fds)
{
	Exact e(b);
	wire_header h;
	int err = wire_get_header(e.data(), e.size(), &h);

	return err != 0 ? err : wire_check(e.data(), e.size(), &h, fds);
}

int get_header(const Bytes &b, wire_header *h)
{
	Exact e(b);

	return wire_get_header(e.data(), e.size(), h);
}

std::string bytes_of(const void *p, size_t n)
{
	return n > 0 ? std::string(static_cast<const char *>(p), n) : std::string();
}

void expect_same(const wire_request &want, const wire_request &got)
{
	EXPECT_EQ(want.op, got.op);
	EXPECT_EQ(want.flags, got.flags);
	EXPECT_EQ(want.tag, got.tag);
	EXPECT_EQ(want.txnid, got.txnid);
	EXPECT_EQ(want.offset, got.offset);
	EXPECT_EQ(want.length, got.length);
	EXPECT_EQ(want.deadline_ns, got.deadline_ns);
	EXPECT_EQ(want.max_rate, got.max_rate);
	EXPECT_EQ(want.readahead, got.readahead);
	EXPECT_EQ(want.hdr_size_at, got.hdr_size_at);
	EXPECT_EQ(want.hdr_mtime_at, got.hdr_mtime_at);
	EXPECT_EQ(want.same_as.dev, got.same_as.dev);
	EXPECT_EQ(want.same_as.ino, got.same_as.ino);
	EXPECT_EQ(want.same_as.file_size, got.same_as.file_size);
	EXPECT_EQ(want.same_as.mtime, got.same_as.mtime);
	EXPECT_EQ(want.same_as.ctime, got.same_as.ctime);
	EXPECT_EQ(want.same_as.mtime_nsec, got.same_as.mtime_nsec);
	EXPECT_EQ(want.same_as.ctime_nsec, got.same_as.ctime_nsec);
	EXPECT_EQ(bytes_of(want.path, want.path_len), bytes_of(got.path, got.path_len));
	EXPECT_EQ(bytes_of(want.headers, want.headers_len), bytes_of(got.headers, got.headers_len));
	EXPECT_EQ(bytes_of(want.trailers, want.trailers_len), bytes_of(got.trailers, got.trailers_len));
	EXPECT_EQ(want.fds, got.fds);
}

// Decodes a datagram and compares it with what went in; `shift` puts it at an odd address.
void expect_decodes(const Bytes &b, unsigned version, wire_channel channel, const Requests &want, size_t shift = 0)
{
	Exact e(b, shift);
	wire_header h;
	wire_cursor c;
	wire_request r;
	unsigned fds = channel == WIRE_CHANNEL_FD ? 1 : 0;

	ASSERT_EQ(0, wire_get_header(e.data(), e.size(), &h));
	EXPECT_EQ(version, h.version);
	EXPECT_EQ(channel, h.channel);
	ASSERT_EQ(want.size(), h.count);
	wire_cursor_init(&c, e.data(), e.size(), &h);
	for (size_t i = 0; i < want.size(); i++) {
		SCOPED_TRACE("request " + std::to_string(i));
		ASSERT_EQ(0, wire_next(&c, &r));
		expect_same(want[i], r);
		EXPECT_GE(r.path, reinterpret_cast<const char *>(e.data()));
		EXPECT_LE(r.path + r.path_len, reinterpret_cast<const char *>(e.end()));
		fds += want[i].fds;
	}
	EXPECT_EQ(0u, c.count);
	EXPECT_EQ(0u, c.left);
	EXPECT_EQ(EPROTO, wire_next(&c, &r)) << "there is none after the last";
	EXPECT_EQ(0, wire_check(e.data(), e.size(), &h, fds));
}

// ---- Round trips

TEST(WireSizes, AreThoseOfTheProtocol)
{
	EXPECT_EQ(HEADER_END, static_cast<size_t>(WIRE_HEADER_SIZE));
	EXPECT_EQ(V1_END, static_cast<size_t>(WIRE_REQUEST_SIZE_V1));
	EXPECT_EQ(V2_END, static_cast<size_t>(WIRE_REQUEST_SIZE));
	EXPECT_EQ(48, static_cast<int>(WIRE_SAME_AS_SIZE));
	EXPECT_EQ(128, static_cast<int>(WIRE_FRAME_SIZE));
	EXPECT_EQ(0x46445331u, WIRE_MAGIC);
	EXPECT_EQ(2, static_cast<int>(WIRE_VERSION));
	EXPECT_EQ(1, static_cast<int>(WIRE_VERSION_MIN));
	EXPECT_EQ(1, WIRE_OP_SEND);
	EXPECT_EQ(2, WIRE_OP_READ);
	EXPECT_EQ(3, WIRE_OP_OPEN);
	EXPECT_EQ(4, WIRE_OP_SEND_OPEN);
	EXPECT_EQ(5, WIRE_OP_CANCEL);
	EXPECT_EQ(6, WIRE_OP_PING);
	EXPECT_EQ(7, WIRE_OP_REGISTER);
	EXPECT_EQ(0, WIRE_CHANNEL_NONE);
	EXPECT_EQ(1, WIRE_CHANNEL_FD);
	EXPECT_EQ(2, WIRE_CHANNEL_QUEUE);
}

TEST(WireRoundTrip, EveryField)
{
	const Requests rs = {with_all_fields()};

	for (size_t shift : {0, 1, 3})
		expect_decodes(encode(rs, WIRE_CHANNEL_FD), WIRE_VERSION, WIRE_CHANNEL_FD, rs, shift);
}

// One field at a time: were two of them mixed up both ways, the test above could not tell.
TEST(WireRoundTrip, EachFieldHasItsPlace)
{
	const wire_request full = with_all_fields();
	const Bytes b = encode({full}, WIRE_CHANNEL_FD);
	const size_t r = HEADER_END;
	size_t at = r + V2_END;

	EXPECT_EQ(b.size() - r, peek<uint32_t>(b, r + AT_SIZE));
	EXPECT_EQ(1, peek<uint16_t>(b, r + AT_OP));
	EXPECT_EQ(full.path_len, peek<uint16_t>(b, r + AT_PATH_LEN));
	EXPECT_EQ(full.tag, peek<uint64_t>(b, r + AT_TAG));
	EXPECT_EQ(full.txnid, peek<uint64_t>(b, r + AT_TXNID));
	EXPECT_EQ(full.offset, peek<int64_t>(b, r + AT_OFFSET));
	EXPECT_EQ(full.length, peek<uint64_t>(b, r + AT_RANGE));
	EXPECT_EQ(full.flags, peek<uint32_t>(b, r + AT_FLAGS));
	EXPECT_EQ(0u, peek<uint32_t>(b, r + AT_RESERVED0));
	EXPECT_EQ(0u, peek<uint64_t>(b, r + AT_RESERVED1));
	EXPECT_EQ(full.deadline_ns, peek<uint64_t>(b, r + AT_DEADLINE));
	EXPECT_EQ(full.max_rate, peek<uint64_t>(b, r + AT_MAX_RATE));
	EXPECT_EQ(full.headers_len, peek<uint32_t>(b, r + AT_HEADERS_LEN));
	EXPECT_EQ(full.trailers_len, peek<uint32_t>(b, r + AT_TRAILERS_LEN));
	EXPECT_EQ(full.hdr_size_at, peek<uint32_t>(b, r + AT_HDR_SIZE_AT));
	EXPECT_EQ(full.hdr_mtime_at, peek<uint32_t>(b, r + AT_HDR_MTIME_AT));
	EXPECT_EQ(full.readahead, peek<uint32_t>(b, r + AT_READAHEAD));
	EXPECT_EQ(0u, peek<uint32_t>(b, r + AT_RESERVED2));
	EXPECT_EQ(full.same_as.dev, peek<uint64_t>(b, at));
	EXPECT_EQ(full.same_as.ino, peek<uint64_t>(b, at + 8));
	EXPECT_EQ(full.same_as.file_size, peek<uint64_t>(b, at + 16));
	EXPECT_EQ(full.same_as.mtime, peek<int64_t>(b, at + 24));
	EXPECT_EQ(full.same_as.ctime, peek<int64_t>(b, at + 32));
	EXPECT_EQ(full.same_as.mtime_nsec, peek<uint32_t>(b, at + 40));
	EXPECT_EQ(full.same_as.ctime_nsec, peek<uint32_t>(b, at + 44));
	at += 48;
	EXPECT_EQ(0, memcmp(b.data() + at, full.path, full.path_len));
	at += full.path_len;
	EXPECT_EQ(0, memcmp(b.data() + at, full.headers, full.headers_len));
	at += full.headers_len;
	EXPECT_EQ(0, memcmp(b.data() + at, full.trailers, full.trailers_len));
}

TEST(WireRoundTrip, EveryOperation)
{
	for (int op = WIRE_OP_SEND; op < WIRE_OP_END; op++) {
		SCOPED_TRACE("operation " + std::to_string(op));
		const Requests bare = {request(static_cast<wire_op>(op))};
		const Requests named = {request(static_cast<wire_op>(op), "some/path", 7)};
		const wire_channel channel = op == WIRE_OP_REGISTER ? WIRE_CHANNEL_QUEUE : WIRE_CHANNEL_FD;

		expect_decodes(encode(bare, channel), WIRE_VERSION, channel, bare);
		expect_decodes(encode(named, channel), WIRE_VERSION, channel, named);
		expect_decodes(encode_v1(named, channel), 1, channel, named);
	}
}

TEST(WireRoundTrip, TheLimitsOfEveryNumber)
{
	wire_request r = request(WIRE_OP_SEND, "p");

	r.tag = r.txnid = r.length = r.deadline_ns = r.max_rate = UINT64_MAX;
	r.readahead = r.hdr_size_at = r.hdr_mtime_at = UINT32_MAX;
	for (int64_t offset : {INT64_MIN, int64_t{-1}, INT64_MAX}) {
		r.offset = offset;
		expect_decodes(encode({r}, WIRE_CHANNEL_FD), WIRE_VERSION, WIRE_CHANNEL_FD, {r});
	}
}

TEST(WireRoundTrip, SameAsOnlyWithItsFlag)
{
	wire_request r = with_all_fields();
	wire_request want;

	r.flags = WIRE_FLAGS_ALL & ~WIRE_FLAG_SAME_AS;
	want = r;
	want.same_as = {};
	EXPECT_EQ(wire_request_bytes(&r) + WIRE_SAME_AS_SIZE, [&] {
		wire_request s = r;
		s.flags |= WIRE_FLAG_SAME_AS;
		return wire_request_bytes(&s);
	}());
	expect_decodes(encode({r}, WIRE_CHANNEL_FD), WIRE_VERSION, WIRE_CHANNEL_FD, {want});
}

TEST(WireRoundTrip, PathsOfEveryLengthModuloEight)
{
	const std::string longest(WIRE_PATH_MAX, 'x');

	for (size_t n : {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 4094, 4095}) {
		SCOPED_TRACE(n);
		const std::string path = longest.substr(0, n);
		wire_request r = request(WIRE_OP_OPEN, path.c_str(), 1);
		const Requests rs = {r, request(WIRE_OP_PING, nullptr, 2)};
		const Bytes b = encode(rs, WIRE_CHANNEL_FD);

		EXPECT_EQ(0u, wire_request_bytes(&r) % 8);
		EXPECT_EQ((V2_END + n + 7) / 8 * 8, wire_request_bytes(&r));
		expect_decodes(b, WIRE_VERSION, WIRE_CHANNEL_FD, rs);
		for (size_t i = HEADER_END + V2_END + n; i < HEADER_END + wire_request_bytes(&r); i++)
			EXPECT_EQ(0, b[i]) << "padding at " << i;
		expect_decodes(encode_v1(rs, WIRE_CHANNEL_FD), 1, WIRE_CHANNEL_FD, rs);
	}
}

TEST(WireRoundTrip, AsManyAsADatagramHolds)
{
	Requests rs;

	for (unsigned i = 0; i < WIRE_COUNT_MAX; i++)
		rs.push_back(request(i % 2 ? WIRE_OP_SEND : WIRE_OP_OPEN, "f", i + 1));
	expect_decodes(encode(rs, WIRE_CHANNEL_FD), WIRE_VERSION, WIRE_CHANNEL_FD, rs);
	expect_decodes(encode_v1(rs, WIRE_CHANNEL_FD), 1, WIRE_CHANNEL_FD, rs);
	EXPECT_EQ(64, static_cast<int>(WIRE_COUNT_MAX));
}

TEST(WireRoundTrip, EveryChannel)
{
	wire_header h;

	ASSERT_EQ(0, get_header(encode({second(WIRE_OP_CANCEL, 1)}, WIRE_CHANNEL_NONE), &h));
	EXPECT_EQ(WIRE_CHANNEL_NONE, h.channel);
	EXPECT_EQ(0u, h.queue_id);
	ASSERT_EQ(0, get_header(encode({request(WIRE_OP_PING)}, WIRE_CHANNEL_FD), &h));
	EXPECT_EQ(WIRE_CHANNEL_FD, h.channel);
	EXPECT_EQ(0u, h.queue_id);
	ASSERT_EQ(0, get_header(encode({request(WIRE_OP_PING)}, WIRE_CHANNEL_QUEUE, 0x0102030405060708), &h));
	EXPECT_EQ(WIRE_CHANNEL_QUEUE, h.channel);
	EXPECT_EQ(0x0102030405060708u, h.queue_id);
	EXPECT_EQ(1u, h.count);
	EXPECT_EQ(2u, h.version);
}

// ---- Headers that lie

Bytes two_requests()
{
	return encode({request(WIRE_OP_SEND, "first", 1), request(WIRE_OP_OPEN, "second", 2)}, WIRE_CHANNEL_FD);
}

TEST(WireHeader, TooShortToBeOne)
{
	const Bytes b = two_requests();
	wire_header h;

	for (size_t n = 0; n < WIRE_HEADER_SIZE; n++) {
		memset(&h, 0xff, sizeof h);
		EXPECT_EQ(EPROTO, get_header(Bytes(b.begin(), b.begin() + static_cast<ptrdiff_t>(n)), &h)) << n;
		EXPECT_EQ(0u, h.count) << n;
		EXPECT_EQ(0u, h.version) << n;
	}
}

TEST(WireHeader, OfAnotherProtocol)
{
	for (size_t i = 0; i < 4; i++) {
		Bytes b = two_requests();
		wire_header h;

		b[i] ^= 0x01;
		EXPECT_EQ(EPROTO, get_header(b, &h)) << i;
		EXPECT_EQ(0u, h.version);
	}
}

TEST(WireHeader, VersionsThatAreNotSpoken)
{
	for (uint16_t version : {0, 3, 4, 255, 256, 257, 512, 0xffff}) {
		Bytes b = two_requests();
		wire_header h;

		poke(b, AT_VERSION, version);
		EXPECT_EQ(EPROTONOSUPPORT, get_header(b, &h)) << version;
		EXPECT_EQ(version, h.version);
		EXPECT_EQ(0u, h.count) << "nothing else of it can be known";
		/* The rest may mean anything in that version. */
		std::fill(b.begin() + AT_COUNT, b.end(), uint8_t{0xff});
		EXPECT_EQ(EPROTONOSUPPORT, get_header(b, &h)) << version;
		b.resize(WIRE_HEADER_SIZE);
		EXPECT_EQ(EPROTONOSUPPORT, get_header(b, &h)) << version;
	}
}

TEST(WireHeader, ContradictsItself)
{
	const struct {
		const char *what;
		size_t at;
		unsigned bytes;
		uint64_t value;
	} lies[] = {
		{"no requests", AT_COUNT, 2, 0},
		{"one request too many for a datagram", AT_COUNT, 2, WIRE_COUNT_MAX + 1},
		{"the most that a count can say", AT_COUNT, 2, 0xffff},
		{"length 0", AT_LENGTH, 4, 0},
		{"length of the header alone", AT_LENGTH, 4, WIRE_HEADER_SIZE},
		{"one byte less", AT_LENGTH, 4, two_requests().size() - 1},
		{"one byte more", AT_LENGTH, 4, two_requests().size() + 1},
		{"the greatest length", AT_LENGTH, 4, UINT32_MAX},
		{"an unknown channel", AT_CHANNEL, 4, 3},
		{"a channel whose low bits are known", AT_CHANNEL, 4, 0x10001},
		{"the greatest channel", AT_CHANNEL, 4, UINT32_MAX},
		{"a queue, though the channel is a descriptor", AT_QUEUE_ID, 8, 1},
		{"a queue's high bit", AT_QUEUE_ID, 8, uint64_t{1} << 63},
		{"reserved", AT_HEADER_RESERVED, 8, 1},
		{"reserved, high bit", AT_HEADER_RESERVED, 8, uint64_t{1} << 63},
	};

	EXPECT_EQ(0, judge(two_requests(), 2));
	for (const auto &lie : lies) {
		Bytes b = two_requests();

		memcpy(b.data() + lie.at, &lie.value, lie.bytes);
		EXPECT_EQ(EPROTO, judge(b, 2)) << lie.what;
	}
}

// ---- Requests that lie

TEST(WireCheck, EveryTruncation)
{
	const Requests rs = {
		request(WIRE_OP_SEND, "a", 1),
		with_all_fields(),
		second(WIRE_OP_SEND_OPEN, 5, 3),
		request(WIRE_OP_OPEN, "the/fourth", 4),
	};

	for (const Bytes &b : {encode(rs, WIRE_CHANNEL_FD),
		     encode_v1({rs[0], rs[2], rs[3], request(WIRE_OP_SEND, "x")}, WIRE_CHANNEL_FD)}) {
		ASSERT_EQ(0, judge(b, 4));
		for (size_t n = 0; n < b.size(); n++) {
			Bytes cut(b.begin(), b.begin() + static_cast<ptrdiff_t>(n));

			ASSERT_EQ(EPROTO, judge(cut, 4)) << n << " bytes of " << b.size();
			/* Also when the header does not give the truncation away. */
			if (n >= WIRE_HEADER_SIZE) {
				poke(cut, AT_LENGTH, static_cast<uint32_t>(n));
				for (unsigned fds = 0; fds < 6; fds++)
					ASSERT_EQ(EPROTO, judge(cut, fds)) << n << " bytes of " << b.size();
			}
		}
	}
}

TEST(WireCheck, BytesAfterTheLastRequest)
{
	for (size_t extra : {1, 7, 8, 56, 96, 4096}) {
		Bytes b = two_requests();

		b.resize(b.size() + extra);
		EXPECT_EQ(EPROTO, judge(b, 2)) << extra;
		poke(b, AT_LENGTH, static_cast<uint32_t>(b.size()));
		EXPECT_EQ(EPROTO, judge(b, 2)) << extra;
	}
}

TEST(WireCheck, CountsThatLie)
{
	for (unsigned count = 1; count <= WIRE_COUNT_MAX; count++) {
		Bytes b = two_requests();

		poke(b, AT_COUNT, static_cast<uint16_t>(count));
		for (unsigned fds = 0; fds <= 3; fds++)
			EXPECT_EQ(count == 2 && fds == 2 ? 0 : EPROTO, judge(b, fds)) << count << " requests, " << fds;
	}
}

TEST(WireCheck, LengthsThatLie)
{
	const wire_request full = with_all_fields();
	const Bytes good = encode({full, request(WIRE_OP_PING)}, WIRE_CHANNEL_FD);
	const size_t r = HEADER_END;
	const auto size = static_cast<uint32_t>(wire_request_bytes(&full));

	ASSERT_EQ(0, judge(good, 2));
	for (uint32_t lie : {uint32_t{0}, uint32_t{8}, uint32_t{V1_END}, uint32_t{V2_END}, size - 8, size - 1, size + 1,
		     size + 8, size + 96, size + 104, UINT32_MAX, UINT32_MAX - 7, uint32_t{1} << 31}) {
		Bytes b = good;

		poke(b, r + AT_SIZE, lie);
		EXPECT_EQ(EPROTO, judge(b, 2)) << "size " << lie;
	}
	for (uint16_t lie :
		{uint16_t{0}, static_cast<uint16_t>(full.path_len + 8), uint16_t{0x7fff}, uint16_t{0xffff}}) {
		Bytes b = good;

		poke(b, r + AT_PATH_LEN, lie);
		EXPECT_EQ(EPROTO, judge(b, 2)) << "path_len " << lie;
	}
	for (size_t at : {AT_HEADERS_LEN, AT_TRAILERS_LEN}) {
		for (uint32_t lie : {uint32_t{1000}, uint32_t{1} << 16, uint32_t{1} << 31, UINT32_MAX, UINT32_MAX - 7,
			     UINT32_MAX - size, UINT32_MAX - size + 1}) {
			Bytes b = good;

			poke(b, r + at, lie);
			EXPECT_EQ(EPROTO, judge(b, 2)) << "length at " << at << ": " << lie;
		}
	}
	{
		/* In 32 bits these sum up to what they should be. */
		Bytes b = good;

		poke(b, r + AT_HEADERS_LEN, uint32_t{1} << 31);
		poke(b, r + AT_TRAILERS_LEN, (uint32_t{1} << 31) + full.headers_len + full.trailers_len);
		EXPECT_EQ(EPROTO, judge(b, 2));
	}
	{
		/* The block that the flag promises is not there. */
		Bytes b = encode({request(WIRE_OP_SEND, "path")}, WIRE_CHANNEL_FD);

		poke<uint32_t>(b, r + AT_FLAGS, WIRE_FLAG_SAME_AS);
		EXPECT_EQ(EPROTO, judge(b, 2));
	}
}

TEST(WireCheck, UnknownOperationsFlagsAndReservedBits)
{
	const Bytes good = encode({request(WIRE_OP_OPEN, "x", 1)}, WIRE_CHANNEL_FD);
	const size_t r = HEADER_END;

	ASSERT_EQ(0, judge(good, 1));
	for (unsigned op = 0; op <= 0xffff; op++) {
		Bytes b = good;
		bool takes_fd = op == WIRE_OP_SEND || op == WIRE_OP_SEND_OPEN;

		poke(b, r + AT_OP, static_cast<uint16_t>(op));
		ASSERT_EQ(op >= 1 && op <= 6 ? 0 : EPROTO, judge(b, takes_fd ? 2 : 1)) << "operation " << op;
	}
	for (unsigned bit = 0; bit < 32; bit++) {
		Bytes b = good;
		bool known = bit >= 1 && bit <= 6; /* bit 0 asks for another layout */

		poke(b, r + AT_FLAGS, uint32_t{1} << bit);
		EXPECT_EQ(known ? 0 : EPROTO, judge(b, 1)) << "flag bit " << bit;
		b = good;
		poke(b, r + AT_RESERVED0, uint32_t{1} << bit);
		EXPECT_EQ(EPROTO, judge(b, 1)) << "reserved0 bit " << bit;
		b = good;
		poke(b, r + AT_RESERVED2, uint32_t{1} << bit);
		EXPECT_EQ(EPROTO, judge(b, 1)) << "reserved2 bit " << bit;
	}
	for (unsigned bit = 0; bit < 64; bit++) {
		Bytes b = good;

		poke(b, r + AT_RESERVED1, uint64_t{1} << bit);
		EXPECT_EQ(EPROTO, judge(b, 1)) << "reserved1 bit " << bit;
	}
}

TEST(WireCheck, ExactlyTheDescriptorsThatTheRequestsNeed)
{
	const struct {
		const char *what;
		Requests rs;
		wire_channel channel;
		uint64_t queue;
		unsigned fds;
	} cases[] = {
		{"send", {request(WIRE_OP_SEND, "f")}, WIRE_CHANNEL_FD, 0, 2},
		{"read", {request(WIRE_OP_READ, "f")}, WIRE_CHANNEL_FD, 0, 1},
		{"open", {request(WIRE_OP_OPEN, "f")}, WIRE_CHANNEL_FD, 0, 1},
		{"ping", {request(WIRE_OP_PING)}, WIRE_CHANNEL_FD, 0, 1},
		{"send-open", {second(WIRE_OP_SEND_OPEN, 1)}, WIRE_CHANNEL_NONE, 0, 1},
		{"send-open, with a channel", {second(WIRE_OP_SEND_OPEN, 1)}, WIRE_CHANNEL_FD, 0, 2},
		{"cancel", {second(WIRE_OP_CANCEL, 1)}, WIRE_CHANNEL_NONE, 0, 0},
		{"cancel, with a channel", {second(WIRE_OP_CANCEL, 1)}, WIRE_CHANNEL_FD, 0, 1},
		{"send, to a queue", {request(WIRE_OP_SEND, "f")}, WIRE_CHANNEL_QUEUE, 9, 1},
		{"a queue's registration", {request(WIRE_OP_REGISTER)}, WIRE_CHANNEL_QUEUE, 9, 1},
		{"send-open and cancel, of a queue", {second(WIRE_OP_SEND_OPEN, 1), second(WIRE_OP_CANCEL, 0)},
			WIRE_CHANNEL_QUEUE, 9, 1},
		{"three of each",
			{request(WIRE_OP_SEND, "f"), request(WIRE_OP_SEND, "f"), request(WIRE_OP_SEND, "f"),
				request(WIRE_OP_OPEN, "f"), request(WIRE_OP_OPEN, "f"), request(WIRE_OP_OPEN, "f"),
				second(WIRE_OP_SEND_OPEN, 1), second(WIRE_OP_SEND_OPEN, 1),
				second(WIRE_OP_SEND_OPEN, 1)},
			WIRE_CHANNEL_FD, 0, 7},
	};

	for (const auto &c : cases) {
		const Bytes b = encode(c.rs, c.channel, c.queue);

		for (unsigned fds = 0; fds <= 254; fds++)
			EXPECT_EQ(fds == c.fds ? 0 : EPROTO, judge(b, fds)) << c.what << ": " << fds;
	}
}

// What may report where, in so many words.
bool suits(wire_channel channel, wire_op op)
{
	const bool second = op == WIRE_OP_SEND_OPEN || op == WIRE_OP_CANCEL;

	if (channel == WIRE_CHANNEL_NONE)
		return second;
	if (channel == WIRE_CHANNEL_FD)
		return op != WIRE_OP_REGISTER;
	return op != WIRE_OP_READ && op != WIRE_OP_PING;
}

TEST(WireCheck, OnAQueueOnlyWhatCanReportThere)
{
	for (int op = WIRE_OP_SEND; op < WIRE_OP_END; op++) {
		const auto o = static_cast<wire_op>(op);

		EXPECT_EQ(suits(WIRE_CHANNEL_QUEUE, o) ? 0 : EPROTO,
			judge(encode({request(o)}, WIRE_CHANNEL_QUEUE, 9), wire_op_fds(o)))
			<< op;
		EXPECT_EQ(suits(WIRE_CHANNEL_FD, o) ? 0 : EPROTO,
			judge(encode({request(o)}, WIRE_CHANNEL_FD), 1 + wire_op_fds(o)))
			<< op;
	}
}

TEST(WireCheck, WithoutAChannelOnlyWhatAnswersElsewhere)
{
	for (int op = WIRE_OP_SEND; op < WIRE_OP_END; op++) {
		const auto o = static_cast<wire_op>(op);
		bool may = o == WIRE_OP_SEND_OPEN || o == WIRE_OP_CANCEL;

		EXPECT_EQ(may ? 0 : EPROTO, judge(encode({request(o, "f")}, WIRE_CHANNEL_NONE), wire_op_fds(o))) << op;
		/* One that may not spoils the datagram for the others. */
		EXPECT_EQ(may ? 0 : EPROTO,
			judge(encode({second(WIRE_OP_CANCEL, 1), request(o, "f")}, WIRE_CHANNEL_NONE), wire_op_fds(o)))
			<< op;
	}
}

TEST(WireNext, ATagIsKnownAsSoonAsTheFixedPartIs)
{
	Bytes b = encode({request(WIRE_OP_OPEN, "x", 0x1234567890abcdef)}, WIRE_CHANNEL_FD);
	wire_header h;
	wire_cursor c;
	wire_request r;

	poke<uint16_t>(b, HEADER_END + AT_OP, 99);
	{
		Exact e(b);

		ASSERT_EQ(0, wire_get_header(e.data(), e.size(), &h));
		wire_cursor_init(&c, e.data(), e.size(), &h);
		EXPECT_EQ(EPROTO, wire_next(&c, &r));
		EXPECT_EQ(0x1234567890abcdefu, r.tag);
	}
	b.resize(HEADER_END + V2_END - 8);
	poke(b, AT_LENGTH, static_cast<uint32_t>(b.size()));
	{
		Exact e(b);

		ASSERT_EQ(0, wire_get_header(e.data(), e.size(), &h));
		wire_cursor_init(&c, e.data(), e.size(), &h);
		EXPECT_EQ(EPROTO, wire_next(&c, &r));
		EXPECT_EQ(0u, r.tag);
	}
}

// ---- Version 1

TEST(WireVersion1, HasNoOptions)
{
	const Requests rs = {request(WIRE_OP_SEND, "a", 1), request(WIRE_OP_OPEN, "bb", 2)};
	const Bytes good = encode_v1(rs, WIRE_CHANNEL_FD);

	ASSERT_EQ(0, judge(good, 2));
	for (unsigned bit = 0; bit < 32; bit++) {
		Bytes b = good;

		poke(b, HEADER_END + AT_FLAGS, uint32_t{1} << bit);
		EXPECT_EQ(EPROTO, judge(b, 2)) << "flag bit " << bit;
		b = good;
		poke(b, HEADER_END + AT_RESERVED0, uint32_t{1} << bit);
		EXPECT_EQ(EPROTO, judge(b, 2)) << "reserved0 bit " << bit;
		b = good;
		poke(b, HEADER_END + AT_RESERVED1, uint64_t{1} << (bit * 2));
		EXPECT_EQ(EPROTO, judge(b, 2)) << "reserved1 bit " << bit * 2;
	}
}

TEST(WireVersion1, WhatFollowsItsFixedPartIsThePath)
{
	/* Where version 2 has a deadline and lengths: had they been read as such, the request would
	 * be refused. */
	const std::string path(64, '\xff');
	const Requests rs = {request(WIRE_OP_SEND, path.c_str(), 1)};

	expect_decodes(encode_v1(rs, WIRE_CHANNEL_FD), 1, WIRE_CHANNEL_FD, rs);
}

TEST(WireVersion1, IsNotMistakenForVersion2)
{
	Bytes b = encode_v1({request(WIRE_OP_SEND, "a", 1)}, WIRE_CHANNEL_FD);

	poke<uint16_t>(b, AT_VERSION, 2);
	EXPECT_EQ(EPROTO, judge(b, 2));
	b = encode({request(WIRE_OP_SEND, "a", 1)}, WIRE_CHANNEL_FD);
	poke<uint16_t>(b, AT_VERSION, 1);
	EXPECT_EQ(EPROTO, judge(b, 2));
}

// ---- Anything at all

unsigned touch(const void *p, size_t n)
{
	const auto *bytes = static_cast<const uint8_t *>(p);
	unsigned sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += bytes[i];
	return sum;
}

// Walks a datagram as the daemon would. True if every request could be read and nothing is left
// over; `fds` is what they need.
bool walk(const Exact &e, const wire_header &h, unsigned *fds)
{
	const char *begin = reinterpret_cast<const char *>(e.data());
	const char *end = reinterpret_cast<const char *>(e.end());
	static volatile unsigned sink;
	wire_cursor c;
	wire_request r;

	*fds = h.channel == WIRE_CHANNEL_FD ? 1 : 0;
	bool suited = true;

	wire_cursor_init(&c, e.data(), e.size(), &h);
	for (unsigned i = 0; i < h.count; i++) {
		if (wire_next(&c, &r) != 0)
			return false;
		const char *headers = static_cast<const char *>(r.headers);
		const char *trailers = static_cast<const char *>(r.trailers);

		EXPECT_GE(r.path, begin + HEADER_END);
		EXPECT_LE(r.path + r.path_len, end);
		EXPECT_EQ(r.path + r.path_len, headers);
		EXPECT_EQ(headers + r.headers_len, trailers);
		EXPECT_LE(trailers + r.trailers_len, end);
		sink = touch(r.path, r.path_len) + touch(headers, r.headers_len) + touch(trailers, r.trailers_len);
		(void)sink;
		*fds += r.fds;
		suited = suited && suits(h.channel, r.op);
	}
	return c.left == 0 && suited;
}

TEST(WireMutation, NothingIsReadThatIsNotThere)
{
	const std::vector<Bytes> bases = {
		encode({request(WIRE_OP_SEND, "a/path", 1)}, WIRE_CHANNEL_FD),
		encode({with_all_fields()}, WIRE_CHANNEL_FD),
		encode({request(WIRE_OP_SEND, "a", 1), with_all_fields(), second(WIRE_OP_CANCEL, 5)}, WIRE_CHANNEL_FD),
		encode({second(WIRE_OP_SEND_OPEN, 5), second(WIRE_OP_CANCEL, 5)}, WIRE_CHANNEL_NONE),
		encode_v1({request(WIRE_OP_SEND, "a/path", 1)}, WIRE_CHANNEL_FD),
		encode_v1({request(WIRE_OP_OPEN, "a", 1), request(WIRE_OP_SEND, "bb", 2),
				  request(WIRE_OP_SEND, "ccc", 3)},
			WIRE_CHANNEL_FD),
	};
	std::mt19937 random(20160717); /* the same sequence on every system */
	unsigned accepted = 0, refused = 0;

	for (int round = 0; round < 200000 && !HasFailure(); round++) {
		Bytes b = bases[random() % bases.size()];
		unsigned flips = 1 + random() % 4;
		wire_header h;

		for (unsigned i = 0; i < flips; i++) {
			/* Half of them where the lengths and kinds are: elsewhere a flip is just
			 * another value. */
			size_t at = random() % (random() % 2 ? b.size() : std::min(b.size(), size_t{HEADER_END + 8}));

			b[at] ^= static_cast<uint8_t>(1 + random() % 255);
		}
		/* Now and then cut or extended too, with a header that knows of it. */
		if (random() % 8 == 0) {
			b.resize(random() % (b.size() + 64));
			if (b.size() >= WIRE_HEADER_SIZE)
				poke(b, AT_LENGTH, static_cast<uint32_t>(b.size()));
		}

		Exact e(b);
		if (wire_get_header(e.data(), e.size(), &h) != 0) {
			refused++;
			continue;
		}
		unsigned fds;
		const bool good = walk(e, h, &fds);

		for (unsigned n = 0; n < 6; n++)
			ASSERT_EQ(good && n == fds ? 0 : EPROTO, wire_check(e.data(), e.size(), &h, n))
				<< "round " << round;
		++(good ? accepted : refused);
	}
	/* Both ways were taken often, or this test says little. */
	EXPECT_GT(accepted, 10000u);
	EXPECT_GT(refused, 10000u);
}

TEST(WireMutation, BytesOfNoKind)
{
	std::mt19937 random(1);

	for (int round = 0; round < 20000; round++) {
		Bytes b(random() % 512);
		wire_header h;

		std::generate(b.begin(), b.end(), [&] { return static_cast<uint8_t>(random()); });
		if (b.size() >= WIRE_HEADER_SIZE) {
			poke<uint32_t>(b, AT_MAGIC, WIRE_MAGIC);
			poke(b, AT_VERSION, static_cast<uint16_t>(1 + random() % 2));
			poke(b, AT_COUNT, static_cast<uint16_t>(1 + random() % 4));
			poke(b, AT_LENGTH, static_cast<uint32_t>(b.size()));
			poke(b, AT_CHANNEL, uint32_t{WIRE_CHANNEL_FD});
			poke(b, AT_QUEUE_ID, uint64_t{0});
			poke(b, AT_HEADER_RESERVED, uint64_t{0});
		}
		Exact e(b);
		if (wire_get_header(e.data(), e.size(), &h) == 0)
			ASSERT_EQ(EPROTO, wire_check(e.data(), e.size(), &h, 1)) << "round " << round;
		else
			ASSERT_LT(b.size(), size_t{WIRE_HEADER_SIZE});
	}
}

// ---- Datagrams that were kept (test/data)

struct Kept {
	const char *file;
	unsigned version;
	wire_channel channel;
	Requests requests;
};

wire_request ranged(wire_op op, const char *path, int64_t offset, uint64_t length, uint64_t tag)
{
	wire_request r = request(op, path, tag);

	r.offset = offset;
	r.length = length;
	return r;
}

Requests batch_of_16()
{
	static const char *const paths[] = {"a", "bb", "ccc", "dddd", "eeeee", "ffffff", "ggggggg", "hhhhhhhh"};
	Requests rs;

	for (unsigned i = 0; i < 16; i++) {
		if (i % 4 == 3)
			rs.push_back(
				second(i % 8 == 3 ? WIRE_OP_SEND_OPEN : WIRE_OP_CANCEL, 0xabcdef0000000000 + i, i + 1));
		else
			rs.push_back(ranged(
				i % 4 == 1 ? WIRE_OP_OPEN : WIRE_OP_SEND, paths[i / 2], i * 4096, i * 1000, i + 1));
	}
	return rs;
}

std::vector<Kept> kept()
{
	std::vector<Kept> all;

	for (unsigned v = 1; v <= 2; v++) {
		static const char *const names[2][7] = {
			{"request-v1-send.bin", "request-v1-read.bin", "request-v1-open.bin",
				"request-v1-send-open.bin", "request-v1-cancel.bin", "request-v1-ping.bin",
				"request-v1-batch16.bin"},
			{"request-v2-send.bin", "request-v2-read.bin", "request-v2-open.bin",
				"request-v2-send-open.bin", "request-v2-cancel.bin", "request-v2-ping.bin",
				"request-v2-batch16.bin"},
		};
		const char *const *name = names[v - 1];

		all.push_back({name[0], v, WIRE_CHANNEL_FD,
			{ranged(WIRE_OP_SEND, "dir/file.txt", 0x0102030405, 0x060708090a, 0x0b0c0d0e0f101112)}});
		all.push_back({name[1], v, WIRE_CHANNEL_FD, {ranged(WIRE_OP_READ, "/from/the/root", 1, 0, 0)}});
		all.push_back({name[2], v, WIRE_CHANNEL_FD, {ranged(WIRE_OP_OPEN, "x", 0, 0x7fffffffffffffff, 3)}});
		all.push_back({name[3], v, WIRE_CHANNEL_NONE, {second(WIRE_OP_SEND_OPEN, 0x1122334455667788)}});
		all.push_back({name[4], v, WIRE_CHANNEL_NONE, {second(WIRE_OP_CANCEL, 0x8877665544332211)}});
		all.push_back({name[5], v, WIRE_CHANNEL_FD, {request(WIRE_OP_PING, nullptr, 42)}});
		all.push_back({name[6], v, WIRE_CHANNEL_FD, batch_of_16()});
	}
	all.push_back({"request-v2-sendfd.bin", 2, WIRE_CHANNEL_FD, {ranged(WIRE_OP_SENDFD, nullptr, 4096, 10000, 5)}});
	all.push_back({"request-v2-options.bin", 2, WIRE_CHANNEL_FD, {with_all_fields()}});
	return all;
}

const char data_dir[] = SOURCE_DIR "/test/data/";

bool is_little_endian()
{
	const uint16_t one = 1;

	return *reinterpret_cast<const uint8_t *>(&one) == 1;
}

TEST(WireKept, EveryDatagramIsUnderstoodFieldByField)
{
	if (!is_little_endian())
		GTEST_SKIP() << "the datagrams were kept on a little-endian machine";
	for (const Kept &k : kept()) {
		SCOPED_TRACE(k.file);
		std::ifstream in(std::string(data_dir) + k.file, std::ios::binary);
		const Bytes b{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};

		ASSERT_TRUE(in.is_open());
		ASSERT_GE(b.size(), size_t{WIRE_HEADER_SIZE});
		expect_decodes(b, k.version, k.channel, k.requests);
		if (k.version != WIRE_VERSION)
			continue;
		EXPECT_EQ(b, encode(k.requests, k.channel)) << "what is sent now differs from what was sent then";
	}
}

TEST(WireKept, NoFileIsLeftOut)
{
	std::set<std::string> files, known;
	DIR *dir = opendir(data_dir);

	ASSERT_NE(nullptr, dir);
	while (const dirent *e = readdir(dir)) {
		if (strncmp(e->d_name, "request-", 8) == 0)
			files.insert(e->d_name);
	}
	closedir(dir);
	for (const Kept &k : kept())
		known.insert(k.file);
	EXPECT_EQ(known, files);
}

// Not a test: how the files were made. See test/data/README.md.
TEST(WireKept, DISABLED_Write)
{
	for (const Kept &k : kept()) {
		const Bytes b = k.version == 1 ? encode_v1(k.requests, k.channel) : encode(k.requests, k.channel);
		std::ofstream out(std::string(data_dir) + k.file, std::ios::binary);

		out.write(reinterpret_cast<const char *>(b.data()), static_cast<std::streamsize>(b.size()));
		ASSERT_TRUE(out.good());
	}
}

// ---- Response frames: the structs are the layout, and it is frozen

#define AT(type, field, where) static_assert(offsetof(struct type, field) == (where), #type "." #field)

static_assert(sizeof(struct sfd_file_info) == 128, "frame size");
AT(sfd_file_info, cmd, 0);
AT(sfd_file_info, stat, 4);
AT(sfd_file_info, size, 8);
AT(sfd_file_info, atime, 16);
AT(sfd_file_info, mtime, 24);
AT(sfd_file_info, ctime, 32);
AT(sfd_file_info, txnid, 40);
AT(sfd_file_info, file_size, 48);
AT(sfd_file_info, offset, 56);
AT(sfd_file_info, atime_nsec, 64);
AT(sfd_file_info, mtime_nsec, 68);
AT(sfd_file_info, ctime_nsec, 72);
AT(sfd_file_info, reserved0, 76);
AT(sfd_file_info, dev, 80);
AT(sfd_file_info, ino, 88);
AT(sfd_file_info, reserved, 96);
AT(sfd_file_info, tag, 120);

static_assert(sizeof(struct sfd_xfer_stat) == 128, "frame size");
AT(sfd_xfer_stat, cmd, 0);
AT(sfd_xfer_stat, stat, 4);
AT(sfd_xfer_stat, size, 8);
AT(sfd_xfer_stat, total, 16);
AT(sfd_xfer_stat, written, 24);
AT(sfd_xfer_stat, complete, 32);
AT(sfd_xfer_stat, reserved0, 36);
AT(sfd_xfer_stat, reserved, 40);
AT(sfd_xfer_stat, tag, 120);

TEST(WireFrames, AreTheStructsAtAnyAddress)
{
	Bytes buf(1 + SFD_MAX_RESP_SIZE + 1, 0x5a);
	sfd_file_info info{}, info_back{};
	sfd_xfer_stat stat{}, stat_back{};

	info.cmd = SFD_FILE_INFO;
	info.size = 0x0102030405060708;
	info.tag = 0x1112131415161718;
	wire_put_info(buf.data() + 1, &info);
	EXPECT_EQ(0, memcmp(buf.data() + 1, &info, sizeof info));
	EXPECT_TRUE(sfd_unmarshal_file_info(&info_back, buf.data() + 1));
	EXPECT_EQ(info.size, info_back.size);
	EXPECT_EQ(info.tag, info_back.tag);

	stat.cmd = SFD_XFER_STAT;
	stat.total = 0x2122232425262728;
	stat.tag = 0x3132333435363738;
	wire_put_stat(buf.data() + 1, &stat);
	EXPECT_EQ(0, memcmp(buf.data() + 1, &stat, sizeof stat));
	EXPECT_TRUE(sfd_unmarshal_xfer_stat(&stat_back, buf.data() + 1));
	EXPECT_EQ(stat.total, stat_back.total);
	EXPECT_EQ(stat.tag, stat_back.tag);
	EXPECT_EQ(0x5a, buf.front());
	EXPECT_EQ(0x5a, buf.back());
}

// ---- The socket

TEST(WireSocketPath, IsDirAndName)
{
	char buf[108];

	EXPECT_EQ(0, wire_socket_path(buf, sizeof buf, "/run/sendfiled", "web"));
	EXPECT_STREQ("/run/sendfiled/sendfiled.web.socket", buf);
	EXPECT_EQ(0, wire_socket_path(buf, sizeof buf, "relative", "a.b"));
	EXPECT_STREQ("relative/sendfiled.a.b.socket", buf);
}

TEST(WireSocketPath, RefusesWhatIsNoName)
{
	char buf[108];

	EXPECT_EQ(EINVAL, wire_socket_path(buf, sizeof buf, "/d", nullptr));
	EXPECT_EQ(EINVAL, wire_socket_path(buf, sizeof buf, "/d", ""));
	EXPECT_EQ(EINVAL, wire_socket_path(buf, sizeof buf, "/d", "a/b"));
	EXPECT_EQ(EINVAL, wire_socket_path(buf, sizeof buf, "/d", "/"));
	EXPECT_EQ(EINVAL, wire_socket_path(buf, sizeof buf, "/d", "../x"));
}

TEST(WireSocketPath, EndsWhereTheBufferDoes)
{
	/* "/d/sendfiled." + name + ".socket" and its NUL */
	const size_t around = 13 + 7 + 1;

	for (size_t n : {1, 2, 50, 87}) {
		const std::string name(n, 'n');
		std::vector<char> fits(n + around), short_by_one(n + around - 1);

		EXPECT_EQ(0, wire_socket_path(fits.data(), fits.size(), "/d", name.c_str())) << n;
		EXPECT_EQ("/d/sendfiled." + name + ".socket", fits.data());
		EXPECT_EQ(ENAMETOOLONG, wire_socket_path(short_by_one.data(), short_by_one.size(), "/d", name.c_str()))
			<< n;
	}
}

TEST(WireDefaultDir, RootsAndEverybodyElses)
{
	char buf[108];

	EXPECT_EQ(0, wire_default_dir(buf, sizeof buf, 0, nullptr));
	EXPECT_STREQ("/run/sendfiled", buf);
	EXPECT_EQ(0, wire_default_dir(buf, sizeof buf, 0, "/run/user/0"));
	EXPECT_STREQ("/run/sendfiled", buf) << "root's does not depend on the environment";
	EXPECT_EQ(0, wire_default_dir(buf, sizeof buf, 1000, "/run/user/1000"));
	EXPECT_STREQ("/run/user/1000/sendfiled", buf);
	EXPECT_EQ(ENOENT, wire_default_dir(buf, sizeof buf, 1000, nullptr));
	EXPECT_EQ(ENOENT, wire_default_dir(buf, sizeof buf, 1000, ""));
}

TEST(WireDefaultDir, EndsWhereTheBufferDoes)
{
	const std::string xdg(97, 'x'); /* and "/sendfiled" and a NUL: 108 */
	std::vector<char> fits(108), short_by_one(107), tiny(14), enough(15);

	EXPECT_EQ(0, wire_default_dir(fits.data(), fits.size(), 1, xdg.c_str()));
	EXPECT_EQ(xdg + "/sendfiled", fits.data());
	EXPECT_EQ(ENAMETOOLONG, wire_default_dir(short_by_one.data(), short_by_one.size(), 1, xdg.c_str()));
	EXPECT_EQ(ENAMETOOLONG, wire_default_dir(tiny.data(), tiny.size(), 0, nullptr));
	EXPECT_EQ(0, wire_default_dir(enough.data(), enough.size(), 0, nullptr));
}

// ---- Notes

TEST(WireNotes, ComeBackAsTheyWere)
{
	const wire_note sent = {WIRE_NOTE_DONE, ENOENT, 0x0102030405060708, 1, 2};
	unsigned char buf[WIRE_NOTE_SIZE + WIRE_FRAME_SIZE] = {};
	sfd_file_info info{}, got_info{};
	wire_note got{};

	info.cmd = SFD_FILE_INFO;
	info.size = 77;
	info.tag = 5;
	wire_put_note(buf, &sent);
	EXPECT_EQ(size_t{WIRE_NOTE_SIZE}, wire_get_note(buf, sizeof buf, &got, &got_info));
	EXPECT_EQ(0, memcmp(&sent, &got, sizeof got));
	EXPECT_EQ(0u, got_info.size) << "no information came";

	const wire_note with_info = {WIRE_NOTE_INFO, 0, 5, 0, 0};
	wire_put_note(buf, &with_info);
	wire_put_info(buf + WIRE_NOTE_SIZE, &info);
	EXPECT_EQ(sizeof buf, wire_get_note(buf, sizeof buf, &got, &got_info));
	EXPECT_EQ(0, memcmp(&info, &got_info, sizeof info));
}

TEST(WireNotes, OnlyWholeOnesOfKnownKinds)
{
	unsigned char buf[WIRE_NOTE_SIZE + WIRE_FRAME_SIZE] = {};
	sfd_file_info info{};
	wire_note got{};

	for (uint32_t kind : {0u, unsigned{WIRE_NOTE_END}, UINT32_MAX}) {
		const wire_note note = {kind, 0, 1, 2, 3};

		wire_put_note(buf, &note);
		EXPECT_EQ(0u, wire_get_note(buf, sizeof buf, &got, &info)) << kind;
	}
	for (uint32_t kind = WIRE_NOTE_CHANNEL; kind < WIRE_NOTE_END; kind++) {
		const wire_note note = {kind, 0, 1, 2, 3};
		const size_t size = kind == WIRE_NOTE_INFO ? sizeof buf : size_t{WIRE_NOTE_SIZE};

		wire_put_note(buf, &note);
		for (size_t len = 0; len <= sizeof buf; len++)
			EXPECT_EQ(len < size ? 0 : size, wire_get_note(buf, len, &got, &info)) << kind << " in " << len;
	}
}

} // namespace
