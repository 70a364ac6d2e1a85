// SPDX-License-Identifier: BSD-2-Clause
// The pipes that cold bytes come through: how many there are, who gets them, and from whom they are taken.
extern "C" {
#include "server/os/files.h"
#include "server/pipes.h"
}

#include "test/support/bounded.h"
#include "test/support/fd.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <fcntl.h>
#include <memory>
#include <sys/resource.h>
#include <vector>

namespace
{

constexpr uint64_t MS = 1000 * 1000;

// A transfer as far as pipes see it.
struct Holder {
	pipe_holder holder = {};
	pipes *from = nullptr;
	std::vector<pipe_pair> pairs;
	unsigned robbed = 0;

	Holder()
	{
		list_init(&holder.node);
		holder.rob = on_rob;
	}

	static void on_rob(pipe_holder *h)
	{
		Holder *self = reinterpret_cast<Holder *>(reinterpret_cast<char *>(h) - offsetof(Holder, holder));

		self->robbed++;
		self->give_back(false);
	}

	bool get(pipes *ps)
	{
		pipe_pair pair = {-1, -1};

		from = ps;
		if (pipes_get(ps, &pair) < 0) {
			EXPECT_EQ(EAGAIN, errno);
			return false;
		}
		pairs.push_back(pair);
		return true;
	}

	void give_back(bool empty)
	{
		for (pipe_pair &pair : pairs)
			pipes_put(from, &pair, empty);
		pairs.clear();
	}
};

class Pipes : public BoundedTest
{
      protected:
	void SetUp() override
	{
		BoundedTest::SetUp();
		before_ = count_fds("self");
	}

	void TearDown() override
	{
		for (auto &h : holders_)
			h.give_back(false);
		pipes_work(&ps_, UINT64_C(1) << 50);
		pipes_work(&ps_, UINT64_C(1) << 51);
		EXPECT_EQ(0U, ps_.made);
		EXPECT_EQ(-1, pipes_nap_ms(&ps_));
		BoundedTest::TearDown();
	}

	// How many pipes are open.
	size_t open_pipes() const
	{
		return (count_fds("self") - before_) / 2;
	}

	pipes ps_ = {};
	Holder holders_[4];
	size_t before_ = 0;
};

TEST_F(Pipes, ShareIsEnoughForEveryReader)
{
	for (const unsigned readers : {1U, 4U, 16U, 64U}) {
		for (const unsigned workers : {1U, 2U, 64U}) {
			EXPECT_GE(pipes_share(workers, readers), readers);
			EXPECT_LE(pipes_share(workers, readers), unsigned{PIPES_MAX});
		}
	}
	EXPECT_GE(pipes_share(1, 1), pipes_share(64, 1));
}

// Half of what the kernel grants the user, shared by the workers; but not fewer than a reader's and some.
TEST_F(Pipes, ShareFollowsTheBudget)
{
	const uint64_t all = os_pipe_budget() / 2 / PIPE_CHUNK;

	for (const unsigned workers : {1U, 2U, 3U, 8U, 64U}) {
		const uint64_t fair = std::min<uint64_t>(all / workers, PIPES_MAX);

		EXPECT_EQ(std::max<uint64_t>(fair, 1 + PIPES_SPARE), pipes_share(workers, 1)) << workers;
	}
}

TEST_F(Pipes, BudgetIsWhatTheKernelSays)
{
	const uint64_t pages = std::stoull(read_whole("/proc/sys/fs/pipe-user-pages-soft"));

	EXPECT_EQ(pages == 0 ? UINT64_MAX : pages * 4096, os_pipe_budget());
}

TEST_F(Pipes, APipeIsEmptyAndNeverWaits)
{
	pipe_pair pair = {-1, -1};
	char c;

	pipes_init(&ps_, 4);
	ASSERT_EQ(0, pipes_get(&ps_, &pair));
	for (const int fd : {pair.read_fd, pair.write_fd}) {
		EXPECT_NE(0, fcntl(fd, F_GETFL) & O_NONBLOCK);
		EXPECT_NE(0, fcntl(fd, F_GETFD) & FD_CLOEXEC);
	}
	EXPECT_EQ(PIPE_CHUNK, fcntl(pair.read_fd, F_GETPIPE_SZ));
	EXPECT_EQ(-1, read(pair.read_fd, &c, 1));
	EXPECT_EQ(EAGAIN, errno);
	pipes_put(&ps_, &pair, true);
}

TEST_F(Pipes, NoMoreThanSoMany)
{
	Holder &h = holders_[0];

	pipes_init(&ps_, 3);
	for (int i = 0; i < 3; i++)
		EXPECT_TRUE(h.get(&ps_));
	EXPECT_FALSE(ps_.wanted);
	EXPECT_FALSE(h.get(&ps_));
	EXPECT_TRUE(ps_.wanted);
	EXPECT_EQ(3U, open_pipes());
	EXPECT_EQ(3U, ps_.made);
}

TEST_F(Pipes, NeverMoreThanThereIsRoomToKeep)
{
	pipes_init(&ps_, 100000);
	EXPECT_EQ(unsigned{PIPES_MAX}, ps_.most);
}

TEST_F(Pipes, AnEmptyOneIsUsedAgain)
{
	Holder &h = holders_[0];

	pipes_init(&ps_, 3);
	ASSERT_TRUE(h.get(&ps_));
	const int fd = h.pairs[0].read_fd;
	h.give_back(true);
	EXPECT_EQ(1U, ps_.spare_count);
	ASSERT_TRUE(h.get(&ps_));
	EXPECT_EQ(fd, h.pairs[0].read_fd);
	EXPECT_EQ(0U, ps_.spare_count);
	EXPECT_EQ(1U, ps_.made);
}

// What it holds is somebody else's file.
TEST_F(Pipes, OneThatIsNotEmptyIsClosed)
{
	Holder &h = holders_[0];
	char c;

	pipes_init(&ps_, 3);
	ASSERT_TRUE(h.get(&ps_));
	ASSERT_EQ(1, write(h.pairs[0].write_fd, "x", 1));
	h.give_back(false);
	EXPECT_EQ(0U, open_pipes());
	EXPECT_EQ(0U, ps_.made);
	ASSERT_TRUE(h.get(&ps_));
	EXPECT_EQ(-1, read(h.pairs[0].read_fd, &c, 1));
}

TEST_F(Pipes, SpareOnesAreClosedAfterAWhile)
{
	pipes_init(&ps_, 8);
	EXPECT_EQ(-1, pipes_nap_ms(&ps_));
	for (int i = 0; i < 5; i++)
		ASSERT_TRUE(holders_[0].get(&ps_));
	holders_[0].give_back(true);
	EXPECT_GE(pipes_nap_ms(&ps_), 0);
	EXPECT_FALSE(pipes_work(&ps_, 1000 * MS));
	EXPECT_EQ(5U, open_pipes()) << "they have just been used";
	EXPECT_FALSE(pipes_work(&ps_, 1049 * MS));
	EXPECT_EQ(5U, open_pipes());
	/* Use puts it off. */
	ASSERT_TRUE(holders_[0].get(&ps_));
	holders_[0].give_back(true);
	EXPECT_FALSE(pipes_work(&ps_, 1049 * MS));
	EXPECT_FALSE(pipes_work(&ps_, 1060 * MS));
	EXPECT_EQ(5U, open_pipes());
	EXPECT_FALSE(pipes_work(&ps_, 1099 * MS));
	EXPECT_EQ(0U, open_pipes());
	EXPECT_EQ(-1, pipes_nap_ms(&ps_));
}

TEST_F(Pipes, OnesInUseAreNotClosed)
{
	pipes_init(&ps_, 8);
	ASSERT_TRUE(holders_[0].get(&ps_));
	ASSERT_TRUE(holders_[1].get(&ps_));
	holders_[1].give_back(true);
	pipes_work(&ps_, 1000 * MS);
	pipes_work(&ps_, 2000 * MS);
	EXPECT_EQ(1U, open_pipes());
	EXPECT_GE(fcntl(holders_[0].pairs[0].read_fd, F_GETFD), 0);
}

TEST_F(Pipes, ReadingAheadIsForWhenThereArePlenty)
{
	pipes_init(&ps_, 4);
	EXPECT_TRUE(pipes_plenty(&ps_));
	ASSERT_TRUE(holders_[0].get(&ps_));
	EXPECT_TRUE(pipes_plenty(&ps_));
	ASSERT_TRUE(holders_[0].get(&ps_));
	EXPECT_FALSE(pipes_plenty(&ps_)) << "half of them are in use";
	holders_[0].give_back(true);
	EXPECT_TRUE(pipes_plenty(&ps_)) << "spare ones are not in use";
	for (int i = 0; i < 4; i++)
		ASSERT_TRUE(holders_[0].get(&ps_));
	ASSERT_FALSE(holders_[1].get(&ps_));
	holders_[0].give_back(true);
	EXPECT_FALSE(pipes_plenty(&ps_)) << "somebody found none";
	EXPECT_TRUE(pipes_work(&ps_, MS)) << "who can try again now";
	EXPECT_TRUE(pipes_plenty(&ps_));
}

TEST_F(Pipes, WithASingleOneThereAreNeverPlenty)
{
	pipes_init(&ps_, 1);
	EXPECT_FALSE(pipes_plenty(&ps_));
}

TEST_F(Pipes, NobodyIsRobbedIfNobodyWantsOne)
{
	pipes_init(&ps_, 1);
	ASSERT_TRUE(holders_[0].get(&ps_));
	pipes_stalled(&ps_, &holders_[0].holder, 0);
	EXPECT_FALSE(pipes_work(&ps_, 1000 * MS));
	EXPECT_EQ(0U, holders_[0].robbed);
	pipes_moving(&holders_[0].holder);
}

TEST_F(Pipes, WhoIsStalledForLongIsRobbed)
{
	pipes_init(&ps_, 2);
	ASSERT_TRUE(holders_[0].get(&ps_));
	ASSERT_TRUE(holders_[1].get(&ps_));
	pipes_stalled(&ps_, &holders_[0].holder, 1000 * MS);
	pipes_stalled(&ps_, &holders_[1].holder, 1010 * MS);
	pipes_stalled(&ps_, &holders_[0].holder, 1050 * MS); /* still: since 1000 */
	ASSERT_FALSE(holders_[2].get(&ps_));
	EXPECT_FALSE(pipes_work(&ps_, 1099 * MS));
	EXPECT_EQ(0U, holders_[0].robbed);
	EXPECT_TRUE(pipes_work(&ps_, 1100 * MS));
	EXPECT_EQ(1U, holders_[0].robbed) << "the one that has been stalled for longest";
	EXPECT_EQ(0U, holders_[1].robbed) << "no more than are needed";
	EXPECT_FALSE(ps_.wanted);
	EXPECT_TRUE(holders_[2].get(&ps_));
	ASSERT_FALSE(holders_[3].get(&ps_));
	EXPECT_TRUE(pipes_work(&ps_, 1110 * MS));
	EXPECT_EQ(1U, holders_[1].robbed);
	EXPECT_EQ(1U, holders_[0].robbed) << "it has nothing any more";
}

TEST_F(Pipes, WhoMovesAgainIsNotRobbed)
{
	pipes_init(&ps_, 1);
	ASSERT_TRUE(holders_[0].get(&ps_));
	pipes_stalled(&ps_, &holders_[0].holder, 1000 * MS);
	pipes_moving(&holders_[0].holder);
	pipes_moving(&holders_[0].holder); /* harmless */
	ASSERT_FALSE(holders_[1].get(&ps_));
	EXPECT_FALSE(pipes_work(&ps_, 5000 * MS));
	EXPECT_EQ(0U, holders_[0].robbed);
	/* Stalled again, its time begins anew. */
	pipes_stalled(&ps_, &holders_[0].holder, 5000 * MS);
	EXPECT_FALSE(pipes_work(&ps_, 5099 * MS));
	EXPECT_TRUE(pipes_work(&ps_, 5100 * MS));
	EXPECT_EQ(1U, holders_[0].robbed);
}

// Somebody gave one back meanwhile: nobody has to be robbed.
TEST_F(Pipes, ASpareOneIsEnough)
{
	pipes_init(&ps_, 2);
	ASSERT_TRUE(holders_[0].get(&ps_));
	ASSERT_TRUE(holders_[1].get(&ps_));
	pipes_stalled(&ps_, &holders_[0].holder, 0);
	ASSERT_FALSE(holders_[2].get(&ps_));
	holders_[1].give_back(false);
	EXPECT_TRUE(pipes_work(&ps_, 1000 * MS));
	EXPECT_EQ(0U, holders_[0].robbed);
	pipes_moving(&holders_[0].holder);
}

// One whose pipes were taken already, by its own end for instance, gives nothing: then the next is asked.
TEST_F(Pipes, WhoHasNothingIsPassedOver)
{
	pipes_init(&ps_, 1);
	ASSERT_TRUE(holders_[1].get(&ps_));
	pipes_stalled(&ps_, &holders_[0].holder, 0);
	pipes_stalled(&ps_, &holders_[1].holder, MS);
	ASSERT_FALSE(holders_[2].get(&ps_));
	EXPECT_TRUE(pipes_work(&ps_, 1000 * MS));
	EXPECT_EQ(1U, holders_[0].robbed);
	EXPECT_EQ(1U, holders_[1].robbed);
}

TEST_F(Pipes, WithoutDescriptorsItIsTriedAgainLater)
{
	in_child([&] {
		pipes ps;
		pipe_pair pair;
		const Fd lowest(dup(0));
		const rlimit none = {static_cast<rlim_t>(lowest) + 2, static_cast<rlim_t>(lowest) + 100};
		const rlimit some = {static_cast<rlim_t>(lowest) + 100, static_cast<rlim_t>(lowest) + 100};

		pipes_init(&ps, 4);
		ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
		EXPECT_EQ(-1, pipes_get(&ps, &pair));
		EXPECT_EQ(EAGAIN, errno);
		EXPECT_TRUE(ps.wanted);
		EXPECT_EQ(0U, ps.made);
		ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &some));
		EXPECT_TRUE(pipes_work(&ps, MS));
		EXPECT_EQ(0, pipes_get(&ps, &pair));
		pipes_put(&ps, &pair, false);
	});
}

} // namespace
