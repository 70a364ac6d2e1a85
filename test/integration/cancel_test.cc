// SPDX-License-Identifier: BSD-2-Clause
// Cancelled at every stage of its life.
#include "test/support/fixture.h"

#include <cerrno>
#include <fcntl.h>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <sys/stat.h>

namespace
{

class Cancel : public SfdTest
{
      protected:
	static constexpr size_t LARGE = 16 << 20;

	void SetUp() override
	{
		SfdTest::SetUp();
		start();
		content_ = add_file("large", LARGE);
	}

	std::string content_;
};

TEST_F(Cancel, OpenedFile)
{
	Dest dest({Kind::Pipe, false}, dir());
	sfd_file_info info;
	const Fd status(sfd_open(srv(), "large", 0, 0, false));

	ASSERT_TRUE(read_info(status, &info));
	ASSERT_TRUE(sfd_cancel(srv(), info.txnid));
	const Outcome o = read_rest(status, info);
	EXPECT_EQ(SFD_XFER_STAT, o.terminal_kind());
	EXPECT_EQ(ECANCELED, o.stat());
	EXPECT_EQ(0u, o.total());
	expect_idle(1s);
	ASSERT_TRUE(sfd_send_open(srv(), info.txnid, dest.fd()));
	canary();
	EXPECT_EQ("", dest.finish());
}

class CancelEach : public Cancel, public ::testing::WithParamInterface<DestType>
{
      protected:
	// What the terminal frame says was delivered is what arrives, to the byte.
	void check_exact(const Outcome &o, Dest &dest)
	{
		EXPECT_EQ(SFD_XFER_STAT, o.terminal_kind());
		EXPECT_EQ(ECANCELED, o.stat()) << sfd_strstat(o.stat());
		const std::string arrived = dest.finish();
		EXPECT_EQ(o.total(), arrived.size());
		EXPECT_TRUE(same_content(content_.substr(0, arrived.size()), arrived));
		EXPECT_LT(arrived.size(), LARGE);
		expect_idle(1s);
		expect_same_workers();
	}
};

TEST_P(CancelEach, BlockedTransfer)
{
	Dest dest(GetParam(), dir());
	sfd_file_info info;
	const Fd status(sfd_send(srv(), "large", dest.fd(), 0, 0, false));

	ASSERT_TRUE(read_info(status, &info));
	ASSERT_NE(0, await(dest.peer(), POLLIN));
	ASSERT_TRUE(sfd_cancel(srv(), info.txnid));
	check_exact(read_rest(status, info), dest);
}

TEST_P(CancelEach, BlockedTransferOfAnOpenedFile)
{
	Dest dest(GetParam(), dir());
	sfd_file_info info;
	const Fd status(sfd_open(srv(), "large", 0, 0, false));

	ASSERT_TRUE(read_info(status, &info));
	ASSERT_TRUE(sfd_send_open(srv(), info.txnid, dest.fd()));
	ASSERT_NE(0, await(dest.peer(), POLLIN));
	ASSERT_TRUE(sfd_cancel(srv(), info.txnid));
	check_exact(read_rest(status, info), dest);
}

INSTANTIATE_TEST_SUITE_P(
	All, CancelEach, ::testing::ValuesIn(stallable_dest_types()), [](const auto &i) { return name_of(i.param); });

// A transfer that never waits for its destination is still cancelled between two turns, or was over before.
class CancelMoving : public Cancel, public ::testing::WithParamInterface<DestType>
{
};

TEST_P(CancelMoving, EndsEarlyOrInSuccess)
{
	constexpr size_t HUGE_SIZE = 512 << 20;
	Dest dest(GetParam(), dir());
	const Fd file(open(in_root("huge").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
	sfd_file_info info;

	ASSERT_EQ(0, fchmod(file, 0644));
	ASSERT_EQ(0, ftruncate(file, HUGE_SIZE));
	dest.start_reading();
	const Fd status(sfd_send(srv(), "huge", dest.fd(), 0, 0, false));
	ASSERT_TRUE(read_info(status, &info));
	ASSERT_TRUE(sfd_cancel(srv(), info.txnid));
	const Outcome o = read_rest(status, info);
	const std::string arrived = dest.finish();

	EXPECT_TRUE(o.stat() == ECANCELED || o.stat() == SFD_STAT_OK) << sfd_strstat(o.stat());
	if (GetParam().kind != Kind::Null) {
		EXPECT_EQ(o.total(), arrived.size() - (dest.is_file() ? Dest::before.size() : 0));
	}
	expect_idle(1s);
}

INSTANTIATE_TEST_SUITE_P(Each, CancelMoving,
	::testing::Values(DestType{Kind::File, false}, DestType{Kind::Tcp, true}, DestType{Kind::Pipe, false},
		DestType{Kind::Null, false}),
	[](const auto &i) { return name_of(i.param); });

TEST_F(Cancel, ReadJustEnds)
{
	unsigned char frame[SFD_MAX_RESP_SIZE];
	sfd_file_info info;
	const Fd pipe(sfd_read(srv(), "large", 0, 0, false));
	std::string arrived(LARGE, '\0');
	size_t n = 0;
	ssize_t got;

	ASSERT_EQ(Got::Frame, read_frame(pipe, frame));
	ASSERT_TRUE(sfd_unmarshal_file_info(&info, frame));
	ASSERT_TRUE(sfd_cancel(srv(), info.txnid));
	canary();
	expect_idle(1s);
	while (await(pipe, POLLIN) != 0 && (got = read(pipe, &arrived[n], arrived.size() - n)) > 0)
		n += static_cast<size_t>(got);
	EXPECT_LT(n, LARGE);
	arrived.resize(n);
	EXPECT_TRUE(same_content(content_.substr(0, n), arrived));
}

TEST_F(Cancel, FinishedTransferStaysFinished)
{
	Dest dest({Kind::Tcp, false}, dir());

	dest.start_reading();
	const Fd status(sfd_send(srv(), "large", dest.fd(), 0, 0, false));
	const Outcome o = read_outcome(status);
	expect_success(o, LARGE);
	for (int i = 0; i < 5; i++)
		ASSERT_TRUE(when_room(srv(), [&] { return sfd_cancel(srv(), o.info().txnid); }));
	canary();
	EXPECT_TRUE(same_content(content_, dest.finish()));
	expect_same_workers();
}

TEST_F(Cancel, Twice)
{
	Dest dest({Kind::Unix, true}, dir());
	sfd_file_info info;
	const Fd status(sfd_send(srv(), "large", dest.fd(), 0, 0, false));

	ASSERT_TRUE(read_info(status, &info));
	ASSERT_TRUE(sfd_cancel(srv(), info.txnid));
	ASSERT_TRUE(sfd_cancel(srv(), info.txnid));
	EXPECT_EQ(ECANCELED, read_rest(status, info).stat());
}

} // namespace
