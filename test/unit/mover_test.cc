// SPDX-License-Identifier: BSD-2-Clause
// Head, file and tail: in that order, whatever the destination takes at a time, and nothing before its time.
extern "C" {
#include "server/mover.h"
#include "server/os/files.h"
}

#include "test/support/bounded.h"
#include "test/support/dest.h"
#include "test/support/fd.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/socket.h>

namespace
{

class Mover : public BoundedTest
{
      protected:
	static constexpr size_t SIZE = 200000;

	void SetUp() override
	{
		BoundedTest::SetUp();
		content_ = make_content(SIZE);
		write_whole(path("file"), content_);
		file_.reset(open(path("file").c_str(), O_RDONLY | O_CLOEXEC));
		ASSERT_GE(file_, 0);
	}

	void TearDown() override
	{
		file_.reset();
		BoundedTest::TearDown();
	}

	move make(dest_kind kind, int dest, uint64_t left, const std::string &head, const std::string &tail)
	{
		move m = {};

		m.file = file_;
		m.dest = dest;
		m.kind = kind;
		m.left = left;
		m.head = {reinterpret_cast<const unsigned char *>(head.data()), static_cast<uint32_t>(head.size())};
		m.tail = {reinterpret_cast<const unsigned char *>(tail.data()), static_cast<uint32_t>(tail.size())};
		return m;
	}

	static std::string read_some(int fd, size_t most)
	{
		std::string buf(most, '\0');
		const ssize_t n = read(fd, buf.data(), most);

		buf.resize(n > 0 ? static_cast<size_t>(n) : 0);
		return buf;
	}

	// Moves and reads in turn until it is done, or says something else than that it is under way.
	move_result run(move *m, int peer, uint64_t budget, size_t chunk, std::string *got)
	{
		uint64_t fallbacks = 0;
		move_result result;

		do {
			const uint64_t before = m->written;

			result = move_run(m, budget, &fallbacks);
			EXPECT_LE(m->written - before, budget);
			*got += read_some(peer, chunk);
		} while (result == MOVE_MORE || result == MOVE_BLOCKED);
		for (std::string more; !(more = read_some(peer, SIZE)).empty();)
			*got += more;
		return result;
	}

	std::string content_;
	const std::string head_ = "head", tail_ = "tail", long_ = std::string(100, 'h'), none_;
	Fd file_;
};

struct Way {
	const char *name;
	dest_kind kind;
	bool copies;
};

class MoverEach : public Mover, public ::testing::WithParamInterface<Way>
{
      protected:
	Ends make_ends()
	{
		return GetParam().kind == DEST_PIPE ? make_pipe(O_NONBLOCK)
						    : make_socketpair(SOCK_STREAM | SOCK_NONBLOCK);
	}
};

TEST_P(MoverEach, AllThreeInOrder)
{
	const std::string texts[] = {"", "h", std::string(300, 'h'), std::string(20000, 'H')};

	for (const uint64_t size : {uint64_t{0}, uint64_t{1}, uint64_t{4096}, uint64_t{70000}, uint64_t{SIZE}}) {
		for (const std::string &head : texts) {
			for (const std::string &tail : texts) {
				for (const uint64_t budget : {1UL << 20, 5000UL, 777UL}) {
					const Ends ends = make_ends();
					move m = make(GetParam().kind, ends.in, size, head, tail);
					std::string got;

					m.copies = GetParam().copies;
					ASSERT_EQ(MOVE_DONE, run(&m, ends.out, budget, 3000, &got));
					ASSERT_TRUE(same_content(head + content_.substr(0, size) + tail, got))
						<< size << ", " << head.size() << ", " << tail.size() << ", " << budget;
					ASSERT_EQ(got.size(), m.written);
					ASSERT_EQ(static_cast<off_t>(size), m.offset);
					ASSERT_EQ(0U, move_left(&m));
				}
			}
		}
	}
}

TEST_P(MoverEach, AFileThatEndsEarlyEndsIt)
{
	const Ends ends = make_ends();
	move m = make(GetParam().kind, ends.in, SIZE, head_, tail_);
	std::string got;

	m.copies = GetParam().copies;
	ASSERT_EQ(0, truncate(path("file").c_str(), 1000));
	ASSERT_EQ(MOVE_SHORT, run(&m, ends.out, 1 << 20, 3000, &got));
	EXPECT_TRUE(same_content("head" + content_.substr(0, 1000), got)) << "and no tail";
	EXPECT_EQ(1004U, m.written);
	EXPECT_EQ(SIZE - 1000, m.left);
}

INSTANTIATE_TEST_SUITE_P(All, MoverEach,
	::testing::Values(Way{"Splice", DEST_PIPE, false}, Way{"CopyToAPipe", DEST_PIPE, true},
		Way{"Sendfile", DEST_STREAM, false}, Way{"CopyToASocket", DEST_STREAM, true},
		Way{"Blocking", DEST_STREAM_BLOCKING, false}),
	[](const auto &i) { return std::string(i.param.name); });

// Of a file whose first byte cannot be had not even the head leaves.
TEST_F(Mover, NoHeadWithoutTheFirstByte)
{
	const Ends pipe = make_pipe(O_NONBLOCK);
	uint64_t fallbacks = 0;
	move m = make(DEST_PIPE, pipe.in, SIZE, head_, tail_);

	m.copies = m.peeks = true;
	/* A descriptor that only writes stands for a disk that cannot be read. */
	const Fd unreadable(open(path("file").c_str(), O_WRONLY | O_CLOEXEC));
	m.file = unreadable;
	EXPECT_EQ(MOVE_FAILED, move_run(&m, 1 << 20, &fallbacks));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(0U, m.written);
	/* A file that became empty. */
	m.file = file_;
	ASSERT_EQ(0, truncate(path("file").c_str(), 0));
	EXPECT_EQ(MOVE_SHORT, move_run(&m, 1 << 20, &fallbacks));
	EXPECT_EQ(0U, m.written);
	EXPECT_EQ("", read_some(pipe.out, 10));
}

TEST_F(Mover, AHeadAlone)
{
	const Ends pipe = make_pipe(O_NONBLOCK);
	move m = make(DEST_PIPE, pipe.in, SIZE, long_, none_);

	EXPECT_EQ(MOVE_MORE, move_head(&m, 60));
	EXPECT_EQ(60U, m.written);
	EXPECT_EQ(MOVE_DONE, move_head(&m, 60));
	EXPECT_EQ(MOVE_DONE, move_head(&m, 60)) << "there is none any more";
	EXPECT_EQ(std::string(100, 'h'), read_some(pipe.out, 1000));
	EXPECT_EQ(SIZE, m.left);
}

// Of a socket that nobody has looked at it is found out before sendfile(2) or splice(2) would wait for it.
TEST_F(Mover, ASocketThatTurnsOutToBlock)
{
	for (const bool from_pipe : {false, true}) {
		for (const bool blocks : {false, true}) {
			const Ends tcp = make_tcp_pair(), pipe = make_pipe(O_NONBLOCK);
			uint64_t fallbacks = 0;
			move m = make(DEST_STREAM, tcp.in, SIZE, none_, none_);

			m.unseen = true;
			if (!blocks) {
				ASSERT_EQ(0, fcntl(tcp.in, F_SETFL, O_NONBLOCK));
			}
			ASSERT_EQ(4, write(pipe.in, "pipe", 4));
			if (!from_pipe) {
				while (move_run(&m, 1 << 20, &fallbacks) == MOVE_MORE)
					;
			} else if (blocks) {
				EXPECT_EQ(-1, move_from_pipe(&m, pipe.out, 4));
				EXPECT_EQ(EAGAIN, errno) << "the next turn copies";
			} else {
				EXPECT_EQ(4, move_from_pipe(&m, pipe.out, 4));
			}
			EXPECT_FALSE(m.unseen);
			EXPECT_EQ(blocks ? DEST_STREAM_BLOCKING : DEST_STREAM, m.kind);
			EXPECT_EQ(0U, fallbacks);
		}
	}
}

// On TCP the head waits for the first bytes and leaves with them; what is last never waits.
TEST_F(Mover, HeadAndFirstBytesShareAPacket)
{
	const Ends tcp = make_tcp_pair();
	uint64_t fallbacks = 0;
	char buf[16];

	ASSERT_EQ(0, fcntl(tcp.in, F_SETFL, O_NONBLOCK));
	move m = make(DEST_STREAM, tcp.in, 1000, head_, none_);
	ASSERT_EQ(MOVE_DONE, move_head(&m, 100));
	EXPECT_EQ(-1, recv(tcp.out, buf, sizeof buf, MSG_DONTWAIT)) << "it left alone";
	ASSERT_EQ(MOVE_DONE, move_run(&m, 1 << 20, &fallbacks));
	EXPECT_EQ(4, recv(tcp.out, buf, 4, MSG_DONTWAIT));
	EXPECT_EQ(1000U, read_some(tcp.out, 2000).size()) << "all of it is there at once";
	/* Where no byte of the file follows, nothing is waited for. */
	m = make(DEST_STREAM, tcp.in, 0, head_, tail_);
	ASSERT_EQ(MOVE_DONE, move_run(&m, 1 << 20, &fallbacks));
	EXPECT_EQ(8, recv(tcp.out, buf, sizeof buf, MSG_DONTWAIT));
}

} // namespace
