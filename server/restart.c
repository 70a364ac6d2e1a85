/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/restart.h"

uint32_t restart_delay(struct restart *r, uint64_t age_ms)
{
	if (age_ms >= RESTART_YOUNG_MS)
		r->delay_ms = 0;
	else if (r->delay_ms == 0)
		r->delay_ms = RESTART_FIRST_MS;
	else if (r->delay_ms < RESTART_LONGEST_MS / 2)
		r->delay_ms *= 2;
	else
		r->delay_ms = RESTART_LONGEST_MS;
	return r->delay_ms;
}
