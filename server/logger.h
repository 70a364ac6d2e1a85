/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The process that writes the log. What writes to a file waits for its disk, and only this one does: to all others standard
 * error is a socket to it, which takes a line or is full.
 */
#ifndef SFD_LOGGER_H
#define SFD_LOGGER_H

#include "server/privilege.h"
#include "server/restart.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct logger {
	pid_t pid;    /* 0: none at the moment */
	int original; /* a socket that holds standard error as it was (park.h); -1: it still is, for it never started */
	int records;  /* the end that it reads, kept for a replacement */
	int life_fd;
	bool to_system;
	const struct identity *identity;
	struct restart restart;
	uint64_t started_ns, due_ns;
};

/*
 * Makes standard error of this process and of all that it forks a socket to the writer. `life_fd` becomes readable when the
 * master is gone. 0, or -1 and errno: nothing has changed.
 */
int logger_start(struct logger *l, int life_fd, const struct identity *identity);

/* Waits until all lines so far have been written, but not long. */
void logger_flush(const struct logger *l);

/* From now on to the system log, and waits like logger_flush(). Nobody holds the old standard error open any more. */
void logger_to_system(struct logger *l);

/* A process was reaped: whether it was the writer. It is replaced by logger_watch(). */
bool logger_reaped(struct logger *l, pid_t pid);

/* Replaces it when that is due. How soon to call again, in ms; -1: there is no need. */
int logger_watch(struct logger *l, uint64_t now_ns);

/*
 * Lets it write what it has, and waits for that, but not long. What comes then is written by this process itself; by nobody if the
 * log hangs.
 */
void logger_finish(struct logger *l);

#endif
