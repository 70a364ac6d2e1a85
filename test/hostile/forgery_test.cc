// SPDX-License-Identifier: BSD-2-Clause
// A client hands over a datagram socket that is connected to the daemon, in the hope that a worker writes a request into it,
// which would come from the user that serves. The file that is to be sent is such a request.
#include "test/hostile/hostile.h"
#include "test/support/datagram.h"
#include "test/support/queue.h"
#include "test/support/raw_queue.h"

#include <sys/socket.h>

namespace
{

class Forgery : public Hostile
{
      protected:
	void SetUp() override
	{
		Hostile::SetUp();
		start_open();
		const Bytes request = Datagram(WIRE_CHANNEL_NONE).add(make_request(WIRE_OP_PING)).bytes();

		write_whole(in_root("request"), std::string(request.begin(), request.end()));
		trap_.reset(daemon().connect());
		ASSERT_GE(trap_, 0);
		before_ = requests();
	}

	void TearDown() override
	{
		trap_.reset();
		Hostile::TearDown();
	}

	uint64_t requests()
	{
		return counters()["requests"];
	}

	// So many requests were received as we have sent, and none that somebody has made of what was written.
	void expect_received(uint64_t sent)
	{
		for (int i = 0; i < 4; i++)
			canary();
		EXPECT_EQ(before_ + sent + 4, requests());
	}

	Fd trap_;
	uint64_t before_ = 0;
};

TEST_F(Forgery, TheRequestIsOne)
{
	const std::string request = read_whole(in_root("request"));

	ASSERT_EQ(static_cast<ssize_t>(request.size()), send(trap_, request.data(), request.size(), 0));
	ASSERT_TRUE(eventually([&] { return requests() == before_ + 1; })) << "else what follows shows nothing";
}

TEST_F(Forgery, AsDestination)
{
	for (const bool nonblock : {false, true}) {
		const Fd status(sfd_send(srv(), "request", trap_, 0, 0, nonblock));

		expect_refused(read_outcome(status), EINVAL);
	}
	expect_received(2);
}

TEST_F(Forgery, AsDestinationOfAnOpenFile)
{
	const Fd file(open(in_root("request").c_str(), O_RDONLY | O_CLOEXEC));
	const Fd status(sfd_sendfd(srv(), file, trap_, 0, 0, false, nullptr));

	expect_refused(read_outcome(status), EINVAL);
	expect_received(1);
}

TEST_F(Forgery, AsDestinationOfASecondMessage)
{
	sfd_file_info info;
	const Fd status(sfd_open(srv(), "request", 0, 0, false));

	ASSERT_TRUE(read_info(status, &info));
	ASSERT_TRUE(sfd_send_open(srv(), info.txnid, trap_));
	EXPECT_EQ(EINVAL, read_rest(status, info).stat());
	expect_received(2);
}

TEST_F(Forgery, AsAFileThatIsLent)
{
	Ends pipe = make_pipe();
	const Fd status(sfd_sendfd(srv(), trap_, pipe.in, 0, 0, false, nullptr));

	expect_refused(read_outcome(status), EINVAL);
	expect_received(1);
}

// Frames would be written there, and text of ours with them: a path, a tag.
TEST_F(Forgery, AsStatusChannel)
{
	Ends pipe = make_pipe();

	for (const wire_op op : {WIRE_OP_SEND, WIRE_OP_OPEN, WIRE_OP_READ, WIRE_OP_PING}) {
		const bool has_path = op != WIRE_OP_PING;
		const Bytes bytes = Datagram().add(make_request(op, has_path ? "request" : "", 7)).bytes();
		std::vector<int> fds = {trap_};

		if (op == WIRE_OP_SEND)
			fds.push_back(pipe.in);
		ASSERT_EQ(0, send_bytes(srv(), bytes, fds));
	}
	expect_received(4);
	EXPECT_EQ("", drain(&pipe));
}

TEST_F(Forgery, AsTheSocketThatAsksForAQueue)
{
	RawQueue q(srv(), 0x1234567812345678);

	ASSERT_EQ(0, q.ask(16, trap_));
	expect_received(1);
}

// In a queue, among requests that are sound.
TEST_F(Forgery, InAQueue)
{
	Ends pipe = make_pipe();
	{
		Queue q(srv());

		q.send("request", trap_, 1);
		q.send("request", pipe.in, 2);
		q.send("request", trap_, 3);
		q.finish();
		q.expect_end(1, EINVAL);
		q.expect_end(2, SFD_STAT_OK);
		q.expect_end(3, EINVAL);
	}
	EXPECT_EQ(read_whole(in_root("request")), drain(&pipe));
	expect_received(4); /* one of them is the registration */
}

} // namespace
