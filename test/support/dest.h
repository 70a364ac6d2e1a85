// SPDX-License-Identifier: BSD-2-Clause
// Destinations of every kind, and the other end that sees what arrives there.
#pragma once

#include "test/support/fd.h"
#include "test/support/wait.h"

#include <memory>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

enum class Kind { Pipe, Tcp, Unix, File, Append, Terminal, Null };

struct DestType {
	Kind kind;
	bool nonblock;
};

// A name that Google Test takes: "Tcp", "TcpNonblock".
std::string name_of(const DestType &type);
std::ostream &operator<<(std::ostream &out, const DestType &type);

// All kinds, blocking and not.
std::vector<DestType> all_dest_types();

// Those whose other end can refuse to read.
std::vector<DestType> stallable_dest_types();

class Dest
{
      public:
	// `dir` is where a regular file is made.
	Dest(const DestType &type, const std::string &dir);
	~Dest();
	Dest(const Dest &) = delete;
	Dest &operator=(const Dest &) = delete;

	// What is given to the daemon.
	int fd() const
	{
		return fd_;
	}
	// The other end of a pipe, socket or terminal.
	Fd &peer()
	{
		return peer_;
	}
	// Starts to take in all that arrives.
	void start_reading();
	// Closes our end, waits for end-of-file (or gives up at the deadline), and returns what arrived. Where there is
	// another end: end-of-file shows that nobody else holds the destination. With Null, nothing.
	std::string finish();
	bool saw_end() const
	{
		return saw_end_;
	}
	// What a regular file held before; it comes first in what arrives.
	static const std::string before;
	bool is_file() const
	{
		return type_.kind == Kind::File || type_.kind == Kind::Append;
	}

      private:
	void read_all();

	DestType type_;
	Fd fd_, peer_;
	std::string path_;
	std::thread reader_;
	std::string arrived_;
	bool saw_end_ = false;
};

// A connected pair of TCP sockets on the loopback: `in` is the connecting side.
Ends make_tcp_pair();
