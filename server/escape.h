/* SPDX-License-Identifier: BSD-2-Clause */
/* Text that may hold anything, as it goes into a log. */
#ifndef SFD_ESCAPE_H
#define SFD_ESCAPE_H

#include <stddef.h>

/*
 * Copies what is printable UTF-8 (RFC 3629); every other byte, control characters among them, becomes \xHH, and a backslash
 * two: nothing in a line can pass for another line, and it can be read back. What has no room is left out, never a part of
 * a character. Returns the length; `out` ends with a NUL. `size` is more than 0.
 */
size_t escape(char *out, size_t size, const char *text);

#endif
