/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The pipes through which cold bytes come. They are few: all pipes of a user together may have room for so much only. So
 * a pipe is taken when a reader is there to fill it, and a transfer whose destination takes nothing has its pipes taken
 * away if others need them, for what was read can be read again.
 */
#ifndef SFD_PIPES_H
#define SFD_PIPES_H

#include "server/list.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	PIPE_CHUNK = 1024 * 1024, /* how much is read at a time; more is not faster, and makes others wait */
	PIPES_MAX = 128,          /* of a worker */
	PIPES_SPARE = 8,          /* beside one for each reader */
};

struct pipe_pair {
	int read_fd, write_fd;
};

/* Who has pipes and cannot empty them now. */
struct pipe_holder {
	struct list node;
	uint64_t since_ns;
	void (*rob)(struct pipe_holder *h); /* give up all pipes, whatever they hold */
};

struct pipes {
	unsigned most, made, spare_count;
	bool wanted;      /* somebody found none */
	bool used;        /* one was given back lately; */
	uint64_t used_ns; /* before that, when */
	struct pipe_pair spare[PIPES_MAX];
	struct list stalled;
};

/* For a worker that may have `most` pipes. */
void pipes_init(struct pipes *ps, unsigned most);

/* How many pipes each of so many workers may have: at least one for each reader, and a few. */
unsigned pipes_share(unsigned workers, unsigned readers);

/* An empty pipe: 0, or -1 and errno. */
int pipes_get(struct pipes *ps, struct pipe_pair *out);

/* Whether there are so many that one may be used to read ahead. */
bool pipes_plenty(const struct pipes *ps);

/* Gives it back; one that is not empty is closed. */
void pipes_put(struct pipes *ps, struct pipe_pair *pair, bool empty);

/* The holder's destination takes nothing; or takes again, or the holder is gone. */
void pipes_stalled(struct pipes *ps, struct pipe_holder *h, uint64_t now_ns);
void pipes_moving(struct pipe_holder *h);

/*
 * Takes pipes from who is stalled if somebody found none: true if it is worth while to try again now. Closes those that
 * nobody has needed for a while.
 */
bool pipes_work(struct pipes *ps, uint64_t now_ns);

/* How soon to call it again; -1: no matter. */
int pipes_nap_ms(const struct pipes *ps);

#endif
