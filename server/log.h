/* SPDX-License-Identifier: BSD-2-Clause */
/* One line at a time, to standard error or to the system log. */
#ifndef SFD_LOG_H
#define SFD_LOG_H

enum log_level {
	LOG_LEVEL_ERROR = 3, /* the numbers are those of syslog(3) */
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_INFO = 6,
};

/* Lines start with "sendfiled[NAME]: ". Until log_to_system() they go to standard error. */
void log_init(const char *name);

/* From now on to the system log (/dev/log). A line that it does not take at once is lost: nothing here waits for it. */
void log_to_system(void);

/*
 * What is not printable is escaped (escape.h). Never waits for whoever reads the log: a line that there is no room for is
 * counted, and the next one that there is room for says so. Leaves errno alone.
 */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
