/* SPDX-License-Identifier: BSD-2-Clause */
/* The request socket: one live owner for each name, and nobody else's to connect to from the moment it exists. */
#ifndef SFD_LISTEN_H
#define SFD_LISTEN_H

#include "server/privilege.h"

#include <stddef.h>
#include <sys/un.h>

enum { LISTEN_PATH_SIZE = sizeof(((struct sockaddr_un *)0)->sun_path) };

struct listener {
	int sock; /* bound */
	int lock; /* locked for as long as the daemon lives: this, not the socket, tells a live daemon from a stale file */
	int dir; /* where both lie; the names below are relative to it, and survive a chdir(2) */
	char socket_name[LISTEN_PATH_SIZE];
	char lock_name[LISTEN_PATH_SIZE];
};

/* Where the socket of that daemon lies. `dir` NULL: the default. 0, or an errno and a line in `error`. */
int listen_path(char *path, size_t path_size, const char *dir, const char *name, char *error, size_t size);

/*
 * Takes the lock, then binds the socket, mode 0600, owned by who serves (if that is no `nobody`), in place of a stale
 * one. The default directory is made if it is missing. 0, or an errno (EADDRINUSE: a live daemon has that name) and a line
 * in `error`; then nothing is left behind.
 */
int listener_open(
	struct listener *l, const char *dir, const char *name, const struct identity *id, char *error, size_t size);

/* Removes socket and lock file. */
void listener_close(struct listener *l);

#endif
