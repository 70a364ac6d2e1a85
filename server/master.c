/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/child.h"
#include "server/log.h"
#include "server/loop.h"
#include "server/mailbox.h"
#include "server/master_state.h"
#include "server/os/process.h"
#include "server/pace.h"
#include "server/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	STOP_TIMEOUT_MS = 5000,   /* workers that have not gone by then are killed */
	KILL_TIMEOUT_MS = 2000,   /* and those that even so do not go are stuck in the kernel */
	HELPERS_TIMEOUT_MS = 200, /* for helpers, who have nothing to finish; some may be stuck */
	START_TIMEOUT_MS = 9000,
};

static const int handled[] = {SIGTERM, SIGINT, SIGCHLD, SIGUSR1, SIGHUP};

enum { HANDLED = sizeof handled / sizeof handled[0] };

/* Signals arrive as bytes on a pipe, so that they can be waited for along with the rest. */
static int signal_pipe[2] = {-1, -1};

static void on_signal(int signo)
{
	int saved = errno;
	unsigned char byte = (unsigned char)signo;

	/* Full: enough of them wait already. */
	if (write(signal_pipe[1], &byte, 1) < 0)
		errno = saved;
	errno = saved;
}

static int set_signals(void)
{
	struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	sigset_t none;

	if (pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) < 0)
		return -1;
	for (int i = 0; i < HANDLED; i++)
		sigaction(handled[i], &sa, NULL);
	sa.sa_handler = SIG_IGN; /* our own log lines, to a terminal that is not ours at the moment */
	sigaction(SIGTTOU, &sa, NULL);
	sigemptyset(&none);
	return sigprocmask(SIG_SETMASK, &none, NULL);
}

/* ---- Children */

/* Of what every worker has: the last thing that was made before the first of them. */
static int highest_fd(const struct master *m)
{
	int highest = m->registry.box[1];

	for (unsigned kind = 0; kind < POOL_KINDS; kind++) {
		for (unsigned i = 0; i < pools_places(m->pools); i++)
			highest = m->helpers.box_write[kind][i] > highest ? m->helpers.box_write[kind][i] : highest;
	}
	return highest;
}

static struct worker_config worker_config(const struct master *m, unsigned slot, int ready_fd)
{
	const struct master_config *config = m->config;

	return (struct worker_config){
		.slot = slot,
		.generation = m->children[slot].generation,
		.workers = config->workers,
		.max_transfers = config->max_transfers,
		.worker_transfers = config->worker_transfers,
		.open_timeout_ms = config->options->open_timeout_ms,
		.io_timeout_ms = config->options->io_timeout_ms,
		.idle_timeout_ms = config->options->idle_timeout_ms,
		.max_readahead = config->options->max_readahead,
		.user_paces = m->user_paces,
		.shares = m->shares,
		.touches = m->touches,
		.busy_poll_us = os_cpu_quota() < 200 ? 0 : config->options->busy_poll_us,
		.readers = config->options->readers,
		.max_pipes = config->max_pipes,
		.request_sock = config->listener->sock,
		.life_fd = m->life[0],
		.ready_fd = ready_fd,
		.mail_fd = m->mail_read[slot],
		.mailboxes = m->mail_write,
		.master_fd = m->helpers.wanted[1],
		.highest_fd = highest_fd(m),
		.registry_box = m->registry.box[1],
		.registry = &m->registry,
		.journal = m->children[slot].journal,
		.boxes = m->helpers.boxes,
		.pools = m->pools,
		.root = config->root,
		.stats = m->stats,
		.access = config->access,
		.identity = *config->identity,
	};
}

/* 0, or -1 and errno. `ready_fd` gets a byte when the worker serves. */
static int start_worker(struct master *m, unsigned slot, int ready_fd)
{
	struct child *child = &m->children[slot];
	pid_t pid;

	child->generation++;
	atomic_store_explicit(&m->stats[slot].generation, child->generation, memory_order_release);
	pid = child_fork();
	if (pid == 0) {
		const struct worker_config config = worker_config(m, slot, ready_fd);

		worker_main(&config);
	}
	if (pid < 0)
		return -1;
	child->pid = pid;
	child->position = 0;
	child->watch = (struct watch){0};
	child->reported = OS_RUNS;
	child->started_ns = clock_now_ns();
	return 0;
}

/* A replacement tells nobody that it is ready. */
static void replace_worker(struct master *m, unsigned slot)
{
	struct child *child = &m->children[slot];
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (null >= 0 && start_worker(m, slot, null) == 0) {
		m->restarts++;
	} else {
		log_line(LOG_LEVEL_ERROR, "cannot replace worker %u: %s", slot, strerror(errno));
		child->respawn_ns = clock_now_ns() + (uint64_t)restart_delay(&child->restart, 0) * 1000000;
	}
	if (null >= 0)
		close(null);
}

/* A full mailbox is passed over: whoever has so much mail is awake, or will look around when it is. */
static void mail_all(const struct master *m, enum mail_kind kind)
{
	const struct mail letter = {.kind = kind};

	for (unsigned i = 0; i < m->config->workers; i++)
		mailbox_send(m->mail_write[i], &letter, -1);
}

void master_forget_worker(struct master *m, unsigned slot, uint32_t delay, bool gone)
{
	struct child *child = &m->children[slot];

	touches_release(m->touches, slot, child->pid);
	child->pid = 0;
	child->respawn_ns = clock_now_ns() + (uint64_t)delay * 1000000;
	atomic_compare_exchange_strong(&m->stats[0].polling, &(uint32_t){slot + 1}, 0);
	/* What it held is gone, and it works on nothing; all else in its column is a sum over time. */
	atomic_store_explicit(&m->stats[slot].active, 0, memory_order_relaxed);
	stats_no_client(&m->stats[slot]);
	/* The others learn that its copies are closed, and one of them takes the wakeup that may have died with it. */
	atomic_store_explicit(&m->stats[slot].generation, child->generation + 1, memory_order_release);
	child->generation++;
	shares_bury(m->shares, slot);
	helpers_worker_died(&m->helpers, slot);
	registry_bury(&m->registry, child->journal, gone);
	mail_all(m, MAIL_POKE);
}

static void note_death(struct master *m, unsigned slot, int status)
{
	struct child *child = &m->children[slot];
	uint64_t now = clock_now_ns();
	uint32_t delay = restart_delay(&child->restart, (now - child->started_ns) / 1000000);

	if (WIFSIGNALED(status))
		log_line(LOG_LEVEL_WARNING,
			"worker %u (pid %d) was killed by signal %d; its clients see end-of-file; replaced in %u ms",
			slot, (int)child->pid, WTERMSIG(status), delay);
	else
		log_line(LOG_LEVEL_WARNING,
			"worker %u (pid %d) left with status %d; its clients see end-of-file; replaced in %u ms", slot,
			(int)child->pid, WEXITSTATUS(status), delay);
	master_forget_worker(m, slot, delay, true);
	journal_clear(child->journal);
}

/* Reaps what has ended; the slot of a worker, -1 if there is none left to reap. */
static int reap(struct master *m, int *status)
{
	pid_t pid;

	while ((pid = waitpid(-1, status, WNOHANG)) > 0) {
		uint32_t gone = (uint32_t)pid;

		atomic_compare_exchange_strong(&m->stats[0].refusing, &gone, 0);
		for (unsigned i = 0; i < m->config->workers; i++) {
			if (m->children[i].pid == pid)
				return (int)i;
		}
		if (!logger_reaped(&m->logger, pid) && !stuck_reaped(m, pid) &&
			helpers_reaped(&m->helpers, pid, *status))
			mail_all(m, MAIL_POKE); /* its job is to be given to another */
	}
	return -1;
}

static unsigned count_children(const struct master *m)
{
	unsigned n = 0;

	for (unsigned i = 0; i < m->config->workers; i++)
		n += m->children[i].pid != 0;
	return n;
}

static void signal_children(const struct master *m, int signo)
{
	for (unsigned i = 0; i < m->config->workers; i++) {
		if (m->children[i].pid != 0)
			kill(m->children[i].pid, signo);
	}
}

static void log_counters(const struct master *m)
{
	struct stats_master own = {.restarts = m->restarts};

	helpers_stats(&m->helpers, &own);
	stats_log(m->stats, m->config->workers, &own);
}

/* True if it says to stop. */
static bool handle_signals(struct master *m)
{
	unsigned char bytes[64];
	ssize_t n = read(signal_pipe[0], bytes, sizeof bytes);
	bool stop = false;

	for (ssize_t i = 0; i < n; i++) {
		if (bytes[i] == SIGUSR1)
			log_counters(m);
		else if (bytes[i] == SIGTERM || bytes[i] == SIGINT)
			stop = true;
	}
	return stop;
}

/* ---- Start */

static int make_mailboxes(struct master *m)
{
	for (unsigned i = 0; i < m->config->workers; i++) {
		int ends[2];

		if (mailbox_new(ends) < 0)
			return -1;
		m->mail_read[i] = ends[0];
		m->mail_write[i] = ends[1];
	}
	return 0;
}

/* Waits until every worker has said that it serves: 0, or an errno. Their write ends are the only ones left. */
static int await_workers(struct master *m, int ready)
{
	uint64_t deadline = clock_now_ns() + (uint64_t)START_TIMEOUT_MS * 1000000;
	struct pollfd p[2] = {{.fd = ready, .events = POLLIN}, {.fd = signal_pipe[0], .events = POLLIN}};
	unsigned missing = m->config->workers;
	char bytes[WORKERS_MAX];

	while (missing > 0) {
		uint64_t now = clock_now_ns();
		ssize_t n;

		if (now >= deadline)
			return ETIMEDOUT;
		if (poll(p, 2, (int)((deadline - now) / 1000000) + 1) <= 0)
			continue; /* a signal, which the pipe tells of; or too late, which the clock does */
		if (p[1].revents != 0 && handle_signals(m))
			return EINTR;
		if (p[0].revents == 0)
			continue;
		n = read(ready, bytes, missing);
		if (n == 0)
			return ECHILD; /* one left before it served, and has said why */
		if (n > 0)
			missing -= (unsigned)n;
		else if (errno != EINTR)
			return errno;
	}
	return 0;
}

static int start_workers(struct master *m)
{
	int ready[2];
	int err = 0;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return errno;
	for (unsigned i = 0; i < m->config->workers && err == 0; i++) {
		if (start_worker(m, i, ready[1]) < 0)
			err = errno;
	}
	close(ready[1]);
	if (err == 0)
		err = await_workers(m, ready[0]);
	close(ready[0]);
	if (err != 0)
		log_line(LOG_LEVEL_ERROR, "cannot start the workers: %s", strerror(err));
	return err;
}

static int prepare_helpers(struct master *m)
{
	const struct master_config *config = m->config;
	const struct helpers_config helpers = {
		.pools = m->pools,
		.mailboxes = m->mail_write,
		.workers = config->workers,
		.life_fd = m->life[0],
		.io_timeout_ms = config->options->io_timeout_ms,
		.root = config->root,
		.identity = config->identity,
	};

	return helpers_init(&m->helpers, &helpers);
}

/* A line for each transfer, and for outcomes that are not read: all that a user's queues may have outstanding. */
static int prepare_queues(struct master *m)
{
	const struct master_config *config = m->config;

	m->journals = journals_new(
		config->workers + SPARE_JOURNALS, 2 * config->worker_transfers + REGISTRY_UID_MAX * WIRE_DEPTH_MAX);
	if (!m->journals)
		return -1;
	for (unsigned i = 0; i < config->workers; i++)
		m->children[i].journal = journal_of(m->journals, i);
	for (; m->spares < SPARE_JOURNALS; m->spares++)
		m->spare[m->spares] = journal_of(m->journals, config->workers + m->spares);
	return registry_init(
		&m->registry, m->mail_write, config->workers, config->max_queues, config->options->shared_ids);
}

static int prepare(struct master *m)
{
	const struct options *o = m->config->options;
	const struct share_limits limits = {
		.transfers = o->max_transfers_per_user,
		.opens = o->max_opens_per_user,
		.queued = o->max_queued_per_user,
		.requests = o->max_requests_per_user,
		.starter = m->config->access->starter,
	};

	m->shares = shares_new(&limits, m->config->workers);
	m->touches = touches_new();
	m->stats = stats_new(m->config->workers);
	m->pools = pools_new(o->readers, o->readers_per_device);
	m->user_paces = o->max_rate_per_user > 0 ? user_paces_new(o->max_rate_per_user) : NULL;
	if (!m->shares || !m->touches || !m->stats || !m->pools || (o->max_rate_per_user > 0 && !m->user_paces) ||
		set_signals() < 0 || pipe2(m->life, O_CLOEXEC) < 0 ||
		logger_start(&m->logger, m->life[0], m->config->identity) < 0 || make_mailboxes(m) < 0 ||
		prepare_helpers(m) < 0 || prepare_queues(m) < 0) {
		log_line(LOG_LEVEL_ERROR, "cannot start: %s", strerror(errno));
		return errno;
	}
	return start_workers(m);
}

/* ---- Loop */

static bool replace_due(struct master *m, uint64_t now, uint64_t *next)
{
	bool waiting = false;

	for (unsigned i = 0; i < m->config->workers; i++) {
		struct child *child = &m->children[i];

		if (child->pid == 0 && child->respawn_ns <= now)
			replace_worker(m, i);
		if (child->pid == 0 && (!waiting || child->respawn_ns < *next)) {
			*next = child->respawn_ns;
			waiting = true;
		}
	}
	return waiting;
}

/* Of two times to wait, -1 being for ever. */
static int sooner(int a, int b)
{
	if (a < 0 || b < 0)
		return a < 0 ? b : a;
	return a < b ? a : b;
}

static void supervise(struct master *m)
{
	struct pollfd p[4] = {
		{.fd = signal_pipe[0], .events = POLLIN},
		{.fd = m->config->parent_fd, .events = POLLIN}, /* -1 is passed over by poll(2) */
		{.fd = m->helpers.wanted[0], .events = POLLIN},
		{.fd = m->registry.poller, .events = POLLIN},
	};

	for (;;) {
		uint64_t now = clock_now_ns(), next = 0;
		int status, slot, timeout, soon;

		while ((slot = reap(m, &status)) >= 0)
			note_death(m, (unsigned)slot, status);
		timeout = sooner(helpers_work(&m->helpers, now), stuck_watch(m, now));
		if (replace_due(m, now, &next)) {
			soon = next > now ? (int)((next - now) / 1000000) + 1 : 0;
			timeout = sooner(timeout, soon);
		}
		timeout = sooner(timeout, logger_watch(&m->logger, now));
		timeout = sooner(timeout, registry_pump(&m->registry));
		timeout = sooner(timeout, stuck_report(m, now));
		if (poll(p, 4, timeout) <= 0)
			continue;
		if (p[3].revents != 0)
			registry_heed(&m->registry);
		if (p[2].revents != 0)
			helpers_heed(&m->helpers);
		if (p[1].revents != 0) {
			log_line(LOG_LEVEL_INFO, "the process that started this daemon has ended");
			return;
		}
		if (p[0].revents != 0 && handle_signals(m))
			return;
	}
}

/* ---- Stop */

/* Waits until no worker is left, and no helper if they count, for so long; SIGCHLD ends each wait. */
static void await_gone(struct master *m, unsigned timeout_ms, bool helpers_count)
{
	uint64_t deadline = clock_now_ns() + (uint64_t)timeout_ms * 1000000;
	struct pollfd p = {.fd = signal_pipe[0], .events = POLLIN};

	for (;;) {
		uint64_t now = clock_now_ns();
		int status, slot;

		while ((slot = reap(m, &status)) >= 0)
			m->children[slot].pid = 0;
		if (count_children(m) + (helpers_count ? m->helpers.count : 0) == 0 || now >= deadline)
			return;
		if (poll(&p, 1, (int)((deadline - now) / 1000000) + 1) > 0)
			handle_signals(m);
	}
}

/* A worker that is stuck may keep a copy of its channel, so that closing ours would tell nobody. */
static void end_queue(void *arg, const struct queue_facts *facts)
{
	(void)arg;
	shutdown(facts->fd, SHUT_RDWR);
}

static void stop_all(struct master *m)
{
	unsigned stuck;

	signal_children(m, SIGTERM);
	await_gone(m, STOP_TIMEOUT_MS, false);
	if (count_children(m) > 0) {
		signal_children(m, SIGKILL);
		await_gone(m, KILL_TIMEOUT_MS, false);
	}
	registry_each(&m->registry, end_queue, NULL);
	helpers_kill(&m->helpers);
	await_gone(m, HELPERS_TIMEOUT_MS, true);
	stuck = count_children(m) + stuck_count(m) + m->helpers.count;
	if (stuck > 0)
		log_line(LOG_LEVEL_WARNING, "%u processes are stuck in the kernel and end when it lets them go", stuck);
}

int master_run(const struct master_config *config)
{
	static struct master m; /* one per process; static for its size */
	int err;

	m = (struct master){.config = config, .life = {-1, -1}, .logger = {.original = -1}};
	err = prepare(&m);
	if (err == 0) {
		config->serving(config->ready_arg);
		if (config->detach)
			logger_to_system(&m.logger);
		else
			logger_flush(&m.logger);
		config->ready(config->ready_arg);
		supervise(&m);
		log_counters(&m);
	}
	stop_all(&m);
	logger_finish(&m.logger);
	return err;
}
