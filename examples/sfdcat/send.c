/* SPDX-License-Identifier: BSD-2-Clause */
/* Ranges of files: sent, and sent on after what may be tried again; or only looked at. */
#include "sfdcat.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

/* Of what there is of the file. A range that begins behind its end is empty. */
void find_range(const struct range *r, struct file *f)
{
	const uint64_t base = (uint64_t)f->base, size = f->info.file_size > base ? f->info.file_size - base : 0;
	uint64_t first = 0, length = size;

	if (r->kind == RANGE_FIRST_TO_LAST) {
		first = r->first < size ? r->first : size;
		length = r->last < size ? r->last + 1 - first : size - first;
	} else if (r->kind == RANGE_TAIL && r->count < size) {
		first = size - r->count;
		length = r->count;
	}
	f->offset = (off_t)(base + first);
	f->length = length;
}

/* Asks for the rest of the range: 0, or a status. */
static int ask_send(struct app *a, struct file *f, int dest, unsigned flags)
{
	struct sfd_opts opts = {.flags = flags | (a->bar ? SFD_WANT_PROGRESS : 0U), .max_rate = a->rate};
	const off_t at = f->offset + (off_t)f->done;
	const uint64_t left = f->length - f->done;
	int n;

	f->moved = f->written = 0;
	if (f->fd >= 0) {
		n = sfd_queue_sendfd(a->queue, f->fd, dest, at, left, &opts, number(a, f));
	} else if (f->state == FILE_OPEN && f->info.offset == at && f->info.size == left &&
		   sfd_queue_send_open(a->queue, f->info.txnid, dest, &opts) == 0) {
		n = 0;
	} else {
		/* Another range, or another try; never of another file. */
		if (!release(a, f))
			return EINTR;
		opts.same_as = &f->info;
		n = sfd_queue_send(a->queue, f->name, dest, at, left, &opts, number(a, f));
	}
	if (n < 0)
		return errno;
	f->state = FILE_SENDING;
	return 0;
}

/*
 * Whether the rest may be sent by another request. A daemon that was started by others gives up when nobody has read for a
 * minute; cat would not. The count is right then, unless the destination is a file, with which that does not happen.
 */
static bool may_go_on(struct app *a, struct file *f, off_t start)
{
	if (f->stat == ETIMEDOUT && !a->out_is_file) {
		const bool stood = step(a, 0, POLLOUT) == 0;

		while (!a->signo && step(a, -1, POLLOUT) == 0)
			;
		return !a->signo && (stood || f->moved > 0 || ++f->tries < TRIES);
	}
	if (f->stat == SFD_STAT_WORKER_DIED)
		pause_for(a, GRACE_MS); /* perhaps of the signal that is for us too */
	if (a->signo || !may_pass(f->stat) || f->stat == ETIMEDOUT || daemon_is_gone(a) || ++f->tries >= TRIES)
		return false;
	if (f->stat == SFD_STAT_WORKER_DIED)
		return a->out_is_file && !a->out_appends &&
		       lseek(STDOUT_FILENO, start + (off_t)f->moved, SEEK_SET) >= 0;
	if (f->moved == 0)
		pause_for(a, PAUSE_MS);
	return f->moved == 0;
}

static void count(struct file *f)
{
	f->done += f->moved;
	f->was_out += f->written;
	f->moved = f->written = 0;
}

int send_range(struct app *a, struct file *f)
{
	const off_t begin = a->out_is_file ? lseek(STDOUT_FILENO, 0, SEEK_CUR) : 0;

	while (f->done < f->length) {
		int err = ask_send(a, f, STDOUT_FILENO, 0);

		if (err == 0 && !await(a, f, FILE_SENDING))
			return EINTR;
		if (err == 0 && f->stat != SFD_STAT_OK && !may_go_on(a, f, begin + (off_t)f->done))
			err = f->stat;
		if (err == 0 && f->stat == SFD_STAT_OK && f->done + f->moved < f->length)
			err = SFD_STAT_TRUNCATED; /* before the daemon looked at it */
		draw_bar(a, f);
		count(f);
		if (err != 0)
			return err;
	}
	/* A helper of the daemon that outlived its worker may have moved it. */
	if (f->tries > 0 && a->out_is_file && !a->out_appends)
		lseek(STDOUT_FILENO, begin + (off_t)f->length, SEEK_SET);
	return 0;
}

/* As cat: to go on would never end, or double the file. */
bool is_output(const struct app *a, const struct file *f)
{
	return a->out_is_file && a->out.st_dev == f->info.dev && a->out.st_ino == f->info.ino &&
	       f->offset < lseek(STDOUT_FILENO, 0, a->out_appends ? SEEK_END : SEEK_CUR);
}

/* ---- What is in memory */

/*
 * A daemon that has a name is asked to open the range with SFD_NODISKIO, which it does only if all of it is in memory. To a
 * private one the file is lent, which has no open: the range is sent with SFD_NODISKIO to /dev/null, and ends early.
 */
int look_whether_hot(struct app *a, struct file *f)
{
	const struct sfd_opts opts = {.flags = SFD_NODISKIO, .same_as = &f->info};
	int err;

	f->hot = f->length == 0;
	if (f->hot)
		return 0;
	if (f->fd >= 0) {
		err = connect_daemon(a) < 0 ? EINTR : ask_send(a, f, a->null, SFD_NODISKIO);
	} else {
		if (!release(a, f))
			return EINTR;
		err = sfd_queue_open(a->queue, f->name, f->offset, f->length, &opts, number(a, f)) < 0 ? errno : 0;
		f->state = FILE_ASKED;
	}
	if (err != 0)
		return err;
	if (!await(a, f, f->fd >= 0 ? FILE_SENDING : FILE_ASKED))
		return EINTR;
	f->hot = f->state == FILE_OPEN || f->stat == SFD_STAT_OK;
	a->failed = a->failed || !f->hot;
	return f->hot || f->stat == EBUSY ? 0 : f->stat;
}
