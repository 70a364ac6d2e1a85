/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A bound on waits that a client can force upon a worker. O_NONBLOCK belongs to the open file description, so a client can
 * clear it between a look at it and the call that relied on it, and no look prevents that. While the tick runs, a signal
 * whose handler does nothing, and which does not restart calls, ends every such wait; what was moved until then counts.
 */
#ifndef SFD_TICK_H
#define SFD_TICK_H

/* Once, before the first guard: sets the handler of SIGALRM. */
void tick_init(void);

/* Before a call that may be made to wait: from now on a wait lasts 100 ms at most. Costs nothing while the tick runs. */
void tick_guard(void);

/* Before a call that is likely to wait, for 1 ms at most; tick_relax() afterwards. */
void tick_hurry(void);
void tick_relax(void);

/* In every round of the loop: stops a tick that nothing has needed for a while. */
void tick_rest(void);

#endif
