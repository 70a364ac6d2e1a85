// SPDX-License-Identifier: BSD-2-Clause
// What those who open and read do with their jobs.
#define _Noreturn [[noreturn]] /* the headers are C */

extern "C" {
#include "server/os/files.h"
#include "server/park.h"
#include "server/reader.h"
}

#include "test/support/bounded.h"
#include "test/support/fd.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <set>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

namespace
{

class Reader : public BoundedTest
{
      protected:
	void SetUp() override
	{
		BoundedTest::SetUp();
		root_.reset(open(path("").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
		ASSERT_EQ(0, os_root_look(root_, &config_.root));
		/* Whatever is below the directory for temporary files: here it is a local one. */
		config_.root.local = true;
		work_.config = &config_;
		work_.letter = &letter_;
		letter_.kind = JOB_OPEN;
		reset();
	}

	void TearDown() override
	{
		close_all();
		root_.reset();
		BoundedTest::TearDown();
	}

	void reset()
	{
		work_.answer = {};
		work_.fds[0] = work_.fds[1] = work_.file = -1;
	}

	// As a helper does when the answer is on its way.
	void close_all()
	{
		for (const int fd : {work_.fds[0], work_.fds[1], work_.file}) {
			if (fd >= 0)
				close(fd);
		}
		reset();
	}

	const job_answer &open_it(const std::string &name)
	{
		close_all();
		path_ = name;
		work_.path = path_.c_str();
		reader_open(&work_);
		return work_.answer;
	}

	void expect_error(const std::string &name, int err, open_reason reason)
	{
		EXPECT_EQ(err, open_it(name).err) << name;
		EXPECT_EQ(static_cast<unsigned>(reason), work_.answer.reason) << name;
		EXPECT_EQ(-1, work_.file) << name;
	}

	// Reads into a pipe of that size; what came, in `got`.
	const job_answer &read_it(int file, int64_t offset, uint64_t length, int pipe_size = 1 << 20)
	{
		Ends pipe = make_pipe(O_NONBLOCK);
		std::string buf(static_cast<size_t>(fcntl(pipe.in, F_SETPIPE_SZ, pipe_size)), '\0');

		letter_.kind = JOB_READ;
		letter_.offset = offset;
		letter_.length = length;
		reset();
		work_.fds[0] = file;
		work_.fds[1] = pipe.in;
		reader_read(&work_);
		reset_fds();
		got.clear();
		for (ssize_t n; (n = read(pipe.out, &buf[0], buf.size())) > 0;)
			got.append(buf, 0, static_cast<size_t>(n));
		return work_.answer;
	}

	void reset_fds()
	{
		work_.fds[0] = work_.fds[1] = -1;
	}

	Fd root_;
	helper_config config_ = {};
	job_letter letter_ = {};
	work work_ = {};
	std::string path_, got;
};

// ---- Opening

TEST_F(Reader, OpensAFileOfTheRoot)
{
	struct stat st = {};

	write_whole(path("file"), "content");
	ASSERT_EQ(0, stat(path("file").c_str(), &st));
	EXPECT_EQ(0, open_it("file").err);
	ASSERT_GE(work_.file, 0);
	EXPECT_EQ(0U, work_.answer.parked);
	EXPECT_EQ(st.st_ino, work_.answer.st.st_ino);
	EXPECT_EQ(7, work_.answer.st.st_size);
	char buf[16];
	EXPECT_EQ(7, pread(work_.file, buf, sizeof buf, 0));
	EXPECT_NE(0, fcntl(work_.file, F_GETFD) & FD_CLOEXEC);
	EXPECT_EQ(-1, work_.fds[0]);
	EXPECT_EQ(config_.root.opens_cached ? unsigned{OPEN_COLD} : unsigned{OPEN_OTHER}, work_.answer.reason);
}

TEST_F(Reader, ParksAFileThatIsNotTheRootsOwn)
{
	write_whole(path("file"), "content");
	for (const bool local : {false, true}) {
		config_.root.local = local;
		config_.root.device += local; /* another device */
		EXPECT_EQ(0, open_it("file").err);
		EXPECT_EQ(1U, work_.answer.parked);
		ASSERT_GE(work_.file, 0);
		EXPECT_GE(work_.fds[0], 0) << "to be closed when the answer is on its way";
		const Fd copy(park_copy(work_.file));
		char buf[16];
		EXPECT_EQ(7, pread(copy, buf, sizeof buf, 0));
	}
}

TEST_F(Reader, ErrorsHaveTheirReasons)
{
	ASSERT_EQ(0, mkdir(path("dir").c_str(), 0700));
	ASSERT_EQ(0, mkfifo(path("fifo").c_str(), 0600));
	ASSERT_EQ(0, symlink("nowhere", path("dangling").c_str()));
	ASSERT_EQ(0, symlink("loop", path("loop").c_str()));
	expect_error("missing", ENOENT, OPEN_MISSING);
	expect_error("dir/missing", ENOENT, OPEN_MISSING);
	expect_error("dangling", ENOENT, OPEN_MISSING);
	expect_error("dir", EINVAL, OPEN_OTHER);
	expect_error(".", EINVAL, OPEN_OTHER);
	expect_error("..", EINVAL, OPEN_OTHER);
	expect_error("fifo", EINVAL, OPEN_OTHER);
	expect_error("loop", ELOOP, OPEN_OTHER);
	expect_error("fifo/x", ENOTDIR, OPEN_OTHER);
	expect_error(std::string(300, 'x'), ENAMETOOLONG, OPEN_OTHER);
}

TEST_F(Reader, StaysBelowTheRoot)
{
	write_whole(path("passwd"), "inside");
	ASSERT_EQ(0, symlink("/passwd", path("absolute").c_str()));
	ASSERT_EQ(0, symlink("../../../passwd", path("upwards").c_str()));
	for (const char *name : {"/passwd", "../passwd", "../../../../passwd", "absolute", "upwards"}) {
		EXPECT_EQ(0, open_it(name).err) << name;
		EXPECT_EQ(6, work_.answer.st.st_size) << name;
	}
	expect_error("/etc/passwd", ENOENT, OPEN_MISSING);
}

// Nobody waits for whoever has the lease; they are only told.
TEST_F(Reader, ALeaseIsNotWaitedFor)
{
	write_whole(path("file"), "content");
	signal(SIGIO, SIG_IGN);
	Fd holder(open(path("file").c_str(), O_RDWR | O_CLOEXEC));
	if (fcntl(holder, F_SETLEASE, F_WRLCK) < 0)
		GTEST_SKIP() << "no leases here";
	expect_error("file", EAGAIN, OPEN_LEASED);
	ASSERT_EQ(0, fcntl(holder, F_SETLEASE, F_UNLCK));
	EXPECT_EQ(0, open_it("file").err);
	signal(SIGIO, SIG_DFL);
}

TEST_F(Reader, WithoutRoomForTheSocketThereIsAnError)
{
	write_whole(path("file"), "content");
	in_child([&] {
		const Fd lowest(dup(0));
		const rlimit one = {static_cast<rlim_t>(lowest) + 2, static_cast<rlim_t>(lowest) + 2};

		config_.root.local = false;
		ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &one));
		EXPECT_EQ(EMFILE, open_it("file").err);
		EXPECT_EQ(-1, work_.file);
		close_all();
		const rlimit none = {static_cast<rlim_t>(lowest) + 1, static_cast<rlim_t>(lowest) + 1};
		ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
		EXPECT_EQ(EMFILE, open_it("file").err);
		EXPECT_EQ(-1, work_.file);
	});
}

// ---- Reading

void expect_answer(const job_answer &a, uint64_t bytes, bool at_end = false, int err = 0)
{
	EXPECT_EQ(bytes, a.bytes);
	EXPECT_EQ(at_end, a.at_end != 0);
	EXPECT_EQ(err, a.err);
}

TEST_F(Reader, FillsThePipe)
{
	const std::string content = make_content(600000, 5);

	write_whole(path("file"), content);
	const Fd file(open(path("file").c_str(), O_RDONLY | O_CLOEXEC));
	expect_answer(read_it(file, 0, 600000), 600000);
	EXPECT_TRUE(same_content(content, got));
	expect_answer(read_it(file, 12345, 54321), 54321);
	EXPECT_TRUE(same_content(content.substr(12345, 54321), got));
	expect_answer(read_it(file, 5, 1), 1);
	EXPECT_EQ(content.substr(5, 1), got);
	EXPECT_EQ(0, lseek(file, 0, SEEK_CUR)) << "its own position is not used";
}

TEST_F(Reader, MeetsTheEnd)
{
	write_whole(path("file"), "0123456789");
	const Fd file(open(path("file").c_str(), O_RDONLY | O_CLOEXEC));
	expect_answer(read_it(file, 0, 11), 10, true);
	expect_answer(read_it(file, 0, 10), 10);
	expect_answer(read_it(file, 10, 1), 0, true);
	expect_answer(read_it(file, 1000000, 1), 0, true);
	expect_answer(read_it(file, 3, 0), 0);
	EXPECT_EQ("", got);
}

TEST_F(Reader, APipeThatIsTooSmallIsFilled)
{
	const std::string content = make_content(600000, 5);

	write_whole(path("file"), content);
	const Fd file(open(path("file").c_str(), O_RDONLY | O_CLOEXEC));
	for (const int64_t offset : {0, 4095}) {
		const job_answer &a = read_it(file, offset, 500000, 65536);

		EXPECT_GT(a.bytes, 60000U);
		EXPECT_LE(a.bytes, 65536U);
		EXPECT_EQ(0, a.err);
		EXPECT_EQ(0U, a.at_end);
		EXPECT_TRUE(same_content(content.substr(static_cast<size_t>(offset), a.bytes), got));
	}
}

TEST_F(Reader, WhatCannotBeReadIsAnError)
{
	const Fd directory(open(path("").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	write_whole(path("file"), "0123456789");
	const Fd write_only(open(path("file").c_str(), O_WRONLY | O_CLOEXEC));

	EXPECT_NE(0, read_it(directory, 0, 10).err);
	EXPECT_EQ(EBADF, read_it(write_only, 0, 10).err);
	EXPECT_EQ(EBADF, read_it(-1, 0, 10).err);
	EXPECT_EQ(0U, work_.answer.bytes);
}

TEST_F(Reader, APipeWithoutAReaderIsAnError)
{
	write_whole(path("file"), "0123456789");
	const Fd file(open(path("file").c_str(), O_RDONLY | O_CLOEXEC));
	Ends pipe = make_pipe(O_NONBLOCK);

	signal(SIGPIPE, SIG_IGN);
	pipe.out.reset();
	letter_.length = 10;
	work_.fds[0] = file;
	work_.fds[1] = pipe.in;
	reader_read(&work_);
	reset_fds();
	EXPECT_EQ(EPIPE, work_.answer.err);
	EXPECT_EQ(0U, work_.answer.bytes);
	signal(SIGPIPE, SIG_DFL);
}

// ---- Reading for requests with options

TEST_F(Reader, CopiesGiveTheSame)
{
	constexpr size_t SIZE = 700000;
	const std::string content = make_content(SIZE);

	write_whole(path("file"), content);
	const Fd file(open(path("file").c_str(), O_RDONLY | O_CLOEXEC));
	for (const int flags : {int{JOB_COPIES}, int{JOB_NOCACHE}, int{JOB_NOWAIT}, JOB_COPIES | JOB_NOCACHE,
		     JOB_NOCACHE | JOB_IS_LENT, int{JOB_ONLY_AHEAD}}) {
		letter_.flags = static_cast<uint32_t>(flags);
		for (const int64_t offset : {0, 1, 4095, 4096, 300001}) {
			for (const uint64_t length : {uint64_t{1}, uint64_t{4096}, uint64_t{300000}, uint64_t{SIZE}}) {
				const std::string part = content.substr(static_cast<size_t>(offset), length);
				const job_answer &a = read_it(file, offset, length);

				EXPECT_EQ(0, a.err) << flags;
				EXPECT_EQ(part.size(), a.bytes) << flags << ": " << offset << " + " << length;
				EXPECT_EQ(part.size() < length ? 1U : 0U, a.at_end);
				EXPECT_TRUE(same_content(part, got));
			}
		}
	}
}

// Whoever lent the file may have it read past the memory: then offsets and lengths have to be whole blocks.
TEST_F(Reader, AFileThatIsODirect)
{
	constexpr size_t SIZE = 300123;
	const std::string content = make_content(SIZE);

	write_whole(path("file"), content);
	const Fd file(open(path("file").c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
	if (file < 0)
		GTEST_SKIP() << "no O_DIRECT here";
	for (const int flags : {int{JOB_IS_LENT}, JOB_IS_LENT | JOB_COPIES}) {
		letter_.flags = static_cast<uint32_t>(flags);
		for (const int64_t offset : {0, 5, 4096, 299000, 300122, 300123}) {
			const std::string part = content.substr(static_cast<size_t>(offset), 100000);

			EXPECT_EQ(0, read_it(file, offset, 100000).err);
			EXPECT_TRUE(same_content(part, got)) << offset;
		}
	}
}

// A pipe that lends no page of the file shows it as it was.
TEST_F(Reader, WhatWasCopiedDoesNotChange)
{
	const std::string content = make_content(20000), other = make_content(20000, 2);

	for (const bool copies : {false, true}) {
		Ends pipe = make_pipe(O_NONBLOCK);
		std::string buf(30000, '\0');

		write_whole(path("file"), content);
		const Fd file(open(path("file").c_str(), O_RDWR | O_CLOEXEC));
		letter_ = {};
		letter_.kind = JOB_READ;
		letter_.flags = copies ? JOB_COPIES : 0;
		letter_.length = 20000;
		reset();
		work_.fds[0] = file;
		work_.fds[1] = pipe.in;
		reader_read(&work_);
		reset_fds();
		ASSERT_EQ(20000U, work_.answer.bytes);
		ASSERT_EQ(20000, pwrite(file, other.data(), other.size(), 0));
		ASSERT_EQ(20000, read(pipe.out, buf.data(), buf.size()));
		buf.resize(20000);
		EXPECT_TRUE(same_content(copies ? content : other, buf));
	}
}

TEST_F(Reader, OnlyWhatIsInMemoryIfAsked)
{
	constexpr size_t SIZE = 64 * 4096;
	const std::string content = make_content(SIZE);

	write_whole(path("file"), content);
	const Fd file(open(path("file").c_str(), O_RDWR | O_CLOEXEC));
	if (!config_.root.tells_heat)
		GTEST_SKIP() << "nobody can tell what is in memory here";
	ASSERT_EQ(0, posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM));
	letter_.flags = JOB_NOWAIT;
	EXPECT_EQ(0, read_it(file, 0, SIZE).err);
	EXPECT_TRUE(same_content(content, got));
	/* The kernel begins to read what is missing, and a fast disk may be done by the time it looks again. */
	EXPECT_TRUE(eventually([&] {
		char c;

		EXPECT_EQ(0, fsync(file));
		EXPECT_EQ(0, posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED));
		for (off_t page = 0; page < 10; page++)
			EXPECT_EQ(1, pread(file, &c, 1, page * 4096));
		const job_answer &a = read_it(file, 0, SIZE);
		EXPECT_TRUE(same_content(content.substr(0, a.bytes), got));
		EXPECT_LE(10U * 4096, a.bytes);
		return a.err == EBUSY && a.bytes < SIZE;
	}));
	/* Shared memory needs no disk, and cannot be asked. */
	const Fd memory(memfd_create("file", MFD_CLOEXEC));
	ASSERT_EQ(5, write(memory, "bytes", 5));
	EXPECT_EQ(0, read_it(memory, 0, 5).err);
	EXPECT_EQ("bytes", got);
}

// What it reads in leaves again; what was there stays.
TEST_F(Reader, LeavesMemoryAsItWasIfAsked)
{
	constexpr uint64_t PAGE = 4096, PAGES = 100;
	const auto is_there = [](int file, uint64_t page) {
		return os_presence(file, static_cast<off_t>(page * PAGE), PAGE, 0) == OS_HEAT_HOT;
	};
	const auto random_read = [](int file, uint64_t page) {
		char c;
		EXPECT_EQ(1, pread(file, &c, 1, static_cast<off_t>(page * PAGE)));
	};

	write_whole(path("file"), make_content(PAGES * PAGE));
	const Fd file(open(path("file").c_str(), O_RDWR | O_CLOEXEC));
	if (!config_.root.tells_heat)
		GTEST_SKIP() << "nobody can tell what is in memory here";
	ASSERT_EQ(0, posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM));
	ASSERT_TRUE(eventually([&] {
		EXPECT_EQ(0, fsync(file));
		EXPECT_EQ(0, posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED));
		struct os_pages now;
		os_note_pages(file, 0, PAGES * PAGE, &now);
		return now.known &&
		       std::all_of(std::begin(now.there), std::end(now.there), [](uint64_t w) { return w == 0; });
	}));
	const std::set<uint64_t> before = {0, 7, 8, 9, 50, 99};
	for (const uint64_t page : before)
		random_read(file, page);
	const Fd own(open(path("file").c_str(), O_RDONLY | O_CLOEXEC));
	letter_.flags = JOB_NOCACHE;
	letter_.ahead = 0;
	EXPECT_EQ(0, read_it(own, 100, PAGES * PAGE).err);
	EXPECT_TRUE(same_content(make_content(PAGES * PAGE).substr(100), got));
	for (uint64_t page = 0; page < PAGES; page++)
		EXPECT_EQ(before.count(page) > 0, is_there(file, page)) << "page " << page;
}

TEST_F(Reader, LooksAtAFile)
{
	struct stat st = {};

	write_whole(path("file"), "content");
	const Fd file(open(path("file").c_str(), O_RDONLY | O_CLOEXEC));
	ASSERT_EQ(0, fstat(file, &st));
	letter_.kind = JOB_LOOK;
	reset();
	work_.fds[0] = file;
	reader_look(&work_);
	EXPECT_EQ(0, work_.answer.err);
	EXPECT_EQ(st.st_ino, work_.answer.st.st_ino);
	EXPECT_EQ(7, work_.answer.st.st_size);
	work_.fds[0] = -1;
	reader_look(&work_);
	EXPECT_EQ(EBADF, work_.answer.err);
	reset();
}

} // namespace
