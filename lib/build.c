/* SPDX-License-Identifier: BSD-2-Clause */
#include "build.h"

#include "clock.h"

#include <errno.h>
#include <string.h>

static const int64_t OFFSET_MAX = INT64_MAX; /* off_t has 64 bits: sendfiled.h sees to that */

enum {
	FLAGS_KNOWN = SFD_NODISKIO | SFD_NOCACHE | SFD_SYNC | SFD_USER_READAHEAD | SFD_WANT_INFO | SFD_WANT_PROGRESS,
};

/* The same bits stand for the same wishes on the wire. */
_Static_assert((int)FLAGS_KNOWN == ((int)WIRE_FLAGS_ALL & ~(int)WIRE_FLAG_SAME_AS), "flags");
_Static_assert((int)SFD_NODISKIO == (int)WIRE_FLAG_NODISKIO && (int)SFD_NOCACHE == (int)WIRE_FLAG_NOCACHE, "flags");
_Static_assert((int)SFD_SYNC == (int)WIRE_FLAG_SYNC, "flags");
_Static_assert((int)SFD_USER_READAHEAD == (int)WIRE_FLAG_USER_READAHEAD, "flags");
_Static_assert((int)SFD_WANT_INFO == (int)WIRE_FLAG_WANT_INFO, "flags");

int build_range(struct build *b, off_t offset, size_t len)
{
	if (offset < 0 || len > (uint64_t)(OFFSET_MAX - offset))
		return EINVAL;
	b->wire.offset = offset;
	b->wire.length = len;
	return 0;
}

int build_path(struct build *b, const char *path, off_t offset, size_t len)
{
	int err = build_range(b, offset, len);
	size_t n;

	if (err != 0 || !path)
		return EINVAL;
	n = strnlen(path, WIRE_PATH_MAX + 1);
	if (n == 0)
		return ENOENT;
	if (n > WIRE_PATH_MAX)
		return ENAMETOOLONG;
	b->wire.path = path;
	b->wire.path_len = (uint32_t)n;
	return 0;
}

/* How long all of them are together; `*room` is what there is, and then what is left. 0, EINVAL, or EMSGSIZE. */
static int measure(const struct iovec *iov, int count, uint32_t *length, size_t *room)
{
	*length = 0;
	if (count < 0 || count > BUILD_IOVECS_MAX || (count > 0 && !iov))
		return EINVAL;
	for (int i = 0; i < count; i++) {
		if (!iov[i].iov_base && iov[i].iov_len > 0)
			return EINVAL;
		if (iov[i].iov_len > *room)
			return EMSGSIZE;
		*length += (uint32_t)iov[i].iov_len;
		*room -= iov[i].iov_len;
	}
	return 0;
}

static int set_texts(struct build *b, const struct sfd_opts *opts)
{
	size_t room = WIRE_TEXT_MAX - b->wire.path_len;
	int err = measure(opts->headers, opts->hdr_cnt, &b->wire.headers_len, &room);

	if (err == 0)
		err = measure(opts->trailers, opts->trl_cnt, &b->wire.trailers_len, &room);
	if (err != 0)
		return err;
	b->headers = opts->headers;
	b->header_count = (unsigned)opts->hdr_cnt;
	b->trailers = opts->trailers;
	b->trailer_count = (unsigned)opts->trl_cnt;
	b->wire.hdr_size_at = opts->hdr_size_at;
	b->wire.hdr_mtime_at = opts->hdr_mtime_at;
	return wire_places_ok(&b->wire) ? 0 : EINVAL;
}

static void set_same_as(struct wire_request *r, const struct sfd_file_info *info)
{
	r->flags |= WIRE_FLAG_SAME_AS;
	r->same_as = (struct wire_same_as){
		.dev = info->dev,
		.ino = info->ino,
		.file_size = info->file_size,
		.mtime = info->mtime,
		.ctime = info->ctime,
		.mtime_nsec = info->mtime_nsec,
		.ctime_nsec = info->ctime_nsec,
	};
}

/* An open sends nothing; and what a second message sends is open already. */
static bool suits(const struct sfd_opts *opts, enum wire_op op)
{
	if (op == WIRE_OP_OPEN && (opts->hdr_cnt != 0 || opts->trl_cnt != 0))
		return false;
	return op != WIRE_OP_SEND_OPEN || !opts->same_as;
}

int build_options(struct build *b, const struct sfd_opts *opts)
{
	struct wire_request *r = &b->wire;

	if (!opts)
		return 0;
	for (size_t i = 0; i < sizeof opts->reserved / sizeof opts->reserved[0]; i++) {
		if (opts->reserved[i] != 0)
			return EINVAL;
	}
	if (opts->flags & ~(unsigned)FLAGS_KNOWN || !suits(opts, r->op))
		return EINVAL;
	r->flags |= opts->flags;
	r->readahead = opts->readahead;
	r->max_rate = opts->max_rate;
	b->timeout_ms = opts->timeout_ms;
	if (opts->same_as)
		set_same_as(r, opts->same_as);
	return set_texts(b, opts);
}

uint64_t build_deadline_ns(unsigned timeout_ms)
{
	return timeout_ms > 0 ? clock_ns() + (uint64_t)timeout_ms * 1000000 : 0;
}

static unsigned put_piece(struct iovec *iov, unsigned n, const void *bytes, size_t len)
{
	if (len == 0)
		return n;
	iov[n] = (struct iovec){.iov_base = (void *)bytes, .iov_len = len};
	return n + 1;
}

unsigned build_pieces(const struct build *b, void *fixed, struct iovec iov[BUILD_PIECES_MAX])
{
	static const char zeroes[8];
	unsigned n = put_piece(iov, 0, fixed, wire_put_fixed(fixed, &b->wire));

	n = put_piece(iov, n, b->wire.path, b->wire.path_len);
	for (unsigned i = 0; i < b->header_count; i++)
		n = put_piece(iov, n, b->headers[i].iov_base, b->headers[i].iov_len);
	for (unsigned i = 0; i < b->trailer_count; i++)
		n = put_piece(iov, n, b->trailers[i].iov_base, b->trailers[i].iov_len);
	return put_piece(iov, n, zeroes, wire_padding(&b->wire));
}
