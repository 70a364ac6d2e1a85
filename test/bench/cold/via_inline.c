/* SPDX-License-Identifier: BSD-2-Clause */
/* A loop that opens, examines, sends and closes files itself, one request after the other. */
#include "test/bench/cold/load.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

/* The cold request comes after this many hot ones that count, so that one sees the loop run before. */
enum { COLD_AFTER = RATE / 2 };

static void send_file(const char *path, int dest)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	off_t at = 0;

	if (fd < 0 || fstat(fd, &st) < 0)
		die(path);
	while (at < st.st_size) {
		if (sendfile(dest, fd, &at, (size_t)(st.st_size - at)) <= 0)
			die("sendfile");
	}
	close(fd);
}

static void serve(struct load *l)
{
	char hot[PATH_SIZE], name[PATH_SIZE], cold[PATH_SIZE];
	struct pollfd due = {.fd = l->timer, .events = POLLIN};
	unsigned n_cold = 0;
	int slot;

	load_full_path(l, HOT_NAME, hot);
	load_start(l, false);
	while (!load_over(l)) {
		poll(&due, 1, -1);
		load_tick(l);
		while ((slot = load_next(l)) >= 0) {
			load_began(l);
			if (l->request[slot] >= WARM_UP + COLD_AFTER && n_cold < l->n_cold) {
				load_cold_name(l, n_cold, name);
				load_full_path(l, name, cold);
				send_file(cold, l->cold_dest[n_cold++]);
			}
			send_file(hot, l->hot_dest[slot]);
			load_done(l, (unsigned)slot);
		}
	}
	load_finish(l);
}

const struct server via_inline = {.name = "one loop", .serve = serve};
