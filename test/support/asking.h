// SPDX-License-Identifier: BSD-2-Clause
// The base of tests of what goes the same way whether it is asked for by a call with a status pipe of its own or through a
// queue.
#pragma once

#include "test/support/fixture.h"
#include "test/support/queue.h"

#include <memory>
#include <sendfiled/sendfiled.h>
#include <string>

enum class Form { One, Queue };

std::string name_of(Form form);

// A range of a file, by name or (fd >= 0) open.
struct Source {
	std::string path;
	int fd = -1;
	off_t offset = 0;
	size_t len = 0;
};

// How it went. `err` is the call's errno, 0 if it was taken; the rest counts only then.
struct Went {
	int err = 0, stat = -1;
	uint64_t bytes = 0, written = 0;
	bool has_info = false;
	sfd_file_info info = {};
};

// One request on its way.
class Asked
{
      public:
	Asked(Form form, int srv);
	// Send, or open; what was refused at the call is over.
	void send(const Source &from, int dest, const sfd_opts *opts = nullptr);
	void open(const Source &from, const sfd_opts *opts = nullptr);
	// After the information of an open has come.
	void send_open(int dest, const sfd_opts *opts = nullptr);
	void cancel();
	// Lets go of the status pipe, or the queue.
	void close()
	{
		status_.reset();
		queue_.reset();
	}
	// Waits for the information: false if there was a refusal instead.
	bool await_info(milliseconds patience = PATIENCE);
	const sfd_file_info &info() const
	{
		return went_.info;
	}
	bool is_over();
	// Waits for the end.
	const Went &end(milliseconds patience = PATIENCE);

      private:
	void note_call(bool taken);
	void submit();
	bool read_one(milliseconds patience);
	void take(const void *frame);
	void take(const sfd_event &e);

	Form form_;
	int srv_;
	Fd status_;
	std::unique_ptr<sfd_queue, void (*)(sfd_queue *)> queue_;
	bool over_ = false;
	Went went_;
};

class AskingTest : public SfdTest
{
      protected:
	// One request from its beginning to its end; what arrives at the destination, whose end is awaited, is in `arrived`.
	Went send(Form form, const Source &from, const DestType &to, const sfd_opts *opts = nullptr);
	// The same in two steps.
	Went open_and_send(Form form, const Source &from, const DestType &to, const sfd_opts *first = nullptr,
		const sfd_opts *second = nullptr);
	// Without a file's own content before it.
	std::string arrived;

      private:
	void take_arrived(Dest *dest);
};

// For EXPECT: it succeeded with so many bytes of the file, and so many in all.
void expect_went(const Went &w, uint64_t bytes, uint64_t written);
// It ended with that, and the destination was not touched.
void expect_untouched(const Went &w, int stat);
