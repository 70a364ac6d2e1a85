/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Many requests for many hot files, through the queue and through what a server could use instead. All get the same load:
 * so many requests are under way, each with a destination of its own, which the client drains before it uses it again.
 */
#ifndef SFD_BENCH_QUEUE_QUEUE_H
#define SFD_BENCH_QUEUE_QUEUE_H

#include "test/bench/common.h"

enum {
	FILES = 64, /* of each size, asked for in turn, so that nobody lives on one inode */
	SMALL = 4096,
	LARGE = 65536,
	IN_FLIGHT = 64,
	MOST_IN_FLIGHT = 4096,
	MOST_ENTRIES = 32, /* in one row */
};

/* ---- The load ---- */

struct load {
	const struct arena *arena;
	const char *server; /* the daemon's name */
	enum dest kind;
	unsigned size;
	unsigned in_flight;
	unsigned how; /* the client's variant */
	unsigned next_file;
	int (*dests)[2];
	uint64_t begun; /* requests of this run */
	uint64_t least; /* so many are made, whatever the time */
	uint64_t end;   /* of the time; no more are begun then */
	bool over;
};

/* The files of both sizes; and reads those of one, so that they are in memory. */
void load_files(const struct arena *a);
void load_warm(const struct arena *a, unsigned size);

void load_open(struct load *l, bool nonblock);

/* Begins a run of so long. It goes by the time, not by a number: this machine may have other things to do meanwhile. */
void load_start(struct load *l, double ns);

/* Whether another request is to be made; the file of it; and it has been made. */
bool load_wants(const struct load *l);
const char *load_file(const struct load *l);
void load_next(struct load *l);

/* Reads from the other end what a request has brought. */
void load_drain(const struct load *l, unsigned slot);

/* Open, examine, send, close: what a server without us would do. The destination must be blocking. */
void send_file(int root_fd, const char *name, int dest);

/* ---- Clients ---- */

/* With how many requests in flight a variant may turn out the best. */
enum { FEW = 1, MANY = 2 };

struct variant {
	const char *name;
	unsigned how;
	unsigned when; /* FEW, MANY; 0: others are as good or better */
};

/* Every run is in a process of its own: what the clients keep may be static, and is not cleaned up. */
struct client {
	const char *name;
	bool nonblock; /* whether its destinations are non-blocking */
	void (*open)(struct load *l);
	/* Makes requests while there are to be more, and ends when all have ended. */
	void (*run)(struct load *l);
	const struct variant *variants;
	unsigned n_variants;
	const char *(*missing)(void); /* why there is no such client here; NULL: there is */
};

extern const struct client via_process, via_queue, via_calls, via_libuv, via_uring;

/* Variants of via_queue: the most requests to a submit, 0 meaning all; and whether the client waits with epoll(7). */
enum { QUEUE_ALL = 0, QUEUE_BY_16 = 16, QUEUE_GRAIN = 0xffff, QUEUE_EPOLL = 0x10000 };

/* ---- Measuring ---- */

struct outcome {
	double rate;     /* requests per second */
	double cpu;      /* microseconds per request that the client's process used, user and system */
	double loop_cpu; /* the same of the thread that has the event loop */
};

struct entry {
	const struct client *client;
	struct variant variant;
	const char *server;
	struct outcome median;
};

struct row {
	struct load load;
	struct entry entries[MOST_ENTRIES];
	unsigned n;
};

/* Which entries of a row are the same client. */
struct span {
	unsigned first, count;
};

/* Adds a client in one variant; in all that may be the best there or, with VARIANTS=all in the environment, in all. */
struct span row_add(struct row *r, const struct client *c, struct variant v, const char *server);
struct span row_add_all(struct row *r, const struct client *c, const char *server);

/* Measures all entries in turn, so many times, and fills in the medians. */
void row_measure(struct row *r, unsigned rounds);

/* The entry with the highest rate; NULL if there is none. And that rate; NAN if there is none. */
const struct entry *best_of(const struct row *r, struct span s);
double best_rate(const struct row *r, struct span s);

/* ---- Daemons ---- */

struct server {
	const char *name;
	const char *workers;   /* NULL: the default */
	const char *busy_poll; /* microseconds; NULL: the default */
	pid_t pid;
};

void server_start(struct server *s, const struct arena *a);
void server_stop(const struct server *s);

/* Whether the daemon has this option. */
bool server_knows(const char *option);

/* ---- Tables ---- */

struct bench {
	struct arena arena;
	unsigned rounds;
	const char *only; /* the one table that is wanted; NULL: all */
};

void bench_throughput(const struct bench *b);
void bench_latency(const struct bench *b);
void bench_cpu(const struct bench *b);
void bench_growth(const struct bench *b);

/* A cell: a number, or "-" for NAN; a rate, in thousands, and the variant that had it; a ratio, and what is asked for. */
void put(int width, int decimals, double value);
void put_best(int width, const struct row *r, struct span s);
void put_ratio(double ratio, double floor);

#endif
