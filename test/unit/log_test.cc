// SPDX-License-Identifier: BSD-2-Clause
// The log: whole lines that nobody waits for, and few of those that clients cause.
extern "C" {
#include "server/log.h"
#include "server/notices.h"
}

#include "test/support/bounded.h"
#include "test/support/fd.h"
#include "test/support/files.h"
#include "test/support/wait.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace
{

constexpr uint64_t SECOND = 1000 * 1000 * 1000;

// Standard error is something else for as long as it is there.
class StandardError
{
      public:
	explicit StandardError(int fd) : saved_(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10))
	{
		dup2(fd, STDERR_FILENO);
	}
	~StandardError()
	{
		dup2(saved_, STDERR_FILENO);
	}
	StandardError(const StandardError &) = delete;
	StandardError &operator=(const StandardError &) = delete;

      private:
	const Fd saved_;
};

class LogTest : public BoundedTest
{
      protected:
	void SetUp() override
	{
		BoundedTest::SetUp();
		log_init("test");
	}

	// Lines of that length, many more than there is room for; how much came, once there is a reader again.
	static std::string overflow(Ends *ends)
	{
		std::string got;
		char bytes[65536];

		{
			const StandardError redirected(ends->in);

			for (int i = 0; i < 3000; i++)
				log_line(LOG_LEVEL_INFO, "%s", std::string(500, 'x').c_str());
		}
		/* Whatever was kept is read; then there is room. */
		fcntl(ends->out, F_SETFL, O_NONBLOCK);
		for (ssize_t n; (n = read(ends->out, bytes, sizeof bytes)) > 0;)
			got.append(bytes, static_cast<size_t>(n));
		{
			const StandardError redirected(ends->in);

			log_line(LOG_LEVEL_INFO, "the next one");
		}
		for (ssize_t n; (n = read(ends->out, bytes, sizeof bytes)) > 0;)
			got.append(bytes, static_cast<size_t>(n));
		return got;
	}

	static size_t lines_of(const std::string &text)
	{
		return static_cast<size_t>(std::count(text.begin(), text.end(), '\n'));
	}

	// What that writes to the log.
	template <typename What> std::string logged(What what)
	{
		const Fd file(open(path("log").c_str(), O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600));
		{
			const StandardError redirected(file);

			what();
		}
		return read_whole(path("log"));
	}
};

// The test's time limit is what shows that nothing waits.
TEST_F(LogTest, NobodyReads)
{
	for (int kind = 0; kind < 3; kind++) {
		Ends ends = kind == 0 ? make_pipe() : make_socketpair(kind == 1 ? SOCK_STREAM : SOCK_DGRAM);
		const std::string got = overflow(&ends);
		const std::string what = "lines lost, because the log was full: ";
		size_t lost = 0, said = 0;

		/* Perhaps more than once: what says so is shorter than the lines that did not fit. */
		for (size_t at = 0; (at = got.find(what, at)) != std::string::npos; said++)
			lost += strtoul(got.c_str() + (at += what.size()), nullptr, 10);
		EXPECT_GT(said, 0U) << kind;
		EXPECT_EQ(3000U + 1U, lines_of(got) - said + lost) << kind;
		EXPECT_NE(std::string::npos, got.find("sendfiled[test]: the next one\n"));
	}
}

TEST_F(LogTest, ALineIsALine)
{
	EXPECT_EQ("sendfiled[test]: a\\x0asendfiled[test]: b\\xff\n",
		logged([] { log_line(LOG_LEVEL_INFO, "%s", "a\nsendfiled[test]: b\xff"); }));
	const std::string longest = logged([] { log_line(LOG_LEVEL_INFO, "%s", std::string(5000, '\n').c_str()); });
	EXPECT_LE(longest.size(), 1024U);
	EXPECT_EQ(1U, lines_of(longest));
	EXPECT_EQ('\n', longest.back());
}

TEST_F(LogTest, ErrnoStays)
{
	logged([] {
		errno = ENOTTY;
		log_line(LOG_LEVEL_INFO, "line");
		EXPECT_EQ(ENOTTY, errno);
	});
}

// ---- Of clients

class Notices : public LogTest
{
      protected:
	void add(uid_t uid, notice_kind kind = NOTICE_REFUSED)
	{
		const owner who = {uid, 77, 0};

		notices_add(&notices_, kind, &who, EACCES, now_);
	}

	notices notices_ = {};
	uint64_t now_ = 1000 * SECOND;
};

TEST_F(Notices, TheFirstOnesAreSaid)
{
	const std::string text = logged([&] { add(54321); });

	EXPECT_EQ(
		"sendfiled[test]: refused uid 54321 (pid 77): it is not served, see --allow-user: Permission denied\n",
		text);
}

TEST_F(Notices, TheOthersAreCounted)
{
	EXPECT_EQ(4U, lines_of(logged([&] {
		for (int i = 0; i < 100000; i++)
			add(1);
	})));
	EXPECT_EQ("sendfiled[test]: refused uid 1: it is not served, see --allow-user: suppressed 99996 more lines\n",
		logged([&] { notices_flush(&notices_, now_); }));
	EXPECT_EQ("", logged([&] { notices_flush(&notices_, now_); })) << "once";
	now_ += 10 * SECOND;
	/* One in ten seconds from now on. */
	EXPECT_EQ(1U, lines_of(logged([&] {
		for (int i = 0; i < 10; i++)
			add(1);
	})));
}

TEST_F(Notices, EachUserAndKindHasItsOwn)
{
	EXPECT_EQ(3U * 2 * 4, lines_of(logged([&] {
		for (int i = 0; i < 100; i++) {
			for (uid_t uid = 1; uid <= 3; uid++) {
				add(uid, NOTICE_REFUSED);
				add(uid, NOTICE_MALFORMED);
			}
		}
	})));
}

// However many users there are, for an hour, a thousand times a second.
TEST_F(Notices, TheLogGrowsSlowly)
{
	size_t lines = 0, said = 0;

	const std::string text = logged([&] {
		for (const uint64_t end = now_ + 3600 * SECOND; now_ < end; now_ += SECOND / 10) {
			for (uid_t uid = 1; uid <= 100; uid++)
				add(uid, static_cast<notice_kind>(uid % NOTICE_KINDS));
			notices_flush(&notices_, now_);
		}
	});
	lines = lines_of(text);
	for (size_t at = 0; (at = text.find("suppressed ", at)) != std::string::npos; at++)
		said += strtoul(text.c_str() + at + 11, nullptr, 10);
	EXPECT_LE(lines, 32U + 3600U + 360U * 9U);
	EXPECT_GT(said, 3000000U) << "what was not said was counted";
}

} // namespace
