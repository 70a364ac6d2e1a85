/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/channel.h"

#include "server/os/files.h"
#include "server/touch.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FRAMES_PER_WRITE = PIPE_BUF / WIRE_FRAME_SIZE };

static void on_event(struct source *source, unsigned events);
static const struct channel_ops pipe_ops;

struct channel *channel_new(struct loop *loop, struct stats *own, int fd, unsigned requests)
{
	struct channel *c = malloc(sizeof *c + (size_t)requests * 2 * WIRE_FRAME_SIZE);

	if (!c)
		return NULL;
	*c = (struct channel){
		.ops = &pipe_ops,
		.kept = (unsigned char *)(c + 1),
		.source = {.fd = fd, .on_event = on_event},
		.loop = loop,
		.own = own,
		.refs = 1,
	};
	list_init(&c->transfers);
	list_init(&c->held_up);
	return c;
}

/* A transfer keeps its place until its last frame is written. A refusal has none to keep; see unused(). */
static counter *lingerers(struct channel *c)
{
	return c->admitted ? &c->own->active : &c->own->refusals;
}

static void channel_free(struct channel *c)
{
	loop_unwatch(c->loop, &c->source);
	list_remove(&c->held_up);
	touch_close_pipe(&c->who, c->source.fd, c->has_name);
	if (c->lingering)
		counter_add(lingerers(c), (uint64_t)-1);
	free(c);
}

static int ask(struct channel *c, unsigned events)
{
	if (c->source.watched && c->watching == events)
		return 0;
	c->watching = events;
	return loop_watch(c->loop, &c->source, events);
}

/* Errors are always reported; room only where somebody waits for it. */
static int watch(struct channel *c)
{
	bool kept = c->len > 0 && !c->corked;

	if (!list_empty(&c->held_up))
		return ask(c, POLLER_EDGE); /* that there is room is no news */
	if (c->wants_room)
		return ask(c, POLLER_OUT);
	return ask(c, POLLER_EDGE | (kept ? POLLER_OUT : 0));
}

static void set_gone(struct channel *c)
{
	c->gone = true;
	c->len = 0;
	if (c->on_change)
		c->on_change(c);
}

/* A frame that was refused for want of room stays; all others that were written leave. */
static void write_kept(struct channel *c)
{
	unsigned at = 0;

	while (at < c->len) {
		unsigned n = c->len - at;
		ssize_t written;

		if (n > FRAMES_PER_WRITE * WIRE_FRAME_SIZE)
			n = FRAMES_PER_WRITE * WIRE_FRAME_SIZE;
		written = os_write_pipe(c->source.fd, c->kept + at, n);
		if (written > 0) {
			at += (unsigned)written;
		} else if (errno == EAGAIN && n > WIRE_FRAME_SIZE) {
			/* Less may fit: all or nothing holds for each write. One by one, then. */
			written = os_write_pipe(c->source.fd, c->kept + at, WIRE_FRAME_SIZE);
			if (written <= 0)
				break;
			at += (unsigned)written;
		} else if (errno != EINTR) {
			break;
		}
	}
	if (at < c->len && errno != EAGAIN && errno != EINTR) {
		set_gone(c);
		return;
	}
	c->len -= at;
	memmove(c->kept, c->kept + at, c->len);
	if ((c->len > 0 || c->wants_room || c->watching & POLLER_OUT) && watch(c) < 0)
		set_gone(c); /* nothing would ever wake us to write the rest */
}

static struct list *all_held_up(void)
{
	static struct list all;

	if (!all.next)
		list_init(&all);
	return &all;
}

static void flush(struct channel *c)
{
	list_remove(&c->held_up);
	if (touch_begin(&c->who)) {
		write_kept(c);
		touch_end();
		return;
	}
	list_append(all_held_up(), &c->held_up);
	if (watch(c) < 0)
		set_gone(c);
}

static void put(struct channel *c, const void *frame)
{
	if (c->gone)
		return;
	memcpy(c->kept + c->len, frame, WIRE_FRAME_SIZE);
	c->len += WIRE_FRAME_SIZE;
	if (!c->corked)
		flush(c);
}

static void info(struct channel *c, const struct sfd_file_info *what)
{
	unsigned char frame[WIRE_FRAME_SIZE];

	wire_put_info(frame, what);
	put(c, frame);
}

static void end(struct channel *c, const struct sfd_xfer_stat *stat, uint32_t line)
{
	unsigned char frame[WIRE_FRAME_SIZE];

	(void)line;
	wire_put_stat(frame, stat);
	put(c, frame);
}

static void refuse(struct channel *c, const struct sfd_file_info *refusal, uint32_t line)
{
	(void)line;
	info(c, refusal);
}

static bool progress(struct channel *c, const struct sfd_xfer_stat *stat)
{
	unsigned char frame[WIRE_FRAME_SIZE];
	bool written;

	if (c->gone || c->len > 0)
		return false;
	if (!touch_begin(&c->who))
		return false;
	wire_put_stat(frame, stat);
	written = os_write_pipe(c->source.fd, frame, sizeof frame) > 0;
	if (!written && errno != EAGAIN && errno != EINTR)
		set_gone(c);
	touch_end();
	return written;
}

static void uncork(struct channel *c)
{
	c->corked = false;
	if (!c->gone && c->len > 0)
		flush(c);
}

static void unused(struct channel *c)
{
	c->on_change = NULL;
	/* What was never admitted is bounded here: a client that does not read its refusals gets no more of them. */
	if (c->len == 0 || (!c->admitted && counter_get(&c->own->refusals) >= CHANNEL_REFUSALS_MAX)) {
		channel_free(c);
		return;
	}
	c->lingering = true;
	counter_add(lingerers(c), 1);
}

static const struct channel_ops pipe_ops = {
	.info = info,
	.end = end,
	.refuse = refuse,
	.progress = progress,
	.uncork = uncork,
	.watch = watch,
	.unused = unused,
};

/* Frames have been written, perhaps, or the reader has gone. */
static void see_to(struct channel *c)
{
	if (c->refs == 0) {
		if (c->len == 0)
			channel_free(c);
	} else if (!c->gone && c->len == 0 && c->on_change) {
		c->on_change(c);
	}
}

static void on_event(struct source *source, unsigned events)
{
	struct channel *c = container_of(source, struct channel, source);

	if (events & POLLER_ERR)
		set_gone(c);
	else if (c->len > 0)
		flush(c);
	see_to(c);
}

void channels_try_again(void)
{
	struct list again;

	list_init(&again);
	while (!list_empty(all_held_up())) {
		struct list *n = all_held_up()->next;

		list_remove(n);
		list_append(&again, n);
	}
	while (!list_empty(&again)) {
		struct channel *c = container_of(again.next, struct channel, held_up);

		flush(c);
		see_to(c);
	}
}

bool channels_are_held_up(void)
{
	return !list_empty(all_held_up());
}
