/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A file system in memory whose server answers when it is told to: what a server far away, or one that is out of
 * order, does to whoever uses its files.
 *
 * usage: slowfs MOUNTPOINT [--allow-other]
 *
 * Says "ready" on standard output once it is mounted, and serves until standard input ends or the process that started
 * it does; then it breaks the connection, so that nobody goes on waiting, and unmounts. Commands are lines on standard
 * input; each is answered by one line, "ok", "ok NUMBER" or "error TEXT". PATH is relative to the mount point, "." is
 * its root; OP is one of lookup, getattr, open (which includes create), read, write, flush, release, all.
 *
 *   add PATH SIZE SEED     makes a file with the content of make_content(), and the directories that lead to it
 *   truncate PATH SIZE     changes its size, as if somebody else had
 *   hold OP [PATH]         requests of that kind are kept, and not answered
 *   release OP [PATH]      no longer; those that were kept are answered, in order
 *   step OP N [PATH]       answers the first N that are kept; others still are
 *   delay OP MS [PATH]     each is answered that much later; 0: at once
 *   fail OP ERRNO [PATH]   each is answered with that error; 0: no more
 *   await OP N [MS [PATH]] answered once N requests are kept at a time, with "error" if that takes longer than MS;
 *                          the file system is served meanwhile, further commands are not
 *   count OP [PATH]        how many came so far
 *   held OP [PATH]         how many are kept now
 *   timeout SECONDS        how long the kernel may trust names and attributes; 0 at first
 *   direct_io on|off       whether files that are opened from now on go past the page cache
 *   keep_cache on|off      whether what is in the page cache outlives an open(2)
 *   abort                  breaks the connection, like a server that has crashed; the mount stays, and is dead
 *
 * What is set for a path replaces what is set in general; what is set without a path is set for all paths. A request
 * that is both kept and delayed is only kept. It fails as of when it is answered.
 */
#define FUSE_USE_VERSION 35

#include <fuse3/fuse_lowlevel.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum op { OP_LOOKUP, OP_GETATTR, OP_OPEN, OP_READ, OP_WRITE, OP_FLUSH, OP_RELEASE, OP_ALL, OPS = OP_ALL };

static const char *const op_names[] = {"lookup", "getattr", "open", "read", "write", "flush", "release", "all"};

/*
 * A file or directory. Those that were removed stay, without a parent, since they may be open. A file's bytes below
 * `generated` are made up when they are read, those below `stored` are in `data`, what lies above is zero. One of
 * `generated` and `stored` is always 0.
 */
struct node {
	struct node *parent, *children, *next;
	char *name;
	fuse_ino_t ino;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	uint64_t size, generated, seed;
	uint64_t stored, room;
	unsigned char *data;
	struct timespec mtime;
	uint64_t count[OPS];
};

/* A request that was received and not answered yet. */
struct job {
	struct job *next;
	fuse_req_t req;
	enum op op;
	bool creates;
	struct node *node;
	mode_t mode;
	struct fuse_file_info fi;
	uint64_t offset, due;
	size_t size;
	char bytes[]; /* the name that is looked up in the directory `node`; what is written */
};

/* What happens to requests: all of them, or those for one path. */
struct rule {
	struct rule *next;
	char *path;
	bool hold[OPS];
	uint64_t delay_ns[OPS];
	int error[OPS];
};

/* What a command says. */
struct args {
	int op;
	int numbers_given;
	uint64_t n[2];
	const char *path, *word;
};

enum {
	FIRST_NODES = 64,
	FILE_MODE = S_IFREG | 0644,
	DIR_MODE = S_IFDIR | 0755,
	MAX_WORDS = 6,
	MAX_LINE = 2 * PATH_MAX,
	MAX_BATCH = 64,         /* requests between two looks at the commands */
	MAX_BACKGROUND = 4096,  /* or the kernel itself would hold back what comes beyond a dozen */
	MAX_STORED = 256 << 20, /* of a file that is written to */
};

#define NS_PER_S  UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)

static struct fuse_session *session;
static bool connected, ending;
static struct node **nodes; /* by inode number, of which 0 is not used */
static size_t node_count, node_room;
static uint64_t count_of_all[OPS];
static struct rule general;
static struct job *held, *delayed; /* in the order of arrival; in the order of when they are due */
static char input[MAX_LINE];       /* commands that were read and not run yet */
static size_t input_used;
static double cache_timeout;
static bool direct_io, keep_cache;

static struct {
	bool pending;
	struct args args;
	uint64_t deadline; /* 0: none */
} waiting;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void *must_have(void *p)
{
	if (!p) {
		perror("slowfs");
		exit(1);
	}
	return p;
}

/* ---- Files ------------------------------------------------------------------------------------------- */

static struct node *new_node(struct node *parent, const char *name, mode_t mode)
{
	struct node *n = must_have(calloc(1, sizeof *n));

	if (node_count == node_room) {
		node_room = node_room ? 2 * node_room : FIRST_NODES;
		nodes = must_have(realloc(nodes, node_room * sizeof(*nodes)));
	}
	n->ino = node_count;
	n->name = must_have(strdup(name));
	n->mode = mode;
	n->uid = getuid();
	n->gid = getgid();
	clock_gettime(CLOCK_REALTIME, &n->mtime);
	nodes[node_count++] = n;
	n->parent = parent;
	if (parent) {
		n->next = parent->children;
		parent->children = n;
	}
	return n;
}

static void make_root(void)
{
	nodes = must_have(calloc(FIRST_NODES, sizeof(*nodes)));
	node_room = FIRST_NODES;
	node_count = FUSE_ROOT_ID;
	new_node(NULL, "", DIR_MODE);
}

static struct node *find_child(const struct node *dir, const char *name)
{
	struct node *n = dir->children;

	while (n && strcmp(n->name, name) != 0)
		n = n->next;
	return n;
}

static void unlink_node(struct node *n)
{
	struct node **at = &n->parent->children;

	while (*at != n)
		at = &(*at)->next;
	*at = n->next;
	n->parent = NULL;
}

/* The node of that path; NULL if there is none. If `make`, directories that are missing are made, and a file. */
static struct node *walk(const char *path, bool make)
{
	struct node *n = nodes[FUSE_ROOT_ID];
	char copy[PATH_MAX], *rest = copy, *name;

	if (strlen(path) >= sizeof copy)
		return NULL;
	memcpy(copy, path, strlen(path) + 1);
	while (n && (name = strsep(&rest, "/"))) {
		struct node *child = find_child(n, name);

		if (name[0] == '\0' || strcmp(name, ".") == 0)
			continue;
		if (!child && make && S_ISDIR(n->mode))
			child = new_node(n, name, rest ? DIR_MODE : FILE_MODE);
		n = child;
	}
	return n;
}

/* Writes the path that commands call a node by, or a name in the directory that it is. */
static void write_path(const struct node *n, const char *name, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s", name ? name : n->parent ? n->name : ".");
	for (n = name ? n : n->parent; n && n->parent; n = n->parent) {
		const size_t length = strlen(n->name), rest = strlen(path) + 1;

		if (length + 1 + rest > PATH_MAX)
			return;
		memmove(path + length + 1, path, rest);
		memcpy(path, n->name, length);
		path[length] = '/';
	}
}

/* The same numbers as make_content() of files.h. */
static uint64_t made_up_word(uint64_t seed, uint64_t index)
{
	uint64_t z = (seed + index + 1) * UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static void make_up(unsigned char *to, uint64_t seed, uint64_t offset, size_t size)
{
	while (size > 0) {
		const uint64_t word = made_up_word(seed, offset / sizeof word);
		const size_t skip = offset % sizeof word;
		const size_t n = size < sizeof word - skip ? size : sizeof word - skip;

		memcpy(to, (const unsigned char *)&word + skip, n);
		to += n;
		offset += n;
		size -= n;
	}
}

/* How many bytes of a range lie below a limit. */
static size_t below(uint64_t limit, uint64_t offset, size_t size)
{
	if (offset >= limit)
		return 0;
	return size < limit - offset ? size : (size_t)(limit - offset);
}

/* Fills in bytes that are all below the file's size. */
static void read_bytes(const struct node *n, unsigned char *to, uint64_t offset, size_t size)
{
	const size_t generated = below(n->generated, offset, size), stored = below(n->stored, offset, size);

	memset(to, 0, size);
	make_up(to, n->seed, offset, generated);
	if (stored > 0)
		memcpy(to, n->data + offset, stored);
}

/* Has the bytes below `end` in memory. 0, or an errno. */
static int store_up_to(struct node *n, uint64_t end)
{
	if (end < n->generated)
		end = n->generated;
	if (end > MAX_STORED)
		return EFBIG;
	if (end > n->room) {
		n->room = 2 * end;
		n->data = must_have(realloc(n->data, n->room));
	}
	if (end > n->stored) {
		const uint64_t from = n->stored;

		n->stored = 0;
		memset(n->data + from, 0, end - from);
		make_up(n->data, n->seed, 0, n->generated);
		n->generated = 0;
		n->stored = end;
	}
	return 0;
}

static void set_size(struct node *n, uint64_t size)
{
	n->size = size;
	if (n->generated > size)
		n->generated = size;
	if (n->stored > size)
		n->stored = size;
	clock_gettime(CLOCK_REALTIME, &n->mtime);
}

static int write_bytes(struct node *n, const char *from, uint64_t offset, size_t size)
{
	const int err = store_up_to(n, offset + size);

	if (err != 0)
		return err;
	memcpy(n->data + offset, from, size);
	set_size(n, n->size > offset + size ? n->size : offset + size);
	return 0;
}

/* ---- Answers ----------------------------------------------------------------------------------------- */

static struct stat attributes(const struct node *n)
{
	return (struct stat){
		.st_ino = n->ino,
		.st_mode = n->mode,
		.st_nlink = n->parent || n->ino == FUSE_ROOT_ID ? 1 : 0,
		.st_uid = n->uid,
		.st_gid = n->gid,
		.st_size = (off_t)n->size,
		.st_blksize = 4096,
		.st_blocks = (blkcnt_t)((n->size + 511) / 512),
		.st_atim = n->mtime,
		.st_mtim = n->mtime,
		.st_ctim = n->mtime,
	};
}

static struct fuse_entry_param entry(const struct node *n)
{
	return (struct fuse_entry_param){
		.ino = n->ino,
		.generation = 1,
		.attr = attributes(n),
		.attr_timeout = cache_timeout,
		.entry_timeout = cache_timeout,
	};
}

static void answer_attributes(fuse_req_t req, const struct node *n)
{
	const struct stat st = attributes(n);

	fuse_reply_attr(req, &st, cache_timeout);
}

static void answer_lookup(const struct job *j)
{
	const struct node *n = find_child(j->node, j->bytes);

	if (n) {
		const struct fuse_entry_param e = entry(n);

		fuse_reply_entry(j->req, &e);
	} else {
		fuse_reply_err(j->req, ENOENT);
	}
}

static void answer_open(struct job *j)
{
	struct node *n = j->node;

	if (j->creates && (n = find_child(j->node, j->bytes)) && (j->fi.flags & O_EXCL)) {
		fuse_reply_err(j->req, EEXIST);
		return;
	}
	if (!n) {
		n = new_node(j->node, j->bytes, S_IFREG | (j->mode & ~(mode_t)S_IFMT));
		n->uid = fuse_req_ctx(j->req)->uid;
		n->gid = fuse_req_ctx(j->req)->gid;
	}
	if (j->fi.flags & O_TRUNC)
		set_size(n, 0);
	j->fi.direct_io = direct_io;
	j->fi.keep_cache = keep_cache;
	if (j->creates) {
		const struct fuse_entry_param e = entry(n);

		fuse_reply_create(j->req, &e, &j->fi);
	} else {
		fuse_reply_open(j->req, &j->fi);
	}
}

static void answer_read(const struct job *j)
{
	const size_t size = below(j->node->size, j->offset, j->size);
	unsigned char *buf = must_have(malloc(size + 1));

	read_bytes(j->node, buf, j->offset, size);
	fuse_reply_buf(j->req, (const char *)buf, size);
	free(buf);
}

static void answer_write(const struct job *j)
{
	const int err = write_bytes(j->node, j->bytes, j->offset, j->size);

	if (err == 0)
		fuse_reply_write(j->req, j->size);
	else
		fuse_reply_err(j->req, err);
}

/* The rule that is for this request. */
static const struct rule *rule_of(const struct job *j)
{
	char path[PATH_MAX];

	if (!general.next)
		return &general;
	write_path(j->node, j->op == OP_LOOKUP || j->creates ? j->bytes : NULL, path);
	for (const struct rule *r = general.next; r; r = r->next) {
		if (strcmp(r->path, path) == 0)
			return r;
	}
	return &general;
}

/* Answers a request and frees it. */
static void answer(struct job *j)
{
	const int err = connected ? rule_of(j)->error[j->op] : ECONNABORTED;

	if (err != 0)
		fuse_reply_err(j->req, err);
	else if (j->op == OP_LOOKUP)
		answer_lookup(j);
	else if (j->op == OP_GETATTR)
		answer_attributes(j->req, j->node);
	else if (j->op == OP_OPEN)
		answer_open(j);
	else if (j->op == OP_READ)
		answer_read(j);
	else if (j->op == OP_WRITE)
		answer_write(j);
	else
		fuse_reply_err(j->req, 0);
	free(j);
}

static void keep_until_due(struct job *j, uint64_t delay_ns)
{
	struct job **at = &delayed;

	j->due = now_ns() + delay_ns;
	while (*at && (*at)->due <= j->due)
		at = &(*at)->next;
	j->next = *at;
	*at = j;
}

static void answer_what_is_due(void)
{
	const uint64_t now = now_ns();

	while (delayed && delayed->due <= now) {
		struct job *j = delayed;

		delayed = j->next;
		answer(j);
	}
}

/* ---- Requests ---------------------------------------------------------------------------------------- */

static struct job *new_job(fuse_req_t req, enum op op, fuse_ino_t ino, const void *bytes, size_t size)
{
	struct job *j = must_have(calloc(1, sizeof *j + size));

	j->req = req;
	j->op = op;
	j->node = nodes[ino];
	j->size = size;
	if (size > 0)
		memcpy(j->bytes, bytes, size);
	return j;
}

/* Counts a request that was received, and answers it now or later. */
static void submit(struct job *j)
{
	const bool names = j->op == OP_LOOKUP || j->creates;
	struct node *n = names ? find_child(j->node, j->bytes) : j->node;
	const struct rule *r = rule_of(j);
	struct job **end = &held;

	count_of_all[j->op]++;
	if (n)
		n->count[j->op]++;
	if (r->hold[j->op]) {
		while (*end)
			end = &(*end)->next;
		*end = j;
	} else if (r->delay_ns[j->op] > 0) {
		keep_until_due(j, r->delay_ns[j->op]);
	} else {
		answer(j);
	}
}

static void on_init(void *unused, struct fuse_conn_info *conn)
{
	(void)unused;
	conn->max_background = MAX_BACKGROUND;
	conn->congestion_threshold = MAX_BACKGROUND;
}

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	submit(new_job(req, OP_LOOKUP, parent, name, strlen(name) + 1));
}

static void on_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)fi;
	submit(new_job(req, OP_GETATTR, ino, NULL, 0));
}

static void on_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int set, struct fuse_file_info *fi)
{
	struct node *n = nodes[ino];

	(void)fi;
	if (set & FUSE_SET_ATTR_SIZE)
		set_size(n, (uint64_t)st->st_size);
	if (set & FUSE_SET_ATTR_MODE)
		n->mode = (n->mode & S_IFMT) | (st->st_mode & ~(mode_t)S_IFMT);
	if (set & FUSE_SET_ATTR_UID)
		n->uid = st->st_uid;
	if (set & FUSE_SET_ATTR_GID)
		n->gid = st->st_gid;
	if (set & FUSE_SET_ATTR_MTIME)
		n->mtime = st->st_mtim;
	answer_attributes(req, n);
}

static void on_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct node *n = new_node(nodes[parent], name, S_IFDIR | (mode & ~(mode_t)S_IFMT));
	struct fuse_entry_param e;

	n->uid = fuse_req_ctx(req)->uid;
	n->gid = fuse_req_ctx(req)->gid;
	e = entry(n);
	fuse_reply_entry(req, &e);
}

static void on_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct node *n = find_child(nodes[parent], name);

	if (!n) {
		fuse_reply_err(req, ENOENT);
	} else if (n->children) {
		fuse_reply_err(req, ENOTEMPTY);
	} else {
		unlink_node(n);
		fuse_reply_err(req, 0);
	}
}

static void on_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct job *j = new_job(req, OP_OPEN, ino, NULL, 0);

	j->fi = *fi;
	submit(j);
}

static void on_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct job *j = new_job(req, OP_OPEN, parent, name, strlen(name) + 1);

	j->creates = true;
	j->mode = mode;
	j->fi = *fi;
	submit(j);
}

static void on_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct job *j = new_job(req, OP_READ, ino, NULL, 0);

	(void)fi;
	j->size = size;
	j->offset = (uint64_t)offset;
	submit(j);
}

static void on_write(
	fuse_req_t req, fuse_ino_t ino, const char *bytes, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct job *j = new_job(req, OP_WRITE, ino, bytes, size);

	(void)fi;
	j->offset = (uint64_t)offset;
	submit(j);
}

static void on_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)fi;
	submit(new_job(req, OP_FLUSH, ino, NULL, 0));
}

static void on_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)fi;
	submit(new_job(req, OP_RELEASE, ino, NULL, 0));
}

static void on_fsync(fuse_req_t req, fuse_ino_t ino, int only_data, struct fuse_file_info *fi)
{
	(void)ino;
	(void)only_data;
	(void)fi;
	fuse_reply_err(req, 0);
}

static void on_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	char *buf = must_have(malloc(size));
	size_t used = 0;
	off_t at = 0;

	(void)fi;
	for (const struct node *n = nodes[ino]->children; n; n = n->next) {
		const struct stat st = attributes(n);
		size_t length;

		if (at++ < offset)
			continue;
		length = fuse_add_direntry(req, buf + used, size - used, n->name, &st, at);
		if (length > size - used)
			break;
		used += length;
	}
	fuse_reply_buf(req, buf, used);
	free(buf);
}

static const struct fuse_lowlevel_ops operations = {
	.init = on_init,
	.lookup = on_lookup,
	.getattr = on_getattr,
	.setattr = on_setattr,
	.mkdir = on_mkdir,
	.unlink = on_unlink,
	.rmdir = on_unlink,
	.open = on_open,
	.create = on_create,
	.read = on_read,
	.write = on_write,
	.flush = on_flush,
	.release = on_release,
	.fsync = on_fsync,
	.readdir = on_readdir,
};

/*
 * With its descriptor, the connection goes; whatever is written to it from now on, as the library will when requests
 * are answered so that they are freed, goes nowhere. All who wait get ECONNABORTED from the kernel.
 */
static void break_connection(void)
{
	const int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	connected = false;
	if (null < 0 || dup2(null, fuse_session_fd(session)) < 0)
		exit(1);
	close(null);
	for (struct job **queue = &held; queue; queue = queue == &held ? &delayed : NULL) {
		while (*queue) {
			struct job *j = *queue;

			*queue = j->next;
			answer(j);
		}
	}
}

static void serve(void)
{
	static struct fuse_buf buf;

	for (int i = 0; i < MAX_BATCH; i++) {
		const int n = fuse_session_receive_buf(session, &buf);

		if (n == -EAGAIN || n == -EINTR)
			return;
		if (n <= 0) {
			/* Unmounted by somebody else, or aborted. */
			break_connection();
			return;
		}
		fuse_session_process_buf(session, &buf);
	}
}

/* ---- Commands ---------------------------------------------------------------------------------------- */

static void say(const char *text)
{
	dprintf(STDOUT_FILENO, "%s\n", text);
}

static void say_number(uint64_t n)
{
	dprintf(STDOUT_FILENO, "ok %llu\n", (unsigned long long)n);
}

/* The kinds of requests that a command is about: one, or all of them. */
static int first_op(const struct args *a)
{
	return a->op == OP_ALL ? 0 : a->op;
}

static int last_op(const struct args *a)
{
	return a->op == OP_ALL ? OPS - 1 : a->op;
}

static bool is_about(const struct args *a, const struct job *j)
{
	char path[PATH_MAX];

	if (a->op != OP_ALL && a->op != (int)j->op)
		return false;
	if (!a->path)
		return true;
	write_path(j->node, j->op == OP_LOOKUP || j->creates ? j->bytes : NULL, path);
	return strcmp(path, a->path) == 0;
}

static uint64_t count_held(const struct args *a)
{
	uint64_t n = 0;

	for (const struct job *j = held; j; j = j->next)
		n += is_about(a, j) ? 1 : 0;
	return n;
}

/* The rule for a path, which begins as a copy of the general one. */
static struct rule *own_rule(const char *path)
{
	struct rule **at = &general.next;

	while (*at && strcmp((*at)->path, path) != 0)
		at = &(*at)->next;
	if (!*at) {
		*at = must_have(malloc(sizeof general));
		**at = general;
		(*at)->next = NULL;
		(*at)->path = must_have(strdup(path));
	}
	return *at;
}

enum setting { HOLD, RELEASE, DELAY, FAIL };

static void set_rules(const struct args *a, enum setting what)
{
	for (struct rule *r = a->path ? own_rule(a->path) : &general; r; r = a->path ? NULL : r->next) {
		for (int op = first_op(a); op <= last_op(a); op++) {
			if (what == HOLD || what == RELEASE)
				r->hold[op] = what == HOLD;
			else if (what == DELAY)
				r->delay_ns[op] = a->n[0] * NS_PER_MS;
			else
				r->error[op] = (int)a->n[0];
		}
	}
}

/* Takes requests out of the queue and answers them: those that rules no longer hold, or the first `n` of some kind. */
static uint64_t answer_held(const struct args *only, uint64_t n)
{
	struct job **at = &held;
	uint64_t answered = 0;

	while (*at && answered < n) {
		struct job *j = *at;

		if (only ? is_about(only, j) : !rule_of(j)->hold[j->op]) {
			*at = j->next;
			answer(j);
			answered++;
		} else {
			at = &j->next;
		}
	}
	return answered;
}

static void do_add(const struct args *a)
{
	struct node *n = walk(a->path, true);

	if (!n || !S_ISREG(n->mode)) {
		say("error that is no file");
		return;
	}
	set_size(n, 0);
	n->size = n->generated = a->n[0];
	n->seed = a->n[1];
	say("ok");
}

static void do_truncate(const struct args *a)
{
	struct node *n = walk(a->path, false);

	if (!n) {
		say("error there is no such file");
		return;
	}
	set_size(n, a->n[0]);
	say("ok");
}

static void do_hold(const struct args *a)
{
	set_rules(a, HOLD);
	say("ok");
}

static void do_release(const struct args *a)
{
	set_rules(a, RELEASE);
	answer_held(NULL, UINT64_MAX);
	say("ok");
}

static void do_step(const struct args *a)
{
	say_number(answer_held(a, a->n[0]));
}

static void do_delay(const struct args *a)
{
	set_rules(a, DELAY);
	say("ok");
}

static void do_fail(const struct args *a)
{
	set_rules(a, FAIL);
	say("ok");
}

static void do_count(const struct args *a)
{
	const struct node *n = a->path ? walk(a->path, false) : NULL;
	uint64_t sum = 0;

	if (a->path && !n) {
		say("error there is no such file");
		return;
	}
	for (int op = first_op(a); op <= last_op(a); op++)
		sum += n ? n->count[op] : count_of_all[op];
	say_number(sum);
}

static void do_held(const struct args *a)
{
	say_number(count_held(a));
}

/* The answer comes from check_waiting(). */
static void do_await(const struct args *a)
{
	waiting.pending = true;
	waiting.args = *a;
	waiting.args.path = a->path ? must_have(strdup(a->path)) : NULL;
	waiting.deadline = a->numbers_given > 1 && a->n[1] > 0 ? now_ns() + a->n[1] * NS_PER_MS : 0;
}

static void check_waiting(void)
{
	const uint64_t n = waiting.pending ? count_held(&waiting.args) : 0;

	if (!waiting.pending)
		return;
	if (n >= waiting.args.n[0])
		say_number(n);
	else if (waiting.deadline != 0 && now_ns() >= waiting.deadline)
		dprintf(STDOUT_FILENO, "error only %llu were held in time\n", (unsigned long long)n);
	else
		return;
	waiting.pending = false;
	free((char *)waiting.args.path);
}

static void do_timeout(const struct args *a)
{
	cache_timeout = (double)a->n[0];
	say("ok");
}

static void do_direct_io(const struct args *a)
{
	direct_io = strcmp(a->word, "on") == 0;
	say("ok");
}

static void do_keep_cache(const struct args *a)
{
	keep_cache = strcmp(a->word, "on") == 0;
	say("ok");
}

static void do_abort(const struct args *a)
{
	(void)a;
	if (connected)
		break_connection();
	say("ok");
}

/* What follows the name: an operation, a number, a path, a word. All that is behind '?' may be missing. */
static const struct command {
	const char *name, *takes;
	void (*run)(const struct args *a);
} commands[] = {
	{"add", "pnn", do_add},
	{"truncate", "pn", do_truncate},
	{"hold", "o?p", do_hold},
	{"release", "o?p", do_release},
	{"step", "on?p", do_step},
	{"delay", "on?p", do_delay},
	{"fail", "on?p", do_fail},
	{"await", "on?np", do_await},
	{"count", "o?p", do_count},
	{"held", "o?p", do_held},
	{"timeout", "n", do_timeout},
	{"direct_io", "w", do_direct_io},
	{"keep_cache", "w", do_keep_cache},
	{"abort", "", do_abort},
};

static bool parse_word(char kind, const char *word, struct args *a)
{
	char *end;

	if (kind == 'p') {
		a->path = word;
	} else if (kind == 'w') {
		a->word = word;
		return strcmp(word, "on") == 0 || strcmp(word, "off") == 0;
	} else if (kind == 'n') {
		errno = 0;
		a->n[a->numbers_given++] = strtoull(word, &end, 10);
		return word[0] >= '0' && word[0] <= '9' && *end == '\0' && errno == 0;
	} else {
		while (a->op <= OP_ALL && strcmp(op_names[a->op], word) != 0)
			a->op++;
		return a->op <= OP_ALL;
	}
	return true;
}

static bool parse_args(const char *takes, char *rest, struct args *a)
{
	bool optional = false;
	const char *word;

	for (; *takes; takes++) {
		if (*takes == '?') {
			optional = true;
			continue;
		}
		word = strtok_r(NULL, " ", &rest);
		if (!word)
			return optional;
		if (!parse_word(*takes, word, a))
			return false;
	}
	return strtok_r(NULL, " ", &rest) == NULL;
}

static void run_command(char *line)
{
	char *rest = NULL;
	const char *name = strtok_r(line, " ", &rest);
	struct args a = {0};

	for (size_t i = 0; name && i < sizeof commands / sizeof(*commands); i++) {
		if (strcmp(commands[i].name, name) != 0)
			continue;
		if (parse_args(commands[i].takes, rest, &a))
			commands[i].run(&a);
		else
			say("error those are not its arguments");
		return;
	}
	say("error there is no such command");
}

/* Commands that were read are run one after the other; one that waits keeps the others waiting. */
static void take_commands(short events)
{
	char *end;

	if (events != 0 && input_used < sizeof input) {
		const ssize_t n = read(STDIN_FILENO, input + input_used, sizeof input - input_used);

		if (n > 0)
			input_used += (size_t)n;
		else if (n == 0 || (errno != EAGAIN && errno != EINTR))
			ending = true;
	}
	while (!waiting.pending && (end = memchr(input, '\n', input_used))) {
		*end++ = '\0';
		run_command(input);
		input_used -= (size_t)(end - input);
		memmove(input, end, input_used);
		check_waiting();
	}
	/* No command is as long as that. */
	if (!waiting.pending && input_used == sizeof input)
		ending = true;
}

/* ---- The loop ---------------------------------------------------------------------------------------- */

/*
 * Whether the process that started this one has ended, or is about to. One that was killed but has a thread that waits
 * for us cannot end, and so does not close our standard input: it would stay for ever.
 */
static bool parent_ends(pid_t parent)
{
	static const char state[] = "State:\tZ", dumps[] = "CoreDumping:\t1", signals[] = "SigPnd:";
	char path[64], line[256];
	bool ends = false;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/status", (int)parent);
	if (getppid() != parent || !(f = fopen(path, "re")))
		return true;
	while (fgets(line, sizeof line, f)) {
		if (strncmp(line, state, sizeof state - 1) == 0 || strncmp(line, dumps, sizeof dumps - 1) == 0)
			ends = true;
		if (strncmp(line, signals, sizeof signals - 1) == 0 &&
			(strtoull(line + sizeof signals - 1, NULL, 16) >> (SIGKILL - 1) & 1))
			ends = true;
	}
	fclose(f);
	return ends;
}

/* For ppoll(2): until the next request is due, or somebody has waited long enough; a second at most. */
static struct timespec time_left(void)
{
	const uint64_t now = now_ns();
	uint64_t until = now + NS_PER_S;

	if (delayed && delayed->due < until)
		until = delayed->due;
	if (waiting.pending && waiting.deadline != 0 && waiting.deadline < until)
		until = waiting.deadline;
	until = until > now ? until - now : 0;
	return (struct timespec){(time_t)(until / NS_PER_S), (long)(until % NS_PER_S)};
}

static void loop(pid_t parent)
{
	uint64_t next_look = now_ns() + NS_PER_S;

	while (!ending) {
		const struct timespec left = time_left();
		struct pollfd p[] = {
			{STDIN_FILENO, input_used < sizeof input ? POLLIN : 0, 0},
			{connected ? fuse_session_fd(session) : -1, POLLIN, 0},
		};

		if (ppoll(p, 2, &left, NULL) < 0)
			continue;
		if (p[1].revents != 0)
			serve();
		answer_what_is_due();
		check_waiting();
		take_commands(p[0].revents);
		if (now_ns() >= next_look) {
			ending = ending || parent_ends(parent);
			next_look = now_ns() + NS_PER_S;
		}
	}
}

/* What the library has to say about a failure becomes the answer to whoever started this program. */
static char last_words[256] = "it cannot be mounted";

static void keep_last_words(enum fuse_log_level level, const char *format, va_list ap)
{
	if (level > FUSE_LOG_ERR)
		return;
	vsnprintf(last_words, sizeof last_words, format, ap);
	last_words[strcspn(last_words, "\n")] = '\0';
}

static bool mount_it(const char *mount_point, bool allow_other)
{
	char program[] = "slowfs", option[] = "-o", more[] = "fsname=slowfs,subtype=slowfs,allow_other";
	char *argv[] = {program, option, more, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);
	int fd;

	if (!allow_other)
		*strrchr(more, ',') = '\0';
	fuse_set_log_func(keep_last_words);
	session = fuse_session_new(&args, &operations, sizeof operations, NULL);
	fuse_opt_free_args(&args);
	if (!session || fuse_session_mount(session, mount_point) < 0)
		return false;
	fd = fuse_session_fd(session);
	connected = true;
	return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0;
}

int main(int argc, char **argv)
{
	const pid_t parent = getppid();
	const bool allow_other = argc == 3 && strcmp(argv[2], "--allow-other") == 0;

	if (argc != (allow_other ? 3 : 2)) {
		fprintf(stderr, "usage: slowfs MOUNTPOINT [--allow-other]\n");
		return 2;
	}
	/* A signal to the group that the tests are in must not leave a mount behind; the end of input is enough. */
	setsid();
	for (const int *s = (const int[]){SIGINT, SIGTERM, SIGHUP, SIGPIPE, 0}; *s != 0; s++)
		signal(*s, SIG_IGN);
	close_range(STDERR_FILENO + 1, ~0U, 0);
	make_root();
	if (!mount_it(argv[1], allow_other)) {
		dprintf(STDOUT_FILENO, "error %s\n", last_words);
		return 1;
	}
	say("ready");
	loop(parent);
	if (connected)
		break_connection();
	fuse_session_unmount(session);
	fuse_session_destroy(session);
	return 0;
}
