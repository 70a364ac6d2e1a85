// SPDX-License-Identifier: BSD-2-Clause
#include "test/support/dest.h"

#include "test/support/files.h"

#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <termios.h>

const std::string Dest::before = "what was there";

std::string name_of(const DestType &type)
{
	static const char *const names[] = {"Pipe", "Tcp", "Unix", "File", "Append", "Terminal", "Null"};

	return std::string(names[static_cast<int>(type.kind)]) + (type.nonblock ? "Nonblock" : "");
}

std::ostream &operator<<(std::ostream &out, const DestType &type)
{
	return out << name_of(type);
}

static std::vector<DestType> with_and_without(const std::vector<Kind> &kinds)
{
	std::vector<DestType> out;

	for (Kind kind : kinds) {
		out.push_back({kind, false});
		out.push_back({kind, true});
	}
	return out;
}

std::vector<DestType> all_dest_types()
{
	return with_and_without(
		{Kind::Pipe, Kind::Tcp, Kind::Unix, Kind::File, Kind::Append, Kind::Terminal, Kind::Null});
}

std::vector<DestType> stallable_dest_types()
{
	return with_and_without({Kind::Pipe, Kind::Tcp, Kind::Unix, Kind::Terminal});
}

Ends make_tcp_pair()
{
	sockaddr_in sa = {};
	socklen_t len = sizeof sa;
	const Fd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	Fd client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	Fd accepted;

	sa.sin_family = AF_INET;
	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	EXPECT_EQ(0, bind(listener, reinterpret_cast<sockaddr *>(&sa), sizeof sa));
	EXPECT_EQ(0, listen(listener, 1));
	EXPECT_EQ(0, getsockname(listener, reinterpret_cast<sockaddr *>(&sa), &len));
	EXPECT_EQ(0, connect(client, reinterpret_cast<sockaddr *>(&sa), sizeof sa)) << strerror(errno);
	accepted.reset(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
	EXPECT_GE(accepted, 0);
	return {std::move(client), std::move(accepted)};
}

/* Raw, so that every byte passes unchanged. */
static Ends make_terminal()
{
	Fd master(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
	Fd slave;
	char name[64];
	termios t = {};

	EXPECT_EQ(0, grantpt(master));
	EXPECT_EQ(0, unlockpt(master));
	EXPECT_EQ(0, ptsname_r(master, name, sizeof name));
	slave.reset(open(name, O_RDWR | O_NOCTTY | O_CLOEXEC));
	EXPECT_EQ(0, tcgetattr(slave, &t));
	cfmakeraw(&t);
	EXPECT_EQ(0, tcsetattr(slave, TCSANOW, &t));
	return {std::move(slave), std::move(master)};
}

Dest::Dest(const DestType &type, const std::string &dir) : type_(type)
{
	static int serial;
	Ends ends;

	switch (type.kind) {
	case Kind::Pipe:
		ends = make_pipe();
		break;
	case Kind::Tcp:
		ends = make_tcp_pair();
		break;
	case Kind::Unix:
		ends = make_socketpair(SOCK_STREAM);
		break;
	case Kind::File:
	case Kind::Append:
		path_ = dir + "/dest" + std::to_string(serial++);
		write_whole(path_, before);
		ends.in.reset(open(path_.c_str(), O_WRONLY | O_CLOEXEC | (type.kind == Kind::Append ? O_APPEND : 0)));
		if (type.kind == Kind::File)
			lseek(ends.in, 0, SEEK_END);
		break;
	case Kind::Terminal:
		ends = make_terminal();
		break;
	case Kind::Null:
		ends.in.reset(open("/dev/null", O_WRONLY | O_CLOEXEC));
		break;
	}
	fd_ = std::move(ends.in);
	peer_ = std::move(ends.out);
	EXPECT_GE(fd_, 0);
	if (type.nonblock) {
		EXPECT_EQ(0, fcntl(fd_, F_SETFL, fcntl(fd_, F_GETFL) | O_NONBLOCK));
	}
}

Dest::~Dest()
{
	fd_.reset();
	if (reader_.joinable())
		reader_.join();
}

void Dest::read_all()
{
	std::vector<char> buf(1 << 18);

	while (await(peer_, POLLIN) != 0) {
		const ssize_t n = read(peer_, buf.data(), buf.size());

		if (n > 0) {
			arrived_.append(buf.data(), static_cast<size_t>(n));
		} else if (n == 0 || errno == EIO) { /* EIO: a terminal whose other end was closed */
			saw_end_ = true;
			return;
		} else if (errno != EINTR && errno != EAGAIN) {
			return;
		}
	}
}

void Dest::start_reading()
{
	if (peer_ >= 0)
		reader_ = std::thread(&Dest::read_all, this);
}

std::string Dest::finish()
{
	fd_.reset();
	if (is_file())
		return read_whole(path_);
	if (peer_ < 0)
		return "";
	if (!reader_.joinable())
		start_reading();
	reader_.join();
	EXPECT_TRUE(saw_end_) << "no end-of-file: somebody still holds the destination";
	return std::move(arrived_);
}
