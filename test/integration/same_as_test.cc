// SPDX-License-Identifier: BSD-2-Clause
// One round trip with headers, and no race: `same_as`, the places in the headers, and what every outcome says of what was
// written.
#include "test/support/asking.h"
#include "test/support/cold_fixture.h"

#include <cerrno>
#include <climits>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <functional>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

namespace
{

class SameAs : public AskingTest, public ::testing::WithParamInterface<Form>
{
      protected:
	void SetUp() override
	{
		SfdTest::SetUp();
		start();
		content_ = add_file("file", 5000);
	}

	sfd_file_info info_of(const std::string &name)
	{
		Asked asked(GetParam(), srv());

		asked.open({name});
		EXPECT_TRUE(asked.await_info());
		return asked.info();
	}

	static void expect_describes(const sfd_file_info &info, const std::string &path)
	{
		struct stat st = {};

		ASSERT_EQ(0, stat(path.c_str(), &st));
		EXPECT_EQ(st.st_ino, info.ino);
		EXPECT_EQ(st.st_dev, info.dev);
		EXPECT_EQ(static_cast<uint64_t>(st.st_size), info.file_size);
		EXPECT_EQ(st.st_mtim.tv_sec, info.mtime);
		EXPECT_EQ(static_cast<uint32_t>(st.st_mtim.tv_nsec), info.mtime_nsec);
		EXPECT_EQ(st.st_ctim.tv_sec, info.ctime);
		EXPECT_EQ(static_cast<uint32_t>(st.st_ctim.tv_nsec), info.ctime_nsec);
	}

	std::string content_;
};

TEST_P(SameAs, TheSameFileIsSent)
{
	const sfd_file_info known = info_of("file");
	sfd_opts opts = {};

	opts.same_as = &known;
	for (const DestType &to : all_dest_types()) {
		expect_went(send(GetParam(), {"file", -1, 10, 100}, to, &opts), 100, 100);
		if (to.kind != Kind::Null) {
			EXPECT_EQ(content_.substr(10, 100), arrived) << to;
		}
		expect_went(open_and_send(GetParam(), {"file"}, to, &opts), 5000, 5000);
	}
	const Fd file(open(in_root("file").c_str(), O_RDONLY | O_CLOEXEC));
	expect_went(send(GetParam(), {"", file}, {Kind::Unix, true}, &opts), 5000, 5000);
}

// Whatever is different of it: the destination is not touched, and what the file is now comes along.
TEST_P(SameAs, AnotherFileIsNot)
{
	const sfd_file_info known = info_of("file");
	const std::function<void(sfd_file_info &)> changes[] = {
		[](sfd_file_info &i) { i.dev++; },
		[](sfd_file_info &i) { i.ino++; },
		[](sfd_file_info &i) { i.file_size++; },
		[](sfd_file_info &i) { i.mtime--; },
		[](sfd_file_info &i) { i.mtime_nsec ^= 1; },
		[](sfd_file_info &i) { i.ctime++; },
		[](sfd_file_info &i) { i.ctime_nsec ^= 1; },
	};
	char text[] = "header";
	const iovec iov = {text, 6};
	const Fd file(open(in_root("file").c_str(), O_RDONLY | O_CLOEXEC));

	for (const auto &change : changes) {
		sfd_file_info other = known;
		sfd_opts opts = {};

		change(other);
		opts.same_as = &other;
		opts.flags = SFD_WANT_INFO;
		opts.headers = &iov;
		opts.hdr_cnt = 1;
		for (const DestType &to : all_dest_types()) {
			const Went w = send(GetParam(), {"file"}, to, &opts);

			expect_untouched(w, SFD_STAT_CHANGED);
			EXPECT_EQ("", arrived);
			EXPECT_TRUE(w.has_info);
			expect_describes(w.info, in_root("file"));
		}
		const Went w = send(GetParam(), {"", file}, {Kind::Pipe, false}, &opts);
		expect_untouched(w, SFD_STAT_CHANGED);
		expect_describes(w.info, in_root("file"));
		opts.headers = nullptr;
		opts.hdr_cnt = 0;
		Asked asked(GetParam(), srv());
		asked.open({"file"}, &opts);
		expect_untouched(asked.end(), SFD_STAT_CHANGED);
		EXPECT_EQ(0U, asked.info().txnid);
	}
	expect_idle();
}

// Replaced, rewritten, or only its mode: each shows.
TEST_P(SameAs, WhatHappensToAFileShows)
{
	const sfd_file_info known = info_of("file");
	sfd_opts opts = {};

	opts.same_as = &known;
	opts.flags = SFD_WANT_INFO;
	ASSERT_EQ(0, chmod(in_root("file").c_str(), 0604));
	Went w = send(GetParam(), {"file"}, {Kind::Pipe, false}, &opts);
	expect_untouched(w, SFD_STAT_CHANGED);
	const sfd_file_info now = w.info;
	opts.same_as = &now;
	expect_went(send(GetParam(), {"file"}, {Kind::Pipe, false}, &opts), 5000, 5000);
	add_file("other", 5000);
	ASSERT_EQ(0, rename(in_root("other").c_str(), in_root("file").c_str()));
	w = send(GetParam(), {"file"}, {Kind::Pipe, false}, &opts);
	expect_untouched(w, SFD_STAT_CHANGED);
	expect_describes(w.info, in_root("file"));
}

// ---- Places in the headers

TEST_P(SameAs, SizeAndDateAreFilledIn)
{
	const std::string size_room(20, '*'), date_room(29, '*');
	std::string head =
		"HTTP/1.1 200 OK\r\nContent-Length:" + size_room + "\r\nLast-Modified: " + date_room + "\r\n\r\n";
	const timespec times[2] = {{0, UTIME_OMIT}, {784111777, 5}};
	iovec iov = {head.data(), head.size()};
	sfd_opts opts = {};

	ASSERT_EQ(0, utimensat(AT_FDCWD, in_root("file").c_str(), times, 0));
	opts.headers = &iov;
	opts.hdr_cnt = 1;
	opts.hdr_size_at = static_cast<unsigned>(head.find(size_room));
	opts.hdr_mtime_at = static_cast<unsigned>(head.find(date_room));
	const auto expected = [](const char *size) {
		return std::string("HTTP/1.1 200 OK\r\nContent-Length:") + size +
		       "\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n";
	};
	const Fd file(open(in_root("file").c_str(), O_RDONLY | O_CLOEXEC));
	for (const DestType &to :
		{DestType{Kind::Tcp, true}, DestType{Kind::Pipe, false}, DestType{Kind::File, false}}) {
		expect_went(send(GetParam(), {"file"}, to, &opts), 5000, 5000 + head.size());
		EXPECT_EQ(expected("                5000") + content_, arrived);
		/* The size of what is sent, not of the file. */
		expect_went(send(GetParam(), {"file", -1, 4990, 100}, to, &opts), 10, 10 + head.size());
		EXPECT_EQ(expected("                  10") + content_.substr(4990), arrived);
		expect_went(open_and_send(GetParam(), {"file", -1, 9000, 1}, to, nullptr, &opts), 0, head.size());
		EXPECT_EQ(expected("                   0"), arrived);
		expect_went(send(GetParam(), {"", file}, to, &opts), 5000, 5000 + head.size());
		EXPECT_EQ(expected("                5000") + content_, arrived);
	}
	EXPECT_EQ(std::string::npos, head.find("5000")) << "the caller's own bytes were written";
}

TEST_P(SameAs, PlacesThatCannotBe)
{
	std::string head(60, '*');
	iovec iov = {head.data(), head.size()};
	const struct {
		unsigned size_at, mtime_at;
	} cases[] = {{41, 0}, {0, 32}, {UINT_MAX, 0}, {0, UINT_MAX}, {1, 20}, {29, 1}, {1, 1}};

	for (const auto &c : cases) {
		sfd_opts opts = {};

		opts.headers = &iov;
		opts.hdr_cnt = 1;
		opts.hdr_size_at = c.size_at;
		opts.hdr_mtime_at = c.mtime_at;
		EXPECT_EQ(EINVAL, send(GetParam(), {"file"}, {Kind::Pipe, false}, &opts).err);
		EXPECT_EQ("", arrived);
	}
}

// ---- What was written

// Every error that is settled before the first byte leaves the destination as it was, headers or not.
TEST_P(SameAs, ErrorsBeforeTheFirstByteTouchNothing)
{
	char text[] = "header";
	const iovec iov = {text, 6};
	const sfd_file_info other = {};
	sfd_opts plain = {}, changed = {}, hot = {};
	const Fd file(open(in_root("file").c_str(), O_RDONLY | O_CLOEXEC));
	const Fd write_only(open(in_root("file").c_str(), O_WRONLY | O_CLOEXEC));
	const Fd by_path(open(in_root("file").c_str(), O_PATH | O_CLOEXEC));
	const Fd directory(open(root().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	const Fd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
	const Ends pipe = make_pipe();

	for (sfd_opts *o : {&plain, &changed, &hot}) {
		o->headers = o->trailers = &iov;
		o->hdr_cnt = o->trl_cnt = 1;
	}
	changed.same_as = &other;
	hot.flags = SFD_NODISKIO;
	ASSERT_EQ(0, mkdir(in_root("directory").c_str(), 0755));
	ASSERT_EQ(0, mkfifo(in_root("fifo").c_str(), 0644));
	ASSERT_EQ(0, symlink("loop", in_root("loop").c_str()));
	add_file("secret", 100);
	ASSERT_EQ(0, chmod(in_root("secret").c_str(), 0));
	const struct {
		Source from;
		const sfd_opts *opts;
		int stat;
	} cases[] = {
		{{"missing"}, &plain, ENOENT},
		{{"file/x"}, &plain, ENOTDIR},
		{{"directory"}, &plain, EINVAL},
		{{"fifo"}, &plain, EINVAL},
		{{"loop"}, &plain, ELOOP},
		{{"secret"}, &plain, EACCES},
		{{std::string(300, 'x')}, &plain, ENAMETOOLONG},
		{{"file"}, &changed, SFD_STAT_CHANGED},
		{{"", file}, &changed, SFD_STAT_CHANGED},
		{{"missing-too"}, &hot, EBUSY}, /* that it is missing would take a look at the disk */
		{{"", write_only}, &plain, EBADF},
		{{"", by_path}, &plain, EBADF},
		{{"", directory}, &plain, EINVAL},
		{{"", null}, &plain, EINVAL},
		{{"", pipe.out}, &plain, EINVAL},
	};
	for (const auto &c : cases) {
		for (const DestType &to : all_dest_types()) {
			SCOPED_TRACE(c.from.path + " " + std::to_string(c.from.fd) + ": " + sfd_strstat(c.stat));
			expect_untouched(send(GetParam(), c.from, to, c.opts), c.stat);
			EXPECT_EQ("", arrived);
		}
	}
	expect_same_workers();
	expect_idle();
}

// Destinations that are none.
TEST_P(SameAs, WhatIsNoDestinationIsNotTouched)
{
	char text[] = "header";
	const iovec iov = {text, 6};
	sfd_opts plain = {};
	const Fd directory(open(root().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	const Fd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
	const Ends pipe = make_pipe();
	const Ends datagrams = make_socketpair(SOCK_DGRAM);
	const struct {
		int fd, stat;
	} bad[] = {{null, EBADF}, {pipe.out, EBADF}, {datagrams.in, EINVAL}, {directory, EBADF}};

	plain.headers = plain.trailers = &iov;
	plain.hdr_cnt = plain.trl_cnt = 1;
	for (const auto &b : bad) {
		Asked asked(GetParam(), srv());

		asked.send({"file"}, b.fd, &plain);
		expect_untouched(asked.end(), b.stat);
		asked = Asked(GetParam(), srv());
		asked.open({"file"});
		ASSERT_TRUE(asked.await_info());
		asked.send_open(b.fd, &plain);
		expect_untouched(asked.end(), b.stat);
	}
	expect_same_workers();
	expect_idle();
}

// An error after some bytes says how many, the header's among them.
TEST_P(SameAs, ErrorsAfterSomeBytesCountThem)
{
	constexpr size_t LARGE = 8 << 20;
	std::string head = make_content(1000, 5);
	const iovec iov = {head.data(), head.size()};
	sfd_opts opts = {};

	add_file("large", LARGE);
	opts.headers = &iov;
	opts.hdr_cnt = 1;
	for (const DestType &to : stallable_dest_types()) {
		Dest dest(to, dir());
		Asked asked(GetParam(), srv());
		sfd_opts with_info = opts;

		with_info.flags = SFD_WANT_INFO;
		asked.send({"large"}, dest.fd(), &with_info);
		ASSERT_TRUE(asked.await_info());
		ASSERT_NE(0, await(dest.peer(), POLLIN));
		asked.cancel();
		const Went &w = asked.end();
		EXPECT_EQ(ECANCELED, w.stat) << to;
		const std::string got = dest.finish();
		EXPECT_EQ(got.size(), w.written) << to;
		EXPECT_EQ(w.written > 1000 ? w.written - 1000 : 0, w.bytes) << to;
	}
}

INSTANTIATE_TEST_SUITE_P(
	Forms, SameAs, ::testing::Values(Form::One, Form::Queue), [](const auto &i) { return name_of(i.param); });

// A zeroed struct, or none, is the plain call.
TEST_P(SameAs, NoOptionsAreThePlainCall)
{
	const sfd_opts none = {};

	for (const sfd_opts *opts : {static_cast<const sfd_opts *>(nullptr), &none}) {
		for (const DestType &to : all_dest_types()) {
			expect_went(send(GetParam(), {"file"}, to, opts), 5000, 5000);
			if (to.kind != Kind::Null) {
				EXPECT_TRUE(same_content(content_, arrived));
			}
		}
	}
}

// The answer to a question about a file that a helper has to open.
class ColdSameAs : public ColdTest
{
};

TEST_F(ColdSameAs, IsCheckedOnWhatWasOpened)
{
	const sfd_file_info other = {};
	sfd_opts opts = {};

	add_slow("file", 5000);
	ASSERT_NO_FATAL_FAILURE(serve());
	opts.same_as = &other;
	for (const Form form : {Form::One, Form::Queue}) {
		Dest dest({Kind::Tcp, true}, dir());
		Asked asked(form, srv());

		opts.flags = SFD_WANT_INFO;
		asked.send({"slow/file"}, dest.fd(), &opts);
		expect_untouched(asked.end(), SFD_STAT_CHANGED);
		EXPECT_EQ(5000U, asked.info().file_size);
		EXPECT_EQ("", dest.finish());
	}
	EXPECT_EQ(0U, fs().count("read", "file"));
	expect_nothing_left();
}

} // namespace
