/* SPDX-License-Identifier: BSD-2-Clause */
/* Workers that the kernel holds on to: found, replaced, and reported. */
#include "server/log.h"
#include "server/loop.h"
#include "server/master_state.h"
#include "server/os/process.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

enum {
	LOOK_MS = 500,
	WATCH_MS = 1000,
	KILL_MOMENT_MS = 100,
	TOO_MANY = SPARE_JOURNALS / SHARES_BARRED_MAX,
};

static unsigned held_by(const struct master *m, uid_t uid)
{
	unsigned n = 0;

	for (unsigned i = 0; i < SPARE_JOURNALS; i++)
		n += m->stuck[i].pid != 0 && m->stuck[i].uid == uid;
	return n;
}

/* One user must not use up the places of all: beyond its part of them it is not served until the kernel lets go of some. */
static void bar_users(struct master *m)
{
	uid_t uids[SHARES_BARRED_MAX] = {0};
	unsigned n = 0;

	for (unsigned i = 0; i < SPARE_JOURNALS && n < SHARES_BARRED_MAX; i++) {
		const struct stuck *s = &m->stuck[i];

		if (s->pid != 0 && held_by(m, s->uid) >= TOO_MANY && (n == 0 || uids[0] != s->uid))
			uids[n++] = s->uid;
	}
	shares_bar(m->shares, uids, n);
}

static void note_late_death(struct master *m, struct stuck *s)
{
	log_line(LOG_LEVEL_INFO, "a worker that was stuck (pid %d) is gone", (int)s->pid);
	registry_bury(&m->registry, s->journal, true);
	journal_clear(s->journal);
	m->spare[m->spares++] = s->journal;
	*s = (struct stuck){0};
	bar_users(m);
}

static struct stuck *find(struct master *m, pid_t pid)
{
	for (unsigned i = 0; i < SPARE_JOURNALS; i++) {
		if (m->stuck[i].pid == pid)
			return &m->stuck[i];
	}
	return NULL;
}

bool stuck_reaped(struct master *m, pid_t pid)
{
	struct stuck *s = find(m, pid);

	if (s)
		note_late_death(m, s);
	return s != NULL;
}

unsigned stuck_count(const struct master *m)
{
	return SPARE_JOURNALS - m->spares;
}

int stuck_report(struct master *m, uint64_t now)
{
	if (m->registry.count == 0)
		return -1;
	if (now < m->look_ns)
		return (int)((m->look_ns - now) / 1000000) + 1;
	m->look_ns = now + (uint64_t)LOOK_MS * 1000000;
	for (unsigned i = 0; i < SPARE_JOURNALS; i++) {
		struct stuck *s = &m->stuck[i];
		enum os_fate fate = s->pid != 0 ? os_fate(s->pid) : OS_RUNS;

		if (fate == OS_LEAVING && s->reported != OS_LEAVING) {
			s->reported = fate;
			registry_bury(&m->registry, s->journal, true);
		}
	}
	for (unsigned i = 0; i < m->config->workers; i++) {
		struct child *child = &m->children[i];
		const struct journal *j = child->journal;
		uint64_t position = journal_position(j);
		enum os_fate fate = OS_RUNS;

		if (child->pid != 0 && position != 0 && position == child->position)
			fate = os_fate(child->pid);
		child->position = position;
		if (fate > child->reported) {
			child->reported = fate;
			registry_bury(&m->registry, j, fate == OS_LEAVING);
		}
	}
	return LOOK_MS;
}

/* A moment, in which a process that can end does; SIGCHLD ends the wait. True if it is gone, and reaped as usual. */
static bool is_gone_soon(struct master *m, unsigned slot)
{
	const pid_t pid = m->children[slot].pid;
	const uint64_t deadline = clock_now_ns() + (uint64_t)KILL_MOMENT_MS * 1000000;
	siginfo_t info;

	for (;;) {
		const struct timespec moment = {.tv_nsec = 1000000};

		info.si_pid = 0;
		if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid)
			return true;
		if (clock_now_ns() >= deadline)
			return false;
		nanosleep(&moment, NULL);
	}
}

/*
 * What the kernel holds on to keeps its descriptors, and ends when it is let go. Its place is given to another, with an empty
 * journal.
 */
static void replace_stuck(struct master *m, unsigned slot, enum watch_verdict verdict)
{
	struct child *child = &m->children[slot];
	const uint64_t client = counter_get(&m->stats[slot].client), silent = child->watch.silent_ns;
	struct stuck *place = find(m, 0);

	child->watch = (struct watch){0};
	log_line(LOG_LEVEL_ERROR,
		"worker %u (pid %d) has been stuck for %llu s, %s, with a request of uid %u, pid %u; it is killed and replaced",
		slot, (int)child->pid, (unsigned long long)(silent / 1000000000),
		verdict == WATCH_WAITS ? "waiting in the kernel" : "using the processor", (unsigned)(client >> 32),
		(unsigned)client);
	kill(child->pid, SIGKILL);
	if (is_gone_soon(m, slot))
		return; /* SIGCHLD says the rest */
	if (!place || m->spares == 0) {
		log_line(LOG_LEVEL_ERROR,
			"worker %u cannot be replaced before the kernel lets go of it: %d others wait for that, too",
			slot, SPARE_JOURNALS);
		return;
	}
	*place = (struct stuck){
		.pid = child->pid, .uid = (uid_t)(client >> 32), .journal = child->journal, .reported = OS_KILLED};
	bar_users(m);
	if (held_by(m, place->uid) == TOO_MANY && share_is_barred(m->shares, place->uid))
		log_line(LOG_LEVEL_ERROR, "uid %u is not served while %d workers are stuck with its requests",
			(unsigned)place->uid, TOO_MANY);
	master_forget_worker(m, slot, 0, false);
	child->journal = m->spare[--m->spares];
}

int stuck_watch(struct master *m, uint64_t now)
{
	const uint64_t each = (uint64_t)WATCH_MS * 1000000;
	struct watch_query look = {
		.passed_ns = watch_passed(m->watched_ns, now, each),
		.patience_ns = (uint64_t)m->config->options->worker_timeout_ms * 1000000,
		.look = os_view_process,
	};

	if (look.patience_ns == 0)
		return -1;
	if (now - m->watched_ns < each)
		return (int)((m->watched_ns + each - now) / 1000000) + 1;
	m->watched_ns = now;
	for (unsigned i = 0; i < m->config->workers; i++) {
		struct child *child = &m->children[i];
		enum watch_verdict verdict;

		if (child->pid == 0)
			continue;
		look.pid = child->pid;
		look.position = journal_position(child->journal);
		verdict = watch_judge(&child->watch, &look);
		if (verdict != WATCH_WORKS)
			replace_stuck(m, i, verdict);
	}
	return WATCH_MS;
}
