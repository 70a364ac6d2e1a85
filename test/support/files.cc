// SPDX-License-Identifier: BSD-2-Clause
#include "test/support/files.h"

#include "test/support/fd.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>

// splitmix64: every output is a bijection of the state, so neighbouring seeds share no bytes.
std::string make_content(size_t size, uint64_t seed)
{
	std::string out(size, '\0');
	uint64_t state = seed * UINT64_C(0x9e3779b97f4a7c15);

	for (size_t at = 0; at < size; at += sizeof state) {
		uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);

		z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
		z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
		z ^= z >> 31;
		memcpy(&out[at], &z, std::min(sizeof z, size - at));
	}
	return out;
}

::testing::AssertionResult same_content(const std::string &expected, const std::string &actual)
{
	if (expected == actual)
		return ::testing::AssertionSuccess();

	const size_t common = std::min(expected.size(), actual.size());
	const auto differ =
		std::mismatch(expected.begin(), expected.begin() + static_cast<long>(common), actual.begin());

	return ::testing::AssertionFailure() << actual.size() << " bytes arrived of " << expected.size()
					     << "; the first " << differ.first - expected.begin() << " are right";
}

void write_whole(const std::string &path, const std::string &content, unsigned mode)
{
	const Fd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
	size_t at = 0;

	ASSERT_GE(fd, 0) << path << ": " << strerror(errno);
	while (at < content.size()) {
		const ssize_t n = write(fd, content.data() + at, content.size() - at);

		ASSERT_GT(n, 0) << path << ": " << strerror(errno);
		at += static_cast<size_t>(n);
	}
	/* The daemon may run as another user, and the umask is not ours to rely on. */
	ASSERT_EQ(0, fchmod(fd, mode));
}

std::string read_whole(const std::string &path)
{
	const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
	std::string out;
	char buf[65536];
	ssize_t n;

	while (fd >= 0 && (n = read(fd, buf, sizeof buf)) > 0)
		out.append(buf, static_cast<size_t>(n));
	return out;
}

template <typename F> static void each_fd(const std::string &pid, F &&fn)
{
	const std::string where = "/proc/" + pid + "/fd";
	DIR *dir = opendir(where.c_str());

	if (!dir)
		return;
	while (const dirent *e = readdir(dir)) {
		/* The directory itself is open while it is read. */
		if (e->d_name[0] != '.' && (pid != "self" || atoi(e->d_name) != dirfd(dir)))
			fn(where, e->d_name);
	}
	closedir(dir);
}

size_t count_fds(const std::string &pid)
{
	size_t n = 0;

	each_fd(pid, [&n](const std::string &, const char *) { n++; });
	return n;
}

std::string list_fds(const std::string &pid)
{
	std::string out;

	each_fd(pid, [&out](const std::string &where, const char *name) {
		char target[256] = "";

		if (readlink((where + "/" + name).c_str(), target, sizeof target - 1) < 0)
			target[0] = '?';
		out += std::string("  ") + name + " -> " + target + "\n";
	});
	return out;
}

TempDir::TempDir()
{
	const char *base = getenv("TMPDIR");
	std::string path;

	/* A socket's path has 107 bytes at most. */
	if (!base || strlen(base) > 40)
		base = "/tmp";
	path = std::string(base) + "/sfd-test.XXXXXX";
	EXPECT_NE(nullptr, mkdtemp(path.data()));
	EXPECT_EQ(0, chmod(path.c_str(), 0755));
	path_ = path;
}

TempDir::~TempDir()
{
	std::error_code ignored;

	std::filesystem::remove_all(path_, ignored);
}
