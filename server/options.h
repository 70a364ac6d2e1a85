/* SPDX-License-Identifier: BSD-2-Clause */
/* The daemon's arguments: read once, checked, and never changed afterwards. */
#ifndef SFD_OPTIONS_H
#define SFD_OPTIONS_H

#include "server/access.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	WORKERS_MAX = 64,
	TRANSFERS_MAX = 1000000,
	TRANSFERS_DEFAULT = 10000,
	OPEN_TIMEOUT_DEFAULT_MS = 30000,
	BUSY_POLL_DEFAULT_US = 100,
	BUSY_POLL_MAX_US = 10000,
	READERS_MAX = 64,
	READERS_DEFAULT = 16,
	READERS_PER_DEVICE_DEFAULT = 4,
	IO_TIMEOUT_DEFAULT_MS = 60000,
	IDLE_TIMEOUT_DEFAULT_MS = 60000,
	WORKER_TIMEOUT_DEFAULT_MS = 10000,
	READAHEAD_DEFAULT = 1024, /* pages */
	READAHEAD_MAX = 1024 * 1024,
	SOCKET_MODE_DEFAULT = 0600,
	TRANSFERS_PER_USER_DEFAULT = 4096,
	OPENS_PER_USER_DEFAULT = 256,
	QUEUED_PER_USER_DEFAULT = 8192,
	REQUESTS_PER_USER_MAX = 100000000,
};

enum action {
	ACTION_SERVE,
	ACTION_PING,
	ACTION_HELP,
	ACTION_VERSION,
};

/* The strings are the caller's argv. */
struct options {
	enum action action;
	const char *name;
	const char *root;
	const char *socket_dir; /* NULL: the default */
	const char *user;       /* NULL: the default */
	const char *group;
	struct names allow_users, allow_groups;
	const char *socket_user; /* NULL: the default */
	const char *socket_group;
	unsigned socket_mode;
	unsigned max_transfers;
	unsigned open_timeout_ms;
	unsigned readers; /* of each kind: those that open, read, write */
	unsigned readers_per_device;
	unsigned io_timeout_ms; /* these two 0: none */
	unsigned idle_timeout_ms;
	unsigned worker_timeout_ms; /* 0: never */
	unsigned max_readahead;     /* pages */
	uint64_t max_rate_per_user; /* bytes per second; 0: no limit */
	unsigned max_transfers_per_user;
	unsigned max_opens_per_user;
	unsigned max_queued_per_user;
	unsigned max_requests_per_user; /* in a second; 0: no limit */
	unsigned busy_poll_us;          /* 0: not at all */
	unsigned workers;               /* 0: one for each online CPU */
	bool allow_foreign_pidns;
	bool shared_ids;
	bool no_symlinks;
	bool one_file_system;
	bool daemonize;
	bool sync_parent;
	int ready_fd; /* -1: nobody waits to hear how the start went */
};

/*
 * Reads the command line. 0, or -1 with one line in `error` that says what is wrong and how to mend it. Prints nothing.
 * May reorder argv (getopt_long(3)).
 */
int options_parse(struct options *o, int argc, char *argv[], char *error, size_t size);

/* The text of --help. */
extern const char options_help[];

#endif
