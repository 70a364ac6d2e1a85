// SPDX-License-Identifier: BSD-2-Clause
#include "test/support/raw_queue.h"

#include <cerrno>
#include <cstring>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

enum { QUEUE_ID_AT = 16 }; /* in a datagram's header: sendfiled-protocol(7) */

RawQueue::RawQueue(int srv, uint64_t id) : srv_(srv), id_(id), box_(make_socketpair(SOCK_SEQPACKET))
{
}

std::vector<unsigned char> RawQueue::datagram(const std::vector<wire_request> &requests) const
{
	Datagram d(WIRE_CHANNEL_QUEUE);

	for (const wire_request &r : requests)
		d.add(r);
	std::vector<unsigned char> bytes = d.bytes();
	put64(&bytes, QUEUE_ID_AT, id_);
	return bytes;
}

int RawQueue::send(const std::vector<wire_request> &requests, const std::vector<int> &fds)
{
	return send_bytes(srv_, datagram(requests), fds);
}

int RawQueue::ask(uint64_t depth, int end)
{
	wire_request r = make_request(WIRE_OP_REGISTER);

	r.length = depth;
	const int err = send({r}, {end >= 0 ? end : static_cast<int>(box_.out)});
	if (end < 0)
		box_.out.reset();
	return err;
}

// The next record of one or the other. A descriptor that comes along is the channel.
bool RawQueue::read_record(int fd, milliseconds patience)
{
	alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	iovec iov = {};
	msghdr msg = {};

	at_ = 0;
	record_.resize(WIRE_RECORD_MAX + 1);
	iov = {record_.data(), record_.size()};
	msg.msg_iov = &iov;
	msg.msg_iovlen = 1;
	msg.msg_control = control;
	msg.msg_controllen = sizeof control;
	if (await(fd, POLLIN, patience) == 0) {
		record_.clear();
		return false;
	}
	/* Whoever closes a socket with something unread in it resets it: that is said once, and before what has come. */
	ssize_t n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0 && errno == ECONNRESET)
		n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	record_.resize(n > 0 ? static_cast<size_t>(n) : 0);
	EXPECT_GE(size_t{WIRE_RECORD_MAX}, record_.size());
	const cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : nullptr;
	if (c && c->cmsg_type == SCM_RIGHTS) {
		int passed;

		EXPECT_FALSE(channel_ >= 0) << "a descriptor that belongs to nothing";
		memcpy(&passed, CMSG_DATA(c), sizeof passed);
		channel_.reset(passed);
	}
	return n > 0;
}

wire_note RawQueue::answer(milliseconds patience)
{
	wire_note note = {};
	sfd_file_info info;

	for (const bool from_box : {true, false}) {
		if (!read_record(from_box ? box_.in : channel_, patience))
			return {};
		at_ = wire_get_note(record_.data(), record_.size(), &note, &info);
		if (from_box && note.kind != WIRE_NOTE_CHANNEL)
			return note;
		EXPECT_GE(channel_, 0) << "the channel is not there";
	}
	return note;
}

void RawQueue::open(uint64_t depth)
{
	ASSERT_EQ(0, ask(depth));
	ASSERT_EQ(static_cast<uint32_t>(WIRE_NOTE_REGISTERED), answer().kind);
}

void RawQueue::open_in_the_end()
{
	ASSERT_TRUE(eventually([&] {
		channel_.reset();
		box_ = make_socketpair(SOCK_SEQPACKET);
		return ask() == 0 && answer().kind == WIRE_NOTE_REGISTERED;
	}));
}

Note RawQueue::next(milliseconds patience)
{
	Note n;

	if (at_ >= record_.size() && !read_record(channel_, patience)) {
		ADD_FAILURE() << "no record comes";
		return n;
	}
	const size_t size = wire_get_note(record_.data() + at_, record_.size() - at_, &n.note, &n.info);
	EXPECT_NE(0u, size) << "that is no note";
	at_ = size == 0 ? record_.size() : at_ + size;
	return n;
}

int RawQueue::end_of(uint64_t tag)
{
	const Note n = next();

	EXPECT_EQ(static_cast<uint32_t>(WIRE_NOTE_DONE), n.note.kind);
	EXPECT_EQ(tag, n.note.tag);
	return n.note.stat;
}

bool RawQueue::is_quiet()
{
	return at_ >= record_.size() && await(channel_, POLLIN, 0ms) == 0;
}

bool RawQueue::is_closed(milliseconds patience)
{
	const Deadline deadline(patience);
	const int fd = channel_ >= 0 ? channel_ : box_.in;
	unsigned char record[WIRE_RECORD_MAX];

	while (await(fd, POLLIN, milliseconds(deadline.left_ms())) != 0) {
		const ssize_t n = recv(fd, record, sizeof record, MSG_DONTWAIT);

		if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN && errno != ECONNRESET))
			return true;
	}
	return false;
}

wire_request queue_send_request(const std::string &path, uint64_t tag)
{
	return make_request(WIRE_OP_SEND, path, tag);
}

wire_request queue_open_request(const std::string &path, uint64_t tag)
{
	return make_request(WIRE_OP_OPEN, path, tag);
}

wire_request queue_send_open_request(uint64_t txnid, uint64_t tag)
{
	wire_request r = make_request(WIRE_OP_SEND_OPEN, {}, tag);

	r.txnid = txnid;
	return r;
}

wire_request queue_cancel_request(uint64_t tag)
{
	return make_request(WIRE_OP_CANCEL, {}, tag);
}
