// SPDX-License-Identifier: BSD-2-Clause
// The outstanding requests of a queue, compared with something much simpler over many random steps.
extern "C" {
#include "lib/slots.h"
}

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <vector>

namespace
{

using Set = std::set<uint32_t>;

class Model
{
      public:
	Model(uint32_t depth, unsigned seed)
	    : depth_(depth), memory_(new unsigned char[slots_bytes(depth)]), stale_(1, UINT64_MAX), random_(seed)
	{
		memset(memory_.get(), 0x5a, slots_bytes(depth));
		slots_init(&s_, depth, memory_.get());
		for (uint64_t n = 0; n < 12; n++)
			values_.insert(values_.end(), {n, UINT64_MAX - n, n << 60, 0x7fff00001000 + n * 64});
	}

	void step()
	{
		switch (random_() % 8) {
		case 0:
		case 1:
		case 2:
			take();
			break;
		case 3:
			if (const uint32_t i = any(); i != SLOT_NONE && s_.all[i].state == SLOT_STAGED)
				s_.all[i].state = SLOT_SENT;
			break;
		case 4:
			open_or_not();
			break;
		case 5:
			end();
			break;
		case 6:
			reap();
			break;
		default:
			give_back();
		}
		look();
	}

      private:
	void take()
	{
		const uint64_t v = value();
		const uint32_t i = slots_take(&s_, v);

		ASSERT_EQ(used_.size() == depth_, i == SLOT_NONE);
		if (i == SLOT_NONE)
			return;
		ASSERT_TRUE(used_.insert(i).second);
		by_data_.emplace(v, i);
		tag_[i] = slots_tag(&s_, i);
		ASSERT_TRUE(all_tags_.insert(tag_[i]).second) << "a tag came twice";
	}

	void open_or_not()
	{
		const uint32_t i = any();

		if (i == SLOT_NONE || s_.all[i].state != SLOT_SENT)
			return;
		unopen(i);
		if (random_() % 3 == 0) {
			slots_unopen(&s_, i);
			return;
		}
		const uint64_t id = value() | 1;
		slots_open(&s_, i, id);
		by_txn_.emplace(id, i);
	}

	void end()
	{
		const uint32_t i = any();

		if (i == SLOT_NONE || s_.all[i].state == SLOT_OVER)
			return;
		unopen(i);
		over_.push_back(i);
		slots_end(&s_, i, static_cast<int>(random_() % 100));
	}

	void reap()
	{
		const uint32_t i = slots_next_over(&s_);

		ASSERT_EQ(over_.empty() ? SLOT_NONE : over_.front(), i);
		if (i == SLOT_NONE)
			return;
		over_.pop_front();
		gone(i);
	}

	void give_back()
	{
		const uint32_t i = any();

		if (i != SLOT_NONE && s_.all[i].state != SLOT_OVER)
			gone(i);
	}

	void gone(uint32_t i)
	{
		unopen(i);
		for (auto at = by_data_.begin(); at != by_data_.end(); ++at) {
			if (at->second == i) {
				by_data_.erase(at);
				break;
			}
		}
		stale_.push_back(tag_[i]);
		used_.erase(i);
		tag_.erase(i);
		slots_give_back(&s_, i);
	}

	void unopen(uint32_t i)
	{
		for (auto at = by_txn_.begin(); at != by_txn_.end(); ++at) {
			if (at->second == i) {
				by_txn_.erase(at);
				return;
			}
		}
	}

	// All that there is to be seen of one value, one id, one slot and one tag of old.
	void look()
	{
		const uint64_t v = value(), id = value() | 1;
		const uint32_t i = any();
		Set found, want;

		ASSERT_EQ(used_.size(), s_.used);
		for (uint32_t at = slots_find_data(&s_, v); at != SLOT_NONE; at = slots_next_data(&s_, at))
			ASSERT_TRUE(found.insert(at).second) << "found twice";
		for (auto [at, last] = by_data_.equal_range(v); at != last; ++at)
			want.insert(at->second);
		ASSERT_EQ(want, found);
		const uint32_t waiting = slots_find_txn(&s_, id);
		bool is_one = by_txn_.count(id) == 0 && waiting == SLOT_NONE;
		for (auto [at, last] = by_txn_.equal_range(id); at != last; ++at)
			is_one |= at->second == waiting;
		ASSERT_TRUE(is_one);
		ASSERT_EQ(SLOT_NONE, slots_find_tag(&s_, stale_[random_() % stale_.size()]));
		if (i == SLOT_NONE)
			return;
		ASSERT_EQ(s_.all[i].state == SLOT_SENT ? i : SLOT_NONE, slots_find_tag(&s_, tag_[i]));
	}

	uint64_t value()
	{
		return values_[random_() % values_.size()];
	}
	// One in use.
	uint32_t any()
	{
		if (used_.empty())
			return SLOT_NONE;
		const auto at = used_.lower_bound(static_cast<uint32_t>(random_() % depth_));
		return at == used_.end() ? *used_.begin() : *at;
	}

	const uint32_t depth_;
	slots s_;
	std::unique_ptr<unsigned char[]> memory_;
	std::vector<uint64_t> values_, stale_;
	std::set<uint64_t> all_tags_;
	std::mt19937_64 random_;
	Set used_;
	std::map<uint32_t, uint64_t> tag_;
	std::multimap<uint64_t, uint32_t> by_data_, by_txn_;
	std::deque<uint32_t> over_;
};

class SlotsModel : public testing::TestWithParam<uint32_t>
{
};

INSTANTIATE_TEST_SUITE_P(All, SlotsModel, testing::Values(1, 2, 3, 20, 64));

TEST_P(SlotsModel, AHundredThousandSteps)
{
	Model model(GetParam(), GetParam());

	for (int n = 0; n < 100000; n++) {
		model.step();
		if (HasFatalFailure())
			FAIL() << "step " << n;
	}
}

} // namespace
