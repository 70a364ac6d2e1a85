/* SPDX-License-Identifier: BSD-2-Clause */
/* What transfer.c, which moves and ends transfers, begin.c and second.c share; nobody else includes it. */
#ifndef SFD_TRANSFER_STATE_H
#define SFD_TRANSFER_STATE_H

#include "server/cold.h"
#include "server/mover.h"
#include "server/open.h"
#include "server/transfer.h"

enum { TRANSFER_PROGRESS_NS = 100 * 1000 * 1000 }; /* between two progress frames */

enum transfer_state {
	TRANSFER_OPENING,
	TRANSFER_OPENED,
	TRANSFER_RUNNABLE,
	TRANSFER_BLOCKED,
	TRANSFER_WAITING,
	TRANSFER_ENDING,
	TRANSFER_HELD,
};

/* What is known of a request until its file is open. */
struct opening {
	struct job *job; /* NULL: it is leased, and tried again at `retry_ns` */
	uint64_t since_ns, retry_ns, delay_ns;
	int64_t offset;
	uint64_t length, device;
	bool retried; /* one helper has died */
	uint32_t path_len;
	char path[];
};

struct transfer {
	struct table_entry entry; /* entry.id: the transaction id */
	struct list run;          /* in engine.runnable or engine.held */
	struct list on_channel;
	struct source dest; /* dest.fd: owned, unless it is the channel's (a read); -1: none yet */
	struct timer timer;
	struct engine *engine;
	struct channel *channel; /* one reference */
	struct owner owner;
	struct source_file file; /* file.fd: owned */
	struct move move;        /* move.file: the same, if it is not in a socket */
	struct opening *opening; /* owned; NULL once the file is open */
	struct cold *cold;       /* owned; NULL until the first cold turn */
	struct hold hold;
	enum transfer_state state;
	bool is_read;
	bool saw_error; /* an event told of one, which may be no obstacle and last (a TCP socket's error queue) */
	bool is_held;
	struct dest kind; /* what the destination is */
	bool dest_parked; /* dest.fd is a socket that holds it */
	enum wire_op op;
	bool wants_info, wants_progress;
	uint32_t line; /* where the journal notes it: a queue's */
	int outcome;   /* once ENDING or HELD */
	uint64_t tag;
	uint64_t size;
	uint64_t reported;       /* bytes that frames have told of */
	uint64_t progress_at;    /* the next progress frame is due at so many bytes, */
	uint64_t progress_at_ns; /* or then */
};

static inline uint64_t transfer_delivered(const struct transfer *t)
{
	return t->size - t->move.left;
}

/* Whatever happens to a transfer, it ends here. Its descriptors are closed before the last frame can be read. */
void transfer_finish(struct transfer *t, int outcome);

/* Ends one whose file could not be opened; nothing was sent. */
void transfer_refuse(struct transfer *t, int err);

/* Takes over a destination; 0, or an errno (then it is the transfer's all the same, to be closed). */
int transfer_set_dest(struct transfer *t, int fd, const struct dest *dest);

/* One that has nothing yet but an id; it counts as active already. NULL and errno: ENOMEM; EINVAL, EMFILE (a queue's). */
struct transfer *transfer_new(
	struct engine *e, const struct wire_request *r, const struct owner *who, struct channel *c);

/* Takes over file->fd, and what is known of the file and its range. */
void transfer_take_file(struct transfer *t, const struct opened *file, bool parked);

/* Says so, and moves what can be moved at once. */
void transfer_file_opened(struct transfer *t, const struct opened *file);

/* One that waits in no list has its destination now, or gets its first turn. */
void transfer_move_at_once(struct transfer *t);

/* No other worker holds a copy of the destination any more. */
void transfer_end_hold(struct transfer *t);

/* Sets the timer to what is due next: a deadline, another try. */
void transfer_arm_timer(struct transfer *t);

/* ---- begin.c, for transfer.c */

/* Its time has come, while OPENING: true if it goes on. */
bool opening_try_again(struct transfer *t);

/* Gives up what an opening has under way. */
void opening_free(struct transfer *t);

#endif
