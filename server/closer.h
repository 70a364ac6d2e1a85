/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Closing what may wait: a socket with SO_LINGER, a file on somebody's server, the last close of a large deleted file.
 *
 * close(2) waits in whoever calls it, also when other processes have the same file open, and there is no other way out of
 * a table of descriptors. So a short-lived process that shares the worker's table closes the descriptor: it leaves the
 * table at once, and only that process waits. If it does wait, the worker goes on with a copy of the table, and the old one
 * is emptied by another such process, so that whoever waits holds nothing else: else a client would not see end-of-file
 * when the worker dies. Most closes do not wait, and cost a fork; what is neither a file nor a socket waits so seldom that
 * one process closes many.
 */
#ifndef SFD_CLOSER_H
#define SFD_CLOSER_H

#include <stdbool.h>
#include <stdint.h>

enum { CLOSER_SOCKETS_MAX = 64 }; /* processes that wait for sockets at a time */

/*
 * In a worker, once. `device`: files there that have a name are closed at once, since nothing waits for them (0: none);
 * `most`: how many processes are started at a time, not counting those that have turned out to wait.
 */
void closer_init(uint64_t device, unsigned most);

/* Closes any descriptor (-1: none). Where closer_init() was not called, in place, however long that takes. */
void closer_close(int fd);

/* The same, but never in the calling process: for what is certain to be risky. */
void closer_close_later(int fd);

/* The same for what is known not to wait: a pipe, a socket of our own. */
void closer_close_harmless(int fd);

/* The same for what is known to be a stream socket. */
void closer_close_socket(int fd, bool is_unix_socket);

/* The same for a file of closer_init()'s device: at once if it has a name, which is looked for unless it is known. */
void closer_close_file(int fd, bool has_name);

/*
 * From closer_gather() on pipes and files that can be closed at once are gathered. closer_settle() closes all of it, with few calls where the
 * numbers follow each other, as those of a datagram's descriptors do; closer_finish() does, and gathers no more.
 */
void closer_gather(void);
void closer_settle(void);
void closer_finish(void);

/* What was gathered is closed in other processes, as if by closer_close_later(). */
void closer_settle_later(void);

bool closer_has_gathered(void);

/* In every round of the loop: sees to those that are under way. */
void closer_work(uint64_t now_ns);

/* How soon to call it again; -1 if there is nothing to see to. */
int closer_nap_ms(void);

/* How many descriptors have not been closed yet. */
unsigned closer_backlog(void);

#endif
