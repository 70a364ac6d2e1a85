// SPDX-License-Identifier: BSD-2-Clause
// XFS and btrfs: hot files are sent by the worker, cold ones by readers, and a file that is sent to a file of the same file
// system shares its blocks, so that nothing is copied at all.
#include "test/support/cold_fixture.h"
#include "test/support/fixture.h"
#include "test/support/run.h"

#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sendfiled/sendfiled.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace
{

constexpr size_t SMALL = 5000, LARGE = 4 << 20;

// Whether all of a file's blocks belong to another file too.
bool is_shared(int fd)
{
	constexpr unsigned MOST = 64;
	std::vector<char> buf(sizeof(fiemap) + MOST * sizeof(fiemap_extent));
	auto *map = reinterpret_cast<fiemap *>(buf.data());

	map->fm_length = FIEMAP_MAX_OFFSET;
	map->fm_flags = FIEMAP_FLAG_SYNC;
	map->fm_extent_count = MOST;
	if (ioctl(fd, FS_IOC_FIEMAP, map) < 0 || map->fm_mapped_extents == 0)
		return false;
	for (unsigned i = 0; i < map->fm_mapped_extents; i++) {
		if (!(map->fm_extents[i].fe_flags & FIEMAP_EXTENT_SHARED))
			return false;
	}
	return true;
}

class Reflink : public SfdTest, public ::testing::WithParamInterface<const char *>
{
      protected:
	void SetUp() override
	{
		SfdTest::SetUp();
		if (!is_root())
			GTEST_SKIP() << "only root can mount a disk image";
		const std::string kind = GetParam(), image = dir() + "/image";
		run({"truncate", "-s", "400M", image});
		const RunResult made = run({"mkfs." + kind, "-q", image});
		if (exit_status(made) != 0)
			GTEST_SKIP() << "no " << kind << " can be made here: " << made.err;
		const RunResult mounted = run({"mount", "-t", kind, "-o", "loop", image, root()});
		if (exit_status(mounted) != 0)
			GTEST_SKIP() << "no " << kind << " can be mounted here: " << mounted.err;
		mounted_ = true;
		add_file("canary", 1000, 99);
		ASSERT_EQ(0, chmod(root().c_str(), 0755));
	}

	void TearDown() override
	{
		if (daemon().pid() > 0)
			stop(SIGTERM, 0);
		if (mounted_) {
			EXPECT_TRUE(eventually([&] { return umount2(root().c_str(), 0) == 0; }));
		}
		SfdTest::TearDown();
	}

	void serve()
	{
		DaemonOptions options;

		options.workers = 1;
		ASSERT_NO_FATAL_FAILURE(start(options));
		EXPECT_NE(std::string::npos, daemon().log().find(std::string(": ") + GetParam() + ", cloned"));
	}

	std::string sent(const std::string &name)
	{
		Dest dest(DestType{Kind::Tcp, true}, dir());
		const Fd status(sfd_send(srv(), name.c_str(), dest.fd(), 0, 0, false));

		dest.start_reading();
		EXPECT_EQ(SFD_STAT_OK, read_outcome(status).stat());
		return dest.finish();
	}

	bool mounted_ = false;
};

TEST_P(Reflink, FilesOfAllHeatsAreServed)
{
	const std::string small = add_file("small", SMALL, 1), large = add_file("large", LARGE, 2);

	for (const char *name : {"small", "large"}) {
		ASSERT_EQ(0, chown(in_root(name).c_str(), 65534, 65534)) << "the serving user's own";
	}
	ASSERT_NO_FATAL_FAILURE(serve());
	for (int i = 0; i < 2; i++) {
		EXPECT_TRUE(same_content(small, sent("small")));
		EXPECT_TRUE(same_content(large, sent("large")));
		drop_from_memory(in_root("small"));
		drop_from_memory(in_root("large"));
	}
	expect_same_workers();
}

TEST_P(Reflink, ACopyToTheSameFileSystemSharesItsBlocks)
{
	const std::string large = add_file("large", LARGE, 2);

	ASSERT_NO_FATAL_FAILURE(serve());
	const Fd dest(open(in_root("copy").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	const Fd status(sfd_send(srv(), "large", dest, 0, 0, false));
	expect_success(read_outcome(status), LARGE);
	EXPECT_EQ(static_cast<off_t>(LARGE), lseek(dest, 0, SEEK_CUR));
	EXPECT_TRUE(same_content(large, read_whole(in_root("copy"))));
	EXPECT_TRUE(is_shared(dest));
	expect_same_workers();
}

INSTANTIATE_TEST_SUITE_P(All, Reflink, ::testing::Values("xfs", "btrfs"),
	[](const ::testing::TestParamInfo<const char *> &param) { return std::string(param.param); });

} // namespace
