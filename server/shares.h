/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What each user may hold of what there is for all: so many transfers and open files, so many requests a second; and when
 * little is left, no more than leaves as much for each of the others. In memory that all workers share: each writes its own
 * column only, so that what a killed one held can be given back.
 */
#ifndef SFD_SHARES_H
#define SFD_SHARES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct share_limits {
	unsigned transfers; /* of one user, over all workers */
	unsigned opens;     /* those of them that wait to be sent */
	unsigned queued;    /* requests that have yet to become one */
	unsigned requests;  /* in a second; 0: no limit */
	uid_t starter;      /* he and root are free of these */
};

struct shares;

/* For workers 0 to `workers` - 1. NULL and errno. */
struct shares *shares_new(const struct share_limits *limits, unsigned workers);

/* What one transfer takes of its user's. */
struct share {
	unsigned place;
	bool is_open;
};

struct share_claim {
	unsigned slot; /* the worker's */
	uid_t uid;
	bool is_open;         /* it will wait to be sent */
	uint64_t active, max; /* transfers of all users: how many there are without it, and may be */
	uint64_t now_ns;
};

/* For a transfer that is about to begin: 0, or EDQUOT, and then nothing is taken. */
int share_take(struct shares *s, const struct share_claim *claim, struct share *out);

/* It no longer waits to be sent. */
void share_sent(struct shares *s, unsigned slot, struct share *share);

void share_give_back(struct shares *s, unsigned slot, struct share *share);

/*
 * `n` more of its user's requests are there and have yet to be begun: 0, and `*place` is what share_unqueue() is to be told; or
 * EDQUOT, and they do not count.
 */
int share_queue(struct shares *s, unsigned slot, uid_t uid, unsigned n, uint64_t now_ns, unsigned *place);
void share_unqueue(struct shares *s, unsigned slot, unsigned place, unsigned n);

/* Whether he has no limits. */
bool share_is_exempt(const struct shares *s, uid_t uid);

/* Whether somebody else has asked for something in the last ten seconds. */
bool shares_have_others(struct shares *s, uid_t uid, uint64_t now_ns);

/* That worker is gone, and holds nothing. */
void shares_bury(struct shares *s, unsigned slot);

enum { SHARES_BARRED_MAX = 2 };

/*
 * The master says for which users nothing is done, since too many workers hang in the kernel on account of them: `n` of them, up to
 * SHARES_BARRED_MAX. Who has no limits is not barred either.
 */
void shares_bar(struct shares *s, const uid_t *uids, unsigned n);
bool share_is_barred(struct shares *s, uid_t uid);

#endif
