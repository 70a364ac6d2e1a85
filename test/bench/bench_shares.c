/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One user who floods, and what another gets meanwhile: the latency of his requests, eight at a time, alone and beside the flood,
 * in turn. The flood is a queue of 2,048 that is always full. It takes root, for there are two users.
 */
#include "test/bench/common.h"

#include <sendfiled/sendfiled.h>

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
	FILE_SIZE = 4096,
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
	uint64_t begin_ns;
};

static void ask(struct sfd_queue *q, struct slot *s, uint64_t number)
{
	s->begin_ns = now_ns();
	if (sfd_queue_send(q, "hot", s->ends[1], 0, 0, NULL, number) < 0)
		die("sfd_queue_send");
}

static void measure(struct sfd_queue *q, struct slot *slots, struct figures *out)
{
	static uint64_t took[REQUESTS];
	struct sfd_event events[IN_FLIGHT];
	unsigned asked = 0, done = 0;

	for (; asked < IN_FLIGHT; asked++)
		ask(q, &slots[asked], asked);
	while (done < REQUESTS) {
		int n = sfd_queue_wait(q, events, IN_FLIGHT, 30000);

		if (n <= 0)
			die("no answer in thirty seconds");
		for (int i = 0; i < n; i++) {
			struct slot *s = &slots[events[i].user_data];

			if (events[i].stat != SFD_STAT_OK)
				die(sfd_strstat(events[i].stat));
			took[done++] = now_ns() - s->begin_ns;
			drain(s->ends[0], FILE_SIZE);
			if (asked++ < REQUESTS)
				ask(q, s, events[i].user_data);
		}
	}
	qsort(took, REQUESTS, sizeof *took, by_value);
	out->p50 = (double)took[AT_P50] / 1000;
	out->p99 = (double)took[AT_P99] / 1000;
}

/* A process of that user, which answers each byte with a round's figures. */
static void serve_figures(const struct arena *a, int commands, int answers)
{
	struct slot slots[IN_FLIGHT];
	struct sfd_queue *q;
	struct figures f;
	char byte;

	become(VICTIM);
	q = sfd_queue_new(connect_to(a), IN_FLIGHT);
	if (!q)
		die("sfd_queue_new");
	for (int i = 0; i < IN_FLIGHT; i++)
		make_dest(DEST_PIPE, slots[i].ends, true);
	while (read(commands, &byte, 1) == 1) {
		measure(q, slots, &f);
		if (write(answers, &f, sizeof f) != sizeof f)
			die("write");
	}
	_exit(0);
}

/* ---- He who wants everything */

static void flood(const struct arena *a, int ready)
{
	static struct sfd_event events[FLOOD_DEPTH];
	static int ends[FLOOD_DEPTH][2];
	struct sfd_queue *q;

	become(FLOODER);
	q = sfd_queue_new(connect_to(a), FLOOD_DEPTH);
	if (!q)
		die("sfd_queue_new");
	for (unsigned i = 0; i < FLOOD_DEPTH; i++) {
		make_dest(DEST_PIPE, ends[i], true);
		sfd_queue_send(q, "hot", ends[i][1], 0, 0, NULL, i);
	}
	if (write(ready, "", 1) != 1)
		die("write");
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

static pid_t start_flood(const struct arena *a)
{
	int ready[2];
	char byte;
	pid_t pid;

	if (pipe2(ready, O_CLOEXEC) < 0)
		die("pipe");
	pid = fork();
	if (pid == 0)
		flood(a, ready[1]);
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

static void compare(const struct arena *a)
{
	double alone[ROUNDS], beside[ROUNDS], alone50[ROUNDS], beside50[ROUNDS], ratio[ROUNDS];
	int commands[2], answers[2];
	pid_t victim;

	if (pipe2(commands, O_CLOEXEC) < 0 || pipe2(answers, O_CLOEXEC) < 0)
		die("pipe");
	victim = fork();
	if (victim == 0) {
		close(commands[1]);
		serve_figures(a, commands[0], answers[1]);
	}
	close(commands[0]);
	close(answers[1]);
	for (int i = 0; i < ROUNDS; i++) {
		struct figures f;
		pid_t flooder;

		ask_for(commands[1], answers[0], &f);
		alone[i] = f.p99;
		alone50[i] = f.p50;
		flooder = start_flood(a);
		ask_for(commands[1], answers[0], &f);
		beside[i] = f.p99;
		beside50[i] = f.p50;
		ratio[i] = beside[i] / alone[i];
		kill(flooder, SIGKILL);
		waitpid(flooder, NULL, 0);
	}
	close(commands[1]);
	waitpid(victim, NULL, 0);
	printf("one user floods: another's 99th percentile %.0f us, alone %.0f us: %.2f (median of ratios; asked: 3 at most); "
	       "median %.0f us, alone %.0f us\n",
		median(beside, ROUNDS), median(alone, ROUNDS), median(ratio, ROUNDS), median(beside50, ROUNDS),
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
	compare(&a);
	arena_stop(&a);
	arena_close(&a);
	return 0;
}
