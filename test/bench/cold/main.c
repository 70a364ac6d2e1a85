/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Cold files: whether one that does not come delays the hot ones, how fast one comes that does, and whether it still does
 * beside file systems that hang.
 *
 *   SFD_DAEMON=build/sendfiled build/bench/bench_cold SLOWFS DIR [ROUNDS [SECONDS [LARGE_ROUNDS]]]
 *
 * SLOWFS is the program of the file system whose reads can be held, DIR where the chart goes. TMPDIR, or else /tmp, has
 * to lie on a disk with 1 GiB of room.
 */
#include "test/bench/cold/cold.h"
#include "test/bench/cold/supervise.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { ROUNDS = 5, SECONDS = 5, LARGE_ROUNDS = 9, MOST = 1000 };

static unsigned number(const char *text, unsigned otherwise)
{
	char *end;
	unsigned long n;

	if (!text || !*text)
		return otherwise;
	n = strtoul(text, &end, 10);
	if (*end || n > MOST) {
		fprintf(stderr, "bench: not a number from 0 to %d: %s\n", MOST, text);
		exit(64);
	}
	return (unsigned)n;
}

static void work(void *arg)
{
	struct bench *b = arg;

	if (b->rounds > 0 && b->seconds > 0)
		bench_latency(b);
	if (b->large_rounds > 0) {
		bench_large_cold(b);
		bench_beside_sick(b);
	}
}

int main(int argc, char *argv[])
{
	struct bench b = {0};
	int status;

	if (argc < 3) {
		fprintf(stderr, "usage: bench_cold SLOWFS DIR [ROUNDS [SECONDS [LARGE_ROUNDS]]]\n");
		return 64;
	}
	b.slowfs = argv[1];
	b.out = argv[2];
	b.rounds = number(argc > 3 ? argv[3] : NULL, ROUNDS);
	b.seconds = number(argc > 4 ? argv[4] : NULL, SECONDS);
	b.large_rounds = number(argc > 5 ? argv[5] : NULL, LARGE_ROUNDS);
	setvbuf(stdout, NULL, _IOLBF, 0);
	arena_open(&b.arena);
	load_full_path(&(struct load){.arena = &b.arena}, SLOW_DIR, b.mount_point);
	if (mkdir(b.mount_point, 0755) < 0)
		die("mkdir");
	for (int i = 0; i < SICK; i++) {
		snprintf(b.sick_points[i], sizeof b.sick_points[i], "%s/" SICK_DIR "%d", b.arena.root, i);
		if (mkdir(b.sick_points[i], 0755) < 0)
			die("mkdir");
	}
	status = supervise(work, &b);
	unmount_leftover(b.mount_point, b.arena.root);
	for (int i = 0; i < SICK; i++)
		unmount_leftover(b.sick_points[i], b.arena.root);
	arena_close(&b.arena);
	return status;
}
