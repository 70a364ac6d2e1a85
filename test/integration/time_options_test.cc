// SPDX-License-Identifier: BSD-2-Clause
// timeout_ms and --idle-timeout: a transfer ends when its time is over, with what it has delivered, wherever it is. And rates:
// that they are kept is measured with a margin that only a machine that stands still exceeds. (bench_options prints how near they
// come; in pace_test, where time is what the test says, any second sees at most 5 % more.)
#include "test/support/asking.h"
#include "test/support/cold_fixture.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <thread>
#include <tuple>

namespace
{

constexpr size_t LARGE = 8 << 20;

sfd_opts within(unsigned timeout_ms)
{
	sfd_opts opts = {};

	opts.timeout_ms = timeout_ms;
	return opts;
}

class TimeOptions : public ColdTest, public ::testing::WithParamInterface<Form>
{
      protected:
	// It ends with ETIMEDOUT, not before its time, and what arrives is what is said.
	void expect_timeout(
		Asked *asked, Dest *dest, const std::string &content, Clock::time_point began, milliseconds time)
	{
		const Went &w = asked->end();

		EXPECT_EQ(ETIMEDOUT, w.stat) << sfd_strstat(w.stat);
		EXPECT_LE(time, Clock::now() - began);
		EXPECT_EQ(w.bytes, w.written);
		if (!dest)
			return;
		std::string got = dest->finish();
		if (dest->is_file())
			got.erase(0, Dest::before.size());
		EXPECT_EQ(w.bytes, got.size());
		EXPECT_TRUE(same_content(content.substr(0, got.size()), got));
	}
};

// ---- timeout_ms

TEST_P(TimeOptions, ADestinationThatTakesNoMore)
{
	const std::string content = add_file("file", LARGE);
	const sfd_opts opts = within(200);

	ASSERT_NO_FATAL_FAILURE(serve());
	for (const DestType &to : stallable_dest_types()) {
		Dest dest(to, dir());
		Asked asked(GetParam(), srv());
		const auto began = Clock::now();

		asked.send({"file"}, dest.fd(), &opts);
		expect_timeout(&asked, &dest, content, began, 200ms);
	}
	expect_same_workers();
	expect_nothing_left();
}

TEST_P(TimeOptions, AFileSystemThatDoesNotAnswer)
{
	const sfd_opts opts = within(200);

	ASSERT_NO_FATAL_FAILURE(serve());
	for (const char *op : {"lookup", "open", "read"}) {
		const std::string name = std::string("file-") + op, content = add_slow(name, 300000);

		for (const DestType &to : {DestType{Kind::Tcp, true}, DestType{Kind::File, false}}) {
			Dest dest(to, dir());
			Asked asked(GetParam(), srv());
			const auto began = Clock::now();

			fs().hold(op, name);
			dest.start_reading();
			asked.send({"slow/" + name}, dest.fd(), &opts);
			fs().await(op, 1, name);
			expect_timeout(&asked, &dest, content, began, 200ms);
			EXPECT_LE(1U, fs().held(op, name)) << "it still hangs";
			run_hot(10);
			fs().release();
		}
	}
	expect_same_workers();
	expect_nothing_left();
}

// A writer is waited for, a second at most, since nobody else knows what it has written.
TEST_P(TimeOptions, ADestinationThatDoesNotAnswer)
{
	add_file("file", 300000);
	const sfd_opts opts = within(200);

	ASSERT_NO_FATAL_FAILURE(serve());
	write_whole(fs().path("dest"), "", 0666);
	Fd dest(open(fs().path("dest").c_str(), O_WRONLY | O_CLOEXEC));
	fs().hold("write", "dest");
	Asked asked(GetParam(), srv());
	const auto began = Clock::now();
	asked.send({"file"}, dest, &opts);
	fs().await("write", 1, "dest");
	expect_timeout(&asked, nullptr, "", began, 1200ms);
	EXPECT_EQ(1U, fs().held("write", "dest"));
	fs().release();
	dest.reset();
	expect_same_workers();
	asked.close();
	expect_nothing_left();
}

// From when the open is sent, also if it waits to be sent on.
TEST_P(TimeOptions, AnOpenThatIsNotSent)
{
	add_file("file", 1000);
	const sfd_opts opts = within(200);

	ASSERT_NO_FATAL_FAILURE(serve());
	{
		Asked asked(GetParam(), srv());
		const auto began = Clock::now();

		asked.open({"file"}, &opts);
		ASSERT_TRUE(asked.await_info());
		expect_timeout(&asked, nullptr, "", began, 200ms);
	}
	expect_nothing_left();
}

TEST_P(TimeOptions, ASecondMessageMayHaveATimeOfItsOwn)
{
	const std::string content = add_file("file", LARGE);
	const sfd_opts first = within(60000), second = within(200);

	ASSERT_NO_FATAL_FAILURE(serve({}, 2));
	for (int i = 0; i < 4; i++) {
		Dest dest({Kind::Unix, true}, dir());
		Asked asked(GetParam(), srv());

		asked.open({"file"}, i % 2 ? &first : nullptr);
		ASSERT_TRUE(asked.await_info());
		const auto began = Clock::now();
		asked.send_open(dest.fd(), &second);
		expect_timeout(&asked, &dest, content, began, 200ms);
	}
	expect_nothing_left();
}

// What is over in time says so; and the longest time that can be asked for is no overflow.
TEST_P(TimeOptions, InTimeIsSuccess)
{
	const std::string content = add_file("file", LARGE), slow = add_slow("file", 100000, 2);

	ASSERT_NO_FATAL_FAILURE(serve());
	for (const unsigned ms : {10000U, UINT32_MAX}) {
		const sfd_opts opts = within(ms);

		for (const bool is_slow : {false, true}) {
			Dest dest({Kind::Tcp, true}, dir());
			Asked asked(GetParam(), srv());

			dest.start_reading();
			asked.send({is_slow ? "slow/file" : "file"}, dest.fd(), &opts);
			expect_went(asked.end(), is_slow ? slow.size() : LARGE, is_slow ? slow.size() : LARGE);
			EXPECT_TRUE(same_content(is_slow ? slow : content, dest.finish()));
		}
	}
	expect_nothing_left();
}

// Thousands that wait at the same time, each until its own time is over.
TEST_P(TimeOptions, ManyAtATime)
{
	constexpr unsigned MANY = 600;
	add_file("file", LARGE);
	std::vector<std::unique_ptr<Asked>> asked;
	std::vector<std::unique_ptr<Dest>> dests;

	limit(120);
	ASSERT_NO_FATAL_FAILURE(serve({}, 2));
	for (unsigned i = 0; i < MANY; i++) {
		const sfd_opts opts = within(100 + i % 300);

		dests.push_back(std::make_unique<Dest>(DestType{Kind::Pipe, false}, dir()));
		asked.push_back(std::make_unique<Asked>(Form::One, srv()));
		asked.back()->send({"file"}, dests.back()->fd(), &opts);
	}
	for (auto &a : asked) {
		EXPECT_EQ(ETIMEDOUT, a->end().stat);
		EXPECT_EQ(a->end().bytes, a->end().written);
	}
	asked.clear();
	dests.clear();
	expect_nothing_left();
}

// ---- --idle-timeout

TEST_P(TimeOptions, WhatMovesNothingEnds)
{
	const std::string content = add_file("file", LARGE);

	ASSERT_NO_FATAL_FAILURE(serve({"--idle-timeout", "300"}));
	for (const DestType &to : stallable_dest_types()) {
		Dest dest(to, dir());
		Asked asked(GetParam(), srv());
		const auto began = Clock::now();

		asked.send({"file"}, dest.fd());
		expect_timeout(&asked, &dest, content, began, 300ms);
	}
	expect_nothing_left();
}

// What moves a little now and then goes on, however long it takes in all.
TEST_P(TimeOptions, WhatMovesALittleGoesOn)
{
	constexpr size_t SIZE = 1000000;
	const std::string content = add_file("file", SIZE);
	Dest dest({Kind::Pipe, false}, dir());
	std::string got;

	ASSERT_NO_FATAL_FAILURE(serve({"--idle-timeout", "400"}));
	fcntl(dest.fd(), F_SETPIPE_SZ, 65536);
	Asked asked(GetParam(), srv());
	asked.send({"file"}, dest.fd());
	const auto began = Clock::now();
	while (got.size() < SIZE) {
		std::string buf(65536, '\0');

		/* Time itself is what this is about. */
		std::this_thread::sleep_for(80ms);
		const ssize_t n = read(dest.peer(), buf.data(), buf.size());
		ASSERT_GT(n, 0);
		got.append(buf, 0, static_cast<size_t>(n));
	}
	EXPECT_LT(800ms, Clock::now() - began) << "it was too fast to show anything";
	expect_went(asked.end(), SIZE, SIZE);
	EXPECT_TRUE(same_content(content, got));
	asked.close();
	expect_nothing_left();
}

TEST_P(TimeOptions, NoIdleTimeoutIfNoneIsWanted)
{
	add_file("file", LARGE);
	Dest dest({Kind::Unix, true}, dir());

	ASSERT_NO_FATAL_FAILURE(serve({"--idle-timeout", "0"}));
	Asked asked(GetParam(), srv());
	asked.send({"file"}, dest.fd());
	std::this_thread::sleep_for(500ms);
	EXPECT_FALSE(asked.is_over());
	dest.start_reading();
	expect_went(asked.end(), LARGE, LARGE);
	asked.close();
	expect_nothing_left();
}

// ---- Rates

class Rate : public TimeOptions
{
      protected:
	struct Arrival {
		Clock::time_point when;
		size_t bytes;
	};

	// Reads all that comes until the end: what, and when.
	static std::vector<Arrival> read_timed(Fd &peer, std::string *got, size_t size)
	{
		std::vector<Arrival> out;
		std::string buf(1 << 20, '\0');

		while (got->size() < size && await(peer, POLLIN, 15s) != 0) {
			const ssize_t n = read(peer, buf.data(), buf.size());

			if (n <= 0)
				break;
			out.push_back({Clock::now(), static_cast<size_t>(n)});
			got->append(buf, 0, static_cast<size_t>(n));
		}
		return out;
	}

	// Whatever stands still, reader or daemon, less has come by any moment than the rate allows; a tenth of a second's worth,
	// or a page, may come at once.
	static void expect_never_ahead(const std::vector<Arrival> &all, uint64_t rate, Clock::time_point began)
	{
		const double burst = std::max(4096.0, static_cast<double>(rate) / 10);
		double sum = 0;

		for (const Arrival &a : all) {
			const std::chrono::duration<double> since = a.when - began;

			sum += static_cast<double>(a.bytes);
			ASSERT_LE(sum, static_cast<double>(rate) * since.count() * 1.05 + burst)
				<< since.count() << " s after the beginning, at " << rate;
		}
	}

	// The most that came within any second.
	static size_t most_in_a_second(const std::vector<Arrival> &all)
	{
		size_t most = 0, sum = 0;

		for (size_t first = 0, last = 0; last < all.size(); last++) {
			sum += all[last].bytes;
			while (all[last].when - all[first].when >= 1s)
				sum -= all[first++].bytes;
			most = std::max(most, sum);
		}
		return most;
	}

	// Of the one worker's processor time, in hundredths of a second.
	unsigned long ticks()
	{
		const std::string stat = read_whole("/proc/" + std::to_string(daemon().workers()[0]) + "/stat");
		std::istringstream fields(stat.substr(stat.rfind(')') + 2));
		std::string field;
		unsigned long user = 0, system = 0;

		for (int i = 3; i <= 15 && fields >> field; i++) {
			user = i == 14 ? std::stoul(field) : user;
			system = i == 15 ? std::stoul(field) : system;
		}
		return user + system;
	}

	static sfd_opts at(uint64_t rate)
	{
		sfd_opts opts = {};

		opts.max_rate = rate;
		return opts;
	}
};

// The reader may be late, but what it sees of any second was sent in hardly more.
TEST_P(Rate, AnySecondSeesNoMore)
{
	ASSERT_NO_FATAL_FAILURE(serve({}, 2));
	for (const uint64_t rate : {20000UL, 3000000UL}) {
		const size_t size = rate * 2;
		const std::string content = add_file("file", size, rate);
		const sfd_opts opts = at(rate);

		for (const DestType &to : {DestType{Kind::Pipe, false}, DestType{Kind::Tcp, true}}) {
			Dest dest(to, dir());
			Asked asked(GetParam(), srv());
			std::string got;
			const auto began = Clock::now();

			asked.send({"file"}, dest.fd(), &opts);
			InBackground<std::vector<Arrival>> reader;
			reader.start([&] { return read_timed(dest.peer(), &got, size); });
			expect_went(asked.end(), size, size);
			const auto took = Clock::now() - began;
			const std::vector<Arrival> all = reader.get();
			EXPECT_EQ("", dest.finish()) << "more than there is";
			EXPECT_TRUE(same_content(content, got));
			expect_never_ahead(all, rate, began);
			EXPECT_LE(1850ms, took) << "of two seconds' worth";
			EXPECT_GE(4s, took);
			/* 5 %, and what a reader that stood still for a while takes in late. */
			EXPECT_LE(most_in_a_second(all), rate + rate / 4) << rate;
		}
	}
	expect_nothing_left();
}

// To every kind of destination, from files that are in memory, that are not, and that a server has; headers included.
TEST_P(Rate, WhereverTheBytesComeFromAndGo)
{
	constexpr size_t SIZE = 200000;
	std::string head = make_content(20000, 3);
	const iovec iov = {head.data(), head.size()};
	sfd_opts opts = at(SIZE);
	const std::pair<const char *, std::string> files[] = {{"hot", add_file("hot", SIZE, 4)},
		{"cold", add_cold("cold", SIZE)}, {"slow/slow", add_slow("slow", SIZE, 2)}};

	opts.headers = &iov;
	opts.hdr_cnt = 1;
	ASSERT_NO_FATAL_FAILURE(serve());
	for (const auto &[name, content] : files) {
		std::vector<std::unique_ptr<Asked>> asked;
		std::vector<std::unique_ptr<Dest>> dests;
		const auto began = Clock::now();

		for (const DestType &to : all_dest_types()) {
			dests.push_back(std::make_unique<Dest>(to, dir()));
			dests.back()->start_reading();
			asked.push_back(std::make_unique<Asked>(GetParam(), srv()));
			asked.back()->send({name}, dests.back()->fd(), &opts);
		}
		for (size_t i = 0; i < asked.size(); i++) {
			const DestType to = all_dest_types()[i];

			SCOPED_TRACE(name_of(to) + " of " + name);
			expect_went(asked[i]->end(), SIZE, SIZE + head.size());
			EXPECT_LE(1000ms, Clock::now() - began);
			const std::string got = dests[i]->finish();
			const std::string before = dests[i]->is_file() ? Dest::before : "";
			if (to.kind != Kind::Null) {
				EXPECT_TRUE(same_content(before + head + content, got));
			}
		}
	}
	expect_nothing_left();
}

// Whoever waits for its time uses none of the processor, and each gets what it may have: of a file that only readers may touch, too,
// whose pipes are few.
TEST_P(Rate, ManyCostNoBusyLoop)
{
	const struct {
		unsigned many;
		uint64_t rate;
	} loads[] = {{300, 1000}, {2000, 10}};

	add_cold("file", 1 << 20);
	limit(120);
	ASSERT_TRUE(may_open(4 * 2000)) << "RLIMIT_NOFILE does not allow it";
	ASSERT_NO_FATAL_FAILURE(serve());
	ASSERT_EQ(1U, daemon().workers().size());
	for (const auto &load : loads) {
		const sfd_opts opts = at(load.rate);
		std::vector<std::unique_ptr<Asked>> asked;
		std::vector<std::unique_ptr<Dest>> dests;

		for (unsigned i = 0; i < load.many; i++) {
			dests.push_back(std::make_unique<Dest>(DestType{Kind::Pipe, false}, dir()));
			asked.push_back(std::make_unique<Asked>(Form::One, srv()));
			asked.back()->send({"file"}, dests.back()->fd(), &opts);
		}
		const unsigned long before = ticks();
		std::this_thread::sleep_for(2s);
		/* Of two hundred that a loop would take. Under a sanitizer all takes several times as long. */
		EXPECT_LE(ticks() - before, 100U);
		for (auto &a : asked) {
			EXPECT_FALSE(a->is_over());
			a->cancel();
		}
		unsigned starved = 0;
		for (auto &a : asked) {
			EXPECT_EQ(ECANCELED, a->end().stat);
			starved += a->end().bytes == 0;
		}
		EXPECT_EQ(0U, starved) << "of " << load.many;
	}
	expect_nothing_left();
}

// The deadline counts while it waits, and being paced is not being idle; whatever the destination.
TEST_P(Rate, OtherLimitsHoldMeanwhile)
{
	const std::string content = add_file("file", LARGE);
	sfd_opts opts = at(100);

	ASSERT_NO_FATAL_FAILURE(serve({"--idle-timeout", "100"}));
	opts.timeout_ms = 600;
	std::vector<std::unique_ptr<Asked>> asked;
	std::vector<std::unique_ptr<Dest>> dests;
	const auto began = Clock::now();
	for (const DestType &to : all_dest_types()) {
		dests.push_back(std::make_unique<Dest>(to, dir()));
		asked.push_back(std::make_unique<Asked>(GetParam(), srv()));
		asked.back()->send({"file"}, dests.back()->fd(), &opts);
	}
	for (size_t i = 0; i < asked.size(); i++) {
		const DestType to = all_dest_types()[i];

		SCOPED_TRACE(name_of(to));
		const bool is_null = to.kind == Kind::Null;
		expect_timeout(asked[i].get(), is_null ? nullptr : dests[i].get(), content, began, 600ms);
		EXPECT_GE(80U, asked[i]->end().bytes);
		EXPECT_LE(40U, asked[i]->end().bytes);
	}
	asked.clear();
	expect_nothing_left();
}

// ---- --max-rate-per-user

TEST_P(Rate, OfAUserIsShared)
{
	constexpr uint64_t RATE = 400000;
	constexpr unsigned COUNT = 4;
	const std::string content = add_file("file", RATE / 2);
	std::vector<std::unique_ptr<Asked>> asked;
	std::vector<std::unique_ptr<Dest>> dests;
	const auto began = Clock::now();
	std::vector<Clock::duration> ends;

	ASSERT_NO_FATAL_FAILURE(serve({"--max-rate-per-user", std::to_string(RATE)}, 2));
	for (unsigned i = 0; i < COUNT; i++) {
		dests.push_back(std::make_unique<Dest>(DestType{Kind::Tcp, true}, dir()));
		dests.back()->start_reading();
		asked.push_back(std::make_unique<Asked>(GetParam(), srv()));
		asked.back()->send({"file"}, dests.back()->fd());
	}
	for (unsigned i = 0; i < COUNT; i++) {
		expect_went(asked[i]->end(), RATE / 2, RATE / 2);
		ends.push_back(Clock::now() - began);
		EXPECT_TRUE(same_content(content, dests[i]->finish()));
	}
	/* Two seconds' worth, and all of them end at about the same time. */
	EXPECT_LE(1850ms, ends.back());
	EXPECT_LE(1500ms, ends.front());
	asked.clear();
	expect_nothing_left();
}

INSTANTIATE_TEST_SUITE_P(
	Forms, TimeOptions, ::testing::Values(Form::One, Form::Queue), [](const auto &i) { return name_of(i.param); });
INSTANTIATE_TEST_SUITE_P(
	Forms, Rate, ::testing::Values(Form::One, Form::Queue), [](const auto &i) { return name_of(i.param); });

} // namespace
