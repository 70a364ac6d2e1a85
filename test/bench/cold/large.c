/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One large file from the local file system, from the disk and from memory: a loop of read(2), as the most that a
 * program which looks at no byte gets, beside sendfiled to a destination that another process reads.
 */
#include "test/bench/cold/cold.h"
#include "test/bench/cold/supervise.h"

#include <sendfiled/sendfiled.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define LARGE_NAME "large"

static const size_t FILE_SIZE = (size_t)1 << 30;
static const double GOAL = 0.9;
static const double COLD_SHARE = 0.01, HOT_SHARE = 0.999; /* of the file that are in memory: at most, at least */

enum { MAX_TRANSFERS = 1000, TRIES = 20, LIMIT_S = 300 };

enum way { READ_LOOP, TO_PIPE, TO_TCP, WAYS };

static const char *const way_names[WAYS] = {"read(2), 1 MiB", "sendfiled to a pipe", "sendfiled over TCP"};

static int open_large(const struct arena *a)
{
	int fd = openat(a->root_fd, LARGE_NAME, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die("open");
	return fd;
}

/* The share of the file that is in memory. */
static double resident(int fd)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = FILE_SIZE / page, in_memory = 0;
	unsigned char *flags = must_alloc(pages);
	void *at = mmap(NULL, FILE_SIZE, PROT_READ, MAP_SHARED, fd, 0);

	if (at == MAP_FAILED || mincore(at, FILE_SIZE, flags) < 0)
		die("mincore");
	for (size_t i = 0; i < pages; i++)
		in_memory += flags[i] & 1;
	munmap(at, FILE_SIZE);
	free(flags);
	return (double)in_memory / (double)pages;
}

/* Drops the file from memory. False if the file system does not: it is one that is in memory itself. */
static bool make_cold(const struct arena *a)
{
	int fd = open_large(a);
	bool cold = false;

	/*
	 * Not at the first try, perhaps: pages may be on their way to one of the kernel's lists. And a few may stay that the
	 * last transfer has lent to a socket, until the kernel gets round to freeing what it has sent.
	 */
	for (int i = 0; i < TRIES && !cold; i++) {
		if (fdatasync(fd) < 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
			die("posix_fadvise");
		cold = resident(fd) < COLD_SHARE;
		if (!cold)
			usleep(20000);
	}
	close(fd);
	return cold;
}

static void make_hot(const struct arena *a)
{
	int fd = open_large(a);

	/* Some systems take pages away that nobody has used for a moment; so what counts is nearly all. */
	for (int i = 0; resident(fd) < HOT_SHARE; i++) {
		if (i == TRIES) {
			fprintf(stderr, "bench: a file of 1 GiB does not stay in memory\n");
			exit(1);
		}
		arena_warm(a, LARGE_NAME);
	}
	close(fd);
}

static uint64_t read_all(const struct arena *a)
{
	uint64_t start = now_ns();

	arena_warm(a, LARGE_NAME);
	return now_ns() - start;
}

/* A part of the file on its way to a process that reads it. */
struct stream {
	int ends[2], status;
	pid_t reader;
};

static void start_reader(struct stream *s, enum dest kind, size_t size)
{
	make_dest(kind, s->ends, true);
	fflush(NULL);
	s->reader = fork();
	if (s->reader < 0)
		die("fork");
	if (s->reader > 0)
		return;
	end_with_parent();
	drain(s->ends[0], size);
	_exit(0);
}

static void finish_stream(struct stream *s)
{
	int reader_status;

	await_success(s->status);
	if (waitpid(s->reader, &reader_status, 0) < 0 || reader_status != 0)
		die("the reader");
	close(s->status);
	close(s->ends[0]);
	close(s->ends[1]);
}

static uint64_t send_all(const struct arena *a, enum dest kind, unsigned streams)
{
	struct stream s[LARGE_STREAMS];
	const size_t size = FILE_SIZE / streams;
	uint64_t start;

	for (unsigned i = 0; i < streams; i++)
		start_reader(&s[i], kind, size);
	start = now_ns();
	for (unsigned i = 0; i < streams; i++) {
		s[i].status = sfd_send(a->srv, LARGE_NAME, s[i].ends[1], (off_t)(i * size), size, false);
		if (s[i].status < 0)
			die("sfd_send");
	}
	for (unsigned i = 0; i < streams; i++)
		finish_stream(&s[i]);
	return now_ns() - start;
}

double large_cold_rate(const struct arena *a, unsigned streams)
{
	if (!make_cold(a))
		die("the file stays in memory");
	return (double)FILE_SIZE / (double)send_all(a, DEST_PIPE, streams);
}

/* Gigabytes per second. */
static double run(const struct arena *a, enum way way, bool cold)
{
	uint64_t ns;

	alarm(LIMIT_S);
	if (!cold)
		make_hot(a);
	else if (!make_cold(a))
		die("the file stays in memory");
	if (way == READ_LOOP)
		ns = read_all(a);
	else
		ns = send_all(a, way == TO_PIPE ? DEST_PIPE : DEST_TCP, 1);
	alarm(0);
	return (double)FILE_SIZE / (double)ns;
}

/* Beside the read loop of the same round: a disk may be faster at one time than at another. */
static double median_ratio(const double *rates, const double *base, unsigned n)
{
	double *ratios = must_alloc(n * sizeof *ratios), middle;

	for (unsigned i = 0; i < n; i++)
		ratios[i] = rates[i] / base[i];
	middle = median(ratios, n);
	free(ratios);
	return middle;
}

static void print_rates(enum way way, bool cold, double ratio, double *rates, unsigned n)
{
	double middle = median(rates, n);

	printf("%-6s %-22s %8.2f %8.2f %8.2f %8.2f", cold ? "cold" : "hot", way_names[way], middle, rates[0],
		rates[n - 1], ratio);
	if (cold && way != READ_LOOP)
		printf("   to be at least %.1f: %s", GOAL, ratio >= GOAL ? "reached" : "missed");
	printf("\n");
}

static void compare(const struct bench *b, bool cold)
{
	const unsigned n = b->large_rounds;
	double *rates[WAYS], ratios[WAYS];

	if (cold && !make_cold(&b->arena)) {
		printf("cold: left out, %s keeps its files in memory; set TMPDIR to a directory on a disk\n",
			b->arena.dir);
		return;
	}
	for (int w = 0; w < WAYS; w++)
		rates[w] = must_alloc(n * sizeof(double));
	/* Each way is the first one in turn, since a disk may grow tired. */
	for (unsigned i = 0; i < n; i++) {
		for (unsigned k = 0; k < WAYS; k++) {
			unsigned w = (i + k) % WAYS;

			rates[w][i] = run(&b->arena, (enum way)w, cold);
		}
	}
	for (int w = 0; w < WAYS; w++)
		ratios[w] = median_ratio(rates[w], rates[READ_LOOP], n);
	for (int w = 0; w < WAYS; w++) {
		print_rates((enum way)w, cold, ratios[w], rates[w], n);
		free(rates[w]);
	}
}

void bench_large_cold(struct bench *b)
{
	arena_file(&b->arena, LARGE_NAME, FILE_SIZE);
	arena_spawn(&b->arena, 0, MAX_TRANSFERS);
	printf("\n1 GiB, from beginning to end; medians of %u runs in turn\n\n%-6s %-22s %8s %8s %8s %8s\n",
		b->large_rounds, "file", "", "GB/s", "lowest", "highest", "ratio");
	compare(b, true);
	compare(b, false);
	arena_stop(&b->arena);
}
