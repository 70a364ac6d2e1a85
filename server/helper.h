/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A helper process: does one job at a time for whichever worker sends one, and may wait for a disk or a file system's
 * server as long as it takes. It leaves when it has had nothing to do for a while.
 */
#ifndef SFD_HELPER_H
#define SFD_HELPER_H

#include "server/job.h"
#include "server/os/root.h"
#include "server/pool.h"
#include "server/privilege.h"

struct helper_config {
	enum pool_kind kind;
	unsigned index; /* of its place */
	struct pools *pools;
	int box;              /* where its jobs come from */
	const int *mailboxes; /* workers', to answer to */
	unsigned workers;
	int life_fd; /* end-of-file: the master is gone */
	struct os_root root;
	struct identity identity;
};

/* A job as it arrived: its descriptors are those of files and pipes, taken out of the sockets that held them. */
struct work {
	const struct helper_config *config;
	const struct job_letter *letter;
	const char *path;
	int fds[JOB_FDS_MAX];
	struct job_answer answer; /* to be filled in */
	int file;                 /* to go with the answer (-1: none), and to be closed afterwards */
};

/* The body of a forked child. Never returns. */
_Noreturn void helper_main(const struct helper_config *config);

#endif
