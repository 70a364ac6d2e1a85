// SPDX-License-Identifier: BSD-2-Clause
// A disk of which some processes can read only so much in a second: a file system on a loop device, and a control group
// whose processes the kernel makes wait when they read from that device. Needs root.
#pragma once

#include "test/support/fd.h"

#include <cstdint>
#include <gtest/gtest.h>
#include <string>
#include <sys/types.h>

// First line of a test that needs it.
#define REQUIRE_SLOW_DISK()                                                                                            \
	do {                                                                                                           \
		std::string why_not;                                                                                   \
                                                                                                                       \
		if (!SlowDisk::available(&why_not))                                                                    \
			GTEST_SKIP() << "no slow disk: " << why_not;                                                   \
	} while (0)

// Throws std::runtime_error where something cannot be had.
class SlowDisk
{
      public:
	// Makes an image of that many bytes in the directory, and mounts it on a directory there.
	SlowDisk(const std::string &dir, uint64_t size, uint64_t read_bytes_per_second);
	~SlowDisk();
	SlowDisk(const SlowDisk &) = delete;
	SlowDisk &operator=(const SlowDisk &) = delete;

	// Whether this can be had here, and really is slow; if not, why.
	static bool available(std::string *why);

	const std::string &path() const
	{
		return mount_point_;
	}
	std::string path(const std::string &name) const
	{
		return mount_point_ + "/" + name;
	}
	// Makes a file that everybody may read, with the content of make_content(), and drops it from memory.
	void add_file(const std::string &name, size_t size, uint64_t seed = 1);
	// The file's content (not its inode, nor its directory) has to be read from the disk again. False if it could
	// not be dropped, since somebody uses it for instance.
	bool drop_caches(const std::string &name);
	// From now on the process (0: this one), and those that it starts, read slowly.
	void throttle(pid_t pid);
	// Back to where it is not slow.
	void unthrottle(pid_t pid);
	// Other than at first. 0: as fast as it can. Whoever waits then goes on.
	void set_rate(uint64_t read_bytes_per_second);
	// Where a process can write its number to be throttled.
	std::string procs_file() const;

      private:
	void attach();
	void mount_it();
	void make_group();
	bool limit(uint64_t rate);
	void undo();

	std::string image_, mount_point_, group_, parent_group_, device_path_, device_number_;
	bool mounted_ = false, unified_ = false;
	Fd device_;
};
