/* SPDX-License-Identifier: BSD-2-Clause */
/* What the benchmarks share. Anything that goes wrong ends the program with a message: there is no result to save. */
#ifndef SFD_BENCH_COMMON_H
#define SFD_BENCH_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum dest { DEST_PIPE, DEST_TCP, DEST_UNIX, DEST_COUNT };

extern const char *const dest_names[DEST_COUNT];

/* A temporary directory with a daemon that serves its `root`, and what is needed to reach both. */
struct arena {
	char dir[64];
	char root[80];
	char sock[80];
	pid_t daemon;
	int srv;
	int root_fd;
};

void die(const char *what) __attribute__((noreturn));
void *must_alloc(size_t n);
uint64_t now_ns(void);

/* The middle one; puts them in order. */
double median(double *values, size_t n);

/* Makes the directory, in TMPDIR or else /tmp. Files are for the daemon's user to read, whoever that is. */
void arena_open(struct arena *a);
void arena_file(const struct arena *a, const char *name, uint64_t size);
void arena_spawn(struct arena *a, unsigned workers, unsigned max_transfers);
void arena_stop(struct arena *a);
void arena_close(struct arena *a);

/* Reads the file once, so that it is in memory. */
void arena_warm(const struct arena *a, const char *name);

/* Two connected ends: bytes written to ends[1] arrive at ends[0]. Blocking unless `nonblock` (that concerns ends[1]). */
void make_dest(enum dest kind, int ends[2], bool nonblock);

/* Reads exactly `n` bytes and throws them away. */
void drain(int fd, uint64_t n);

/*
 * Reads what frames there are, two at most (a small file's information and outcome arrive together): is the terminal
 * one among them? None may tell of a failure. await_success() waits for it.
 */
bool saw_success(int status);
void await_success(int status);

#endif
