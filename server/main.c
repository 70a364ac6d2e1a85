/* SPDX-License-Identifier: BSD-2-Clause */
/* sendfiled: the start-up order. */
#include "server/account.h"
#include "server/complaint.h"
#include "server/limits.h"
#include "server/listen.h"
#include "server/log.h"
#include "server/master.h"
#include "server/options.h"
#include "server/os/process.h"
#include "server/ping.h"
#include "server/pipes.h"
#include "server/privilege.h"
#include "server/root.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

/* Whoever waits to hear how the start went gets one int: 0, or an errno. */
struct announcement {
	int fd; /* -1: nobody waits, or they have heard */
	struct os_root root;
	const char *root_path;
	bool detach;
	bool sync_parent;
};

static void announce(struct announcement *a, int status)
{
	if (a->fd < 0)
		return;
	if (write(a->fd, &status, sizeof status) != sizeof status && status == 0) {
		log_line(LOG_LEVEL_WARNING, "whoever waited for this daemon's start has gone");
		/* It may have gone before --sync-parent could watch it. */
		if (a->sync_parent)
			raise(SIGTERM);
	}
	close(a->fd);
	a->fd = -1;
}

static void on_serving(void *arg)
{
	const struct announcement *a = arg;

	root_log(&a->root, a->root_path);
	log_line(LOG_LEVEL_INFO, "ready");
}

static void on_ready(void *arg)
{
	announce(arg, 0);
}

/* Standard input and output of whoever started a daemon in the background are not its to hold open. */
static int leave_stdio(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
		return -1;
	return close(null);
}

/* In the process that was started: waits for the one in the background, and ends as its start did. */
static _Noreturn void leave_to(pid_t daemon, int ready)
{
	int status;
	pid_t n;

	if (read(ready, &status, sizeof status) == sizeof status && status == 0)
		_exit(EX_OK);
	do
		n = waitpid(daemon, &status, 0);
	while (n < 0 && errno == EINTR);
	_exit(n == daemon && WIFEXITED(status) ? WEXITSTATUS(status) : EX_OSERR);
}

/* Goes to the background, in a session of its own. Standard error stays ours, for complaints, until all is ready. */
static int daemonize(struct announcement *a)
{
	int ready[2];
	pid_t pid;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return -1;
	pid = fork();
	if (pid < 0)
		return -1;
	if (pid > 0) {
		close(ready[1]);
		leave_to(pid, ready[0]);
	}
	close(ready[0]);
	setsid();
	a->fd = ready[1];
	a->detach = true;
	return leave_stdio();
}

/* ---- Who is served */

static int prepare_access(
	const struct options *o, const struct identity *identity, struct access *access, char *error, size_t size)
{
	*access = (struct access){
		.starter = getuid(),
		.serving = identity->uid,
		.foreign = o->allow_foreign_pidns,
		.shared = o->shared_ids,
	};
	return access_allow(access, &o->allow_users, &o->allow_groups, error, size);
}

/* It is the user's that serves, unless that is everybody's and nobody's. */
static int prepare_socket(const struct options *o, const struct identity *identity, struct listen_access *access,
	char *error, size_t size)
{
	const struct complaint c = {error, size};
	gid_t own;

	*access = (struct listen_access){
		.mode = o->socket_mode,
		.uid = identity->change && identity->uid != UID_UNMAPPED ? identity->uid : (uid_t)-1,
		.gid = (gid_t)-1,
	};
	if (o->socket_user && account_user(o->socket_user, &access->uid, &own) < 0)
		return complain(&c, -1, "no such user: '%s'; name an existing one with --socket-user", o->socket_user);
	if (o->socket_group && account_group(o->socket_group, &access->gid) < 0)
		return complain(
			&c, -1, "no such group: '%s'; name an existing one with --socket-group", o->socket_group);
	return 0;
}

/* All names, so that a mistake in one is said before anything is made. */
static int resolve(
	const struct options *o, struct identity *identity, struct access *access, struct listen_access *socket_access)
{
	char error[512];

	if (identity_resolve(identity, o->user, o->group, error, sizeof error) == 0 &&
		prepare_access(o, identity, access, error, sizeof error) == 0 &&
		prepare_socket(o, identity, socket_access, error, sizeof error) == 0)
		return 0;
	log_line(LOG_LEVEL_ERROR, "%s", error);
	return -1;
}

static unsigned worker_count(const struct options *o)
{
	long online = sysconf(_SC_NPROCESSORS_ONLN);

	if (o->workers > 0)
		return o->workers;
	if (online < 1)
		return 1;
	return online > WORKERS_MAX ? WORKERS_MAX : (unsigned)online;
}

static int fail(struct announcement *a, int err, int status)
{
	announce(a, err);
	return status;
}

/* `access` is filled in; the caller lets go of it. */
static int run(const struct options *o, struct announcement *a, int parent_fd, struct access *access)
{
	struct master_config config = {
		.options = o,
		.parent_fd = parent_fd,
		.detach = a->detach,
		.workers = worker_count(o),
		.serving = on_serving,
		.ready = on_ready,
		.ready_arg = a,
	};
	struct identity identity;
	struct listen_access socket_access;
	struct listener listener;
	char error[512];
	int err;

	if (resolve(o, &identity, access, &socket_access) < 0)
		return fail(a, EINVAL, EX_CONFIG);
	config.identity = &identity;
	config.access = access;
	config.max_pipes = pipes_share(config.workers, o->readers);
	config.max_queues = limits_queues(limits_hard());
	config.max_transfers = limits_apply(o->max_transfers, config.workers,
		limits_helper_fds(config.workers, o->readers) + config.max_queues, &config.worker_transfers);
	if (config.max_transfers == 0)
		return fail(a, EMFILE, EX_CONFIG);
	if (root_open(&a->root, o) < 0)
		return fail(a, errno, EX_CONFIG);
	config.root = &a->root;
	a->root_path = o->root;
	err = listener_open(&listener, o->socket_dir, o->name, &socket_access, error, sizeof error);
	if (err != 0) {
		log_line(LOG_LEVEL_ERROR, "%s", error);
		return fail(a, err, err == EADDRINUSE ? EX_UNAVAILABLE : EX_CONFIG);
	}
	config.listener = &listener;
	if (a->detach && chdir("/") < 0)
		log_line(LOG_LEVEL_WARNING, "cannot leave the working directory: %s", strerror(errno));
	err = master_run(&config);
	listener_close(&listener);
	return err == 0 ? EX_OK : fail(a, err, EX_OSERR);
}

static int serve(const struct options *o, struct announcement *a, int parent_fd)
{
	struct access access = {0};
	int status = run(o, a, parent_fd, &access);

	access_free(&access);
	return status;
}

static void close_inherited(int ready_fd)
{
	int keep[] = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO, ready_fd};

	os_close_except(keep, sizeof keep / sizeof keep[0]);
	/* A standard descriptor that is closed would be the next thing opened. (open(2) takes the lowest number.) */
	for (int fd = 0; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
			log_line(LOG_LEVEL_WARNING, "/dev/null: %s", strerror(errno));
	}
}

static int print(const char *text)
{
	if (fputs(text, stdout) < 0 || fflush(stdout) != 0) {
		fprintf(stderr, "sendfiled: standard output: %s\n", strerror(errno));
		return EX_IOERR;
	}
	return EX_OK;
}

int main(int argc, char *argv[])
{
	struct announcement a = {.fd = -1};
	struct options o;
	char error[512];
	int parent_fd = -1;

	const pid_t parent = getppid(); /* first of all: it may end at any time */

	signal(SIGPIPE, SIG_IGN); /* a complaint that nobody reads must not end us before the exit status says it */
	signal(SIGCHLD, SIG_DFL); /* inherited as ignored it would make waitpid(2) useless */
	if (options_parse(&o, argc, argv, error, sizeof error) < 0) {
		fprintf(stderr, "sendfiled: %s\n", error);
		a.fd = o.ready_fd;
		return fail(&a, EINVAL, EX_USAGE);
	}
	switch (o.action) {
	case ACTION_HELP:
		return print(options_help);
	case ACTION_VERSION:
		return print("sendfiled " SFD_VERSION "\n");
	case ACTION_PING:
		return ping(&o);
	case ACTION_SERVE:
		break;
	}
	log_init(o.name);
	if (o.ready_fd >= 0 && fcntl(o.ready_fd, F_SETFD, FD_CLOEXEC) < 0) {
		fprintf(stderr, "sendfiled: --ready-fd %d: %s; name an open descriptor\n", o.ready_fd, strerror(errno));
		return EX_USAGE;
	}
	close_inherited(o.ready_fd);
	a.fd = o.ready_fd;
	a.sync_parent = o.sync_parent;
	if (o.sync_parent && (parent_fd = os_watch_process(parent)) < 0) {
		log_line(LOG_LEVEL_ERROR, "cannot watch the parent process (--sync-parent): %s", strerror(errno));
		return fail(&a, errno, EX_OSERR);
	}
	if (o.sync_parent && getppid() != parent) {
		log_line(LOG_LEVEL_ERROR, "the parent process has ended already (--sync-parent)");
		return fail(&a, ESRCH, EX_OSERR);
	}
	if (o.daemonize && daemonize(&a) < 0) {
		log_line(LOG_LEVEL_ERROR, "cannot go to the background: %s", strerror(errno));
		return EX_OSERR;
	}
	return serve(&o, &a, parent_fd);
}
