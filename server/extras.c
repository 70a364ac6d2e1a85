/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/extras.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FLAGS = WIRE_FLAGS_ALL & ~(WIRE_FLAG_WANT_INFO | WIRE_FLAG_WANT_PROGRESS) };

bool extras_wanted(const struct wire_request *r)
{
	return (r->flags & FLAGS) != 0 || r->headers_len != 0 || r->trailers_len != 0 || r->deadline_ns != 0 ||
	       r->max_rate != 0 || r->readahead != 0;
}

/* Of two limits the one that is met first; 0 is none. */
static uint64_t stricter(uint64_t a, uint64_t b)
{
	if (a == 0 || b == 0)
		return a + b;
	return a < b ? a : b;
}

struct extras *extras_new(const struct wire_request *r, const struct extras *before)
{
	static const struct extras none = {0};
	struct extras *x = malloc(sizeof *x + r->headers_len + r->trailers_len);

	if (!x)
		return NULL;
	if (!before)
		before = &none;
	*x = (struct extras){
		.flags = before->flags | r->flags,
		.readahead = r->readahead > before->readahead ? r->readahead : before->readahead,
		.deadline_ns = stricter(r->deadline_ns, before->deadline_ns),
		.max_rate = stricter(r->max_rate, before->max_rate),
		.same_as = r->same_as,
		.head_len = r->headers_len,
		.tail_len = r->trailers_len,
		.size_at = r->hdr_size_at,
		.mtime_at = r->hdr_mtime_at,
	};
	if (r->headers_len > 0)
		memcpy(x->text, r->headers, r->headers_len);
	if (r->trailers_len > 0)
		memcpy(x->text + r->headers_len, r->trailers, r->trailers_len);
	return x;
}

bool extras_same(const struct wire_same_as *meant, const struct stat *st)
{
	return meant->dev == st->st_dev && meant->ino == st->st_ino && meant->file_size == (uint64_t)st->st_size &&
	       meant->mtime == st->st_mtim.tv_sec && meant->mtime_nsec == st->st_mtim.tv_nsec &&
	       meant->ctime == st->st_ctim.tv_sec && meant->ctime_nsec == st->st_ctim.tv_nsec;
}

/* ---- Places in the head */

/* Decimal, with spaces before it. */
static void put_size(unsigned char *at, uint64_t size)
{
	char text[WIRE_SIZE_LEN + 1];

	snprintf(text, sizeof text, "%*llu", (int)WIRE_SIZE_LEN, (unsigned long long)size);
	memcpy(at, text, WIRE_SIZE_LEN);
}

/* An IMF-fixdate (RFC 9110, 5.6.7), in English whatever the locale. Its years have four digits, so later ones are the last. */
static void put_date(unsigned char *at, int64_t when)
{
	static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
	static const char months[][4] = {
		"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	static const int64_t first = INT64_C(-62167219200), last = INT64_C(253402300799); /* of the years 0 and 9999 */
	const time_t t = when < first ? first : when > last ? last : when;
	char text[64];
	struct tm tm;

	gmtime_r(&t, &tm);
	snprintf(text, sizeof text, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday], tm.tm_mday,
		months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
	memcpy(at, text, WIRE_MTIME_LEN);
}

void extras_fill(struct extras *x, uint64_t size, int64_t mtime)
{
	if (x->size_at > 0)
		put_size(x->text + x->size_at, size);
	if (x->mtime_at > 0)
		put_date(x->text + x->mtime_at, mtime);
}
