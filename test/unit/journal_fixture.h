// SPDX-License-Identifier: BSD-2-Clause
// A worker that is killed, and what its journal says then; for the tests of journals.
#pragma once

extern "C" {
#include "server/fdpass.h"
#include "server/journal.h"
#include "server/os/process.h"
}

#include "test/support/bounded.h"
#include "test/support/datagram.h"
#include "test/support/fd.h"

#include <csignal>
#include <cstring>
#include <ostream>
#include <sys/socket.h>
#include <sys/wait.h>
#include <vector>

namespace journals
{

constexpr unsigned WORKERS = 3;
constexpr uint32_t LINES = 16;
constexpr uint64_t QUEUE = 0x7766554433221100;

// Who sent it: -1 where the journal does not know.
struct Entry {
	uint64_t queue, name;
	pid_t pid;
	uid_t uid;

	bool operator==(const Entry &o) const
	{
		return queue == o.queue && name == o.name && pid == o.pid && uid == o.uid;
	}
};

inline void PrintTo(const Entry &e, std::ostream *out)
{
	*out << std::hex << e.queue << "/" << e.name << std::dec << " of " << e.pid << "/" << static_cast<int>(e.uid);
}

using Entries = std::vector<Entry>;

struct Report {
	Entries requests, cancels;
	std::vector<uint64_t> seconds;

	bool empty() const
	{
		return requests.empty() && cancels.empty() && seconds.empty();
	}
};

inline Entry entry_of(uint64_t queue, uint64_t name, const owner *who)
{
	return {queue, name, who ? who->pid : -1, who ? who->uid : static_cast<uid_t>(-1)};
}

inline Report read_journal(const journal *j, bool current = true)
{
	journal_reader reader = {};
	Report report;

	reader.arg = &report;
	reader.request = [](void *arg, uint64_t queue, uint64_t tag, const owner *who) {
		static_cast<Report *>(arg)->requests.push_back(entry_of(queue, tag, who));
	};
	reader.cancel = [](void *arg, uint64_t queue, uint64_t tag, const owner *who) {
		static_cast<Report *>(arg)->cancels.push_back(entry_of(queue, tag, who));
	};
	reader.second = [](void *arg, uint64_t txnid) { static_cast<Report *>(arg)->seconds.push_back(txnid); };
	journal_read(j, current, &reader);
	return report;
}

// A datagram of a queue.
inline std::vector<unsigned char> queue_datagram(const std::vector<wire_request> &requests, uint64_t queue = QUEUE)
{
	const size_t id_at = 16;
	Datagram d(WIRE_CHANNEL_QUEUE);

	for (const auto &r : requests)
		d.add(r);
	auto bytes = d.bytes();
	put64(&bytes, id_at, queue);
	return bytes;
}

inline wire_request request(wire_op op, uint64_t tag, uint64_t txnid = 0)
{
	static const std::string file = "some/file", none;
	const bool names_file = op == WIRE_OP_SEND || op == WIRE_OP_OPEN || op == WIRE_OP_READ;
	wire_request r = make_request(op, names_file ? file : none, tag);

	r.txnid = txnid;
	return r;
}

class JournalTest : public BoundedTest
{
      protected:
	void SetUp() override
	{
		BoundedTest::SetUp();
		pair_ = make_socketpair(SOCK_DGRAM);
		ASSERT_EQ(0, os_want_credentials(pair_.out));
		all_ = journals_new(WORKERS, LINES);
		ASSERT_NE(nullptr, all_);
		journal_ = journal_of(all_, 1);
	}
	void TearDown() override
	{
		pair_ = {};
		BoundedTest::TearDown();
	}

	// What comes from a client to the worker.
	void deliver(const std::vector<unsigned char> &bytes, const std::vector<int> &fds = {}) const
	{
		ASSERT_EQ(0, send_bytes(pair_.in, bytes, fds));
	}
	// In the worker. False if there is nothing.
	bool receive(journal_pen *pen) const
	{
		fdpass m;

		if (fdpass_receive_into(pair_.out, journal_datagram(pen), WIRE_DATAGRAM_MAX, journal_control(pen), &m) <
			0)
			return false;
		for (unsigned i = 0; i < m.nfds; i++)
			close(m.fds[i]);
		if (m.process >= 0)
			close(m.process);
		return true;
	}
	// A worker of that journal does something, and is killed then.
	template <typename What> void worker(What what)
	{
		const pid_t child = start_child([&] {
			journal_pen pen;

			ASSERT_EQ(0, journal_open(&pen, journal_));
			what(&pen);
			if (!HasFailure())
				raise(SIGKILL);
		});
		end_worker(child);
	}
	static void end_worker(pid_t child)
	{
		int status = 0;

		ASSERT_TRUE(await_exit(child, &status, 50s));
		EXPECT_TRUE(WIFSIGNALED(status)) << status;
		EXPECT_EQ(SIGKILL, WTERMSIG(status));
	}
	// What the client has sent stands there in its name.
	static Entry mine(uint64_t tag, uint64_t queue = QUEUE)
	{
		return {queue, tag, getpid(), getuid()};
	}
	static Entry line(uint64_t tag, uint64_t queue = QUEUE)
	{
		return {queue, tag, -1, static_cast<uid_t>(-1)};
	}

	Ends pair_;
	journal *all_ = nullptr, *journal_ = nullptr; /* nothing unmaps them but the process's end */
};

} // namespace journals
