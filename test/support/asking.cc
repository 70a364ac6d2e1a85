// SPDX-License-Identifier: BSD-2-Clause
#include "test/support/asking.h"

#include <cerrno>
#include <cstring>
#include <poll.h>

std::string name_of(Form form)
{
	return form == Form::One ? "One" : "Queue";
}

Asked::Asked(Form form, int srv) : form_(form), srv_(srv), queue_(nullptr, sfd_queue_free)
{
	if (form == Form::Queue)
		queue_.reset(sfd_queue_new(srv, 8));
}

void Asked::note_call(bool taken)
{
	if (taken)
		return;
	went_.err = errno;
	over_ = true;
}

void Asked::send(const Source &from, int dest, const sfd_opts *opts)
{
	if (form_ == Form::Queue && from.fd >= 0)
		note_call(sfd_queue_sendfd(queue_.get(), from.fd, dest, from.offset, from.len, opts, 1) == 0);
	else if (form_ == Form::Queue)
		note_call(sfd_queue_send(queue_.get(), from.path.c_str(), dest, from.offset, from.len, opts, 1) == 0);
	else if (from.fd >= 0)
		status_.reset(when_room(
			srv_, [&] { return sfd_sendfd(srv_, from.fd, dest, from.offset, from.len, true, opts); }));
	else
		status_.reset(when_room(srv_, [&] {
			return sfd_send_opts(srv_, from.path.c_str(), dest, from.offset, from.len, true, opts);
		}));
	if (form_ == Form::One)
		note_call(status_ >= 0);
	else
		submit();
}

// Until the daemon has it: a new queue waits for its consent first.
void Asked::submit()
{
	const Deadline deadline(PATIENCE);
	sfd_event e;

	while (sfd_queue_submit(queue_.get()) < 0 && is_for_later(errno) && !deadline.passed()) {
		await(sfd_queue_fd(queue_.get()), POLLIN);
		if (sfd_queue_reap(queue_.get(), &e, 1) == 1)
			take(e);
	}
}

void Asked::open(const Source &from, const sfd_opts *opts)
{
	if (form_ == Form::Queue) {
		note_call(sfd_queue_open(queue_.get(), from.path.c_str(), from.offset, from.len, opts, 1) == 0);
		submit();
		return;
	}
	status_.reset(when_room(
		srv_, [&] { return sfd_open_opts(srv_, from.path.c_str(), from.offset, from.len, true, opts); }));
	note_call(status_ >= 0);
}

void Asked::send_open(int dest, const sfd_opts *opts)
{
	if (form_ == Form::Queue) {
		EXPECT_EQ(0, sfd_queue_send_open(queue_.get(), went_.info.txnid, dest, opts)) << strerror(errno);
		submit();
	} else {
		EXPECT_TRUE(when_room(srv_, [&] { return sfd_send_open_opts(srv_, went_.info.txnid, dest, opts); }))
			<< strerror(errno);
	}
}

void Asked::cancel()
{
	if (form_ == Form::Queue)
		EXPECT_EQ(0, sfd_queue_cancel(queue_.get(), 1));
	else
		EXPECT_TRUE(when_room(srv_, [&] { return sfd_cancel(srv_, went_.info.txnid); }));
}

void Asked::take(const void *frame)
{
	sfd_file_info info;
	sfd_xfer_stat stat;

	if (sfd_get_cmd(frame) == SFD_FILE_INFO) {
		sfd_unmarshal_file_info(&info, frame);
		went_.has_info = info.stat == SFD_STAT_OK || info.stat == SFD_STAT_CHANGED;
		went_.info = info;
		went_.stat = info.stat == SFD_STAT_OK ? -1 : info.stat;
		over_ = info.stat != SFD_STAT_OK;
		return;
	}
	sfd_unmarshal_xfer_stat(&stat, frame);
	went_.bytes = stat.total;
	went_.written = stat.written;
	over_ = stat.stat != SFD_STAT_OK || sfd_xfer_complete(&stat);
	if (over_)
		went_.stat = stat.stat;
}

void Asked::take(const sfd_event &e)
{
	EXPECT_EQ(1U, e.user_data);
	if (e.type == SFD_EV_INFO) {
		went_.has_info = true;
		went_.info = e.info;
		return;
	}
	went_.bytes = e.bytes;
	went_.written = e.written;
	over_ = e.type == SFD_EV_DONE;
	if (over_)
		went_.stat = e.stat;
}

// One frame or event; false if none came.
bool Asked::read_one(milliseconds patience)
{
	char frame[SFD_MAX_RESP_SIZE];
	sfd_event e;

	if (form_ == Form::Queue) {
		const int n = sfd_queue_wait(queue_.get(), &e, 1, static_cast<int>(patience.count()));

		if (n == 1)
			take(e);
		return n == 1;
	}
	if (await(status_, POLLIN, patience) == 0)
		return false;
	if (read_frame(status_, frame, patience) != Got::Frame) {
		went_.stat = SFD_STAT_WORKER_DIED;
		over_ = true;
		return true;
	}
	take(frame);
	return true;
}

bool Asked::await_info(milliseconds patience)
{
	const Deadline deadline(patience);

	while (!over_ && !went_.has_info && !deadline.passed())
		read_one(100ms);
	EXPECT_TRUE(over_ || went_.has_info) << "nothing comes";
	return went_.has_info && !over_;
}

bool Asked::is_over()
{
	while (!over_ && read_one(0ms))
		;
	return over_;
}

const Went &Asked::end(milliseconds patience)
{
	const Deadline deadline(patience);

	while (!over_ && !deadline.passed())
		read_one(100ms);
	EXPECT_TRUE(over_) << "it does not end";
	return went_;
}

void AskingTest::take_arrived(Dest *dest)
{
	arrived = dest->finish();
	if (!dest->is_file())
		return;
	EXPECT_EQ(Dest::before, arrived.substr(0, Dest::before.size())) << "what the file held before";
	arrived.erase(0, Dest::before.size());
}

Went AskingTest::send(Form form, const Source &from, const DestType &to, const sfd_opts *opts)
{
	Dest dest(to, dir());
	Asked asked(form, srv());

	dest.start_reading();
	asked.send(from, dest.fd(), opts);
	const Went w = asked.end();
	take_arrived(&dest);
	return w;
}

Went AskingTest::open_and_send(
	Form form, const Source &from, const DestType &to, const sfd_opts *first, const sfd_opts *second)
{
	Dest dest(to, dir());
	Asked asked(form, srv());

	dest.start_reading();
	asked.open(from, first);
	if (asked.await_info())
		asked.send_open(dest.fd(), second);
	const Went w = asked.end();
	take_arrived(&dest);
	return w;
}

void expect_went(const Went &w, uint64_t bytes, uint64_t written)
{
	EXPECT_EQ(0, w.err) << strerror(w.err);
	EXPECT_EQ(SFD_STAT_OK, w.stat) << sfd_strstat(w.stat);
	EXPECT_EQ(bytes, w.bytes);
	EXPECT_EQ(written, w.written);
}

void expect_untouched(const Went &w, int stat)
{
	EXPECT_EQ(0, w.err) << strerror(w.err);
	EXPECT_EQ(stat, w.stat) << sfd_strstat(w.stat);
	EXPECT_EQ(0U, w.bytes);
	EXPECT_EQ(0U, w.written);
}
