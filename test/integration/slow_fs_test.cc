// SPDX-License-Identifier: BSD-2-Clause
// The tools that other tests use to make files slow, by themselves: without them, a test that nobody waits would pass
// where nothing was slow.
#include "test/support/fixture.h"
#include "test/support/run.h"
#include "test/support/slow_disk.h"
#include "test/support/slow_fs.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <gtest/gtest-spi.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>

namespace
{

// How long is waited to see that something does not happen.
constexpr milliseconds A_WHILE = 50ms;

// One system call each: 0, or -1 and errno.

int call_stat(const std::string &path, int)
{
	struct stat st;

	return stat(path.c_str(), &st);
}

int call_fstat(const std::string &, int fd)
{
	struct stat st;

	return fstat(fd, &st);
}

int call_open(const std::string &path, int)
{
	return Fd(open(path.c_str(), O_RDONLY | O_CLOEXEC)) < 0 ? -1 : 0;
}

int call_pread(const std::string &, int fd)
{
	char c;

	return pread(fd, &c, 1, 0) == 1 ? 0 : -1;
}

int call_pwrite(const std::string &, int fd)
{
	return pwrite(fd, "x", 1, 0) == 1 ? 0 : -1;
}

// Every close(2) is a flush, not only the last.
int call_close(const std::string &, int fd)
{
	return close(dup(fd));
}

class SlowFsTest : public SfdTest
{
      protected:
	void SetUp() override
	{
		SfdTest::SetUp();
		REQUIRE_SLOW_FS();
		fs_ = std::make_unique<SlowFs>(dir() + "/mnt");
	}

	// Whoever still waits is released first.
	void TearDown() override
	{
		const pid_t server = fs_ ? fs_->pid() : 0;
		const std::string where = fs_ ? fs_->path() : "";

		fs_.reset();
		if (server > 0) {
			EXPECT_FALSE(process_lives(server));
			EXPECT_EQ(std::string::npos, read_whole("/proc/self/mounts").find(where));
		}
		content_ = {};
		number_ = {};
		SfdTest::TearDown();
	}

	SlowFs &fs()
	{
		return *fs_;
	}

	// Reads a whole file in a thread of its own.
	void start_reading(const std::string &name)
	{
		content_.start([path = fs_->path(name)] { return read_whole(path); });
	}

	// Makes a call in a thread of its own: 0 or an errno.
	template <typename Call> void start_call(Call call)
	{
		number_.start([call] { return call() < 0 ? errno : 0; });
	}

	std::unique_ptr<SlowFs> fs_;
	InBackground<std::string> content_;
	InBackground<int> number_;
};

TEST_F(SlowFsTest, HasTheContentThatTestsExpect)
{
	for (const size_t size : {0, 1, 7, 4096, 1000003}) {
		fs().add("dir/file", size, size + 3);
		EXPECT_TRUE(same_content(make_content(size, size + 3), read_whole(fs().path("dir/file"))));
	}
	struct stat st;
	ASSERT_EQ(0, stat(fs().path("dir").c_str(), &st));
	EXPECT_EQ(S_IFDIR | 0755U, st.st_mode);
	ASSERT_EQ(0, stat(fs().path("dir/file").c_str(), &st));
	EXPECT_EQ(S_IFREG | 0644U, st.st_mode);
	EXPECT_EQ(geteuid(), st.st_uid);
	EXPECT_EQ(-1, stat(fs().path("dir/other").c_str(), &st));
	EXPECT_EQ(ENOENT, errno);
}

TEST_F(SlowFsTest, HasLargeFilesAtNoCost)
{
	const std::string content = make_content(1 << 16);
	std::string got(1000, '\0');

	fs().add("large", UINT64_C(1) << 40);
	const Fd fd(open(fs().path("large").c_str(), O_RDONLY | O_CLOEXEC));
	ASSERT_EQ(1000, pread(fd, got.data(), got.size(), 12345));
	EXPECT_TRUE(same_content(content.substr(12345, 1000), got));
	ASSERT_EQ(1000, pread(fd, got.data(), got.size(), off_t{1} << 39));
	ASSERT_EQ(0, pread(fd, got.data(), got.size(), off_t{1} << 40));
}

TEST_F(SlowFsTest, KeepsWhatIsWritten)
{
	const std::string content = make_content(300000, 5);
	std::string patched = content;

	write_whole(fs().path("new"), content, 0600);
	EXPECT_TRUE(same_content(content, read_whole(fs().path("new"))));
	fs().add("old", content.size(), 5);
	{
		const Fd fd(open(fs().path("old").c_str(), O_RDWR | O_CLOEXEC));
		ASSERT_EQ(5, pwrite(fd, "patch", 5, 100001));
		ASSERT_EQ(3, pwrite(fd, "end", 3, 300010));
	}
	patched.replace(100001, 5, "patch").append(10, '\0').append("end");
	EXPECT_TRUE(same_content(patched, read_whole(fs().path("old"))));
	fs().truncate("old", 100);
	EXPECT_TRUE(same_content(content.substr(0, 100), read_whole(fs().path("old"))));
	fs().truncate("old", 200);
	EXPECT_TRUE(same_content(content.substr(0, 100) + std::string(100, '\0'), read_whole(fs().path("old"))));
	EXPECT_EQ(0, unlink(fs().path("old").c_str()));
	EXPECT_EQ(-1, access(fs().path("old").c_str(), F_OK));
}

TEST_F(SlowFsTest, SendfileTakesWhatThereIs)
{
	Ends ends = make_socketpair(SOCK_STREAM);
	std::string got(100000, '\0');

	fs().add("file", got.size());
	const Fd fd(open(fs().path("file").c_str(), O_RDONLY | O_CLOEXEC));
	start_call([&] {
		for (off_t at = 0; at < 100000;) {
			if (sendfile(ends.in, fd, &at, 100000 - static_cast<size_t>(at)) <= 0)
				return -1;
		}
		return 0;
	});
	ASSERT_EQ(static_cast<ssize_t>(got.size()), recv(ends.out, got.data(), got.size(), MSG_WAITALL));
	EXPECT_TRUE(same_content(make_content(got.size()), got));
	EXPECT_EQ(0, number_.get());
}

// One system call for each kind of request: it waits as long as that is held, and only then.
struct Wait {
	const char *op;
	int (*call)(const std::string &path, int fd);
};

class SlowFsWait : public SlowFsTest, public ::testing::WithParamInterface<Wait>
{
};

TEST_P(SlowFsWait, CallWaitsWhileItsRequestIsHeld)
{
	const char *op = GetParam().op;
	const std::string path = fs().path("file");

	fs().add("file", 1000);
	fs().add("other", 1000, 2);
	const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	const uint64_t before = fs().count(op, "file");
	fs().hold(op, "file");
	start_call([&] { return GetParam().call(path, fd); });
	EXPECT_EQ(1U, fs().await(op));
	EXPECT_EQ(1U, fs().held(op, "file"));
	EXPECT_EQ(0U, fs().held("all", "other"));
	EXPECT_EQ(before + 1, fs().count(op, "file"));
	EXPECT_FALSE(number_.done(A_WHILE));
	/* Nobody else waits. */
	InBackground<std::string> other;
	other.start([&] { return read_whole(fs().path("other")); });
	EXPECT_TRUE(same_content(make_content(1000, 2), other.get()));
	fs().release(op, "file");
	EXPECT_EQ(0, number_.get());
	EXPECT_EQ(0U, fs().held("all"));
	close(fd);
}

INSTANTIATE_TEST_SUITE_P(All, SlowFsWait,
	::testing::Values(Wait{"lookup", call_stat}, Wait{"getattr", call_fstat}, Wait{"open", call_open},
		Wait{"read", call_pread}, Wait{"write", call_pwrite}, Wait{"flush", call_close}),
	[](const auto &i) { return i.param.op; });

TEST_F(SlowFsTest, LastCloseIsNotWaitedFor)
{
	fs().add("file", 1000);
	fs().hold("release");
	EXPECT_EQ(0, call_open(fs().path("file"), -1));
	EXPECT_EQ(1U, fs().await("release", 1, "file"));
	fs().release("release");
	EXPECT_EQ(0U, fs().held("all"));
}

TEST_F(SlowFsTest, HoldsManyAtATime)
{
	constexpr size_t MANY = 100;
	std::vector<InBackground<std::string>> readers(MANY);

	for (size_t i = 0; i < MANY; i++)
		fs().add(std::to_string(i), 1000, i);
	fs().hold("read");
	for (size_t i = 0; i < MANY; i++)
		readers[i].start([path = fs().path(std::to_string(i))] { return read_whole(path); });
	EXPECT_EQ(MANY, fs().await("read", MANY));
	EXPECT_EQ(1U, fs().step("read"));
	EXPECT_TRUE(eventually(
		[&] { return std::count_if(readers.begin(), readers.end(), [](auto &r) { return r.done(); }) == 1; }));
	/* All but one. */
	fs().hold("read", "7");
	fs().release("all");
	fs().hold("read", "8");
	EXPECT_EQ(0U, fs().held("read"));
	for (size_t i = 0; i < MANY; i++)
		EXPECT_TRUE(same_content(make_content(1000, i), readers[i].get()));
}

TEST_F(SlowFsTest, RulesForAPathReplaceTheGeneralOnes)
{
	fs().add("a", 10, 1);
	fs().add("b", 10, 2);
	fs().hold("read");
	fs().release("read", "b");
	start_reading("b");
	EXPECT_TRUE(same_content(make_content(10, 2), content_.get()));
	start_reading("a");
	fs().await("read", 1, "a");
	EXPECT_FALSE(content_.done(A_WHILE));
	fs().release("read", "a");
	EXPECT_TRUE(same_content(make_content(10, 1), content_.get()));
}

TEST_F(SlowFsTest, AwaitServesMeanwhile)
{
	InBackground<uint64_t> waiter;

	fs().add("file", 1000);
	const Fd fd(open(fs().path("file").c_str(), O_WRONLY | O_CLOEXEC));
	fs().hold("write");
	waiter.start([&] { return fs().await("write"); });
	EXPECT_TRUE(same_content(make_content(1000), read_whole(fs().path("file"))));
	EXPECT_FALSE(waiter.done());
	start_call([&] { return call_pwrite("", fd); });
	EXPECT_EQ(1U, waiter.get());
	EXPECT_FALSE(number_.done());
	fs().release();
	EXPECT_EQ(0, number_.get());
}

TEST_F(SlowFsTest, AwaitSeesWhatIsThereAndGivesUp)
{
	fs().add("file", 1000);
	EXPECT_THROW(fs().await("all", 1, "", 1ms), std::runtime_error);
	fs().hold("lookup");
	start_reading("file");
	EXPECT_EQ(1U, fs().await("lookup"));
	EXPECT_EQ(1U, fs().await("all"));
	EXPECT_THROW(fs().await("lookup", 2, "", 1ms), std::runtime_error);
	EXPECT_THROW(fs().await("lookup", 1, "other", 1ms), std::runtime_error);
	fs().release("lookup");
	EXPECT_TRUE(same_content(make_content(1000), content_.get()));
}

TEST_F(SlowFsTest, DelaysWithoutDelayingOthers)
{
	fs().add("slow", 1000);
	fs().add("fast", 1000, 2);
	fs().delay("read", 500ms, "slow");
	const auto begin = Clock::now();
	start_reading("slow");
	InBackground<std::string> fast;
	fast.start([&] { return read_whole(fs().path("fast")); });
	EXPECT_TRUE(same_content(make_content(1000, 2), fast.get()));
	EXPECT_FALSE(content_.done());
	EXPECT_TRUE(same_content(make_content(1000), content_.get()));
	EXPECT_GE(Clock::now() - begin, 500ms);
	EXPECT_EQ(0U, fs().held("all"));
	fs().delay("read", 0ms);
	EXPECT_EQ(0U, fs().step("read"));
}

TEST_F(SlowFsTest, FailsAsItIsTold)
{
	const std::string path = fs().path("file");

	fs().add("file", 1000);
	fs().fail("open", EIO);
	EXPECT_EQ(-1, open(path.c_str(), O_RDONLY | O_CLOEXEC));
	EXPECT_EQ(EIO, errno);
	fs().fail("open", 0);
	const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
	fs().fail("read", EIO);
	EXPECT_EQ(-1, call_pread("", fd));
	EXPECT_EQ(EIO, errno);
	fs().fail("flush", ENOSPC);
	EXPECT_EQ(-1, close(fd));
	EXPECT_EQ(ENOSPC, errno);
	fs().fail("all", 0);
	EXPECT_TRUE(same_content(make_content(1000), read_whole(path)));
}

TEST_F(SlowFsTest, EveryCallReachesTheServerUnlessItMayCache)
{
	const std::string path = fs().path("file");
	const auto counts = [&] {
		return std::vector<uint64_t>{fs().count("lookup", "file"), fs().count("open", "file"),
			fs().count("read", "file"), fs().count("flush", "file")};
	};

	fs().add("file", 1000);
	read_whole(path);
	const uint64_t reads = fs().count("read", "file");
	EXPECT_EQ((std::vector<uint64_t>{1, 1, reads, 1}), counts());
	read_whole(path);
	EXPECT_EQ((std::vector<uint64_t>{2, 2, 2 * reads, 2}), counts());
	fs().cache(1000);
	fs().keep_cache(true);
	read_whole(path);
	EXPECT_EQ((std::vector<uint64_t>{3, 3, 2 * reads, 3}), counts());
	read_whole(path);
	EXPECT_EQ((std::vector<uint64_t>{3, 4, 2 * reads, 4}), counts());
	fs().direct_io(true);
	EXPECT_EQ(1000U, read_whole(path).size());
	EXPECT_GT(fs().count("read", "file"), 2 * reads);
}

TEST_F(SlowFsTest, AbortIsLikeACrash)
{
	fs().add("file", 1000);
	const int fd = open(fs().path("file").c_str(), O_RDONLY | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	fs().hold("getattr");
	start_call([&] { return call_fstat("", fd); });
	fs().await("getattr");
	fs().abort();
	EXPECT_EQ(ECONNABORTED, number_.get());
	EXPECT_EQ(-1, call_open(fs().path("file"), -1));
	EXPECT_EQ(ENOTCONN, errno);
	EXPECT_EQ(0U, fs().held("all"));
	close(fd);
}

TEST_F(SlowFsTest, EndReleasesWhoeverWaits)
{
	fs().add("file", 1000);
	fs().hold("all");
	start_reading("file");
	fs().await("lookup");
	fs_.reset();
	/* It got an answer, or was too late for the next. */
	EXPECT_TRUE(content_.done(PATIENCE));
}

TEST_F(SlowFsTest, UnmountsIfItsServerIsKilled)
{
	fs().add("file", 1000);
	fs().hold("lookup");
	start_reading("file");
	fs().await("lookup");
	kill(fs().pid(), SIGKILL);
	EXPECT_EQ("", content_.get());
	EXPECT_THROW(fs().count("all"), std::runtime_error);
	EXPECT_NONFATAL_FAILURE(fs_.reset(), "has ended");
}

// One that crashes while a thread of it waits cannot end, and would keep the server waiting for that, and so on.
TEST_F(SlowFsTest, DoesNotKeepItsParentFromEnding)
{
	for (const int signo : {SIGKILL, SIGABRT}) {
		const std::string where = dir() + "/mnt" + std::to_string(signo);
		const pid_t child = fork();

		if (child == 0) {
			const rlimit no_core = {0, 0};
			SlowFs other(where);

			setrlimit(RLIMIT_CORE, &no_core);
			other.add("file", 1000);
			other.hold("all");
			std::thread([&] { call_open(other.path("file"), -1); }).detach();
			other.await("lookup");
			raise(signo);
			_exit(0);
		}
		int status = 0;
		EXPECT_TRUE(await_exit(child, &status));
		EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == signo) << status;
		EXPECT_TRUE(
			eventually([&] { return read_whole("/proc/self/mounts").find(where) == std::string::npos; }));
	}
}

TEST_F(SlowFsTest, SaysWhichCommandIsWrong)
{
	EXPECT_THROW(fs().hold("nonsense"), std::runtime_error);
	EXPECT_THROW(fs().truncate("missing", 1), std::runtime_error);
	EXPECT_THROW(fs().command("add file"), std::runtime_error);
	EXPECT_THROW(fs().command("add file 1 2 3"), std::runtime_error);
	EXPECT_THROW(fs().command("add file -1 2"), std::runtime_error);
	EXPECT_THROW(fs().command("nonsense"), std::runtime_error);
	EXPECT_THROW(fs().command(""), std::runtime_error);
	EXPECT_THROW(SlowFs(dir() + "/missing/mnt"), std::runtime_error);
	EXPECT_EQ(0U, fs().held("all"));
}

TEST_F(SlowFsTest, OtherUsersCanRead)
{
	if (!is_root())
		GTEST_SKIP() << "only root can take another user's part";
	fs().add("file", 1000);
	const pid_t child = fork();
	if (child == 0)
		_exit(setuid(65534) == 0 && call_open(fs().path("file"), -1) == 0 ? 0 : 1);
	int status;
	ASSERT_TRUE(await_exit(child, &status));
	EXPECT_EQ(0, status);
}

class SlowDiskTest : public SfdTest
{
};

TEST_F(SlowDiskTest, ColdReadTakesLongerThanAHotOne)
{
	REQUIRE_SLOW_DISK();
	constexpr size_t SIZE = 512 << 10;
	SlowDisk disk(dir(), 8 << 20, 1 << 20);
	const auto read_it = [&](const std::string &name) {
		const auto begin = Clock::now();
		const RunResult r =
			run({"sh", "-c", "echo $$ >" + disk.procs_file() + "; exec cat " + disk.path(name)});

		EXPECT_TRUE(same_content(make_content(SIZE), r.out));
		return Clock::now() - begin;
	};

	disk.add_file("file", SIZE);
	const auto cold = read_it("file"), hot = read_it("file");
	/* Half a second; what is allowed to pass at the beginning takes some of it away. */
	EXPECT_GT(cold, 300ms);
	EXPECT_GT(cold, 2 * hot);
	EXPECT_TRUE(disk.drop_caches("file"));
	EXPECT_GT(read_it("file"), 300ms);
	disk.set_rate(0);
	EXPECT_TRUE(disk.drop_caches("file"));
	EXPECT_LT(read_it("file"), cold);
}

TEST_F(SlowDiskTest, ThrottlesAProcessThatRuns)
{
	REQUIRE_SLOW_DISK();
	SlowDisk disk(dir(), 8 << 20, 16 << 10);
	Ends go = make_pipe();
	std::string path = disk.path("file");

	disk.add_file("file", 1 << 20);
	const pid_t child = fork();
	if (child == 0) {
		char c, buf[65536];
		const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));

		if (read(go.out, &c, 1) != 1)
			_exit(1);
		while (read(fd, buf, sizeof buf) > 0)
			;
		_exit(0);
	}
	int status;
	disk.throttle(child);
	ASSERT_EQ(1, write(go.in, "", 1));
	EXPECT_FALSE(await_exit(child, &status, 200ms));
	/* A minute's work, but for this. */
	disk.set_rate(0);
	EXPECT_TRUE(await_exit(child, &status));
	EXPECT_EQ(0, status);
}

} // namespace
