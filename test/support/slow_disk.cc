// SPDX-License-Identifier: BSD-2-Clause
#include "test/support/slow_disk.h"

#include "test/support/files.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <linux/loop.h>
#include <sstream>
#include <stdexcept>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <vector>

[[noreturn]] static void fail(const std::string &what)
{
	throw std::runtime_error(what + ": " + strerror(errno));
}

/* Control files take one line in one write. */
static bool write_control(const std::string &path, const std::string &line)
{
	const Fd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));

	return fd >= 0 && write(fd, line.data(), line.size()) == static_cast<ssize_t>(line.size());
}

/* Where the hierarchy is mounted that can throttle, and whether that is the unified one; empty if there is none. */
static std::string find_hierarchy(bool *unified)
{
	std::istringstream mounts(read_whole("/proc/self/mounts"));
	std::string device, where, type, options, rest;

	while (mounts >> device >> where >> type >> options && std::getline(mounts, rest)) {
		const bool has_io = (" " + read_whole(where + "/cgroup.controllers")).find(" io") != std::string::npos;

		*unified = type == "cgroup2";
		if (*unified ? has_io : type == "cgroup" && ("," + options + ",").find(",blkio,") != std::string::npos)
			return where;
	}
	return "";
}

SlowDisk::SlowDisk(const std::string &dir, uint64_t size, uint64_t read_bytes_per_second)
    : image_(dir + "/disk.img"), mount_point_(dir + "/disk")
{
	try {
		const Fd image(open(image_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));

		if (image < 0 || ftruncate(image, static_cast<off_t>(size)) < 0)
			fail(image_);
		const RunResult made = run({"mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", image_});
		if (exit_status(made) != 0)
			throw std::runtime_error("mkfs.ext4: " + made.err);
		attach();
		mount_it();
		make_group();
		set_rate(read_bytes_per_second);
	} catch (...) {
		undo();
		throw;
	}
}

SlowDisk::~SlowDisk()
{
	undo();
}

void SlowDisk::attach()
{
	const Fd control(open("/dev/loop-control", O_RDWR | O_CLOEXEC)),
		image(open(image_.c_str(), O_RDWR | O_CLOEXEC));
	loop_config config = {};
	struct stat st;
	int n;

	if (control < 0)
		fail("/dev/loop-control");
	config.fd = static_cast<unsigned>(static_cast<int>(image));
	/* With the unmounting, or with this process, the device is free again. */
	config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
	do {
		n = ioctl(control, LOOP_CTL_GET_FREE);
		if (n < 0)
			fail("LOOP_CTL_GET_FREE");
		device_path_ = "/dev/loop" + std::to_string(n);
		device_.reset(open(device_path_.c_str(), O_RDWR | O_CLOEXEC));
		if (device_ < 0)
			fail(device_path_);
		n = ioctl(device_, LOOP_CONFIGURE, &config);
		/* Somebody else may have taken it meanwhile. */
	} while (n < 0 && errno == EBUSY);
	if (n < 0 || fstat(device_, &st) < 0)
		fail(device_path_);
	device_number_ = std::to_string(major(st.st_rdev)) + ":" + std::to_string(minor(st.st_rdev));
}

void SlowDisk::mount_it()
{
	mkdir(mount_point_.c_str(), 0755);
	if (mount(device_path_.c_str(), mount_point_.c_str(), "ext4", MS_NOATIME, nullptr) < 0)
		fail("mounting " + device_path_);
	mounted_ = true;
	device_.reset();
}

void SlowDisk::make_group()
{
	static unsigned number;

	parent_group_ = find_hierarchy(&unified_);
	if (parent_group_.empty())
		throw std::runtime_error("no control groups that can throttle reads");
	if (unified_ && !write_control(parent_group_ + "/cgroup.subtree_control", "+io"))
		fail(parent_group_ + "/cgroup.subtree_control");
	group_ = parent_group_ + "/sfd-test-" + std::to_string(getpid()) + "-" + std::to_string(number++);
	if (mkdir(group_.c_str(), 0755) < 0) {
		group_.clear();
		fail("a group in " + parent_group_);
	}
}

void SlowDisk::undo()
{
	const std::string used_by = "/sys/dev/block/" + device_number_ + "/loop/backing_file";

	if (!group_.empty()) {
		limit(0);
		std::istringstream procs(read_whole(procs_file()));
		for (std::string pid; procs >> pid;)
			write_control(parent_group_ + "/cgroup.procs", pid);
		/* A process that has just ended may still be counted. */
		EXPECT_TRUE(eventually([&] { return rmdir(group_.c_str()) == 0; })) << group_ << " cannot be removed";
	}
	if (mounted_ && !eventually([&] { return umount2(mount_point_.c_str(), 0) == 0; })) {
		ADD_FAILURE() << mount_point_ << " is in use";
		umount2(mount_point_.c_str(), MNT_DETACH);
	}
	device_.reset();
	if (!device_number_.empty() && !eventually([&] { return read_whole(used_by) != image_ + "\n"; }))
		ADD_FAILURE() << device_path_ << " is left in use";
	unlink(image_.c_str());
}

void SlowDisk::add_file(const std::string &name, size_t size, uint64_t seed)
{
	write_whole(path(name), make_content(size, seed));
	if (!drop_caches(name))
		throw std::runtime_error(path(name) + " stays in memory");
}

/* Whether any page of it is in memory. To read a bit of it, even without waiting, could begin to read all of it. */
static bool is_resident(int fd, size_t size)
{
	const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
	std::vector<unsigned char> pages((size + page - 1) / page);
	void *at = size > 0 ? mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;

	if (at == MAP_FAILED)
		return false;
	const int failed = mincore(at, size, pages.data());
	munmap(at, size);
	return failed != 0 || std::any_of(pages.begin(), pages.end(), [](unsigned char c) { return c & 1; });
}

bool SlowDisk::drop_caches(const std::string &name)
{
	const Fd fd(open(path(name).c_str(), O_RDONLY | O_CLOEXEC));
	struct stat st;

	if (fd < 0 || fsync(fd) < 0 || fstat(fd, &st) < 0)
		fail(path(name));
	return eventually(
		[&] {
			posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
			return !is_resident(fd, static_cast<size_t>(st.st_size));
		},
		2s);
}

std::string SlowDisk::procs_file() const
{
	return group_ + "/cgroup.procs";
}

void SlowDisk::throttle(pid_t pid)
{
	if (!write_control(procs_file(), std::to_string(pid)))
		fail(procs_file());
}

void SlowDisk::unthrottle(pid_t pid)
{
	if (!write_control(parent_group_ + "/cgroup.procs", std::to_string(pid)))
		fail(parent_group_ + "/cgroup.procs");
}

bool SlowDisk::limit(uint64_t rate)
{
	const std::string number = rate == 0 && unified_ ? "max" : std::to_string(rate);

	if (unified_)
		return write_control(group_ + "/io.max", device_number_ + " rbps=" + number);
	return write_control(group_ + "/blkio.throttle.read_bps_device", device_number_ + " " + number);
}

void SlowDisk::set_rate(uint64_t read_bytes_per_second)
{
	if (!limit(read_bytes_per_second))
		fail("the limit of " + group_);
}

/* Only trying tells. */
static std::string try_it()
{
	constexpr size_t SIZE = 128 << 10, RATE = 512 << 10;

	if (geteuid() != 0)
		return "only root can mount it";
	try {
		const TempDir dir;
		SlowDisk disk(dir.path(), 4 << 20, RATE);
		disk.add_file("file", SIZE);
		const auto begin = Clock::now();
		const RunResult r =
			run({"sh", "-c", "echo $$ >" + disk.procs_file() + "; exec cat " + disk.path("file")});
		if (r.out != make_content(SIZE))
			return "what is read from the disk is not what was written";
		if (Clock::now() - begin < 100ms)
			return "the limit has no effect on the loop device";
	} catch (const std::exception &e) {
		return e.what();
	}
	return "";
}

bool SlowDisk::available(std::string *why)
{
	static const std::string reason = try_it();

	*why = reason;
	return reason.empty();
}
