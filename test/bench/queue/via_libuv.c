/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An event loop that has each file served by one of libuv's threads, in one go: a single trip to the thread and back per
 * request, where uv_fs_open() and its like would take four.
 */
#include "test/bench/queue/queue.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

enum { THREADS = 0xff, COPY = 0x100 };

struct job {
	uv_work_t work;
	struct load *load;
	const char *name;
	unsigned slot;
	char *buffer;
};

static struct job *jobs;

static void must(int err)
{
	if (err < 0) {
		fprintf(stderr, "bench: libuv: %s\n", uv_strerror(err));
		exit(1);
	}
}

static void copy_file(int root_fd, const char *name, int dest, char *buffer)
{
	int fd = openat(root_fd, name, O_RDONLY | O_CLOEXEC);
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0)
		die(name);
	for (off_t at = 0; at < st.st_size; at += n) {
		n = read(fd, buffer, LARGE);
		if (n <= 0 || write(dest, buffer, (size_t)n) != n)
			die("read, write");
	}
	close(fd);
}

static void serve(uv_work_t *work)
{
	const struct job *j = work->data;
	int dest = j->load->dests[j->slot][1];

	if (j->load->how & COPY)
		copy_file(j->load->arena->root_fd, j->name, dest, j->buffer);
	else
		send_file(j->load->arena->root_fd, j->name, dest);
}

static void on_done(uv_work_t *work, int status);

static void start(struct job *j)
{
	if (!load_wants(j->load))
		return;
	j->name = load_file(j->load);
	load_next(j->load);
	must(uv_queue_work(uv_default_loop(), &j->work, serve, on_done));
}

static void on_done(uv_work_t *work, int status)
{
	struct job *j = work->data;

	must(status);
	load_drain(j->load, j->slot);
	start(j);
}

static void open_pool(struct load *l)
{
	char threads[8];

	/* It is read when the first work is queued, which is later. */
	snprintf(threads, sizeof threads, "%u", l->how & THREADS);
	if (setenv("UV_THREADPOOL_SIZE", threads, 1) < 0)
		die("setenv");
	jobs = must_alloc(l->in_flight * sizeof *jobs);
	for (unsigned i = 0; i < l->in_flight; i++) {
		jobs[i] = (struct job){.load = l, .slot = i, .buffer = must_alloc(LARGE)};
		jobs[i].work.data = &jobs[i];
	}
}

static void run(struct load *l)
{
	for (unsigned i = 0; i < l->in_flight; i++)
		start(&jobs[i]);
	uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}

/* Copying is no better than sendfile(2) with small files, and far behind with larger ones. */
static const struct variant variants[] = {
	{"1", 1, FEW | MANY},
	{"2", 2, FEW | MANY},
	{"4", 4, MANY},
	{"1 copy", 1 | COPY, 0},
	{"2 copy", 2 | COPY, 0},
	{"4 copy", 4 | COPY, 0},
};

const struct client via_libuv = {
	.name = "libuv",
	.open = open_pool,
	.run = run,
	.variants = variants,
	.n_variants = sizeof variants / sizeof variants[0],
};
