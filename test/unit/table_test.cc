// SPDX-License-Identifier: BSD-2-Clause
// Ids: unguessable, never shared, and found by the whole of them only.
extern "C" {
#include "server/table.h"
}

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <unordered_set>
#include <vector>

namespace
{

class Table
{
      public:
	explicit Table(uint32_t expect = 0, unsigned slot = 0, unsigned generation = 0)
	{
		EXPECT_EQ(0, table_init(&t, expect, slot, generation));
	}
	~Table()
	{
		table_free(&t);
	}
	Table(const Table &) = delete;
	Table &operator=(const Table &) = delete;

	table t;
};

TEST(TableId, HoldsSlotAndGeneration)
{
	for (unsigned slot : {0u, 1u, 63u, 255u}) {
		for (unsigned generation : {0u, 1u, 128u, 255u}) {
			Table table(10, slot, generation);
			table_entry e{};

			table_add(&table.t, &e);
			EXPECT_EQ(slot, id_slot(e.id));
			EXPECT_EQ(generation, id_generation(e.id));
			EXPECT_NE(0u, e.id & 0xffffffffffff);
		}
	}
}

// A slot's workers may be replaced any number of times; the id has room for the low bits only.
TEST(TableId, GenerationsWrap)
{
	Table table(10, 3, 256 + 7);
	table_entry e{};

	table_add(&table.t, &e);
	EXPECT_EQ(3u, id_slot(e.id));
	EXPECT_EQ(7u, id_generation(e.id));
}

TEST(TableId, AreNeverTheSameTwice)
{
	Table a, b;
	std::unordered_set<uint64_t> seen;

	for (int i = 0; i < 5000; i++) {
		for (table *t : {&a.t, &b.t}) {
			table_entry e{};

			table_add(t, &e);
			ASSERT_NE(0u, e.id);
			/* 10,000 of 2^48: by chance two are equal once in five million runs. */
			ASSERT_TRUE(seen.insert(e.id).second) << "id " << i;
			table_remove(t, &e);
		}
	}
}

// Each of the 48 bits is drawn: about half of the ids have it set.
TEST(TableId, AllBitsAreRandom)
{
	const int n = 10000;
	int set[48] = {};
	Table table;

	for (int i = 0; i < n; i++) {
		table_entry e{};

		table_add(&table.t, &e);
		for (int bit = 0; bit < 48; bit++)
			set[bit] += (e.id >> bit) & 1;
		table_remove(&table.t, &e);
	}
	for (int bit = 0; bit < 48; bit++) {
		/* Ten standard deviations: 50 each. */
		EXPECT_NEAR(n / 2, set[bit], 500) << "bit " << bit;
	}
}

// What was given out must not be read from memory that a later leak might show.
TEST(TableId, LeaveNoCopyInThePool)
{
	Table table;
	table_entry e{};

	for (int i = 0; i < 200; i++) {
		table_add(&table.t, &e);
		for (uint64_t n : table.t.pool)
			ASSERT_NE(e.id & 0xffffffffffff, n & 0xffffffffffff);
		table_remove(&table.t, &e);
	}
}

TEST(Table, FindsByTheWholeIdOnly)
{
	Table table(1000, 5, 9);
	std::vector<table_entry> entries(1000);

	for (auto &e : entries)
		table_add(&table.t, &e);
	for (auto &e : entries) {
		EXPECT_EQ(&e, table_find(&table.t, e.id));
		for (int bit = 0; bit < 64; bit++)
			ASSERT_EQ(nullptr, table_find(&table.t, e.id ^ (uint64_t{1} << bit))) << bit;
	}
	EXPECT_EQ(nullptr, table_find(&table.t, 0));
	EXPECT_EQ(nullptr, table_find(&table.t, UINT64_MAX));
}

TEST(Table, Empty)
{
	Table table;

	EXPECT_EQ(0u, table.t.count);
	EXPECT_EQ(nullptr, table_find(&table.t, 0));
	EXPECT_EQ(nullptr, table_find(&table.t, 1));
}

TEST(Table, HundredThousandAddsRemovesAndFinds)
{
	/* Also far more than were expected: the buckets become lists, and nothing else changes. */
	for (uint32_t expect : {0u, 1000u, 100000u, UINT32_MAX}) {
		SCOPED_TRACE(expect);
		Table table(expect, 1, 2);
		const size_t n = expect == 0 ? 20000 : 100000;
		std::vector<table_entry> entries(n);
		std::vector<uint64_t> gone;
		std::mt19937 random(7);
		size_t left = n;

		for (auto &e : entries)
			table_add(&table.t, &e);
		ASSERT_EQ(n, table.t.count);
		for (auto &e : entries)
			ASSERT_EQ(&e, table_find(&table.t, e.id));
		for (auto &e : entries) {
			if (random() % 2)
				continue;
			gone.push_back(e.id);
			table_remove(&table.t, &e);
			ASSERT_EQ(--left, table.t.count);
			ASSERT_EQ(nullptr, table_find(&table.t, e.id));
			e.id = 0;
		}
		for (auto &e : entries)
			ASSERT_EQ(e.id ? &e : nullptr, table_find(&table.t, e.id));
		for (uint64_t id : gone)
			ASSERT_EQ(nullptr, table_find(&table.t, id));
		for (auto &e : entries) {
			if (e.id)
				table_remove(&table.t, &e);
		}
		EXPECT_EQ(0u, table.t.count);
	}
}

TEST(Table, RemovesWhatIsNotInItWithoutHarm)
{
	Table table;
	table_entry in{}, out{};

	table_add(&table.t, &in);
	out.id = in.id; /* of the same bucket, even of the same id: another entry all the same */
	table_remove(&table.t, &out);
	EXPECT_EQ(1u, table.t.count);
	EXPECT_EQ(&in, table_find(&table.t, in.id));
	table_remove(&table.t, &in);
	table_remove(&table.t, &in);
	EXPECT_EQ(0u, table.t.count);
}

} // namespace
