/* SPDX-License-Identifier: BSD-2-Clause */
/* What the parts of sfdcat share; main.c says what it is. */
#ifndef SFDCAT_H
#define SFDCAT_H

#include <sendfiled/sendfiled.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

enum {
	TRIES = 5,      /* of one file */
	PAUSE_MS = 200, /* between two of them */
	GRACE_MS = 50   /* a signal to all of a terminal's processes reaches us, too */
};

/* Beside the library's statuses, which are smaller. */
enum { SAME_FILE = 0x2000 };

enum exit_status { EXIT_OK, EXIT_PROBLEM }; /* cat knows no third */

enum mode { MODE_SEND, MODE_STAT, MODE_HOT };

/* --range. `first` and `last` both belong to it; `count` is of the last bytes of a file. */
struct range {
	enum { RANGE_ALL, RANGE_FIRST_TO_LAST, RANGE_TAIL } kind;
	uint64_t first, last, count;
};

enum state {
	FILE_NEW,     /* nothing has been asked for */
	FILE_ASKED,   /* the daemon is to open it */
	FILE_OPEN,    /* `info` is there */
	FILE_SENDING, /* and now it is being sent */
	FILE_OVER     /* `stat` says how the last request ended */
};

struct file {
	const char *name;
	enum state state;
	int fd; /* if it is lent; else -1 */
	int stat;
	int tries;
	struct sfd_file_info info;
	off_t base;                       /* standard input: where it stood */
	off_t offset;                     /* the range, in the file as `info` has it */
	uint64_t length, done;            /* how long it is, and what earlier requests have sent of it */
	uint64_t moved, written, was_out; /* by the request under way; by all before it */
	double began;
	bool hot;
};

struct app {
	const char *server, *sockdir;
	enum mode mode;
	struct range range;
	uint64_t rate;
	bool json, bar, bar_at_once, bar_shown;

	struct file *files;
	int count;
	char made_dir[64]; /* of a private daemon's socket; empty: none */
	pid_t daemon;      /* 0: none */
	int srv, signals, null;
	struct sfd_queue *queue;
	bool out_is_file, out_appends;
	struct stat out;
	int signo;   /* that we have got, and shall die by */
	bool hurry;  /* a second one has come */
	bool stop;   /* nothing more can be sent */
	bool failed; /* something could not be sent, or is not hot */
};

static inline bool is_private(const struct app *a)
{
	return !a->server;
}

/* ---- options.c */

/* -1, or the exit status. */
int parse_options(struct app *a, int argc, char *argv[]);

/* ---- say.c */

double now(void);
__attribute__((format(printf, 1, 2))) void complain(const char *format, ...);
/* Of a file; its name is quoted for a shell if it needs that. */
void complain_of(const char *name, const char *text);
void json_line(const struct app *a, const struct file *f, const char *error);
void print_stat(const struct file *f);
void draw_bar(struct app *a, const struct file *f);
/* What is printed next gets a line of its own. */
void leave_bar(struct app *a);

/* ---- daemon.c */

/* Waits until something happens, or for so long (negative: for ever). `events` are of standard output. */
short step(struct app *a, int timeout_ms, short events);
void pause_for(struct app *a, int ms);
/* Until the file's state is a later one than that. False if a signal came before. */
bool await(struct app *a, const struct file *f, enum state state);
/* Once. -1: it has been said why there is none. */
int connect_daemon(struct app *a);
/* Whether it is all over with it, not just with a worker. */
bool daemon_is_gone(struct app *a);
uint64_t number(const struct app *a, const struct file *f);
/* Lets go of a file, and of what was asked for it. False if a signal came first. */
bool release(struct app *a, struct file *f);

/* ---- open.c: both return 0 (`info` is there), a status, or EINTR if a signal came first */

void open_ahead(struct app *a, struct file *f);
int await_open(struct app *a, struct file *f);
int open_here(struct app *a, struct file *f);
/* What may be different a moment later. */
bool may_pass(int stat);

/* ---- send.c: as in open.c */

void find_range(const struct range *r, struct file *f);
int send_range(struct app *a, struct file *f);
int look_whether_hot(struct app *a, struct file *f);
bool is_output(const struct app *a, const struct file *f);

#endif
