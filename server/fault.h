/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Places at which a test may have the process killed. In what is installed they are nothing; a daemon built with
 * -DSFD_FAULTS kills itself where $SENDFILED_FAULT says, once: if it could remove the file $SENDFILED_FAULT_FILE. With
 * ":spins" behind the place it goes round in circles there instead.
 */
#ifndef SFD_FAULT_H
#define SFD_FAULT_H

#ifdef SFD_FAULTS
void fault_point(const char *name);
#else
static inline void fault_point(const char *name)
{
	(void)name;
}
#endif

#endif
