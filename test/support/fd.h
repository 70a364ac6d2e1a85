// SPDX-License-Identifier: BSD-2-Clause
// A descriptor that is closed when its owner goes out of scope.
#pragma once

#include <unistd.h>
#include <utility>

class Fd
{
      public:
	Fd() = default;
	explicit Fd(int fd) : fd_(fd)
	{
	}
	Fd(Fd &&other) noexcept : fd_(other.release())
	{
	}
	Fd &operator=(Fd &&other) noexcept
	{
		reset(other.release());
		return *this;
	}
	Fd(const Fd &) = delete;
	Fd &operator=(const Fd &) = delete;
	~Fd()
	{
		reset();
	}

	operator int() const
	{
		return fd_;
	}
	int release()
	{
		return std::exchange(fd_, -1);
	}
	void reset(int fd = -1)
	{
		if (fd_ >= 0)
			close(fd_);
		fd_ = fd;
	}

      private:
	int fd_ = -1;
};

// Two ends of something: what is written to `in` comes out of `out`.
struct Ends {
	Fd in, out;
};

Ends make_pipe(int flags = 0);
Ends make_socketpair(int type);

// Whether this process may have that many descriptors open; raises its limit as far as that needs.
bool may_open(unsigned long n);
