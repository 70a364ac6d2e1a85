/* SPDX-License-Identifier: BSD-2-Clause */
/* What workers and helpers have in common: how the master makes them, and what they give up first. */
#ifndef SFD_CHILD_H
#define SFD_CHILD_H

#include "server/privilege.h"

#include <sys/types.h>

/* fork(2), in which no signal reaches the child before child_settle(), while the master's handlers are in force there. */
pid_t child_fork(void);

/*
 * In the child: takes a name (15 bytes count), lets go of the master's handlers, closes all descriptors but the standard
 * ones and those `n` (put in order; there is room for three more), and gives up privileges for good. A complaint in the
 * log and the end of the process if that cannot be.
 */
void child_settle(const char *title, int *keep, unsigned n, const struct identity *identity);

/*
 * Leaves no free number below that one: what is opened from now on gets numbers that follow each other, and can be closed
 * with one call (closer_finish()).
 */
void child_close_ranks(int highest);

#endif
