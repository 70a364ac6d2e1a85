// SPDX-License-Identifier: BSD-2-Clause
// Sends by a queue: what arrives, how many at a time, and which error is whose.
#include "test/support/fixture.h"
#include "test/support/queue.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <sys/socket.h>
#include <sys/syscall.h>

namespace
{

constexpr size_t SIZE = 5000;

class QueueTest : public SfdTest
{
      protected:
	void SetUp() override
	{
		SfdTest::SetUp();
		start();
		content_ = add_file("file", SIZE);
	}

	void TearDown() override
	{
		if (!HasFatalFailure()) {
			canary();
			expect_same_workers();
		}
		SfdTest::TearDown();
	}

	// A call that is refused, with no event to come.
	void expect_refusal(Queue &q, int result, int err)
	{
		EXPECT_EQ(-1, result);
		EXPECT_EQ(err, errno) << strerror(errno);
		sfd_event e;
		EXPECT_EQ(0, sfd_queue_wait(q, &e, 1, -1)) << "it is outstanding all the same";
	}

	std::string content_;
};

// ---- Destinations and ranges

class QueueEach : public QueueTest, public ::testing::WithParamInterface<DestType>
{
};

TEST_P(QueueEach, WholeFile)
{
	for (const size_t size : {size_t{0}, size_t{1}, SIZE, size_t{1} << 20}) {
		const std::string content = add_file("sized", size, 3);
		Dest dest(GetParam(), dir());
		Queue q(srv());

		dest.start_reading();
		q.send("sized", dest.fd(), 7);
		q.expect_success(7, size);
		const std::string arrived = dest.finish();
		if (GetParam().kind != Kind::Null) {
			EXPECT_TRUE(same_content((dest.is_file() ? Dest::before : "") + content, arrived));
		}
		q.expect_quiet();
	}
}

// More than it takes at a time, while nobody reads; then somebody does.
TEST_P(QueueEach, LargerThanTheDestinationTakes)
{
	constexpr size_t LARGE = 8 << 20;
	const std::string content = add_file("large", LARGE, 3);
	Dest dest(GetParam(), dir());
	Queue q(srv());

	q.send("large", dest.fd(), 7);
	ASSERT_EQ(0, q.submit());
	canary();
	dest.start_reading();
	q.expect_success(7, LARGE);
	const std::string arrived = dest.finish();
	if (GetParam().kind != Kind::Null) {
		EXPECT_TRUE(same_content((dest.is_file() ? Dest::before : "") + content, arrived));
	}
}

INSTANTIATE_TEST_SUITE_P(
	All, QueueEach, ::testing::ValuesIn(all_dest_types()), [](const auto &i) { return name_of(i.param); });

TEST_F(QueueTest, Ranges)
{
	const struct {
		off_t offset;
		size_t len;
	} ranges[] = {{0, 0}, {0, 1}, {0, SIZE}, {0, SIZE + 1}, {1, 0}, {4096, 100}, {SIZE - 1, 1}, {SIZE - 1, 1000},
		{SIZE, 0}, {SIZE, 10}, {SIZE + 1, 0}, {INT64_MAX, 0}, {0, INT64_MAX}, {INT64_MAX - 1, 1}};
	Queue q(srv());
	uint64_t user_data = 0;

	for (const auto &range : ranges) {
		SCOPED_TRACE(std::to_string(range.offset) + ", " + std::to_string(range.len));
		Ends pipe = make_pipe();
		std::string expected;

		if (range.offset < static_cast<off_t>(SIZE))
			expected = content_.substr(static_cast<size_t>(range.offset), range.len ? range.len : SIZE);
		q.send("file", pipe.in, ++user_data, nullptr, range.offset, range.len);
		q.expect_success(user_data, expected.size());
		EXPECT_TRUE(same_content(expected, drain(&pipe)));
	}
}

// The caller's number: any will do.
TEST_F(QueueTest, AnyUserData)
{
	Queue q(srv());

	for (const uint64_t user_data : {uint64_t{0}, uint64_t{1}, UINT64_MAX, uint64_t{1} << 63, uint64_t{1} << 32}) {
		Ends pipe = make_pipe();

		q.send("file", pipe.in, user_data);
		q.expect_success(user_data, SIZE);
		EXPECT_TRUE(same_content(content_, drain(&pipe)));
	}
}

// The end can be relied on: whoever closes a connection then has ended it, and nobody else has it.
TEST_F(QueueTest, CloseAfterTheEndSendsFin)
{
	Queue q(srv());
	char buf[SIZE + 1];

	for (uint64_t i = 0; i < 300; i++) {
		Ends tcp = make_tcp_pair();

		q.send("file", tcp.in, i);
		q.expect_success(i, SIZE);
		tcp.in.reset();
		ASSERT_EQ(static_cast<ssize_t>(SIZE), recv(tcp.out, buf, SIZE, MSG_DONTWAIT | MSG_WAITALL));
		ASSERT_EQ(0, recv(tcp.out, buf, 1, MSG_DONTWAIT)) << "round " << i << ": " << strerror(errno);
	}
}

// ---- Refused by the call

TEST_F(QueueTest, RefusedByTheCall)
{
	const Ends pipe = make_pipe();
	Queue q(srv());
	const std::string too_long(4096, 'x');

	for (const int fd : {-1, INT_MIN}) {
		expect_refusal(q, sfd_queue_send(q, "file", fd, 0, 0, nullptr, 1), EBADF);
	}
	expect_refusal(q, sfd_queue_send(q, nullptr, pipe.in, 0, 0, nullptr, 1), EINVAL);
	expect_refusal(q, sfd_queue_send(q, "", pipe.in, 0, 0, nullptr, 1), ENOENT);
	expect_refusal(q, sfd_queue_send(q, too_long.c_str(), pipe.in, 0, 0, nullptr, 1), ENAMETOOLONG);
	expect_refusal(q, sfd_queue_send(q, "file", pipe.in, -1, 0, nullptr, 1), EINVAL);
	expect_refusal(q, sfd_queue_send(q, "file", pipe.in, 1, INT64_MAX, nullptr, 1), EINVAL);
	expect_refusal(q, sfd_queue_send(q, "file", pipe.in, 0, SIZE_MAX, nullptr, 1), EINVAL);
	expect_refusal(q, sfd_queue_open(q, nullptr, 0, 0, nullptr, 1), EINVAL);
	expect_refusal(q, sfd_queue_open(q, "", 0, 0, nullptr, 1), ENOENT);
	expect_refusal(q, sfd_queue_open(q, too_long.c_str(), 0, 0, nullptr, 1), ENAMETOOLONG);
	expect_refusal(q, sfd_queue_open(q, "file", -1, 0, nullptr, 1), EINVAL);
	expect_refusal(q, sfd_queue_open(q, "file", INT64_MAX, 1 + (SIZE_MAX >> 1), nullptr, 1), EINVAL);
	EXPECT_EQ(0, sfd_queue_submit(q));
	q.expect_quiet();
}

TEST_F(QueueTest, QueuesThatAreNotMade)
{
	const Fd file(open("/dev/null", O_RDWR | O_CLOEXEC));
	const struct {
		int srv;
		unsigned depth;
		int err;
	} bad[] = {{srv(), 0, EINVAL}, {srv(), SFD_QUEUE_DEPTH_MAX + 1, EINVAL}, {srv(), UINT32_MAX, EINVAL},
		{-1, 16, EBADF}, {987654, 16, EBADF}, {file, 16, ENOTSOCK}};

	for (const auto &b : bad) {
		errno = 0;
		EXPECT_EQ(nullptr, sfd_queue_new(b.srv, b.depth)) << b.srv << ", " << b.depth;
		EXPECT_EQ(b.err, errno) << strerror(errno);
	}
	sfd_queue_free(nullptr);
}

TEST_F(QueueTest, ReapOfNothing)
{
	Queue q(srv());
	sfd_event e;

	EXPECT_EQ(-1, sfd_queue_reap(q, &e, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, sfd_queue_reap(q, &e, -1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, sfd_queue_reap(q, nullptr, 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(0, sfd_queue_reap(q, &e, 1));
}

// ---- Refused by the daemon

// Each of them has its own status, and those between them succeed.
TEST_F(QueueTest, ErrorsAreEachRequestsOwn)
{
	const Ends packets = make_socketpair(SOCK_SEQPACKET), other = make_pipe();
	const Fd directory(open(root().c_str(), O_RDONLY | O_CLOEXEC)), full(open("/dev/full", O_WRONLY | O_CLOEXEC));
	const std::string longest(4095, 'x');
	std::vector<Ends> pipes;
	Queue q(srv());

	for (uint64_t i = 0; i < 8; i++)
		pipes.push_back(make_pipe());
	const struct {
		const char *path;
		int dest, stat;
	} bad[] = {{"missing", other.in, ENOENT}, {".", other.in, EINVAL}, {"file/below", other.in, ENOTDIR},
		{longest.c_str(), other.in, ENAMETOOLONG}, {"file", packets.in, EINVAL}, {"file", directory, EBADF},
		{"file", other.out, EBADF}, {"file", full, ENOSPC}};
	for (uint64_t i = 0; i < 8; i++) {
		q.send("file", pipes[i].in, i);
		q.send(bad[i].path, bad[i].dest, 100 + i);
	}
	q.finish();
	for (uint64_t i = 0; i < 8; i++) {
		q.expect_success(i, SIZE);
		q.expect_end(100 + i, bad[i].stat);
		EXPECT_EQ(0u, q.of(100 + i).bytes);
		EXPECT_EQ(0u, q.of(100 + i).infos);
		EXPECT_TRUE(same_content(content_, drain(&pipes[i])));
	}
}

// The longest path that there may be.
TEST_F(QueueTest, PathsAsLongAsTheyMayBe)
{
	std::string longest;
	Ends pipe = make_pipe();
	Queue q(srv());

	while (longest.size() + 4 < 4094)
		longest += "./";
	longest = "/" + longest + "file";
	ASSERT_EQ(4095u, longest.size());
	q.send(longest, pipe.in, 1);
	q.expect_success(1, SIZE);
	EXPECT_TRUE(same_content(content_, drain(&pipe)));
}

// ---- Descriptors that were closed before the submit

class QueueClosed : public QueueTest, public ::testing::WithParamInterface<std::vector<size_t>>
{
};

TEST_P(QueueClosed, OthersSucceed)
{
	constexpr size_t MANY = 64;
	std::vector<Ends> pipes;
	Queue q(srv(), 2 * MANY);

	/* The daemon consents first, so that nothing else happens in the submit. */
	q.open("missing", 1000);
	q.finish();
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < MANY; i++) {
			pipes.push_back(make_pipe());
			q.send("file", pipes[i].in, i);
		}
		for (const size_t i : GetParam())
			pipes[i].in.reset();
		EXPECT_EQ(0, q.submit());
		q.finish();
		for (size_t i = 0; i < MANY; i++) {
			const bool is_bad = std::find(GetParam().begin(), GetParam().end(), i) != GetParam().end();

			q.expect_end(i, is_bad ? EBADF : SFD_STAT_OK);
			EXPECT_TRUE(same_content(is_bad ? "" : content_, drain(&pipes[i])));
		}
		pipes.clear();
	}
	q.expect_quiet();
}

INSTANTIATE_TEST_SUITE_P(Which, QueueClosed,
	::testing::Values(std::vector<size_t>{31}, std::vector<size_t>{0}, std::vector<size_t>{63},
		std::vector<size_t>{0, 1, 2, 30, 62, 63}, std::vector<size_t>{1, 3, 5, 7, 9, 11, 13, 15, 17, 19}));

TEST_F(QueueTest, AllDescriptorsClosed)
{
	Queue q(srv());

	for (uint64_t i = 0; i < 100; i++) {
		const Ends pipe = make_pipe();

		q.send("file", pipe.in, i);
	}
	q.finish();
	for (uint64_t i = 0; i < 100; i++)
		q.expect_end(i, EBADF);
	q.expect_quiet();
}

// One that the kernel does not let pass to another process: it ends, and is in nobody's way.
TEST_F(QueueTest, DescriptorThatMayNotBePassed)
{
	alignas(8) char params[120] = {}; /* struct io_uring_params */
	const Fd ring(static_cast<int>(syscall(SYS_io_uring_setup, 4, params)));
	std::vector<Ends> pipes;
	Queue q(srv());

	if (ring < 0)
		GTEST_SKIP() << "no io_uring(7) here: " << strerror(errno);
	for (uint64_t i = 0; i < 100; i++) {
		pipes.push_back(make_pipe());
		q.send("file", i % 40 == 20 ? static_cast<int>(ring) : static_cast<int>(pipes[i].in), i);
	}
	q.open("file", 1000);
	q.send_open(1000, ring);
	q.finish();
	for (uint64_t i = 0; i < 100; i++) {
		EXPECT_EQ(i % 40 != 20, q.of(i).stat == SFD_STAT_OK) << i << ": " << sfd_strstat(q.of(i).stat);
		EXPECT_TRUE(same_content(i % 40 == 20 ? "" : content_, drain(&pipes[i])));
	}
	EXPECT_NE(SFD_STAT_OK, q.of(1000).stat);
	q.expect_quiet();
}

// ---- Many

class QueueBatch : public QueueTest, public ::testing::WithParamInterface<size_t>
{
};

TEST_P(QueueBatch, InOneSubmit)
{
	const size_t n = GetParam();
	std::vector<Ends> pipes;
	std::vector<std::string> contents;
	Queue q(srv(), static_cast<unsigned>(n));

	for (size_t i = 0; i < n; i++) {
		contents.push_back(add_file("f" + std::to_string(i), i * 37 % 20000, i + 1));
		pipes.push_back(make_pipe());
		q.send("f" + std::to_string(i), pipes[i].in, i);
	}
	q.finish();
	for (size_t i = 0; i < n; i++) {
		q.expect_success(i, contents[i].size());
		EXPECT_TRUE(same_content(contents[i], drain(&pipes[i])));
	}
	q.expect_quiet();
}

INSTANTIATE_TEST_SUITE_P(Sizes, QueueBatch, ::testing::Values(1, 2, 63, 64, 65, 128, 129, 1000));

// What a submit says it has sent, all in all, is what was added.
TEST_F(QueueTest, SubmitCounts)
{
	constexpr int MANY = 150;
	Queue q(srv());
	int sent = 0;

	q.open("missing", 1000);
	q.finish();
	EXPECT_EQ(0, sfd_queue_submit(q));
	for (uint64_t i = 0; i < MANY; i++)
		q.open("file", i);
	while (sent < MANY) {
		const int n = sfd_queue_submit(q);

		if (n < 0) {
			ASSERT_EQ(EAGAIN, errno);
			ASSERT_NE(0, await(q.fd(), POLLIN));
			q.reap();
			continue;
		}
		ASSERT_GT(n, 0);
		sent += n;
	}
	EXPECT_EQ(MANY, sent);
	EXPECT_EQ(0, sfd_queue_submit(q));
	for (uint64_t i = 0; i < MANY; i++) {
		q.info_of(i);
		q.cancel(i);
	}
	q.finish();
}

// Paths of which few fill a datagram.
TEST_F(QueueTest, LongPaths)
{
	constexpr size_t MANY = 200;
	std::vector<Ends> pipes;
	Queue q(srv());

	for (size_t i = 0; i < MANY; i++) {
		std::string path;

		while (path.size() + 6 <= 4095 - i)
			path += "./";
		pipes.push_back(make_pipe());
		q.send(path + "file", pipes[i].in, i);
	}
	q.finish();
	for (size_t i = 0; i < MANY; i++) {
		q.expect_success(i, SIZE);
		EXPECT_TRUE(same_content(content_, drain(&pipes[i])));
	}
}

// ---- Depth

TEST_F(QueueTest, DepthOne)
{
	Queue q(srv(), 1);

	for (uint64_t i = 0; i < 100; i++) {
		Ends pipe = make_pipe();

		q.send("file", pipe.in, i);
		EXPECT_EQ(-1, sfd_queue_send(q, "file", pipe.in, 0, 0, nullptr, 1000));
		EXPECT_EQ(EAGAIN, errno);
		EXPECT_EQ(-1, sfd_queue_open(q, "file", 0, 0, nullptr, 1000));
		EXPECT_EQ(EAGAIN, errno);
		q.expect_success(i, SIZE);
		EXPECT_TRUE(same_content(content_, drain(&pipe)));
	}
	/* A second message needs no room of its own. */
	Ends pipe = make_pipe();
	q.open("file", 100);
	q.send_open(100, pipe.in);
	q.expect_success(100, SIZE);
	EXPECT_TRUE(same_content(content_, drain(&pipe)));
}

// A request is outstanding until its end was reaped, however long it has been over.
TEST_F(QueueTest, DepthCountsUntilReaped)
{
	constexpr uint64_t MANY = 20;
	Queue q(srv(), MANY);

	for (uint64_t i = 0; i < MANY; i++)
		q.open("missing", i);
	ASSERT_EQ(0, q.submit());
	for (uint64_t i = 0; i < MANY; i++) {
		EXPECT_EQ(-1, sfd_queue_open(q, "missing", 0, 0, nullptr, 1000));
		EXPECT_EQ(EAGAIN, errno);
		ASSERT_NE(0, await(q.fd(), POLLIN));
		EXPECT_EQ(1u, q.reap_once(1));
		q.open("missing", MANY + i);
	}
	q.finish();
}

// As many as there may be: of files that wait to be sent, and whose information has come.
TEST_F(QueueTest, AsManyOpensAsThereMayBe)
{
	if (daemon().log().find("lowered") != std::string::npos)
		GTEST_SKIP() << "the daemon may not open so many files: " << daemon().log();
	Queue q(srv(), SFD_QUEUE_DEPTH_MAX);

	for (uint64_t i = 0; i < SFD_QUEUE_DEPTH_MAX; i++)
		q.open("file", i);
	EXPECT_EQ(-1, sfd_queue_open(q, "file", 0, 0, nullptr, 1000000));
	EXPECT_EQ(EAGAIN, errno);
	for (uint64_t i = 0; i < SFD_QUEUE_DEPTH_MAX; i++)
		ASSERT_EQ(SIZE, q.info_of(i).size) << i;
	q.expect_quiet();
	EXPECT_EQ(SFD_QUEUE_DEPTH_MAX, q.outstanding());
	for (uint64_t i = 0; i < SFD_QUEUE_DEPTH_MAX; i++)
		q.cancel(i);
	q.finish();
	for (uint64_t i = 0; i < SFD_QUEUE_DEPTH_MAX; i++)
		ASSERT_EQ(ECANCELED, q.of(i).stat) << i;
	q.expect_quiet();
}

// Nothing is reaped before all have been sent, so that all their ends wait to be taken.
TEST_F(QueueTest, AsManyEndsAsThereMayBe)
{
	const Ends dest = make_pipe(); /* nothing is sent but ends of the file, so it may serve many at a time */
	Queue q(srv(), SFD_QUEUE_DEPTH_MAX);
	sfd_opts opts = {};
	int sent = 0;

	opts.flags = SFD_WANT_INFO | SFD_WANT_PROGRESS;
	for (uint64_t i = 0; i < SFD_QUEUE_DEPTH_MAX; i++)
		q.send("file", dest.in, i, &opts, SIZE);
	ASSERT_TRUE(eventually([&] {
		const int n = sfd_queue_submit(q);

		sent += n > 0 ? n : 0;
		return n == 0;
	})) << sent;
	for (int i = 0; i < 20; i++)
		canary();
	q.finish();
	for (uint64_t i = 0; i < SFD_QUEUE_DEPTH_MAX; i++) {
		ASSERT_EQ(SFD_STAT_OK, q.of(i).stat) << i;
		ASSERT_EQ(1u, q.of(i).infos);
	}
	q.expect_quiet();
}

} // namespace
