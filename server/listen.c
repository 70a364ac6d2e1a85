/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/listen.h"

#include "lib/wire.h"
#include "server/complaint.h"
#include "server/os/process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int find_dir(char *out, size_t size, const char *dir, const struct complaint *c)
{
	int err;

	if (dir) {
		int n = snprintf(out, size, "%s", dir);

		err = n < 0 || (size_t)n >= size ? ENAMETOOLONG : 0;
	} else {
		err = wire_default_dir(out, size, geteuid(), secure_getenv("XDG_RUNTIME_DIR"));
	}
	if (err == ENOENT)
		return complain(c, err, "no socket directory: set XDG_RUNTIME_DIR, or name one with -S");
	if (err != 0)
		return complain(c, err, "the socket directory's name is too long: name a shorter one with -S");
	return 0;
}

int listen_path(char *path, size_t path_size, const char *dir, const char *name, char *error, size_t size)
{
	const struct complaint c = {error, size};
	char where[LISTEN_PATH_SIZE];
	int err = find_dir(where, sizeof where, dir, &c);

	if (err != 0)
		return err;
	err = wire_socket_path(path, path_size, where, name);
	if (err != 0)
		return complain(&c, err,
			"the socket's path is longer than %zu bytes: choose a shorter -S or -s (%s/sendfiled.%s.socket)",
			path_size - 1, where, name);
	return 0;
}

/* The default directory is ours to make; one that was named with -S is not. */
static int open_dir(struct listener *l, const char *dir, bool is_default, const struct complaint *c)
{
	if (is_default && mkdir(dir, geteuid() == 0 ? 0755 : 0700) < 0 && errno != EEXIST)
		return complain(c, errno, "cannot make the socket directory %s: %s", dir, strerror(errno));
	l->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (l->dir < 0)
		return complain(c, errno, "cannot use the socket directory %s: %s; make it, or name another with -S",
			dir, strerror(errno));
	return 0;
}

/* Whether the name still stands for the file that is open: its last owner may have removed it since. */
static bool is_current(int dir, const char *name, int fd)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && fstatat(dir, name, &b, AT_SYMLINK_NOFOLLOW) == 0 && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}

static int take_lock(struct listener *l, const char *name, const struct complaint *c)
{
	for (;;) {
		l->lock = openat(l->dir, l->lock_name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (l->lock < 0)
			return complain(c, errno, "cannot make the lock file %s: %s", l->lock_name, strerror(errno));
		if (flock(l->lock, LOCK_EX | LOCK_NB) < 0) {
			int err = errno == EWOULDBLOCK ? EADDRINUSE : errno;

			close(l->lock);
			l->lock = -1;
			if (err == EADDRINUSE)
				return complain(c, err,
					"a daemon named '%s' is running already: stop it, or choose another -s", name);
			return complain(c, err, "cannot lock %s: %s", l->lock_name, strerror(err));
		}
		if (is_current(l->dir, l->lock_name, l->lock))
			return 0;
		close(l->lock);
	}
}

/* unix(7): the file gets the socket's own mode, less the umask. */
static int bind_as(int sock, const struct sockaddr_un *sa, mode_t mode)
{
	mode_t mask = umask(0);
	int err = 0;

	if (fchmod(sock, mode) < 0 || bind(sock, (const struct sockaddr *)sa, sizeof *sa) < 0)
		err = errno;
	umask(mask);
	return err;
}

static int give(
	const struct listener *l, const char *name, const struct listen_access *access, const struct complaint *c)
{
	if (access->uid == (uid_t)-1 && access->gid == (gid_t)-1)
		return 0;
	if (fchownat(l->dir, name, access->uid, access->gid, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	return complain(c, errno,
		"cannot give the socket to user %d, group %d: %s; start as root, or leave out --socket-user and --socket-group",
		(int)access->uid, (int)access->gid, strerror(errno));
}

/* Bound under another name and then renamed: what has the real name is always complete, and a stale one is replaced. */
static int bind_socket(
	struct listener *l, const char *dir, const struct listen_access *access, const struct complaint *c)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	char temp[32];
	int err, n;

	snprintf(temp, sizeof temp, ".sfd.%d", (int)getpid());
	n = snprintf(sa.sun_path, sizeof sa.sun_path, "%s/%s", dir, temp);
	if (n < 0 || (size_t)n >= sizeof sa.sun_path)
		return complain(c, ENAMETOOLONG, "the socket directory's name is too long: name a shorter one with -S");
	l->sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->sock < 0 || os_want_credentials(l->sock) < 0)
		return complain(c, errno, "cannot make a socket: %s", strerror(errno));
	unlinkat(l->dir, temp, 0); /* of a namesake that was killed: we hold the lock */
	err = bind_as(l->sock, &sa, access->mode);
	if (err != 0)
		return complain(c, err, "cannot bind a socket in %s: %s", dir, strerror(err));
	err = give(l, temp, access, c);
	if (err == 0 && renameat(l->dir, temp, l->dir, l->socket_name) < 0)
		err = complain(c, errno, "cannot set up the socket in %s: %s", dir, strerror(errno));
	if (err != 0)
		unlinkat(l->dir, temp, 0);
	return err;
}

int listener_open(struct listener *l, const char *dir, const char *name, const struct listen_access *access,
	char *error, size_t size)
{
	const struct complaint c = {error, size};
	char where[LISTEN_PATH_SIZE], path[LISTEN_PATH_SIZE];
	int err;

	*l = (struct listener){.sock = -1, .lock = -1, .dir = -1};
	err = listen_path(path, sizeof path, dir, name, error, size);
	if (err == 0)
		err = find_dir(where, sizeof where, dir, &c);
	if (err == 0)
		err = open_dir(l, where, !dir, &c);
	if (err != 0)
		return err;
	/* "sendfiled.NAME.socket" fits, for the whole path did; "lock" is shorter than "socket". */
	snprintf(l->socket_name, sizeof l->socket_name, "%s", path + strlen(where) + 1);
	memcpy(l->lock_name, l->socket_name, sizeof l->lock_name);
	memcpy(l->lock_name + strlen(l->lock_name) - strlen("socket"), "lock", sizeof "lock");
	err = take_lock(l, name, &c);
	if (err == 0)
		err = bind_socket(l, where, access, &c);
	if (err != 0)
		listener_close(l);
	return err;
}

void listener_close(struct listener *l)
{
	if (l->lock >= 0) {
		unlinkat(l->dir, l->socket_name, 0);
		unlinkat(l->dir, l->lock_name, 0);
		close(l->lock);
	}
	if (l->sock >= 0)
		close(l->sock);
	if (l->dir >= 0)
		close(l->dir);
	l->sock = l->lock = l->dir = -1;
}
