// SPDX-License-Identifier: BSD-2-Clause
// Who is served, and as whom. Only root can take other users' parts.
#include "test/support/fixture.h"
#include "test/support/user.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <sstream>
#include <sys/stat.h>
#include <sys/wait.h>

namespace
{

constexpr uid_t STRANGER = 54321, SERVER = 54322, STARTER = 54323, NOBODY = 65534;

class Access : public SfdTest
{
      protected:
	void SetUp() override
	{
		if (!is_root())
			GTEST_SKIP() << "only root can take another user's part";
		SfdTest::SetUp();
	}

	void TearDown() override
	{
		if (is_root())
			SfdTest::TearDown();
	}

	// What a request over our connection is answered when that user makes it: 0, an errno, or 255 (no frame).
	int answer_to(uid_t uid, int dest)
	{
		return as_user(uid, [&] {
			unsigned char frame[SFD_MAX_RESP_SIZE];
			const int pipe = sfd_send(srv(), "canary", dest, 0, 0, false);

			if (pipe < 0 || read(pipe, frame, sizeof frame) != sizeof frame)
				return 255;
			return sfd_get_stat(frame);
		});
	}

	// The last answer to three opens that are kept.
	int opens_as(uid_t uid)
	{
		return as_user(uid, [&] {
			unsigned char frame[SFD_MAX_RESP_SIZE];
			int stat = 255;

			for (int i = 0; i < 3; i++) {
				const int pipe = sfd_open(srv(), "canary", 0, 0, false);

				if (pipe < 0 || read(pipe, frame, sizeof frame) <= 0)
					return 255;
				stat = sfd_get_stat(frame);
			}
			return stat;
		});
	}

	int connect_as(uid_t uid)
	{
		return as_user(uid, [&] {
			errno = 0;
			return daemon().connect() < 0 ? errno : 0;
		});
	}
};

TEST_F(Access, OthersAreRefused)
{
	ASSERT_NO_FATAL_FAILURE(start());
	Dest dest({Kind::Pipe, false}, dir());

	EXPECT_EQ(EACCES, answer_to(STRANGER, dest.fd()));
	EXPECT_EQ(EACCES, answer_to(NOBODY, dest.fd())) << "this uid stands for everybody who has none here";
	EXPECT_EQ("", dest.finish());
	Dest own({Kind::Pipe, false}, dir());
	EXPECT_EQ(0, answer_to(0, own.fd()));
	EXPECT_EQ(1000u, own.finish().size());
}

TEST_F(Access, AllOperationsAreRefused)
{
	ASSERT_NO_FATAL_FAILURE(start());
	sfd_file_info info;
	const Fd status(sfd_open(srv(), "canary", 0, 0, false));
	Dest dest({Kind::Pipe, false}, dir());

	ASSERT_TRUE(read_info(status, &info));
	EXPECT_EQ(EACCES, as_user(STRANGER, [&] {
		unsigned char frame[SFD_MAX_RESP_SIZE];
		const int pipe = sfd_read(srv(), "canary", 0, 0, false);

		return read(pipe, frame, sizeof frame) == sizeof frame ? sfd_get_stat(frame) : 255;
	}));
	EXPECT_EQ(EACCES, as_user(STRANGER, [&] {
		unsigned char frame[SFD_MAX_RESP_SIZE];
		const int pipe = sfd_open(srv(), "canary", 0, 0, false);

		return read(pipe, frame, sizeof frame) == sizeof frame ? sfd_get_stat(frame) : 255;
	}));
	EXPECT_EQ(1, as_user(STRANGER, [&] {
		return sfd_send_open(srv(), info.txnid, dest.fd()) && sfd_cancel(srv(), info.txnid);
	}));
	canary();
	EXPECT_EQ(0, await(status, POLLIN, 0ms));
	EXPECT_EQ("", dest.finish());
}

// The user that it runs as is served too, unless that is the uid of nobody in particular.
TEST_F(Access, ItsOwnUserIsServed)
{
	DaemonOptions options;
	options.more = {"-u", std::to_string(SERVER)};
	ASSERT_NO_FATAL_FAILURE(start(options));
	Dest dest({Kind::Pipe, false}, dir());

	EXPECT_EQ(0, answer_to(SERVER, dest.fd()));
	EXPECT_EQ(EACCES, answer_to(STRANGER, dest.fd()));
	EXPECT_EQ(EACCES, answer_to(NOBODY, dest.fd()));
	EXPECT_EQ(1000u, dest.finish().size());
	EXPECT_EQ(0, connect_as(SERVER));
}

// Whoever else the operator names; and no limit of users' is his.
TEST_F(Access, WhoeverStartedItIsServed)
{
	const std::string id = std::to_string(STARTER);
	DaemonOptions options;
	options.wrapper = {"setpriv", "--reuid", id, "--regid", id, "--clear-groups"};
	options.more = {"--socket-mode", "0666", "--allow-user", std::to_string(SERVER), "--max-opens-per-user", "1"};
	ASSERT_EQ(0, chown(daemon().socket_dir().c_str(), STARTER, STARTER));
	ASSERT_NO_FATAL_FAILURE(start(options));
	Dest dest({Kind::Pipe, false}, dir());

	EXPECT_EQ(0, answer_to(STARTER, dest.fd()));
	EXPECT_EQ(EACCES, answer_to(STRANGER, dest.fd()));
	EXPECT_EQ(1000u, dest.finish().size());
	EXPECT_EQ(0, opens_as(STARTER));
	EXPECT_EQ(EDQUOT, opens_as(SERVER));
}

TEST_F(Access, TheSocketFileIsClosedToOthers)
{
	ASSERT_NO_FATAL_FAILURE(start());
	struct stat st = {};

	ASSERT_EQ(0, stat(daemon().socket_path().c_str(), &st));
	EXPECT_EQ(0600u, st.st_mode & 07777);
	EXPECT_EQ(EACCES, connect_as(STRANGER));
	EXPECT_EQ(EACCES, connect_as(NOBODY));
	EXPECT_EQ(0, connect_as(0));
	/* Whoever is let in by the file's mode still meets the second gate. */
	ASSERT_EQ(0, chmod(daemon().socket_path().c_str(), 0666));
	EXPECT_EQ(0, connect_as(STRANGER));
	Dest dest({Kind::Pipe, false}, dir());
	EXPECT_EQ(EACCES, answer_to(STRANGER, dest.fd()));
}

// The numbers behind a word in /proc/PID/status.
std::string status_line(pid_t pid, const std::string &word)
{
	std::istringstream lines(read_whole("/proc/" + std::to_string(pid) + "/status"));
	std::string line;

	while (std::getline(lines, line)) {
		if (line.compare(0, word.size() + 1, word + ":") != 0)
			continue;
		line.erase(0, line.find_first_not_of(" \t", word.size() + 1));
		while (!line.empty() && (line.back() == ' ' || line.back() == '\t'))
			line.pop_back();
		return line;
	}
	return "(none)";
}

TEST_F(Access, WorkersHaveNoPrivilege)
{
	for (const std::string &user : {std::string(), std::to_string(SERVER)}) {
		DaemonOptions options;
		if (!user.empty())
			options.more = {"-u", user};
		ASSERT_NO_FATAL_FAILURE(start(options));
		for (pid_t pid : daemon().workers()) {
			const std::string uid = status_line(pid, "Uid"), gid = status_line(pid, "Gid");

			EXPECT_EQ(std::string::npos, ("\t" + uid + "\t").find("\t0\t")) << uid;
			EXPECT_EQ(std::string::npos, ("\t" + gid + "\t").find("\t0\t")) << gid;
			if (!user.empty()) {
				EXPECT_EQ(user + "\t" + user + "\t" + user + "\t" + user, uid);
			}
			EXPECT_EQ("", status_line(pid, "Groups"));
			EXPECT_EQ("0000000000000000", status_line(pid, "CapEff"));
			EXPECT_EQ("0000000000000000", status_line(pid, "CapPrm"));
			EXPECT_EQ("1", status_line(pid, "NoNewPrivs"));
		}
		stop(SIGTERM, 0);
	}
	ASSERT_NO_FATAL_FAILURE(start());
}

TEST_F(Access, NothingIsServedAsRoot)
{
	DaemonOptions options;

	options.more = {"-u", "root"};
	EXPECT_NE(0, daemon().start(options));
	EXPECT_NE(std::string::npos, daemon().log().find("never served as root"));
	int status;
	ASSERT_TRUE(await_exit(daemon().pid(), &status));
	daemon().forget();
	EXPECT_EQ(78, WEXITSTATUS(status));
}

} // namespace
