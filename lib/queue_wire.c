/* SPDX-License-Identifier: BSD-2-Clause */
/* A queue and the daemon: what is sent to its socket, and what is read from the channel. */
#include "fdmsg.h"
#include "queue.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

/* What goes away by itself. POLLOUT tells of EAGAIN only; all others are tried again after a while. */
static bool must_wait(int err)
{
	return err == EAGAIN || err == EINTR || err == ETOOMANYREFS || err == ENOBUFS || err == ENOMEM ||
	       err == EMFILE || err == ENFILE;
}

static void close_one(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void close_channel(struct sfd_queue *q)
{
	if (q->channel >= 0)
		ready_unwatch(&q->ready, q->channel);
	close_one(&q->channel);
}

/* ---- Registering */

/* What the answer to the registration comes by. */
static int make_pair(struct sfd_queue *q, int *theirs)
{
	int ends[2];

	if (getrandom(&q->id, sizeof q->id, GRND_NONBLOCK) != sizeof q->id)
		return errno;
	q->id |= q->id == 0;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
		return errno;
	q->channel = ends[0];
	*theirs = ends[1];
	return ready_watch(&q->ready, q->channel) < 0 ? errno : 0;
}

static int send_registration(const struct sfd_queue *q, int theirs)
{
	struct wire_request r = {.op = WIRE_OP_REGISTER, .length = q->slots.depth};
	struct wire_header h = {
		.version = WIRE_VERSION,
		.count = 1,
		.channel = WIRE_CHANNEL_QUEUE,
		.queue_id = q->id,
	};
	unsigned char buf[WIRE_HEADER_SIZE + WIRE_REQUEST_SIZE];

	wire_put_header(buf, &h, sizeof buf);
	wire_put_request(buf + WIRE_HEADER_SIZE, &r);
	return fdmsg_send(q->srv, buf, sizeof buf, &theirs, 1) < 0 ? errno : 0;
}

/*
 * Their end is closed in any case, and made again the next time: the daemon is to have the only one, so that we see it go;
 * a child that is forked meanwhile would keep a copy.
 */
int queue_register(struct sfd_queue *q)
{
	int theirs = -1;
	int err = make_pair(q, &theirs);

	if (err == 0)
		err = send_registration(q, theirs);
	close_one(&theirs);
	if (err == 0)
		q->state = QUEUE_ASKED;
	else
		close_channel(q);
	return err;
}

/* The end of the channel, before the daemon's consent: a worker died with the only copy of the other end. */
static void register_anew(struct sfd_queue *q)
{
	close_channel(q);
	q->state = QUEUE_NEW;
	if (++q->tries >= REGISTER_TRIES_MAX)
		queue_end(q, SFD_STAT_WORKER_DIED, ECONNREFUSED);
	else if (q->tries < REGISTER_TRIES_AT_ONCE)
		queue_push(q);
	else
		ready_wait(&q->ready); /* something is wrong there: not too fast */
}

/* ---- Sending */

/* Ends a staged request on its own. */
static void fail_staged(struct sfd_queue *q, uint32_t i, int err)
{
	const uint32_t slot = q->stage.line[i].slot;

	stage_drop(&q->stage, i);
	if (q->slots.all[slot].state == SLOT_STAGED) {
		slots_end(&q->slots, slot, err);
	} else {
		/* A send-open: the daemon has the file open, and is told to let go; see cancel_stat() in queue.c. */
		q->slots.all[slot].second_staged = false;
		q->slots.all[slot].stat = err;
		queue_cancel_later(q, slot);
	}
}

static bool is_closed(const struct staged *e)
{
	for (unsigned i = 0; i < WIRE_REQUEST_FDS_MAX; i++) {
		if (e->fds[i] >= 0 && fcntl(e->fds[i], F_GETFD) < 0)
			return true;
	}
	return false;
}

/* Ends those of which a descriptor has been closed meanwhile. False if there is none. */
static bool drop_closed(struct sfd_queue *q, const struct stage_batch *b)
{
	bool found = false;

	for (uint32_t i = q->stage.first; i < b->end; i++) {
		const struct staged *e = &q->stage.line[i];

		if (e->dropped || !is_closed(e))
			continue;
		fail_staged(q, i, EBADF);
		found = true;
	}
	return found;
}

/* The one live request of a batch. */
static uint32_t only_one(const struct sfd_queue *q)
{
	uint32_t i = q->stage.first;

	while (q->stage.line[i].dropped)
		i++;
	return i;
}

/* What concerns the socket or the system, and not what is sent there. */
static bool concerns_all(int err)
{
	return must_wait(err) || err == ECONNREFUSED || err == ENOTCONN || err == ECONNRESET || err == EPIPE ||
	       err == ENOTSOCK || err == EBADF || err == EDESTADDRREQ || err == ENOENT;
}

/*
 * A datagram may be refused for one of the descriptors (EINVAL: an io_uring's), or for its size, if somebody has made the
 * socket's buffer small. Then smaller ones are sent until it is known which request that is, and that one ends.
 */
int queue_send_staged(struct sfd_queue *q, int *err)
{
	struct stage_batch b;
	unsigned most = WIRE_COUNT_MAX;
	int sent = 0;

	*err = 0;
	while (q->stage.live > 0) {
		stage_collect(&q->stage, q->id, most, &b);
		if (fdmsg_send_pieces(q->srv, b.iov, b.pieces, b.fds, b.nfds) == 0) {
			stage_sent(&q->stage, &b);
			sent += (int)b.count;
		} else if (errno == EINTR || (errno == EBADF && drop_closed(q, &b))) {
			continue;
		} else if (concerns_all(errno)) {
			*err = errno;
			break;
		} else if (b.count > 1) {
			most = b.count / 2;
		} else {
			fail_staged(q, only_one(q), errno);
			most = WIRE_COUNT_MAX;
		}
	}
	return sent;
}

/* ---- Cancels */

void queue_cancel_later(struct sfd_queue *q, uint32_t i)
{
	struct slot *slot = &q->slots.all[i];

	if (slot->cancel_waits)
		return;
	slot->cancel_waits = true;
	slot->prev_cancel = SLOT_NONE;
	slot->next_cancel = q->first_cancel;
	if (slot->next_cancel != SLOT_NONE)
		q->slots.all[slot->next_cancel].prev_cancel = i;
	q->first_cancel = i;
}

void queue_cancel_no_more(struct sfd_queue *q, uint32_t i)
{
	struct slot *slot = &q->slots.all[i];

	if (!slot->cancel_waits)
		return;
	slot->cancel_waits = false;
	if (slot->prev_cancel == SLOT_NONE)
		q->first_cancel = slot->next_cancel;
	else
		q->slots.all[slot->prev_cancel].next_cancel = slot->next_cancel;
	if (slot->next_cancel != SLOT_NONE)
		q->slots.all[slot->next_cancel].prev_cancel = slot->prev_cancel;
}

/* One datagram of them, `most` at most. 0, or an errno. */
static int send_cancels(struct sfd_queue *q, unsigned most)
{
	_Alignas(8) unsigned char buf[WIRE_HEADER_SIZE + WIRE_COUNT_MAX * WIRE_REQUEST_SIZE];
	struct wire_header h = {.version = WIRE_VERSION, .channel = WIRE_CHANNEL_QUEUE, .queue_id = q->id};
	size_t total = WIRE_HEADER_SIZE;
	uint32_t i = q->first_cancel;

	for (; i != SLOT_NONE && h.count < most; i = q->slots.all[i].next_cancel) {
		struct wire_request r = {.op = WIRE_OP_CANCEL, .tag = slots_tag(&q->slots, i)};

		wire_put_request(buf + total, &r);
		total += WIRE_REQUEST_SIZE;
		h.count++;
	}
	wire_put_header(buf, &h, total);
	if (fdmsg_send(q->srv, buf, total, NULL, 0) < 0)
		return errno;
	while (q->first_cancel != i)
		queue_cancel_no_more(q, q->first_cancel);
	return 0;
}

/* All of them. 0, or an errno. */
static int push_cancels(struct sfd_queue *q)
{
	unsigned most = WIRE_COUNT_MAX;

	while (q->first_cancel != SLOT_NONE) {
		int err = send_cancels(q, most);

		if (err != 0 && err != EINTR && (concerns_all(err) || most == 1))
			return err;
		if (err != 0 && err != EINTR)
			most /= 2; /* the socket's buffer is small */
	}
	return 0;
}

void queue_push(struct sfd_queue *q)
{
	const bool is_new = q->state == QUEUE_NEW;
	int err;

	if (!(is_new || (q->state == QUEUE_OPEN && q->first_cancel != SLOT_NONE)) || !ready_is_time(&q->ready))
		return;
	ready_stop_waiting(&q->ready); /* until it turns out that there is still a reason to */
	err = is_new ? queue_register(q) : push_cancels(q);
	if (err == 0 || err == EAGAIN)
		return;
	if (is_new && !must_wait(err))
		queue_end(q, SFD_STAT_WORKER_DIED, err); /* the daemon has gone, say, before it knew of us */
	else
		ready_wait(&q->ready);
}

/* ---- Reading */

static void end_of_channel(struct sfd_queue *q)
{
	if (q->state == QUEUE_ASKED || q->state == QUEUE_REGISTERED) {
		register_anew(q);
		return;
	}
	queue_end(q, SFD_STAT_WORKER_DIED, ECONNREFUSED);
}

static int take_descriptor(struct msghdr *msg)
{
	int fd = -1;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof fd))
			memcpy(&fd, CMSG_DATA(c), sizeof fd);
	}
	return fd;
}

/* The answer to the registration: the channel, or a refusal, which is left to be read. True if there is more to read. */
static bool take_channel(struct sfd_queue *q)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = {.iov_base = q->records, .iov_len = WIRE_RECORD_MAX};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof control,
	};
	ssize_t n;
	int fd;

	do
		n = recvmsg(q->channel, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && (errno == EINTR || errno == ECONNRESET));
	if (n < 0)
		return false;
	fd = take_descriptor(&msg);
	if (fd < 0 && n > 0 && !(msg.msg_flags & MSG_CTRUNC)) {
		q->lengths[q->count++] = (unsigned)n;
		return false;
	}
	close_channel(q);
	q->channel = fd;
	q->state = QUEUE_REGISTERED;
	if (fd < 0 || ready_watch(&q->ready, fd) < 0) {
		if (n > 0)
			ready_wait(&q->ready); /* there was no descriptor, or no memory, to be had here */
		register_anew(q);
		return false;
	}
	return true;
}

/* Reads what records there are, up to a number, with one call. */
static void read_records(struct sfd_queue *q)
{
	struct mmsghdr messages[RECORDS_PER_READ];
	struct iovec iov[RECORDS_PER_READ];
	int n;

	q->count = q->current = q->at = 0;
	q->more = false;
	if (q->channel < 0 || (q->state == QUEUE_ASKED && !take_channel(q)))
		return;
	memset(messages, 0, sizeof messages);
	for (unsigned i = 0; i < RECORDS_PER_READ; i++) {
		iov[i] = (struct iovec){
			.iov_base = q->records + (size_t)i * WIRE_RECORD_MAX, .iov_len = WIRE_RECORD_MAX};
		messages[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1};
	}
	do
		n = recvmmsg(q->channel, messages, RECORDS_PER_READ, MSG_DONTWAIT, NULL);
	while (n < 0 &&
		(errno == EINTR || errno == ECONNRESET)); /* reset: said once; what came before is there still */
	for (int i = 0; i < n && messages[i].msg_len > 0; i++)
		q->lengths[q->count++] = messages[i].msg_len;
	if (n > (int)q->count && q->count == 0)
		end_of_channel(q);
	else
		q->more = n > (int)q->count || n == RECORDS_PER_READ;
}

static bool next_read(struct sfd_queue *q, struct wire_note *note, struct sfd_file_info *info)
{
	while (q->current < q->count) {
		const unsigned char *record = q->records + (size_t)q->current * WIRE_RECORD_MAX;
		size_t n = wire_get_note(record + q->at, q->lengths[q->current] - q->at, note, info);

		q->at += (unsigned)n;
		if (n == 0 || q->at >= q->lengths[q->current]) {
			q->current++;
			q->at = 0;
		}
		if (n > 0)
			return true;
	}
	return false;
}

bool queue_next_note(struct sfd_queue *q, struct wire_note *note, struct sfd_file_info *info)
{
	if (next_read(q, note, info))
		return true;
	read_records(q);
	return next_read(q, note, info);
}

bool queue_is_drained(const struct sfd_queue *q)
{
	return q->current == q->count && !q->more;
}

/* ---- Turns of fate */

void queue_open(struct sfd_queue *q)
{
	if (q->state == QUEUE_REGISTERED)
		q->state = QUEUE_OPEN;
}

void queue_end(struct sfd_queue *q, int stat, int err)
{
	/* First of all, so that no other daemon can take what is reported as ended. */
	close_channel(q);
	q->state = QUEUE_ENDED;
	q->ended_by = err;
	q->count = q->current = q->at = 0;
	q->more = q->refused = false;
	stage_drop_all(&q->stage);
	while (q->first_cancel != SLOT_NONE)
		queue_cancel_no_more(q, q->first_cancel);
	for (uint32_t i = 0; i < q->slots.depth; i++) {
		if (q->slots.all[i].state == SLOT_STAGED || q->slots.all[i].state == SLOT_SENT)
			slots_end(&q->slots, i, stat);
	}
}

void queue_show(struct sfd_queue *q)
{
	const bool blocked =
		q->state == QUEUE_NEW || (q->state == QUEUE_OPEN && (q->refused || q->first_cancel != SLOT_NONE));

	if (!blocked)
		ready_stop_waiting(&q->ready);
	ready_want_room(&q->ready, blocked && !q->ready.waits);
}
