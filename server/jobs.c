/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/jobs.h"

#include "server/closer.h"
#include "server/fdpass.h"
#include "server/loop.h"
#include "server/mailbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	LOOK_MS = 100, /* what waits is looked at so often even if no place is offered: who should have may have died */
	LOOK_NS = LOOK_MS * 1000 * 1000,
};

struct job {
	struct list node;        /* in uid_queue.jobs */
	struct uid_queue *queue; /* NULL: under way */
	struct place place;      /* where */
	struct job *next; /* under way there: a helper may take the next job before the answer to the last is read */
	uint32_t deaths;  /* of that place when the job was sent there */
	bool suspect;
	uint64_t sent_ns;
	job_done_fn *done;
	void *owner;
	struct job_spec spec;
	char path[];
};

struct device_queue {
	struct list node; /* in jobs.devices */
	struct list uids;
	uint64_t device;
	unsigned kind;
};

struct uid_queue {
	struct list node; /* in device_queue.uids */
	struct list jobs;
	struct device_queue *device;
	uid_t uid;
};

int jobs_init(struct jobs *js, const struct jobs_config *config)
{
	*js = (struct jobs){
		.pools = config->pools,
		.own = config->own,
		.boxes = config->boxes,
		.mailboxes = config->mailboxes,
		.worker = config->worker,
		.master_fd = config->master_fd,
		.look_ns = UINT64_MAX,
	};
	for (unsigned i = 0; i < POOL_KINDS; i++)
		list_init(&js->devices[i]);
	js->running = calloc((size_t)POOL_KINDS * pools_places(js->pools), sizeof(*js->running));
	return js->running ? 0 : -1;
}

static struct job **running_at(struct jobs *js, unsigned kind, unsigned index)
{
	return &js->running[kind * pools_places(js->pools) + index];
}

/* ---- The queue */

static struct device_queue *device_queue(struct jobs *js, unsigned kind, uint64_t device)
{
	struct device_queue *q;

	for (struct list *n = js->devices[kind].next; n != &js->devices[kind]; n = n->next) {
		q = container_of(n, struct device_queue, node);
		if (q->device == device)
			return q;
	}
	q = malloc(sizeof *q);
	if (!q)
		return NULL;
	*q = (struct device_queue){.device = device, .kind = kind};
	list_init(&q->node);
	list_init(&q->uids);
	list_append(&js->devices[kind], &q->node);
	return q;
}

static struct uid_queue *uid_queue(struct device_queue *d, uid_t uid)
{
	struct uid_queue *q;

	for (struct list *n = d->uids.next; n != &d->uids; n = n->next) {
		q = container_of(n, struct uid_queue, node);
		if (q->uid == uid)
			return q;
	}
	q = malloc(sizeof *q);
	if (!q)
		return NULL;
	*q = (struct uid_queue){.device = d, .uid = uid};
	list_init(&q->node);
	list_init(&q->jobs);
	list_append(&d->uids, &q->node);
	return q;
}

static void drop_if_empty(struct device_queue *d)
{
	if (!list_empty(&d->uids))
		return;
	list_remove(&d->node);
	free(d);
}

static int enqueue(struct jobs *js, struct job *job)
{
	struct device_queue *d = device_queue(js, job->spec.pool, job->spec.use.device);
	struct uid_queue *q = d ? uid_queue(d, job->spec.use.uid) : NULL;

	if (!q) {
		if (d)
			drop_if_empty(d);
		return -1;
	}
	job->queue = q;
	list_append(&q->jobs, &job->node);
	pool_set_waiting(js->pools, job->spec.pool, js->worker, ++js->queued[job->spec.pool]);
	return 0;
}

static void dequeue(struct jobs *js, struct job *job)
{
	struct uid_queue *q = job->queue;
	struct device_queue *d = q->device;

	job->queue = NULL;
	list_remove(&job->node);
	pool_set_waiting(js->pools, job->spec.pool, js->worker, --js->queued[job->spec.pool]);
	if (!list_empty(&q->jobs))
		return;
	list_remove(&q->node);
	free(q);
	drop_if_empty(d);
}

/* It had its turn: others first now. To be called before it is dequeued. */
static void rotate(struct jobs *js, struct job *job)
{
	struct uid_queue *q = job->queue;
	struct device_queue *d = q->device;

	list_remove(&q->node);
	list_append(&d->uids, &q->node);
	list_remove(&d->node);
	list_append(&js->devices[d->kind], &d->node);
}

/* The next job that the rules allow, in turn; NULL if there is none. */
static struct job *pick(struct jobs *js, enum pool_kind kind, uint64_t now_ns)
{
	for (struct list *dn = js->devices[kind].next; dn != &js->devices[kind]; dn = dn->next) {
		struct device_queue *d = container_of(dn, struct device_queue, node);

		for (struct list *un = d->uids.next; un != &d->uids; un = un->next) {
			struct uid_queue *q = container_of(un, struct uid_queue, node);
			struct job *job = container_of(q->jobs.next, struct job, node);

			if (pool_has_room(js->pools, kind, &job->spec.use, now_ns))
				return job;
		}
	}
	return NULL;
}

/* ---- Places */

static void hand_on(struct jobs *js, const struct place *place, unsigned origin, unsigned hops)
{
	mailbox_hand_on(js->pools, js->mailboxes, place, origin, js->worker, hops);
}

/* What `prepare` has given stays given: it is asked once. */
static bool is_prepared(struct job *job)
{
	if (job->spec.prepare && !job->spec.prepare(job->owner, &job->spec))
		return false;
	job->spec.prepare = NULL;
	return true;
}

static bool send_job(struct jobs *js, struct job *job, const struct place *place, uint64_t now_ns)
{
	_Alignas(8) char buf[JOB_LETTER_MAX];
	struct job_letter *letter = (struct job_letter *)(void *)buf;
	size_t len = sizeof *letter;

	if (!is_prepared(job))
		return false;
	*letter = job->spec.letter;
	letter->worker = js->worker;
	letter->seq = place->seq;
	if (job->spec.path) {
		memcpy(buf + len, job->path, job->spec.path_len + 1);
		len += job->spec.path_len + 1;
	}
	job->deaths = pool_deaths(js->pools, place->kind, place->index);
	if (!pool_is_busy(js->pools, place))
		return false; /* the helper there has died since the place was taken, so that death is none of this job's */
	if (fdpass_send(js->boxes[place->kind][place->index], buf, len, job->spec.fds, job->spec.nfds) < 0)
		return false;
	rotate(js, job);
	dequeue(js, job);
	job->place = *place;
	job->sent_ns = now_ns;
	job->next = *running_at(js, place->kind, place->index);
	*running_at(js, place->kind, place->index) = job;
	js->running_count++;
	return true;
}

/* (What cannot be written because the pipe is full has been said already.) */
static void wake_master(const struct jobs *js)
{
	ssize_t n;

	do
		n = write(js->master_fd, "", 1);
	while (n < 0 && errno == EINTR);
}

/* Finds places for as many as the rules allow. */
static void dispatch(struct jobs *js, enum pool_kind kind, uint64_t now_ns)
{
	struct place place;
	struct job *job;

	while (js->queued[kind] > 0 && (job = pick(js, kind, now_ns)) != NULL) {
		if (!pool_take(js->pools, kind, js->worker, &job->spec.use, now_ns, &place)) {
			if (pool_want(js->pools, kind, now_ns))
				wake_master(js);
			break;
		}
		if (!send_job(js, job, &place, now_ns)) { /* no pipe, or no room for its descriptors: later */
			hand_on(js, &place, js->worker, 0);
			break;
		}
	}
	js->look_ns = now_ns + LOOK_NS;
}

void jobs_offer(struct jobs *js, const struct job_answer *offer, unsigned origin, uint64_t now_ns)
{
	struct place place = {.kind = (enum pool_kind)offer->pool, .index = offer->index, .seq = offer->seq};
	struct job *job;

	if (!pool_is_offered(js->pools, &place, js->worker))
		return;
	job = pick(js, place.kind, now_ns);
	if (!job || !pool_accept(js->pools, &place, js->worker, &job->spec.use, now_ns)) {
		/* On to those who come before the one at which the round began. */
		hand_on(js, &place, origin, (origin + WORKERS_MAX - js->worker) % WORKERS_MAX);
		return;
	}
	if (!send_job(js, job, &place, now_ns))
		hand_on(js, &place, origin, 0);
	dispatch(js, place.kind, now_ns);
}

/* ---- Jobs */

struct job *jobs_submit(struct jobs *js, const struct job_spec *spec, uint64_t now_ns, job_done_fn *done, void *owner)
{
	struct job *job = malloc(sizeof *job + (spec->path ? spec->path_len + 1 : 0));

	if (!job)
		return NULL;
	*job = (struct job){.done = done, .owner = owner, .spec = *spec};
	list_init(&job->node);
	if (spec->path) {
		memcpy(job->path, spec->path, spec->path_len);
		job->path[spec->path_len] = '\0';
		job->spec.path = job->path;
	}
	if (enqueue(js, job) < 0) {
		free(job);
		return NULL;
	}
	counter_add(&js->own->jobs[spec->pool], 1);
	dispatch(js, spec->pool, now_ns);
	return job;
}

static void forget(struct jobs *js, struct job *job)
{
	struct job **at = running_at(js, job->place.kind, job->place.index);

	while (*at != job)
		at = &(*at)->next;
	*at = job->next;
	js->running_count--;
}

/* Also what is never answered, or too late, took so long: that is what tells of a sick device. */
static void count_time(struct jobs *js, const struct job *job, uint64_t now_ns)
{
	stats_job(js->own, job->spec.use.device, now_ns - job->sent_ns);
}

void jobs_abandon(struct jobs *js, struct job *job)
{
	if (job->queue) {
		dequeue(js, job);
	} else {
		count_time(js, job, clock_now_ns());
		forget(js, job);
	}
	free(job);
}

bool jobs_is_queued(const struct job *job)
{
	return job->queue != NULL;
}

static void end(struct jobs *js, struct job *job, const struct job_answer *answer, int fd)
{
	job_done_fn *done = job->done;
	void *owner = job->owner;

	forget(js, job);
	free(job);
	done(owner, answer, fd);
}

void jobs_answer(struct jobs *js, const struct job_answer *answer, int fd, uint64_t now_ns)
{
	struct job *job = NULL;

	if (answer->pool < POOL_KINDS && answer->index < pools_places(js->pools))
		job = *running_at(js, answer->pool, answer->index);
	while (job && job->place.seq != answer->seq)
		job = job->next;
	if (!job) {
		closer_close(fd); /* too late: nobody waits for it */
		return;
	}
	count_time(js, job, now_ns);
	end(js, job, answer, fd);
}

bool jobs_suspect(struct jobs *js)
{
	bool any = false;

	for (unsigned i = 0; js->running_count > 0 && i < POOL_KINDS * pools_places(js->pools); i++) {
		for (struct job *job = js->running[i]; job; job = job->next) {
			job->suspect = pool_deaths(js->pools, job->place.kind, job->place.index) != job->deaths;
			any = any || job->suspect;
		}
	}
	return any;
}

static struct job *next_suspect(struct jobs *js)
{
	for (unsigned i = 0; i < POOL_KINDS * pools_places(js->pools); i++) {
		for (struct job *job = js->running[i]; job; job = job->next) {
			if (job->suspect) /* NOLINT(clang-analyzer-unix.Malloc): one that was freed has left the chain */
				return job;
		}
	}
	return NULL;
}

void jobs_bury(struct jobs *js, uint64_t now_ns)
{
	struct job *job;

	while ((job = next_suspect(js)) != NULL) {
		counter_add(&js->own->jobs_lost, 1);
		count_time(js, job, now_ns);
		end(js, job, NULL, -1);
	}
	js->look_ns = now_ns;
}

void jobs_work(struct jobs *js, uint64_t now_ns)
{
	if (now_ns < js->look_ns)
		return;
	js->look_ns = UINT64_MAX;
	for (unsigned i = 0; i < POOL_KINDS; i++) {
		if (js->queued[i] > 0)
			dispatch(js, (enum pool_kind)i, now_ns);
	}
}

void jobs_look_soon(struct jobs *js)
{
	js->look_ns = 0;
}

int jobs_nap_ms(const struct jobs *js)
{
	for (unsigned i = 0; i < POOL_KINDS; i++) {
		if (js->queued[i] > 0)
			return LOOK_MS;
	}
	return -1;
}
