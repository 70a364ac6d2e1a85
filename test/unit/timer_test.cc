// SPDX-License-Identifier: BSD-2-Clause
// Timers come out in order, whatever happened to the others.
extern "C" {
#include "server/timer.h"
}

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <random>
#include <vector>

namespace
{

class Timers
{
      public:
	explicit Timers(uint32_t capacity)
	{
		EXPECT_EQ(0, timers_init(&ts, capacity));
	}
	~Timers()
	{
		timers_free(&ts);
	}
	Timers(const Timers &) = delete;
	Timers &operator=(const Timers &) = delete;

	timers ts;
};

timer idle_timer()
{
	timer t{};

	timer_init(&t);
	return t;
}

// The heap's two promises: no timer is due before its parent, and each knows where it is.
bool is_heap(const timers &ts)
{
	for (uint32_t i = 0; i < ts.count; i++) {
		if (ts.heap[i]->pos != i || ts.heap[i]->when_ns < ts.heap[(i > 0 ? i - 1 : 0) / 2]->when_ns)
			return false;
	}
	return true;
}

TEST(Timers, EmptyHasNothingDue)
{
	Timers timers(4);

	EXPECT_EQ(UINT64_MAX, timers_next(&timers.ts));
	EXPECT_EQ(nullptr, timers_due(&timers.ts, UINT64_MAX));
}

TEST(Timers, DueAtTheirTimeAndNotBefore)
{
	Timers timers(4);
	timer t = idle_timer();

	EXPECT_EQ(TIMER_IDLE, t.pos);
	ASSERT_EQ(0, timers_set(&timers.ts, &t, 100));
	EXPECT_NE(TIMER_IDLE, t.pos);
	EXPECT_EQ(100u, timers_next(&timers.ts));
	EXPECT_EQ(nullptr, timers_due(&timers.ts, 99));
	EXPECT_EQ(&t, timers_due(&timers.ts, 100));
	EXPECT_EQ(TIMER_IDLE, t.pos);
	EXPECT_EQ(nullptr, timers_due(&timers.ts, UINT64_MAX)) << "once only";
	EXPECT_EQ(UINT64_MAX, timers_next(&timers.ts));
}

TEST(Timers, TheExtremesOfTime)
{
	Timers timers(2);
	timer first = idle_timer(), last = idle_timer();

	ASSERT_EQ(0, timers_set(&timers.ts, &last, UINT64_MAX));
	ASSERT_EQ(0, timers_set(&timers.ts, &first, 0));
	EXPECT_EQ(0u, timers_next(&timers.ts));
	EXPECT_EQ(&first, timers_due(&timers.ts, 0));
	EXPECT_EQ(nullptr, timers_due(&timers.ts, UINT64_MAX - 1));
	EXPECT_EQ(&last, timers_due(&timers.ts, UINT64_MAX));
}

TEST(Timers, ComeOutInOrder)
{
	/* Every order of seven, two of which are due at the same time. */
	std::vector<uint64_t> when = {10, 20, 30, 30, 40, 50, 60};

	do {
		Timers timers(7);
		timer t[7];

		for (size_t i = 0; i < 7; i++) {
			t[i] = idle_timer();
			ASSERT_EQ(0, timers_set(&timers.ts, &t[i], when[i]));
			ASSERT_TRUE(is_heap(timers.ts));
		}
		for (uint64_t want : {10, 20, 30, 30, 40, 50, 60}) {
			ASSERT_EQ(want, timers_next(&timers.ts));
			ASSERT_EQ(nullptr, timers_due(&timers.ts, want - 1));
			timer *due = timers_due(&timers.ts, want);
			ASSERT_NE(nullptr, due);
			ASSERT_EQ(want, due->when_ns);
			ASSERT_TRUE(is_heap(timers.ts));
		}
		ASSERT_EQ(nullptr, timers_due(&timers.ts, UINT64_MAX));
	} while (std::next_permutation(when.begin(), when.end()));
}

TEST(Timers, AnyOneMayBeCleared)
{
	const int n = 40;

	for (int victim = 0; victim < n; victim++) {
		Timers timers(n);
		std::vector<timer> t(n);
		std::vector<uint64_t> want, got;

		for (int i = 0; i < n; i++) {
			uint64_t when = static_cast<uint64_t>(i * 17 % n); /* every time once, out of order */

			t[i] = idle_timer();
			ASSERT_EQ(0, timers_set(&timers.ts, &t[i], when));
			if (i != victim)
				want.push_back(when);
		}
		timers_clear(&timers.ts, &t[victim]);
		ASSERT_EQ(TIMER_IDLE, t[victim].pos);
		ASSERT_TRUE(is_heap(timers.ts)) << victim;
		timers_clear(&timers.ts, &t[victim]); /* idle: harmless */
		while (timer *due = timers_due(&timers.ts, UINT64_MAX))
			got.push_back(due->when_ns);
		std::sort(want.begin(), want.end());
		ASSERT_EQ(want, got) << victim;
	}
}

// The one that fills a hole may have to go up: its new parent is of another branch.
TEST(Timers, AHoleIsFilledFromAnotherBranch)
{
	const uint64_t when[] = {1, 100, 2, 110, 120, 3, 4, 130, 140, 150, 160, 5};
	Timers timers(12);
	std::vector<timer> t(12);

	for (size_t i = 0; i < 12; i++) {
		t[i] = idle_timer();
		ASSERT_EQ(0, timers_set(&timers.ts, &t[i], when[i]));
	}
	ASSERT_EQ(&t[11], timers.ts.heap[11]);
	timers_clear(&timers.ts, &t[7]); /* below 110; 5 takes its place */
	EXPECT_TRUE(is_heap(timers.ts));
	EXPECT_LT(t[11].pos, t[3].pos);
}

TEST(Timers, MayBeSetAgainAndMoved)
{
	Timers timers(2);
	timer a = idle_timer(), b = idle_timer();

	ASSERT_EQ(0, timers_set(&timers.ts, &a, 10));
	ASSERT_EQ(0, timers_set(&timers.ts, &b, 20));
	timers_clear(&timers.ts, &a);
	ASSERT_EQ(0, timers_set(&timers.ts, &a, 30));
	EXPECT_EQ(&b, timers_due(&timers.ts, UINT64_MAX));
	EXPECT_EQ(&a, timers_due(&timers.ts, UINT64_MAX));
}

TEST(Timers, CapacityIsKept)
{
	Timers timers(3);
	timer t[4];

	for (auto &x : t)
		x = idle_timer();
	for (int i = 0; i < 3; i++)
		ASSERT_EQ(0, timers_set(&timers.ts, &t[i], 1));
	errno = 0;
	EXPECT_EQ(-1, timers_set(&timers.ts, &t[3], 1));
	EXPECT_EQ(ENOSPC, errno);
	EXPECT_EQ(TIMER_IDLE, t[3].pos);
	EXPECT_EQ(3u, timers.ts.count);
	timers_clear(&timers.ts, &t[1]);
	EXPECT_EQ(0, timers_set(&timers.ts, &t[3], 1));
	EXPECT_EQ(-1, timers_set(&timers.ts, &t[1], 1));
}

TEST(Timers, NoCapacityAtAll)
{
	Timers timers(0);
	timer t = idle_timer();

	EXPECT_EQ(-1, timers_set(&timers.ts, &t, 1));
	EXPECT_EQ(ENOSPC, errno);
	EXPECT_EQ(nullptr, timers_due(&timers.ts, UINT64_MAX));
}

TEST(Timers, AHundredThousand)
{
	const uint32_t n = 100000;
	Timers timers(n);
	std::vector<timer> t(n, idle_timer());
	std::vector<uint64_t> want, got;
	std::mt19937 random(3);

	for (auto &x : t)
		ASSERT_EQ(0, timers_set(&timers.ts, &x, random() % 50000)); /* many at the same time */
	ASSERT_TRUE(is_heap(timers.ts));
	/* A third is cleared and a third of those set again, in an order that has nothing to do
	 * with their times. */
	for (uint32_t i = 0; i < n; i++) {
		timer &x = t[(uint64_t{i} * 7919) % n];

		if (i % 3 != 0)
			continue;
		timers_clear(&timers.ts, &x);
		if (i % 9 == 0) {
			ASSERT_EQ(0, timers_set(&timers.ts, &x, random() % 50000));
		}
	}
	ASSERT_TRUE(is_heap(timers.ts));
	for (auto &x : t) {
		if (x.pos != TIMER_IDLE)
			want.push_back(x.when_ns);
	}
	ASSERT_EQ(want.size(), timers.ts.count);
	std::sort(want.begin(), want.end());
	/* As a loop would: at each point in time whatever is due by then. */
	for (uint64_t now = 0; now < 50000; now += 100) {
		while (timer *due = timers_due(&timers.ts, now)) {
			ASSERT_LE(due->when_ns, now);
			ASSERT_TRUE(now < 100 || due->when_ns > now - 100);
			got.push_back(due->when_ns);
		}
		ASSERT_GT(timers_next(&timers.ts), now);
	}
	while (timer *due = timers_due(&timers.ts, UINT64_MAX))
		got.push_back(due->when_ns);
	EXPECT_EQ(want, got);
	EXPECT_EQ(0u, timers.ts.count);
}

} // namespace
