// SPDX-License-Identifier: BSD-2-Clause
// Ways of waiting until a descriptor is readable, as programs and event libraries do it. Whoever includes this needs libuv.
#pragma once

#include "test/support/fd.h"
#include "test/support/wait.h"

#include <cerrno>
#include <cstring>
#include <gtest/gtest.h>
#include <memory>
#include <poll.h>
#include <string>
#include <sys/epoll.h>
#include <uv.h>

class Waiter
{
      public:
	virtual ~Waiter() = default;
	// Whether it was reported as readable before the time ran out.
	virtual bool wait(milliseconds patience) = 0;
	// Whether only what is new is reported, so that all must be taken in each time.
	virtual bool is_edge() const
	{
		return false;
	}
};

class PollWaiter : public Waiter
{
      public:
	explicit PollWaiter(int fd) : fd_(fd)
	{
	}
	bool wait(milliseconds patience) override
	{
		return await(fd_, POLLIN, patience) != 0;
	}

      private:
	int fd_;
};

class EpollWaiter : public Waiter
{
      public:
	EpollWaiter(int fd, bool edge) : poller_(epoll_create1(EPOLL_CLOEXEC)), edge_(edge)
	{
		epoll_event e = {};

		e.events = EPOLLIN | (edge ? static_cast<uint32_t>(EPOLLET) : 0u);
		EXPECT_EQ(0, epoll_ctl(poller_, EPOLL_CTL_ADD, fd, &e)) << strerror(errno);
	}
	bool wait(milliseconds patience) override
	{
		epoll_event e;

		return epoll_wait(poller_, &e, 1, static_cast<int>(patience.count())) == 1;
	}
	bool is_edge() const override
	{
		return edge_;
	}

      private:
	Fd poller_;
	bool edge_;
};

class UvWaiter : public Waiter
{
      public:
	explicit UvWaiter(int fd)
	{
		EXPECT_EQ(0, uv_loop_init(&loop_));
		EXPECT_EQ(0, uv_poll_init(&loop_, &poll_, fd));
		EXPECT_EQ(0, uv_timer_init(&loop_, &timer_));
		poll_.data = &readable_;
		timer_.data = &late_;
		EXPECT_EQ(0, uv_poll_start(&poll_, UV_READABLE, [](uv_poll_t *p, int status, int events) {
			EXPECT_EQ(0, status) << uv_strerror(status);
			EXPECT_EQ(UV_READABLE, events);
			*static_cast<bool *>(p->data) = true;
		}));
	}
	// The first loop of a process makes descriptors that stay: before a test counts them.
	static void open_what_stays_open()
	{
		uv_loop_t loop;

		ASSERT_EQ(0, uv_loop_init(&loop));
		ASSERT_EQ(0, uv_loop_close(&loop));
	}
	~UvWaiter() override
	{
		uv_close(reinterpret_cast<uv_handle_t *>(&poll_), nullptr);
		uv_close(reinterpret_cast<uv_handle_t *>(&timer_), nullptr);
		uv_run(&loop_, UV_RUN_DEFAULT);
		EXPECT_EQ(0, uv_loop_close(&loop_));
	}
	bool wait(milliseconds patience) override
	{
		readable_ = late_ = false;
		uv_timer_start(
			&timer_, [](uv_timer_t *t) { *static_cast<bool *>(t->data) = true; },
			static_cast<uint64_t>(patience.count()), 0);
		while (!readable_ && !late_)
			uv_run(&loop_, UV_RUN_ONCE);
		return readable_;
	}

      private:
	uv_loop_t loop_;
	uv_poll_t poll_;
	uv_timer_t timer_;
	bool readable_ = false, late_ = false;
};

enum class Way { Poll, Level, Edge, Uv };

inline std::string name_of(Way way)
{
	static const char *const names[] = {"Poll", "Level", "Edge", "Uv"};

	return names[static_cast<int>(way)];
}

inline std::unique_ptr<Waiter> make_waiter(Way way, int fd)
{
	switch (way) {
	case Way::Poll:
		return std::make_unique<PollWaiter>(fd);
	case Way::Level:
		return std::make_unique<EpollWaiter>(fd, false);
	case Way::Edge:
		return std::make_unique<EpollWaiter>(fd, true);
	case Way::Uv:
		break;
	}
	return std::make_unique<UvWaiter>(fd);
}
