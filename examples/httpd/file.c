/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Files, sent by the daemon.
 *
 * What a response says of a file (its length, its tag) must be true of the bytes that follow. So each send names the file that
 * is meant, with `same_as`: if it is another one by now nothing is sent, and the server looks again. What a file is, it learns in
 * the same way: a send of a file that is like no other is refused with the information of what there is. What was sent lately
 * is remembered; then a request takes one message, header and all.
 */
#include "server.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { KNOWN_MAX = 1024, TRIES_MAX = 5 };

struct known {
	char *path;
	struct sfd_file_info info;
};

bool files_init(struct server *s)
{
	s->known = calloc(KNOWN_MAX, sizeof *s->known);
	return s->known != NULL;
}

void files_free(struct server *s)
{
	for (unsigned i = 0; s->known && i < KNOWN_MAX; i++)
		free(s->known[i].path);
	free(s->known);
}

static struct known *place_of(struct server *s, const char *path)
{
	uint32_t hash = 2166136261U; /* FNV-1a */

	for (; *path != '\0'; path++)
		hash = (hash ^ (unsigned char)*path) * 16777619U;
	return &s->known[hash % KNOWN_MAX];
}

static void remember(struct conn *c)
{
	struct known *k = place_of(c->server, c->path);

	if (!k->path || strcmp(k->path, c->path) != 0) {
		free(k->path);
		k->path = strdup(c->path);
	}
	k->info = c->info;
}

/* ---- The queue */

/* Asks for a part of the connection's file, or of its page. 0 is all of it. */
static void put(struct conn *c, enum state state, off_t offset, size_t len, const struct sfd_opts *opts)
{
	struct server *s = c->server;
	int r;

	c->state = state;
	conn_await_daemon(c);
	if (!server_connect(s)) {
		conn_refuse(c, 503);
		return;
	}
	r = c->page >= 0 ? sfd_queue_sendfd(s->q, c->page, c->source.fd, offset, len, opts, (uintptr_t)c)
			 : sfd_queue_send(s->q, c->path, c->source.fd, offset, len, opts, (uintptr_t)c);
	if (r == 0) {
		c->is_in_queue = true;
		c->cancelled = false;
		s->in_queue++;
	} else if (errno == EAGAIN) {
		c->is_hungry = s->any_hungry = true;
	} else {
		int err = errno;

		if (err == ECONNREFUSED)
			server_lost_daemon(s);
		if (c->range > 0)
			conn_close(c); /* between two parts */
		else
			conn_refuse(c, status_of_error(err));
	}
}

/* What is it? Nothing is like no file at all, so nothing is sent. */
static void ask(struct conn *c)
{
	static const struct sfd_file_info nothing;
	const struct sfd_opts opts = {
		.flags = SFD_WANT_INFO, .same_as = &nothing, .timeout_ms = c->server->options.disk_timeout};

	c->has_info = false;
	put(c, ASK, 0, 0, &opts);
}

/* ---- Headers */

struct header {
	char text[4096];
	size_t len;
};

static void add(struct header *h, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct header *h, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(h->text + h->len, sizeof h->text - h->len, format, args);
	va_end(args);
	if (n > 0 && h->len + (size_t)n < sizeof h->text)
		h->len += (size_t)n;
}

static void add_about(struct header *h, const struct conn *c)
{
	char date[DATE_SIZE], tag[TAG_SIZE];
	const time_t now = time(NULL);

	/* RFC 9110, 8.8.2.1: not later than the response itself. */
	format_date(date, c->info.mtime < now ? c->info.mtime : now);
	format_tag(tag, &c->info);
	add(h, "Last-Modified: %s\r\nETag: %s\r\nAccept-Ranges: bytes\r\nX-Content-Type-Options: nosniff\r\n", date,
		tag);
}

static void add_range(struct header *h, const struct conn *c, const struct range *r)
{
	add(h, "Content-Range: bytes %llu-%llu/%llu\r\n", (unsigned long long)r->first, (unsigned long long)r->last,
		(unsigned long long)c->info.file_size);
}

static uint64_t length_of(const struct range *r)
{
	return r->last - r->first + 1;
}

/* What stands before each of several parts, and behind the last. */
static void add_part(struct header *h, const struct conn *c, const struct range *r)
{
	add(h, "\r\n--%s\r\nContent-Type: %s\r\n", c->boundary, type_of(c->path));
	add_range(h, c, r);
	add(h, "\r\n");
}

static void add_last(struct header *h, const struct conn *c)
{
	add(h, "\r\n--%s--\r\n", c->boundary);
}

static uint64_t length_of_all(const struct conn *c)
{
	struct header h = {.len = 0};
	uint64_t sum = 0;

	for (int i = 0; i < c->ranges; i++) {
		h.len = 0;
		add_part(&h, c, &c->range_of[i]);
		sum += h.len + length_of(&c->range_of[i]);
	}
	h.len = 0;
	add_last(&h, c);
	return sum + h.len;
}

static void begin(struct conn *c, struct header *h, int status)
{
	h->len = conn_begin_header(c, h->text, sizeof h->text, status);
}

/* The header of a whole file, of one part, or of several. */
static void add_file_header(struct conn *c, struct header *h)
{
	if (c->ranges > 1)
		add(h, "Content-Type: multipart/byteranges; boundary=%s\r\nContent-Length: %llu\r\n", c->boundary,
			(unsigned long long)length_of_all(c));
	else
		add(h, "Content-Type: %s\r\nContent-Length: %llu\r\n", type_of(c->path),
			(unsigned long long)(c->ranges == 1 ? length_of(&c->range_of[0]) : c->info.file_size));
	if (c->ranges == 1)
		add_range(h, c, &c->range_of[0]);
	add_about(h, c);
}

/* ---- Sending */

static void send_part(struct conn *c)
{
	const struct range *r = c->ranges > 0 ? &c->range_of[c->range] : NULL;
	const uint64_t len = r ? length_of(r) : 0;
	static struct header head, tail; /* copied by the queue */
	struct iovec iov[2] = {{.iov_base = head.text}, {.iov_base = tail.text}};
	struct sfd_opts opts = {.headers = &iov[0], .trailers = &iov[1], .same_as = &c->info};

	head.len = tail.len = 0;
	if (c->range == 0) {
		begin(c, &head, c->ranges > 0 ? 206 : 200);
		add_file_header(c, &head);
		add(&head, "\r\n");
	}
	if (r && c->ranges > 1)
		add_part(&head, c, r);
	if (c->ranges > 1 && c->range == c->ranges - 1)
		add_last(&tail, c);
	iov[0].iov_len = head.len;
	iov[1].iov_len = tail.len;
	opts.hdr_cnt = head.len > 0;
	opts.trl_cnt = tail.len > 0;
	put(c, SEND, r ? (off_t)r->first : 0, len, &opts);
}

/* A directory's page. Nobody else has it, so it is what it was. */
static void send_page(struct conn *c)
{
	struct stat st;
	static struct header head;
	struct header about = {.len = 0};
	struct iovec iov = {.iov_base = head.text};
	const struct sfd_opts opts = {.headers = &iov, .hdr_cnt = 1};

	if (fstat(c->page, &st) < 0) {
		conn_refuse(c, 500);
		return;
	}
	add(&about,
		"Content-Type: text/html; charset=utf-8\r\nContent-Length: %lld\r\nX-Content-Type-Options: nosniff\r\n",
		(long long)st.st_size);
	if (c->req.is_head) {
		conn_respond(c, 200, about.text, NULL, 0);
		return;
	}
	begin(c, &head, 200);
	add(&head, "%s\r\n", about.text);
	iov.iov_len = head.len;
	put(c, SEND, 0, 0, &opts);
}

/* The file is known: what does the request want of it? */
static void decide(struct conn *c)
{
	struct header h = {.len = 0};
	const int condition = check_conditions(&c->req, &c->info);

	if (condition == 412) {
		conn_refuse(c, 412);
		return;
	}
	c->ranges = condition ? 0 : find_ranges(&c->req, &c->info, c->range_of);
	c->range = 0;
	if (c->ranges > 1)
		snprintf(c->boundary, sizeof c->boundary, "sfd%016" PRIx64 "%016" PRIx64, c->number, c->server->now_ms);
	if (c->ranges < 0) {
		c->ranges = 0;
		add(&h, "Content-Range: bytes */%llu\r\nContent-Length: 0\r\n", (unsigned long long)c->info.file_size);
		conn_respond(c, 416, h.text, NULL, 0);
	} else if (condition == 304) {
		add_about(&h, c);
		conn_respond(c, 304, h.text, NULL, 0);
	} else if (c->req.is_head) {
		add_file_header(c, &h);
		conn_respond(c, 200, h.text, NULL, 0);
	} else {
		send_part(c);
	}
}

void file_start(struct conn *c)
{
	const struct request *r = &c->req;
	const bool is_plain = !r->is_head && !r->range.at && r->if_match.n == 0 && r->if_none_match.n == 0 &&
			      !r->if_modified_since.at && !r->if_unmodified_since.at;
	const struct known *k;

	c->is_index = r->is_directory;
	snprintf(c->path, sizeof c->path, "%s%s", r->path, c->is_index ? "index.html" : "");
	c->tries = 0;
	c->ranges = c->range = 0;
	k = place_of(c->server, c->path);
	if (is_plain && k->path && strcmp(k->path, c->path) == 0) {
		c->info = k->info;
		send_part(c);
	} else {
		ask(c);
	}
}

/* ---- Directories */

/* The page of what there is in place of an index that there is not; or only, is that a directory? */
static void ask_lister(struct conn *c)
{
	struct server *s = c->server;

	if (lister_ask(&s->lister, c->number, c->req.path, !c->is_index) == 0)
		return;
	if (errno == EAGAIN)
		c->is_hungry = s->any_hungry = true;
	else
		conn_refuse(c, 503);
}

static void list(struct conn *c)
{
	c->state = LIST;
	c->deadline_ms = c->server->now_ms + c->server->options.disk_timeout;
	ask_lister(c);
}

void file_retry(struct conn *c)
{
	c->is_hungry = false;
	if (c->state == LIST)
		ask_lister(c);
	else if (c->state == ASK)
		ask(c);
	else if (c->page >= 0)
		send_page(c);
	else
		send_part(c);
}

static void redirect(struct conn *c)
{
	static char path[3 * PATH_MAX], fields[1 << 15];
	int n;

	encode_path(path, sizeof path, c->req.path);
	n = snprintf(fields, sizeof fields, "Location: /%s/%.*s\r\nContent-Length: 0\r\n", path, (int)c->req.query.len,
		c->req.query.at ? c->req.query.at : "");
	if (n < 0 || (size_t)n >= sizeof fields)
		conn_refuse(c, 414);
	else
		conn_respond(c, 301, fields, NULL, 0);
}

void file_listed(struct conn *c, int err, int page)
{
	if (c->state != LIST) {
		if (page >= 0)
			close(page);
		return;
	}
	c->page = page;
	if (!c->is_index && err == 0) {
		redirect(c);
	} else if (err) {
		conn_refuse(c, status_of_error(err));
	} else {
		send_page(c);
	}
}

/* ---- Events */

static void fail(struct conn *c, int err)
{
	/* No index; or no regular file. */
	if (err == EINVAL || (c->is_index && err == ENOENT))
		list(c);
	else
		conn_refuse(c, status_of_error(err));
}

/* What is it now? Unless it is another one each time. */
static void ask_again(struct conn *c)
{
	if (++c->tries < TRIES_MAX)
		ask(c);
	else
		conn_refuse(c, 503);
}

static void asked(struct conn *c, const struct sfd_event *e)
{
	if (e->stat == SFD_STAT_CHANGED && c->has_info) {
		remember(c);
		decide(c);
	} else if (e->stat == SFD_STAT_WORKER_DIED || e->stat == SFD_STAT_CHANGED) {
		ask_again(c);
	} else {
		fail(c, e->stat);
	}
}

static void sent(struct conn *c, const struct sfd_event *e)
{
	c->sent += e->bytes;
	if (e->stat == SFD_STAT_OK && c->range + 1 < c->ranges) {
		c->range++;
		send_part(c);
	} else if (e->stat == SFD_STAT_OK) {
		conn_finish(c);
	} else if (c->range > 0 || e->written > 0 || e->stat == SFD_STAT_WORKER_DIED) {
		/* The client has a part of it; or it may have (that a worker has died says only what it had at least). */
		c->req.keep_alive = false;
		conn_finish(c);
		conn_close(c);
	} else if (e->stat == SFD_STAT_CHANGED || e->stat == SFD_STAT_TRUNCATED) {
		ask_again(c);
	} else {
		fail(c, e->stat);
	}
}

void file_event(struct conn *c, const struct sfd_event *e)
{
	if (e->type == SFD_EV_INFO) {
		c->info = e->info;
		c->has_info = true;
	} else if (e->type == SFD_EV_DONE) {
		c->is_in_queue = false;
		c->server->in_queue--;
		if (c->gone) {
			c->sent += e->bytes;
			conn_log(c); /* what it got */
		} else if (c->state == ASK) {
			asked(c, e);
		} else {
			sent(c, e);
		}
	}
}
