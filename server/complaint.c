/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/complaint.h"

#include <stdarg.h>
#include <stdio.h>

int complain(const struct complaint *c, int code, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(c->text, c->size, format, ap);
	va_end(ap);
	make_printable(c->text);
	return code;
}

void make_printable(char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
	}
}
