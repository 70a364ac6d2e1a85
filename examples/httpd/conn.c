/* SPDX-License-Identifier: BSD-2-Clause */
#include "server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	BODY_ROOM = 4096, /* behind the header */
	DRAIN_MS = 2000,  /* for a client to read what it is told, and to go */
};

struct conn *conn_new(struct server *s, int fd, const struct sockaddr_in *peer)
{
	struct conn *c = calloc(1, sizeof *c);

	if (!c || !(c->in = malloc(s->options.max_header + BODY_ROOM))) {
		free(c);
		return NULL;
	}
	c->source = (struct source){KIND_CONN, fd};
	c->server = s;
	c->peer = *peer;
	c->number = ++s->next_number;
	c->page = -1;
	c->readable = true;
	c->deadline_ms = s->now_ms + s->options.header_timeout;
	c->next = s->conns;
	if (c->next)
		c->next->prev = c;
	s->conns = c;
	s->count++;
	return c;
}

static void free_conn(struct conn *c)
{
	struct server *s = c->server;

	if (c->prev)
		c->prev->next = c->next;
	else
		s->conns = c->next;
	if (c->next)
		c->next->prev = c->prev;
	s->count--;
	if (c->page >= 0)
		close(c->page);
	/* The daemon, or a process that was just forked, may have a copy for a moment, and epoll would go on reporting it. */
	epoll_ctl(s->epoll, EPOLL_CTL_DEL, c->source.fd, NULL);
	close(c->source.fd);
	free(c->rest);
	free(c->in);
	free(c);
}

void conn_close(struct conn *c)
{
	c->gone = true;
	/* Its last event comes all the same; then it is freed. */
	if (c->is_in_queue && !c->cancelled)
		sfd_queue_cancel(c->server->q, (uintptr_t)c);
	c->cancelled = c->is_in_queue;
}

/* ---- Responses of our own */

size_t conn_begin_header(struct conn *c, char *out, size_t size, int status)
{
	struct server *s = c->server;
	const time_t now = time(NULL);

	if (s->date_of != now) {
		s->date_of = now;
		format_date(s->date, now);
	}
	if (s->stopping)
		c->req.keep_alive = false;
	c->status = status;
	return (size_t)snprintf(out, size, "HTTP/1.1 %d %s\r\nServer: sfd-httpd\r\nDate: %s\r\n%s", status,
		status_text(status), s->date,
		!c->req.keep_alive ? "Connection: close\r\n"
		: c->req.is_11     ? ""
				   : "Connection: keep-alive\r\n");
}

/* Writes what there is room for; keeps a copy of the rest. */
static void write_own(struct conn *c, const char *bytes, size_t len)
{
	ssize_t n = send(c->source.fd, bytes, len, MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN) {
		conn_close(c);
		return;
	}
	if (n < 0)
		n = 0;
	if ((size_t)n == len) {
		conn_finish(c);
		return;
	}
	c->rest_len = len - (size_t)n;
	c->rest_at = 0;
	c->rest = malloc(c->rest_len);
	if (!c->rest) {
		conn_close(c);
		return;
	}
	memcpy(c->rest, bytes + n, c->rest_len);
	c->state = WRITE;
	c->deadline_ms = c->server->now_ms + c->server->options.send_timeout;
}

static void write_rest(struct conn *c)
{
	ssize_t n = send(c->source.fd, c->rest + c->rest_at, c->rest_len - c->rest_at, MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN)
		conn_close(c);
	if (n <= 0)
		return;
	c->deadline_ms = c->server->now_ms + c->server->options.send_timeout;
	c->rest_at += (size_t)n;
	if (c->rest_at < c->rest_len)
		return;
	free(c->rest);
	c->rest = NULL;
	conn_finish(c);
}

void conn_respond(struct conn *c, int status, const char *fields, const char *body, size_t len)
{
	static char out[1 << 16]; /* one at a time, and none is kept */
	size_t n = conn_begin_header(c, out, sizeof out, status);
	int more = snprintf(out + n, sizeof out - n, "%s\r\n", fields);

	if (more < 0 || n + (size_t)more + len > sizeof out) {
		conn_close(c);
		return;
	}
	n += (size_t)more;
	if (!c->req.is_head && len > 0) {
		memcpy(out + n, body, len);
		n += len;
		c->sent = len;
	}
	write_own(c, out, n);
}

void conn_refuse(struct conn *c, int status)
{
	char fields[256], body[256];
	int len;

	c->is_hungry = false;
	if (c->sent > 0 || c->is_in_queue) {
		conn_close(c); /* what has been said cannot be taken back */
		return;
	}
	len = snprintf(body, sizeof body,
		"<!DOCTYPE html>\n<html lang=\"en\"><title>%d %s</title>\n<h1>%d %s</h1></html>\n", status,
		status_text(status), status, status_text(status));
	snprintf(fields, sizeof fields, "Content-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\n%s%s", len,
		status == 405 ? "Allow: GET, HEAD\r\n" : "", status == 503 ? "Retry-After: 1\r\n" : "");
	conn_respond(c, status, fields, body, (size_t)len);
}

/* ---- The log */

/* What a client says may hold quotes, and what a terminal obeys. */
static void escape(char *out, size_t size, struct text t)
{
	size_t n = 0;

	for (size_t i = 0; i < t.len && n + 5 < size; i++) {
		const unsigned char ch = (unsigned char)t.at[i];

		if (ch >= ' ' && ch < 0x7f && ch != '"' && ch != '\\')
			out[n++] = (char)ch;
		else
			n += (size_t)snprintf(out + n, size - n, "\\x%02x", ch);
	}
	out[n] = '\0';
}

void conn_log(struct conn *c)
{
	char address[INET_ADDRSTRLEN] = "", line[2048] = "-", date[40], size[24] = "-";
	time_t now = time(NULL);
	struct tm tm;

	if (!c->server->options.log)
		return;
	inet_ntop(AF_INET, &c->peer.sin_addr, address, sizeof address);
	gmtime_r(&now, &tm);
	strftime(date, sizeof date, "%d/%b/%Y:%H:%M:%S +0000", &tm);
	if (c->req.line.at && c->status != 400)
		escape(line, sizeof line, c->req.line);
	if (c->sent > 0)
		snprintf(size, sizeof size, "%llu", (unsigned long long)c->sent);
	log_add("%s - - [%s] \"%s\" %d %s", address, date, line, c->status, size);
}

/* ---- What comes in */

/* The client may not have read all we said; a close(2) with unread input would take that away from it. */
static void start_drain(struct conn *c)
{
	shutdown(c->source.fd, SHUT_WR);
	c->state = DRAIN;
	c->in_len = 0;
	c->deadline_ms = c->server->now_ms + DRAIN_MS;
}

void conn_finish(struct conn *c)
{
	const size_t used = c->head_len < c->in_len ? c->head_len : c->in_len;
	const bool keep = c->req.keep_alive && !c->server->stopping;

	conn_log(c);
	if (c->page >= 0)
		close(c->page);
	c->page = -1;
	c->sent = 0;
	if (!keep) {
		start_drain(c);
		return;
	}
	c->in_len -= used;
	memmove(c->in, c->in + used, c->in_len);
	c->looked = c->head_len = 0;
	c->has_begun = c->in_len > 0;
	c->state = READ_HEAD;
	memset(&c->req, 0, offsetof(struct request, path));
	c->deadline_ms = c->server->now_ms +
			 (c->in_len > 0 ? c->server->options.header_timeout : c->server->options.keep_alive_timeout);
}

/* True if something came. */
static bool read_more(struct conn *c)
{
	const size_t room = c->server->options.max_header + BODY_ROOM - c->in_len;
	ssize_t n;

	if (!c->readable || c->no_input || room == 0)
		return false;
	n = recv(c->source.fd, c->in + c->in_len, room, 0);
	if (n > 0) {
		c->in_len += (size_t)n;
		/* Else that was all, and epoll(7) tells of more; but not again of an end that it has told of. */
		c->readable = (size_t)n == room || c->half_closed;
		return true;
	}
	if (n == 0)
		c->no_input = true;
	else if (errno == EAGAIN)
		c->readable = false;
	else if (errno != EINTR)
		c->gone = true;
	return false;
}

static void start_request(struct conn *c)
{
	/* 404 and the like may wait for the body, so that the connection goes on. */
	c->refusal = request_parse(&c->req, c->in, c->head_len);
	body_start(&c->body, &c->req);
	if (c->refusal && !c->req.is_whole) {
		conn_refuse(c, c->refusal);
		return;
	}
	if (c->req.body != BODY_NONE && c->req.expects_continue && c->in_len == c->head_len) {
		static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";

		/* There is room for so little, or the client does not read. */
		if (send(c->source.fd, go_on, sizeof go_on - 1, MSG_NOSIGNAL) != sizeof go_on - 1) {
			conn_close(c);
			return;
		}
	}
	c->state = READ_BODY;
	c->deadline_ms = c->server->now_ms + c->server->options.header_timeout;
}

static bool run_head(struct conn *c)
{
	const size_t max = c->server->options.max_header;
	const size_t from = c->looked > 3 ? c->looked - 3 : 0;
	size_t end;

	/* Empty lines before a request are left over from a body of who cannot count. */
	while (c->in_len >= 2 && memcmp(c->in, "\r\n", 2) == 0) {
		c->in_len -= 2;
		memmove(c->in, c->in + 2, c->in_len);
		c->looked = 0;
	}
	end = c->in_len > from ? request_find_end(c->in + from, c->in_len - from) : 0;
	if (end) {
		c->head_len = from + end;
		if (c->head_len <= max) {
			start_request(c);
			return true;
		}
	}
	c->looked = c->in_len;
	if (end || c->in_len > max) {
		c->head_len = c->in_len;
		conn_refuse(c, memmem(c->in, max, "\r\n", 2) ? 431 : 414);
		return true;
	}
	if (read_more(c)) {
		/* Its first byte begins a request, if only of an empty line. */
		if (!c->has_begun)
			c->deadline_ms = c->server->now_ms + c->server->options.header_timeout;
		c->has_begun = true;
		return true;
	}
	if (c->no_input) {
		if (c->in_len == 0)
			conn_close(c);
		else
			conn_refuse(c, 400);
		return !c->gone;
	}
	return false;
}

/* The body lies behind the header, which stays: the request points into it. */
static bool run_body(struct conn *c)
{
	size_t eaten;
	int result = body_eat(&c->body, c->in + c->head_len, c->in_len - c->head_len, &eaten);

	c->in_len -= eaten;
	memmove(c->in + c->head_len, c->in + c->head_len + eaten, c->in_len - c->head_len);
	if (result == BODY_MORE) {
		if (read_more(c))
			return true;
		if (c->no_input)
			conn_close(c);
		return false;
	}
	if (result != BODY_END) {
		c->req.keep_alive = false;
		conn_refuse(c, result);
	} else if (c->refusal) {
		conn_refuse(c, c->refusal);
	} else {
		file_start(c);
	}
	return true;
}

static bool run_drain(struct conn *c)
{
	c->in_len = 0;
	if (read_more(c))
		return true;
	if (c->no_input)
		c->gone = true;
	return false;
}

void conn_run(struct conn *c)
{
	bool goes_on = true;

	while (goes_on && !c->gone) {
		switch (c->state) {
		case READ_HEAD:
			goes_on = run_head(c);
			break;
		case READ_BODY:
			goes_on = run_body(c);
			break;
		case DRAIN:
			goes_on = run_drain(c);
			break;
		case WRITE:
			write_rest(c);
			goes_on = c->state != WRITE;
			break;
		default:
			goes_on = false;
		}
	}
	if (c->gone && !c->is_in_queue)
		free_conn(c);
	else if (c->gone)
		conn_close(c);
}

/* ---- Events */

void conn_event(struct conn *c, uint32_t events)
{
	if (events & (EPOLLIN | EPOLLRDHUP))
		c->readable = true;
	if (events & EPOLLRDHUP)
		c->half_closed = true;
	if (events & (EPOLLHUP | EPOLLERR))
		conn_close(c);
	else if ((events & EPOLLRDHUP) && (c->state == ASK || c->state == SEND))
		conn_await_daemon(c);
	conn_run(c);
}

/*
 * It may have closed, or may only have nothing more to say: who can tell? If it has gone, that is noticed when something is
 * sent. So where nothing is, because a disk hangs, it gets some time, and no more.
 */
void conn_await_daemon(struct conn *c)
{
	c->deadline_ms = c->half_closed ? c->server->now_ms + c->server->options.disk_timeout : UINT64_MAX;
}

/* Whether it has taken something since the last time, or there is something to take; how long for, the daemon decides. */
static bool is_served(struct conn *c)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof info;
	const uint64_t before = c->acked;
	int waits = 0;

	if (ioctl(c->source.fd, SIOCOUTQ, &waits) == 0 && waits > 0)
		return true;
	if (getsockopt(c->source.fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0)
		c->acked = info.tcpi_bytes_acked;
	return c->acked != before;
}

void conn_expire(struct conn *c)
{
	if (c->state == SEND && !c->gone && is_served(c)) {
		conn_await_daemon(c);
		return;
	}
	c->deadline_ms = UINT64_MAX;
	if (c->state == READ_HEAD && c->has_begun && !c->gone) {
		c->head_len = c->in_len;
		c->req.keep_alive = false;
		conn_refuse(c, 408);
	} else if (c->state == READ_BODY && !c->gone) {
		c->req.keep_alive = false;
		conn_refuse(c, 408);
	} else if (c->state == LIST && !c->gone) {
		c->req.keep_alive = false;
		conn_refuse(c, 504);
	} else {
		conn_close(c);
	}
	conn_run(c);
}
