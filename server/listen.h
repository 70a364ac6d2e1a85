/* SPDX-License-Identifier: BSD-2-Clause */
/* The request socket: one live owner for each name, and nobody else's to connect to from the moment it exists. */
#ifndef SFD_LISTEN_H
#define SFD_LISTEN_H

#include <stddef.h>
#include <sys/types.h>
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

/* Whose the socket is, and who may connect to it. */
struct listen_access {
	mode_t mode;
	uid_t uid; /* (uid_t)-1, (gid_t)-1: as it comes */
	gid_t gid;
};

/*
 * Takes the lock, then binds the socket, in place of a stale one; under its name it never has another owner, group or mode
 * than the given ones. The default directory is made if it is missing. 0, or an errno (EADDRINUSE: a live daemon has that name) and a line
 * in `error`; then nothing is left behind.
 */
int listener_open(struct listener *l, const char *dir, const char *name, const struct listen_access *access,
	char *error, size_t size);

/* Removes socket and lock file. */
void listener_close(struct listener *l);

#endif
