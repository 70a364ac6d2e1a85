// SPDX-License-Identifier: BSD-2-Clause
// What a user may hold of what there is for all. Time is what the test says it is.
extern "C" {
#include "server/shares.h"
}

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <vector>

namespace
{

constexpr uint64_t MS = 1000 * 1000, SECOND = 1000 * MS;
constexpr unsigned WORKERS = 3;
constexpr uid_t STARTER = 1000;

class Shares : public ::testing::Test
{
      protected:
	void limit(unsigned transfers, unsigned opens = 1000000, unsigned requests = 0)
	{
		const share_limits limits = {transfers, opens, 100, requests, STARTER};

		s_ = shares_new(&limits, WORKERS);
		ASSERT_NE(nullptr, s_);
	}

	// The next transfer of that user: 0, or an errno.
	int take(uid_t uid, unsigned slot = 0, bool is_open = false)
	{
		const share_claim claim = {slot, uid, is_open, all_.size(), max_, now_};
		Taken t = {uid, slot, {}};
		const int err = share_take(s_, &claim, &t.part);

		if (err == 0)
			all_.push_back(t);
		return err;
	}

	// As many as there can be, of up to `most`.
	unsigned take_all(uid_t uid, unsigned most = 100000)
	{
		unsigned n = 0;

		while (n < most && all_.size() < max_ && take(uid, n % WORKERS) == 0)
			n++;
		now_ += 2 * MS; /* so that users are counted anew */
		return n;
	}

	void give_back_one_of(uid_t uid)
	{
		for (size_t i = 0; i < all_.size(); i++) {
			if (all_[i].uid != uid)
				continue;
			share_give_back(s_, all_[i].slot, &all_[i].part);
			all_.erase(all_.begin() + static_cast<ptrdiff_t>(i));
			return;
		}
		FAIL() << "it has none";
	}

	struct Taken {
		uid_t uid;
		unsigned slot;
		struct share part;
	};

	shares *s_ = nullptr; /* shared memory, as long as the process */
	std::vector<Taken> all_;
	uint64_t max_ = 1000, now_ = 1000 * SECOND;
};

TEST_F(Shares, AUserHasSoManyOverAllWorkers)
{
	limit(10);
	EXPECT_EQ(10U, take_all(1));
	for (unsigned slot = 0; slot < WORKERS; slot++)
		EXPECT_EQ(EDQUOT, take(1, slot));
	EXPECT_EQ(10U, take_all(2)) << "another user's are its own";
	give_back_one_of(1);
	EXPECT_EQ(0, take(1, 2));
	EXPECT_EQ(EDQUOT, take(1, 2));
}

TEST_F(Shares, RootAndTheStarterAreFree)
{
	limit(10, 2, 1);
	EXPECT_EQ(400U, take_all(0, 400));
	EXPECT_EQ(600U, take_all(STARTER));
}

TEST_F(Shares, OpensCountUntilTheyAreSent)
{
	limit(10, 2);
	EXPECT_EQ(0, take(1, 0, true));
	EXPECT_EQ(0, take(1, 1, true));
	EXPECT_EQ(EDQUOT, take(1, 2, true));
	EXPECT_EQ(0, take(1, 2, false));
	share_sent(s_, all_[0].slot, &all_[0].part);
	share_sent(s_, all_[0].slot, &all_[0].part); /* once is enough */
	EXPECT_EQ(0, take(1, 2, true));
	EXPECT_EQ(EDQUOT, take(1, 2, true));
	while (!all_.empty())
		give_back_one_of(1);
	EXPECT_EQ(0, take(1, 0, true));
	EXPECT_EQ(0, take(1, 0, true));
	EXPECT_EQ(EDQUOT, take(1, 0, true));
}

// Alone it has everything; with others, what leaves as much for each of them.
TEST_F(Shares, ALoneUserHasItAll)
{
	limit(100000);
	EXPECT_EQ(1000U, take_all(1));
}

TEST_F(Shares, WithOthersOneLeavesAsMuchForEach)
{
	limit(100000);
	EXPECT_EQ(1U, take_all(2, 1));
	const unsigned first = take_all(1);
	EXPECT_GE(first, 499U);
	EXPECT_LE(first, 500U) << "one other: half";
	/* The second one is now one of two, and a third would still find something. */
	const unsigned second = take_all(2);
	EXPECT_GE(second, 240U);
	EXPECT_LE(second, 255U);
	const unsigned third = take_all(3);
	EXPECT_GE(third, 60U);
	EXPECT_LT(third, 100U);
	EXPECT_EQ(0, take(4)) << "and so on";
	/* Whoever has most is the one that has to wait. */
	EXPECT_EQ(EDQUOT, take(1));
}

TEST_F(Shares, WhileHalfIsFreeNobodyIsInAnybodysWay)
{
	limit(100000);
	for (uid_t uid = 1; uid <= 50; uid++)
		EXPECT_EQ(0, take(uid));
	EXPECT_EQ(450U, take_all(100, 450));
	EXPECT_EQ(EDQUOT, take(100));
	EXPECT_EQ(0, take(50));
}

TEST_F(Shares, ADeadWorkerHoldsNothing)
{
	limit(9);
	for (int i = 0; i < 9; i++)
		EXPECT_EQ(0, take(1, static_cast<unsigned>(i) % WORKERS, i == 1));
	EXPECT_EQ(EDQUOT, take(1));
	shares_bury(s_, 1);
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(0, take(1, 1));
	EXPECT_EQ(EDQUOT, take(1));
}

// Over all workers; root and the starter are free of it, and of a worker that is gone nothing is left.
TEST_F(Shares, RequestsThatWait)
{
	unsigned place = 0, other = 0;

	limit(10);
	EXPECT_EQ(0, share_queue(s_, 0, 5, 60, now_, &place));
	EXPECT_EQ(0, share_queue(s_, 1, 5, 40, now_, &place));
	EXPECT_EQ(EDQUOT, share_queue(s_, 2, 5, 1, now_, &other));
	EXPECT_EQ(0, share_queue(s_, 0, 6, 100, now_, &other));
	EXPECT_NE(place, other);
	share_unqueue(s_, 1, place, 30);
	EXPECT_EQ(EDQUOT, share_queue(s_, 2, 5, 31, now_, &other));
	EXPECT_EQ(0, share_queue(s_, 2, 5, 30, now_, &other));
	for (const uid_t uid : {uid_t{0}, STARTER})
		EXPECT_EQ(0, share_queue(s_, 0, uid, 1000, now_, &other));
	shares_bury(s_, 0);
	EXPECT_EQ(0, share_queue(s_, 0, 5, 60, now_, &place));
	EXPECT_EQ(EDQUOT, share_queue(s_, 0, 5, 1, now_, &place));
}

TEST_F(Shares, RequestsInASecond)
{
	for (const unsigned rate : {1U, 100U, 5000U}) {
		uint64_t taken = 0;

		limit(100000000, 100, rate);
		max_ = 1000000000;
		/* Asked for all the time, for ten seconds. */
		for (const uint64_t start = now_; now_ < start + 10 * SECOND; now_ += 100000) {
			taken += take(7) == 0;
			if (!all_.empty())
				give_back_one_of(7);
			ASSERT_EQ(0, take(STARTER));
			give_back_one_of(STARTER);
		}
		EXPECT_GE(taken, 10U * rate);
		EXPECT_LE(taken, 10U * rate + std::max(16U, rate / 10));
	}
}

// More users than there are places: some share what is one's, and nothing else goes wrong.
TEST_F(Shares, ManyUsers)
{
	limit(2);
	max_ = 1000000;
	for (int round = 0; round < 3; round++) {
		unsigned refused = 0;

		for (uid_t uid = 1; uid <= 3000; uid++)
			refused += take(uid, uid % WORKERS) != 0;
		EXPECT_GT(refused, 0U);
		EXPECT_LT(refused, 2500U);
		while (!all_.empty()) {
			share_give_back(s_, all_.back().slot, &all_.back().part);
			all_.pop_back();
		}
		now_ += SECOND;
	}
	/* When all is given back each has its own again. */
	EXPECT_EQ(0, take(4001));
	EXPECT_EQ(0, take(4001));
	EXPECT_EQ(EDQUOT, take(4001));
}

TEST_F(Shares, WhoIsBarred)
{
	const uid_t users[] = {1001, 1002};
	limit(10);

	EXPECT_FALSE(share_is_barred(s_, 1001));
	shares_bar(s_, users, 2);
	EXPECT_TRUE(share_is_barred(s_, 1001));
	EXPECT_TRUE(share_is_barred(s_, 1002));
	EXPECT_FALSE(share_is_barred(s_, 1003));
	shares_bar(s_, users + 1, 1);
	EXPECT_FALSE(share_is_barred(s_, 1001));
	EXPECT_TRUE(share_is_barred(s_, 1002));
	shares_bar(s_, nullptr, 0);
	EXPECT_FALSE(share_is_barred(s_, 1002));
}

TEST_F(Shares, WhetherThereAreOthers)
{
	unsigned place;
	limit(10);

	EXPECT_FALSE(shares_have_others(s_, 1, now_));
	ASSERT_EQ(0, share_queue(s_, 0, 1, 1, now_, &place));
	EXPECT_FALSE(shares_have_others(s_, 1, now_)) << "he is no other";
	EXPECT_TRUE(shares_have_others(s_, 2, now_));
	EXPECT_TRUE(shares_have_others(s_, 2, now_ + 9 * SECOND));
	EXPECT_FALSE(shares_have_others(s_, 2, now_ + 11 * SECOND));
	share_unqueue(s_, 0, place, 1);
	now_ += 5 * SECOND;
	ASSERT_EQ(0, share_queue(s_, 1, 1, 1, now_, &place));
	EXPECT_TRUE(shares_have_others(s_, 2, now_ + 9 * SECOND)) << "he has come again";
}

TEST_F(Shares, WhoIsNeverBarred)
{
	const uid_t users[] = {0, STARTER};
	limit(10);

	shares_bar(s_, users, 2);
	EXPECT_FALSE(share_is_barred(s_, 0));
	EXPECT_FALSE(share_is_barred(s_, STARTER));
}

} // namespace
