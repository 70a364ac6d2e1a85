/* SPDX-License-Identifier: BSD-2-Clause */
/* One large hot file, to TCP over loopback and to a pipe: sendfiled beside a blocking sendfile(2) in the same process. */
#include "test/bench/common.h"

#include <sendfiled/sendfiled.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/sendfile.h>
#include <unistd.h>

enum { ROUNDS = 7 };

static const uint64_t FILE_SIZE = UINT64_C(1) << 30;
static const char file_name[] = "large";

/* The other end of the destination, which somebody has to read. */
static void *drain_all(void *arg)
{
	drain(*(const int *)arg, FILE_SIZE);
	return NULL;
}

static void send_in_process(const struct arena *a, int dest)
{
	int fd = openat(a->root_fd, file_name, O_RDONLY | O_CLOEXEC);
	off_t at = 0;

	if (fd < 0)
		die("open");
	while ((uint64_t)at < FILE_SIZE) {
		if (sendfile(dest, fd, &at, FILE_SIZE - (uint64_t)at) <= 0)
			die("sendfile");
	}
	close(fd);
}

static void send_sendfiled(const struct arena *a, int dest)
{
	int status = sfd_send(a->srv, file_name, dest, 0, 0, false);

	if (status < 0)
		die("sfd_send");
	await_success(status);
	close(status);
}

/* Gigabytes per second, until the last byte has been received. */
static double run(const struct arena *a, enum dest kind, bool in_process)
{
	pthread_t reader;
	uint64_t start;
	int ends[2];

	make_dest(kind, ends, !in_process);
	start = now_ns();
	if (pthread_create(&reader, NULL, drain_all, &ends[0]) != 0)
		die("pthread_create");
	if (in_process)
		send_in_process(a, ends[1]);
	else
		send_sendfiled(a, ends[1]);
	pthread_join(reader, NULL);
	start = now_ns() - start;
	close(ends[0]);
	close(ends[1]);
	return (double)FILE_SIZE / (double)start;
}

int main(void)
{
	double local[ROUNDS], ours[ROUNDS];
	struct arena a;

	arena_open(&a);
	arena_file(&a, file_name, FILE_SIZE);
	arena_spawn(&a, 0, 1000);
	printf("1 GiB hot file; GB/s, medians of %d runs in turn\n%-6s %12s %12s %8s\n", ROUNDS, "to", "in process",
		"sendfiled", "ratio");
	for (int kind = 0; kind < DEST_COUNT; kind++) {
		double l, o;

		for (int i = 0; i < ROUNDS; i++) {
			arena_warm(&a, file_name);
			local[i] = run(&a, (enum dest)kind, true);
			ours[i] = run(&a, (enum dest)kind, false);
		}
		l = median(local, ROUNDS);
		o = median(ours, ROUNDS);
		printf("%-6s %12.2f %12.2f %8.2f\n", dest_names[kind], l, o, o / l);
	}
	arena_stop(&a);
	arena_close(&a);
	return 0;
}
