// SPDX-License-Identifier: BSD-2-Clause
#include "test/support/fd.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
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

bool may_open(unsigned long n)
{
	rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0 || rl.rlim_max < n)
		return false;
	if (rl.rlim_cur < n) {
		rl.rlim_cur = n;
		return setrlimit(RLIMIT_NOFILE, &rl) == 0;
	}
	return true;
}
