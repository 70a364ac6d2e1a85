// SPDX-License-Identifier: BSD-2-Clause
// What other programs compile and link against: the public header, and what the shared library exports.
#include "test/support/files.h"
#include "test/support/run.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <unistd.h>
#include <vector>

namespace
{

namespace fs = std::filesystem;

const std::string source = SOURCE_DIR;
const std::string header = source + "/include/sendfiled/sendfiled.h";
const std::string library = BUILD_DIR "/libsendfiled.so.1";

class Headers : public testing::Test
{
      protected:
	void SetUp() override
	{
		char path[] = "/tmp/sfd-header.XXXXXX";

		ASSERT_NE(nullptr, mkdtemp(path));
		dir_ = path;
		alarm(120);
	}
	void TearDown() override
	{
		alarm(0);
		fs::remove_all(dir_);
	}

	// Compiles a file that has nothing but these lines.
	ShellResult compile(const std::string &compiler, const std::string &flags, const std::string &lines)
	{
		std::ofstream(dir_ + "/alone.c") << lines;
		return sh("cd " + dir_ + " && " + compiler + " " + flags + " -c alone.c -o alone.o");
	}

	std::string dir_;
};

const char pedantic[] = " -Wall -Wextra -Wpedantic -Werror -I" SOURCE_DIR "/include ";

// Twice, as it happens when other headers include it too; and one use, so that it is more than parsed.
const char public_use[] = "#include <sendfiled/sendfiled.h>\n"
			  "#include <sendfiled/sendfiled.h>\n"
			  "int use(int srv, const void *frame);\n"
			  "int use(int srv, const void *frame)\n"
			  "{\n"
			  "\tstruct sfd_file_info info;\n"
			  "\tstruct sfd_xfer_stat stat;\n"
			  "\tif (!sfd_unmarshal_file_info(&info, frame) || !sfd_unmarshal_xfer_stat(&stat, frame))\n"
			  "\t\treturn sfd_get_cmd(frame) == SFD_FILE_INFO ? info.stat : SFD_STAT_CHANGED;\n"
			  "\treturn sfd_xfer_complete(&stat) && sfd_send(srv, \"f\", 1, 0, 0, true) >= 0;\n"
			  "}\n";

TEST_F(Headers, ThePublicOneInEveryLanguageThatItPromises)
{
	const struct {
		const char *compiler, *language;
	} cases[] = {
		{TEST_CC, "-x c -std=c99"},
		{TEST_CC, "-x c -std=c11"},
		{TEST_CC, "-x c -std=gnu17"},
		{TEST_CXX, "-x c++ -std=c++11"},
		{TEST_CXX, "-x c++ -std=c++17"},
		{TEST_CXX, "-x c++ -std=c++20"},
	};

	for (const auto &c : cases) {
		const ShellResult o = compile(c.compiler, std::string(c.language) + pedantic, public_use);

		EXPECT_EQ(0, o.status) << c.compiler << " " << c.language << ":\n" << o.text;
	}
}

// The check can fail: what is wrong in a header is found in this way.
TEST_F(Headers, AMistakeIsFound)
{
	EXPECT_NE(0, compile(TEST_CC, std::string("-x c -std=c99") + pedantic, "struct s { int x; };;\n").status);
	EXPECT_NE(0, compile(TEST_CC, std::string("-x c -std=c99") + pedantic, "uint32_t x;\n").status);
}

TEST_F(Headers, The32BitSystemsAreRefused)
{
	const ShellResult o = compile(TEST_CC, std::string("-x c -std=c99 -m32") + pedantic, public_use);
	const ShellResult works =
		compile(TEST_CC, "-x c -m32", "#include <stddef.h>\n#include <sys/types.h>\nint x;\n");

	if (works.status != 0)
		GTEST_SKIP() << "this compiler has no 32-bit headers";
	EXPECT_NE(0, o.status);
	EXPECT_NE(std::string::npos, o.text.find("sfd_needs_64_bit")) << o.text;
}

// Each has what it needs, so that no order of includes matters.
TEST_F(Headers, OursAlone)
{
	int count = 0;

	for (const char *dir : {"/lib", "/server", "/server/os"}) {
		for (const auto &e : fs::directory_iterator(source + dir)) {
			if (e.path().extension() != ".h")
				continue;
			const std::string name = fs::relative(e.path(), source);
			const ShellResult o = compile(TEST_CC,
				"-x c -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Werror -I" + source + "/include -I" +
					source,
				"#include \"" + name + "\"\n#include \"" + name + "\"\n");

			EXPECT_EQ(0, o.status) << name << ":\n" << o.text;
			count++;
		}
	}
	EXPECT_GT(count, 15);
}

// ---- The shared library

bool is_name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

// The functions that the header declares: outside comments, sfd_NAME followed by a parenthesis.
std::set<std::string> declared()
{
	std::string text = read_whole(header);
	std::set<std::string> out;
	size_t at;

	while ((at = text.find("/*")) != std::string::npos)
		text.erase(at, text.find("*/", at) + 2 - at);
	for (at = 0; (at = text.find("sfd_", at)) != std::string::npos;) {
		const size_t begin = at;

		while (is_name_char(text[at]))
			at++;
		if (text[at] == '(' && (begin == 0 || !is_name_char(text[begin - 1])))
			out.insert(text.substr(begin, at - begin));
	}
	return out;
}

std::set<std::string> exported()
{
	const ShellResult o = sh("nm -D --defined-only " + library);
	std::istringstream in(o.text);
	std::string line, address, type, name;
	std::set<std::string> out;

	EXPECT_EQ(0, o.status) << o.text;
	while (std::getline(in, line)) {
		std::istringstream words(line);

		words >> address >> type >> name;
		if (type == "A")
			continue; /* the name of the version itself */
		EXPECT_EQ("T", type) << name << ": functions only";
		out.insert(name.substr(0, name.find('@')));
	}
	return out;
}

TEST(SharedLibrary, TheHeaderIsUnderstoodByThisTest)
{
	const std::set<std::string> d = declared();

	EXPECT_GE(d.size(), 16u);
	for (const char *name : {"sfd_send", "sfd_get_cmd", "sfd_spawn", "sfd_xfer_complete", "sfd_version"})
		EXPECT_EQ(1u, d.count(name)) << name;
}

TEST(SharedLibrary, ExportsExactlyWhatTheHeaderDeclares)
{
	EXPECT_EQ(declared(), exported());
}

TEST(SharedLibrary, ExportsNothingElse)
{
	for (const std::string &name : exported())
		EXPECT_EQ(0u, name.find("sfd_")) << name;
}

TEST(SharedLibrary, SymbolsHaveAVersion)
{
	const ShellResult o = sh("nm -D --with-symbol-versions --defined-only " + library);

	EXPECT_NE(std::string::npos, o.text.find("sfd_send@@SENDFILED_1")) << o.text;
}

// Lines such as "0x... (NEEDED)  Shared library: [libc.so.6]": what the brackets hold.
std::vector<std::string> dynamic_entries(const std::string &tag)
{
	const ShellResult o = sh("readelf -dW " + library);
	std::istringstream in(o.text);
	std::vector<std::string> out;
	std::string line;

	EXPECT_EQ(0, o.status) << o.text;
	while (std::getline(in, line)) {
		const size_t open = line.find('['), close = line.find(']');

		if (line.find("(" + tag + ")") != std::string::npos && open < close)
			out.push_back(line.substr(open + 1, close - open - 1));
	}
	return out;
}

TEST(SharedLibrary, HasItsName)
{
	EXPECT_EQ(std::vector<std::string>{"libsendfiled.so.1"}, dynamic_entries("SONAME"));
	EXPECT_EQ("libsendfiled.so.1", fs::read_symlink(BUILD_DIR "/libsendfiled.so"));
}

TEST(SharedLibrary, NeedsTheSystemsLibraryOnly)
{
#if defined(__SANITIZE_ADDRESS__)
	GTEST_SKIP() << "the sanitizer adds libraries of its own";
#endif
	EXPECT_EQ(std::vector<std::string>{"libc.so.6"}, dynamic_entries("NEEDED"));
}

// No global state: nothing that is written to after the start.
TEST(SharedLibrary, KeepsNoStateOfItsOwn)
{
	const ShellResult o = sh("nm --defined-only " BUILD_DIR "/libsendfiled.a");
	std::istringstream in(o.text);
	std::string line, address, type, name;
	int functions = 0;

#if defined(__SANITIZE_ADDRESS__)
	GTEST_SKIP() << "the sanitizer adds variables of its own";
#endif
	ASSERT_EQ(0, o.status) << o.text;
	while (std::getline(in, line)) {
		std::istringstream words(line);

		if (!(words >> address >> type >> name))
			continue;
		functions += type == "T";
		EXPECT_EQ(std::string::npos, std::string("bBdDcCsS").find(type)) << "a variable: " << name;
	}
	EXPECT_GT(functions, 15);
}

} // namespace
