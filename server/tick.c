/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/tick.h"

#include <signal.h>
#include <stdbool.h>
#include <sys/time.h>

enum {
	GUARD_US = 100 * 1000,
	HURRY_US = 1000,
	TICKS_UNUSED = 3, /* after so many it is stopped */
};

static volatile sig_atomic_t ticks;
static bool running;
static int used_at; /* the tick at which it was needed last */

static void on_alarm(int signo)
{
	(void)signo;
	ticks = (ticks + 1) & 0xffff;
}

void tick_init(void)
{
	const struct sigaction sa = {.sa_handler = on_alarm}; /* no SA_RESTART */

	sigaction(SIGALRM, &sa, NULL);
}

/* It repeats, since the first signal may come before the call has begun to wait. */
static void set_interval(long us)
{
	const struct itimerval it = {.it_interval.tv_usec = us, .it_value.tv_usec = us};

	setitimer(ITIMER_REAL, &it, NULL);
}

void tick_guard(void)
{
	used_at = ticks;
	if (running)
		return;
	running = true;
	set_interval(GUARD_US);
}

void tick_hurry(void)
{
	set_interval(HURRY_US);
}

void tick_relax(void)
{
	running = false;
	tick_guard();
}

void tick_rest(void)
{
	if (!running || ((ticks - used_at) & 0xffff) < TICKS_UNUSED)
		return;
	running = false;
	set_interval(0);
}
