// SPDX-License-Identifier: BSD-2-Clause
#include "test/support/fd.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

Ends make_pipe(int flags)
{
	int ends[2] = {-1, -1};

	EXPECT_EQ(0, pipe2(ends, O_CLOEXEC | flags));
	return {Fd(ends[1]), Fd(ends[0])};
}

Ends make_socketpair(int type)
{
	int ends[2] = {-1, -1};

	EXPECT_EQ(0, socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends));
	return {Fd(ends[0]), Fd(ends[1])};
}
