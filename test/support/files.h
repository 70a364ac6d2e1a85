// SPDX-License-Identifier: BSD-2-Clause
// Files with known content, and directories that are removed again.
#pragma once

#include <cstdint>
#include <gtest/gtest.h>
#include <string>

// Bytes that look random, are the same for the same seed, and differ everywhere for different ones.
std::string make_content(size_t size, uint64_t seed = 1);

// Whether two contents are equal; says where they first differ, without printing them.
::testing::AssertionResult same_content(const std::string &expected, const std::string &actual);

// Makes or replaces a file.
void write_whole(const std::string &path, const std::string &content, unsigned mode = 0644);

// A file's content; empty if it cannot be read.
std::string read_whole(const std::string &path);

// How many descriptors a process has open; 0 if that cannot be found out.
size_t count_fds(const std::string &pid);

// One line for each of them.
std::string list_fds(const std::string &pid);

class TempDir
{
      public:
	TempDir();
	~TempDir();
	TempDir(const TempDir &) = delete;
	TempDir &operator=(const TempDir &) = delete;

	const std::string &path() const
	{
		return path_;
	}

      private:
	std::string path_;
};
