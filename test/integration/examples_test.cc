// SPDX-License-Identifier: BSD-2-Clause
// The programs in examples/, and the one in README.md, do what they say when they are run as they say.
#include "test/support/fixture.h"

#include <algorithm>
#include <cstdio>
#include <fcntl.h>
#include <fstream>
#include <sendfiled/sendfiled.h>
#include <sstream>
#include <string>
#include <sys/wait.h>

namespace
{

struct Output {
	int status; // as of waitpid(2)
	std::string text;
};

// Runs a shell command; its standard output, and how it ended.
Output run(const std::string &command)
{
	Output out{-1, {}};
	char buf[65536];
	FILE *pipe = popen(command.c_str(), "re");

	if (!pipe)
		return out;
	while (const size_t n = fread(buf, 1, sizeof buf, pipe))
		out.text.append(buf, n);
	out.status = pclose(pipe);
	return out;
}

class ExamplesTest : public SfdTest
{
      protected:
	// The command line of an example on a file of the running daemon.
	std::string example(const std::string &program, const std::string &arguments)
	{
		return std::string(BUILD_DIR) + "/examples/" + program + " " + daemon().socket_dir() + " test " +
		       arguments + " 2>" + dir() + "/stderr";
	}

	std::string complaint() const
	{
		return read_whole(dir() + "/stderr");
	}
};

TEST_F(ExamplesTest, Queue)
{
	start();
	const std::string content = add_file("file", 300000);
	std::string names;

	for (int i = 0; i < 300; i++) /* more than the queue is deep */
		names += i == 7 ? "missing " : "file ";
	const Output o = run(example("queue", names));
	EXPECT_EQ(1, WEXITSTATUS(o.status)) << complaint();
	EXPECT_NE(std::string::npos, o.text.find("missing: No such file or directory, 0 bytes"));
	EXPECT_NE(std::string::npos, o.text.find("file: " + std::string(sfd_strstat(SFD_STAT_OK)) + ", 4096 bytes: "));
	EXPECT_EQ(300, std::count(o.text.begin(), o.text.end(), '\n'));
}

TEST_F(ExamplesTest, SendFile)
{
	start();
	const std::string content = add_file("file", 300000);

	const Output whole = run(example("send_file", "file"));
	EXPECT_EQ(0, whole.status) << complaint();
	EXPECT_TRUE(same_content(content, whole.text));

	const Output range = run(example("send_file", "file 1000 500"));
	EXPECT_EQ(0, range.status) << complaint();
	EXPECT_TRUE(same_content(content.substr(1000, 500), range.text));
	expect_idle();
}

TEST_F(ExamplesTest, ReadFile)
{
	start();
	const std::string content = add_file("file", 300000);
	const Output out = run(example("read_file", "file"));

	EXPECT_EQ(0, out.status) << complaint();
	EXPECT_TRUE(same_content(content, out.text));
	expect_idle();
}

TEST_F(ExamplesTest, HeadersThenFile)
{
	start();
	const std::string content = add_file("file", 70000);
	const Output out = run(example("headers_then_file", "file"));

	EXPECT_EQ(0, out.status) << complaint();
	const size_t end = out.text.find("\r\n\r\n");
	ASSERT_NE(std::string::npos, end) << out.text.substr(0, 200);
	EXPECT_NE(std::string::npos, out.text.substr(0, end).find("Content-Length: 70000"));
	EXPECT_TRUE(same_content(content, out.text.substr(end + 4)));
	expect_idle();
}

TEST_F(ExamplesTest, Cancel)
{
	start();
	add_file("file", 1000000);
	const Output out = run(example("cancel", "file"));

	EXPECT_EQ(0, out.status) << complaint();
	EXPECT_NE(std::string::npos, (out.text + complaint()).find("of 1000000 bytes were delivered")) << out.text;
	expect_idle();
}

TEST_F(ExamplesTest, EachFailsWithAMessage)
{
	start();
	for (const char *program : {"send_file", "read_file", "headers_then_file", "cancel"}) {
		SCOPED_TRACE(program);
		const Output out = run(example(program, "no-such-file"));

		EXPECT_TRUE(WIFEXITED(out.status) && WEXITSTATUS(out.status) != 0);
		EXPECT_NE(std::string::npos, complaint().find("No such file or directory")) << complaint();
	}
	expect_idle();
}

TEST_F(ExamplesTest, NoDaemon)
{
	for (const char *program : {"send_file", "read_file", "headers_then_file", "cancel"}) {
		SCOPED_TRACE(program);
		const Output out = run(std::string(BUILD_DIR) + "/examples/" + program + " " + dir() + " none file 2>" +
				       dir() + "/stderr");

		EXPECT_TRUE(WIFEXITED(out.status) && WEXITSTATUS(out.status) != 0);
		EXPECT_FALSE(complaint().empty());
	}
}

// The first block of C in README.md.
std::string readme_program()
{
	std::ifstream in(SOURCE_DIR "/README.md");
	std::string line, program;
	bool inside = false;

	while (std::getline(in, line)) {
		if (inside && line == "```")
			break;
		if (inside)
			program += line + "\n";
		if (line == "```c")
			inside = true;
	}
	return program;
}

TEST_F(ExamplesTest, Readme)
{
	const std::string source = dir() + "/example.c", binary = dir() + "/example";

	write_whole(source, readme_program());
	const Output compiled =
		run(std::string(TEST_CC) + " -Wall -Wextra -Werror -I" SOURCE_DIR "/include " + SANITIZE_FLAGS + " " +
			source + " " BUILD_DIR "/libsendfiled.a -o " + binary + " 2>&1");
	ASSERT_EQ(0, compiled.status) << compiled.text;

	const Output out = run("SFD_DAEMON=" BUILD_DIR "/sendfiled " + binary + " 2>" + dir() + "/stderr");
	EXPECT_EQ(0, out.status) << complaint();
	EXPECT_TRUE(same_content(read_whole("/etc/passwd"), out.text));
	// Its daemon leaves with it; the socket's going is the last thing seen of it.
	EXPECT_TRUE(eventually([] { return access("/tmp/sendfiled.readme.lock", F_OK) != 0; }));
}

} // namespace
