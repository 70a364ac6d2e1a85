// SPDX-License-Identifier: BSD-2-Clause
// A daemon that is out of memory, at any one allocation, or at that and all that follow: each request has an end, nothing is
// kept, and nobody dies.
#include "test/hostile/hostile.h"
#include "test/support/cold_fixture.h"
#include "test/support/nomem.h"
#include "test/support/queue.h"

#include <map>
#include <memory>
#include <string>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>
#include <vector>

namespace
{

constexpr size_t SMALL = 3000, LARGE = 200000;

// Its parameter: whether all that follow fail too.
class NoMemory : public Hostile, public ::testing::WithParamInterface<bool>
{
      protected:
	void SetUp() override
	{
		Hostile::SetUp();
#if defined(__SANITIZE_ADDRESS__)
		GTEST_SKIP() << "a sanitizer has a malloc of its own";
#endif
		const std::string file = dir() + "/nomem";
		const nomem none = {-1, 0, 0};

		write_whole(file, std::string(reinterpret_cast<const char *>(&none), sizeof none));
		const Fd fd(open(file.c_str(), O_RDWR | O_CLOEXEC));
		void *at = mmap(nullptr, sizeof *control_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		ASSERT_NE(MAP_FAILED, at);
		control_ = static_cast<nomem *>(at);
		DaemonOptions options;
		options.wrapper = {"env", "LD_PRELOAD=" BUILD_DIR "/test/support/nomem.so", "NOMEM_FILE=" + file};
		options.workers = 1;
		for (const char *name : {"small", "large", "cold"})
			contents_[name] = add_file(name, name == std::string("small") ? SMALL : LARGE);
		start(options);
	}

	void TearDown() override
	{
		Hostile::TearDown();
		if (control_)
			munmap(control_, sizeof *control_);
	}

	void fail_after(int successes)
	{
		control_->failed = 0;
		control_->for_good = GetParam();
		__atomic_store_n(&control_->left, successes, __ATOMIC_SEQ_CST);
	}
	// How many failed.
	int have_memory_again()
	{
		__atomic_store_n(&control_->left, -1, __ATOMIC_SEQ_CST);
		return control_->failed;
	}

	// It arrived as a whole if that was said, and in part otherwise.
	void expect_arrived(const std::string &name, bool whole, const std::string &arrived,
		const std::string &before = "", const std::string &after = "")
	{
		const std::string all = before + contents_[name] + after;

		EXPECT_TRUE(same_content(whole ? all : all.substr(0, arrived.size()), arrived));
	}

	// Requests of their own, each of another kind.
	void call()
	{
		std::vector<std::unique_ptr<Dest>> dests;
		std::vector<Fd> status;
		sfd_file_info info = {};

		for (const Kind kind : {Kind::Pipe, Kind::Tcp, Kind::File, Kind::Terminal}) {
			dests.push_back(std::make_unique<Dest>(DestType{kind, true}, dir()));
			dests.back()->start_reading();
		}
		status.emplace_back(sfd_send(srv(), "large", dests[0]->fd(), 0, 0, false));
		status.emplace_back(sfd_send(srv(), "cold", dests[1]->fd(), 0, 0, false));
		status.emplace_back(sfd_send(srv(), "large", dests[2]->fd(), 0, 0, false));
		status.emplace_back(sfd_open(srv(), "small", 0, 0, false));
		const Fd read_end(sfd_read(srv(), "small", 0, 0, false));
		if (read_frame(status[3], &info) == Got::Frame && info.stat == SFD_STAT_OK) {
			sfd_send_open(srv(), info.txnid, dests[3]->fd());
			read_rest(status[3], info);
		}
		for (int i = 0; i < 3; i++) {
			const Outcome o = read_outcome(status[i]);
			const std::string arrived = dests[i]->finish();

			EXPECT_TRUE(o.ended);
			expect_arrived("large", o.stat() == SFD_STAT_OK, arrived, i == 2 ? Dest::before : "");
		}
		const ReadResult r = read_file_pipe(read_end);
		EXPECT_TRUE(r.ended || !r.has_info);
		expect_arrived("small", false, r.content);
	}

	// And a queue.
	void batch()
	{
		Queue q(srv(), 16);
		std::vector<Ends> pipes;
		const std::vector<std::string> names = {"small", "cold", "small", "none", "small"};

		for (size_t i = 0; i < names.size(); i++) {
			pipes.push_back(make_pipe());
			q.send(names[i], pipes[i].in, i, i % 2 == 0 ? &opts_ : nullptr, 0, i == 1 ? SMALL : 0);
		}
		q.open("small", 100);
		q.submit();
		q.until([&] { return q.of(100).infos > 0 || q.of(100).over(); });
		if (q.of(100).infos > 0)
			q.cancel(100);
		q.finish();
		for (size_t i = 0; i < names.size(); i++) {
			const bool whole = q.of(i).stat == SFD_STAT_OK, framed = i % 2 == 0;
			const std::string arrived = drain(&pipes[i]);

			EXPECT_EQ(1U, q.of(i).ended);
			if (i != 1 && i != 3)
				expect_arrived(names[i], whole, arrived, framed ? head_ : "", framed ? tail_ : "");
		}
	}

      private:
	nomem *control_ = nullptr;
	std::map<std::string, std::string> contents_;
	std::string head_ = "before ", tail_ = " after";
	const iovec before_ = {head_.data(), head_.size()}, after_ = {tail_.data(), tail_.size()};
	const sfd_opts opts_ = {0, 0, &before_, 1, &after_, 1, 0, 0, nullptr, 0, 0, {}};
};

TEST_P(NoMemory, AtAnyAllocation)
{
	constexpr int MOST = 200;
	int failed = 1, n;
	limit(120);

	for (n = 0; failed > 0 && n < MOST && !HasFailure(); n++) {
		SCOPED_TRACE("the allocation after " + std::to_string(n));
		drop_from_memory(in_root("cold"));
		fail_after(n);
		call();
		batch();
		failed = have_memory_again();
		oracle();
	}
	EXPECT_EQ(0, failed);
	EXPECT_GT(n, 20) << "so few allocations: is it preloaded?";
}

INSTANTIATE_TEST_SUITE_P(Of, NoMemory, ::testing::Bool(),
	[](const auto &i) { return std::string(i.param ? "AndAllThatFollow" : "AndNoOther"); });

} // namespace
