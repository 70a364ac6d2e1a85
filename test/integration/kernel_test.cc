// SPDX-License-Identifier: BSD-2-Clause
// A kernel, or a container's seccomp profile, that has no openat2(2): nothing is ever served unconfined.
#include "test/support/fixture.h"

#include <cerrno>
#include <cstddef>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sysexits.h>

namespace
{

// In a child: makes openat2(2) fail with that errno from now on.
bool forbid_openat2(unsigned err)
{
	sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | err),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const sock_fprog program = {sizeof code / sizeof code[0], code};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

class Kernel : public SfdTest, public ::testing::WithParamInterface<unsigned>
{
};

TEST_P(Kernel, WithoutOpenat2IsRefusedWithOneClearLine)
{
	const std::string log = dir() + "/stderr", socket_dir = dir();
	const pid_t pid = fork();
	int status;

	ASSERT_GE(pid, 0);
	if (pid == 0) {
		const int fd = open(log.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

		if (fd < 0 || dup2(fd, STDERR_FILENO) < 0 || !forbid_openat2(GetParam()))
			_exit(EX_SOFTWARE);
		execl(daemon_path, "sendfiled", "-s", "kernel", "-r", "/", "-S", socket_dir.c_str(), nullptr);
		_exit(EX_SOFTWARE);
	}
	ASSERT_TRUE(await_exit(pid, &status)) << "it serves";
	const std::string said = read_whole(log);

	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(EX_CONFIG, WEXITSTATUS(status)) << said;
	EXPECT_EQ(said.size() - 1, said.find('\n')) << "one line: " << said;
	EXPECT_NE(std::string::npos, said.find("openat2")) << said;
	EXPECT_NE(std::string::npos, said.find("Linux 5.6")) << said;
	EXPECT_NE(std::string::npos, said.find("seccomp")) << said;
	EXPECT_NE(0, access((socket_dir + "/sendfiled.kernel.socket").c_str(), F_OK));
}

// What an old kernel says, and what an old profile says.
INSTANTIATE_TEST_SUITE_P(All, Kernel, ::testing::Values(unsigned{ENOSYS}, unsigned{EPERM}));

} // namespace
