// SPDX-License-Identifier: BSD-2-Clause
#include "test/support/frames.h"

#include <cerrno>
#include <cstring>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

Got read_frame(int fd, void *frame, milliseconds patience)
{
	const Deadline deadline(patience);

	for (;;) {
		ssize_t n;

		if (await(fd, POLLIN, milliseconds(deadline.left_ms())) == 0)
			return Got::Nothing;
		n = read(fd, frame, SFD_MAX_RESP_SIZE);
		if (n == SFD_MAX_RESP_SIZE)
			return Got::Frame;
		if (n == 0)
			return Got::End;
		if (n > 0 || (errno != EINTR && errno != EAGAIN)) {
			ADD_FAILURE() << "a frame came in pieces: read(2) returned " << n << ", " << strerror(errno);
			return Got::Nothing;
		}
	}
}

bool Outcome::accepted() const
{
	return !infos.empty() && infos[0].stat == SFD_STAT_OK;
}

static bool is_terminal(const sfd_xfer_stat &s)
{
	return s.stat != SFD_STAT_OK || sfd_xfer_complete(&s);
}

int Outcome::terminal_kind() const
{
	if (!infos.empty() && infos.back().stat != SFD_STAT_OK)
		return SFD_FILE_INFO;
	if (!stats.empty() && is_terminal(stats.back()))
		return SFD_XFER_STAT;
	return -1;
}

bool Outcome::has_terminal() const
{
	return terminal_kind() >= 0;
}

int Outcome::stat() const
{
	switch (terminal_kind()) {
	case SFD_FILE_INFO:
		return infos.back().stat;
	case SFD_XFER_STAT:
		return stats.back().stat;
	default:
		return -1;
	}
}

uint64_t Outcome::total() const
{
	return stats.empty() ? 0 : stats.back().total;
}

const sfd_file_info &Outcome::info() const
{
	static const sfd_file_info none = {};

	return infos.empty() ? none : infos[0];
}

static void take_info(Outcome *o, const void *frame)
{
	sfd_file_info info;
	const bool good = sfd_unmarshal_file_info(&info, frame);

	EXPECT_EQ(good, info.stat == SFD_STAT_OK);
	EXPECT_TRUE(o->infos.empty()) << "a second information frame";
	EXPECT_TRUE(o->stats.empty()) << "information is not the first frame";
	if (good) {
		EXPECT_NE(0u, info.txnid);
	} else {
		sfd_file_info zero = {};

		zero.cmd = info.cmd;
		zero.stat = info.stat;
		zero.tag = info.tag;
		EXPECT_EQ(0, memcmp(&zero, &info, sizeof info)) << "an error's other fields are 0";
	}
	o->infos.push_back(info);
}

static void take_stat(Outcome *o, const void *frame)
{
	const uint64_t before = o->total();
	sfd_xfer_stat s;
	const bool good = sfd_unmarshal_xfer_stat(&s, frame);

	EXPECT_EQ(good, s.stat == SFD_STAT_OK);
	EXPECT_EQ(1u, o->infos.size()) << "information comes first";
	EXPECT_EQ(before + s.size, s.total) << "`size` is what was delivered since the last frame";
	EXPECT_EQ(s.total, s.written) << "nothing but the file was written";
	EXPECT_LE(s.total, o->info().size);
	if (sfd_xfer_complete(&s)) {
		EXPECT_EQ(SFD_STAT_OK, s.stat);
		EXPECT_EQ(o->info().size, s.total) << "success is all of it";
	}
	o->stats.push_back(s);
}

static void take(Outcome *o, const void *frame)
{
	EXPECT_FALSE(o->has_terminal()) << "a frame after the terminal frame";
	switch (sfd_get_cmd(frame)) {
	case SFD_FILE_INFO:
		take_info(o, frame);
		break;
	case SFD_XFER_STAT:
		take_stat(o, frame);
		break;
	default:
		ADD_FAILURE() << "no frame: kind " << sfd_get_cmd(frame);
	}
}

static uint64_t tag_of(const void *frame)
{
	sfd_file_info info;
	sfd_xfer_stat stat;

	if (sfd_get_cmd(frame) == SFD_FILE_INFO) {
		sfd_unmarshal_file_info(&info, frame);
		return info.tag;
	}
	sfd_unmarshal_xfer_stat(&stat, frame);
	return stat.tag;
}

std::map<uint64_t, Outcome> read_outcomes(int fd, milliseconds patience)
{
	const Deadline deadline(patience);
	std::map<uint64_t, Outcome> out;
	unsigned char frame[SFD_MAX_RESP_SIZE];
	Got got;

	while ((got = read_frame(fd, frame, milliseconds(deadline.left_ms()))) == Got::Frame)
		take(&out[tag_of(frame)], frame);
	EXPECT_EQ(Got::End, got) << "no end-of-file within " << patience.count() << " ms";
	for (auto &[tag, outcome] : out)
		outcome.ended = got == Got::End;
	return out;
}

static Outcome read_on(int fd, Outcome o, milliseconds patience)
{
	const Deadline deadline(patience);
	unsigned char frame[SFD_MAX_RESP_SIZE];
	Got got;

	while ((got = read_frame(fd, frame, milliseconds(deadline.left_ms()))) == Got::Frame) {
		EXPECT_EQ(0u, tag_of(frame));
		take(&o, frame);
	}
	EXPECT_EQ(Got::End, got) << "no end-of-file within " << patience.count() << " ms";
	o.ended = got == Got::End;
	return o;
}

Outcome read_outcome(int fd, milliseconds patience)
{
	return read_on(fd, Outcome(), patience);
}

Outcome read_rest(int fd, const sfd_file_info &info, milliseconds patience)
{
	Outcome o;

	o.infos.push_back(info);
	return read_on(fd, std::move(o), patience);
}

bool read_info(int fd, sfd_file_info *info)
{
	unsigned char frame[SFD_MAX_RESP_SIZE];
	const Got got = read_frame(fd, frame);

	EXPECT_EQ(Got::Frame, got) << "no information came";
	if (got != Got::Frame)
		return false;
	if (sfd_unmarshal_file_info(info, frame))
		return true;
	ADD_FAILURE() << "kind " << sfd_get_cmd(frame) << ", status " << sfd_strstat(sfd_get_stat(frame))
		      << " instead of information";
	return false;
}

ReadResult read_file_pipe(int fd, milliseconds patience)
{
	const Deadline deadline(patience);
	std::vector<char> buf(65536);
	unsigned char frame[SFD_MAX_RESP_SIZE];
	ReadResult r;

	if (read_frame(fd, frame, patience) != Got::Frame)
		return r;
	r.has_info = sfd_get_cmd(frame) == SFD_FILE_INFO;
	sfd_unmarshal_file_info(&r.info, frame);
	while (await(fd, POLLIN, milliseconds(deadline.left_ms())) != 0) {
		const ssize_t n = read(fd, buf.data(), buf.size());

		if (n == 0) {
			r.ended = true;
			break;
		}
		if (n > 0)
			r.content.append(buf.data(), static_cast<size_t>(n));
		else if (errno != EINTR && errno != EAGAIN)
			break;
	}
	EXPECT_TRUE(r.ended) << "no end-of-file";
	return r;
}

void expect_success(const Outcome &o, uint64_t bytes)
{
	EXPECT_TRUE(o.accepted());
	EXPECT_EQ(SFD_STAT_OK, o.stat()) << sfd_strstat(o.stat());
	EXPECT_EQ(bytes, o.info().size);
	EXPECT_EQ(bytes, o.total());
	EXPECT_TRUE(o.ended);
}

void expect_refused(const Outcome &o, int err)
{
	EXPECT_EQ(SFD_FILE_INFO, o.terminal_kind());
	EXPECT_EQ(err, o.stat()) << "\"" << sfd_strstat(o.stat()) << "\" instead of \"" << strerror(err) << "\"";
	EXPECT_TRUE(o.stats.empty());
	EXPECT_TRUE(o.ended);
}

void expect_paced(const Outcome &o, Clock::duration took)
{
	const auto by_size = static_cast<size_t>(o.total() >> 20);
	const auto by_time = static_cast<size_t>(took / 100ms);

	EXPECT_LE(o.stats.size(), by_size + by_time + 2) << "too many progress frames";
}
