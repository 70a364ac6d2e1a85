// SPDX-License-Identifier: BSD-2-Clause
// Opening and looking at files without a wait: what is in memory is found, and all else is said to be elsewhere.
extern "C" {
#include "server/os/files.h"
#include "server/os/root.h"
}

#include "test/support/bounded.h"
#include "test/support/fd.h"
#include "test/support/namespaces.h"
#include "test/support/refuse.h"

#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

namespace
{

// The directory, for one call.
struct at {
	explicit at(int fd, bool no_symlinks = false, bool one_file_system = false)
	    : dir{fd, no_symlinks, one_file_system}
	{
	}
	operator const os_dir *() const
	{
		return &dir;
	}
	os_dir dir;
};

class Files : public BoundedTest
{
      protected:
	void SetUp() override
	{
		BoundedTest::SetUp();
		root_ = open_root(path(""));
		os_root root = {};
		ASSERT_EQ(0, os_root_look(root_, &root));
		opens_cached_ = root.opens_cached;
		tells_heat_ = root.tells_heat && root.local && !root.resident;
	}

	void TearDown() override
	{
		root_.reset();
		BoundedTest::TearDown();
	}

	static Fd open_root(const std::string &where)
	{
		Fd fd(open(where.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));

		EXPECT_GE(fd, 0);
		return fd;
	}

	// 0, or an errno.
	static int open_cached(int root, const std::string &name)
	{
		const Fd fd(os_open_cached(at(root), name.c_str()));

		if (fd < 0)
			return errno;
		EXPECT_NE(0, fcntl(fd, F_GETFD) & FD_CLOEXEC);
		return 0;
	}

	static uint64_t device_of(const std::string &where)
	{
		struct stat st = {};

		EXPECT_EQ(0, stat(where.c_str(), &st));
		return st.st_dev;
	}

	Fd open_file(const std::string &name, int flags = O_RDONLY) const
	{
		Fd fd(open(path(name).c_str(), flags | O_CLOEXEC));

		EXPECT_GE(fd, 0);
		return fd;
	}

	// Waits until nothing of it is in memory; false if something stays.
	static bool drop(int fd, off_t offset, uint64_t n)
	{
		EXPECT_EQ(0, fsync(fd));
		return eventually([&] {
			posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
			return os_heat(fd, offset, n, 0) == OS_HEAT_COLD;
		});
	}

	Fd root_;
	bool opens_cached_ = false, tells_heat_ = false;
};

// ---- os_open_cached()

TEST_F(Files, OpensWhatIsInMemory)
{
	if (!opens_cached_)
		GTEST_SKIP() << "not with this kernel";
	ASSERT_EQ(0, mkdir(path("dir").c_str(), 0700));
	write_whole(path("dir/file"), "content");
	for (const char *name : {"dir/file", "/dir/file", "dir/../dir/./file", "../../dir/file", "dir", "."})
		EXPECT_EQ(0, open_cached(root_, name)) << name;
	const int err = open_cached(root_, "dir/file/x");
	EXPECT_TRUE(err == ENOTDIR || err == EAGAIN) << err;
}

TEST_F(Files, WhatIsMissingIsKnownOnceSomebodyHasLooked)
{
	if (!opens_cached_)
		GTEST_SKIP() << "not with this kernel";
	EXPECT_EQ(EAGAIN, open_cached(root_, "missing"));
	EXPECT_EQ(-1, os_open_beneath(at(root_), "missing"));
	EXPECT_EQ(ENOENT, errno);
	const int err = open_cached(root_, "missing");
	EXPECT_TRUE(err == ENOENT || err == EAGAIN) << err;
	EXPECT_EQ(EAGAIN, open_cached(root_, "missing-too"));
}

TEST_F(Files, LinksStayInside)
{
	if (!opens_cached_)
		GTEST_SKIP() << "not with this kernel";
	write_whole(path("passwd"), "inside");
	ASSERT_EQ(0, symlink("/passwd", path("absolute").c_str()));
	ASSERT_EQ(0, symlink("../../../passwd", path("upwards").c_str()));
	ASSERT_EQ(0, symlink("/proc/self/fd/0", path("magic").c_str()));
	for (const char *name : {"absolute", "upwards"}) {
		const Fd fd(os_open_cached(at(root_), name));
		struct stat st = {};

		/* A short link is in the inode; others may take a wait. */
		if (fd < 0) {
			EXPECT_EQ(EAGAIN, errno);
			continue;
		}
		ASSERT_EQ(0, fstat(fd, &st));
		EXPECT_EQ(6, st.st_size);
	}
	EXPECT_NE(0, open_cached(root_, "magic"));
	EXPECT_NE(0, open_cached(root_, "/etc/passwd"));
}

TEST_F(Files, AFifoIsNotWaitedFor)
{
	ASSERT_EQ(0, mkfifo(path("fifo").c_str(), 0600));
	EXPECT_EQ(0, opens_cached_ ? open_cached(root_, "fifo") : 0);
	const Fd fd(os_open_beneath(at(root_), "fifo"));
	EXPECT_GE(fd, 0);
}

TEST_F(Files, ALeaseIsNotWaitedFor)
{
	write_whole(path("file"), "content");
	signal(SIGIO, SIG_IGN);
	const Fd holder = open_file("file", O_RDWR);
	if (!opens_cached_ || fcntl(holder, F_SETLEASE, F_WRLCK) < 0)
		GTEST_SKIP() << "no leases here";
	EXPECT_EQ(EAGAIN, open_cached(root_, "file"));
	ASSERT_EQ(0, fcntl(holder, F_SETLEASE, F_UNLCK));
	EXPECT_EQ(0, open_cached(root_, "file"));
	signal(SIGIO, SIG_DFL);
}

TEST_F(Files, CachedOpensStayOnTheirMount)
{
	REQUIRE_MOUNTS();
	if (!opens_cached_)
		GTEST_SKIP() << "not with this kernel";
	in_child([&] {
		own_mounts();
		mount_at(path("mnt"), "tmpfs", "none");
		write_whole(path("mnt/file"), "content");
		write_whole(path("file"), "content");
		ASSERT_EQ(0, symlink("mnt/file", path("link").c_str()));
		const Fd root = open_root(path(""));
		for (const char *name : {"mnt/file", "mnt/missing", "mnt", "link", "mnt/../file"}) {
			const int err = open_cached(root, name);
			EXPECT_TRUE(err == EXDEV || err == EAGAIN) << name << ": " << err;
		}
		EXPECT_EQ(0, open_cached(root, "file"));
		const Fd fd(os_open_beneath(at(root), "mnt/file"));
		EXPECT_GE(fd, 0);
	});
}

// ---- Stricter directories

TEST_F(Files, WithoutSymbolicLinks)
{
	const at strict(root_, true);

	ASSERT_EQ(0, mkdir(path("dir").c_str(), 0700));
	write_whole(path("dir/file"), "content");
	ASSERT_EQ(0, symlink("dir/file", path("to_file").c_str()));
	ASSERT_EQ(0, symlink("dir", path("to_dir").c_str()));
	for (const char *name : {"to_file", "to_dir/file", "/to_dir/../dir/file"}) {
		EXPECT_GE(Fd(os_open_beneath(at(root_), name)), 0) << name;
		EXPECT_EQ(-1, os_open_beneath(strict, name)) << name;
		EXPECT_EQ(ELOOP, errno) << name;
		EXPECT_EQ(-1, os_open_cached(strict, name)) << name;
		EXPECT_TRUE(errno == ELOOP || errno == EAGAIN) << name;
		EXPECT_EQ(mode_t{0}, os_type_beneath(strict, name, false)) << name;
	}
	EXPECT_GE(Fd(os_open_beneath(strict, "dir/../dir/file")), 0);
	EXPECT_EQ(0, os_probe_open_beneath(strict));
}

TEST_F(Files, OnOneFileSystem)
{
	REQUIRE_MOUNTS();
	in_child([&] {
		own_mounts();
		mount_at(path("mnt"), "tmpfs", "none");
		write_whole(path("mnt/file"), "content");
		write_whole(path("file"), "content");
		ASSERT_EQ(0, symlink("mnt/file", path("link").c_str()));
		const Fd root = open_root(path(""));
		const at strict(root, false, true);
		for (const char *name : {"mnt/file", "mnt", "link", "mnt/../file"}) {
			EXPECT_GE(Fd(os_open_beneath(at(root), name)), 0) << name;
			EXPECT_EQ(-1, os_open_beneath(strict, name)) << name;
			EXPECT_EQ(EXDEV, errno) << name;
		}
		EXPECT_GE(Fd(os_open_beneath(strict, "file")), 0);
		EXPECT_EQ(0, os_probe_open_beneath(strict));
	});
}

TEST_F(Files, AKernelThatCannotDoItSaysSo)
{
	in_child([&] {
		refuse_call(SYS_openat2, EINVAL);
		EXPECT_EQ(EINVAL, open_cached(root_, "."));
	});
}

// ---- os_device_beneath()

TEST_F(Files, DeviceOfWhatIsThere)
{
	if (!opens_cached_)
		GTEST_SKIP() << "not with this kernel";
	const uint64_t device = device_of(path(""));

	ASSERT_EQ(0, mkdir(path("dir").c_str(), 0700));
	write_whole(path("dir/file"), "content");
	for (const char *name : {"dir/file", "/dir/file", "dir", "dir/", ".", "", "/", "..", "missing", "/missing",
		     "dir/missing", "dir/missing/and/more", "dir/file/x", "//dir//file", "missing/../dir/file"})
		EXPECT_EQ(device, os_device_beneath(at(root_), name)) << name;
	EXPECT_EQ(device, os_device_beneath(at(root_), std::string(255, 'x').c_str()));
}

TEST_F(Files, DeviceOfWhatIsMountedBelow)
{
	REQUIRE_MOUNTS();
	if (!opens_cached_)
		GTEST_SKIP() << "not with this kernel";
	in_child([&] {
		own_mounts();
		ASSERT_EQ(0, mkdir(path("dir").c_str(), 0755));
		mount_at(path("dir/mnt"), "tmpfs", "none");
		ASSERT_EQ(0, mkdir(path("dir/mnt/sub").c_str(), 0755));
		write_whole(path("dir/mnt/sub/file"), "content");
		ASSERT_EQ(0, symlink("dir/mnt", path("link").c_str()));
		/* To follow a link whose access time is due takes a wait. */
		const timespec times[2] = {{time(nullptr) + 1000, 0}, {0, UTIME_OMIT}};
		ASSERT_EQ(0, utimensat(AT_FDCWD, path("link").c_str(), times, AT_SYMLINK_NOFOLLOW));
		const uint64_t here = device_of(path("")), there = device_of(path("dir/mnt"));
		const Fd root = open_root(path(""));
		ASSERT_NE(here, there);
		for (const char *name : {"dir/mnt", "dir/mnt/sub/file", "dir/mnt/missing", "dir/mnt/missing/and/more",
			     "/dir/mnt/sub/missing", "link/sub/file", "link/missing", "dir/../dir/mnt/x"})
			EXPECT_EQ(there, os_device_beneath(at(root), name)) << name;
		for (const char *name : {"dir/mnt/..", "dir/mnt/../x", "dir/x", "dir/mntx", "dir/mnt/../../../.."})
			EXPECT_EQ(here, os_device_beneath(at(root), name)) << name;
	});
}

TEST_F(Files, DeviceOfWhatNobodyKnows)
{
	EXPECT_EQ(0U, os_device_beneath(at(-1), "file"));
	EXPECT_EQ(os_device_beneath(at(root_), "."), os_device_beneath(at(root_), std::string(PATH_MAX, 'x').c_str()));
	in_child([&] {
		refuse_call(SYS_openat2, EINVAL);
		EXPECT_EQ(0U, os_device_beneath(at(root_), "a/b/c"));
	});
}

// ---- os_type_beneath()

TEST_F(Files, TypesOfThings)
{
	ASSERT_EQ(0, mkdir(path("dir").c_str(), 0700));
	ASSERT_EQ(0, mkfifo(path("fifo").c_str(), 0600));
	write_whole(path("file"), "");
	for (const bool cached : {false, true}) {
		if (cached && !opens_cached_)
			continue;
		EXPECT_EQ(mode_t{S_IFDIR}, os_type_beneath(at(root_), "dir", cached));
		EXPECT_EQ(mode_t{S_IFIFO}, os_type_beneath(at(root_), "fifo", cached));
		EXPECT_EQ(mode_t{S_IFREG}, os_type_beneath(at(root_), "file", cached));
		EXPECT_EQ(mode_t{0}, os_type_beneath(at(root_), "missing", cached));
	}
}

// ---- os_look_at()

TEST_F(Files, LooksAtFiles)
{
	os_look look;

	write_whole(path("file"), "content");
	const Fd file = open_file("file"), by_path = open_file("file", O_PATH);
	for (const int fd : {static_cast<int>(file), static_cast<int>(by_path)}) {
		ASSERT_EQ(0, os_look_at(fd, &look));
		EXPECT_EQ(mode_t{S_IFREG}, look.type);
		EXPECT_EQ(device_of(path("")), look.device);
		EXPECT_EQ(1U, look.links);
		EXPECT_FALSE(look.is_terminal);
	}
	ASSERT_EQ(0, link(path("file").c_str(), path("other").c_str()));
	ASSERT_EQ(0, os_look_at(file, &look));
	EXPECT_EQ(2U, look.links);
	ASSERT_EQ(0, unlink(path("other").c_str()));
	ASSERT_EQ(0, unlink(path("file").c_str()));
	ASSERT_EQ(0, os_look_at(file, &look));
	EXPECT_EQ(0U, look.links) << "it has no name any more";
	ASSERT_EQ(0, os_look_at(root_, &look));
	EXPECT_EQ(mode_t{S_IFDIR}, look.type);
}

TEST_F(Files, LooksAtWhatIsNoFile)
{
	const Ends pipe = make_pipe(), socket = make_socketpair(SOCK_STREAM);
	const Fd terminal(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)), null(open("/dev/null", O_RDWR | O_CLOEXEC)),
		event(eventfd(0, EFD_CLOEXEC));
	os_look look;

	const auto type_of = [&](int fd) {
		EXPECT_EQ(0, os_look_at(fd, &look));
		return look.type;
	};
	EXPECT_EQ(mode_t{S_IFIFO}, type_of(pipe.in));
	EXPECT_EQ(mode_t{S_IFSOCK}, type_of(socket.in));
	EXPECT_EQ(mode_t{S_IFCHR}, type_of(null));
	EXPECT_FALSE(look.is_terminal);
	EXPECT_NE(mode_t{S_IFREG}, type_of(event));
	if (terminal >= 0) {
		EXPECT_EQ(mode_t{S_IFCHR}, type_of(terminal));
		EXPECT_TRUE(look.is_terminal);
	}
	EXPECT_EQ(-1, os_look_at(-1, &look));
	EXPECT_EQ(EBADF, errno);
	EXPECT_TRUE(os_is_pipe(pipe.in));
	EXPECT_FALSE(os_is_pipe(socket.in));
	EXPECT_FALSE(os_is_pipe(null));
	EXPECT_FALSE(os_is_pipe(-1));
}

TEST_F(Files, TellsAFifoFromAPipeByItsFlags)
{
	const Ends pipe = make_pipe(), direct = make_pipe();

	ASSERT_EQ(0, mkfifo(path("fifo").c_str(), 0600));
	const Fd fifo = open_file("fifo", O_RDWR | O_NONBLOCK), out = open_file("fifo", O_RDONLY | O_NONBLOCK);
	const Fd reopened(open(("/proc/self/fd/" + std::to_string(pipe.in)).c_str(), O_WRONLY | O_CLOEXEC));
	ASSERT_EQ(0, fcntl(direct.in, F_SETFL, O_DIRECT | O_NONBLOCK | O_APPEND | O_NOATIME));
	ASSERT_EQ(0, fcntl(direct.out, F_SETFL, O_ASYNC));
	for (const int fd : {int{pipe.in}, int{pipe.out}, int{direct.in}, int{direct.out}})
		EXPECT_FALSE(os_pipe_has_name(fcntl(fd, F_GETFL))) << fd;
	ASSERT_EQ(0, fcntl(fifo, F_SETFL, 0));
	for (const int fd : {int{fifo}, int{out}, int{reopened}})
		EXPECT_TRUE(os_pipe_has_name(fcntl(fd, F_GETFL))) << fd;
}

// ---- os_heat()

TEST_F(Files, HeatOfARange)
{
	constexpr uint64_t PAGE = 4096, SIZE = 100 * PAGE;
	char c;

	if (!tells_heat_)
		GTEST_SKIP() << "not with this kernel, or file system";
	write_whole(path("file"), make_content(SIZE));
	const Fd fd = open_file("file", O_RDWR);
	for (const uint64_t n : {uint64_t{1}, PAGE, PAGE + 1, SIZE})
		EXPECT_EQ(OS_HEAT_HOT, os_heat(fd, 0, n, 0)) << n;
	ASSERT_TRUE(drop(fd, 0, SIZE));
	ASSERT_EQ(0, posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM));
	ASSERT_EQ(1, pread(fd, &c, 1, 50 * PAGE));
	EXPECT_EQ(OS_HEAT_HOT, os_heat(fd, 50 * PAGE, PAGE, 0));
	EXPECT_EQ(OS_HEAT_HOT, os_heat(fd, 50 * PAGE + 100, 1, 0));
	EXPECT_EQ(OS_HEAT_HOT, os_heat(fd, 51 * PAGE - 1, 1, 0));
	EXPECT_EQ(OS_HEAT_COLD, os_heat(fd, 51 * PAGE, 1, 0));
	EXPECT_EQ(OS_HEAT_COLD, os_heat(fd, 51 * PAGE - 1, 2, 0)) << "it begins in memory, and ends elsewhere";
	EXPECT_EQ(OS_HEAT_COLD, os_heat(fd, 50 * PAGE - 1, 2, 0));
	EXPECT_EQ(OS_HEAT_COLD, os_heat(fd, 50 * PAGE, 2 * PAGE, 0));
	EXPECT_EQ(OS_HEAT_COLD, os_heat(fd, 0, SIZE, 0));
}

TEST_F(Files, HeatBeyondTheEndIsNone)
{
	if (!tells_heat_)
		GTEST_SKIP() << "not with this kernel, or file system";
	write_whole(path("file"), "0123456789");
	const Fd fd = open_file("file");
	EXPECT_EQ(OS_HEAT_HOT, os_heat(fd, 0, 10, 0));
	EXPECT_EQ(OS_HEAT_COLD, os_heat(fd, 0, 11, 0)) << "its last byte cannot be had";
	EXPECT_EQ(OS_HEAT_COLD, os_heat(fd, 4096, 1, 0));
}

TEST_F(Files, HeatOfAFileOfOthersIsUnknown)
{
	if (geteuid() != 0 || !tells_heat_)
		GTEST_SKIP() << "only root can take another user's part";
	write_whole(path("file"), "0123456789", 0644);
	write_whole(path("theirs"), "0123456789", 0600);
	write_whole(path("writable"), "0123456789", 0666);
	ASSERT_EQ(0, chown(path("theirs").c_str(), 65534, 65534));
	in_child([&] {
		ASSERT_EQ(0, setuid(65534));
		EXPECT_EQ(OS_HEAT_UNKNOWN, os_heat(open_file("file"), 0, 10, 0));
		EXPECT_EQ(OS_HEAT_HOT, os_heat(open_file("theirs"), 0, 10, 0));
		EXPECT_EQ(OS_HEAT_HOT, os_heat(open_file("writable"), 0, 10, 0));
	});
}

TEST_F(Files, HeatIsUnknownToOldKernels)
{
	write_whole(path("file"), "0123456789");
	in_child([&] {
		const Fd fd = open_file("file");

		refuse_call(451, ENOSYS);
		EXPECT_EQ(OS_HEAT_UNKNOWN, os_heat(fd, 0, 10, 0));
	});
	EXPECT_EQ(OS_HEAT_UNKNOWN, os_heat(-1, 0, 10, 0));
}

TEST_F(Files, ReadsOnlyWhatIsInMemory)
{
	constexpr size_t SIZE = 1 << 20;
	std::string buf(SIZE, '\0');

	if (!tells_heat_)
		GTEST_SKIP() << "not with this kernel, or file system";
	write_whole(path("file"), make_content(SIZE));
	const Fd fd = open_file("file", O_RDWR);
	EXPECT_EQ(static_cast<ssize_t>(SIZE), os_read_cached(fd, &buf[0], SIZE, 0));
	EXPECT_TRUE(same_content(make_content(SIZE), buf));
	/*
	 * The kernel starts to read what is missing before it looks again, and a fast disk may have answered by then, so a read
	 * of what was dropped may have its bytes; but then it did not wait for them.
	 */
	EXPECT_TRUE(eventually([&] {
		ssize_t got;

		EXPECT_TRUE(drop(fd, 0, SIZE));
		got = os_read_cached(fd, &buf[0], 10, SIZE / 2);
		if (got < 0)
			return errno == EAGAIN;
		EXPECT_EQ(make_content(SIZE).substr(SIZE / 2, 10), buf.substr(0, static_cast<size_t>(got)));
		return false;
	}));
	EXPECT_EQ(0, os_read_cached(fd, &buf[0], 10, SIZE));
}

// ---- Pipes

TEST_F(Files, MakesPipes)
{
	int ends[2];

	ASSERT_EQ(0, os_pipe(ends, 131072));
	const Fd out(ends[0]), in(ends[1]);
	EXPECT_EQ(131072, fcntl(in, F_GETPIPE_SZ));
	EXPECT_NE(0, fcntl(in, F_GETFL) & O_NONBLOCK);
	EXPECT_NE(0, fcntl(out, F_GETFL) & O_NONBLOCK);
	EXPECT_NE(0, fcntl(in, F_GETFD) & FD_CLOEXEC);
}

// The user has so many that no more may grow: a small one is what there is.
TEST_F(Files, MakesSmallPipesWhereLargeOnesAreRefused)
{
	in_child([&] {
		int ends[2];

		refuse_call(SYS_fcntl, EPERM);
		ASSERT_EQ(0, os_pipe(ends, 1 << 20));
		EXPECT_EQ(1, write(ends[1], "x", 1));
		close(ends[0]);
		close(ends[1]);
	});
}

} // namespace
