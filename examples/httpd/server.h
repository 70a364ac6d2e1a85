/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The server: connections, and what they wait for.
 *
 *	main.c      the loop, accepting, timeouts; options.c
 *	conn.c      one connection: what comes in, and the responses that the server writes itself
 *	file.c      the responses that the daemon writes: files, parts of files, pages
 *	request.c   what a client says; response.c: what is said to it
 *	aside.c     what may wait, in processes of their own: directories, the log
 *
 * A connection has one request at a time. While the daemon writes to its socket the server does not; pipelined requests wait in
 * the buffer.
 */
#ifndef HTTPD_SERVER_H
#define HTTPD_SERVER_H

#include "aside.h"
#include "request.h"
#include "response.h"

#include <sendfiled/sendfiled.h>

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

struct options {
	const char *directory, *address, *name, *sockdir, *log;
	int port;
	unsigned max_connections, header_timeout, keep_alive_timeout, send_timeout, disk_timeout, max_header;
};

enum { SPARE_CONNS = 64 }; /* beyond the limit, for those that are told so */

enum state {
	READ_HEAD,
	READ_BODY,
	ASK,   /* the daemon is asked what the file is */
	SEND,  /* the daemon sends */
	LIST,  /* the lister is asked */
	WRITE, /* our own bytes wait for room */
	DRAIN, /* nothing more is said; what the client still says is dropped, so that it can read what we said */
};

/* What epoll's events point to. */
enum kind { KIND_LISTENER, KIND_QUEUE, KIND_LISTER, KIND_SIGNAL, KIND_CONN };
struct source {
	enum kind kind;
	int fd;
};

struct conn {
	struct source source;
	struct server *server;
	struct conn *prev, *next;
	struct sockaddr_in peer;
	uint64_t number; /* for the lister, whose answer may come when this has ended */
	enum state state;
	bool readable;              /* reading has not said EAGAIN since the last event */
	bool half_closed, no_input; /* the client says no more; and all it has said has been read */
	bool has_begun;             /* something of the next request has come */
	bool gone, cancelled;
	bool is_hungry;   /* waits for room in the queue */
	bool is_in_queue; /* the daemon has the socket: nobody else writes, and nobody closes */
	uint64_t deadline_ms;
	uint64_t acked; /* bytes, of who says no more */

	char *in; /* server->options.max_header bytes, and some */
	size_t in_len, looked, head_len;
	struct body_state body;
	struct request req;
	int refusal; /* the status that is answered when the body has been read; 0: the file */

	char *rest; /* of what is being written */
	size_t rest_len, rest_at;

	char path[PATH_MAX + 16]; /* the file's: the request's, or the index of that directory */
	bool is_index;
	int page; /* a directory's, in memory; else -1 */
	struct sfd_file_info info;
	bool has_info;
	unsigned tries;
	int status, ranges, range; /* how many parts, and the next one */
	struct range range_of[RANGES_MAX];
	char boundary[40];
	uint64_t sent; /* bytes of the body, for the log */
};

struct known; /* metadata of files that were sent lately */

struct server {
	struct options options;
	int epoll, root, srv;
	struct source listener, queue, lister_source, signals;
	struct sfd_queue *q;
	struct lister lister;
	pid_t daemon;
	struct conn *conns;
	unsigned count, in_queue;
	bool any_hungry;
	bool lost; /* the daemon has ended, and not all of its events have been taken */
	uint64_t next_number, now_ms, retry_ms, stop_ms;
	bool accepts, stopping;
	int exit_status;
	time_t date_of;
	char date[DATE_SIZE];
	struct known *known;
};

/* ---- conn.c */

struct conn *conn_new(struct server *s, int fd, const struct sockaddr_in *peer);

/* Goes on as far as it can without waiting. The connection may be gone afterwards. */
void conn_run(struct conn *c);

/* What epoll says, and what the time is. */
void conn_event(struct conn *c, uint32_t events);
void conn_expire(struct conn *c);

/* The daemon has been asked, and decides how long anything may take; but for who says no more, see there. */
void conn_await_daemon(struct conn *c);

/* Ends the request with a response of the server's own, or with the end of the connection if the daemon has begun one. */
void conn_refuse(struct conn *c, int status);
void conn_respond(struct conn *c, int status, const char *fields, const char *body, size_t len);

/* The response is complete: its line in the log, then the next request. */
void conn_finish(struct conn *c);

/* A line in the log, if there is one. */
void conn_log(struct conn *c);

/* Ends the connection, as soon as the daemon has let go of it. */
void conn_close(struct conn *c);

/* Date, Connection, and the first line. Returns the length. */
size_t conn_begin_header(struct conn *c, char *out, size_t size, int status);

/* ---- file.c */

bool files_init(struct server *s);
void files_free(struct server *s);

/* What the request names. */
void file_start(struct conn *c);
void file_event(struct conn *c, const struct sfd_event *e);
void file_listed(struct conn *c, int err, int page);

/* Tries again what there was no room for. */
void file_retry(struct conn *c);

/* ---- options.c */

/* 0; -1: help was asked for, and given; else the exit status, and why has been said. */
int options_read(struct options *o, int argc, char *argv[]);

/* ---- main.c */

/* Connects to the daemon, if it is not, and if that was not tried just now. */
bool server_connect(struct server *s);
void server_lost_daemon(struct server *s);

#endif
