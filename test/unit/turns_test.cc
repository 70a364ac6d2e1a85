// SPDX-License-Identifier: BSD-2-Clause
// Whose turn it is.
extern "C" {
#include "server/turns.h"
}

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <random>
#include <string>

namespace
{

constexpr uint64_t START = 1000, LATELY = TURNS_LATELY_NS;

class Turns : public ::testing::Test
{
      protected:
	struct Item {
		turn t;
		std::string name;
	};

	Turns()
	{
		turns_init(&turns_);
	}
	void add(uid_t uid, const std::string &name, uint64_t now = START, unsigned requests = 1)
	{
		items_.push_back({{}, name});
		turns_add(&turns_, &items_.back().t, uid, requests, now);
	}
	// Who is next; that is done with it, or goes on.
	std::string next(bool done = true, uint64_t now = START)
	{
		turn *t = turns_next(&turns_, now, true);

		if (!t)
			return "nobody";
		for (const Item &i : items_) {
			if (&i.t != t)
				continue;
			if (done)
				turns_done(&turns_, t);
			return i.name;
		}
		return "a stranger";
	}

	turns turns_;
	std::deque<Item> items_; /* which stay where they are */
};

TEST_F(Turns, NobodyWaitsAtFirst)
{
	EXPECT_EQ("nobody", next());
	EXPECT_FALSE(turns_are_shared(&turns_, START));
}

TEST_F(Turns, OfOneUserInOrder)
{
	for (const char *name : {"a", "b", "c"})
		add(1, name);
	EXPECT_EQ("a", next(false));
	EXPECT_EQ("a", next());
	EXPECT_EQ("b", next());
	add(1, "d");
	EXPECT_EQ("c", next());
	EXPECT_EQ("d", next());
	EXPECT_EQ("nobody", next());
	add(1, "e");
	EXPECT_EQ("e", next());
}

TEST_F(Turns, UsersTakeThem)
{
	for (const char *name : {"a1", "a2", "a3"})
		add(1, name);
	add(2, "b1");
	add(3, "c1");
	add(2, "b2");
	EXPECT_EQ("a1", next(false));
	EXPECT_EQ("b1", next());
	EXPECT_EQ("c1", next(false));
	EXPECT_EQ("a1", next());
	EXPECT_EQ("b2", next());
	add(2, "b3");
	EXPECT_EQ("c1", next());
	EXPECT_EQ("a2", next());
	EXPECT_EQ("b3", next());
	EXPECT_EQ("a3", next());
	EXPECT_EQ("nobody", next());
}

// Not only of who is next: a transfer may end at any time.
TEST_F(Turns, OneThatIsDoneOutOfTurn)
{
	for (const char *name : {"a1", "a2", "a3", "b1"})
		add(name[0] == 'a' ? 1 : 2, name);
	turns_done(&turns_, &items_[1].t);
	EXPECT_EQ("a1", next());
	EXPECT_EQ("b1", next());
	EXPECT_EQ("a3", next());
	EXPECT_EQ("nobody", next());
}

TEST_F(Turns, SharedForAWhileAfterSomebodyElseCame)
{
	add(1, "a");
	add(1, "b");
	EXPECT_FALSE(turns_are_shared(&turns_, START));
	add(2, "c", START + 5);
	EXPECT_TRUE(turns_are_shared(&turns_, START + 5));
	EXPECT_TRUE(turns_are_shared(&turns_, START + 4 + LATELY));
	EXPECT_FALSE(turns_are_shared(&turns_, START + 5 + LATELY));
	add(2, "d", START + 6 + LATELY);
	EXPECT_FALSE(turns_are_shared(&turns_, START + 6 + LATELY));
	add(1, "e", START + 7 + LATELY);
	EXPECT_TRUE(turns_are_shared(&turns_, START + 7 + LATELY));
}

// ---- Rest

class Rest : public Turns
{
      protected:
	static constexpr unsigned GREEDY = 1, MODEST = 2;
	static constexpr uint64_t REST = TURNS_REST_NS, COMPANY = TURNS_COMPANY_NS;

	Rest()
	{
		add(GREEDY, "much", START, 1000);
	}
	// One turn of each at that time, which takes so long.
	void modest(uint64_t now)
	{
		add(MODEST, "little", now, TURNS_MODEST);
		charge(MODEST, now, 10);
		turns_done(&turns_, &items_.back().t);
		items_.pop_back();
	}
	// A turn of eight requests.
	void charge(uid_t uid, uint64_t now, uint64_t took, unsigned price = 1)
	{
		for (Item &i : items_) {
			if (i.t.uid != uid)
				continue;
			turns_.users[i.t.user].had = turns_.users[i.t.user].waiting;
			turns_did(&turns_, &i.t, i.t.left > 8 ? i.t.left - 8 : i.t.left);
			turns_charge(&turns_, i.t.user, took, price, now);
			return;
		}
	}
	bool is_resting(uint64_t now)
	{
		const bool rests = next(false, now) == "nobody";

		EXPECT_EQ(rests, turns_rest_ns(&turns_, now, true) > 0);
		return rests;
	}
};

TEST_F(Rest, NotWhoIsAlone)
{
	for (unsigned i = 0; i < 100; i++) {
		charge(GREEDY, START + i, REST);
		EXPECT_FALSE(is_resting(START + i));
	}
}

// Two users: half of the time.
TEST_F(Rest, WhoHasHadHisPart)
{
	uint64_t now = 1000 * COMPANY, had = 0;
	const uint64_t begin = now;

	while (now < begin + 100 * COMPANY) {
		modest(now);
		if (is_resting(now)) {
			now += turns_rest_ns(&turns_, now, true);
			continue;
		}
		now += REST / 10;
		had += REST / 10;
		turns_charge(&turns_, items_.front().t.user, REST / 10, 1, now);
	}
	EXPECT_NEAR(0.5, static_cast<double>(had) / static_cast<double>(now - begin), 0.02);
}

TEST_F(Rest, ThePriceCounts)
{
	modest(START);
	charge(GREEDY, START, REST / 2 + 1, 4);
	EXPECT_TRUE(is_resting(START));
	EXPECT_TRUE(is_resting(START + REST + 1));
	EXPECT_FALSE(is_resting(START + 5 * REST));
}

TEST_F(Rest, OnlyBesideWhoWasThereJustNow)
{
	modest(START);
	charge(GREEDY, START + COMPANY, 10 * REST);
	EXPECT_FALSE(is_resting(START + COMPANY));
	modest(START + COMPANY);
	charge(GREEDY, START + COMPANY + 1, 10 * REST);
	EXPECT_TRUE(is_resting(START + COMPANY + 1));
}

// Those who ask for much take turns and rest not: somebody would have to be there who gains by it.
TEST_F(Rest, NotBesideOthersWhoAskForMuch)
{
	add(MODEST, "as much", START, 1000);
	for (unsigned i = 0; i < 10; i++) {
		charge(GREEDY, START + i, 10 * REST);
		charge(MODEST, START + i, 10 * REST);
		EXPECT_EQ("much", next(false, START + i));
		EXPECT_EQ("as much", next(false, START + i));
	}
}

// Who asks for little never rests, whatever he has had.
TEST_F(Rest, NotWhoAsksForLittle)
{
	add(3, "another", START, 1);
	charge(3, START, 1);
	add(MODEST, "little", START, TURNS_MODEST);
	charge(MODEST, START, 100 * REST, 10);
	charge(GREEDY, START, 100 * REST);
	EXPECT_EQ("another", next(false));
	EXPECT_EQ("little", next(false));
	EXPECT_EQ("another", next());
	EXPECT_EQ("little", next());
	EXPECT_TRUE(is_resting(START));
}

// The end of a batch makes nobody modest, nor does it make others rest.
TEST_F(Rest, TheTailOfMuchIsNotLittle)
{
	add(MODEST, "batch", START, 2 * TURNS_MODEST);
	charge(MODEST, START, 10);
	charge(MODEST, START + 1, 10);
	charge(GREEDY, START + 2, 10 * REST);
	EXPECT_FALSE(is_resting(START + 2));
	turns_done(&turns_, &items_.back().t);
	items_.pop_back();
	modest(START + COMPANY + 2);
	charge(GREEDY, START + COMPANY + 3, 10 * REST);
	EXPECT_TRUE(is_resting(START + COMPANY + 3));
}

// Whatever a clock says of how long it took: a machine may stand still.
TEST_F(Rest, ForSoLongAndNoLonger)
{
	modest(START);
	charge(GREEDY, START, 1000 * COMPANY, 4);
	EXPECT_TRUE(is_resting(START + TURNS_DEBT_NS - 1));
	EXPECT_FALSE(is_resting(START + TURNS_DEBT_NS));
}

// Whoever it is, and whether or not anybody rests.
TEST_F(Rest, WhoIsLeftAlone)
{
	const auto who = [&](uint64_t now) {
		turn *const t = turns_next(&turns_, now, false);

		return t ? static_cast<int>(t->uid) : 0;
	};

	add(MODEST, "little", START, 1);
	turns_leave_alone(&turns_, GREEDY, START + 100);
	EXPECT_EQ(int{MODEST}, who(START));
	EXPECT_EQ(int{MODEST}, who(START));
	EXPECT_EQ(0U, turns_rest_ns(&turns_, START, false));
	turns_leave_alone(&turns_, MODEST, START + 60);
	EXPECT_EQ(0, who(START));
	EXPECT_EQ(60U, turns_rest_ns(&turns_, START, false));
	EXPECT_EQ(int{MODEST}, who(START + 60));
	EXPECT_EQ(int{GREEDY}, who(START + 100));
}

// What he did not use of his part is not kept for him, but for the length of a rest.
TEST_F(Rest, NothingIsSavedUp)
{
	const uint64_t later = START + 1000 * COMPANY;

	modest(later);
	charge(GREEDY, later, REST + 1);
	EXPECT_TRUE(is_resting(later));
}

// All who find no place of their own have one together, and what waits is served all the same.
TEST_F(Rest, MoreUsersThanPlaces)
{
	for (uid_t uid = 100; uid < 100 + 2 * TURNS_USERS; uid++)
		add(uid, std::to_string(uid), START, 1);
	for (uid_t uid = 100; uid < 100 + 2 * TURNS_USERS; uid++) {
		next(false); /* "much", or one of them */
	}
	for (unsigned left = 2 * TURNS_USERS; left > 0;) {
		const std::string name = next(false);

		ASSERT_NE("nobody", name);
		if (name == "much")
			continue;
		for (Item &i : items_) {
			if (i.name == name)
				turns_done(&turns_, &i.t);
		}
		left--;
	}
	EXPECT_EQ("much", next());
	EXPECT_EQ("nobody", next());
	for (const turns_user &u : turns_.users)
		EXPECT_EQ(0U, u.waiting);
}

// ---- At random

// As a list of each user's does it.
TEST_F(Turns, AnyOrder)
{
	std::mt19937 random(3);
	std::map<uid_t, std::deque<std::string>> model;
	std::map<uid_t, unsigned> passed_over;

	for (int i = 0; i < 20000; i++) {
		const uid_t uid = random() % 5;

		if (random() % 2 == 0) {
			add(uid, std::to_string(i));
			model[uid].push_back(std::to_string(i));
			continue;
		}
		const bool done = random() % 3 != 0;
		const std::string name = next(done);
		size_t users = 0;
		bool found = name == "nobody";
		for (auto &[user, line] : model) {
			users += !line.empty();
			passed_over[user] = line.empty() ? 0 : passed_over[user] + 1;
			if (line.empty() || line.front() != name)
				continue;
			found = true;
			passed_over[user] = 0;
			if (done)
				line.pop_front();
		}
		ASSERT_TRUE(found) << name << " is not the first of any user";
		ASSERT_EQ(users == 0, name == "nobody");
		for (const auto &[user, times] : passed_over)
			ASSERT_LE(times, 2 * model.size()) << user;
	}
}

} // namespace
