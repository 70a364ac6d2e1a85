/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/helpers.h"

#include "server/child.h"
#include "server/fdpass.h"
#include "server/log.h"
#include "server/loop.h"
#include "server/mailbox.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	LOOK_MS = 1000, /* while there are any: is one stuck? */
};

/* How much later than its worker, which answers the client, the master gives up on a helper. */
static const uint64_t GRACE_NS = UINT64_C(500000000);

static const char *const names[POOL_KINDS] = {"an opener", "a reader", "a writer"};

int helpers_init(struct helpers *h, const struct helpers_config *config)
{
	*h = (struct helpers){.config = *config, .places = pools_places(config->pools)};
	if (pipe2(h->wanted, O_CLOEXEC | O_NONBLOCK) < 0)
		return -1;
	for (unsigned kind = 0; kind < POOL_KINDS; kind++) {
		h->boxes[kind] = h->box_write[kind];
		for (unsigned i = 0; i < h->places; i++) {
			int ends[2];

			if (mailbox_new(ends) < 0)
				return -1;
			h->box_read[kind][i] = ends[0];
			h->box_write[kind][i] = ends[1];
		}
	}
	return 0;
}

void helpers_heed(struct helpers *h)
{
	char bytes[256];

	/* What it says is in shared memory. */
	while (read(h->wanted[0], bytes, sizeof bytes) > 0)
		;
}

/* ---- Starting */

/* 0, or -1 and errno. */
static int start(struct helpers *h, enum pool_kind kind, unsigned index)
{
	const struct helper_config config = {
		.kind = kind,
		.index = index,
		.pools = h->config.pools,
		.box = h->box_read[kind][index],
		.mailboxes = h->config.mailboxes,
		.workers = h->config.workers,
		.life_fd = h->config.life_fd,
		.root = *h->config.root,
		.identity = *h->config.identity,
	};
	pid_t pid = child_fork();

	if (pid == 0)
		helper_main(&config);
	if (pid < 0)
		return -1;
	h->pids[kind][index] = pid;
	h->started_ns[kind][index] = clock_now_ns();
	h->count++;
	return 0;
}

static void start_wanted(struct helpers *h, enum pool_kind kind, unsigned index, uint64_t now_ns)
{
	if (start(h, kind, index) == 0)
		return;
	log_line(LOG_LEVEL_ERROR, "cannot start %s: %s", names[kind], strerror(errno));
	h->respawn_ns[kind] = now_ns + (uint64_t)restart_delay(&h->restart[kind], 0) * 1000000;
	pool_clear(h->config.pools, kind, index);
}

/* Its client has been told; nobody waits for it any more but the kernel, which may let it go some day. */
static void give_up(struct helpers *h, enum pool_kind kind, unsigned index)
{
	log_line(LOG_LEVEL_WARNING,
		"%s (pid %d) has waited for a disk or a file system's server for more than %u ms; replaced",
		names[kind], (int)h->pids[kind][index], h->config.io_timeout_ms);
	h->stuck_ever++;
	kill(h->pids[kind][index], SIGKILL);
}

int helpers_work(struct helpers *h, uint64_t now_ns)
{
	const uint64_t timeout_ns = (uint64_t)h->config.io_timeout_ms * 1000000;
	uint64_t next = UINT64_MAX;

	for (unsigned k = 0; k < POOL_KINDS; k++) {
		for (unsigned i = 0; i < h->places; i++) {
			enum pool_kind kind = (enum pool_kind)k;

			if (h->pids[k][i] != 0) {
				if (pool_check_stuck(h->config.pools, kind, i, now_ns,
					    timeout_ns > 0 ? timeout_ns + GRACE_NS : 0))
					give_up(h, kind, i);
			} else if (pool_is_wanted(h->config.pools, kind, i)) {
				if (h->respawn_ns[k] <= now_ns)
					start_wanted(h, kind, i, now_ns);
				if (h->pids[k][i] == 0 && h->respawn_ns[k] < next)
					next = h->respawn_ns[k];
			}
		}
	}
	if (next != UINT64_MAX && next > now_ns && next - now_ns < (uint64_t)LOOK_MS * 1000000)
		return (int)((next - now_ns) / 1000000) + 1;
	return h->count > 0 || next != UINT64_MAX ? LOOK_MS : -1;
}

/* ---- Ending */

static void note_end(struct helpers *h, enum pool_kind kind, unsigned index, int status)
{
	uint64_t now = clock_now_ns();
	uint64_t age_ms = (now - h->started_ns[kind][index]) / 1000000;
	pid_t pid = h->pids[kind][index];

	h->pids[kind][index] = 0;
	h->count--;
	pool_clear(h->config.pools, kind, index);
	if (h->stopping || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
		return; /* it had nothing to do any more */
	h->deaths++;
	pool_renew(h->config.pools, kind, index);
	h->respawn_ns[kind] = now + (uint64_t)restart_delay(&h->restart[kind], age_ms) * 1000000;
	if (WIFSIGNALED(status))
		log_line(LOG_LEVEL_WARNING, "%s (pid %d) was killed by signal %d; another one does its work",
			names[kind], (int)pid, WTERMSIG(status));
	else
		log_line(LOG_LEVEL_WARNING, "%s (pid %d) left with status %d", names[kind], (int)pid,
			WEXITSTATUS(status));
}

bool helpers_reaped(struct helpers *h, pid_t pid, int status)
{
	for (unsigned kind = 0; kind < POOL_KINDS; kind++) {
		for (unsigned i = 0; i < h->places; i++) {
			if (h->pids[kind][i] != pid)
				continue;
			note_end(h, (enum pool_kind)kind, i, status);
			return true;
		}
	}
	return false;
}

void helpers_worker_died(struct helpers *h, unsigned worker)
{
	for (unsigned kind = 0; kind < POOL_KINDS; kind++) {
		for (unsigned i = 0; i < h->places; i++) {
			struct job_letter letter = {.kind = JOB_NONE, .worker = worker};

			/* If a job was sent there it comes before this letter, which then means nothing. */
			if (pool_worker_died(h->config.pools, (enum pool_kind)kind, i, worker, &letter.seq))
				fdpass_send(h->box_write[kind][i], &letter, sizeof letter, NULL, 0);
		}
	}
}

void helpers_kill(struct helpers *h)
{
	h->stopping = true;
	for (unsigned kind = 0; kind < POOL_KINDS; kind++) {
		for (unsigned i = 0; i < h->places; i++) {
			if (h->pids[kind][i] != 0)
				kill(h->pids[kind][i], SIGKILL);
		}
	}
}

void helpers_stats(const struct helpers *h, struct stats_master *out)
{
	out->helper_deaths = h->deaths;
	out->stuck_ever = h->stuck_ever;
	for (unsigned kind = 0; kind < POOL_KINDS; kind++)
		out->stuck[kind] = pool_stuck(h->config.pools, (enum pool_kind)kind);
}
