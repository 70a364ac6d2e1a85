// SPDX-License-Identifier: BSD-2-Clause
// SFD_NODISKIO, SFD_NOCACHE and SFD_SYNC: what is asked of the disk and of the memory, and what of it is the file's own.
#include "test/support/asking.h"
#include "test/support/cold_fixture.h"

extern "C" {
#include "server/os/files.h"
}

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <set>
#include <sys/stat.h>
#include <sys/uio.h>
#include <thread>
#include <tuple>
#include <unistd.h>

namespace
{

constexpr uint64_t PAGE = 4096;

sfd_opts with(unsigned flags)
{
	sfd_opts opts = {};

	opts.flags = flags;
	return opts;
}

class HeatOptions : public AskingTest
{
      protected:
	void SetUp() override
	{
		SfdTest::SetUp();
		start();
		const Fd probe(open(root().c_str(), O_RDONLY | O_CLOEXEC));
		tells_ = os_presence(probe, 0, PAGE, 0) != OS_HEAT_UNKNOWN;
	}

	// Which of a file's pages are in memory.
	std::set<uint64_t> pages_of(const std::string &name)
	{
		const Fd file(open(in_root(name).c_str(), O_RDONLY | O_CLOEXEC));
		struct os_pages now = {};
		std::set<uint64_t> out;
		struct stat st = {};

		EXPECT_EQ(0, fstat(file, &st));
		os_note_pages(file, 0, static_cast<size_t>(st.st_size), &now);
		EXPECT_TRUE(now.known);
		for (uint64_t i = 0; i < now.count; i++) {
			if (now.there[i / 64] >> (i % 64) & 1)
				out.insert(i);
		}
		return out;
	}

	// The daemon is told what is in memory of files that it may write, and of no others.
	std::string add(const std::string &name, size_t size, bool told)
	{
		const std::string content = add_file(name, size, size);

		EXPECT_EQ(0, chmod(in_root(name).c_str(), told ? 0666 : 0644));
		return content;
	}

	// Makes a file of which only these pages are in memory: its content.
	std::string add_with_pages(const std::string &name, size_t size, const std::set<uint64_t> &pages, bool told)
	{
		const std::string content = add(name, size, told);
		const Fd file(open(in_root(name).c_str(), O_RDONLY | O_CLOEXEC));
		char c;

		EXPECT_EQ(0, posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM));
		EXPECT_TRUE(eventually([&] {
			drop_from_memory(in_root(name));
			return pages_of(name).empty();
		}));
		EXPECT_TRUE(eventually([&] {
			for (const uint64_t page : pages)
				EXPECT_EQ(1, pread(file, &c, 1, static_cast<off_t>(page * PAGE)));
			return pages_of(name) == pages;
		}));
		return content;
	}

	// RWF_DONTCACHE, since Linux 6.14.
	bool reads_once()
	{
		char c;
		iovec iov = {&c, 1};

		add_file("once", 1);
		const Fd file(open(in_root("once").c_str(), O_RDONLY | O_CLOEXEC));
		return preadv2(file, &iov, 1, 0, 0x80) == 1;
	}

	static std::set<uint64_t> range(uint64_t first, uint64_t end)
	{
		std::set<uint64_t> out;

		for (; first < end; first++)
			out.insert(first);
		return out;
	}

	bool tells_ = false;
};

using Case = std::tuple<Form, DestType, bool>;

class HeatOptionsEach : public HeatOptions, public ::testing::WithParamInterface<Case>
{
      protected:
	void SetUp() override
	{
		HeatOptions::SetUp();
		if (!tells_)
			GTEST_SKIP() << "nobody can tell here what is in memory";
	}
};

std::string case_name(const ::testing::TestParamInfo<Case> &info)
{
	return name_of(std::get<0>(info.param)) + name_of(std::get<1>(info.param)) +
	       (std::get<2>(info.param) ? "Told" : "Untold");
}

// ---- SFD_NODISKIO

// What is in memory is sent; of the rest nothing, and no reader is asked.
TEST_P(HeatOptionsEach, NoDiskIoSendsWhatIsInMemory)
{
	const auto [form, to, told] = GetParam();
	const sfd_opts opts = with(SFD_NODISKIO);

	for (const size_t size : {0UL, 1UL, 5000UL, 300000UL, 3000000UL}) {
		const std::string content = add("hot", size, told);

		expect_went(send(form, {"hot"}, to, &opts), size, size);
		if (to.kind != Kind::Null) {
			EXPECT_TRUE(same_content(content, arrived)) << size;
		}
	}
	EXPECT_EQ(0U, counters()["jobs.read"]);
	EXPECT_EQ(0U, counters()["jobs.open"]);
	expect_idle();
}

// Where the daemon is told what is missing it asks for nothing in vain. Else the kernel begins to read what is asked for, and
// a fast disk may have answered when it looks again: then more than the first pages may come, but nothing was waited for.
TEST_P(HeatOptionsEach, NoDiskIoStopsAtTheFirstMissingPage)
{
	constexpr size_t SIZE = 400 * PAGE;
	const auto [form, to, told] = GetParam();
	const sfd_opts opts = with(SFD_NODISKIO);

	for (const uint64_t hot : {0UL, 1UL, 40UL, 399UL}) {
		const std::string content = add_with_pages("cold", SIZE, range(0, hot), told);
		const uint64_t there = hot > 0 ? hot * PAGE - 10 : 0;
		const Went w = send(form, {"cold", -1, 10, 0}, to, &opts);

		EXPECT_EQ(w.bytes, w.written);
		if (to.kind != Kind::Null) {
			EXPECT_TRUE(same_content(content.substr(10, w.bytes), arrived));
		}
		if (told) {
			EXPECT_EQ(EBUSY, w.stat) << sfd_strstat(w.stat);
			EXPECT_EQ(there, w.bytes);
			/* None more; fewer, where the kernel let go of some by itself. */
			const std::set<uint64_t> after = pages_of("cold");

			EXPECT_TRUE(after.empty() || *after.rbegin() < hot) << *after.rbegin() << " of " << hot;
		} else {
			EXPECT_TRUE(w.stat == EBUSY || w.bytes == SIZE - 10) << sfd_strstat(w.stat);
			EXPECT_LE(there, w.bytes);
		}
	}
	EXPECT_EQ(0U, counters()["jobs.read"]);
	expect_idle();
}

// ---- SFD_NOCACHE

TEST_P(HeatOptionsEach, NoCacheLeavesMemoryAsItWas)
{
	constexpr size_t PAGES = 900;
	const auto [form, to, told] = GetParam();
	const sfd_opts opts = with(SFD_NOCACHE);
	if (!told && !reads_once())
		GTEST_SKIP() << "neither the daemon nor the kernel knows what was in memory";
	const std::set<uint64_t> cases[] = {
		{}, range(0, PAGES), range(0, 300), {0, 10, 11, 500, PAGES - 1}, range(400, PAGES)};

	for (const std::set<uint64_t> &before : cases) {
		bool same = false;

		/* Now and then the kernel lets go of some pages that were just read in, daemon or not. */
		for (int tries = 0; tries < 5 && !same; tries++) {
			const std::string content = add_with_pages("file", PAGES * PAGE, before, told);

			expect_went(send(form, {"file"}, to, &opts), PAGES * PAGE, PAGES * PAGE);
			if (to.kind != Kind::Null) {
				EXPECT_TRUE(same_content(content, arrived));
			}
			same = eventually([&] { return pages_of("file") == before; }, 1s);
		}
		EXPECT_TRUE(same) << pages_of("file").size() << " pages instead of " << before.size();
	}
	expect_idle();
}

// ---- SFD_SYNC

// Overwritten between the outcome and the reading, what arrives is what was there; without the option it need not be.
TEST_P(HeatOptionsEach, SyncLendsNothing)
{
	const auto [form, to, told] = GetParam();
	const sfd_opts opts = with(SFD_SYNC);

	for (const size_t size : {3000UL, 40000UL}) {
		for (const bool cold : {false, true}) {
			const std::string content =
				cold ? add_with_pages("file", size, {}, told) : add("file", size, told);
			Dest dest(to, dir());
			Asked asked(form, srv());

			/* A terminal has room for little. */
			if (to.kind == Kind::Terminal)
				dest.start_reading();
			asked.send({"file"}, dest.fd(), &opts);
			expect_went(asked.end(), size, size);
			const Fd file(open(in_root("file").c_str(), O_WRONLY | O_CLOEXEC));
			const std::string other = make_content(size, 99);
			ASSERT_EQ(static_cast<ssize_t>(size), pwrite(file, other.data(), size, 0));
			const std::string got = dest.finish();
			if (to.kind != Kind::Null) {
				EXPECT_TRUE(same_content((dest.is_file() ? Dest::before : "") + content, got))
					<< size << (cold ? ", cold" : "");
			}
		}
	}
	expect_idle();
}

INSTANTIATE_TEST_SUITE_P(All, HeatOptionsEach,
	::testing::Combine(
		::testing::Values(Form::One, Form::Queue), ::testing::ValuesIn(all_dest_types()), ::testing::Bool()),
	case_name);

// This is what SFD_SYNC is for: else the check above could not fail.
TEST_F(HeatOptions, WithoutSyncPagesAreLent)
{
	constexpr size_t SIZE = 40000;
	const std::string content = add("file", SIZE, true), other = make_content(SIZE, 99);
	Dest dest({Kind::Pipe, false}, dir());
	Asked asked(Form::One, srv());

	asked.send({"file"}, dest.fd());
	expect_went(asked.end(), SIZE, SIZE);
	const Fd file(open(in_root("file").c_str(), O_WRONLY | O_CLOEXEC));
	ASSERT_EQ(static_cast<ssize_t>(SIZE), pwrite(file, other.data(), SIZE, 0));
	EXPECT_TRUE(same_content(other, dest.finish()));
}

// ---- Is it hot?

TEST_F(HeatOptions, AnOpenTellsWhetherAFileIsHot)
{
	const sfd_opts opts = with(SFD_NODISKIO);

	if (!tells_)
		GTEST_SKIP() << "nobody can tell here what is in memory";
	const std::string content = add_with_pages("file", 100 * PAGE, range(0, 50), true);
	const struct {
		off_t offset;
		size_t len;
		bool hot;
	} cases[] = {
		{0, 50 * PAGE, true}, {0, 1, true}, {49 * PAGE, PAGE, true}, {0, 50 * PAGE + 1, false},
		{50 * PAGE, 1, false}, {0, 0, false}, {100 * PAGE, 0, true}, /* nothing is asked for */
	};
	for (const Form form : {Form::One, Form::Queue}) {
		for (const auto &c : cases) {
			Asked asked(form, srv());

			asked.open({"file", -1, c.offset, c.len}, &opts);
			EXPECT_EQ(c.hot, asked.await_info()) << c.offset << " + " << c.len;
			if (!c.hot)
				expect_untouched(asked.end(), EBUSY);
		}
		/* What is hot can then be sent, or not. */
		expect_went(open_and_send(form, {"file", -1, 0, 50 * PAGE}, {Kind::Unix, true}, &opts), 50 * PAGE,
			50 * PAGE);
		EXPECT_TRUE(same_content(content.substr(0, 50 * PAGE), arrived));
	}
	EXPECT_EQ(0U, counters()["jobs.read"]);
}

// ---- Reading ahead

class ReadAhead : public HeatOptions
{
      protected:
	static constexpr uint64_t PAGES = 1000;

	void SetUp() override
	{
		SfdTest::SetUp();
	}

	// How many pages are in memory beyond what was sent, once a transfer that nobody takes anything from has come to rest.
	uint64_t pages_ahead(const sfd_opts &opts)
	{
		add_with_pages("file", PAGES * PAGE, {}, true);
		Dest dest({Kind::Unix, true}, dir());
		Asked asked(Form::One, srv());
		size_t there = 0, before;

		asked.send({"file"}, dest.fd(), &opts);
		EXPECT_TRUE(asked.await_info());
		EXPECT_NE(0, await(dest.peer(), POLLIN));
		/* Nothing tells when a disk has nothing to do any more. */
		do {
			before = there;
			std::this_thread::sleep_for(150ms);
			there = pages_of("file").size();
		} while (there != before);
		asked.cancel();
		const Went &w = asked.end();
		EXPECT_EQ(ECANCELED, w.stat);
		EXPECT_LT(0U, w.bytes);
		EXPECT_GE(PAGES * PAGE / 2, w.bytes) << "its destination has too much room";
		return there - w.bytes / PAGE;
	}

	static sfd_opts ahead(unsigned pages, unsigned flags)
	{
		sfd_opts opts = with(flags);

		opts.readahead = pages;
		return opts;
	}
};

// So many beyond what is being sent, which is no more than that either; and no more, whatever the kernel would do.
TEST_F(ReadAhead, WithTheFlagSoMuchAndNoMore)
{
	start();
	if (os_presence(Fd(open(root().c_str(), O_RDONLY | O_CLOEXEC)), 0, PAGE, 0) == OS_HEAT_UNKNOWN)
		GTEST_SKIP() << "nobody can tell here what is in memory";
	for (const unsigned pages : {0U, 1U, 8U, 50U}) {
		const uint64_t found = pages_ahead(ahead(pages, SFD_USER_READAHEAD));

		EXPECT_LE(pages, found);
		EXPECT_GE(2 * std::max(pages, 1U) + 1, found) << pages;
	}
}

TEST_F(ReadAhead, WithoutTheFlagThatOrMore)
{
	start();
	if (os_presence(Fd(open(root().c_str(), O_RDONLY | O_CLOEXEC)), 0, PAGE, 0) == OS_HEAT_UNKNOWN)
		GTEST_SKIP() << "nobody can tell here what is in memory";
	const uint64_t usual = pages_ahead(ahead(0, 0));
	EXPECT_LT(0U, usual);
	EXPECT_LE(800U, pages_ahead(ahead(800, 0)));
	EXPECT_LE(usual / 2, pages_ahead(ahead(1, 0))) << "its own choice is larger";
}

TEST_F(ReadAhead, TheOperatorSaysHowMuchAtMost)
{
	DaemonOptions options;

	options.more = {"--max-readahead", "4"};
	start(options);
	if (os_presence(Fd(open(root().c_str(), O_RDONLY | O_CLOEXEC)), 0, PAGE, 0) == OS_HEAT_UNKNOWN)
		GTEST_SKIP() << "nobody can tell here what is in memory";
	EXPECT_GE(9U, pages_ahead(ahead(1000, SFD_USER_READAHEAD)));
}

// ---- Where nobody can tell

class ColdHeatOptions : public ColdTest
{
};

TEST_F(ColdHeatOptions, OtherFileSystemsAreBusy)
{
	const sfd_opts opts = with(SFD_NODISKIO);

	add_slow("file", 5000);
	ASSERT_NO_FATAL_FAILURE(serve());
	for (const Form form : {Form::One, Form::Queue}) {
		Dest dest({Kind::Pipe, false}, dir());
		Asked asked(form, srv());

		asked.send({"slow/file"}, dest.fd(), &opts);
		expect_untouched(asked.end(), EBUSY);
		EXPECT_EQ("", dest.finish());
		asked = Asked(form, srv());
		asked.open({"slow/file"}, &opts);
		expect_untouched(asked.end(), EBUSY);
		const Fd file(open(fs().path("file").c_str(), O_RDONLY | O_CLOEXEC));
		Dest other({Kind::Pipe, false}, dir());
		asked = Asked(form, srv());
		asked.send({"", file}, other.fd(), &opts);
		expect_untouched(asked.end(), EBUSY);
		EXPECT_EQ("", other.finish());
	}
	EXPECT_EQ(0U, fs().count("read", "file"));
}

// A file on another file system is copied all the same.
TEST_F(ColdHeatOptions, SyncOfAnotherFileSystem)
{
	const sfd_opts opts = with(SFD_SYNC | SFD_NOCACHE);
	const std::string content = add_slow("file", 500000);

	ASSERT_NO_FATAL_FAILURE(serve());
	Dest dest({Kind::Unix, true}, dir());
	Asked asked(Form::One, srv());
	dest.start_reading();
	asked.send({"slow/file"}, dest.fd(), &opts);
	expect_went(asked.end(), content.size(), content.size());
	EXPECT_TRUE(same_content(content, dest.finish()));
	expect_nothing_left();
}

} // namespace
