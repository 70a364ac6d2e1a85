/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sfd-httpd: an HTTP/1.1 server of files, one thread, that never waits: not for a disk, which the daemon does, and not for a
 * client. server.h says where to begin reading.
 *
 *	sfd-httpd [options] DIRECTORY
 */
#include "server.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	TICK_MS = 100,   /* between two looks at who has taken too long */
	RETRY_MS = 200,  /* between two attempts to find a daemon */
	STOP_MS = 10000, /* for responses to end in a graceful stop */
	ACCEPT_MAX = 64, /* in a row */
};

static int complain(const char *what, const char *why)
{
	fprintf(stderr, "sfd-httpd: %s: %s\n", what, why);
	return -1;
}

static uint64_t clock_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* ---- The daemon */

static bool watch(struct server *s, struct source *source, enum kind kind, int fd, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.ptr = source};

	source->kind = kind;
	source->fd = fd;
	return epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &e) == 0;
}

bool server_connect(struct server *s)
{
	if (s->q)
		return !s->lost;
	if (s->now_ms < s->retry_ms)
		return false;
	s->retry_ms = s->now_ms + RETRY_MS;
	s->srv = sfd_connect(s->options.sockdir, s->options.name);
	if (s->srv < 0)
		return false;
	s->q = sfd_queue_new(s->srv, s->options.max_connections + SPARE_CONNS);
	if (s->q && watch(s, &s->queue, KIND_QUEUE, sfd_queue_fd(s->q), EPOLLIN))
		return true;
	sfd_queue_free(s->q);
	s->q = NULL;
	close(s->srv);
	return false;
}

void server_lost_daemon(struct server *s)
{
	s->lost = true;
}

/* When the last request of a lost daemon has ended, another one may be looked for. */
static void forget_daemon(struct server *s)
{
	if (!s->lost || s->in_queue > 0)
		return;
	epoll_ctl(s->epoll, EPOLL_CTL_DEL, sfd_queue_fd(s->q), NULL);
	sfd_queue_free(s->q);
	close(s->srv);
	s->q = NULL;
	s->lost = false;
}

static char private_dir[64];

/* The path of a socket has room for 107 bytes (unix(7)). */
static bool make_private_dir(void)
{
	static const char pattern[] = "/sfd-httpd.XXXXXX";
	const char *tmp = getenv("TMPDIR");

	if (!tmp || strlen(tmp) + sizeof pattern > sizeof private_dir)
		tmp = "/tmp";
	snprintf(private_dir, sizeof private_dir, "%s%s", tmp, pattern);
	return mkdtemp(private_dir) != NULL;
}

/* With what a daemon that was killed has left there. */
static void remove_private_dir(void)
{
	DIR *dir = opendir(private_dir);

	for (const struct dirent *d; dir && (d = readdir(dir)) != NULL;)
		unlinkat(dirfd(dir), d->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(private_dir);
}

static int start_daemon(struct server *s)
{
	char timeout[16];
	const char *const argv[] = {"sendfiled", "-s", "httpd", "-r", s->options.directory, "-S", private_dir,
		"--idle-timeout", timeout, NULL};

	snprintf(timeout, sizeof timeout, "%u", s->options.send_timeout);
	if (!make_private_dir())
		return complain(private_dir, strerror(errno));
	s->options.name = "httpd";
	s->options.sockdir = private_dir;
	s->daemon = sfd_spawnv(argv, 10000);
	if (s->daemon > 0)
		return 0;
	remove_private_dir();
	return complain("cannot start sendfiled", strerror(errno));
}

static void stop_daemon(struct server *s)
{
	if (s->daemon <= 0)
		return;
	sfd_shutdown(s->daemon);
	remove_private_dir();
}

/* ---- Accepting */

static int open_listener(const struct options *o, int *port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)o->port)};
	socklen_t len = sizeof in;
	int fd, one = 1;

	if (inet_pton(AF_INET, o->address, &in.sin_addr) != 1)
		return complain(o->address, "not an address of IPv4");
	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return complain("socket", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&in, sizeof in) < 0 || listen(fd, 511) < 0 ||
		getsockname(fd, (struct sockaddr *)&in, &len) < 0) {
		fprintf(stderr, "sfd-httpd: %s port %d: %s\n", o->address, o->port, strerror(errno));
		close(fd);
		return -1;
	}
	*port = ntohs(in.sin_port);
	return fd;
}

static void accept_one(struct server *s, int fd, const struct sockaddr_in *peer)
{
	const bool is_room = s->count < s->options.max_connections;
	struct conn *c = s->count < s->options.max_connections + SPARE_CONNS ? conn_new(s, fd, peer) : NULL;
	int one = 1;

	if (!c) {
		close(fd);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (!watch(s, &c->source, KIND_CONN, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET))
		conn_close(c);
	else if (!is_room)
		conn_refuse(c, 503);
	conn_run(c);
}

static void accept_some(struct server *s)
{
	for (int i = 0; i < ACCEPT_MAX; i++) {
		struct sockaddr_in peer;
		socklen_t len = sizeof peer;
		int fd = accept4(s->listener.fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			accept_one(s, fd, &peer);
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
			/* Until the next tick: it would be told again and again. */
			epoll_ctl(s->epoll, EPOLL_CTL_DEL, s->listener.fd, NULL);
			s->accepts = false;
			return;
		} else if (errno != ECONNABORTED && errno != EINTR) {
			return;
		}
	}
}

/* ---- Time, and the end */

static void lost_lister(struct server *s)
{
	lister_stop(&s->lister);
	for (struct conn *c = s->conns, *next; c; c = next) {
		next = c->next;
		if (c->state != LIST)
			continue;
		conn_refuse(c, 503);
		conn_run(c);
	}
}

static void start_lister(struct server *s)
{
	if (lister_start(&s->lister, s->root, s->options.disk_timeout) == 0)
		watch(s, &s->lister_source, KIND_LISTER, s->lister.sock, EPOLLIN);
}

static void tick(struct server *s)
{
	for (struct conn *c = s->conns, *next; c; c = next) {
		next = c->next;
		if (c->deadline_ms <= s->now_ms)
			conn_expire(c);
	}
	if (s->lister.sock < 0)
		start_lister(s);
	if (!s->accepts && !s->stopping)
		s->accepts = watch(s, &s->listener, KIND_LISTENER, s->listener.fd, EPOLLIN);
	if (s->daemon > 0 && waitpid(s->daemon, NULL, WNOHANG) == s->daemon) {
		complain("sendfiled", "has ended");
		remove_private_dir();
		s->daemon = 0;
		s->exit_status = 1;
		s->stopping = true;
		s->stop_ms = 0;
	}
}

static void stop(struct server *s)
{
	struct signalfd_siginfo info;

	while (read(s->signals.fd, &info, sizeof info) == sizeof info) {
		if (s->stopping) {
			s->stop_ms = 0;
			continue;
		}
		s->stopping = true;
		s->stop_ms = s->now_ms + STOP_MS;
		epoll_ctl(s->epoll, EPOLL_CTL_DEL, s->listener.fd, NULL);
		close(s->listener.fd);
		s->listener.fd = -1;
	}
	for (struct conn *c = s->conns, *next; c; c = next) {
		next = c->next;
		if (c->state == READ_HEAD && c->in_len == 0) {
			conn_close(c);
			conn_run(c);
		}
	}
}

/* ---- The loop */

static void take_events(struct server *s)
{
	struct sfd_event events[256];
	int n;

	while (s->q && (n = sfd_queue_reap(s->q, events, 256)) > 0) {
		for (int i = 0; i < n; i++) {
			/* That is what user_data is for. NOLINTNEXTLINE(performance-no-int-to-ptr) */
			struct conn *c = (struct conn *)(uintptr_t)events[i].user_data;

			file_event(c, &events[i]);
			if (events[i].type == SFD_EV_DONE)
				conn_run(c);
		}
	}
}

static void take_answers(struct server *s)
{
	uint64_t number;
	int err, page;
	bool ended = false;

	while (lister_answer(&s->lister, &number, &err, &page, &ended)) {
		struct conn *c = s->conns;

		while (c && c->number != number)
			c = c->next;
		if (c) {
			file_listed(c, err, page);
			conn_run(c);
		} else if (page >= 0) {
			close(page);
		}
	}
	if (ended)
		lost_lister(s);
}

static void feed_hungry(struct server *s)
{
	s->any_hungry = false;
	for (struct conn *c = s->conns, *next; c; c = next) {
		next = c->next;
		if (!c->is_hungry)
			continue;
		if (!c->gone)
			file_retry(c);
		conn_run(c);
	}
}

/* Connections first: what comes after may free them, and their event would point to nothing. */
static void handle(struct server *s, const struct epoll_event *events, int n)
{
	bool kinds[KIND_CONN + 1] = {false};

	for (int i = 0; i < n; i++) {
		struct source *source = events[i].data.ptr;

		kinds[source->kind] = true;
		if (source->kind == KIND_CONN)
			conn_event((struct conn *)source, events[i].events);
	}
	take_events(s);
	if (kinds[KIND_LISTER])
		take_answers(s);
	if (kinds[KIND_SIGNAL])
		stop(s);
	if (kinds[KIND_LISTENER] && !s->stopping)
		accept_some(s);
}

static void loop(struct server *s)
{
	struct epoll_event events[256];
	uint64_t next_tick_ms = 0;

	while (!s->stopping || (s->count > 0 && s->now_ms < s->stop_ms)) {
		int n = epoll_wait(s->epoll, events, 256, s->any_hungry ? 1 : TICK_MS);

		s->now_ms = clock_ms();
		handle(s, events, n > 0 ? n : 0);
		if (s->now_ms >= next_tick_ms) {
			tick(s);
			next_tick_ms = s->now_ms + TICK_MS;
		}
		if (s->q)
			sfd_queue_submit(s->q);
		take_events(s); /* what came meanwhile, and needs no other round */
		if (s->any_hungry)
			feed_hungry(s);
		if (s->q)
			sfd_queue_submit(s->q);
		forget_daemon(s);
		log_flush();
	}
}

static bool block_signals(struct server *s)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return watch(s, &s->signals, KIND_SIGNAL, signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC), EPOLLIN);
}

static int open_log(const char *file)
{
	if (!file)
		return -1;
	return strcmp(file, "-") == 0 ? STDOUT_FILENO : open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

/* A connection needs one, and a directory's page another. */
static void raise_limit(const struct options *o)
{
	struct rlimit limit;
	const rlim_t wanted = 2 * o->max_connections + 256;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < wanted) {
		limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int start(struct server *s)
{
	struct options *o = &s->options;
	const int log_fd = open_log(o->log);

	if (o->log && log_fd < 0)
		return complain(o->log, strerror(errno));
	s->root = open(o->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->root < 0)
		return complain(o->directory, strerror(errno));
	raise_limit(o);
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (s->epoll < 0 || !files_init(s) || lister_start(&s->lister, s->root, o->disk_timeout) < 0 ||
		log_start(log_fd) < 0 || !block_signals(s) ||
		!watch(s, &s->lister_source, KIND_LISTER, s->lister.sock, EPOLLIN))
		return complain("cannot start", strerror(errno));
	if (!o->name && start_daemon(s) < 0)
		return -1;
	s->now_ms = clock_ms();
	if (!server_connect(s))
		return complain(o->name, strerror(errno));
	s->listener.fd = open_listener(o, &o->port);
	if (s->listener.fd < 0)
		return -1;
	s->accepts = watch(s, &s->listener, KIND_LISTENER, s->listener.fd, EPOLLIN);
	return 0;
}

/*
 * Under load, with the processors busy, do not interrupt others for each request that comes (sched(7)): all that have come
 * meanwhile are then read, and passed on, together. With 64 connections that is a sixth to a quarter more of them a second;
 * where a processor is free it changes nothing. A policy that somebody chose stays. The daemon, or who else is started, has
 * the usual one.
 */
static void let_requests_gather(void)
{
	if (sched_getscheduler(0) == SCHED_OTHER)
		sched_setscheduler(0, SCHED_BATCH | SCHED_RESET_ON_FORK, &(struct sched_param){.sched_priority = 0});
}

int main(int argc, char *argv[])
{
	static struct server s;
	int status = options_read(&s.options, argc, argv);

	if (status != 0)
		return status < 0 ? 0 : status;
	s.lister.sock = -1;
	status = start(&s);
	if (status == 0) {
		let_requests_gather();
		printf("sfd-httpd: serving %s on http://%s:%d/\n", s.options.directory, s.options.address,
			s.options.port);
		fflush(stdout);
		loop(&s);
	}
	sfd_queue_free(s.q);
	while (s.conns) {
		struct conn *c = s.conns;

		if (c->is_in_queue && c->state == SEND)
			conn_log(c); /* its response ends here, in the middle */
		c->is_in_queue = false;
		c->gone = true;
		conn_run(c);
	}
	lister_stop(&s.lister);
	stop_daemon(&s);
	files_free(&s);
	log_stop();
	return status < 0 ? 1 : s.exit_status;
}
