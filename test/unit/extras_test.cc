// SPDX-License-Identifier: BSD-2-Clause
// What requests ask for beyond a range of a file.
extern "C" {
#include "server/extras.h"
}

#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <memory>
#include <string>

namespace
{

using Extras = std::unique_ptr<extras, decltype(&free)>;

Extras make(const wire_request &r, const extras *before = nullptr)
{
	return {extras_new(&r, before), free};
}

std::string head_of(const Extras &x)
{
	return {reinterpret_cast<const char *>(x->text), x->head_len};
}

std::string tail_of(const Extras &x)
{
	return {reinterpret_cast<const char *>(x->text) + x->head_len, x->tail_len};
}

void set_texts(wire_request &r, const std::string &head, const std::string &tail)
{
	r.headers = head.data();
	r.headers_len = static_cast<uint32_t>(head.size());
	r.trailers = tail.data();
	r.trailers_len = static_cast<uint32_t>(tail.size());
}

TEST(Extras, WantedByWhoeverAsksForAny)
{
	const std::function<void(wire_request &)> some[] = {
		[](wire_request &r) { r.flags = WIRE_FLAG_SAME_AS; },
		[](wire_request &r) { r.flags = WIRE_FLAG_NODISKIO; },
		[](wire_request &r) { r.flags = WIRE_FLAG_NOCACHE; },
		[](wire_request &r) { r.flags = WIRE_FLAG_SYNC; },
		[](wire_request &r) { r.flags = WIRE_FLAG_USER_READAHEAD; },
		[](wire_request &r) { r.headers_len = 1; },
		[](wire_request &r) { r.trailers_len = 1; },
		[](wire_request &r) { r.deadline_ns = 1; },
		[](wire_request &r) { r.max_rate = 1; },
		[](wire_request &r) { r.readahead = 1; },
	};
	wire_request r = {};

	EXPECT_FALSE(extras_wanted(&r));
	r.flags = WIRE_FLAG_WANT_INFO | WIRE_FLAG_WANT_PROGRESS; /* what is told is not the transfer's */
	EXPECT_FALSE(extras_wanted(&r));
	for (const auto &set : some) {
		r = {};
		set(r);
		EXPECT_TRUE(extras_wanted(&r));
	}
}

TEST(Extras, AreCopied)
{
	std::string head = "head", tail = "the tail";
	wire_request r = {};

	r.flags = WIRE_FLAG_SYNC | WIRE_FLAG_SAME_AS;
	r.readahead = 3;
	r.deadline_ns = 4;
	r.max_rate = 5;
	r.same_as.ino = 6;
	set_texts(r, head, tail);
	const Extras x = make(r);
	head[0] = tail[0] = 'x';
	EXPECT_EQ(r.flags, x->flags);
	EXPECT_EQ(3U, x->readahead);
	EXPECT_EQ(4U, x->deadline_ns);
	EXPECT_EQ(5U, x->max_rate);
	EXPECT_EQ(6U, x->same_as.ino);
	EXPECT_EQ("head", head_of(x));
	EXPECT_EQ("the tail", tail_of(x));
}

// A second message may add to what the first asked for, and takes nothing back.
TEST(Extras, OfASecondMessageAreAdded)
{
	wire_request first = {}, second = {};
	const std::string head = "head";

	first.flags = WIRE_FLAG_SYNC;
	first.readahead = 7;
	first.deadline_ns = 100;
	first.max_rate = 1000;
	const Extras before = make(first);
	second.flags = WIRE_FLAG_NOCACHE;
	set_texts(second, head, "");
	const Extras both = make(second, before.get());
	EXPECT_EQ(unsigned{WIRE_FLAG_SYNC | WIRE_FLAG_NOCACHE}, both->flags);
	EXPECT_EQ(7U, both->readahead);
	EXPECT_EQ(100U, both->deadline_ns);
	EXPECT_EQ(1000U, both->max_rate);
	EXPECT_EQ("head", head_of(both));
	second.deadline_ns = 90;
	second.max_rate = 2000;
	second.readahead = 8;
	const Extras stricter = make(second, before.get());
	EXPECT_EQ(90U, stricter->deadline_ns);
	EXPECT_EQ(1000U, stricter->max_rate);
	EXPECT_EQ(8U, stricter->readahead);
}

TEST(Extras, SameMeansEveryField)
{
	struct stat st = {};
	wire_same_as same = {};

	st.st_dev = same.dev = 1;
	st.st_ino = same.ino = 2;
	st.st_size = 3;
	same.file_size = 3;
	st.st_mtim = {4, 5};
	same.mtime = 4;
	same.mtime_nsec = 5;
	st.st_ctim = {6, 7};
	same.ctime = 6;
	same.ctime_nsec = 7;
	EXPECT_TRUE(extras_same(&same, &st));
	const std::function<void(wire_same_as &)> others[] = {
		[](wire_same_as &s) { s.dev++; },
		[](wire_same_as &s) { s.ino++; },
		[](wire_same_as &s) { s.file_size++; },
		[](wire_same_as &s) { s.mtime++; },
		[](wire_same_as &s) { s.mtime_nsec++; },
		[](wire_same_as &s) { s.ctime++; },
		[](wire_same_as &s) { s.ctime_nsec++; },
	};
	for (const auto &change : others) {
		wire_same_as other = same;

		change(other);
		EXPECT_FALSE(extras_same(&other, &st));
	}
}

std::string filled(const std::string &head, uint32_t size_at, uint32_t mtime_at, uint64_t size, int64_t mtime)
{
	const std::string tail = "tail";
	wire_request r = {};

	set_texts(r, head, tail);
	r.hdr_size_at = size_at;
	r.hdr_mtime_at = mtime_at;
	const Extras x = make(r);
	extras_fill(x.get(), size, mtime);
	EXPECT_EQ("tail", tail_of(x));
	return head_of(x);
}

TEST(Extras, Sizes)
{
	const std::string at = "L:", room(20, 'x'), end = "\r\n";
	const struct {
		uint64_t size;
		const char *text;
	} cases[] = {
		{0, "                   0"},
		{12345, "               12345"},
		{UINT64_MAX, "18446744073709551615"},
	};

	for (const auto &c : cases)
		EXPECT_EQ(at + c.text + end, filled(at + room + end, 2, 0, c.size, 0));
	EXPECT_EQ(at + room + end, filled(at + room + end, 0, 0, 1, 1)) << "no place";
}

TEST(Extras, Dates)
{
	const std::string at = "Last-Modified: ", room(29, 'x'), end = "\r\n";
	const struct {
		int64_t mtime;
		const char *text;
	} cases[] = {
		{784111777, "Sun, 06 Nov 1994 08:49:37 GMT"}, /* RFC 9110's own */
		{0, "Thu, 01 Jan 1970 00:00:00 GMT"},
		{-1, "Wed, 31 Dec 1969 23:59:59 GMT"},
		{951782400, "Tue, 29 Feb 2000 00:00:00 GMT"},
		{253402300799, "Fri, 31 Dec 9999 23:59:59 GMT"},
		{253402300800, "Fri, 31 Dec 9999 23:59:59 GMT"},
		{INT64_MAX, "Fri, 31 Dec 9999 23:59:59 GMT"},
		{INT64_MIN, "Sat, 01 Jan 0000 00:00:00 GMT"},
	};

	for (const auto &c : cases)
		EXPECT_EQ(at + c.text + end, filled(at + room + end, 0, 15, 0, c.mtime)) << c.mtime;
}

} // namespace
