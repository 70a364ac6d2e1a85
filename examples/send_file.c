/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * send_file: sends a file to standard output, whatever that is: a pipe, a socket, a file, a
 * terminal.
 *
 *   send_file SOCKDIR NAME FILE [OFFSET [LENGTH]]     for instance: send_file run demo a.txt | wc
 * -c
 *
 * SOCKDIR and NAME say which daemon; FILE is a path below its root directory. The bytes never pass
 * through this program: the daemon writes them to the descriptor that it is given.
 */
#include <sendfiled/sendfiled.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * EAGAIN means that the daemon's request queue is full at the moment. An event loop would go on
 * with something else until `srv` is writable; there is nothing else to do here.
 */
static int send_patiently(int srv, const char *path, int dest, off_t offset, size_t len)
{
	struct pollfd p = {.fd = srv, .events = POLLOUT};
	int status;

	while ((status = sfd_send(srv, path, dest, offset, len, false)) < 0 && errno == EAGAIN)
		poll(&p, 1, -1);
	return status;
}

/*
 * Reads frames until the one that ends the transfer. Returns its status, -1 if there is none: then
 * the daemon's worker process died, and how much was sent is not known.
 */
static int await_end(int status, uint64_t *delivered)
{
	unsigned char frame[SFD_MAX_RESP_SIZE];
	struct sfd_file_info info;
	struct sfd_xfer_stat stat;

	while (read(status, frame, sizeof frame) == sizeof frame) {
		if (sfd_get_cmd(frame) == SFD_FILE_INFO) {
			if (!sfd_unmarshal_file_info(&info, frame))
				return info.stat; /* refused; nothing was sent */
			fprintf(stderr, "send_file: %zu bytes to send\n", info.size);
		} else if (sfd_get_cmd(frame) == SFD_XFER_STAT) {
			sfd_unmarshal_xfer_stat(&stat, frame); /* false for an error, but filled in */
			*delivered = stat.total;
			if (stat.stat != SFD_STAT_OK || sfd_xfer_complete(&stat))
				return stat.stat;
		}
	}
	return -1;
}

int main(int argc, char *argv[])
{
	uint64_t delivered = 0;
	int srv, status, outcome;

	if (argc < 4 || argc > 6) {
		fprintf(stderr, "usage: send_file SOCKDIR NAME FILE [OFFSET [LENGTH]]\n");
		return EXIT_FAILURE;
	}
	srv = sfd_connect(argv[1], argv[2]);
	if (srv < 0) {
		fprintf(stderr, "send_file: no daemon '%s' in %s: %s\n", argv[2], argv[1], strerror(errno));
		return EXIT_FAILURE;
	}
	status = send_patiently(srv, argv[3], STDOUT_FILENO, argc > 4 ? strtoll(argv[4], NULL, 10) : 0,
		argc > 5 ? strtoull(argv[5], NULL, 10) : 0);
	if (status < 0) {
		fprintf(stderr, "send_file: the request was not sent: %s\n", strerror(errno));
		return EXIT_FAILURE;
	}
	outcome = await_end(status, &delivered);
	close(status);
	close(srv);
	if (outcome != SFD_STAT_OK) {
		fprintf(stderr, "send_file: %s: %s (%llu bytes were sent)\n", argv[3],
			outcome < 0 ? "the daemon's worker process died" : sfd_strstat(outcome),
			(unsigned long long)delivered);
		return EXIT_FAILURE;
	}
	fprintf(stderr, "send_file: %llu bytes sent\n", (unsigned long long)delivered);
	return EXIT_SUCCESS;
}
