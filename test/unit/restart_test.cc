// SPDX-License-Identifier: BSD-2-Clause
// A dead worker is replaced at once, unless its kind keeps dying young.
extern "C" {
#include "server/restart.h"
}

#include <gtest/gtest.h>

#include <cstdint>

namespace
{

TEST(Restart, AtOnceAfterALife)
{
	restart r{};

	for (uint64_t age :
		{uint64_t{RESTART_YOUNG_MS}, uint64_t{RESTART_YOUNG_MS} + 1, uint64_t{86400000}, UINT64_MAX})
		EXPECT_EQ(0u, restart_delay(&r, age)) << age;
}

TEST(Restart, TheFirstEarlyDeathWaitsALittle)
{
	for (uint64_t age : {0, 1, 500, RESTART_YOUNG_MS - 1}) {
		restart r{};

		EXPECT_EQ(uint32_t{RESTART_FIRST_MS}, restart_delay(&r, age)) << age;
	}
}

TEST(Restart, DelaysDoubleUpToTheLongestAndStayThere)
{
	const uint32_t want[] = {100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000, 10000};
	restart r{};

	for (uint32_t delay : want)
		EXPECT_EQ(delay, restart_delay(&r, 0));
	for (int i = 0; i < 1000; i++)
		ASSERT_EQ(10000u, restart_delay(&r, 999));
}

TEST(Restart, OneLongLifeForgivesAll)
{
	restart r{};

	for (int i = 0; i < 20; i++)
		restart_delay(&r, 0);
	EXPECT_EQ(0u, restart_delay(&r, RESTART_YOUNG_MS));
	EXPECT_EQ(100u, restart_delay(&r, 0));
	EXPECT_EQ(200u, restart_delay(&r, 0));
}

// A worker that dies as soon as it starts is started less than 15 times in the first minute and 7
// times a minute after.
TEST(Restart, ACrashLoopIsBounded)
{
	restart r{};
	uint64_t now = 0;
	int starts = 0;

	while (now < 60000) {
		now += restart_delay(&r, 0);
		starts++;
	}
	EXPECT_LT(starts, 15);
}

} // namespace
