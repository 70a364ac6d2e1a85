/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/helper.h"

#include "server/child.h"
#include "server/fdpass.h"
#include "server/loop.h"
#include "server/mailbox.h"
#include "server/park.h"
#include "server/reader.h"
#include "server/writer.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sysexits.h>
#include <unistd.h>

enum {
	IDLE_MS = 30 * 1000,
	MAILBOX_FULL_MS = 1000, /* how long to wait for room before looking again */
};

static const char *const titles[POOL_KINDS] = {"open", "read", "write"}; /* a process's name has 15 bytes */

static void settle(const struct helper_config *config)
{
	int keep[WORKERS_MAX + 8];
	char title[16];
	unsigned n = 0;

	keep[n++] = config->box;
	keep[n++] = config->root.dir.fd;
	keep[n++] = config->life_fd;
	for (unsigned i = 0; i < config->workers; i++)
		keep[n++] = config->mailboxes[i];
	snprintf(title, sizeof title, "sendfiled-%s", titles[config->kind]);
	child_settle(title, keep, n, &config->identity);
}

/* ---- Answers */

/* A worker's mailbox outlives it, so room comes; unless the master is gone, and with it everybody. */
static void mail(const struct helper_config *config, unsigned worker, const struct mail *m, int fd)
{
	struct pollfd p[2] = {
		{.fd = config->mailboxes[worker], .events = POLLOUT},
		{.fd = config->life_fd, .events = POLLIN},
	};

	while (mailbox_send(config->mailboxes[worker], m, fd) < 0) {
		if (!mailbox_must_wait(errno))
			return; /* the worker finds out at the deadline */
		if (poll(p, errno == EAGAIN ? 2 : 0, MAILBOX_FULL_MS) > 0 && p[1].revents != 0)
			_exit(EX_OK);
	}
}

static void answer(const struct work *w)
{
	struct mail m = {.kind = MAIL_ANSWER, .answer = w->answer};

	mail(w->config, w->letter->worker, &m, w->file);
}

/* Our place is free, or goes to the next worker in turn; unless we took too long, and it is not ours any more. */
static void hand_on(const struct helper_config *config, struct place place, unsigned after)
{
	if (!mailbox_hand_on(config->pools, config->mailboxes, &place, after, after, POOL_ALL_WORKERS))
		_exit(EX_OK);
}

/* ---- Jobs */

/* Takes the descriptors out of the message, and what is parked out of its socket. 0, or an errno. */
static int unpack(struct work *w, struct fdpass *m)
{
	const uint32_t flags = w->letter->flags;
	const bool has_dest = w->letter->kind >= JOB_TELL;

	for (unsigned i = 0; i < JOB_FDS_MAX; i++) {
		bool is_dest = has_dest && i == 0;
		int fd = fdpass_take(m, i);

		if (fd >= 0 && flags & (is_dest ? JOB_DEST_PARKED : JOB_FILE_PARKED) && (is_dest || i == has_dest)) {
			int copy = park_copy(fd);

			close(fd);
			if (copy < 0)
				return errno;
			fd = copy;
		}
		w->fds[i] = fd;
	}
	return 0;
}

static void run(struct work *w)
{
	switch ((enum job_kind)w->letter->kind) {
	case JOB_OPEN:
		reader_open(w);
		break;
	case JOB_READ:
		reader_read(w);
		break;
	case JOB_LOOK:
		reader_look(w);
		break;
	case JOB_TELL:
	case JOB_COPY:
	case JOB_DRAIN:
		writer_write(w);
		break;
	case JOB_NONE:
		break;
	}
}

/* Pipes come after the file that may wait in close(2). */
static void close_all(struct work *w)
{
	for (unsigned i = JOB_FDS_MAX; i-- > 0;) {
		if (w->fds[i] >= 0)
			close(w->fds[i]);
	}
	if (w->file >= 0)
		close(w->file);
}

/*
 * Where close(2) might wait, the worker gets its answer first; and else our place is free by then, for its next job.
 */
static void do_job(const struct helper_config *config, const struct job_letter *letter, struct fdpass *m)
{
	struct place place = {.kind = config->kind, .index = config->index, .seq = letter->seq};
	struct work w = {.config = config,
		.letter = letter,
		.path = (const char *)(letter + 1),
		.file = -1,
		.fds = {-1, -1, -1}};

	if (!pool_is_busy(config->pools, &place) || letter->worker >= config->workers)
		return; /* meant for one who was here before us */
	w.answer = (struct job_answer){.pool = place.kind, .index = place.index, .seq = place.seq};
	w.answer.err = unpack(&w, m);
	if (w.answer.err == 0) {
		uint64_t began = clock_now_ns();

		run(&w);
		w.answer.took_ns = clock_now_ns() - began;
	}
	if (letter->flags & JOB_CLOSES_AT_ONCE) {
		close_all(&w);
		hand_on(config, place, letter->worker);
		answer(&w);
		return;
	}
	if (letter->kind != JOB_NONE)
		answer(&w);
	close_all(&w);
	hand_on(config, place, letter->worker);
}

/* Whether there was a job. */
static bool take_job(const struct helper_config *config)
{
	static _Alignas(8) char buf[JOB_LETTER_MAX];
	struct fdpass m;

	if (fdpass_receive(config->box, buf, sizeof buf, &m) < 0 || m.len == 0)
		return false; /* nothing there; or, with no bytes, nobody who could send anything any more */
	buf[sizeof buf - 1] = '\0';
	if (m.len >= sizeof(struct job_letter))
		do_job(config, (const struct job_letter *)(const void *)buf, &m);
	fdpass_drop(&m);
	return true;
}

void helper_main(const struct helper_config *config)
{
	struct place place = {.kind = config->kind, .index = config->index};
	struct pollfd p[2] = {{.fd = config->box, .events = POLLIN}, {.fd = config->life_fd, .events = POLLIN}};

	settle(config);
	/* What was meant for one who died here: those who sent it know. */
	while (take_job(config))
		;
	if (!pool_arrive(config->pools, &place, clock_now_ns()))
		_exit(EX_OK);
	hand_on(config, place, WORKERS_MAX - 1);
	for (;;) {
		int n = poll(p, 2, IDLE_MS);
		bool master_is_gone = n > 0 && p[1].revents != 0;

		if (master_is_gone || (n == 0 && pool_leave(config->pools, config->kind, config->index)))
			_exit(EX_OK);
		if (n > 0)
			take_job(config);
	}
}
