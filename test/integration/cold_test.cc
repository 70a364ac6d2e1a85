// SPDX-License-Identifier: BSD-2-Clause
// Files that are not in memory: what changes or fails while they are read, and how helpers and pipes, of which there are
// few, are shared out.
#include "test/support/cold_fixture.h"
#include "test/support/user.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <sys/wait.h>

namespace
{

class Cold : public ColdTest
{
      protected:
	static constexpr size_t SMALL = 4096, LARGE = 8 << 20;

	// Begins a transfer whose destination is full before all has been read.
	Request stall(const std::string &path)
	{
		Request r = send(path, {Kind::Unix, true});

		EXPECT_NE(0U, r.info().txnid);
		EXPECT_NE(0, await(r.dest().peer(), POLLIN));
		return r;
	}

	// It ends with that before all has been sent; what was sent is counted.
	void expect_partial(Request *r, int stat, const std::string &content)
	{
		r->expect_failure(stat, content);
		EXPECT_LT(0U, r->arrived.size());
		EXPECT_GT(content.size(), r->arrived.size());
	}
};

// ---- Files that change

TEST_F(Cold, FileShrinks)
{
	const std::string cold = add_cold("cold", LARGE), slow = add_slow("slow", LARGE, 2);

	ASSERT_NO_FATAL_FAILURE(serve());
	Request r = stall("cold");
	ASSERT_EQ(0, truncate(in_root("cold").c_str(), 3 << 20));
	expect_partial(&r, SFD_STAT_TRUNCATED, cold);
	Request s = stall("slow/slow");
	fs().truncate("slow", 3 << 20);
	expect_partial(&s, SFD_STAT_TRUNCATED, slow);
	EXPECT_LE(3U << 20, s.arrived.size());
	expect_nothing_left();
}

// Not even the first byte has been read.
TEST_F(Cold, FileBecomesEmptyBeforeItIsRead)
{
	add_slow("slow", LARGE);
	ASSERT_NO_FATAL_FAILURE(serve());
	fs().hold("read");
	Request r = send("slow/slow");
	fs().await("read");
	fs().truncate("slow", 0);
	fs().release();
	r.expect_failure(SFD_STAT_TRUNCATED, "");
	EXPECT_EQ("", r.arrived);
	expect_nothing_left();
}

TEST_F(Cold, FileShrinksOnItsWayToAFile)
{
	const std::string content = add_slow("slow", LARGE);

	ASSERT_NO_FATAL_FAILURE(serve());
	Fd dest(open((dir() + "/dest").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	fs().hold("read");
	const Fd status(sfd_send(srv(), "slow/slow", dest, 0, 0, false));
	while (fs().count("read") < 10) {
		fs().await("read");
		fs().step("read");
	}
	fs().await("read");
	fs().truncate("slow", 3 << 20);
	fs().release();
	const Outcome o = read_outcome(status);
	EXPECT_EQ(SFD_STAT_TRUNCATED, o.stat()) << sfd_strstat(o.stat());
	const std::string got = read_whole(dir() + "/dest");
	EXPECT_EQ(o.total(), got.size());
	EXPECT_EQ(static_cast<off_t>(got.size()), lseek(dest, 0, SEEK_CUR));
	EXPECT_TRUE(same_content(content.substr(0, got.size()), got));
	expect_nothing_left();
}

TEST_F(Cold, ReadFails)
{
	const std::string content = add_slow("slow", LARGE);

	ASSERT_NO_FATAL_FAILURE(serve());
	Request r = stall("slow/slow");
	fs().fail("read", EIO);
	expect_partial(&r, EIO, content);
	Request s = send("slow/slow");
	s.expect_failure(EIO, content);
	EXPECT_EQ("", s.arrived);
	fs().fail("read", 0);
	send("slow/slow").expect(content);
	expect_nothing_left();
}

// A server that crashes.
TEST_F(Cold, FileSystemGoesAway)
{
	const std::string content = add_slow("slow", LARGE), other = add_cold("other", LARGE, 2);

	ASSERT_NO_FATAL_FAILURE(serve());
	Request r = stall("slow/slow");
	fs().hold("read");
	Request waiting = send("slow/slow");
	fs().await("read");
	fs().abort();
	const Outcome o = r.finish();
	EXPECT_NE(SFD_STAT_OK, o.stat());
	EXPECT_TRUE(o.has_terminal());
	EXPECT_EQ(o.total(), r.arrived.size());
	EXPECT_TRUE(same_content(content.substr(0, r.arrived.size()), r.arrived));
	EXPECT_TRUE(waiting.finish().has_terminal());
	const Outcome late = send("slow/slow").finish();
	EXPECT_EQ(ENOTCONN, late.stat()) << sfd_strstat(late.stat());
	send("other").expect(other);
	run_hot();
	expect_same_workers();
	expect_idle();
}

// ---- Pipes

// Each has read a piece that its client does not take. What it read is given up when others need the pipe, and read again.
TEST_F(Cold, StalledTransfersLeaveNobodyWithoutAPipe)
{
	constexpr size_t MANY = 200, SIZE = 300000;
	std::vector<Fd> statuses, ends;

	for (size_t i = 0; i <= MANY; i++)
		add_slow(std::to_string(i), SIZE, i);
	ASSERT_NO_FATAL_FAILURE(serve());
	for (size_t i = 0; i < MANY; i++) {
		Ends pipe = make_pipe();

		statuses.emplace_back(when_room(srv(),
			[&] { return sfd_send(srv(), ("slow/" + std::to_string(i)).c_str(), pipe.in, 0, 0, false); }));
		ASSERT_GE(statuses.back(), 0);
		ends.push_back(std::move(pipe.out));
	}
	for (size_t i = 0; i < MANY; i++)
		ASSERT_NE(0, await(ends[i], POLLIN)) << i;
	send("slow/" + std::to_string(MANY)).expect(make_content(SIZE, MANY));
	/* Not all of them can have one; each has a destination and a status channel. */
	const std::string fds = list_fds(std::to_string(daemon().workers().at(0)));
	size_t pipes = 0;
	for (size_t at = 0; (at = fds.find("-> pipe:", at)) != std::string::npos; at++)
		pipes++;
	EXPECT_GE(2 * MANY + 2 * 128 + 10, pipes);
	run_hot();
	const std::vector<std::string> arrived = read_all_ends(ends);
	for (size_t i = 0; i < MANY; i++) {
		expect_success(read_outcome(statuses[i]), SIZE);
		EXPECT_TRUE(same_content(make_content(SIZE, i), arrived[i])) << i;
	}
	expect_same_workers();
	expect_nothing_left();
}

// ---- Helpers

TEST_F(Cold, ThereAreNoMoreHelpersThanAllowed)
{
	constexpr size_t MANY = 100;
	SlowFs &second = mount("second");
	std::vector<Request> requests;
	std::vector<std::string> contents;
	std::map<std::string, size_t> most;

	fs().delay("read", 1ms);
	fs().delay("open", 1ms);
	second.delay("read", 1ms);
	for (size_t i = 0; i < MANY; i++) {
		const std::string name = std::to_string(i);

		contents.push_back(make_content(SMALL, i));
		(i % 2 ? fs() : second).add(name, SMALL, i);
	}
	ASSERT_NO_FATAL_FAILURE(serve({"--readers=2", "--readers-per-device=1"}, 2));
	for (size_t i = 0; i < MANY; i++)
		requests.push_back(send((i % 2 ? "slow/" : "second/") + std::to_string(i)));
	while (!std::all_of(
		requests.begin(), requests.end(), [](auto &r) { return await(r.status(), POLLHUP, 0ms) & POLLHUP; })) {
		for (const char *kind : {"opener", "reader", "writer"})
			most[kind] = std::max(most[kind], helpers(kind).size());
		ASSERT_GE(6U, daemon().helpers().size());
	}
	for (size_t i = 0; i < MANY; i++)
		requests[i].expect(contents[i]);
	for (const char *kind : {"opener", "reader"}) {
		EXPECT_LE(1U, most[kind]) << kind;
		EXPECT_GE(2U, most[kind]) << kind;
	}
	EXPECT_EQ(0U, most["writer"]);
	EXPECT_EQ(0U, counters()["helper_deaths"]);
	expect_nothing_left();
}

TEST_F(Cold, IdleHelpersLeave)
{
	limit(120);
	const std::string content = add_slow("file", SMALL);

	ASSERT_NO_FATAL_FAILURE(serve());
	send("slow/file").expect(content);
	EXPECT_LE(2U, daemon().helpers().size());
	/* They stay for half a minute, to be used again. */
	const std::vector<pid_t> helpers = daemon().helpers();
	EXPECT_FALSE(eventually([&] { return daemon().helpers() != helpers; }, 20s));
	EXPECT_TRUE(eventually([&] { return daemon().helpers().empty(); }, 40s));
	EXPECT_EQ(0U, counters()["helper_deaths"]);
	send("slow/file").expect(content);
	expect_same_workers();
	expect_nothing_left();
}

// ---- Fairness

class Fair : public Cold, public ::testing::WithParamInterface<unsigned>
{
      protected:
	static constexpr uid_t SERVER = 54322;

	// In a child of that user: makes a request, says so on a pipe, and reads the file to its end. Status 0 if all
	// went well.
	static pid_t read_as(uid_t uid, int srv, const char *path, size_t size, int said)
	{
		const pid_t child = fork();
		char buf[SFD_MAX_RESP_SIZE + SMALL + 1];
		size_t got = 0;
		ssize_t n;

		if (child != 0)
			return child;
		if (!become(uid))
			_exit(1);
		const int fd = sfd_read(srv, path, 0, 0, false);
		/* The information comes when the file has been opened. */
		if (fd < 0 || read(fd, buf, SFD_MAX_RESP_SIZE) != SFD_MAX_RESP_SIZE || sfd_get_stat(buf) != SFD_STAT_OK)
			_exit(2);
		if (write(said, "", 1) != 1)
			_exit(3);
		while ((n = read(fd, buf, sizeof buf)) > 0)
			got += static_cast<size_t>(n);
		_exit(got == size ? 0 : 4);
	}
};

TEST_P(Fair, OneUserCannotKeepAnotherWaiting)
{
	constexpr size_t MANY = 300;
	std::vector<Fd> pipes;
	std::vector<pollfd> polled;
	Ends said = make_pipe();
	size_t over = 0;
	int status = -1;
	char byte;

	if (!is_root())
		GTEST_SKIP() << "only root can take another user's part";
	for (size_t i = 0; i < MANY; i++)
		add_slow(std::to_string(i), SMALL, i);
	add_slow("single", SMALL, 1000);
	ASSERT_NO_FATAL_FAILURE(serve({"-u", std::to_string(SERVER)}, GetParam()));
	fs().hold("read");
	for (size_t i = 0; i < MANY; i++) {
		pipes.emplace_back(when_room(
			srv(), [&] { return sfd_read(srv(), ("slow/" + std::to_string(i)).c_str(), 0, 0, false); }));
		polled.push_back({pipes.back(), 0, 0});
	}
	/* All of them are open, and wait to be read. */
	for (const Fd &pipe : pipes)
		ASSERT_NE(0, await(pipe, POLLIN));
	const pid_t child = read_as(SERVER, srv(), "slow/single", SMALL, said.in);
	ASSERT_NE(0, await(said.out, POLLIN));
	ASSERT_EQ(1, read(said.out, &byte, 1));
	fs().delay("read", 20ms);
	fs().release("read");
	fs().delay("read", 20ms);
	ASSERT_TRUE(await_exit(child, &status));
	EXPECT_EQ(0, status);
	ASSERT_LE(0, poll(polled.data(), polled.size(), 0));
	for (const pollfd &p : polled)
		over += (p.revents & POLLHUP) != 0;
	EXPECT_GT(MANY / 2, over) << "the one was served after " << over << " of the others";
	fs().delay("read", 0ms);
	for (size_t i = 0; i < MANY; i++)
		EXPECT_TRUE(same_content(make_content(SMALL, i), read_file_pipe(pipes[i]).content));
	expect_same_workers();
	expect_nothing_left();
}

INSTANTIATE_TEST_SUITE_P(Workers, Fair, ::testing::Values(1, 3));

} // namespace
