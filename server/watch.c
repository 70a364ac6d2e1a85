/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/watch.h"

uint64_t watch_passed(uint64_t last_ns, uint64_t now_ns, uint64_t each_ns)
{
	return now_ns - last_ns < 2 * each_ns ? now_ns - last_ns : each_ns;
}

enum watch_verdict watch_judge(struct watch *w, const struct watch_query *look)
{
	struct os_process_view process;

	if (look->position == 0 || look->position != w->position) {
		*w = (struct watch){.position = look->position};
		return WATCH_WORKS;
	}
	if (w->silent_ns == 0 && look->look(look->pid, &process))
		w->cpu_ns = process.cpu_ns;
	w->silent_ns += look->passed_ns;
	if (look->patience_ns == 0 || w->silent_ns < look->patience_ns || !look->look(look->pid, &process))
		return WATCH_WORKS;
	if (process.is_uninterruptible)
		return WATCH_WAITS;
	/* Who had less did not get it, or waits for something that a signal ends. */
	return process.cpu_ns - w->cpu_ns >= w->silent_ns / 2 ? WATCH_SPINS : WATCH_WORKS;
}
