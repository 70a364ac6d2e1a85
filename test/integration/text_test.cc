// SPDX-License-Identifier: BSD-2-Clause
// Headers and trailers: before and after the file's bytes and never between them, wherever they go and however slowly.
#include "test/support/asking.h"
#include "test/support/cold_fixture.h"

#include <cerrno>
#include <climits>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <tuple>

namespace
{

// Options with texts, in one piece each or in many.
struct Texts {
	sfd_opts opts = {};

	Texts(std::string head, std::string tail, size_t pieces = 1) : head_(std::move(head)), tail_(std::move(tail))
	{
		cut(head_, pieces, &heads_);
		cut(tail_, pieces, &tails_);
		opts.headers = heads_.data();
		opts.hdr_cnt = static_cast<int>(heads_.size());
		opts.trailers = tails_.data();
		opts.trl_cnt = static_cast<int>(tails_.size());
	}
	std::string around(const std::string &content) const
	{
		return head_ + content + tail_;
	}

      private:
	static void cut(std::string &text, size_t pieces, std::vector<iovec> *out)
	{
		const size_t each = (text.size() + pieces - 1) / pieces;

		for (size_t at = 0; at < text.size(); at += each)
			out->push_back({&text[at], std::min(each, text.size() - at)});
	}

	std::string head_, tail_;
	std::vector<iovec> heads_, tails_;
};

class Text : public AskingTest
{
      protected:
	void SetUp() override
	{
		SfdTest::SetUp();
		start();
	}
};

using Case = std::tuple<Form, DestType, size_t>;

class TextEach : public Text, public ::testing::WithParamInterface<Case>
{
};

// Each operation that sends, each way to give the pieces, and each length of either text.
TEST_P(TextEach, StandAroundTheFile)
{
	const auto [form, to, size] = GetParam();
	const std::string content = add_file("file", size, size + 1);
	const size_t lengths[] = {0, 1, 200, 15000};

	for (const size_t head : lengths) {
		for (const size_t tail : lengths) {
			SCOPED_TRACE(std::to_string(head) + " and " + std::to_string(tail));
			const Texts texts(make_content(head, 2), make_content(tail, 3), head == 200 ? 64 : 1);
			const std::string expected = to.kind == Kind::Null ? "" : texts.around(content);

			expect_went(send(form, {"file"}, to, &texts.opts), size, head + size + tail);
			EXPECT_TRUE(same_content(expected, arrived));
			if (head != tail)
				continue;
			expect_went(open_and_send(form, {"file"}, to, nullptr, &texts.opts), size, head + size + tail);
			EXPECT_TRUE(same_content(expected, arrived));
			const Fd file(open(in_root("file").c_str(), O_RDONLY | O_CLOEXEC));
			expect_went(send(form, {"", file}, to, &texts.opts), size, head + size + tail);
			EXPECT_TRUE(same_content(expected, arrived));
		}
	}
	expect_same_workers();
	expect_idle();
}

INSTANTIATE_TEST_SUITE_P(All, TextEach,
	::testing::Combine(::testing::Values(Form::One, Form::Queue), ::testing::ValuesIn(all_dest_types()),
		::testing::Values(0, 1000, 100000)),
	[](const auto &i) {
		return name_of(std::get<0>(i.param)) + name_of(std::get<1>(i.param)) +
		       std::to_string(std::get<2>(i.param));
	});

// The same for files that are not in memory, or on another file system.
class ColdText : public ColdTest
{
};

class ColdTextEach : public ColdText, public ::testing::WithParamInterface<DestType>
{
};

TEST_P(ColdTextEach, StandAroundTheFile)
{
	for (const size_t size : {0UL, 3000UL, 600000UL}) {
		const std::string name = "file" + std::to_string(size);
		const std::string cold = add_cold(name, size), slow = add_slow(name, size, 2);
		const Texts texts(make_content(5000, 3), make_content(7000, 4), 10);

		if (daemon().pid() < 0) {
			ASSERT_NO_FATAL_FAILURE(serve());
		}
		for (const bool is_slow : {false, true}) {
			Dest dest(GetParam(), dir());
			Asked asked(Form::Queue, srv());

			dest.start_reading();
			asked.send({is_slow ? "slow/" + name : name}, dest.fd(), &texts.opts);
			expect_went(asked.end(), size, size + 12000);
			const std::string expected = texts.around(is_slow ? slow : cold);
			EXPECT_TRUE(same_content((dest.is_file() ? Dest::before : "") + expected, dest.finish()));
		}
	}
	expect_nothing_left();
}

INSTANTIATE_TEST_SUITE_P(All, ColdTextEach,
	::testing::Values(DestType{Kind::Pipe, false}, DestType{Kind::Tcp, false}, DestType{Kind::Tcp, true},
		DestType{Kind::Unix, true}, DestType{Kind::File, false}, DestType{Kind::Append, false},
		DestType{Kind::Terminal, false}),
	[](const auto &i) { return name_of(i.param); });

// If the first bytes cannot be had, the head does not leave; and while they are being read, nothing does.
TEST_F(ColdText, NoHeadBeforeTheFirstBytes)
{
	const Texts texts("the head", "the tail");
	const std::string content = add_slow("file", 3000);

	ASSERT_NO_FATAL_FAILURE(serve());
	for (const DestType &to : stallable_dest_types()) {
		Dest dest(to, dir());
		Asked asked(Form::One, srv());

		fs().hold("read", "file");
		asked.send({"slow/file"}, dest.fd(), &texts.opts);
		fs().await("read", 1, "file");
		run_hot(10);
		EXPECT_EQ(0, await(dest.peer(), POLLIN, 0ms)) << "before a body that is not there yet";
		fs().fail("read", EIO, "file");
		fs().release();
		expect_untouched(asked.end(), EIO);
		EXPECT_EQ("", dest.finish());
		fs().fail("read", 0, "file");
	}
	expect_nothing_left();
}

// A destination that takes a few bytes at a time.
class TextStall : public Text, public ::testing::WithParamInterface<DestType>
{
};

TEST_P(TextStall, OrderIsKeptWhateverIsTakenAtATime)
{
	constexpr size_t SIZE = 300000;
	const std::string content = add_file("file", SIZE);
	const Texts texts(make_content(15000, 2), make_content(15000, 3), 30);
	Dest dest(GetParam(), dir());
	Asked asked(Form::One, srv());
	std::string got, buf(999, '\0');

	/* As little room as there can be. */
	fcntl(dest.fd(), F_SETPIPE_SZ, 4096);
	setsockopt(dest.fd(), SOL_SOCKET, SO_SNDBUF, &(const int &)1, sizeof(int));
	asked.send({"file"}, dest.fd(), &texts.opts);
	while (got.size() < SIZE + 30000) {
		ASSERT_NE(0, await(dest.peer(), POLLIN)) << "after " << got.size();
		const ssize_t n = read(dest.peer(), buf.data(), buf.size());
		ASSERT_GT(n, 0);
		got.append(buf, 0, static_cast<size_t>(n));
	}
	expect_went(asked.end(), SIZE, SIZE + 30000);
	EXPECT_TRUE(same_content(texts.around(content), got));
	EXPECT_EQ("", dest.finish());
}

INSTANTIATE_TEST_SUITE_P(
	All, TextStall, ::testing::ValuesIn(stallable_dest_types()), [](const auto &i) { return name_of(i.param); });

// Cancelled while the head is under way: not a byte of the file came, and what came is counted. (The buffers of a TCP
// connection would take all of it.)
class TextHead : public Text, public ::testing::WithParamInterface<DestType>
{
};

TEST_P(TextHead, CancelledInTheHead)
{
	add_file("file", 100000);
	const std::string head = make_content(30000, 2);
	const Texts texts(head, "");
	Dest dest(GetParam(), dir());
	Asked asked(Form::One, srv());

	fcntl(dest.fd(), F_SETPIPE_SZ, 4096);
	setsockopt(dest.fd(), SOL_SOCKET, SO_SNDBUF, &(const int &)1, sizeof(int));
	asked.send({"file"}, dest.fd(), &texts.opts);
	ASSERT_TRUE(asked.await_info());
	ASSERT_NE(0, await(dest.peer(), POLLIN));
	asked.cancel();
	const Went &w = asked.end();
	EXPECT_EQ(ECANCELED, w.stat);
	EXPECT_EQ(0U, w.bytes);
	EXPECT_LT(0U, w.written);
	const std::string got = dest.finish();
	EXPECT_EQ(w.written, got.size());
	EXPECT_TRUE(same_content(head.substr(0, got.size()), got));
}

INSTANTIATE_TEST_SUITE_P(All, TextHead,
	::testing::Values(DestType{Kind::Pipe, false}, DestType{Kind::Pipe, true}, DestType{Kind::Unix, false},
		DestType{Kind::Unix, true}, DestType{Kind::Terminal, false}, DestType{Kind::Terminal, true}),
	[](const auto &i) { return name_of(i.param); });

// All of a small answer in one segment, and no segment that waits for a timer: what is last goes at once.
TEST_F(Text, OneSegmentForASmallAnswer)
{
	const std::string content = add_file("file", 600), larger = add_file("larger", 30000, 2);
	const Texts texts("head", "tail");

	for (const bool large : {false, true}) {
		Ends tcp = make_tcp_pair();
		tcp_info info = {};
		socklen_t len = sizeof info;
		std::string buf(40000, '\0');

		ASSERT_EQ(0, fcntl(tcp.in, F_SETFL, O_NONBLOCK));
		Asked asked(Form::One, srv());
		asked.send({large ? "larger" : "file"}, tcp.in, &texts.opts);
		EXPECT_EQ(SFD_STAT_OK, asked.end().stat);
		/* On the loopback it is there as soon as it is sent; a segment that was held back would not be. */
		const ssize_t n = recv(tcp.out, buf.data(), buf.size(), MSG_DONTWAIT);
		EXPECT_TRUE(
			same_content(texts.around(large ? larger : content), buf.substr(0, static_cast<size_t>(n))));
		ASSERT_EQ(0, getsockopt(tcp.in, IPPROTO_TCP, TCP_INFO, &info, &len));
		if (!large) {
			EXPECT_EQ(1U, info.tcpi_data_segs_out);
		}
	}
}

// Each of 64 in a datagram may move 64 KiB at once. Its head takes none of that: the end of the file would be a turn of its own.
TEST_F(Text, HeadsMakeNoMoreTurns)
{
	constexpr size_t COUNT = 64, SIZE = 64 * 1024;
	const std::string content = add_file("file", SIZE);
	const Texts texts(make_content(300, 2), "tail");
	std::vector<Ends> sockets;
	Queue q(srv(), COUNT);
	const auto hot_turns = [&] { return counters()["hot_turns"]; };

	const uint64_t before = hot_turns();
	for (size_t i = 0; i < COUNT; i++) {
		const int room = 4 * SIZE;

		sockets.push_back(make_socketpair(SOCK_STREAM));
		ASSERT_EQ(0, setsockopt(sockets[i].in, SOL_SOCKET, SO_SNDBUF, &room, sizeof room));
		ASSERT_EQ(0, fcntl(sockets[i].in, F_SETFL, O_NONBLOCK));
		q.send("file", sockets[i].in, i, &texts.opts);
	}
	ASSERT_EQ(0, q.submit());
	for (size_t i = 0; i < COUNT; i++) {
		std::string buf(2 * SIZE, '\0');

		q.expect_end(i, SFD_STAT_OK);
		sockets[i].in.reset();
		const ssize_t n = recv(sockets[i].out, buf.data(), buf.size(), MSG_WAITALL);
		ASSERT_LE(0, n);
		EXPECT_TRUE(same_content(texts.around(content), buf.substr(0, static_cast<size_t>(n))));
	}
	EXPECT_EQ(COUNT, hot_turns() - before);
}

// A worker of several receives the second message, and the one that has the file gets what it asks for.
TEST_F(Text, SecondMessagesBetweenWorkers)
{
	const std::string content = add_file("file", 5000);
	const std::string longest = make_content(SFD_STAT_OK + 32 * 1024 - 10, 2);
	const Texts texts(longest, "tail");

	for (int i = 0; i < 200; i++) {
		expect_went(open_and_send(i % 2 ? Form::One : Form::Queue, {"file"}, {Kind::Unix, true}, nullptr,
				    &texts.opts),
			5000, longest.size() + 5004);
		ASSERT_TRUE(same_content(texts.around(content), arrived));
	}
	EXPECT_LT(0U, counters()["forwarded"]) << "it was always the same worker";
}

// ---- What cannot be, at the call

TEST_F(Text, BadOnesAreRefusedAtTheCall)
{
	std::string text(40000, 'x');
	std::vector<iovec> many(65, iovec{text.data(), 1});
	iovec nothing = {nullptr, 1}, all = {text.data(), 32 * 1024}, empty = {nullptr, 0};
	const struct {
		const char *what;
		const iovec *iov;
		int count, err;
	} cases[] = {
		{"a negative count", many.data(), -1, EINVAL},
		{"the least count", many.data(), INT_MIN, EINVAL},
		{"65 pieces", many.data(), 65, EINVAL},
		{"no pieces, but a count", nullptr, 1, EINVAL},
		{"a piece of nothing with a length", &nothing, 1, EINVAL},
		{"too much, with the path", &all, 1, EMSGSIZE},
		{"64 pieces", many.data(), 64, 0},
		{"a piece of nothing", &empty, 1, 0},
		{"a count of 0", nullptr, 0, 0},
	};

	add_file("file", 10);
	const Fd file(open(in_root("file").c_str(), O_RDONLY | O_CLOEXEC));
	for (const auto &c : cases) {
		for (const bool is_head : {true, false}) {
			SCOPED_TRACE(c.what);
			sfd_opts opts = {};

			(is_head ? opts.headers : opts.trailers) = c.iov;
			(is_head ? opts.hdr_cnt : opts.trl_cnt) = c.count;
			for (const Form form : {Form::One, Form::Queue}) {
				EXPECT_EQ(c.err, send(form, {"file"}, {Kind::Pipe, false}, &opts).err);
				/* A file that is open has no path, which would need room. */
				if (c.err != EMSGSIZE) {
					EXPECT_EQ(c.err, send(form, {"", file}, {Kind::Pipe, false}, &opts).err);
				}
				if (c.err != 0) {
					EXPECT_EQ("", arrived);
				}
			}
		}
	}
}

TEST_F(Text, AllTheRoomThereIs)
{
	const std::string content = add_file("file", 10), half = make_content(16 * 1024 - 2, 2);
	const Texts texts(half, half, 64);

	for (const Form form : {Form::One, Form::Queue}) {
		expect_went(send(form, {"file"}, {Kind::Unix, true}, &texts.opts), 10, 10 + 2 * half.size());
		EXPECT_TRUE(same_content(texts.around(content), arrived));
	}
}

// What is given may be changed as soon as the call has returned.
TEST_F(Text, AreCopiedAtTheCall)
{
	const std::string content = add_file("file", 10);
	char text[] = "header";
	iovec iov = {text, 6};
	sfd_opts opts = {};
	Ends pipe = make_pipe();
	Queue q(srv());

	opts.headers = &iov;
	opts.hdr_cnt = 1;
	q.send("file", pipe.in, 1, &opts);
	memset(text, 'x', 6);
	iov = {nullptr, 99};
	opts = {};
	q.finish();
	EXPECT_EQ("header" + content, drain(&pipe));
}

} // namespace
