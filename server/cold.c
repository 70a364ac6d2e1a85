/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/cold.h"

#include "server/os/files.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
	CHUNK_MIN = 64 * 1024,
	CHUNK_FIRST = 128 * 1024,
	CARRY_SIZE = 64 * 1024,
	FILL_SIZE = 64 * 1024,
	FROM_MEMORY = 4,              /* bytes a nanosecond: who moves references to pages is faster, and no disk is */
	COPY_CHUNK = 8 * 1024 * 1024, /* from file to file, which takes no pipe; few enough to be cancelled soon */
};

/* A job of one chunk shall take less than what makes its device count as sick. */
static const uint64_t SLOW_NS = UINT64_C(30000000), FAST_NS = UINT64_C(10000000);

static const struct pipe_pair no_pipe = {-1, -1};

static struct cold *from_holder(struct pipe_holder *h)
{
	return container_of(h, struct cold, holder);
}

static void drop_pipe(struct cold *c, struct pipe_pair *pair, bool empty)
{
	if (pair->read_fd >= 0)
		pipes_put(&c->engine->pipes, pair, empty);
	*pair = no_pipe;
}

/* Forgets what is in the pipes: it is read again, from what the destination has got on. */
static void start_over(struct cold *c)
{
	if (c->reading)
		jobs_abandon(&c->engine->jobs, c->reading);
	c->reading = NULL;
	pipes_moving(&c->holder);
	drop_pipe(c, &c->draining, false);
	drop_pipe(c, &c->filling, false);
	drop_pipe(c, &c->text, false);
	c->in_draining = c->in_filling = 0;
	c->carry_len = 0;
	c->end = 0;
}

/* Its bytes wait for a destination that is full, or for a writer. Afterwards there may be another deadline, or none. */
static void on_rob(struct pipe_holder *h)
{
	struct cold *c = from_holder(h);

	if (c->writing) {
		jobs_abandon(&c->engine->jobs, c->writing);
		c->writing = NULL;
	}
	start_over(c);
	c->wake(c->owner);
}

struct cold *cold_new(const struct cold_config *config)
{
	struct cold *c = malloc(sizeof *c);

	if (!c)
		return NULL;
	*c = (struct cold){
		.engine = config->engine,
		.move = config->move,
		.file = config->file,
		.dest = config->dest,
		.dest_parked = config->dest_parked,
		.uid = config->uid,
		.wish = config->wish,
		.copies = config->wish.copies,
		.wake = config->wake,
		.owner = config->owner,
		.holder = {.rob = on_rob},
		.draining = no_pipe,
		.filling = no_pipe,
		.text = no_pipe,
		/* What has no position, or has it where it ends, is asked for none. */
		.knows_position = config->dest.kind != DEST_FILE || config->dest.appends,
	};
	list_init(&c->holder.node);
	return c;
}

void cold_free(struct cold *c)
{
	if (!c)
		return;
	start_over(c);
	if (c->writing)
		jobs_abandon(&c->engine->jobs, c->writing);
	free(c->carry);
	free(c);
}

uint64_t cold_since_ns(const struct cold *c)
{
	uint64_t since = c->reading ? c->reading_ns : UINT64_MAX;

	return c->writing && c->writing_ns < since ? c->writing_ns : since;
}

/* ---- Reading */

static bool give_pipe(void *owner, struct job_spec *spec)
{
	struct cold *c = owner;

	if (pipes_get(&c->engine->pipes, &c->filling) < 0)
		return false;
	spec->fds[1] = c->filling.write_fd;
	spec->fds[2] = c->filling.read_fd;
	return true;
}

/* Of a reader that was killed: what the pipe holds it has read. */
static uint64_t count_bytes(const struct pipe_pair *pair)
{
	int n = 0;

	if (pair->read_fd < 0 || ioctl(pair->read_fd, FIONREAD, &n) < 0 || n < 0)
		return 0;
	return (uint64_t)n;
}

/* What is known of each device is kept where its number leads; two that share a place only take longer to find out. */
static struct chunk_size *chunk_of(struct cold *c)
{
	struct chunk_size *s = &c->engine->chunks[c->file->device % ENGINE_CHUNKS];

	if (s->device != c->file->device || s->bytes == 0)
		*s = (struct chunk_size){.device = c->file->device, .bytes = CHUNK_FIRST};
	return s;
}

static void adapt_chunk(struct cold *c, uint64_t took_ns)
{
	struct chunk_size *s = chunk_of(c);

	if (took_ns > SLOW_NS && s->bytes > CHUNK_MIN)
		s->bytes /= 2;
	else if (took_ns < FAST_NS && s->bytes < PIPE_CHUNK)
		s->bytes *= 2;
}

static void on_read(void *owner, const struct job_answer *answer, int fd)
{
	struct cold *c = owner;

	(void)fd; /* there is none */
	c->reading = NULL;
	if (answer) {
		adapt_chunk(c, answer->took_ns);
		c->in_filling = answer->bytes;
		c->slow = answer->took_ns * FROM_MEMORY > answer->bytes;
		c->end = answer->err != 0 ? answer->err : answer->at_end ? COLD_EOF : 0;
	} else {
		c->in_filling = count_bytes(&c->filling);
		c->end = c->retried ? EIO : 0;
		c->retried = true;
	}
	if (c->in_filling == 0)
		drop_pipe(c, &c->filling, true);
	c->wake(c->owner);
}

static bool reads_no_more(const struct cold *c)
{
	return c->wish.flags & JOB_ONLY_AHEAD;
}

/* How much to read at a time, of `left` bytes. */
static uint64_t chunk_size(struct cold *c, uint64_t left)
{
	uint64_t n = chunk_of(c)->bytes;

	if (reads_no_more(c) && n > c->wish.ahead)
		n = c->wish.ahead > OS_PAGE_BYTES ? c->wish.ahead : OS_PAGE_BYTES;
	if (c->wish.chunk_max > 0 && n > c->wish.chunk_max)
		n = c->wish.chunk_max;
	if (c->wish.copies && n > CARRY_SIZE)
		n = CARRY_SIZE; /* so that all of it can be carried, and its pipe serves others */
	return n < left ? n : left;
}

/*
 * How much the disk is asked for behind a chunk: it shall not stand idle until the next job comes. A chunk that is itself read
 * ahead of what is being sent counts.
 */
static uint64_t ahead_of(struct cold *c, uint64_t chunk, uint64_t left)
{
	uint64_t n = c->wish.ahead;

	if (c->in_draining > 0)
		n -= chunk < n ? chunk : n;
	if (!reads_no_more(c) && c->slow && c->file->local && n < chunk && c->wish.chunk_max == 0)
		n = chunk;
	if (c->wish.flags & JOB_NOCACHE)
		n = 0; /* nobody would see to its leaving */
	return n < left - chunk ? n : left - chunk;
}

int cold_read(struct cold *c)
{
	uint64_t held = c->in_draining + c->in_filling, left = c->move->left - held, chunk = chunk_size(c, left);
	const struct job_spec spec = {
		.pool = POOL_READ,
		.use = {.device = c->file->device, .uid = c->uid},
		.letter =
			{
				.kind = JOB_READ,
				.flags = (c->file->parked ? JOB_FILE_PARKED : JOB_CLOSES_AT_ONCE) | c->wish.flags,
				.offset = c->move->offset + (int64_t)held,
				.length = chunk,
				.ahead = ahead_of(c, chunk, left),
			},
		.fds = {c->file->fd, -1, -1},
		.nfds = 3,
		.prepare = give_pipe,
	};

	counter_add(&c->engine->own->cold_turns, 1);
	c->reading_ns = c->engine->loop.now_ns;
	c->reading = jobs_submit(&c->engine->jobs, &spec, c->reading_ns, on_read, c);
	if (c->reading)
		return 0;
	errno = ENOMEM;
	return -1;
}

/* Reads the next chunk while this one drains, if that costs nobody a pipe, and is not in memory anyway. */
static void read_ahead(struct cold *c)
{
	struct engine *e = c->engine;
	const uint64_t left = c->move->left - c->in_draining;
	const struct heat_query query = {
		.offset = c->move->offset + (int64_t)c->in_draining,
		.length = chunk_size(c, left),
		.left = left,
	};

	if (c->reading || c->in_filling > 0 || c->end != 0 || left == 0 || !pipes_plenty(&e->pipes))
		return;
	if (c->wish.only_hot || c->wish.chunk_max > 0 || (reads_no_more(c) && c->wish.ahead == 0))
		return;
	if (!dest_is_written(c->dest.kind) &&
		residency_heat(&e->residency, c->file, &query, e->loop.now_ns) != HEAT_COLD)
		return;
	cold_read(c); /* if there is no memory for it now, it is read when it is needed */
}

/* The bytes that were read ahead are next. False if there are none. */
static bool take_filled(struct cold *c)
{
	drop_pipe(c, &c->draining, true);
	if (c->reading || c->in_filling == 0)
		return false;
	c->draining = c->filling;
	c->in_draining = c->in_filling;
	c->filling = no_pipe;
	c->in_filling = 0;
	return true;
}

/* ---- To what can be polled */

static void advance(struct cold *c, uint64_t n)
{
	move_advance(c->move, n);
	c->in_draining -= n;
}

static bool must_copy(const struct cold *c)
{
	return c->copies || c->carry_len > 0 || c->move->kind == DEST_STREAM_BLOCKING || c->move->kind == DEST_TERMINAL;
}

/*
 * Takes as much as can be out of the pipe. What moves slowly would keep that for seconds, and pipes are few: so it is given back
 * when it is empty. 0, or -1 and errno.
 */
static int load_carry(struct cold *c)
{
	const size_t most = c->wish.copies && c->wish.chunk_max > 0 && c->wish.chunk_max < CARRY_SIZE
				    ? (size_t)c->wish.chunk_max
				    : CARRY_SIZE;
	ssize_t n;

	if (!c->carry && !(c->carry = malloc(most)))
		return -1;
	n = read(c->draining.read_fd, c->carry, c->in_draining < most ? c->in_draining : most);
	if (n <= 0) {
		errno = n == 0 || errno == EAGAIN ? EIO : errno;
		return -1;
	}
	c->carry_at = 0;
	c->carry_len = (uint32_t)n;
	if (c->carry_len == c->in_draining)
		drop_pipe(c, &c->draining, true);
	return 0;
}

/* What was read out of the pipe and not taken is kept, since it cannot be put back. */
static ssize_t drain_by_copy(struct cold *c, uint64_t most)
{
	ssize_t n;

	if (c->carry_len == 0 && load_carry(c) < 0)
		return -1;
	n = move_put(c->move, c->carry + c->carry_at, c->carry_len < most ? c->carry_len : most, false);
	if (n > 0) {
		c->carry_at += (uint32_t)n;
		c->carry_len -= (uint32_t)n;
	}
	return n;
}

/* The file's first bytes are at hand. */
static enum move_result put_head(struct cold *c, uint64_t *budget)
{
	const uint64_t before = c->move->written;
	enum move_result result = move_head(c->move, *budget);

	*budget -= c->move->written - before;
	return result;
}

static enum move_result drain(struct cold *c, uint64_t *budget)
{
	if (c->move->head.left > 0) {
		enum move_result result = put_head(c, budget);

		if (result != MOVE_DONE)
			return result;
	}
	while (c->in_draining > 0 && *budget > 0) {
		uint64_t n = c->in_draining < *budget ? c->in_draining : *budget;
		ssize_t moved = must_copy(c) ? drain_by_copy(c, n) : move_from_pipe(c->move, c->draining.read_fd, n);

		if (moved > 0) {
			advance(c, (uint64_t)moved);
			*budget -= (uint64_t)moved < *budget ? (uint64_t)moved : *budget;
		} else if (moved < 0 && errno == EAGAIN && (c->carry_len > 0 || !must_copy(c))) {
			return MOVE_BLOCKED;
		} else if (moved < 0 && move_is_refusal(errno) && !must_copy(c)) {
			c->copies = true;
			counter_add(&c->engine->own->fallbacks, 1);
		} else if (moved == 0 || (errno != EINTR && errno != EAGAIN)) {
			errno = moved == 0 ? EIO : errno;
			return MOVE_FAILED;
		}
	}
	return c->in_draining > 0 ? MOVE_MORE : MOVE_DONE;
}

/* Others may have its pipes, if it has any: what was read is read again. */
static void stall(struct cold *c, uint64_t now_ns)
{
	if (c->draining.read_fd >= 0 || c->in_filling > 0)
		pipes_stalled(&c->engine->pipes, &c->holder, now_ns);
}

void cold_rest(struct cold *c)
{
	if (c->in_draining > 0 && !c->writing)
		stall(c, c->engine->loop.now_ns);
}

/* Nothing is in the pipes any more: what comes now? */
static enum move_result next_step(const struct cold *c)
{
	if (c->move->left == 0)
		return MOVE_DONE;
	if (c->reading)
		return MOVE_WAITING;
	if (c->end == COLD_EOF)
		return MOVE_SHORT;
	if (c->end != 0) {
		errno = c->end;
		return MOVE_FAILED;
	}
	return MOVE_COLD;
}

static enum move_result run_polled(struct cold *c, uint64_t budget)
{
	do {
		enum move_result result;

		if (c->in_draining == 0)
			continue;
		read_ahead(c);
		result = drain(c, &budget);
		if (result == MOVE_BLOCKED)
			stall(c, c->engine->loop.now_ns);
		else
			pipes_moving(&c->holder);
		if (result != MOVE_DONE)
			return result;
	} while (take_filled(c));
	return next_step(c);
}

/* ---- To what only helpers write */

static void on_written(void *owner, const struct job_answer *answer, int fd)
{
	struct cold *c = owner;
	bool again = c->dest.kind == DEST_FILE && !c->dest.appends && !c->retried;

	(void)fd; /* there is none */
	c->writing = NULL;
	if (answer) {
		counter_add(&c->engine->own->fallbacks, answer->fallbacks);
		c->position = answer->position;
		c->knows_position = true;
		move_advance(c->move, answer->bytes);
		if (c->text.read_fd < 0)
			c->in_draining -= answer->bytes < c->in_draining ? answer->bytes : c->in_draining;
		drop_pipe(c, &c->text, answer->err == 0);
		c->write_err = answer->err;
		if (answer->at_end && c->write_err == 0)
			c->end = COLD_EOF;
	} else if (again) {
		c->retried = true;
		start_over(c); /* the same bytes to the same place */
	} else {
		c->write_err = EIO;
	}
	c->wake(c->owner);
}

/* There is a writer for what is in the pipe. */
static bool start_draining(void *owner, struct job_spec *spec)
{
	struct cold *c = owner;

	(void)spec;
	pipes_moving(&c->holder);
	return true;
}

/* What comes next of the text, as much as the pipe takes: all but surely, since it is empty. */
static bool load_text(void *owner, struct job_spec *spec)
{
	struct cold *c = owner;
	const struct move_text *text = c->move->head.left > 0 ? &c->move->head : &c->move->tail;
	ssize_t n;

	if (pipes_get(&c->engine->pipes, &c->text) < 0)
		return false;
	n = write(c->text.write_fd, text->at, text->left < spec->letter.length ? text->left : spec->letter.length);
	if (n <= 0) {
		drop_pipe(c, &c->text, true);
		return false;
	}
	spec->letter.length = (uint64_t)n;
	spec->fds[1] = c->text.read_fd;
	spec->fds[2] = c->text.write_fd;
	return start_draining(owner, spec);
}

/* Where the bytes of a job come from. */
enum origin { FROM_NOWHERE, FROM_FILE, FROM_PIPE, FROM_TEXT };

static enum move_result write_job(struct cold *c, enum origin origin, uint64_t length)
{
	static const enum job_kind kinds[] = {
		[FROM_NOWHERE] = JOB_TELL, [FROM_FILE] = JOB_COPY, [FROM_PIPE] = JOB_DRAIN, [FROM_TEXT] = JOB_DRAIN};
	struct job_spec spec = {
		.pool = POOL_WRITE,
		.use = {.device = c->dest.device, .uid = c->uid},
		.letter =
			{
				.kind = (uint32_t)kinds[origin],
				.offset = c->move->offset,
				.length = length,
				.position = c->position,
				.flags = (c->dest_parked ? JOB_DEST_PARKED : 0U) |
					 (c->dest.appends ? JOB_APPENDS : 0U) |
					 (c->dest.kind == DEST_DEVICE ? JOB_IS_STREAM : 0U),
			},
		.fds = {c->move->dest, -1, -1},
		.nfds = 1,
	};

	if (origin == FROM_FILE) {
		spec.fds[spec.nfds++] = c->file->fd;
		spec.letter.flags |= c->file->parked ? JOB_FILE_PARKED : 0U;
	} else if (origin == FROM_PIPE) {
		spec.fds[spec.nfds++] = c->draining.read_fd;
		spec.fds[spec.nfds++] = c->draining.write_fd;
		spec.prepare = start_draining;
	} else if (origin == FROM_TEXT) {
		spec.nfds = 3;
		spec.prepare = load_text;
	}
	c->writing_ns = c->engine->loop.now_ns;
	c->writing = jobs_submit(&c->engine->jobs, &spec, c->writing_ns, on_written, c);
	if (c->writing && c->in_draining > 0 && jobs_is_queued(c->writing))
		pipes_stalled(&c->engine->pipes, &c->holder, c->writing_ns);
	if (c->writing)
		return MOVE_WAITING;
	errno = ENOMEM;
	return MOVE_FAILED;
}

/* One device is as sick as itself: a helper may wait for it at both ends. */
static bool can_copy(const struct cold *c)
{
	return c->dest.kind == DEST_FILE && c->dest.device == c->file->device && !c->wish.only_hot &&
	       !(c->wish.flags & (JOB_NOCACHE | JOB_NOWAIT | JOB_IS_LENT));
}

/* The file's next bytes. */
static enum move_result fetch(struct cold *c, uint64_t budget)
{
	enum move_result result = next_step(c);

	if (result != MOVE_COLD || c->wish.only_hot)
		return result;
	if (!can_copy(c))
		return cold_read(c) < 0 ? MOVE_FAILED : MOVE_WAITING;
	if (budget > COPY_CHUNK || c->wish.chunk_max == 0)
		budget = COPY_CHUNK;
	return write_job(c, FROM_FILE, c->move->left < budget ? c->move->left : budget);
}

static enum move_result run_written(struct cold *c, uint64_t budget)
{
	if (c->writing)
		return MOVE_WAITING;
	if (c->write_err != 0) {
		errno = c->write_err;
		return MOVE_FAILED;
	}
	if (move_left(c->move) == 0)
		return MOVE_DONE;
	if (!c->knows_position)
		return write_job(c, FROM_NOWHERE, 0);
	if (c->move->left == 0)
		return write_job(c, FROM_TEXT, budget);
	if (c->in_draining == 0 && !take_filled(c) && !(c->move->head.left > 0 && can_copy(c)))
		return fetch(c, budget);
	/* The first bytes are at hand (or will be copied where they lie). */
	if (c->move->head.left > 0)
		return write_job(c, FROM_TEXT, budget);
	read_ahead(c);
	return write_job(c, FROM_PIPE, c->wish.chunk_max > 0 && c->in_draining > budget ? budget : c->in_draining);
}

enum move_result cold_fill(struct cold *c, uint64_t n)
{
	static unsigned char buffer[FILL_SIZE];
	uint64_t done = 0;
	ssize_t got, put;

	if (pipes_get(&c->engine->pipes, &c->filling) < 0)
		return MOVE_PACED;
	do {
		const uint64_t rest = c->move->left - done < n - done ? c->move->left - done : n - done;

		got = os_read_cached(c->file->fd, buffer, rest < sizeof buffer ? rest : sizeof buffer,
			c->move->offset + (off_t)done);
		put = got > 0 ? write(c->filling.write_fd, buffer, (size_t)got) : 0;
		if (put > 0)
			done += (uint64_t)put;
	} while (put > 0 && done < n && done < c->move->left);
	c->in_filling = done;
	if (done > 0)
		return MOVE_MORE;
	drop_pipe(c, &c->filling, true);
	errno = got < 0 && errno == EAGAIN ? EBUSY : errno;
	return got == 0 ? MOVE_SHORT : MOVE_FAILED;
}

enum move_result cold_run(struct cold *c, uint64_t budget)
{
	return dest_is_written(c->dest.kind) ? run_written(c, budget) : run_polled(c, budget);
}
