// SPDX-License-Identifier: BSD-2-Clause
// The places of helpers: who may take one, whom it is handed on to, and that none is lost whoever dies when.
extern "C" {
#include "server/options.h"
#include "server/pool.h"
}

#include "test/support/bounded.h"
#include "test/support/daemon.h"
#include "test/support/fd.h"

#include <algorithm>
#include <atomic>
#include <csignal>
#include <fcntl.h>
#include <map>
#include <random>
#include <sched.h>
#include <set>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <vector>

namespace
{

constexpr uint64_t MS = 1000 * 1000, SECOND = 1000 * MS;

// The rules, as pool.h says them.
struct Rules {
	unsigned readers, per_device;

	unsigned half() const
	{
		return std::max(readers / 2, 1U);
	}
	bool allow(const std::vector<pool_use> &busy, const pool_use &use) const
	{
		const auto of = [&](auto same) {
			return static_cast<unsigned>(std::count_if(busy.begin(), busy.end(), same));
		};
		const unsigned device = of([&](const pool_use &b) { return b.device == use.device; });
		const unsigned uid = of([&](const pool_use &b) { return b.uid == use.uid; });
		const auto all = static_cast<unsigned>(busy.size());

		if (device >= per_device || uid >= half() || all >= readers)
			return false;
		return device < std::min(half() - uid, readers - all);
	}
};

class Pool : public BoundedTest
{
      protected:
	void make(unsigned readers, unsigned per_device)
	{
		p_ = pools_new(readers, per_device);
		ASSERT_NE(nullptr, p_);
	}

	std::vector<unsigned> wanted(pool_kind kind = POOL_READ) const
	{
		std::vector<unsigned> out;

		for (unsigned i = 0; i < pools_places(p_); i++) {
			if (pool_is_wanted(p_, kind, i))
				out.push_back(i);
		}
		return out;
	}

	// What a process does that the master has started: it is there, and has nothing to do.
	place arrive(pool_kind kind = POOL_READ, uint64_t now = 1)
	{
		const std::vector<unsigned> where = wanted(kind);
		place at = {kind, where.empty() ? 0 : where[0], 0};

		EXPECT_EQ(1U, where.size());
		EXPECT_TRUE(pool_arrive(p_, &at, now));
		return at;
	}

	unsigned add_idle(pool_kind kind = POOL_READ)
	{
		EXPECT_TRUE(pool_want(p_, kind, 1));
		place at = arrive(kind);
		EXPECT_EQ(-1, hand_on(&at));
		return at.index;
	}

	void fill(unsigned n, pool_kind kind = POOL_READ)
	{
		for (unsigned i = 0; i < n; i++)
			add_idle(kind);
	}

	int hand_on(place *at, unsigned after = 0, unsigned hops = POOL_ALL_WORKERS, uint64_t now = 1)
	{
		bool lost = true;
		const int worker = pool_hand_on(p_, at, after, hops, now, &lost);

		EXPECT_FALSE(lost);
		return worker;
	}

	bool is_lost(place at)
	{
		bool lost = false;

		EXPECT_EQ(-1, pool_hand_on(p_, &at, 0, POOL_ALL_WORKERS, 1, &lost));
		return lost;
	}

	bool take(uint64_t device, uid_t uid, place *out, unsigned worker = 0, pool_kind kind = POOL_READ,
		uint64_t now = 1)
	{
		const pool_use use = {device, uid};

		return pool_take(p_, kind, worker, &use, now, out);
	}

	bool has_room(uint64_t device, uid_t uid, pool_kind kind = POOL_READ, uint64_t now = 1)
	{
		const pool_use use = {device, uid};

		return pool_has_room(p_, kind, &use, now);
	}

	pools *p_ = nullptr;
};

// ---- Processes that are wanted

TEST_F(Pool, HasPlacesForWhatIsLost)
{
	for (const unsigned readers : {1U, 2U, 5U, unsigned{READERS_MAX}}) {
		make(readers, 4);
		EXPECT_EQ(POOL_PLACES * readers, pools_places(p_));
	}
}

TEST_F(Pool, IsEmptyAtFirst)
{
	make(8, 4);
	place at;

	for (const pool_kind kind : {POOL_OPEN, POOL_READ, POOL_WRITE}) {
		EXPECT_TRUE(wanted(kind).empty());
		EXPECT_FALSE(take(1, 1, &at, 0, kind));
		EXPECT_TRUE(has_room(1, 1, kind));
		EXPECT_EQ(0U, pool_stuck(p_, kind));
	}
	EXPECT_FALSE(pool_is_sick(p_, 1, SECOND));
}

TEST_F(Pool, WantsOneAtATime)
{
	make(8, 4);
	EXPECT_TRUE(pool_want(p_, POOL_READ, 1));
	EXPECT_FALSE(pool_want(p_, POOL_READ, 1)) << "one is on its way";
	EXPECT_EQ(1U, wanted(POOL_READ).size());
	EXPECT_TRUE(wanted(POOL_OPEN).empty());
	EXPECT_TRUE(pool_want(p_, POOL_OPEN, 1)) << "of another kind";
	place at = arrive();
	EXPECT_TRUE(wanted().empty());
	EXPECT_TRUE(pool_want(p_, POOL_READ, 1));
	EXPECT_EQ(-1, hand_on(&at));
}

TEST_F(Pool, WantsNoMoreThanReadersLive)
{
	make(3, 3);
	place at;

	fill(3);
	EXPECT_FALSE(pool_want(p_, POOL_READ, 1));
	ASSERT_TRUE(take(1, 1, &at));
	EXPECT_FALSE(pool_want(p_, POOL_READ, 1)) << "one that is busy lives";
	pool_clear(p_, POOL_READ, at.index);
	EXPECT_TRUE(pool_want(p_, POOL_READ, 1));
}

TEST_F(Pool, OneThatCouldNotBeStartedIsWantedAgain)
{
	make(2, 2);
	ASSERT_TRUE(pool_want(p_, POOL_READ, 1));
	pool_clear(p_, POOL_READ, wanted()[0]);
	EXPECT_TRUE(wanted().empty());
	EXPECT_TRUE(pool_want(p_, POOL_READ, 1));
}

// The master has given up on it: a process that comes late is not let in.
TEST_F(Pool, OneThatIsNotWantedDoesNotArrive)
{
	make(2, 2);
	place at = {POOL_READ, 0, 0};

	EXPECT_FALSE(pool_arrive(p_, &at, 1));
	const unsigned idle = add_idle();
	at.index = idle;
	EXPECT_FALSE(pool_arrive(p_, &at, 1));
	ASSERT_TRUE(pool_want(p_, POOL_READ, 1));
	at.index = wanted()[0];
	pool_clear(p_, POOL_READ, at.index);
	EXPECT_FALSE(pool_arrive(p_, &at, 1));
}

TEST_F(Pool, OneThatLeavesIsNotTaken)
{
	make(1, 1);
	place at;
	const unsigned index = add_idle();

	EXPECT_TRUE(pool_leave(p_, POOL_READ, index));
	EXPECT_FALSE(take(1, 1, &at));
	EXPECT_FALSE(pool_leave(p_, POOL_READ, index));
	pool_clear(p_, POOL_READ, index);
	add_idle();
	ASSERT_TRUE(take(1, 1, &at));
	EXPECT_FALSE(pool_leave(p_, POOL_READ, at.index)) << "it has a job";
	pool_set_waiting(p_, POOL_READ, 5, 1);
	EXPECT_EQ(5, hand_on(&at));
	EXPECT_FALSE(pool_leave(p_, POOL_READ, at.index)) << "it is offered to somebody";
}

// ---- The rules

TEST_F(Pool, ADeviceTakesSoMany)
{
	make(64, 3);
	fill(8);
	place at;

	for (uid_t uid = 0; uid < 3; uid++)
		EXPECT_TRUE(take(1, uid, &at));
	EXPECT_FALSE(has_room(1, 7));
	EXPECT_FALSE(take(1, 7, &at));
	EXPECT_TRUE(take(2, 7, &at));
	EXPECT_EQ(-1, hand_on(&at));
}

TEST_F(Pool, AUidTakesHalf)
{
	for (const unsigned readers : {2U, 3U, 8U, 9U}) {
		make(readers, readers);
		fill(readers);
		place at;

		for (unsigned i = 0; i < readers / 2; i++)
			EXPECT_TRUE(take(i + 1, 1, &at)) << i << " of " << readers;
		EXPECT_FALSE(has_room(100, 1));
		EXPECT_FALSE(take(100, 1, &at));
		EXPECT_TRUE(take(100, 2, &at));
	}
}

// Of eight, one uid has four: devices that hang take two, one and one, rather than all.
TEST_F(Pool, DevicesOfAUidLeaveOneForTheNext)
{
	make(8, 4);
	fill(8);
	place at;

	EXPECT_TRUE(take(1, 1, &at));
	EXPECT_TRUE(take(1, 1, &at));
	EXPECT_FALSE(take(1, 1, &at)) << "two are left, and it has two";
	EXPECT_TRUE(take(2, 1, &at));
	EXPECT_FALSE(take(2, 1, &at)) << "one is left, and it has one";
	EXPECT_TRUE(take(3, 1, &at));
	EXPECT_FALSE(take(4, 1, &at));
	EXPECT_TRUE(take(4, 2, &at)) << "another uid";
}

TEST_F(Pool, OneReaderServesEverybodyInTurn)
{
	make(1, 1);
	fill(1);
	place at;

	EXPECT_FALSE(pool_want(p_, POOL_READ, 1));
	for (unsigned i = 0; i < 3; i++) {
		place other;

		ASSERT_TRUE(take(i, i, &at));
		EXPECT_FALSE(has_room(9, 9));
		EXPECT_FALSE(take(9, 9, &other));
		EXPECT_EQ(-1, hand_on(&at));
	}
}

TEST_F(Pool, KindsDoNotCountTogether)
{
	make(2, 1);
	place at;

	for (const pool_kind kind : {POOL_OPEN, POOL_READ, POOL_WRITE})
		fill(2, kind);
	for (const pool_kind kind : {POOL_OPEN, POOL_READ, POOL_WRITE}) {
		EXPECT_TRUE(take(1, 1, &at, 0, kind));
		EXPECT_EQ(kind, at.kind);
		EXPECT_FALSE(take(1, 2, &at, 0, kind));
	}
}

// Whatever was taken and given back before: what is allowed is what the rules say, whether one asks or takes.
TEST_F(Pool, RulesHoldWhateverCameBefore)
{
	std::mt19937 random(1);

	for (const Rules rules : {Rules{1, 1}, Rules{2, 1}, Rules{3, 2}, Rules{4, 4}, Rules{8, 3}, Rules{16, 4}}) {
		make(rules.readers, rules.per_device);
		fill(rules.readers);
		std::vector<pool_use> busy;
		std::vector<place> places;

		for (int i = 0; i < 3000; i++) {
			const pool_use use = {random() % 4, static_cast<uid_t>(random() % 3)};
			place at;

			if (!busy.empty() && random() % 3 == 0) {
				const size_t n = random() % busy.size();

				ASSERT_EQ(-1, hand_on(&places[n]));
				places.erase(places.begin() + static_cast<long>(n));
				busy.erase(busy.begin() + static_cast<long>(n));
				continue;
			}
			const bool may = rules.allow(busy, use);
			ASSERT_EQ(may, pool_has_room(p_, POOL_READ, &use, 1));
			ASSERT_EQ(may, pool_take(p_, POOL_READ, 0, &use, 1, &at)) << i;
			if (may) {
				busy.push_back(use);
				places.push_back(at);
			}
		}
	}
}

// ---- Handing on

TEST_F(Pool, AJobIsItsPlacesAlone)
{
	make(2, 2);
	fill(1);
	place at, other;

	ASSERT_TRUE(take(1, 1, &at, 3));
	EXPECT_TRUE(pool_is_busy(p_, &at));
	EXPECT_FALSE(take(2, 2, &other)) << "there is no other";
	const place old = at;
	EXPECT_EQ(-1, hand_on(&at));
	EXPECT_FALSE(pool_is_busy(p_, &old));
	EXPECT_TRUE(is_lost(old));
	EXPECT_TRUE(is_lost(at)) << "it is idle";
	ASSERT_TRUE(take(1, 1, &other, 3));
	EXPECT_FALSE(pool_is_busy(p_, &old));
	EXPECT_TRUE(is_lost(old));
	EXPECT_TRUE(pool_is_busy(p_, &other));
}

TEST_F(Pool, IsOfferedToTheNextWhoWaits)
{
	make(2, 2);
	place at;

	for (const unsigned waiting : {3U, 5U, unsigned{WORKERS_MAX - 1}})
		pool_set_waiting(p_, POOL_READ, waiting, 1);
	pool_set_waiting(p_, POOL_OPEN, 4, 1); /* not of this kind */
	ASSERT_TRUE(pool_want(p_, POOL_READ, 1));
	at = arrive();
	const struct {
		unsigned after;
		int next;
	} cases[] = {{0, 3}, {2, 3}, {3, 5}, {4, 5}, {5, WORKERS_MAX - 1}, {WORKERS_MAX - 1, 3}};
	for (const auto &c : cases) {
		EXPECT_EQ(c.next, hand_on(&at, c.after)) << c.after;
		EXPECT_TRUE(pool_is_offered(p_, &at, static_cast<unsigned>(c.next)));
		EXPECT_FALSE(pool_is_offered(p_, &at, 0));
	}
	for (const unsigned waiting : {5U, unsigned{WORKERS_MAX - 1}})
		pool_set_waiting(p_, POOL_READ, waiting, 0);
	EXPECT_EQ(3, hand_on(&at, 3)) << "after all others, itself";
	EXPECT_EQ(-1, hand_on(&at, 3, 5)) << "it is not among the next five";
	ASSERT_TRUE(take(1, 1, &at));
	EXPECT_EQ(3, hand_on(&at, 0, 3)) << "it is among the next three";
	EXPECT_EQ(-1, hand_on(&at, 0, 0)) << "no round at all";
}

TEST_F(Pool, AnOfferIsForOneWorkerOnce)
{
	make(4, 4);
	fill(1);
	const pool_use use = {1, 1};
	place at, other;

	ASSERT_TRUE(take(1, 1, &at));
	pool_set_waiting(p_, POOL_READ, 2, 1);
	ASSERT_EQ(2, hand_on(&at));
	const place offer = at;
	EXPECT_FALSE(take(2, 2, &other)) << "it is offered to somebody";
	EXPECT_FALSE(pool_is_busy(p_, &offer));
	EXPECT_FALSE(pool_accept(p_, &at, 1, &use, 1));
	EXPECT_TRUE(pool_is_offered(p_, &offer, 2));
	EXPECT_EQ(offer.seq, at.seq) << "it is kept, to be handed on";
	at.seq--;
	EXPECT_FALSE(pool_accept(p_, &at, 2, &use, 1)) << "an offer of long ago";
	at = offer;
	EXPECT_TRUE(pool_accept(p_, &at, 2, &use, 1));
	EXPECT_TRUE(pool_is_busy(p_, &at));
	EXPECT_NE(offer.seq, at.seq);
	other = offer;
	EXPECT_FALSE(pool_accept(p_, &other, 2, &use, 1)) << "twice";
	EXPECT_TRUE(pool_is_busy(p_, &at));
}

TEST_F(Pool, AnOfferStandsIfTheRulesForbidWhatItIsWantedFor)
{
	make(4, 1);
	fill(2);
	const pool_use same = {1, 2}, other_use = {2, 2};
	place first, at;

	ASSERT_TRUE(take(1, 1, &first));
	ASSERT_TRUE(take(2, 1, &at));
	pool_set_waiting(p_, POOL_READ, 2, 1);
	pool_set_waiting(p_, POOL_READ, 7, 1);
	ASSERT_EQ(2, hand_on(&at));
	const place offer = at;
	EXPECT_FALSE(pool_accept(p_, &at, 2, &same, 1));
	EXPECT_TRUE(pool_is_offered(p_, &offer, 2));
	EXPECT_EQ(offer.seq, at.seq) << "it is kept, to be handed on";
	ASSERT_EQ(7, hand_on(&at, 2));
	EXPECT_FALSE(pool_is_offered(p_, &offer, 2));
	EXPECT_TRUE(pool_accept(p_, &at, 7, &other_use, 1));
}

TEST_F(Pool, AnOfferThatIsNotTakenUpIsTakenBack)
{
	make(4, 4);
	fill(1);
	const pool_use use = {1, 1};
	place at, other;

	ASSERT_TRUE(take(1, 1, &at));
	pool_set_waiting(p_, POOL_READ, 2, 1);
	ASSERT_EQ(2, hand_on(&at, 0, POOL_ALL_WORKERS, SECOND));
	EXPECT_FALSE(pool_check_stuck(p_, POOL_READ, at.index, 2 * SECOND - MS, 0));
	EXPECT_TRUE(pool_is_offered(p_, &at, 2)) << "there is still time";
	EXPECT_FALSE(pool_check_stuck(p_, POOL_READ, at.index, 2 * SECOND + MS, 0)) << "nobody is stuck";
	EXPECT_FALSE(pool_is_offered(p_, &at, 2));
	EXPECT_TRUE(is_lost(at));
	other = at;
	EXPECT_FALSE(pool_accept(p_, &other, 2, &use, 1));
	EXPECT_TRUE(take(1, 1, &other)) << "it is idle";
}

// ---- Taking too long

TEST_F(Pool, ADeviceWhoseJobTakesLongIsSick)
{
	make(4, 4);
	fill(2);
	place at;

	ASSERT_TRUE(take(7, 1, &at, 0, POOL_READ, SECOND));
	EXPECT_FALSE(pool_is_sick(p_, 7, SECOND + 100 * MS));
	EXPECT_TRUE(pool_is_sick(p_, 7, SECOND + 101 * MS));
	EXPECT_FALSE(pool_is_sick(p_, 8, SECOND + 101 * MS));
	EXPECT_EQ(-1, hand_on(&at));
	EXPECT_FALSE(pool_is_sick(p_, 7, SECOND + 101 * MS));
	ASSERT_TRUE(take(7, 1, &at, 0, POOL_READ, 2 * SECOND));
	EXPECT_FALSE(pool_is_sick(p_, 7, 2 * SECOND + 1)) << "its time began anew";
	/* That nobody waits for it any more does not make it well. */
	ASSERT_TRUE(pool_check_stuck(p_, POOL_READ, at.index, 3 * SECOND, 500 * MS));
	EXPECT_TRUE(pool_is_sick(p_, 7, 3 * SECOND));
	pool_clear(p_, POOL_READ, at.index);
	EXPECT_FALSE(pool_is_sick(p_, 7, 3 * SECOND)) << "its process is gone";
}

// A process that arrives works for no device, however long it takes to find out that there is nothing to do.
TEST_F(Pool, OneThatArrivesMakesNothingSick)
{
	make(2, 2);
	fill(1);
	place at;

	ASSERT_TRUE(take(7, 1, &at));
	pool_clear(p_, POOL_READ, at.index);
	ASSERT_TRUE(pool_want(p_, POOL_READ, 1));
	at = arrive();
	EXPECT_FALSE(pool_is_sick(p_, 7, 10 * SECOND));
}

TEST_F(Pool, AJobThatTakesTooLongIsStuckOnce)
{
	make(2, 2);
	fill(1);
	place at;

	ASSERT_TRUE(take(7, 1, &at, 0, POOL_READ, SECOND));
	const auto check = [&](uint64_t now, uint64_t ns) {
		return pool_check_stuck(p_, POOL_READ, at.index, now, ns);
	};
	EXPECT_FALSE(check(100 * SECOND, 0)) << "no limit";
	EXPECT_FALSE(check(2 * SECOND, SECOND)) << "not longer";
	EXPECT_EQ(0U, pool_stuck(p_, POOL_READ));
	EXPECT_TRUE(check(2 * SECOND + 1, SECOND));
	EXPECT_FALSE(check(3 * SECOND, SECOND)) << "that is known";
	EXPECT_EQ(1U, pool_stuck(p_, POOL_READ));
	EXPECT_EQ(0U, pool_stuck(p_, POOL_OPEN));
	EXPECT_FALSE(pool_is_busy(p_, &at)) << "it is not its helper's any more";
	EXPECT_TRUE(is_lost(at));
}

TEST_F(Pool, AnIdleOneIsNeverStuck)
{
	make(2, 2);
	const unsigned index = add_idle();
	place at;

	EXPECT_FALSE(pool_check_stuck(p_, POOL_READ, index, 1000 * SECOND, 1));
	EXPECT_TRUE(take(1, 1, &at));
}

// All of them hang, and then all that replace them: until the first are reaped there is nothing left to start. A uid may
// have no more of them than its half of the places.
TEST_F(Pool, StuckOnesAreReplacedWithinLimits)
{
	constexpr unsigned READERS = 4;
	std::vector<place> stuck;

	make(READERS, READERS);
	for (unsigned round = 0; round < POOL_PLACES; round++) {
		std::vector<place> taken;

		fill(READERS);
		for (unsigned i = 0; i < READERS; i++) {
			place at;

			ASSERT_TRUE(take(i / 2, i % 2 + 1, &at) || take(10 + 10 * round + i, i % 2 + 1, &at)) << i;
			taken.push_back(at);
		}
		EXPECT_FALSE(has_room(99, 99));
		for (const place &at : taken)
			EXPECT_TRUE(pool_check_stuck(p_, POOL_READ, at.index, SECOND, MS));
		EXPECT_EQ(round < POOL_PLACES - 1, has_room(99, 1));
		EXPECT_FALSE(has_room(0, 1)) << "all that are stuck are enough for a device that has some of them";
		stuck.insert(stuck.end(), taken.begin(), taken.end());
		EXPECT_EQ(stuck.size(), pool_stuck(p_, POOL_READ));
	}
	EXPECT_FALSE(pool_want(p_, POOL_READ, 1)) << "there is no place left";
	for (const place &at : stuck) {
		EXPECT_EQ(0U, pool_deaths(p_, POOL_READ, at.index));
		pool_clear(p_, POOL_READ, at.index);
		EXPECT_EQ(1U, pool_deaths(p_, POOL_READ, at.index));
	}
	EXPECT_EQ(0U, pool_stuck(p_, POOL_READ));
	fill(READERS);
}

// A device that never answers gets as many again as it may have at work, and then none: the places are for others too.
TEST_F(Pool, ADeviceCannotTakeAllPlacesByAndBy)
{
	constexpr uint64_t DEAD = 7;
	unsigned stuck = 0;

	make(8, 2);
	fill(8);
	for (unsigned i = 0; i < 16; i++) {
		place at;

		/* Each time another uid, so that only the device counts. */
		if (!take(DEAD, 100 + i, &at))
			break;
		EXPECT_TRUE(pool_check_stuck(p_, POOL_READ, at.index, SECOND, MS));
		stuck++;
		add_idle();
	}
	EXPECT_EQ(4U, stuck);
	EXPECT_TRUE(has_room(DEAD + 1, 1));
}

// ---- Overdue

class Overdue : public Pool
{
      protected:
	static constexpr unsigned READERS = 16, PER_DEVICE = 4;
	static constexpr uid_t UID = 1;

	void SetUp() override
	{
		Pool::SetUp();
		make(READERS, PER_DEVICE);
		fill(READERS);
	}

	// As many as it gets; more processes are started if the pool wants some.
	unsigned take_all(uint64_t device, uid_t uid = UID)
	{
		for (unsigned n = 0;; n++) {
			place at;

			if (pool_want(p_, POOL_READ, now_)) {
				at = arrive(POOL_READ, now_);
				hand_on(&at);
			}
			if (!take(device, uid, &at, 0, POOL_READ, now_))
				return n;
			held_[device].push_back(at);
		}
	}
	void wait()
	{
		now_ += pool_overdue_ns + 1;
	}

	uint64_t now_ = SECOND;
	std::map<uint64_t, std::vector<place>> held_;
};

TEST_F(Overdue, ThreeDevicesThatHangTakeNothingFromAFourth)
{
	for (const uint64_t device : {1, 2, 3}) {
		EXPECT_EQ(PER_DEVICE, take_all(device)) << device;
		EXPECT_EQ(0U, take_all(device)) << "what is overdue still counts for its device";
		wait();
		EXPECT_EQ(0U, take_all(device)) << device;
	}
	EXPECT_EQ(PER_DEVICE, take_all(4));
	EXPECT_EQ(PER_DEVICE, take_all(4, UID + 1) + PER_DEVICE) << "of all uids";
}

// They all begin to hang at the same moment: until that is known, they leave one.
TEST_F(Overdue, AtFirstDevicesThatHangLeaveOne)
{
	EXPECT_EQ(4U, take_all(1));
	EXPECT_EQ(2U, take_all(2));
	EXPECT_EQ(1U, take_all(3));
	EXPECT_EQ(1U, take_all(4));
	wait();
	EXPECT_EQ(2U, take_all(2));
	EXPECT_EQ(3U, take_all(3));
	wait();
	EXPECT_EQ(PER_DEVICE, take_all(5));
}

// What is given up is replaced, in whatever order that happens; the fourth is served as if nothing was.
TEST_F(Overdue, NorDoTheyOnceTheyAreStuck)
{
	std::mt19937 random(4);

	for (int round = 0; round < 200; round++) {
		held_.clear();
		SetUp();
		for (int i = 0; i < 30; i++) {
			const uint64_t device = 1 + random() % 3;

			take_all(device);
			if (random() % 2)
				wait();
			for (const place &at : held_[1 + random() % 3])
				pool_check_stuck(p_, POOL_READ, at.index, now_, 1);
		}
		wait();
		ASSERT_EQ(PER_DEVICE, take_all(4)) << round;
	}
}

// Half of what is not overdue, and no more processes than that besides what is.
TEST_F(Overdue, AUidsHalfIsOfTheOthers)
{
	unsigned n = 0;

	take_all(1);
	wait();
	for (uint64_t device = 10; device < 30; device++)
		n += take_all(device);
	EXPECT_EQ(READERS / 2, n);
	for (uint64_t device = 10; device < 30; device++)
		n += take_all(device, UID + 1);
	EXPECT_EQ(READERS, n);
	EXPECT_FALSE(pool_want(p_, POOL_READ, now_));
}

// A uid all of whose devices hang has its share of the places, and another uid is served all the same.
TEST_F(Overdue, AUidCannotTakeAllPlaces)
{
	unsigned n = 0;

	for (uint64_t device = 1; device < 100; device++) {
		n += take_all(device);
		wait();
	}
	EXPECT_EQ(POOL_PLACES * READERS / 2, n);
	EXPECT_EQ(PER_DEVICE, take_all(200, UID + 1));
}

// A device that has some that are overdue is well again when they are back.
TEST_F(Overdue, WhatComesBackCountsNoMore)
{
	take_all(1);
	wait();
	for (place &at : held_[1])
		EXPECT_EQ(-1, hand_on(&at));
	EXPECT_FALSE(pool_is_sick(p_, 1, now_));
	EXPECT_EQ(PER_DEVICE, take_all(1));
}

// ---- Deaths

// What is said of a job is never taken for what is said of another in the same place, however often that was cleared.
TEST_F(Pool, NumbersOfAPlaceDoNotComeAgain)
{
	std::set<uint32_t> jobs;
	std::vector<place> old;
	std::mt19937 random(2);

	make(1, 1);
	for (int life = 0; life < 200; life++) {
		place at;

		ASSERT_TRUE(pool_want(p_, POOL_READ, 1));
		at = arrive();
		EXPECT_TRUE(jobs.insert(at.index * 1000000 + at.seq).second);
		for (unsigned i = random() % 4; i > 0; i--) {
			ASSERT_EQ(-1, hand_on(&at));
			ASSERT_TRUE(take(1, 1, &at));
			ASSERT_TRUE(jobs.insert(at.index * 1000000 + at.seq).second);
			old.push_back(at);
		}
		if (random() % 2)
			hand_on(&at);
		if (random() % 3 == 0)
			pool_check_stuck(p_, POOL_READ, at.index, SECOND, MS);
		pool_clear(p_, POOL_READ, at.index);
		for (const place &o : old) {
			EXPECT_FALSE(pool_is_busy(p_, &o));
			EXPECT_TRUE(is_lost(o));
		}
	}
}

TEST_F(Pool, DeathsAreCountedPlaceByPlace)
{
	make(2, 2);
	fill(2);
	pool_clear(p_, POOL_READ, 0);
	pool_clear(p_, POOL_READ, 0);
	EXPECT_EQ(2U, pool_deaths(p_, POOL_READ, 0));
	EXPECT_EQ(0U, pool_deaths(p_, POOL_READ, 1));
	EXPECT_EQ(0U, pool_deaths(p_, POOL_OPEN, 0));
}

TEST_F(Pool, WhatADeadWorkerHadTakenIsToldOf)
{
	make(4, 4);
	fill(2);
	place mine, others;
	uint32_t seq = 0;

	ASSERT_TRUE(take(1, 1, &mine, 3));
	ASSERT_TRUE(take(2, 2, &others, 4));
	EXPECT_FALSE(pool_worker_died(p_, POOL_READ, others.index, 3, &seq));
	EXPECT_TRUE(pool_is_busy(p_, &others));
	EXPECT_TRUE(pool_worker_died(p_, POOL_READ, mine.index, 3, &seq));
	EXPECT_EQ(mine.seq, seq);
	/* Its helper may be at it, and hands it on when it is done. */
	EXPECT_TRUE(pool_is_busy(p_, &mine));
	EXPECT_EQ(-1, hand_on(&mine));
	EXPECT_FALSE(pool_worker_died(p_, POOL_READ, mine.index, 3, &seq));
}

TEST_F(Pool, WhatWasOfferedToADeadWorkerIsFree)
{
	make(4, 4);
	fill(1);
	place at, other;
	uint32_t seq = 0;

	ASSERT_TRUE(take(1, 1, &at, 0));
	pool_set_waiting(p_, POOL_READ, 3, 2);
	ASSERT_EQ(3, hand_on(&at));
	EXPECT_FALSE(pool_worker_died(p_, POOL_READ, at.index, 3, &seq));
	EXPECT_FALSE(pool_is_offered(p_, &at, 3));
	ASSERT_TRUE(take(1, 1, &other, 1));
	EXPECT_EQ(-1, hand_on(&other)) << "nothing of it waits any more";
}

// Slot 0 is also what a place says in which there is no worker.
TEST_F(Pool, WorkerZeroIsOneLikeOthers)
{
	make(4, 4);
	const unsigned idle = add_idle();
	place at;
	uint32_t seq = 0;

	for (unsigned i = 0; i < pools_places(p_); i++)
		EXPECT_FALSE(pool_worker_died(p_, POOL_READ, i, 0, &seq));
	ASSERT_TRUE(take(1, 1, &at, 0));
	EXPECT_EQ(idle, at.index);
	EXPECT_TRUE(pool_worker_died(p_, POOL_READ, idle, 0, &seq));
	EXPECT_EQ(at.seq, seq);
}

// ---- All at once

// Processes that take, accept and hand on, killed at any moment, and a master that clears places under their hands. Each
// notes what it has taken, before it gives it back, so that what is seen here is never more than what is held.
class PoolStress : public Pool
{
      protected:
	static constexpr unsigned READERS = 6, PER_DEVICE = 3, WORKERS = 4, HELD = 3, DEVICES = 4, UIDS = 3;

	struct Note {
		std::atomic<bool> valid;
		std::atomic<uint32_t> index, seq, uid;
		std::atomic<uint64_t> device, since_ns;
	};

	struct Shared {
		Note notes[WORKERS][HELD];
		std::atomic<uint64_t> taken, accepted, lost;
	};

	void prepare()
	{
		make(READERS, PER_DEVICE);
		void *memory =
			mmap(nullptr, sizeof *shared_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		ASSERT_NE(MAP_FAILED, memory);
		shared_ = static_cast<Shared *>(memory);
		for (unsigned i = 0; i < WORKERS; i++) {
			boxes_.push_back(make_socketpair(SOCK_SEQPACKET));
			pids_.push_back(0);
		}
	}

	void tell(int worker, const place &at)
	{
		/* A full box: the offer is taken back in a while. */
		send(boxes_[static_cast<size_t>(worker)].in, &at, sizeof at, MSG_DONTWAIT);
	}

	void pass_on(place at, unsigned after)
	{
		bool lost;
		const int worker = pool_hand_on(p_, &at, after, POOL_ALL_WORKERS, now_ns(), &lost);

		if (worker >= 0)
			tell(worker, at);
		if (lost)
			shared_->lost++;
	}

	// ---- A worker

	void note(Note *n, const place &at, const pool_use &use, uint64_t now)
	{
		n->index = at.index;
		n->seq = at.seq;
		n->device = use.device;
		n->uid = use.uid;
		n->since_ns = now;
		n->valid = true;
	}

	[[noreturn]] void work(unsigned slot, unsigned seed)
	{
		std::mt19937 random(seed);
		std::vector<std::pair<Note *, place>> held;

		for (;;) {
			const pool_use use = {1 + random() % DEVICES, static_cast<uid_t>(1 + random() % UIDS)};
			Note *notes = shared_->notes[slot];
			const uint64_t now = now_ns();
			place at;

			if (random() % 8 == 0)
				pool_set_waiting(p_, POOL_READ, slot, random() % 2);
			if (held.size() == HELD || (!held.empty() && random() % 2)) {
				held.back().first->valid = false;
				pass_on(held.back().second, slot);
				held.pop_back();
			} else if (recv(boxes_[slot].out, &at, sizeof at, MSG_DONTWAIT) == sizeof at) {
				if (!pool_is_offered(p_, &at, slot))
					continue;
				if (!pool_accept(p_, &at, slot, &use, now)) {
					pass_on(at, slot);
					continue;
				}
				shared_->accepted++;
				note(&notes[held.size()], at, use, now);
				held.emplace_back(&notes[held.size()], at);
			} else if (pool_take(p_, POOL_READ, slot, &use, now, &at)) {
				shared_->taken++;
				note(&notes[held.size()], at, use, now);
				held.emplace_back(&notes[held.size()], at);
			} else {
				pool_want(p_, POOL_READ, now);
				if (random() % 16 == 0)
					sched_yield();
			}
		}
	}

	void start(unsigned slot, unsigned seed)
	{
		pids_[slot] = fork();
		ASSERT_GE(pids_[slot], 0);
		if (pids_[slot] == 0) {
			alarm(60);
			work(slot, seed);
		}
	}

	// ---- The master

	void kill_worker(unsigned slot)
	{
		int status;

		kill(pids_[slot], SIGKILL);
		ASSERT_EQ(pids_[slot], waitpid(pids_[slot], &status, 0));
		ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
		for (Note &n : shared_->notes[slot])
			n.valid = false;
		for (unsigned i = 0; i < pools_places(p_); i++) {
			place at = {POOL_READ, i, 0};

			/* Of what it has taken the helper there is told, which hands it on. */
			if (pool_worker_died(p_, POOL_READ, i, slot, &at.seq) && pool_is_busy(p_, &at))
				pass_on(at, slot);
		}
	}

	// Starts what is wanted, and takes back what was offered in vain.
	void serve()
	{
		for (unsigned i = 0; i < pools_places(p_); i++) {
			place at = {POOL_READ, i, 0};

			pool_check_stuck(p_, POOL_READ, i, now_ns(), 0);
			if (pool_is_wanted(p_, POOL_READ, i) && pool_arrive(p_, &at, now_ns()))
				pass_on(at, WORKERS_MAX - 1);
		}
	}

	// What is held for certain at one moment, and counts: between the two looks, all that both have seen, but what a worker
	// holds that the machine has kept from running for so long that it will be overdue.
	std::vector<pool_use> look()
	{
		std::map<Note *, std::pair<uint32_t, pool_use>> first, both;

		for (int round = 0; round < 2; round++) {
			for (auto &notes : shared_->notes) {
				for (Note &n : notes) {
					const bool valid = n.valid;
					const place at = {POOL_READ, n.index, n.seq};
					const pool_use use = {n.device, n.uid};

					/* It was not written anew meanwhile. */
					if (!valid || !n.valid || n.seq != at.seq || n.index != at.index)
						continue;
					if (!pool_is_busy(p_, &at) || now_ns() - n.since_ns > pool_overdue_ns * 9 / 10)
						continue;
					if (round == 0)
						first[&n] = {at.seq, use};
					else if (first.count(&n) && first[&n].first == at.seq)
						both[&n] = {at.seq, use};
				}
			}
		}
		std::vector<pool_use> out;
		for (const auto &b : both)
			out.push_back(b.second.second);
		return out;
	}

	void check(const std::vector<pool_use> &held)
	{
		std::map<uint64_t, unsigned> devices, uids;

		for (const pool_use &use : held) {
			EXPECT_LE(++devices[use.device], PER_DEVICE);
			EXPECT_LE(++uids[use.uid], READERS / 2);
		}
		EXPECT_LE(held.size(), READERS);
	}

	std::vector<Ends> boxes_;
	std::vector<pid_t> pids_;
	Shared *shared_ = nullptr;
};

TEST_F(PoolStress, NoPlaceIsLostAndNoLimitBroken)
{
	const Deadline deadline(3s);
	std::mt19937 random(3);
	size_t most = 0;

	prepare();
	for (unsigned i = 0; i < WORKERS; i++)
		start(i, random());
	for (unsigned round = 0; !deadline.passed() && !HasFailure(); round++) {
		const unsigned slot = random() % WORKERS;

		for (int i = 0; i < 20; i++) {
			const std::vector<pool_use> held = look();

			most = std::max(most, held.size());
			check(held);
			serve();
		}
		if (round % 8 == 0) {
			kill_worker(slot);
			start(slot, random());
		} else if (round % 8 == 4) {
			pool_clear(p_, POOL_READ, random() % pools_places(p_));
		} else if (round % 2 == 0) {
			sched_yield();
		}
	}
	for (unsigned i = 0; i < WORKERS; i++)
		kill_worker(i);
	EXPECT_GT(most, 2U) << "nothing was tried";
	EXPECT_GT(shared_->taken, 1000U);
	EXPECT_GT(shared_->accepted, 100U);
	EXPECT_GT(shared_->lost, 0U);

	/* With all at rest, each place is free or can be had: as many as may live, neither more nor fewer. */
	serve();
	for (unsigned i = 0; i < 2 * READERS; i++) {
		if (pool_want(p_, POOL_READ, 1))
			serve();
	}
	EXPECT_FALSE(pool_want(p_, POOL_READ, 1));
	EXPECT_EQ(0U, pool_stuck(p_, POOL_READ));
	std::set<unsigned> places;
	for (unsigned i = 0; i < READERS; i++) {
		place at;

		EXPECT_TRUE(take(100 + i, 100 + i / (READERS / 2), &at)) << i;
		EXPECT_TRUE(places.insert(at.index).second);
	}
	EXPECT_FALSE(has_room(999, 999));
	boxes_.clear();
	munmap(shared_, sizeof *shared_);
}

} // namespace
