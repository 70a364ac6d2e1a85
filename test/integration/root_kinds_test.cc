// SPDX-License-Identifier: BSD-2-Clause
// Roots on file systems of all kinds: on each, the right bytes and the same errors, and each in the way that it allows.
#include "test/support/fixture.h"
#include "test/support/slow_disk.h"
#include "test/support/slow_fs.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <linux/magic.h>
#include <map>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <sstream>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <sys/wait.h>

namespace
{

constexpr uid_t SERVER = 54322;

// How much a worker tries to copy of a file of which it may not be told what is in memory.
constexpr size_t SMALL = 60000, LARGE = 700000;

class Mount
{
      public:
	Mount(const std::string &where, const char *type, const std::string &what, unsigned long flags = 0,
		const std::string &data = {})
	    : where_(where)
	{
		mkdir(where.c_str(), 0755);
		mounted_ = mount(what.c_str(), where.c_str(), type, flags, data.c_str()) == 0;
		EXPECT_TRUE(mounted_) << type << " on " << where << ": " << strerror(errno);
		if (mounted_) {
			EXPECT_EQ(0, mount(nullptr, where.c_str(), nullptr, MS_PRIVATE, nullptr));
		}
	}
	~Mount()
	{
		if (mounted_ && !eventually([&] { return umount2(where_.c_str(), 0) == 0; })) {
			ADD_FAILURE() << where_ << " is in use";
			umount2(where_.c_str(), MNT_DETACH);
		}
	}
	Mount(const Mount &) = delete;
	Mount &operator=(const Mount &) = delete;

      private:
	std::string where_;
	bool mounted_;
};

class RootKinds : public SfdTest
{
      protected:
	void SetUp() override
	{
		SfdTest::SetUp();
		root_ = root();
	}

	// What is below the root is taken away when nobody serves it any more.
	void TearDown() override
	{
		if (daemon().pid() > 0) {
			expect_idle();
			stop(SIGTERM, 0);
		}
		fs_.reset();
		disk_.reset();
		while (!mounts_.empty())
			mounts_.pop_back();
		if (!outside_.empty())
			std::filesystem::remove_all(outside_);
		SfdTest::TearDown();
	}

	// Serves that directory, in which the canary is put if it can be.
	void serve(const std::string &path, std::vector<std::string> more = {}, std::vector<std::string> wrapper = {})
	{
		DaemonOptions options;

		root_ = path;
		if (!fs_ || path != fs_->path())
			put("canary", 1000, 99);
		more.insert(more.begin(), {"-r", path});
		options.more = std::move(more);
		options.wrapper = std::move(wrapper);
		start(options);
	}

	std::string path(const std::string &name) const
	{
		return root_ + "/" + name;
	}

	// A file of the root; others than its owner may write it if it is to be known what of it is in memory.
	void put(const std::string &name, size_t size, uint64_t seed, unsigned mode = 0666)
	{
		write_whole(path(name), make_content(size, seed), mode);
	}

	// ---- Requests

	// By each operation, to destinations of each way.
	void expect_served(const std::string &name, size_t size, uint64_t seed)
	{
		const std::string content = make_content(size, seed);
		SCOPED_TRACE(name);

		for (const Kind kind : {Kind::Pipe, Kind::Tcp, Kind::File})
			expect_sent(name, content, kind);
		expect_read(name, content);
		expect_opened(name, content);
	}

	void expect_sent(const std::string &name, const std::string &content, Kind kind = Kind::Pipe)
	{
		Dest dest({kind, false}, dir());

		if (!dest.is_file())
			dest.start_reading();
		const Fd status(sfd_send(srv(), name.c_str(), dest.fd(), 0, 0, false));
		expect_success(read_outcome(status), content.size());
		EXPECT_TRUE(same_content((dest.is_file() ? Dest::before : "") + content, dest.finish()));
	}

	void expect_read(const std::string &name, const std::string &content)
	{
		const Fd pipe(sfd_read(srv(), name.c_str(), 0, 0, false));
		const ReadResult result = read_file_pipe(pipe);

		EXPECT_TRUE(result.has_info);
		EXPECT_EQ(0, result.info.stat);
		EXPECT_EQ(content.size(), result.info.size);
		EXPECT_TRUE(same_content(content, result.content));
		EXPECT_TRUE(result.ended);
	}

	// Of an opened file, a part from within.
	void expect_opened(const std::string &name, const std::string &content)
	{
		const size_t offset = content.size() / 3;
		Dest dest({Kind::Unix, true}, dir());
		sfd_file_info info;

		dest.start_reading();
		const Fd status(sfd_open(srv(), name.c_str(), static_cast<off_t>(offset), 0, false));
		ASSERT_TRUE(read_info(status, &info));
		EXPECT_EQ(content.size() - offset, info.size);
		EXPECT_EQ(content.size(), info.file_size);
		ASSERT_TRUE(sfd_send_open(srv(), info.txnid, dest.fd()));
		expect_success(read_rest(status, info), content.size() - offset);
		EXPECT_TRUE(same_content(content.substr(offset), dest.finish()));
	}

	void expect_error(const std::string &name, int err)
	{
		SCOPED_TRACE(name);
		Dest dest({Kind::Pipe, false}, dir());
		const Fd send(sfd_send(srv(), name.c_str(), dest.fd(), 0, 0, false));
		const Fd open(sfd_open(srv(), name.c_str(), 0, 0, false));
		const Fd read(sfd_read(srv(), name.c_str(), 0, 0, false));

		expect_refused(read_outcome(send), err);
		expect_refused(read_outcome(open), err);
		EXPECT_EQ(err, read_file_pipe(read).info.stat);
		EXPECT_EQ("", dest.finish());
	}

	// The same on every root. `where` is empty, or a directory of the root and a slash.
	void expect_all_served(const std::string &where = {})
	{
		put(where + "empty", 0, 1);
		put(where + "small", SMALL, 2);
		put(where + "large", LARGE, 3);
		mkdir(path(where + "dir").c_str(), 0755);
		put(where + "dir/inner", 5000, 4);
		expect_all(where);
		/* A link within the root, and one that would leave it. */
		ASSERT_EQ(0, symlink("dir/inner", path(where + "link").c_str()));
		ASSERT_EQ(0, symlink("../../../../../../../../etc/passwd", path(where + "out").c_str()));
		expect_served(where + "link", 5000, 4);
		expect_error(where + "out", ENOENT);
	}

	void expect_all(const std::string &where)
	{
		for (int i = 0; i < 2; i++) {
			expect_served(where + "empty", 0, 1);
			expect_served(where + "small", SMALL, 2);
			expect_served(where + "large", LARGE, 3);
			expect_served(where + "dir/inner", 5000, 4);
			expect_error(where + "missing", ENOENT);
			expect_error(where + "dir/missing", ENOENT);
			expect_error(where + "missing/file", ENOENT);
			expect_error(where + "small/file", ENOTDIR);
			expect_error(where + "dir", EINVAL);
			expect_error("..", EINVAL);
			expect_error(where + "../../../../etc/passwd", ENOENT);
			expect_served("../../" + where + "../../canary", 1000, 99);
		}
		expect_same_workers();
	}

	// What is in memory, to what can be polled: by workers alone.
	void expect_hot()
	{
		/* While new files are being written to the disk, their pages are locked for moments. */
		const Fd fs(open(root_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
		ASSERT_EQ(0, syncfs(fs));
		const Counters before = counters();

		for (const Kind kind : {Kind::Pipe, Kind::Tcp, Kind::Unix, Kind::Terminal})
			expect_sent("small", make_content(SMALL, 2), kind);
		expect_sent("large", make_content(LARGE, 3), Kind::Tcp);
		expect_read("large", make_content(LARGE, 3));
		expect_opened("large", make_content(LARGE, 3));
		const Counters after = counters();
		for (const char *name : {"cold_turns", "jobs.open", "jobs.read", "jobs.write"})
			EXPECT_EQ(0U, grown(before, after, name)) << name;
		EXPECT_GE(grown(before, after, "hot_turns"), 7U);
	}

	// ---- What the daemon says

	using Counters = std::map<std::string, uint64_t>;

	static uint64_t grown(const Counters &before, Counters after, const std::string &name)
	{
		return after[name] - before.at(name);
	}

	void expect_said(const std::string &what)
	{
		EXPECT_NE(std::string::npos, daemon().log().find("root " + root_ + ": " + what)) << daemon().log();
	}

	// Whether the directory for temporary files is on a disk, so that what is said here of such ones can be seen.
	bool is_on_disk() const
	{
		struct statfs fs = {};

		return statfs(root().c_str(), &fs) == 0 &&
		       (fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == BTRFS_SUPER_MAGIC ||
			       fs.f_type == 0x58465342 /* XFS */);
	}

	const char *cloned() const
	{
		return is_root() ? ", cloned without access times" : "";
	}

	std::string root_, outside_;
	std::unique_ptr<SlowFs> fs_;
	std::unique_ptr<SlowDisk> disk_;
	std::vector<std::unique_ptr<Mount>> mounts_;
};

#define REQUIRE_ROOT()                                                                                                 \
	do {                                                                                                           \
		if (!is_root())                                                                                        \
			GTEST_SKIP() << "only root can mount it";                                                      \
	} while (0)

// ---- Kinds of roots

TEST_F(RootKinds, OnADisk)
{
	if (!is_on_disk())
		GTEST_SKIP() << "the directory for temporary files is on no disk";
	ASSERT_NO_FATAL_FAILURE(serve(root()));
	expect_all_served();
	expect_hot();
	const Counters c = counters();
	EXPECT_GT(c.at("opens.missing"), 0U);
	EXPECT_GT(c.at("jobs.write"), 0U);
	EXPECT_NE(std::string::npos, daemon().log().find(cloned() + std::string("; workers open what is in memory")));
}

TEST_F(RootKinds, OnATmpfs)
{
	struct statfs fs = {};

	if (statfs("/dev/shm", &fs) < 0 || fs.f_type != TMPFS_MAGIC)
		GTEST_SKIP() << "/dev/shm is no tmpfs";
	outside_ = "/dev/shm/sfd-test-" + std::to_string(getpid());
	ASSERT_EQ(0, mkdir(outside_.c_str(), 0755));
	ASSERT_NO_FATAL_FAILURE(serve(outside_));
	expect_said(
		std::string("tmpfs") + cloned() + "; workers open what is in memory, and send all of it themselves");
	expect_all_served();
	expect_hot();
	EXPECT_EQ(0U, counters().at("opens.cold")) << "what a tmpfs has is in memory";
}

TEST_F(RootKinds, OnATmpfsOfItsOwn)
{
	REQUIRE_ROOT();
	mounts_.push_back(std::make_unique<Mount>(dir() + "/mnt", "tmpfs", "none", 0, "size=16m,mode=755"));
	ASSERT_NO_FATAL_FAILURE(serve(dir() + "/mnt"));
	expect_said("tmpfs, cloned without access times; ");
	expect_all_served();
	expect_hot();
}

TEST_F(RootKinds, OnAnOverlay)
{
	REQUIRE_ROOT();
	for (const char *name : {"/lower", "/upper", "/work"})
		ASSERT_EQ(0, mkdir((dir() + name).c_str(), 0755));
	write_whole(dir() + "/lower/below", make_content(LARGE, 5));
	mounts_.push_back(std::make_unique<Mount>(dir() + "/mnt", "overlay", "none", 0,
		"lowerdir=" + dir() + "/lower,upperdir=" + dir() + "/upper,workdir=" + dir() + "/work"));
	if (HasFailure())
		return;
	ASSERT_NO_FATAL_FAILURE(serve(dir() + "/mnt"));
	expect_said("overlayfs; helpers open and read every file; content on a local file system");
	expect_all_served();
	expect_served("below", LARGE, 5);
	const Counters c = counters();
	EXPECT_EQ(0U, c.at("hot_turns"));
	EXPECT_GT(c.at("cold_turns"), 0U);
	EXPECT_GT(c.at("opens.other"), 0U);
	EXPECT_EQ(0U, c.at("opens.cold")) << "on such a root that is not found out";
}

TEST_F(RootKinds, OnAServedFileSystem)
{
	REQUIRE_SLOW_FS();
	fs_ = std::make_unique<SlowFs>(dir() + "/mnt");
	fs_->add("canary", 1000, 99);
	fs_->add("empty", 0, 1);
	fs_->add("small", SMALL, 2);
	fs_->add("large", LARGE, 3);
	fs_->add("dir/inner", 5000, 4);
	ASSERT_NO_FATAL_FAILURE(serve(fs_->path()));
	expect_said("fuse; helpers open and read every file; content on a local file system");
	expect_all("");
	const Counters c = counters();
	EXPECT_EQ(0U, c.at("hot_turns"));
	EXPECT_GT(c.at("cold_turns"), 0U);
}

// ---- What is mounted below

// The same device, but another mount: a helper opens it, and then it is a file like others of the root.
TEST_F(RootKinds, WithABindMountBelow)
{
	REQUIRE_ROOT();
	if (!is_on_disk())
		GTEST_SKIP() << "the directory for temporary files is on no disk";
	ASSERT_EQ(0, mkdir((dir() + "/elsewhere").c_str(), 0755));
	mounts_.push_back(std::make_unique<Mount>(root() + "/bound", "", dir() + "/elsewhere", MS_BIND));
	ASSERT_NO_FATAL_FAILURE(serve(root()));
	expect_all_served("bound/");
	const Counters before = counters();
	for (int i = 0; i < 5; i++)
		expect_sent("bound/large", make_content(LARGE, 3));
	const Counters after = counters();
	EXPECT_EQ(5U, grown(before, after, "jobs.open"));
	EXPECT_EQ(5U, grown(before, after, "opens.other"));
	EXPECT_EQ(0U, grown(before, after, "cold_turns"));
	EXPECT_GE(grown(before, after, "hot_turns"), 5U);
}

// Whatever lies there, workers have nothing to do with it.
TEST_F(RootKinds, WithATmpfsBelow)
{
	REQUIRE_ROOT();
	mounts_.push_back(std::make_unique<Mount>(root() + "/mnt", "tmpfs", "none", 0, "size=16m,mode=755"));
	ASSERT_NO_FATAL_FAILURE(serve(root()));
	expect_all_served("mnt/");
	const Counters before = counters();
	for (int i = 0; i < 5; i++)
		expect_sent("mnt/small", make_content(SMALL, 2));
	const Counters after = counters();
	EXPECT_EQ(5U, grown(before, after, "jobs.open"));
	EXPECT_EQ(5U, grown(before, after, "opens.other"));
	EXPECT_GE(grown(before, after, "cold_turns"), 5U);
	EXPECT_EQ(0U, grown(before, after, "hot_turns"));
	expect_served("canary", 1000, 99);
}

TEST_F(RootKinds, WithAServedFileSystemBelow)
{
	REQUIRE_SLOW_FS();
	fs_ = std::make_unique<SlowFs>(root() + "/mnt");
	fs_->add("empty", 0, 1);
	fs_->add("small", SMALL, 2);
	fs_->add("large", LARGE, 3);
	fs_->add("dir/inner", 5000, 4);
	ASSERT_NO_FATAL_FAILURE(serve(root()));
	expect_all("mnt/");
	const Counters before = counters();
	for (int i = 0; i < 5; i++)
		expect_sent("mnt/small", make_content(SMALL, 2));
	const Counters after = counters();
	EXPECT_EQ(5U, grown(before, after, "jobs.open"));
	EXPECT_EQ(5U, grown(before, after, "opens.other"));
	EXPECT_GE(grown(before, after, "cold_turns"), 5U);
	EXPECT_EQ(0U, grown(before, after, "hot_turns"));
}

// All kinds at once, and a link from one to another.
TEST_F(RootKinds, WithLinksFromOneMountToAnother)
{
	REQUIRE_ROOT();
	REQUIRE_SLOW_FS();
	fs_ = std::make_unique<SlowFs>(root() + "/fuse");
	fs_->add("file", LARGE, 5);
	mounts_.push_back(std::make_unique<Mount>(root() + "/tmpfs", "tmpfs", "none", 0, "size=16m,mode=755"));
	ASSERT_EQ(0, symlink("/fuse/file", in_root("tmpfs/to-fuse").c_str()));
	ASSERT_EQ(0, symlink("tmpfs/to-fuse", in_root("to-tmpfs").c_str()));
	ASSERT_EQ(0, symlink("../canary", in_root("tmpfs/to-root").c_str()));
	ASSERT_NO_FATAL_FAILURE(serve(root()));
	expect_served("tmpfs/to-fuse", LARGE, 5);
	expect_served("to-tmpfs", LARGE, 5);
	expect_served("tmpfs/to-root", 1000, 99);
	expect_served("fuse/../canary", 1000, 99);
	expect_error("fuse/../tmpfs/missing", ENOENT);
}

// ---- A slow disk

// Helpers, and workers too, have to wait for each byte that comes from the disk; what is in memory goes on meanwhile.
TEST_F(RootKinds, OnASlowDisk)
{
	REQUIRE_SLOW_DISK();
	constexpr size_t COLD = 1 << 20;

	disk_ = std::make_unique<SlowDisk>(dir(), 32 << 20, 512 << 10);
	root_ = disk_->path();
	for (int i = 0; i < 4; i++)
		put("cold" + std::to_string(i), i == 0 ? COLD : SMALL, static_cast<uint64_t>(10 + i));
	put("hot", SMALL, 2);
	put("hot-large", LARGE, 3);
	for (int i = 0; i < 4; i++)
		ASSERT_TRUE(disk_->drop_caches("cold" + std::to_string(i)));
	ASSERT_NO_FATAL_FAILURE(serve(disk_->path()));
	expect_said("ext4, cloned without access times; workers open what is in memory");
	expect_sent("hot", make_content(SMALL, 2));
	expect_sent("hot-large", make_content(LARGE, 3));
	EXPECT_EQ(0U, counters().at("cold_turns"));
	disk_->throttle(daemon().master());
	for (const pid_t pid : daemon().workers())
		disk_->throttle(pid);
	for (const pid_t pid : daemon().helpers())
		disk_->throttle(pid);

	std::vector<std::unique_ptr<Dest>> dests;
	std::vector<Fd> statuses;
	for (int i = 0; i < 4; i++) {
		dests.push_back(std::make_unique<Dest>(DestType{Kind::Tcp, true}, dir()));
		dests.back()->start_reading();
		statuses.emplace_back(
			sfd_send(srv(), ("cold" + std::to_string(i)).c_str(), dests.back()->fd(), 0, 0, false));
	}
	/* The information of the first comes, but not its end, before others have been served many times. */
	sfd_file_info info;
	ASSERT_TRUE(read_info(statuses[0], &info));
	unsigned served = 0;
	while (await(statuses[0], POLLIN, 0ms) == 0 && served < 200 && !HasFailure()) {
		expect_sent("hot", make_content(SMALL, 2));
		expect_read("hot-large", make_content(LARGE, 3));
		served++;
	}
	EXPECT_GT(served, 3U);
	expect_success(read_rest(statuses[0], info), COLD);
	for (size_t i = 0; i < 4; i++) {
		const size_t size = i == 0 ? COLD : SMALL;

		if (i > 0)
			expect_success(read_outcome(statuses[i]), size);
		EXPECT_TRUE(same_content(make_content(size, 10 + i), dests[i]->finish()));
	}
	EXPECT_GE(counters().at("cold_turns"), 4U);
	EXPECT_TRUE(daemon().await_log("device "));
	expect_same_workers();
	/* Now it is in memory, and no disk is slow. */
	const Counters before = counters();
	expect_sent("cold1", make_content(SMALL, 11));
	EXPECT_GT(grown(before, counters(), "hot_turns"), 0U);
}

// ---- Whom it serves as

// It may not be told what is in memory of a file that is neither its own nor its to write: then little is tried, and more
// is read by helpers.
TEST_F(RootKinds, FilesOfOthers)
{
	REQUIRE_ROOT();
	if (!is_on_disk())
		GTEST_SKIP() << "the directory for temporary files is on no disk";
	put("small", SMALL, 2, 0644);
	put("large", LARGE, 3, 0644);
	put("own", LARGE, 4, 0600);
	ASSERT_EQ(0, chown(path("own").c_str(), SERVER, SERVER));
	ASSERT_NO_FATAL_FAILURE(serve(root(), {"-u", std::to_string(SERVER)}));
	const Counters before = counters();
	for (int i = 0; i < 3; i++) {
		expect_sent("small", make_content(SMALL, 2), Kind::Tcp);
		expect_read("small", make_content(SMALL, 2));
	}
	const Counters small = counters();
	EXPECT_EQ(0U, grown(before, small, "cold_turns"));
	EXPECT_GE(grown(before, small, "hot_turns"), 6U);
	expect_sent("large", make_content(LARGE, 3), Kind::Tcp);
	expect_read("large", make_content(LARGE, 3));
	const Counters large = counters();
	EXPECT_GE(grown(small, large, "cold_turns"), 2U);
	EXPECT_EQ(0U, grown(small, large, "jobs.open"));
	expect_sent("own", make_content(LARGE, 4), Kind::Tcp);
	expect_read("own", make_content(LARGE, 4));
	const Counters own = counters();
	EXPECT_EQ(0U, grown(large, own, "cold_turns"));
	EXPECT_GE(grown(large, own, "hot_turns"), 2U);
	expect_served("small", SMALL, 2);
	expect_served("large", LARGE, 3);
	expect_served("own", LARGE, 4);
}

class OrdinaryUser : public RootKinds
{
      protected:
	// As that user from the start on, if it can be; else as whoever runs this.
	void serve_as_user()
	{
		if (!is_root()) {
			serve(root());
			return;
		}
		const std::string id = std::to_string(SERVER);
		ASSERT_EQ(0, chown(daemon().socket_dir().c_str(), SERVER, SERVER));
		serve(root(), {}, {"setpriv", "--reuid", id, "--regid", id, "--clear-groups"});
	}

	void put_own(const std::string &name, size_t size, uint64_t seed)
	{
		put(name, size, seed, 0644);
		if (is_root()) {
			ASSERT_EQ(0, chown(path(name).c_str(), SERVER, SERVER));
		}
	}

	static timespec atime_of(const std::string &path)
	{
		struct stat st = {};

		EXPECT_EQ(0, stat(path.c_str(), &st));
		return st.st_atim;
	}

	// Reading it updates its access time, by the rule that most mounts follow. What is read from now on gets a later
	// time than the file's last change.
	static void make_atime_due(const std::string &path)
	{
		const timespec times[2] = {{1000000000, 0}, {1500000000, 0}};
		struct stat st = {};

		ASSERT_EQ(0, utimensat(AT_FDCWD, path.c_str(), times, 0));
		ASSERT_EQ(0, stat(path.c_str(), &st));
		ASSERT_TRUE(eventually([&] {
			timespec now;

			clock_gettime(CLOCK_REALTIME_COARSE, &now);
			return now.tv_sec > st.st_ctim.tv_sec ||
			       (now.tv_sec == st.st_ctim.tv_sec && now.tv_nsec > st.st_ctim.tv_nsec);
		}));
	}

	bool keeps_atime() const
	{
		struct statvfs fs = {};

		return statvfs(root().c_str(), &fs) == 0 && fs.f_flag & ST_RELATIME;
	}
};

TEST_F(OrdinaryUser, ServesAllTheSame)
{
	ASSERT_NO_FATAL_FAILURE(serve_as_user());
	EXPECT_EQ(std::string::npos, daemon().log().find("cloned"));
	expect_all_served();
}

// Without a clone of the mounts reading updates access times, which may wait: so a helper does that, once.
TEST_F(OrdinaryUser, AHelperSeesToTheAccessTime)
{
	if (!is_on_disk() || !keeps_atime())
		GTEST_SKIP() << "no access times are kept here";
	for (const size_t size : {size_t{1000}, SMALL, LARGE, size_t{3000000}}) {
		SCOPED_TRACE(size);
		put_own("due", size, size);
		make_atime_due(path("due"));
		if (daemon().pid() <= 0) {
			ASSERT_NO_FATAL_FAILURE(serve_as_user());
		}
		const Counters before = counters();
		expect_sent("due", make_content(size, size));
		const Counters first = counters();
		EXPECT_GE(grown(before, first, "cold_turns"), 1U);
		EXPECT_LE(grown(before, first, "cold_turns"), 2U) << "only the first bytes, and what was read ahead";
		EXPECT_GT(atime_of(path("due")).tv_sec, 1500000000);
		for (int i = 0; i < 3; i++)
			expect_sent("due", make_content(size, size));
		const Counters second = counters();
		EXPECT_EQ(0U, grown(first, second, "cold_turns"));
		EXPECT_GE(grown(first, second, "hot_turns"), 3U);
	}
}

TEST_F(OrdinaryUser, OperationsOfAllKindsSeeToTheAccessTime)
{
	if (!is_on_disk() || !keeps_atime())
		GTEST_SKIP() << "no access times are kept here";
	const std::string content = make_content(SMALL, 2);
	put_own("due", SMALL, 2);
	ASSERT_NO_FATAL_FAILURE(serve_as_user());
	const auto expect_updated = [&](auto request) {
		make_atime_due(path("due"));
		request();
		EXPECT_GT(atime_of(path("due")).tv_sec, 1500000000);
	};
	expect_updated([&] { expect_read("due", content); });
	expect_updated([&] { expect_opened("due", content); });
	expect_updated([&] { expect_sent("due", content, Kind::Tcp); });
	expect_updated([&] { expect_sent("due", content, Kind::Terminal); });
	/* Whoever looks and does not read changes nothing. */
	make_atime_due(path("due"));
	sfd_file_info info;
	{
		const Fd status(sfd_open(srv(), "due", 0, 0, false));
		ASSERT_TRUE(read_info(status, &info));
	}
	EXPECT_EQ(1000000000, atime_of(path("due")).tv_sec);
}

// And as root there is the clone, so that nothing has to be updated.
TEST_F(OrdinaryUser, IsNotRootWhichKeepsNoAccessTimes)
{
	REQUIRE_ROOT();
	if (!is_on_disk() || !keeps_atime())
		GTEST_SKIP() << "no access times are kept here";
	put("due", SMALL, 2);
	make_atime_due(path("due"));
	ASSERT_NO_FATAL_FAILURE(serve(root()));
	const Counters before = counters();
	expect_sent("due", make_content(SMALL, 2));
	expect_read("due", make_content(SMALL, 2));
	EXPECT_EQ(0U, grown(before, counters(), "cold_turns"));
	EXPECT_EQ(1000000000, atime_of(path("due")).tv_sec);
}

} // namespace
