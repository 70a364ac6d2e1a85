// SPDX-License-Identifier: BSD-2-Clause
// Destinations that are files, some of which keep whoever writes them waiting. Files are written by helpers only.
#include "test/support/cold_fixture.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sendfiled/sendfiled.h>

namespace
{

constexpr size_t SMALL = 100000, LARGE = (5 << 20) + 123; // one chunk, and several

// A file to write to, as a client has it.
struct Target {
	Fd fd;
	std::string path;
	std::string before;

	off_t position() const
	{
		return lseek(fd, 0, SEEK_CUR);
	}
	// Also of a file that has no name, and without a close(2) that might wait.
	std::string content() const
	{
		std::string out, buf(1 << 18, '\0');
		ssize_t n;

		while ((n = pread(fd, buf.data(), buf.size(), static_cast<off_t>(out.size()))) > 0)
			out.append(buf, 0, static_cast<size_t>(n));
		return out;
	}
};

class Writer : public ColdTest
{
      protected:
	// A file that holds something, and is to be written behind it.
	static Target make_target(const std::string &path, size_t before, int flags = 0)
	{
		Target t;

		t.path = path;
		t.before = make_content(before, 77);
		write_whole(path, t.before, 0666);
		t.fd.reset(open(path.c_str(), O_RDWR | O_CLOEXEC | flags));
		EXPECT_GE(t.fd, 0) << path << ": " << strerror(errno);
		EXPECT_EQ(static_cast<off_t>(before), lseek(t.fd, 0, SEEK_END));
		return t;
	}

	// On file systems other than the root's and the slow one. What it holds lives as long as it is open.
	static Target make_nameless_target(const std::string &dir, size_t before, int flags = 0)
	{
		Target t = make_target(dir + "/sfd-test-" + std::to_string(getpid()), before, flags);

		EXPECT_EQ(0, unlink(t.path.c_str()));
		return t;
	}

	Fd send_to(const Target &t, const std::string &path, off_t offset = 0, size_t len = 0)
	{
		Fd status(sfd_send(srv(), path.c_str(), t.fd, offset, len, false));

		EXPECT_GE(status, 0) << strerror(errno);
		return status;
	}

	void expect_written(const Target &t, const std::string &content)
	{
		EXPECT_TRUE(same_content(t.before + content, t.content())) << t.path;
	}
};

TEST_F(Writer, HungWriteDelaysOnlyItsOwnTransfer)
{
	const std::string content = add_file("file", LARGE), other = add_slow("other", SMALL, 2);

	ASSERT_NO_FATAL_FAILURE(serve());
	Target t = make_target(fs().path("dest"), 0);
	fs().hold("write", "dest");
	const Fd status = send_to(t, "file");
	fs().await("write", 1, "dest");
	run_hot();
	send("slow/other").expect(other);
	/* One that is written elsewhere. */
	const Target elsewhere = make_target(dir() + "/elsewhere", 10);
	expect_success(read_outcome(send_to(elsewhere, "file")), LARGE);
	expect_written(elsewhere, content);
	EXPECT_LE(1U, fs().held("write", "dest"));
	fs().release();
	expect_success(read_outcome(status), LARGE);
	expect_written(t, content);
	EXPECT_EQ(static_cast<off_t>(LARGE), t.position());
	t.fd.reset();
	expect_same_workers();
	expect_nothing_left();
}

// close(2) waits for the server too, and the outcome does not wait for close(2).
TEST_F(Writer, HungCloseDelaysNobody)
{
	const std::string content = add_file("file", SMALL);

	ASSERT_NO_FATAL_FAILURE(serve());
	Target t = make_target(fs().path("dest"), 10);
	fs().hold("flush", "dest");
	expect_success(read_outcome(send_to(t, "file")), SMALL);
	fs().await("flush", 2, "dest");
	expect_written(t, content);
	run_hot();
	const Target elsewhere = make_target(dir() + "/elsewhere", 10);
	expect_success(read_outcome(send_to(elsewhere, "file")), SMALL);
	expect_written(elsewhere, content);
	fs().release();
	t.fd.reset();
	expect_same_workers();
	expect_nothing_left();
}

// Whoever closes is busy, so that a transfer of many pieces waits for it, and goes on then.
TEST_F(Writer, HungCloseOfManyPieces)
{
	const std::string content = add_file("file", LARGE);

	ASSERT_NO_FATAL_FAILURE(serve());
	Target t = make_target(fs().path("dest"), 10);
	fs().hold("flush", "dest");
	const Fd status = send_to(t, "file");
	/* As many as one device may have, and whoever closes what the client has sent. */
	fs().await("flush", 5, "dest");
	run_hot();
	EXPECT_EQ(5U, fs().held("flush", "dest"));
	EXPECT_EQ(4U, helpers("writer").size());
	EXPECT_EQ(0, await(status, POLLHUP, 0ms));
	fs().release();
	expect_success(read_outcome(status), LARGE);
	expect_written(t, content);
	t.fd.reset();
	expect_nothing_left();
}

TEST_F(Writer, HungAppend)
{
	const std::string content = add_file("file", LARGE);

	ASSERT_NO_FATAL_FAILURE(serve());
	Target t = make_target(fs().path("dest"), 5000, O_APPEND);
	fs().hold("write", "dest");
	const Fd status = send_to(t, "file");
	fs().await("write", 1, "dest");
	run_hot();
	fs().release();
	expect_success(read_outcome(status), LARGE);
	expect_written(t, content);
	t.fd.reset();
	expect_nothing_left();
}

TEST_F(Writer, BothEndsHang)
{
	const std::string content = add_slow("file", LARGE);

	ASSERT_NO_FATAL_FAILURE(serve());
	/* Of one device: a single helper reads and writes. Another one has two. */
	for (const std::string &name : {fs().path("dest"), dir() + "/dest"}) {
		Target t = make_target(name, 300);

		fs().hold("read", "file");
		const Fd status = send_to(t, "slow/file");
		fs().await("read", 1, "file");
		run_hot(100);
		fs().hold("write", "dest");
		fs().release("read", "file");
		if (name == fs().path("dest")) {
			fs().await("write", 1, "dest");
			run_hot(100);
		}
		fs().release();
		expect_success(read_outcome(status), LARGE);
		expect_written(t, content);
		EXPECT_EQ(static_cast<off_t>(LARGE + 300), t.position());
		t.fd.reset();
		expect_nothing_left();
	}
}

// From each kind of file to each kind of file, behind what is there.
TEST_F(Writer, AllKindsOfFiles)
{
	const std::string hot = add_file("hot", LARGE, 1), slow = add_slow("slow", LARGE, 2);
	const std::string cold = add_cold("cold", LARGE, 3);
	const std::pair<std::string, std::string> sources[] = {{"hot", hot}, {"slow/slow", slow}, {"cold", cold}};

	ASSERT_NO_FATAL_FAILURE(serve());
	for (const auto &[path, content] : sources) {
		for (const int flags : {0, O_APPEND}) {
			for (const size_t before : {0, 10, 5000}) {
				SCOPED_TRACE(path + (flags ? " appended to " : " behind ") + std::to_string(before));
				std::vector<Target> targets;

				targets.push_back(make_target(dir() + "/dest", before, flags));
				targets.push_back(make_target(fs().path("dest"), before, flags));
				targets.push_back(make_nameless_target("/dev/shm", before, flags));
				targets.push_back(make_nameless_target(root(), before, flags));
				for (const Target &t : targets) {
					drop_from_memory(in_root("cold"));
					expect_success(read_outcome(send_to(t, path)), LARGE);
					expect_written(t, content);
					if (!flags) {
						EXPECT_EQ(static_cast<off_t>(before + LARGE), t.position()) << t.path;
					}
				}
			}
		}
	}
	expect_same_workers();
	expect_nothing_left();
}

// In the middle of what is there: no more and no less is replaced.
TEST_F(Writer, PartsInTheMiddle)
{
	const std::string cold = add_cold("cold", LARGE);

	ASSERT_NO_FATAL_FAILURE(serve());
	for (const std::string &where : {dir() + "/dest", fs().path("dest")}) {
		Target t = make_target(where, LARGE);
		std::string expected = t.before;

		expected.replace(12345, 1000001, cold, 777, 1000001);
		ASSERT_EQ(12345, lseek(t.fd, 12345, SEEK_SET));
		expect_success(read_outcome(send_to(t, "cold", 777, 1000001)), 1000001);
		EXPECT_TRUE(same_content(expected, t.content())) << where;
		EXPECT_EQ(12345 + 1000001, t.position());
		t.fd.reset();
		drop_from_memory(in_root("cold"));
	}
	expect_nothing_left();
}

// The bytes take no way through a pipe.
TEST_F(Writer, OnOneFileSystemNothingIsReadForItself)
{
	const std::string content = add_cold("cold", LARGE);

	ASSERT_NO_FATAL_FAILURE(serve());
	const auto before = counters();
	const Target t = make_target(dir() + "/dest", 10);
	expect_success(read_outcome(send_to(t, "cold")), LARGE);
	expect_written(t, content);
	auto after = counters();
	EXPECT_EQ(before.at("jobs.read"), after["jobs.read"]);
	EXPECT_LT(before.at("jobs.write"), after["jobs.write"]);
}

TEST_F(Writer, DevicesThatAreNoTerminals)
{
	const std::string content = add_slow("file", LARGE);
	Target null, full;

	ASSERT_NO_FATAL_FAILURE(serve());
	null.fd.reset(open("/dev/null", O_WRONLY | O_CLOEXEC));
	full.fd.reset(open("/dev/full", O_WRONLY | O_CLOEXEC));
	for (const char *path : {"slow/file", "canary"}) {
		const size_t size = strcmp(path, "canary") == 0 ? 1000 : LARGE;

		expect_success(read_outcome(send_to(null, path)), size);
		const Outcome o = read_outcome(send_to(full, path));
		EXPECT_TRUE(o.accepted());
		EXPECT_EQ(ENOSPC, o.stat()) << sfd_strstat(o.stat());
		EXPECT_EQ(0U, o.total());
	}
	expect_nothing_left();
}

// What was written before the error is counted, and is what is there.
TEST_F(Writer, ErrorsOfTheDestination)
{
	const std::string content = add_file("file", LARGE);

	ASSERT_NO_FATAL_FAILURE(serve());
	for (const int flags : {0, O_APPEND}) {
		Target t = make_target(fs().path("dest"), 300, flags);

		fs().hold("write", "dest");
		const Fd status = send_to(t, "file");
		fs().await("write", 1, "dest");
		fs().step("write", 1, "dest");
		fs().await("write", 1, "dest");
		fs().fail("write", ENOSPC, "dest");
		fs().release("write", "dest");
		const Outcome o = read_outcome(status);
		EXPECT_EQ(ENOSPC, o.stat()) << sfd_strstat(o.stat());
		EXPECT_LT(0U, o.total());
		EXPECT_GT(LARGE, o.total());
		fs().fail("write", 0, "dest");
		expect_written(t, content.substr(0, o.total()));
	}
	expect_nothing_left();
}

} // namespace
