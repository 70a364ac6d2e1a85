// SPDX-License-Identifier: BSD-2-Clause
// How many transfers a limit on open files leaves room for, and what is done about it.
extern "C" {
#include "server/limits.h"
#include "server/options.h"
}

#include <gtest/gtest.h>

#include <climits>
#include <cstddef>
#include <cstdint>
#include <string>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace
{

// What 100 transfers need: a worker that has them still has room for a datagram.
const unsigned need_100 = (100 + BATCH_RESERVED) * FDS_PER_TRANSFER + FDS_RESERVED;

// Room for 100 in a worker, of which 36 are beside a datagram's.
const unsigned for_100 = FDS_RESERVED + 100 * FDS_PER_TRANSFER;

const unsigned some_uid = 54321; /* nobody's in particular */

TEST(LimitsWorkerTransfers, ReserveFirstThenThreeEach)
{
	EXPECT_EQ(0u, limits_worker_transfers(0, 0));
	EXPECT_EQ(0u, limits_worker_transfers(FDS_RESERVED, 0));
	EXPECT_EQ(0u, limits_worker_transfers(FDS_RESERVED + FDS_PER_TRANSFER - 1, 0));
	EXPECT_EQ(1u, limits_worker_transfers(FDS_RESERVED + FDS_PER_TRANSFER, 0));
	EXPECT_EQ(1u, limits_worker_transfers(FDS_RESERVED + 2 * FDS_PER_TRANSFER - 1, 0));
	EXPECT_EQ(2u, limits_worker_transfers(FDS_RESERVED + 2 * FDS_PER_TRANSFER, 0));
	EXPECT_EQ((1024u - FDS_RESERVED) / 3, limits_worker_transfers(1024, 0));
}

TEST(LimitsWorkerTransfers, WhatIsForSomethingElseComesOff)
{
	EXPECT_EQ(1u, limits_worker_transfers(FDS_RESERVED + 100 + FDS_PER_TRANSFER, 100));
	EXPECT_EQ(0u, limits_worker_transfers(FDS_RESERVED + 99 + FDS_PER_TRANSFER, 100));
	EXPECT_EQ(0u, limits_worker_transfers(FDS_RESERVED, 100));
}

TEST(LimitsWorkerTransfers, NoLimitAtAll)
{
	EXPECT_EQ(UINT_MAX, limits_worker_transfers(UINT64_MAX, 0));
	EXPECT_EQ(UINT_MAX, limits_worker_transfers(RLIM_INFINITY, 0));
}

// A worker stops receiving while it could not take a whole datagram's requests: that much is never used.
TEST(LimitsTransfers, WhatTheWorkersCanHaveTogether)
{
	EXPECT_EQ(0u, limits_transfers(100, 0, 1));
	EXPECT_EQ(0u, limits_transfers(100, 64, 1));
	EXPECT_EQ(0u, limits_transfers(100, 64, 64));
	EXPECT_EQ(1u, limits_transfers(100, 65, 1));
	EXPECT_EQ(64u, limits_transfers(100, 65, 64));
	EXPECT_EQ(99u, limits_transfers(100, 163, 1));
	EXPECT_EQ(100u, limits_transfers(100, 164, 1));
	EXPECT_EQ(100u, limits_transfers(100, 114, 2));
	EXPECT_EQ(98u, limits_transfers(100, 113, 2));
	EXPECT_EQ(1u, limits_transfers(1, UINT_MAX, 64)) << "never more than were asked for";
	EXPECT_EQ(UINT_MAX, limits_transfers(UINT_MAX, UINT_MAX, 64)) << "the sum does not wrap";
}

// A datagram's descriptors fit beside a process's own.
TEST(LimitsWorkerTransfers, TheReserveHoldsADatagramAndAMailboxForEachWorker)
{
	EXPECT_GE(FDS_RESERVED, 253 + WORKERS_MAX + 16);
}

struct Outcome {
	unsigned allowed, each;
	rlimit left;
	std::string log; /* last: the rest is handed over as it is */
};

// Runs limits_apply() in a process of its own with these limits, as an ordinary user unless told
// otherwise.
Outcome apply(unsigned wanted, unsigned workers, rlim_t soft, rlim_t hard, bool keep_root = false)
{
	Outcome out{};
	int result[2], log[2];
	char buf[1024];
	ssize_t n;
	pid_t pid;

	EXPECT_EQ(0, pipe(result));
	EXPECT_EQ(0, pipe(log));
	pid = fork();
	if (pid == 0) {
		const rlimit rl = {soft, hard};

		dup2(log[1], STDERR_FILENO);
		if (setrlimit(RLIMIT_NOFILE, &rl) < 0)
			_exit(1);
		if (geteuid() == 0 && !keep_root && setresuid(some_uid, some_uid, some_uid) < 0)
			_exit(2);
		out.allowed = limits_apply(wanted, workers, 0, &out.each);
		getrlimit(RLIMIT_NOFILE, &out.left);
		_exit(write(result[1], &out, offsetof(Outcome, log)) < 0);
	}
	close(result[1]);
	close(log[1]);
	EXPECT_EQ(static_cast<ssize_t>(offsetof(Outcome, log)), read(result[0], &out, offsetof(Outcome, log)));
	while ((n = read(log[0], buf, sizeof buf)) > 0)
		out.log.append(buf, static_cast<size_t>(n));
	close(result[0]);
	close(log[0]);
	EXPECT_EQ(pid, waitpid(pid, nullptr, 0));
	return out;
}

size_t lines(const std::string &s)
{
	size_t n = 0;

	for (char c : s)
		n += c == '\n';
	return n;
}

TEST(LimitsApply, EnoughAlready)
{
	const Outcome o = apply(100, 1, 1000, 1000);

	EXPECT_EQ(100u, o.allowed);
	EXPECT_GE(o.each, 100u + BATCH_RESERVED) << "any one worker can hold them all";
	EXPECT_EQ(1000u, o.left.rlim_cur) << "no reason to change it";
	EXPECT_EQ("", o.log);
}

TEST(LimitsApply, RaisesTheSoftLimitToWhatItNeeds)
{
	const Outcome o = apply(100, 1, 256, 5000);

	EXPECT_EQ(100u, o.allowed);
	EXPECT_GE(o.each, 100u + BATCH_RESERVED);
	EXPECT_EQ(need_100, o.left.rlim_cur);
	EXPECT_EQ(5000u, o.left.rlim_max);
	EXPECT_EQ("", o.log);
}

TEST(LimitsApply, LowersTheNumberAndNamesTheLimit)
{
	const Outcome one = apply(100, 1, 256, for_100), two = apply(100, 2, 256, for_100),
		      three = apply(100, 3, 256, for_100);

	EXPECT_EQ(36u, one.allowed);
	EXPECT_EQ(72u, two.allowed);
	EXPECT_EQ(100u, three.allowed);
	EXPECT_EQ("", three.log);
	EXPECT_EQ(100u, one.each);
	EXPECT_EQ(for_100, one.left.rlim_cur);
	EXPECT_EQ(1u, lines(one.log)) << one.log;
	EXPECT_NE(std::string::npos, one.log.find("RLIMIT_NOFILE")) << one.log;
	EXPECT_NE(std::string::npos, one.log.find(std::to_string(for_100))) << one.log;
	EXPECT_NE(std::string::npos, one.log.find("from 100 to 36")) << one.log;
	EXPECT_NE(std::string::npos, two.log.find("from 100 to 72")) << two.log;
}

TEST(LimitsApply, RefusesALimitThatLeavesNoRoom)
{
	const rlim_t smallest = FDS_RESERVED + (BATCH_RESERVED + 1) * FDS_PER_TRANSFER;

	for (rlim_t limit : {rlim_t{64}, rlim_t{256}, smallest - 1}) {
		const Outcome o = apply(100, 4, limit, limit);

		EXPECT_EQ(0u, o.allowed);
		EXPECT_EQ(1u, lines(o.log)) << o.log;
		EXPECT_NE(std::string::npos, o.log.find("RLIMIT_NOFILE")) << o.log;
		EXPECT_NE(std::string::npos, o.log.find(std::to_string(limit))) << o.log;
		EXPECT_NE(std::string::npos, o.log.find(std::to_string(need_100))) << "how to mend it: " << o.log;
	}
	EXPECT_EQ(1u, apply(100, 1, smallest, smallest).allowed);
}

TEST(LimitsApply, TheMostTransfersDoNotWrap)
{
	const Outcome o = apply(TRANSFERS_MAX, 1, 256, FDS_RESERVED + 200 * FDS_PER_TRANSFER);

	EXPECT_EQ(136u, o.allowed);
	EXPECT_NE(std::string::npos, o.log.find("from 1000000 to 136")) << o.log;
}

TEST(LimitsApply, RootRaisesTheHardLimitToo)
{
	Outcome o;

	if (geteuid() != 0)
		GTEST_SKIP() << "needs root";
	o = apply(100, 1, 256, 256, true);
	if (o.allowed == 0)
		GTEST_SKIP() << "root without CAP_SYS_RESOURCE";
	EXPECT_EQ(100u, o.allowed);
	EXPECT_EQ(need_100, o.left.rlim_cur);
	EXPECT_EQ(need_100, o.left.rlim_max);
	EXPECT_EQ("", o.log);
}

} // namespace
