// SPDX-License-Identifier: BSD-2-Clause
// The programs in examples/, and the one in README.md, do what they say when they are run as they say.
#include "test/support/fixture.h"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <fstream>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <sstream>
#include <string>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

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

// ---- A program that knows nothing of us

#if defined(__SANITIZE_ADDRESS__)
constexpr bool instrumented = true;
#else
constexpr bool instrumented = false;
#endif

class Preload : public SfdTest
{
      protected:
	// What busybox's web server answers on a connection, its sendfile(2) being ours.
	std::string ask(const std::string &request)
	{
		Ends tcp = make_tcp_pair();
		const pid_t child = fork();
		std::string answer, buf(65536, '\0');
		int status = -1;
		ssize_t n;

		if (child == 0) {
			dup2(tcp.out, STDIN_FILENO);
			dup2(tcp.out, STDOUT_FILENO);
			setenv("SFD_PRELOAD", (daemon().socket_dir() + "/test").c_str(), 1);
			setenv("LD_PRELOAD", BUILD_DIR "/examples/preload.so", 1);
			execlp("busybox", "busybox", "httpd", "-i", "-h", (dir() + "/www").c_str(), nullptr);
			_exit(127);
		}
		tcp.out.reset();
		EXPECT_EQ(static_cast<ssize_t>(request.size()), write(tcp.in, request.data(), request.size()));
		while (await(tcp.in, POLLIN) != 0 && (n = read(tcp.in, buf.data(), buf.size())) > 0)
			answer.append(buf, 0, static_cast<size_t>(n));
		EXPECT_TRUE(await_exit(child, &status));
		EXPECT_NE(127, WEXITSTATUS(status)) << "no busybox: 'make deps' installs it";
		return answer.substr(std::min(answer.find("\r\n\r\n"), answer.size() - 4) + 4);
	}
};

TEST_F(Preload, AWebServerSendsThroughTheDaemon)
{
	if (instrumented)
		GTEST_SKIP() << "an instrumented library cannot be preloaded";
	start();
	ASSERT_EQ(0, mkdir((dir() + "/www").c_str(), 0755));
	const std::string content = make_content(3000000);
	write_whole(dir() + "/www/file", content);
	const std::string get = "GET /file HTTP/1.0\r\n", range = "Range: bytes=1000-2999\r\n", end = "\r\n";
	const uint64_t before = counters()["bytes"];

	EXPECT_TRUE(same_content(content, ask(get + end)));
	EXPECT_TRUE(same_content(content.substr(1000, 2000), ask(get + range + end)));
	EXPECT_EQ(before + content.size() + 2000, counters()["bytes"]) << "it did not go through the daemon";
	expect_idle();
	/* Without one the system does it. */
	stop(SIGTERM, 0);
	EXPECT_TRUE(same_content(content, ask(get + end)));
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

// The blocks of libsendfiled(3) that are programs, or parts of one.
std::vector<std::string> manual_programs()
{
	std::ifstream in(SOURCE_DIR "/doc/libsendfiled.3");
	std::vector<std::string> out;
	std::string line, block;
	bool inside = false;

	while (std::getline(in, line)) {
		if (line == ".Ed" && block.rfind("#include <sendfiled", 0) == 0)
			out.push_back(block);
		if (line == ".Bd -literal" || line == ".Ed") {
			inside = line != ".Ed";
			block.clear();
			continue;
		}
		for (size_t at; (at = line.find("\\e")) != std::string::npos;)
			line.replace(at, 2, "\\");
		if (inside)
			block += line + "\n";
	}
	return out;
}

class Manual : public ExamplesTest
{
      protected:
	void build(const std::string &program)
	{
		const std::string source = dir() + "/example.c";

		write_whole(source, program);
		const Output compiled =
			run(std::string(TEST_CC) + " -Wall -Wextra -Werror -I" SOURCE_DIR "/include " + SANITIZE_FLAGS +
				" " + source + " " BUILD_DIR "/libsendfiled.a -o " + dir() + "/example 2>&1");
		ASSERT_EQ(0, compiled.status) << compiled.text;
	}
};

TEST_F(Manual, AFileToStandardOutput)
{
	const std::vector<std::string> programs = manual_programs();

	ASSERT_EQ(2U, programs.size());
	ASSERT_NO_FATAL_FAILURE(build(programs[0]));
	start();
	const std::string content = add_file("file", 300000);
	const std::string call = dir() + "/example " + daemon().socket_dir() + " test ";
	const Output out = run(call + "file 2>" + dir() + "/stderr");
	EXPECT_EQ(0, out.status) << complaint();
	EXPECT_TRUE(same_content(content, out.text));
	EXPECT_NE(0, run(call + "missing 2>" + dir() + "/stderr").status);
	EXPECT_NE(std::string::npos, complaint().find("missing: No such file or directory")) << complaint();
	expect_idle();
}

// With what a server around it would do: it knows the file from an open, and asks for a part of it. With a fourth argument
// it has the file changed in between.
const char around_206[] = R"(
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char *argv[])
{
	struct sfd_queue *q = sfd_queue_new(sfd_connect(argv[1], "test"), 8);
	struct sfd_file_info known = {0};
	struct sfd_event e;

	if (argc < 3 || !q || sfd_queue_open(q, argv[2], 0, 0, NULL, 1) < 0)
		return 2;
	while (sfd_queue_wait(q, &e, 1, -1) == 1 && e.type != SFD_EV_INFO)
		;
	known = e.info;
	sfd_queue_cancel(q, 1);
	if (argc > 3 && system(argv[3]) != 0)
		return 3;
	if (send_206(q, argv[2], STDOUT_FILENO, &known, 1000, 500, 2) < 0)
		return 4;
	while (sfd_queue_wait(q, &e, 1, -1) == 1 && (e.user_data != 2 || e.type != SFD_EV_DONE))
		;
	sfd_queue_free(q);
	return e.stat == SFD_STAT_CHANGED ? 5 : e.stat != SFD_STAT_OK;
}
)";

TEST_F(Manual, APartOfAFileOverHttp)
{
	const std::vector<std::string> programs = manual_programs();
	struct stat st = {};
	char etag[100];

	ASSERT_EQ(2U, programs.size());
	ASSERT_NO_FATAL_FAILURE(build(programs[1] + around_206));
	start();
	const std::string content = add_file("file", 300000);
	const std::string call = dir() + "/example " + daemon().socket_dir() + " file";
	ASSERT_EQ(0, stat(in_root("file").c_str(), &st));
	snprintf(etag, sizeof etag, "ETag: \"%llx-%llx-%llx.%09lu\"\r\n", static_cast<unsigned long long>(st.st_dev),
		static_cast<unsigned long long>(st.st_ino), static_cast<unsigned long long>(st.st_mtim.tv_sec),
		static_cast<unsigned long>(st.st_mtim.tv_nsec));
	const Output out = run(call);
	EXPECT_EQ(0, WEXITSTATUS(out.status));
	EXPECT_EQ("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1000-1499/300000\r\nContent-Length: 500\r\n" +
			  std::string(etag) + "\r\n" + content.substr(1000, 500),
		out.text);
	/* Changed since: not a byte of the answer. */
	const Output changed = run(call + " 'chmod 604 " + in_root("file") + "'");
	EXPECT_EQ(5, WEXITSTATUS(changed.status));
	EXPECT_EQ("", changed.text);
	expect_idle();
}

// Pieces of C that say where they are from: file and text.
std::vector<std::pair<std::string, std::string>> quotations(const std::string &file)
{
	const std::string fence = "```", mark = "```c ";
	std::vector<std::pair<std::string, std::string>> found;
	std::ifstream in(file);
	std::string line;
	bool inside = false;

	while (std::getline(in, line)) {
		if (inside && line == fence)
			inside = false;
		else if (inside)
			found.back().second += line + "\n";
		else if (line.compare(0, mark.size(), mark) == 0) {
			found.emplace_back(line.substr(mark.size()), "");
			inside = true;
		}
	}
	return found;
}

TEST_F(ExamplesTest, TheTutorialQuotesThem)
{
	const auto all = quotations(SOURCE_DIR "/doc/tutorial.md");

	EXPECT_LT(5U, all.size());
	for (const auto &[file, text] : all)
		EXPECT_NE(std::string::npos, read_whole(SOURCE_DIR "/" + file).find(text)) << file << " has no\n"
											   << text;
}

} // namespace
