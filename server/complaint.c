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
	return code;
}
