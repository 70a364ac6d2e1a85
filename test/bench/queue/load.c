/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/bench/queue/queue.h"

#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	SIZES = 2,
	NAME_SIZE = 16,
	FILL_UPS = 8, /* how often all that may be in flight is so, at least */
	LOOK_EVERY = 16,
};

static const unsigned sizes[SIZES] = {SMALL, LARGE};
static char names[SIZES][FILES][NAME_SIZE];

static char (*names_of(unsigned size))[NAME_SIZE]
{
	return names[size == LARGE];
}

/*
 * As if one user ran server and daemon: the kernel tells owners what is in memory. (Started by root the daemon serves as this
 * user; see sendfiled(8). Files of others are copied up to 64 KiB: doc/performance.md has both.)
 */
static void give_to_server(const struct arena *a, const char *name)
{
	const struct passwd *user = getpwnam("sendfiled");

	if (geteuid() != 0)
		return;
	if (!user)
		user = getpwnam("nobody");
	if (!user || fchownat(a->root_fd, name, user->pw_uid, (gid_t)-1, 0) < 0)
		die("cannot give a file to the daemon's user");
}

void load_files(const struct arena *a)
{
	for (unsigned s = 0; s < SIZES; s++) {
		for (unsigned i = 0; i < FILES; i++) {
			snprintf(names[s][i], NAME_SIZE, "%u-%u", sizes[s], i);
			arena_file(a, names[s][i], sizes[s]);
			give_to_server(a, names[s][i]);
		}
	}
}

void load_warm(const struct arena *a, unsigned size)
{
	for (unsigned i = 0; i < FILES; i++)
		arena_warm(a, names_of(size)[i]);
}

void load_start(struct load *l, double ns)
{
	l->begun = 0;
	l->least = (uint64_t)l->in_flight * FILL_UPS;
	l->end = now_ns() + (uint64_t)ns;
	l->over = false;
}

bool load_wants(const struct load *l)
{
	return !l->over;
}

const char *load_file(const struct load *l)
{
	return names_of(l->size)[l->next_file];
}

void load_next(struct load *l)
{
	l->next_file = (l->next_file + 1) % FILES;
	l->begun++;
	if (l->begun >= l->least && l->begun % LOOK_EVERY == 0 && now_ns() >= l->end)
		l->over = true;
}

void load_open(struct load *l, bool nonblock)
{
	l->dests = must_alloc(l->in_flight * sizeof *l->dests);
	for (unsigned i = 0; i < l->in_flight; i++) {
		make_dest(l->kind, l->dests[i], nonblock);
		/* Nobody reads before the end, and a page that is sent in two parts takes the room of two. */
		if (l->kind == DEST_PIPE && l->size > SMALL && fcntl(l->dests[i][1], F_SETPIPE_SZ, 2 * LARGE) < 0)
			die("F_SETPIPE_SZ");
	}
}

void load_drain(const struct load *l, unsigned slot)
{
	drain(l->dests[slot][0], l->size);
}

void send_file(int root_fd, const char *name, int dest)
{
	int fd = openat(root_fd, name, O_RDONLY | O_CLOEXEC);
	struct stat st;
	off_t at = 0;

	if (fd < 0 || fstat(fd, &st) < 0)
		die(name);
	while (at < st.st_size) {
		if (sendfile(dest, fd, &at, (size_t)(st.st_size - at)) <= 0)
			die("sendfile");
	}
	close(fd);
}
