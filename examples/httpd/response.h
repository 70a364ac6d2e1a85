/* SPDX-License-Identifier: BSD-2-Clause */
/* What a response says about itself: status, dates, tags, types, ranges. Pure, but for the clock. */
#ifndef HTTPD_RESPONSE_H
#define HTTPD_RESPONSE_H

#include "request.h"

#include <sendfiled/sendfiled.h>

#include <sys/types.h>
#include <time.h>

enum { RANGES_MAX = 16, TAG_SIZE = 64, DATE_SIZE = 32 };

const char *status_text(int status);

/* The status for what the daemon, or the system, said of a path. */
int status_of_error(int err);

/* By the name's extension. */
const char *type_of(const char *path);

/* "Sun, 06 Nov 1994 08:49:37 GMT" */
void format_date(char out[DATE_SIZE], time_t t);

/* A strong tag: it changes with whatever the system notes when a file changes. In quotes. */
void format_tag(char out[TAG_SIZE], const struct sfd_file_info *info);

/* What the request's preconditions say of a file, in the order of RFC 9110, section 13.2.2: 0 (go on), 304 or 412. */
int check_conditions(const struct request *r, const struct sfd_file_info *info);

/* The first and the last byte. */
struct range {
	uint64_t first, last;
};

/*
 * The parts of a file of `size` bytes that the request asks for. How many; 0: all of it (no range was asked for, or none that is
 * understood or sensible, or the file is not what If-Range says); -1: there is no such part.
 */
int find_ranges(const struct request *r, const struct sfd_file_info *info, struct range out[RANGES_MAX]);

/* Percent-encodes what a link may not hold; cut where there is no room. Returns the length. */
size_t encode_path(char *out, size_t size, const char *path);

#endif
