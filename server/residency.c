/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/residency.h"

#include "server/os/files.h"

#include <time.h>
#include <unistd.h>

enum {
	TRY_MAX = 64 * 1024,
	ATIME_DAY = 24 * 60 * 60, /* relatime's rule, mount(8) */
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
	f->local = !parked && r->root.local && st->st_dev == r->root.device;
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

enum heat residency_heat(struct residency *r, const struct source_file *f, int64_t offset, uint64_t n, uint64_t left,
	bool copied, uint64_t now_ns)
{
	const bool tries = !r->root.nowait_waits;

	if (!f->local || f->atime_due || !residency_allows(r, now_ns))
		return HEAT_COLD;
	if (r->root.resident)
		return HEAT_HOT;
	if (r->root.tells_heat && f->is_told) {
		const uint64_t ahead = ahead_of(r, f, offset + (int64_t)n);

		switch (copied && tries ? os_presence(f->fd, offset, n, ahead) : os_heat(f->fd, offset, n, ahead)) {
		case OS_HEAT_HOT:
			return copied && tries ? HEAT_TRY : HEAT_HOT;
		case OS_HEAT_COLD:
			return HEAT_COLD;
		case OS_HEAT_UNKNOWN:
			break;
		}
	}
	return left <= TRY_MAX && tries ? HEAT_TRY : HEAT_COLD;
}
