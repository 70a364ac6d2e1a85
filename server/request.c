/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/request.h"

#include <errno.h>
#include <string.h>

/* What an operation has. */
struct rule {
	bool path;  /* names a file and a range in it */
	bool id;    /* names a transfer */
	bool depth; /* has a length, which is a queue's depth */
	bool alone; /* uses up the status channel, so that no other request can report there */
};

static const struct rule rules[WIRE_OP_END] = {
	[WIRE_OP_SEND] = {.path = true},
	[WIRE_OP_READ] = {.path = true, .alone = true},
	[WIRE_OP_OPEN] = {.path = true},
	[WIRE_OP_SEND_OPEN] = {.id = true},
	[WIRE_OP_CANCEL] = {.id = true},
	[WIRE_OP_PING] = {0},
	[WIRE_OP_REGISTER] = {.depth = true, .alone = true},
};

static int check_path(const struct wire_request *r)
{
	if (r->path_len == 0)
		return ENOENT;
	if (r->path_len > WIRE_PATH_MAX)
		return ENAMETOOLONG;
	return memchr(r->path, '\0', r->path_len) ? EINVAL : 0;
}

static int check_range(const struct wire_request *r)
{
	if (r->offset < 0 || r->length > (uint64_t)(INT64_MAX - r->offset))
		return EINVAL;
	return 0;
}

/*
 * The options of sendfile(2) and beyond have their place on the wire; few are served yet, and none is ignored. A queue says
 * which events it wants; a channel of one datagram gets all frames.
 */
static bool has_options(const struct wire_request *r, const struct wire_header *h)
{
	const uint32_t served = h->channel == WIRE_CHANNEL_QUEUE ? WIRE_FLAG_WANT_INFO | WIRE_FLAG_WANT_PROGRESS : 0;

	return (r->flags & ~served) != 0 || r->headers_len != 0 || r->trailers_len != 0 || r->deadline_ns != 0 ||
	       r->max_rate != 0 || r->readahead != 0 || r->hdr_size_at != 0 || r->hdr_mtime_at != 0;
}

/* A queue's cancel names the request by its tag. */
static bool needs_id(const struct wire_request *r, const struct wire_header *h)
{
	return rules[r->op].id && !(r->op == WIRE_OP_CANCEL && h->channel == WIRE_CHANNEL_QUEUE);
}

int request_check(const struct wire_request *r, const struct wire_header *h)
{
	const struct rule *rule = &rules[r->op];
	int err;

	if (has_options(r, h))
		return EOPNOTSUPP;
	if (rule->alone && h->count != 1)
		return EINVAL;
	if (needs_id(r, h) != (r->txnid != 0))
		return EINVAL;
	if (!rule->path)
		return r->path_len != 0 || r->offset != 0 || (r->length != 0 && !rule->depth) ? EINVAL : 0;
	err = check_path(r);
	return err != 0 ? err : check_range(r);
}
