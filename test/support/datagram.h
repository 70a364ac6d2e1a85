// SPDX-License-Identifier: BSD-2-Clause
// Datagrams made by hand: several requests at a time, and all that the library would never send.
#pragma once

#include <cstdint>
#include <string>
#include <sys/socket.h>
#include <vector>

extern "C" {
#include "lib/wire.h"
}

using Bytes = std::vector<unsigned char>;

// Where the fields of a header and of its first request lie: sendfiled-protocol(7).
namespace field
{
enum At : size_t {
	MAGIC = 0,
	VERSION = 4,
	COUNT = 6,
	LENGTH = 8,
	CHANNEL = 12,
	QUEUE_ID = 16,
	HEADER_RESERVED = 24,
	REQUEST_SIZE = WIRE_HEADER_SIZE + 0,
	OP = WIRE_HEADER_SIZE + 4,
	PATH_LEN = WIRE_HEADER_SIZE + 6,
	REQUEST_TAG = WIRE_HEADER_SIZE + 8,
	FLAGS = WIRE_HEADER_SIZE + 40,
	RESERVED0 = WIRE_HEADER_SIZE + 44,
	RESERVED1 = WIRE_HEADER_SIZE + 48,
	HEADERS_LEN = WIRE_HEADER_SIZE + 72,
	TRAILERS_LEN = WIRE_HEADER_SIZE + 76,
};
} // namespace field

// A request of that operation with nothing else set. The path must outlive it.
wire_request make_request(wire_op op, const std::string &path = {}, uint64_t tag = 0);

class Datagram
{
      public:
	explicit Datagram(wire_channel channel = WIRE_CHANNEL_FD, unsigned version = WIRE_VERSION);

	Datagram &add(const wire_request &request);
	// The whole of it, with a header that is true.
	std::vector<unsigned char> bytes() const;

      private:
	wire_header header_ = {};
	std::vector<unsigned char> requests_;
};

// Overwrites a number in a datagram.
void put16(std::vector<unsigned char> *bytes, size_t at, uint16_t value);
void put32(std::vector<unsigned char> *bytes, size_t at, uint32_t value);
void put64(std::vector<unsigned char> *bytes, size_t at, uint64_t value);

// Reads one.
uint64_t get64(const std::vector<unsigned char> &bytes, size_t at);

// Sends it, waiting for room. 0, or an errno.
int send_bytes(int srv, const std::vector<unsigned char> &bytes, const std::vector<int> &fds);

// The same; each inner list of descriptors goes in an SCM_RIGHTS block of its own.
int send_blocks(int srv, const std::vector<unsigned char> &bytes, const std::vector<std::vector<int>> &blocks);

// The same, with one descriptor, and a control message that says who sends. Does not wait.
int send_bytes_as(int srv, const std::vector<unsigned char> &bytes, const ucred &who, int fd);
