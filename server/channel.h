/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A status channel: the pipe on which the requests of one datagram report. Frames that it has no room for are kept, but
 * never more than two for each request (information and outcome; progress is dropped), so all room is had at the start.
 */
#ifndef SFD_CHANNEL_H
#define SFD_CHANNEL_H

#include "lib/wire.h"
#include "server/list.h"
#include "server/loop.h"
#include "server/stats.h"

enum { CHANNEL_REFUSALS_MAX = 64 }; /* of a worker, kept for clients that do not read them */

struct channel {
	struct source source; /* source.fd: the pipe's write end, owned */
	struct loop *loop;
	struct stats *own;
	struct list transfers; /* those that report here (transfer.on_channel) */
	/* The reader went, or room came (once all kept frames were written). May be NULL until there are transfers. */
	void (*on_change)(struct channel *c);
	unsigned refs;     /* transfers, and whoever handles the datagram */
	unsigned watching; /* events asked of the loop */
	bool corked;       /* frames are gathered until channel_uncork() */
	bool gone;         /* the reader closed its end: nothing can be said any more */
	bool admitted;     /* some transfer that reports here was */
	bool lingering;    /* nobody uses it any more, but there are frames: counts as active, or as a refusal */
	bool wants_room;   /* a read's bytes wait for it */
	unsigned len;      /* bytes kept */
	unsigned char kept[];
};

/* Takes over `fd`, a pipe, with one reference; `requests` is how many may report. NULL and errno: fd is still the caller's. */
struct channel *channel_new(struct loop *loop, struct stats *own, int fd, unsigned requests);

/* One more, one fewer user. With the last one's going the channel is closed, as soon as its frames are written. */
void channel_take(struct channel *c);
void channel_release(struct channel *c);

/* Queues a frame that must arrive, and writes what can be written unless corked. */
void channel_info(struct channel *c, const struct sfd_file_info *info);
void channel_end(struct channel *c, const struct sfd_xfer_stat *stat);

/* An error in answer to a request. */
void channel_refuse(struct channel *c, uint64_t tag, int err);

/* Writes a frame that may be lost: true if it was written. */
bool channel_progress(struct channel *c, const struct sfd_xfer_stat *stat);

/* Writes what was gathered, now and from now on at once. */
void channel_uncork(struct channel *c);

/* Starts to watch for the reader's going. 0, or -1 and errno. */
int channel_watch(struct channel *c);

/* Whether a read's bytes wait for room, so that `on_change` is to tell of it. 0, or -1 and errno. */
int channel_want_room(struct channel *c, bool wants);

#endif
