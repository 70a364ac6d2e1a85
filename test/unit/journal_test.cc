// SPDX-License-Identifier: BSD-2-Clause
// What a worker had in hand when it was killed: all of that stands in its journal, and nothing that was over.
#include "test/unit/journal_fixture.h"

#include <algorithm>

namespace
{

using namespace journals;

class Journal : public JournalTest
{
};

TEST_F(Journal, SaysNothingAtFirst)
{
	for (unsigned i = 0; i < WORKERS; i++) {
		EXPECT_TRUE(read_journal(journal_of(all_, i)).empty());
		EXPECT_EQ(0u, journal_position(journal_of(all_, i)));
	}
	worker([](journal_pen *) {});
	EXPECT_TRUE(read_journal(journal_).empty());
}

// ---- Lines

TEST_F(Journal, LinesStandUntilTheyAreStruckOut)
{
	worker([](journal_pen *pen) {
		uint32_t lines[5];

		lines[0] = journal_note_request(pen, QUEUE, 10);
		lines[1] = journal_note_second(pen, 0xabc);
		lines[2] = journal_note_request(pen, QUEUE + 1, 0);
		lines[3] = journal_note_second(pen, 0xdef);
		lines[4] = journal_note_request(pen, QUEUE, UINT64_MAX);
		for (int i : {0, 3})
			journal_strike(pen, lines[i]);
		journal_strike(pen, JOURNAL_NONE);
	});
	const Report r = read_journal(journal_);
	EXPECT_EQ((Entries{line(0, QUEUE + 1), line(UINT64_MAX)}), r.requests);
	EXPECT_EQ((std::vector<uint64_t>{0xabc}), r.seconds);
	EXPECT_TRUE(r.cancels.empty());
}

TEST_F(Journal, HoldsSoManyLinesAndNoMore)
{
	worker([](journal_pen *pen) {
		uint32_t lines[LINES];

		for (int round = 0; round < 100; round++) {
			for (uint32_t i = 0; i < LINES; i++) {
				lines[i] = journal_note_request(pen, QUEUE, round * 100 + i);
				ASSERT_LT(lines[i], LINES);
			}
			ASSERT_EQ(JOURNAL_NONE, journal_note_request(pen, QUEUE, 9));
			ASSERT_EQ(JOURNAL_NONE, journal_note_second(pen, 9));
			for (uint32_t i = 0; i < LINES; i++)
				journal_strike(pen, lines[(i * 7 + round) % LINES]);
		}
		for (uint32_t i = 0; i < LINES; i++)
			lines[i] = journal_note_request(pen, QUEUE, i);
		journal_strike(pen, lines[5]);
		EXPECT_EQ(lines[5], journal_note_second(pen, 55));
	});
	const Report r = read_journal(journal_);
	EXPECT_EQ(size_t{LINES - 1}, r.requests.size());
	for (const Entry &e : r.requests)
		EXPECT_TRUE(e.name < LINES && e.name != 5) << e.name;
	EXPECT_EQ((std::vector<uint64_t>{55}), r.seconds);
}

TEST_F(Journal, IsEachWorkersOwn)
{
	for (unsigned i = 0; i < WORKERS; i++) {
		journal_ = journal_of(all_, i);
		deliver(queue_datagram({request(WIRE_OP_SEND, 100 + i)}));
		worker([&](journal_pen *pen) {
			EXPECT_TRUE(receive(pen));
			while (journal_note_second(pen, i) != JOURNAL_NONE)
				;
		});
	}
	journal_clear(journal_of(all_, 1));
	for (unsigned i = 0; i < WORKERS; i++) {
		const Report r = read_journal(journal_of(all_, i));

		EXPECT_EQ(i == 1 ? Entries{} : Entries{mine(100 + i)}, r.requests);
		EXPECT_EQ(std::vector<uint64_t>(i == 1 ? 0 : LINES, i), r.seconds);
	}
}

TEST_F(Journal, IsEmptyForTheNextWorker)
{
	for (int round = 0; round < 3; round++) {
		deliver(queue_datagram({request(WIRE_OP_SEND, 1), request(WIRE_OP_CANCEL, 2)}));
		worker([&](journal_pen *pen) {
			EXPECT_TRUE(receive(pen));
			journal_turn(pen, journal_note_request(pen, QUEUE, 3));
			EXPECT_NE(JOURNAL_NONE, journal_note_second(pen, 4));
		});
		EXPECT_FALSE(read_journal(journal_).empty());
		EXPECT_NE(0u, journal_position(journal_));
		journal_clear(journal_);
		EXPECT_TRUE(read_journal(journal_).empty());
		EXPECT_EQ(0u, journal_position(journal_));
	}
}

// ---- The datagram

TEST_F(Journal, ADatagramStandsThereAsSoonAsItIsReceived)
{
	deliver(queue_datagram({request(WIRE_OP_SEND, 1), request(WIRE_OP_OPEN, 2),
			request(WIRE_OP_SEND_OPEN, 2, 0x123), request(WIRE_OP_CANCEL, 3), request(WIRE_OP_SEND, 4)}),
		{0, 1, 2});
	worker([&](journal_pen *pen) { EXPECT_TRUE(receive(pen)); });
	const Report r = read_journal(journal_);
	EXPECT_EQ((Entries{mine(1), mine(2), mine(4)}), r.requests);
	EXPECT_EQ((std::vector<uint64_t>{0x123}), r.seconds);
	EXPECT_EQ((Entries{mine(3)}), r.cancels);
}

TEST_F(Journal, TheLargestDatagramStandsThere)
{
	std::vector<wire_request> requests;
	const std::string path(WIRE_PATH_MAX, 'p');

	for (uint64_t tag = 0; tag < 15; tag++)
		requests.push_back(make_request(WIRE_OP_SEND, path, tag));
	const std::string rest(WIRE_DATAGRAM_MAX - WIRE_HEADER_SIZE - 15 * 4192 - WIRE_REQUEST_SIZE, 'q');
	requests.push_back(make_request(WIRE_OP_SEND, rest, 15));
	const auto bytes = queue_datagram(requests);
	ASSERT_EQ(size_t{WIRE_DATAGRAM_MAX}, bytes.size());
	deliver(bytes, std::vector<int>(16, 0));
	worker([&](journal_pen *pen) { EXPECT_TRUE(receive(pen)); });
	EXPECT_EQ(16u, read_journal(journal_).requests.size());
}

TEST_F(Journal, SaysWhoSentIt)
{
	const pid_t sender = start_child([&] { deliver(queue_datagram({request(WIRE_OP_SEND, 1)})); });

	end_child(sender);
	deliver(queue_datagram({request(WIRE_OP_SEND, 2)}, QUEUE + 1));
	worker([&](journal_pen *pen) { EXPECT_TRUE(receive(pen)); });
	EXPECT_EQ((Entries{{QUEUE, 1, sender, getuid()}}), read_journal(journal_).requests);
	journal_clear(journal_);
	worker([&](journal_pen *pen) { EXPECT_TRUE(receive(pen)); });
	EXPECT_EQ((Entries{mine(2, QUEUE + 1)}), read_journal(journal_).requests);
}

TEST_F(Journal, WhatHasBeenDealtWithIsForgotten)
{
	deliver(queue_datagram({request(WIRE_OP_SEND, 1), request(WIRE_OP_SEND_OPEN, 1, 5)}));
	deliver(queue_datagram({request(WIRE_OP_OPEN, 2)}));
	const Entry second = mine(2);
	worker([&](journal_pen *pen) {
		EXPECT_TRUE(receive(pen));
		journal_forget_datagram(pen, WIRE_DATAGRAM_MAX);
		EXPECT_TRUE(read_journal(journal_).empty());
		EXPECT_TRUE(receive(pen));
		EXPECT_EQ((Entries{second}), read_journal(journal_).requests);
		journal_forget_datagram(pen, WIRE_DATAGRAM_MAX);
		EXPECT_FALSE(receive(pen)) << "there is none";
	});
	EXPECT_TRUE(read_journal(journal_).empty());
}

// Several at a time, each in a slot of its own; what is current is left out in its slot only.
TEST_F(Journal, ManyDatagramsAtATime)
{
	constexpr unsigned LAST = JOURNAL_SLOTS - 1;

	deliver(queue_datagram({request(WIRE_OP_SEND, 1), request(WIRE_OP_SEND, 2)}));
	deliver(queue_datagram({request(WIRE_OP_SEND, 3), request(WIRE_OP_SEND, 4)}));
	deliver(queue_datagram({request(WIRE_OP_SEND, 5)}));
	worker([&](journal_pen *pen) {
		for (const unsigned slot : {0U, LAST, 7U}) {
			journal_use_slot(pen, slot);
			EXPECT_TRUE(receive(pen));
		}
		EXPECT_EQ(5U, read_journal(journal_).requests.size());
		journal_use_slot(pen, 7);
		journal_forget_datagram(pen, WIRE_DATAGRAM_MAX);
		journal_use_slot(pen, LAST);
		journal_turn_request(pen, 1);
	});
	EXPECT_EQ((Entries{mine(1), mine(2), mine(3), mine(4)}), read_journal(journal_).requests);
	EXPECT_EQ((Entries{mine(1), mine(2), mine(3)}), read_journal(journal_, false).requests);
	journal_clear(journal_);
	EXPECT_TRUE(read_journal(journal_).empty());
}

TEST_F(Journal, ARequestWithALineIsToldOfByBoth)
{
	deliver(queue_datagram({request(WIRE_OP_SEND, 1), request(WIRE_OP_SEND, 2)}));
	worker([&](journal_pen *pen) {
		EXPECT_TRUE(receive(pen));
		EXPECT_NE(JOURNAL_NONE, journal_note_request(pen, QUEUE, 2));
	});
	EXPECT_EQ((Entries{mine(1), mine(2), line(2)}), read_journal(journal_).requests);
}

// ---- What was being worked on

TEST_F(Journal, LeavesOutTheDatagramsCurrentRequest)
{
	for (unsigned i = 0; i < 3; i++) {
		deliver(queue_datagram(
			{request(WIRE_OP_SEND, 10), request(WIRE_OP_OPEN, 11), request(WIRE_OP_SEND, 12)}));
		worker([&](journal_pen *pen) {
			EXPECT_TRUE(receive(pen));
			EXPECT_NE(JOURNAL_NONE, journal_note_request(pen, QUEUE, 10 + i));
			EXPECT_NE(JOURNAL_NONE, journal_note_request(pen, QUEUE + 1, 10 + i));
			journal_turn_request(pen, i);
		});
		Entries all = {mine(10), mine(11), mine(12), line(10 + i), line(10 + i, QUEUE + 1)};
		EXPECT_EQ(all, read_journal(journal_).requests);
		all.erase(all.begin() + 3);
		all.erase(all.begin() + i);
		EXPECT_EQ(all, read_journal(journal_, false).requests);
		journal_clear(journal_);
	}
}

TEST_F(Journal, LeavesOutTheCurrentLine)
{
	deliver(queue_datagram({request(WIRE_OP_SEND, 1), request(WIRE_OP_SEND, 2)}));
	worker([&](journal_pen *pen) {
		uint32_t lines[3];

		EXPECT_TRUE(receive(pen));
		for (uint32_t i = 0; i < 3; i++)
			lines[i] = journal_note_request(pen, QUEUE, 2 + i);
		journal_turn(pen, lines[0]);
	});
	for (bool current : {false, true}) {
		const Entries got = read_journal(journal_, current).requests;

		EXPECT_EQ(current ? 5u : 3u, got.size());
		for (const Entry &e : {mine(1), line(3), line(4)})
			EXPECT_EQ(1, std::count(got.begin(), got.end(), e)) << e.name;
		for (const Entry &e : {mine(2), line(2)})
			EXPECT_EQ(current, std::count(got.begin(), got.end(), e)) << e.name;
	}
}

// Nothing was being worked on; or what was has ended meanwhile, and it is only that which is left out.
TEST_F(Journal, LeavesNothingElseOut)
{
	worker([&](journal_pen *pen) {
		journal_note_request(pen, QUEUE, 1);
		journal_turn(pen, journal_note_request(pen, QUEUE, 2));
		journal_turn(pen, JOURNAL_NONE);
	});
	EXPECT_EQ(2u, read_journal(journal_, false).requests.size());
	EXPECT_NE(0u, journal_position(journal_)) << "it is at work on something";
	journal_clear(journal_);
	worker([&](journal_pen *pen) {
		const uint32_t over = journal_note_request(pen, QUEUE, 1);

		journal_note_request(pen, QUEUE, 2);
		journal_note_second(pen, 3);
		journal_turn(pen, over);
		journal_strike(pen, over);
	});
	for (bool current : {false, true}) {
		EXPECT_EQ((Entries{line(2)}), read_journal(journal_, current).requests);
		EXPECT_EQ((std::vector<uint64_t>{3}), read_journal(journal_, current).seconds);
	}
}

TEST_F(Journal, PositionChangesWithWhateverIsWorkedOn)
{
	worker([&](journal_pen *pen) {
		std::vector<uint64_t> seen = {0};
		const auto differs = [&] {
			const uint64_t now = journal_position(journal_);

			for (uint64_t before : seen)
				EXPECT_NE(before, now);
			seen.push_back(now);
		};
		const uint32_t line = journal_note_request(pen, QUEUE, 1);

		for (int round = 0; round < 3; round++) {
			journal_turn(pen, line);
			differs();
			journal_turn(pen, line);
			differs();
			for (unsigned i : {0u, 0u, 63u}) {
				journal_turn_request(pen, i);
				differs();
			}
			journal_turn(pen, JOURNAL_NONE);
			differs();
			journal_rest(pen);
			EXPECT_EQ(0u, journal_position(journal_));
		}
	});
}

} // namespace
