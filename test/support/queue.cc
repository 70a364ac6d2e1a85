// SPDX-License-Identifier: BSD-2-Clause
#include "test/support/queue.h"

#include "test/support/files.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <gtest/gtest.h>
#include <poll.h>
#include <stdexcept>
#include <sys/resource.h>
#include <sys/stat.h>

bool is_for_later(int err)
{
	return err == EAGAIN || err == ETOOMANYREFS || err == ENOBUFS || err == ENOMEM;
}

Queue::Queue(int srv, unsigned depth) : queue_(sfd_queue_new(srv, depth))
{
	if (!queue_)
		throw std::runtime_error(std::string("no queue: ") + strerror(errno));
}

Queue::~Queue()
{
	free();
}

void Queue::free()
{
	sfd_queue_free(queue_);
	queue_ = nullptr;
}

/* ---- Adding */

template <typename Add> void Queue::add(uint64_t user_data, const sfd_opts *opts, bool opens, Add call)
{
	Result &r = results_[user_data];
	int n = call();

	if (n < 0 && errno == EAGAIN && sfd_queue_submit(queue_) > 0)
		n = call();
	if (n < 0 && errno == EAGAIN)
		until([&] { return (n = call()) == 0 || errno != EAGAIN; });
	ASSERT_EQ(0, n) << "request " << user_data << ": " << strerror(errno);
	if (r.over())
		r = Result{r.added, r.ended, 0, false, false, false, {}, {}, -1, 0, 0};
	r.shared |= r.added > r.ended;
	r.added++;
	r.wants_info = opens || (opts && opts->flags & SFD_WANT_INFO);
	r.wants_progress = opts && opts->flags & SFD_WANT_PROGRESS;
	added_++;
}

void Queue::send(const std::string &path, int dest, uint64_t user_data, const sfd_opts *opts, off_t offset, size_t len)
{
	add(user_data, opts, false,
		[&] { return sfd_queue_send(queue_, path.c_str(), dest, offset, len, opts, user_data); });
}

void Queue::open(const std::string &path, uint64_t user_data, const sfd_opts *opts, off_t offset, size_t len)
{
	add(user_data, opts, true, [&] { return sfd_queue_open(queue_, path.c_str(), offset, len, opts, user_data); });
}

void Queue::send_open(uint64_t user_data, int dest, const sfd_opts *opts)
{
	const sfd_file_info &info = info_of(user_data);
	auto call = [&] { return sfd_queue_send_open(queue_, info.txnid, dest, opts); };
	int n = call();

	if (n < 0 && errno == EAGAIN)
		until([&] { return (n = call()) == 0 || errno != EAGAIN; });
	ASSERT_EQ(0, n) << "second message of " << user_data << ": " << strerror(errno);
	results_[user_data].wants_progress |= opts && opts->flags & SFD_WANT_PROGRESS;
}

void Queue::cancel(uint64_t user_data)
{
	ASSERT_EQ(0, sfd_queue_cancel(queue_, user_data)) << "request " << user_data << ": " << strerror(errno);
}

/* ---- Events */

static bool is_zero(const void *mem, size_t size)
{
	const std::string zeros(size, '\0');

	return memcmp(mem, zeros.data(), size) == 0;
}

void Queue::take_info(Result &r, const sfd_event &e)
{
	EXPECT_EQ(SFD_STAT_OK, e.stat);
	EXPECT_EQ(SFD_FILE_INFO, e.info.cmd);
	EXPECT_EQ(SFD_STAT_OK, e.info.stat);
	EXPECT_NE(0u, e.info.txnid);
	EXPECT_EQ(0u, e.info.tag) << "the library's own tag is shown";
	EXPECT_EQ(0u, e.info.reserved0);
	EXPECT_TRUE(is_zero(e.info.reserved, sizeof e.info.reserved));
	EXPECT_EQ(0u, e.bytes);
	EXPECT_EQ(0u, e.written);
	EXPECT_TRUE(r.wants_info || r.shared) << "nobody asked for it";
	EXPECT_TRUE(r.infos == 0 || r.shared) << "once more";
	r.infos++;
	r.info = e.info;
}

void Queue::take_done(Result &r, const sfd_event &e)
{
	if (!r.shared && e.stat == SFD_STAT_OK && r.wants_info) {
		EXPECT_EQ(1u, r.infos) << "the information was left out";
	}
	if (!r.shared) {
		EXPECT_GE(e.bytes, r.bytes);
	}
	r.ended++;
	ended_++;
	r.stat = e.stat;
	r.bytes = e.bytes;
	r.written = e.written;
}

// What holds for each event, whatever it is of.
void Queue::take(const sfd_event &e)
{
	SCOPED_TRACE("event of " + std::to_string(e.user_data) + ", type " + std::to_string(e.type));
	const auto found = results_.find(e.user_data);

	events_++;
	ASSERT_NE(results_.end(), found) << "nobody asked for this";
	Result &r = found->second;
	ASSERT_LT(r.ended, r.added) << "one event too many; status: " << sfd_strstat(e.stat);
	EXPECT_TRUE(is_zero(e.reserved, sizeof e.reserved));
	if (e.type != SFD_EV_INFO) {
		EXPECT_TRUE(is_zero(&e.info, sizeof e.info));
		EXPECT_GE(e.written, e.bytes);
	}
	switch (e.type) {
	case SFD_EV_INFO:
		take_info(r, e);
		break;
	case SFD_EV_PROGRESS:
		EXPECT_TRUE(r.wants_progress || r.shared) << "nobody asked for it";
		EXPECT_EQ(SFD_STAT_OK, e.stat);
		EXPECT_TRUE(e.bytes >= r.bytes || r.shared);
		r.progress.push_back(e);
		r.bytes = e.bytes;
		r.written = e.written;
		break;
	case SFD_EV_DONE:
		take_done(r, e);
		break;
	default:
		ADD_FAILURE() << "there is no such type";
	}
}

size_t Queue::reap_once(int max)
{
	std::vector<sfd_event> events(static_cast<size_t>(max));

	/* What was there before must be gone from all members. */
	memset(events.data(), 0x5a, events.size() * sizeof events[0]);
	const int n = sfd_queue_reap(queue_, events.data(), max);

	EXPECT_GE(n, 0) << strerror(errno);
	EXPECT_LE(n, max);
	for (int i = 0; i < n; i++)
		take(events[static_cast<size_t>(i)]);
	return n < 0 ? 0 : static_cast<size_t>(n);
}

size_t Queue::reap(int max)
{
	size_t all = 0;

	while (const size_t n = reap_once(max))
		all += n;
	return all;
}

/* ---- Waiting */

int Queue::submit(milliseconds patience)
{
	const Deadline deadline(patience);

	for (;;) {
		const int n = sfd_queue_submit(queue_);

		if (n == 0)
			return 0;
		if (n < 0 && (!is_for_later(errno) || deadline.passed()))
			return errno;
		if (n < 0) {
			await(fd(), POLLIN, milliseconds(deadline.left_ms()));
			reap();
		}
	}
}

bool Queue::until(const std::function<bool()> &what, milliseconds patience)
{
	const Deadline deadline(patience);

	for (;;) {
		sfd_queue_submit(queue_);
		reap();
		if (what())
			return true;
		if (deadline.passed())
			return false;
		await(fd(), POLLIN, milliseconds(deadline.left_ms()));
	}
}

bool Queue::step(milliseconds patience)
{
	const size_t before = events_;

	return until([&] { return events_ > before; }, patience);
}

void Queue::forget(uint64_t user_data)
{
	EXPECT_TRUE(of(user_data).over());
	results_.erase(user_data);
}

void Queue::finish(milliseconds patience)
{
	if (until([&] { return outstanding() == 0; }, patience))
		return;
	std::string left;
	unsigned said = 0;

	for (const auto &[user_data, r] : results_) {
		if (!r.over() && r.added > 0 && said++ < 20)
			left += " " + std::to_string(user_data);
	}
	ADD_FAILURE() << outstanding() << " requests do not end:" << left;
}

const Result &Queue::end_of(uint64_t user_data, milliseconds patience)
{
	const auto is_over = [&] { return of(user_data).over(); };

	EXPECT_TRUE(is_over() || until(is_over, patience)) << user_data << " does not end";
	return of(user_data);
}

const sfd_file_info &Queue::info_of(uint64_t user_data, milliseconds patience)
{
	const auto has_come = [&] { return of(user_data).infos > 0 || of(user_data).over(); };

	/* Where it has come already nothing else is sent. */
	EXPECT_TRUE(has_come() || until(has_come, patience)) << user_data << " has no information";
	EXPECT_EQ(1u, of(user_data).infos) << user_data << ": " << sfd_strstat(of(user_data).stat);
	return of(user_data).info;
}

void Queue::expect_success(uint64_t user_data, uint64_t bytes)
{
	const Result &r = end_of(user_data);

	EXPECT_EQ(SFD_STAT_OK, r.stat) << user_data << ": " << sfd_strstat(r.stat);
	EXPECT_EQ(bytes, r.bytes);
	EXPECT_EQ(bytes, r.written);
	EXPECT_EQ(r.wants_info ? 1u : 0u, r.infos);
}

void Queue::expect_end(uint64_t user_data, int stat)
{
	const Result &r = end_of(user_data);

	EXPECT_EQ(stat, r.stat) << user_data << ": " << sfd_strstat(r.stat) << " rather than " << sfd_strstat(stat);
}

void Queue::expect_quiet()
{
	EXPECT_EQ(0u, reap());
	/* The daemon's consent may come at any moment, and is nothing that is told; but then it is quiet. */
	EXPECT_TRUE(eventually([&] {
		EXPECT_EQ(0u, reap());
		return await(fd(), POLLIN, 0ms) == 0;
	})) << "readable, and nothing is there";
}

/* ---- Tools */

bool await_event(sfd_queue *q, sfd_event *e, milliseconds patience)
{
	const Deadline deadline(patience);

	for (;;) {
		sfd_queue_submit(q);
		if (sfd_queue_reap(q, e, 1) == 1)
			return true;
		if (deadline.passed())
			return false;
		await(sfd_queue_fd(q), POLLIN, milliseconds(deadline.left_ms()));
	}
}

std::string drain(Ends *pipe)
{
	std::string out, buf(1 << 16, '\0');
	ssize_t n = -1;

	pipe->in.reset();
	while (await(pipe->out, POLLIN) != 0 && (n = read(pipe->out, buf.data(), buf.size())) > 0)
		out.append(buf, 0, static_cast<size_t>(n));
	EXPECT_EQ(0, n) << "no end-of-file: somebody still holds the destination";
	return out;
}

std::string take_arrived(Ends *pipe)
{
	std::string out, buf(1 << 16, '\0');

	while (await(pipe->out, POLLIN, 0ms) & POLLIN) {
		const ssize_t n = read(pipe->out, buf.data(), buf.size());

		if (n <= 0)
			break;
		out.append(buf, 0, static_cast<size_t>(n));
	}
	EXPECT_EQ(0u, drain(pipe).size()) << "written after the end";
	return out;
}

std::vector<Fd> fill_socket(const Daemon &daemon)
{
	const Fd other(daemon.connect());
	std::vector<Fd> pipes;

	for (;;) {
		Fd pipe(sfd_read(other, "canary", 0, 0, false));

		if (pipe < 0)
			break;
		pipes.push_back(std::move(pipe));
		if (pipes.size() > 10000) {
			ADD_FAILURE() << "the socket never fills";
			break;
		}
	}
	EXPECT_EQ(EAGAIN, errno);
	return pipes;
}

uint64_t active_transfers(const Daemon &daemon)
{
	static const char word[] = "counters: active=";
	const size_t before = daemon.log().size();
	size_t at = std::string::npos;
	std::string text;

	EXPECT_TRUE(daemon.signal(SIGUSR1));
	EXPECT_TRUE(eventually([&] {
		text = daemon.log().substr(before);
		at = text.find(word);
		return at != std::string::npos && text.find('\n', at) != std::string::npos;
	}));
	return at == std::string::npos ? UINT64_MAX : strtoull(text.c_str() + at + strlen(word), nullptr, 10);
}

std::string make_hook(const std::string &dir)
{
	const std::string hooks = dir + "/hook";

	EXPECT_EQ(0, mkdir(hooks.c_str(), 0777));
	EXPECT_EQ(0, chmod(hooks.c_str(), 0777));
	return hooks + "/armed";
}

DaemonOptions dying_at(const std::string &edge, const std::string &file)
{
	DaemonOptions options;

	/* The other program takes the place of the one that would have been run. */
	options.wrapper = {"env", "SENDFILED_FAULT=" + edge, "SENDFILED_FAULT_FILE=" + file, "/bin/sh", "-c",
		"shift; exec \"$0\" \"$@\"", BUILD_DIR "/fault/sendfiled"};
	return options;
}
