// SPDX-License-Identifier: BSD-2-Clause
// What is refused, and with which errno: paths first, then destinations.
#include "test/support/fixture.h"

#include <cerrno>
#include <climits>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

namespace
{

class Errors : public SfdTest
{
      protected:
	void SetUp() override
	{
		SfdTest::SetUp();
		start();
		content_ = add_file("file", 5000);
	}

	void TearDown() override
	{
		if (!HasFatalFailure()) {
			canary();
			expect_same_workers();
		}
		SfdTest::TearDown();
	}

	// A path that every operation refuses, with nothing written.
	void check_path(const std::string &path, int err)
	{
		SCOPED_TRACE("path \"" + path.substr(0, 60) + "\"");
		Dest dest({Kind::Pipe, false}, dir());
		const Fd sent(sfd_send(srv(), path.c_str(), dest.fd(), 0, 0, false));
		const Fd read(sfd_read(srv(), path.c_str(), 0, 0, false));
		const Fd opened(sfd_open(srv(), path.c_str(), 0, 0, false));

		expect_refused(read_outcome(sent), err);
		expect_refused(read_outcome(read), err);
		expect_refused(read_outcome(opened), err);
		EXPECT_EQ("", dest.finish());
	}

	// A path that leads to `content_`.
	void check_served(const std::string &path, const std::string &expected)
	{
		SCOPED_TRACE("path \"" + path.substr(0, 60) + "\"");
		const Fd pipe(sfd_read(srv(), path.c_str(), 0, 0, false));
		const ReadResult r = read_file_pipe(pipe);

		EXPECT_EQ(SFD_STAT_OK, r.info.stat) << sfd_strstat(r.info.stat);
		EXPECT_TRUE(same_content(expected, r.content));
	}

	// A destination that is refused, whether it comes with the file or after it.
	void check_dest(int fd, int err)
	{
		const int flags = fcntl(fd, F_GETFL);
		sfd_file_info info;
		const Fd sent(sfd_send(srv(), "file", fd, 0, 0, false));

		ASSERT_GE(sent, 0) << strerror(errno);
		expect_refused(read_outcome(sent), err);
		const Fd opened(sfd_open(srv(), "file", 0, 0, false));
		ASSERT_TRUE(read_info(opened, &info));
		ASSERT_TRUE(sfd_send_open(srv(), info.txnid, fd)) << strerror(errno);
		const Outcome o = read_rest(opened, info);
		EXPECT_EQ(SFD_XFER_STAT, o.terminal_kind());
		EXPECT_EQ(err, o.stat()) << sfd_strstat(o.stat());
		EXPECT_EQ(0u, o.total());
		EXPECT_EQ(flags, fcntl(fd, F_GETFL));
	}

	std::string content_;
};

// ---- Paths

TEST_F(Errors, MissingFile)
{
	check_path("missing", ENOENT);
	check_path("/missing", ENOENT);
	check_path("missing/file", ENOENT);
	check_path("file/below", ENOTDIR);
	check_path("file/", ENOTDIR);
}

TEST_F(Errors, Directory)
{
	ASSERT_EQ(0, mkdir(in_root("directory").c_str(), 0755));
	check_path("directory", EINVAL);
	check_path("directory/", EINVAL);
	check_path("/", EINVAL);
	check_path(".", EINVAL);
	check_path("..", EINVAL);
}

// Neither a FIFO without a writer nor one with a writer that says nothing holds up anything.
TEST_F(Errors, Fifo)
{
	ASSERT_EQ(0, mkfifo(in_root("fifo").c_str(), 0666));
	ASSERT_EQ(0, chmod(in_root("fifo").c_str(), 0666));
	check_path("fifo", EINVAL);
	const Fd writer(open(in_root("fifo").c_str(), O_RDWR | O_CLOEXEC));
	ASSERT_GE(writer, 0);
	check_path("fifo", EINVAL);
}

TEST_F(Errors, Socket)
{
	const Fd sock(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	sockaddr_un sa = {};

	sa.sun_family = AF_UNIX;
	snprintf(sa.sun_path, sizeof sa.sun_path, "%s", in_root("socket").c_str());
	ASSERT_EQ(0, bind(sock, reinterpret_cast<sockaddr *>(&sa), sizeof sa)) << strerror(errno);
	ASSERT_EQ(0, chmod(sa.sun_path, 0777));
	check_path("socket", EINVAL);
}

TEST_F(Errors, Device)
{
	if (!is_root())
		GTEST_SKIP() << "only root can make device files";
	if (mknod(in_root("device").c_str(), S_IFCHR | 0666, makedev(1, 5)) < 0)
		GTEST_SKIP() << "no device file can be made here: " << strerror(errno);
	ASSERT_EQ(0, chmod(in_root("device").c_str(), 0666));
	const Fd probe(open(in_root("device").c_str(), O_RDONLY | O_CLOEXEC));
	/* On a file system mounted nodev the answer is the file system's. */
	check_path("device", probe < 0 ? errno : EINVAL);
}

TEST_F(Errors, UnreadableFile)
{
	write_whole(in_root("secret"), "x", is_root() ? 0600 : 0000);
	check_path("secret", EACCES);
	ASSERT_EQ(0, mkdir(in_root("closed").c_str(), 0700));
	write_whole(in_root("closed/file"), content_);
	ASSERT_EQ(0, chmod(in_root("closed").c_str(), is_root() ? 0700 : 0000));
	check_path("closed/file", EACCES);
	ASSERT_EQ(0, chmod(in_root("closed").c_str(), 0700));
}

TEST_F(Errors, DotDotStaysInside)
{
	write_whole(dir() + "/outside", "outside");
	ASSERT_EQ(0, mkdir(in_root("directory").c_str(), 0755));
	check_path("../outside", ENOENT);
	check_path("directory/../../outside", ENOENT);
	check_path("../../../../../../../../etc/passwd", ENOENT);
	check_served("directory/../file", content_);
	check_served("../file", content_);
	check_served("../../file", content_);
}

TEST_F(Errors, AbsolutePathsBeginAtTheRoot)
{
	write_whole(dir() + "/outside", "outside");
	check_path(dir() + "/outside", ENOENT);
	check_path("/etc/passwd", ENOENT);
	check_served("/file", content_);
	check_served("//file", content_);
	check_served("/./file", content_);
}

TEST_F(Errors, SymbolicLinksStayInside)
{
	write_whole(dir() + "/outside", "outside");
	ASSERT_EQ(0, mkdir(in_root("directory").c_str(), 0755));
	ASSERT_EQ(0, symlink("file", in_root("inward").c_str()));
	ASSERT_EQ(0, symlink("../file", in_root("directory/inward").c_str()));
	ASSERT_EQ(0, symlink("/file", in_root("absolute").c_str()));
	ASSERT_EQ(0, symlink("../../../file", in_root("directory/above").c_str()));
	ASSERT_EQ(0, symlink("../outside", in_root("outward").c_str()));
	ASSERT_EQ(0, symlink((dir() + "/outside").c_str(), in_root("away").c_str()));
	ASSERT_EQ(0, symlink("..", in_root("up").c_str()));
	ASSERT_EQ(0, symlink("loop", in_root("loop").c_str()));
	ASSERT_EQ(0, symlink("nowhere", in_root("dangling").c_str()));
	check_served("inward", content_);
	check_served("directory/inward", content_);
	check_served("absolute", content_);
	check_served("directory/above", content_);
	check_served("up/file", content_);
	check_path("outward", ENOENT);
	check_path("away", ENOENT);
	check_path("up/outside", ENOENT);
	check_path("loop", ELOOP);
	check_path("dangling", ENOENT);
}

// A daemon over / could otherwise be led to any descriptor that a worker holds.
TEST_F(Errors, MagicLinksAreRefused)
{
	stop(SIGTERM, 0);
	Daemon whole(dir() + "/root");
	ASSERT_EQ(0, symlink("/", (root() + "/root").c_str()));
	ASSERT_EQ(0, whole.start()) << whole.log();
	const Fd connection(whole.connect());
	const std::string served = "/" + in_root("file");

	ASSERT_EQ(0, symlink("/proc/self/fd/0", in_root("magic").c_str()));
	for (const std::string &path :
		{std::string("/proc/self/fd/0"), std::string("/proc/self/exe"), std::string("/proc/self/root") + served,
			std::string("/proc/self/cwd/etc/passwd"), in_root("magic")}) {
		SCOPED_TRACE(path);
		const Fd pipe(sfd_read(connection, path.c_str(), 0, 0, false));
		const Outcome o = read_outcome(pipe);

		/* Of a process that is not dumpable the links cannot even be looked at. */
		EXPECT_TRUE(o.stat() == ELOOP || (is_root() && o.stat() == EACCES)) << sfd_strstat(o.stat());
	}
	const Fd pipe(sfd_read(connection, served.c_str(), 0, 0, false));
	EXPECT_TRUE(same_content(content_, read_file_pipe(pipe).content));
	EXPECT_EQ(0, whole.stop(SIGTERM));
	daemon().forget();
	ASSERT_NO_FATAL_FAILURE(start());
}

TEST_F(Errors, PathsAsLongAsTheyMayBe)
{
	const std::string name(NAME_MAX, 'n');
	std::string longest;

	add_file(name, 10);
	check_served(name, make_content(10));
	check_path(name + "n", ENAMETOOLONG);
	while (longest.size() + 4 < 4094)
		longest += "./";
	longest += "file";
	ASSERT_EQ(4094u, longest.size());
	check_served(longest, content_);
	check_served("/" + longest, content_);
	for (const std::string &path : {"//" + longest, std::string(10000, 'x')}) {
		const Ends pipe = make_pipe();

		EXPECT_EQ(-1, sfd_send(srv(), path.c_str(), pipe.in, 0, 0, false));
		EXPECT_EQ(ENAMETOOLONG, errno);
		EXPECT_EQ(-1, sfd_read(srv(), path.c_str(), 0, 0, false));
		EXPECT_EQ(ENAMETOOLONG, errno);
		EXPECT_EQ(-1, sfd_open(srv(), path.c_str(), 0, 0, false));
		EXPECT_EQ(ENAMETOOLONG, errno);
	}
}

TEST_F(Errors, PathsThatAreNone)
{
	const Ends pipe = make_pipe();

	EXPECT_EQ(-1, sfd_send(srv(), "", pipe.in, 0, 0, false));
	EXPECT_EQ(ENOENT, errno);
	EXPECT_EQ(-1, sfd_read(srv(), nullptr, 0, 0, false));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, sfd_open(srv(), nullptr, 0, 0, false));
	EXPECT_EQ(EINVAL, errno);
}

TEST_F(Errors, BadDescriptorsOfTheCaller)
{
	const Ends pipe = make_pipe();
	const Fd plain(open("/dev/null", O_RDWR | O_CLOEXEC));

	EXPECT_EQ(-1, sfd_send(srv(), "file", -1, 0, 0, false));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, sfd_send(srv(), "file", 987654, 0, 0, false));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, sfd_send(-1, "file", pipe.in, 0, 0, false));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, sfd_read(plain, "file", 0, 0, false));
	EXPECT_EQ(ENOTSOCK, errno);
	EXPECT_FALSE(sfd_send_open(srv(), 1, -1));
	EXPECT_EQ(EBADF, errno);
	EXPECT_FALSE(sfd_cancel(-1, 1));
	EXPECT_EQ(EBADF, errno);
}

// A lock does not matter. A lease does, and is waited for: but not by a worker, and not for longer than a disk would be.
TEST_F(Errors, LeasedAndLockedFiles)
{
	const Fd leased(open(in_root("file").c_str(), O_RDWR | O_CLOEXEC));
	struct sigaction ignore = {};

	ignore.sa_handler = SIG_IGN;
	sigaction(SIGIO, &ignore, nullptr);
	ASSERT_EQ(0, flock(leased, LOCK_EX));
	check_served("file", content_);
	if (fcntl(leased, F_SETLEASE, F_WRLCK) < 0)
		GTEST_SKIP() << "this file system has no leases: " << strerror(errno);
	const Fd waits(sfd_read(srv(), "file", 0, 0, false));
	canary();
	EXPECT_EQ(0, await(waits, POLLIN, 100ms)) << "it is leased";
	ASSERT_EQ(0, fcntl(leased, F_SETLEASE, F_UNLCK));
	const ReadResult r = read_file_pipe(waits, 5s);
	EXPECT_TRUE(r.ended);
	EXPECT_EQ(content_, r.content);
}

class ShortErrors : public SfdTest
{
};

TEST_F(ShortErrors, ALeaseThatIsNotGivenUp)
{
	DaemonOptions options;

	options.more = {"--io-timeout=300"};
	start(options);
	add_file("file", 100);
	const Fd leased(open(in_root("file").c_str(), O_RDWR | O_CLOEXEC));
	struct sigaction ignore = {};

	ignore.sa_handler = SIG_IGN;
	sigaction(SIGIO, &ignore, nullptr);
	if (fcntl(leased, F_SETLEASE, F_WRLCK) < 0)
		GTEST_SKIP() << "this file system has no leases: " << strerror(errno);
	const Fd pipe(sfd_read(srv(), "file", 0, 0, false));
	const ReadResult r = read_file_pipe(pipe, 5s);
	EXPECT_EQ(ETIMEDOUT, r.info.stat);
	canary();
	EXPECT_EQ(0, fcntl(leased, F_SETLEASE, F_UNLCK));
}

// ---- Destinations

TEST_F(Errors, DatagramSockets)
{
	const Ends unix_pair = make_socketpair(SOCK_DGRAM);
	const Ends packets = make_socketpair(SOCK_SEQPACKET);
	const Fd udp(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	char byte;

	check_dest(unix_pair.in, EINVAL);
	EXPECT_EQ(-1, recv(unix_pair.out, &byte, 1, MSG_DONTWAIT));
	check_dest(packets.in, EINVAL);
	EXPECT_EQ(-1, recv(packets.out, &byte, 1, MSG_DONTWAIT));
	check_dest(udp, EINVAL);
	/* The daemon would ask itself for something, in its own name. */
	check_dest(srv(), EINVAL);
}

TEST_F(Errors, ThingsThatTakeNoBytes)
{
	const Fd directory(open(root().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	const Fd epoll(epoll_create1(EPOLL_CLOEXEC));
	const Fd event(eventfd(0, EFD_CLOEXEC));
	const Fd process(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));

	check_dest(directory, EBADF);
	check_dest(epoll, EINVAL);
	check_dest(event, EINVAL);
	ASSERT_GE(process, 0);
	check_dest(process, EINVAL);
	uint64_t count;
	const int flags = fcntl(event, F_GETFL);
	ASSERT_EQ(0, fcntl(event, F_SETFL, flags | O_NONBLOCK));
	EXPECT_EQ(-1, read(event, &count, sizeof count)) << "something was written";
}

TEST_F(Errors, DescriptorsThatCannotBeWrittenTo)
{
	const std::string path = dir() + "/target";
	write_whole(path, "untouched");
	const Fd read_only(open(path.c_str(), O_RDONLY | O_CLOEXEC));
	const Fd by_path(open(path.c_str(), O_PATH | O_CLOEXEC));
	const Ends pipe = make_pipe();
	const Fd null(open("/dev/null", O_RDONLY | O_CLOEXEC));

	check_dest(read_only, EBADF);
	check_dest(by_path, EBADF);
	check_dest(pipe.out, EBADF);
	check_dest(null, EBADF);
	EXPECT_EQ("untouched", read_whole(path));
}

TEST_F(Errors, SealedMemory)
{
	const Fd sealed(memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING));

	ASSERT_EQ(0, fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW));
	const Fd status(sfd_send(srv(), "file", sealed, 0, 0, false));
	const Outcome o = read_outcome(status);
	EXPECT_EQ(EPERM, o.stat()) << sfd_strstat(o.stat());
	EXPECT_EQ(0u, o.total());
}

TEST_F(Errors, UnconnectedAndListeningSockets)
{
	const Fd fresh(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	const Fd listening(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));

	ASSERT_EQ(0, listen(listening, 1));
	for (int fd : {static_cast<int>(fresh), static_cast<int>(listening)}) {
		const Fd status(sfd_send(srv(), "file", fd, 0, 0, false));
		const Outcome o = read_outcome(status);

		EXPECT_EQ(SFD_XFER_STAT, o.terminal_kind());
		EXPECT_TRUE(o.stat() == EPIPE || o.stat() == ENOTCONN) << sfd_strstat(o.stat());
	}
}

TEST_F(Errors, FullDevice)
{
	const Fd full(open("/dev/full", O_WRONLY | O_CLOEXEC));
	ASSERT_GE(full, 0);
	const Fd status(sfd_send(srv(), "file", full, 0, 0, false));
	const Outcome o = read_outcome(status);

	EXPECT_EQ(SFD_XFER_STAT, o.terminal_kind());
	EXPECT_EQ(ENOSPC, o.stat()) << sfd_strstat(o.stat());
	EXPECT_EQ(0u, o.total());
}

class DeadPeer : public Errors, public ::testing::WithParamInterface<DestType>
{
      protected:
	static bool is_about_a_dead_peer(int stat)
	{
		/* A terminal whose other side is gone says EIO. */
		return stat == EPIPE || stat == ECONNRESET || (GetParam().kind == Kind::Terminal && stat == EIO);
	}
};

TEST_P(DeadPeer, BeforeTheTransfer)
{
	Dest dest(GetParam(), dir());

	dest.peer().reset();
	add_file("large", 1 << 20);
	const Fd status(sfd_send(srv(), "large", dest.fd(), 0, 0, false));
	Outcome o = read_outcome(status);
	/* The first bytes to a TCP socket may leave before the peer's reset arrives. */
	if (o.stat() == SFD_STAT_OK) {
		EXPECT_EQ(Kind::Tcp, GetParam().kind);
		const Fd again(sfd_send(srv(), "large", dest.fd(), 0, 0, false));
		o = read_outcome(again);
	}
	EXPECT_EQ(SFD_XFER_STAT, o.terminal_kind());
	EXPECT_TRUE(is_about_a_dead_peer(o.stat())) << sfd_strstat(o.stat());
}

TEST_P(DeadPeer, WhileTheTransferIsBlocked)
{
	constexpr size_t SIZE = 16 << 20;
	Dest dest(GetParam(), dir());
	sfd_file_info info;
	std::string some(1000, '\0');

	add_file("large", SIZE);
	const Fd status(sfd_send(srv(), "large", dest.fd(), 0, 0, false));
	ASSERT_TRUE(read_info(status, &info));
	ASSERT_NE(0, await(dest.peer(), POLLIN));
	ASSERT_GT(read(dest.peer(), some.data(), some.size()), 0);
	dest.peer().reset();
	const Outcome o = read_rest(status, info);
	EXPECT_TRUE(is_about_a_dead_peer(o.stat())) << sfd_strstat(o.stat());
	EXPECT_LT(o.total(), SIZE);
	EXPECT_GT(o.total(), 0u);
}

INSTANTIATE_TEST_SUITE_P(
	All, DeadPeer, ::testing::ValuesIn(stallable_dest_types()), [](const auto &i) { return name_of(i.param); });

} // namespace
