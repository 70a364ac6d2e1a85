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
 *  - Nothing here waits for the daemon, except sfd_spawn(), sfd_spawnv(), sfd_shutdown(), sfd_queue_wait(),
 *    sfd_sendfile() and sfd_sendfile_fd(). When the
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

struct iovec;

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

/* ---- Options: what sendfile(2) can do on FreeBSD and Linux, and more ------------------------------- */

/*
 * How a request is to be served. Zero it; the default of each member is zero, also of those that later versions add. What it
 * points to is copied before a call returns.
 *
 * A call that takes it fails with EINVAL for unknown flags, nonzero reserved members, a negative count or one above 64, a
 * piece of NULL with a length, a place outside the headers, and for what the operation has not got: headers and trailers
 * with an open, `same_as` with a send-open (the file is open already). EMSGSIZE: path, headers and trailers together are
 * longer than 32 KiB. What an open says counts for its send-open too, which may add to it.
 */
struct sfd_opts {
	unsigned flags;     /* SFD_NODISKIO and what follows it below */
	unsigned readahead; /* pages (of 4,096 bytes) to read ahead; at most the daemon's --max-readahead */
	/*
	 * Sent before and after the file's bytes, also of an empty range, and never between them (sys/uio.h; up to 64 pieces
	 * each). They count in `written`, and not in `size`, `total` and `bytes`. Headers leave together with the first bytes of
	 * the file; if those cannot be had, nothing has been sent.
	 */
	const struct iovec *headers;
	int hdr_cnt;
	const struct iovec *trailers;
	int trl_cnt;
	unsigned timeout_ms; /* for the whole transfer, in milliseconds from when the request is sent: ETIMEDOUT */
	uint64_t max_rate;   /* bytes per second, headers and trailers included */
	/*
	 * Go on only if the file still has this dev, ino, file_size, mtime and ctime (nanoseconds included): otherwise
	 * SFD_STAT_CHANGED, the destination is untouched, and the information of what it is now comes with the refusal (of a
	 * queue's send as SFD_EV_INFO, with SFD_WANT_INFO).
	 */
	const struct sfd_file_info *same_as;
	/*
	 * Places in the headers, in bytes from their beginning; 0: none. At the first, 20 bytes become the size of this transfer
	 * in decimal, with spaces before it; at the second, 29 bytes the time of modification as an IMF-fixdate (RFC 9110):
	 * "Sun, 06 Nov 1994 08:49:37 GMT". They must not overlap.
	 */
	unsigned hdr_size_at, hdr_mtime_at;
	uint64_t reserved[8]; /* nonzero: EINVAL */
};

/* sfd_opts.flags */
enum {
	/*
	 * Only what is in memory: EBUSY at the first byte that is not, with the bytes delivered until then. No disk is waited
	 * for; the system may begin to read all the same. An open with it fails at once if any page of the range is missing,
	 * which asks whether a file is hot. Where nobody can tell (overlayfs, FUSE, NFS) it is EBUSY.
	 */
	SFD_NODISKIO = 1 << 1,
	/* Pages that this transfer brings into memory leave it; those that were there stay. libsendfiled(3) says how certainly. */
	SFD_NOCACHE = 1 << 2,
	/*
	 * The bytes are copied: once the terminal frame can be read the file may be changed without the receiver seeing it.
	 * (sendfile(2) lends the file's own pages, which a receiver may read much later.) The receiver is not waited for.
	 */
	SFD_SYNC = 1 << 3,
	/* Read just `readahead` pages ahead; without the flag it is the larger of that and what the daemon thinks best. */
	SFD_USER_READAHEAD = 1 << 4,
	SFD_WANT_INFO = 1 << 5, /* queues: an SFD_EV_INFO event for a send too (status pipes get information anyway) */
	SFD_WANT_PROGRESS = 1 << 6 /* queues: SFD_EV_PROGRESS events, at most ten a second, and some may be left out */
};

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

/* The same with options; NULL: none. */
int sfd_send_opts(
	int srv, const char *path, int dest_fd, off_t offset, size_t len, bool nonblock, const struct sfd_opts *opts);

/*
 * The same for a file that the caller has open for reading: regular, or shared memory (memfd_create(2)). It is sent by the
 * caller's rights, wherever it is, and its file position is neither used nor moved. Refused by the daemon: EBADF (not open
 * for reading), EINVAL (a directory, a pipe, ...).
 */
int sfd_sendfd(int srv, int file_fd, int dest_fd, off_t offset, size_t len, bool nonblock, const struct sfd_opts *opts);

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
int sfd_open_opts(int srv, const char *path, off_t offset, size_t len, bool nonblock, const struct sfd_opts *opts);

/*
 * The second message: sends a file opened by sfd_open(), the `txnid` of whose information is given, to `dest_fd`.
 * The outcome comes on the pipe that sfd_open() returned. Only the process that opened a file can send it; for
 * any other id, and for a transfer that is on its way or over, nothing happens. Does not block.
 *
 * True if the message was sent; false and errno (as above) if not: then nothing has happened.
 */
bool sfd_send_open(int srv, size_t txnid, int dest_fd);
bool sfd_send_open_opts(int srv, size_t txnid, int dest_fd, const struct sfd_opts *opts);

/*
 * Ends a transfer of this process early. Its terminal frame says ECANCELED and how many bytes were delivered,
 * unless it was over before. An sfd_read() just ends. Does not block. True if the message was sent; false and
 * errno (as above) if not.
 */
bool sfd_cancel(int srv, size_t txnid);

/* ---- Calls that wait ------------------------------------------------------------------------------- */

/*
 * Sends a file and waits until it has been sent, `timeout_ms` milliseconds at most (0 or negative: for ever; a shorter
 * opts->timeout_ms counts instead). Signals do not end the wait.
 *
 * 0, or -1 and errno: ETIMEDOUT; EIO for SFD_STAT_TRUNCATED, ESTALE for SFD_STAT_CHANGED; ECONNABORTED: a worker or the
 * daemon died, or did not let go of the destination within a second of the timeout, and what was sent is not known: shut it
 * down; what sfd_send() says, except that it waits where that fails with EAGAIN; and what the daemon answers. `*sbytes` (may be
 * NULL) is always set: all bytes put on the destination, headers and trailers included; with ECONNABORTED, at least.
 * After any other error nothing more comes, and if `*sbytes` is 0 the destination is untouched.
 */
int sfd_sendfile(int srv, const char *path, int dest_fd, off_t offset, size_t len, const struct sfd_opts *opts,
	off_t *sbytes, int timeout_ms);

/*
 * The same for an open file, called as sendfile(2) on Linux: up to `count` bytes (0: none) from `*offset` on, which is
 * advanced by what was sent, also on error, and then the file's position is left alone; or, if it is NULL, from the file's
 * position on, which is. Returns how many bytes were sent, fewer at the end of the file; or -1 and errno as above. Unlike
 * sendfile(2) it waits for the destination also if that is non-blocking.
 */
ssize_t sfd_sendfile_fd(int srv, int dest_fd, int file_fd, off_t *offset, size_t count, int timeout_ms);

/* ---- The queue: many requests, one channel --------------------------------------------------------- */

/*
 * The fast way, for event loops: requests gather in the caller's memory, go out many to a datagram, and their events
 * arrive through one pollable descriptor. No pipe, no registration with a poller and no close(2) per request.
 *
 *	q = sfd_queue_new(srv, 256);
 *	... have sfd_queue_fd(q) watched for reading; then, whenever there is something to send:
 *	sfd_queue_send(q, "index.html", sock, 0, 0, NULL, (uintptr_t)connection);
 *	sfd_queue_submit(q);
 *	... and whenever the descriptor is readable:
 *	while ((n = sfd_queue_reap(q, events, 64)) > 0) handle(events, n);
 *	sfd_queue_submit(q);
 *
 * Rules that hold for every queue
 *
 *  - Exactly one SFD_EV_DONE for each sfd_queue_send(), sfd_queue_sendfd() and sfd_queue_open() that returned 0, whatever
 *    happens: success, an error, a cancel, the death of a worker (SFD_STAT_WORKER_DIED), the death of the whole daemon (the
 *    same). An open and its send-open share one user_data and one SFD_EV_DONE.
 *  - Only sfd_queue_wait() blocks. After sfd_queue_new() no call allocates memory. A queue is for one thread at a time;
 *    several queues, also on one `srv`, may be used by several threads at once.
 *  - A queue belongs to the process that made it, and to its user id of that moment: after a setuid(2) make a new one. In a
 *    forked child every call but sfd_queue_free() fails with EPERM.
 *  - `user_data` is the caller's, and comes back in events; it need not be unique.
 *  - The descriptors given must stay open until the submit that hands them over has returned. If one was closed
 *    meanwhile, that request alone ends with EBADF. The library and the daemon never close or change the caller's.
 *  - A queue survives the daemon's workers, not the daemon: when that has ended all requests end with
 *    SFD_STAT_WORKER_DIED, and calls fail with ECONNREFUSED from then on: connect anew, and make a new queue.
 */
struct sfd_queue;

/* Kinds of event. */
enum {
	SFD_EV_INFO = 0,     /* the file is open: `info` says what it is; before SFD_EV_DONE, and never left out */
	SFD_EV_PROGRESS = 1, /* so far */
	SFD_EV_DONE = 2      /* the end: `stat` says how */
};

struct sfd_event {
	uint64_t user_data;
	int type;                  /* SFD_EV_INFO, SFD_EV_PROGRESS or SFD_EV_DONE */
	int stat;                  /* SFD_STAT_OK, or, with SFD_EV_DONE, why the request ended otherwise */
	uint64_t bytes;            /* of the file, delivered so far */
	uint64_t written;          /* all bytes put on the destination, headers and trailers included */
	struct sfd_file_info info; /* with SFD_EV_INFO; else zero */
	uint64_t reserved[4];
};

#define SFD_QUEUE_DEPTH_MAX 8192

/*
 * Makes a queue on the connection `srv`, which stays the caller's, and open until sfd_queue_free(). `depth` is how many
 * requests may be outstanding, submitted or not: 1 to SFD_QUEUE_DEPTH_MAX. Does not block: the daemon's consent is
 * awaited by sfd_queue_submit(). If the user has 64 queues already, that is what the requests end with: EDQUOT.
 *
 * Returns the queue, or NULL and errno: EINVAL (depth), EMFILE or ENFILE (a queue takes up to four descriptors), ENOMEM,
 * ECONNREFUSED or ENOTCONN (the daemon is gone), EBADF, ENOTSOCK.
 */
struct sfd_queue *sfd_queue_new(int srv, unsigned depth);

/*
 * Frees it. What is outstanding is abandoned without an event, and the daemon lets go of it within a second; to know
 * when it has stopped writing to a destination cancel first, and wait for SFD_EV_DONE. NULL is no error.
 */
void sfd_queue_free(struct sfd_queue *q);

/*
 * The descriptor to wait for, with poll(2), select(2), epoll(7) in either mode, or an event library: for reading, never
 * to be read from or closed. It is readable while sfd_queue_reap() would return something, and while something that was
 * refused for want of room can be sent: call sfd_queue_reap(), then sfd_queue_submit(). -1 and EPERM in a forked child.
 */
int sfd_queue_fd(const struct sfd_queue *q);

/*
 * Add a request: as sfd_send() and sfd_open() say, of `path` and the range. The path is copied. Nothing is sent before
 * sfd_queue_submit(). `opts` may be NULL. An open's SFD_EV_INFO brings `info.txnid` for sfd_queue_send_open().
 *
 * 0, or -1 and errno, and then there will be no event: EAGAIN (`depth` requests are outstanding, or there is no room for
 * more before a submit: submit, then reap), EINVAL, ENAMETOOLONG, ENOENT (empty path), EBADF (a negative descriptor),
 * EMSGSIZE (see sfd_opts), ECONNREFUSED (the daemon has ended), EDQUOT (it refused the queue), EPERM.
 */
int sfd_queue_send(struct sfd_queue *q, const char *path, int dest_fd, off_t offset, size_t len,
	const struct sfd_opts *opts, uint64_t user_data);
int sfd_queue_open(struct sfd_queue *q, const char *path, off_t offset, size_t len, const struct sfd_opts *opts,
	uint64_t user_data);

/* The same for a file that the caller has open: see sfd_sendfd(). */
int sfd_queue_sendfd(struct sfd_queue *q, int file_fd, int dest_fd, off_t offset, size_t len,
	const struct sfd_opts *opts, uint64_t user_data);

/*
 * Adds the second message: sends a file that sfd_queue_open() of this queue opened. Its SFD_EV_DONE is the open's, and it
 * needs no room of its own in `depth`. 0, or -1 and errno as above; ENOENT if no open of that id waits for it (it has
 * ended, say: then its event is there to be reaped).
 */
int sfd_queue_send_open(struct sfd_queue *q, size_t txnid, int dest_fd, const struct sfd_opts *opts);

/*
 * Ends every outstanding request of that user_data early. It needs no submit, and never fails for want of room: what the
 * socket does not take now is sent by sfd_queue_submit() or sfd_queue_reap(). What was not submitted yet will never be, and its
 * descriptors may be closed. SFD_EV_DONE still comes: OK if it had finished, else ECANCELED. 0, or -1 and errno: ENOENT
 * (nothing of that user_data is outstanding), EPERM.
 */
int sfd_queue_cancel(struct sfd_queue *q, uint64_t user_data);

/*
 * Sends what was added, in order, in as few datagrams as hold it (64 requests or 64 KiB each). Returns how many requests
 * went: all, or, if the daemon's socket was full, the first of them; 0 if there was nothing to send. -1 and errno if none
 * went; nothing is lost. EAGAIN: the socket is full, or the daemon has not consented to the queue yet; sfd_queue_fd() is
 * readable when it is worth trying again. ETOOMANYREFS, ENOBUFS, ENOMEM: the same, for another want; it is readable in a
 * few milliseconds. ECONNREFUSED: the daemon has ended; reap. EDQUOT or another errno with which the daemon refused the
 * queue (none of those above: for want of memory it is ENFILE): reap. EPERM.
 */
int sfd_queue_submit(struct sfd_queue *q);

/*
 * Takes up to `max` events; returns how many, 0 if there are none now. Never blocks. -1 and errno only for EINVAL (max
 * below 1, events NULL) and EPERM.
 */
int sfd_queue_reap(struct sfd_queue *q, struct sfd_event *events, int max);

/*
 * Submits, then waits until there is an event, and reaps. `timeout_ms`: milliseconds at most; 0: does not wait; negative: for
 * ever. Returns how many, 0 if the time ran out, or -1 and errno: EINTR, EINVAL, EPERM, or what poll(2) says. With
 * nothing outstanding it returns 0 at once.
 */
int sfd_queue_wait(struct sfd_queue *q, struct sfd_event *events, int max, int timeout_ms);

#ifdef __cplusplus
}
#endif

#endif
