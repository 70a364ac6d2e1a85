/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Whether a worker is stuck: in a call that the kernel does not let it leave, because a client holds a lock of its pipe or
 * socket, say, or in a loop. Only who has been at the same thing for long is suspected, and only while the master itself
 * was there to look: a machine that was asleep, or a control group that gets no processor time, is no worker's fault.
 */
#ifndef SFD_WATCH_H
#define SFD_WATCH_H

#include "server/os/process.h"

#include <stdbool.h>
#include <stdint.h>

struct watch {
	uint64_t position;  /* at the last look: journal_position() */
	uint64_t silent_ns; /* for how long it has been the same */
	uint64_t cpu_ns;    /* the processor time that it had used when that began */
};

enum watch_verdict {
	WATCH_WORKS,
	WATCH_WAITS, /* in the kernel, where nothing wakes it */
	WATCH_SPINS,
};

struct watch_query {
	pid_t pid;
	uint64_t position;
	uint64_t passed_ns;   /* since the last look, as far as the master was there */
	uint64_t patience_ns; /* 0: for ever */
	/* os_view_process() */
	bool (*look)(pid_t pid, struct os_process_view *out);
};

/* For how long the master was there, of two looks that were to be `each_ns` apart: not, if the second came much too late. */
uint64_t watch_passed(uint64_t last_ns, uint64_t now_ns, uint64_t each_ns);

enum watch_verdict watch_judge(struct watch *w, const struct watch_query *look);

#endif
