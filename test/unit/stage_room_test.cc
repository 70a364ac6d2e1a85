// SPDX-License-Identifier: BSD-2-Clause
// How much can be staged, and that all that was is found again wherever it is moved to.
#include "test/unit/stage_fixture.h"

#include <algorithm>
#include <map>
#include <random>

namespace
{

using namespace staging;

const std::string LONGEST(WIRE_PATH_MAX, 'p');

TEST(StageRoom, IsThereForPathsOfUsualLengthAtAnyDepth)
{
	for (uint32_t depth : {1u, 2u, 63u, 64u, 8192u}) {
		Stage t(depth);

		for (int round = 0; round < 2; round++) {
			EXPECT_EQ(depth, t.fill(std::string(96, 'u')));
			t.check_places();
			t.send_all();
		}
	}
}

TEST(StageRoom, OneOfTheLongestAtATimeForEver)
{
	Stage t(1);

	for (int n = 0; n < 2000; n++) {
		const uint32_t i = t.add(LONGEST);

		if (n % 3 == 0)
			t.drop(i);
		else
			EXPECT_EQ(1u, t.send());
	}
}

TEST(StageRoom, WhenFullItSaysSoAndLosesNothing)
{
	for (uint32_t depth : {64u, 1000u}) {
		Stage t(depth);
		const uint32_t n = t.fill(LONGEST), live = t.s.live;

		EXPECT_GE(n, 15u);
		EXPECT_LT(n, depth);
		const uint32_t i = slots_take(t.all(), 0);
		EXPECT_EQ(EAGAIN, t.add_to(i, WIRE_OP_SEND, LONGEST));
		EXPECT_EQ(live, t.s.live);
		slots_give_back(t.all(), i);
		t.check_places();
		t.send_all();
		EXPECT_EQ(n, t.fill(LONGEST));
		t.send_all();
	}
}

TEST(StageRoom, IsThereAgainForWhatWasSent)
{
	Stage t(1000);

	t.fill(LONGEST);
	for (int round = 0; round < 20; round++) {
		const unsigned sent = t.send(7);

		EXPECT_EQ(sent, t.fill(LONGEST));
		t.check_places();
	}
	t.send_all();
}

TEST(StageRoom, IsThereAgainForWhatWasDropped)
{
	std::mt19937 random(1);
	Stage t(1000);

	t.fill(LONGEST);
	for (int round = 0; round < 50; round++) {
		const unsigned n = 1 + static_cast<unsigned>(random() % 10);

		for (unsigned i = 0; i < n; i++)
			t.drop(static_cast<uint32_t>(t.expected[random() % t.expected.size()].tag));
		EXPECT_EQ(n, t.fill(LONGEST));
		t.check_places();
	}
	t.send_all();
}

// Places in the line are used up by what is dropped, too, and by small requests sooner than the bytes.
TEST(StageRoom, DroppingAndAddingNeverEnds)
{
	for (uint32_t depth : {1u, 2u, 3u, 64u, 500u}) {
		Stage t(depth);

		t.fill("f");
		for (uint32_t n = 0; n < 20 * depth + 1000; n++) {
			t.drop(static_cast<uint32_t>(t.expected[n * 7 % t.expected.size()].tag));
			ASSERT_EQ(1u, t.fill("g"));
		}
		t.check_places();
		t.send_all();
	}
}

// A slot that was dropped may be in use again when the line is put together: its new place counts.
TEST(StageRoom, PuttingTogetherTellsOnlyWhoIsStillThere)
{
	Stage t(3);
	const uint32_t kept = t.add("kept");

	for (int n = 0; n < 500; n++) {
		const uint32_t i = t.add("again");

		EXPECT_NE(kept, i);
		t.check_places();
		t.drop(i);
	}
	t.check_places();
	EXPECT_EQ(1u, t.send());
}

// ---- Anything, in any order

class Steps
{
      public:
	Steps(uint32_t depth, unsigned seed) : t_(depth), random_(seed)
	{
	}

	// In turn more is added than sent, and the other way round.
	void step()
	{
		const unsigned what = random_() % (steps_++ / 500 % 2 ? 32 : 14);

		if (what < 9)
			add();
		else if (what < 11)
			second();
		else if (what < 13)
			drop();
		else if (what < 14)
			answer();
		else if (t_.s.live > 0)
			send();
		ASSERT_EQ(t_.expected.size(), t_.s.live);
		if (random_() % 8 == 0)
			t_.check_places();
	}
	void finish()
	{
		while (t_.s.live > 0 && !testing::Test::HasFailure())
			send();
		EXPECT_TRUE(t_.expected.empty());
	}
	unsigned refused = 0;

      private:
	// There must be room unless what is live takes it all.
	void stage(uint32_t i, wire_op op, const std::string &path)
	{
		const wire_request r = make_request(op, path);
		const size_t size = wire_request_bytes(&r);
		const int err = t_.add_to(i, op, path, op == WIRE_OP_SEND_OPEN ? i + 1 : 0);

		ASSERT_EQ(bytes_ + size > t_.s.bytes_room ? EAGAIN : 0, err);
		refused += err != 0;
		if (err == 0) {
			t_.expected.push_back(t_.last);
			bytes_ += size;
			size_of_[i] = size;
		} else if (op != WIRE_OP_SEND_OPEN) {
			slots_give_back(t_.all(), i);
		}
	}
	void add()
	{
		const uint32_t i = slots_take(t_.all(), 0);

		if (i == SLOT_NONE)
			return;
		t_.slot(i).is_open = random_() % 3 == 0;
		stage(i, t_.slot(i).is_open ? WIRE_OP_OPEN : WIRE_OP_SEND,
			std::string(random_() % (random_() % 2 ? WIRE_PATH_MAX : 100) + 1, 'r'));
	}
	// A send-open, for an open that was sent.
	void second()
	{
		const uint32_t i = sent_one();

		if (i == SLOT_NONE || !t_.slot(i).is_open || t_.slot(i).second_staged)
			return;
		stage(i, WIRE_OP_SEND_OPEN, "");
		t_.slot(i).second_staged = t_.s.live > 0 && t_.expected.back().tag == slots_tag(t_.all(), i);
	}
	void drop()
	{
		if (t_.expected.empty())
			return;
		const auto i = static_cast<uint32_t>(t_.expected[random_() % t_.expected.size()].tag);
		sent_.erase(std::remove(sent_.begin(), sent_.end(), i), sent_.end());
		bytes_ -= size_of_[i];
		t_.drop(i);
	}
	void send()
	{
		stage_batch b;

		stage_collect(&t_.s, ID, 1 + static_cast<unsigned>(random_() % WIRE_COUNT_MAX), &b);
		const Requests got = decode(b);
		ASSERT_GT(got.size(), 0u);
		for (const Request &r : got) {
			const auto i = static_cast<uint32_t>(r.tag);

			ASSERT_EQ(t_.expected.front(), r);
			t_.expected.pop_front();
			bytes_ -= size_of_[i];
			if (r.op != WIRE_OP_SEND_OPEN)
				sent_.push_back(i);
		}
		stage_sent(&t_.s, &b);
		for (const Request &r : got) {
			const slot &slot = t_.slot(static_cast<uint32_t>(r.tag));

			ASSERT_EQ(SLOT_SENT, slot.state);
			ASSERT_FALSE(slot.second_staged);
		}
	}
	// The daemon's answer, which may come while a send-open is staged.
	void answer()
	{
		const uint32_t i = sent_one();

		if (i == SLOT_NONE)
			return;
		sent_.erase(std::remove(sent_.begin(), sent_.end(), i), sent_.end());
		if (t_.slot(i).second_staged) {
			bytes_ -= size_of_[i];
			t_.drop(i);
		} else {
			slots_give_back(t_.all(), i);
		}
	}
	uint32_t sent_one()
	{
		return sent_.empty() ? SLOT_NONE : sent_[random_() % sent_.size()];
	}

	Stage t_;
	std::mt19937 random_;
	std::vector<uint32_t> sent_;
	std::map<uint32_t, size_t> size_of_;
	size_t bytes_ = 0;
	unsigned steps_ = 0;
};

TEST(StageModel, RandomSteps)
{
	for (uint32_t depth : {1u, 2u, 30u, 300u}) {
		Steps steps(depth, depth);

		for (int n = 0; n < 20000; n++) {
			steps.step();
			if (testing::Test::HasFailure())
				FAIL() << "depth " << depth << " step " << n;
		}
		steps.finish();
		EXPECT_EQ(depth == 300, steps.refused > 0) << "at " << depth;
	}
}

} // namespace
