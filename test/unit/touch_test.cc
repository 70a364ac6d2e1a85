// SPDX-License-Identifier: BSD-2-Clause
// Who touches what is a client's: one worker at a time, and nobody while that one hangs. A worker keeps its part of this for the
// whole process, so each has a process of its own.
extern "C" {
#include "server/touch.h"

struct stats *stats_new(unsigned n); /* its header is C's alone */
}

#include "test/support/fd.h"
#include "test/support/wait.h"

#include <csignal>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>

namespace
{

constexpr uid_t STARTER = 1000, USER = 2000, OTHER = 3000;
constexpr unsigned WORKERS = 2 * TOUCH_GROUP;

enum class Ask { BEGIN, END, HANGS };

struct Question {
	Ask what;
	owner who;
};

// A process that does what it is asked to, until it is killed.
class Worker
{
      public:
	Worker(touches *all, shares *limits, unsigned slot)
	{
		stats *own = stats_new(1);
		Ends ends = make_socketpair(SOCK_SEQPACKET);
		const Fd there = std::move(ends.out);

		EXPECT_NE(nullptr, own);
		here_ = std::move(ends.in);
		pid_ = fork();
		if (pid_ == 0) {
			Question q;

			alarm(60);
			here_.reset();
			touch_init(all, limits, slot, own);
			while (read(there, &q, sizeof q) == (ssize_t)sizeof q) {
				const bool answer = do_it(q);

				if (write(there, &answer, sizeof answer) != (ssize_t)sizeof answer)
					break;
			}
			_exit(0);
		}
	}
	Worker(const Worker &) = delete;
	Worker &operator=(const Worker &) = delete;
	~Worker()
	{
		kill(pid_, SIGKILL);
		EXPECT_EQ(pid_, waitpid(pid_, nullptr, 0));
	}

	pid_t pid() const
	{
		return pid_;
	}
	bool begin(const owner &who)
	{
		start(Ask::BEGIN, who);
		return answer();
	}
	void end()
	{
		start(Ask::END, owner());
		answer();
	}
	bool hangs(const owner &who)
	{
		start(Ask::HANGS, who);
		return answer();
	}
	// The two halves of it, for what has to wait for another one.
	void start(Ask what, const owner &who)
	{
		const Question q = {what, who};

		EXPECT_EQ((ssize_t)sizeof q, write(here_, &q, sizeof q));
	}
	bool answer()
	{
		bool a = false;

		EXPECT_EQ((ssize_t)sizeof a, read(here_, &a, sizeof a)) << "the worker has ended";
		return a;
	}

      private:
	static bool do_it(const Question &q)
	{
		switch (q.what) {
		case Ask::BEGIN:
			return touch_begin(&q.who);
		case Ask::END:
			touch_end();
			return true;
		case Ask::HANGS:
			return touch_hangs(&q.who);
		}
		return false;
	}

	Fd here_;
	pid_t pid_ = -1;
};

class Touch : public ::testing::Test
{
      protected:
	void SetUp() override
	{
		const share_limits limits = {100, 100, 100, 0, STARTER};

		all_ = touches_new();
		shares_ = shares_new(&limits, WORKERS);
		ASSERT_TRUE(all_ && shares_);
	}
	// For the worker in that slot. (C++17 leaves out the copy.)
	Worker worker(unsigned slot)
	{
		return Worker(all_, shares_, slot);
	}

	static constexpr owner process(uid_t uid, pid_t pid)
	{
		return owner{uid, pid, 0};
	}

	/* Shared memory, as long as the process. */
	touches *all_ = nullptr;
	shares *shares_ = nullptr;
};

TEST_F(Touch, EndsInTime)
{
	Worker one = worker(0), two = worker(1);

	ASSERT_TRUE(one.begin(process(USER, 10)));
	two.start(Ask::BEGIN, process(USER, 11));
	one.end();
	EXPECT_TRUE(two.answer()) << "it waited";
	two.end();
	EXPECT_TRUE(one.begin(process(USER, 10)));
}

TEST_F(Touch, OfOneUserHangs)
{
	Worker one = worker(0), two = worker(1), three = worker(TOUCH_GROUP);

	ASSERT_TRUE(one.begin(process(USER, 10)));
	EXPECT_FALSE(two.hangs(process(USER, 11))) << "nobody has waited for it yet";
	EXPECT_FALSE(two.begin(process(USER, 11)));
	EXPECT_TRUE(two.hangs(process(USER, 11)));
	EXPECT_TRUE(two.begin(process(OTHER, 12))) << "whom it does not concern";
	EXPECT_FALSE(one.hangs(process(OTHER, 12)));
	EXPECT_TRUE(three.begin(process(USER, 11))) << "of another group";
	one.end();
	two.end();
	EXPECT_FALSE(two.hangs(process(USER, 11)));
	EXPECT_TRUE(two.begin(process(USER, 11)));
}

TEST_F(Touch, OfOneProcessHangsWhoseUserHasNoLimits)
{
	Worker one = worker(0), two = worker(1);

	for (const uid_t uid : {STARTER, (uid_t)0}) {
		ASSERT_TRUE(one.begin(process(uid, 10)));
		EXPECT_FALSE(two.begin(process(uid, 10)));
		EXPECT_TRUE(two.begin(process(uid, 11)));
		two.end();
		one.end();
	}
}

TEST_F(Touch, HangsAgain)
{
	Worker one = worker(0), two = worker(1);

	for (int i = 0; i < 3; i++) {
		ASSERT_TRUE(one.begin(process(USER, 10)));
		EXPECT_FALSE(two.hangs(process(USER, 10))) << "that was another time";
		EXPECT_FALSE(two.begin(process(USER, 10)));
		one.end();
	}
}

TEST_F(Touch, InsideAnother)
{
	Worker one = worker(0), two = worker(1);

	ASSERT_TRUE(one.begin(process(USER, 10)));
	ASSERT_TRUE(one.begin(process(USER, 10)));
	one.end();
	EXPECT_FALSE(two.begin(process(USER, 10))) << "it is not over";
	one.end();
	EXPECT_TRUE(two.begin(process(USER, 10)));
}

TEST_F(Touch, EndsWithTheWorker)
{
	Worker two = worker(1), three = worker(2);

	{
		Worker one = worker(0);

		ASSERT_TRUE(one.begin(process(USER, 10)));
		EXPECT_FALSE(two.begin(process(USER, 10)));
		touches_release(all_, 0, one.pid());
		EXPECT_FALSE(two.hangs(process(USER, 10)));
		ASSERT_TRUE(two.begin(process(USER, 10)));
		touches_release(all_, 0, one.pid());
		EXPECT_FALSE(three.begin(process(USER, 10))) << "it is the second worker's now";
	}
	two.end();
	EXPECT_TRUE(three.begin(process(USER, 10)));
}

// Who was refused holds nothing, so its death ends nothing.
TEST_F(Touch, IsNotEndedByWhoWaited)
{
	Worker one = worker(0), two = worker(1), three = worker(2);

	ASSERT_TRUE(one.begin(process(USER, 10)));
	EXPECT_FALSE(two.begin(process(USER, 10)));
	touches_release(all_, 1, two.pid());
	EXPECT_FALSE(three.begin(process(USER, 10)));
}

// It can be stopped at any moment but in a call that hangs; what it began then is over.
TEST_F(Touch, IsTakenFromWhoIsStopped)
{
	Worker one = worker(0), two = worker(1), three = worker(2);
	const owner who = process(USER, 10);
	int status;

	ASSERT_TRUE(one.begin(who));
	EXPECT_FALSE(two.begin(who));
	ASSERT_EQ(0, kill(one.pid(), SIGSTOP));
	ASSERT_EQ(one.pid(), waitpid(one.pid(), &status, WUNTRACED));
	ASSERT_TRUE(three.begin(who));
	three.end();
	EXPECT_TRUE(two.begin(who));
	ASSERT_EQ(0, kill(one.pid(), SIGCONT));
	one.end();
	EXPECT_FALSE(one.begin(who)) << "it ended only what was its own";
	two.end();
}

TEST_F(Touch, IsTakenFromWhoIsStoppedLaterOn)
{
	Worker one = worker(0), two = worker(1);
	const owner who = process(USER, 10);
	int status;

	ASSERT_TRUE(one.begin(who));
	EXPECT_FALSE(two.begin(who));
	ASSERT_TRUE(two.hangs(who));
	ASSERT_EQ(0, kill(one.pid(), SIGSTOP));
	ASSERT_EQ(one.pid(), waitpid(one.pid(), &status, WUNTRACED));
	EXPECT_TRUE(eventually([&] { return !two.hangs(who); }));
	EXPECT_TRUE(two.begin(who));
}

// Without touch_init(), as in the unit tests of what calls it.
TEST_F(Touch, NobodyIsWaitedForElsewhere)
{
	const owner who = process(USER, 10);

	EXPECT_TRUE(touch_begin(&who));
	EXPECT_TRUE(touch_begin(&who));
	EXPECT_FALSE(touch_hangs(&who));
	touch_end();
}

} // namespace
