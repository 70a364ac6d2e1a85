/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The places of helper processes, in memory that all processes of the daemon share. There is a pool for each kind of work.
 * A place's state is one word that is only ever exchanged whole, so no process that is killed can leave it half changed,
 * and there is no lock:
 *
 *   EMPTY --(worker)--> WANTED --(master starts a process there)--> [ IDLE <--> OFFERED --> BUSY ] --> ...
 *
 * A worker takes an IDLE place for a job (BUSY), and sends the job there. A helper that is done becomes IDLE again, or, if
 * some worker has jobs that wait, is OFFERED to it, to each in turn. A job that takes too long makes its place STUCK: it is
 * nobody's any more, and is EMPTY again when the master has reaped its process.
 *
 * Three rules bound what may be taken: how many processes there are, how many of them work for one device, and how many for
 * one uid (half); and a device that has some gets another only while more than it has are left to the uid, so that devices
 * that begin to hang leave one for the next.
 *
 * A job that takes longer than pool_overdue_ns is overdue, and its place lost for now: it counts for its device alone, so
 * that what hangs takes nothing from other devices, and another process may be started instead. There are only so many
 * places, so what is lost, overdue or stuck, is bounded too: a device may have twice as many as it may have at work; and one
 * that has lost some gets another only while as many as may be at work are not lost, and more than it has are left to the
 * uid.
 */
#ifndef SFD_POOL_H
#define SFD_POOL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum pool_kind { POOL_OPEN, POOL_READ, POOL_WRITE, POOL_KINDS };

/* Places for each process that may be at work: the others are for what is lost. */
enum { POOL_PLACES = 3 };

/* After that time a job is overdue, and its device sick. */
extern const uint64_t pool_overdue_ns;

struct pools;

/* A place as one process knows it: good until the place has changed. */
struct place {
	enum pool_kind kind;
	unsigned index;
	uint32_t seq; /* counts the changes of hands */
};

/* What a job counts as. */
struct pool_use {
	uint64_t device;
	uid_t uid;
};

/* In shared memory, for `readers` processes of each kind at a time, `per_device` for one device. NULL and errno. */
struct pools *pools_new(unsigned readers, unsigned per_device);

/* How many places each kind has: POOL_PLACES for each of `readers`. */
unsigned pools_places(const struct pools *p);

/* ---- For workers. `worker` is the caller's slot. */

/* Whether the rules allow one more. */
bool pool_has_room(struct pools *p, enum pool_kind kind, const struct pool_use *use, uint64_t now_ns);

/* Takes an idle place: true, and the job is to be sent there. */
bool pool_take(struct pools *p, enum pool_kind kind, unsigned worker, const struct pool_use *use, uint64_t now_ns,
	struct place *out);

/* Takes a place that was offered. False if the offer no longer stands, or the rules do not allow it (then it is kept). */
bool pool_accept(struct pools *p, struct place *place, unsigned worker, const struct pool_use *use, uint64_t now_ns);

/* Whether a place is offered to this worker, still. */
bool pool_is_offered(struct pools *p, const struct place *place, unsigned worker);

/* Asks for one more process, if there may be one and none is on its way: true if the master is to be told. */
bool pool_want(struct pools *p, enum pool_kind kind, uint64_t now_ns);

/* How many jobs of this worker wait for a place. */
void pool_set_waiting(struct pools *p, enum pool_kind kind, unsigned worker, unsigned jobs);

/* How many processes have died in that place. */
uint32_t pool_deaths(struct pools *p, enum pool_kind kind, unsigned index);

/* Whether some job for that device is overdue, or was given up while the kernel still has it. */
bool pool_is_sick(struct pools *p, uint64_t device, uint64_t now_ns);

/* ---- For whoever has a place: the helper after its job, a worker that cannot use it */

enum { POOL_ALL_WORKERS = 1 << 8 };

/*
 * Hands a place on: to the next worker after `after` for which jobs wait, at most `hops` slots on; else it is idle. The
 * worker that it was offered to, which is to be told (`place->seq` says of what), or -1. *lost: it was not the caller's.
 */
int pool_hand_on(struct pools *p, struct place *place, unsigned after, unsigned hops, uint64_t now_ns, bool *lost);

/* ---- For helpers */

/* Whether that place is BUSY with that job. */
bool pool_is_busy(struct pools *p, const struct place *place);

/* The process in a place that was WANTED is there and has nothing to do yet: it is the caller's to hand on. */
bool pool_arrive(struct pools *p, struct place *place, uint64_t now_ns);

/* Leaves an idle place for good: false if it has just been taken. */
bool pool_leave(struct pools *p, enum pool_kind kind, unsigned index);

/* ---- For the master */

bool pool_is_wanted(struct pools *p, enum pool_kind kind, unsigned index);

/* The process there is gone (or could not be started). */
void pool_clear(struct pools *p, enum pool_kind kind, unsigned index);

/* The process there died with what it had to do: another one is wanted there, if only to empty the box of what was sent. */
void pool_renew(struct pools *p, enum pool_kind kind, unsigned index);

/* A job there has been under way for longer than `ns`: true if the place has just become STUCK. */
bool pool_check_stuck(struct pools *p, enum pool_kind kind, unsigned index, uint64_t now_ns, uint64_t ns);

/* How many are stuck now. */
unsigned pool_stuck(struct pools *p, enum pool_kind kind);

/*
 * A worker died. What was offered to it is free again. True, with the job's `*seq`, if it has taken a place, perhaps
 * without a job being sent there.
 */
bool pool_worker_died(struct pools *p, enum pool_kind kind, unsigned index, unsigned worker, uint32_t *seq);

#endif
