// SPDX-License-Identifier: BSD-2-Clause
// Files that change while they are sent.
#include "test/support/fixture.h"

#include <cerrno>
#include <fcntl.h>
#include <poll.h>
#include <sendfiled/sendfiled.h>

namespace
{

class Change : public SfdTest, public ::testing::WithParamInterface<DestType>
{
      protected:
	static constexpr size_t SIZE = 32 << 20;

	void SetUp() override
	{
		SfdTest::SetUp();
		start();
		content_ = add_file("file", SIZE);
	}

	// Opens the file, then changes it, then sends it: no race decides what is seen.
	Outcome send_after(const DestType &type, const std::function<void()> &change, std::string *arrived)
	{
		Dest dest(type, dir());
		sfd_file_info info;
		const Fd status(sfd_open(srv(), "file", 0, 0, false));

		if (!read_info(status, &info))
			return {};
		EXPECT_EQ(SIZE, info.size);
		change();
		dest.start_reading();
		EXPECT_TRUE(sfd_send_open(srv(), info.txnid, dest.fd()));
		Outcome o = read_rest(status, info);
		*arrived = dest.finish();
		if (dest.is_file())
			arrived->erase(0, Dest::before.size());
		return o;
	}

	std::string content_;
};

TEST_P(Change, ShorterBeforeItIsSent)
{
	for (size_t now : {size_t{0}, size_t{1}, size_t{4096}, SIZE / 2 + 5}) {
		std::string arrived;

		add_file("file", SIZE);
		const Outcome o = send_after(
			GetParam(), [&] { ASSERT_EQ(0, truncate(in_root("file").c_str(), static_cast<off_t>(now))); },
			&arrived);
		EXPECT_EQ(SFD_XFER_STAT, o.terminal_kind());
		EXPECT_EQ(SFD_STAT_TRUNCATED, o.stat());
		EXPECT_EQ(now, o.total());
		EXPECT_TRUE(same_content(content_.substr(0, now), arrived));
	}
}

TEST_P(Change, LongerBeforeItIsSent)
{
	std::string arrived;
	const Outcome o = send_after(
		GetParam(),
		[&] {
			const Fd fd(open(in_root("file").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));

			ASSERT_EQ(9, write(fd, "something", 9));
		},
		&arrived);

	expect_success(o, SIZE);
	EXPECT_TRUE(same_content(content_, arrived));
}

// What is sent is the file that was opened, whatever its name comes to mean.
TEST_P(Change, ReplacedBeforeItIsSent)
{
	std::string arrived;
	const Outcome o = send_after(
		GetParam(),
		[&] {
			write_whole(in_root("other"), "another file");
			ASSERT_EQ(0, rename(in_root("other").c_str(), in_root("file").c_str()));
		},
		&arrived);

	expect_success(o, SIZE);
	EXPECT_TRUE(same_content(content_, arrived));
}

INSTANTIATE_TEST_SUITE_P(Each, Change,
	::testing::Values(DestType{Kind::Pipe, false}, DestType{Kind::Tcp, true}, DestType{Kind::Tcp, false},
		DestType{Kind::Unix, true}, DestType{Kind::File, false}, DestType{Kind::Append, false}),
	[](const auto &i) { return name_of(i.param); });

class Stalled : public Change
{
};

// Shortened, or lengthened, in the middle of its transfer.
TEST_P(Stalled, ChangesOnTheWay)
{
	for (bool shorter : {true, false}) {
		Dest dest(GetParam(), dir());
		sfd_file_info info;

		add_file("file", SIZE);
		const Fd status(sfd_send(srv(), "file", dest.fd(), 0, 0, false));
		ASSERT_TRUE(read_info(status, &info));
		ASSERT_NE(0, await(dest.peer(), POLLIN));
		ASSERT_EQ(0, truncate(in_root("file").c_str(), shorter ? SIZE - 12345 : SIZE + 12345));
		dest.start_reading();
		const Outcome o = read_rest(status, info);
		const size_t expected = shorter ? SIZE - 12345 : SIZE;

		EXPECT_EQ(shorter ? SFD_STAT_TRUNCATED : SFD_STAT_OK, o.stat());
		EXPECT_EQ(expected, o.total());
		EXPECT_TRUE(same_content(content_.substr(0, expected), dest.finish()));
	}
}

INSTANTIATE_TEST_SUITE_P(Each, Stalled,
	::testing::Values(DestType{Kind::Pipe, false}, DestType{Kind::Tcp, true}, DestType{Kind::Tcp, false},
		DestType{Kind::Unix, true}),
	[](const auto &i) { return name_of(i.param); });

// A read has no terminal frame: fewer bytes than promised say that it failed.
class ChangedRead : public Change
{
};

TEST_P(ChangedRead, ShorterOnTheWay)
{
	const Fd pipe(sfd_read(srv(), "file", 0, 0, false));

	ASSERT_NE(0, await(pipe, POLLIN));
	ASSERT_EQ(0, truncate(in_root("file").c_str(), SIZE / 2));
	const ReadResult r = read_file_pipe(pipe);
	EXPECT_EQ(SIZE, r.info.size);
	EXPECT_TRUE(same_content(content_.substr(0, SIZE / 2), r.content));
}

INSTANTIATE_TEST_SUITE_P(Each, ChangedRead, ::testing::Values(DestType{Kind::Pipe, false}),
	[](const auto &i) { return name_of(i.param); });

} // namespace
