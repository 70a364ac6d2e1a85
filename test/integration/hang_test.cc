// SPDX-License-Identifier: BSD-2-Clause
// Files whose file system does not answer: only whoever wants them waits.
#include "test/support/cold_fixture.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <sendfiled/sendfiled.h>

namespace
{

class Hang : public ColdTest
{
      protected:
	static constexpr size_t SIZE = 100000;
};

// What the longest of many transfers takes says as much of the machine as of the daemon, which may not be alone there. So
// the same is measured without the hang, a difference below 20 ms counts as none, and the best of three tries counts.
TEST_F(Hang, LongestOfManyTransfersIsNoLongerWhileAReadHangs)
{
	constexpr unsigned MANY = 10000;
	constexpr auto FLOOR = 20ms, LIMIT = 100ms;
	Clock::duration without{}, with{};
	bool good = false;

	limit(180);
	ASSERT_NO_FATAL_FAILURE(serve());
	for (int i = 0; i < 3 && !good; i++) {
		const std::string name = "file" + std::to_string(i), content = add_slow(name, SIZE);

		without = run_hot(MANY);
		fs().hold("read", name);
		Request r = send("slow/" + name);
		fs().await("read", 1, name);
		with = run_hot(MANY);
		EXPECT_LE(1U, fs().held("read", name));
		fs().release();
		r.expect(content);
		ASSERT_FALSE(HasFailure());
		good = with <= std::max<Clock::duration>(3 * without, FLOOR) && with < LIMIT;
	}
	EXPECT_TRUE(good) << "the longest took " << with / 1us << " us with a read that hangs, " << without / 1us
			  << " us without";
	expect_same_workers();
	expect_nothing_left();
}

// What is held: of the file, or of a directory that leads to it. (Not in the same directory as the other file, since the
// kernel may look up one name at a time there.)
struct Step {
	const char *op, *held;
};

class HangStep : public Hang, public ::testing::WithParamInterface<Step>
{
};

TEST_P(HangStep, OnlyItsOwnTransferWaits)
{
	const std::string content = add_slow("dir/sub/file", SIZE), other = add_slow("other", SIZE, 2);

	ASSERT_NO_FATAL_FAILURE(serve());
	fs().hold(GetParam().op, GetParam().held);
	Request r = send("slow/dir/sub/file");
	fs().await(GetParam().op, 1, GetParam().held);
	run_hot();
	send("slow/other").expect(other);
	EXPECT_EQ(1U, fs().held(GetParam().op, GetParam().held));
	EXPECT_TRUE(r.is_quiet());
	fs().release();
	r.expect(content);
	expect_same_workers();
	expect_nothing_left();
}

// The same for what is opened first and sent later.
TEST_P(HangStep, OnlyItsOwnOpenWaits)
{
	const std::string content = add_slow("dir/sub/file", SIZE);
	sfd_file_info info;
	Dest dest({Kind::Unix, true}, dir());

	ASSERT_NO_FATAL_FAILURE(serve());
	fs().hold(GetParam().op, GetParam().held);
	const Fd status(sfd_open(srv(), "slow/dir/sub/file", 0, 0, false));
	fs().await(GetParam().op, 1, GetParam().held);
	run_hot();
	EXPECT_EQ(0, await(status, POLLIN, 0ms));
	fs().release();
	ASSERT_TRUE(read_info(status, &info));
	EXPECT_EQ(SIZE, info.size);
	dest.start_reading();
	ASSERT_TRUE(sfd_send_open(srv(), info.txnid, dest.fd()));
	expect_success(read_rest(status, info), SIZE);
	EXPECT_TRUE(same_content(content, dest.finish()));
	expect_nothing_left();
}

INSTANTIATE_TEST_SUITE_P(All, HangStep,
	::testing::Values(Step{"lookup", "dir/sub"}, Step{"lookup", "dir/sub/file"}, Step{"open", "dir/sub/file"},
		Step{"getattr", "dir/sub/file"}),
	[](const auto &i) {
		return std::string(i.param.op) + (std::string(i.param.held) == "dir/sub" ? "OfDirectory" : "");
	});

// The outcome does not wait for close(2), whoever calls it.
TEST_F(Hang, CloseDelaysNobody)
{
	const std::string content = add_slow("file", SIZE), other = add_slow("other", SIZE, 2);

	ASSERT_NO_FATAL_FAILURE(serve());
	fs().hold("flush", "file");
	send("slow/file").expect(content);
	/* Both who opened and who read it. */
	EXPECT_EQ(2U, fs().await("flush", 2, "file"));
	run_hot();
	send("slow/other").expect(other);
	send("slow/file").expect(content);
	EXPECT_LE(2U, fs().held("flush", "file"));
	fs().release();
	expect_same_workers();
	expect_nothing_left();
}

// Nor does a file that is opened and closed again without being sent keep anybody.
TEST_F(Hang, CloseOfAnAbandonedOpenDelaysNobody)
{
	sfd_file_info info;

	add_slow("file", SIZE);
	ASSERT_NO_FATAL_FAILURE(serve());
	fs().hold("flush");
	{
		const Fd status(sfd_open(srv(), "slow/file", 0, 0, false));
		ASSERT_TRUE(read_info(status, &info));
	}
	run_hot();
	EXPECT_EQ(1U, fs().await("flush"));
	fs().release();
	expect_same_workers();
	expect_nothing_left();
}

// What cannot be read in the end is an error like any other.
TEST_F(Hang, ErrorsAfterAWaitAreReported)
{
	ASSERT_NO_FATAL_FAILURE(serve());
	add_slow("dir/file", SIZE);
	for (const char *op : {"lookup", "open"}) {
		fs().hold(op, "dir/file");
		Request r = send("slow/dir/file");
		fs().await(op, 1, "dir/file");
		fs().fail(op, EIO, "dir/file");
		run_hot(10);
		fs().release(op, "dir/file");
		expect_refused(r.finish(), EIO);
		EXPECT_EQ("", r.arrived);
		fs().fail(op, 0, "dir/file");
	}
	expect_refused(send("slow/dir/other").finish(), ENOENT);
	expect_refused(send("slow/dir").finish(), EINVAL);
	expect_idle();
}

} // namespace
