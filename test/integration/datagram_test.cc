// SPDX-License-Identifier: BSD-2-Clause
// Datagrams that the library does not make: many requests in one, and everything malformed. Whatever comes, the workers
// live on, let go of every descriptor, and serve the next client.
#include "test/support/datagram.h"
#include "test/support/fixture.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sendfiled/sendfiled.h>
#include <sys/socket.h>
#include <sys/stat.h>

namespace
{

using namespace field;

class Raw : public SfdTest
{
      protected:
	void SetUp() override
	{
		SfdTest::SetUp();
		start();
		content_ = add_file("file", 1000);
	}

	void TearDown() override
	{
		if (!HasFatalFailure())
			check_health();
		SfdTest::TearDown();
	}

	void check_health()
	{
		expect_idle();
		expect_same_workers();
		canary();
	}

	// What is said on a status pipe in answer; it comes first in the list of descriptors.
	std::map<uint64_t, Outcome> ask(const Bytes &bytes, std::vector<int> more = {})
	{
		Ends status = make_pipe();

		more.insert(more.begin(), status.in);
		const int err = send_bytes(srv(), bytes, more);
		EXPECT_EQ(0, err) << strerror(err);
		status.in.reset();
		return read_outcomes(status.out);
	}

	// Exactly one error, for the datagram as a whole or for its one request.
	void expect_refusal(const std::map<uint64_t, Outcome> &outcomes, int err, uint64_t tag = 0)
	{
		ASSERT_EQ(1u, outcomes.size());
		EXPECT_EQ(tag, outcomes.begin()->first);
		expect_refused(outcomes.begin()->second, err);
	}

	// A sound datagram of one send.
	Bytes sound(const std::string &path = "file", uint64_t tag = 0)
	{
		return Datagram().add(make_request(WIRE_OP_SEND, path, tag)).bytes();
	}

	// A datagram that is refused with that errno, its destination untouched.
	void check(const Bytes &bytes, int err, uint64_t tag = 0)
	{
		Dest dest({Kind::Pipe, false}, dir());

		expect_refusal(ask(bytes, {dest.fd()}), err, tag);
		EXPECT_EQ("", dest.finish());
	}

	std::string content_;
};

// ---- Many requests in one datagram

class Batch : public Raw, public ::testing::WithParamInterface<unsigned>
{
};

TEST_P(Batch, EachRequestHasItsOutcome)
{
	const unsigned n = GetParam();
	std::vector<std::string> names, contents;
	std::vector<std::unique_ptr<Dest>> dests;
	std::vector<int> fds;
	Datagram datagram;

	for (unsigned i = 0; i < n; i++) {
		names.push_back("f" + std::to_string(i));
		contents.push_back(add_file(names[i], i * 5003, i + 1));
		dests.push_back(std::make_unique<Dest>(all_dest_types()[i % 8], dir()));
		dests[i]->start_reading();
		fds.push_back(dests[i]->fd());
	}
	for (unsigned i = 0; i < n; i++)
		datagram.add(make_request(WIRE_OP_SEND, names[i], 1000 + i));
	const auto outcomes = ask(datagram.bytes(), fds);
	ASSERT_EQ(n, outcomes.size());
	for (unsigned i = 0; i < n; i++) {
		ASSERT_EQ(1u, outcomes.count(1000 + i)) << "no outcome for tag " << 1000 + i;
		expect_success(outcomes.at(1000 + i), contents[i].size());
		for (const sfd_xfer_stat &s : outcomes.at(1000 + i).stats)
			EXPECT_EQ(1000 + i, s.tag);
		EXPECT_TRUE(same_content((dests[i]->is_file() ? Dest::before : "") + contents[i], dests[i]->finish()));
	}
}

INSTANTIATE_TEST_SUITE_P(Sizes, Batch, ::testing::Values(1, 2, 16, WIRE_COUNT_MAX));

// A bad request among good ones fails alone.
TEST_F(Raw, BadRequestFailsAlone)
{
	const std::string file = "file", missing = "missing", with_nul("fi\0le", 5);
	std::vector<std::unique_ptr<Dest>> dests;
	std::vector<int> fds;
	Datagram datagram;
	wire_request bad_range = make_request(WIRE_OP_SEND, file, 4);

	bad_range.offset = -1;
	datagram.add(make_request(WIRE_OP_SEND, file, 1));
	datagram.add(make_request(WIRE_OP_SEND, missing, 2));
	datagram.add(make_request(WIRE_OP_SEND, with_nul, 3));
	datagram.add(bad_range);
	datagram.add(make_request(WIRE_OP_SEND, file, 5));
	for (int i = 0; i < 5; i++) {
		dests.push_back(std::make_unique<Dest>(DestType{Kind::Pipe, false}, dir()));
		fds.push_back(dests.back()->fd());
	}
	/* And a destination that is none, at the end. */
	const Fd directory(open(root().c_str(), O_RDONLY | O_CLOEXEC));
	datagram.add(make_request(WIRE_OP_SEND, file, 6));
	fds.push_back(directory);
	const auto outcomes = ask(datagram.bytes(), fds);

	ASSERT_EQ(6u, outcomes.size());
	expect_success(outcomes.at(1), content_.size());
	expect_refused(outcomes.at(2), ENOENT);
	expect_refused(outcomes.at(3), EINVAL);
	expect_refused(outcomes.at(4), EINVAL);
	expect_success(outcomes.at(5), content_.size());
	expect_refused(outcomes.at(6), EBADF);
	for (int i = 0; i < 5; i++)
		EXPECT_TRUE(same_content(i == 0 || i == 4 ? content_ : "", dests[static_cast<size_t>(i)]->finish()));
}

TEST_F(Raw, OpensAndSendsInOneDatagram)
{
	const std::string file = "file";
	Dest first({Kind::Pipe, false}, dir()), second({Kind::Tcp, true}, dir());
	Ends status = make_pipe();
	unsigned char frame[SFD_MAX_RESP_SIZE];
	std::map<uint64_t, size_t> ids;

	ASSERT_EQ(0, send_bytes(srv(),
			     Datagram()
				     .add(make_request(WIRE_OP_OPEN, file, 1))
				     .add(make_request(WIRE_OP_OPEN, file, 2))
				     .bytes(),
			     {status.in}));
	status.in.reset();
	for (int i = 0; i < 2; i++) {
		sfd_file_info info;

		ASSERT_EQ(Got::Frame, read_frame(status.out, frame));
		ASSERT_TRUE(sfd_unmarshal_file_info(&info, frame));
		ids[info.tag] = info.txnid;
	}
	ASSERT_EQ(2u, ids.size());

	/* Second messages travel together too; they name no channel. */
	wire_request send_first = make_request(WIRE_OP_SEND_OPEN), cancel = make_request(WIRE_OP_CANCEL);
	send_first.txnid = ids[1];
	cancel.txnid = ids[2];
	ASSERT_EQ(0, send_bytes(srv(), Datagram(WIRE_CHANNEL_NONE).add(send_first).add(cancel).bytes(), {first.fd()}));
	std::map<uint64_t, sfd_xfer_stat> ends;
	while (read_frame(status.out, frame) == Got::Frame) {
		sfd_xfer_stat s;

		sfd_unmarshal_xfer_stat(&s, frame);
		EXPECT_EQ(SFD_XFER_STAT, s.cmd);
		EXPECT_EQ(0u, ends.count(s.tag));
		ends[s.tag] = s;
	}
	ASSERT_EQ(2u, ends.size());
	EXPECT_TRUE(sfd_xfer_complete(&ends[1]));
	EXPECT_EQ(ECANCELED, ends[2].stat);
	EXPECT_TRUE(same_content(content_, first.finish()));
	EXPECT_EQ("", second.finish());
}

// A read takes its channel for the file's bytes: it can only be alone.
TEST_F(Raw, ReadAmongOthersIsRefused)
{
	const std::string file = "file";
	Dest dest({Kind::Pipe, false}, dir());
	const auto outcomes = ask(
		Datagram().add(make_request(WIRE_OP_READ, file, 1)).add(make_request(WIRE_OP_SEND, file, 2)).bytes(),
		{dest.fd()});

	ASSERT_EQ(2u, outcomes.size());
	expect_refused(outcomes.at(1), EINVAL);
	expect_success(outcomes.at(2), content_.size());
	EXPECT_TRUE(same_content(content_, dest.finish()));
}

TEST_F(Raw, PingIsAnswered)
{
	Ends status = make_pipe();
	unsigned char frame[SFD_MAX_RESP_SIZE];
	sfd_xfer_stat s;

	ASSERT_EQ(0, send_bytes(srv(), Datagram().add(make_request(WIRE_OP_PING, {}, 77)).bytes(), {status.in}));
	status.in.reset();
	ASSERT_EQ(Got::Frame, read_frame(status.out, frame));
	EXPECT_TRUE(sfd_unmarshal_xfer_stat(&s, frame));
	EXPECT_TRUE(sfd_xfer_complete(&s));
	EXPECT_EQ(77u, s.tag);
	EXPECT_EQ(Got::End, read_frame(status.out, frame));
}

// ---- Versions

TEST_F(Raw, VersionOneIsServed)
{
	const std::string file = "file";
	std::vector<std::unique_ptr<Dest>> dests;
	Datagram datagram(WIRE_CHANNEL_FD, 1);
	std::vector<int> fds;

	for (uint64_t tag = 1; tag <= 3; tag++) {
		datagram.add(make_request(WIRE_OP_SEND, file, tag));
		dests.push_back(std::make_unique<Dest>(DestType{Kind::Pipe, false}, dir()));
		fds.push_back(dests.back()->fd());
	}
	const auto outcomes = ask(datagram.bytes(), fds);
	ASSERT_EQ(3u, outcomes.size());
	for (uint64_t tag = 1; tag <= 3; tag++) {
		expect_success(outcomes.at(tag), content_.size());
		EXPECT_TRUE(same_content(content_, dests[tag - 1]->finish()));
	}
}

TEST_F(Raw, OtherVersionsAreNotSupported)
{
	for (uint16_t version : {uint16_t{0}, uint16_t{3}, uint16_t{255}, uint16_t{65535}}) {
		Bytes bytes = sound("file", 9);

		put16(&bytes, VERSION, version);
		check(bytes, EPROTONOSUPPORT);
	}
}

// A client of a later version may have changed everything behind the version.
TEST_F(Raw, NothingBehindAnUnknownVersionIsLookedAt)
{
	Bytes bytes(WIRE_HEADER_SIZE, 0xff);

	put32(&bytes, MAGIC, WIRE_MAGIC);
	put16(&bytes, VERSION, 3);
	check(bytes, EPROTONOSUPPORT);
}

// ---- Malformed

TEST_F(Raw, EmptyDatagram)
{
	EXPECT_EQ(0, send_bytes(srv(), {}, {}));
	check({}, EPROTO);
}

TEST_F(Raw, EveryLengthBelowTheHeader)
{
	const Bytes whole = sound();

	for (size_t n = 0; n < WIRE_HEADER_SIZE; n++)
		check(Bytes(whole.begin(), whole.begin() + static_cast<long>(n)), EPROTO);
}

// Cut anywhere, with a header that admits it and with one that does not.
TEST_F(Raw, EveryLengthBelowTheWhole)
{
	const Bytes whole = sound();

	for (size_t n = WIRE_HEADER_SIZE; n < whole.size(); n++) {
		Bytes cut(whole.begin(), whole.begin() + static_cast<long>(n));

		check(cut, EPROTO);
		put32(&cut, LENGTH, static_cast<uint32_t>(n));
		check(cut, EPROTO);
	}
}

TEST_F(Raw, MoreThanAnnounced)
{
	Bytes bytes = sound();

	bytes.resize(bytes.size() + 8);
	check(bytes, EPROTO);
	put32(&bytes, LENGTH, static_cast<uint32_t>(bytes.size()));
	check(bytes, EPROTO);
}

TEST_F(Raw, HeadersThatLie)
{
	struct {
		size_t at;
		uint64_t value;
		int width;
	} const lies[] = {
		{MAGIC, 0, 4},
		{MAGIC, 0x53444631, 4},
		{COUNT, 0, 2},
		{COUNT, 2, 2},
		{COUNT, WIRE_COUNT_MAX + 1, 2},
		{COUNT, 65535, 2},
		{LENGTH, 0, 4},
		{LENGTH, 1, 4},
		{LENGTH, UINT32_MAX, 4},
		{CHANNEL, 3, 4},
		{CHANNEL, UINT32_MAX, 4},
		{QUEUE_ID, 1, 8},
		{HEADER_RESERVED, 1, 8},
		{REQUEST_SIZE, 0, 4},
		{REQUEST_SIZE, 8, 4},
		{REQUEST_SIZE, 1, 4},
		{REQUEST_SIZE, UINT32_MAX, 4},
		{REQUEST_SIZE, UINT32_MAX - 7, 4},
		{PATH_LEN, 0, 2},
		{PATH_LEN, 65535, 2},
		{HEADERS_LEN, 1000, 4},
		{HEADERS_LEN, UINT32_MAX, 4},
		{TRAILERS_LEN, UINT32_MAX, 4},
		{OP, 0, 2},
		{OP, WIRE_OP_END, 2},
		{OP, 65535, 2},
		{FLAGS, WIRE_FLAGS_ALL + 1, 4},
		{FLAGS, UINT32_MAX, 4},
		{RESERVED0, 1, 4},
		{RESERVED1, 1, 8},
	};

	for (const auto &lie : lies) {
		SCOPED_TRACE("offset " + std::to_string(lie.at) + ", value " + std::to_string(lie.value));
		Bytes bytes = sound();

		memcpy(&bytes[lie.at], &lie.value, static_cast<size_t>(lie.width));
		check(bytes, EPROTO);
	}
}

// The tag is told where it could be read.
TEST_F(Raw, ErrorsCarryTheTag)
{
	Bytes bytes = sound("file", 4711);

	put16(&bytes, OP, 99);
	check(bytes, EPROTO, 4711);
	bytes = sound("file", 4711);
	put32(&bytes, FLAGS, 1u << 20);
	check(bytes, EPROTO, 4711);
	check(sound("missing", 4711), ENOENT, 4711);
}

TEST_F(Raw, VersionOneHasNoFlags)
{
	const std::string file = "file";

	for (uint32_t flag : {1u, 64u, 1u << 31}) {
		Bytes bytes = Datagram(WIRE_CHANNEL_FD, 1).add(make_request(WIRE_OP_SEND, file, 5)).bytes();

		put32(&bytes, FLAGS, flag);
		check(bytes, EPROTO, 5);
	}
}

// What has its place on the wire but is not served is refused, not ignored.
TEST_F(Raw, OptionsThatAreNotTheOperations)
{
	const std::string file = "file", text(WIRE_TEXT_MAX, 'x');
	wire_request r = make_request(WIRE_OP_SEND, file, 1);

	r.headers = text.data();
	r.headers_len = WIRE_TEXT_MAX;
	check(Datagram().add(r).bytes(), EMSGSIZE, 1);
	r.headers_len = 20;
	r.hdr_size_at = 1;
	check(Datagram().add(r).bytes(), EINVAL, 1);
	r = make_request(WIRE_OP_SEND, file, 1);
	r.deadline_ns = 1; /* long ago */
	check(Datagram().add(r).bytes(), ETIMEDOUT, 1);
	r = make_request(WIRE_OP_OPEN, file, 1);
	r.trailers = text.data();
	r.trailers_len = 1;
	expect_refused(ask(Datagram().add(r).bytes(), {}).at(1), EINVAL);
	r = make_request(WIRE_OP_READ, file, 1);
	r.flags = WIRE_FLAG_SYNC;
	expect_refused(ask(Datagram().add(r).bytes(), {}).at(1), EINVAL);
	/* A queue that was never registered. */
	Bytes bytes = sound();
	put32(&bytes, CHANNEL, WIRE_CHANNEL_QUEUE);
	Dest dest({Kind::Pipe, false}, dir());
	ASSERT_EQ(0, send_bytes(srv(), bytes, {dest.fd()}));
	check_health();
	EXPECT_EQ("", dest.finish());
}

TEST_F(Raw, Paths)
{
	check(sound(std::string("file\0", 5)), EINVAL);
	check(sound(std::string("fi\0le", 5)), EINVAL);
	check(sound(std::string(1, '\0')), EINVAL);
	check(sound(""), ENOENT);
	check(sound(std::string(4095, 'x')), ENAMETOOLONG);
	check(sound(std::string(4096, 'x')), ENAMETOOLONG);
	check(sound(std::string(30000, '/')), ENAMETOOLONG);

	Dest dest({Kind::Pipe, false}, dir());
	std::string longest;
	while (longest.size() < 4095 - 5)
		longest += "./";
	longest += "/file";
	ASSERT_EQ(4095u, longest.size());
	expect_success(ask(sound(longest), {dest.fd()}).at(0), content_.size());
	EXPECT_TRUE(same_content(content_, dest.finish()));
}

TEST_F(Raw, Ranges)
{
	const std::string file = "file";
	const struct {
		int64_t offset;
		uint64_t length;
	} ranges[] = {{-1, 0}, {INT64_MIN, 0}, {INT64_MAX, 1}, {0, UINT64_MAX}, {1, INT64_MAX}, {0, uint64_t{1} << 63}};

	for (const auto &range : ranges) {
		wire_request r = make_request(WIRE_OP_SEND, file, 3);

		r.offset = range.offset;
		r.length = range.length;
		check(Datagram().add(r).bytes(), EINVAL, 3);
	}
}

// An operation that names something it does not have.
TEST_F(Raw, FieldsOfOtherOperations)
{
	const std::string file = "file";
	wire_request r = make_request(WIRE_OP_SEND, file, 1);

	r.txnid = 7;
	check(Datagram().add(r).bytes(), EINVAL, 1);
	r = make_request(WIRE_OP_PING, file, 1);
	expect_refusal(ask(Datagram().add(r).bytes()), EINVAL, 1);
	r = make_request(WIRE_OP_CANCEL, file, 1);
	r.txnid = 7;
	expect_refusal(ask(Datagram().add(r).bytes()), EINVAL, 1);
	r = make_request(WIRE_OP_CANCEL, {}, 1);
	expect_refusal(ask(Datagram().add(r).bytes()), EINVAL, 1);
}

TEST_F(Raw, Oversized)
{
	Bytes bytes = sound();

	bytes.resize(WIRE_DATAGRAM_MAX + 1);
	put32(&bytes, LENGTH, static_cast<uint32_t>(bytes.size()));
	check(bytes, EMSGSIZE);
	ASSERT_EQ(0, send_bytes(srv(), bytes, {}));
	/* As large as it may be, of one request with the longest variable part there is. */
	bytes = sound(std::string(60000, 'x'));
	check(bytes, ENAMETOOLONG);
}

// ---- Descriptors

// However many come along with whatever operation: one clear error unless the number is right, and none is kept.
class Descriptors : public Raw, public ::testing::WithParamInterface<wire_op>
{
};

TEST_P(Descriptors, OfEveryNumber)
{
	const wire_op op = GetParam();
	const bool has_path = op == WIRE_OP_SEND || op == WIRE_OP_READ || op == WIRE_OP_OPEN;
	const std::string path = has_path ? "file" : "";
	const bool has_id = op == WIRE_OP_SEND_OPEN || op == WIRE_OP_CANCEL;

	for (wire_channel channel : {WIRE_CHANNEL_NONE, WIRE_CHANNEL_FD, WIRE_CHANNEL_QUEUE}) {
		wire_request r = make_request(op, path, 5);

		r.txnid = has_id ? 12345 : 0;
		const Bytes bytes = Datagram(channel).add(r).bytes();
		for (unsigned n : {0u, 1u, 2u, 3u, 253u}) {
			SCOPED_TRACE("channel " + std::to_string(channel) + ", " + std::to_string(n) + " descriptors");
			Ends status = make_pipe(), dest = make_pipe();
			std::vector<int> fds(n, dest.in);
			const bool right = n == wire_op_fds(op) + (channel == WIRE_CHANNEL_FD ? 1 : 0);
			char byte;

			if (n > 0 && channel == WIRE_CHANNEL_FD)
				fds[0] = status.in;
			ASSERT_EQ(0, send_bytes(srv(), bytes, fds));
			fds.clear();
			status.in.reset();
			dest.in.reset();
			/* End-of-file on both: everybody else has let go of them. */
			if (channel == WIRE_CHANNEL_FD && n > 0 && !right)
				expect_refusal(read_outcomes(status.out), EPROTO, 5);
			if (right && op == WIRE_OP_OPEN)
				status.out.reset();
			EXPECT_NE(0, await(dest.out, POLLIN));
			if (!right) {
				EXPECT_EQ(0, read(dest.out, &byte, 1)) << "the destination was written to";
			}
		}
		expect_idle();
	}
}

INSTANTIATE_TEST_SUITE_P(All, Descriptors,
	::testing::Values(WIRE_OP_SEND, WIRE_OP_READ, WIRE_OP_OPEN, WIRE_OP_SEND_OPEN, WIRE_OP_CANCEL, WIRE_OP_PING));

// The kernel lets a process send only one block; several, as some allow, count as one list.
TEST_F(Raw, TwoBlocksOfDescriptors)
{
	Dest dest({Kind::Pipe, false}, dir());
	Ends status = make_pipe();
	const int err = send_blocks(srv(), sound("file", 3), {{status.in}, {dest.fd()}});

	status.in.reset();
	if (err != 0) {
		EXPECT_EQ(EINVAL, err) << strerror(err);
		EXPECT_EQ("", dest.finish());
		return;
	}
	const auto outcomes = read_outcomes(status.out);
	ASSERT_EQ(1u, outcomes.size());
	/* Either is sound: the whole list was taken, or it was cut and is refused. */
	const std::string arrived = dest.finish();
	EXPECT_TRUE(same_content(outcomes.at(3).stat() == SFD_STAT_OK ? content_ : "", arrived));
}

TEST_F(Raw, TheSamePipeForStatusAndFile)
{
	Ends pipe = make_pipe();
	std::string all;
	char buf[4096];
	ssize_t n;

	ASSERT_EQ(0, send_bytes(srv(), sound(), {pipe.in, pipe.in}));
	pipe.in.reset();
	while (await(pipe.out, POLLIN) != 0 && (n = read(pipe.out, buf, sizeof buf)) > 0)
		all.append(buf, static_cast<size_t>(n));
	EXPECT_EQ(content_.size() + 2 * WIRE_FRAME_SIZE, all.size());

	/* And with a file that fills it, so that both wait for the same room. */
	constexpr size_t LARGE = 300000;
	add_file("large", LARGE);
	Ends again = make_pipe();
	ASSERT_EQ(0, send_bytes(srv(), sound("large"), {again.in, again.in}));
	again.in.reset();
	all.clear();
	while (await(again.out, POLLIN) != 0 && (n = read(again.out, buf, sizeof buf)) > 0)
		all.append(buf, static_cast<size_t>(n));
	EXPECT_GE(all.size(), LARGE + 2 * WIRE_FRAME_SIZE);

	/* Or one that nobody reads, and that is then gone. */
	Ends gone = make_pipe();
	ASSERT_EQ(0, send_bytes(srv(), sound("large"), {gone.in, gone.in}));
	gone.in.reset();
	ASSERT_NE(0, await(gone.out, POLLIN));
}

// A status channel must be the writing end of a pipe; nothing is done for a request that could not be answered.
TEST_F(Raw, ThingsThatAreNoStatusChannel)
{
	const Ends sock = make_socketpair(SOCK_STREAM);
	const Ends pipe = make_pipe();
	const Fd file(open((dir() + "/status").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	const Fd by_path(open((dir() + "/status").c_str(), O_PATH | O_CLOEXEC));
	const Fd read_only(open((dir() + "/status").c_str(), O_RDONLY | O_CLOEXEC));
	char byte;

	for (int fd : {static_cast<int>(sock.in), static_cast<int>(pipe.out), static_cast<int>(file),
		     static_cast<int>(by_path), static_cast<int>(read_only), srv()}) {
		Dest dest({Kind::Pipe, false}, dir());

		ASSERT_EQ(0, send_bytes(srv(), sound(), {fd, dest.fd()}));
		EXPECT_EQ("", dest.finish());
	}
	EXPECT_EQ("", read_whole(dir() + "/status"));
	EXPECT_EQ(-1, recv(sock.out, &byte, 1, MSG_DONTWAIT));
}

// A named pipe is a pipe.
TEST_F(Raw, FifoAsStatusChannelAndDestination)
{
	const std::string path = dir() + "/fifo";

	ASSERT_EQ(0, mkfifo(path.c_str(), 0600));
	Fd reader(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
	Fd writer(open(path.c_str(), O_WRONLY | O_CLOEXEC));
	Dest dest({Kind::Pipe, false}, dir());
	ASSERT_EQ(0, send_bytes(srv(), sound(), {writer, dest.fd()}));
	writer.reset();
	expect_success(read_outcome(reader), content_.size());
	EXPECT_TRUE(same_content(content_, dest.finish()));

	reader.reset(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
	writer.reset(open(path.c_str(), O_WRONLY | O_CLOEXEC));
	expect_success(ask(sound(), {writer}).at(0), content_.size());
	std::string got(content_.size() + 1, '\0');
	ASSERT_EQ(static_cast<ssize_t>(content_.size()), read(reader, got.data(), got.size()));
	got.pop_back();
	EXPECT_TRUE(same_content(content_, got));
}

// A storm of nonsense from several connections does not keep a worker from its work.
TEST_F(Raw, Nonsense)
{
	const std::string noise = make_content(1 << 20, 42);
	const Ends pipe = make_pipe();
	size_t at = 0;

	for (int i = 0; i < 3000; i++) {
		const auto size = static_cast<size_t>(static_cast<unsigned char>(noise[static_cast<size_t>(i)]));
		Bytes bytes(noise.begin() + static_cast<long>(at), noise.begin() + static_cast<long>(at + size));

		at = (at + size) % (noise.size() - 256);
		if (i % 3 == 0) { /* right in the beginning, so that more of it is looked at */
			Bytes head = sound();

			std::copy(bytes.begin(), bytes.begin() + static_cast<long>(std::min<size_t>(size, 40)),
				head.begin() + WIRE_HEADER_SIZE + (i % 60));
			bytes = head;
		}
		ASSERT_EQ(0, send_bytes(srv(), bytes, std::vector<int>(static_cast<size_t>(i) % 4, pipe.in)));
	}
}

} // namespace
