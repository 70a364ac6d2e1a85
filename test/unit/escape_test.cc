// SPDX-License-Identifier: BSD-2-Clause
// What a name that means no good looks like in a log.
extern "C" {
#include "server/escape.h"
}

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace
{

std::string escaped(const std::string &text, size_t size = 4096)
{
	std::string out(size, 'x');
	const size_t n = escape(out.data(), size, text.c_str());

	EXPECT_LT(n, size);
	EXPECT_EQ('\0', out[n]);
	out.resize(n);
	return out;
}

TEST(Escape, WhatIsPrintableStays)
{
	for (const char *text : {"", "a", "/srv/www/index.html", "100 % ~", "Grüße", "日本語", "\U0001F600", "\u00a0",
		     "\u07ff", "\u0800", "\uffff", "\U0010FFFF", "\u2027", "\u202f"})
		EXPECT_EQ(text, escaped(text));
}

TEST(Escape, WhatForgesALineDoesNot)
{
	EXPECT_EQ("a\\x0ab", escaped("a\nb"));
	EXPECT_EQ("\\x0d\\x09\\x1b[2J\\x7f\\x01", escaped("\r\t\x1b[2J\x7f\x01"));
	EXPECT_EQ("\\xc2\\x9b31m", escaped("\u009b31m")) << "a terminal's control sequence in one character";
	EXPECT_EQ("\\xe2\\x80\\xa8", escaped("\u2028")) << "a line's end, to some";
	EXPECT_EQ("\\xe2\\x80\\xae", escaped("\u202e")) << "what follows would be shown backwards";
	EXPECT_EQ("\\xe2\\x81\\xa7", escaped("\u2067"));
	EXPECT_EQ("a\\\\x0ab", escaped("a\\x0ab")) << "no name looks like an escaped one";
}

TEST(Escape, WhatIsNoUtf8)
{
	EXPECT_EQ("\\xff", escaped("\xff"));
	EXPECT_EQ("\\x80a", escaped("\x80"
				    "a"));
	EXPECT_EQ("\\xc3", escaped("\xc3")) << "cut off";
	EXPECT_EQ("\\xe2\\x82", escaped("\xe2\x82"));
	EXPECT_EQ("\\xe2\\x82 ", escaped("\xe2\x82 "));
	EXPECT_EQ("\\xc0\\xaf", escaped("\xc0\xaf")) << "a slash that is too long";
	EXPECT_EQ("\\xe0\\x80\\xaf", escaped("\xe0\x80\xaf"));
	EXPECT_EQ("\\xf0\\x82\\x82\\xac", escaped("\xf0\x82\x82\xac"));
	EXPECT_EQ("\\xed\\xa0\\x80", escaped("\xed\xa0\x80")) << "half of a pair";
	EXPECT_EQ("\\xf4\\x90\\x80\\x80", escaped("\xf4\x90\x80\x80")) << "beyond the last one";
	EXPECT_EQ("\\xf8\\x88\\x80\\x80\\x80", escaped("\xf8\x88\x80\x80\x80"));
}

TEST(Escape, NothingIsCutInTwo)
{
	EXPECT_EQ("", escaped("\n", 4));
	EXPECT_EQ("\\x0a", escaped("\n", 5));
	EXPECT_EQ("a", escaped("aü", 3));
	EXPECT_EQ("aü", escaped("aü", 4));
	EXPECT_EQ("", escaped("abc", 1));
	EXPECT_EQ("ab", escaped("abc", 3));
}

// Of anything: no control character, and the same again when it is read back.
TEST(Escape, AnythingCanBeReadBack)
{
	std::mt19937 random(7);

	for (int round = 0; round < 20000; round++) {
		std::string text, back;

		for (size_t n = random() % 12; n > 0; n--)
			text += static_cast<char>(1 + random() % 255);
		const std::string line = escaped(text);
		for (size_t i = 0; i < line.size(); i++) {
			ASSERT_GE(static_cast<unsigned char>(line[i]), ' ');
			if (line[i] != '\\') {
				back += line[i];
			} else if (line[i + 1] == '\\') {
				back += '\\';
				i++;
			} else {
				back += static_cast<char>(std::stoi(line.substr(i + 2, 2), nullptr, 16));
				i += 3;
			}
		}
		ASSERT_EQ(text, back);
	}
}

} // namespace
