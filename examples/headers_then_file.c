/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * headers_then_file: an HTTP response on standard output, its body sent by the daemon.
 *
 *   headers_then_file SOCKDIR NAME FILE
 *
 * A server must know a file's size before it can send the header that comes before the file. So
 * there are two messages: sfd_open() opens the file and brings its size; the header is written;
 * then sfd_send_open() sends the body. It is the same open file all along: a file that takes its
 * name meanwhile does not matter.
 */
#include <sendfiled/sendfiled.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fail(const char *what, const char *why)
{
	fprintf(stderr, "headers_then_file: %s: %s\n", what, why);
	return -1;
}

/* With write(2), not with stdio: nothing may wait in a buffer when the daemon begins to write. */
static int write_all(int fd, const char *text)
{
	size_t n = strlen(text);

	while (n > 0) {
		ssize_t w = write(fd, text, n);

		if (w < 0)
			return fail("standard output", strerror(errno));
		text += w;
		n -= (size_t)w;
	}
	return 0;
}

/* 0 and the information, or the status that the daemon answered with; -1 if it did not answer. */
static int read_info(int status, struct sfd_file_info *info)
{
	unsigned char frame[SFD_MAX_RESP_SIZE];

	if (read(status, frame, sizeof frame) != sizeof frame || sfd_get_cmd(frame) != SFD_FILE_INFO)
		return -1;
	sfd_unmarshal_file_info(info, frame);
	return info->stat;
}

/* The transfer's outcome comes on the pipe that sfd_open() returned; -1 if it does not. */
static int await_end(int status)
{
	unsigned char frame[SFD_MAX_RESP_SIZE];
	struct sfd_xfer_stat stat;

	while (read(status, frame, sizeof frame) == sizeof frame) {
		if (!sfd_unmarshal_xfer_stat(&stat, frame))
			return sfd_get_stat(frame);
		if (sfd_xfer_complete(&stat))
			return SFD_STAT_OK;
	}
	return -1;
}

static int respond(int srv, int status, const char *path)
{
	struct sfd_file_info info;
	char header[128];
	int err = read_info(status, &info);

	if (err != SFD_STAT_OK) {
		write_all(STDOUT_FILENO, "HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n");
		return fail(path, err < 0 ? "the daemon did not answer" : sfd_strstat(err));
	}
	snprintf(header, sizeof header, "HTTP/1.0 200 OK\r\nContent-Length: %zu\r\n\r\n", info.size);
	if (write_all(STDOUT_FILENO, header) < 0)
		return -1; /* main() closes `status`, and with that the daemon closes the file */
	if (!sfd_send_open(srv, info.txnid, STDOUT_FILENO))
		return fail("the second message was not sent", strerror(errno));
	err = await_end(status);
	if (err != SFD_STAT_OK)
		return fail(path, err < 0 ? "the daemon's worker process died" : sfd_strstat(err));
	return 0;
}

int main(int argc, char *argv[])
{
	int srv, status, result;

	if (argc != 4) {
		fprintf(stderr, "usage: headers_then_file SOCKDIR NAME FILE\n");
		return EXIT_FAILURE;
	}
	srv = sfd_connect(argv[1], argv[2]);
	if (srv < 0) {
		fail("cannot connect to the daemon", strerror(errno));
		return EXIT_FAILURE;
	}
	status = sfd_open(srv, argv[3], 0, 0, false);
	if (status < 0) {
		fail("the request was not sent", strerror(errno));
		return EXIT_FAILURE;
	}
	result = respond(srv, status, argv[3]);
	close(status);
	close(srv);
	return result < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
