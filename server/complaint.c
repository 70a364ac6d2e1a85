/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/complaint.h"

#include "server/escape.h"

#include <stdarg.h>
#include <stdio.h>

enum { TEXT_SIZE = 1024 };

int complain(const struct complaint *c, int code, const char *format, ...)
{
	char text[TEXT_SIZE];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	if (c->size > 0)
		escape(c->text, c->size, text);
	return code;
}
