// SPDX-License-Identifier: BSD-2-Clause
// Destinations that nobody reads. With a single worker: what held it up would hold up everybody.
#include "test/support/fixture.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sendfiled/sendfiled.h>

namespace
{

class Stall : public SfdTest
{
      protected:
	static constexpr size_t LARGE = 16 << 20, SMALL = 3000;

	void SetUp() override
	{
		SfdTest::SetUp();
		DaemonOptions options;
		options.workers = 1;
		start(options);
		large_ = add_file("large", LARGE);
		small_ = add_file("small", SMALL, 2);
	}

	// Begins a transfer and waits until it has stopped for want of room.
	void stall(const DestType &type)
	{
		sfd_file_info info;

		dests_.push_back(std::make_unique<Dest>(type, dir()));
		statuses_.emplace_back(sfd_send(srv(), "large", dests_.back()->fd(), 0, 0, false));
		ASSERT_TRUE(read_info(statuses_.back(), &info));
		infos_.push_back(info);
		ASSERT_NE(0, await(dests_.back()->peer(), POLLIN));
	}

	// Many short transfers, each of which waits for the one before.
	void run_small_ones()
	{
		const auto begin = Clock::now();

		for (int i = 0; i < 200; i++) {
			const Fd pipe(when_room(srv(), [&] { return sfd_read(srv(), "small", 0, 0, false); }));
			const ReadResult r = read_file_pipe(pipe, 5s);

			ASSERT_TRUE(r.ended) << "the worker is held up";
			ASSERT_TRUE(same_content(small_, r.content));
		}
		/* Usually 20 ms; a hundredth of a second lost with each would show. */
		EXPECT_LT(Clock::now() - begin, 2s);
	}

	// Everything (that was not read yet) arrives once somebody reads.
	void finish_all()
	{
		for (size_t i = 0; i < dests_.size(); i++) {
			dests_[i]->start_reading();
			expect_success(read_rest(statuses_[i], infos_[i], 30s), LARGE);
			ASSERT_TRUE(same_content(large_, dests_[i]->finish()));
		}
	}

	std::string large_, small_;
	std::vector<std::unique_ptr<Dest>> dests_;
	std::vector<Fd> statuses_;
	std::vector<sfd_file_info> infos_;

	void TearDown() override
	{
		dests_.clear();
		statuses_.clear();
		SfdTest::TearDown();
	}
};

class StallEach : public Stall, public ::testing::WithParamInterface<DestType>
{
};

TEST_P(StallEach, DelaysNobody)
{
	for (int i = 0; i < 3; i++)
		ASSERT_NO_FATAL_FAILURE(stall(GetParam()));
	ASSERT_NO_FATAL_FAILURE(run_small_ones());
	finish_all();
	expect_same_workers();
}

// The client may change its mind about O_NONBLOCK at any time. (A worker may find out by waiting a little.)
TEST_P(StallEach, DelaysNobodyWhenItsFlagsChange)
{
	ASSERT_NO_FATAL_FAILURE(stall(GetParam()));
	const int fd = dests_[0]->fd();
	std::string begun;

	ASSERT_EQ(0, fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) ^ O_NONBLOCK));
	/* Room for some more, so that the worker tries again. */
	while (begun.size() < LARGE / 4 && await(dests_[0]->peer(), POLLIN, 200ms) != 0) {
		std::string some(1 << 18, '\0');
		const ssize_t n = read(dests_[0]->peer(), some.data(), some.size());

		ASSERT_GT(n, 0);
		begun.append(some, 0, static_cast<size_t>(n));
	}
	ASSERT_NO_FATAL_FAILURE(run_small_ones());
	ASSERT_TRUE(same_content(large_.substr(0, begun.size()), begun));
	large_.erase(0, begun.size());
	finish_all();
}

INSTANTIATE_TEST_SUITE_P(
	All, StallEach, ::testing::ValuesIn(stallable_dest_types()), [](const auto &i) { return name_of(i.param); });

TEST_F(Stall, AllKindsAtOnce)
{
	for (const DestType &type : stallable_dest_types())
		ASSERT_NO_FATAL_FAILURE(stall(type));
	ASSERT_NO_FATAL_FAILURE(run_small_ones());
	finish_all();
}

// A read whose pipe nobody empties, and an open file that nobody sends.
TEST_F(Stall, ReadsAndOpensDelayNobody)
{
	std::vector<Fd> pipes;

	for (int i = 0; i < 20; i++) {
		pipes.emplace_back(when_room(srv(), [&] { return sfd_read(srv(), "large", 0, 0, false); }));
		pipes.emplace_back(when_room(srv(), [&] { return sfd_open(srv(), "large", 0, 0, false); }));
	}
	ASSERT_NO_FATAL_FAILURE(run_small_ones());
	ASSERT_TRUE(same_content(large_, read_file_pipe(pipes[0]).content));
}

// What is stalled costs no time: the worker sleeps.
TEST_F(Stall, CostsNoProcessorTime)
{
	const std::string stat = "/proc/" + std::to_string(daemon().workers().at(0)) + "/stat";
	auto ticks = [&] {
		const std::string text = read_whole(stat);
		unsigned long user = 0, kernel = 0;

		sscanf(text.c_str() + text.rfind(") "), ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
			&kernel);
		return user + kernel;
	};

	for (const DestType &type : stallable_dest_types())
		ASSERT_NO_FATAL_FAILURE(stall(type));
	ASSERT_NO_FATAL_FAILURE(run_small_ones());
	const unsigned long before = ticks();
	/* Time itself is what is measured here. */
	std::this_thread::sleep_for(1s);
	EXPECT_LE(ticks() - before, static_cast<unsigned long>(sysconf(_SC_CLK_TCK)) / 20);
}

} // namespace
