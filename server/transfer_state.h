/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What these share, and nobody else includes: begin.c and second.c, to which requests come; transfer.c, which holds transfers
 * together from their beginning to their end; bytes.c, which moves bytes; expire.c, which knows the time.
 */
#ifndef SFD_TRANSFER_STATE_H
#define SFD_TRANSFER_STATE_H

#include "server/cold.h"
#include "server/extras.h"
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
	TRANSFER_PACED,
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
	struct list run;          /* in engine.runnable, engine.alone or engine.held */
	struct list on_channel;
	struct source dest; /* dest.fd: owned, unless it is the channel's (a read); -1: none yet */
	struct timer timer;
	struct engine *engine;
	struct channel *channel; /* one reference */
	struct owner owner;
	struct share share;
	int process; /* owned, while OPENED: os_watch_process() of the owner; -1: any process of that number will do */
	struct source_file file; /* file.fd: owned */
	struct move move;        /* move.file: the same, if it is not in a socket */
	struct opening *opening; /* owned; NULL once the file is open */
	struct cold *cold;       /* owned; NULL until the first cold turn */
	struct extras *extras;   /* owned; NULL: it asks for none */
	struct pace pace;
	struct hold hold;
	enum transfer_state state;
	bool is_read;
	bool saw_error; /* an event told of one, which may be no obstacle and last (a TCP socket's error queue) */
	bool is_held;
	struct dest kind; /* what the destination is */
	bool dest_parked; /* dest.fd is a socket that holds it */
	enum wire_op op;
	bool wants_info, wants_progress;
	uint32_t line;      /* where the journal notes it: a queue's */
	int outcome;        /* once ENDING or HELD */
	uint64_t end_by_ns; /* ENDING: whatever the helper does; OPENED: unless it is sent */
	uint64_t resume_ns; /* PACED */
	uint64_t moved_ns;  /* when bytes moved last */
	uint64_t seen;      /* how many had, by then */
	int64_t mtime;      /* the file's, in seconds */
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

/* Ends one of which nothing was sent. */
void transfer_refuse(struct transfer *t, int err);

/* Takes over a destination; 0, or an errno (then it is the transfer's all the same, to be closed). */
int transfer_set_dest(struct transfer *t, int fd, const struct dest *dest);

/* One that has nothing yet but an id; it counts as active already. NULL and errno: ENOMEM; EINVAL, EMFILE (a queue's). */
struct transfer *transfer_new(
	struct engine *e, const struct wire_request *r, const struct owner *who, struct channel *c);

/* What is asked of it from now on. 0, or an errno: ENOMEM, ETIMEDOUT (its time is over). */
int transfer_ask(struct transfer *t, const struct wire_request *r);

/* No process has to be told from others any more. */
void transfer_unbind(struct transfer *t);

/* Its size is known: head and tail are. */
void transfer_set_texts(struct transfer *t);

/* Its file is one that the client has open. */
static inline bool transfer_is_lent(const struct transfer *t)
{
	return t->op == WIRE_OP_SENDFD;
}

static inline uint32_t transfer_flags(const struct transfer *t)
{
	return t->extras ? t->extras->flags : 0;
}

/* Takes over file->fd, and what is known of the file and its range. */
void transfer_take_file(struct transfer *t, const struct opened *file, bool parked);

/* Says so, and moves what can be moved at once. */
void transfer_file_opened(struct transfer *t, const struct opened *file);

/* One that waits in no list has its destination now, or gets its first turn. */
void transfer_move_at_once(struct transfer *t);

/* No other worker holds a copy of the destination any more. */
void transfer_end_hold(struct transfer *t);

/* It wants a turn. */
void transfer_make_runnable(struct transfer *t);

/* A helper has answered; `owner` is the transfer. */
void transfer_on_helper(void *owner);

/* Ends it whatever helpers do. */
void transfer_end(struct transfer *t, int outcome);

/* ---- bytes.c */

/* Moves at most `budget` bytes, what has been read already first. */
enum move_result transfer_move_some(struct transfer *t, uint64_t budget);

/* ---- expire.c */

/* When what a helper does for it has taken too long; UINT64_MAX: nobody does anything, or there is no limit. */
uint64_t transfer_io_deadline(const struct transfer *t);

/* Sets the timer to what is due next: a deadline, another try. */
void transfer_arm_timer(struct transfer *t);

/* ---- begin.c, for expire.c and transfer.c */

/* Its time has come, while OPENING: true if it goes on. */
bool opening_try_again(struct transfer *t);

/* Gives up what an opening has under way. */
void opening_free(struct transfer *t);

#endif
