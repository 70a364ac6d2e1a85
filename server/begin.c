/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/closer.h"
#include "server/os/files.h"
#include "server/os/process.h"
#include "server/park.h"
#include "server/transfer_state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const uint64_t LEASE_RETRY_NS = UINT64_C(20000000); /* doubled each time, up to */
static const uint64_t LEASE_RETRY_MAX_NS = UINT64_C(500000000);

/* ---- Files that a helper opens */

static void on_opened(void *owner, const struct job_answer *answer, int fd);

static bool submit(struct transfer *t)
{
	struct opening *o = t->opening;
	struct job_spec spec = {
		.pool = POOL_OPEN,
		.use = {.device = o->device, .uid = t->owner.uid},
		.letter = {.kind = JOB_OPEN},
		.path = o->path,
		.path_len = o->path_len,
	};

	if (transfer_is_lent(t)) {
		spec.letter = (struct job_letter){
			.kind = JOB_LOOK,
			.flags = t->file.is_near ? JOB_CLOSES_AT_ONCE : JOB_FILE_PARKED,
		};
		spec.path = NULL;
		spec.fds[0] = t->file.fd;
		spec.nfds = 1;
	}
	o->job = jobs_submit(&t->engine->jobs, &spec, t->engine->loop.now_ns, on_opened, t);
	return o->job != NULL;
}

/* `path` is NULL for a file that is open already. */
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
		.device = path ? os_device_beneath(&t->engine->residency.root.dir, path) : t->file.device,
		.path_len = r->path_len,
	};
	if (path)
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

	if (!o->job && o->retry_ns <= e->loop.now_ns && !submit(t))
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
	if (transfer_is_lent(t))
		file.fd = t->file.fd;
	else
		counter_add(&t->engine->own->opens[answer->reason < OPEN_REASONS ? answer->reason : OPEN_OTHER], 1);
	if (answer->err == EAGAIN && !transfer_is_lent(t)) {
		wait_for_lease(t);
	} else if (answer->err != 0 || file.fd < 0) {
		closer_close(fd);
		transfer_refuse(
			t, answer->err != 0 ? answer->err : EMFILE); /* it came, but there was no room for it here */
	} else {
		file.st = answer->st;
		open_range(&file, o->offset, o->length);
		opening_free(t);
		transfer_take_file(t, &file, answer->parked || (transfer_is_lent(t) && !t->file.is_near));
		transfer_file_opened(t, &file);
	}
}

/* ---- Requests */

/*
 * Counts first and looks then, so that two workers at the limit may both refuse but never both accept. 0, or an errno:
 * EMFILE (there are as many as there may be), EDQUOT (its user has enough of them).
 */
static int admit(struct engine *e, const struct wire_request *r, const struct owner *who, struct share *share)
{
	struct share_claim claim = {
		.slot = e->slot,
		.uid = who->uid,
		.is_open = r->op == WIRE_OP_OPEN,
		.max = e->max_transfers,
		.now_ns = e->loop.now_ns,
	};
	int err = EMFILE;

	counter_add(&e->own->active, 1);
	claim.active = stats_active(e->columns, e->column_count) - 1;
	if (claim.active < claim.max)
		err = share_take(e->shares, &claim, share);
	if (err != 0)
		counter_add(&e->own->active, (uint64_t)-1);
	if (err == EDQUOT)
		notices_add(&e->notices, NOTICE_QUOTA, who, err, e->loop.now_ns);
	return err;
}

/* What a worker can open itself: 0, an errno that is the client's answer, or EAGAIN: a helper has to. */
static int open_at_once(struct engine *e, const struct wire_request *r, const char *path, struct opened *file)
{
	int err = EAGAIN;

	if (residency_allows(&e->residency, e->loop.now_ns))
		err = open_file(file, &e->residency.root.dir, path, true);
	if (err == 0)
		open_range(file, r->offset, r->length);
	return err == EXDEV ? EAGAIN : err;
}

/* One that never became a transfer. */
static void refuse_request(const struct wire_request *r, struct channel *c, const int *fds, int err)
{
	for (unsigned i = 0; i < wire_op_fds(r->op); i++)
		closer_close(fds[i]);
	channel_refuse(c, r->tag, err, JOURNAL_NONE);
}

/* What is needed for it before there is a transfer. */
struct beginning {
	char path[WIRE_PATH_MAX + 1];
	struct opened file; /* fd -1: a helper has to open it */
	struct dest dest;
	struct os_look lent; /* what file it is that the client has open */
};

/* Whether an open file is one that can be sent: 0, or an errno. An O_PATH descriptor says O_RDONLY too: open(2). */
static int look_at_lent(int fd, struct os_look *look)
{
	const int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || (flags & O_ACCMODE) == O_WRONLY || flags & O_PATH)
		return EBADF;
	if (os_look_at(fd, look) < 0)
		return errno;
	return look->type == S_IFREG ? 0 : EINVAL;
}

/* 0, an errno that is the client's answer, or EAGAIN: a helper has to open it. */
static int look_at(struct engine *e, const struct wire_request *r, const int *fds, struct beginning *b)
{
	int err = 0;

	if (r->op == WIRE_OP_SEND || r->op == WIRE_OP_SENDFD)
		err = dest_classify(fds[wire_op_fds(r->op) - 1], &b->dest);
	if (err == 0 && r->op == WIRE_OP_SENDFD)
		err = look_at_lent(fds[0], &b->lent);
	if (err != 0)
		return err;
	if (r->op == WIRE_OP_SENDFD)
		return EAGAIN;
	memcpy(b->path, r->path, r->path_len);
	b->path[r->path_len] = '\0';
	err = open_at_once(e, r, b->path, &b->file);
	/* A helper would ask the disk. */
	return err == EAGAIN && r->flags & WIRE_FLAG_NODISKIO ? EBUSY : err;
}

/*
 * One that may wait in close(2) is in a socket from now on, so that nothing here ever waits for it. What its own descriptor's
 * closing could wait for is its file system's server: the last one it is not. On the root's own local file system the last
 * close of a file that has a name waits for nothing, unless it is open for writing: then some file systems write, or give
 * back what they had set aside for more.
 */
static int keep_lent(struct transfer *t, int fd, const struct beginning *b)
{
	const struct os_root *root = &t->engine->residency.root;
	const bool is_near = root->local && b->lent.device == root->device;
	int err;

	t->file.is_memory = os_is_memory(fd);
	t->file.is_near = is_near && !t->file.is_memory && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY;
	t->file.device = b->lent.device;
	if (t->file.is_near) {
		t->file.fd = fd;
		return 0;
	}
	t->file.fd = park(fd);
	err = t->file.fd < 0 ? errno : 0;
	if (err == 0 && (t->file.is_memory || is_near))
		close(fd);
	else
		closer_close(fd);
	return err;
}

/* Takes over the descriptors. 0, or an errno. */
static int equip(
	struct transfer *t, const struct wire_request *r, struct channel *c, const int *fds, const struct beginning *b)
{
	const unsigned n = wire_op_fds(r->op);
	int err = 0, lent_err = 0;

	if (r->op != WIRE_OP_OPEN)
		err = transfer_set_dest(t, r->op == WIRE_OP_READ ? c->source.fd : fds[n - 1], &b->dest);
	if (r->op == WIRE_OP_SENDFD)
		lent_err = keep_lent(t, fds[0], b);
	if (b->file.fd >= 0)
		transfer_take_file(t, &b->file, false);
	if (err == 0)
		err = lent_err;
	return err != 0 ? err : transfer_ask(t, r);
}

/*
 * It waits for a second message, which must come from the same process, not from another one that has got its number. (A
 * queue ends with the process, and a transfer with its request.) 0, or an errno: ESRCH (it has ended already).
 */
static int bind_to_process(struct transfer *t, int process)
{
	if (t->op != WIRE_OP_OPEN || t->channel->ops->claim || t->owner.pid == 0)
		return 0;
	if (process == OS_PROCESS_ENDED)
		return ESRCH;
	t->process = process == OS_PROCESS_UNSAID ? os_watch_process(t->owner.pid) : fcntl(process, F_DUPFD_CLOEXEC, 0);
	return t->process < 0 && errno != ENOSYS && errno != EPERM ? errno : 0; /* which a container may say */
}

void transfer_begin(struct engine *e, const struct wire_request *r, const struct owner *who, int process,
	struct channel *c, int *fds)
{
	struct beginning b;
	struct transfer *t;
	struct share share;
	int err, opened;

	b.file = (struct opened){.fd = -1};
	b.dest = (struct dest){.kind = DEST_PIPE};
	err = admit(e, r, who, &share);
	if (err != 0) {
		refuse_request(r, c, fds, err);
		return;
	}
	opened = look_at(e, r, fds, &b);
	t = opened == 0 || opened == EAGAIN ? transfer_new(e, r, who, c) : NULL;
	if (!t) {
		err = opened != 0 && opened != EAGAIN ? opened : errno;
		if (b.file.fd >= 0)
			closer_close_file(b.file.fd, b.file.st.st_nlink > 0);
		share_give_back(e->shares, e->slot, &share);
		counter_add(&e->own->active, (uint64_t)-1);
		refuse_request(r, c, fds, err);
		return;
	}
	t->share = share;
	err = equip(t, r, c, fds, &b);
	if (err == 0)
		err = bind_to_process(t, process);
	if (err != 0)
		transfer_refuse(t, err);
	else if (opened == 0)
		transfer_file_opened(t, &b.file);
	else
		begin_opening(t, r, r->op == WIRE_OP_SENDFD ? NULL : b.path);
}
