/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/notices.h"

#include "server/log.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

enum {
	BURST = 4, /* lines at once, of one user and kind, */
	EACH_S = 10,
	ALL_BURST = 32, /* and of all */
	ALL_EACH_S = 1,
	FLUSH_EACH_S = 10,
	FLUSH_LINES = 8,
};

static const uint64_t SECOND_NS = UINT64_C(1000000000);

static bool take(struct notice_bucket *b, unsigned burst, uint64_t each_ns, uint64_t now_ns)
{
	const uint64_t start = b->due_ns > now_ns ? b->due_ns : now_ns;

	if (start > now_ns + (burst - 1) * each_ns)
		return false;
	b->due_ns = start + each_ns;
	return true;
}

static const char *reason(enum notice_kind kind)
{
	switch (kind) {
	case NOTICE_REFUSED:
		return "it is not served, see --allow-user";
	case NOTICE_MALFORMED:
		return "its message cannot be read";
	default:
		return "it has its share, see --max-transfers-per-user";
	}
}

static const char *plural(uint64_t n)
{
	return n == 1 ? "" : "s";
}

/* The place of that user and kind. Who had it before gives it up: others are to be told of as well. */
static struct notice_place *find(struct notices *n, enum notice_kind kind, uid_t uid)
{
	struct notice_place *p = &n->places[((uint64_t)uid * NOTICE_KINDS + kind) % NOTICE_PLACES];

	if (p->uid == uid && p->kind == kind)
		return p;
	n->suppressed += p->suppressed;
	*p = (struct notice_place){.uid = uid, .kind = kind};
	return p;
}

void notices_add(struct notices *n, enum notice_kind kind, const struct owner *who, int err, uint64_t now_ns)
{
	struct notice_place *p = find(n, kind, who->uid);

	if (!take(&p->bucket, BURST, EACH_S * SECOND_NS, now_ns) ||
		!take(&n->all, ALL_BURST, ALL_EACH_S * SECOND_NS, now_ns)) {
		p->suppressed++;
		return;
	}
	log_line(LOG_LEVEL_WARNING, "refused uid %u (pid %d): %s: %s", (unsigned)who->uid, (int)who->pid, reason(kind),
		strerror(err));
}

void notices_flush(struct notices *n, uint64_t now_ns)
{
	unsigned lines = 0;

	if (now_ns < n->flush_ns)
		return;
	n->flush_ns = now_ns + FLUSH_EACH_S * SECOND_NS;
	for (unsigned i = 0; i < NOTICE_PLACES; i++) {
		struct notice_place *p = &n->places[i];

		if (p->suppressed > 0 && lines++ < FLUSH_LINES)
			log_line(LOG_LEVEL_WARNING, "refused uid %u: %s: suppressed %" PRIu64 " more line%s",
				(unsigned)p->uid, reason(p->kind), p->suppressed, plural(p->suppressed));
		else
			n->suppressed += p->suppressed;
		p->suppressed = 0;
	}
	if (n->suppressed > 0)
		log_line(LOG_LEVEL_WARNING, "refused others: suppressed %" PRIu64 " more line%s", n->suppressed,
			plural(n->suppressed));
	n->suppressed = 0;
}
