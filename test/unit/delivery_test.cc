// SPDX-License-Identifier: BSD-2-Clause
// Datagrams in hand: in the journal's slots or out of them, and what the journal says of them when the worker is killed.
#include "test/unit/journal_fixture.h"

extern "C" {
#include "server/delivery.h"
}

#include <algorithm>
#include <string>

namespace
{

using namespace journals;

constexpr unsigned TRANSFERS = 6; /* lines that are theirs */

class Delivery : public JournalTest
{
      protected:
	// A worker does something with what comes, and is killed then.
	template <typename What> void at_the_desk(What what)
	{
		worker([&](journal_pen *pen) {
			deliveries all;

			ASSERT_EQ(0, deliveries_init(&all, pen, TRANSFERS));
			what(&all);
		});
	}
	// Received, and its header read, as it is before it is moved.
	delivery *receive_one(deliveries *all)
	{
		delivery *d = delivery_receive(all, pair_.out);

		if (!d)
			return nullptr;
		turn_init(&d->turn);
		EXPECT_EQ(0, wire_get_header(delivery_bytes(all, d), d->m.len, &d->h));
		return d;
	}
	static std::vector<uint64_t> tags_of(const deliveries *all, const delivery *d)
	{
		std::vector<uint64_t> out;
		wire_cursor cursor;
		wire_request r;

		wire_cursor_init(&cursor, delivery_bytes(all, d), d->m.len, &d->h);
		while (cursor.count > 0 && wire_next(&cursor, &r) == 0)
			out.push_back(r.tag);
		return out;
	}
	static void forget(deliveries *all, delivery *d)
	{
		all->fds -= fdpass_count(&d->m);
		fdpass_drop(&d->m);
		if (d->m.process >= 0)
			close(d->m.process);
		delivery_forget(all, d);
	}
	static Entries sorted(Entries e)
	{
		std::sort(e.begin(), e.end(), [](const Entry &a, const Entry &b) { return a.name < b.name; });
		return e;
	}
	static std::vector<unsigned char> call(uint64_t tag)
	{
		return Datagram(WIRE_CHANNEL_FD).add(request(WIRE_OP_SEND, tag)).bytes();
	}
};

TEST_F(Delivery, InASlotUntilItIsForgotten)
{
	deliver(queue_datagram({request(WIRE_OP_SEND, 1), request(WIRE_OP_OPEN, 2)}));
	deliver(queue_datagram({request(WIRE_OP_SEND, 3)}));
	at_the_desk([&](deliveries *all) {
		delivery *first = receive_one(all), *second = receive_one(all);

		ASSERT_TRUE(first && second);
		EXPECT_EQ(nullptr, delivery_receive(all, pair_.out));
		EXPECT_EQ(2U, all->waiting);
		delivery_take_in_hand(all, first);
		EXPECT_EQ((std::vector<uint64_t>{1, 2}), tags_of(all, first));
		forget(all, first);
		EXPECT_EQ(1U, all->waiting);
		EXPECT_EQ(1U, all->used);
		delivery_take_in_hand(all, second);
		EXPECT_EQ((std::vector<uint64_t>{3}), tags_of(all, second));
	});
	EXPECT_EQ((Entries{mine(3)}), read_journal(journal_).requests);
}

TEST_F(Delivery, MovedToLines)
{
	deliver(queue_datagram({request(WIRE_OP_SEND, 1), request(WIRE_OP_OPEN, 2)}));
	deliver(queue_datagram({request(WIRE_OP_SEND, 3)}));
	at_the_desk([&](deliveries *all) {
		delivery *first = delivery_move(all, receive_one(all), true);
		delivery *second = delivery_move(all, receive_one(all), true);

		EXPECT_TRUE(first->moved && second->moved);
		EXPECT_EQ(0U, all->used);
		EXPECT_EQ(2U, all->waiting);
		EXPECT_EQ((std::vector<uint64_t>{1, 2}), tags_of(all, first));
		EXPECT_EQ((std::vector<uint64_t>{3}), tags_of(all, second));
		forget(all, second);
		delivery_take_in_hand(all, first);
		delivery_at_request(all, first, 1);
	});
	EXPECT_EQ((Entries{line(1), line(2)}), sorted(read_journal(journal_).requests));
	/* The kernel may still be busy with what was being worked on. */
	EXPECT_EQ((Entries{line(1)}), read_journal(journal_, false).requests);
}

TEST_F(Delivery, NothingIsLeftOfWhatWasMoved)
{
	at_the_desk([&](deliveries *all) {
		for (uint64_t i = 0; i < 10000; i++) {
			deliver(i % 2 ? call(i) : queue_datagram({request(WIRE_OP_SEND, i)}));
			delivery *d = receive_one(all);

			ASSERT_NE(nullptr, d);
			d = delivery_move(all, d, i % 2 == 0);
			ASSERT_TRUE(d->moved);
			forget(all, d);
		}
		EXPECT_EQ(0U, all->moved_bytes);
		EXPECT_EQ(0U, all->waiting);
		EXPECT_EQ(0U, all->used);
		EXPECT_EQ(LINES, journal_left(all->pen));
	});
	EXPECT_TRUE(read_journal(journal_).empty());
}

// More wait than there are slots; the end of its channel tells of each.
TEST_F(Delivery, CallsNeedNoLine)
{
	at_the_desk([&](deliveries *all) {
		std::vector<delivery *> calls;

		for (uint64_t i = 0; i < 2 * JOURNAL_SLOTS; i++) {
			/* Some are two. */
			deliver(i % 3 ? call(i)
				      : Datagram(WIRE_CHANNEL_FD)
						.add(request(WIRE_OP_READ, i))
						.add(request(WIRE_OP_PING, i))
						.bytes());
			delivery *d = receive_one(all);

			ASSERT_NE(nullptr, d);
			calls.push_back(delivery_move(all, d, false));
		}
		EXPECT_EQ(0U, all->used);
		EXPECT_EQ(LINES, journal_left(all->pen));
		for (uint64_t i = 0; i < calls.size(); i++)
			EXPECT_EQ(std::vector<uint64_t>(i % 3 ? 1 : 2, i), tags_of(all, calls[i]));
	});
	EXPECT_TRUE(read_journal(journal_).empty());
}

// What a line could not say: a cancel, a send-open; and what there are no lines for but those of transfers.
TEST_F(Delivery, OthersStay)
{
	std::vector<wire_request> many;

	for (uint64_t i = 0; i < LINES - TRANSFERS + 1; i++)
		many.push_back(request(WIRE_OP_SEND, i));
	deliver(queue_datagram({request(WIRE_OP_SEND, 1), request(WIRE_OP_CANCEL, 2)}));
	deliver(queue_datagram({request(WIRE_OP_SEND_OPEN, 0, 77)}));
	deliver(Datagram(WIRE_CHANNEL_FD).add(request(WIRE_OP_SEND, 1)).add(request(WIRE_OP_SEND_OPEN, 2, 78)).bytes());
	deliver(Datagram(WIRE_CHANNEL_NONE).add(request(WIRE_OP_CANCEL, 0, 5)).bytes());
	deliver(queue_datagram(many));
	at_the_desk([&](deliveries *all) {
		for (unsigned i = 0; i < 5; i++) {
			delivery *d = receive_one(all);

			ASSERT_NE(nullptr, d);
			EXPECT_EQ(d, delivery_move(all, d, d->h.channel == WIRE_CHANNEL_QUEUE)) << i;
			EXPECT_FALSE(d->moved) << i;
			EXPECT_EQ(LINES, journal_left(all->pen)) << i;
		}
		EXPECT_EQ(5U, all->used);
	});
	const Report r = read_journal(journal_);
	EXPECT_EQ(1 + many.size(), r.requests.size());
	EXPECT_EQ((std::vector<uint64_t>{77, 78}), r.seconds);
	EXPECT_EQ((Entries{mine(2)}), r.cancels);
}

// However large they are, so many bytes of them are kept and no more.
TEST_F(Delivery, SoMuchMemoryAndNoMore)
{
	at_the_desk([&](deliveries *all) {
		unsigned moved = 0;

		for (bool fits = true; fits; moved += fits) {
			auto bytes = call(moved);
			const int room = WIRE_DATAGRAM_MAX * 4;

			ASSERT_EQ(0, setsockopt(pair_.in, SOL_SOCKET, SO_SNDBUF, &room, sizeof room));
			bytes.resize(WIRE_DATAGRAM_MAX);
			deliver(bytes);
			delivery *d = delivery_receive(all, pair_.out);
			ASSERT_NE(nullptr, d);
			d->h.channel = WIRE_CHANNEL_FD;
			d->h.count = 1;
			fits = delivery_move(all, d, false) != d;
			ASSERT_GT(1000U, moved);
		}
		EXPECT_LT(200U, moved);
		EXPECT_EQ(1U, all->used);
	});
}

} // namespace
