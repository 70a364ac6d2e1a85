/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/limits.h"

#include "server/log.h"
#include "server/pipes.h"
#include "server/pool.h"
#include "server/registry.h"

#include <limits.h>
#include <sys/resource.h>

enum { QUEUES_SHARE = 16 }; /* of all descriptors one in so many may be a queue's */

unsigned limits_worker_transfers(uint64_t limit, unsigned others)
{
	if (limit < FDS_RESERVED + others)
		return 0;
	limit = (limit - FDS_RESERVED - others) / FDS_PER_TRANSFER;
	return limit > UINT_MAX ? UINT_MAX : (unsigned)limit;
}

unsigned limits_helper_fds(unsigned workers, unsigned readers)
{
	return POOL_KINDS * POOL_PLACES * readers + 2 * pipes_share(workers, readers);
}

unsigned limits_queues(uint64_t limit)
{
	return limit / QUEUES_SHARE > REGISTRY_MAX ? REGISTRY_MAX : (unsigned)(limit / QUEUES_SHARE);
}

uint64_t limits_hard(void)
{
	struct rlimit rl;

	return getrlimit(RLIMIT_NOFILE, &rl) < 0 ? 0 : rl.rlim_max;
}

unsigned limits_transfers(unsigned wanted, unsigned worker_transfers, unsigned workers)
{
	uint64_t together;

	if (worker_transfers <= BATCH_RESERVED)
		return 0;
	together = (uint64_t)(worker_transfers - BATCH_RESERVED) * workers;
	return together < wanted ? (unsigned)together : wanted;
}

/* The limit that is in force afterwards. */
static rlim_t raise_limit(rlim_t need)
{
	struct rlimit rl, raised;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0 || rl.rlim_cur >= need)
		return need;
	/* Root may raise the hard limit too, up to fs.nr_open; others only the soft one, up to the hard. */
	raised = (struct rlimit){.rlim_cur = need, .rlim_max = rl.rlim_max < need ? need : rl.rlim_max};
	if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
		return need;
	raised = (struct rlimit){.rlim_cur = rl.rlim_max, .rlim_max = rl.rlim_max};
	return setrlimit(RLIMIT_NOFILE, &raised) == 0 ? raised.rlim_cur : rl.rlim_cur;
}

unsigned limits_apply(unsigned wanted, unsigned workers, unsigned others, unsigned *worker_transfers)
{
	const rlim_t need = ((rlim_t)wanted + BATCH_RESERVED) * FDS_PER_TRANSFER + FDS_RESERVED + others;
	rlim_t limit = raise_limit(need);
	unsigned allowed;

	*worker_transfers = limits_worker_transfers(limit, others);
	allowed = limits_transfers(wanted, *worker_transfers, workers);
	if (allowed == 0)
		log_line(LOG_LEVEL_ERROR,
			"the limit on open files (RLIMIT_NOFILE, ulimit -n) is %llu, too low to serve: raise it to %llu",
			(unsigned long long)limit, (unsigned long long)need);
	else if (allowed < wanted)
		log_line(LOG_LEVEL_WARNING,
			"the limit on open files (RLIMIT_NOFILE, ulimit -n) is %llu and may not be raised: --max-transfers lowered from "
			"%u to %u",
			(unsigned long long)limit, wanted, allowed);
	return allowed;
}
