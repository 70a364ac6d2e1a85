/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Keeping a file open without having it in the table of descriptors. A file of a file system with a server (FUSE, NFS)
 * can make close(2) wait, and so even the end of the process that has it. So it is put into a message in a UNIX socket: the
 * socket is what is held, so that a process can end without waiting, and whoever works on the file takes a descriptor out
 * for that time. (What is dropped with a socket is released without a flush, for which close(2) waits. The release itself
 * can take a while too, of a deleted file for instance, so the socket is closed by closer_close_later().)
 */
#ifndef SFD_PARK_H
#define SFD_PARK_H

/* A socket that holds the file, or -1 and errno. `fd` stays the caller's. */
int park(int fd);

/* A descriptor of the file in the socket, which keeps it. -1 and errno. */
int park_copy(int sock);

#endif
