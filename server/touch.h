/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a client may make the kernel hold on to a worker by: a pipe or a TCP socket whose lock he has, for as long as a file
 * system of his own likes. No flag of any call prevents that wait, so one worker at a time touches what is his, and if that one
 * does not come back the others leave it alone: a client holds up one worker, however many such things he sends at once. His
 * are all his user's, but for the users who have no limits: those are told apart by their processes.
 *
 * Touching is moving bytes there, writing a frame, closing. (AF_UNIX sockets have no such lock.) It takes some microseconds,
 * and who finds another worker at it waits. One that somebody has stopped at it (SIGSTOP) hangs in nothing. So that a single client can use a large machine, that holds among TOUCH_GROUP
 * workers: where there are more of them, it is one of each such group.
 */
#ifndef SFD_TOUCH_H
#define SFD_TOUCH_H

#include "server/access.h"
#include "server/shares.h"

#include <stdbool.h>
#include <sys/types.h>

enum { TOUCH_GROUP = 8 };

struct stats;
struct touches;

/* In memory that all workers share. NULL and errno. */
struct touches *touches_new(void);

/* The worker in that slot, process `pid`, does not come back: whoever it touched can be touched by others again. */
void touches_release(struct touches *all, unsigned slot, pid_t pid);

/* In a worker, once; before that nobody is waited for. `own`: its column. */
void touch_init(struct touches *all, struct shares *shares, unsigned slot, struct stats *own);

/*
 * Waits until no other worker touches what is his, but not long: false if another one hangs in it, or they do it in turn. A second one inside a first is
 * part of that.
 */
bool touch_begin(const struct owner *who);
void touch_end(void);

/* Whether a worker is known to hang in what is his, still. Never waits. */
bool touch_hangs(const struct owner *who);

/* Closes what he has sent, or has another process do so if a worker hangs (closer.h). `fd` may be -1. */
void touch_close(const struct owner *who, int fd);

/* The same for what is known to be a pipe; `has_name`: a FIFO. */
void touch_close_pipe(const struct owner *who, int fd, bool has_name);

/* The same for what was gathered of his: closer_settle(). */
void touch_settle(const struct owner *who);

#endif
