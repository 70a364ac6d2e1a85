// SPDX-License-Identifier: BSD-2-Clause
// A queue without the library: its channel, its id and its tags are the test's.
#pragma once

#include "test/support/datagram.h"
#include "test/support/fd.h"
#include "test/support/wait.h"

#include <sendfiled/sendfiled.h>
#include <string>
#include <vector>

struct Note {
	wire_note note = {};
	sfd_file_info info = {}; // with WIRE_NOTE_INFO
};

class RawQueue
{
      public:
	// Nothing is sent yet.
	RawQueue(int srv, uint64_t id);

	// Asks for it to be registered; the answer is to go to our letter box's other end, or to whatever that is. 0, or an
	// errno.
	int ask(uint64_t depth = 16, int end = -1);
	// The answer, and what the daemon says first: a WIRE_NOTE_REGISTERED, a WIRE_NOTE_REFUSED, or one of kind 0 if there
	// is neither.
	wire_note answer(milliseconds patience = PATIENCE);
	// Asks, and waits for the consent, which must come.
	void open(uint64_t depth = 16);
	// Asks until there is consent, since the daemon may not have learnt yet that another one by this id has gone.
	void open_in_the_end();

	// A datagram of its requests: the caller may change it before it is sent.
	std::vector<unsigned char> datagram(const std::vector<wire_request> &requests) const;
	int send(const std::vector<wire_request> &requests, const std::vector<int> &fds = {});

	// The next note; a failure, and one of kind 0, if none comes in time.
	Note next(milliseconds patience = PATIENCE);
	// It must be the end of the request with that tag: its status.
	int end_of(uint64_t tag);
	// Whether nothing has come.
	bool is_quiet();
	// Whether it has been shut down, or closed by everybody else; what comes before that is passed over.
	bool is_closed(milliseconds patience = PATIENCE);

	uint64_t id() const
	{
		return id_;
	}
	// `in` is ours; `out` goes to the daemon.
	Ends &letter_box()
	{
		return box_;
	}
	// What came in the letter box; without an answer, nothing.
	Fd &channel()
	{
		return channel_;
	}

      private:
	bool read_record(int fd, milliseconds patience);

	int srv_;
	uint64_t id_;
	Ends box_;
	Fd channel_;
	std::vector<unsigned char> record_;
	size_t at_ = 0;
};

// Requests of a queue, as the library makes them.
wire_request queue_send_request(const std::string &path, uint64_t tag);
wire_request queue_open_request(const std::string &path, uint64_t tag);
wire_request queue_send_open_request(uint64_t txnid, uint64_t tag);
wire_request queue_cancel_request(uint64_t tag);
