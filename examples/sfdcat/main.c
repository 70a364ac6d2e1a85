/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sfdcat: cat, whose bytes a daemon moves. Files go to standard output, whatever that is; see --help.
 *
 * Without --server it starts a daemon of its own, opens the files itself and lends them to the daemon
 * (sfd_queue_sendfd()). So what the caller may read can be sent, and nothing else, as with cat: by name the daemon would
 * open files by its own rights, and one that root has started runs as nobody. With --server a FILE is a name below that
 * daemon's root, and the daemon opens it (sfd_queue_open(), then sfd_queue_send_open()): a few files ahead, while the one
 * before is still being sent. Bytes go out one file at a time, for the order of the output is that of the FILEs.
 *
 * "-", or no FILE, is standard input, as far as that is a regular file: it is lent, from its position on, which moves.
 *
 * The daemon writes to a file on standard output at the position where that stands, or at its end if it is open for
 * appending, and leaves the position behind what it wrote. So nothing is to be done here for `(echo a; sfdcat b; echo c)
 * >d`. But if a process of the daemon is killed, nobody knows how much it has written. Only in a file, which is not open
 * for appending, can the same bytes be written to the same place once more; so that is the only case in which it is tried
 * again. Elsewhere bytes might come twice, and it is an error.
 *
 * The loop waits for the queue's descriptor and for signals. An interrupted sfdcat cancels what it has asked for, waits
 * until the daemon has let go of standard output, and dies by the same signal.
 */
#include "sfdcat.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { CANCEL_MS = 3000 }; /* the daemon lets go within a second, if it can */

static const char *explain(struct app *a, const struct file *f)
{
	const bool began = f->state >= FILE_SENDING;

	if (f->stat == SFD_STAT_WORKER_DIED || f->stat == ECONNREFUSED || f->stat == ENOTCONN) {
		if (daemon_is_gone(a))
			return began ? "The daemon has ended; how much was written is not known"
				     : "The daemon has ended";
		return "A process of the daemon was killed; how much was written is not known";
	}
	if (f->stat == SAME_FILE)
		return "input file is output file";
	if (f->stat == EINVAL && !began)
		return "Not a regular file, or one of unknown size";
	return sfd_strstat(f->stat);
}

/* Of standard output; so the other files would fare no better. */
static bool is_write_error(const struct app *a, const struct file *f)
{
	switch (f->state == FILE_OVER ? f->stat : 0) {
	case EPIPE:
	case ECONNRESET:
	case ENOSPC:
	case EFBIG:
	case EBADF:
	case EINVAL:
		return true;
	case EDQUOT: /* of the disk; else it is the daemon that limits its users */
		return a->out_is_file;
	default:
		return false;
	}
}

static bool is_ignored(int signo)
{
	struct sigaction sa;

	return sigaction(signo, NULL, &sa) == 0 && sa.sa_handler == SIG_IGN;
}

static void report_failure(struct app *a, struct file *f, int stat, bool sending)
{
	const char *text;

	a->failed = true;
	f->stat = stat;
	if (!sending)
		f->state = FILE_NEW;
	text = explain(a, f);
	a->stop = (sending && is_write_error(a, f)) || (a->queue && daemon_is_gone(a));
	if (sending && (stat == EPIPE || stat == ECONNRESET) && !is_ignored(SIGPIPE)) {
		a->signo = SIGPIPE; /* as cat, which dies of it; silently */
		return;
	}
	if (a->json)
		json_line(a, f, text);
	if (a->json && a->mode == MODE_SEND)
		return;
	if (!sending || !is_write_error(a, f))
		complain_of(f->name, text);
	else if (stat == EBADF || stat == EINVAL)
		complain("standard output: %s", stat == EBADF ? text : "Of no kind that a file can be sent to");
	else
		complain("write error: %s", text);
}

/* 0, a status, or EINTR: then there is nothing to be said of it. `*sending`: whether it got so far. */
static int do_file(struct app *a, struct file *f, bool *sending)
{
	int err = is_private(a) || strcmp(f->name, "-") == 0 ? open_here(a, f) : await_open(a, f);

	if (err != 0 || a->mode == MODE_STAT)
		return err;
	find_range(&a->range, f);
	if (a->mode == MODE_HOT)
		return look_whether_hot(a, f);
	if (is_output(a, f))
		return SAME_FILE;
	if (connect_daemon(a) < 0) {
		a->failed = a->stop = true;
		return EINTR;
	}
	*sending = true;
	err = send_range(a, f);
	if (f->fd == STDIN_FILENO && f->done > 0)
		lseek(f->fd, f->offset + (off_t)f->done, SEEK_SET);
	return err;
}

static void run(struct app *a)
{
	if (!is_private(a) && connect_daemon(a) < 0) {
		a->failed = true;
		return;
	}
	for (struct file *f = a->files; f < a->files + a->count && !a->signo && !a->stop; f++) {
		bool sending = false;
		int err;

		if (!is_private(a))
			open_ahead(a, f);
		f->began = now();
		err = do_file(a, f, &sending);
		leave_bar(a);
		if (a->signo)
			return;
		if (err != 0 && err != EINTR)
			report_failure(a, f, err, sending);
		else if (err == 0 && a->json)
			json_line(a, f, NULL);
		else if (err == 0 && a->mode == MODE_STAT)
			print_stat(f);
		release(a, f);
	}
}

/* ---- Beginning and end */

/* Whoever was started without one would give its number to something else, and files would be sent there. */
static void fill_standard_descriptors(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) < 0)
			open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY); /* to use it is an error still */
	}
}

/* Those that would end us. What is ignored (nohup(1), say) stays ignored. */
static int catch_signals(void)
{
	static const int signals[] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
		if (!is_ignored(signals[i]))
			sigaddset(&set, signals[i]);
	}
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* After it nobody writes to standard output any more, unless the daemon does not answer. */
static void cancel_all(struct app *a)
{
	const double end = now() + CANCEL_MS / 1000.0;

	for (struct file *f = a->files; f < a->files + a->count; f++) {
		if (f->state != FILE_SENDING || sfd_queue_cancel(a->queue, number(a, f)) < 0)
			continue;
		while (f->state == FILE_SENDING && !a->hurry && now() < end)
			step(a, (int)((end - now()) * 1000) + 1, 0);
	}
}

/* With what a daemon that was killed has left there. */
static void remove_dir(const char *path)
{
	DIR *dir = opendir(path);

	for (const struct dirent *d; dir && (d = readdir(dir)) != NULL;)
		unlinkat(dirfd(dir), d->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(path);
}

static void finish(struct app *a)
{
	if (a->signo)
		cancel_all(a);
	sfd_queue_free(a->queue);
	if (a->srv >= 0)
		close(a->srv);
	if (a->daemon > 0)
		sfd_shutdown(a->daemon);
	if (a->made_dir[0])
		remove_dir(a->made_dir);
	if (fflush(stdout) != 0 && !a->signo) {
		complain("standard output: %s", strerror(errno));
		a->failed = true;
	}
	free(a->files);
}

/* With its default action, so that a shell sees how we ended. What is ignored does nothing. */
static void die_by(int signo)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, signo);
	raise(signo);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static int take_names(struct app *a, int count, char *names[])
{
	a->count = count > 0 ? count : 1;
	a->files = calloc((size_t)a->count, sizeof *a->files);
	if (!a->files)
		return -1;
	for (int i = 0; i < a->count; i++)
		a->files[i] = (struct file){.name = count > 0 ? names[i] : "-", .fd = -1};
	return 0;
}

int main(int argc, char *argv[])
{
	static char name[] = "sfdcat";
	struct app a = {.srv = -1, .null = -1};
	int status;

	fill_standard_descriptors();
	if (argc > 0)
		argv[0] = name; /* getopt_long(3) complains under it */
	status = parse_options(&a, argc, argv);
	if (status >= 0)
		return status;
	a.out_is_file = fstat(STDOUT_FILENO, &a.out) == 0 && S_ISREG(a.out.st_mode);
	a.out_appends = fcntl(STDOUT_FILENO, F_GETFL) & O_APPEND;
	a.null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	a.signals = catch_signals();
	if (a.null < 0 || a.signals < 0 || take_names(&a, argc - optind, argv + optind) < 0) {
		complain("cannot begin: %s", strerror(errno));
		return EXIT_PROBLEM;
	}
	run(&a);
	finish(&a);
	if (a.signo)
		die_by(a.signo);
	return a.failed ? EXIT_PROBLEM : EXIT_OK;
}
