/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/access.h"

bool access_allowed(const struct access *a, const struct owner *who)
{
	/* A sender outside our pid namespace has pid 0: ids could not be bound to its process. */
	if (who->pid == 0)
		return false;
	if (who->uid == 0 || who->uid == a->starter)
		return true;
	return who->uid == a->serving && who->uid != UID_UNMAPPED;
}
