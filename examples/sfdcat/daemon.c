/* SPDX-License-Identifier: BSD-2-Clause */
/* The loop that waits for everything, and the daemon: found, or started. */
#include "sfdcat.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum {
	DEPTH = 64,  /* of the queue */
	BAR_MS = 200 /* the progress bar is drawn that often */
};

static void on_event(struct app *a, const struct sfd_event *e)
{
	struct file *f = &a->files[e->user_data];

	switch (e->type) {
	case SFD_EV_INFO:
		f->info = e->info;
		f->state = FILE_OPEN;
		break;
	case SFD_EV_DONE:
		f->stat = e->stat;
		f->state = FILE_OVER;
		/* fall through */
	default:
		/* What is known after a death is what was known before it. */
		if (e->bytes > f->moved)
			f->moved = e->bytes;
		if (e->written > f->written)
			f->written = e->written;
	}
}

static void take_signal(struct app *a)
{
	struct signalfd_siginfo info;

	if (read(a->signals, &info, sizeof info) != sizeof info)
		return;
	a->hurry = a->signo != 0;
	a->signo = (int)info.ssi_signo;
}

/* Waits until something happens, or for so long (negative: for ever). `events` are of standard output. */
short step(struct app *a, int timeout_ms, short events)
{
	struct sfd_event happened[16];
	struct pollfd p[3] = {
		{.fd = a->signals, .events = POLLIN},
		{.fd = a->queue ? sfd_queue_fd(a->queue) : -1, .events = POLLIN},
		{.fd = events ? STDOUT_FILENO : -1, .events = events},
	};
	int n;

	/* If this fails the descriptor says when it is worth another try, or the events say what is wrong. */
	if (a->queue)
		sfd_queue_submit(a->queue);
	if (poll(p, 3, timeout_ms) <= 0)
		return 0;
	if (p[0].revents)
		take_signal(a);
	while (p[1].revents && (n = sfd_queue_reap(a->queue, happened, 16)) > 0) {
		for (int i = 0; i < n; i++)
			on_event(a, &happened[i]);
	}
	return p[2].revents;
}

void pause_for(struct app *a, int ms)
{
	const double end = now() + ms / 1000.0;

	while (ms > 0 && !a->signo) {
		step(a, ms, 0);
		ms = (int)((end - now()) * 1000 + 0.999);
	}
}

/* Until the file's state is a later one than that. False if a signal came before. */
bool await(struct app *a, const struct file *f, enum state state)
{
	while (f->state <= state && !a->signo) {
		step(a, a->bar && f->state == FILE_SENDING ? BAR_MS : -1, 0);
		if (f->state == FILE_SENDING)
			draw_bar(a, f);
	}
	return f->state > state;
}

/* ---- The daemon */

/* What it logs is not for the user; unless it does not start: then it has said why. */
static pid_t spawn_quietly(const char *const argv[])
{
	int log = memfd_create("log", MFD_CLOEXEC), saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3), err;
	char buf[4096];
	pid_t pid = -1;
	ssize_t n;

	if (log >= 0 && saved >= 0 && dup2(log, STDERR_FILENO) >= 0) {
		pid = sfd_spawnv(argv, 10000);
		err = errno;
		dup2(saved, STDERR_FILENO);
		n = pid < 0 ? pread(log, buf, sizeof buf, 0) : 0;
		if (n > 0)
			fwrite(buf, 1, (size_t)n, stderr);
		errno = err;
	}
	err = errno;
	if (log >= 0)
		close(log);
	if (saved >= 0)
		close(saved);
	errno = err;
	return pid;
}

/*
 * A daemon that serves nobody but us. Its root has to be some directory that everybody may search; no file is asked for by
 * name. It waits as long for a disk, and for whoever reads standard output, as cat would: a pager may take its time.
 */
static int start_daemon(struct app *a, char *name, size_t size)
{
	const char *argv[] = {"sendfiled", "-s", name, "-S", NULL, "-r", "/", "-n", "256", "--workers", "1",
		"--idle-timeout", "0", "--io-timeout", "0", NULL};
	const char *tmp = getenv("TMPDIR");

	snprintf(name, size, "sfdcat.%d", (int)getpid());
	if (!a->sockdir) {
		if (!tmp || *tmp == '\0' || strlen(tmp) > 40)
			tmp = "/tmp"; /* a socket's path has 107 bytes at most */
		snprintf(a->made_dir, sizeof a->made_dir, "%s/sfdcat.XXXXXX", tmp);
		if (!mkdtemp(a->made_dir)) {
			complain("cannot make %s: %s", a->made_dir, strerror(errno));
			a->made_dir[0] = '\0';
			return -1;
		}
		a->sockdir = a->made_dir;
	}
	argv[4] = a->sockdir;
	a->daemon = spawn_quietly(argv);
	if (a->daemon > 0)
		return 0;
	if (a->daemon == 0)
		errno = EADDRINUSE;
	a->daemon = 0;
	return -1;
}

/* Once. -1: it has been said why there is none. */
int connect_daemon(struct app *a)
{
	char name[32];
	const char *server = a->server ? a->server : name;
	int err;

	if (a->queue)
		return 0;
	if (is_private(a) && start_daemon(a, name, sizeof name) < 0) {
		err = errno;
		/* Control-C ends the daemon as well. */
		pause_for(a, GRACE_MS);
		if (!a->signo)
			complain("cannot start a daemon: %s; SFD_DAEMON names its program", strerror(err));
		return -1;
	}
	a->srv = sfd_connect(a->sockdir, server);
	if (a->srv < 0)
		complain("no daemon '%s' in %s: %s", server, a->sockdir ? a->sockdir : "the default directory",
			strerror(errno));
	else if (!(a->queue = sfd_queue_new(a->srv, DEPTH)))
		complain("no queue to the daemon '%s': %s", server, strerror(errno));
	return a->queue ? 0 : -1;
}

/* Whether it is all over with it, not just with a worker. */
bool daemon_is_gone(struct app *a)
{
	return sfd_queue_submit(a->queue) < 0 && (errno == ECONNREFUSED || errno == ENOTCONN);
}

uint64_t number(const struct app *a, const struct file *f)
{
	return (uint64_t)(f - a->files);
}

/* Lets go of a file, and of what was asked for it. False if a signal came first. */
bool release(struct app *a, struct file *f)
{
	if (f->fd > STDIN_FILENO)
		close(f->fd);
	f->fd = -1;
	if ((f->state == FILE_ASKED || f->state == FILE_OPEN) && !is_private(a) &&
		sfd_queue_cancel(a->queue, number(a, f)) == 0)
		return await(a, f, FILE_SENDING);
	return true;
}
