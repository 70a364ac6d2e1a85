/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/request.h"

#include <errno.h>
#include <string.h>

/* What an operation has. */
struct rule {
	bool path;    /* names a file, */
	bool range;   /* and a part of it */
	bool id;      /* names a transfer */
	bool depth;   /* has a length, which is a queue's depth */
	bool alone;   /* uses up the status channel, so that no other request can report there */
	bool options; /* takes options: all that have to do with moving bytes, */
	bool texts;   /* headers and trailers among them */
	bool opens;   /* it can be asked whether the file is the one that is meant */
};

static const struct rule rules[WIRE_OP_END] = {
	[WIRE_OP_SEND] = {.path = true, .range = true, .options = true, .texts = true, .opens = true},
	[WIRE_OP_SENDFD] = {.range = true, .options = true, .texts = true, .opens = true},
	[WIRE_OP_READ] = {.path = true, .range = true, .alone = true},
	[WIRE_OP_OPEN] = {.path = true, .range = true, .options = true, .opens = true},
	[WIRE_OP_SEND_OPEN] = {.id = true, .options = true, .texts = true},
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

/* 0; EINVAL: an option that the operation has not; EMSGSIZE: more text than there may be. */
static int check_options(const struct wire_request *r, const struct rule *rule)
{
	const uint64_t texts = (uint64_t)r->headers_len + r->trailers_len;

	if (!rule->options && (r->flags != 0 || r->deadline_ns != 0 || r->max_rate != 0 || r->readahead != 0))
		return EINVAL;
	if (!rule->texts && texts != 0)
		return EINVAL;
	if (!rule->opens && r->flags & WIRE_FLAG_SAME_AS)
		return EINVAL;
	if (!wire_places_ok(r))
		return EINVAL;
	return r->path_len + texts > WIRE_TEXT_MAX ? EMSGSIZE : 0;
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

	if (rule->alone && h->count != 1)
		return EINVAL;
	if (needs_id(r, h) != (r->txnid != 0))
		return EINVAL;
	if (!rule->path && r->path_len != 0)
		return EINVAL;
	if (!rule->range && (r->offset != 0 || (r->length != 0 && !rule->depth)))
		return EINVAL;
	err = rule->path ? check_path(r) : 0;
	if (err == 0 && rule->range)
		err = check_range(r);
	return err != 0 ? err : check_options(r, rule);
}
