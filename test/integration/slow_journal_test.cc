// SPDX-License-Identifier: BSD-2-Clause
// A file system whose journal does not get its blocks written. Reading a file whose access time is due has to wait for it,
// and it is a reader that waits, not a worker. The journal's disk is an image on a FUSE file system that holds writes.
#include "test/support/cold_fixture.h"
#include "test/support/fixture.h"
#include "test/support/run.h"
#include "test/support/slow_fs.h"

#include <ctime>
#include <fcntl.h>
#include <filesystem>
#include <memory>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

namespace
{

constexpr uid_t USER = 54321; /* nobody's in particular */
constexpr size_t SIZE = 3000;

// What a pipe holds.
std::string read_small(int fd)
{
	std::string buf(2 * SIZE, '\0');
	const ssize_t n = await(fd, POLLIN) != 0 ? read(fd, buf.data(), buf.size()) : -1;

	buf.resize(n > 0 ? static_cast<size_t>(n) : 0);
	return buf;
}

// Whether the kernel's process for the journal of some loop device waits for its disk.
bool journal_waits()
{
	for (const auto &entry : std::filesystem::directory_iterator("/proc")) {
		const std::string pid = entry.path().filename();

		if (isdigit(pid[0]) && read_whole(entry.path() / "comm").rfind("jbd2/loop", 0) == 0 &&
			waits_for_file(std::stoi(pid)))
			return true;
	}
	return false;
}

class SlowJournal : public SfdTest
{
      protected:
	void SetUp() override
	{
		SfdTest::SetUp();
		REQUIRE_SLOW_FS();
		if (!is_root())
			GTEST_SKIP() << "only root can mount a disk image";
		limit(120);
		fs_ = std::make_unique<SlowFs>(dir() + "/fs");
		const std::string image = fs_->path("image");
		run({"truncate", "-s", "32M", image});
		/* All of it is written now: no process of the kernel's does that later, and gets in the way. */
		const RunResult made =
			run({"mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image});
		ASSERT_EQ(0, exit_status(made)) << made.err;
		const RunResult mounted = run({"mount", "-o", "loop,relatime", image, root()});
		if (exit_status(mounted) != 0)
			GTEST_SKIP() << "no disk image can be mounted: " << mounted.err;
		mounted_ = true;
		add("canary", 99, time(nullptr) + 1000, 1000);
	}

	void TearDown() override
	{
		if (fs_)
			fs_->release();
		if (daemon().pid() > 0)
			stop(SIGTERM, 0);
		if (mounted_) {
			EXPECT_TRUE(eventually([&] { return umount2(root().c_str(), 0) == 0; }));
		}
		fs_.reset();
		SfdTest::TearDown();
	}

	// Its access time is due, or it is later than anything that has happened to the file.
	std::string add(const std::string &name, uint64_t seed, time_t atime, size_t size = SIZE)
	{
		const std::string content = add_file(name, size, seed);
		const timespec times[2] = {{atime, 0}, {1000000000, 0}};

		EXPECT_EQ(0, chmod(in_root(name).c_str(), 0644));
		EXPECT_EQ(0, utimensat(AT_FDCWD, in_root(name).c_str(), times, 0));
		return content;
	}

	// Not as root, which would have a clone of the mounts that keeps no access times.
	void serve()
	{
		const std::string id = std::to_string(USER);
		DaemonOptions options;

		options.workers = 1;
		options.wrapper = {"setpriv", "--reuid", id, "--regid", id, "--clear-groups"};
		ASSERT_EQ(0, chown(daemon().socket_dir().c_str(), USER, USER));
		ASSERT_NO_FATAL_FAILURE(start(options));
	}

	// All else is written; the inode that is to be changed is in what is being written, until fs_ is released.
	void hold_journal_of(const std::string &name, int root_fd, InBackground<int> *sync)
	{
		ASSERT_EQ(0, syncfs(root_fd));
		ASSERT_EQ(0, chmod(in_root(name).c_str(), 0664));
		fs_->hold("write");
		sync->start([root_fd] { return syncfs(root_fd); });
		fs_->await("write");
		ASSERT_TRUE(eventually([] { return journal_waits(); })) << "no journal is being written";
	}

	std::unique_ptr<SlowFs> fs_;
	bool mounted_ = false;
};

TEST_F(SlowJournal, IsWaitedForByAReader)
{
	const std::string due = add("due", 1, 1000000000), settled = add("settled", 2, time(nullptr) + 1000);
	InBackground<int> sync;
	Ends late = make_pipe();

	ASSERT_NO_FATAL_FAILURE(serve());
	const Fd root_fd(open(root().c_str(), O_RDONLY | O_CLOEXEC));
	ASSERT_NO_FATAL_FAILURE(hold_journal_of("due", root_fd, &sync));
	const Fd status(sfd_send(srv(), "due", late.in, 0, 0, false));
	EXPECT_TRUE(eventually([&] {
		for (const pid_t pid : daemon().helpers()) {
			if (waits_for_file(pid))
				return true;
		}
		return false;
	})) << "nobody waits for the journal";
	for (int i = 0; i < 500; i++) {
		Ends pipe = make_pipe();
		const Fd hot(sfd_send(srv(), "settled", pipe.in, 0, 0, false));

		ASSERT_EQ(SFD_STAT_OK, read_outcome(hot).stat());
		pipe.in.reset();
		ASSERT_EQ(settled, read_small(pipe.out));
	}
	EXPECT_EQ(0, await(late.out, POLLIN, 0ms)) << "it was not waited for";
	EXPECT_FALSE(sync.done());
	fs_->release();
	expect_success(read_outcome(status), SIZE);
	late.in.reset();
	EXPECT_EQ(due, read_small(late.out));
	EXPECT_EQ(0, sync.get());
	expect_same_workers();
	expect_idle();
}

// A file of its root's own disk: as long as that does not answer, even what is in memory is read by a reader, since nobody
// knows what the kernel will want of the disk.
TEST_F(SlowJournal, NothingIsMovedInlineWhileItsDiskHangs)
{
	const std::string hot = add("hot", 1, time(nullptr) + 1000);
	const std::string cold = add("cold", 2, time(nullptr) + 1000, 1 << 20);
	const auto send_hot = [&] {
		Ends pipe = make_pipe();
		const Fd status(sfd_send(srv(), "hot", pipe.in, 0, 0, false));

		expect_success(read_outcome(status), SIZE);
		EXPECT_EQ(hot, read_small(pipe.out));
	};
	const auto hot_turns = [&] { return counters()["hot_turns"]; };

	ASSERT_NO_FATAL_FAILURE(serve());
	send_hot();
	const uint64_t before = hot_turns();
	send_hot();
	ASSERT_LT(before, hot_turns());
	/* It is in memory twice: as a file, and as a part of the image. */
	drop_from_memory(in_root("cold"));
	drop_from_memory(fs_->path("image"));
	fs_->hold("read", "image");
	Dest dest({Kind::Unix, true}, dir());
	const Fd status(sfd_send(srv(), "cold", dest.fd(), 0, 0, false));
	fs_->await("read", 1, "image");
	EXPECT_TRUE(eventually([&] {
		const uint64_t turns = hot_turns();

		send_hot();
		return hot_turns() == turns;
	})) << "it is not known to hang";
	const uint64_t turns = hot_turns();
	for (int i = 0; i < 20; i++)
		send_hot();
	EXPECT_EQ(turns, hot_turns());
	fs_->release();
	dest.start_reading();
	expect_success(read_outcome(status), cold.size());
	EXPECT_TRUE(same_content(cold, dest.finish()));
	EXPECT_TRUE(eventually([&] {
		send_hot();
		return hot_turns() > turns;
	})) << "it is well again";
	expect_same_workers();
	expect_idle();
}

// What has a name has times there; writing what was copied must not set them.
TEST_F(SlowJournal, IsNotWaitedForByAFifo)
{
	const std::string hot = add("hot", 1, time(nullptr) + 1000);
	InBackground<int> sync;

	ASSERT_EQ(0, mkfifo(in_root("fifo").c_str(), 0666));
	ASSERT_NO_FATAL_FAILURE(serve());
	const Fd out(open(in_root("fifo").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
	const Fd in(open(in_root("fifo").c_str(), O_WRONLY | O_CLOEXEC));
	const Fd root_fd(open(root().c_str(), O_RDONLY | O_CLOEXEC));
	ASSERT_NO_FATAL_FAILURE(hold_journal_of("fifo", root_fd, &sync));
	for (int i = 0; i < 5; i++) {
		const Fd status(sfd_send(srv(), "hot", in, 0, 0, false));
		int there = 0;

		expect_success(read_outcome(status), SIZE);
		/* To read it would set times, and wait for them. */
		ASSERT_EQ(0, ioctl(out, FIONREAD, &there));
		EXPECT_EQ(SIZE * static_cast<size_t>(i + 1), static_cast<size_t>(there));
	}
	EXPECT_FALSE(sync.done());
	fs_->release();
	EXPECT_EQ(0, sync.get());
	std::string got(6 * SIZE, '\0');
	ASSERT_EQ(static_cast<ssize_t>(5 * SIZE), read(out, got.data(), got.size()));
	for (size_t i = 0; i < 5; i++)
		EXPECT_EQ(hot, got.substr(i * SIZE, SIZE)) << i;
	expect_same_workers();
	expect_idle();
}

} // namespace
