// SPDX-License-Identifier: BSD-2-Clause
// Mail between workers: letters arrive in order, and every descriptor is somebody's until it is
// closed.
extern "C" {
#include "server/fdpass.h"
#include "server/mailbox.h"
}

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

namespace
{

size_t open_fds()
{
	DIR *dir = opendir("/proc/self/fd");
	size_t n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

mail letter(uint64_t seq, uint32_t kind = MAIL_SEND_OPEN)
{
	mail m{};

	m.kind = kind;
	m.from_slot = 3;
	m.from_generation = 4;
	m.owner = {1000, 77, 99};
	m.id = 0x0102030405060708;
	m.seq = seq;
	return m;
}

// A pipe whose write end can be mailed: its read end reports end-of-file once every copy is closed.
struct Pipe {
	int ends[2];

	Pipe()
	{
		EXPECT_EQ(0, pipe2(ends, O_CLOEXEC | O_NONBLOCK));
	}
	~Pipe()
	{
		close(ends[0]);
	}
	Pipe(const Pipe &) = delete;
	Pipe &operator=(const Pipe &) = delete;

	bool writers_left() const
	{
		char c;

		return read(ends[0], &c, 1) < 0 && errno == EAGAIN;
	}
};

class Mailbox : public testing::Test
{
      protected:
	void SetUp() override
	{
		before_ = open_fds();
		for (auto &b : boxes_) {
			int ends[2];

			ASSERT_EQ(0, mailbox_new(ends));
			b = ends[0];
			write_[&b - boxes_] = ends[1];
		}
		outbox_init(&outbox_, write_, 2, LETTER_FDS_MAX);
	}
	void TearDown() override
	{
		for (int fd : boxes_)
			close(fd);
		for (int fd : write_)
			close(fd);
		EXPECT_EQ(before_, open_fds()) << "descriptors leaked";
	}

	// Fills the box of a slot to the brim; returns how many letters went in, numbered from
	// `first`.
	uint64_t fill(unsigned slot, uint64_t first)
	{
		uint64_t seq = first;

		for (;; seq++) {
			const mail m = letter(seq);

			if (mailbox_send(write_[slot], &m, -1) < 0)
				break;
		}
		EXPECT_EQ(EAGAIN, errno);
		return seq - first;
	}

	// Takes one letter out; its number, 0 if there is none. A descriptor is closed.
	uint64_t take(unsigned slot)
	{
		mail m;
		int fd = -1;

		if (!mailbox_receive(boxes_[slot], &m, &fd))
			return 0;
		if (fd >= 0)
			close(fd);
		return m.seq;
	}

	size_t before_;
	int boxes_[2], write_[2];
	outbox outbox_;
};

TEST_F(Mailbox, IsNonBlockingAndCloseOnExec)
{
	for (int fd : {boxes_[0], write_[0]}) {
		EXPECT_NE(0, fcntl(fd, F_GETFL) & O_NONBLOCK);
		EXPECT_NE(0, fcntl(fd, F_GETFD) & FD_CLOEXEC);
	}
}

TEST_F(Mailbox, EveryFieldArrives)
{
	const mail sent = letter(42, MAIL_CANCEL);
	mail got;
	int fd = 99;

	ASSERT_EQ(0, mailbox_send(write_[0], &sent, -1));
	ASSERT_TRUE(mailbox_receive(boxes_[0], &got, &fd));
	EXPECT_EQ(-1, fd);
	EXPECT_EQ(uint32_t{MAIL_CANCEL}, got.kind);
	EXPECT_EQ(3u, got.from_slot);
	EXPECT_EQ(4u, got.from_generation);
	EXPECT_EQ(1000u, got.owner.uid);
	EXPECT_EQ(77, got.owner.pid);
	EXPECT_EQ(99U, got.owner.mark);
	EXPECT_EQ(0x0102030405060708u, got.id);
	EXPECT_EQ(42u, got.seq);
	EXPECT_FALSE(mailbox_receive(boxes_[0], &got, &fd)) << "there was one";
}

TEST_F(Mailbox, ADescriptorArrivesAsACopy)
{
	const mail sent = letter(1);
	Pipe p;
	mail got;
	int fd = -1;

	ASSERT_EQ(0, mailbox_send(write_[0], &sent, p.ends[1]));
	EXPECT_TRUE(is_open(p.ends[1])) << "stays the caller's";
	ASSERT_TRUE(mailbox_receive(boxes_[0], &got, &fd));
	ASSERT_GE(fd, 0);
	EXPECT_NE(0, fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(p.ends[1]);
	EXPECT_TRUE(p.writers_left());
	close(fd);
	EXPECT_FALSE(p.writers_left());
}

TEST_F(Mailbox, AnEmptyOneSaysSoAtOnce)
{
	mail m;
	int fd = 99;

	EXPECT_FALSE(mailbox_receive(boxes_[0], &m, &fd));
}

// Nobody but workers writes there; whatever goes wrong, nothing may leak.
TEST_F(Mailbox, ALetterOfAnotherSizeIsDroppedWithItsDescriptor)
{
	Pipe p;
	mail m;
	int fd = -1;

	ASSERT_EQ(0, fdpass_send(write_[0], "short", 5, &p.ends[1], 1));
	close(p.ends[1]);
	EXPECT_FALSE(mailbox_receive(boxes_[0], &m, &fd));
	EXPECT_FALSE(p.writers_left()) << "its descriptor is still open";
}

TEST_F(Mailbox, OutboxMailsAtOnceAndClosesWhatItMailed)
{
	const mail m = letter(1);
	Pipe p;

	ASSERT_EQ(0, outbox_send(&outbox_, 1, &m, p.ends[1]));
	EXPECT_FALSE(is_open(p.ends[1])) << "taken over, and mailed";
	EXPECT_EQ(0u, outbox_.total);
	EXPECT_TRUE(p.writers_left()) << "it is in the mail";
	EXPECT_EQ(0u, take(0)) << "another's box";
	EXPECT_EQ(1u, take(1));
	EXPECT_FALSE(p.writers_left());
}

TEST_F(Mailbox, OutboxKeepsWhatAFullBoxHasNoRoomForInOrder)
{
	const uint64_t kept = LETTERS_MAX;
	const uint64_t filled = fill(0, 1);
	uint64_t want = 1;

	ASSERT_GT(filled, 0u);
	for (uint64_t i = 1; i <= kept; i++) {
		const mail m = letter(filled + i);

		ASSERT_EQ(1, outbox_send(&outbox_, 0, &m, -1));
	}
	EXPECT_EQ(kept, outbox_.total);
	EXPECT_FALSE(outbox_pump(&outbox_)) << "still full";
	while (want <= filled + kept) {
		uint64_t got = take(0);

		if (got == 0) {
			/* Empty: there must be more to pump, or some were lost. */
			bool done = outbox_pump(&outbox_);

			got = take(0);
			ASSERT_NE(0u, got) << "lost: letter " << want << (done ? ", and none is left" : "");
		}
		ASSERT_EQ(want, got);
		want++;
		if (want % 7 == 0)
			outbox_pump(&outbox_);
	}
	EXPECT_TRUE(outbox_pump(&outbox_));
	EXPECT_EQ(0u, outbox_.total);
	EXPECT_EQ(0u, take(0));
}

// A letter that finds room must not overtake those that wait: "closed" would come before what it is
// about.
TEST_F(Mailbox, OutboxLetsNoneOvertake)
{
	const uint64_t filled = fill(0, 1);
	const mail a = letter(1001), b = letter(1002);

	ASSERT_EQ(1, outbox_send(&outbox_, 0, &a, -1));
	for (uint64_t i = 0; i < filled; i++)
		ASSERT_EQ(i + 1, take(0));
	/* There is room now, and one waits. */
	ASSERT_EQ(1, outbox_send(&outbox_, 0, &b, -1));
	EXPECT_EQ(0u, take(0)) << "went before the one that waits";
	EXPECT_TRUE(outbox_pump(&outbox_));
	EXPECT_EQ(1001u, take(0));
	EXPECT_EQ(1002u, take(0));
	EXPECT_EQ(0u, take(0));
}

TEST_F(Mailbox, OutboxClosesAKeptDescriptorWhenItIsMailedNotBefore)
{
	const uint64_t filled = fill(0, 1);
	const mail m = letter(1001);
	Pipe p;

	ASSERT_EQ(1, outbox_send(&outbox_, 0, &m, p.ends[1]));
	EXPECT_TRUE(is_open(p.ends[1])) << "must be kept until there is room";
	for (uint64_t i = 0; i < filled; i++)
		ASSERT_NE(0u, take(0));
	EXPECT_TRUE(outbox_pump(&outbox_));
	EXPECT_FALSE(is_open(p.ends[1])) << "mailed, so closed";
	EXPECT_TRUE(p.writers_left());
	EXPECT_EQ(1001u, take(0));
	EXPECT_FALSE(p.writers_left());
}

// A box that nobody will ever read is no reason to hold on to a client's descriptor.
TEST_F(Mailbox, OutboxGivesUpWhatCannotBeMailed)
{
	const mail m = letter(1);
	Pipe p;

	close(boxes_[0]);
	ASSERT_EQ(0, outbox_send(&outbox_, 0, &m, p.ends[1]));
	EXPECT_FALSE(is_open(p.ends[1]));
	EXPECT_FALSE(p.writers_left());
	EXPECT_EQ(0u, outbox_.total);
	boxes_[0] = dup(boxes_[1]); /* for TearDown() */
}

// Who does not empty its box must not cost the others anything: neither their letters, nor all our descriptors.
TEST_F(Mailbox, OutboxOfOneSlotHoldsUpNoOther)
{
	const uint64_t filled = fill(0, 1);
	const mail a = letter(filled + 1), b = letter(7);

	ASSERT_EQ(1, outbox_send(&outbox_, 0, &a, -1));
	ASSERT_EQ(0, outbox_send(&outbox_, 1, &b, -1));
	EXPECT_EQ(7u, take(1)) << "held up by another's full box";
	while (take(0) != 0 || !outbox_pump(&outbox_))
		;
}

TEST_F(Mailbox, OutboxDropsWhatComesWhileTooManyWait)
{
	const uint64_t filled = fill(0, 1);
	const mail m = letter(filled + 1), closed = letter(filled + 2, MAIL_CLOSED);
	Pipe p;

	for (int i = 0; i < LETTERS_MAX; i++)
		ASSERT_EQ(1, outbox_send(&outbox_, 0, &m, -1));
	EXPECT_EQ(-1, outbox_send(&outbox_, 0, &m, p.ends[1]));
	EXPECT_FALSE(is_open(p.ends[1])) << "dropped with its descriptor";
	EXPECT_FALSE(p.writers_left());
	EXPECT_EQ(1, outbox_send(&outbox_, 0, &closed, -1)) << "somebody waits for it";
	EXPECT_EQ(unsigned{LETTERS_MAX} + 1, outbox_.total);
	while (take(0) != 0 || !outbox_pump(&outbox_))
		outbox_pump(&outbox_);
	EXPECT_EQ(0u, outbox_.total);
}

// Whoever noted a letter that had to wait is told when it has gone, and not of one that went at once.
TEST_F(Mailbox, OutboxTellsOfWhatItKept)
{
	std::vector<uint64_t> gone;
	const mail first = letter(1000);
	uint64_t got;

	outbox_.arg = &gone;
	outbox_.gone = [](void *arg, const mail *m) { static_cast<std::vector<uint64_t> *>(arg)->push_back(m->seq); };
	EXPECT_EQ(0, outbox_send(&outbox_, 1, &first, -1));
	fill(0, 1);
	for (uint64_t seq : {1001, 1002}) {
		const mail m = letter(seq);

		EXPECT_EQ(1, outbox_send(&outbox_, 0, &m, -1));
	}
	EXPECT_TRUE(gone.empty());
	do {
		got = take(0);
		outbox_pump(&outbox_);
	} while (got != 0);
	EXPECT_EQ((std::vector<uint64_t>{1001, 1002}), gone);
	EXPECT_EQ(1000u, take(1));
}

TEST_F(Mailbox, OutboxEmptyHasNothingToPump)
{
	EXPECT_TRUE(outbox_pump(&outbox_));
}

// ---- What mail and requests are carried by

class FdPass : public testing::Test
{
      protected:
	void SetUp() override
	{
		before_ = open_fds();
		ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s_));
	}
	void TearDown() override
	{
		close(s_[0]);
		close(s_[1]);
		EXPECT_EQ(before_, open_fds()) << "descriptors leaked";
	}
	// Sends `n` copies of a descriptor in one message.
	void send_many(int fd, size_t n)
	{
		std::vector<char> control(CMSG_SPACE(n * sizeof(int)));
		std::vector<int> fds(n, fd);
		char byte = 'x';
		iovec iov = {&byte, 1};
		msghdr msg{};

		msg.msg_iov = &iov;
		msg.msg_iovlen = 1;
		msg.msg_control = control.data();
		msg.msg_controllen = control.size();
		cmsghdr *c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(c), fds.data(), n * sizeof(int));
		ASSERT_EQ(1, sendmsg(s_[1], &msg, 0)) << strerror(errno);
	}

	size_t before_;
	int s_[2];
	fdpass m_;
	char buf_[64];
	const int stdin_fd = STDIN_FILENO;
};

TEST_F(FdPass, NothingToReceive)
{
	EXPECT_EQ(-1, fdpass_receive(s_[0], buf_, sizeof buf_, &m_));
	EXPECT_EQ(EAGAIN, errno) << "and it did not wait, though the socket is a blocking one";
	EXPECT_EQ(0u, m_.nfds);
	EXPECT_EQ(-1, fdpass_take(&m_, 0));
	fdpass_drop(&m_);
}

TEST_F(FdPass, BytesWithoutADescriptor)
{
	ASSERT_EQ(0, fdpass_send(s_[1], "hello", 5, nullptr, 0));
	ASSERT_EQ(0, fdpass_receive(s_[0], buf_, sizeof buf_, &m_));
	EXPECT_EQ(5u, m_.len);
	EXPECT_EQ(0, memcmp("hello", buf_, 5));
	EXPECT_EQ(0u, m_.nfds);
	EXPECT_FALSE(m_.data_cut);
	EXPECT_FALSE(m_.fds_lost);
	EXPECT_EQ(-1, fdpass_take(&m_, 0));
}

TEST_F(FdPass, WhatIsTakenIsNotDropped)
{
	ASSERT_EQ(0, fdpass_send(s_[1], "x", 1, &stdin_fd, 1));
	ASSERT_EQ(0, fdpass_receive(s_[0], buf_, sizeof buf_, &m_));
	ASSERT_EQ(1u, m_.nfds);
	int fd = fdpass_take(&m_, 0);
	ASSERT_GE(fd, 0);
	EXPECT_EQ(-1, fdpass_take(&m_, 0)) << "once only";
	EXPECT_EQ(-1, fdpass_take(&m_, 1));
	fdpass_drop(&m_);
	EXPECT_TRUE(is_open(fd));
	close(fd);
}

TEST_F(FdPass, DropClosesWhatWasNotTaken)
{
	send_many(STDIN_FILENO, 5);
	ASSERT_EQ(0, fdpass_receive(s_[0], buf_, sizeof buf_, &m_));
	ASSERT_EQ(5u, m_.nfds);
	int third = fdpass_take(&m_, 2);
	fdpass_drop(&m_);
	EXPECT_TRUE(is_open(third));
	close(third);
	fdpass_drop(&m_); /* twice is harmless */
}

TEST_F(FdPass, AsManyAsTheKernelLetsAnybodySend)
{
	send_many(STDIN_FILENO, FDPASS_MAX);
	ASSERT_EQ(0, fdpass_receive(s_[0], buf_, sizeof buf_, &m_));
	EXPECT_EQ(unsigned{FDPASS_MAX}, m_.nfds);
	EXPECT_FALSE(m_.fds_lost);
	for (unsigned i = 0; i < m_.nfds; i++)
		EXPECT_NE(0, fcntl(m_.fds[i], F_GETFD) & FD_CLOEXEC);
	fdpass_drop(&m_);
}

TEST_F(FdPass, AMessageThatIsTooLongSaysSoAndItsDescriptorIsOwned)
{
	std::vector<char> big(1000, 'x');

	ASSERT_EQ(0, fdpass_send(s_[1], big.data(), big.size(), &stdin_fd, 1));
	ASSERT_EQ(0, fdpass_receive(s_[0], buf_, sizeof buf_, &m_));
	EXPECT_TRUE(m_.data_cut);
	EXPECT_EQ(sizeof buf_, m_.len);
	EXPECT_EQ(1u, m_.nfds);
	fdpass_drop(&m_);
}

TEST_F(FdPass, SenderIsKnownWhereTheKernelWasAsked)
{
	ASSERT_EQ(0, fdpass_send(s_[1], "x", 1, nullptr, 0));
	ASSERT_EQ(0, fdpass_receive(s_[0], buf_, sizeof buf_, &m_));
	EXPECT_FALSE(m_.has_owner);

	const int on = 1;
	ASSERT_EQ(0, setsockopt(s_[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
	send_many(STDIN_FILENO, FDPASS_MAX);
	ASSERT_EQ(0, fdpass_receive(s_[0], buf_, sizeof buf_, &m_));
	EXPECT_TRUE(m_.has_owner) << "beside as many descriptors as there can be";
	EXPECT_EQ(getuid(), m_.owner.uid);
	EXPECT_EQ(getpid(), m_.owner.pid);
	EXPECT_EQ(unsigned{FDPASS_MAX}, m_.nfds);
	fdpass_drop(&m_);
}

TEST_F(FdPass, TwoDescriptorsArriveInOrder)
{
	Pipe a, b;
	const int both[] = {a.ends[1], b.ends[1]};
	char c;

	ASSERT_EQ(0, fdpass_send(s_[1], "two", 3, both, 2));
	EXPECT_TRUE(is_open(both[0]) && is_open(both[1])) << "they stay the caller's";
	ASSERT_EQ(0, fdpass_receive(s_[0], buf_, sizeof buf_, &m_));
	ASSERT_EQ(2u, m_.nfds);
	const int first = fdpass_take(&m_, 0), second = fdpass_take(&m_, 1);
	EXPECT_EQ(-1, fdpass_take(&m_, 2));
	EXPECT_EQ(1, write(first, "1", 1));
	EXPECT_EQ(1, write(second, "2", 1));
	EXPECT_EQ(1, read(a.ends[0], &c, 1));
	EXPECT_EQ('1', c);
	EXPECT_EQ(1, read(b.ends[0], &c, 1));
	EXPECT_EQ('2', c);
	for (const int fd : {first, second, both[0], both[1]})
		close(fd);
	EXPECT_FALSE(a.writers_left());
	EXPECT_FALSE(b.writers_left());
	fdpass_drop(&m_);
}

TEST_F(FdPass, OneOfTwoThatIsClosedSendsNeither)
{
	const int both[] = {STDIN_FILENO, -1};

	EXPECT_EQ(-1, fdpass_send(s_[1], "x", 1, both, 2));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, fdpass_receive(s_[0], buf_, sizeof buf_, &m_));
}

TEST_F(FdPass, WhatIsPeekedAtStays)
{
	Pipe pipe;
	std::vector<int> copies;

	ASSERT_EQ(0, fdpass_send(s_[1], "hello", 5, &pipe.ends[1], 1));
	close(pipe.ends[1]);
	for (int i = 0; i < 3; i++) {
		memset(buf_, 0, sizeof buf_);
		ASSERT_EQ(0, fdpass_peek(s_[0], buf_, sizeof buf_, &m_));
		EXPECT_EQ(5u, m_.len);
		EXPECT_EQ(0, memcmp(buf_, "hello", 5));
		ASSERT_EQ(1u, m_.nfds);
		copies.push_back(fdpass_take(&m_, 0));
		EXPECT_NE(0, fcntl(copies.back(), F_GETFD) & FD_CLOEXEC);
		fdpass_drop(&m_);
	}
	for (const int fd : copies)
		close(fd);
	EXPECT_TRUE(pipe.writers_left()) << "the message has it";
	/* What is not taken is closed, and is only a copy. */
	ASSERT_EQ(0, fdpass_peek(s_[0], buf_, sizeof buf_, &m_));
	fdpass_drop(&m_);
	EXPECT_TRUE(pipe.writers_left());
	ASSERT_EQ(0, fdpass_receive(s_[0], buf_, sizeof buf_, &m_));
	EXPECT_EQ(1u, m_.nfds);
	fdpass_drop(&m_);
	EXPECT_FALSE(pipe.writers_left());
	EXPECT_EQ(-1, fdpass_peek(s_[0], buf_, sizeof buf_, &m_));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_EQ(-1, fdpass_take(&m_, 0));
}

TEST_F(FdPass, WhatWasNeverReceivedGoesWithTheSocket)
{
	Pipe pipe;

	ASSERT_EQ(0, fdpass_send(s_[1], "x", 1, &pipe.ends[1], 1));
	close(pipe.ends[1]);
	ASSERT_EQ(0, fdpass_peek(s_[0], buf_, sizeof buf_, &m_));
	fdpass_drop(&m_);
	EXPECT_TRUE(pipe.writers_left());
	close(s_[0]);
	EXPECT_FALSE(pipe.writers_left());
	s_[0] = dup(s_[1]); /* for TearDown() */
}

TEST_F(FdPass, AFullSocketSaysSoAtOnce)
{
	int n = 0;

	while (fdpass_send(s_[1], buf_, sizeof buf_, nullptr, 0) == 0)
		ASSERT_LT(++n, 1000000);
	EXPECT_EQ(EAGAIN, errno);
}

TEST_F(FdPass, APeerThatIsGoneRaisesNoSignal)
{
	close(s_[0]);
	EXPECT_EQ(-1, fdpass_send(s_[1], "x", 1, nullptr, 0));
	EXPECT_EQ(EPIPE, errno);
	s_[0] = dup(s_[1]); /* for TearDown() */
}

// What a send-open asks for travels with it, whether there is room at once or not.
TEST_F(Mailbox, ABodyComesWithItsLetter)
{
	std::string text(MAIL_BODY_MAX, 'b');
	mail m = letter(1), got{};
	int fd;

	m.body = text.data();
	for (const size_t size : {size_t{1}, size_t{100}, text.size()}) {
		m.count = static_cast<uint32_t>(size);
		ASSERT_EQ(0, mailbox_send(write_[0], &m, -1));
		ASSERT_TRUE(mailbox_receive(boxes_[0], &got, &fd));
		EXPECT_EQ(-1, fd);
		EXPECT_EQ(1U, got.seq);
		ASSERT_EQ(size, got.count);
		ASSERT_NE(nullptr, got.body);
		EXPECT_EQ(text.substr(0, size), std::string(static_cast<const char *>(got.body), size));
	}
	m.count = 0;
	m.body = nullptr;
	ASSERT_EQ(0, mailbox_send(write_[0], &m, -1));
	ASSERT_TRUE(mailbox_receive(boxes_[0], &got, &fd));
	EXPECT_EQ(nullptr, got.body);
}

} // namespace
