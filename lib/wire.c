/* SPDX-License-Identifier: BSD-2-Clause */
#include "wire.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/*
 * The layouts. They are copied to and from the datagram as a whole, so no field is ever read unaligned, and
 * their sizes are part of the protocol. A new version only appends to struct request_part.
 */
struct header_part {
	uint32_t magic;
	uint16_t version;
	uint16_t count;
	uint32_t length;
	uint32_t channel;
	uint64_t queue_id;
	uint64_t reserved;
};

struct request_part {
	uint32_t size; /* of the whole request, variable part and padding included */
	uint16_t op;
	uint16_t path_len;
	uint64_t tag;
	uint64_t txnid;
	int64_t offset;
	uint64_t length;
	uint32_t flags;
	uint32_t reserved0;
	uint64_t reserved1;
	/* version 1 ends here */
	uint64_t deadline_ns;
	uint64_t max_rate;
	uint32_t headers_len;
	uint32_t trailers_len;
	uint32_t hdr_size_at;
	uint32_t hdr_mtime_at;
	uint32_t readahead;
	uint32_t reserved2;
};

_Static_assert(sizeof(struct header_part) == WIRE_HEADER_SIZE, "header layout");
_Static_assert(sizeof(struct request_part) == WIRE_REQUEST_SIZE, "request layout");
_Static_assert(offsetof(struct request_part, deadline_ns) == WIRE_REQUEST_SIZE_V1, "version 1 layout");
_Static_assert(sizeof(struct wire_same_as) == WIRE_SAME_AS_SIZE, "same_as layout");
_Static_assert(sizeof(struct sfd_file_info) == WIRE_FRAME_SIZE, "frame layout");
_Static_assert(sizeof(struct sfd_xfer_stat) == WIRE_FRAME_SIZE, "frame layout");

static size_t align8(size_t n)
{
	return (n + 7) & ~(size_t)7;
}

/* ---- Encoding */

static size_t unpadded_bytes(const struct wire_request *r)
{
	size_t same_as = r->flags & WIRE_FLAG_SAME_AS ? WIRE_SAME_AS_SIZE : 0;

	return WIRE_REQUEST_SIZE + same_as + r->path_len + r->headers_len + r->trailers_len;
}

size_t wire_request_bytes(const struct wire_request *r)
{
	return align8(unpadded_bytes(r));
}

void wire_put_header(void *buf, const struct wire_header *h, size_t total)
{
	struct header_part p = {
		.magic = WIRE_MAGIC,
		.version = (uint16_t)h->version,
		.count = (uint16_t)h->count,
		.length = (uint32_t)total,
		.channel = (uint32_t)h->channel,
		.queue_id = h->queue_id,
	};

	memcpy(buf, &p, sizeof p);
}

static unsigned char *put_bytes(unsigned char *at, const void *bytes, size_t n)
{
	if (n > 0)
		memcpy(at, bytes, n);
	return at + n;
}

size_t wire_padding(const struct wire_request *r)
{
	return wire_request_bytes(r) - unpadded_bytes(r);
}

size_t wire_put_fixed(void *buf, const struct wire_request *r)
{
	struct request_part p = {
		.size = (uint32_t)wire_request_bytes(r),
		.op = (uint16_t)r->op,
		.path_len = (uint16_t)r->path_len,
		.tag = r->tag,
		.txnid = r->txnid,
		.offset = r->offset,
		.length = r->length,
		.flags = r->flags,
		.deadline_ns = r->deadline_ns,
		.max_rate = r->max_rate,
		.headers_len = r->headers_len,
		.trailers_len = r->trailers_len,
		.hdr_size_at = r->hdr_size_at,
		.hdr_mtime_at = r->hdr_mtime_at,
		.readahead = r->readahead,
	};

	memcpy(buf, &p, sizeof p);
	if (!(r->flags & WIRE_FLAG_SAME_AS))
		return sizeof p;
	memcpy((unsigned char *)buf + sizeof p, &r->same_as, WIRE_SAME_AS_SIZE);
	return sizeof p + WIRE_SAME_AS_SIZE;
}

void wire_put_request(void *buf, const struct wire_request *r)
{
	unsigned char *at = (unsigned char *)buf + wire_put_fixed(buf, r);

	at = put_bytes(at, r->path, r->path_len);
	at = put_bytes(at, r->headers, r->headers_len);
	at = put_bytes(at, r->trailers, r->trailers_len);
	memset(at, 0, wire_padding(r));
}

void wire_set_deadline(void *buf, uint64_t deadline_ns)
{
	memcpy((unsigned char *)buf + offsetof(struct request_part, deadline_ns), &deadline_ns, sizeof deadline_ns);
}

bool wire_places_ok(const struct wire_request *r)
{
	const uint64_t size = r->hdr_size_at, mtime = r->hdr_mtime_at;

	if ((size > 0 && size + WIRE_SIZE_LEN > r->headers_len) ||
		(mtime > 0 && mtime + WIRE_MTIME_LEN > r->headers_len))
		return false;
	return size == 0 || mtime == 0 || size + WIRE_SIZE_LEN <= mtime || mtime + WIRE_MTIME_LEN <= size;
}

/* ---- Decoding */

int wire_get_header(const void *buf, size_t len, struct wire_header *h)
{
	struct header_part p;

	memset(h, 0, sizeof *h);
	if (len < sizeof p)
		return EPROTO;
	memcpy(&p, buf, sizeof p);
	if (p.magic != WIRE_MAGIC)
		return EPROTO;
	h->version = p.version;
	if (p.version < WIRE_VERSION_MIN || p.version > WIRE_VERSION)
		return EPROTONOSUPPORT;
	if (p.length != len || p.count < 1 || p.count > WIRE_COUNT_MAX || p.reserved != 0)
		return EPROTO;
	if (p.channel > WIRE_CHANNEL_QUEUE || (p.channel != WIRE_CHANNEL_QUEUE && p.queue_id != 0))
		return EPROTO;
	h->count = p.count;
	h->channel = (enum wire_channel)p.channel;
	h->queue_id = p.queue_id;
	return 0;
}

uint32_t wire_length(const void *buf)
{
	struct header_part p;

	memcpy(&p, buf, sizeof p);
	return p.length;
}

void wire_cursor_init(struct wire_cursor *c, const void *buf, size_t len, const struct wire_header *h)
{
	c->at = (const unsigned char *)buf + WIRE_HEADER_SIZE;
	c->left = len - WIRE_HEADER_SIZE;
	c->version = h->version;
	c->count = h->count;
}

unsigned wire_op_fds(enum wire_op op)
{
	if (op == WIRE_OP_SENDFD)
		return 2;
	return op == WIRE_OP_SEND || op == WIRE_OP_SEND_OPEN || op == WIRE_OP_REGISTER ? 1 : 0;
}

/* What is known of a request as soon as its fixed part has been read. */
static void take_fixed(struct wire_request *r, const struct request_part *p)
{
	*r = (struct wire_request){
		.op = (enum wire_op)p->op,
		.flags = p->flags,
		.tag = p->tag,
		.txnid = p->txnid,
		.offset = p->offset,
		.length = p->length,
		.deadline_ns = p->deadline_ns,
		.max_rate = p->max_rate,
		.readahead = p->readahead,
		.hdr_size_at = p->hdr_size_at,
		.hdr_mtime_at = p->hdr_mtime_at,
		.path_len = p->path_len,
		.headers_len = p->headers_len,
		.trailers_len = p->trailers_len,
		.fds = wire_op_fds((enum wire_op)p->op),
	};
}

static bool fixed_part_ok(const struct request_part *p, const struct wire_cursor *c)
{
	uint32_t known = c->version == 1 ? 0 : WIRE_FLAGS_ALL;

	return p->size % 8 == 0 && p->size <= c->left && p->op >= 1 && p->op < WIRE_OP_END &&
	       (p->flags & ~known) == 0 && (p->reserved0 | p->reserved1 | p->reserved2) == 0;
}

int wire_next(struct wire_cursor *c, struct wire_request *r)
{
	size_t fixed = c->version == 1 ? WIRE_REQUEST_SIZE_V1 : WIRE_REQUEST_SIZE;
	struct request_part p = {0};
	const unsigned char *at;
	size_t same_as, need;

	memset(r, 0, sizeof *r);
	if (c->count == 0 || c->left < fixed)
		return EPROTO;
	memcpy(&p, c->at, fixed);
	take_fixed(r, &p);
	if (!fixed_part_ok(&p, c))
		return EPROTO;

	/* No sum can wrap: size_t has 64 bits and each term at most 32. */
	same_as = p.flags & WIRE_FLAG_SAME_AS ? WIRE_SAME_AS_SIZE : 0;
	need = fixed + same_as + (size_t)p.path_len + (size_t)p.headers_len + (size_t)p.trailers_len;
	if (align8(need) != p.size)
		return EPROTO;

	r->bytes = c->at;
	at = c->at + fixed;
	if (same_as > 0)
		memcpy(&r->same_as, at, same_as);
	r->path = (const char *)at + same_as;
	r->headers = r->path + p.path_len;
	r->trailers = (const char *)r->headers + p.headers_len;
	c->at += p.size;
	c->left -= p.size;
	c->count--;
	return 0;
}

/* Which requests can report where. */
static bool suits(enum wire_channel channel, enum wire_op op)
{
	const bool second = op == WIRE_OP_SEND_OPEN || op == WIRE_OP_CANCEL;

	switch (channel) {
	case WIRE_CHANNEL_NONE:
		return second;
	case WIRE_CHANNEL_FD:
		return op != WIRE_OP_REGISTER;
	case WIRE_CHANNEL_QUEUE:
		return second || op == WIRE_OP_SEND || op == WIRE_OP_SENDFD || op == WIRE_OP_OPEN ||
		       op == WIRE_OP_REGISTER;
	}
	return false;
}

int wire_check(const void *buf, size_t len, const struct wire_header *h, unsigned fds)
{
	unsigned need = h->channel == WIRE_CHANNEL_FD ? 1 : 0;
	struct wire_cursor c;
	struct wire_request r;

	wire_cursor_init(&c, buf, len, h);
	while (c.count > 0) {
		if (wire_next(&c, &r) != 0)
			return EPROTO;
		if (!suits(h->channel, r.op))
			return EPROTO;
		need += r.fds;
	}
	return c.left == 0 && need == fds ? 0 : EPROTO;
}

/* ---- Response frames: the public structs are the layout */

void wire_put_info(void *frame, const struct sfd_file_info *info)
{
	memcpy(frame, info, WIRE_FRAME_SIZE);
}

void wire_put_stat(void *frame, const struct sfd_xfer_stat *stat)
{
	memcpy(frame, stat, WIRE_FRAME_SIZE);
}

/* ---- A queue's channel */

_Static_assert(sizeof(struct wire_note) == WIRE_NOTE_SIZE, "note layout");

void wire_put_note(void *buf, const struct wire_note *note)
{
	memcpy(buf, note, WIRE_NOTE_SIZE);
}

size_t wire_get_note(const void *buf, size_t len, struct wire_note *note, struct sfd_file_info *info)
{
	if (len < WIRE_NOTE_SIZE)
		return 0;
	memcpy(note, buf, WIRE_NOTE_SIZE);
	if (note->kind == 0 || note->kind >= WIRE_NOTE_END || len < wire_note_bytes(note->kind))
		return 0;
	if (note->kind == WIRE_NOTE_INFO)
		memcpy(info, (const unsigned char *)buf + WIRE_NOTE_SIZE, WIRE_FRAME_SIZE);
	return wire_note_bytes(note->kind);
}

/* ---- The socket */

int wire_default_dir(char *buf, size_t size, uid_t uid, const char *xdg)
{
	int n;

	if (uid == 0)
		n = snprintf(buf, size, "/run/sendfiled");
	else if (xdg && *xdg)
		n = snprintf(buf, size, "%s/sendfiled", xdg);
	else
		return ENOENT;
	return n < 0 || (size_t)n >= size ? ENAMETOOLONG : 0;
}

int wire_socket_path(char *buf, size_t size, const char *dir, const char *name)
{
	int n;

	if (!name || !*name || strchr(name, '/'))
		return EINVAL;
	n = snprintf(buf, size, "%s/sendfiled.%s.socket", dir, name);
	return n < 0 || (size_t)n >= size ? ENAMETOOLONG : 0;
}
