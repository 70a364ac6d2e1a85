/* SPDX-License-Identifier: BSD-2-Clause */
/* Runs the benchmark in a process of its own, so that it can be cleaned up after however it ends. */
#ifndef SFD_BENCH_COLD_SUPERVISE_H
#define SFD_BENCH_COLD_SUPERVISE_H

/*
 * Runs work(arg) in a child and waits until it and all processes that it has left behind are gone. If this process is
 * asked to stop (SIGINT, SIGTERM, SIGHUP), the child is killed. The exit status for main().
 */
int supervise(void (*work)(void *), void *arg);

/* Unmounts what is still mounted on `mount_point`, a directory right below `dir`, once its server is gone. */
void unmount_leftover(const char *mount_point, const char *dir);

/* The calling process ends when its parent does. */
void end_with_parent(void);

/* Runs a program to its end: its exit status; -1 if there is no such program. */
int run_program(const char *const argv[]);

#endif
