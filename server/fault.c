/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/fault.h"

#ifdef SFD_FAULTS

#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void fault_point(const char *name)
{
	const char *chosen = getenv("SENDFILED_FAULT"), *file = getenv("SENDFILED_FAULT_FILE");
	const size_t len = strlen(name);
	volatile bool spins;

	if (!chosen || !file || strncmp(chosen, name, len) != 0)
		return;
	spins = strcmp(chosen + len, ":spins") == 0;
	if ((chosen[len] != '\0' && !spins) || unlink(file) < 0)
		return;
	while (spins)
		;
	kill(getpid(), SIGKILL);
}

#endif
