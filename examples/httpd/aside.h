/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What waits for a disk, and what the daemon does not do: reading directories, and writing the log. A process each does it, so
 * that the server never waits.
 */
#ifndef HTTPD_ASIDE_H
#define HTTPD_ASIDE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* ---- Directories */

struct lister {
	int sock; /* readable when there is an answer */
	int root;
	unsigned timeout_ms;
	pid_t pid;
};

/*
 * `root`: a descriptor of the directory that is served. `timeout_ms`: after so long nobody waits for an answer any more. What may
 * be seen is, if this is root, what an ordinary user may, as with a daemon that root starts. 0, or -1 and errno.
 */
int lister_start(struct lister *l, int root, unsigned timeout_ms);
void lister_stop(struct lister *l);

/*
 * Asks for the page of a directory, or only whether it is one. 0, or -1 and errno: EAGAIN, too many questions have no answer yet.
 * The answer comes with the same number, or, where the disk hangs, not at all.
 */
int lister_ask(struct lister *l, uint64_t number, const char *path, bool only_look);

/*
 * The next answer: true if there is one. `*err`: 0, or why there is no page (ENOTDIR, ...); `*page`: a file in memory that holds
 * it, the caller's, or -1 if that was not asked for. `*ended`: the process is gone.
 */
bool lister_answer(struct lister *l, uint64_t *number, int *err, int *page, bool *ended);

/* ---- The log */

/* From now on lines go to that descriptor (-1: nowhere), which becomes the log's. 0, or -1 and errno. */
int log_start(int fd);

/* Adds a line, and an end to it. Where nobody takes them, lines are lost rather than waited for, and counted. */
void log_add(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Hands over what has been added. */
void log_flush(void);

/* Hands over the rest, and waits a second at most until it is written. */
void log_stop(void);

#endif
