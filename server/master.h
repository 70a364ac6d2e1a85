/* SPDX-License-Identifier: BSD-2-Clause */
/* The master: starts workers and helpers, replaces them, stops them. It reads no request, opens no file and has no client's descriptor. */
#ifndef SFD_MASTER_H
#define SFD_MASTER_H

#include "server/listen.h"
#include "server/options.h"
#include "server/os/root.h"
#include "server/privilege.h"

struct master_config {
	const struct options *options;
	struct listener *listener;
	const struct identity *identity;
	const struct access *access;
	const struct os_root *root;
	int parent_fd; /* readable when the process to keep in step with has ended; -1: none */
	unsigned workers;
	unsigned max_transfers;    /* of all workers together */
	unsigned worker_transfers; /* of each */
	unsigned max_pipes;        /* of each, for cold bytes */
	unsigned max_queues;
	bool detach;                /* once ready, the log goes to the system's instead of standard error */
	void (*serving)(void *arg); /* called once, when all workers serve, */
	void (*ready)(void *arg);   /* and this when what the first has logged is written */
	void *ready_arg;
};

/* Runs until told to stop. 0; or an errno if the start failed, said in the log. */
int master_run(const struct master_config *config);

#endif
