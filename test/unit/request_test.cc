// SPDX-License-Identifier: BSD-2-Clause
// What each operation must and must not say.
extern "C" {
#include "server/request.h"
}

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <functional>
#include <string>

namespace
{

const wire_op all_ops[] = {
	WIRE_OP_SEND, WIRE_OP_SENDFD, WIRE_OP_READ, WIRE_OP_OPEN, WIRE_OP_SEND_OPEN, WIRE_OP_CANCEL, WIRE_OP_PING};

bool has_path(wire_op op)
{
	return op == WIRE_OP_SEND || op == WIRE_OP_READ || op == WIRE_OP_OPEN;
}

bool has_range(wire_op op)
{
	return has_path(op) || op == WIRE_OP_SENDFD;
}

bool has_id(wire_op op)
{
	return op == WIRE_OP_SEND_OPEN || op == WIRE_OP_CANCEL;
}

void set_path(wire_request &r, const std::string &path)
{
	r.path = path.data();
	r.path_len = static_cast<uint32_t>(path.size());
}

// A request of that operation which says all that it must.
wire_request good(wire_op op)
{
	static const std::string path = "a/file";
	wire_request r{};

	r.op = op;
	if (has_path(op))
		set_path(r, path);
	if (has_id(op))
		r.txnid = 1;
	return r;
}

int check(const wire_request &r, unsigned count, wire_channel channel = WIRE_CHANNEL_FD)
{
	const wire_header h = {WIRE_VERSION, count, channel, 1};

	return request_check(&r, &h);
}

TEST(RequestCheck, EveryOperationAsItShouldBe)
{
	for (wire_op op : all_ops) {
		wire_request r = good(op);

		EXPECT_EQ(0, check(r, 1)) << op;
		r.tag = UINT64_MAX;
		EXPECT_EQ(0, check(r, 1)) << op;
	}
}

TEST(RequestCheck, OnlyAReadMustBeAlone)
{
	for (wire_op op : all_ops) {
		const wire_request r = good(op);

		for (unsigned count : {2, 16, 64})
			EXPECT_EQ(op == WIRE_OP_READ ? EINVAL : 0, check(r, count)) << op << " of " << count;
	}
}

TEST(RequestCheck, AnIdWhereItBelongs)
{
	for (wire_op op : all_ops) {
		wire_request r = good(op);

		r.txnid = has_id(op) ? 0 : 1;
		EXPECT_EQ(EINVAL, check(r, 1)) << op;
		r.txnid = UINT64_MAX;
		EXPECT_EQ(has_id(op) ? 0 : EINVAL, check(r, 1)) << op;
	}
}

TEST(RequestCheck, APathAndARangeWhereTheyBelong)
{
	const std::string path = "x";

	for (wire_op op : all_ops) {
		wire_request r = good(op);
		const int misplaced = has_path(op) ? 0 : EINVAL;

		set_path(r, path);
		EXPECT_EQ(misplaced, check(r, 1)) << op;
		r = good(op);
		r.offset = 1;
		EXPECT_EQ(has_range(op) ? 0 : EINVAL, check(r, 1)) << op;
		r = good(op);
		r.length = 1;
		EXPECT_EQ(has_range(op) ? 0 : EINVAL, check(r, 1)) << op;
	}
}

TEST(RequestCheck, Paths)
{
	using namespace std::string_literals;
	const struct {
		const char *what;
		std::string path;
		int err;
	} cases[] = {
		{"empty", "", ENOENT},
		{"one byte", "x", 0},
		{"absolute", "/x", 0},
		{"the root", "/", 0},
		{"upward: the kernel confines it", "../../x", 0},
		{"bytes that are no text", "\xff\xfe\n\t", 0},
		{"the longest", std::string(4095, 'x'), 0},
		{"one byte more", std::string(4096, 'x'), ENAMETOOLONG},
		{"the longest on the wire", std::string(65535, 'x'), ENAMETOOLONG},
		{"a NUL within", "a\0b"s, EINVAL},
		{"a NUL first", "\0a"s, EINVAL},
		{"a NUL last", "a\0"s, EINVAL},
		{"nothing but a NUL", "\0"s, EINVAL},
		{"a NUL at the end of the longest", std::string(4094, 'x') + "\0"s, EINVAL},
	};

	for (wire_op op : {WIRE_OP_SEND, WIRE_OP_READ, WIRE_OP_OPEN}) {
		for (const auto &c : cases) {
			wire_request r = good(op);

			set_path(r, c.path);
			EXPECT_EQ(c.err, check(r, 1)) << op << ": " << c.what;
		}
	}
}

// The path is not NUL-terminated: what follows it in the datagram must not count.
TEST(RequestCheck, PathsEndWhereTheirLengthSays)
{
	static const char text[] = "abc\0def";
	wire_request r = good(WIRE_OP_SEND);

	r.path = text;
	r.path_len = 3;
	EXPECT_EQ(0, check(r, 1));
	r.path_len = 4;
	EXPECT_EQ(EINVAL, check(r, 1));
	r.path_len = 0;
	EXPECT_EQ(ENOENT, check(r, 1));
}

TEST(RequestCheck, Ranges)
{
	const struct {
		int64_t offset;
		uint64_t length;
		int err;
	} cases[] = {
		{0, 0, 0},
		{0, 1, 0},
		{0, INT64_MAX, 0},
		{0, uint64_t{INT64_MAX} + 1, EINVAL},
		{0, UINT64_MAX, EINVAL},
		{1, INT64_MAX - 1, 0},
		{1, INT64_MAX, EINVAL},
		{1, UINT64_MAX, EINVAL},
		{int64_t{5} << 32, int64_t{5} << 32, 0},
		{INT64_MAX, 0, 0},
		{INT64_MAX, 1, EINVAL},
		{INT64_MAX, UINT64_MAX, EINVAL},
		{INT64_MAX - 1, 1, 0},
		{INT64_MAX - 1, 2, EINVAL},
		{-1, 0, EINVAL},
		{-1, 1, EINVAL},
		{-1, UINT64_MAX, EINVAL},
		{INT64_MIN, 0, EINVAL},
		{INT64_MIN, uint64_t{1} << 63, EINVAL},
	};

	for (wire_op op : {WIRE_OP_SEND, WIRE_OP_SENDFD, WIRE_OP_READ, WIRE_OP_OPEN}) {
		for (const auto &c : cases) {
			wire_request r = good(op);

			r.offset = c.offset;
			r.length = c.length;
			EXPECT_EQ(c.err, check(r, 1)) << op << ": " << c.offset << " + " << c.length;
		}
	}
}

// ---- What is different for a queue

TEST(RequestCheck, AQueuesCancelNamesATag)
{
	wire_request r = good(WIRE_OP_CANCEL);

	EXPECT_EQ(EINVAL, check(r, 1, WIRE_CHANNEL_QUEUE)) << "it has an id";
	r.txnid = 0;
	EXPECT_EQ(0, check(r, 1, WIRE_CHANNEL_QUEUE));
	EXPECT_EQ(0, check(r, 64, WIRE_CHANNEL_QUEUE));
	EXPECT_EQ(EINVAL, check(r, 1, WIRE_CHANNEL_NONE));
	r = good(WIRE_OP_SEND_OPEN);
	EXPECT_EQ(0, check(r, 1, WIRE_CHANNEL_QUEUE));
	r.txnid = 0;
	EXPECT_EQ(EINVAL, check(r, 1, WIRE_CHANNEL_QUEUE));
}

TEST(RequestCheck, ARegistrationHasADepthAndIsAlone)
{
	wire_request r = good(WIRE_OP_REGISTER);

	EXPECT_EQ(0, check(r, 1, WIRE_CHANNEL_QUEUE));
	r.length = 8192;
	EXPECT_EQ(0, check(r, 1, WIRE_CHANNEL_QUEUE));
	EXPECT_EQ(EINVAL, check(r, 2, WIRE_CHANNEL_QUEUE));
	r.offset = 1;
	EXPECT_EQ(EINVAL, check(r, 1, WIRE_CHANNEL_QUEUE));
	r = good(WIRE_OP_REGISTER);
	r.txnid = 1;
	EXPECT_EQ(EINVAL, check(r, 1, WIRE_CHANNEL_QUEUE));
	r = good(WIRE_OP_REGISTER);
	set_path(r, "x");
	EXPECT_EQ(EINVAL, check(r, 1, WIRE_CHANNEL_QUEUE));
}

// ---- Options

struct Option {
	const char *what;
	std::function<void(wire_request &)> set;
};

void set_texts(wire_request &r, uint32_t headers, uint32_t trailers)
{
	r.headers_len = headers;
	r.trailers_len = trailers;
}

// Each operation has those that mean something to it; none is passed over in silence.
TEST(RequestCheck, OptionsWhereTheyBelong)
{
	const Option of_all_that_move[] = {
		{"NODISKIO", [](wire_request &r) { r.flags = WIRE_FLAG_NODISKIO; }},
		{"NOCACHE", [](wire_request &r) { r.flags = WIRE_FLAG_NOCACHE; }},
		{"SYNC", [](wire_request &r) { r.flags = WIRE_FLAG_SYNC; }},
		{"USER_READAHEAD", [](wire_request &r) { r.flags = WIRE_FLAG_USER_READAHEAD; }},
		{"WANT_INFO", [](wire_request &r) { r.flags = WIRE_FLAG_WANT_INFO; }},
		{"WANT_PROGRESS", [](wire_request &r) { r.flags = WIRE_FLAG_WANT_PROGRESS; }},
		{"a deadline", [](wire_request &r) { r.deadline_ns = 1; }},
		{"a rate", [](wire_request &r) { r.max_rate = 1; }},
		{"read-ahead", [](wire_request &r) { r.readahead = 1; }},
	};
	const Option of_sends[] = {
		{"headers", [](wire_request &r) { set_texts(r, 1, 0); }},
		{"trailers", [](wire_request &r) { set_texts(r, 0, 1); }},
		{"places",
			[](wire_request &r) {
				set_texts(r, 100, 0);
				r.hdr_size_at = 1;
				r.hdr_mtime_at = 50;
			}},
	};
	const auto sets = [](wire_op op, const Option &o) {
		wire_request r = good(op);

		o.set(r);
		EXPECT_EQ(check(r, 1), check(r, 1, op == WIRE_OP_CANCEL ? WIRE_CHANNEL_NONE : WIRE_CHANNEL_QUEUE));
		return check(r, 1);
	};

	for (wire_op op : all_ops) {
		const bool second = op == WIRE_OP_SEND_OPEN,
			   sends = op == WIRE_OP_SEND || op == WIRE_OP_SENDFD || second;
		const bool moves = sends || op == WIRE_OP_OPEN;

		for (const Option &o : of_all_that_move)
			EXPECT_EQ(moves ? 0 : EINVAL, sets(op, o)) << op << " with " << o.what;
		for (const Option &o : of_sends)
			EXPECT_EQ(sends ? 0 : EINVAL, sets(op, o)) << op << " with " << o.what;
		EXPECT_EQ(moves && !second ? 0 : EINVAL,
			sets(op, {"SAME_AS", [](wire_request &r) { r.flags = WIRE_FLAG_SAME_AS; }}))
			<< op;
	}
}

TEST(RequestCheck, TextsHaveSoMuchRoom)
{
	for (wire_op op : {WIRE_OP_SEND, WIRE_OP_SENDFD, WIRE_OP_SEND_OPEN}) {
		wire_request r = good(op);
		const uint32_t room = WIRE_TEXT_MAX - r.path_len;

		set_texts(r, room, 0);
		EXPECT_EQ(0, check(r, 1)) << op;
		set_texts(r, 0, room);
		EXPECT_EQ(0, check(r, 1)) << op;
		set_texts(r, room - 5, 5);
		EXPECT_EQ(0, check(r, 1)) << op;
		set_texts(r, room - 5, 6);
		EXPECT_EQ(EMSGSIZE, check(r, 1)) << op;
		set_texts(r, UINT32_MAX, UINT32_MAX);
		EXPECT_EQ(EMSGSIZE, check(r, 1)) << op;
	}
}

TEST(RequestCheck, PlacesLieInTheHeaders)
{
	const struct {
		uint32_t headers, size_at, mtime_at;
		int err;
	} cases[] = {
		{0, 1, 0, EINVAL},
		{0, 0, 1, EINVAL},
		{21, 1, 0, 0},
		{21, 2, 0, EINVAL},
		{30, 0, 1, 0},
		{30, 0, 2, EINVAL},
		{30, 0, UINT32_MAX, EINVAL},
		{30, UINT32_MAX, 0, EINVAL},
		{50, 1, 21, 0},
		{50, 1, 20, EINVAL},
		{50, 30, 1, 0},
		{50, 29, 1, EINVAL},
		{50, 1, 1, EINVAL},
	};

	for (const auto &c : cases) {
		wire_request r = good(WIRE_OP_SEND);

		set_texts(r, c.headers, 100);
		r.hdr_size_at = c.size_at;
		r.hdr_mtime_at = c.mtime_at;
		EXPECT_EQ(c.err, check(r, 1)) << c.headers << ", " << c.size_at << ", " << c.mtime_at;
	}
}

} // namespace
