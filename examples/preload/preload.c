/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * preload: sends an unmodified program's sendfile(2) through the daemon.
 *
 *   SFD_PRELOAD=SOCKDIR/NAME LD_PRELOAD=build/examples/preload.so busybox httpd -f -p 8080 -h /srv/www
 *
 * The program must be one that waits in sendfile(2): what serves each connection with a process or a thread of its own. Where
 * its destination is non-blocking it expects EAGAIN, which sfd_sendfile_fd() never says, so those calls, and all that the
 * daemon cannot serve, go to the system's own sendfile(2). What it gains is that a disk that hangs is the daemon's problem,
 * and that its own process is not stuck in the kernel, where no signal reaches it.
 */
#include <sendfiled/sendfiled.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <unistd.h>

enum { NOT_CONNECTED = -1, NO_DAEMON = -2 };

/* One connection for all threads, and for the processes that they fork. */
static atomic_int connection = NOT_CONNECTED;

typedef ssize_t sendfile_fn(int out_fd, int in_fd, off_t *offset, size_t count);

static ssize_t system_sendfile(int out_fd, int in_fd, off_t *offset, size_t count)
{
	static _Atomic(sendfile_fn *) next;
	sendfile_fn *fn = atomic_load(&next);

	if (!fn) {
		void *symbol = dlsym(RTLD_NEXT, "sendfile");

		memcpy(&fn, &symbol, sizeof fn);
		atomic_store(&next, fn);
	}
	if (fn)
		return fn(out_fd, in_fd, offset, count);
	errno = ENOSYS;
	return -1;
}

/* What SFD_PRELOAD names: a directory, a slash, a name. */
static int open_connection(void)
{
	char dir[PATH_MAX];
	const char *where = getenv("SFD_PRELOAD"), *slash = where ? strrchr(where, '/') : NULL;

	if (!slash || (size_t)(slash - where) >= sizeof dir)
		return NO_DAEMON;
	memcpy(dir, where, (size_t)(slash - where));
	dir[slash - where] = '\0';
	where = slash + 1;
	return sfd_connect(dir, where);
}

/* Two threads may connect at the same moment: one of them keeps its own. */
static int connected(void)
{
	int srv = atomic_load(&connection), expected = NOT_CONNECTED;

	if (srv != NOT_CONNECTED)
		return srv;
	srv = open_connection();
	if (srv == NOT_CONNECTED || atomic_compare_exchange_strong(&connection, &expected, srv))
		return srv;
	if (srv >= 0)
		close(srv);
	return expected;
}

/* The daemon is gone. Its successor is found by whoever comes next; the descriptor stays open, since others may use it now. */
static void forget(int srv)
{
	atomic_compare_exchange_strong(&connection, &srv, NOT_CONNECTED);
}

/* Errors with which nothing has been sent, and which the system's own call may not have. */
static bool is_the_daemons(int err)
{
	return err == EACCES || err == EINVAL || err == EMFILE || err == ENFILE || err == ECONNREFUSED ||
	       err == ENOTCONN || err == EPROTO || err == EPROTONOSUPPORT || err == EBUSY;
}

ssize_t sendfile(int out_fd, int in_fd, off_t *offset, size_t count)
{
	const int flags = fcntl(out_fd, F_GETFL);
	ssize_t sent;
	int srv;

	if (flags < 0 || flags & O_NONBLOCK || (srv = connected()) < 0)
		return system_sendfile(out_fd, in_fd, offset, count);
	sent = sfd_sendfile_fd(srv, out_fd, in_fd, offset, count, -1);
	if (sent >= 0 || !is_the_daemons(errno))
		return sent;
	if (errno == ECONNREFUSED || errno == ENOTCONN)
		forget(srv);
	return system_sendfile(out_fd, in_fd, offset, count);
}

/* The same on 64-bit systems, under the name that programs with large files were built with. */
ssize_t sendfile64(int out_fd, int in_fd, off64_t *offset, size_t count) __attribute__((alias("sendfile")));
