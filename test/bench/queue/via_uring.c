/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * io_uring, as good as it gets here. What was tried and made no difference: registered buffers, write(2) instead of
 * send(2) to sockets, COOP_TASKRUN where DEFER_TASKRUN is. See `variants`.
 */
#include "test/bench/queue/queue.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* How a file is sent, in one or two chains of linked operations; and how the ring works. */
enum {
	CHAIN = 0,  /* open, statx, read, write, close: how much there is to read has to be known */
	READ = 1,   /* open, read into a buffer with room for more: the size is what came; write, close */
	FSTAT = 2,  /* open, and, with the size from fstat(2), which waits for no disk then: read, write, close */
	SPLICE = 3, /* the same, but nothing is copied: splice, through a pipe if the destination is none; close */
	WAY = 3,
	DEFER = 4,       /* SINGLE_ISSUER and DEFER_TASKRUN: no interrupts for what is done */
	COOP = 8,        /* COOP_TASKRUN */
	SQPOLL = 16,     /* a thread of the kernel's does the work: on another CPU than the client's, if there is one */
	ONE_WORKER = 32, /* for what the kernel hands to threads, as it does every splice */
	REGISTERED = 64, /* buffers */
};

enum op { OP_OPEN, OP_STAT, OP_READ, OP_WRITE, OP_CLOSE, OPS = 8 };

enum { ROOM = LARGE + 4096, SQES_EACH = 8, IDLE_MS = 2 };

struct job {
	int pipe[2];
	int file;
	struct statx stat;
	char *buffer;
};

/* What is done before the end is heard of only if it fails. A chain is broken by what comes short, too. */
static const unsigned NEXT = IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;

static struct io_uring ring;
static struct job *jobs;
static unsigned *idle, n_idle;

static int must(int res, const char *what)
{
	if (res < 0) {
		errno = -res;
		die(what);
	}
	return res;
}

/* A file opened through the ring, and a destination, are known by places in a table, and need no descriptor. */
static int dest_place(const struct load *l, unsigned slot)
{
	return (int)(l->in_flight + slot);
}

static void make_ring(const struct load *l)
{
	struct io_uring_params p = {.sq_thread_idle = IDLE_MS};
	unsigned entries = 1;
	int res;

	while (entries < l->in_flight * SQES_EACH)
		entries *= 2;
	p.flags |= l->how & DEFER ? IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN : 0;
	p.flags |= l->how & COOP ? IORING_SETUP_COOP_TASKRUN : 0;
	p.flags |= l->how & SQPOLL ? IORING_SETUP_SQPOLL | IORING_SETUP_SINGLE_ISSUER : 0;
	res = io_uring_queue_init_params(entries, &ring, &p);
	if (res == -EINVAL) {
		/* A kernel that does not know them yet. */
		p = (struct io_uring_params){.flags = p.flags & IORING_SETUP_SQPOLL, .sq_thread_idle = IDLE_MS};
		res = io_uring_queue_init_params(entries, &ring, &p);
	}
	must(res, "io_uring_queue_init_params");
	must(io_uring_register_ring_fd(&ring), "io_uring_register_ring_fd");
	if (l->how & ONE_WORKER)
		must(io_uring_register_iowq_max_workers(&ring, (unsigned[]){1, 0}),
			"io_uring_register_iowq_max_workers");
	must(io_uring_register_files_sparse(&ring, 2 * l->in_flight), "io_uring_register_files_sparse");
}

static void open_ring(struct load *l)
{
	struct iovec *iov = must_alloc(l->in_flight * sizeof *iov);

	make_ring(l);
	jobs = must_alloc(l->in_flight * sizeof *jobs);
	idle = must_alloc(l->in_flight * sizeof *idle);
	for (unsigned i = 0; i < l->in_flight; i++) {
		jobs[i].buffer = must_alloc(ROOM);
		/* The kernel finds the pages there. */
		memset(jobs[i].buffer, 1, ROOM);
		iov[i] = (struct iovec){.iov_base = jobs[i].buffer, .iov_len = ROOM};
		if ((l->how & WAY) == SPLICE && pipe2(jobs[i].pipe, O_CLOEXEC) < 0)
			die("pipe");
		must(io_uring_register_files_update(&ring, (unsigned)dest_place(l, i), &l->dests[i][1], 1),
			"io_uring_register_files_update");
		idle[n_idle++] = i;
	}
	if (l->how & REGISTERED)
		must(io_uring_register_buffers(&ring, iov, l->in_flight), "io_uring_register_buffers");
	free(iov);
}

static struct io_uring_sqe *next_sqe(void)
{
	struct io_uring_sqe *s = io_uring_get_sqe(&ring);

	while (!s) {
		must(io_uring_submit(&ring), "io_uring_submit");
		if (ring.flags & IORING_SETUP_SQPOLL)
			must(io_uring_sqring_wait(&ring), "io_uring_sqring_wait");
		s = io_uring_get_sqe(&ring);
	}
	return s;
}

static void set(struct io_uring_sqe *s, unsigned slot, enum op op, unsigned flags)
{
	io_uring_sqe_set_data64(s, (uint64_t)slot * OPS + op);
	io_uring_sqe_set_flags(s, flags);
}

static void add_read(const struct load *l, unsigned slot, int file, unsigned n, unsigned flags)
{
	struct io_uring_sqe *s = next_sqe();

	if (l->how & REGISTERED)
		io_uring_prep_read_fixed(s, file, jobs[slot].buffer, n, 0, (int)slot);
	else
		io_uring_prep_read(s, file, jobs[slot].buffer, n, 0);
	set(s, slot, OP_READ, flags);
}

static void add_write(const struct load *l, unsigned slot, unsigned n)
{
	struct io_uring_sqe *s = next_sqe();
	int dest = dest_place(l, slot);

	/* A socket may take less at a time: sending, unlike writing, goes on then. A pipe has room for all. */
	if (l->kind != DEST_PIPE)
		io_uring_prep_send(s, dest, jobs[slot].buffer, n, MSG_WAITALL);
	else if (l->how & REGISTERED)
		io_uring_prep_write_fixed(s, dest, jobs[slot].buffer, n, 0, (int)slot);
	else
		io_uring_prep_write(s, dest, jobs[slot].buffer, n, 0);
	set(s, slot, OP_WRITE, NEXT | IOSQE_FIXED_FILE);
}

static void add_splice(const struct load *l, unsigned slot, int file, unsigned n)
{
	struct io_uring_sqe *s = next_sqe();

	if (l->kind == DEST_PIPE) {
		io_uring_prep_splice(s, file, 0, dest_place(l, slot), -1, n, 0);
	} else {
		io_uring_prep_splice(s, file, 0, jobs[slot].pipe[1], -1, n, 0);
		set(s, slot, OP_READ, NEXT);
		s = next_sqe();
		io_uring_prep_splice(s, jobs[slot].pipe[0], -1, dest_place(l, slot), -1, n, 0);
	}
	set(s, slot, OP_WRITE, NEXT | IOSQE_FIXED_FILE);
}

/* Its completion is that of the request. */
static void add_close(const struct load *l, unsigned slot)
{
	struct io_uring_sqe *s = next_sqe();

	if ((l->how & WAY) == CHAIN || (l->how & WAY) == READ)
		io_uring_prep_close_direct(s, slot);
	else
		io_uring_prep_close(s, jobs[slot].file);
	set(s, slot, OP_CLOSE, 0);
}

static void start(struct load *l, unsigned slot)
{
	const char *name = load_file(l);
	struct io_uring_sqe *s = next_sqe();
	int root = l->arena->root_fd;

	load_next(l);
	if ((l->how & WAY) == FSTAT || (l->how & WAY) == SPLICE) {
		io_uring_prep_openat(s, root, name, O_RDONLY | O_CLOEXEC, 0);
		set(s, slot, OP_OPEN, 0);
		return;
	}
	io_uring_prep_openat_direct(s, root, name, O_RDONLY, 0, slot);
	set(s, slot, OP_OPEN, NEXT);
	if ((l->how & WAY) == READ) {
		add_read(l, slot, (int)slot, ROOM, IOSQE_FIXED_FILE);
		return;
	}
	s = next_sqe();
	io_uring_prep_statx(s, root, name, 0, STATX_SIZE | STATX_MTIME, &jobs[slot].stat);
	set(s, slot, OP_STAT, NEXT);
	add_read(l, slot, (int)slot, l->size, NEXT | IOSQE_FIXED_FILE);
	add_write(l, slot, l->size);
	add_close(l, slot);
}

/* The first chain of two has ended. */
static void go_on(const struct load *l, unsigned slot, enum op op, int res)
{
	struct stat st;

	if (op == OP_READ) {
		add_write(l, slot, (unsigned)res);
	} else {
		jobs[slot].file = res;
		if (fstat(res, &st) < 0)
			die("fstat");
		if ((l->how & WAY) == SPLICE) {
			add_splice(l, slot, res, (unsigned)st.st_size);
		} else {
			add_read(l, slot, res, (unsigned)st.st_size, NEXT);
			add_write(l, slot, (unsigned)st.st_size);
		}
	}
	add_close(l, slot);
}

static void handle(const struct load *l, const struct io_uring_cqe *c)
{
	unsigned slot = (unsigned)(c->user_data / OPS), way = l->how & WAY;
	enum op op = (enum op)(c->user_data % OPS);

	must(c->res, "io_uring");
	if (op == OP_CLOSE) {
		load_drain(l, slot);
		idle[n_idle++] = slot;
		return;
	}
	if (op == OP_OPEN ? way != FSTAT && way != SPLICE : op != OP_READ || way != READ) {
		fprintf(stderr, "bench: io_uring: operation %d of a request came short: %d\n", op, c->res);
		exit(1);
	}
	go_on(l, slot, op, c->res);
}

static void run(struct load *l)
{
	while (load_wants(l) || n_idle < l->in_flight) {
		struct io_uring_cqe *c;
		unsigned head, n = 0;

		while (n_idle > 0 && load_wants(l))
			start(l, idle[--n_idle]);
		must(io_uring_submit_and_wait(&ring, 1), "io_uring_submit_and_wait");
		io_uring_for_each_cqe(&ring, head, c)
		{
			handle(l, c);
			n++;
		}
		io_uring_cq_advance(&ring, n);
	}
}

static const char *missing(void)
{
	static char why[128];
	struct io_uring r;
	int res = io_uring_queue_init(1, &r, 0);

	if (res == 0) {
		res = io_uring_register_files_sparse(&r, 1);
		io_uring_queue_exit(&r);
	}
	if (res == 0)
		return NULL;
	snprintf(why, sizeof why, "io_uring cannot be used here (Linux 5.19 at least, and not forbidden): %s",
		strerror(-res));
	return why;
}

/* Those that are for no occasion were behind these, or no better: see row_add_all(). */
static const struct variant variants[] = {
	{"read", READ, FEW},
	{"read defer", READ | DEFER, FEW | MANY},
	{"read sqpoll", READ | SQPOLL, MANY},
	{"splice", SPLICE | DEFER | ONE_WORKER, MANY},
	{"read reg", READ | DEFER | REGISTERED, 0},
	{"read coop", READ | COOP, 0},
	{"fstat", FSTAT | DEFER, 0},
	{"fstat sqp", FSTAT | SQPOLL, 0},
	{"chain", CHAIN | DEFER, 0},
	{"chain reg", CHAIN | DEFER | REGISTERED, 0},
	{"chain sqp", CHAIN | SQPOLL, 0},
	{"splice n", SPLICE | DEFER, 0},
	{"splice sqp", SPLICE | SQPOLL, 0},
};

const struct client via_uring = {
	.name = "io_uring",
	.open = open_ring,
	.run = run,
	.variants = variants,
	.n_variants = sizeof variants / sizeof variants[0],
	.missing = missing,
};
