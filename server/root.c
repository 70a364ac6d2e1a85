/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/root.h"

#include "server/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* The directory to serve; -1 and errno, said in the log. */
static int open_dir(const char *path)
{
	const struct os_dir dir = {.fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC)};
	int err;

	if (dir.fd < 0) {
		log_line(LOG_LEVEL_ERROR, "cannot serve the root directory %s: %s; name another with -r", path,
			strerror(errno));
		return -1;
	}
	err = os_probe_open_beneath(&dir);
	if (err == EACCES) {
		log_line(LOG_LEVEL_ERROR, "may not search the root directory %s; name another with -r, or chmod it",
			path);
	} else if (err != 0) {
		log_line(LOG_LEVEL_ERROR,
			"this kernel cannot confine opens to the root directory: openat2(2): %s; it needs Linux 5.6, and in a container a "
			"seccomp profile that allows openat2",
			strerror(err));
	}
	if (err != 0) {
		close(dir.fd);
		errno = err;
		return -1;
	}
	return dir.fd;
}

/* As root, reading is done through a clone of the root's mounts that keeps no access times. */
static int take(int root_fd, const char *path, struct os_root *root)
{
	int clone = geteuid() == 0 ? os_root_detach(root_fd) : -1;

	if (geteuid() == 0 && clone < 0)
		log_line(LOG_LEVEL_WARNING, "cannot clone the root directory's mounts (%s): access times are kept",
			strerror(errno));
	if (clone >= 0) {
		close(root_fd);
		root_fd = clone;
	}
	if (os_root_look(root_fd, root) < 0) {
		log_line(LOG_LEVEL_ERROR, "cannot look at the root directory %s: %s", path, strerror(errno));
		close(root_fd);
		return -1;
	}
	root->detached = clone >= 0;
	return 0;
}

int root_open(struct os_root *root, const struct options *o)
{
	int fd = open_dir(o->root);

	if (fd < 0 || take(fd, o->root, root) < 0)
		return -1;
	if (root->kernel) {
		log_line(LOG_LEVEL_ERROR,
			"will not serve %s: on a %s file system there are no files, but what the kernel says of whoever asks; name "
			"another with -r",
			o->root, root->fs);
		close(root->dir.fd);
		errno = EINVAL;
		return -1;
	}
	root->dir.no_symlinks = o->no_symlinks;
	root->dir.one_file_system = o->one_file_system;
	return 0;
}

void root_log(const struct os_root *root, const char *path)
{
	const char *reads = "what cachestat(2) proves to be in memory, and little else,";

	if (root->resident)
		reads = "all of it";
	else if (!root->tells_heat)
		reads = "small files that are in memory";
	if (root->local && root->opens_cached)
		log_line(LOG_LEVEL_INFO,
			"root %s: %s%s; workers open what is in memory, and send %s themselves; helpers do the rest",
			path, root->fs, root->detached ? ", cloned without access times" : "", reads);
	else
		log_line(LOG_LEVEL_INFO, "root %s: %s; helpers open and read every file%s", path, root->fs,
			root->local ? ""
				    : "; content on a local file system, or bind-mounted from one, is served faster");
}
