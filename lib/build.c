/* SPDX-License-Identifier: BSD-2-Clause */
#include "build.h"

#include <errno.h>
#include <string.h>

static const int64_t OFFSET_MAX = INT64_MAX; /* off_t has 64 bits: sendfiled.h sees to that */

enum {
	FLAGS_SERVED = SFD_WANT_INFO | SFD_WANT_PROGRESS,
	FLAGS_KNOWN = FLAGS_SERVED | SFD_NODISKIO | SFD_NOCACHE | SFD_SYNC | SFD_USER_READAHEAD,
};

int build_path_request(struct wire_request *r, const char *path, off_t offset, size_t len)
{
	size_t n;

	if (offset < 0 || len > (uint64_t)(OFFSET_MAX - offset) || !path)
		return EINVAL;
	n = strnlen(path, WIRE_PATH_MAX + 1);
	if (n == 0)
		return ENOENT;
	if (n > WIRE_PATH_MAX)
		return ENAMETOOLONG;
	r->offset = offset;
	r->length = len;
	r->path = path;
	r->path_len = (uint32_t)n;
	return 0;
}

int build_options(struct wire_request *r, const struct sfd_opts *opts)
{
	if (!opts)
		return 0;
	for (size_t i = 0; i < sizeof opts->reserved / sizeof opts->reserved[0]; i++) {
		if (opts->reserved[i] != 0)
			return EINVAL;
	}
	if (opts->flags & ~(unsigned)FLAGS_KNOWN)
		return EINVAL;
	if (opts->flags & ~(unsigned)FLAGS_SERVED || opts->readahead != 0 || opts->headers || opts->hdr_cnt != 0 ||
		opts->trailers || opts->trl_cnt != 0 || opts->timeout_ms != 0 || opts->max_rate != 0 || opts->same_as ||
		opts->hdr_size_at != 0 || opts->hdr_mtime_at != 0)
		return EOPNOTSUPP;
	/* The same bits stand for the same wishes on the wire. */
	r->flags |= opts->flags;
	return 0;
}

_Static_assert((int)SFD_WANT_INFO == (int)WIRE_FLAG_WANT_INFO, "flags");
_Static_assert((int)SFD_WANT_PROGRESS == (int)WIRE_FLAG_WANT_PROGRESS, "flags");
