/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The wire format: request datagrams, response frames, and where the socket lies. Pure functions: no system
 * call, no allocation, no state. The one part of the library that the daemon shares. Every byte is described
 * in doc/sendfiled-protocol.7; whoever changes this file changes that page, and adds a datagram to test/data.
 *
 * All numbers are in the machine's own byte order (both ends are on one machine) and 8-byte aligned parts.
 */
#ifndef SFD_LIB_WIRE_H
#define SFD_LIB_WIRE_H

#include <sendfiled/sendfiled.h>

enum {
	WIRE_VERSION = 2,     /* what this library sends */
	WIRE_VERSION_MIN = 1, /* the oldest that the daemon accepts */

	WIRE_HEADER_SIZE = 32,
	WIRE_REQUEST_SIZE_V1 = 56,
	WIRE_REQUEST_SIZE = 96, /* version 2: the fixed part */
	WIRE_SAME_AS_SIZE = 48,
	WIRE_FIXED_MAX = WIRE_REQUEST_SIZE + WIRE_SAME_AS_SIZE,

	WIRE_COUNT_MAX = 64,           /* requests in a datagram */
	WIRE_DATAGRAM_MAX = 64 * 1024, /* bytes in a datagram */
	WIRE_PATH_MAX = 4095,          /* bytes in a path, which has no NUL on the wire */
	WIRE_TEXT_MAX = 32 * 1024,     /* bytes in path, headers and trailers together */
	WIRE_REQUEST_FDS_MAX = 2,      /* descriptors of one request */

	/* What goes into the headers where the request says so (sfd_opts.hdr_size_at, hdr_mtime_at). */
	WIRE_SIZE_LEN = 20,
	WIRE_MTIME_LEN = 29,

	WIRE_FRAME_SIZE = SFD_MAX_RESP_SIZE,

	WIRE_NOTE_SIZE = 32,    /* of what a queue is told of one request, */
	WIRE_RECORD_MAX = 4096, /* and of how much of that comes in one record of its channel */
	WIRE_DEPTH_MAX = SFD_QUEUE_DEPTH_MAX,
};

#define WIRE_MAGIC UINT32_C(0x46445331) /* "1SDF" read as bytes on a little-endian machine */

/* Operations: the number on the wire. */
enum wire_op {
	WIRE_OP_SEND = 1,
	WIRE_OP_READ = 2,
	WIRE_OP_OPEN = 3,
	WIRE_OP_SEND_OPEN = 4,
	WIRE_OP_CANCEL = 5,
	WIRE_OP_PING = 6,
	WIRE_OP_REGISTER = 7, /* a queue: `length` is its depth; the descriptor is where the answer goes; alone */
	WIRE_OP_SENDFD = 8,   /* no path: the first descriptor is the file, the second the destination */
	WIRE_OP_END           /* one past the last */
};

/* Where the outcomes of a datagram's requests go. */
enum wire_channel {
	WIRE_CHANNEL_NONE = 0, /* nowhere: send-open and cancel, which report on the channel of their transfer */
	WIRE_CHANNEL_FD = 1,   /* to the first descriptor that came along */
	WIRE_CHANNEL_QUEUE = 2 /* to the queue that the header names, as notes */
};

/* A request's flags. Only WIRE_FLAG_SAME_AS changes the layout. */
enum {
	WIRE_FLAG_SAME_AS = 1 << 0, /* a same_as block follows the path */
	WIRE_FLAG_NODISKIO = 1 << 1,
	WIRE_FLAG_NOCACHE = 1 << 2,
	WIRE_FLAG_SYNC = 1 << 3,
	WIRE_FLAG_USER_READAHEAD = 1 << 4,
	WIRE_FLAG_WANT_INFO = 1 << 5,
	WIRE_FLAG_WANT_PROGRESS = 1 << 6,
	WIRE_FLAGS_ALL = (1 << 7) - 1
};

struct wire_header {
	unsigned version;
	unsigned count;
	enum wire_channel channel;
	uint64_t queue_id;
};

/* The file that a request insists on: the fields of sfd_file_info that tell one state of a file from another. */
struct wire_same_as {
	uint64_t dev, ino, file_size;
	int64_t mtime, ctime;
	uint32_t mtime_nsec, ctime_nsec;
};

/* One request, decoded. The pointers point into the datagram; they are not NUL-terminated. */
struct wire_request {
	enum wire_op op;
	uint32_t flags;
	uint64_t tag;
	uint64_t txnid; /* send-open and cancel; else 0. A queue's cancel names the tag instead */
	int64_t offset;
	uint64_t length;      /* 0: to the end of the file */
	uint64_t deadline_ns; /* CLOCK_MONOTONIC; 0: none */
	uint64_t max_rate;    /* bytes per second; 0: unlimited */
	uint32_t readahead;   /* pages */
	uint32_t hdr_size_at, hdr_mtime_at;
	struct wire_same_as same_as; /* with WIRE_FLAG_SAME_AS */
	const char *path;
	uint32_t path_len;
	const void *headers;
	uint32_t headers_len;
	const void *trailers;
	uint32_t trailers_len;
	unsigned fds;      /* descriptors that belong to this request */
	const void *bytes; /* where it begins: wire_request_bytes() of them. (Only of version 2.) */
};

/* ---- Encoding (the library) */

/* How many bytes the request takes in a datagram: a multiple of 8. */
size_t wire_request_bytes(const struct wire_request *r);

/* Writes WIRE_HEADER_SIZE bytes; `total` is the whole datagram's length. */
void wire_put_header(void *buf, const struct wire_header *h, size_t total);

/* Writes wire_request_bytes(r) bytes, the padding zeroed. */
void wire_put_request(void *buf, const struct wire_request *r);

/*
 * Writes its beginning only, WIRE_FIXED_MAX bytes at most: how many. There follow path, headers, trailers, and
 * wire_padding(r) zeroes.
 */
size_t wire_put_fixed(void *buf, const struct wire_request *r);
size_t wire_padding(const struct wire_request *r);

/* Sets the deadline of a request that has been encoded. */
void wire_set_deadline(void *buf, uint64_t deadline_ns);

/* Whether the places for size and modification time, if there are any, lie within the headers and not on each other. */
bool wire_places_ok(const struct wire_request *r);

/* ---- Decoding (the daemon) */

/*
 * Reads a datagram's header. 0; EPROTO: not of this protocol, or a header that contradicts itself or the length;
 * EPROTONOSUPPORT: a version that is not spoken (only `version` is set).
 */
int wire_get_header(const void *buf, size_t len, struct wire_header *h);

/* The length that a header claims; `buf` holds at least WIRE_HEADER_SIZE bytes. */
uint32_t wire_length(const void *buf);

/* A reader over the requests of one datagram. */
struct wire_cursor {
	const unsigned char *at;
	size_t left;
	unsigned version;
	unsigned count; /* requests still to come */
};

void wire_cursor_init(struct wire_cursor *c, const void *buf, size_t len, const struct wire_header *h);

/*
 * Reads the next request's shape: lengths that fit, a known operation, known flags. Returns 0, or EPROTO. After
 * EPROTO the cursor cannot go on, and `r->tag` is set if the fixed part could be read at all (else 0).
 * What the fields say (is the range sane? does the path hold a NUL?) is for the caller to judge.
 */
int wire_next(struct wire_cursor *c, struct wire_request *r);

/*
 * Checks a whole datagram before anything acts on it: every request's shape, the exact total length, and that
 * the number of descriptors that came is exactly the number that its requests need. 0 or EPROTO.
 */
int wire_check(const void *buf, size_t len, const struct wire_header *h, unsigned fds);

/* How many descriptors an operation takes beside the status channel. */
unsigned wire_op_fds(enum wire_op op);

/* ---- Response frames */

void wire_put_info(void *frame, const struct sfd_file_info *info);
void wire_put_stat(void *frame, const struct sfd_xfer_stat *stat);

/* ---- A queue's channel: records of notes, one after the other */

enum wire_note_kind {
	WIRE_NOTE_CHANNEL = 1, /* the one answer to a registration: a descriptor comes with it, the queue's channel */
	WIRE_NOTE_REGISTERED = 2, /* the first note there: requests may be sent */
	WIRE_NOTE_REFUSED = 3,    /* instead of either: `stat` says why, and nothing follows */
	WIRE_NOTE_INFO = 4,       /* a frame of file information follows the note */
	WIRE_NOTE_PROGRESS = 5,
	WIRE_NOTE_DONE = 6,
	WIRE_NOTE_END /* one past the last */
};

/* As it stands in the record. */
struct wire_note {
	uint32_t kind;
	int32_t stat;
	uint64_t tag;     /* the request's */
	uint64_t bytes;   /* of the file */
	uint64_t written; /* to the destination */
};

/* How many bytes a note of that kind takes in a record. */
static inline size_t wire_note_bytes(uint32_t kind)
{
	return kind == WIRE_NOTE_INFO ? WIRE_NOTE_SIZE + WIRE_FRAME_SIZE : WIRE_NOTE_SIZE;
}

/* Writes WIRE_NOTE_SIZE bytes; after a WIRE_NOTE_INFO comes wire_put_info(). */
void wire_put_note(void *buf, const struct wire_note *note);

/*
 * Reads the note at the beginning of what is left of a record. Its whole length, or 0: no note that we know, or not a
 * whole one. What follows a WIRE_NOTE_INFO is copied to `info`.
 */
size_t wire_get_note(const void *buf, size_t len, struct wire_note *note, struct sfd_file_info *info);

/* ---- The socket */

/*
 * The directory that a NULL or missing one stands for: "/run/sendfiled" for uid 0, else "XDG/sendfiled". 0, ENOENT
 * when xdg is needed and NULL or empty, ENAMETOOLONG.
 */
int wire_default_dir(char *buf, size_t size, uid_t uid, const char *xdg);

/* "DIR/sendfiled.NAME.socket". 0, EINVAL (no name, or one that is empty or has a slash), ENAMETOOLONG. */
int wire_socket_path(char *buf, size_t size, const char *dir, const char *name);

#endif
