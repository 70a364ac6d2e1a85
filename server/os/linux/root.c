/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/os/root.h"

#include "server/os/files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif

enum { XFS_MAGIC = 0x58465342 }; /* not in linux/magic.h before 6.0 */

/* Local ones are those whose every wait is a disk's of this machine, and which tell what is in memory. */
static const struct {
	unsigned long magic;
	const char *name;
	bool local, resident, nowait_waits, kernel;
} known[] = {
	{EXT4_SUPER_MAGIC, "ext4", true, false, false, false},
	{XFS_MAGIC, "xfs", true, false, false, false},
	{BTRFS_SUPER_MAGIC, "btrfs", true, false, true, false},
	{TMPFS_MAGIC, "tmpfs", true, true, false, false},
	{RAMFS_MAGIC, "ramfs", true, true, false, false},
	{OVERLAYFS_SUPER_MAGIC, "overlayfs", false, false, false, false},
	{FUSE_SUPER_MAGIC, "fuse", false, false, false, false},
	{NFS_SUPER_MAGIC, "nfs", false, false, false, false},
	{PROC_SUPER_MAGIC, "proc", false, false, false, true},
	{SYSFS_MAGIC, "sysfs", false, false, false, true},
};

static bool opens_cached(int root_fd)
{
	const struct os_dir dir = {.fd = root_fd};
	int fd = os_open_cached(&dir, ".");

	if (fd >= 0)
		close(fd);
	return fd >= 0 || errno != EINVAL;
}

/* Of no file at all: EBADF from a kernel that has cachestat(2). */
static bool tells_heat(void)
{
	return syscall(451, -1, NULL, NULL, 0U) < 0 && errno == EBADF;
}

/* Whoever touches a page that was read ahead may have to start the next reading, of as much again. */
static uint64_t readahead_of(uint64_t device)
{
	char path[64], text[32];
	uint64_t kib = 128; /* the kernel's default */
	ssize_t n = -1;
	int fd;

	snprintf(path, sizeof path, "/sys/class/bdi/%u:%u/read_ahead_kb", major(device), minor(device));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, text, sizeof text - 1);
		close(fd);
	}
	if (n > 0) {
		text[n] = '\0';
		kib = strtoull(text, NULL, 10);
	}
	return kib * 1024 * 2;
}

int os_root_look(int root_fd, struct os_root *out)
{
	struct os_look look;
	struct statfs fs;
	struct statvfs vfs;

	*out = (struct os_root){.dir = {.fd = root_fd}};
	if (os_look_at(root_fd, &look) < 0 || fstatfs(root_fd, &fs) < 0 || fstatvfs(root_fd, &vfs) < 0)
		return -1;
	out->device = look.device;
	snprintf(out->fs, sizeof out->fs, "0x%lx", (unsigned long)fs.f_type);
	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
		if ((unsigned long)fs.f_type != known[i].magic)
			continue;
		snprintf(out->fs, sizeof out->fs, "%s", known[i].name);
		out->local = known[i].local;
		out->resident = known[i].resident;
		out->nowait_waits = known[i].nowait_waits;
		out->kernel = known[i].kernel;
	}
	out->readahead = readahead_of(look.device);
	out->opens_cached = opens_cached(root_fd);
	out->tells_heat = tells_heat();
	out->updates_atime = !out->resident && !(vfs.f_flag & (ST_NOATIME | ST_RDONLY));
	out->strict_atime = out->updates_atime && !(vfs.f_flag & ST_RELATIME);
	return 0;
}

int os_root_detach(int root_fd)
{
	const struct mount_attr attr = {
		.attr_set = MOUNT_ATTR_NOATIME | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID,
		.attr_clr = MOUNT_ATTR__ATIME,
	};
	int fd = (int)syscall(
		SYS_open_tree, root_fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);

	if (fd < 0)
		return -1;
	if (syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof attr) < 0) {
		int err = errno;

		close(fd);
		errno = err;
		return -1;
	}
	return fd;
}
