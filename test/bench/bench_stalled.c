/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Ten thousand transfers whose destinations nobody reads: what they cost the workers in processor time, while their sockets fill
 * and once all are full, and in memory, and what a new request takes beside them. The same requests to a second daemon without stalled transfers, in turn, are the
 * measure. The clients are processes of their own, since each transfer costs its client two descriptors.
 */
#include "test/bench/common.h"

#include <sendfiled/sendfiled.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	STALLED = 10000,
	CLIENTS = 4,
	WORKERS_MAX = 256,
	CPU_SECONDS = 5,
	FILL_SECONDS = 300,
	LATENCY_ROUNDS = 20,
	LATENCY_REQUESTS = 200,
};

struct usage {
	double cpu_s;
	double memory; /* bytes */
};

/* Fields of /proc/PID/stat, counted from the one after the name (proc(5)). */
enum { STAT_PARENT = 2, STAT_USER = 12, STAT_SYSTEM = 13 };

/* One number of /proc/PID/stat; -1 if there is no such process. */
static long proc_stat(pid_t pid, int field)
{
	char path[64], line[512] = "";
	char *at;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return -1;
	at = fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL;
	fclose(f);
	for (int i = 0; at && i < field; i++)
		at = strchr(at + 1, ' ');
	return at ? strtol(at, NULL, 10) : -1;
}

/* The daemon's workers: the children of its process. */
static int find_workers(pid_t daemon, pid_t *out)
{
	const struct dirent *e;
	DIR *dir = opendir("/proc");
	int n = 0;

	if (!dir)
		die("/proc");
	while ((e = readdir(dir)) != NULL && n < WORKERS_MAX) {
		long pid = strtol(e->d_name, NULL, 10);

		if (pid > 0 && proc_stat((pid_t)pid, STAT_PARENT) == daemon)
			out[n++] = (pid_t)pid;
	}
	closedir(dir);
	return n;
}

static double cpu_seconds(pid_t pid)
{
	return (double)(proc_stat(pid, STAT_USER) + proc_stat(pid, STAT_SYSTEM)) / (double)sysconf(_SC_CLK_TCK);
}

/* Memory that is the process's alone, as the kernel counts it. */
static double own_memory(pid_t pid)
{
	char path[64], line[256];
	unsigned long sum = 0;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
	f = fopen(path, "re");
	if (!f)
		die(path);
	while (fgets(line, sizeof line, f)) {
		if (strncmp(line, "Private_", 8) == 0 && strchr(line, ':'))
			sum += strtoul(strchr(line, ':') + 1, NULL, 10);
	}
	fclose(f);
	return (double)sum * 1024;
}

static struct usage measure(const struct arena *a)
{
	pid_t workers[WORKERS_MAX];
	int n = find_workers(a->daemon, workers);
	struct usage u = {0, 0};

	for (int i = 0; i < n; i++) {
		u.cpu_s += cpu_seconds(workers[i]);
		u.memory += own_memory(workers[i]);
	}
	return u;
}

/* No event tells of that. */
static void await_full(int socket)
{
	for (int i = 0; i < FILL_SECONDS * 100; i++) {
		struct pollfd p = {.fd = socket, .events = POLLOUT};

		if (poll(&p, 1, 0) == 0)
			return;
		usleep(10000);
	}
	die("a socket that does not become full");
}

/* A client: starts its transfers, says so, says when all are stalled, and holds them until it is killed. */
static _Noreturn void stall(const struct arena *a, int count, int ready)
{
	int *dests = calloc((size_t)count, sizeof *dests);

	if (!dests)
		die("memory");
	for (int i = 0; i < count; i++) {
		unsigned char frame[SFD_MAX_RESP_SIZE];
		int ends[2], status;

		make_dest(DEST_UNIX, ends, true);
		while ((status = sfd_send(a->srv, "large", ends[1], 0, 0, false)) < 0) {
			struct pollfd p = {.fd = a->srv, .events = POLLOUT};

			if (errno != EAGAIN)
				die("sfd_send of a stalled transfer");
			poll(&p, 1, -1);
		}
		dests[i] = ends[1];
		if (read(status, frame, sizeof frame) != sizeof frame || sfd_get_stat(frame) != SFD_STAT_OK)
			die("a stalled transfer was refused");
	}
	if (write(ready, "", 1) != 1)
		die("pipe");
	for (int i = 0; i < count; i++)
		await_full(dests[i]);
	if (write(ready, "", 1) != 1)
		die("pipe");
	for (;;)
		pause();
}

/* Until each client has said so. */
static void await_clients(int ready)
{
	char byte;

	for (int i = 0; i < CLIENTS; i++) {
		if (read(ready, &byte, 1) != 1)
			die("a client could not stall its transfers");
	}
}

/* What tells when they are stalled. */
static int start_stalled(const struct arena *a, pid_t *clients)
{
	int ready[2];

	if (pipe2(ready, O_CLOEXEC) < 0)
		die("pipe");
	for (int i = 0; i < CLIENTS; i++) {
		clients[i] = fork();
		if (clients[i] < 0)
			die("fork");
		if (clients[i] == 0)
			stall(a, STALLED / CLIENTS, ready[1]);
	}
	close(ready[1]);
	await_clients(ready[0]);
	return ready[0];
}

/* Percent of one processor, for a while. */
static double measure_cpu(const struct arena *a)
{
	const double before_s = measure(a).cpu_s;

	sleep(CPU_SECONDS);
	return (measure(a).cpu_s - before_s) * 100 / CPU_SECONDS;
}

/* Median microseconds from request to outcome, one at a time. */
static double latency(const struct arena *a)
{
	double us[LATENCY_REQUESTS];
	int ends[2];

	make_dest(DEST_PIPE, ends, true);
	for (int i = 0; i < LATENCY_REQUESTS; i++) {
		uint64_t start = now_ns();
		int status = sfd_send(a->srv, "small", ends[1], 0, 0, false);

		if (status < 0)
			die("sfd_send");
		await_success(status);
		us[i] = (double)(now_ns() - start) / 1e3;
		close(status);
		drain(ends[0], 4096);
	}
	close(ends[0]);
	close(ends[1]);
	return median(us, LATENCY_REQUESTS);
}

static void make_arena(struct arena *a)
{
	arena_open(a);
	arena_file(a, "large", 4 << 20);
	arena_file(a, "small", 4096);
	arena_spawn(a, 0, STALLED + 1000);
	arena_warm(a, "small");
}

int main(void)
{
	double without[LATENCY_ROUNDS], with[LATENCY_ROUNDS];
	struct usage before, after;
	struct arena busy, idle;
	pid_t clients[CLIENTS];
	double filling, full;
	uint64_t start_ns;
	int ready;

	make_arena(&busy);
	make_arena(&idle);
	latency(&busy);
	before = measure(&busy);
	start_ns = now_ns();
	ready = start_stalled(&busy, clients);
	after = measure(&busy);
	filling = measure_cpu(&busy);
	await_clients(ready);
	close(ready);
	start_ns = now_ns() - start_ns;
	full = measure_cpu(&busy);
	for (int i = 0; i < LATENCY_ROUNDS; i++) {
		without[i] = latency(&idle);
		with[i] = latency(&busy);
	}
	printf("%d stalled transfers held\n", STALLED);
	printf("  processor time of all workers    %8.2f %% of one CPU, over %d s, once all their sockets are full\n",
		full, CPU_SECONDS);
	printf("  before that                      %8.2f %%; it took %.0f s\n", filling, (double)start_ns / 1e9);
	printf("  memory of the workers' own       %8.0f bytes each\n", (after.memory - before.memory) / STALLED);
	printf("  latency of a new request         %8.2f of that without them (medians of %d runs in turn)\n",
		median(with, LATENCY_ROUNDS) / median(without, LATENCY_ROUNDS), LATENCY_ROUNDS);
	for (int i = 0; i < CLIENTS; i++) {
		kill(clients[i], SIGKILL);
		waitpid(clients[i], NULL, 0);
	}
	arena_stop(&busy);
	arena_stop(&idle);
	arena_close(&busy);
	arena_close(&idle);
	return 0;
}
