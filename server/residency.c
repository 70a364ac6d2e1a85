/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/residency.h"

#include "server/os/files.h"

#include <time.h>
#include <unistd.h>

enum {
	TRY_MAX = 64 * 1024,
	PROBE_MAX = 4 * 1024 * 1024, /* a thousand pages, which take less than a millisecond */
	ATIME_DAY = 24 * 60 * 60,    /* relatime's rule, mount(8) */
};

static const uint64_t LOOK_NS = UINT64_C(1000000);

void residency_init(struct residency *r, const struct os_root *root, struct pools *pools)
{
	*r = (struct residency){.root = *root, .pools = pools, .uid = geteuid()};
}

bool residency_allows(struct residency *r, uint64_t now_ns)
{
	if (!r->root.local || !r->root.opens_cached)
		return false;
	if (now_ns - r->looked_ns >= LOOK_NS) {
		r->looked_ns = now_ns;
		r->sick = pool_is_sick(r->pools, r->root.device, now_ns);
	}
	return !r->sick;
}

static bool is_later(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec > b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec > b->tv_nsec);
}

static bool atime_is_due(const struct os_root *root, const struct stat *st)
{
	if (!root->updates_atime)
		return false;
	if (root->strict_atime)
		return true;
	return !is_later(&st->st_atim, &st->st_mtim) || !is_later(&st->st_atim, &st->st_ctim) ||
	       time(NULL) - st->st_atim.tv_sec >= ATIME_DAY;
}

/*
 * The system tells the owner, root, and who may write the file. An access list may let us write too: then nobody asks, and
 * the file takes the longer way.
 */
static bool may_be_told(const struct residency *r, const struct stat *st)
{
	return r->uid == 0 || st->st_uid == r->uid || st->st_mode & (S_IWGRP | S_IWOTH);
}

void residency_describe(const struct residency *r, const struct stat *st, bool parked, struct source_file *f)
{
	f->parked = parked;
	f->device = st->st_dev;
	f->size = st->st_size;
	f->links = st->st_nlink;
	f->is_told = may_be_told(r, st);
	f->local = !parked && !f->is_near && r->root.local && st->st_dev == r->root.device;
	f->atime_due = f->local && atime_is_due(&r->root, st);
}

void residency_was_read(const struct residency *r, struct source_file *f)
{
	f->atime_due = f->atime_due && r->root.strict_atime;
}

/* What may be read ahead of what is sent up to `end`. */
static uint64_t ahead_of(const struct residency *r, const struct source_file *f, int64_t end)
{
	uint64_t rest = f->size > end ? (uint64_t)(f->size - end) : 0;

	return rest < r->root.readahead ? rest : r->root.readahead;
}

enum heat residency_heat(struct residency *r, const struct source_file *f, const struct heat_query *q, uint64_t now_ns)
{
	const uint64_t ahead = ahead_of(r, f, q->offset + (int64_t)q->length);
	const bool tries = !r->root.nowait_waits, copied = q->copied && tries && q->proof == PROOF_USUAL;
	enum os_heat heat = OS_HEAT_UNKNOWN;

	if (!f->local || f->atime_due || !residency_allows(r, now_ns))
		return HEAT_COLD;
	if (r->root.resident)
		return HEAT_HOT;
	if (r->root.tells_heat && f->is_told)
		heat = copied ? os_presence(f->fd, q->offset, q->length, ahead)
			      : os_heat(f->fd, q->offset, q->length, ahead);
	if (heat == OS_HEAT_HOT)
		return copied ? HEAT_TRY : HEAT_HOT;
	if (q->proof == PROOF_CERTAIN || !tries)
		return HEAT_COLD;
	if (q->proof == PROOF_NONE)
		return HEAT_TRY;
	return heat == OS_HEAT_UNKNOWN && q->left <= TRY_MAX ? HEAT_TRY : HEAT_COLD;
}

uint64_t residency_prefix(const struct residency *r, const struct source_file *f, int64_t offset, uint64_t length)
{
	const uint64_t first = OS_PAGE_BYTES - (uint64_t)offset % OS_PAGE_BYTES; /* bytes of the first page */
	uint64_t low = 0, high = 1 + (length > first ? (length - first + OS_PAGE_BYTES - 1) / OS_PAGE_BYTES : 0);

	if (!r->root.tells_heat || !f->is_told)
		return length;
	/* So many pages are there, from the first on; so many and one more are not, or not asked for. */
	while (low < high) {
		const uint64_t middle = low + (high - low + 1) / 2, n = first + (middle - 1) * OS_PAGE_BYTES;

		if (os_presence(f->fd, offset, n < length ? n : length, 0) == OS_HEAT_HOT)
			low = middle;
		else
			high = middle - 1;
	}
	if (low == 0)
		return 0;
	return first + (low - 1) * OS_PAGE_BYTES < length ? first + (low - 1) * OS_PAGE_BYTES : length;
}

/* Page by page; a byte of each is asked for, which begins to read those that are not there. */
static bool all_answer(const struct source_file *f, int64_t offset, uint64_t length)
{
	const int64_t end = offset + (int64_t)length;
	char byte;

	if (length > PROBE_MAX)
		return false;
	for (int64_t at = offset; at < end; at = (at / OS_PAGE_BYTES + 1) * OS_PAGE_BYTES) {
		if (os_read_cached(f->fd, &byte, 1, at) != 1)
			return false;
	}
	return true;
}

bool residency_is_hot(
	struct residency *r, const struct source_file *f, int64_t offset, uint64_t length, uint64_t now_ns)
{
	if (!f->local || f->atime_due || !residency_allows(r, now_ns))
		return false;
	if (r->root.resident || length == 0)
		return true;
	if (r->root.tells_heat && f->is_told) {
		const enum os_heat heat = os_heat(f->fd, offset, length, 0);

		if (heat != OS_HEAT_UNKNOWN)
			return heat == OS_HEAT_HOT;
	}
	return !r->root.nowait_waits && all_answer(f, offset, length);
}

void residency_spare_atime(struct source_file *f)
{
	if (f->atime_due && os_spare_atime(f->fd) == 0)
		f->atime_due = false;
}
