/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One user who floods, and what another gets meanwhile: the latency of his requests, eight at a time, alone and beside the flood,
 * in turn. Either has a queue or makes one-request calls; the flood is a queue of 2,048 that is always full, or 256 calls at a time.
 * It takes root, for there are two users.
 */
#include "test/bench/common.h"

#include <sendfiled/sendfiled.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	VICTIM = 54321,
	FLOODER = 54322,
	ROUNDS = 9,
	REQUESTS = 4000, /* of a round */
	AT_P50 = REQUESTS / 2,
	AT_P99 = REQUESTS * 99 / 100,
	IN_FLIGHT = 8,
	FLOOD_DEPTH = 2048,
	FLOOD_CALLS = 256,
	FILE_SIZE = 4096,
	QUIET_US = 200 * 1000,
};

struct figures {
	double p50, p99;
};

static void become(uid_t uid)
{
	if (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
		die("setresuid");
}

static int connect_to(const struct arena *a)
{
	int srv = sfd_connect(a->sock, "bench");

	if (srv < 0)
		die("sfd_connect");
	return srv;
}

static int by_value(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* ---- He who wants something */

struct slot {
	int ends[2];
	int status; /* of a call */
	uint64_t begin_ns;
};

struct victim {
	struct slot slots[IN_FLIGHT];
	uint64_t took[REQUESTS];
	unsigned asked, done;
};

/* Says what became of it, and whether it is to be used again. */
static bool note(struct victim *v, struct slot *s)
{
	v->took[v->done++] = now_ns() - s->begin_ns;
	drain(s->ends[0], FILE_SIZE);
	return v->asked++ < REQUESTS;
}

static void ask_queue(struct sfd_queue *q, struct slot *s, uint64_t number)
{
	s->begin_ns = now_ns();
	if (sfd_queue_send(q, "hot", s->ends[1], 0, 0, NULL, number) < 0)
		die("sfd_queue_send");
}

static void by_queue(struct victim *v, int srv)
{
	static struct sfd_queue *q;
	struct sfd_event events[IN_FLIGHT];

	if (!q && !(q = sfd_queue_new(srv, IN_FLIGHT)))
		die("sfd_queue_new");
	for (; v->asked < IN_FLIGHT; v->asked++)
		ask_queue(q, &v->slots[v->asked], v->asked);
	while (v->done < REQUESTS) {
		int n = sfd_queue_wait(q, events, IN_FLIGHT, 30000);

		if (n <= 0)
			die("no answer in thirty seconds");
		for (int i = 0; i < n; i++) {
			if (events[i].stat != SFD_STAT_OK)
				die(sfd_strstat(events[i].stat));
			if (note(v, &v->slots[events[i].user_data]))
				ask_queue(q, &v->slots[events[i].user_data], events[i].user_data);
		}
	}
}

/* -1 and EAGAIN: the socket is full. */
static int call(int srv, int dest)
{
	const int status = sfd_send(srv, "hot", dest, 0, 0, true);

	if (status < 0 && errno != EAGAIN)
		die("sfd_send");
	return status;
}

/* The time in which there is no room for it counts. */
static void ask_call(int srv, struct slot *s)
{
	struct pollfd p = {.fd = srv, .events = POLLOUT};

	s->begin_ns = now_ns();
	while ((s->status = call(srv, s->ends[1])) < 0)
		poll(&p, 1, 1000);
}

static void by_calls(struct victim *v, int srv)
{
	struct pollfd p[IN_FLIGHT];

	for (; v->asked < IN_FLIGHT; v->asked++)
		ask_call(srv, &v->slots[v->asked]);
	while (v->done < REQUESTS) {
		for (int i = 0; i < IN_FLIGHT; i++)
			p[i] = (struct pollfd){.fd = v->slots[i].status, .events = POLLIN};
		if (poll(p, IN_FLIGHT, 30000) <= 0)
			die("no answer in thirty seconds");
		for (int i = 0; i < IN_FLIGHT; i++) {
			struct slot *s = &v->slots[i];

			if (!p[i].revents || !saw_success(s->status))
				continue;
			close(s->status);
			s->status = -1;
			if (note(v, s))
				ask_call(srv, s);
		}
	}
}

typedef void victim_fn(struct victim *v, int srv);

/* A process of that user, which answers each byte with a round's figures. */
static void serve_figures(const struct arena *a, victim_fn *measure, int commands, int answers)
{
	static struct victim v;
	struct figures f;
	char byte;
	int srv;

	become(VICTIM);
	srv = connect_to(a);
	for (int i = 0; i < IN_FLIGHT; i++)
		make_dest(DEST_PIPE, v.slots[i].ends, true);
	while (read(commands, &byte, 1) == 1) {
		v.asked = v.done = 0;
		measure(&v, srv);
		qsort(v.took, REQUESTS, sizeof *v.took, by_value);
		f = (struct figures){(double)v.took[AT_P50] / 1000, (double)v.took[AT_P99] / 1000};
		if (write(answers, &f, sizeof f) != sizeof f)
			die("write");
	}
	_exit(0);
}

/* ---- He who wants everything */

typedef void flood_fn(int srv, int ready);

static void say_ready(int ready)
{
	if (write(ready, "", 1) != 1)
		die("write");
}

static void flood_by_queue(int srv, int ready)
{
	static struct sfd_event events[FLOOD_DEPTH];
	static int ends[FLOOD_DEPTH][2];
	struct sfd_queue *q = sfd_queue_new(srv, FLOOD_DEPTH);

	if (!q)
		die("sfd_queue_new");
	for (unsigned i = 0; i < FLOOD_DEPTH; i++) {
		make_dest(DEST_PIPE, ends[i], true);
		sfd_queue_send(q, "hot", ends[i][1], 0, 0, NULL, i);
	}
	say_ready(ready);
	for (;;) {
		int n = sfd_queue_wait(q, events, FLOOD_DEPTH, 1000);
		char bytes[FILE_SIZE];

		for (int i = 0; i < n; i++) {
			const unsigned k = (unsigned)events[i].user_data;

			while (read(ends[k][0], bytes, events[i].bytes) > 0 && events[i].bytes > sizeof bytes)
				;
			sfd_queue_send(q, "hot", ends[k][1], 0, 0, NULL, k);
		}
	}
}

/* What it gets is no success perhaps, but that he has his share. */
static void flood_by_calls(int srv, int ready)
{
	static int ends[FLOOD_CALLS][2], status[FLOOD_CALLS];
	static struct pollfd p[FLOOD_CALLS + 1];
	unsigned char bytes[FILE_SIZE];

	for (unsigned i = 0; i < FLOOD_CALLS; i++) {
		make_dest(DEST_PIPE, ends[i], true);
		if (fcntl(ends[i][0], F_SETFL, O_NONBLOCK) < 0)
			die("fcntl");
		status[i] = -1;
	}
	say_ready(ready);
	for (;;) {
		bool is_full = false;

		for (unsigned i = 0; i < FLOOD_CALLS; i++) {
			if (status[i] < 0 && !is_full)
				is_full = (status[i] = call(srv, ends[i][1])) < 0;
			p[i] = (struct pollfd){.fd = status[i], .events = POLLIN};
		}
		p[FLOOD_CALLS] = (struct pollfd){.fd = is_full ? srv : -1, .events = POLLOUT};
		poll(p, FLOOD_CALLS + 1, 1000);
		for (unsigned i = 0; i < FLOOD_CALLS; i++) {
			if (!p[i].revents || read(status[i], bytes, sizeof bytes) < 0)
				continue;
			while (read(ends[i][0], bytes, sizeof bytes) > 0)
				;
			close(status[i]);
			status[i] = -1;
		}
	}
}

static pid_t start_flood(const struct arena *a, flood_fn *flood)
{
	int ready[2];
	char byte;
	pid_t pid;

	if (pipe2(ready, O_CLOEXEC) < 0)
		die("pipe");
	pid = fork();
	if (pid == 0) {
		become(FLOODER);
		flood(connect_to(a), ready[1]);
	}
	close(ready[1]);
	if (pid < 0 || read(ready[0], &byte, 1) != 1)
		die("the flood does not begin");
	close(ready[0]);
	return pid;
}

static void ask_for(int commands, int answers, struct figures *out)
{
	if (write(commands, "", 1) != 1 || read(answers, out, sizeof *out) != sizeof *out)
		die("no figures");
}

static void compare(const struct arena *a, victim_fn *measure, flood_fn *flood, const char *what)
{
	double alone[ROUNDS], beside[ROUNDS], alone50[ROUNDS], beside50[ROUNDS], ratio[ROUNDS];
	int commands[2], answers[2];
	pid_t victim;

	if (pipe2(commands, O_CLOEXEC) < 0 || pipe2(answers, O_CLOEXEC) < 0)
		die("pipe");
	victim = fork();
	if (victim == 0) {
		close(commands[1]);
		serve_figures(a, measure, commands[0], answers[1]);
	}
	close(commands[0]);
	close(answers[1]);
	for (int i = 0; i < ROUNDS; i++) {
		struct figures f;
		pid_t flooder;

		/* What the flood before left behind is over, and so is what the daemon does while users compete. */
		usleep(QUIET_US);
		ask_for(commands[1], answers[0], &f);
		alone[i] = f.p99;
		alone50[i] = f.p50;
		flooder = start_flood(a, flood);
		ask_for(commands[1], answers[0], &f);
		beside[i] = f.p99;
		beside50[i] = f.p50;
		ratio[i] = beside[i] / alone[i];
		kill(flooder, SIGKILL);
		waitpid(flooder, NULL, 0);
	}
	close(commands[1]);
	waitpid(victim, NULL, 0);
	printf("%-38s 99th percentile %6.0f us, alone %5.0f us: %5.2f (median of ratios; asked: 3 at most); median %6.0f us, "
	       "alone %5.0f us\n",
		what, median(beside, ROUNDS), median(alone, ROUNDS), median(ratio, ROUNDS), median(beside50, ROUNDS),
		median(alone50, ROUNDS));
}

int main(void)
{
	struct arena a;
	const char *argv[] = {"sendfiled", "-s", "bench", "-r", NULL, "-S", NULL, "--socket-mode", "0666",
		"--allow-user", "54321", "--allow-user", "54322", NULL};

	if (geteuid() != 0) {
		printf("one user floods: skipped, only root can take the parts of two users\n");
		return 0;
	}
	arena_open(&a);
	arena_file(&a, "hot", FILE_SIZE);
	arena_warm(&a, "hot");
	if (chmod(a.dir, 0755) < 0)
		die("chmod");
	argv[4] = a.root;
	argv[6] = a.sock;
	a.daemon = sfd_spawnv(argv, 10000);
	if (a.daemon <= 0)
		die("cannot start the daemon (SFD_DAEMON names it)");
	a.srv = sfd_connect(a.sock, "bench");
	printf("one user floods; what another gets:\n");
	compare(&a, by_queue, flood_by_queue, "a queue beside a queue");
	compare(&a, by_calls, flood_by_queue, "one-request calls beside a queue");
	compare(&a, by_queue, flood_by_calls, "a queue beside one-request calls");
	compare(&a, by_calls, flood_by_calls, "one-request calls beside such calls");
	arena_stop(&a);
	arena_close(&a);
	return 0;
}
