/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sendfiled: files moved on your behalf, so that your event loop never waits for a disk.
 *
 * A client connects to the daemon's UNIX datagram socket, names a file (a path below the daemon's
 * root directory) and passes the descriptor that the file's bytes shall go to. The daemon opens the
 * file and moves the bytes; what happens is reported in fixed-size frames on a pipe.
 *
 * Rules that hold for every call
 *
 *  - Nothing here waits for the daemon, except sfd_spawn(), sfd_spawnv() and sfd_shutdown(). When the
 *    daemon's request queue is full a call fails with EAGAIN; nothing was sent, and `srv` becomes
 *    writable (POLLOUT) when it is worth trying again. ETOOMANYREFS and ENOBUFS (too many descriptors,
 *    or too much memory, in flight; unix(7)) mean the same, but cannot be waited for with poll(2);
 *    ECONNREFUSED and ENOTCONN mean that the daemon is gone: connect anew.
 *  - The library never prints, exits, installs signal handlers or raises SIGPIPE, and it has no mutable
 *    global state. One `srv` may be used by several threads and by forked children at the same time.
 *  - Every descriptor that the library creates is close-on-exec. A descriptor that is passed in stays
 *    the caller's: it is not closed, and neither the library nor the daemon changes its flags. It may be
 *    closed as soon as the call has returned.
 *  - From the call until the terminal frame the daemon may write to the destination at any time. Write
 *    nothing to it meanwhile, and give it to one transfer at a time. Its file position is used and moved,
 *    as by sendfile(2).
 *  - The daemon closes its duplicates of the destination and of the file before the terminal frame can be
 *    read, so that a close(2) afterwards ends a TCP connection. (Destinations that are neither pipe nor
 *    socket may be closed a little later.)
 *  - Every request that a call accepted ends in exactly one terminal frame, or, if the worker process that
 *    held it died, in end-of-file without one. (sfd_read() has no terminal frame; see there.)
 */
#ifndef SENDFILED_H
#define SENDFILED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The interface assumes a 64-bit system; on any other one of these has a negative size. */
typedef char sfd_needs_64_bit_size_t[sizeof(size_t) == 8 ? 1 : -1];
typedef char sfd_needs_64_bit_off_t[sizeof(off_t) == 8 ? 1 : -1];
typedef char sfd_needs_64_bit_time_t[sizeof(time_t) == 8 ? 1 : -1];

/* ---- Frames: what arrives on a status pipe ---------------------------------------------------- */

/* Kinds of frame (the `cmd` member). */
enum {
	SFD_FILE_INFO = 0x81, /* about the file: the first frame, or an error that refused the request */
	SFD_XFER_STAT = 0x82  /* about the transfer: progress, its end, or an error after it was accepted */
};

/* Status (the `stat` member): 0, an errno value (all of which are below 0x1000), or one of these. */
enum {
	SFD_STAT_OK = 0,
	SFD_STAT_TRUNCATED = 0x1001,   /* the file became shorter than the range while it was being sent */
	SFD_STAT_WORKER_DIED = 0x1002, /* the process that held the transfer was killed; counts are lower bounds */
	SFD_STAT_CHANGED = 0x1003      /* the file is not the one that the request asked for */
};

/* The size in bytes of every frame, and of both structs below. Each frame is written in one piece. */
#define SFD_MAX_RESP_SIZE 128

/* Metadata of the file, taken from the descriptor that is then sent (fstat(2)). */
struct sfd_file_info {
	int cmd;      /* SFD_FILE_INFO */
	int stat;     /* SFD_STAT_OK, or why the request was refused; then all below is 0 */
	size_t size;  /* bytes that this transfer will move */
	time_t atime; /* access, modification and status change: seconds since the epoch */
	time_t mtime;
	time_t ctime;
	size_t txnid;        /* names the transfer to sfd_send_open() and sfd_cancel(); never 0 */
	uint64_t file_size;  /* bytes in the whole file */
	off_t offset;        /* where in the file this transfer starts, in bytes */
	uint32_t atime_nsec; /* nanoseconds, 0 to 999,999,999 */
	uint32_t mtime_nsec;
	uint32_t ctime_nsec;
	uint32_t reserved0;
	uint64_t dev; /* device and inode: together they identify the file */
	uint64_t ino;
	uint64_t reserved[3];
	uint64_t tag; /* the request's tag in the datagram; 0 for all calls of this header */
};

/* How far a transfer has come. */
struct sfd_xfer_stat {
	int cmd;           /* SFD_XFER_STAT */
	int stat;          /* SFD_STAT_OK, or why the transfer ended early */
	size_t size;       /* file bytes delivered since the last frame */
	uint64_t total;    /* file bytes delivered so far */
	uint64_t written;  /* all bytes put on the destination, headers and trailers included */
	uint32_t complete; /* 1 in the frame that ends a successful transfer; see sfd_xfer_complete() */
	uint32_t reserved0;
	uint64_t reserved[10];
	uint64_t tag;
};

/*
 * The kind and the status of a frame of SFD_MAX_RESP_SIZE bytes at any alignment. sfd_get_cmd() returns
 * SFD_FILE_INFO or SFD_XFER_STAT, or -1 if the bytes are no frame; sfd_get_stat() returns the status.
 * Neither blocks nor sets errno.
 */
int sfd_get_cmd(const void *frame);
int sfd_get_stat(const void *frame);

/*
 * Copy a frame of SFD_MAX_RESP_SIZE bytes at any alignment into a struct. True if it is of that kind and its
 * status is SFD_STAT_OK. False for a frame of another kind, and for an error; an error frame of the right
 * kind is filled in all the same. errno is left alone.
 */
bool sfd_unmarshal_file_info(struct sfd_file_info *info, const void *frame);
bool sfd_unmarshal_xfer_stat(struct sfd_xfer_stat *stat, const void *frame);

/*
 * True if this frame ends a transfer in success. A frame is terminal if this holds or if its status is not
 * SFD_STAT_OK; nothing follows a terminal frame but end-of-file.
 */
bool sfd_xfer_complete(const struct sfd_xfer_stat *stat);

/* ---- Connection ---------------------------------------------------------------------------------- */

/*
 * Connects to the daemon called `name` whose socket lies in the directory `sockdir`. NULL means the default:
 * /run/sendfiled for root, else $XDG_RUNTIME_DIR/sendfiled. Does not block.
 *
 * Returns a non-blocking socket that the caller owns and closes with close(2), or -1 and errno: ENOENT (no
 * such socket; also: sockdir is NULL and XDG_RUNTIME_DIR is not set), ECONNREFUSED (the daemon is gone),
 * EACCES (no right to the socket), ENAMETOOLONG (more than 107 bytes, unix(7)), EINVAL (name is NULL, empty,
 * or contains a slash), or what socket(2) and connect(2) say.
 */
int sfd_connect(const char *sockdir, const char *name);

/*
 * Starts a private daemon called `name` that serves the files below `root_dir`, and waits until it is ready,
 * 10 seconds at most. `sockdir` is as for sfd_connect(), `maxfiles` the most transfers at a time (0: the
 * daemon's default), `open_timeout_ms` how long a file opened by sfd_open() waits for its second message (0:
 * the daemon's default). The daemon is the program named by the environment variable SFD_DAEMON, else the one
 * installed with the library, else `sendfiled` in PATH (in a privileged program, secure_getenv(3), neither
 * variable counts). It leaves when the calling *process* ends, however that happens.
 *
 * Returns the daemon's process id, which the caller passes to sfd_shutdown(); 0 if a daemon of that name
 * serves already; -1 and errno otherwise: the daemon's own error (ENOENT: no root directory; EACCES; EINVAL:
 * a wrong argument; ...), ENOENT also if there is no such program, ETIMEDOUT if it did not become ready in
 * time, EPROTO if it left without a word, or what posix_spawn(3) and pipe(2) say. On failure no process is left
 * behind. What is wrong is said on the daemon's standard error, which is the caller's; its standard input and output
 * are /dev/null.
 */
pid_t sfd_spawn(const char *name, const char *root_dir, const char *sockdir, int maxfiles, int open_timeout_ms);

/*
 * The same with any options of the daemon. `argv` is the daemon's argument vector, NULL-terminated; argv[0] is
 * the name that it runs under, not where it is found. --sync-parent and --ready-fd are added.
 * Waits `timeout_ms` milliseconds at most; negative: for ever. Returns and fails as sfd_spawn().
 */
pid_t sfd_spawnv(const char *const argv[], int timeout_ms);

/*
 * Stops a daemon started by sfd_spawn(): SIGTERM, then, if it has not left within 10 seconds, SIGKILL; waits
 * until it is gone. Returns the status as of waitpid(2), or -1 and errno: ECHILD if `pid` is not a child of the
 * caller or was waited for already (also: the caller ignores SIGCHLD, so that nobody can wait for it; it is stopped all
 * the same), EINVAL if it is not positive.
 */
int sfd_shutdown(pid_t pid);

/* The library's version, for instance "1.0.0". A static string. */
const char *sfd_version(void);

/*
 * A short English text for a frame's status, errno values included. Never NULL; a static string that stays
 * valid and may be used by several threads at once.
 */
const char *sfd_strstat(int stat);

/* ---- One request, its own channel ----------------------------------------------------------------- */

/*
 * Common to the next three: `path` names a regular file below the daemon's root, whether or not it begins with a
 * slash; symbolic links are followed inside the root. The range starts `offset` bytes into the file and is `len`
 * bytes long, 0 meaning to the end of the file; it is cut at the end of the file, and a range that starts there
 * or beyond is a success of 0 bytes.
 *
 * None blocks. Each returns the read end of a new pipe, which the caller owns and closes, or -1 and errno:
 * EAGAIN and the other errors at the top of this page; EINVAL (negative offset, offset + len past the largest
 * off_t, NULL path), ENAMETOOLONG (path longer than 4,095 bytes), ENOENT (empty path), EBADF (srv or dest_fd is
 * not open), ENOTSOCK, EMFILE or ENFILE (no descriptor left for the pipe). When -1 is returned the daemon has
 * not seen the request. `nonblock` says whether the returned end is non-blocking (O_NONBLOCK).
 *
 * Everything else is answered by the daemon in a frame; what it says there is listed in libsendfiled(3).
 */

/*
 * Sends a file's bytes to `dest_fd`: a connected stream socket (TCP or UNIX), a pipe, a regular file, a terminal
 * or another character device, blocking or not. The pipe carries a file-information frame, progress frames
 * (some may be left out), one terminal frame, and end-of-file. Closing the pipe abandons the transfer; to know
 * when the daemon has stopped writing, cancel it and wait for the terminal frame instead.
 */
int sfd_send(int srv, const char *path, int dest_fd, off_t offset, size_t len, bool nonblock);

/*
 * Sends a file's bytes into the returned pipe: a file-information frame, then `size` bytes of the file, then
 * end-of-file. There is no terminal frame: end-of-file after fewer bytes means that the transfer failed.
 */
int sfd_read(int srv, const char *path, off_t offset, size_t len, bool nonblock);

/*
 * Opens a file and keeps it open for sfd_send_open(). The pipe carries the file-information frame; what follows
 * comes after the second message: progress, terminal frame, end-of-file. If no second message comes in time (the
 * daemon's --open-timeout) the terminal frame says ETIMEDOUT. Closing the pipe closes the file.
 */
int sfd_open(int srv, const char *path, off_t offset, size_t len, bool nonblock);

/*
 * The second message: sends a file opened by sfd_open(), the `txnid` of whose information is given, to `dest_fd`.
 * The outcome comes on the pipe that sfd_open() returned. Only the process that opened a file can send it; for
 * any other id, and for a transfer that is on its way or over, nothing happens. Does not block.
 *
 * True if the message was sent; false and errno (as above) if not: then nothing has happened.
 */
bool sfd_send_open(int srv, size_t txnid, int dest_fd);

/*
 * Ends a transfer of this process early. Its terminal frame says ECANCELED and how many bytes were delivered,
 * unless it was over before. An sfd_read() just ends. Does not block. True if the message was sent; false and
 * errno (as above) if not.
 */
bool sfd_cancel(int srv, size_t txnid);

#ifdef __cplusplus
}
#endif

#endif
