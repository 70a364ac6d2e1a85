/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A malloc(3) that fails when a test says so: LD_PRELOADed into a daemon, of which all processes count together, in the file
 * that $NOMEM_FILE names.
 */
#include "test/support/nomem.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* The names are glibc's: these it has for who replaces the public ones, of which it names the parameters otherwise. */
/* NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl*,readability-inconsistent-declaration-parameter-name) */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t size);

static struct nomem *shared;

__attribute__((constructor)) static void attach(void)
{
	const char *name = getenv("NOMEM_FILE");
	int fd = name ? open(name, O_RDWR | O_CLOEXEC) : -1;
	void *at;

	if (fd < 0)
		return;
	at = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (at != MAP_FAILED)
		shared = at;
}

static int fails(void)
{
	int left;

	if (!shared)
		return 0;
	left = __atomic_load_n(&shared->left, __ATOMIC_SEQ_CST);
	while (left >= 0) {
		/* The one that brings it to its end fails, and, if that is wanted, all after it. */
		const int next = left == 0 && shared->for_good ? 0 : left - 1;

		if (!__atomic_compare_exchange_n(&shared->left, &left, next, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			continue;
		if (left > 0)
			return 0;
		__atomic_add_fetch(&shared->failed, 1, __ATOMIC_SEQ_CST);
		errno = ENOMEM;
		return 1;
	}
	return 0;
}

void *malloc(size_t size)
{
	return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	return fails() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
	return fails() ? NULL : __libc_realloc(old, size);
}
/* NOLINTEND(bugprone-reserved-identifier,cert-dcl*,readability-inconsistent-declaration-parameter-name) */
