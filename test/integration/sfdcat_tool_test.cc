// SPDX-License-Identifier: BSD-2-Clause
// sfdcat is cat, whatever standard output is, and says the same of what it cannot read.
#include "test/support/beside.h"
#include "test/support/bounded.h"
#include "test/support/run.h"

#include <fcntl.h>
#include <sys/stat.h>

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
	EXPECT_EQ(2, shell("cat --frobnicate file").status);
	EXPECT_EQ(2, shell("cat --range 9-1 file").status);
	EXPECT_EQ(2, shell("cat --limit-rate fast file").status);
	const ShellResult same = shell("cp file out; cat out >>out");
	EXPECT_EQ(1, same.status);
	EXPECT_NE(std::string::npos, same.text.find("input file is output file")) << same.text;
	const ShellResult missing = shell("cat -s no-such-daemon -S . file");
	EXPECT_EQ(1, missing.status);
	EXPECT_NE("", missing.text);
}

TEST_F(Sfdcat, StatJsonAndHot)
{
	const ShellResult stat = shell("cat --stat file 2>/dev/null");
	EXPECT_EQ(0U, stat.text.find("file: 300000 bytes, ")) << stat.text;
	const ShellResult json = shell("cat --json file 2>&1 >/dev/null | grep '^{'");
	EXPECT_NE(std::string::npos, json.text.find("\"bytes\":300000")) << json.text;
	EXPECT_NE(std::string::npos, json.text.find("\"status\":0")) << json.text;
	const ShellResult hot = shell("cat --is-hot file");
	EXPECT_TRUE(hot.status == 0 || hot.status == 1) << hot.text; /* overlayfs does not tell */
	EXPECT_EQ(1, shell("cat --is-hot missing").status);
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
	Beside cat({BUILD_DIR "/examples/sfdcat", path("text"), path("text")},
		{"SFD_DAEMON=" BUILD_DIR "/sendfiled", "TMPDIR=" + path("")});

	EXPECT_FALSE(cat.await_text("xxx", 30s).empty());
	const int status = cat.end(SIGINT);
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT) << status;
	EXPECT_EQ("file\ntext\n", shell("ls").text) << "its daemon's directory is left";
}

} // namespace
