/* SPDX-License-Identifier: BSD-2-Clause */
/* The directory to serve, as it is found at the start: while still root, and before there are workers. */
#ifndef SFD_ROOT_H
#define SFD_ROOT_H

#include "server/options.h"
#include "server/os/root.h"

/* Opens the directory, and finds out what it can do. 0, or -1 and errno, said in the log. May wait for its disk or server. */
int root_open(struct os_root *root, const struct options *o);

/* Which way files go depends on what the kernel and the root's file system can do: the operator is told. */
void root_log(const struct os_root *root, const char *path);

#endif
