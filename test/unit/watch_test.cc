// SPDX-License-Identifier: BSD-2-Clause
// When a worker is taken to be stuck. Time, and what is seen of the process, are what the test says they are.
extern "C" {
#include "server/watch.h"
}

#include "test/support/wait.h"

#include <csignal>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace
{

constexpr uint64_t SECOND = 1000 * 1000 * 1000;

os_process_view seen;
bool there = true;

bool see(pid_t pid, os_process_view *out)
{
	EXPECT_EQ(77, pid);
	*out = seen;
	return there;
}

class Watch : public ::testing::Test
{
      protected:
	void SetUp() override
	{
		seen = {};
		there = true;
	}

	watch_verdict look(uint64_t position, uint64_t passed = SECOND)
	{
		const watch_query what = {77, position, passed, patience_, see};

		return watch_judge(&w_, &what);
	}

	// The first verdict that is another, within so many looks, one a second; how many there were.
	int looks_until(watch_verdict verdict, uint64_t position, int most = 100)
	{
		for (int i = 1; i <= most; i++) {
			if (look(position) == verdict)
				return i;
		}
		return -1;
	}

	struct watch w_ = {};
	uint64_t patience_ = 10 * SECOND;
};

TEST_F(Watch, WhoWaitsInTheKernelAtTheSameThing)
{
	seen.is_uninterruptible = true;
	EXPECT_EQ(11, looks_until(WATCH_WAITS, 5)) << "one look to see what it is at, ten to see that it stays there";
}

TEST_F(Watch, WhoUsesTheProcessorAtTheSameThing)
{
	EXPECT_EQ(WATCH_WORKS, look(5));
	seen.cpu_ns = 100 * SECOND; /* from before */
	for (int i = 0; i < 9; i++, seen.cpu_ns += SECOND * 9 / 10)
		EXPECT_EQ(WATCH_WORKS, look(5));
	EXPECT_EQ(WATCH_SPINS, look(5));
}

// Its control group gives it no processor time, a debugger has stopped it: it is no fault of its own.
TEST_F(Watch, WhoGetsNoProcessorTime)
{
	EXPECT_EQ(WATCH_WORKS, look(5));
	for (int i = 0; i < 1000; i++, seen.cpu_ns += SECOND / 10)
		ASSERT_EQ(WATCH_WORKS, look(5)) << i;
}

TEST_F(Watch, WhoSleepsOrGoesOn)
{
	seen.is_uninterruptible = true;
	EXPECT_EQ(-1, looks_until(WATCH_WAITS, 0)) << "it waits for events";
	for (uint64_t i = 1; i < 100; i++)
		EXPECT_EQ(WATCH_WORKS, look(i, 9 * SECOND)) << "something else each time";
	/* And begins anew. */
	EXPECT_EQ(WATCH_WORKS, look(100, 9 * SECOND));
	EXPECT_EQ(WATCH_WORKS, look(100, 9 * SECOND));
	EXPECT_EQ(WATCH_WORKS, look(101, 9 * SECOND));
	EXPECT_EQ(WATCH_WORKS, look(101, 9 * SECOND));
	EXPECT_EQ(WATCH_WAITS, look(101, 9 * SECOND));
}

TEST_F(Watch, WhoIsNotThereAnyMore)
{
	there = false;
	EXPECT_EQ(-1, looks_until(WATCH_WAITS, 5));
}

TEST_F(Watch, ForEver)
{
	seen.is_uninterruptible = true;
	patience_ = 0;
	EXPECT_EQ(-1, looks_until(WATCH_WAITS, 5));
}

// A machine that was asleep for an hour: of that the master saw a second.
TEST_F(Watch, TheMastersOwnDelay)
{
	EXPECT_EQ(SECOND, watch_passed(5 * SECOND, 6 * SECOND, SECOND));
	EXPECT_EQ(SECOND * 3 / 2, watch_passed(5 * SECOND, 5 * SECOND + SECOND * 3 / 2, SECOND));
	EXPECT_EQ(SECOND, watch_passed(5 * SECOND, 7 * SECOND, SECOND));
	EXPECT_EQ(SECOND, watch_passed(5 * SECOND, 3605 * SECOND, SECOND));
}

// ---- What is seen of a process

TEST(ProcessLook, OfOneself)
{
	os_process_view before = {}, after = {};

	ASSERT_TRUE(os_view_process(getpid(), &before));
	EXPECT_FALSE(before.is_uninterruptible);
	EXPECT_TRUE(eventually([&] {
		for (volatile int i = 0; i < 10000000;)
			i = i + 1;
		return os_view_process(getpid(), &after) && after.cpu_ns >= before.cpu_ns + SECOND / 20;
	}));
}

TEST(ProcessLook, OfOneThatIsStoppedOrGone)
{
	os_process_view out = {};
	int status;
	const pid_t child = fork();

	if (child == 0) {
		raise(SIGSTOP);
		_exit(0);
	}
	ASSERT_EQ(child, waitpid(child, &status, WUNTRACED));
	EXPECT_TRUE(os_view_process(child, &out));
	EXPECT_FALSE(out.is_uninterruptible);
	EXPECT_LT(out.cpu_ns, SECOND);
	kill(child, SIGKILL);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_FALSE(os_view_process(child, &out));
}

} // namespace
