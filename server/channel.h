/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A status channel: where the requests of one datagram report (a pipe, here), or all of a queue's (queue.h). Frames that it
 * has no room for are kept; their number is bounded, so that no client can make a worker wait or grow.
 */
#ifndef SFD_CHANNEL_H
#define SFD_CHANNEL_H

#include "lib/wire.h"
#include "server/access.h"
#include "server/list.h"
#include "server/loop.h"
#include "server/stats.h"

enum { CHANNEL_REFUSALS_MAX = 64 }; /* of a worker, kept for clients that do not read them */

struct channel;

/* What the two kinds do differently. `line` is where the journal notes the request (journal.h); pipes have none. */
struct channel_ops {
	void (*info)(struct channel *c, const struct sfd_file_info *info);
	void (*end)(struct channel *c, const struct sfd_xfer_stat *stat, uint32_t line);
	void (*refuse)(struct channel *c, const struct sfd_file_info *refusal, uint32_t line);
	bool (*progress)(struct channel *c, const struct sfd_xfer_stat *stat);
	void (*uncork)(struct channel *c);
	int (*watch)(struct channel *c);
	void (*unused)(struct channel *c); /* the last user has gone */
	/* Notes that a transfer reports here under that tag: its line, or JOURNAL_NONE and errno. NULL: nothing is noted. */
	uint32_t (*claim)(struct channel *c, uint64_t tag, void *transfer);
	void (*disclaim)(struct channel *c, uint64_t tag);
};

struct channel {
	const struct channel_ops *ops;
	struct source source; /* source.fd: what is written to, owned */
	struct loop *loop;
	struct stats *own;
	struct owner who;      /* whose it is: touch.h */
	struct list held_up;   /* a worker hangs in what is his, so its frames wait */
	struct list transfers; /* those that report here (transfer.on_channel) */
	/* The reader went, or room came (once all kept frames were written). May be NULL until there are transfers. */
	void (*on_change)(struct channel *c);
	unsigned refs;     /* transfers, and whoever handles the datagram */
	unsigned watching; /* events asked of the loop */
	bool corked;       /* frames are gathered until channel_uncork() */
	bool gone;         /* the reader closed its end: nothing can be said any more */
	bool has_name;     /* it is a FIFO, whose last close may wait for its disk */
	bool admitted;     /* some transfer that reports here was */
	bool lingering;    /* nobody uses it any more, but there are frames: counts as active, or as a refusal */
	bool wants_room;   /* a read's bytes wait for it */
	unsigned len;      /* bytes kept */
	unsigned char *kept;
};

/*
 * Takes over `fd`, a pipe, with one reference; `requests` is how many may report: there is room for two frames of each
 * (information and outcome; progress is dropped). NULL and errno: fd is still the caller's.
 */
struct channel *channel_new(struct loop *loop, struct stats *own, int fd, unsigned requests);

/* Those whose frames wait because a worker hangs: whether there are any; and tries to write them, now and then. */
bool channels_are_held_up(void);
void channels_try_again(void);

/* One more, one fewer user. With the last one's going the channel is closed, as soon as its frames are written. */
static inline void channel_take(struct channel *c)
{
	c->refs++;
}

static inline void channel_release(struct channel *c)
{
	if (--c->refs == 0)
		c->ops->unused(c);
}

/* Queues a frame that must arrive, and writes what can be written unless corked. */
static inline void channel_info(struct channel *c, const struct sfd_file_info *info)
{
	c->ops->info(c, info);
}

static inline void channel_end(struct channel *c, const struct sfd_xfer_stat *stat, uint32_t line)
{
	c->ops->end(c, stat, line);
}

/* An error in answer to a request, with what is known of its file; it counts as an outcome. */
static inline void channel_refuse_with(struct channel *c, const struct sfd_file_info *refusal, uint32_t line)
{
	stats_outcome(c->own, refusal->stat);
	c->ops->refuse(c, refusal, line);
}

/* The same, if nothing is. */
static inline void channel_refuse(struct channel *c, uint64_t tag, int err, uint32_t line)
{
	const struct sfd_file_info refusal = {.cmd = SFD_FILE_INFO, .stat = err, .tag = tag};

	channel_refuse_with(c, &refusal, line);
}

/* Writes a frame that may be lost: true if it was written, or will be. */
static inline bool channel_progress(struct channel *c, const struct sfd_xfer_stat *stat)
{
	return c->ops->progress(c, stat);
}

/* Writes what was gathered, now and from now on at once. */
static inline void channel_uncork(struct channel *c)
{
	c->ops->uncork(c);
}

/* Starts to watch for the reader's going. 0, or -1 and errno. */
static inline int channel_watch(struct channel *c)
{
	return c->ops->watch(c);
}

/* Whether a read's bytes wait for room, so that `on_change` is to tell of it. 0, or -1 and errno. */
static inline int channel_want_room(struct channel *c, bool wants)
{
	c->wants_room = wants;
	return c->ops->watch(c);
}

#endif
