// SPDX-License-Identifier: BSD-2-Clause
// What a queue's requests may ask for, and what is in the events.
#include "test/support/fixture.h"
#include "test/support/queue.h"

#include <cerrno>
#include <climits>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <thread>
#include <vector>

namespace
{

constexpr size_t SIZE = 5000;

class QueueOptions : public SfdTest
{
      protected:
	void SetUp() override
	{
		SfdTest::SetUp();
		start();
		content_ = add_file("file", SIZE);
	}

	// Whether the information is about what is sent: a range of "file".
	void expect_about_file(const sfd_file_info &info, off_t offset, size_t size)
	{
		struct stat st;

		ASSERT_EQ(0, stat(in_root("file").c_str(), &st));
		EXPECT_EQ(size, info.size);
		EXPECT_EQ(offset, info.offset);
		EXPECT_EQ(SIZE, info.file_size);
		EXPECT_EQ(st.st_mtim.tv_sec, info.mtime);
		EXPECT_EQ(st.st_mtim.tv_nsec, info.mtime_nsec);
		EXPECT_EQ(st.st_ctim.tv_sec, info.ctime);
		EXPECT_EQ(st.st_ctim.tv_nsec, info.ctime_nsec);
		EXPECT_EQ(st.st_dev, info.dev);
		EXPECT_EQ(st.st_ino, info.ino);
	}

	// No call takes these options, and nothing is outstanding afterwards.
	void expect_refused_options(Queue &q, const sfd_opts &opts, int err)
	{
		/* An open has no headers at all. */
		const int open_err = opts.hdr_cnt != 0 || opts.trl_cnt != 0 ? EINVAL : err;
		const Ends pipe = make_pipe();
		sfd_event e;

		EXPECT_EQ(-1, sfd_queue_send(q, "file", pipe.in, 0, 0, &opts, 1));
		EXPECT_EQ(err, errno) << strerror(errno);
		EXPECT_EQ(-1, sfd_queue_open(q, "file", 0, 0, &opts, 1));
		EXPECT_EQ(open_err, errno) << strerror(errno);
		EXPECT_EQ(0, sfd_queue_wait(q, &e, 1, -1));
	}

	std::string content_;
};

// ---- Information

TEST_F(QueueOptions, InformationOnlyForWhoeverWantsIt)
{
	Queue q(srv());
	sfd_opts opts = {}, none = {};
	Ends first = make_pipe(), second = make_pipe(), third = make_pipe();

	opts.flags = SFD_WANT_INFO;
	q.send("file", first.in, 1, &opts, 10, 100);
	q.send("file", second.in, 2, &none);
	q.send("file", third.in, 3);
	q.finish();
	q.expect_success(1, 100);
	expect_about_file(q.of(1).info, 10, 100);
	/* That there was none for these is seen to by whoever takes in the events. */
	q.expect_success(2, SIZE);
	q.expect_success(3, SIZE);
	EXPECT_TRUE(same_content(content_.substr(10, 100), drain(&first)));
	EXPECT_TRUE(same_content(content_, drain(&second)));
}

// It is the first event of its request.
TEST_F(QueueOptions, InformationComesFirst)
{
	constexpr uint64_t MANY = 200;
	std::map<uint64_t, int> seen;
	sfd_queue *q = sfd_queue_new(srv(), MANY);
	const Fd null(open("/dev/null", O_WRONLY | O_CLOEXEC));
	sfd_opts opts = {};
	sfd_event e;
	uint64_t over = 0;

	opts.flags = SFD_WANT_INFO;
	for (uint64_t i = 0; i < MANY; i++)
		ASSERT_EQ(0, sfd_queue_send(q, "file", null, 0, 0, &opts, i));
	while (over < MANY) {
		ASSERT_TRUE(await_event(q, &e));
		ASSERT_LT(e.user_data, MANY);
		EXPECT_EQ(seen[e.user_data]++, e.type == SFD_EV_INFO ? 0 : 1);
		over += e.type == SFD_EV_DONE;
	}
	sfd_queue_free(q);
}

// One that is refused has none, nor one for a file that is not there.
TEST_F(QueueOptions, NoInformationOfWhatWasRefused)
{
	Queue q(srv());
	sfd_opts opts = {};
	const Ends pipe = make_pipe();

	opts.flags = SFD_WANT_INFO | SFD_WANT_PROGRESS;
	q.send("missing", pipe.in, 1, &opts);
	q.open("missing", 2);
	q.send("file", pipe.out, 3, &opts);
	q.finish();
	q.expect_end(1, ENOENT);
	q.expect_end(2, ENOENT);
	q.expect_end(3, EBADF);
	for (uint64_t i = 1; i <= 3; i++)
		EXPECT_EQ(0u, q.of(i).infos);
}

TEST_F(QueueOptions, OpensAlwaysHaveInformation)
{
	Queue q(srv());
	sfd_opts opts = {};

	opts.flags = SFD_WANT_INFO;
	q.open("file", 1, nullptr, 4000, 0);
	q.open("file", 2, &opts, 0, 7);
	expect_about_file(q.info_of(1), 4000, 1000);
	expect_about_file(q.info_of(2), 0, 7);
	EXPECT_NE(q.info_of(1).txnid, q.info_of(2).txnid);
	q.cancel(1);
	q.cancel(2);
	q.finish();
}

// ---- Progress

class QueueProgress : public QueueOptions
{
      protected:
	static constexpr size_t LARGE = 64 << 20, STEP = 1 << 20;

	void SetUp() override
	{
		QueueOptions::SetUp();
		const Fd file(::open(in_root("large").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));

		ASSERT_EQ(0, fchmod(file, 0644));
		ASSERT_EQ(0, ftruncate(file, LARGE));
	}

	// Takes in the whole file, slowly enough for progress to be worth a word: how long it took.
	Clock::duration read_slowly(Queue &q, int peer, uint64_t user_data)
	{
		const auto begin = Clock::now();
		std::string buf(STEP, '\0');
		size_t got = 0;

		EXPECT_EQ(0, q.submit());
		while (got < LARGE) {
			EXPECT_NE(0, await(peer, POLLIN));
			const ssize_t n = recv(peer, buf.data(), buf.size(), MSG_DONTWAIT);

			if (n <= 0) {
				ADD_FAILURE() << "after " << got << " bytes: " << strerror(errno);
				break;
			}
			got += static_cast<size_t>(n);
			/* Time itself is what this is about. */
			std::this_thread::sleep_for(5ms);
			q.reap();
			EXPECT_LE(q.of(user_data).bytes, LARGE);
		}
		q.expect_success(user_data, LARGE);
		return Clock::now() - begin;
	}
};

TEST_F(QueueProgress, OfASlowTransfer)
{
	sfd_opts opts = {};
	Ends ends = make_tcp_pair();
	Queue q(srv());

	opts.flags = SFD_WANT_PROGRESS;
	q.send("large", ends.in, 1, &opts);
	const auto took = read_slowly(q, ends.out, 1);
	const size_t events = q.of(1).progress.size();
	EXPECT_LE(events, static_cast<size_t>(took / 100ms) + 1) << "more than ten a second";
	if (took > 300ms) {
		EXPECT_GE(events, 1u);
	}
	for (const sfd_event &e : q.of(1).progress) {
		EXPECT_LT(0u, e.bytes);
		EXPECT_EQ(e.bytes, e.written);
	}
	EXPECT_EQ(0u, q.of(1).infos);
}

TEST_F(QueueProgress, NoneWithoutAsking)
{
	sfd_opts opts = {};
	Ends ends = make_tcp_pair();
	Queue q(srv());

	opts.flags = SFD_WANT_INFO;
	q.send("large", ends.in, 1, &opts);
	read_slowly(q, ends.out, 1);
	EXPECT_EQ(0u, q.of(1).progress.size());
}

// Of what was opened first: as the second message says. (What the first one says of it is not told.)
TEST_F(QueueProgress, OfASecondMessage)
{
	sfd_opts opts = {};
	Ends ends = make_tcp_pair();
	Queue q(srv());

	opts.flags = SFD_WANT_PROGRESS;
	q.open("large", 1, &opts);
	q.send_open(1, ends.in, &opts);
	const auto took = read_slowly(q, ends.out, 1);
	if (took > 300ms) {
		EXPECT_GE(q.of(1).progress.size(), 1u);
	}
}

// ---- What cannot be

TEST_F(QueueOptions, UnknownOnesAreInvalid)
{
	Queue q(srv());
	sfd_opts opts = {};

	for (unsigned bit = 0; bit < 32; bit++) {
		if (bit >= 1 && bit <= 6)
			continue;
		opts.flags = 1u << bit;
		expect_refused_options(q, opts, EINVAL);
		opts.flags |= SFD_WANT_INFO;
		expect_refused_options(q, opts, EINVAL);
	}
	opts.flags = 0;
	for (uint64_t &reserved : opts.reserved) {
		reserved = 1;
		expect_refused_options(q, opts, EINVAL);
		reserved = 0;
	}
}

TEST_F(QueueOptions, HeadersThatCannotBe)
{
	Queue q(srv());
	std::string text(32 * 1024, 'h');
	std::vector<iovec> many(65, iovec{text.data(), 1});
	iovec nothing = {nullptr, 1}, all = {text.data(), text.size()}, few = {text.data(), 40};
	sfd_opts opts = {};

	for (const int count : {-1, 65}) {
		opts.headers = many.data();
		opts.hdr_cnt = count;
		expect_refused_options(q, opts, EINVAL);
		opts = {};
		opts.trailers = many.data();
		opts.trl_cnt = count;
		expect_refused_options(q, opts, EINVAL);
		opts = {};
	}
	opts.hdr_cnt = 1; /* and no headers */
	expect_refused_options(q, opts, EINVAL);
	opts.headers = &nothing;
	expect_refused_options(q, opts, EINVAL);
	opts.headers = &all; /* with the path, that is too much */
	expect_refused_options(q, opts, EMSGSIZE);
	all.iov_len = SIZE_MAX;
	expect_refused_options(q, opts, EMSGSIZE);
	/* An open sends none. */
	opts.headers = &few;
	EXPECT_EQ(-1, sfd_queue_open(q, "file", 0, 0, &opts, 1));
	EXPECT_EQ(EINVAL, errno);
	/* Places outside the headers, or on each other. */
	opts.headers = &few;
	constexpr unsigned bad[][2] = {{21, 0}, {0, 12}, {UINT_MAX, 0}, {0, UINT_MAX}, {1, 11}, {11, 1}};
	for (const auto &[size_at, mtime_at] : bad) {
		opts.hdr_size_at = size_at;
		opts.hdr_mtime_at = mtime_at;
		expect_refused_options(q, opts, EINVAL);
	}
	opts = {};
	opts.hdr_size_at = 1;
	expect_refused_options(q, opts, EINVAL);
}

// The second message is refused for them too, and then the file still waits.
TEST_F(QueueOptions, OfSecondMessages)
{
	Queue q(srv());
	Ends pipe = make_pipe();
	sfd_opts opts = {};

	q.open("file", 1);
	const size_t txnid = q.info_of(1).txnid;
	opts.flags = 1u << 20;
	EXPECT_EQ(-1, sfd_queue_send_open(q, txnid, pipe.in, &opts));
	EXPECT_EQ(EINVAL, errno) << strerror(errno);
	opts.flags = 0;
	opts.same_as = &q.info_of(1); /* it is that file, open */
	EXPECT_EQ(-1, sfd_queue_send_open(q, txnid, pipe.in, &opts));
	EXPECT_EQ(EINVAL, errno) << strerror(errno);
	opts.same_as = nullptr;
	opts.reserved[7] = 1;
	EXPECT_EQ(-1, sfd_queue_send_open(q, txnid, pipe.in, &opts));
	EXPECT_EQ(EINVAL, errno) << strerror(errno);
	q.send_open(1, pipe.in);
	q.expect_success(1, SIZE);
	EXPECT_TRUE(same_content(content_, drain(&pipe)));
}

// ---- Members of the events

// Whoever takes in the events sees to the members that are always the same.
TEST_F(QueueOptions, EndOfACancelledTransferSaysWhatArrived)
{
	constexpr size_t LARGE = 8 << 20;
	const std::string content = add_file("big", LARGE, 2);
	Ends pipe = make_pipe();
	Queue q(srv());
	sfd_opts opts = {};

	opts.flags = SFD_WANT_INFO;
	q.send("big", pipe.in, 1, &opts);
	ASSERT_EQ(LARGE, q.info_of(1).size);
	ASSERT_NE(0, await(pipe.out, POLLIN));
	q.cancel(1);
	q.expect_end(1, ECANCELED);
	const std::string arrived = drain(&pipe);
	EXPECT_EQ(arrived.size(), q.of(1).bytes);
	EXPECT_EQ(arrived.size(), q.of(1).written);
	EXPECT_TRUE(same_content(content.substr(0, arrived.size()), arrived));
}

TEST_F(QueueOptions, EndOfOneThatFailedSaysWhatArrived)
{
	constexpr size_t LARGE = 8 << 20;
	const std::string content = add_file("big", LARGE, 2);
	Ends pipe = make_pipe();
	Queue q(srv());

	q.send("big", pipe.in, 1);
	ASSERT_EQ(0, q.submit());
	ASSERT_NE(0, await(pipe.out, POLLIN));
	ASSERT_EQ(0, truncate(in_root("big").c_str(), 100000));
	std::string arrived(LARGE, '\0');
	size_t got = 0;
	/* As much as comes until it ends. */
	while (q.outstanding() > 0) {
		if (await(pipe.out, POLLIN, 1ms) != 0) {
			const ssize_t n = read(pipe.out, &arrived[got], LARGE - got);
			ASSERT_GT(n, 0);
			got += static_cast<size_t>(n);
		}
		q.reap();
	}
	arrived.resize(got);
	arrived += drain(&pipe);
	q.expect_end(1, SFD_STAT_TRUNCATED);
	EXPECT_EQ(arrived.size(), q.of(1).bytes);
	/* What was on its way already and lay behind the new end reads as zeros. */
	EXPECT_TRUE(same_content(content.substr(0, 100000), arrived.substr(0, 100000)));
}

} // namespace
