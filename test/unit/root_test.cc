// SPDX-License-Identifier: BSD-2-Clause
// What is found out about the root directory, and the clone of its mounts.
extern "C" {
#include "server/os/root.h"
}

#include "test/support/bounded.h"
#include "test/support/fd.h"
#include "test/support/namespaces.h"
#include "test/support/refuse.h"

#include <cerrno>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

namespace
{

class Root : public BoundedTest
{
      protected:
	static Fd open_directory(const std::string &where)
	{
		Fd fd(open(where.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));

		EXPECT_GE(fd, 0) << where;
		return fd;
	}

	static os_root look(const std::string &where)
	{
		os_root root;
		const Fd fd = open_directory(where);

		memset(&root, 0xff, sizeof root); /* nothing may be left as it was */
		EXPECT_EQ(0, os_root_look(fd, &root)) << where;
		EXPECT_EQ(fd, root.dir.fd);
		EXPECT_FALSE(root.dir.no_symlinks || root.dir.one_file_system);
		return root;
	}

	static dev_t device_of(const std::string &where)
	{
		struct stat st = {};

		EXPECT_EQ(0, stat(where.c_str(), &st));
		return st.st_dev;
	}

	static timespec atime_of(const std::string &where)
	{
		struct stat st = {};

		EXPECT_EQ(0, stat(where.c_str(), &st));
		return st.st_atim;
	}

	static void make_atime_due(const std::string &where)
	{
		const timespec times[2] = {{1000000000, 0}, {1500000000, 0}};

		ASSERT_EQ(0, utimensat(AT_FDCWD, where.c_str(), times, 0));
	}

	static void read_below(int root_fd, const char *name)
	{
		const Fd fd(openat(root_fd, name, O_RDONLY | O_CLOEXEC));
		char c;

		ASSERT_GE(fd, 0) << name;
		ASSERT_EQ(1, read(fd, &c, 1));
	}
};

TEST_F(Root, OfTemporaryFiles)
{
	struct statfs fs = {};
	const os_root root = look(path(""));

	ASSERT_EQ(0, statfs(path("").c_str(), &fs));
	EXPECT_EQ(device_of(path("")), root.device);
	EXPECT_EQ(fs.f_type == EXT4_SUPER_MAGIC, std::string(root.fs) == "ext4");
	EXPECT_FALSE(root.detached);
	if (fs.f_type == EXT4_SUPER_MAGIC) {
		EXPECT_TRUE(root.local);
		EXPECT_FALSE(root.resident);
	}
}

TEST_F(Root, InMemory)
{
	struct statfs fs = {};

	if (statfs("/dev/shm", &fs) < 0 || fs.f_type != TMPFS_MAGIC)
		GTEST_SKIP() << "/dev/shm is no tmpfs";
	const os_root root = look("/dev/shm");
	EXPECT_STREQ("tmpfs", root.fs);
	EXPECT_EQ(device_of("/dev/shm"), root.device);
	EXPECT_TRUE(root.local);
	EXPECT_TRUE(root.resident);
	EXPECT_FALSE(root.updates_atime);
	EXPECT_FALSE(root.strict_atime);
}

TEST_F(Root, OfAnUnknownKindIsNotLocal)
{
	const os_root root = look("/dev/pts");

	EXPECT_STREQ("0x1cd1", root.fs);
	EXPECT_FALSE(root.local);
	EXPECT_FALSE(root.resident);
	EXPECT_FALSE(root.kernel);
}

TEST_F(Root, ThatTheKernelMakesUp)
{
	EXPECT_STREQ("proc", look("/proc").fs);
	EXPECT_STREQ("sysfs", look("/sys").fs);
	for (const char *where : {"/proc", "/proc/self", "/proc/1", "/sys", "/sys/kernel"})
		EXPECT_TRUE(look(where).kernel) << where;
	EXPECT_FALSE(look("/").kernel);
	EXPECT_FALSE(look("/dev/shm").kernel);
}

TEST_F(Root, ThatIsNoDescriptor)
{
	os_root root;

	EXPECT_EQ(-1, os_root_look(-1, &root));
	EXPECT_EQ(EBADF, errno);
}

TEST_F(Root, OnAnOverlayIsNotLocal)
{
	REQUIRE_MOUNTS();
	in_child([&] {
		own_mounts();
		for (const char *name : {"lower", "upper", "work"})
			ASSERT_EQ(0, mkdir(path(name).c_str(), 0755));
		mount_at(path("mnt"), "overlay", "none", 0,
			"lowerdir=" + path("lower") + ",upperdir=" + path("upper") + ",workdir=" + path("work"));
		const os_root root = look(path("mnt"));
		EXPECT_STREQ("overlayfs", root.fs);
		EXPECT_FALSE(root.local);
		EXPECT_FALSE(root.resident);
	});
}

TEST_F(Root, RulesForAccessTimesAreItsMounts)
{
	REQUIRE_MOUNTS();
	if (look(path("")).resident)
		GTEST_SKIP() << "temporary files are in memory";
	const struct {
		unsigned long flags;
		bool updates, strict;
	} cases[] = {
		{MS_RELATIME, true, false},
		{MS_STRICTATIME, true, true},
		{MS_NOATIME, false, false},
		{MS_RELATIME | MS_RDONLY, false, false},
		{MS_STRICTATIME | MS_RDONLY, false, false},
	};
	for (const auto &c : cases) {
		in_child([&] {
			own_mounts();
			remount(path(""), c.flags);
			const os_root root = look(path(""));
			EXPECT_EQ(c.updates, root.updates_atime) << c.flags;
			EXPECT_EQ(c.strict, root.strict_atime) << c.flags;
			EXPECT_EQ(device_of(path("")), root.device);
		});
	}
}

TEST_F(Root, KernelsThatCanDoLessAreFoundOut)
{
	in_child([&] {
		ASSERT_NO_FATAL_FAILURE(refuse_call(451, ENOSYS)); /* cachestat */
		const os_root root = look(path(""));
		EXPECT_FALSE(root.tells_heat);
	});
	in_child([&] {
		ASSERT_NO_FATAL_FAILURE(refuse_call(SYS_openat2, EINVAL)); /* does not know RESOLVE_CACHED */
		const os_root root = look(path(""));
		EXPECT_FALSE(root.opens_cached);
	});
}

// ---- The clone

TEST_F(Root, CloneKeepsNoAccessTimes)
{
	REQUIRE_MOUNTS();
	in_child([&] {
		own_mounts();
		mount_at(path("mnt"), "tmpfs", "none");
		remount(path("mnt"), MS_STRICTATIME);
		write_whole(path("mnt/file"), "content");
		const Fd original = open_directory(path("mnt"));
		const Fd clone(os_root_detach(original));
		ASSERT_GE(clone, 0) << strerror(errno);
		make_atime_due(path("mnt/file"));
		read_below(clone, "file");
		EXPECT_EQ(1000000000, atime_of(path("mnt/file")).tv_sec) << "read through the clone";
		read_below(original, "file");
		EXPECT_LT(1500000000, atime_of(path("mnt/file")).tv_sec) << "read through the original";
	});
}

TEST_F(Root, CloneOfADiskKeepsNoAccessTimes)
{
	REQUIRE_MOUNTS();
	in_child([&] {
		own_mounts();
		remount(path(""), MS_RELATIME);
		write_whole(path("file"), "content");
		const Fd original = open_directory(path(""));
		const Fd clone(os_root_detach(original));
		ASSERT_GE(clone, 0) << strerror(errno);
		os_root root;
		ASSERT_EQ(0, os_root_look(clone, &root));
		EXPECT_FALSE(root.updates_atime);
		EXPECT_FALSE(root.strict_atime);
		EXPECT_EQ(device_of(path("")), root.device);
		EXPECT_EQ(look(path("")).local, root.local);
		EXPECT_EQ(look(path("")).opens_cached, root.opens_cached);
		make_atime_due(path("file"));
		read_below(clone, "file");
		EXPECT_EQ(1000000000, atime_of(path("file")).tv_sec);
		read_below(original, "file");
		EXPECT_LT(1500000000, atime_of(path("file")).tv_sec);
	});
}

TEST_F(Root, CloneHasNoDevicesAndNoSetUserId)
{
	REQUIRE_MOUNTS();
	const Fd original = open_directory(path(""));
	const Fd clone(os_root_detach(original));
	struct statvfs of_clone = {}, before = {}, after = {};

	ASSERT_GE(clone, 0) << strerror(errno);
	EXPECT_NE(0, fcntl(clone, F_GETFD) & FD_CLOEXEC);
	ASSERT_EQ(0, statvfs(path("").c_str(), &before));
	ASSERT_EQ(0, fstatvfs(clone, &of_clone));
	EXPECT_NE(0U, of_clone.f_flag & ST_NODEV);
	EXPECT_NE(0U, of_clone.f_flag & ST_NOSUID);
	EXPECT_NE(0U, of_clone.f_flag & ST_NOATIME);
	ASSERT_EQ(0, fstatvfs(original, &after));
	EXPECT_EQ(before.f_flag, after.f_flag) << "the original is as it was";
}

TEST_F(Root, CloneHasWhatIsMountedBelowAlready)
{
	REQUIRE_MOUNTS();
	in_child([&] {
		own_mounts();
		mount_at(path("before"), "tmpfs", "none");
		remount(path("before"), MS_STRICTATIME);
		write_whole(path("before/file"), "content");
		ASSERT_EQ(0, mkdir(path("after").c_str(), 0755));
		const Fd original = open_directory(path(""));
		const Fd clone(os_root_detach(original));
		ASSERT_GE(clone, 0) << strerror(errno);
		mount_at(path("after"), "tmpfs", "none");
		write_whole(path("after/file"), "content");
		make_atime_due(path("before/file"));
		read_below(clone, "before/file");
		EXPECT_EQ(1000000000, atime_of(path("before/file")).tv_sec) << "also there";
		EXPECT_EQ(-1, openat(clone, "after/file", O_RDONLY | O_CLOEXEC));
		EXPECT_EQ(ENOENT, errno);
		/* What is unmounted from the original is still there. */
		ASSERT_EQ(0, umount2(path("before").c_str(), MNT_DETACH));
		ASSERT_EQ(0, umount2(path("before").c_str(), MNT_DETACH));
		read_below(clone, "before/file");
	});
}

TEST_F(Root, CloneSeesNewFiles)
{
	REQUIRE_MOUNTS();
	const Fd original = open_directory(path(""));
	const Fd clone(os_root_detach(original));

	ASSERT_GE(clone, 0);
	write_whole(path("file"), "content");
	read_below(clone, "file");
}

TEST_F(Root, CloneIsForRootOnly)
{
	const Fd original = open_directory(path(""));

	in_child([&] {
		if (geteuid() == 0) {
			ASSERT_EQ(0, setuid(65534));
		}
		const size_t before = count_fds("self");
		EXPECT_EQ(-1, os_root_detach(original));
		EXPECT_EQ(EPERM, errno);
		EXPECT_EQ(before, count_fds("self"));
	});
}

TEST_F(Root, CloneThatCannotBeMadeLeavesNothing)
{
	REQUIRE_MOUNTS();
	const Fd original = open_directory(path(""));

	in_child([&] {
		const size_t before = count_fds("self");

		ASSERT_NO_FATAL_FAILURE(refuse_call(SYS_mount_setattr, ENOSYS));
		EXPECT_EQ(-1, os_root_detach(original));
		EXPECT_EQ(ENOSYS, errno);
		EXPECT_EQ(before, count_fds("self"));
	});
	EXPECT_EQ(-1, os_root_detach(-1));
	EXPECT_EQ(EBADF, errno);
}

} // namespace
