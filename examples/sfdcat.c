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
#include <sendfiled/sendfiled.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

enum {
	DEPTH = 64,         /* of the queue */
	AHEAD = 8,          /* files that are opened before their turn */
	TRIES = 5,          /* of one file */
	PAUSE_MS = 200,     /* between two of them */
	GRACE_MS = 50,      /* a signal to all of a terminal's processes reaches us, too */
	CANCEL_MS = 3000,   /* the daemon lets go within a second, if it can */
	BAR_MS = 200,       /* the progress bar is drawn that often, */
	BAR_AFTER_MS = 1000 /* and, unless it was asked for, from then on */
};

/* Beside the library's statuses, which are smaller. */
enum { SAME_FILE = 0x2000 };

enum exit_status { EXIT_OK, EXIT_PROBLEM, EXIT_USAGE };

enum { OPT_RANGE = 256, OPT_STAT, OPT_PROGRESS, OPT_NO_PROGRESS, OPT_RATE, OPT_HOT, OPT_JSON, OPT_HELP, OPT_VERSION };

enum mode { MODE_SEND, MODE_STAT, MODE_HOT };

/* --range. `first` and `last` both belong to it; `count` is of the last bytes of a file. */
struct range {
	enum { RANGE_ALL, RANGE_FIRST_TO_LAST, RANGE_TAIL } kind;
	uint64_t first, last, count;
};

enum state {
	FILE_NEW,     /* nothing has been asked for */
	FILE_ASKED,   /* the daemon is to open it */
	FILE_OPEN,    /* `info` is there */
	FILE_SENDING, /* and now it is being sent */
	FILE_OVER     /* `stat` says how the last request ended */
};

struct file {
	const char *name;
	enum state state;
	int fd; /* if it is lent; else -1 */
	int stat;
	int tries;
	struct sfd_file_info info;
	off_t base;                       /* standard input: where it stood */
	off_t offset;                     /* the range, in the file as `info` has it */
	uint64_t length, done;            /* how long it is, and what earlier requests have sent of it */
	uint64_t moved, written, was_out; /* by the request under way; by all before it */
	double began;
	bool hot;
};

struct app {
	const char *server, *sockdir;
	enum mode mode;
	struct range range;
	uint64_t rate;
	bool json, bar, bar_at_once, bar_shown;

	struct file *files;
	int count;
	char made_dir[64]; /* of a private daemon's socket; empty: none */
	pid_t daemon;      /* 0: none */
	int srv, signals, null;
	struct sfd_queue *queue;
	bool out_is_file, out_appends;
	struct stat out;
	int signo;   /* that we have got, and shall die by */
	bool hurry;  /* a second one has come */
	bool stop;   /* nothing more can be sent */
	bool failed; /* something could not be sent, or is not hot */
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool is_private(const struct app *a)
{
	return !a->server;
}

/* ---- What is said */

__attribute__((format(printf, 1, 2))) static void complain(const char *format, ...)
{
	va_list args;

	fputs("sfdcat: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

/* The length of the UTF-8 character there, of which RFC 3629 allows the form; 0: it is none. */
static size_t utf8_length(const unsigned char *s)
{
	const unsigned char c = s[0];
	const size_t n = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;

	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	}
	if ((c == 0xe0 && s[1] < 0xa0) || (c == 0xed && s[1] > 0x9f) || (c == 0xf0 && s[1] < 0x90) ||
		(c == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

/* A string in JSON. What is not UTF-8 becomes U+FFFD; returns whether there was any. */
static bool json_string(FILE *out, const char *text)
{
	bool lossy = false;

	fputc('"', out);
	for (const unsigned char *s = (const unsigned char *)text; *s;) {
		const size_t n = utf8_length(s);

		if (n == 0)
			fputs("\\ufffd", out);
		else if (*s == '"' || *s == '\\')
			fprintf(out, "\\%c", *s);
		else if (*s < 0x20 || *s == 0x7f)
			fprintf(out, "\\u%04x", *s);
		else
			fwrite(s, 1, n, out);
		lossy = lossy || n == 0;
		s += n > 0 ? n : 1;
	}
	fputc('"', out);
	return lossy;
}

static void print_time(FILE *out, time_t seconds, uint32_t nsec)
{
	char text[64] = "";
	struct tm tm;

	if (gmtime_r(&seconds, &tm))
		strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
	fprintf(out, "%s.%09" PRIu32 "Z", text, nsec);
}

/* A name that is not UTF-8 is there once more, as hexadecimal digits. */
static void json_name(FILE *out, const char *name)
{
	fputs("{\"file\":", out);
	if (!json_string(out, name))
		return;
	fputs(",\"file_hex\":\"", out);
	for (const unsigned char *s = (const unsigned char *)name; *s; s++)
		fprintf(out, "%02x", *s);
	fputc('"', out);
}

static void json_line(const struct app *a, const struct file *f, const char *error)
{
	FILE *out = a->mode == MODE_SEND ? stderr : stdout;

	json_name(out, f->name);
	fprintf(out, ",\"size\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"written\":%" PRIu64 ",\"status\":%d,\"error\":",
		f->info.file_size, f->done, f->was_out, error ? f->stat : SFD_STAT_OK);
	if (error)
		json_string(out, error);
	else
		fputs("null", out);
	fprintf(out, ",\"seconds\":%.6f", now() - f->began);
	if (a->mode == MODE_HOT)
		fprintf(out, ",\"hot\":%s", f->hot ? "true" : "false");
	if (a->mode == MODE_STAT && !error) {
		fputs(",\"modified\":\"", out);
		print_time(out, f->info.mtime, f->info.mtime_nsec);
		fprintf(out, "\",\"device\":\"%u:%u\",\"inode\":%" PRIu64, major(f->info.dev), minor(f->info.dev),
			f->info.ino);
	}
	fputs("}\n", out);
}

static void print_stat(const struct file *f)
{
	printf("%s: %" PRIu64 " bytes, modified ", f->name, f->info.file_size);
	print_time(stdout, f->info.mtime, f->info.mtime_nsec);
	fputs(", changed ", stdout);
	print_time(stdout, f->info.ctime, f->info.ctime_nsec);
	fputs(", accessed ", stdout);
	print_time(stdout, f->info.atime, f->info.atime_nsec);
	printf(", device %u:%u, inode %" PRIu64 "\n", major(f->info.dev), minor(f->info.dev), f->info.ino);
}

/* ---- The progress bar */

static const char *human(double n, char text[16])
{
	static const char units[] = " KMGTPE";
	size_t i = 0;

	for (; n >= 1024 && i < sizeof units - 2; i++)
		n /= 1024;
	snprintf(text, 16, i == 0 ? "%.0f" : "%.1f%c", n, units[i]);
	return text;
}

/* So many columns; what a terminal could take for more, or for a command, is a question mark. */
static void draw_name(const char *name, size_t room)
{
	const size_t n = strlen(name);

	for (const char *s = n > room ? name + n - room : name; *s; s++)
		fputc(*s > ' ' && *s < 0x7f ? *s : '?', stderr);
}

static void draw_bar(struct app *a, const struct file *f)
{
	enum { WIDTH = 20, REST = 64 };
	const double took = now() - f->began, sent = (double)(f->done + f->moved);
	const double part = f->length > 0 ? sent / (double)f->length : 1, rate = took > 0 ? sent / took : 0;
	const double left = rate > 0 ? ((double)f->length - sent) / rate : 0;
	const int full = (int)(part * WIDTH);
	char bytes[16], speed[16];
	struct winsize size;
	unsigned columns = 80;

	if (!a->bar || (!a->bar_at_once && took * 1000 < BAR_AFTER_MS))
		return;
	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
		columns = size.ws_col;
	fputc('\r', stderr);
	draw_name(f->name, columns > REST ? columns - REST : 0);
	fprintf(stderr, " %3d%% [%.*s%.*s] %s %s/s %d:%02d left\033[K", (int)(part * 100), full,
		"====================", WIDTH - full, "                    ", human(sent, bytes), human(rate, speed),
		(int)(left / 60), (int)left % 60);
	fflush(stderr);
	a->bar_shown = true;
}

/* What is printed next gets a line of its own. */
static void leave_bar(struct app *a)
{
	if (a->bar_shown)
		fputc('\n', stderr);
	a->bar_shown = false;
}

/* ---- Events */

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
static short step(struct app *a, int timeout_ms, short events)
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

static void pause_for(struct app *a, int ms)
{
	const double end = now() + ms / 1000.0;

	while (ms > 0 && !a->signo) {
		step(a, ms, 0);
		ms = (int)((end - now()) * 1000 + 0.999);
	}
}

/* Until the file's state is a later one than that. False if a signal came before. */
static bool await(struct app *a, const struct file *f, enum state state)
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
static int connect_daemon(struct app *a)
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
static bool daemon_is_gone(struct app *a)
{
	return sfd_queue_submit(a->queue) < 0 && (errno == ECONNREFUSED || errno == ENOTCONN);
}

static uint64_t number(const struct app *a, const struct file *f)
{
	return (uint64_t)(f - a->files);
}

/* Lets go of a file, and of what was asked for it. False if a signal came first. */
static bool release(struct app *a, struct file *f)
{
	if (f->fd > STDIN_FILENO)
		close(f->fd);
	f->fd = -1;
	if ((f->state == FILE_ASKED || f->state == FILE_OPEN) && !is_private(a) &&
		sfd_queue_cancel(a->queue, number(a, f)) == 0)
		return await(a, f, FILE_SENDING);
	return true;
}

/* ---- Opening */

/* The daemon sees to that. The range that begins at the end of a file has yet to be found out. */
static int ask_open(struct app *a, struct file *f, const char *path, const struct sfd_opts *opts)
{
	const struct range *r = &a->range;
	off_t offset = 0;
	size_t length = 0;

	if (r->kind == RANGE_FIRST_TO_LAST) {
		offset = (off_t)r->first;
		length = r->last < INT64_MAX ? r->last - r->first + 1 : 0;
	}
	if (sfd_queue_open(a->queue, path, offset, length, opts, number(a, f)) < 0)
		return errno;
	f->state = FILE_ASKED;
	return 0;
}

static void open_ahead(struct app *a, struct file *f)
{
	for (int i = 0; i < AHEAD && f < a->files + a->count; i++, f++) {
		if (f->state == FILE_NEW && strcmp(f->name, "-") != 0 && ask_open(a, f, f->name, NULL) != 0)
			return; /* in its turn it will be found out why */
	}
}

/* What may be different a moment later: others take up all of the daemon, say, or the file was opened long ago. */
static bool may_pass(int stat)
{
	return stat == ETIMEDOUT || stat == EMFILE || stat == ENFILE || stat == EDQUOT || stat == EBUSY ||
	       stat == SFD_STAT_WORKER_DIED;
}

/* What is not a regular file is EINVAL. A directory is what has an entry "." that is not one. */
static int look_closer(struct app *a, struct file *f, int stat)
{
	char path[4096];

	if (stat != EINVAL || snprintf(path, sizeof path, "%s/.", f->name) >= (int)sizeof path)
		return stat;
	if (ask_open(a, f, path, NULL) != 0 || !await(a, f, FILE_ASKED) || !release(a, f))
		return stat;
	return f->stat == EINVAL ? EISDIR : EINVAL;
}

/* 0: `info` is there; else a status. */
static int await_open(struct app *a, struct file *f)
{
	for (;;) {
		int err = f->state == FILE_NEW ? ask_open(a, f, f->name, NULL) : 0;

		if (err != 0)
			return err;
		if (!await(a, f, FILE_ASKED))
			return EINTR;
		if (f->state == FILE_OPEN)
			return 0;
		if (!may_pass(f->stat) || ++f->tries >= TRIES || daemon_is_gone(a))
			return look_closer(a, f, f->stat);
		f->state = FILE_NEW;
		pause_for(a, PAUSE_MS);
	}
}

static void take_info(struct sfd_file_info *info, const struct stat *st)
{
	*info = (struct sfd_file_info){
		.file_size = (uint64_t)st->st_size,
		.mtime = st->st_mtim.tv_sec,
		.ctime = st->st_ctim.tv_sec,
		.atime = st->st_atim.tv_sec,
		.mtime_nsec = (uint32_t)st->st_mtim.tv_nsec,
		.ctime_nsec = (uint32_t)st->st_ctim.tv_nsec,
		.atime_nsec = (uint32_t)st->st_atim.tv_nsec,
		.dev = st->st_dev,
		.ino = st->st_ino,
	};
}

/* Opens a file to lend it. Without O_NONBLOCK a FIFO would wait for its writer; with it, what has a lease is busy. */
static int open_here(struct app *a, struct file *f)
{
	const bool is_input = strcmp(f->name, "-") == 0;
	struct stat st;
	char c;

	do
		f->fd = is_input ? STDIN_FILENO : open(f->name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	while (f->fd < 0 && errno == EWOULDBLOCK && !a->signo && (pause_for(a, PAUSE_MS), true));
	if (f->fd < 0 || fstat(f->fd, &st) < 0)
		return errno;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? EISDIR : EINVAL;
	/* Some files of /proc say that they are empty, and are not. Nothing can be promised of them. */
	if (st.st_size == 0 && pread(f->fd, &c, 1, 0) > 0)
		return EINVAL;
	take_info(&f->info, &st);
	f->base = is_input ? lseek(f->fd, 0, SEEK_CUR) : 0;
	return f->base < 0 ? errno : 0;
}

/* Of what there is of the file. A range that begins behind its end is empty. */
static void find_range(const struct range *r, struct file *f)
{
	const uint64_t base = (uint64_t)f->base, size = f->info.file_size > base ? f->info.file_size - base : 0;
	uint64_t first = 0, length = size;

	if (r->kind == RANGE_FIRST_TO_LAST) {
		first = r->first < size ? r->first : size;
		length = r->last < size ? r->last + 1 - first : size - first;
	} else if (r->kind == RANGE_TAIL && r->count < size) {
		first = size - r->count;
		length = r->count;
	}
	f->offset = (off_t)(base + first);
	f->length = length;
}

/* ---- Sending */

/* Asks for the rest of the range: 0, or a status. */
static int ask_send(struct app *a, struct file *f, int dest, unsigned flags)
{
	struct sfd_opts opts = {.flags = flags | (a->bar ? SFD_WANT_PROGRESS : 0U), .max_rate = a->rate};
	const off_t at = f->offset + (off_t)f->done;
	const uint64_t left = f->length - f->done;
	int n;

	f->moved = f->written = 0;
	if (f->fd >= 0) {
		n = sfd_queue_sendfd(a->queue, f->fd, dest, at, left, &opts, number(a, f));
	} else if (f->state == FILE_OPEN && f->info.offset == at && f->info.size == left &&
		   sfd_queue_send_open(a->queue, f->info.txnid, dest, &opts) == 0) {
		n = 0;
	} else {
		/* Another range, or another try; never of another file. */
		if (!release(a, f))
			return EINTR;
		opts.same_as = &f->info;
		n = sfd_queue_send(a->queue, f->name, dest, at, left, &opts, number(a, f));
	}
	if (n < 0)
		return errno;
	f->state = FILE_SENDING;
	return 0;
}

/*
 * Whether the rest may be sent by another request. A daemon that was started by others gives up when nobody has read for a
 * minute; cat would not. The count is right then, unless the destination is a file, with which that does not happen.
 */
static bool may_go_on(struct app *a, struct file *f, off_t start)
{
	if (f->stat == ETIMEDOUT && !a->out_is_file) {
		const bool stood = step(a, 0, POLLOUT) == 0;

		while (!a->signo && step(a, -1, POLLOUT) == 0)
			;
		return !a->signo && (stood || f->moved > 0 || ++f->tries < TRIES);
	}
	if (f->stat == SFD_STAT_WORKER_DIED)
		pause_for(a, GRACE_MS); /* perhaps of the signal that is for us too */
	if (a->signo || !may_pass(f->stat) || f->stat == ETIMEDOUT || daemon_is_gone(a) || ++f->tries >= TRIES)
		return false;
	if (f->stat == SFD_STAT_WORKER_DIED)
		return a->out_is_file && !a->out_appends &&
		       lseek(STDOUT_FILENO, start + (off_t)f->moved, SEEK_SET) >= 0;
	if (f->moved == 0)
		pause_for(a, PAUSE_MS);
	return f->moved == 0;
}

static void count(struct file *f)
{
	f->done += f->moved;
	f->was_out += f->written;
	f->moved = f->written = 0;
}

static int send_range(struct app *a, struct file *f)
{
	const off_t begin = a->out_is_file ? lseek(STDOUT_FILENO, 0, SEEK_CUR) : 0;

	while (f->done < f->length) {
		int err = ask_send(a, f, STDOUT_FILENO, 0);

		if (err == 0 && !await(a, f, FILE_SENDING))
			return EINTR;
		if (err == 0 && f->stat != SFD_STAT_OK && !may_go_on(a, f, begin + (off_t)f->done))
			err = f->stat;
		if (err == 0 && f->stat == SFD_STAT_OK && f->done + f->moved < f->length)
			err = SFD_STAT_TRUNCATED; /* before the daemon looked at it */
		draw_bar(a, f);
		count(f);
		if (err != 0)
			return err;
	}
	/* A helper of the daemon that outlived its worker may have moved it. */
	if (f->tries > 0 && a->out_is_file && !a->out_appends)
		lseek(STDOUT_FILENO, begin + (off_t)f->length, SEEK_SET);
	return 0;
}

/* As cat: to go on would never end, or double the file. */
static bool is_output(const struct app *a, const struct file *f)
{
	return a->out_is_file && a->out.st_dev == f->info.dev && a->out.st_ino == f->info.ino &&
	       f->offset < lseek(STDOUT_FILENO, 0, a->out_appends ? SEEK_END : SEEK_CUR);
}

/* ---- What is in memory */

/*
 * A daemon that has a name is asked to open the range with SFD_NODISKIO, which it does only if all of it is in memory. To a
 * private one the file is lent, which has no open: the range is sent with SFD_NODISKIO to /dev/null, and ends early.
 */
static int look_whether_hot(struct app *a, struct file *f)
{
	const struct sfd_opts opts = {.flags = SFD_NODISKIO, .same_as = &f->info};
	int err;

	f->hot = f->length == 0;
	if (f->hot)
		return 0;
	if (f->fd >= 0) {
		err = connect_daemon(a) < 0 ? EINTR : ask_send(a, f, a->null, SFD_NODISKIO);
	} else {
		if (!release(a, f))
			return EINTR;
		err = sfd_queue_open(a->queue, f->name, f->offset, f->length, &opts, number(a, f)) < 0 ? errno : 0;
		f->state = FILE_ASKED;
	}
	if (err != 0)
		return err;
	if (!await(a, f, f->fd >= 0 ? FILE_SENDING : FILE_ASKED))
		return EINTR;
	f->hot = f->state == FILE_OPEN || f->stat == SFD_STAT_OK;
	a->failed = a->failed || !f->hot;
	return f->hot || f->stat == EBUSY ? 0 : f->stat;
}

/* ---- One file after the other */

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

static void report_failure(struct app *a, struct file *f, int stat, bool sending)
{
	const char *text;

	a->failed = true;
	f->stat = stat;
	if (!sending)
		f->state = FILE_NEW;
	text = explain(a, f);
	a->stop = (sending && is_write_error(a, f)) || (a->queue && daemon_is_gone(a));
	if (sending && (stat == EPIPE || stat == ECONNRESET)) {
		a->signo = SIGPIPE; /* as cat, which dies of it; silently */
		return;
	}
	if (a->json)
		json_line(a, f, text);
	if (a->json && a->mode == MODE_SEND)
		return;
	if (sending && is_write_error(a, f))
		complain("standard output: %s",
			stat == EINVAL ? "Of no kind that a file can be sent to" : sfd_strstat(stat));
	else
		complain("%s: %s", f->name, text);
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
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction sa;
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
		if (sigaction(signals[i], NULL, &sa) == 0 && sa.sa_handler != SIG_IGN)
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
		rmdir(a->made_dir);
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

/* ---- The command line */

static const char help[] =
	"Usage: sfdcat [-s NAME] [OPTION]... [FILE]...\n"
	"Writes files to standard output; a sendfiled daemon moves the bytes. Without FILE, or for -: standard input, if\n"
	"that is a regular file.\n"
	"\n"
	"  -s, --server NAME   use the daemon of that name; FILEs are below its root.\n"
	"                      Without it a private daemon is started (SFD_DAEMON names its program)\n"
	"  -S, --sockdir DIR   where the daemon's socket lies\n"
	"      --range A-B     only these bytes, from 0, both included; A-: from there on; -N: the last N\n"
	"      --limit-rate R  at most R bytes in a second; k, M and G stand for 1024 and so on: 10M\n"
	"      --stat          print size and times instead of the content\n"
	"      --is-hot        print nothing; exit 0 if all (the ranges) of the files are in memory, else 1.\n"
	"                      Where nobody can tell they are not. To ask may begin to read them\n"
	"      --progress, --no-progress\n"
	"                      a bar on standard error; by default if only that is a terminal, after a second\n"
	"      --json          one JSON object for each file, on standard error; with --stat and --is-hot on\n"
	"                      standard output: file, size, bytes, written, status (0 or an error number), error,\n"
	"                      seconds; file_hex if the name is not UTF-8\n"
	"      --help, --version\n"
	"\n"
	"Exit status: 0, 1 if something could not be written (or is not hot), 2 for a wrong command line.\n";

static int usage_error(const char *what, const char *value)
{
	if (what)
		complain("%s: '%s'", what, value);
	fputs("Try 'sfdcat --help' for more information.\n", stderr);
	return EXIT_USAGE;
}

/* Digits only. Returns what is behind them; NULL: there are none, or too many. */
static const char *parse_number(const char *text, uint64_t *n)
{
	char *end;

	errno = 0;
	if (*text < '0' || *text > '9')
		return NULL;
	*n = strtoull(text, &end, 10);
	return errno != 0 || *n > INT64_MAX ? NULL : end;
}

static bool parse_range(const char *text, struct range *r)
{
	*r = (struct range){.kind = RANGE_FIRST_TO_LAST, .last = INT64_MAX};
	if (*text == '-') {
		r->kind = RANGE_TAIL;
		text = parse_number(text + 1, &r->count);
		return text && *text == '\0' && r->count > 0;
	}
	text = parse_number(text, &r->first);
	if (!text || *text++ != '-')
		return false;
	if (*text == '\0')
		return true;
	text = parse_number(text, &r->last);
	return text && *text == '\0' && r->last >= r->first;
}

static bool parse_rate(const char *text, uint64_t *rate)
{
	static const char units[] = "kmg";
	const char *unit;

	text = parse_number(text, rate);
	if (!text || *rate == 0)
		return false;
	if (*text == '\0')
		return true;
	unit = strchr(units, *text | 0x20);
	if (!unit || text[1] != '\0')
		return false;
	return !__builtin_mul_overflow(*rate, UINT64_C(1) << (10 * (unit - units + 1)), rate) && *rate <= INT64_MAX;
}

/* What does not go together. */
static int check_options(const struct app *a, bool stat, bool hot)
{
	if (stat && (hot || a->range.kind != RANGE_ALL || a->rate > 0))
		return usage_error("It goes with no range, rate or --is-hot", "--stat");
	if (a->bar_at_once && a->json)
		return usage_error("It does not go with --json", "--progress");
	if (a->server && (*a->server == '\0' || strchr(a->server, '/')))
		return usage_error("Not a daemon's name", a->server);
	return -1;
}

/* -1, or the exit status. */
static int parse_options(struct app *a, int argc, char *argv[])
{
	static const struct option options[] = {{"server", required_argument, NULL, 's'},
		{"sockdir", required_argument, NULL, 'S'}, {"range", required_argument, NULL, OPT_RANGE},
		{"stat", no_argument, NULL, OPT_STAT}, {"progress", no_argument, NULL, OPT_PROGRESS},
		{"no-progress", no_argument, NULL, OPT_NO_PROGRESS}, {"limit-rate", required_argument, NULL, OPT_RATE},
		{"is-hot", no_argument, NULL, OPT_HOT}, {"json", no_argument, NULL, OPT_JSON},
		{"help", no_argument, NULL, OPT_HELP}, {"version", no_argument, NULL, OPT_VERSION}, {0}};
	bool stat = false, hot = false, no_bar = false;

	for (int c; (c = getopt_long(argc, argv, "s:S:", options, NULL)) != -1;) {
		if (c == 's')
			a->server = optarg;
		else if (c == 'S')
			a->sockdir = optarg;
		else if (c == OPT_STAT)
			stat = true;
		else if (c == OPT_HOT)
			hot = true;
		else if (c == OPT_JSON)
			a->json = true;
		else if (c == OPT_PROGRESS || c == OPT_NO_PROGRESS)
			no_bar = !(a->bar_at_once = c == OPT_PROGRESS);
		else if (c == OPT_RANGE && !parse_range(optarg, &a->range))
			return usage_error("Bad range", optarg);
		else if (c == OPT_RATE && !parse_rate(optarg, &a->rate))
			return usage_error("Bad rate", optarg);
		else if (c == OPT_HELP)
			return fputs(help, stdout) < 0 || fflush(stdout) != 0 ? EXIT_PROBLEM : EXIT_OK;
		else if (c == OPT_VERSION)
			return printf("sfdcat (sendfiled) %s\n", sfd_version()) < 0 || fflush(stdout) != 0
				       ? EXIT_PROBLEM
				       : EXIT_OK;
		else if (c == '?')
			return usage_error(NULL, NULL);
	}
	a->mode = stat ? MODE_STAT : hot ? MODE_HOT : MODE_SEND;
	a->bar = a->mode == MODE_SEND && !a->json && !no_bar &&
		 (a->bar_at_once || (isatty(STDERR_FILENO) && !isatty(STDOUT_FILENO)));
	return check_options(a, stat, hot);
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
