/* SPDX-License-Identifier: BSD-2-Clause */
/* One line that tells the operator what is wrong and how to mend it, handed up to whoever prints it. */
#ifndef SFD_COMPLAINT_H
#define SFD_COMPLAINT_H

#include <stddef.h>

struct complaint {
	char *text; /* the caller's buffer */
	size_t size;
};

/* Writes the line and returns `code`, so that a function can end with it. What is not printable is escaped: a name that holds a
 * newline must not forge a second line. */
int complain(const struct complaint *c, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
