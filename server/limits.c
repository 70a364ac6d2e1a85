/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/limits.h"

#include "server/log.h"

#include <limits.h>
#include <sys/resource.h>

unsigned limits_transfers(uint64_t limit)
{
	if (limit < FDS_RESERVED + FDS_PER_TRANSFER)
		return 0;
	limit = (limit - FDS_RESERVED) / FDS_PER_TRANSFER;
	return limit > UINT_MAX ? UINT_MAX : (unsigned)limit;
}

unsigned limits_apply(unsigned wanted)
{
	const rlim_t need = (rlim_t)wanted * FDS_PER_TRANSFER + FDS_RESERVED;
	struct rlimit rl, raised;
	unsigned allowed;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
		return wanted;
	if (rl.rlim_cur >= need)
		return wanted;
	/* Root may raise the hard limit too, up to fs.nr_open; others only the soft one, up to the hard. */
	raised = (struct rlimit){.rlim_cur = need, .rlim_max = rl.rlim_max < need ? need : rl.rlim_max};
	if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
		return wanted;
	rl.rlim_cur = rl.rlim_max < need ? rl.rlim_max : need;
	if (setrlimit(RLIMIT_NOFILE, &rl) < 0 && getrlimit(RLIMIT_NOFILE, &rl) < 0)
		return wanted;
	allowed = limits_transfers(rl.rlim_cur);
	if (allowed == 0)
		log_line(LOG_LEVEL_ERROR, "the limit on open files (RLIMIT_NOFILE, ulimit -n) is %llu, too low to serve: raise it to %llu",
			(unsigned long long)rl.rlim_cur, (unsigned long long)need);
	else if (allowed < wanted)
		log_line(LOG_LEVEL_WARNING,
			"the limit on open files (RLIMIT_NOFILE, ulimit -n) is %llu and may not be raised: --max-transfers lowered from "
			"%u to %u",
			(unsigned long long)rl.rlim_cur, wanted, allowed);
	return allowed < wanted ? allowed : wanted;
}
