/* SPDX-License-Identifier: BSD-2-Clause */
/* Processes and credentials, where systems differ. */
#ifndef SFD_OS_PROCESS_H
#define SFD_OS_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct msghdr;

/* Sleeps end when they should, not when it suits the system. Linux: prctl(2), PR_SET_TIMERSLACK; 50 us else. */
void os_sleep_exactly(void);

/* Closes every descriptor but these `n`, which are put in ascending order. */
void os_close_except(int *keep, unsigned n);

/* Closes all descriptors from `first` to `last`, which are open. */
void os_close_run(int first, int last);

/* A descriptor that becomes readable when that process ends; -1 and errno. Linux: pidfd_open(2), since 5.3. */
int os_watch_process(pid_t pid);

/*
 * What tells the process of such a descriptor from any that gets its number later; 0: nothing does. `process` may be what
 * os_get_process() says instead of a descriptor. Linux: the inode of a pidfd, since 6.9; those of older kernels all have the same.
 */
uint64_t os_process_mark(int process);

/*
 * Whether the process of such a descriptor still has its number, so that no other one can have it: it has not ended, or
 * nobody has waited for it yet. Linux: pidfd_send_signal(2), since 5.1.
 */
bool os_has_number(int watch);

/*
 * fork(2), but both processes share one table of descriptors: what one closes is closed in the other. What close(2) then
 * waits for, only the process that called it waits for.
 */
pid_t os_fork_sharing_files(void);

/* Goes on with a copy of a shared table of one's own. 0, or -1 and errno. */
int os_leave_shared_files(void);

/* The calling process ends when its parent does. */
void os_end_with_parent(void);

/* Keeps other processes of the same user from tracing this one and taking its descriptors; forbids set-user-ID exec. */
int os_harden(void);

/* How many processors this process may run on; at least 1. */
unsigned os_cpu_count(void);

/* Has memory that is shared with other processes be there, and stay there as far as the process may ask for that. */
void os_keep_in_memory(void *memory, size_t size);

/* What is known of a child that has been sent SIGKILL and is not gone, because it waits in the kernel. */
enum os_fate {
	OS_RUNS,    /* it has not been killed */
	OS_KILLED,  /* no code of its own runs any more, but the call that it was in may go on */
	OS_LEAVING, /* that call is over */
};
enum os_fate os_fate(pid_t pid);

/* What another process is at, and has used. False if there is none. Linux: proc_pid_stat(5). */
struct os_process_view {
	bool is_uninterruptible; /* it waits where not even SIGKILL wakes it */
	bool is_stopped;         /* by a signal or a debugger; it is in no call then */
	uint64_t cpu_ns;
};
bool os_view_process(pid_t pid, struct os_process_view *out);

/*
 * How much processor time the process may have, in percent of one processor: os_cpu_count() times 100, or less. Linux: cpu.max
 * of its cgroup and of those above (cgroup v2).
 */
unsigned os_cpu_quota(void);

/* Shows `title` as the process's name (15 bytes count). */
void os_set_title(const char *title);

/* Who sent a datagram, as the kernel says. */
struct os_credentials {
	pid_t pid; /* 0: outside our pid namespace */
	uid_t uid;
	gid_t gid;
};

/*
 * Has the kernel attach credentials to each datagram, and where it can a descriptor of the sender's process; to be called
 * before bind(2), so that none comes without.
 */
int os_want_credentials(int sock);

/* False if the message carries none. */
bool os_get_credentials(struct msghdr *msg, struct os_credentials *out);

/* What stands for a descriptor of the sender's process where there is none. */
enum {
	OS_PROCESS_UNSAID = -1, /* the system cannot tell */
	OS_PROCESS_ENDED = -2,
	OS_PROCESS_NO_ROOM = -3, /* in the table of descriptors */
};

/*
 * The process that sent the message, whoever has its number by now: a descriptor like os_watch_process()'s, the caller's to
 * close, or one of the above. To be called once for each message that was received. Linux: SO_PASSPIDFD, since 6.5.
 */
int os_get_process(struct msghdr *msg);

#endif
