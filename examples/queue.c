/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Many files at once: all files that are named are requested through one queue, each into a pipe of its own, and their
 * sizes and first bytes are printed as they arrive. An event loop would watch sfd_queue_fd() along with its sockets; here
 * sfd_queue_wait() does the waiting.
 *
 *	queue SOCKDIR NAME FILE...
 */
#include <sendfiled/sendfiled.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DEPTH = 256 };

static int fail(const char *what, const char *why)
{
	fprintf(stderr, "%s: %s\n", what, why);
	return 1;
}

/* What has been asked for, by the number that is its user_data. */
struct item {
	const char *path;
	int pipe[2];
};

/* Only the first bytes: what a pipe holds without anybody reading is enough for this. */
static int ask(struct sfd_queue *q, struct item *item, uint64_t number)
{
	int err;

	if (pipe2(item->pipe, O_CLOEXEC) < 0)
		return -1;
	if (sfd_queue_send(q, item->path, item->pipe[1], 0, 4096, NULL, number) == 0)
		return 0;
	err = errno;
	close(item->pipe[0]);
	close(item->pipe[1]);
	errno = err;
	return -1;
}

static void show(const struct item *item, const struct sfd_event *e)
{
	char text[41] = "";
	ssize_t n = 0;

	if (e->stat == SFD_STAT_OK)
		n = read(item->pipe[0], text, sizeof text - 1);
	if (n > 0)
		text[strcspn(text, "\n")] = '\0';
	printf("%s: %s, %llu bytes: %s\n", item->path, sfd_strstat(e->stat), (unsigned long long)e->bytes, text);
	close(item->pipe[0]);
	close(item->pipe[1]);
}

/* Returns how many did not come, or -1. */
static int run(struct sfd_queue *q, struct item *items, int count)
{
	struct sfd_event events[64];
	int asked = 0, done = 0, failed = 0;

	while (done < count) {
		int n;

		/* As many as the queue is deep; the rest when others have ended. */
		while (asked < count && ask(q, &items[asked], (uint64_t)asked) == 0)
			asked++;
		if (asked < count && errno != EAGAIN)
			return -1;
		n = sfd_queue_wait(q, events, 64, 10000);
		if (n <= 0)
			return -1;
		for (int i = 0; i < n; i++) {
			show(&items[events[i].user_data], &events[i]);
			failed += events[i].stat != SFD_STAT_OK;
			done++;
		}
	}
	return failed;
}

int main(int argc, char *argv[])
{
	struct sfd_queue *q;
	struct item *items;
	int srv, failed;

	if (argc < 4)
		return fail("usage", "queue SOCKDIR NAME FILE...");
	srv = sfd_connect(argv[1], argv[2]);
	if (srv < 0)
		return fail("sfd_connect", strerror(errno));
	q = sfd_queue_new(srv, DEPTH);
	if (!q)
		return fail("sfd_queue_new", strerror(errno));
	items = calloc((size_t)argc, sizeof *items);
	if (!items)
		return fail("calloc", strerror(errno));
	for (int i = 3; i < argc; i++)
		items[i - 3].path = argv[i];
	failed = run(q, items, argc - 3);
	if (failed < 0)
		fail("sfd_queue_wait", "no answer in ten seconds");
	sfd_queue_free(q);
	free(items);
	close(srv);
	return failed != 0;
}
