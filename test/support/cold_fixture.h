// SPDX-License-Identifier: BSD-2-Clause
// The base of tests in which files, or destinations, are slow: file systems whose server answers when the test says so are
// mounted below the root.
#pragma once

#include "test/support/fixture.h"
#include "test/support/slow_fs.h"

#include <memory>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <string>
#include <vector>

// A transfer that has begun. Nothing is read from its destination until its end is looked at.
class Request
{
      public:
	Request(int srv, const std::string &path, const std::string &dir, const DestType &type = {Kind::Pipe, false});

	Dest &dest()
	{
		return *dest_;
	}
	Fd &status()
	{
		return status_;
	}
	// Waits for the information, which must be no error.
	const sfd_file_info &info();
	// Whether nothing (more) has been said of it so far.
	bool is_quiet() const
	{
		return await(status_, POLLIN, 0ms) == 0;
	}
	// Reads all that arrives, and all frames: the outcome; what arrived is in `arrived` then.
	Outcome finish(milliseconds patience = PATIENCE);
	// It succeeds, and that is what arrives.
	void expect(const std::string &content, milliseconds patience = PATIENCE);
	// It ends with that status after some bytes, which arrive and are the first of `content`.
	void expect_failure(int stat, const std::string &content, milliseconds patience = PATIENCE);

	std::string arrived;

      private:
	std::unique_ptr<Dest> dest_;
	Fd status_;
	sfd_file_info info_ = {};
	bool has_info_ = false;
};

// Reads from all of them at the same time until each has ended: what arrived. A failure if that takes longer.
std::vector<std::string> read_all_ends(const std::vector<Fd> &fds, milliseconds patience = PATIENCE);

// The file's content (not its inode) has to be read from the disk again.
void drop_from_memory(const std::string &path);

// Whether a process waits for a disk, or for the answer of a SlowFs.
bool waits_for_file(pid_t pid);

class ColdTest : public SfdTest
{
      protected:
	// Mounts fs(), which is "slow" below the root.
	void SetUp() override;
	void TearDown() override;

	SlowFs &fs()
	{
		return *mounts_.front();
	}
	// Mounts another one. All are to be there before the daemon is started, which does not see later ones.
	SlowFs &mount(const std::string &name);
	// Starts the daemon, with one worker.
	void serve(const std::vector<std::string> &more = {}, unsigned workers = 1);

	// Adds a file to fs(): its content.
	std::string add_slow(const std::string &name, size_t size, uint64_t seed = 1);
	// Makes a file below the root that is not in memory: its content.
	std::string add_cold(const std::string &name, size_t size, uint64_t seed = 1);
	Request send(const std::string &path, const DestType &type = {Kind::Pipe, false})
	{
		return Request(srv(), path, dir(), type);
	}

	// That many transfers of what is in memory, one after the other: how long the longest took.
	Clock::duration run_hot(unsigned n = 300);

	// Helpers of a kind: "opener", "reader", "writer".
	std::vector<pid_t> helpers(const std::string &kind);
	// The only one.
	pid_t helper(const std::string &kind);
	// Nobody in the daemon has a file of these file systems open any more, nobody waits, and the workers are idle.
	void expect_nothing_left();

      private:
	std::vector<std::unique_ptr<SlowFs>> mounts_;
};
