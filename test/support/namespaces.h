// SPDX-License-Identifier: BSD-2-Clause
// Mounts that only the calling process and its children see, and that go with them.
#pragma once

#include <cerrno>
#include <cstring>
#include <gtest/gtest.h>
#include <sched.h>
#include <string>
#include <sys/mount.h>
#include <sys/stat.h>

// First line of a test that needs it.
#define REQUIRE_MOUNTS()                                                                                               \
	do {                                                                                                           \
		if (geteuid() != 0)                                                                                    \
			GTEST_SKIP() << "only root can mount it";                                                      \
	} while (0)

// For a child: from now on its mounts are its own.
inline void own_mounts()
{
	ASSERT_EQ(0, unshare(CLONE_NEWNS)) << strerror(errno);
	ASSERT_EQ(0, mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr)) << strerror(errno);
}

inline void mount_at(const std::string &where, const char *type, const std::string &what, unsigned long flags = 0,
	const std::string &data = {})
{
	mkdir(where.c_str(), 0755);
	ASSERT_EQ(0, mount(what.c_str(), where.c_str(), type, flags, data.c_str())) << where << ": " << strerror(errno);
}

// The directory mounted upon itself, with other options.
inline void remount(const std::string &where, unsigned long flags)
{
	ASSERT_EQ(0, mount(where.c_str(), where.c_str(), nullptr, MS_BIND, nullptr)) << strerror(errno);
	ASSERT_EQ(0, mount(nullptr, where.c_str(), nullptr, MS_BIND | MS_REMOUNT | flags, nullptr)) << strerror(errno);
}
