/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/options.h"

#include "server/complaint.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum {
	OPT_WORKERS = 256, /* options without a letter */
	OPT_PING,
	OPT_HELP,
	OPT_VERSION,
	OPT_READY_FD,
	OPT_READERS,
	OPT_READERS_PER_DEVICE,
	OPT_IO_TIMEOUT,
	OPT_IDLE_TIMEOUT,
	OPT_WORKER_TIMEOUT,
	OPT_MAX_READAHEAD,
	OPT_MAX_RATE_PER_USER,
	OPT_BUSY_POLL,
	OPT_SOCKET_MODE,
	OPT_SOCKET_USER,
	OPT_SOCKET_GROUP,
	OPT_ALLOW_USER,
	OPT_ALLOW_GROUP,
	OPT_ALLOW_FOREIGN_PIDNS,
	OPT_SHARED_IDS,
	OPT_NO_SYMLINKS,
	OPT_ONE_FILE_SYSTEM,
	OPT_MAX_TRANSFERS_PER_USER,
	OPT_MAX_OPENS_PER_USER,
	OPT_MAX_QUEUED_PER_USER,
	OPT_MAX_REQUESTS_PER_USER,
};

const char options_help[] =
	"usage: sendfiled -s NAME -r ROOT [options]\n"
	"       sendfiled -s NAME [-S SOCKDIR] --ping\n"
	"\n"
	"Sends files below ROOT on behalf of other processes; see sendfiled(8).\n"
	"\n"
	"  -s, --name NAME           the daemon's name; the socket is SOCKDIR/sendfiled.NAME.socket\n"
	"  -r, --root ROOT           the directory that is served; nothing outside it ever is\n"
	"  -S, --socket-dir SOCKDIR  where the socket lies (/run/sendfiled for root,\n"
	"                            else $XDG_RUNTIME_DIR/sendfiled)\n"
	"  -n, --max-transfers MAX   the most transfers at a time, over all workers (10000)\n"
	"  -t, --open-timeout MS     how long an opened file waits to be sent (30000)\n"
	"  -u, --user USER           started as root: the user that serves (sendfiled, else nobody)\n"
	"  -g, --group GROUP         started as root: the group that serves (the user's own)\n"
	"      --socket-mode MODE    who may connect: the socket file's mode, in octal (0600)\n"
	"      --socket-user USER, --socket-group GROUP\n"
	"                            whose the socket file is\n"
	"      --allow-user USER, --allow-group GROUP\n"
	"                            who is served, besides root and the user who starts the daemon;\n"
	"                            may be repeated (the user that serves)\n"
	"      --allow-foreign-pidns serve processes of other PID namespaces, too\n"
	"      --shared-ids          let a user's processes go on with each other's transfers and queues\n"
	"      --no-symlinks         refuse paths that lead over symbolic links\n"
	"      --one-file-system     refuse paths that lead onto another file system\n"
	"      --workers N           worker processes (the number of online CPUs)\n"
	"      --readers N           the most helpers of each kind: that open, read, write (16)\n"
	"      --readers-per-device N\n"
	"                            how many of them one device may take (4)\n"
	"      --io-timeout MS       how long a disk may take before a request ends; 0: for ever\n"
	"                            (60000)\n"
	"      --idle-timeout MS     how long a transfer may move nothing before it ends; 0: for ever\n"
	"                            (60000)\n"
	"      --worker-timeout MS   how long a worker may be stuck before it is replaced; 0: for ever\n"
	"                            (10000)\n"
	"      --max-readahead PAGES the most that a request may have read ahead (1024)\n"
	"      --max-transfers-per-user N\n"
	"                            how many of all transfers may be one user's (4096)\n"
	"      --max-opens-per-user N\n"
	"                            how many of those may wait to be sent (256)\n"
	"      --max-queued-per-user N\n"
	"                            how many of one user's requests may wait to be begun (8192)\n"
	"      --max-requests-per-user N\n"
	"                            how many each user may begin in a second; 0: no limit (0)\n"
	"      --max-rate-per-user BYTES\n"
	"                            what each user's transfers may move together in a second (0: no\n"
	"                            limit)\n"
	"      --busy-poll USEC      how long a worker looks for requests before it sleeps, while they\n"
	"                            come closer together than that; 0: not at all (100)\n"
	"  -d, --daemonize           go to the background once ready; log to the system log\n"
	"  -p, --sync-parent         leave when the process that started this one ends\n"
	"      --ready-fd FD         write an int to this descriptor once: 0 when ready, else an errno\n"
	"      --ping                ask the daemon NAME whether it serves: exit status 0 if so\n"
	"      --help, --version\n";

static const char short_options[] = "+:s:r:S:n:t:u:g:dp";

static const struct option long_options[] = {
	{"name", required_argument, NULL, 's'},
	{"root", required_argument, NULL, 'r'},
	{"socket-dir", required_argument, NULL, 'S'},
	{"max-transfers", required_argument, NULL, 'n'},
	{"open-timeout", required_argument, NULL, 't'},
	{"user", required_argument, NULL, 'u'},
	{"group", required_argument, NULL, 'g'},
	{"daemonize", no_argument, NULL, 'd'},
	{"sync-parent", no_argument, NULL, 'p'},
	{"workers", required_argument, NULL, OPT_WORKERS},
	{"readers", required_argument, NULL, OPT_READERS},
	{"readers-per-device", required_argument, NULL, OPT_READERS_PER_DEVICE},
	{"io-timeout", required_argument, NULL, OPT_IO_TIMEOUT},
	{"idle-timeout", required_argument, NULL, OPT_IDLE_TIMEOUT},
	{"worker-timeout", required_argument, NULL, OPT_WORKER_TIMEOUT},
	{"max-readahead", required_argument, NULL, OPT_MAX_READAHEAD},
	{"max-rate-per-user", required_argument, NULL, OPT_MAX_RATE_PER_USER},
	{"busy-poll", required_argument, NULL, OPT_BUSY_POLL},
	{"max-transfers-per-user", required_argument, NULL, OPT_MAX_TRANSFERS_PER_USER},
	{"max-opens-per-user", required_argument, NULL, OPT_MAX_OPENS_PER_USER},
	{"max-queued-per-user", required_argument, NULL, OPT_MAX_QUEUED_PER_USER},
	{"max-requests-per-user", required_argument, NULL, OPT_MAX_REQUESTS_PER_USER},
	{"socket-mode", required_argument, NULL, OPT_SOCKET_MODE},
	{"socket-user", required_argument, NULL, OPT_SOCKET_USER},
	{"socket-group", required_argument, NULL, OPT_SOCKET_GROUP},
	{"allow-user", required_argument, NULL, OPT_ALLOW_USER},
	{"allow-group", required_argument, NULL, OPT_ALLOW_GROUP},
	{"allow-foreign-pidns", no_argument, NULL, OPT_ALLOW_FOREIGN_PIDNS},
	{"shared-ids", no_argument, NULL, OPT_SHARED_IDS},
	{"no-symlinks", no_argument, NULL, OPT_NO_SYMLINKS},
	{"one-file-system", no_argument, NULL, OPT_ONE_FILE_SYSTEM},
	{"ping", no_argument, NULL, OPT_PING},
	{"help", no_argument, NULL, OPT_HELP},
	{"version", no_argument, NULL, OPT_VERSION},
	{"ready-fd", required_argument, NULL, OPT_READY_FD},
	{NULL, 0, NULL, 0},
};

/* A whole decimal number in a range: no sign, no blanks, nothing after it. */
static int take_long(
	uint64_t *out, const char *option, const char *arg, uint64_t min, uint64_t max, const struct complaint *c)
{
	char *end;

	errno = 0;
	*out = strtoull(arg, &end, 10);
	if (*arg < '0' || *arg > '9' || *end != '\0' || errno != 0 || *out < min || *out > max)
		return complain(c, -1, "%s takes a whole number from %llu to %llu, not '%s'", option,
			(unsigned long long)min, (unsigned long long)max, arg);
	return 0;
}

static int take_number(
	unsigned *out, const char *option, const char *arg, unsigned min, unsigned max, const struct complaint *c)
{
	uint64_t n;

	if (take_long(&n, option, arg, min, max, c) < 0)
		return -1;
	*out = (unsigned)n;
	return 0;
}

static int set(bool *flag)
{
	*flag = true;
	return 0;
}

/* Options whose value is a number. */
struct number {
	int opt;
	const char *name;
	size_t at; /* where in struct options */
	unsigned min, max;
};

static const struct number numbers[] = {
	{'n', "--max-transfers (-n)", offsetof(struct options, max_transfers), 1, TRANSFERS_MAX},
	{'t', "--open-timeout (-t)", offsetof(struct options, open_timeout_ms), 1, INT_MAX},
	{OPT_WORKERS, "--workers", offsetof(struct options, workers), 1, WORKERS_MAX},
	{OPT_READERS, "--readers", offsetof(struct options, readers), 1, READERS_MAX},
	{OPT_READERS_PER_DEVICE, "--readers-per-device", offsetof(struct options, readers_per_device), 1, READERS_MAX},
	{OPT_IO_TIMEOUT, "--io-timeout", offsetof(struct options, io_timeout_ms), 0, INT_MAX},
	{OPT_IDLE_TIMEOUT, "--idle-timeout", offsetof(struct options, idle_timeout_ms), 0, INT_MAX},
	{OPT_WORKER_TIMEOUT, "--worker-timeout", offsetof(struct options, worker_timeout_ms), 0, INT_MAX},
	{OPT_MAX_READAHEAD, "--max-readahead", offsetof(struct options, max_readahead), 0, READAHEAD_MAX},
	{OPT_MAX_TRANSFERS_PER_USER, "--max-transfers-per-user", offsetof(struct options, max_transfers_per_user), 1,
		TRANSFERS_MAX},
	{OPT_MAX_OPENS_PER_USER, "--max-opens-per-user", offsetof(struct options, max_opens_per_user), 1,
		TRANSFERS_MAX},
	{OPT_MAX_QUEUED_PER_USER, "--max-queued-per-user", offsetof(struct options, max_queued_per_user), 1,
		TRANSFERS_MAX},
	{OPT_MAX_REQUESTS_PER_USER, "--max-requests-per-user", offsetof(struct options, max_requests_per_user), 0,
		REQUESTS_PER_USER_MAX},
	{OPT_BUSY_POLL, "--busy-poll", offsetof(struct options, busy_poll_us), 0, BUSY_POLL_MAX_US},
};

/* 0, or -1; 1: it is none of these. */
static int take_numbered(struct options *o, int opt, const char *arg, const struct complaint *c)
{
	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
		const struct number *n = &numbers[i];

		if (n->opt == opt)
			return take_number((unsigned *)(void *)((char *)o + n->at), n->name, arg, n->min, n->max, c);
	}
	return 1;
}

/* What chmod(1) takes as a number, the permissions only. */
static int take_mode(unsigned *out, const char *arg, const struct complaint *c)
{
	char *end;
	unsigned long n = strtoul(arg, &end, 8);

	if (*arg < '0' || *arg > '7' || *end != '\0' || n > 0777)
		return complain(c, -1, "--socket-mode takes an octal number from 0 to 777, not '%s'", arg);
	*out = (unsigned)n;
	return 0;
}

static int take_name(struct names *names, const char *option, const char *arg, const struct complaint *c)
{
	if (names->count == NAMES_MAX)
		return complain(c, -1, "%s may be given %d times; name a group instead", option, NAMES_MAX);
	names->all[names->count++] = arg;
	return 0;
}

/* Options about who is served, and what. 0, or -1; 1: it is none of these. */
static int take_policy(struct options *o, int opt, const char *arg, const struct complaint *c)
{
	switch (opt) {
	case OPT_SOCKET_MODE:
		return take_mode(&o->socket_mode, arg, c);
	case OPT_SOCKET_USER:
		o->socket_user = arg;
		return 0;
	case OPT_SOCKET_GROUP:
		o->socket_group = arg;
		return 0;
	case OPT_ALLOW_USER:
		return take_name(&o->allow_users, "--allow-user", arg, c);
	case OPT_ALLOW_GROUP:
		return take_name(&o->allow_groups, "--allow-group", arg, c);
	case OPT_ALLOW_FOREIGN_PIDNS:
		return set(&o->allow_foreign_pidns);
	case OPT_SHARED_IDS:
		return set(&o->shared_ids);
	case OPT_NO_SYMLINKS:
		return set(&o->no_symlinks);
	case OPT_ONE_FILE_SYSTEM:
		return set(&o->one_file_system);
	default:
		return 1;
	}
}

static int take_ready_fd(struct options *o, const char *arg, const struct complaint *c)
{
	unsigned n = 0;

	if (o->ready_fd >= 0)
		return complain(
			c, -1, "--ready-fd is given twice, or the library that starts this daemon gave it already");
	if (take_number(&n, "--ready-fd", arg, 3, INT_MAX, c) < 0)
		return -1;
	o->ready_fd = (int)n;
	return 0;
}

static int take_option(struct options *o, int opt, const char *arg, const struct complaint *c)
{
	int taken = take_numbered(o, opt, arg, c);

	if (taken > 0)
		taken = take_policy(o, opt, arg, c);
	if (taken <= 0)
		return taken;
	switch (opt) {
	case 's':
		o->name = arg;
		return 0;
	case 'r':
		o->root = arg;
		return 0;
	case 'S':
		o->socket_dir = arg;
		return 0;
	case 'u':
		o->user = arg;
		return 0;
	case 'g':
		o->group = arg;
		return 0;
	case 'd':
		return set(&o->daemonize);
	case 'p':
		return set(&o->sync_parent);
	case OPT_MAX_RATE_PER_USER:
		return take_long(&o->max_rate_per_user, "--max-rate-per-user", arg, 0, INT64_MAX, c);
	case OPT_PING:
		o->action = ACTION_PING;
		return 0;
	case OPT_HELP:
		o->action = ACTION_HELP;
		return 0;
	case OPT_VERSION:
		o->action = ACTION_VERSION;
		return 0;
	case OPT_READY_FD:
		return take_ready_fd(o, arg, c);
	default:
		return complain(c, -1, "internal error: option %d", opt);
	}
}

static int check(const struct options *o, const struct complaint *c)
{
	if (!o->name)
		return complain(c, -1, "no name: say -s NAME");
	if (!*o->name || strchr(o->name, '/'))
		return complain(c, -1, "the name '%s' must not be empty and must not contain a slash", o->name);
	if (o->action == ACTION_PING)
		return 0;
	if (!o->root)
		return complain(c, -1, "no root directory: say -r ROOT, the directory to serve");
	if (o->daemonize && o->ready_fd >= 0)
		return complain(
			c, -1, "--daemonize and --ready-fd exclude each other: the first one announces by exiting");
	return 0;
}

int options_parse(struct options *o, int argc, char *argv[], char *error, size_t size)
{
	const struct complaint c = {error, size};
	int opt;

	*o = (struct options){
		.max_transfers = TRANSFERS_DEFAULT,
		.open_timeout_ms = OPEN_TIMEOUT_DEFAULT_MS,
		.readers = READERS_DEFAULT,
		.readers_per_device = READERS_PER_DEVICE_DEFAULT,
		.io_timeout_ms = IO_TIMEOUT_DEFAULT_MS,
		.idle_timeout_ms = IDLE_TIMEOUT_DEFAULT_MS,
		.worker_timeout_ms = WORKER_TIMEOUT_DEFAULT_MS,
		.max_readahead = READAHEAD_DEFAULT,
		.busy_poll_us = BUSY_POLL_DEFAULT_US,
		.max_transfers_per_user = TRANSFERS_PER_USER_DEFAULT,
		.max_opens_per_user = OPENS_PER_USER_DEFAULT,
		.max_queued_per_user = QUEUED_PER_USER_DEFAULT,
		.socket_mode = SOCKET_MODE_DEFAULT,
		.ready_fd = -1,
	};
	optind = 0; /* glibc: start over, also when called again */
	for (;;) {
		int at = optind ? optind : 1; /* where the option looked at next stands */

		opt = getopt_long(argc, argv, short_options, long_options, NULL);
		if (opt == -1)
			break;
		if (opt == ':')
			return complain(&c, -1, "%s needs a value; see sendfiled --help", argv[at]);
		if (opt == '?')
			return complain(&c, -1, "unknown option %s; see sendfiled --help", argv[at]);
		if (take_option(o, opt, optarg, &c) < 0)
			return -1;
		if (o->action == ACTION_HELP || o->action == ACTION_VERSION)
			return 0;
	}
	if (optind < argc)
		return complain(&c, -1, "unexpected argument '%s'; see sendfiled --help", argv[optind]);
	return check(o, &c);
}
