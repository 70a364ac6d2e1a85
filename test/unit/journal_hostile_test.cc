// SPDX-License-Identifier: BSD-2-Clause
// Journals of workers that die of, or with, what nobody should send; and of workers that die at any moment.
#include "test/unit/journal_fixture.h"

#include <atomic>
#include <functional>
#include <random>
#include <sched.h>
#include <set>
#include <sys/mman.h>

namespace
{

using namespace journals;
using Bytes = std::vector<unsigned char>;

class JournalHostile : public JournalTest
{
      protected:
	// What a worker's journal says that was killed with this datagram in hand.
	Report after(const Bytes &bytes, bool current = true)
	{
		deliver(bytes);
		worker([&](journal_pen *pen) {
			EXPECT_TRUE(receive(pen));
			if (!current)
				journal_turn_request(pen, 0);
		});
		const Report r = read_journal(journal_, current);
		journal_clear(journal_);
		return r;
	}
};

// Where the fields are: doc/sendfiled-protocol.7.
enum { VERSION_AT = 4, COUNT_AT = 6, LENGTH_AT = 8, CHANNEL_AT = 12, RESERVED_AT = 24, SIZE_AT = 0, OP_AT = 4 };

TEST_F(JournalHostile, WhatIsNoDatagramOfOursSaysNothing)
{
	const Bytes good = queue_datagram({request(WIRE_OP_SEND, 1), request(WIRE_OP_CANCEL, 2)});
	const std::function<void(Bytes *)> changes[] = {
		[](Bytes *b) { b->at(0)++; },
		[](Bytes *b) { b->clear(); },
		[](Bytes *b) { b->resize(1); },
		[](Bytes *b) { put16(b, VERSION_AT, 0); },
		[](Bytes *b) { put16(b, VERSION_AT, WIRE_VERSION + 1); },
		[](Bytes *b) { put16(b, COUNT_AT, 0); },
		[](Bytes *b) { put16(b, COUNT_AT, WIRE_COUNT_MAX + 1); },
		[](Bytes *b) { put32(b, CHANNEL_AT, 3); },
		[](Bytes *b) { put64(b, RESERVED_AT, 1); },
		[](Bytes *b) { put32(b, LENGTH_AT, 0); },
		[](Bytes *b) { put32(b, LENGTH_AT, WIRE_HEADER_SIZE - 1); },
		[](Bytes *b) { put32(b, LENGTH_AT, WIRE_HEADER_SIZE); },
		[](Bytes *b) { put32(b, LENGTH_AT, WIRE_HEADER_SIZE + WIRE_REQUEST_SIZE - 1); },
		[](Bytes *b) { put32(b, LENGTH_AT, WIRE_DATAGRAM_MAX + 1); },
		[](Bytes *b) { put32(b, LENGTH_AT, UINT32_MAX); },
		[](Bytes *b) { put16(b, WIRE_HEADER_SIZE + OP_AT, 0); },
		[](Bytes *b) { put16(b, WIRE_HEADER_SIZE + OP_AT, WIRE_OP_END); },
		[](Bytes *b) { put32(b, WIRE_HEADER_SIZE + SIZE_AT, 0); },
		[](Bytes *b) { put32(b, WIRE_HEADER_SIZE + SIZE_AT, UINT32_MAX & ~7u); },
		[](Bytes *b) { std::fill(b->begin(), b->end(), 0); },
		[](Bytes *b) { std::fill(b->begin(), b->end(), 0xff); },
	};
	int n = 0;

	EXPECT_EQ((Entries{mine(1)}), after(good).requests);
	for (const auto &change : changes) {
		Bytes bad = good;

		change(&bad);
		for (bool current : {true, false})
			EXPECT_TRUE(after(bad, current).empty()) << n;
		n++;
	}
}

// What comes before the fault is told: the client may have been told of it, too, and knows it by the tag.
TEST_F(JournalHostile, WhatIsSoundBeforeAFaultIsTold)
{
	const Bytes one = queue_datagram({request(WIRE_OP_SEND, 1)});
	const Bytes good = queue_datagram({request(WIRE_OP_SEND, 1), request(WIRE_OP_SEND, 2)});
	Bytes bad = good;

	put16(&bad, one.size() + OP_AT, 99);
	EXPECT_EQ((Entries{mine(1)}), after(bad).requests);
	bad = good;
	bad.resize(good.size() - 8);
	put32(&bad, LENGTH_AT, static_cast<uint32_t>(bad.size()));
	EXPECT_EQ((Entries{mine(1)}), after(bad).requests) << "cut off";
	bad = good;
	put16(&bad, COUNT_AT, 1);
	EXPECT_EQ((Entries{mine(1)}), after(bad).requests);
	bad.resize(WIRE_DATAGRAM_MAX + 1000);
	EXPECT_EQ((Entries{mine(1)}), after(bad).requests) << "longer than it may be";
}

// It claims to be as long as can be, and nothing says otherwise.
TEST_F(JournalHostile, WhatWasPromisedAndDidNotComeIsNotTold)
{
	Bytes bad = queue_datagram({request(WIRE_OP_SEND, 1)});

	put32(&bad, LENGTH_AT, WIRE_DATAGRAM_MAX);
	put16(&bad, COUNT_AT, WIRE_COUNT_MAX);
	EXPECT_EQ((Entries{mine(1)}), after(bad).requests);
	bad.resize(WIRE_HEADER_SIZE);
	journal_ = journal_of(all_, 0);
	EXPECT_TRUE(after(bad).empty());
}

TEST_F(JournalHostile, ACurrentRequestThatIsNotThereLeavesNothingOut)
{
	deliver(queue_datagram({request(WIRE_OP_SEND, 1), request(WIRE_OP_SEND, 2)}));
	worker([&](journal_pen *pen) {
		EXPECT_TRUE(receive(pen));
		journal_turn_request(pen, 2);
	});
	EXPECT_EQ((Entries{mine(1), mine(2)}), read_journal(journal_, false).requests);
}

TEST_F(JournalHostile, WithoutCredentialsThereIsNobodyToTell)
{
	Ends plain = make_socketpair(SOCK_DGRAM);
	const Bytes bytes = queue_datagram(
		{request(WIRE_OP_SEND, 1), request(WIRE_OP_CANCEL, 2), request(WIRE_OP_SEND_OPEN, 3, 4)});

	for (const auto &fds : {std::vector<int>{}, std::vector<int>{0, 1}}) {
		ASSERT_EQ(0, send_bytes(plain.in, bytes, fds));
		std::swap(plain, pair_);
		worker([&](journal_pen *pen) {
			EXPECT_TRUE(receive(pen));
			journal_note_request(pen, QUEUE, 9);
		});
		std::swap(plain, pair_);
		const Report r = read_journal(journal_);
		EXPECT_EQ((Entries{line(9)}), r.requests);
		EXPECT_TRUE(r.cancels.empty() && r.seconds.empty());
		journal_clear(journal_);
	}
}

TEST_F(JournalHostile, ARegistrationIsNoRequest)
{
	wire_request r = request(WIRE_OP_REGISTER, 1);

	r.length = 64;
	EXPECT_TRUE(after(queue_datagram({r})).empty());
	EXPECT_EQ((Entries{mine(2)}), after(queue_datagram({r, request(WIRE_OP_SEND, 2)})).requests);
}

// Their status channel comes to its end with the worker. But the file of a send-open may be another worker's.
TEST_F(JournalHostile, RequestsWithAChannelOfTheirOwnAreNotTold)
{
	for (auto channel : {WIRE_CHANNEL_FD, WIRE_CHANNEL_NONE}) {
		Datagram d(channel);

		for (auto op : {WIRE_OP_SEND, WIRE_OP_OPEN, WIRE_OP_READ, WIRE_OP_PING, WIRE_OP_CANCEL})
			d.add(request(op, 1, 2));
		d.add(request(WIRE_OP_SEND_OPEN, 3, 4));
		const Report r = after(d.bytes());
		EXPECT_TRUE(r.requests.empty() && r.cancels.empty());
		EXPECT_EQ((std::vector<uint64_t>{4}), r.seconds);
	}
	Datagram old(WIRE_CHANNEL_FD, 1);
	EXPECT_EQ((std::vector<uint64_t>{4}), after(old.add(request(WIRE_OP_SEND_OPEN, 3, 4)).bytes()).seconds);
}

// ---- Killed at any moment

constexpr unsigned MOST = 256;

struct Shared {
	std::atomic<unsigned> progress;
	std::atomic<bool> told[MOST]; /* the client has the outcome */
};

class JournalKilled : public JournalTest
{
      protected:
	void SetUp() override
	{
		JournalTest::SetUp();
		all_ = journals_new(WORKERS, MOST);
		ASSERT_NE(nullptr, all_);
		journal_ = journal_of(all_, 2);
		void *p = mmap(nullptr, sizeof *shared_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		ASSERT_NE(MAP_FAILED, p);
		shared_ = static_cast<Shared *>(p);
	}
	void TearDown() override
	{
		munmap(shared_, sizeof *shared_);
		JournalTest::TearDown();
	}

	// The requests 0 to n - 1, some to a datagram.
	void deliver_all(unsigned n, std::mt19937 *random) const
	{
		for (unsigned tag = 0; tag < n;) {
			std::vector<wire_request> some;

			for (unsigned i = 1 + (*random)() % 8; i > 0 && tag < n; i--)
				some.push_back(request(WIRE_OP_SEND, tag++));
			deliver(queue_datagram(some));
		}
	}
	// As a worker does: some end at once, others later, in any order.
	void work(std::mt19937 *random) const
	{
		std::vector<std::pair<uint64_t, uint32_t>> open;
		journal_pen pen;

		ASSERT_EQ(0, journal_open(&pen, journal_));
		for (bool more = true; more || !open.empty();) {
			if (more && (open.empty() || (*random)() % 3 != 0)) {
				more = receive(&pen);
				if (more)
					take(&pen, &open);
				continue;
			}
			std::swap(open.back(), open[(*random)() % open.size()]);
			shared_->told[open.back().first] = true;
			shared_->progress++;
			journal_strike(&pen, open.back().second);
			open.pop_back();
			shared_->progress++;
		}
		for (;;)
			pause();
	}
	void take(journal_pen *pen, std::vector<std::pair<uint64_t, uint32_t>> *open) const
	{
		wire_header h;
		wire_cursor c;
		wire_request r;
		const uint32_t len = wire_length(journal_datagram(pen));

		shared_->progress++;
		EXPECT_EQ(0, wire_get_header(journal_datagram(pen), len, &h));
		wire_cursor_init(&c, journal_datagram(pen), len, &h);
		for (unsigned i = 0; c.count > 0 && wire_next(&c, &r) == 0; i++) {
			journal_turn_request(pen, i);
			open->emplace_back(r.tag, journal_note_request(pen, QUEUE, r.tag));
			shared_->progress++;
		}
		journal_turn(pen, JOURNAL_NONE);
		journal_forget_datagram(pen, WIRE_DATAGRAM_MAX);
		shared_->progress++;
	}
	// What nobody has received, which the next worker would.
	std::set<uint64_t> rest() const
	{
		std::set<uint64_t> tags;
		journal_pen pen = {};

		pen.journal = journal_of(all_, 0);
		journal_use_slot(&pen, 0); /* nobody may have come so far */
		while (receive(&pen)) {
			for (const Entry &e : read_journal(pen.journal).requests)
				EXPECT_TRUE(tags.insert(e.name).second);
		}
		journal_clear(pen.journal);
		return tags;
	}

	Shared *shared_ = nullptr;
};

TEST_F(JournalKilled, NothingIsLostWhereverItIs)
{
	std::mt19937 random(1);

	for (int round = 0; round < 100; round++) {
		const unsigned n = 1 + random() % MOST, until = random() % (3 * n + 1);
		std::set<uint64_t> told;

		memset(static_cast<void *>(shared_), 0, sizeof *shared_);
		deliver_all(n, &random);
		const pid_t child = start_child([&] { work(&random); });
		for (const Deadline deadline(30s); shared_->progress < until && !deadline.passed();)
			sched_yield();
		kill(child, SIGKILL);
		end_worker(child);
		for (const Entry &e : read_journal(journal_).requests)
			told.insert(e.name);
		const std::set<uint64_t> left = rest();
		for (uint64_t tag = 0; tag < n; tag++) {
			const int in_socket = static_cast<int>(left.count(tag)),
				  in_journal = static_cast<int>(told.count(tag));

			ASSERT_EQ(1, in_socket + (in_journal || shared_->told[tag]))
				<< "round " << round << " tag " << tag;
		}
		ASSERT_TRUE(told.empty() || *told.rbegin() < n);
		journal_clear(journal_);
	}
}

} // namespace
