// SPDX-License-Identifier: BSD-2-Clause
// Parts of files, and what the information frame says of them.
#include "test/support/fixture.h"

#include <cerrno>
#include <climits>
#include <cstring>
#include <fcntl.h>
#include <sendfiled/sendfiled.h>
#include <sys/stat.h>

namespace
{

constexpr size_t SIZE = 10000;
constexpr off_t GiB = off_t{1} << 30;

class Range : public SfdTest
{
      protected:
	void SetUp() override
	{
		SfdTest::SetUp();
		start();
		content_ = add_file("file", SIZE);
	}

	// Sends the range to a pipe, and reads it with the other two operations as well.
	void check(const char *path, off_t offset, size_t len, const std::string &expected)
	{
		Dest sent({Kind::Pipe, false}, dir()), opened({Kind::Pipe, false}, dir());
		sfd_file_info info;

		sent.start_reading();
		const Fd a(sfd_send(srv(), path, sent.fd(), offset, len, false));
		const Outcome o = read_outcome(a);
		expect_success(o, expected.size());
		EXPECT_EQ(offset, o.info().offset);
		EXPECT_TRUE(same_content(expected, sent.finish()));

		const Fd b(sfd_read(srv(), path, offset, len, false));
		const ReadResult r = read_file_pipe(b);
		EXPECT_EQ(expected.size(), r.info.size);
		EXPECT_EQ(offset, r.info.offset);
		EXPECT_TRUE(same_content(expected, r.content));

		opened.start_reading();
		const Fd c(sfd_open(srv(), path, offset, len, false));
		ASSERT_TRUE(read_info(c, &info));
		EXPECT_EQ(expected.size(), info.size);
		EXPECT_EQ(offset, info.offset);
		ASSERT_TRUE(sfd_send_open(srv(), info.txnid, opened.fd()));
		expect_success(read_rest(c, info), expected.size());
		EXPECT_TRUE(same_content(expected, opened.finish()));
	}

	// All three calls fail at once with that errno, and the daemon hears of none.
	void check_refused(const char *path, off_t offset, size_t len, int err)
	{
		const Ends pipe = make_pipe();

		EXPECT_EQ(-1, sfd_send(srv(), path, pipe.in, offset, len, false));
		EXPECT_EQ(err, errno);
		EXPECT_EQ(-1, sfd_read(srv(), path, offset, len, false));
		EXPECT_EQ(err, errno);
		EXPECT_EQ(-1, sfd_open(srv(), path, offset, len, false));
		EXPECT_EQ(err, errno);
	}

	std::string content_;
};

TEST_F(Range, Inside)
{
	check("file", 0, 1, content_.substr(0, 1));
	check("file", 1, 0, content_.substr(1));
	check("file", 4096, 4096, content_.substr(4096, 4096));
	check("file", 4095, 2, content_.substr(4095, 2));
	check("file", SIZE - 1, 1, content_.substr(SIZE - 1));
	check("file", 0, SIZE, content_);
}

TEST_F(Range, IsCutAtTheEnd)
{
	check("file", 0, SIZE + 1, content_);
	check("file", SIZE - 5, 6, content_.substr(SIZE - 5));
	check("file", 9000, SIZE_MAX / 4, content_.substr(9000));
	check("file", 1, static_cast<size_t>(LONG_MAX) - 1, content_.substr(1));
}

TEST_F(Range, AtOrPastTheEndIsEmpty)
{
	check("file", SIZE, 0, "");
	check("file", SIZE, 1, "");
	check("file", SIZE + 1, 0, "");
	check("file", SIZE + 1, 100, "");
	check("file", LONG_MAX, 0, "");
	check("file", LONG_MAX - 1, 1, "");
}

TEST_F(Range, OfAnEmptyFile)
{
	add_file("empty", 0);
	check("empty", 0, 0, "");
	check("empty", 0, 1, "");
	check("empty", 7, 7, "");
}

TEST_F(Range, BeyondFourGiBInASparseFile)
{
	const std::string tail = make_content(5000, 3);
	const off_t at = 5 * GiB + 123;
	const Fd fd(open(in_root("sparse").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));

	ASSERT_EQ(0, fchmod(fd, 0644));
	ASSERT_EQ(static_cast<ssize_t>(tail.size()), pwrite(fd, tail.data(), tail.size(), at));
	check("sparse", at, 0, tail);
	check("sparse", at + 1000, 1000, tail.substr(1000, 1000));
	check("sparse", at - 100, 200, std::string(100, '\0') + tail.substr(0, 100));
	check("sparse", at, 6 * static_cast<size_t>(GiB), tail);
	check("sparse", 4 * GiB - 1, 2, std::string(2, '\0'));
}

// Its last bytes are there at once, and whoever has asked for all of it can change his mind.
TEST_F(Range, OfTerabytesWithoutData)
{
	constexpr off_t TERABYTES = off_t{8} << 40;

	add_file("sparse", 0);
	if (truncate(in_root("sparse").c_str(), TERABYTES) < 0)
		GTEST_SKIP() << "no such files here: " << strerror(errno);
	check("sparse", TERABYTES - 100, 0, std::string(100, '\0'));
	check("sparse", TERABYTES / 2, 3000, std::string(3000, '\0'));

	Ends pipe = make_pipe();
	sfd_file_info info;
	char bytes[65536];
	const Fd status(sfd_send(srv(), "sparse", pipe.in, 0, 0, false));
	pipe.in.reset();
	ASSERT_TRUE(read_info(status, &info));
	EXPECT_EQ(static_cast<uint64_t>(TERABYTES), info.size);
	for (size_t got = 0; got < 4 << 20;) {
		const ssize_t n = read(pipe.out, bytes, sizeof bytes);

		ASSERT_GT(n, 0);
		got += static_cast<size_t>(n);
	}
	ASSERT_TRUE(sfd_cancel(srv(), info.txnid));
	const Outcome o = read_rest(status, info);
	EXPECT_EQ(ECANCELED, o.stat());
	EXPECT_GE(o.total(), uint64_t{4} << 20);
	EXPECT_LT(o.total(), uint64_t{1} << 30);
}

TEST_F(Range, WhatNoFileCanHaveFailsAtOnce)
{
	check_refused("file", -1, 0, EINVAL);
	check_refused("file", LONG_MIN, 0, EINVAL);
	check_refused("file", -1, 1, EINVAL);
	check_refused("file", LONG_MAX, 1, EINVAL);
	check_refused("file", 1, LONG_MAX, EINVAL);
	check_refused("file", 0, SIZE_MAX, EINVAL);
	check_refused("file", 1, SIZE_MAX, EINVAL);
}

TEST_F(Range, InformationIsTheFiles)
{
	const timespec times[2] = {{1000000000, 123456789}, {1234567890, 987654321}};
	sfd_file_info info;
	struct stat st = {};

	ASSERT_EQ(0, utimensat(AT_FDCWD, in_root("file").c_str(), times, 0));
	ASSERT_EQ(0, stat(in_root("file").c_str(), &st));
	const Fd status(sfd_open(srv(), "file", 100, 200, false));
	ASSERT_TRUE(read_info(status, &info));
	EXPECT_EQ(SFD_FILE_INFO, info.cmd);
	EXPECT_EQ(200u, info.size);
	EXPECT_EQ(SIZE, info.file_size);
	EXPECT_EQ(100, info.offset);
	EXPECT_EQ(1234567890, info.mtime);
	EXPECT_EQ(987654321u, info.mtime_nsec);
	EXPECT_EQ(1000000000, info.atime);
	EXPECT_EQ(123456789u, info.atime_nsec);
	EXPECT_EQ(st.st_ctim.tv_sec, info.ctime);
	EXPECT_EQ(st.st_ctim.tv_nsec, info.ctime_nsec);
	EXPECT_EQ(st.st_dev, info.dev);
	EXPECT_EQ(st.st_ino, info.ino);
	EXPECT_EQ(0u, info.tag);
	EXPECT_EQ(0u, info.reserved0);
	for (uint64_t reserved : info.reserved)
		EXPECT_EQ(0u, reserved);
}

} // namespace
