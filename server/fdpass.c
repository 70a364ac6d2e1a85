/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/fdpass.h"

#include "server/closer.h"
#include "server/os/process.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

int fdpass_send_two(
	int sock, const void *buf, size_t len, const void *more, size_t more_len, const int *fds, unsigned nfds)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(FDPASS_SEND_MAX * sizeof(int))] = {0};
	const size_t size = nfds * sizeof(int);
	struct iovec iov[2] = {
		{.iov_base = (void *)buf, .iov_len = len},
		{.iov_base = (void *)more, .iov_len = more_len},
	};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = more_len > 0 ? 2 : 1};

	if (nfds > 0) {
		struct cmsghdr *c;

		msg.msg_control = control;
		msg.msg_controllen = CMSG_SPACE(size);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(size);
		memcpy(CMSG_DATA(c), fds, size);
	}
	return sendmsg(sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -1 : 0;
}

int fdpass_send(int sock, const void *buf, size_t len, const int *fds, unsigned nfds)
{
	return fdpass_send_two(sock, buf, len, NULL, 0, fds, nfds);
}

/* Every control message is walked, so that no descriptor is left behind unseen. */
static void collect_fds(struct fdpass *m, struct msghdr *msg)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
			if (m->nfds < FDPASS_MAX) {
				m->fds[m->nfds++] = fd;
			} else {
				closer_close(fd);
				m->fds_lost = true;
			}
		}
	}
}

/* Room for as many descriptors as the kernel lets anybody send, and the sender's credentials and process. */
enum { CONTROL_SIZE = CMSG_SPACE(FDPASS_MAX * sizeof(int)) + CMSG_SPACE(64) + CMSG_SPACE(sizeof(int)) };

_Static_assert((int)CONTROL_SIZE <= (int)FDPASS_CONTROL_MAX, "control messages");

static int receive(int sock, void *buf, size_t size, void *control, int flags, struct fdpass *m)
{
	struct iovec iov = {.iov_base = buf, .iov_len = size};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = CONTROL_SIZE,
	};
	struct os_credentials cred;
	ssize_t n = recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC | flags);

	m->nfds = 0;
	m->process = OS_PROCESS_UNSAID;
	if (n < 0)
		return -1;
	m->len = (size_t)n;
	m->data_cut = (msg.msg_flags & MSG_TRUNC) != 0;
	m->fds_lost = (msg.msg_flags & MSG_CTRUNC) != 0;
	collect_fds(m, &msg);
	m->process = os_get_process(&msg);
	m->fds_lost = m->fds_lost || m->process == OS_PROCESS_NO_ROOM;
	m->has_owner = os_get_credentials(&msg, &cred);
	if (m->has_owner) {
		m->owner = (struct owner){.uid = cred.uid, .pid = cred.pid};
		m->gid = cred.gid;
	}
	return 0;
}

int fdpass_receive_into(int sock, void *buf, size_t size, void *control, struct fdpass *m)
{
	return receive(sock, buf, size, control, 0, m);
}

int fdpass_receive(int sock, void *buf, size_t size, struct fdpass *m)
{
	_Alignas(struct cmsghdr) char control[CONTROL_SIZE];

	return receive(sock, buf, size, control, 0, m);
}

int fdpass_peek(int sock, void *buf, size_t size, struct fdpass *m)
{
	_Alignas(struct cmsghdr) char control[CONTROL_SIZE];

	return receive(sock, buf, size, control, MSG_PEEK, m);
}

unsigned fdpass_count(const struct fdpass *m)
{
	return m->nfds + (m->process >= 0);
}

int fdpass_take(struct fdpass *m, unsigned i)
{
	int fd;

	if (i >= m->nfds)
		return -1;
	fd = m->fds[i];
	m->fds[i] = -1;
	return fd;
}

void fdpass_drop(struct fdpass *m)
{
	for (unsigned i = 0; i < m->nfds; i++) {
		closer_close(m->fds[i]);
	}
	m->nfds = 0;
	if (m->process >= 0)
		closer_close_harmless(m->process);
	m->process = OS_PROCESS_UNSAID;
}
