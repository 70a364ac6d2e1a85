/* SPDX-License-Identifier: BSD-2-Clause */
/* Time as it passes (CLOCK_MONOTONIC), which is the daemon's too. */
#ifndef SFD_LIB_CLOCK_H
#define SFD_LIB_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static inline int64_t clock_ms(void)
{
	return (int64_t)(clock_ns() / 1000000);
}

#endif
