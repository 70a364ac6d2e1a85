/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hot or cold: whether a worker may touch a file, or its bytes, itself. It may only if it has proof that it will not wait
 * for a disk; whatever is not proven goes through a helper.
 */
#ifndef SFD_RESIDENCY_H
#define SFD_RESIDENCY_H

#include "server/os/root.h"
#include "server/pool.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

/* An open file. */
struct source_file {
	int fd;         /* owned by whoever has the struct; -1: none */
	bool parked;    /* it is a socket that holds the file: see park.h */
	bool local;     /* on the root's own file system, and that is a local one */
	bool atime_due; /* reading would write its access time */
	bool is_memory; /* shared memory, which can be closed at once */
	bool is_near; /* lent, and on the root's own local file system: it can be closed at once while it has a name */
	bool is_told; /* this process may be told what of it is in memory, as far as owner and mode say */
	uint64_t device;
	int64_t size; /* these two when it was opened, */
	uint64_t links;
	uint64_t opened_ns; /* in this round of the loop */
};

struct residency {
	struct os_root root;
	struct pools *pools;
	uid_t uid; /* ours */
	uint64_t looked_ns;
	bool sick; /* some job for the root's device has taken long */
};

void residency_init(struct residency *r, const struct os_root *root, struct pools *pools);

/* Whether the root's own file system may be asked at all, for what is in memory. */
bool residency_allows(struct residency *r, uint64_t now_ns);

/* What a worker knows of a file that it, or a helper, has opened. */
void residency_describe(const struct residency *r, const struct stat *st, bool parked, struct source_file *f);

/* The helper that reads the first bytes sees to the access time. */
void residency_was_read(const struct residency *r, struct source_file *f);

enum heat {
	HEAT_HOT,
	HEAT_TRY, /* it is little, and may well be: try to copy it without waiting */
	HEAT_COLD
};

/* How sure one has to be. */
enum heat_proof {
	PROOF_USUAL,  /* what is not in memory goes through a helper */
	PROOF_NONE,   /* no helper is asked: what may be there is tried */
	PROOF_CERTAIN /* nothing may be tried: a try brings in what is not there */
};

struct heat_query {
	int64_t offset;
	uint64_t length; /* more than 0 */
	uint64_t left;   /* still to be sent, these included */
	bool copied;     /* they will be read without waiting anyway, so that less proof is needed */
	enum heat_proof proof;
};

/* Whether those bytes are in memory. */
enum heat residency_heat(
	struct residency *r, const struct source_file *f, const struct heat_query *query, uint64_t now_ns);

/* How many of the bytes from `offset` on are, of `length`; all of them if that is not told. */
uint64_t residency_prefix(const struct residency *r, const struct source_file *f, int64_t offset, uint64_t length);

/* Whether all of a range is, page by page if need be; false also if that is not to be found out. */
bool residency_is_hot(
	struct residency *r, const struct source_file *f, int64_t offset, uint64_t length, uint64_t now_ns);

/* Where reading would write the access time: sees to it that it does not, if that is ours to say. */
void residency_spare_atime(struct source_file *f);

#endif
