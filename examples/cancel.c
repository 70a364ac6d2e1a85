/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cancel: starts a transfer into a pipe that nobody reads, and ends it early.
 *
 *   cancel SOCKDIR NAME FILE     FILE should be larger than a pipe, 64 KiB
 *
 * A server does this when it gives a client up. Only after the terminal frame is it certain that
 * the daemon writes to the destination no more.
 */
#include <sendfiled/sendfiled.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fail(const char *what, const char *why)
{
	fprintf(stderr, "cancel: %s: %s\n", what, why);
	return -1;
}

static int read_frame(int status, void *frame)
{
	return read(status, frame, SFD_MAX_RESP_SIZE) == SFD_MAX_RESP_SIZE ? 0 : -1;
}

/* Also the frame of a send brings an id: it is what sfd_cancel() wants. */
static int cancel_first(int srv, int status, struct sfd_file_info *info)
{
	unsigned char frame[SFD_MAX_RESP_SIZE];

	if (read_frame(status, frame) < 0)
		return fail("no answer", "the daemon's worker process died");
	if (!sfd_unmarshal_file_info(info, frame))
		return fail("refused", sfd_strstat(info->stat));
	return sfd_cancel(srv, info->txnid) ? 0 : fail("sfd_cancel", strerror(errno));
}

static int await_end(int status, struct sfd_xfer_stat *stat)
{
	unsigned char frame[SFD_MAX_RESP_SIZE];

	do {
		if (read_frame(status, frame) < 0)
			return fail("no terminal frame", "the daemon's worker process died");
		sfd_unmarshal_xfer_stat(stat, frame);
	} while (stat->stat == SFD_STAT_OK && !sfd_xfer_complete(stat));
	return 0;
}

static int run(int srv, const char *path)
{
	struct sfd_file_info info;
	struct sfd_xfer_stat stat;
	int ends[2], status, result;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return fail("pipe2", strerror(errno));
	status = sfd_send(srv, path, ends[1], 0, 0, false);
	close(ends[1]); /* the daemon has its own */
	if (status < 0) {
		close(ends[0]);
		return fail("the request was not sent", strerror(errno));
	}
	result = cancel_first(srv, status, &info) < 0 || await_end(status, &stat) < 0 ? -1 : 0;
	close(status);
	close(ends[0]);
	if (result < 0)
		return -1;
	if (stat.stat == SFD_STAT_OK)
		printf("too late: all %zu bytes were delivered\n", info.size);
	else if (stat.stat == ECANCELED)
		printf("cancelled: %llu of %zu bytes were delivered\n", (unsigned long long)stat.total, info.size);
	else
		return fail(path, sfd_strstat(stat.stat));
	return 0;
}

int main(int argc, char *argv[])
{
	int srv, result;

	if (argc != 4) {
		fprintf(stderr, "usage: cancel SOCKDIR NAME FILE\n");
		return EXIT_FAILURE;
	}
	srv = sfd_connect(argv[1], argv[2]);
	if (srv < 0) {
		fail("cannot connect to the daemon", strerror(errno));
		return EXIT_FAILURE;
	}
	result = run(srv, argv[3]);
	close(srv);
	return result < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
