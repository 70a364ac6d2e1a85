/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Many small requests: a hot 4 KiB file, 64 in flight, each with a destination of its own that the client drains, as an
 * event-driven server and its peers would. Compared in turn, in one run: the loop that a server without us would write
 * (open, fstat, sendfile, close), and the one-request calls with one worker and with the default number of workers.
 */
#include "test/bench/common.h"

#include <sendfiled/sendfiled.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	FILE_SIZE = 4096,
	IN_FLIGHT = 64,
	REQUESTS = 40000,
	ROUNDS = 7,
};

static const char file_name[] = "small";

struct slot {
	int ends[2];
	int status; /* -1: idle */
};

static struct slot slots[IN_FLIGHT];

static void open_slots(enum dest kind, bool nonblock)
{
	for (int i = 0; i < IN_FLIGHT; i++) {
		make_dest(kind, slots[i].ends, nonblock);
		slots[i].status = -1;
	}
}

static void close_slots(void)
{
	for (int i = 0; i < IN_FLIGHT; i++) {
		close(slots[i].ends[0]);
		close(slots[i].ends[1]);
	}
}

/* Requests per second. */
static double run_in_process(const struct arena *a, enum dest kind)
{
	uint64_t start;

	open_slots(kind, false);
	start = now_ns();
	for (int done = 0; done < REQUESTS; done += IN_FLIGHT) {
		for (int i = 0; i < IN_FLIGHT; i++) {
			int fd = openat(a->root_fd, file_name, O_RDONLY | O_CLOEXEC);
			struct stat st;
			off_t at = 0;

			if (fd < 0 || fstat(fd, &st) < 0 ||
				sendfile(slots[i].ends[1], fd, &at, (size_t)st.st_size) != st.st_size)
				die("in process");
			close(fd);
		}
		for (int i = 0; i < IN_FLIGHT; i++)
			drain(slots[i].ends[0], FILE_SIZE);
	}
	start = now_ns() - start;
	close_slots();
	return REQUESTS * 1e9 / (double)start;
}

static bool start_request(int srv, int epoll, struct slot *s)
{
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = s};

	s->status = sfd_send(srv, file_name, s->ends[1], 0, 0, true);
	if (s->status < 0) {
		if (errno != EAGAIN)
			die("sfd_send");
		return false;
	}
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, s->status, &e) < 0)
		die("epoll_ctl");
	return true;
}

/* True if that was the end of it. */
static bool finish_request(struct slot *s)
{
	if (!saw_success(s->status))
		return false;
	close(s->status);
	s->status = -1;
	drain(s->ends[0], FILE_SIZE);
	return true;
}

static double run_sendfiled(const struct arena *a, enum dest kind)
{
	struct epoll_event events[IN_FLIGHT];
	struct slot *idle[IN_FLIGHT];
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	int n_idle = IN_FLIGHT, started = 0, done = 0;
	uint64_t start;

	open_slots(kind, true);
	for (int i = 0; i < IN_FLIGHT; i++)
		idle[i] = &slots[i];
	start = now_ns();
	while (done < REQUESTS) {
		int n;

		while (n_idle > 0 && started < REQUESTS && start_request(a->srv, epoll, idle[n_idle - 1])) {
			n_idle--;
			started++;
		}
		n = epoll_wait(epoll, events, IN_FLIGHT, -1);
		for (int i = 0; i < n; i++) {
			if (finish_request(events[i].data.ptr)) {
				idle[n_idle++] = events[i].data.ptr;
				done++;
			}
		}
	}
	start = now_ns() - start;
	close_slots();
	close(epoll);
	return REQUESTS * 1e9 / (double)start;
}

int main(void)
{
	double local[ROUNDS], one[ROUNDS], many[ROUNDS];
	struct arena a, b;

	arena_open(&a);
	arena_open(&b);
	arena_file(&a, file_name, FILE_SIZE);
	arena_file(&b, file_name, FILE_SIZE);
	arena_spawn(&a, 1, 1000);
	arena_spawn(&b, 0, 1000);
	printf("4 KiB hot file, %d in flight, one-request calls; thousand requests/s, medians of %d runs in turn\n",
		IN_FLIGHT, ROUNDS);
	printf("%-6s %12s %12s %8s %16s %8s %12s\n", "to", "in process", "1 worker", "ratio", "default workers",
		"ratio", "to 1 worker");
	for (int kind = 0; kind < DEST_COUNT; kind++) {
		double l, o, m;

		arena_warm(&a, file_name);
		arena_warm(&b, file_name);
		for (int i = 0; i < ROUNDS; i++) {
			local[i] = run_in_process(&a, (enum dest)kind);
			one[i] = run_sendfiled(&a, (enum dest)kind);
			many[i] = run_sendfiled(&b, (enum dest)kind);
		}
		l = median(local, ROUNDS);
		o = median(one, ROUNDS);
		m = median(many, ROUNDS);
		printf("%-6s %12.1f %12.1f %8.2f %16.1f %8.2f %12.2f\n", dest_names[kind], l / 1e3, o / 1e3, o / l,
			m / 1e3, m / l, m / o);
	}
	arena_stop(&a);
	arena_stop(&b);
	arena_close(&a);
	arena_close(&b);
	return 0;
}
