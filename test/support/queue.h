// SPDX-License-Identifier: BSD-2-Clause
// A queue whose events are checked against the contract while they are reaped.
#pragma once

#include "test/support/daemon.h"
#include "test/support/fd.h"
#include "test/support/wait.h"

#include <functional>
#include <map>
#include <sendfiled/sendfiled.h>
#include <string>
#include <vector>

// How the requests of one user_data went.
struct Result {
	unsigned added = 0, ended = 0;   // requests that were taken, and SFD_EV_DONEs
	unsigned infos = 0;              // of the last of them, as is all that follows
	bool wants_info = false;         // an SFD_EV_INFO belongs to it
	bool wants_progress = false;     // SFD_EV_PROGRESS may come
	bool shared = false;             // others of the same number are outstanding: whose event is it?
	sfd_file_info info = {};         // if there was one
	std::vector<sfd_event> progress; // all of them
	int stat = -1;                   // of its end
	uint64_t bytes = 0, written = 0; // by the last event

	bool over() const
	{
		return added > 0 && ended == added;
	}
};

class Queue
{
      public:
	explicit Queue(int srv, unsigned depth = 256);
	~Queue();
	Queue(const Queue &) = delete;
	Queue &operator=(const Queue &) = delete;

	operator sfd_queue *() const
	{
		return queue_;
	}
	int fd() const
	{
		return sfd_queue_fd(queue_);
	}
	// Frees it. What is outstanding has no end then.
	void free();

	// Add a request, which must be taken. Where there is no room before a submit, there is one.
	void send(const std::string &path, int dest, uint64_t user_data, const sfd_opts *opts = nullptr,
		off_t offset = 0, size_t len = 0);
	void open(const std::string &path, uint64_t user_data, const sfd_opts *opts = nullptr, off_t offset = 0,
		size_t len = 0);
	void send_open(uint64_t user_data, int dest, const sfd_opts *opts = nullptr);
	void cancel(uint64_t user_data);

	// Sends all that was added, waiting for the daemon's consent and for room, and reaping meanwhile: 0, or an errno.
	int submit(milliseconds patience = PATIENCE);
	// Takes in all that is there now, `max` at a time; returns how many events.
	size_t reap(int max = 64);
	// Takes in `max` at most, once.
	size_t reap_once(int max);
	// Submits and reaps until that is so. False if it is not in time.
	bool until(const std::function<bool()> &what, milliseconds patience = PATIENCE);

	// Waits until all that was added is over; says what is not.
	void finish(milliseconds patience = PATIENCE);
	// Waits until the requests of that user_data are over.
	const Result &end_of(uint64_t user_data, milliseconds patience = PATIENCE);
	// Waits for the information.
	const sfd_file_info &info_of(uint64_t user_data, milliseconds patience = PATIENCE);
	// Waits until it is over, which must be a success of that many bytes.
	void expect_success(uint64_t user_data, uint64_t bytes);
	// Waits until it is over, with that status.
	void expect_end(uint64_t user_data, int stat);
	// What there is to say so far; empty if there was no such request.
	const Result &of(uint64_t user_data)
	{
		return results_[user_data];
	}
	// Forgets what is over: from now on an event of that number would be one too many.
	void forget(uint64_t user_data);
	// Requests whose end was not reaped.
	size_t outstanding() const
	{
		return added_ - ended_;
	}
	size_t ended() const
	{
		return ended_;
	}
	// Events of all kinds that were reaped.
	size_t events() const
	{
		return events_;
	}
	// Submits, and reaps until there was something. False if nothing comes in time.
	bool step(milliseconds patience = PATIENCE);
	// Nothing is to be had: neither events nor a descriptor that is readable.
	void expect_quiet();

      private:
	template <typename Add> void add(uint64_t user_data, const sfd_opts *opts, bool opens, Add call);
	void take(const sfd_event &e);
	void take_info(Result &r, const sfd_event &e);
	void take_done(Result &r, const sfd_event &e);

	sfd_queue *queue_;
	size_t added_ = 0, ended_ = 0, events_ = 0;
	std::map<uint64_t, Result> results_;
};

// Whether a submit that failed with that may be tried again once the queue's descriptor is readable.
bool is_for_later(int err);

// Submits, and waits for an event of a queue that has no Queue.
bool await_event(sfd_queue *q, sfd_event *e, milliseconds patience = PATIENCE);

// Closes our end of a pipe and reads what is in it up to the end-of-file, which must come.
std::string drain(Ends *pipe);

// What arrived in a pipe when the request that it was the destination of is over: nothing may come later, and nobody else
// may hold it. Closes our end.
std::string take_arrived(Ends *pipe);

// Makes requests of another connection until the daemon's socket takes no more; its workers are stopped. What they return.
std::vector<Fd> fill_socket(const Daemon &daemon);

// The number of transfers that the daemon counts at the moment.
uint64_t active_transfers(const Daemon &daemon);

// The daemon that was built to die at that point, or with ":spins" behind it to stay there: when it gets there and can remove
// the file, which make_hook() names.
DaemonOptions dying_at(const std::string &edge, const std::string &file);

// A file in a directory of its own, below `dir`, that the daemon's user can write to. It is not made.
std::string make_hook(const std::string &dir);
