// SPDX-License-Identifier: BSD-2-Clause
// sfdcat is cat, whatever standard output is, and says the same of what it cannot read.
#include "test/support/beside.h"
#include "test/support/bounded.h"
#include "test/support/fixture.h"
#include "test/support/run.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

namespace
{

class Sfdcat : public BoundedTest
{
      protected:
	void SetUp() override
	{
		BoundedTest::SetUp();
		content_ = make_content(300000, 7);
		write_whole(path("file"), content_);
	}

	// A shell command in which `cat` is this program.
	ShellResult shell(const std::string &command) const
	{
		return sh("cd " + path("") +
			  " && cat() { SFD_DAEMON=" BUILD_DIR "/sendfiled " BUILD_DIR "/examples/sfdcat \"$@\"; } && " +
			  command);
	}

	std::string content_;
};

TEST_F(Sfdcat, WhateverStandardOutputIs)
{
	const char *const ways[] = {"cat file >out", "cat file | command cat >out", ": >out; cat file >>out",
		"cat <file >out", "cat - <file >out"};

	for (const char *way : ways) {
		unlink(path("out").c_str());
		const ShellResult r = shell(way);

		EXPECT_EQ(0, r.status) << way << ": " << r.text;
		EXPECT_TRUE(same_content(content_, read_whole(path("out")))) << way;
	}
	EXPECT_EQ(0, shell("(echo hi; cat file; echo bye) >out").status);
	EXPECT_TRUE(same_content("hi\n" + content_ + "bye\n", read_whole(path("out"))));
	EXPECT_EQ(0, shell("cat file >/dev/null").status);
}

TEST_F(Sfdcat, ManyInOrder)
{
	std::string all;

	for (int i = 0; i < 200; i++) {
		const std::string text = std::to_string(i) + "\n";

		write_whole(path("f" + std::to_string(1000 + i)), text);
		all += text;
	}
	const ShellResult r = shell("cat f1* 2>/dev/null");
	EXPECT_EQ(0, r.status);
	EXPECT_EQ(all, r.text);
}

TEST_F(Sfdcat, Ranges)
{
	const std::pair<const char *, std::string> ranges[] = {{"0-9", content_.substr(0, 10)},
		{"299990-", content_.substr(299990)}, {"-5", content_.substr(299995)},
		{"100-100", content_.substr(100, 1)}};

	for (const auto &[range, wanted] : ranges) {
		EXPECT_EQ(0, shell(std::string("cat --range ") + range + " file >out").status) << range;
		EXPECT_TRUE(same_content(wanted, read_whole(path("out")))) << range;
	}
}

TEST_F(Sfdcat, WhatItCannotRead)
{
	ASSERT_EQ(0, mkdir(path("dir").c_str(), 0755));
	const ShellResult r = shell("cat missing dir file >out");

	EXPECT_EQ(1, r.status);
	EXPECT_NE(std::string::npos, r.text.find("sfdcat: missing: No such file or directory\n")) << r.text;
	EXPECT_NE(std::string::npos, r.text.find("sfdcat: dir: Is a directory\n")) << r.text;
	EXPECT_TRUE(same_content(content_, read_whole(path("out")))) << "the others come all the same";
	EXPECT_EQ(1, shell("cat --frobnicate file").status);
	EXPECT_EQ(1, shell("cat --range 9-1 file").status);
	EXPECT_EQ(1, shell("cat --limit-rate fast file").status);
	const ShellResult same = shell("cp file out; cat out >>out");
	EXPECT_EQ(1, same.status);
	EXPECT_NE(std::string::npos, same.text.find("input file is output file")) << same.text;
	const ShellResult missing = shell("cat -s no-such-daemon -S . file");
	EXPECT_EQ(1, missing.status);
	EXPECT_NE("", missing.text);
}

// Word for word, but for the name of the program.
TEST_F(Sfdcat, SaysWhatCatSays)
{
	const char *const commands[] = {"missing", "dir", "''", "'a b'", "\"it's\"", "\"it's \\$5\"",
		"\"$(printf 'a\\033[1mb\\nc')\"", "file/x", "file >&-", "file >/dev/full", "missing dir 'no\ttab'",
		"locked"};

	ASSERT_EQ(0, mkdir(path("dir").c_str(), 0755));
	ASSERT_EQ(0, symlink("locked", path("locked").c_str())); /* to itself */
	for (const char *command : commands) {
		const ShellResult theirs = shell(std::string("LC_ALL=C command cat ") + command),
				  ours = shell(std::string("cat ") + command);
		std::string text = ours.text;

		for (size_t at = 0; (at = text.find("sfdcat: ", at)) != std::string::npos;)
			text.erase(at, 3);
		EXPECT_EQ(theirs.text, text) << command;
		EXPECT_EQ(theirs.status, ours.status) << command;
	}
	EXPECT_EQ("sfdcat: -: Bad file descriptor\n", shell("cat - <&-").text);
	/* SIGPIPE is ignored. */
	const ShellResult closed = shell("trap '' PIPE; { cat file; echo $? >status; } | true; command cat status");
	EXPECT_NE(std::string::npos, closed.text.find("sfdcat: write error: Broken pipe\n")) << closed.text;
	EXPECT_EQ('1', closed.text[closed.text.size() - 2]);
}

TEST_F(Sfdcat, StatJsonAndHot)
{
	const ShellResult stat = shell("cat --stat file 2>/dev/null");
	EXPECT_EQ(0U, stat.text.find("file: 300000 bytes, ")) << stat.text;
	const ShellResult json = shell("cat --json file 2>&1 >/dev/null | grep '^{'");
	EXPECT_NE(std::string::npos, json.text.find("\"bytes\":300000")) << json.text;
	EXPECT_NE(std::string::npos, json.text.find("\"status\":0")) << json.text;
	EXPECT_EQ(1, shell("cat --is-hot missing").status);
}

TEST_F(Sfdcat, IsHot)
{
	const Fd file(open(path("file").c_str(), O_RDWR | O_CLOEXEC));
	struct statfs fs = {};

	ASSERT_EQ(0, fstatfs(file, &fs));
	if (fs.f_type != EXT4_SUPER_MAGIC && fs.f_type != XFS_SUPER_MAGIC && fs.f_type != BTRFS_SUPER_MAGIC)
		GTEST_SKIP() << "on this file system nobody can tell, or all is always in memory";
	ASSERT_EQ(0, fsync(file));
	EXPECT_EQ(0, shell("cat --is-hot file").status);
	ASSERT_EQ(0, posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED));
	EXPECT_EQ(1, shell("cat --is-hot file").status);
	EXPECT_EQ(0, shell("cat file >/dev/null; cat --is-hot file").status);
	/* Without the first page the rest of it is hot still, but for what is read along with others. */
	ASSERT_EQ(0, posix_fadvise(file, 0, 4096, POSIX_FADV_DONTNEED));
	EXPECT_EQ(0, shell("cat --is-hot --range 200000- file").status);
}

// At 20 kB a second, 60 kB take three, the first tenth at once.
TEST_F(Sfdcat, LimitRate)
{
	const auto begin = Clock::now();

	EXPECT_EQ(0, shell("cat --limit-rate 20k --range 0-59999 file >out").status);
	EXPECT_GE(Clock::now() - begin, 2s);
	EXPECT_EQ(60000U, read_whole(path("out")).size());
}

// In the middle of what nobody reads: it dies by the signal, and its daemon is gone with it.
TEST_F(Sfdcat, Interrupted)
{
	write_whole(path("text"), std::string(300000, 'x'));
	for (const int signo : {SIGINT, SIGQUIT, SIGTERM, SIGHUP}) {
		Beside cat({BUILD_DIR "/examples/sfdcat", path("text"), path("text")},
			{"SFD_DAEMON=" BUILD_DIR "/sendfiled", "TMPDIR=" + path("")});

		EXPECT_FALSE(cat.await_text("xxx", 30s).empty());
		const int status = cat.end(signo);
		EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == signo) << status;
		EXPECT_EQ("file\ntext\n", shell("ls").text) << "its daemon's directory is left";
	}
}

// script(1) gives a program a terminal, which makes "\r\n" of each "\n".
TEST_F(Sfdcat, ATerminal)
{
	write_whole(path("text"), "one\ntwo\n");
	const ShellResult r = shell("script -qec 'SFD_DAEMON=" BUILD_DIR "/sendfiled " BUILD_DIR
				    "/examples/sfdcat text text' /dev/null </dev/null");

	EXPECT_EQ(0, r.status) << r.text;
	EXPECT_EQ("one\r\ntwo\r\none\r\ntwo\r\n", r.text);
}

// Where standard error is a terminal and the bytes go elsewhere: after a second, unless it is over by then.
TEST_F(Sfdcat, TheBar)
{
	const auto on_terminal = [&](const std::string &arguments) {
		unlink(path("out").c_str());
		return shell("script -qec 'stty cols 100; SFD_DAEMON=" BUILD_DIR "/sendfiled " BUILD_DIR
			     "/examples/sfdcat " +
			     arguments + " >out' /dev/null </dev/null");
	};
	const char *const bar = "file +[0-9]+% \\[=* *\\] [0-9.]+K [0-9.]+K/s [0-9]+:[0-9][0-9] left";
	const char *const full = "file 100% \\[====================\\] 293.0K [0-9.]+[KMG]/s 0:00 left";

	const ShellResult slow = on_terminal("--limit-rate 150k file");
	EXPECT_EQ(0, slow.status);
	EXPECT_FALSE(find_match(slow.text, bar).empty()) << slow.text;
	EXPECT_FALSE(find_match(slow.text, full).empty()) << slow.text;
	EXPECT_TRUE(same_content(content_, read_whole(path("out"))));
	EXPECT_FALSE(find_match(on_terminal("--progress file").text, full).empty());
	EXPECT_EQ("", on_terminal("--no-progress --limit-rate 250k file").text);
	const auto begin = Clock::now();
	const std::string soon_over = on_terminal("file").text;
	if (Clock::now() - begin < 1s) {
		EXPECT_EQ("", soon_over);
	}
	/* Not on a terminal: only if it is asked for. */
	EXPECT_EQ("", shell("cat --limit-rate 250k file 2>&1 >out").text);
	EXPECT_FALSE(find_match(shell("cat --progress file 2>&1 >out").text, full).empty());
}

// With a daemon that others have started: names are below its root, and it may lose a worker, or end.
class SfdcatServed : public SfdTest
{
      protected:
	void serve(const char *name)
	{
		DaemonOptions one;

		one.workers = 1;
		content_ = add_file(name, 300000, 7);
		start(one);
	}
	std::vector<std::string> args(const std::vector<std::string> &more) const
	{
		std::vector<std::string> all = {BUILD_DIR "/examples/sfdcat", "-s", "test", "-S", daemon_dir()};

		all.insert(all.end(), more.begin(), more.end());
		return all;
	}
	std::string daemon_dir() const
	{
		return dir() + "/run";
	}
	// The same, to a file; its exit status and what it said.
	ShellResult cat_to(const std::string &out, const std::string &more) const
	{
		return sh(BUILD_DIR "/examples/sfdcat -s test -S " + daemon_dir() + " " + more + " >" + out);
	}
	// Starts one that takes two seconds, and waits until something has come.
	std::unique_ptr<Beside> start_slow(const std::string &out)
	{
		auto cat = std::make_unique<Beside>(std::vector<std::string>{"sh", "-c",
							    "exec " BUILD_DIR "/examples/sfdcat -s test -S " +
								    daemon_dir() + " --limit-rate 150k file >" + out},
			std::vector<std::string>());

		EXPECT_TRUE(eventually([&] { return access(out.c_str(), F_OK) == 0 && !read_whole(out).empty(); }));
		return cat;
	}

	std::string content_;
};

TEST_F(SfdcatServed, ByName)
{
	ASSERT_NO_FATAL_FAILURE(serve("file"));
	ASSERT_EQ(0, mkdir(in_root("dir").c_str(), 0755));
	const std::string other = add_file("dir/other", 10);
	ASSERT_EQ(0, symlink("/etc/passwd", in_root("out").c_str()));

	EXPECT_EQ(0, cat_to(dir() + "/got", "file /dir/other file").status);
	EXPECT_TRUE(same_content(content_ + other + content_, read_whole(dir() + "/got")));
	EXPECT_EQ(0, cat_to(dir() + "/got", "--range 5-14 file").status);
	EXPECT_EQ(content_.substr(5, 10), read_whole(dir() + "/got"));
	EXPECT_EQ(0, cat_to(dir() + "/got", "--range -7 file").status);
	EXPECT_EQ(content_.substr(content_.size() - 7), read_whole(dir() + "/got"));
	EXPECT_EQ("file: 300000 bytes, ",
		sh(BUILD_DIR "/examples/sfdcat -s test -S " + daemon_dir() + " --stat file").text.substr(0, 20));
	const ShellResult r = cat_to(dir() + "/got", "missing dir out file");
	EXPECT_EQ(1, r.status);
	EXPECT_NE(std::string::npos, r.text.find("sfdcat: missing: No such file or directory\n")) << r.text;
	EXPECT_NE(std::string::npos, r.text.find("sfdcat: dir: Is a directory\n")) << r.text;
	EXPECT_NE(std::string::npos, r.text.find("sfdcat: out: ")) << r.text;
	EXPECT_TRUE(same_content(content_, read_whole(dir() + "/got")));
	expect_idle();
}

// In a file the same bytes can be written to the same place once more.
TEST_F(SfdcatServed, AWorkerIsKilledOnTheWayToAFile)
{
	ASSERT_NO_FATAL_FAILURE(serve("file"));
	const auto cat = start_slow(dir() + "/got");

	kill(daemon().workers()[0], SIGKILL);
	EXPECT_EQ(0, cat->wait()) << cat->text();
	EXPECT_TRUE(same_content(content_, read_whole(dir() + "/got")));
}

// In a pipe they cannot.
TEST_F(SfdcatServed, AWorkerIsKilledOnTheWayToAPipe)
{
	ASSERT_NO_FATAL_FAILURE(serve("text"));
	write_whole(in_root("text"), std::string(300000, 'x'));
	Beside cat(args({"--limit-rate", "50k", "text"}), {});

	ASSERT_FALSE(cat.await_text("xxx", 30s).empty());
	kill(daemon().workers()[0], SIGKILL);
	EXPECT_FALSE(cat.await_text("sfdcat: text: A process of the daemon was killed", 30s).empty());
	EXPECT_EQ(1 << 8, cat.wait());
}

TEST_F(SfdcatServed, TheDaemonIsKilled)
{
	ASSERT_NO_FATAL_FAILURE(serve("file"));
	const auto cat = start_slow(dir() + "/got");

	stop(SIGKILL, SIGKILL);
	EXPECT_FALSE(cat->await_text("sfdcat: file: The daemon has ended", 30s).empty()) << cat->text();
	EXPECT_EQ(1 << 8, cat->wait());
	const std::string got = read_whole(dir() + "/got");
	EXPECT_TRUE(same_content(content_.substr(0, got.size()), got));
	const ShellResult r = cat_to("/dev/null", "file");
	EXPECT_EQ(1, r.status);
	EXPECT_NE(std::string::npos, r.text.find("sfdcat: no daemon 'test' in ")) << r.text;
}

} // namespace
