/* SPDX-License-Identifier: BSD-2-Clause */
/* An event loop that has its files opened, examined, sent and closed by libuv's threads. */
#include "test/bench/cold/load.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { COLD_SLOT = -1 };

/* One request: four operations in turn. */
struct job {
	uv_fs_t req;
	struct load *load;
	char path[PATH_SIZE];
	int slot, dest;
	uv_file file;
	int64_t at, size;
};

static struct job hot_jobs[SLOTS], cold_jobs[COLD_MAX];
static unsigned cold_sends;
static uv_poll_t ticks;

/* What the last operation returned. */
static ssize_t result(uv_fs_t *req)
{
	ssize_t n = req->result;

	if (n < 0) {
		fprintf(stderr, "bench: libuv: %s\n", uv_strerror((int)n));
		exit(1);
	}
	return n;
}

static void must(int err)
{
	if (err < 0) {
		fprintf(stderr, "bench: libuv: %s\n", uv_strerror(err));
		exit(1);
	}
}

static void begin_due(struct load *l);

static void on_close(uv_fs_t *req)
{
	const struct job *j = req->data;

	result(req);
	uv_fs_req_cleanup(req);
	if (j->slot == COLD_SLOT)
		return;
	load_done(j->load, (unsigned)j->slot);
	begin_due(j->load);
}

static void on_sent(uv_fs_t *req)
{
	struct job *j = req->data;
	ssize_t n = result(req);

	uv_fs_req_cleanup(req);
	j->at += n;
	if (j->at < j->size && n > 0)
		must(uv_fs_sendfile(req->loop, req, j->dest, j->file, j->at, (size_t)(j->size - j->at), on_sent));
	else
		must(uv_fs_close(req->loop, req, j->file, on_close));
}

static void on_stat(uv_fs_t *req)
{
	struct job *j = req->data;

	result(req);
	j->size = (int64_t)req->statbuf.st_size;
	uv_fs_req_cleanup(req);
	cold_sends += j->slot == COLD_SLOT;
	must(uv_fs_sendfile(req->loop, req, j->dest, j->file, 0, (size_t)j->size, on_sent));
}

static void on_open(uv_fs_t *req)
{
	struct job *j = req->data;

	j->file = (uv_file)result(req);
	uv_fs_req_cleanup(req);
	must(uv_fs_fstat(req->loop, req, j->file, on_stat));
}

static void begin(struct job *j)
{
	j->at = 0;
	j->req.data = j;
	must(uv_fs_open(uv_default_loop(), &j->req, j->path, O_RDONLY | O_CLOEXEC, 0, on_open));
}

static void begin_due(struct load *l)
{
	int slot;

	while ((slot = load_next(l)) >= 0) {
		load_began(l);
		begin(&hot_jobs[slot]);
	}
}

/* Once the time is over nothing keeps the loop but requests that are under way. */
static void on_tick(uv_poll_t *handle, int status, int events)
{
	struct load *l = handle->data;

	(void)events;
	must(status);
	load_tick(l);
	if (load_over(l)) {
		uv_close((uv_handle_t *)handle, NULL);
		load_finish(l);
		return;
	}
	begin_due(l);
}

static void make_jobs(struct load *l)
{
	char name[PATH_SIZE];

	for (int i = 0; i < SLOTS; i++) {
		hot_jobs[i] = (struct job){.load = l, .slot = i, .dest = l->hot_dest[i]};
		load_full_path(l, HOT_NAME, hot_jobs[i].path);
	}
	for (unsigned i = 0; i < l->n_cold; i++) {
		cold_jobs[i] = (struct job){.load = l, .slot = COLD_SLOT, .dest = l->cold_dest[i]};
		load_cold_name(l, i, name);
		load_full_path(l, name, cold_jobs[i].path);
	}
}

static void serve(struct load *l)
{
	uv_loop_t *loop = uv_default_loop();

	make_jobs(l);
	for (unsigned i = 0; i < l->n_cold; i++)
		begin(&cold_jobs[i]);
	/* It takes the loop to get from one operation to the next. */
	while (l->n_cold > 0 && cold_sends == 0)
		uv_run(loop, UV_RUN_ONCE);
	load_start(l, true);
	ticks.data = l;
	must(uv_poll_init(loop, &ticks, l->timer));
	must(uv_poll_start(&ticks, UV_READABLE, on_tick));
	uv_run(loop, UV_RUN_DEFAULT);
}

const struct server via_libuv = {.name = "libuv, 4 threads", .serve = serve};
