/* SPDX-License-Identifier: BSD-2-Clause */
/* Files: opened by the daemon, some ahead, or here, to be lent. */
#include "sfdcat.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { AHEAD = 8 }; /* files that are opened before their turn */

/* The daemon sees to that. The range that begins at the end of a file has yet to be found out. */
static int ask_open(struct app *a, struct file *f, const char *path, const struct sfd_opts *opts)
{
	const struct range *r = &a->range;
	off_t offset = 0;
	size_t length = 0;

	if (r->kind == RANGE_FIRST_TO_LAST) {
		offset = (off_t)r->first;
		length = r->last < INT64_MAX ? r->last - r->first + 1 : 0;
	}
	if (sfd_queue_open(a->queue, path, offset, length, opts, number(a, f)) < 0)
		return errno;
	f->state = FILE_ASKED;
	return 0;
}

void open_ahead(struct app *a, struct file *f)
{
	for (int i = 0; i < AHEAD && f < a->files + a->count; i++, f++) {
		if (f->state == FILE_NEW && strcmp(f->name, "-") != 0 && ask_open(a, f, f->name, NULL) != 0)
			return; /* in its turn it will be found out why */
	}
}

/* What may be different a moment later: others take up all of the daemon, say, or the file was opened long ago. */
bool may_pass(int stat)
{
	return stat == ETIMEDOUT || stat == EMFILE || stat == ENFILE || stat == EDQUOT || stat == EBUSY ||
	       stat == SFD_STAT_WORKER_DIED;
}

/* What is not a regular file is EINVAL. A directory is what has an entry "." that is not one. */
static int look_closer(struct app *a, struct file *f, int stat)
{
	char path[4096];

	if (stat != EINVAL || snprintf(path, sizeof path, "%s/.", f->name) >= (int)sizeof path)
		return stat;
	if (ask_open(a, f, path, NULL) != 0 || !await(a, f, FILE_ASKED) || !release(a, f))
		return stat;
	return f->stat == EINVAL ? EISDIR : EINVAL;
}

/* 0: `info` is there; else a status. */
int await_open(struct app *a, struct file *f)
{
	for (;;) {
		int err = f->state == FILE_NEW ? ask_open(a, f, f->name, NULL) : 0;

		if (err != 0)
			return err;
		if (!await(a, f, FILE_ASKED))
			return EINTR;
		if (f->state == FILE_OPEN)
			return 0;
		if (!may_pass(f->stat) || ++f->tries >= TRIES || daemon_is_gone(a))
			return look_closer(a, f, f->stat);
		f->state = FILE_NEW;
		pause_for(a, PAUSE_MS);
	}
}

static void take_info(struct sfd_file_info *info, const struct stat *st)
{
	*info = (struct sfd_file_info){
		.file_size = (uint64_t)st->st_size,
		.mtime = st->st_mtim.tv_sec,
		.ctime = st->st_ctim.tv_sec,
		.atime = st->st_atim.tv_sec,
		.mtime_nsec = (uint32_t)st->st_mtim.tv_nsec,
		.ctime_nsec = (uint32_t)st->st_ctim.tv_nsec,
		.atime_nsec = (uint32_t)st->st_atim.tv_nsec,
		.dev = st->st_dev,
		.ino = st->st_ino,
	};
}

/* Opens a file to lend it. Without O_NONBLOCK a FIFO would wait for its writer; with it, what has a lease is busy. */
int open_here(struct app *a, struct file *f)
{
	const bool is_input = strcmp(f->name, "-") == 0;
	struct stat st;
	char c;

	do
		f->fd = is_input ? STDIN_FILENO : open(f->name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	while (f->fd < 0 && errno == EWOULDBLOCK && !a->signo && (pause_for(a, PAUSE_MS), true));
	if (f->fd < 0 || fstat(f->fd, &st) < 0)
		return errno;
	if (is_input && (fcntl(f->fd, F_GETFL) & O_ACCMODE) == O_WRONLY)
		return EBADF; /* also where there was none: fill_standard_descriptors() */
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? EISDIR : EINVAL;
	/* Some files of /proc say that they are empty, and are not. Nothing can be promised of them. */
	if (st.st_size == 0 && pread(f->fd, &c, 1, 0) > 0)
		return EINVAL;
	take_info(&f->info, &st);
	f->base = is_input ? lseek(f->fd, 0, SEEK_CUR) : 0;
	return f->base < 0 ? errno : 0;
}
