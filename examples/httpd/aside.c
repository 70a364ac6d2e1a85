/* SPDX-License-Identifier: BSD-2-Clause */
#include "aside.h"

#include "response.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/openat2.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	FIRST = 3,
	SECOND = 4,
	LISTINGS_MAX = 64, /* at a time, which a disk that hangs holds up until they are given up */
};

/*
 * A child that ends with the server, and leaves its signals to it. Of the server's descriptors it has these two, with those
 * numbers: a client's connection would not end before the child does.
 */
static pid_t fork_aside(int first, int second)
{
	sigset_t none;
	pid_t parent = getpid(), pid = fork();

	if (pid == 0) {
		first = fcntl(first, F_DUPFD, SECOND + 1);
		second = fcntl(second, F_DUPFD, SECOND + 1);
		if (dup2(first, FIRST) < 0 || dup2(second, SECOND) < 0 ||
			syscall(SYS_close_range, SECOND + 1, ~0U, 0) < 0)
			_exit(1);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		signal(SIGINT, SIG_IGN);
		signal(SIGTERM, SIG_IGN);
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
	}
	return pid;
}

/* ---- Directories */

struct question {
	uint64_t number;
	bool only_look;
	char path[PATH_MAX];
};

struct answer {
	uint64_t number;
	int err;
};

struct entry {
	char *name;
	bool is_directory;
	off_t size;
	time_t mtime;
};

/* Below the root as the daemon understands it: links lead nowhere else. */
static int open_beneath(int root, const char *path, unsigned flags)
{
	struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};

	return (int)syscall(SYS_openat2, root, *path ? path : ".", &how, sizeof how);
}

static int by_name(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	return x->is_directory != y->is_directory ? y->is_directory - x->is_directory : strcmp(x->name, y->name);
}

/* A link is shown as what it leads to, if that is below the root. False: the entry is not for others. */
static bool look(int root, const char *path, int dir, const char *name, struct stat *st)
{
	char whole[PATH_MAX + NAME_MAX + 2];
	int fd, err;

	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || fstatat(dir, name, st, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	if (S_ISLNK(st->st_mode)) {
		snprintf(whole, sizeof whole, "%s/%s", path, name);
		fd = open_beneath(root, whole, O_PATH);
		err = fd < 0 ? -1 : fstat(fd, st);
		if (fd >= 0)
			close(fd);
		if (err < 0)
			return false;
	}
	return S_ISREG(st->st_mode) || S_ISDIR(st->st_mode);
}

static struct entry *read_entries(int root, const char *path, DIR *dir, size_t *n)
{
	struct entry *all = NULL;
	size_t room = 0;
	struct dirent *d;

	*n = 0;
	while ((d = readdir(dir)) != NULL) {
		struct stat st;

		if (!look(root, path, dirfd(dir), d->d_name, &st))
			continue;
		if (*n == room) {
			struct entry *more = realloc(all, (room = room ? room * 2 : 64) * sizeof *all);

			if (!more)
				break;
			all = more;
		}
		all[*n] = (struct entry){strdup(d->d_name), S_ISDIR(st.st_mode), st.st_size, st.st_mtime};
		if (!all[*n].name)
			break;
		(*n)++;
	}
	if (*n > 0)
		qsort(all, *n, sizeof *all, by_name);
	return all;
}

static void put_escaped(FILE *out, const char *text)
{
	for (; *text != '\0'; text++) {
		switch (*text) {
		case '&':
			fputs("&amp;", out);
			break;
		case '<':
			fputs("&lt;", out);
			break;
		case '>':
			fputs("&gt;", out);
			break;
		case '"':
			fputs("&quot;", out);
			break;
		default:
			fputc(*text, out);
		}
	}
}

static void put_size(FILE *out, off_t size)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	double n = (double)size;
	int unit = 0;

	while (n >= 1024 && unit < 4) {
		n /= 1024;
		unit++;
	}
	fprintf(out, unit == 0 ? "%.0f %s" : "%.1f %s", n, units[unit]);
}

static void put_entry(FILE *out, const struct entry *e)
{
	char link[3 * NAME_MAX + 8], date[32];
	const char *slash = e->is_directory ? "/" : "";
	struct tm tm;

	encode_path(link, sizeof link, e->name);
	gmtime_r(&e->mtime, &tm);
	strftime(date, sizeof date, "%Y-%m-%d %H:%M", &tm);
	/* "./": a name with a colon is no address. */
	fprintf(out, "<tr><td><a href=\"./%s%s\">", link, slash);
	put_escaped(out, e->name);
	fprintf(out, "%s</a></td><td>", slash);
	if (!e->is_directory)
		put_size(out, e->size);
	fprintf(out, "</td><td>%s</td></tr>\n", date);
}

static void put_page(FILE *out, const char *path, const struct entry *all, size_t n)
{
	fputs("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
	      "<meta name=\"viewport\" content=\"width=device-width\">\n<title>/",
		out);
	put_escaped(out, path);
	fputs("</title>\n<style>body{font:1em/1.5 sans-serif;margin:2em}td{padding-right:2em}"
	      "td:nth-child(2){text-align:right}th{text-align:left}</style></head>\n<body><h1>/",
		out);
	put_escaped(out, path);
	fputs("</h1>\n<table><thead><tr><th>Name</th><th>Size</th><th>Modified (UTC)</th></tr></thead><tbody>\n", out);
	if (*path != '\0')
		fputs("<tr><td><a href=\"../\">../</a></td><td></td><td></td></tr>\n", out);
	for (size_t i = 0; i < n; i++)
		put_entry(out, &all[i]);
	fputs("</tbody></table>\n</body></html>\n", out);
}

/* A file in memory with the page of that directory; or -1 and errno. Closes `fd`. */
static int make_page(int root, int fd, const char *path)
{
	int page = memfd_create("page", MFD_CLOEXEC), copy = page < 0 ? -1 : dup(page);
	FILE *out = copy < 0 ? NULL : fdopen(copy, "w");
	DIR *dir = out ? fdopendir(fd) : NULL;
	struct entry *all;
	size_t n;

	if (!dir)
		goto fail;
	all = read_entries(root, path, dir, &n);
	put_page(out, path, all, n);
	for (size_t i = 0; i < n; i++)
		free(all[i].name);
	free(all);
	closedir(dir);
	if (fclose(out) == 0)
		return page;
	close(page);
	return -1;
fail:
	close(fd);
	if (out)
		fclose(out);
	else if (copy >= 0)
		close(copy);
	if (page >= 0)
		close(page);
	return -1;
}

static void send_answer(int sock, const struct answer *a, int page)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof page)] = {0};
	struct iovec iov = {(void *)a, sizeof *a};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	if (page >= 0) {
		struct cmsghdr *c;

		m.msg_control = control;
		m.msg_controllen = sizeof control;
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof page);
		memcpy(CMSG_DATA(c), &page, sizeof page);
	}
	if (sendmsg(sock, &m, MSG_NOSIGNAL) < 0)
		_exit(1);
}

static _Noreturn void answer(int sock, int root, const struct question *q)
{
	struct answer a = {.number = q->number};
	int fd = open_beneath(root, q->path, O_RDONLY | O_DIRECTORY), page = -1;

	if (fd < 0) {
		a.err = errno;
	} else if (!q->only_look) {
		page = make_page(root, fd, q->path);
		a.err = page < 0 ? errno : 0;
	}
	send_answer(sock, &a, page);
	_exit(0);
}

/* What root could see is not for others: it becomes who a daemon that root starts serves as (sendfiled(8), -u). */
static void become_ordinary(void)
{
	const struct passwd *user;

	if (geteuid() == 0) {
		user = getpwnam("sendfiled");
		if (!user)
			user = getpwnam("nobody");
		if (!user || setgroups(0, NULL) < 0 || setgid(user->pw_gid) < 0 || setuid(user->pw_uid) < 0)
			_exit(1);
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* which a change of the user takes back */
}

/* It waits for no disk; for each question a process does. One that waits for too long is ended by its alarm. */
static _Noreturn void list(int sock, int root, unsigned timeout_ms)
{
	const struct itimerval alarm = {.it_value = {timeout_ms / 1000, (suseconds_t)(timeout_ms % 1000) * 1000}};
	struct question q;
	const pid_t dispatcher = getpid();
	int count = 0;

	become_ordinary();
	memset(&q, 0, sizeof q);
	while (recv(sock, &q, sizeof q - 1, 0) > (ssize_t)offsetof(struct question, path)) {
		const pid_t pid = fork();

		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			setitimer(ITIMER_REAL, &alarm, NULL);
			if (getppid() == dispatcher)
				answer(sock, root, &q);
			_exit(1);
		}
		count += pid > 0;
		while (count > 0 && waitpid(-1, NULL, count == LISTINGS_MAX ? 0 : WNOHANG) > 0)
			count--;
	}
	_exit(0);
}

int lister_start(struct lister *l, int root, unsigned timeout_ms)
{
	int pair[2];

	*l = (struct lister){.sock = -1, .root = root, .timeout_ms = timeout_ms};
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	l->pid = fork_aside(pair[1], root);
	if (l->pid == 0)
		list(FIRST, SECOND, timeout_ms);
	close(pair[1]);
	if (l->pid < 0) {
		close(pair[0]);
		return -1;
	}
	fcntl(pair[0], F_SETFL, O_NONBLOCK);
	l->sock = pair[0];
	return 0;
}

void lister_stop(struct lister *l)
{
	if (l->sock < 0)
		return;
	close(l->sock);
	l->sock = -1;
	kill(l->pid, SIGKILL);
	waitpid(l->pid, NULL, 0); /* at once: it waits for no disk itself */
}

int lister_ask(struct lister *l, uint64_t number, const char *path, bool only_look)
{
	struct question q = {.number = number, .only_look = only_look};

	if (l->sock < 0) {
		errno = EACCES;
		return -1;
	}
	strncpy(q.path, path, sizeof q.path - 1);
	return send(l->sock, &q, offsetof(struct question, path) + strlen(q.path) + 1, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

bool lister_answer(struct lister *l, uint64_t *number, int *err, int *page, bool *ended)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof *page)];
	struct answer a;
	struct iovec iov = {&a, sizeof a};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	ssize_t n = recvmsg(l->sock, &m, MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;

	*ended = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
	if (n != sizeof a)
		return false;
	*number = a.number;
	*err = a.err;
	*page = -1;
	if (c)
		memcpy(page, CMSG_DATA(c), sizeof *page);
	return true;
}

/* ---- The log */

static struct {
	int pipe;
	pid_t pid;
	size_t len;
	unsigned long lost;
	char buf[1 << 16];
} log_state = {.pipe = -1};

static _Noreturn void write_log(int from, int to)
{
	char buf[1 << 16];
	ssize_t n;

	while ((n = read(from, buf, sizeof buf)) > 0) {
		for (ssize_t at = 0, done; at < n; at += done) {
			done = write(to, buf + at, (size_t)(n - at));
			if (done <= 0)
				_exit(1);
		}
	}
	_exit(0);
}

int log_start(int fd)
{
	int ends[2];

	if (fd < 0)
		return 0;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -1;
	log_state.pid = fork_aside(ends[0], fd);
	if (log_state.pid == 0)
		write_log(FIRST, SECOND);
	close(ends[0]);
	if (log_state.pid < 0) {
		close(ends[1]);
		return -1;
	}
	fcntl(ends[1], F_SETFL, O_NONBLOCK);
	log_state.pipe = ends[1];
	return 0;
}

void log_flush(void)
{
	ssize_t n = log_state.len > 0 && log_state.pipe >= 0 ? write(log_state.pipe, log_state.buf, log_state.len) : 0;

	if (n <= 0)
		return;
	log_state.len -= (size_t)n;
	memmove(log_state.buf, log_state.buf + n, log_state.len);
}

void log_add(const char *format, ...)
{
	const size_t room = sizeof log_state.buf - log_state.len;
	va_list args;
	int n;

	if (log_state.pipe < 0)
		return;
	if (log_state.lost > 0 && room > 4096) {
		unsigned long lost = log_state.lost;

		log_state.lost = 0;
		log_add("- - - %lu lines are missing here", lost);
	}
	va_start(args, format);
	n = vsnprintf(log_state.buf + log_state.len, sizeof log_state.buf - log_state.len, format, args);
	va_end(args);
	if (n < 0 || (size_t)n + 1 > sizeof log_state.buf - log_state.len) {
		log_state.lost++;
		return;
	}
	log_state.len += (size_t)n;
	log_state.buf[log_state.len++] = '\n';
	if (log_state.len > sizeof log_state.buf / 2)
		log_flush();
}

void log_stop(void)
{
	struct pollfd p = {.fd = log_state.pipe, .events = POLLOUT};

	if (log_state.pipe < 0)
		return;
	while (log_state.len > 0 && poll(&p, 1, 1000) == 1 && !(p.revents & POLLERR))
		log_flush();
	close(log_state.pipe);
	log_state.pipe = -1;
	for (int i = 0; i < 100 && waitpid(log_state.pid, NULL, WNOHANG) == 0; i++)
		usleep(10000);
}
