// SPDX-License-Identifier: BSD-2-Clause
// Hot or cold: what a worker may touch itself.
extern "C" {
#include "server/os/files.h"
#include "server/residency.h"
}

#include "test/support/bounded.h"
#include "test/support/fd.h"
#include "test/support/refuse.h"

#include <ctime>
#include <fcntl.h>
#include <sys/stat.h>

namespace
{

constexpr uint64_t MS = 1000 * 1000, SECOND = 1000 * MS;
constexpr uint64_t DEVICE = 77;

os_root disk()
{
	os_root root = {};

	root.device = DEVICE;
	root.local = root.opens_cached = root.tells_heat = root.updates_atime = true;
	return root;
}

class Residency : public BoundedTest
{
      protected:
	void SetUp() override
	{
		BoundedTest::SetUp();
		pools_ = pools_new(4, 4);
		ASSERT_NE(nullptr, pools_);
		init(disk());
	}

	void init(const os_root &root)
	{
		residency_init(&r_, &root, pools_);
	}

	// Some job for that device, under way since then.
	place start_job(uint64_t device, uint64_t now)
	{
		const pool_use use = {device, 1};
		place at = {POOL_READ, 0, 0};
		bool lost;

		if (pool_want(pools_, POOL_READ, now)) {
			while (!pool_is_wanted(pools_, POOL_READ, at.index))
				at.index++;
			EXPECT_TRUE(pool_arrive(pools_, &at, now));
			pool_hand_on(pools_, &at, 0, 0, now, &lost);
		}
		EXPECT_TRUE(pool_take(pools_, POOL_READ, 0, &use, now, &at));
		return at;
	}

	void end_job(place at)
	{
		bool lost;

		pool_hand_on(pools_, &at, 0, 0, 1, &lost);
		EXPECT_FALSE(lost);
	}

	// Whether reading would write an access time, by the file's times in seconds.
	bool is_due(time_t atime, time_t mtime, time_t ctime)
	{
		return describe(timespec{atime, 0}, timespec{mtime, 0}, timespec{ctime, 0}).atime_due;
	}

	source_file describe(
		timespec atime, timespec mtime, timespec ctime, bool parked = false, uint64_t device = DEVICE)
	{
		struct stat st = {};
		source_file f = {};

		f.fd = -1;
		st.st_dev = device;
		st.st_atim = atime;
		st.st_mtim = mtime;
		st.st_ctim = ctime;
		residency_describe(&r_, &st, parked, &f);
		return f;
	}

	// A file of the disk whose access time is not due.
	static source_file hot_file(int fd)
	{
		source_file f = {};

		f.fd = fd;
		f.local = true;
		f.device = DEVICE;
		f.is_told = true;
		return f;
	}

	heat heat_of(const source_file &f, int64_t offset, uint64_t n, uint64_t left = 0, uint64_t now = SECOND)
	{
		const heat_query query = {offset, n, left > 0 ? left : n, false, PROOF_USUAL};

		return residency_heat(&r_, &f, &query, now);
	}

	pools *pools_ = nullptr;
	residency r_ = {};
};

// ---- The root

TEST_F(Residency, OnlyLocalRootsAreTouched)
{
	EXPECT_TRUE(residency_allows(&r_, SECOND));
	os_root root = disk();
	root.local = false;
	init(root);
	EXPECT_FALSE(residency_allows(&r_, SECOND));
	root = disk();
	root.opens_cached = false;
	init(root);
	EXPECT_FALSE(residency_allows(&r_, SECOND));
}

TEST_F(Residency, ASickDeviceIsNotTouched)
{
	const place other = start_job(DEVICE + 1, SECOND);
	EXPECT_TRUE(residency_allows(&r_, 10 * SECOND)) << "another one is";
	const place at = start_job(DEVICE, 20 * SECOND);
	EXPECT_TRUE(residency_allows(&r_, 20 * SECOND + 100 * MS));
	EXPECT_FALSE(residency_allows(&r_, 20 * SECOND + 102 * MS));
	EXPECT_FALSE(residency_allows(&r_, 30 * SECOND));
	end_job(at);
	EXPECT_TRUE(residency_allows(&r_, 30 * SECOND + 2 * MS)) << "it is well again";
	end_job(other);
}

// It is not looked at all the time.
TEST_F(Residency, SicknessIsLookedAtEveryMillisecond)
{
	EXPECT_TRUE(residency_allows(&r_, 10 * SECOND));
	const place at = start_job(DEVICE, SECOND);
	EXPECT_TRUE(residency_allows(&r_, 10 * SECOND + MS - 1));
	EXPECT_FALSE(residency_allows(&r_, 10 * SECOND + MS));
	end_job(at);
	EXPECT_FALSE(residency_allows(&r_, 10 * SECOND + MS + 1));
	EXPECT_TRUE(residency_allows(&r_, 10 * SECOND + 2 * MS));
}

// ---- Files

TEST_F(Residency, FilesOfTheRootsOwnDeviceAreLocal)
{
	const timespec t = {1, 0};

	EXPECT_TRUE(describe(t, t, t).local);
	EXPECT_EQ(DEVICE, describe(t, t, t).device);
	EXPECT_FALSE(describe(t, t, t).parked);
	EXPECT_FALSE(describe(t, t, t, false, DEVICE + 1).local);
	EXPECT_EQ(DEVICE + 1, describe(t, t, t, false, DEVICE + 1).device);
	EXPECT_FALSE(describe(t, t, t, true).local);
	EXPECT_TRUE(describe(t, t, t, true).parked);
	os_root root = disk();
	root.local = false;
	init(root);
	EXPECT_FALSE(describe(t, t, t).local);
	EXPECT_FALSE(describe(t, t, t).atime_due) << "which matters for local ones only";
}

// mount(8): relatime
TEST_F(Residency, AccessTimesAreDueByTheRuleOfRelatime)
{
	const time_t now = time(nullptr), day = 24 * 60 * 60;

	EXPECT_FALSE(is_due(now, now - 10, now - 10));
	EXPECT_FALSE(is_due(now - day + 60, now - 2 * day, now - 2 * day)) << "nearly a day ago";
	EXPECT_TRUE(is_due(now - day - 1, now - 2 * day, now - 2 * day)) << "more than a day ago";
	EXPECT_TRUE(is_due(now - 10, now - 5, now - 20)) << "written since";
	EXPECT_TRUE(is_due(now - 10, now - 20, now - 5)) << "changed since";
	EXPECT_TRUE(is_due(now - 10, now - 10, now - 20)) << "at the same time";
	EXPECT_TRUE(is_due(now - 10, now - 20, now - 10));
	const timespec early = {now - 10, 5}, late = {now - 10, 6};
	EXPECT_FALSE(describe(late, early, early).atime_due) << "nanoseconds count";
	EXPECT_TRUE(describe(early, late, early).atime_due);
	EXPECT_TRUE(describe(early, early, late).atime_due);
}

TEST_F(Residency, AccessTimesAreAsTheRootSays)
{
	const time_t now = time(nullptr);
	os_root root = disk();

	root.updates_atime = false;
	init(root);
	EXPECT_FALSE(is_due(1, now, now)) << "noatime";
	root = disk();
	root.strict_atime = true;
	init(root);
	EXPECT_TRUE(is_due(now, now - 10, now - 10)) << "strictatime";
}

TEST_F(Residency, AnAccessTimeIsDueOnce)
{
	const time_t now = time(nullptr);
	source_file f = describe({now - 10, 0}, {now, 0}, {now, 0});

	ASSERT_TRUE(f.atime_due);
	residency_was_read(&r_, &f);
	EXPECT_FALSE(f.atime_due);
	residency_was_read(&r_, &f);
	EXPECT_FALSE(f.atime_due);
	os_root root = disk();
	root.strict_atime = true;
	init(root);
	f = describe({now, 0}, {now - 10, 0}, {now - 10, 0});
	residency_was_read(&r_, &f);
	EXPECT_TRUE(f.atime_due) << "every time";
}

// ---- Ranges

TEST_F(Residency, WhatIsInMemoryIsHot)
{
	constexpr uint64_t SIZE = 1 << 20;
	os_root here;
	const Fd dir(open(path("").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));

	ASSERT_EQ(0, os_root_look(dir, &here));
	if (!here.local || here.resident || !here.tells_heat)
		GTEST_SKIP() << "not with this kernel, or file system";
	write_whole(path("file"), make_content(SIZE));
	const Fd fd(open(path("file").c_str(), O_RDWR | O_CLOEXEC));
	source_file f = hot_file(fd);
	EXPECT_EQ(HEAT_HOT, heat_of(f, 0, SIZE));
	EXPECT_EQ(HEAT_HOT, heat_of(f, 1000, 1));
	ASSERT_EQ(0, fsync(fd));
	ASSERT_TRUE(eventually([&] {
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		return heat_of(f, 0, SIZE) == HEAT_COLD;
	}));
	EXPECT_EQ(HEAT_COLD, heat_of(f, 1000, 1)) << "little, but it is known to be cold";
	/* As it comes back, it is hot again. */
	EXPECT_TRUE(same_content(make_content(SIZE), read_whole(path("file"))));
	EXPECT_EQ(HEAT_HOT, heat_of(f, 0, SIZE));
}

TEST_F(Residency, WhatMayNotBeTouchedIsCold)
{
	write_whole(path("file"), "0123456789");
	const Fd fd(open(path("file").c_str(), O_RDWR | O_CLOEXEC));
	source_file f = hot_file(fd);

	f.local = false;
	EXPECT_EQ(HEAT_COLD, heat_of(f, 0, 10));
	f = hot_file(fd);
	f.atime_due = true;
	EXPECT_EQ(HEAT_COLD, heat_of(f, 0, 10));
	f = hot_file(fd);
	const place at = start_job(DEVICE, SECOND);
	EXPECT_EQ(HEAT_COLD, heat_of(f, 0, 10, 10, 10 * SECOND));
	end_job(at);
	EXPECT_NE(HEAT_COLD, heat_of(f, 0, 10, 10, 20 * SECOND));
}

// All of it is in memory, whatever it is asked for; but a hung device next to it does not matter.
// Who owns a file or may write it may be told; nobody else has to be asked to know that.
TEST_F(Residency, OwnerAndModeSayWhetherOneIsTold)
{
	const auto is_told = [this](uid_t us, uid_t owner, mode_t mode) {
		struct stat st = {};
		source_file f = {};

		r_.uid = us;
		st.st_uid = owner;
		st.st_mode = S_IFREG | mode;
		residency_describe(&r_, &st, false, &f);
		return f.is_told;
	};

	EXPECT_TRUE(is_told(1000, 1000, 0400));
	EXPECT_TRUE(is_told(0, 1000, 0400));
	EXPECT_FALSE(is_told(1000, 0, 0644));
	EXPECT_TRUE(is_told(1000, 0, 0666));
	EXPECT_TRUE(is_told(1000, 0, 0664)) << "perhaps: the system knows whether the group is ours";
}

TEST_F(Residency, WhatIsAlwaysInMemoryIsHot)
{
	os_root root = disk();
	source_file f = hot_file(-1);

	root.resident = true;
	root.updates_atime = false;
	init(root);
	EXPECT_EQ(HEAT_HOT, heat_of(f, 0, 1));
	EXPECT_EQ(HEAT_HOT, heat_of(f, 0, UINT64_C(1) << 40));
	f.local = false;
	EXPECT_EQ(HEAT_COLD, heat_of(f, 0, 1));
}

TEST_F(Residency, OfWhatNobodyTellsLittleIsTried)
{
	constexpr uint64_t TRY_MAX = 64 * 1024;
	os_root root = disk();

	write_whole(path("file"), make_content(1 << 20));
	const Fd fd(open(path("file").c_str(), O_RDONLY | O_CLOEXEC));
	const source_file f = hot_file(fd);
	const auto expect_tries = [&] {
		EXPECT_EQ(HEAT_TRY, heat_of(f, 0, TRY_MAX));
		EXPECT_EQ(HEAT_TRY, heat_of(f, 0, 1));
		EXPECT_EQ(HEAT_COLD, heat_of(f, 0, TRY_MAX + 1));
		EXPECT_EQ(HEAT_COLD, heat_of(f, 0, 1, TRY_MAX + 1)) << "there is more to come";
		EXPECT_EQ(HEAT_TRY, heat_of(f, 900000, 1000, 1000)) << "the end of a large one";
	};
	root.tells_heat = false;
	init(root);
	expect_tries();
	in_child([&] {
		init(disk());
		refuse_call(451, EPERM); /* cachestat */
		expect_tries();
	});
}

} // namespace
