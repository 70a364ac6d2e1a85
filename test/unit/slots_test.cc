// SPDX-License-Identifier: BSD-2-Clause
// The outstanding requests of a queue: each in its slot, found by what names it, and by nothing that named it before.
extern "C" {
#include "lib/slots.h"
}

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <set>
#include <unordered_set>
#include <vector>

namespace
{

using Set = std::multiset<uint32_t>;

// In memory of exactly the size that it asks for, and that is not zero to begin with.
class Slots
{
      public:
	explicit Slots(uint32_t depth) : memory_(malloc(slots_bytes(depth)))
	{
		memset(memory_, 0xa5, slots_bytes(depth));
		slots_init(&s, depth, memory_);
	}
	~Slots()
	{
		free(memory_);
	}
	Slots(const Slots &) = delete;
	Slots &operator=(const Slots &) = delete;

	uint32_t take(uint64_t user_data = 0)
	{
		return slots_take(&s, user_data);
	}
	uint32_t take_sent(uint64_t user_data = 0)
	{
		const uint32_t i = take(user_data);

		s.all[i].state = SLOT_SENT;
		return i;
	}
	Set with(uint64_t user_data) const
	{
		Set found;

		for (uint32_t i = slots_find_data(&s, user_data); i != SLOT_NONE; i = slots_next_data(&s, i)) {
			found.insert(i);
			if (found.size() > s.depth) {
				ADD_FAILURE() << "a circle";
				break;
			}
		}
		return found;
	}

	slots s;

      private:
	void *memory_;
};

class SlotsDepth : public testing::TestWithParam<uint32_t>
{
};

INSTANTIATE_TEST_SUITE_P(All, SlotsDepth, testing::Values(1, 2, 3, 64, 8192));

TEST_P(SlotsDepth, AllCanBeTakenAndGivenBack)
{
	const uint32_t depth = GetParam();
	std::vector<uint32_t> taken(depth);
	std::mt19937 random(depth);
	Slots t(depth);

	for (int round = 0; round < 4; round++) {
		for (uint32_t n = 0; n < depth; n++) {
			ASSERT_EQ(n, t.s.used);
			taken[n] = t.take(n);
			ASSERT_LT(taken[n], depth);
		}
		EXPECT_EQ(depth, std::set<uint32_t>(taken.begin(), taken.end()).size());
		EXPECT_EQ(SLOT_NONE, t.take(depth));
		EXPECT_EQ(depth, t.s.used);
		EXPECT_EQ(Set{}, t.with(depth)) << "what was not to be had leaves nothing";
		std::shuffle(taken.begin(), taken.end(), random);
		for (uint32_t i : taken)
			slots_give_back(&t.s, i);
		EXPECT_EQ(0u, t.s.used);
		for (uint32_t n = 0; n <= depth; n++)
			ASSERT_EQ(SLOT_NONE, slots_find_data(&t.s, n));
	}
}

// One at a time is what a program does that waits for each answer.
TEST_P(SlotsDepth, OneCanBeTakenForEver)
{
	Slots t(GetParam());

	for (int n = 0; n < 10000; n++) {
		const uint32_t i = t.take(7);

		ASSERT_LT(i, GetParam());
		ASSERT_EQ(Set{i}, t.with(7));
		slots_give_back(&t.s, i);
		ASSERT_EQ(Set{}, t.with(7));
	}
}

TEST(Slots, ATakenOneIsAsNew)
{
	Slots t(1);

	for (uint64_t user_data : {uint64_t{5}, uint64_t{0}, UINT64_MAX}) {
		const uint32_t i = t.take(user_data);
		slot *slot = &t.s.all[i];

		EXPECT_EQ(SLOT_STAGED, slot->state);
		EXPECT_EQ(user_data, slot->user_data);
		EXPECT_EQ(0u, slot->txnid);
		EXPECT_EQ(0, slot->stat);
		EXPECT_FALSE(slot->is_open || slot->second_staged || slot->cancel_waits);
		slot->state = SLOT_SENT;
		slot->stat = 9;
		slot->is_open = slot->second_staged = slot->cancel_waits = true;
		slots_open(&t.s, i, 12);
		slots_give_back(&t.s, i);
		EXPECT_EQ(SLOT_FREE, slot->state);
		EXPECT_EQ(SLOT_NONE, slots_find_txn(&t.s, 12));
	}
}

// ---- Tags

TEST(SlotsTag, HoldsNumberAndGeneration)
{
	Slots t(3);

	for (int n = 0; n < 100; n++) {
		const uint32_t i = t.take();

		EXPECT_EQ(i, static_cast<uint32_t>(slots_tag(&t.s, i)));
		EXPECT_EQ(t.s.all[i].generation, slots_tag(&t.s, i) >> 32);
		slots_give_back(&t.s, i);
	}
}

TEST(SlotsTag, IsNeverTheSameTwiceAndOnlyTheLastIsFound)
{
	for (uint32_t depth : {1u, 2u, 3u, 64u}) {
		std::vector<uint64_t> held(depth, 0);
		std::unordered_set<uint64_t> seen;
		std::mt19937 random(1);
		std::vector<uint64_t> stale;
		Slots t(depth);

		for (int n = 0; n < 5000; n++) {
			const uint32_t i = t.take_sent(1);
			const uint64_t tag = slots_tag(&t.s, i);

			ASSERT_TRUE(seen.insert(tag).second) << n;
			ASSERT_EQ(i, slots_find_tag(&t.s, tag));
			if (t.s.used < depth && random() % 2)
				continue;
			const uint32_t back = random() % depth;
			if (t.s.all[back].state == SLOT_FREE)
				continue;
			stale.push_back(slots_tag(&t.s, back));
			slots_give_back(&t.s, back);
			ASSERT_EQ(SLOT_NONE, slots_find_tag(&t.s, stale.back()));
			while (t.s.used == depth) {
				stale.push_back(slots_tag(&t.s, 0));
				slots_give_back(&t.s, 0);
			}
		}
		for (uint64_t tag : stale)
			ASSERT_EQ(SLOT_NONE, slots_find_tag(&t.s, tag));
	}
}

TEST(SlotsTag, MeansOnlyWhatWasSent)
{
	Slots t(4);
	const uint32_t i = t.take(), other = t.take_sent();
	const uint64_t tag = slots_tag(&t.s, i);

	EXPECT_EQ(SLOT_NONE, slots_find_tag(&t.s, tag)) << "staged";
	t.s.all[i].state = SLOT_SENT;
	EXPECT_EQ(i, slots_find_tag(&t.s, tag));
	slots_end(&t.s, i, 5);
	EXPECT_EQ(SLOT_NONE, slots_find_tag(&t.s, tag)) << "over";
	EXPECT_EQ(i, slots_next_over(&t.s));
	EXPECT_EQ(SLOT_NONE, slots_find_tag(&t.s, tag)) << "over, and reaped";
	slots_give_back(&t.s, i);
	EXPECT_EQ(SLOT_NONE, slots_find_tag(&t.s, tag)) << "free";
	EXPECT_EQ(SLOT_NONE, slots_find_tag(&t.s, slots_tag(&t.s, i))) << "free, and of this generation";
	EXPECT_EQ(other, slots_find_tag(&t.s, slots_tag(&t.s, other)));
}

// The daemon is another program: whatever it says must be harmless.
TEST(SlotsTag, WhatNobodyHasFindsNothing)
{
	for (uint32_t depth : {1u, 3u, 64u}) {
		Slots t(depth);

		while (t.s.used < depth)
			t.take_sent();
		for (uint32_t i = 0; i < depth; i++) {
			for (int bit = 0; bit < 64; bit++) {
				const uint64_t tag = slots_tag(&t.s, i) ^ uint64_t { 1 } << bit;
				const auto number = static_cast<uint32_t>(tag);

				ASSERT_EQ(bit < 32 && number < depth ? number : SLOT_NONE, slots_find_tag(&t.s, tag));
			}
		}
		for (uint64_t number : {uint64_t{depth}, uint64_t{SLOT_NONE}, uint64_t{INT32_MAX}, UINT64_MAX})
			EXPECT_EQ(SLOT_NONE, slots_find_tag(&t.s, number));
	}
}

TEST(SlotsTag, GenerationsWrap)
{
	Slots t(1);
	const uint32_t i = t.take_sent();

	t.s.all[i].generation = UINT32_MAX;
	const uint64_t last = slots_tag(&t.s, i);
	EXPECT_EQ(i, slots_find_tag(&t.s, last));
	slots_give_back(&t.s, i);
	ASSERT_EQ(i, t.take_sent());
	EXPECT_EQ(uint64_t{i}, slots_tag(&t.s, i));
	EXPECT_EQ(i, slots_find_tag(&t.s, i));
	EXPECT_EQ(SLOT_NONE, slots_find_tag(&t.s, last));
}

// ---- By user_data

TEST(SlotsData, ExtremeValuesAreValuesLikeOthers)
{
	const int here = 0;
	const std::vector<uint64_t> values = {0, 1, UINT64_MAX, UINT64_MAX - 1, uint64_t{1} << 63, SLOT_NONE,
		reinterpret_cast<uintptr_t>(&here), reinterpret_cast<uintptr_t>(&values)};
	Slots t(64);

	for (uint64_t v : values)
		EXPECT_EQ(Set{}, t.with(v));
	for (uint64_t v : values)
		EXPECT_EQ(v, t.s.all[t.take(v)].user_data);
	for (uint64_t v : values) {
		const uint32_t i = slots_find_data(&t.s, v);

		ASSERT_NE(SLOT_NONE, i);
		EXPECT_EQ(Set{i}, t.with(v));
		EXPECT_EQ(v, t.s.all[i].user_data);
		slots_give_back(&t.s, i);
		EXPECT_EQ(Set{}, t.with(v));
	}
}

// Whatever states they are in, all of one value are found, each once; and those that are left after any of them went.
TEST(SlotsData, EqualOnesAreAllFoundInWhateverOrderTheyGo)
{
	std::mt19937 random(2);

	for (int round = 0; round < 50; round++) {
		std::vector<uint32_t> order;
		Set same, other;
		Slots t(64);

		for (int n = 0; n < 64; n++) {
			const uint32_t i = t.take(n % 3 == 0 ? 5 : 4);

			(n % 3 == 0 ? other : same).insert(i);
			order.push_back(i);
			if (n % 4 == 1)
				t.s.all[i].state = SLOT_SENT;
			else if (n % 4 == 2)
				slots_end(&t.s, i, 0);
		}
		while (slots_next_over(&t.s) != SLOT_NONE)
			;
		std::shuffle(order.begin(), order.end(), random);
		for (uint32_t i : order) {
			ASSERT_EQ(same, t.with(4));
			ASSERT_EQ(other, t.with(5));
			slots_give_back(&t.s, i);
			same.erase(i);
			other.erase(i);
		}
		EXPECT_EQ(Set{}, t.with(4));
		EXPECT_EQ(Set{}, t.with(5));
	}
}

// Numbers and pointers that a program may well use, so many of them that there are not places enough for all.
TEST(SlotsData, ManyAreToldApartWhateverTheyHaveInCommon)
{
	for (uint32_t depth : {1u, 2u, 3u, 1000u, 8192u}) {
		for (int shift : {0, 4, 6, 12, 24, 32, 40}) {
			std::vector<uint32_t> slot_of(depth);
			Slots t(depth);

			for (uint32_t n = 0; n < depth; n++)
				slot_of[n] = t.take(uint64_t{n} << shift);
			for (uint32_t n = 0; n < depth; n++)
				ASSERT_EQ(Set{slot_of[n]}, t.with(uint64_t{n} << shift));
			ASSERT_EQ(Set{}, t.with(uint64_t{depth} << shift));
			for (uint32_t n = 0; n < depth; n += 2)
				slots_give_back(&t.s, slot_of[n]);
			for (uint32_t n = 0; n < depth; n++)
				ASSERT_EQ(n % 2 ? Set{slot_of[n]} : Set{}, t.with(uint64_t{n} << shift));
		}
	}
}

// ---- By transaction id

TEST(SlotsTxn, IsFoundFromOpenToUnopen)
{
	Slots t(3);
	const uint32_t a = t.take_sent(), b = t.take_sent();

	EXPECT_EQ(SLOT_NONE, slots_find_txn(&t.s, 77));
	slots_open(&t.s, a, 77);
	slots_open(&t.s, b, UINT64_MAX);
	EXPECT_EQ(a, slots_find_txn(&t.s, 77));
	EXPECT_EQ(b, slots_find_txn(&t.s, UINT64_MAX));
	slots_unopen(&t.s, a);
	EXPECT_EQ(SLOT_NONE, slots_find_txn(&t.s, 77));
	slots_unopen(&t.s, a); /* it is in no chain: harmless */
	EXPECT_EQ(b, slots_find_txn(&t.s, UINT64_MAX));
	slots_open(&t.s, a, 78);
	slots_open(&t.s, a, 79); /* the new id replaces the old one */
	EXPECT_EQ(SLOT_NONE, slots_find_txn(&t.s, 78));
	EXPECT_EQ(a, slots_find_txn(&t.s, 79));
	EXPECT_EQ(SLOT_NONE, slots_find_txn(&t.s, 0)) << "which stands for none";
}

TEST(SlotsTxn, GoesWithItsSlot)
{
	Slots t(2);
	uint32_t a = t.take_sent();

	slots_open(&t.s, a, 5);
	slots_give_back(&t.s, a);
	EXPECT_EQ(SLOT_NONE, slots_find_txn(&t.s, 5));
	a = t.take_sent();
	EXPECT_EQ(SLOT_NONE, slots_find_txn(&t.s, 5));
	slots_open(&t.s, a, 5);
	slots_end(&t.s, a, 1);
	EXPECT_EQ(SLOT_NONE, slots_find_txn(&t.s, 5)) << "nothing waits for a send-open any more";
}

TEST(SlotsTxn, ManyAreToldApart)
{
	for (uint32_t depth : {1u, 2u, 3u, 64u, 8192u}) {
		std::vector<uint64_t> id(depth);
		std::vector<uint32_t> order(depth);
		std::mt19937_64 random(3);
		Slots t(depth);

		for (uint32_t n = 0; n < depth; n++)
			t.take_sent();
		for (uint32_t n = 0; n < depth; n++) {
			id[n] = random() | 1;
			slots_open(&t.s, n, id[n]);
		}
		std::iota(order.begin(), order.end(), 0);
		std::shuffle(order.begin(), order.end(), random);
		for (uint32_t n : order) {
			ASSERT_EQ(n, slots_find_txn(&t.s, id[n]));
			slots_unopen(&t.s, n);
			ASSERT_EQ(SLOT_NONE, slots_find_txn(&t.s, id[n]));
		}
	}
}

// ---- Ended by the library

TEST(SlotsOver, ComeInTheOrderInWhichTheyEnded)
{
	std::vector<uint32_t> order(64);
	std::mt19937 random(4);
	Slots t(64);

	EXPECT_EQ(SLOT_NONE, slots_next_over(&t.s));
	for (int round = 0; round < 3; round++) {
		for (auto &i : order)
			i = t.take_sent(i);
		std::shuffle(order.begin(), order.end(), random);
		for (uint32_t i : order)
			slots_end(&t.s, i, static_cast<int>(i) - 7);
		for (uint32_t i : order) {
			ASSERT_EQ(i, slots_next_over(&t.s));
			EXPECT_EQ(SLOT_OVER, t.s.all[i].state);
			EXPECT_EQ(static_cast<int>(i) - 7, t.s.all[i].stat);
			slots_give_back(&t.s, i);
		}
		EXPECT_EQ(SLOT_NONE, slots_next_over(&t.s));
	}
}

TEST(SlotsOver, OthersMayEndWhileSomeAreReaped)
{
	Slots t(4);
	const uint32_t a = t.take(), b = t.take_sent(), c = t.take();

	slots_end(&t.s, a, 1);
	slots_end(&t.s, b, 2);
	EXPECT_EQ(a, slots_next_over(&t.s));
	slots_end(&t.s, c, 3);
	slots_give_back(&t.s, a);
	EXPECT_EQ(b, slots_next_over(&t.s));
	EXPECT_EQ(c, slots_next_over(&t.s));
	EXPECT_EQ(SLOT_NONE, slots_next_over(&t.s));
	slots_give_back(&t.s, c);
	slots_give_back(&t.s, b);
	EXPECT_EQ(0u, t.s.used);
}

} // namespace
