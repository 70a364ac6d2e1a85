/* SPDX-License-Identifier: BSD-2-Clause */
/* What nomem.c and the test that preloads it share. */
#ifndef SFD_TEST_NOMEM_H
#define SFD_TEST_NOMEM_H

struct nomem {
	int left;     /* so many allocations succeed, and the next one fails; negative: none does */
	int for_good; /* and so do all after it */
	int failed;   /* how many have */
};

#endif
