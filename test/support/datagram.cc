// SPDX-License-Identifier: BSD-2-Clause
#include "test/support/datagram.h"

#include "test/support/fixture.h"

#include <cerrno>
#include <cstring>
#include <sys/socket.h>
#include <sys/uio.h>

wire_request make_request(wire_op op, const std::string &path, uint64_t tag)
{
	wire_request r = {};

	r.op = op;
	r.tag = tag;
	r.path = path.data();
	r.path_len = static_cast<uint32_t>(path.size());
	return r;
}

Datagram::Datagram(wire_channel channel, unsigned version)
{
	header_.version = version;
	header_.channel = channel;
}

Datagram &Datagram::add(const wire_request &request)
{
	const size_t at = requests_.size();
	const size_t cut = WIRE_REQUEST_SIZE - WIRE_REQUEST_SIZE_V1;

	requests_.resize(at + wire_request_bytes(&request));
	wire_put_request(&requests_[at], &request);
	header_.count++;
	if (header_.version != 1)
		return *this;
	/* Version 1 is the same without the last fields of the fixed part (a whole number of 8-byte parts). */
	static_assert(cut % 8 == 0);
	requests_.erase(requests_.begin() + static_cast<long>(at) + WIRE_REQUEST_SIZE_V1,
		requests_.begin() + static_cast<long>(at) + WIRE_REQUEST_SIZE);
	put32(&requests_, at, static_cast<uint32_t>(requests_.size() - at));
	return *this;
}

std::vector<unsigned char> Datagram::bytes() const
{
	std::vector<unsigned char> out(WIRE_HEADER_SIZE);

	wire_put_header(out.data(), &header_, WIRE_HEADER_SIZE + requests_.size());
	out.insert(out.end(), requests_.begin(), requests_.end());
	return out;
}

void put16(std::vector<unsigned char> *bytes, size_t at, uint16_t value)
{
	memcpy(&bytes->at(at), &value, sizeof value);
}

void put32(std::vector<unsigned char> *bytes, size_t at, uint32_t value)
{
	memcpy(&bytes->at(at), &value, sizeof value);
}

void put64(std::vector<unsigned char> *bytes, size_t at, uint64_t value)
{
	memcpy(&bytes->at(at), &value, sizeof value);
}

uint64_t get64(const std::vector<unsigned char> &bytes, size_t at)
{
	uint64_t value = 0;

	memcpy(&value, &bytes.at(at), sizeof value);
	return value;
}

int send_blocks(int srv, const std::vector<unsigned char> &bytes, const std::vector<std::vector<int>> &blocks)
{
	iovec iov = {const_cast<unsigned char *>(bytes.data()), bytes.size()};
	std::vector<uint64_t> control; /* of a type that is aligned as a cmsghdr must be */
	size_t space = 0;
	msghdr msg = {};

	for (const auto &fds : blocks)
		space += fds.empty() ? 0 : CMSG_SPACE(fds.size() * sizeof(int));
	control.resize(space / sizeof(uint64_t) + 1);
	msg.msg_iov = &iov;
	msg.msg_iovlen = 1;
	msg.msg_control = space > 0 ? control.data() : nullptr;
	msg.msg_controllen = space;
	auto *at = reinterpret_cast<unsigned char *>(control.data());
	for (const auto &fds : blocks) {
		auto *c = reinterpret_cast<cmsghdr *>(at);

		if (fds.empty())
			continue;
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
		memcpy(CMSG_DATA(c), fds.data(), fds.size() * sizeof(int));
		at += CMSG_SPACE(fds.size() * sizeof(int));
	}
	if (when_room(srv, [&] { return sendmsg(srv, &msg, MSG_DONTWAIT | MSG_NOSIGNAL); }) < 0)
		return errno;
	return 0;
}

int send_bytes(int srv, const std::vector<unsigned char> &bytes, const std::vector<int> &fds)
{
	return send_blocks(srv, bytes, {fds});
}

int send_bytes_as(int srv, const std::vector<unsigned char> &bytes, const ucred &who, int fd)
{
	alignas(cmsghdr) char control[CMSG_SPACE(sizeof who) + CMSG_SPACE(sizeof fd)] = {};
	iovec iov = {const_cast<unsigned char *>(bytes.data()), bytes.size()};
	msghdr m = {};

	m.msg_iov = &iov;
	m.msg_iovlen = 1;
	m.msg_control = control;
	m.msg_controllen = sizeof control;
	cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_CREDENTIALS;
	c->cmsg_len = CMSG_LEN(sizeof who);
	memcpy(CMSG_DATA(c), &who, sizeof who);
	c = CMSG_NXTHDR(&m, c);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(c), &fd, sizeof fd);
	return sendmsg(srv, &m, MSG_NOSIGNAL) < 0 ? errno : 0;
}
