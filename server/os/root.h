/* SPDX-License-Identifier: BSD-2-Clause */
/* The directory that is served: what its file system can do, found out at the start. */
#ifndef SFD_OS_ROOT_H
#define SFD_OS_ROOT_H

#include "server/os/files.h"

#include <stdbool.h>
#include <stdint.h>

struct os_root {
	struct os_dir dir;  /* not owned */
	char fs[16];        /* its name, for the log: "ext4" */
	uint64_t device;    /* st_dev */
	uint64_t readahead; /* how many bytes the system may read beyond what is asked for */
	bool local;         /* on a disk of this machine, or in its memory; nobody's server is asked for anything */
	bool resident;      /* its files are always in memory */
	bool opens_cached;  /* os_open_cached() works */
	bool tells_heat;    /* os_heat() knows, at least of some files */
	bool updates_atime; /* reading may write to the file system: an access time that is due */
	bool strict_atime;  /* and is so every time */
	bool kernel;        /* its files are no files: the kernel makes up what is read, of whoever reads */
	bool nowait_waits;  /* to read without waiting may wait all the same: Linux, btrfs */
	bool detached;      /* os_root_detach() was done */
};

/* Looks. 0, or -1 and errno. Asks the file system, so it may wait. */
int os_root_look(int root_fd, struct os_root *out);

/*
 * A private clone of the directory's mounts on which no access time is kept, so that reading what is in memory never has
 * to wait for a journal; devices and set-user-ID are off as well. What is mounted below the directory later is not seen
 * through it. A descriptor, or -1 and errno (EPERM: not root). Linux: open_tree(2), mount_setattr(2), since 5.12.
 */
int os_root_detach(int root_fd);

#endif
