/* SPDX-License-Identifier: BSD-2-Clause */
/* The header of an HTTP/1.1 request, taken apart as RFC 9112 says. Pure: no system calls. */
#ifndef HTTPD_REQUEST_H
#define HTTPD_REQUEST_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A part of the connection's buffer; `at` is NULL if there is none. */
struct text {
	const char *at;
	size_t len;
};

/* A list may come in several fields. */
enum { FIELDS_MAX = 4 };
struct texts {
	struct text at[FIELDS_MAX];
	size_t n;
};

enum body { BODY_NONE, BODY_LENGTH, BODY_CHUNKED };

struct request {
	bool is_head;
	bool is_11;
	bool keep_alive, wants_close;
	bool expects_continue;
	bool is_whole; /* all fields were understood */
	enum body body;
	uint64_t body_length;
	struct text line;            /* the request line, for the log */
	struct text query;           /* from its '?' on */
	struct text range, if_range; /* and the fields that matter to a file server */
	struct texts if_match, if_none_match;
	struct text if_modified_since, if_unmodified_since;
	bool is_directory;   /* the path ends with a slash, or is empty */
	char path[PATH_MAX]; /* decoded, without "." and "..", and without a slash at its beginning */
};

/* The length of the header at the beginning of `buf`, with the empty line that ends it; 0 if that has not come yet. */
size_t request_find_end(const char *buf, size_t len);

/*
 * Reads a header of that length. 0, or the status (400, 501, ...) with which to refuse it; then what could be read until then
 * is set, and `keep_alive` is false if it is not known where the next request begins. The request points into `buf`.
 */
int request_parse(struct request *r, const char *buf, size_t len);

/* What is still to come of a body. Nobody wants it; but the next request begins where it ends. */
struct body_state {
	enum body kind;
	uint64_t left;  /* of the body, or of a chunk */
	uint64_t total; /* so far */
	int step;
	unsigned line;
};

enum { BODY_MORE = -1, BODY_END = 0 };

void body_start(struct body_state *b, const struct request *r);

/* Eats up to `len` bytes, `*eaten` of them: BODY_MORE, BODY_END, or the status with which to refuse it. */
int body_eat(struct body_state *b, const char *buf, size_t len, size_t *eaten);

#endif
