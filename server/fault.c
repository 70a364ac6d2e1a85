/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/fault.h"

#ifdef SFD_FAULTS

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void fault_point(const char *name)
{
	const char *chosen = getenv("SENDFILED_FAULT"), *file = getenv("SENDFILED_FAULT_FILE");

	if (chosen && file && strcmp(chosen, name) == 0 && unlink(file) == 0)
		kill(getpid(), SIGKILL);
}

#endif
