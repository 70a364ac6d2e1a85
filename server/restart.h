/* SPDX-License-Identifier: BSD-2-Clause */
/* When a dead worker is replaced: at once, unless its kind keeps dying young. Pure. */
#ifndef SFD_RESTART_H
#define SFD_RESTART_H

#include <stdint.h>

enum {
	RESTART_YOUNG_MS = 1000,   /* who dies before this age is not replaced at once */
	RESTART_FIRST_MS = 100,    /* the first delay; each young death in a row doubles it, */
	RESTART_LONGEST_MS = 10000 /* up to this */
};

struct restart {
	uint32_t delay_ms; /* before the last replacement; 0: none */
};

/* A worker died at that age: how long to wait before replacing it, in milliseconds. */
uint32_t restart_delay(struct restart *r, uint64_t age_ms);

#endif
