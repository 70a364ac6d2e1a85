/* SPDX-License-Identifier: BSD-2-Clause */
/* The file system whose reads can be held (test/support/slowfs.c): how it is started and spoken to. */
#ifndef SFD_BENCH_COLD_SLOW_H
#define SFD_BENCH_COLD_SLOW_H

#include <sys/types.h>

struct slow {
	pid_t pid;
	int to, from; /* a command is one line, and so is its answer */
};

/* Mounts it. All that goes wrong ends the program, here and below. */
void slow_start(struct slow *s, const char *program, const char *mount_point);

/*
 * Gives a command and waits for its answer, which must be "ok"; returns the number after that, if there is one. A child
 * may do so in its parent's place.
 */
long slow_do(const struct slow *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Unmounts it. */
void slow_stop(struct slow *s);

#endif
