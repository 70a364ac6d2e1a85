// SPDX-License-Identifier: BSD-2-Clause
// The daemon's command line: every option, every default, and what is said of every mistake.
extern "C" {
#include "server/options.h"
}

#include <gtest/gtest.h>

#include <climits>
#include <cstring>
#include <initializer_list>
#include <string>
#include <vector>

namespace
{

// A command line and what became of it. The strings live as long as this does: the options point to
// them.
class Parse
{
      public:
	Parse(std::initializer_list<const char *> args)
	{
		strings_.emplace_back("sendfiled");
		strings_.insert(strings_.end(), args.begin(), args.end());
		for (auto &s : strings_)
			argv_.push_back(&s[0]);
		argv_.push_back(nullptr);
		memset(&o, 0xff, sizeof o); /* nothing may be left as it was */
		error[0] = '\0';
		result = options_parse(&o, static_cast<int>(strings_.size()), argv_.data(), error, sizeof error);
	}

	options o;
	char error[512];
	int result;

      private:
	std::vector<std::string> strings_;
	std::vector<char *> argv_;
};

bool is_one_line(const char *text)
{
	return *text != '\0' && !strchr(text, '\n');
}

bool mentions(const Parse &p, const char *what)
{
	return strstr(p.error, what) != nullptr;
}

// ---- What is understood

TEST(Options, Defaults)
{
	Parse p{"-s", "web", "-r", "/srv"};

	ASSERT_EQ(0, p.result) << p.error;
	EXPECT_EQ(ACTION_SERVE, p.o.action);
	EXPECT_STREQ("web", p.o.name);
	EXPECT_STREQ("/srv", p.o.root);
	EXPECT_EQ(nullptr, p.o.socket_dir);
	EXPECT_EQ(nullptr, p.o.user);
	EXPECT_EQ(nullptr, p.o.group);
	EXPECT_EQ(10000u, p.o.max_transfers);
	EXPECT_EQ(30000u, p.o.open_timeout_ms);
	EXPECT_EQ(0u, p.o.workers);
	EXPECT_EQ(16u, p.o.readers);
	EXPECT_EQ(4u, p.o.readers_per_device);
	EXPECT_EQ(60000u, p.o.io_timeout_ms);
	EXPECT_EQ(60000u, p.o.idle_timeout_ms);
	EXPECT_EQ(1024u, p.o.max_readahead);
	EXPECT_EQ(0600u, p.o.socket_mode);
	EXPECT_EQ(nullptr, p.o.socket_user);
	EXPECT_EQ(nullptr, p.o.socket_group);
	EXPECT_EQ(0u, p.o.allow_users.count);
	EXPECT_EQ(0u, p.o.allow_groups.count);
	EXPECT_FALSE(p.o.allow_foreign_pidns);
	EXPECT_FALSE(p.o.shared_ids);
	EXPECT_FALSE(p.o.no_symlinks);
	EXPECT_FALSE(p.o.one_file_system);
	EXPECT_FALSE(p.o.daemonize);
	EXPECT_FALSE(p.o.sync_parent);
	EXPECT_EQ(-1, p.o.ready_fd);
}

void expect_all(const Parse &p)
{
	ASSERT_EQ(0, p.result) << p.error;
	EXPECT_EQ(ACTION_SERVE, p.o.action);
	EXPECT_STREQ("web", p.o.name);
	EXPECT_STREQ("/srv", p.o.root);
	EXPECT_STREQ("/tmp/sock", p.o.socket_dir);
	EXPECT_STREQ("user", p.o.user);
	EXPECT_STREQ("group", p.o.group);
	EXPECT_EQ(7u, p.o.max_transfers);
	EXPECT_EQ(250u, p.o.open_timeout_ms);
	EXPECT_EQ(3u, p.o.workers);
	EXPECT_EQ(5u, p.o.readers);
	EXPECT_EQ(2u, p.o.readers_per_device);
	EXPECT_EQ(1500u, p.o.io_timeout_ms);
	EXPECT_TRUE(p.o.daemonize);
	EXPECT_TRUE(p.o.sync_parent);
	EXPECT_EQ(-1, p.o.ready_fd);
}

TEST(Options, EveryShortOption)
{
	expect_all(Parse{"-s", "web", "-r", "/srv", "-S", "/tmp/sock", "-n", "7", "-t", "250", "-u", "user", "-g",
		"group", "-d", "-p", "--workers", "3", "--readers", "5", "--readers-per-device", "2", "--io-timeout",
		"1500"});
}

TEST(Options, ShortOptionsRunTogether)
{
	expect_all(Parse{"-dpsweb", "-r/srv", "-S/tmp/sock", "-n7", "-t250", "-uuser", "-ggroup", "--workers=3",
		"--readers=5", "--readers-per-device=2", "--io-timeout=1500"});
}

TEST(Options, EveryLongOption)
{
	expect_all(Parse{"--name", "web", "--root", "/srv", "--socket-dir", "/tmp/sock", "--max-transfers", "7",
		"--open-timeout", "250", "--user", "user", "--group", "group", "--daemonize", "--sync-parent",
		"--workers", "3", "--readers", "5", "--readers-per-device", "2", "--io-timeout", "1500"});
	expect_all(Parse{"--name=web", "--root=/srv", "--socket-dir=/tmp/sock", "--max-transfers=7",
		"--open-timeout=250", "--user=user", "--group=group", "--daemonize", "--sync-parent", "--workers=3",
		"--readers=5", "--readers-per-device=2", "--io-timeout=1500"});
}

TEST(Options, ReadyFd)
{
	Parse p{"-s", "web", "-r", "/srv", "--ready-fd=3"};

	ASSERT_EQ(0, p.result) << p.error;
	EXPECT_EQ(3, p.o.ready_fd);
}

TEST(Options, Actions)
{
	EXPECT_EQ(ACTION_PING, (Parse{"-s", "web", "--ping"}.o.action));
	EXPECT_EQ(0, (Parse{"-s", "web", "--ping"}.result)) << "needs no root directory";
	EXPECT_EQ(0, (Parse{"--ping", "-s", "web", "-S", "/tmp"}.result));
	EXPECT_EQ(ACTION_HELP, Parse{"--help"}.o.action);
	EXPECT_EQ(0, Parse{"--help"}.result);
	EXPECT_EQ(ACTION_VERSION, Parse{"--version"}.o.action);
	EXPECT_EQ(0, Parse{"--version"}.result);
	EXPECT_EQ(0, (Parse{"-s", "web", "--help"}.result));
}

TEST(Options, TheLastOneCounts)
{
	Parse p{"-s", "a", "-s", "b", "-r", "/1", "--root=/2", "-n", "1", "-n", "2"};

	ASSERT_EQ(0, p.result);
	EXPECT_STREQ("b", p.o.name);
	EXPECT_STREQ("/2", p.o.root);
	EXPECT_EQ(2u, p.o.max_transfers);
}

TEST(Options, AValueMayLookLikeAnOption)
{
	Parse p{"-s", "-r", "-r", "--root"};

	ASSERT_EQ(0, p.result) << p.error;
	EXPECT_STREQ("-r", p.o.name);
	EXPECT_STREQ("--root", p.o.root);
}

TEST(Options, TheEdgesOfEveryNumber)
{
	const struct {
		const char *option, *value;
		unsigned options::*member;
		unsigned want;
	} cases[] = {
		{"-n", "1", &options::max_transfers, 1},
		{"-n", "1000000", &options::max_transfers, 1000000},
		{"-n", "007", &options::max_transfers, 7},
		{"-t", "1", &options::open_timeout_ms, 1},
		{"-t", "2147483647", &options::open_timeout_ms, INT_MAX},
		{"--workers", "1", &options::workers, 1},
		{"--workers", "64", &options::workers, 64},
		{"--readers", "1", &options::readers, 1},
		{"--readers", "64", &options::readers, 64},
		{"--readers-per-device", "1", &options::readers_per_device, 1},
		{"--readers-per-device", "64", &options::readers_per_device, 64},
		{"--io-timeout", "0", &options::io_timeout_ms, 0},
		{"--io-timeout", "00", &options::io_timeout_ms, 0},
		{"--io-timeout", "1", &options::io_timeout_ms, 1},
		{"--io-timeout", "2147483647", &options::io_timeout_ms, INT_MAX},
		{"--idle-timeout", "0", &options::idle_timeout_ms, 0},
		{"--idle-timeout", "2147483647", &options::idle_timeout_ms, INT_MAX},
		{"--max-readahead", "0", &options::max_readahead, 0},
		{"--max-readahead", "1048576", &options::max_readahead, 1048576},
	};

	for (const auto &c : cases) {
		Parse p{"-s", "web", "-r", "/srv", c.option, c.value};

		EXPECT_EQ(0, p.result) << c.option << " " << c.value << ": " << p.error;
		EXPECT_EQ(c.want, p.o.*c.member) << c.option << " " << c.value;
	}
}

TEST(Options, RatesAreLargeNumbers)
{
	const struct {
		const char *value;
		uint64_t want;
	} cases[] = {{"0", 0}, {"1", 1}, {"5000000000", 5000000000}, {"9223372036854775807", INT64_MAX}};

	EXPECT_EQ(0U, (Parse{"-s", "web", "-r", "/srv"}.o.max_rate_per_user));
	for (const auto &c : cases) {
		Parse p{"-s", "web", "-r", "/srv", "--max-rate-per-user", c.value};

		EXPECT_EQ(0, p.result) << p.error;
		EXPECT_EQ(c.want, p.o.max_rate_per_user);
	}
	for (const char *wrong : {"", "x", "-1", "1k", "9223372036854775808", "99999999999999999999"}) {
		Parse p{"-s", "web", "-r", "/srv", "--max-rate-per-user", wrong};

		EXPECT_EQ(-1, p.result) << wrong;
		EXPECT_TRUE(mentions(p, "--max-rate-per-user")) << p.error;
	}
}

// More for a device than there are altogether is no contradiction: the smaller number counts.
// ---- Who is served, and what

TEST(OptionsPolicy, Everything)
{
	Parse p{"-s", "n", "-r", "/", "--socket-mode", "0660", "--socket-user", "a", "--socket-group", "b",
		"--allow-user", "c", "--allow-group", "d", "--allow-user", "4", "--allow-foreign-pidns", "--shared-ids",
		"--no-symlinks", "--one-file-system"};

	ASSERT_EQ(0, p.result) << p.error;
	EXPECT_EQ(0660u, p.o.socket_mode);
	EXPECT_STREQ("a", p.o.socket_user);
	EXPECT_STREQ("b", p.o.socket_group);
	ASSERT_EQ(2u, p.o.allow_users.count);
	EXPECT_STREQ("c", p.o.allow_users.all[0]);
	EXPECT_STREQ("4", p.o.allow_users.all[1]);
	ASSERT_EQ(1u, p.o.allow_groups.count);
	EXPECT_STREQ("d", p.o.allow_groups.all[0]);
	EXPECT_TRUE(p.o.allow_foreign_pidns);
	EXPECT_TRUE(p.o.shared_ids);
	EXPECT_TRUE(p.o.no_symlinks);
	EXPECT_TRUE(p.o.one_file_system);
}

TEST(OptionsPolicy, ModesAreOctal)
{
	const struct {
		const char *text;
		unsigned mode;
	} good[] = {{"0", 0}, {"600", 0600}, {"0666", 0666}, {"777", 0777}, {"00000660", 0660}};

	for (const auto &g : good) {
		Parse p{"-s", "n", "-r", "/", "--socket-mode", g.text};

		ASSERT_EQ(0, p.result) << p.error;
		EXPECT_EQ(g.mode, p.o.socket_mode);
	}
	for (const char *bad :
		{"", "8", "0x1ff", "1000", "-1", "+600", " 600", "600 ", "u=rw", "99999999999999999999999"}) {
		Parse p{"-s", "n", "-r", "/", "--socket-mode", bad};

		EXPECT_EQ(-1, p.result) << bad;
		EXPECT_TRUE(mentions(p, "--socket-mode takes an octal number")) << p.error;
		EXPECT_TRUE(is_one_line(p.error));
	}
}

TEST(OptionsPolicy, NamesHaveALimit)
{
	for (const char *option : {"--allow-user", "--allow-group"}) {
		for (const int count : {256, 257}) {
			std::vector<std::string> strings = {"sendfiled", "-s", "n", "-r", "/"};
			std::vector<char *> argv;
			struct options o;
			char error[512] = "";

			for (int i = 0; i < count; i++)
				strings.insert(strings.end(), {option, "1"});
			for (std::string &s : strings)
				argv.push_back(&s[0]);
			argv.push_back(nullptr);
			const int result =
				options_parse(&o, static_cast<int>(strings.size()), argv.data(), error, sizeof error);
			EXPECT_EQ(count <= 256 ? 0 : -1, result);
			EXPECT_EQ(count > 256, strstr(error, option) != nullptr) << error;
		}
	}
}

TEST(Options, ReadersPerDeviceMayBeMoreThanReaders)
{
	Parse p{"-s", "web", "-r", "/srv", "--readers=1", "--readers-per-device=64"};

	EXPECT_EQ(0, p.result) << p.error;
	EXPECT_EQ(1u, p.o.readers);
	EXPECT_EQ(64u, p.o.readers_per_device);
}

// --readers is an option of its own, not only the beginning of another.
TEST(Options, ReadersIsNoAbbreviation)
{
	Parse p{"-s", "web", "-r", "/srv", "--readers", "7"};

	ASSERT_EQ(0, p.result) << p.error;
	EXPECT_EQ(7u, p.o.readers);
	EXPECT_EQ(4u, p.o.readers_per_device);
	EXPECT_EQ(-1, (Parse{"-s", "web", "-r", "/srv", "--reader", "7"}.result)) << "which of the two?";
}

// Each parse starts over, whatever the one before did, and how it ended.
TEST(Options, MayBeParsedAgainAndAgain)
{
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(-1, (Parse{"-dpx"}.result));
		EXPECT_EQ(0, (Parse{"-s", "web", "-r", "/srv", "-d"}.result));
		EXPECT_EQ(-1, (Parse{"-s", "web", "-r", "/srv", "-n"}.result));
		EXPECT_EQ(0, Parse{"--help"}.result);

		Parse p{"-s", "web", "-r", "/srv"};
		ASSERT_EQ(0, p.result) << p.error;
		EXPECT_EQ(ACTION_SERVE, p.o.action);
		EXPECT_FALSE(p.o.daemonize) << "of an earlier command line";
		EXPECT_EQ(10000u, p.o.max_transfers);
	}
}

// ---- What is not

void expect_error(const Parse &p, const char *names)
{
	EXPECT_EQ(-1, p.result);
	EXPECT_TRUE(mentions(p, names)) << "does not mention " << names << ": " << p.error;
	EXPECT_TRUE(is_one_line(p.error)) << p.error;
}

TEST(OptionErrors, NumbersThatAreNone)
{
	const struct {
		const char *option, *named;
		std::vector<const char *> wrong;
	} cases[] = {
		{"-n", "--max-transfers", {"0", "1000001"}},
		{"--max-transfers", "--max-transfers", {"0", "1000001"}},
		{"-t", "--open-timeout", {"0", "2147483648"}},
		{"--open-timeout", "--open-timeout", {"0", "2147483648"}},
		{"--idle-timeout", "--idle-timeout", {"2147483648"}},
		{"--max-readahead", "--max-readahead", {"1048577"}},
		{"--workers", "--workers", {"0", "65"}},
		{"--readers", "--readers ", {"0", "65"}},
		{"--readers-per-device", "--readers-per-device", {"0", "65"}},
		{"--io-timeout", "--io-timeout", {"2147483648"}},
		{"--ready-fd", "--ready-fd", {"0", "1", "2", "2147483648"}},
	};
	const char *const never[] = {"", " ", "x", "-1", "+5", " 5", "5 ", "5x", "0x10", "1e3", "5.0", "1,000", "--5",
		"4294967295", "4294967296", "4294967301", "18446744073709551615", "18446744073709551617",
		"99999999999999999999999999"};

	for (const auto &c : cases) {
		std::vector<const char *> wrong = c.wrong;

		wrong.insert(wrong.end(), std::begin(never), std::end(never));
		for (const char *value : wrong) {
			SCOPED_TRACE(std::string(c.option) + " '" + value + "'");
			Parse p{"-s", "web", "-r", "/srv", c.option, value};

			expect_error(p, c.named);
			expect_error(p, (std::string("'") + value + "'").c_str());
		}
	}
}

TEST(OptionErrors, NumbersSayTheirRange)
{
	Parse n{"-s", "web", "-r", "/srv", "-n", "0"}, workers{"-s", "web", "-r", "/srv", "--workers=65"};

	expect_error(n, "from 1 to 1000000");
	expect_error(workers, "from 1 to 64");
	expect_error(Parse{"-s", "web", "-r", "/srv", "--readers=65"}, "from 1 to 64");
	expect_error(Parse{"-s", "web", "-r", "/srv", "--readers-per-device=0"}, "from 1 to 64");
	expect_error(Parse{"-s", "web", "-r", "/srv", "--io-timeout=-1"}, "from 0 to 2147483647");
}

TEST(OptionErrors, AMissingValueNamesTheOption)
{
	for (const char *option : {"-s", "-r", "-S", "-n", "-t", "-u", "-g", "--name", "--root", "--socket-dir",
		     "--max-transfers", "--open-timeout", "--user", "--group", "--workers", "--readers",
		     "--readers-per-device", "--io-timeout", "--ready-fd"}) {
		SCOPED_TRACE(option);
		expect_error(Parse{option}, option);
		expect_error(Parse{"-s", "web", "-r", "/srv", option}, option);
	}
}

TEST(OptionErrors, AMissingValueAtTheEndOfAGroup)
{
	expect_error(Parse{"-s", "web", "-r", "/srv", "-dpn"}, "-dpn");
}

TEST(OptionErrors, AValueForAnOptionThatHasNone)
{
	for (const char *option : {"--daemonize=1", "--sync-parent=no", "--ping=x", "--help=me", "--version=2"}) {
		SCOPED_TRACE(option);
		expect_error(Parse{"-s", "web", "-r", "/srv", option}, option);
	}
}

TEST(OptionErrors, AnUnknownOptionIsNamed)
{
	for (const char *option :
		{"-x", "-?", "-:", "-+", "--nonsense", "--nonsense=1", "-dx", "--max-transfer5", "-1"}) {
		SCOPED_TRACE(option);
		expect_error(Parse{option}, option);
		expect_error(Parse{"-s", "web", "-r", "/srv", option}, option);
		expect_error(Parse{option, "-s", "web", "-r", "/srv"}, option);
	}
}

// --s could be --socket-dir or --sync-parent.
TEST(OptionErrors, AnAmbiguousOptionIsNamed)
{
	expect_error(Parse{"-s", "web", "-r", "/srv", "--s", "/tmp"}, "--s");
}

TEST(OptionErrors, ArgumentsAreNotOptions)
{
	expect_error(Parse{"-s", "web", "-r", "/srv", "extra"}, "'extra'");
	expect_error(Parse{"extra", "-s", "web", "-r", "/srv"}, "'extra'");
	expect_error(Parse{"-s", "web", "-r", "/srv", "--", "-d"}, "'-d'");
	expect_error(Parse{"-s", "web", "-r", "/srv", "-"}, "'-'");
	expect_error(Parse{"-s", "web", "-r", "/srv", ""}, "''");
}

TEST(OptionErrors, WhatMustBeThere)
{
	expect_error(Parse{}, "-s");
	expect_error(Parse{"-r", "/srv"}, "-s");
	expect_error(Parse{"-s", "web"}, "-r");
	expect_error(Parse{"--ping"}, "-s");
}

TEST(OptionErrors, NamesThatAreNone)
{
	for (const char *name : {"", "/", "a/b", "/a", "a/", "../a"}) {
		SCOPED_TRACE(name);
		expect_error(Parse{"-s", name, "-r", "/srv"}, (std::string("'") + name + "'").c_str());
		expect_error(Parse{"-s", name, "--ping"}, (std::string("'") + name + "'").c_str());
	}
}

TEST(OptionErrors, WhatDoesNotGoTogether)
{
	expect_error(Parse{"-s", "web", "-r", "/srv", "-d", "--ready-fd=3"}, "--ready-fd");
	expect_error(Parse{"-s", "web", "-r", "/srv", "-d", "--ready-fd=3"}, "--daemonize");
	EXPECT_EQ(0, (Parse{"-s", "web", "-r", "/srv", "-p", "--ready-fd=3"}.result));
	EXPECT_EQ(0, (Parse{"-s", "web", "-r", "/srv", "-d", "-p"}.result));
}

TEST(OptionErrors, TheMessageFitsItsBuffer)
{
	std::string longest(100000, 'x');
	std::string arg0 = "sendfiled";
	char *argv[] = {&arg0[0], &longest[0], nullptr};
	char error[16 + 1];
	options o;

	error[16] = '#';
	EXPECT_EQ(-1, options_parse(&o, 2, argv, error, 16));
	EXPECT_EQ('#', error[16]);
	EXPECT_EQ(15u, strlen(error));
}

// ---- The help text

TEST(OptionsHelp, NamesEveryOption)
{
	const std::string help = options_help;

	for (const char *option : {"-s, --name", "-r, --root", "-S, --socket-dir", "-n, --max-transfers",
		     "-t, --open-timeout", "-u, --user", "-g, --group", "--workers", "--readers N",
		     "--readers-per-device N", "--io-timeout MS", "-d, --daemonize", "-p, --sync-parent", "--ready-fd",
		     "--ping", "--help", "--version"})
		EXPECT_NE(std::string::npos, help.find(option)) << option;
	EXPECT_NE(std::string::npos, help.find(std::to_string(TRANSFERS_DEFAULT)));
	EXPECT_NE(std::string::npos, help.find(std::to_string(OPEN_TIMEOUT_DEFAULT_MS)));
	EXPECT_NE(std::string::npos, help.find("(" + std::to_string(READERS_DEFAULT) + ")"));
	EXPECT_NE(std::string::npos, help.find("(" + std::to_string(READERS_PER_DEVICE_DEFAULT) + ")"));
	EXPECT_NE(std::string::npos, help.find("(" + std::to_string(IO_TIMEOUT_DEFAULT_MS) + ")"));
	EXPECT_EQ('\n', help.back());
}

TEST(OptionsHelp, FitsATerminal)
{
	std::string line;

	for (const char *p = options_help; *p; p++) {
		if (*p != '\n') {
			line += *p;
			continue;
		}
		EXPECT_LE(line.size(), 100u) << line;
		line.clear();
	}
}

} // namespace
