// SPDX-License-Identifier: BSD-2-Clause
// Directories that somebody moves out of the root, and replaces, while files are opened through them.
#include "test/hostile/hostile.h"
#include "test/support/queue.h"

#include <cstdio>
#include <poll.h>
#include <sys/stat.h>

namespace
{

constexpr unsigned OPENS = 200000, DEPTH = 64;
const std::string INSIDE = "inside!", OUTSIDE = "outside!!"; // of different lengths

class Paths : public Hostile
{
      protected:
	void SetUp() override
	{
		Hostile::SetUp();
		limit(280);
		for (const std::string &d : {in_root("a"), in_root("a/b"), in_root("a/b/c"), dir() + "/outside"})
			ASSERT_EQ(0, mkdir(d.c_str(), 0755));
		/* The names are relative to what a directory's parent is, inside and outside. */
		for (const std::string &f : {in_root("secret"), in_root("a/secret")})
			write_whole(f, INSIDE);
		for (const std::string &f : {dir() + "/secret", dir() + "/outside/secret"})
			write_whole(f, OUTSIDE);
		ASSERT_EQ(0, chmod((dir() + "/outside").c_str(), 0755));
		ASSERT_EQ(0, chmod(dir().c_str(), 0755));
		start_open();
	}

	// A child that does that again and again, until it is told to stop.
	template <typename What> void begin_storm(What what)
	{
		Ends life = make_pipe();

		child_ = fork();
		if (child_ == 0) {
			life.in.reset();
			alarm(280);
			while (await(life.out, POLLHUP, 0ms) == 0) {
				for (int i = 0; i < 100; i++)
					what(i);
			}
			_exit(0);
		}
		life_ = std::move(life.in);
	}

	void end_storm()
	{
		int status = -1;

		life_.reset();
		EXPECT_TRUE(await_exit(child_, &status));
		EXPECT_EQ(0, status);
	}

	struct Tally {
		unsigned ok = 0, missing = 0, other = 0;
	};

	// Sends those files, all in turn, into one pipe: what became of them. Nothing else than what is inside may come.
	Tally send_all(const std::vector<std::string> &paths, unsigned n)
	{
		sfd_queue *q = sfd_queue_new(srv(), DEPTH);
		Ends pipe = make_pipe();
		Tally tally;
		unsigned started = 0, done = 0;

		fcntl(pipe.out, F_SETFL, O_NONBLOCK);
		while (done < n) {
			sfd_event events[DEPTH];

			for (; started < n && started - done < DEPTH; started++)
				EXPECT_EQ(0, sfd_queue_send(q, paths[started % paths.size()].c_str(), pipe.in, 0, 0,
						     nullptr, started));
			const int got = sfd_queue_wait(q, events, DEPTH, 60000);
			if (got <= 0) {
				ADD_FAILURE() << "no outcome in a minute; " << done << " done";
				break;
			}
			for (int i = 0; i < got; i++) {
				tally.ok += events[i].stat == SFD_STAT_OK;
				tally.missing += events[i].stat == ENOENT;
				tally.other += events[i].stat != SFD_STAT_OK && events[i].stat != ENOENT;
				EXPECT_EQ(events[i].stat == SFD_STAT_OK ? INSIDE.size() : 0, events[i].bytes);
			}
			done += static_cast<unsigned>(got);
			check_content(pipe.out);
		}
		sfd_queue_free(q);
		pipe.in.reset();
		check_content(pipe.out);
		printf("%u sent, %u not found, %u other\n", tally.ok, tally.missing, tally.other);
		EXPECT_EQ(0U, kept_.size());
		return tally;
	}

	// What has arrived is the inside content again and again.
	void check_content(int fd)
	{
		char bytes[65536];
		ssize_t n;

		while ((n = read(fd, bytes, sizeof bytes)) > 0)
			kept_.append(bytes, static_cast<size_t>(n));
		size_t at = 0;
		while (at + INSIDE.size() <= kept_.size() && kept_.compare(at, INSIDE.size(), INSIDE) == 0)
			at += INSIDE.size();
		kept_.erase(0, at);
		ASSERT_LT(kept_.size(), INSIDE.size()) << "something else: " << kept_.substr(0, 100);
	}

	std::string kept_;
	Fd life_;
	pid_t child_ = -1;
};

// While a walk is below b, b goes to where its ".." is a directory outside.
TEST_F(Paths, AParentIsMovedOut)
{
	const std::string inside = in_root("a/b"), outside = dir() + "/outside/b";

	begin_storm([&](int) {
		rename(inside.c_str(), outside.c_str());
		rename(outside.c_str(), inside.c_str());
	});
	const Tally t = send_all({"a/b/../../secret", "a/b/../secret", "a/b/c/../../../secret",
					 "/a/b/c/../../../../../secret", "a/../a/b/../../a/b/../../secret"},
		OPENS);
	end_storm();
	EXPECT_GT(t.ok, 0U);
	EXPECT_EQ(OPENS, t.ok + t.missing + t.other);
	EXPECT_EQ(INSIDE, read_whole(in_root("secret")));
}

// A directory is now one, now a link to the outside.
TEST_F(Paths, ADirectoryBecomesALink)
{
	const std::string there = in_root("a"), away = dir() + "/away", link = dir() + "/link";

	ASSERT_EQ(0, symlink((dir() + "/outside").c_str(), link.c_str()));
	begin_storm([&](int i) {
		rename(there.c_str(), away.c_str());
		if (symlink(i % 2 ? "../outside" : (dir() + "/outside").c_str(), there.c_str()) == 0)
			unlink(there.c_str());
		rename(away.c_str(), there.c_str());
	});
	const Tally t = send_all({"a/secret", "/a/secret", "a/../a/secret", "a/b/../secret"}, OPENS / 4);
	end_storm();
	EXPECT_GT(t.ok, 0U);
}

// A file is now one, now a directory, a FIFO that nobody writes to, a link to the outside.
TEST_F(Paths, AFileBecomesSomethingElse)
{
	const std::string there = in_root("thing"), file = in_root("file");

	write_whole(file, INSIDE);
	begin_storm([&](int i) {
		const int what = i % 4;

		if (what == 0 && link(file.c_str(), there.c_str()) < 0)
			_exit(1);
		if (what == 1 && mkdir(there.c_str(), 0755) < 0)
			_exit(2);
		if (what == 2 && mkfifo(there.c_str(), 0644) < 0)
			_exit(3);
		if (what == 3 && symlink("../secret", there.c_str()) < 0)
			_exit(4);
		if (remove(there.c_str()) < 0)
			_exit(5);
	});
	send_all({"thing"}, OPENS / 10);
	end_storm();
	/* "../secret" is the root's own: a link's parent of the root is the root. */
	EXPECT_EQ(INSIDE, read_whole(in_root("secret")));
}

} // namespace
