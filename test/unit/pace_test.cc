// SPDX-License-Identifier: BSD-2-Clause
// Rates: what any second sees, whoever comes when, and who shares with whom. Time is what the test says it is.
extern "C" {
#include "server/pace.h"
}

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <random>
#include <vector>

namespace
{

constexpr uint64_t MS = 1000 * 1000, SECOND = 1000 * MS, START = 1000 * SECOND, ENDLESS = UINT64_MAX / 4;

// What was moved when.
class Log
{
      public:
	void add(uint64_t when, uint64_t n)
	{
		all_.push_back({when, n});
		total += n;
	}
	// The most that any stretch of time of that length saw.
	uint64_t most_in(uint64_t length) const
	{
		uint64_t most = 0, sum = 0;

		for (size_t first = 0, last = 0; last < all_.size(); last++) {
			sum += all_[last].n;
			while (all_[last].when - all_[first].when > length)
				sum -= all_[first++].n;
			most = std::max(most, sum);
		}
		return most;
	}

	uint64_t total = 0;

      private:
	struct Move {
		uint64_t when, n;
	};
	std::vector<Move> all_;
};

// One that always has something to send, and wakes up when it is told, `late` nanoseconds later.
struct Sender {
	pace p;
	Log log;
	uint64_t wakes = START, turns = 0;

	Sender(uint64_t rate, user_paces *users = nullptr, uid_t uid = 1, uint64_t when = START) : wakes(when)
	{
		pace_init(&p, rate, users, uid, when);
	}
	void turn(uint64_t now)
	{
		const uint64_t n = pace_allows(&p, ENDLESS, now);

		turns++;
		if (n == 0) {
			EXPECT_GT(p.next_ns, now) << "it would spin";
			wakes = p.next_ns;
			return;
		}
		log.add(now, n);
		pace_moved(&p, n);
		wakes = now;
	}
};

// All take their turns until that time.
template <typename Late> void run(std::deque<Sender> &senders, uint64_t until, Late late)
{
	for (;;) {
		auto next = std::min_element(senders.begin(), senders.end(),
			[](const Sender &a, const Sender &b) { return a.wakes < b.wakes; });

		if (next->wakes >= until)
			return;
		next->turn(next->wakes + late());
	}
}

uint64_t on_time()
{
	return 0;
}

TEST(Pace, NoRateIsNoLimit)
{
	pace p;

	pace_init(&p, 0, nullptr, 1, START);
	EXPECT_EQ(ENDLESS, pace_allows(&p, ENDLESS, START));
	pace_moved(&p, ENDLESS);
	EXPECT_EQ(5U, pace_allows(&p, 5, START));
	pace_init(&p, UINT64_MAX, nullptr, 1, START);
	EXPECT_EQ(ENDLESS, pace_allows(&p, ENDLESS, START)) << "nothing is that fast";
}

TEST(Pace, ItBeginsAtOnceWithAPortion)
{
	pace p;

	pace_init(&p, 1000000, nullptr, 1, START);
	EXPECT_EQ(20000U, pace_allows(&p, ENDLESS, START));
	pace_init(&p, 1000000, nullptr, 1, START);
	EXPECT_EQ(300U, pace_allows(&p, 300, START)) << "a small file is over at once";
	pace_init(&p, 1, nullptr, 1, START);
	EXPECT_EQ(0U, pace_allows(&p, ENDLESS, START)) << "a byte a second";
	EXPECT_EQ(START + 980 * MS, p.next_ns);
}

// Over any second within 5 % of the rate; bursts of at most 4 KiB or 100 ms' worth.
TEST(Pace, AnySecondSeesTheRate)
{
	std::mt19937_64 random(1);

	for (const uint64_t rate : {1UL, 7UL, 100UL, 1000UL, 4096UL, 65537UL, 1000000UL, 123456789UL, 10000000000UL}) {
		for (const uint64_t late_max : {0 * MS, 1 * MS, 20 * MS}) {
			std::deque<Sender> all;
			constexpr uint64_t SECONDS = 20;

			all.emplace_back(rate);
			run(all, START + SECONDS * SECOND, [&] { return late_max > 0 ? random() % late_max : 0; });
			const Log &log = all[0].log;
			EXPECT_LE(log.most_in(SECOND - 1), rate + rate / 20 + 1) << rate;
			EXPECT_LE(log.most_in(0), std::max<uint64_t>(4096, rate / 10)) << rate;
			EXPECT_GE(log.total + rate / 20 + 1, rate * SECONDS * 99 / 100)
				<< rate << ", late " << late_max;
			EXPECT_LE(all[0].turns, SECONDS * 120) << "turns for nothing";
		}
	}
}

// A destination that takes nothing for a while does not get all of it at once afterwards.
TEST(Pace, TimeThatWasNotUsedIsLost)
{
	constexpr uint64_t RATE = 1000000;
	std::deque<Sender> all;

	all.emplace_back(RATE);
	run(all, START + SECOND, on_time);
	all[0].wakes = START + 60 * SECOND;
	run(all, START + 62 * SECOND, on_time);
	EXPECT_LE(all[0].log.most_in(SECOND - 1), RATE + RATE / 20);
}

class UserPace : public ::testing::TestWithParam<uint64_t>
{
      protected:
	void SetUp() override
	{
		users_ = user_paces_new(GetParam());
		ASSERT_NE(nullptr, users_);
	}

	user_paces *users_ = nullptr; /* shared memory, as long as the process */
};

TEST_P(UserPace, AllOfAUserShareIt)
{
	const uint64_t rate = GetParam();

	for (const unsigned count : {1U, 2U, 10U, 300U}) {
		constexpr uint64_t SECONDS = 20;
		const uid_t uid = 100 + count;
		std::deque<Sender> all;
		Log together;
		uint64_t least = UINT64_MAX, most = 0;

		for (unsigned i = 0; i < count; i++)
			all.emplace_back(0, users_, uid);
		run(all, START + SECONDS * SECOND, on_time);
		uint64_t total = 0;
		for (const Sender &s : all) {
			total += s.log.total;
			least = std::min(least, s.log.total);
			most = std::max(most, s.log.total);
		}
		EXPECT_LE(total, rate * SECONDS + rate / 20 + 1) << count;
		EXPECT_GE(total + rate / 10, rate * SECONDS * 95 / 100) << count;
		/* To a few portions: who comes first has a start. */
		EXPECT_LE(most - least, std::max<uint64_t>(rate / 50, 1) * 4) << count;
	}
}

TEST_P(UserPace, UsersDoNotShare)
{
	const uint64_t rate = GetParam();
	constexpr uint64_t SECONDS = 5;
	std::deque<Sender> all;

	for (uid_t uid = 5000; uid < 5020; uid++)
		all.emplace_back(0, users_, uid);
	run(all, START + SECONDS * SECOND, on_time);
	for (const Sender &s : all)
		EXPECT_GE(s.log.total + rate / 10 + 1, rate * SECONDS * 95 / 100);
}

TEST_P(UserPace, OnesOwnRateCountsToo)
{
	const uint64_t rate = GetParam();
	constexpr uint64_t SECONDS = 10;
	std::deque<Sender> all;

	all.emplace_back(rate / 4, users_, 7000);
	all.emplace_back(0, users_, 7000);
	run(all, START + SECONDS * SECOND, on_time);
	EXPECT_LE(all[0].log.total, rate / 4 * SECONDS + rate / 20);
	EXPECT_GE(all[0].log.total, rate / 4 * SECONDS * 8 / 10);
	EXPECT_GE(all[0].log.total + all[1].log.total, rate * SECONDS * 95 / 100);
	EXPECT_EQ(rate / 4, pace_rate(&all[0].p));
	EXPECT_EQ(rate, pace_rate(&all[1].p));
}

INSTANTIATE_TEST_SUITE_P(Rates, UserPace, ::testing::Values(100, 50000, 10000000, 1000000000),
	[](const auto &i) { return std::to_string(i.param); });

// More users than there are places: nobody is refused, and whoever comes later finds room again.
TEST(UserPaces, ManyUsers)
{
	user_paces *users = user_paces_new(1000000);
	uint64_t least = UINT64_MAX;

	ASSERT_NE(nullptr, users);
	for (uid_t uid = 0; uid < 5000; uid++) {
		pace p;

		pace_init(&p, 0, users, uid, START);
		if (pace_allows(&p, 1000, START) == 0) {
			EXPECT_GT(p.next_ns, START);
		}
	}
	for (uid_t uid = 100000; uid < 100010; uid++) {
		std::deque<Sender> one;

		one.emplace_back(0, users, uid, START + 100 * SECOND);
		run(one, START + 102 * SECOND, on_time);
		least = std::min(least, one[0].log.total);
	}
	EXPECT_GE(least, 1900000U);
}

} // namespace
