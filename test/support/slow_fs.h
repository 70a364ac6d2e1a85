// SPDX-License-Identifier: BSD-2-Clause
// A file system whose server answers when a test says so: slowfs.c, mounted.
//
// Whoever uses its files may wait in the kernel, where no signal reaches it, until the server answers. So a test uses
// them from a thread or process of their own (see InBackground) and leaves its main thread free to say when that ends.
#pragma once

#include "test/support/fd.h"
#include "test/support/wait.h"

#include <cstdint>
#include <future>
#include <gtest/gtest.h>
#include <mutex>
#include <stdexcept>
#include <string>
#include <sys/types.h>

// First line of a test (or of SetUp()) that needs it: the test is skipped where nothing can be mounted. With
// REQUIRE_FUSE=1 in the environment it fails there.
#define REQUIRE_SLOW_FS()                                                                                              \
	do {                                                                                                           \
		std::string why_not;                                                                                   \
                                                                                                                       \
		if (SlowFs::available(&why_not))                                                                       \
			break;                                                                                         \
		if (SlowFs::required())                                                                                \
			FAIL() << "no slow file system: " << why_not;                                                  \
		GTEST_SKIP() << "no slow file system: " << why_not;                                                    \
	} while (0)

// Everything here throws std::runtime_error if the server does not do what it is told, or not in time. `op` is one of
// "lookup", "getattr", "open" (includes create), "read", "write", "flush", "release" (the last close) and "all". A path
// is relative to the mount point; without one, all files are meant.
class SlowFs
{
      public:
	// Mounts it on a directory, which is made if it is not there. Others than root and whoever mounts it can only
	// use it with `allow_other`, which only root may ask for.
	explicit SlowFs(std::string mount_point, bool allow_other = is_root());
	// Releases all that is held, breaks the connection, unmounts.
	~SlowFs();
	SlowFs(const SlowFs &) = delete;
	SlowFs &operator=(const SlowFs &) = delete;

	// Whether this can be had here; if not, why.
	static bool available(std::string *why);
	static bool required();

	const std::string &path() const
	{
		return mount_point_;
	}
	std::string path(const std::string &name) const
	{
		return mount_point_ + "/" + name;
	}
	pid_t pid() const
	{
		return pid_;
	}

	// A file with the content of make_content(); it takes no memory. Directories that lead to it are made.
	void add(const std::string &name, uint64_t size, uint64_t seed = 1);
	// Changes a file's size on the server.
	void truncate(const std::string &name, uint64_t size);

	// Requests that come from now on are held, not answered; and what was held is answered, in order.
	void hold(const std::string &op, const std::string &name = {});
	void release(const std::string &op = "all", const std::string &name = {});
	// Answers that many of those that are held, and holds the others. How many there were.
	uint64_t step(const std::string &op, uint64_t n = 1, const std::string &name = {});
	// Each is answered that much later. 0: at once.
	void delay(const std::string &op, milliseconds by, const std::string &name = {});
	// Each is answered with that error. 0: no more.
	void fail(const std::string &op, int err, const std::string &name = {});

	// Waits until at least that many are held at a time. How many are.
	uint64_t await(
		const std::string &op, uint64_t n = 1, const std::string &name = {}, milliseconds patience = PATIENCE);
	// How many came so far; how many are held.
	uint64_t count(const std::string &op, const std::string &name = {});
	uint64_t held(const std::string &op, const std::string &name = {});

	// How long the kernel may trust names and attributes. At first not at all.
	void cache(unsigned seconds);
	// For files that are opened from now on: past the page cache; keeping what is there.
	void direct_io(bool on);
	void keep_cache(bool on);

	// Breaks the connection, like a server that crashes: all that is held fails with ECONNABORTED, and the mount
	// with ENOTCONN from then on.
	void abort();

	// Any command, as slowfs.c describes them: the number that it answers, 0 if there is none.
	uint64_t command(const std::string &line, milliseconds patience = PATIENCE);

      private:
	static bool is_root();
	void start(bool allow_other);
	int stop();
	std::string ask(const std::string &line, milliseconds patience);
	std::string read_line(milliseconds patience);

	std::string mount_point_;
	pid_t pid_ = -1;
	Fd server_;
	std::string unread_;
	std::mutex mutex_; // one command at a time
};

// A call that may wait, in a thread of its own. Made before the file system that it uses, so that it is destroyed after
// that has released it.
template <typename Result> class InBackground
{
      public:
	template <typename Call> void start(Call call)
	{
		result_ = std::async(std::launch::async, call);
	}
	// Whether it has returned.
	bool done(milliseconds patience = 0ms) const
	{
		return result_.wait_for(patience) == std::future_status::ready;
	}
	// What it returned. Throws if it does not in time.
	Result get(milliseconds patience = PATIENCE)
	{
		if (!done(patience))
			throw std::runtime_error("a call in the background does not return");
		return result_.get();
	}

      private:
	std::future<Result> result_;
};
