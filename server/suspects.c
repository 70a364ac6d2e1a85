/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/suspects.h"

/* The longest that what does not hang takes: tick.h ends other waits after 100 ms. */
static const uint64_t HANGS_NS = UINT64_C(200000000);

bool suspects_look(struct suspects *s, const struct suspects_view *view, uint64_t now_ns)
{
	if (now_ns < s->looked_ns + SUSPECTS_LOOK_NS)
		return false;
	s->looked_ns = now_ns;
	s->count = 0;
	for (unsigned i = 0; i < view->count && s->count < SUSPECTS_MAX; i++) {
		struct stats *column = &view->columns[i];
		const uint64_t since = counter_get(&column->since_ns);
		const uid_t uid = (uid_t)(counter_get(&column->client) >> 32);

		if (i == view->own || since == 0 || now_ns <= since + HANGS_NS || suspects_have(s, uid))
			continue;
		if (!share_is_exempt(view->shares, uid) && shares_have_others(view->shares, uid, now_ns))
			s->uids[s->count++] = uid;
	}
	return true;
}
