/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/closer.h"
#include "server/os/files.h"
#include "server/transfer_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t LEASE_RETRY_NS = UINT64_C(20000000); /* doubled each time, up to */
static const uint64_t LEASE_RETRY_MAX_NS = UINT64_C(500000000);

/* ---- Files that a helper opens */

static void on_opened(void *owner, const struct job_answer *answer, int fd);

static bool submit(struct transfer *t)
{
	struct opening *o = t->opening;
	const struct job_spec spec = {
		.pool = POOL_OPEN,
		.use = {.device = o->device, .uid = t->owner.uid},
		.letter = {.kind = JOB_OPEN},
		.path = o->path,
		.path_len = o->path_len,
	};

	o->job = jobs_submit(&t->engine->jobs, &spec, t->engine->loop.now_ns, on_opened, t);
	return o->job != NULL;
}

static void begin_opening(struct transfer *t, const struct wire_request *r, const char *path)
{
	struct opening *o = malloc(sizeof *o + r->path_len + 1);

	t->state = TRANSFER_OPENING;
	t->opening = o;
	if (!o) {
		transfer_refuse(t, ENOMEM);
		return;
	}
	*o = (struct opening){
		.since_ns = t->engine->loop.now_ns,
		.delay_ns = LEASE_RETRY_NS,
		.offset = r->offset,
		.length = r->length,
		.device = os_device_beneath(t->engine->root_fd, path),
		.path_len = r->path_len,
	};
	memcpy(o->path, path, r->path_len + 1);
	if (!submit(t))
		transfer_refuse(t, ENOMEM);
	else if (channel_watch(t->channel) < 0)
		transfer_refuse(t, errno);
	else
		transfer_arm_timer(t);
}

void opening_free(struct transfer *t)
{
	if (t->opening && t->opening->job)
		jobs_abandon(&t->engine->jobs, t->opening->job);
	free(t->opening);
	t->opening = NULL;
}

bool opening_try_again(struct transfer *t)
{
	struct engine *e = t->engine;
	const struct opening *o = t->opening;

	if (o->job || (e->io_timeout_ns > 0 && o->since_ns + e->io_timeout_ns <= e->loop.now_ns))
		return false;
	if (!submit(t))
		return false;
	transfer_arm_timer(t);
	return true;
}

/* Somebody has a lease on the file, and has been told to give it up. No helper waits for that. */
static void wait_for_lease(struct transfer *t)
{
	struct opening *o = t->opening;

	o->retry_ns = t->engine->loop.now_ns + o->delay_ns;
	if (o->delay_ns < LEASE_RETRY_MAX_NS)
		o->delay_ns *= 2;
	transfer_arm_timer(t);
}

static void on_opened(void *owner, const struct job_answer *answer, int fd)
{
	struct transfer *t = owner;
	struct opening *o = t->opening;
	struct opened file = {.fd = fd};

	o->job = NULL;
	if (!answer) {
		bool again = !o->retried;

		o->retried = true;
		if (!again || !submit(t))
			transfer_refuse(t, EIO);
		return;
	}
	counter_add(&t->engine->own->opens[answer->reason < OPEN_REASONS ? answer->reason : OPEN_OTHER], 1);
	if (answer->err == EAGAIN) {
		wait_for_lease(t);
	} else if (answer->err != 0 || fd < 0) {
		closer_close(fd);
		transfer_refuse(
			t, answer->err != 0 ? answer->err : EMFILE); /* it came, but there was no room for it here */
	} else {
		file.st = answer->st;
		open_range(&file, o->offset, o->length);
		opening_free(t);
		transfer_take_file(t, &file, answer->parked);
		transfer_file_opened(t, &file);
	}
}

/* ---- Requests */

/* Counts first and looks then, so that two workers at the limit may both refuse but never both accept. */
static bool admit(struct engine *e)
{
	counter_add(&e->own->active, 1);
	if (stats_active(e->columns, e->column_count) <= e->max_transfers)
		return true;
	counter_add(&e->own->active, (uint64_t)-1);
	return false;
}

/* What a worker can open itself: 0, an errno that is the client's answer, or EAGAIN: a helper has to. */
static int open_at_once(struct engine *e, const struct wire_request *r, const char *path, struct opened *file)
{
	int err = EAGAIN;

	if (residency_allows(&e->residency, e->loop.now_ns))
		err = open_file(file, e->root_fd, path, true);
	if (err == 0)
		open_range(file, r->offset, r->length);
	return err == EXDEV ? EAGAIN : err;
}

/* One that never became a transfer. */
static void refuse_request(const struct wire_request *r, struct channel *c, int *dest, int err)
{
	closer_close(*dest);
	*dest = -1;
	channel_refuse(c, r->tag, err, JOURNAL_NONE);
}

void transfer_begin(
	struct engine *e, const struct wire_request *r, const struct owner *who, struct channel *c, int *dest)
{
	char path[WIRE_PATH_MAX + 1];
	struct opened file = {.fd = -1};
	struct dest d = {.kind = DEST_PIPE};
	struct transfer *t;
	int err, opened;

	if (!admit(e)) {
		refuse_request(r, c, dest, EMFILE);
		return;
	}
	memcpy(path, r->path, r->path_len);
	path[r->path_len] = '\0';
	err = r->op == WIRE_OP_SEND ? dest_classify(*dest, &d) : 0;
	opened = err == 0 ? open_at_once(e, r, path, &file) : err;
	if (opened != EAGAIN)
		err = opened;
	t = err == 0 ? transfer_new(e, r, who, c) : NULL;
	if (!t) {
		err = err != 0 ? err : errno;
		if (file.fd >= 0)
			closer_close_file(file.fd, file.st.st_nlink > 0);
		counter_add(&e->own->active, (uint64_t)-1);
		refuse_request(r, c, dest, err);
		return;
	}
	if (r->op != WIRE_OP_OPEN) {
		err = transfer_set_dest(t, r->op == WIRE_OP_READ ? c->source.fd : *dest, &d);
		*dest = -1;
	}
	if (opened == 0)
		transfer_take_file(t, &file, false);
	if (err != 0)
		transfer_refuse(t, err);
	else if (opened == 0)
		transfer_file_opened(t, &file);
	else
		begin_opening(t, r, path);
}
