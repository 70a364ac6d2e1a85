/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * demo: all operations of sendfiled on real files, with a check of every byte.
 *
 * Starts a private daemon over a new temporary directory, sends files of four sizes through TCP
 * sockets, UNIX sockets and pipes with every operation, compares what arrives with the files, and
 * measures the largest one beside a plain sendfile(2) loop. Exits 0 only if everything matched.
 * Removes what it made, also after a failure or an interrupt.
 *
 *   SFD_DAEMON=build/sendfiled build/examples/demo
 *
 * SFD_DAEMON is the daemon's program (see sfd_spawn(3)); TMPDIR a directory with 257 MiB of room.
 */
#include <sendfiled/sendfiled.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	FILES = 4,
	LARGE = 3, /* the file that gets a progress bar, is cancelled on its way, and is measured */
	ROUNDS = 3,
	STALL_MS = 10000,               /* nothing arrives for so long: something is wrong */
	CANCEL_AFTER = 8 * 1024 * 1024, /* bytes received */
	BUFFER_SIZE = 256 * 1024,
	BAR_WIDTH = 24,
};

static const struct {
	const char *name;
	const char *label;
	size_t size;
} files[FILES] = {
	{"empty", "0 B", 0},
	{"small", "4 KiB", 4096},
	{"medium", "64 KiB", 65536},
	{"large", "256 MiB", (size_t)256 << 20},
};

enum kind { TO_TCP, TO_UNIX, TO_PIPE, KINDS };

static const char *const kind_names[KINDS] = {"TCP socket", "UNIX socket", "pipe"};

enum operation { OP_SEND, OP_OPEN_SEND, OP_CANCEL, OP_READ };

static const char *const operation_names[] = {"send", "open, send-open", "cancel", "read"};

struct demo {
	char dir[256]; /* empty: not made yet */
	char root[300], sockdir[300];
	pid_t daemon; /* 0: none */
	int srv;
	bool terminal;                 /* standard output is one */
	unsigned char *content[FILES]; /* the files, mapped */
};

/* One transfer: what is open for it, and what is known of it. Descriptors are -1 when they are
 * closed. */
struct run {
	struct demo *demo;
	enum operation op;
	int file;
	int status; /* brings the frames */
	int dest;   /* our copy of where the daemon writes */
	int from;   /* the other end: what the daemon wrote arrives here */
	size_t txnid;
	uint64_t received; /* bytes, all of them compared */
	uint64_t reported; /* bytes that the frames have told of */
	int outcome;       /* the terminal frame's status; -1: none yet */
	bool cancelled;
	const char *row; /* the line of the table so far, for the progress bar */
	int percent;
	char why[200]; /* what went wrong */
};

static unsigned char buffer[BUFFER_SIZE];
static volatile sig_atomic_t interrupted;

static void on_signal(int signo)
{
	(void)signo;
	interrupted = 1;
}

/* Without SA_RESTART: whatever waits is to notice. */
static void catch_signals(void)
{
	const int caught[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction sa = {.sa_handler = on_signal};

	for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++)
		sigaction(caught[i], &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* Says what failed, with errno's text. Returns -1. */
static int complain(const char *what)
{
	if (!interrupted)
		fprintf(stderr, "demo: %s: %s\n", what, strerror(errno));
	return -1;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* ---- The files */

/* xorshift64: fast, and without a period that a misplaced block could hide behind. */
static void fill(unsigned char *at, size_t n, uint64_t *state)
{
	for (size_t i = 0; i < n; i += sizeof *state) {
		*state ^= *state << 13;
		*state ^= *state >> 7;
		*state ^= *state << 17;
		memcpy(at + i, state, sizeof *state);
	}
}

static int write_content(int fd, size_t size)
{
	uint64_t state = 88172645463325252U;

	for (size_t at = 0; at < size;) {
		size_t n = size - at < sizeof buffer ? size - at : sizeof buffer;

		fill(buffer, n, &state);
		for (size_t put = 0; put < n;) {
			ssize_t w = write(fd, buffer + put, n - put);

			if (w < 0 || interrupted)
				return -1;
			put += (size_t)w;
		}
		at += n;
	}
	return 0;
}

/* Makes a file, readable for all: a daemon that root started serves as another user. Maps it. */
static int make_file(struct demo *d, int i)
{
	char path[400];
	int fd;

	snprintf(path, sizeof path, "%s/%s", d->root, files[i].name);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return complain(path);
	if (fchmod(fd, 0644) < 0 || write_content(fd, files[i].size) < 0) {
		complain(path);
		if (errno == ENOSPC || errno == EDQUOT)
			fprintf(stderr, "demo: it needs 257 MiB: set TMPDIR to a directory with as much room\n");
		close(fd);
		return -1;
	}
	if (files[i].size > 0) {
		void *p = mmap(NULL, files[i].size, PROT_READ, MAP_SHARED, fd, 0);

		if (p != MAP_FAILED)
			d->content[i] = p;
	}
	close(fd);
	return files[i].size > 0 && !d->content[i] ? complain("mmap") : 0;
}

static int make_dir(const char *path)
{
	return (mkdir(path, 0755) < 0 && errno != EEXIST) || chmod(path, 0755) < 0 ? complain(path) : 0;
}

static int make_files(struct demo *d)
{
	const char *tmp = getenv("TMPDIR");
	char template[sizeof d->dir];
	int n = snprintf(template, sizeof template, "%s/sfd-demo.XXXXXX", tmp && *tmp ? tmp : "/tmp");

	if (n < 0 || (size_t)n >= sizeof template) {
		errno = ENAMETOOLONG;
		return complain("TMPDIR");
	}
	if (!mkdtemp(template))
		return complain(template);
	memcpy(d->dir, template, sizeof d->dir);
	snprintf(d->root, sizeof d->root, "%s/files", d->dir);
	snprintf(d->sockdir, sizeof d->sockdir, "%s/run", d->dir);
	if (make_dir(d->dir) < 0 || make_dir(d->root) < 0 || make_dir(d->sockdir) < 0)
		return -1;
	for (int i = 0; i < FILES; i++) {
		if (make_file(d, i) < 0)
			return -1;
	}
	return 0;
}

static int start_daemon(struct demo *d)
{
	pid_t pid = sfd_spawn("demo", d->root, d->sockdir, 0, 0);

	if (pid <= 0) {
		complain("cannot start the daemon");
		if (errno == ENOENT)
			fprintf(stderr,
				"demo: set SFD_DAEMON to the program that was built, for instance build/sendfiled\n");
		return -1;
	}
	d->daemon = pid;
	d->srv = sfd_connect(d->sockdir, "demo");
	return d->srv < 0 ? complain("cannot connect to the daemon") : 0;
}

static void remove_in(const char *dir, const char *name)
{
	char path[400];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	unlink(path);
}

/* Also after a failure halfway: what is not there is not removed. */
static int clean_up(struct demo *d)
{
	int status = 0;

	close_fd(&d->srv);
	if (d->daemon > 0)
		status = sfd_shutdown(d->daemon);
	for (int i = 0; i < FILES; i++) {
		if (d->content[i])
			munmap(d->content[i], files[i].size);
	}
	if (d->dir[0] == '\0')
		return 0;
	for (int i = 0; i < FILES; i++)
		remove_in(d->root, files[i].name);
	remove_in(d->sockdir, "sendfiled.demo.socket"); /* the daemon has removed both, unless it was killed */
	remove_in(d->sockdir, "sendfiled.demo.lock");
	rmdir(d->root);
	rmdir(d->sockdir);
	if (rmdir(d->dir) < 0)
		return complain(d->dir);
	if (status != 0)
		fprintf(stderr, "demo: the daemon did not leave as it should: wait status %#x\n", (unsigned)status);
	return status == 0 ? 0 : -1;
}

/* ---- Destinations: ends[0] to read from, ends[1] for the daemon to write to */

static int tcp_pair(int ends[2])
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof sa;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ends[0] = ends[1] = -1;
	if (listener >= 0 && bind(listener, (struct sockaddr *)&sa, len) == 0 && listen(listener, 1) == 0 &&
		getsockname(listener, (struct sockaddr *)&sa, &len) == 0)
		ends[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (ends[1] >= 0 && connect(ends[1], (struct sockaddr *)&sa, len) == 0)
		ends[0] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	close_fd(&listener);
	if (ends[0] < 0)
		close_fd(&ends[1]);
	return ends[0] < 0 ? -1 : 0;
}

static int make_pair(enum kind kind, int ends[2])
{
	switch (kind) {
	case TO_TCP:
		return tcp_pair(ends);
	case TO_UNIX:
		return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends);
	default:
		return pipe2(ends, O_CLOEXEC);
	}
}

/* An event-driven server's descriptors do not block. */
static int set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

/* ---- One transfer */

static int fail(struct run *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int fail(struct run *r, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(r->why, sizeof r->why, format, ap);
	va_end(ap);
	return -1;
}

static void draw_bar(struct run *r)
{
	static const char full[BAR_WIDTH + 1] = "########################";
	int percent, done;

	if (!r->demo->terminal || r->file != LARGE)
		return;
	percent = (int)(r->reported * 100 / files[LARGE].size);
	if (percent == r->percent)
		return;
	r->percent = percent;
	done = percent * BAR_WIDTH / 100;
	printf("\r%s  [%.*s%*s] %3d %%\033[K", r->row, done, full, BAR_WIDTH - done, "", percent);
	fflush(stdout);
}

static int cancel(struct run *r)
{
	r->cancelled = true;
	return sfd_cancel(r->demo->srv, r->txnid) ? 0 : fail(r, "sfd_cancel: %s", strerror(errno));
}

/* The first frame: the transfer's id, and for an opened file the moment to say where it shall go.
 */
static int take_info(struct run *r, const void *frame)
{
	struct sfd_file_info info;

	if (!sfd_unmarshal_file_info(&info, frame))
		return fail(r, "refused: %s", sfd_strstat(info.stat));
	if (info.size != files[r->file].size)
		return fail(r, "size %zu instead of %zu", info.size, files[r->file].size);
	r->txnid = info.txnid;
	if (r->op == OP_READ) { /* no more frames: what follows on this pipe is the file */
		r->from = r->status;
		r->status = -1;
		r->outcome = SFD_STAT_OK;
		return 0;
	}
	if (r->op == OP_OPEN_SEND && !sfd_send_open(r->demo->srv, r->txnid, r->dest))
		return fail(r, "sfd_send_open: %s", strerror(errno));
	return r->op == OP_CANCEL && r->file != LARGE ? cancel(r) : 0;
}

static int take_frame(struct run *r)
{
	unsigned char frame[SFD_MAX_RESP_SIZE];
	struct sfd_xfer_stat stat;
	ssize_t n = read(r->status, frame, sizeof frame);

	if (n == 0) {
		close_fd(&r->status);
		return r->outcome < 0 ? fail(r, "no terminal frame: the worker died") : 0;
	}
	if (n != sizeof frame)
		return fail(r, "status pipe: %s", n < 0 ? strerror(errno) : "torn frame");
	if (sfd_get_cmd(frame) == SFD_FILE_INFO)
		return take_info(r, frame);
	sfd_unmarshal_xfer_stat(&stat, frame);
	r->reported += stat.size;
	if (r->reported != stat.total)
		return fail(r, "the frames' sizes do not add up");
	draw_bar(r);
	if (stat.stat != SFD_STAT_OK || sfd_xfer_complete(&stat)) {
		r->outcome = stat.stat;
		close_fd(&r->dest); /* the last copy: the receiver now finds end-of-file behind the
				       bytes */
	}
	return 0;
}

static int take_bytes(struct run *r)
{
	ssize_t n = read(r->from, buffer, sizeof buffer);

	if (n < 0)
		return fail(r, "receiving: %s", strerror(errno));
	if (n == 0) {
		close_fd(&r->from);
		return 0;
	}
	if (r->received + (size_t)n > files[r->file].size)
		return fail(r, "more bytes than the file has");
	if (memcmp(buffer, r->demo->content[r->file] + r->received, (size_t)n) != 0)
		return fail(r, "other bytes than the file's, from byte %llu on", (unsigned long long)r->received);
	r->received += (size_t)n;
	if (r->op == OP_CANCEL && !r->cancelled && r->received >= CANCEL_AFTER)
		return cancel(r);
	return 0;
}

static int judge(struct run *r)
{
	const bool cut = r->op == OP_CANCEL;
	const int expected = cut ? ECANCELED : SFD_STAT_OK;

	if (r->outcome != expected)
		return fail(r, "it ended with: %s", sfd_strstat(r->outcome));
	if (r->op != OP_READ && r->reported != r->received)
		return fail(r, "%llu bytes were reported, %llu arrived", (unsigned long long)r->reported,
			(unsigned long long)r->received);
	if (!cut && r->received != files[r->file].size)
		return fail(r, "only %llu bytes arrived", (unsigned long long)r->received);
	if (cut && r->file == LARGE && r->received == files[r->file].size)
		return fail(r, "it was sent to its end in spite of the cancellation");
	return 0;
}

static int run_loop(struct run *r)
{
	while (r->status >= 0 || r->from >= 0) {
		struct pollfd p[2] = {{.fd = r->status, .events = POLLIN}, {.fd = r->from, .events = POLLIN}};
		int n = poll(p, 2, STALL_MS);

		if (interrupted)
			return fail(r, "interrupted");
		if (n < 0)
			return fail(r, "poll: %s", strerror(errno));
		if (n == 0)
			return fail(r, "nothing has happened for %d seconds", STALL_MS / 1000);
		if (p[0].revents != 0 && take_frame(r) < 0)
			return -1;
		if (p[1].revents != 0 && take_bytes(r) < 0)
			return -1;
	}
	return judge(r);
}

/* To cancel: the large file when part of it has arrived; a small one is opened only, never sent. */
static int begin(struct run *r, enum kind kind)
{
	const char *path = files[r->file].name;
	const int srv = r->demo->srv;
	int ends[2];

	if (r->op == OP_READ) {
		r->status = sfd_read(srv, path, 0, 0, true);
		return r->status < 0 ? fail(r, "sfd_read: %s", strerror(errno)) : 0;
	}
	if (make_pair(kind, ends) < 0)
		return fail(r, "cannot make a %s: %s", kind_names[kind], strerror(errno));
	r->from = ends[0];
	r->dest = ends[1];
	if (set_nonblocking(r->dest) < 0)
		return fail(r, "fcntl: %s", strerror(errno));
	if (r->op == OP_SEND || (r->op == OP_CANCEL && r->file == LARGE))
		r->status = sfd_send(srv, path, r->dest, 0, 0, true);
	else
		r->status = sfd_open(srv, path, 0, 0, true);
	return r->status < 0 ? fail(r, "the request was not sent: %s", strerror(errno)) : 0;
}

/* ---- The table */

static int run_row(struct demo *d, enum operation op, enum kind kind)
{
	char row[160], why[256] = "";
	int at = snprintf(
		row, sizeof row, "%-16s %-12s", operation_names[op], op == OP_READ ? "own pipe" : kind_names[kind]);

	for (int i = 0; i < FILES; i++) {
		struct run r = {.demo = d, .op = op, .file = i, .status = -1, .dest = -1, .from = -1, .outcome = -1};
		bool good;

		r.row = row;
		r.percent = -1;
		good = begin(&r, kind) == 0 && run_loop(&r) == 0;
		close_fd(&r.status);
		close_fd(&r.dest);
		close_fd(&r.from);
		if (interrupted)
			return -1;
		if (!good)
			snprintf(why, sizeof why, "%s: %s", files[i].label, r.why);
		at += snprintf(row + at, sizeof row - (size_t)at, " %8s", good ? "ok" : "FAILED");
	}
	printf("%s%s%s\n", d->terminal ? "\r" : "", row, d->terminal ? "\033[K" : "");
	fflush(stdout);
	if (why[0])
		fprintf(stderr, "demo: %s\n", why);
	return why[0] ? -1 : 0;
}

static int run_table(struct demo *d)
{
	int result = 0;

	printf("%-16s %-12s %8s %8s %8s %8s\n", "operation", "destination", files[0].label, files[1].label,
		files[2].label, files[3].label);
	for (int op = OP_SEND; op <= OP_CANCEL && !interrupted; op++) {
		for (int kind = 0; kind < KINDS && !interrupted; kind++)
			result |= run_row(d, (enum operation)op, (enum kind)kind);
	}
	if (!interrupted)
		result |= run_row(d, OP_READ, TO_PIPE);
	return result;
}

/* ---- Speed */

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Receives up to end-of-file. 0 if it was the whole of the large file. */
static int drain(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	size_t total = 0;
	ssize_t n;

	do {
		if (poll(&p, 1, STALL_MS) <= 0)
			return -1;
		n = read(fd, buffer, sizeof buffer);
		total += n > 0 ? (size_t)n : 0;
	} while (n > 0);
	return total == files[LARGE].size ? 0 : -1;
}

/* The bytes have come: now for the daemon's word. Progress frames are passed over. */
static int await_success(int status)
{
	unsigned char frame[SFD_MAX_RESP_SIZE];
	struct sfd_xfer_stat stat;

	while (read(status, frame, sizeof frame) == sizeof frame) {
		if (sfd_unmarshal_xfer_stat(&stat, frame) && sfd_xfer_complete(&stat))
			return 0;
	}
	return -1;
}

static int by_sendfiled(struct demo *d, int ends[2])
{
	int status, result;

	if (set_nonblocking(ends[1]) < 0)
		return -1;
	status = sfd_send(d->srv, files[LARGE].name, ends[1], 0, 0, false);
	if (status < 0)
		return -1;
	close_fd(&ends[1]); /* the daemon has its own by now */
	result = drain(ends[0]) < 0 || await_success(status) < 0 ? -1 : 0;
	close(status);
	return result;
}

/* What a server does without sendfiled; in a child, so that here too two processes share the work.
 */
static _Noreturn void sendfile_loop(const struct demo *d, int dest)
{
	char path[400];
	off_t at = 0;
	int file;

	snprintf(path, sizeof path, "%s/%s", d->root, files[LARGE].name);
	file = open(path, O_RDONLY | O_CLOEXEC);
	while (file >= 0 && (size_t)at < files[LARGE].size) {
		if (sendfile(dest, file, &at, files[LARGE].size - (size_t)at) <= 0)
			break;
	}
	_exit((size_t)at == files[LARGE].size ? 0 : 1);
}

static int by_sendfile(struct demo *d, int ends[2])
{
	pid_t pid = fork();
	int status, result;

	if (pid < 0)
		return -1;
	if (pid == 0) {
		close(ends[0]);
		sendfile_loop(d, ends[1]);
	}
	close_fd(&ends[1]);
	result = drain(ends[0]);
	close_fd(&ends[0]); /* a child that has not finished now finds its reader gone */
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return result == 0 && status == 0 ? 0 : -1;
}

typedef int way_fn(struct demo *d, int ends[2]);

/* Seconds for the large file; -1: failed. */
static double measure(struct demo *d, way_fn *way, enum kind kind)
{
	double began;
	int ends[2], result;

	if (make_pair(kind, ends) < 0)
		return -1;
	began = now();
	result = way(d, ends);
	began = now() - began;
	close_fd(&ends[0]);
	close_fd(&ends[1]);
	return result < 0 ? -1 : began;
}

static double median(double a, double b, double c)
{
	double low = a < b ? a : b, high = a < b ? b : a;

	return c < low ? low : c > high ? high : c;
}

static int compare_speed(struct demo *d)
{
	const double gigabytes = (double)files[LARGE].size / 1e9;

	printf("\n%s, median of %d      sendfiled  plain sendfile  ratio\n", files[LARGE].label, ROUNDS);
	for (int kind = 0; kind < KINDS; kind++) {
		double ours[ROUNDS], plain[ROUNDS], a, b;

		for (int i = 0; i < ROUNDS; i++) {
			plain[i] = measure(d, by_sendfile, (enum kind)kind);
			ours[i] = measure(d, by_sendfiled, (enum kind)kind);
			if (interrupted)
				return -1;
			if (ours[i] <= 0 || plain[i] <= 0) {
				fprintf(stderr, "demo: the file did not arrive whole while it was measured\n");
				return -1;
			}
		}
		a = median(ours[0], ours[1], ours[2]);
		b = median(plain[0], plain[1], plain[2]);
		printf("%-24s %7.2f GB/s %10.2f GB/s  %5.2f\n", kind_names[kind], gigabytes / a, gigabytes / b, b / a);
		fflush(stdout);
	}
	return 0;
}

int main(void)
{
	struct demo d = {.srv = -1, .terminal = isatty(STDOUT_FILENO) == 1};
	int result;

	catch_signals();
	result = make_files(&d) < 0 || start_daemon(&d) < 0 || run_table(&d) < 0 || compare_speed(&d) < 0 ? -1 : 0;
	if (interrupted)
		fprintf(stderr, "%sdemo: interrupted\n", d.terminal ? "\n" : "");
	if (clean_up(&d) < 0 || fflush(stdout) != 0 || ferror(stdout))
		result = -1;
	if (result == 0)
		puts("\nEverything that arrived is what the files hold.");
	return result == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
