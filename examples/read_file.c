/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * read_file: reads a file from the daemon and copies it to standard output.
 *
 *   read_file SOCKDIR NAME FILE     for instance: read_file run demo a.txt | wc -c
 *
 * The pipe that sfd_read() returns carries one frame about the file, then the file itself. There is
 * no frame at the end, so the program must count: fewer bytes than the first frame promised are an
 * error, and the only sign of it.
 */
#include <sendfiled/sendfiled.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fail(const char *what, const char *why)
{
	fprintf(stderr, "read_file: %s: %s\n", what, why);
	return -1;
}

/* Each frame arrives whole: it is written in one piece, and is smaller than PIPE_BUF (pipe(7)). */
static int read_info(int fd, const char *path, struct sfd_file_info *info)
{
	unsigned char frame[SFD_MAX_RESP_SIZE];

	if (read(fd, frame, sizeof frame) != sizeof frame || sfd_get_cmd(frame) != SFD_FILE_INFO)
		return fail(path, "the daemon did not answer");
	return sfd_unmarshal_file_info(info, frame) ? 0 : fail(path, sfd_strstat(info->stat));
}

/* Up to end-of-file. The number of bytes, -1 if they cannot be read or written. */
static long long copy(int from, int to)
{
	static char buffer[65536];
	long long total = 0;
	ssize_t n;

	while ((n = read(from, buffer, sizeof buffer)) > 0) {
		for (ssize_t put = 0; put < n;) {
			ssize_t w = write(to, buffer + put, (size_t)(n - put));

			if (w < 0)
				return fail("standard output", strerror(errno));
			put += w;
		}
		total += n;
	}
	return n < 0 ? fail("the daemon's pipe", strerror(errno)) : total;
}

int main(int argc, char *argv[])
{
	struct sfd_file_info info;
	long long copied;
	int srv, fd;

	if (argc != 4) {
		fprintf(stderr, "usage: read_file SOCKDIR NAME FILE\n");
		return EXIT_FAILURE;
	}
	srv = sfd_connect(argv[1], argv[2]);
	if (srv < 0) {
		fail("cannot connect to the daemon", strerror(errno));
		return EXIT_FAILURE;
	}
	fd = sfd_read(srv, argv[3], 0, 0, false);
	close(srv); /* the answer comes on a pipe of its own */
	if (fd < 0) {
		fail("the request was not sent", strerror(errno));
		return EXIT_FAILURE;
	}
	if (read_info(fd, argv[3], &info) < 0)
		return EXIT_FAILURE;
	copied = copy(fd, STDOUT_FILENO);
	close(fd);
	if (copied < 0)
		return EXIT_FAILURE;
	if ((unsigned long long)copied != info.size) {
		fprintf(stderr, "read_file: %s: only %lld of %zu bytes came\n", argv[3], copied, info.size);
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}
