// SPDX-License-Identifier: BSD-2-Clause
// Several devices that do not answer at all take some helpers each, and never the last ones: what is on other devices is
// served, if not by many at a time.
#include "test/support/cold_fixture.h"

#include <sendfiled/sendfiled.h>

namespace
{

class Sick : public ColdTest
{
      protected:
	static constexpr size_t SIZE = 300000;
	static constexpr int EACH = 8, COLD = 5;

	// All but fs(), which answers.
	void SetUp() override
	{
		ColdTest::SetUp();
		if (HasFatalFailure() || IsSkipped())
			return;
		for (const char *name : {"sick0", "sick1", "sick2"}) {
			sick_.push_back(&mount(name));
			for (int i = 0; i < EACH; i++)
				sick_.back()->add("dir/" + std::to_string(i), SIZE, static_cast<uint64_t>(i));
		}
		for (int i = 0; i < COLD; i++) {
			slow_.push_back(add_slow("file" + std::to_string(i), SIZE, 50 + static_cast<uint64_t>(i)));
			cold_.push_back(add_cold("cold" + std::to_string(i), SIZE, 60 + static_cast<uint64_t>(i)));
		}
	}

	void TearDown() override
	{
		hung_.clear();
		ColdTest::TearDown();
	}

	// All of them hang, each as often as it may.
	void fall_sick(const char *op)
	{
		for (SlowFs *fs : sick_)
			fs->hold(op);
		for (int i = 0; i < EACH; i++) {
			for (size_t k = 0; k < sick_.size(); k++)
				hung_.push_back(send("sick" + std::to_string(k) + "/dir/" + std::to_string(i)));
		}
		for (SlowFs *fs : sick_)
			fs->await(op);
	}

	void recover()
	{
		for (SlowFs *fs : sick_)
			fs->release();
		for (size_t i = 0; i < hung_.size(); i++)
			hung_[i].expect(make_content(SIZE, i / sick_.size()));
		hung_.clear();
	}

	// What is in memory, what is not, and what is on a device that answers; one by one and together.
	void expect_others_served()
	{
		std::vector<Request> all;
		std::vector<std::string> contents;

		run_hot();
		send("slow/file0").expect(slow_[0]);
		drop_all();
		send("cold0").expect(cold_[0]);
		drop_all();
		for (size_t i = 0; i < slow_.size(); i++) {
			all.push_back(send("slow/file" + std::to_string(i)));
			contents.push_back(slow_[i]);
			all.push_back(send("cold" + std::to_string(i)));
			contents.push_back(cold_[i]);
		}
		for (size_t i = 0; i < all.size(); i++)
			all[i].expect(contents[i]);
		run_hot();
	}

	void drop_all()
	{
		for (int i = 0; i < COLD; i++)
			drop_from_memory(in_root("cold" + std::to_string(i)));
	}

	void run(const char *op, unsigned workers)
	{
		ASSERT_NO_FATAL_FAILURE(serve({}, workers));
		fall_sick(op);
		expect_others_served();
		for (SlowFs *fs : sick_)
			EXPECT_LE(1U, fs->held(op));
		for (Request &r : hung_)
			EXPECT_FALSE(r.dest().saw_end());
		recover();
		/* Nothing was lost: each device can have its share again. */
		expect_others_served();
		expect_same_workers();
		expect_nothing_left();
	}

	std::vector<SlowFs *> sick_;
	std::vector<std::string> slow_, cold_;
	std::vector<Request> hung_;
};

TEST_F(Sick, ThreeDevicesWhoseReadsHang)
{
	run("read", 1);
}

TEST_F(Sick, ThreeDevicesWhoseReadsHangManyWorkers)
{
	run("read", 3);
}

TEST_F(Sick, ThreeDevicesWhoseLookupsHang)
{
	run("lookup", 1);
}

TEST_F(Sick, ThreeDevicesWhoseOpensHang)
{
	run("open", 3);
}

// Not one of them less than if it were alone, and not one more.
TEST_F(Sick, TheFourthHasAllItsHelpers)
{
	constexpr uint64_t PER_DEVICE = 4;
	std::vector<Request> slow;

	for (int i = 0; i < EACH; i++)
		add_slow("fourth" + std::to_string(i), SIZE, static_cast<uint64_t>(i));
	ASSERT_NO_FATAL_FAILURE(serve({}, 2));
	fall_sick("read");
	for (SlowFs *fs : sick_)
		EXPECT_EQ(PER_DEVICE, fs->await("read", PER_DEVICE));
	fs().hold("read");
	for (int i = 0; i < EACH; i++)
		slow.push_back(send("slow/fourth" + std::to_string(i)));
	EXPECT_EQ(PER_DEVICE, fs().await("read", PER_DEVICE));
	send("cold0").expect(cold_[0]);
	run_hot();
	EXPECT_EQ(PER_DEVICE, fs().held("read"));
	fs().release();
	for (size_t i = 0; i < slow.size(); i++)
		slow[i].expect(make_content(SIZE, i));
	for (SlowFs *fs : sick_)
		EXPECT_EQ(PER_DEVICE, fs->held("read"));
	recover();
	expect_others_served();
	expect_same_workers();
	expect_nothing_left();
}

// Those that hang at the end keep their helpers as well, without anybody waiting for the outcome.
TEST_F(Sick, ThreeDevicesWhoseClosesHang)
{
	ASSERT_NO_FATAL_FAILURE(serve());
	for (SlowFs *fs : sick_)
		fs->hold("flush");
	for (int i = 0; i < EACH; i++) {
		for (size_t k = 0; k < sick_.size(); k++)
			hung_.push_back(send("sick" + std::to_string(k) + "/dir/" + std::to_string(i)));
	}
	for (SlowFs *fs : sick_)
		fs->await("flush");
	expect_others_served();
	recover();
	expect_same_workers();
	expect_nothing_left();
}

} // namespace
