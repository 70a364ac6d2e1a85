/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/os/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Linux 6.5; libc's headers may be older. */
#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif
#ifndef SCM_PIDFD
#define SCM_PIDFD 0x04
#endif

/* close_range(2) came with Linux 5.9; before, /proc has the list, and without /proc nothing is known to be open. */
static void close_listed(int first, unsigned last)
{
	DIR *dir = opendir("/proc/self/fd");
	const struct dirent *e;

	if (!dir)
		return;
	while ((e = readdir(dir)) != NULL) {
		int fd;

		if (e->d_name[0] == '.')
			continue;
		fd = (int)strtol(e->d_name, NULL, 10);
		if (fd >= first && (unsigned)fd <= last && fd != dirfd(dir))
			close(fd);
	}
	closedir(dir);
}

static void close_range_of(int first, unsigned last)
{
	if ((unsigned)first <= last && syscall(SYS_close_range, (unsigned)first, last, 0U) < 0)
		close_listed(first, last);
}

static int by_number(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;

	return (x > y) - (x < y);
}

void os_sleep_exactly(void)
{
	prctl(PR_SET_TIMERSLACK, 1UL, 0, 0, 0);
}

void os_close_except(int *keep, unsigned n)
{
	int next = 0;

	qsort(keep, n, sizeof *keep, by_number);
	for (unsigned i = 0; i < n; i++) {
		if (keep[i] < next)
			continue; /* named twice, or -1 */
		if (keep[i] > next)
			close_range_of(next, (unsigned)keep[i] - 1);
		next = keep[i] + 1;
	}
	close_range_of(next, ~0U);
}

void os_close_run(int first, int last)
{
	if (syscall(SYS_close_range, (unsigned)first, (unsigned)last, 0U) == 0)
		return;
	for (int fd = first; fd <= last; fd++)
		close(fd);
}

int os_watch_process(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0U);
}

bool os_has_number(int watch)
{
	/* Signal 0 is never sent: kill(2). EPERM: there is such a process. */
	return syscall(SYS_pidfd_send_signal, watch, 0, NULL, 0U) == 0 || errno != ESRCH;
}

pid_t os_fork_sharing_files(void)
{
	/* libc's fork(2) cannot share the table. Its own state does not matter to a child that only closes and ends. */
	return (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL);
}

int os_leave_shared_files(void)
{
	/* A range that holds nothing: containers that forbid unshare(2) allow this. Linux 5.9. */
	if (syscall(SYS_close_range, ~0U, ~0U, CLOSE_RANGE_UNSHARE) == 0)
		return 0;
	return unshare(CLONE_FILES);
}

void os_end_with_parent(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
}

int os_harden(void)
{
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return -1;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

unsigned os_cpu_count(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof set, &set) < 0)
		return 1; /* more processors than cpu_set_t has bits, or none that we know of */
	return (unsigned)CPU_COUNT(&set);
}

/* "MAX PERIOD" in microseconds, MAX being "max" for no limit. In percent; UINT_MAX: none. */
static unsigned read_cpu_max(const char *path)
{
	char line[64] = "", *rest;
	FILE *f = fopen(path, "re");
	unsigned long max, period;

	if (!f)
		return UINT_MAX;
	if (!fgets(line, sizeof line, f))
		line[0] = '\0';
	fclose(f);
	max = strtoul(line, &rest, 10);
	if (rest == line)
		return UINT_MAX;
	period = strtoul(rest, NULL, 10);
	return period > 0 && max < ULONG_MAX / 100 && max * 100 / period < UINT_MAX ? (unsigned)(max * 100 / period)
										    : UINT_MAX;
}

unsigned os_cpu_quota(void)
{
	const char mount[] = "/sys/fs/cgroup", name[] = "/cpu.max";
	char line[1024], path[sizeof mount + sizeof line + sizeof name];
	unsigned least = os_cpu_count() * 100;
	FILE *f = fopen("/proc/self/cgroup", "re");
	bool found = false;

	while (f && !found && fgets(line, sizeof line, f))
		found = strncmp(line, "0::/", 4) == 0;
	if (f)
		fclose(f);
	if (!found)
		return least;
	line[strcspn(line, "\n")] = '\0';
	/* From its own group up to the root of what it can see. */
	for (char *group = line + 3, *slash; *group; *slash = '\0') {
		unsigned quota;

		snprintf(path, sizeof path, "%s%s%s", mount, group, name);
		quota = read_cpu_max(path);
		least = quota < least ? quota : least;
		slash = strrchr(group, '/');
		if (!slash)
			break;
	}
	return least;
}

void os_set_title(const char *title)
{
	prctl(PR_SET_NAME, title, 0, 0, 0);
}

int os_want_credentials(int sock)
{
	/* An older kernel refuses; then processes are found by number: os_get_process() says so. */
	setsockopt(sock, SOL_SOCKET, SO_PASSPIDFD, &(int){1}, sizeof(int));
	return setsockopt(sock, SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int));
}

static const void *find_control(struct msghdr *msg, int type, size_t size)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == type && c->cmsg_len >= CMSG_LEN(size))
			return CMSG_DATA(c);
	}
	return NULL;
}

bool os_get_credentials(struct msghdr *msg, struct os_credentials *out)
{
	struct ucred u;
	const void *data = find_control(msg, SCM_CREDENTIALS, sizeof u);

	if (!data)
		return false;
	memcpy(&u, data, sizeof u);
	*out = (struct os_credentials){.pid = u.pid, .uid = u.uid, .gid = u.gid};
	return true;
}

int os_get_process(struct msghdr *msg)
{
	int process;
	const void *data = find_control(msg, SCM_PIDFD, sizeof process);

	if (!data)
		return OS_PROCESS_UNSAID;
	memcpy(&process, data, sizeof process);
	if (process >= 0)
		return process;
	/* What pidfd_open(2) would have failed with. */
	return process == -EMFILE || process == -ENFILE || process == -ENOMEM ? OS_PROCESS_NO_ROOM : OS_PROCESS_ENDED;
}

uint64_t os_process_mark(int process)
{
	struct stat st;

	if (process == OS_PROCESS_ENDED)
		return UINT64_MAX; /* no process's */
	return process >= 0 && fstat(process, &st) == 0 ? st.st_ino : 0;
}

void os_keep_in_memory(void *memory, size_t size)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	volatile unsigned char *at = memory;

	/* Each page is touched: MADV_POPULATE_WRITE exists since 5.14 only. */
	for (size_t i = 0; i < size; i += page) {
		unsigned char byte = at[i];

		at[i] = byte;
	}
	mlock(memory, size); /* more than RLIMIT_MEMLOCK allows stays where it is while memory is not short */
}

/* The text of /proc/PID/NAME, or an empty one. */
static void read_proc(pid_t pid, const char *name, char *text, size_t size)
{
	char path[64];
	ssize_t n = -1;
	int fd;

	snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, text, size - 1);
		close(fd);
	}
	text[n > 0 ? n : 0] = '\0';
}

/* proc_pid_status(5). */
static bool has_sigkill(const char *status, const char *mask)
{
	const char *at = strstr(status, mask);

	return at && strtoull(at + strlen(mask), NULL, 16) & (UINT64_C(1) << (SIGKILL - 1));
}

/* proc_pid_stat(5): the seventh field after the name, which may hold anything but is the last thing in parentheses. */
static unsigned long process_flags(const char *stat)
{
	const char *at = strrchr(stat, ')');

	for (int field = 0; at && field < 7; field++)
		at = strchr(at + 1, ' ');
	return at ? strtoul(at, NULL, 10) : 0;
}

enum os_fate os_fate(pid_t pid)
{
	const unsigned long exiting = 0x4; /* PF_EXITING */
	char text[4096];

	read_proc(pid, "stat", text, sizeof text);
	if (process_flags(text) & exiting)
		return OS_LEAVING;
	read_proc(pid, "status", text, sizeof text);
	return has_sigkill(text, "SigPnd:") || has_sigkill(text, "ShdPnd:") ? OS_KILLED : OS_RUNS;
}

bool os_view_process(pid_t pid, struct os_process_view *out)
{
	const uint64_t second_ns = UINT64_C(1000000000);
	char text[4096], *at;
	uint64_t ticks;

	read_proc(pid, "stat", text, sizeof text);
	at = strrchr(text, ')');
	if (!at || at[1] == '\0')
		return false;
	out->is_uninterruptible = at[2] == 'D';
	out->is_stopped = at[2] == 'T' || at[2] == 't';
	/* The twelfth and thirteenth field after the name: in user and in kernel mode. */
	for (int field = 0; at && field < 12; field++)
		at = strchr(at + 1, ' ');
	if (!at)
		return false;
	ticks = strtoull(at, &at, 10);
	ticks += strtoull(at, NULL, 10);
	out->cpu_ns = ticks * (second_ns / (uint64_t)sysconf(_SC_CLK_TCK));
	return true;
}
