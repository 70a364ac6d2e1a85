// SPDX-License-Identifier: BSD-2-Clause
// What queues are told: in order, many to a record, kept while there is no room; and what of it stands in the journal.
extern "C" {
#include "server/notes.h"
}

#include "test/support/bounded.h"
#include "test/support/fd.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <ostream>
#include <random>
#include <set>
#include <sys/socket.h>
#include <vector>

namespace
{

const uint64_t QUEUE = 77;
const uint32_t LINES = 600;

struct Note {
	uint32_t kind;
	uint64_t tag;

	bool operator==(const Note &o) const
	{
		return kind == o.kind && tag == o.tag;
	}
};

void PrintTo(const Note &n, std::ostream *out)
{
	*out << "kind " << n.kind << " tag " << n.tag;
}

using Record = std::vector<Note>;

class Notes : public BoundedTest
{
      protected:
	void SetUp() override
	{
		BoundedTest::SetUp();
		channel_ = make_socketpair(SOCK_SEQPACKET);
		journal_ = journals_new(1, LINES);
		ASSERT_NE(nullptr, journal_);
		ASSERT_EQ(0, journal_open(&pen_, journal_));
	}
	void TearDown() override
	{
		notes_free(&notes_);
		free(pen_.struck);
		channel_ = {};
		BoundedTest::TearDown();
	}

	// So little that a few records fill it.
	void make_narrow() const
	{
		const int size = 1;

		ASSERT_EQ(0, setsockopt(channel_.in, SOL_SOCKET, SO_SNDBUF, &size, sizeof size));
	}

	// One note whose fields follow from its tag, and that is expected in its turn.
	void put(uint32_t kind, uint64_t tag, uint32_t line = JOURNAL_NONE)
	{
		const wire_note note = {kind, static_cast<int32_t>(tag % 100), tag, tag * 3, tag * 5};
		sfd_file_info info = {};

		info.cmd = SFD_FILE_INFO;
		info.txnid = tag * 7;
		info.tag = tag;
		ASSERT_EQ(0, notes_put(&notes_, &note, kind == WIRE_NOTE_INFO ? &info : nullptr, line));
		expected_.push_back({kind, tag});
		if (kind == WIRE_NOTE_DONE)
			unsent_.insert(tag);
	}
	uint32_t line(uint64_t tag)
	{
		return journal_note_request(&pen_, QUEUE, tag);
	}
	int send()
	{
		return notes_send(&notes_, channel_.in, &pen_, QUEUE);
	}

	// The next record, checked to be what comes next; empty: there is none.
	Record receive()
	{
		unsigned char buf[WIRE_RECORD_MAX + 1];
		const ssize_t n = recv(channel_.out, buf, sizeof buf, MSG_DONTWAIT);
		Record out;

		EXPECT_LE(n, WIRE_RECORD_MAX);
		for (size_t at = 0, left = n < 0 ? 0 : static_cast<size_t>(n), size; left > 0;
			at += size, left -= size) {
			sfd_file_info info = {};
			wire_note note;

			size = wire_get_note(buf + at, left, &note, &info);
			if (size == 0) {
				ADD_FAILURE() << "not a whole note";
				break;
			}
			out.push_back({note.kind, note.tag});
			EXPECT_EQ(static_cast<int32_t>(note.tag % 100), note.stat);
			EXPECT_EQ(note.tag * 3, note.bytes);
			EXPECT_EQ(note.tag * 5, note.written);
			if (note.kind == WIRE_NOTE_INFO) {
				EXPECT_EQ(note.tag, info.tag);
				EXPECT_EQ(note.tag * 7, info.txnid);
			}
			expect_next(out.back());
		}
		return out;
	}
	std::vector<size_t> receive_all()
	{
		std::vector<size_t> sizes;

		for (Record r = receive(); !r.empty(); r = receive())
			sizes.push_back(r.size());
		return sizes;
	}

	// The requests that the journal has in its lines. A tag that stands there twice is a failure.
	std::set<uint64_t> in_journal() const
	{
		std::set<uint64_t> tags;
		journal_reader reader = {};

		reader.arg = &tags;
		reader.request = [](void *arg, uint64_t queue, uint64_t tag, const owner *) {
			EXPECT_EQ(QUEUE, queue);
			EXPECT_TRUE(static_cast<std::set<uint64_t> *>(arg)->insert(tag).second) << tag;
		};
		journal_read(journal_, true, &reader);
		return tags;
	}
	// What the notes themselves hold back: the outcomes that have not been sent.
	std::set<uint64_t> kept() const
	{
		std::set<uint64_t> tags;

		for (uint32_t at = 0; at < notes_.len;) {
			wire_note note;

			memcpy(&note, notes_.kept + at, sizeof note);
			at += static_cast<uint32_t>(wire_note_bytes(note.kind));
			if (note.kind == WIRE_NOTE_DONE)
				tags.insert(note.tag);
		}
		return tags;
	}

	Ends channel_;
	journal *journal_ = nullptr;
	journal_pen pen_ = {};
	notes notes_ = {};
	std::deque<Note> expected_;
	std::set<uint64_t> unsent_; /* outcomes that nobody has received */

      private:
	void expect_next(const Note &n)
	{
		ASSERT_FALSE(expected_.empty());
		EXPECT_EQ(expected_.front(), n);
		expected_.pop_front();
		unsent_.erase(n.tag);
	}
};

// ---- Records

TEST_F(Notes, NothingMakesNoRecord)
{
	EXPECT_EQ(0, send());
	EXPECT_EQ(0, notes_send(&notes_, channel_.in, nullptr, QUEUE));
	EXPECT_TRUE(receive().empty());
}

TEST_F(Notes, ManyGoInOneRecord)
{
	const size_t most = WIRE_RECORD_MAX / WIRE_NOTE_SIZE;

	for (size_t n : {size_t{1}, size_t{2}, most - 1, most}) {
		for (uint64_t tag = 0; tag < n; tag++)
			put(WIRE_NOTE_DONE, tag);
		EXPECT_EQ(0, send());
		EXPECT_EQ((std::vector<size_t>{n}), receive_all());
		EXPECT_EQ(0u, notes_.len);
		EXPECT_EQ(0u, notes_.outcomes);
	}
	for (uint64_t tag = 0; tag < 2 * most + 1; tag++)
		put(WIRE_NOTE_DONE, tag);
	EXPECT_EQ(0, send());
	EXPECT_EQ((std::vector<size_t>{most, most, 1}), receive_all());
}

TEST_F(Notes, InformationIsNeverCutInTwo)
{
	const size_t most = WIRE_RECORD_MAX / (WIRE_NOTE_SIZE + WIRE_FRAME_SIZE);

	for (uint64_t tag = 0; tag < 3 * most + 1; tag++)
		put(WIRE_NOTE_INFO, tag);
	EXPECT_EQ(0, send());
	EXPECT_EQ((std::vector<size_t>{most, most, most, 1}), receive_all());
}

// Wherever the record's end falls among notes of both lengths.
TEST_F(Notes, AllKindsGoInOrder)
{
	const uint32_t kinds[] = {WIRE_NOTE_INFO, WIRE_NOTE_PROGRESS, WIRE_NOTE_DONE};
	uint64_t tag = 0;

	for (unsigned before = 0; before < 10; before++) {
		for (unsigned i = 0; i < before; i++)
			put(WIRE_NOTE_DONE, tag++);
		for (unsigned i = 0; i < 200; i++)
			put(kinds[i % 3], tag++);
		EXPECT_EQ(0, send());
		receive_all();
		EXPECT_TRUE(expected_.empty());
	}
	for (uint32_t kind : {WIRE_NOTE_REGISTERED, WIRE_NOTE_REFUSED})
		put(kind, tag++);
	EXPECT_EQ(0, send());
	EXPECT_EQ((std::vector<size_t>{2}), receive_all());
}

// ---- Without room

TEST_F(Notes, WhatDoesNotFitIsKeptAndGoesLater)
{
	make_narrow();
	for (uint64_t tag = 0; tag < 500; tag++)
		put(tag % 3 == 0 ? WIRE_NOTE_INFO : WIRE_NOTE_DONE, tag);
	EXPECT_EQ(EAGAIN, send());
	EXPECT_TRUE(notes_.blocked);
	EXPECT_LT(0u, notes_.len);
	EXPECT_EQ(EAGAIN, send()) << "nothing has changed";
	int sends = 0;
	for (int err = EAGAIN; err != 0; sends++) {
		EXPECT_FALSE(receive().empty());
		err = send();
		ASSERT_TRUE(err == 0 || err == EAGAIN) << err;
		EXPECT_EQ(err == EAGAIN, notes_.blocked);
	}
	EXPECT_LT(1, sends);
	receive_all();
	EXPECT_TRUE(expected_.empty());
	EXPECT_TRUE(in_journal().empty());
}

TEST_F(Notes, MoreMayComeWhileSomeAreKept)
{
	make_narrow();
	uint64_t tag = 0;

	for (int round = 0; round < 30; round++) {
		for (int i = 0; i < 50; i++)
			put(i % 2 ? WIRE_NOTE_INFO : WIRE_NOTE_DONE, tag++);
		send();
		receive();
	}
	while (!expected_.empty() && !HasFailure()) {
		send();
		receive_all();
	}
	EXPECT_EQ(0u, notes_.len);
}

// ---- The journal

TEST_F(Notes, LinesAreStruckOutForWhatWasSent)
{
	for (uint64_t tag = 0; tag < 10; tag++) {
		put(WIRE_NOTE_INFO, tag);
		put(WIRE_NOTE_DONE, tag, tag % 2 ? line(tag) : JOURNAL_NONE);
	}
	const uint32_t other = line(1000);
	EXPECT_EQ((std::set<uint64_t>{1, 3, 5, 7, 9, 1000}), in_journal());
	EXPECT_EQ(0, send());
	EXPECT_EQ((std::set<uint64_t>{1000}), in_journal());
	journal_strike(&pen_, other);
	EXPECT_EQ(LINES, journal_left(&pen_));
}

// The datagram, in which alone some of them stand, is forgotten next.
TEST_F(Notes, WhatIsKeptGetsALine)
{
	make_narrow();
	for (uint64_t tag = 0; tag < 400; tag++)
		put(WIRE_NOTE_DONE, tag, tag % 3 == 0 ? line(tag) : JOURNAL_NONE);
	EXPECT_EQ(EAGAIN, send());
	EXPECT_FALSE(kept().empty());
	EXPECT_EQ(kept(), in_journal());
	EXPECT_EQ(LINES - kept().size(), journal_left(&pen_));
	receive();
	EXPECT_EQ(EAGAIN, send());
	EXPECT_EQ(kept(), in_journal());
	EXPECT_EQ(LINES - kept().size(), journal_left(&pen_)) << "one line each";
	while (send() == EAGAIN)
		receive();
	EXPECT_TRUE(in_journal().empty());
	EXPECT_EQ(LINES, journal_left(&pen_));
}

TEST_F(Notes, WithoutALineThereIsNoGoingOn)
{
	make_narrow();
	while (line(9) != JOURNAL_NONE)
		;
	journal_clear(journal_);
	for (uint32_t free : {0u, 1u, 2u})
		journal_strike(&pen_, free);
	for (uint64_t tag = 0; tag < 400; tag++)
		put(WIRE_NOTE_DONE, tag);
	EXPECT_EQ(ENOBUFS, send());
	EXPECT_EQ(3u, in_journal().size());
	/* Whoever gives up strikes them all out. */
	for (uint32_t i = 0; i < notes_.outcomes; i++)
		journal_strike(&pen_, notes_.lines[i]);
	EXPECT_TRUE(in_journal().empty());
	EXPECT_EQ(3u, journal_left(&pen_));
}

TEST_F(Notes, WithoutAJournalTheyAreKeptAllTheSame)
{
	make_narrow();
	for (uint64_t tag = 0; tag < 1000; tag++)
		put(WIRE_NOTE_DONE, tag);
	while (notes_send(&notes_, channel_.in, nullptr, QUEUE) == EAGAIN)
		receive();
	receive_all();
	EXPECT_TRUE(expected_.empty());
	EXPECT_TRUE(in_journal().empty());
}

// ---- Without a reader

TEST_F(Notes, ThatTheReaderIsGoneIsSaid)
{
	channel_.out.reset();
	put(WIRE_NOTE_DONE, 1, line(1));
	EXPECT_EQ(EPIPE, send());
	EXPECT_FALSE(notes_.blocked);
	EXPECT_EQ((std::set<uint64_t>{1}), in_journal()) << "its line is still there, for its owner to strike out";
	EXPECT_EQ(EPIPE, send());
}

TEST_F(Notes, ThatTheReaderLeftSomethingIsNoDifference)
{
	make_narrow();
	for (uint64_t tag = 0; tag < 400; tag++)
		put(WIRE_NOTE_DONE, tag);
	EXPECT_EQ(EAGAIN, send());
	channel_.out.reset();
	const int err = send();
	EXPECT_TRUE(err == ECONNRESET || err == EPIPE) << err;
	EXPECT_EQ(EPIPE, send());
	EXPECT_FALSE(notes_.blocked);
}

// ---- Anything, in any order

// After every attempt the journal has exactly what was not sent, and what was sent comes out once and in order.
TEST_F(Notes, RandomStepsWithASlowReader)
{
	std::mt19937 random(1);
	uint64_t tag = 0;
	int waits = 0;

	make_narrow();
	for (int step = 0; step < 20000 && !HasFailure(); step++) {
		for (unsigned n = random() % 8; n > 0 && unsent_.size() < LINES; n--, tag++) {
			const unsigned what = random() % 4;

			if (what == 0)
				put(WIRE_NOTE_INFO, tag);
			else if (what == 1)
				put(WIRE_NOTE_PROGRESS, tag);
			else
				put(WIRE_NOTE_DONE, tag, what == 2 ? line(tag) : JOURNAL_NONE);
		}
		if (random() % 3 == 0) {
			const int err = send();

			ASSERT_EQ(notes_.len > 0 ? EAGAIN : 0, err);
			waits += err == EAGAIN;
			ASSERT_EQ(kept(), in_journal());
			ASSERT_EQ(LINES - kept().size(), journal_left(&pen_));
		}
		if (random() % 5 == 0)
			receive();
	}
	EXPECT_LT(100, waits);
	while (send() == EAGAIN)
		receive_all();
	receive_all();
	EXPECT_TRUE(expected_.empty());
	EXPECT_EQ(LINES, journal_left(&pen_));
}

// Notes without outcomes have no lines to be moved.
TEST_F(Notes, InformationAloneIsKeptToo)
{
	make_narrow();
	for (uint64_t tag = 0; tag < 300; tag++)
		put(WIRE_NOTE_INFO, tag);
	EXPECT_EQ(EAGAIN, send());
	receive();
	EXPECT_EQ(EAGAIN, send());
	while (send() == EAGAIN)
		receive();
	receive_all();
	EXPECT_TRUE(expected_.empty());
}

} // namespace
