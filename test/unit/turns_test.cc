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
	void add(uid_t uid, const std::string &name, uint64_t now = START)
	{
		items_.push_back({{}, name});
		turns_add(&turns_, &items_.back().t, uid, now);
	}
	// Who is next; that is done with it, or goes on.
	std::string next(bool done = true)
	{
		turn *t = turns_next(&turns_);

		if (!t)
			return "nobody";
		for (const Item &i : items_) {
			if (&i.t != t)
				continue;
			if (done)
				turns_done(t);
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
	turns_done(&items_[1].t);
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
