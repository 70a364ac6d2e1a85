// SPDX-License-Identifier: BSD-2-Clause
// make install and make uninstall: what a package is made of, and that programs can be built with it.
#include "test/support/files.h"
#include "test/support/run.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace
{

namespace fs = std::filesystem;

std::vector<std::string> functions()
{
	std::ifstream in(SOURCE_DIR "/lib/sendfiled.map");
	std::vector<std::string> out;
	std::string word;

	while (in >> word) {
		if (word.compare(0, 4, "sfd_") == 0)
			out.push_back(word.substr(0, word.size() - 1));
	}
	return out;
}

// Everything is installed once, by a build of its own: another PREFIX is compiled in, and the one under test must not
// change while its tests run.
class Install : public testing::Test
{
      protected:
	static void SetUpTestSuite()
	{
		char path[] = "/tmp/sfd-install.XXXXXX";

		alarm(300);
		ASSERT_NE(nullptr, mkdtemp(path));
		dir_ = path;
		dest_ = dir_ + "/dest";
		/* What is asked for of the make that runs us is no business of this one. */
		for (const char *name : {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "DEBUG", "SANITIZE"})
			unsetenv(name);
		installed_ = make("install");
	}
	static void TearDownTestSuite()
	{
		alarm(0);
		fs::remove_all(dir_);
	}
	void SetUp() override
	{
		ASSERT_EQ(0, installed_.status) << installed_.text;
	}

	static ShellResult make(const std::string &target)
	{
		return sh("umask 077; cd " SOURCE_DIR " && make -j2 CC='" TEST_CC "' CXX='" TEST_CXX "' BUILD=" + dir_ +
			  "/build DESTDIR=" + dest_ + " PREFIX=/usr " + target);
	}

	// pkg-config as a cross build would call it: everything below dest_.
	static ShellResult pkg_config(const std::string &args)
	{
		return sh("PKG_CONFIG_LIBDIR=" + dest_ + "/usr/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=" + dest_ +
			  " PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 PKG_CONFIG_ALLOW_SYSTEM_LIBS=1 pkg-config " + args);
	}

	static std::set<std::string> files()
	{
		std::set<std::string> out;

		for (const auto &e : fs::recursive_directory_iterator(dest_)) {
			if (e.is_symlink() || !e.is_directory())
				out.insert("/" + e.path().lexically_relative(dest_).string());
		}
		return out;
	}

	static void expect_file(const std::string &path, unsigned mode)
	{
		struct stat st;

		ASSERT_EQ(0, lstat((dest_ + path).c_str(), &st)) << path;
		EXPECT_TRUE(S_ISREG(st.st_mode)) << path;
		EXPECT_EQ(mode, st.st_mode & 07777) << path;
		EXPECT_GT(st.st_size, 0) << path;
	}

	// Builds a program against the installed tree and returns what it prints.
	static ShellResult build_and_run(const std::string &flags, const std::string &run)
	{
		const ShellResult p = pkg_config("--cflags --libs sendfiled");
		std::string options = p.text;

		if (p.status != 0)
			return p;
		for (char &c : options)
			c = c == '\n' ? ' ' : c;
		std::ofstream(dir_ + "/program.c") << "#include <sendfiled/sendfiled.h>\n"
						      "#include <stdio.h>\n"
						      "int main(void)\n"
						      "{\n"
						      "\tputs(sfd_version());\n"
						      "\treturn sfd_connect(\"/nonexistent\", \"x\") != -1;\n"
						      "}\n";
		return sh(
			"cd " + dir_ + " && " TEST_CC " program.c -o program " + flags + " " + options + " && " + run);
	}

	static std::string dir_, dest_;
	static ShellResult installed_;
};

std::string Install::dir_, Install::dest_;
ShellResult Install::installed_;

TEST_F(Install, PutsEveryFileInItsPlace)
{
	std::set<std::string> want = {"/usr/sbin/sendfiled", "/usr/lib/libsendfiled.so.1", "/usr/lib/libsendfiled.so",
		"/usr/lib/libsendfiled.a", "/usr/lib/pkgconfig/sendfiled.pc", "/usr/include/sendfiled/sendfiled.h",
		"/usr/share/man/man8/sendfiled.8", "/usr/share/man/man7/sendfiled-protocol.7",
		"/usr/share/man/man3/libsendfiled.3"};

	for (const std::string &name : functions())
		want.insert("/usr/share/man/man3/" + name + ".3");
	EXPECT_EQ(want, files());
}

// The umask of whoever installs must not decide who can use it; and nothing is set-user-ID.
TEST_F(Install, Modes)
{
	expect_file("/usr/sbin/sendfiled", 0755);
	expect_file("/usr/lib/libsendfiled.so.1", 0755);
	expect_file("/usr/lib/libsendfiled.a", 0644);
	expect_file("/usr/include/sendfiled/sendfiled.h", 0644);
	expect_file("/usr/lib/pkgconfig/sendfiled.pc", 0644);
	expect_file("/usr/share/man/man8/sendfiled.8", 0644);
	expect_file("/usr/share/man/man7/sendfiled-protocol.7", 0644);
	expect_file("/usr/share/man/man3/libsendfiled.3", 0644);
	for (const std::string &name : functions())
		expect_file("/usr/share/man/man3/" + name + ".3", 0644);
	for (const char *dir : {"/usr/sbin", "/usr/lib/pkgconfig", "/usr/include/sendfiled", "/usr/share/man/man3"}) {
		struct stat st;

		ASSERT_EQ(0, stat((dest_ + dir).c_str(), &st)) << dir;
		EXPECT_EQ(0755u, st.st_mode & 07777) << dir;
	}
}

TEST_F(Install, TheLinkThatProgramsAreLinkedBy)
{
	EXPECT_EQ("libsendfiled.so.1", fs::read_symlink(dest_ + "/usr/lib/libsendfiled.so"));
}

TEST_F(Install, TheHeaderIsTheOneOfTheSources)
{
	EXPECT_EQ(read_whole(SOURCE_DIR "/include/sendfiled/sendfiled.h"),
		read_whole(dest_ + "/usr/include/sendfiled/sendfiled.h"));
}

TEST_F(Install, EveryFunctionHasAPage)
{
	ASSERT_GE(functions().size(), 16u);
	for (const std::string &name : functions()) {
		const std::string page = read_whole(dest_ + "/usr/share/man/man3/" + name + ".3");

		EXPECT_NE(std::string::npos, page.find(".so man3/libsendfiled.3")) << name;
	}
	const std::string page = read_whole(dest_ + "/usr/share/man/man3/libsendfiled.3");
	for (const std::string &name : functions())
		EXPECT_NE(std::string::npos, page.find(name)) << "libsendfiled(3) does not mention " << name;
}

TEST_F(Install, TheInstalledDaemonRuns)
{
	const ShellResult o = sh(dest_ + "/usr/sbin/sendfiled --version");

	EXPECT_EQ(0, o.status);
	EXPECT_EQ("sendfiled " SFD_VERSION "\n", o.text);
}

// sfd_spawn() looks where the prefix says, not where DESTDIR put it.
TEST_F(Install, TheLibraryKnowsWhereTheDaemonIs)
{
	for (const char *lib : {"/usr/lib/libsendfiled.so.1", "/usr/lib/libsendfiled.a"}) {
		const std::string bytes = read_whole(dest_ + lib);

		EXPECT_NE(std::string::npos, bytes.find(std::string("/usr/sbin/sendfiled\0", 20))) << lib;
		EXPECT_EQ(std::string::npos, bytes.find(dest_)) << lib;
	}
}

TEST_F(Install, PkgConfigFindsIt)
{
	const ShellResult version = pkg_config("--modversion sendfiled");
	const ShellResult flags = pkg_config("--cflags --libs sendfiled");

	EXPECT_EQ(0, version.status) << version.text;
	EXPECT_EQ(SFD_VERSION "\n", version.text);
	EXPECT_NE(std::string::npos, flags.text.find("-I" + dest_ + "/usr/include")) << flags.text;
	EXPECT_NE(std::string::npos, flags.text.find("-L" + dest_ + "/usr/lib")) << flags.text;
	EXPECT_NE(std::string::npos, flags.text.find("-lsendfiled")) << flags.text;
	EXPECT_EQ(0, pkg_config("--validate sendfiled").status);
}

TEST_F(Install, AProgramLinksWithTheSharedLibrary)
{
	const ShellResult o = build_and_run("", "LD_LIBRARY_PATH=" + dest_ + "/usr/lib ./program");

	EXPECT_EQ(0, o.status) << o.text;
	EXPECT_EQ(SFD_VERSION "\n", o.text);
	EXPECT_NE(std::string::npos, sh("readelf -dW " + dir_ + "/program").text.find("[libsendfiled.so.1]"));
}

TEST_F(Install, AProgramLinksWithTheStaticLibrary)
{
	const ShellResult o = build_and_run("-static", "./program");

	EXPECT_EQ(0, o.status) << o.text;
	EXPECT_EQ(SFD_VERSION "\n", o.text);
}

// In a tree of its own, so that the order of the tests does not matter.
TEST_F(Install, UninstallRemovesEveryFileAgain)
{
	const std::string keep = dest_;
	ShellResult o;

	dest_ = dir_ + "/second";
	o = make("install");
	EXPECT_EQ(0, o.status) << o.text;
	EXPECT_GT(files().size(), 20u);
	std::ofstream(dest_ + "/usr/lib/somebody-elses") << "x";
	std::ofstream(dest_ + "/usr/share/man/man3/somebody-elses.3") << "x";
	o = make("uninstall");
	EXPECT_EQ(0, o.status) << o.text;
	EXPECT_EQ((std::set<std::string>{"/usr/lib/somebody-elses", "/usr/share/man/man3/somebody-elses.3"}), files());
	EXPECT_FALSE(fs::exists(dest_ + "/usr/include/sendfiled")) << "the directory was ours alone";
	o = make("uninstall");
	EXPECT_EQ(0, o.status) << "twice is harmless: " << o.text;
	dest_ = keep;
}

} // namespace
