// SPDX-License-Identifier: BSD-2-Clause
#include "test/support/cold_fixture.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sstream>

/* ---- One transfer */

Request::Request(int srv, const std::string &path, const std::string &dir, const DestType &type)
    : dest_(std::make_unique<Dest>(type, dir))
{
	status_.reset(when_room(srv, [&] { return sfd_send(srv, path.c_str(), dest_->fd(), 0, 0, false); }));
	EXPECT_GE(status_, 0) << path << ": " << strerror(errno);
}

const sfd_file_info &Request::info()
{
	if (!has_info_)
		has_info_ = read_info(status_, &info_);
	return info_;
}

Outcome Request::finish(milliseconds patience)
{
	dest_->start_reading();
	const Outcome o = has_info_ ? read_rest(status_, info_, patience) : read_outcome(status_, patience);
	arrived = dest_->finish();
	return o;
}

void Request::expect(const std::string &content, milliseconds patience)
{
	expect_success(finish(patience), content.size());
	EXPECT_TRUE(same_content(content, arrived));
}

void Request::expect_failure(int stat, const std::string &content, milliseconds patience)
{
	const Outcome o = finish(patience);

	EXPECT_EQ(stat, o.stat()) << sfd_strstat(o.stat());
	EXPECT_EQ(SFD_XFER_STAT, o.terminal_kind());
	EXPECT_TRUE(o.ended);
	EXPECT_EQ(o.total(), arrived.size());
	EXPECT_TRUE(same_content(content.substr(0, arrived.size()), arrived));
}

/* ---- Tools */

std::vector<std::string> read_all_ends(const std::vector<Fd> &fds, milliseconds patience)
{
	const Deadline deadline(patience);
	std::vector<std::string> out(fds.size());
	std::vector<pollfd> polled;
	std::vector<char> buf(1 << 18);
	size_t left = fds.size();

	polled.reserve(fds.size());
	for (const Fd &fd : fds)
		polled.push_back({fd, POLLIN, 0});
	while (left > 0) {
		const int n = poll(polled.data(), polled.size(), deadline.left_ms());

		if (n == 0 || (n < 0 && errno != EINTR)) {
			ADD_FAILURE() << left << " of " << fds.size() << " have not ended";
			break;
		}
		for (size_t i = 0; i < polled.size(); i++) {
			if (polled[i].fd < 0 || polled[i].revents == 0)
				continue;
			const ssize_t got = read(polled[i].fd, buf.data(), buf.size());
			if (got > 0) {
				out[i].append(buf.data(), static_cast<size_t>(got));
			} else if (got == 0 || (errno != EINTR && errno != EAGAIN)) {
				polled[i].fd = -1;
				left--;
			}
		}
	}
	return out;
}

void drop_from_memory(const std::string &path)
{
	const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));

	ASSERT_GE(fd, 0) << path << ": " << strerror(errno);
	ASSERT_EQ(0, fsync(fd));
	ASSERT_EQ(0, posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
}

bool waits_for_file(pid_t pid)
{
	const std::string where = "/proc/" + std::to_string(pid), stat = read_whole(where + "/stat");
	const size_t at = stat.rfind(") ");

	if (at != std::string::npos && stat[at + 2] == 'D')
		return true;
	return read_whole(where + "/wchan") == "request_wait_answer"; /* fuse: it can be interrupted at first */
}

/* ---- The fixture */

void ColdTest::SetUp()
{
	SfdTest::SetUp();
	REQUIRE_SLOW_FS();
	mount("slow");
}

// Whoever still waits is released first.
void ColdTest::TearDown()
{
	mounts_.clear();
	SfdTest::TearDown();
}

SlowFs &ColdTest::mount(const std::string &name)
{
	mounts_.push_back(std::make_unique<SlowFs>(in_root(name)));
	return *mounts_.back();
}

void ColdTest::serve(const std::vector<std::string> &more, unsigned workers)
{
	DaemonOptions options;

	options.workers = workers;
	options.more = more;
	start(options);
}

std::string ColdTest::add_slow(const std::string &name, size_t size, uint64_t seed)
{
	fs().add(name, size, seed);
	return make_content(size, seed);
}

std::string ColdTest::add_cold(const std::string &name, size_t size, uint64_t seed)
{
	std::string content = add_file(name, size, seed);

	drop_from_memory(in_root(name));
	return content;
}

Clock::duration ColdTest::run_hot(unsigned n)
{
	const std::string content = read_whole(in_root("canary"));
	Clock::duration longest{};
	Ends pipe = make_pipe();
	std::string got(content.size(), '\0');

	for (unsigned i = 0; i < n && !HasFailure(); i++) {
		const auto begin = Clock::now();
		const Fd status(when_room(srv(), [&] { return sfd_send(srv(), "canary", pipe.in, 0, 0, false); }));

		expect_success(read_outcome(status), content.size());
		longest = std::max(longest, Clock::now() - begin);
		/* It must not wait for bytes that never came. */
		if (HasFailure() || await(pipe.out, POLLIN, 0ms) == 0 ||
			read(pipe.out, got.data(), got.size()) != static_cast<ssize_t>(got.size()) || got != content)
			ADD_FAILURE() << "transfer " << i << " of what is in memory went wrong";
	}
	return longest;
}

std::vector<pid_t> ColdTest::helpers(const std::string &kind)
{
	static const std::map<std::string, std::string> names = {
		{"opener", "sendfiled-open\n"}, {"reader", "sendfiled-read\n"}, {"writer", "sendfiled-write\n"}};
	const std::string &name = names.at(kind);
	std::vector<pid_t> out;

	for (const pid_t pid : daemon().helpers()) {
		if (read_whole("/proc/" + std::to_string(pid) + "/comm") == name)
			out.push_back(pid);
	}
	return out;
}

pid_t ColdTest::helper(const std::string &kind)
{
	const std::vector<pid_t> all = helpers(kind);

	EXPECT_EQ(1U, all.size()) << kind;
	return all.size() == 1 ? all[0] : -1;
}

void ColdTest::expect_nothing_left()
{
	for (const auto &m : mounts_) {
		EXPECT_EQ(0U, m->held("all"));
		EXPECT_TRUE(eventually([&] { return m->count("open") == m->count("release"); }))
			<< m->count("open") << " times opened, " << m->count("release") << " times released";
	}
	expect_idle();
	for (const pid_t pid : daemon().workers())
		EXPECT_TRUE(eventually([pid] { return children_of(pid).empty(); })) << "a process still closes";
}
