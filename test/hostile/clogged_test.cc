// SPDX-License-Identifier: BSD-2-Clause
// Somebody who sends files that hang in close(2), more than a worker has room for: it receives no more, and loses nothing.
#include "test/hostile/hostile.h"
#include "test/support/datagram.h"
#include "test/support/slow_fs.h"
#include "test/support/user.h"

#include <algorithm>
#include <poll.h>
#include <sys/socket.h>

namespace
{

class Clogged : public Hostile
{
      protected:
	static constexpr size_t MOST = 100, FILES = 250;

	// Sends a file so often, with requests, until there has been no room for a while. The ends that tell of them.
	std::vector<Fd> send_all(int file)
	{
		const std::vector<unsigned char> bytes = Datagram().add(make_request(WIRE_OP_PING, "")).bytes();
		const Fd connection(daemon().connect());
		std::vector<Fd> statuses;

		while (statuses.size() < MOST) {
			Ends status = make_pipe();
			std::vector<int> fds(1 + FILES, file);

			fds[0] = status.in;
			if (send_bytes(connection, bytes, fds) == 0)
				statuses.push_back(std::move(status.out));
			else if (await(connection, POLLOUT, 2s) == 0)
				break;
		}
		return statuses;
	}

	// How many have been told something.
	static size_t answered(const std::vector<Fd> &statuses)
	{
		unsigned char frame[SFD_MAX_RESP_SIZE];

		return static_cast<size_t>(std::count_if(statuses.begin(), statuses.end(), [&](const Fd &status) {
			return await(status, POLLIN, 30s) != 0 && read(status, frame, sizeof frame) > 0;
		}));
	}
};

TEST_F(Clogged, RequestsWaitUntilTheFileSystemAnswers)
{
	REQUIRE_ROOT();
	REQUIRE_SLOW_FS();
	limit(120);
	SlowFs fs(dir() + "/slow");
	fs.add("file", 1000);
	ASSERT_NO_FATAL_FAILURE(start_open({"-n", "1000"}, 1));
	const Fd file(open(fs.path("file").c_str(), O_RDONLY | O_CLOEXEC));
	Ends told = make_pipe();
	size_t sent = 0;

	fs.hold("flush");
	const pid_t child = fork();
	if (child == 0) {
		alarm(100);
		if (!become(FRIEND))
			_exit(254);
		const std::vector<Fd> statuses = send_all(file);
		const size_t n = statuses.size();
		_exit(write(told.in, &n, sizeof n) == sizeof n && answered(statuses) == n ? 0 : 1);
	}
	told.in.reset();
	ASSERT_EQ(static_cast<ssize_t>(sizeof sent), read(told.out, &sent, sizeof sent));
	EXPECT_GT(sent, 2U);
	EXPECT_LT(sent, MOST) << "there was room for all";
	EXPECT_TRUE(daemon().await_log(" receives no requests: "));
	EXPECT_LT(count_fds(std::to_string(daemon().workers().at(0))), 5000U);
	fs.release();
	int status = -1;
	EXPECT_TRUE(await_exit(child, &status, 60s));
	EXPECT_EQ(0, status) << "of a request nothing was told";
}

} // namespace
