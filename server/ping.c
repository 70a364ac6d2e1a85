/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/ping.h"

#include "lib/wire.h"
#include "server/fdpass.h"
#include "server/listen.h"
#include "server/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

enum { PING_TIMEOUT_MS = 3000 };

/* Waits for events on one descriptor: 0, or an errno (ETIMEDOUT). */
static int await(int fd, short events, uint64_t deadline_ns)
{
	struct pollfd p = {.fd = fd, .events = events};

	for (;;) {
		uint64_t now = clock_now_ns();
		int n = poll(&p, 1, now < deadline_ns ? (int)((deadline_ns - now) / 1000000) + 1 : 0);

		if (n > 0)
			return 0;
		if (n == 0)
			return ETIMEDOUT;
		if (errno != EINTR)
			return errno;
	}
}

static int send_ping(int sock, int channel, uint64_t deadline_ns)
{
	const struct wire_header h = {.version = WIRE_VERSION, .count = 1, .channel = WIRE_CHANNEL_FD};
	const struct wire_request r = {.op = WIRE_OP_PING};
	_Alignas(8) unsigned char buf[WIRE_HEADER_SIZE + WIRE_REQUEST_SIZE];

	wire_put_header(buf, &h, sizeof buf);
	wire_put_request(buf + WIRE_HEADER_SIZE, &r);
	while (fdpass_send(sock, buf, sizeof buf, &channel, 1) < 0) {
		int err = errno;

		if (err == EAGAIN) /* its queue is full: that alone does not say that it is dead */
			err = await(sock, POLLOUT, deadline_ns);
		if (err != 0)
			return err;
	}
	return 0;
}

/* 0, or what is wrong. */
static int ask(int sock)
{
	uint64_t deadline_ns = clock_now_ns() + (uint64_t)PING_TIMEOUT_MS * 1000000;
	struct sfd_xfer_stat frame;
	int ends[2];
	int err;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return errno;
	err = send_ping(sock, ends[1], deadline_ns);
	close(ends[1]);
	if (err == 0)
		err = await(ends[0], POLLIN, deadline_ns);
	if (err == 0)
		err = read(ends[0], &frame, sizeof frame) == sizeof frame ? frame.stat : ECONNRESET;
	close(ends[0]);
	return err;
}

int ping(const struct options *o)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	char error[256];
	int sock, err;

	if (listen_path(sa.sun_path, sizeof sa.sun_path, o->socket_dir, o->name, error, sizeof error) != 0) {
		fprintf(stderr, "sendfiled: %s\n", error);
		return EX_CONFIG;
	}
	sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (sock < 0 || connect(sock, (struct sockaddr *)&sa, sizeof sa) < 0)
		err = errno;
	else
		err = ask(sock);
	if (sock >= 0)
		close(sock);
	if (err != 0) {
		fprintf(stderr, "sendfiled: the daemon '%s' does not serve: %s: %s\n", o->name, sa.sun_path,
			strerror(err));
		return EX_UNAVAILABLE;
	}
	printf("sendfiled: the daemon '%s' serves\n", o->name);
	return EX_OK;
}
