// SPDX-License-Identifier: BSD-2-Clause
// Files that the caller has open: sent by the caller's rights, with the caller's position left alone; and the calls that wait.
#include "test/support/asking.h"
#include "test/support/cold_fixture.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <thread>

namespace
{

class SendFd : public AskingTest, public ::testing::WithParamInterface<Form>
{
      protected:
	// The daemon serves an empty directory; the files lie elsewhere, where its user cannot even look.
	void SetUp() override
	{
		SfdTest::SetUp();
		start();
		ASSERT_EQ(0, mkdir((dir() + "/own").c_str(), 0700));
	}

	std::string own(const std::string &name)
	{
		return dir() + "/own/" + name;
	}

	Fd make(const std::string &name, const std::string &content, int flags = O_RDONLY)
	{
		write_whole(own(name), content, 0600);
		return Fd(open(own(name).c_str(), flags | O_CLOEXEC));
	}

	static Fd make_memory(const std::string &content)
	{
		Fd fd(memfd_create("file", MFD_CLOEXEC));

		EXPECT_EQ(static_cast<ssize_t>(content.size()), write(fd, content.data(), content.size()));
		return fd;
	}
};

TEST_P(SendFd, AnyFileToAnyDestination)
{
	for (const size_t size : {0UL, 1UL, 5000UL, 3000000UL}) {
		const std::string content = make_content(size, size + 1);
		const Fd file = make("file", content), memory = make_memory(content);

		ASSERT_EQ(static_cast<off_t>(size / 2), lseek(file, static_cast<off_t>(size / 2), SEEK_SET));
		for (const int fd : {int{file}, int{memory}}) {
			for (const DestType &to : all_dest_types()) {
				const off_t before = lseek(fd, 0, SEEK_CUR);

				expect_went(send(GetParam(), {"", fd}, to), size, size);
				if (to.kind != Kind::Null) {
					EXPECT_TRUE(same_content(content, arrived)) << to;
				}
				EXPECT_EQ(before, lseek(fd, 0, SEEK_CUR));
			}
		}
	}
	expect_same_workers();
	expect_idle();
}

// However it is open, with a name or without one, and whether or not the daemon's copy is the last: all are sent, and let go of.
TEST_P(SendFd, HoweverItIsOpen)
{
	const std::string content = make_content(300000, 3);

	for (const int flags : {O_RDONLY, O_RDWR, O_RDWR | O_APPEND, O_RDONLY | O_DIRECT, O_RDONLY | O_NONBLOCK}) {
		for (const bool unlinked : {false, true}) {
			for (const bool closed : {false, true}) {
				Fd file = make("file", content, flags);
				Dest dest({Kind::Tcp, false}, dir());
				Asked asked(GetParam(), srv());

				if (file < 0 && flags & O_DIRECT)
					continue;
				ASSERT_GE(file, 0);
				if (unlinked) {
					ASSERT_EQ(0, unlink(own("file").c_str()));
				}
				asked.send({"", file}, dest.fd());
				if (closed)
					file.reset();
				dest.start_reading();
				expect_went(asked.end(), content.size(), content.size());
				EXPECT_TRUE(same_content(content, dest.finish())) << flags << unlinked << closed;
			}
		}
	}
	expect_same_workers();
	expect_idle();
}

TEST_P(SendFd, RangesAndWhatIsSaidOfThem)
{
	const std::string content = make_content(10000);
	const Fd file = make("file", content, O_RDWR);
	struct stat st = {};
	sfd_opts opts = {};

	opts.flags = SFD_WANT_INFO;
	ASSERT_EQ(0, fstat(file, &st));
	const struct {
		off_t offset;
		size_t len, size;
	} cases[] = {{0, 0, 10000}, {1, 1, 1}, {4096, 4096, 4096}, {9999, 100, 1}, {10000, 1, 0}, {1 << 30, 0, 0}};
	for (const auto &c : cases) {
		const Went w = send(GetParam(), {"", file, c.offset, c.len}, {Kind::Unix, true}, &opts);

		expect_went(w, c.size, c.size);
		EXPECT_EQ(c.size > 0 ? content.substr(static_cast<size_t>(c.offset), c.size) : "", arrived);
		ASSERT_TRUE(w.has_info);
		EXPECT_EQ(c.size, w.info.size);
		EXPECT_EQ(10000U, w.info.file_size);
		EXPECT_EQ(st.st_ino, w.info.ino);
		EXPECT_EQ(st.st_mtim.tv_sec, w.info.mtime);
	}
}

// At the call, or by the daemon: each names what is wrong before anything is sent.
TEST_P(SendFd, WhatIsNoFileToSend)
{
	const Fd file = make("file", "content");
	const Ends pipe = make_pipe(), sock = make_socketpair(SOCK_STREAM);
	const Fd directory(open(dir().c_str(), O_RDONLY | O_CLOEXEC)), null(open("/dev/null", O_RDWR | O_CLOEXEC));
	const Fd write_only(open(own("file").c_str(), O_WRONLY | O_CLOEXEC));
	const Fd by_path(open(own("file").c_str(), O_PATH | O_CLOEXEC));
	const int closed = 900; /* which nothing is */

	const struct {
		int fd, stat;
	} cases[] = {{pipe.out, EINVAL}, {sock.in, EINVAL}, {directory, EINVAL}, {null, EINVAL}, {write_only, EBADF},
		{by_path, EBADF}};
	for (const auto &c : cases) {
		expect_untouched(send(GetParam(), {"", c.fd}, {Kind::Pipe, false}), c.stat);
		EXPECT_EQ("", arrived);
	}
	Dest dest({Kind::Pipe, false}, dir());
	if (GetParam() == Form::One) {
		EXPECT_EQ(-1, sfd_sendfd(srv(), -1, dest.fd(), 0, 0, false, nullptr));
		EXPECT_EQ(EBADF, errno);
		EXPECT_EQ(-1, sfd_sendfd(srv(), closed, dest.fd(), 0, 0, false, nullptr));
		EXPECT_EQ(EBADF, errno);
		EXPECT_EQ(-1, sfd_sendfd(srv(), file, -1, 0, 0, false, nullptr));
		EXPECT_EQ(EBADF, errno);
		EXPECT_EQ(-1, sfd_sendfd(srv(), file, dest.fd(), -1, 0, false, nullptr));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(-1, sfd_sendfd(srv(), file, dest.fd(), 1, SIZE_MAX, false, nullptr));
		EXPECT_EQ(EINVAL, errno);
	} else {
		Queue q(srv());
		sfd_event e;

		EXPECT_EQ(-1, sfd_queue_sendfd(q, -1, dest.fd(), 0, 0, nullptr, 1));
		EXPECT_EQ(EBADF, errno);
		EXPECT_EQ(-1, sfd_queue_sendfd(q, file, -1, 0, 0, nullptr, 1));
		EXPECT_EQ(EBADF, errno);
		EXPECT_EQ(-1, sfd_queue_sendfd(q, file, dest.fd(), -1, 0, nullptr, 1));
		EXPECT_EQ(EINVAL, errno);
		/* Closed before it was submitted: that one ends with it, and no other. */
		ASSERT_EQ(0, sfd_queue_sendfd(q, closed, dest.fd(), 0, 0, nullptr, 1));
		ASSERT_EQ(0, sfd_queue_sendfd(q, file, dest.fd(), 0, 0, nullptr, 2));
		for (int i = 0; i < 2; i++) {
			ASSERT_TRUE(await_event(q, &e));
			EXPECT_EQ(e.user_data == 1 ? EBADF : SFD_STAT_OK, e.stat);
		}
		EXPECT_EQ("content", dest.finish());
	}
	expect_idle();
}

// A file that shrinks, and one that its owner reads past the memory meanwhile.
TEST_P(SendFd, AFileThatChangesMeanwhile)
{
	constexpr size_t LARGE = 8 << 20;
	const std::string content = make_content(LARGE);
	const Fd file = make("file", content, O_RDWR);
	Dest dest({Kind::Unix, true}, dir());
	Asked asked(GetParam(), srv());

	asked.send({"", file}, dest.fd());
	ASSERT_NE(0, await(dest.peer(), POLLIN));
	ASSERT_EQ(0, ftruncate(file, 1 << 20));
	dest.start_reading();
	const Went &w = asked.end();
	EXPECT_EQ(SFD_STAT_TRUNCATED, w.stat);
	EXPECT_EQ(w.bytes, dest.finish().size());

	const Fd direct = make("direct", content);
	Dest other({Kind::Tcp, true}, dir());
	Asked again(GetParam(), srv());
	std::string got(LARGE, '\0');
	again.send({"", direct, 777, 0}, other.fd());
	/* As often as it can be while it is read. */
	for (size_t n = 0, flips = 0; n < LARGE - 777; flips++) {
		fcntl(direct, F_SETFL, flips % 2 ? 0 : O_DIRECT);
		const ssize_t some = recv(other.peer(), &got[n], 100000, MSG_DONTWAIT);
		if (some > 0)
			n += static_cast<size_t>(some);
		else
			ASSERT_NE(0, await(other.peer(), POLLIN));
	}
	expect_went(again.end(), LARGE - 777, LARGE - 777);
	EXPECT_TRUE(same_content(content.substr(777), got.substr(0, LARGE - 777)));
	expect_same_workers();
}

INSTANTIATE_TEST_SUITE_P(
	Forms, SendFd, ::testing::Values(Form::One, Form::Queue), [](const auto &i) { return name_of(i.param); });

// A file whose file system does not answer is nobody's business but its reader's, the last close included.
class ColdSendFd : public ColdTest
{
};

TEST_F(ColdSendFd, OnlyItsReaderWaits)
{
	const std::string content = add_slow("file", 300000);

	ASSERT_NO_FATAL_FAILURE(serve());
	for (const char *op : {"read", "flush"}) {
		Fd file(open(fs().path("file").c_str(), O_RDONLY | O_CLOEXEC));
		Dest dest({Kind::Tcp, true}, dir());
		Asked asked(Form::One, srv());

		fs().hold(op, "file");
		dest.start_reading();
		asked.send({"", file}, dest.fd());
		fs().await(op, 1, "file");
		InBackground<int> closing;
		const int fd = file.release();
		closing.start([fd] { return close(fd); });
		run_hot();
		fs().release();
		expect_went(asked.end(), content.size(), content.size());
		EXPECT_TRUE(same_content(content, dest.finish()));
		EXPECT_EQ(0, closing.get());
	}
	expect_same_workers();
	expect_nothing_left();
}

// ---- The calls that wait

class Waiting : public AskingTest
{
      protected:
	void SetUp() override
	{
		SfdTest::SetUp();
		start();
		content_ = add_file("file", SIZE);
	}

	static constexpr size_t SIZE = 300000, LARGE = 8 << 20;
	std::string content_;
};

TEST_F(Waiting, SendsAndCounts)
{
	std::string head = "header";
	const iovec iov = {head.data(), head.size()};
	sfd_opts opts = {};

	opts.headers = &iov;
	opts.hdr_cnt = 1;
	for (const DestType &to : all_dest_types()) {
		for (const int timeout : {-1, 0, 10000}) {
			Dest dest(to, dir());
			off_t sbytes = -1;

			dest.start_reading();
			EXPECT_EQ(0, sfd_sendfile(srv(), "file", dest.fd(), 10, 0, &opts, &sbytes, timeout))
				<< strerror(errno);
			EXPECT_EQ(static_cast<off_t>(SIZE - 10 + head.size()), sbytes);
			const std::string got = dest.finish();
			if (to.kind != Kind::Null) {
				EXPECT_TRUE(same_content(
					(dest.is_file() ? Dest::before : "") + head + content_.substr(10), got));
			}
		}
	}
	Dest dest({Kind::Pipe, false}, dir());
	EXPECT_EQ(0, sfd_sendfile(srv(), "file", dest.fd(), 0, 5, nullptr, nullptr, -1));
	EXPECT_EQ(content_.substr(0, 5), dest.finish());
	expect_idle();
}

TEST_F(Waiting, ErrorsAreTheCalls)
{
	sfd_opts bad = {}, changed = {};
	const sfd_file_info other = {};
	Dest dest({Kind::Pipe, false}, dir());
	off_t sbytes;

	bad.flags = 1U << 30;
	changed.same_as = &other;
	const struct {
		const char *path;
		off_t offset;
		const sfd_opts *opts;
		int err;
	} cases[] = {
		{"missing", 0, nullptr, ENOENT},
		{"", 0, nullptr, ENOENT},
		{nullptr, 0, nullptr, EINVAL},
		{"file", -1, nullptr, EINVAL},
		{"file", 0, &bad, EINVAL},
		{"file", 0, &changed, ESTALE},
	};
	for (const auto &c : cases) {
		sbytes = 99;
		EXPECT_EQ(-1, sfd_sendfile(srv(), c.path, dest.fd(), c.offset, 0, c.opts, &sbytes, 10000));
		EXPECT_EQ(c.err, errno) << strerror(errno);
		EXPECT_EQ(0, sbytes);
	}
	EXPECT_EQ(-1, sfd_sendfile(srv(), "file", -1, 0, 0, nullptr, &sbytes, -1));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, sfd_sendfile(-1, "file", dest.fd(), 0, 0, nullptr, &sbytes, -1));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ("", dest.finish());
	expect_idle();
}

// It returns when the daemon has let go of the destination, with what has been written, which nothing follows.
TEST_F(Waiting, TimesOutWithWhatWasSent)
{
	add_file("large", LARGE);
	for (const DestType &to : stallable_dest_types()) {
		for (const bool by_option : {false, true}) {
			Dest dest(to, dir());
			sfd_opts opts = {};
			off_t sbytes = -1;
			const auto began = Clock::now();

			opts.timeout_ms = by_option ? 150 : 0;
			EXPECT_EQ(-1,
				sfd_sendfile(srv(), "large", dest.fd(), 0, 0, &opts, &sbytes, by_option ? 60000 : 150));
			EXPECT_EQ(ETIMEDOUT, errno) << strerror(errno);
			EXPECT_LE(150ms, Clock::now() - began);
			EXPECT_EQ(static_cast<size_t>(sbytes), dest.finish().size()) << to;
		}
	}
	expect_idle();
}

// A daemon that is too late even for that leaves the destination in doubt, and says so.
TEST_F(Waiting, ADaemonThatDoesNotAnswer)
{
	Dest dest({Kind::Unix, true}, dir());
	off_t sbytes = -1;
	const auto began = Clock::now();

	freeze(daemon().workers());
	EXPECT_EQ(-1, sfd_sendfile(srv(), "file", dest.fd(), 0, 0, nullptr, &sbytes, 100));
	EXPECT_EQ(ECONNABORTED, errno) << strerror(errno);
	EXPECT_EQ(0, sbytes);
	EXPECT_LE(1100ms, Clock::now() - began);
	thaw(daemon().workers());
	dest.start_reading();
	canary();
	expect_idle();
}

// Killed in the middle of it: an error, and no hang.
TEST_F(Waiting, SurvivesAWorkerAndADaemonThatAreKilled)
{
	const std::string large = add_file("large", LARGE);
	const Fd file(open(in_root("large").c_str(), O_RDONLY | O_CLOEXEC));

	for (const bool by_fd : {false, true}) {
		for (const bool all : {false, true}) {
			Dest dest({Kind::Unix, true}, dir());
			InBackground<int> call;

			call.start([&, by_fd] {
				off_t offset = 0, sbytes;
				const ssize_t n =
					by_fd ? sfd_sendfile_fd(srv(), dest.fd(), file, &offset, LARGE, -1)
					      : sfd_sendfile(srv(), "large", dest.fd(), 0, 0, nullptr, &sbytes, -1);
				return n < 0 ? errno : 0;
			});
			ASSERT_NE(0, await(dest.peer(), POLLIN));
			if (all && by_fd) {
				kill(daemon().pid(), SIGKILL);
			} else {
				for (const pid_t worker : daemon().workers())
					kill(worker, SIGKILL);
			}
			EXPECT_EQ(ECONNABORTED, call.get());
			if (all && by_fd)
				break;
			EXPECT_TRUE(eventually([&] { return daemon().workers().size() == 2; }));
		}
	}
	stop(SIGKILL, SIGKILL);
}

TEST_F(Waiting, SeveralThreadsOverOneConnection)
{
	std::vector<std::unique_ptr<InBackground<size_t>>> all;

	for (int i = 0; i < 8; i++) {
		all.push_back(std::make_unique<InBackground<size_t>>());
		all.back()->start([&] {
			size_t good = 0;

			for (int k = 0; k < 100; k++) {
				Ends pipe = make_pipe();
				good += sfd_sendfile(srv(), "file", pipe.in, 7, 100, nullptr, nullptr, 30000) == 0;
				std::string buf(200, '\0');
				good += read(pipe.out, buf.data(), 200) == 100 &&
					buf.substr(0, 100) == content_.substr(7, 100);
			}
			return good;
		});
	}
	for (auto &t : all)
		EXPECT_EQ(200U, t->get(30s));
	expect_idle();
}

// ---- As sendfile(2) on Linux

class AsSendfile : public Waiting
{
};

TEST_F(AsSendfile, OffsetsAndPositions)
{
	const Fd file(open(in_root("file").c_str(), O_RDONLY | O_CLOEXEC));
	Dest dest({Kind::Unix, false}, dir());
	off_t offset = 100;

	dest.start_reading();
	EXPECT_EQ(1000, sfd_sendfile_fd(srv(), dest.fd(), file, &offset, 1000, -1));
	EXPECT_EQ(1100, offset);
	EXPECT_EQ(0, lseek(file, 0, SEEK_CUR)) << "an offset was given";
	EXPECT_EQ(50, sfd_sendfile_fd(srv(), dest.fd(), file, nullptr, 50, -1));
	EXPECT_EQ(50, lseek(file, 0, SEEK_CUR));
	EXPECT_EQ(30, sfd_sendfile_fd(srv(), dest.fd(), file, nullptr, 30, -1));
	EXPECT_EQ(80, lseek(file, 0, SEEK_CUR));
	/* Up to the end, and at it, and behind it. */
	offset = SIZE - 10;
	EXPECT_EQ(10, sfd_sendfile_fd(srv(), dest.fd(), file, &offset, 1000, -1));
	EXPECT_EQ(static_cast<off_t>(SIZE), offset);
	EXPECT_EQ(0, sfd_sendfile_fd(srv(), dest.fd(), file, &offset, 1000, -1));
	offset = 1 << 30;
	EXPECT_EQ(0, sfd_sendfile_fd(srv(), dest.fd(), file, &offset, SIZE_MAX, -1));
	EXPECT_EQ(1 << 30, offset);
	/* Nothing at all, which is not "to the end". */
	offset = 5;
	EXPECT_EQ(0, sfd_sendfile_fd(srv(), dest.fd(), file, &offset, 0, -1));
	EXPECT_EQ(5, offset);
	EXPECT_EQ(content_.substr(100, 1000) + content_.substr(0, 80) + content_.substr(SIZE - 10), dest.finish());
	expect_idle();
}

TEST_F(AsSendfile, Errors)
{
	const Fd file(open(in_root("file").c_str(), O_RDONLY | O_CLOEXEC));
	const Ends pipe = make_pipe();
	Dest dest({Kind::Pipe, false}, dir());
	off_t offset = -1;

	EXPECT_EQ(-1, sfd_sendfile_fd(srv(), dest.fd(), file, &offset, 10, -1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, offset);
	offset = 0;
	EXPECT_EQ(-1, sfd_sendfile_fd(srv(), dest.fd(), -1, &offset, 10, -1));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, sfd_sendfile_fd(srv(), dest.fd(), -1, &offset, 0, -1));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, sfd_sendfile_fd(srv(), -1, file, &offset, 10, -1));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, sfd_sendfile_fd(srv(), dest.fd(), pipe.out, &offset, 10, -1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, sfd_sendfile_fd(srv(), dest.fd(), pipe.out, nullptr, 10, -1));
	EXPECT_EQ(ESPIPE, errno);
	EXPECT_EQ(-1, sfd_sendfile_fd(srv(), pipe.out, file, &offset, 10, -1));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(0, offset);
	EXPECT_EQ("", dest.finish());
	expect_idle();
}

TEST_F(AsSendfile, TheOffsetAdvancesAlsoOnError)
{
	const std::string large = add_file("large", LARGE);
	const Fd file(open(in_root("large").c_str(), O_RDONLY | O_CLOEXEC));

	for (const bool by_offset : {true, false}) {
		Dest dest({Kind::Unix, true}, dir());
		off_t offset = 0;

		EXPECT_EQ(-1, sfd_sendfile_fd(srv(), dest.fd(), file, by_offset ? &offset : nullptr, LARGE, 100));
		EXPECT_EQ(ETIMEDOUT, errno);
		const off_t reached = by_offset ? offset : lseek(file, 0, SEEK_CUR);
		EXPECT_LT(0, reached);
		EXPECT_TRUE(same_content(large.substr(0, static_cast<size_t>(reached)), dest.finish()));
	}
	expect_idle();
}

} // namespace
