/* SPDX-License-Identifier: BSD-2-Clause */
/* sendfiled --ping. */
#ifndef SFD_PING_H
#define SFD_PING_H

#include "server/options.h"

/* Asks the daemon whether it serves and prints the answer. The exit status: 0, or one of sysexits.h. */
int ping(const struct options *o);

#endif
