// SPDX-License-Identifier: BSD-2-Clause
// One descriptor of every kind that can be had here, for those who hand over what nobody expects.
#pragma once

#include "test/support/datagram.h"
#include "test/support/dest.h"
#include "test/support/fd.h"

#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <string>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <vector>

class Zoo
{
      public:
	// `dir` is where files are made; `trap` is a socket that is connected to the daemon, and stays the caller's.
	Zoo(const std::string &dir, int trap)
	    : pipe_(make_pipe()), tcp_(make_tcp_pair()), stream_(make_socketpair(SOCK_STREAM)),
	      packets_(make_socketpair(SOCK_SEQPACKET)), nested_(make_socketpair(SOCK_DGRAM))
	{
		/* A socket in which another one, and its own other end, wait to be received. */
		EXPECT_EQ(0, send_bytes(nested_.in, Bytes(1), {nested_.in, tcp_.out}));
		names_ = {"pipe, writing", "pipe, reading", "tcp", "unix stream", "unix packets", "socket with sockets",
			"connected to the daemon"};
		fds_ = {pipe_.in, pipe_.out, tcp_.in, stream_.in, packets_.in, nested_.out, trap};
		add_files(dir);
		add_kernel_objects();
	}

	size_t size() const
	{
		return fds_.size();
	}
	int fd(size_t i) const
	{
		return fds_[i];
	}
	const std::string &name(size_t i) const
	{
		return names_[i];
	}
	// A worker that writes there makes this readable.
	std::vector<int> peers() const
	{
		return {tcp_.out, stream_.out, packets_.out};
	}
	std::string memory() const
	{
		char bytes[16];
		const ssize_t n = pread(memory_, bytes, sizeof bytes, 0);

		return n > 0 ? std::string(bytes, static_cast<size_t>(n)) : "";
	}

      private:
	// What this kernel does not have, or not give to us, is left out.
	void add(const std::string &name, long fd)
	{
		if (fd < 0)
			return;
		owned_.emplace_back(static_cast<int>(fd));
		names_.push_back(name);
		fds_.push_back(owned_.back());
	}

	void add_files(const std::string &dir)
	{
		const std::string file = dir + "/zoo";

		add("memory", memfd_create("zoo", MFD_CLOEXEC));
		memory_ = fds_.back();
		add("file", open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
		add("file, appending", open(file.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
		add("file, O_PATH", open(file.c_str(), O_PATH | O_CLOEXEC));
		add("file that has no name", open(dir.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
		add("directory", open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
		add("terminal", posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
		for (const char *path : {"/dev/null", "/dev/zero", "/dev/full", "/dev/fuse", "/dev/net/tun"})
			add(path, open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC));
		add("/proc/self/status", open("/proc/self/status", O_RDONLY | O_CLOEXEC));
	}

	void add_kernel_objects()
	{
		epoll_event event = {};
		sigset_t none;
		io_uring_params ring = {};
		perf_event_attr attr = {};

		sigemptyset(&none);
		add("epoll", epoll_create1(EPOLL_CLOEXEC));
		event.events = EPOLLIN | EPOLLOUT;
		EXPECT_EQ(0, epoll_ctl(fds_.back(), EPOLL_CTL_ADD, pipe_.out, &event));
		add("eventfd", eventfd(0, EFD_CLOEXEC));
		add("signalfd", signalfd(-1, &none, SFD_CLOEXEC));
		add("timerfd", timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
		add("inotify", inotify_init1(IN_CLOEXEC));
		add("pidfd", syscall(SYS_pidfd_open, getpid(), 0));
		add("userfaultfd", syscall(SYS_userfaultfd, O_CLOEXEC));
		attr.type = PERF_TYPE_SOFTWARE;
		attr.config = PERF_COUNT_SW_DUMMY;
		attr.size = sizeof attr;
		add("perf event", syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC));
		add("listening", socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
		add("udp", socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
		add("netlink", socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0));
		add_if_it_travels("io_uring", syscall(SYS_io_uring_setup, 4, &ring));
	}

	// The kernel does not let rings be sent since 6.7.
	void add_if_it_travels(const std::string &name, long fd)
	{
		Ends ends = make_socketpair(SOCK_DGRAM);

		if (fd >= 0 && send_bytes(ends.in, Bytes(1), {static_cast<int>(fd)}) == 0)
			add(name, fd);
		else if (fd >= 0)
			close(static_cast<int>(fd));
	}

	Ends pipe_, tcp_, stream_, packets_, nested_;
	int memory_ = -1;
	std::vector<Fd> owned_;
	std::vector<std::string> names_;
	std::vector<int> fds_;
};
