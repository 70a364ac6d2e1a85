/* SPDX-License-Identifier: BSD-2-Clause */
#include "fdmsg.h"

#include <string.h>
#include <sys/socket.h>

int fdmsg_send(int sock, const void *buf, size_t len, const int *fds, unsigned nfds)
{
	struct iovec iov = {.iov_base = (void *)buf, .iov_len = len};

	return fdmsg_send_pieces(sock, &iov, 1, fds, nfds);
}

int fdmsg_send_pieces(int sock, struct iovec *iov, unsigned pieces, const int *fds, unsigned nfds)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(FDMSG_MAX * sizeof(int))];
	} control;
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = pieces};

	if (nfds > 0) {
		struct cmsghdr *cmsg;

		msg.msg_control = control.space;
		msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		memset(control.space, 0, msg.msg_controllen);
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, nfds * sizeof(int));
	}
	return sendmsg(sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -1 : 0;
}
