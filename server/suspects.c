/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/suspects.h"

/* The longest that what does not hang takes: tick.h ends other waits after 100 ms. */
static const uint64_t HANGS_NS = UINT64_C(200000000);

bool suspects_look(struct suspects *s, struct stats *columns, unsigned count, unsigned own, uint64_t now_ns)
{
	if (now_ns < s->looked_ns + SUSPECTS_LOOK_NS)
		return false;
	s->looked_ns = now_ns;
	s->count = 0;
	for (unsigned i = 0; i < count && s->count < SUSPECTS_MAX; i++) {
		const uint64_t since = counter_get(&columns[i].since_ns);
		const uid_t uid = (uid_t)(counter_get(&columns[i].client) >> 32);

		if (i != own && since != 0 && now_ns > since + HANGS_NS && !suspects_have(s, uid))
			s->uids[s->count++] = uid;
	}
	return true;
}
