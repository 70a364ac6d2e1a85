/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/bench/common.h"

#include <sendfiled/sendfiled.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

const char *const dest_names[DEST_COUNT] = {"pipe", "TCP", "UNIX"};

void die(const char *what)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

void *must_alloc(size_t n)
{
	void *p = calloc(1, n);

	if (!p)
		die("memory");
	return p;
}

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double median(double *values, size_t n)
{
	qsort(values, n, sizeof *values, by_value);
	return values[n / 2];
}

void arena_open(struct arena *a)
{
	const char *tmp = getenv("TMPDIR");

	*a = (struct arena){.srv = -1};
	if ((size_t)snprintf(a->dir, sizeof a->dir, "%s/sfd-bench-XXXXXX", tmp && *tmp ? tmp : "/tmp") >=
		sizeof a->dir) {
		errno = ENAMETOOLONG;
		die("TMPDIR");
	}
	if (!mkdtemp(a->dir) || chmod(a->dir, 0755) < 0)
		die("mkdtemp");
	snprintf(a->root, sizeof a->root, "%s/root", a->dir);
	snprintf(a->sock, sizeof a->sock, "%s/sock", a->dir);
	if (mkdir(a->root, 0755) < 0 || mkdir(a->sock, 0755) < 0)
		die("mkdir");
	a->root_fd = open(a->root, O_PATH | O_CLOEXEC);
	if (a->root_fd < 0)
		die("open root");
}

void arena_file(const struct arena *a, const char *name, uint64_t size)
{
	static unsigned char block[1 << 20];
	int fd = openat(a->root_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0)
		die(name);
	for (size_t i = 0; i < sizeof block; i++)
		block[i] = (unsigned char)(i * 31 + (i >> 8));
	while (size > 0) {
		size_t n = size < sizeof block ? size : sizeof block;

		if (write(fd, block, n) != (ssize_t)n)
			die("write");
		size -= n;
	}
	fsync(fd);
	close(fd);
}

void arena_warm(const struct arena *a, const char *name)
{
	static char block[1 << 20];
	int fd = openat(a->root_fd, name, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		die(name);
	while (read(fd, block, sizeof block) > 0)
		;
	close(fd);
}

void arena_spawn(struct arena *a, unsigned workers, unsigned max_transfers)
{
	char count[16], max[16];
	const char *argv[] = {"sendfiled", "-s", "bench", "-r", a->root, "-S", a->sock, "-n", max,
		workers ? "--workers" : NULL, count, NULL};

	snprintf(count, sizeof count, "%u", workers);
	snprintf(max, sizeof max, "%u", max_transfers);
	a->daemon = sfd_spawnv(argv, 10000);
	if (a->daemon <= 0)
		die("cannot start the daemon (SFD_DAEMON names it)");
	a->srv = sfd_connect(a->sock, "bench");
	if (a->srv < 0)
		die("sfd_connect");
}

void arena_stop(struct arena *a)
{
	close(a->srv);
	a->srv = -1;
	if (sfd_shutdown(a->daemon) < 0)
		die("sfd_shutdown");
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void arena_close(struct arena *a)
{
	close(a->root_fd);
	nftw(a->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void make_tcp(int ends[2])
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof sa;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (listener < 0 || bind(listener, (struct sockaddr *)&sa, sizeof sa) < 0 || listen(listener, 1) < 0 ||
		getsockname(listener, (struct sockaddr *)&sa, &len) < 0)
		die("listen");
	ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (ends[0] < 0 || connect(ends[0], (struct sockaddr *)&sa, sizeof sa) < 0)
		die("connect");
	ends[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (ends[1] < 0 || setsockopt(ends[1], IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)) < 0)
		die("accept");
	close(listener);
}

void make_dest(enum dest kind, int ends[2], bool nonblock)
{
	if (kind == DEST_TCP)
		make_tcp(ends);
	else if (kind == DEST_PIPE ? pipe2(ends, O_CLOEXEC) < 0
				   : socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		die("destination");
	if (nonblock && fcntl(ends[1], F_SETFL, fcntl(ends[1], F_GETFL) | O_NONBLOCK) < 0)
		die("O_NONBLOCK");
}

void drain(int fd, uint64_t n)
{
	static char sink[256 * 1024];

	while (n > 0) {
		ssize_t got = read(fd, sink, n < sizeof sink ? n : sizeof sink);

		if (got > 0)
			n -= (uint64_t)got;
		else if (got == 0 || errno != EINTR)
			die("read of a destination's other end");
	}
}

bool saw_success(int status)
{
	unsigned char frames[2][SFD_MAX_RESP_SIZE];
	struct sfd_xfer_stat stat;
	ssize_t n = read(status, frames, sizeof frames);
	ssize_t count = n / SFD_MAX_RESP_SIZE;

	if (n < 0 && errno == EAGAIN)
		return false;
	if (count < 1) {
		errno = n < 0 ? errno : ECONNRESET;
		die("outcome");
	}
	for (ssize_t i = 0; i < count; i++) {
		if (sfd_get_stat(frames[i]) != SFD_STAT_OK) {
			errno = sfd_get_stat(frames[i]);
			die("transfer");
		}
	}
	return sfd_unmarshal_xfer_stat(&stat, frames[count - 1]) && sfd_xfer_complete(&stat);
}

void await_success(int status)
{
	struct pollfd p = {.fd = status, .events = POLLIN};

	while (!saw_success(status))
		poll(&p, 1, -1);
}
