// SPDX-License-Identifier: BSD-2-Clause
// What writers do with each kind of job: the bytes, where they go, and what is answered.
#define _Noreturn [[noreturn]] /* the headers are C */

extern "C" {
#include "server/writer.h"
}

#include "test/support/bounded.h"
#include "test/support/fd.h"
#include "test/support/refuse.h"

#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

namespace
{

struct Job {
	job_letter letter = {};
	work w = {};

	Job(job_kind kind, int dest, int from, uint64_t length = 0)
	{
		letter.kind = kind;
		letter.length = length;
		w.letter = &letter;
		w.fds[0] = dest;
		w.fds[1] = from;
		w.file = -1;
	}

	const job_answer &run()
	{
		w.answer = {};
		writer_write(&w);
		return w.answer;
	}
};

class Writer : public BoundedTest
{
      protected:
	Fd open_file(const std::string &name, int flags = O_RDWR) const
	{
		Fd fd(open(path(name).c_str(), flags | O_CREAT | O_CLOEXEC, 0600));

		EXPECT_GE(fd, 0) << name;
		return fd;
	}

	Fd source(size_t size)
	{
		content_ = make_content(size, 7);
		write_whole(path("source"), content_);
		return open_file("source", O_RDONLY);
	}

	// A pipe with that in it.
	static Ends pipe_with(const std::string &content)
	{
		Ends pipe = make_pipe(O_NONBLOCK);

		EXPECT_LE(static_cast<int>(content.size()), fcntl(pipe.in, F_SETPIPE_SZ, 1 << 20));
		EXPECT_EQ(static_cast<ssize_t>(content.size()), write(pipe.in, content.data(), content.size()));
		return pipe;
	}

	std::string content_;
};

void expect_answer(const job_answer &a, uint64_t bytes, int err = 0, bool at_end = false)
{
	EXPECT_EQ(bytes, a.bytes);
	EXPECT_EQ(err, a.err);
	EXPECT_EQ(at_end, a.at_end != 0);
}

// ---- Where does it stand?

TEST_F(Writer, TellsThePositionOfAFile)
{
	const Fd dest = open_file("dest");
	Job job(JOB_TELL, dest, -1);

	ASSERT_EQ(12345, lseek(dest, 12345, SEEK_SET));
	expect_answer(job.run(), 0);
	EXPECT_EQ(12345, job.w.answer.position);
	EXPECT_EQ(12345, lseek(dest, 0, SEEK_CUR));
}

TEST_F(Writer, TellsThatItDoesNotKnow)
{
	Job job(JOB_TELL, -1, -1);
	Ends pipe = make_pipe();
	Job of_pipe(JOB_TELL, pipe.in, -1);

	EXPECT_EQ(EBADF, job.run().err);
	EXPECT_EQ(ESPIPE, of_pipe.run().err);
	/* What has none, or needs none, is not asked. */
	of_pipe.letter.flags = JOB_IS_STREAM;
	expect_answer(of_pipe.run(), 0);
	EXPECT_EQ(0, of_pipe.w.answer.position);
}

// ---- From file to file

TEST_F(Writer, CopiesAFile)
{
	for (const size_t size : {1, 4096, 1000003}) {
		const Fd from = source(size), dest = open_file("dest" + std::to_string(size));
		Job job(JOB_COPY, dest, from, size);

		expect_answer(job.run(), size);
		EXPECT_EQ(static_cast<int64_t>(size), job.w.answer.position);
		EXPECT_EQ(static_cast<off_t>(size), lseek(dest, 0, SEEK_CUR));
		EXPECT_EQ(0, lseek(from, 0, SEEK_CUR)) << "its own position is not used";
		EXPECT_TRUE(same_content(content_, read_whole(path("dest" + std::to_string(size)))));
	}
}

TEST_F(Writer, CopiesARangeToAPlace)
{
	const Fd from = source(100000), dest = open_file("dest");
	Job job(JOB_COPY, dest, from, 5000);
	std::string expected = make_content(50000, 8);

	write_whole(path("dest"), expected);
	ASSERT_EQ(3, lseek(dest, 3, SEEK_SET)); /* the job says where, not this */
	job.letter.offset = 1001;
	job.letter.position = 20002;
	expect_answer(job.run(), 5000);
	EXPECT_EQ(25002, job.w.answer.position);
	EXPECT_EQ(25002, lseek(dest, 0, SEEK_CUR));
	expected.replace(20002, 5000, content_, 1001, 5000);
	EXPECT_TRUE(same_content(expected, read_whole(path("dest"))));
	/* Again: nothing is written twice. */
	expect_answer(job.run(), 5000);
	EXPECT_EQ(25002, lseek(dest, 0, SEEK_CUR));
	EXPECT_TRUE(same_content(expected, read_whole(path("dest"))));
}

TEST_F(Writer, CopiesWhatThereIs)
{
	const Fd from = source(1000), dest = open_file("dest");
	Job job(JOB_COPY, dest, from, 5000);

	expect_answer(job.run(), 1000, 0, true);
	EXPECT_TRUE(same_content(content_, read_whole(path("dest"))));
	job.letter.offset = 1000;
	job.letter.position = 1000;
	expect_answer(job.run(), 0, 0, true);
	job.letter.offset = 100000;
	expect_answer(job.run(), 0, 0, true);
	EXPECT_TRUE(same_content(content_, read_whole(path("dest"))));
	EXPECT_EQ(1000, lseek(dest, 0, SEEK_CUR));
}

TEST_F(Writer, LeavesAHoleBeforeItsPosition)
{
	const Fd from = source(10), dest = open_file("dest");
	Job job(JOB_COPY, dest, from, 10);

	job.letter.position = 100;
	expect_answer(job.run(), 10);
	EXPECT_EQ(std::string(100, '\0') + content_, read_whole(path("dest")));
}

TEST_F(Writer, AppendsWhateverThePosition)
{
	const Fd from = source(300000), dest = open_file("dest", O_WRONLY | O_APPEND);
	Job job(JOB_COPY, dest, from, 300000);

	ASSERT_EQ(6, write(dest, "before", 6));
	job.letter.flags = JOB_APPENDS;
	expect_answer(job.run(), 300000);
	EXPECT_EQ(1U, job.w.answer.fallbacks) << "copy_file_range(2) refuses it, once";
	EXPECT_TRUE(same_content("before" + content_, read_whole(path("dest"))));
}

TEST_F(Writer, CopiesToADevice)
{
	const Fd from = source(300000), dest(open("/dev/null", O_WRONLY | O_CLOEXEC));
	Job job(JOB_COPY, dest, from, 400000);

	job.letter.flags = JOB_IS_STREAM;
	expect_answer(job.run(), 300000, 0, true);
	EXPECT_EQ(0U, job.w.answer.fallbacks);
}

TEST_F(Writer, CopiesToAnotherFileSystem)
{
	struct stat here = {}, there = {};
	const std::string name = "/dev/shm/sfd-test-" + std::to_string(getpid());

	ASSERT_EQ(0, stat(path("").c_str(), &here));
	if (stat("/dev/shm", &there) < 0 || here.st_dev == there.st_dev)
		GTEST_SKIP() << "no other file system to write to";
	const Fd from = source(600000), dest(open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	ASSERT_GE(dest, 0);
	Job job(JOB_COPY, dest, from, 600000);
	expect_answer(job.run(), 600000);
	EXPECT_LE(job.w.answer.fallbacks, 1U);
	EXPECT_TRUE(same_content(content_, read_whole(name)));
	unlink(name.c_str());
}

// Files of /proc say that they are empty, and are not.
TEST_F(Writer, CopiesWhatSaysThatItIsEmpty)
{
	const Fd from(open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC)), dest = open_file("dest");
	Job job(JOB_COPY, dest, from, 100000);
	const std::string expected = read_whole("/proc/self/cmdline");

	expect_answer(job.run(), expected.size(), 0, true);
	EXPECT_EQ(expected, read_whole(path("dest")));
}

TEST_F(Writer, CopiesWithinOneFile)
{
	const Fd file = open_file("file");
	Job job(JOB_COPY, file, file, 10);

	write_whole(path("file"), "0123456789abcdefghij");
	job.letter.position = 5; /* the ranges overlap, which copy_file_range(2) refuses */
	expect_answer(job.run(), 10);
	EXPECT_EQ("012340123456789fghij", read_whole(path("file")));
}

TEST_F(Writer, NothingIsNothing)
{
	const Fd from = source(10), dest = open_file("dest");
	Job job(JOB_COPY, dest, from, 0);

	ASSERT_EQ(3, lseek(dest, 3, SEEK_SET));
	expect_answer(job.run(), 0);
	EXPECT_EQ(3, lseek(dest, 0, SEEK_CUR));
	EXPECT_EQ("", read_whole(path("dest")));
}

TEST_F(Writer, CopiesWhereTheBestWayIsRefused)
{
	for (const int err : {EPERM, ENOSYS, EINVAL, EOPNOTSUPP, EXDEV, ETXTBSY}) {
		in_child([&] {
			const Fd from = source(700000), dest = open_file("dest" + std::to_string(err));
			Job job(JOB_COPY, dest, from, 699999);

			refuse_call(SYS_copy_file_range, err);
			job.letter.offset = 1;
			expect_answer(job.run(), 699999);
			EXPECT_EQ(1U, job.w.answer.fallbacks);
			EXPECT_EQ(699999, job.w.answer.position);
			EXPECT_EQ(699999, lseek(dest, 0, SEEK_CUR));
			EXPECT_TRUE(same_content(content_.substr(1), read_whole(path("dest" + std::to_string(err)))));
		});
	}
}

TEST_F(Writer, ErrorsOfTheBestWayThatAreNoRefusalAreFinal)
{
	in_child([&] {
		const Fd from = source(1000), dest = open_file("dest");
		Job job(JOB_COPY, dest, from, 1000);

		refuse_call(SYS_copy_file_range, EIO);
		expect_answer(job.run(), 0, EIO);
		EXPECT_EQ(0U, job.w.answer.fallbacks);
		EXPECT_EQ("", read_whole(path("dest")));
	});
}

TEST_F(Writer, WhatCannotBeReadOrWrittenIsAnError)
{
	const Fd from = source(1000), dest = open_file("dest"), read_only = open_file("dest", O_RDONLY),
		 directory(open(path("").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));

	EXPECT_EQ(EBADF, Job(JOB_COPY, read_only, from, 10).run().err);
	EXPECT_EQ(EBADF, Job(JOB_COPY, -1, from, 10).run().err);
	EXPECT_EQ(EBADF, Job(JOB_COPY, dest, -1, 10).run().err);
	EXPECT_EQ(EISDIR, Job(JOB_COPY, dest, directory, 10).run().err);
	EXPECT_EQ("", read_whole(path("dest")));
}

// ---- From a pipe

TEST_F(Writer, DrainsAPipe)
{
	const std::string content = make_content(700001, 3);
	Ends pipe = pipe_with(content);
	const Fd dest = open_file("dest");
	Job job(JOB_DRAIN, dest, pipe.out, content.size());
	char c;

	write_whole(path("dest"), "before, and something behind it");
	job.letter.position = 6;
	expect_answer(job.run(), content.size());
	EXPECT_EQ(static_cast<int64_t>(content.size()) + 6, job.w.answer.position);
	EXPECT_EQ(static_cast<off_t>(content.size()) + 6, lseek(dest, 0, SEEK_CUR));
	EXPECT_TRUE(same_content("before" + content, read_whole(path("dest"))));
	EXPECT_EQ(-1, read(pipe.out, &c, 1));
	EXPECT_EQ(EAGAIN, errno) << "it is empty";
}

TEST_F(Writer, DrainsNoMoreThanItIsTold)
{
	Ends pipe = pipe_with("0123456789");
	const Fd dest = open_file("dest");
	char rest[16];

	expect_answer(Job(JOB_DRAIN, dest, pipe.out, 4).run(), 4);
	EXPECT_EQ("0123", read_whole(path("dest")));
	EXPECT_EQ(6, read(pipe.out, rest, sizeof rest));
}

TEST_F(Writer, DrainsToAFileThatAppends)
{
	const std::string content = make_content(700001, 3);
	Ends pipe = pipe_with(content);
	const Fd dest = open_file("dest", O_WRONLY | O_APPEND);
	Job job(JOB_DRAIN, dest, pipe.out, content.size());

	ASSERT_EQ(6, write(dest, "before", 6));
	job.letter.flags = JOB_APPENDS;
	expect_answer(job.run(), content.size());
	EXPECT_LE(job.w.answer.fallbacks, 1U);
	EXPECT_TRUE(same_content("before" + content, read_whole(path("dest"))));
}

TEST_F(Writer, DrainsToADevice)
{
	Ends pipe = pipe_with(make_content(300000));
	const Fd dest(open("/dev/null", O_WRONLY | O_CLOEXEC));
	Job job(JOB_DRAIN, dest, pipe.out, 300000);

	job.letter.flags = JOB_IS_STREAM;
	expect_answer(job.run(), 300000);
}

TEST_F(Writer, DrainsWhereSpliceIsRefused)
{
	in_child([&] {
		const std::string content = make_content(700001, 3);
		Ends pipe = pipe_with(content);
		const Fd dest = open_file("dest");
		Job job(JOB_DRAIN, dest, pipe.out, content.size());

		refuse_call(SYS_splice, EINVAL);
		job.letter.position = 10;
		expect_answer(job.run(), content.size());
		EXPECT_LE(job.w.answer.fallbacks, 1U);
		EXPECT_EQ(static_cast<off_t>(content.size()) + 10, lseek(dest, 0, SEEK_CUR));
		EXPECT_TRUE(same_content(std::string(10, '\0') + content, read_whole(path("dest"))));
	});
}

TEST_F(Writer, APipeThatHasLessIsNotWaitedFor)
{
	Ends pipe = pipe_with("0123");
	const Fd dest = open_file("dest");
	Job job(JOB_DRAIN, dest, pipe.out, 10);

	expect_answer(job.run(), 4, EAGAIN);
	EXPECT_EQ("0123", read_whole(path("dest")));
	pipe.in.reset();
	Ends ended = pipe_with("abc");
	ended.in.reset();
	Job to_the_end(JOB_DRAIN, dest, ended.out, 10);
	expect_answer(to_the_end.run(), 3, 0, true);
	EXPECT_EQ("abc3", read_whole(path("dest")));
}

// ---- No room

TEST_F(Writer, AFullDeviceIsAnError)
{
	const Fd from = source(10), full(open("/dev/full", O_WRONLY | O_CLOEXEC));
	Ends pipe = pipe_with("0123");
	Job copy(JOB_COPY, full, from, 10), drain(JOB_DRAIN, full, pipe.out, 4);

	if (full < 0)
		GTEST_SKIP() << "no /dev/full";
	copy.letter.flags = drain.letter.flags = JOB_IS_STREAM;
	expect_answer(copy.run(), 0, ENOSPC);
	expect_answer(drain.run(), 0, ENOSPC);
}

// What was written before there was no room any more is told, and is where it belongs.
TEST_F(Writer, WhatWasWrittenBeforeAnErrorCounts)
{
	constexpr size_t ROOM = 100000, SIZE = 700000;

	for (const job_kind kind : {JOB_COPY, JOB_DRAIN}) {
		for (const long refused : {-1L, long{SYS_copy_file_range}, long{SYS_splice}}) {
			in_child([&] {
				const rlimit limit = {ROOM, ROOM};
				const Fd from = source(SIZE), dest = open_file("dest");
				Ends pipe = pipe_with(content_);
				Job job(kind, dest, kind == JOB_COPY ? static_cast<int>(from) : pipe.out, SIZE);

				signal(SIGXFSZ, SIG_IGN);
				ASSERT_EQ(0, setrlimit(RLIMIT_FSIZE, &limit));
				if (refused >= 0)
					refuse_call(refused, EINVAL);
				job.letter.position = 10;
				expect_answer(job.run(), ROOM - 10, EFBIG);
				EXPECT_EQ(static_cast<int64_t>(ROOM), job.w.answer.position);
				EXPECT_EQ(static_cast<off_t>(ROOM), lseek(dest, 0, SEEK_CUR));
				EXPECT_TRUE(same_content(std::string(10, '\0') + content_.substr(0, ROOM - 10),
					read_whole(path("dest"))));
			});
		}
	}
}

} // namespace
