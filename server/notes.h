/* SPDX-License-Identifier: BSD-2-Clause */
/* Notes on their way into a queue's channel: gathered, sent many to a record, and kept while the channel has no room. */
#ifndef SFD_NOTES_H
#define SFD_NOTES_H

#include "server/journal.h"

struct notes {
	unsigned char *kept;
	uint32_t *lines; /* of the outcomes among them, in order: where the journal has the requests */
	uint32_t len, room;
	uint32_t outcomes, lines_room;
	bool blocked; /* there was no room in the channel at the last attempt */
};

void notes_free(struct notes *n);

/* Appends one; `info` goes with WIRE_NOTE_INFO. 0, or -1 and ENOMEM. */
int notes_put(struct notes *n, const struct wire_note *note, const struct sfd_file_info *info, uint32_t line);

/*
 * Sends what the channel takes now. Lines of outcomes that were sent are struck out; outcomes that are left and have no line
 * get one. `pen` may be NULL: there are no lines. 0: all went; or an errno: EAGAIN (some is left), ENOBUFS (there
 * is no line to be had), EPIPE and others (the reader is gone).
 */
int notes_send(struct notes *n, int channel, struct journal_pen *pen, uint64_t queue);

#endif
