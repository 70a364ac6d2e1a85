/* SPDX-License-Identifier: BSD-2-Clause */
/* One line at a time, to standard error or to the system log, or to the process that writes them for all others. */
#ifndef SFD_LOG_H
#define SFD_LOG_H

#include <stddef.h>

enum log_level {
	LOG_LEVEL_ERROR = 3, /* the numbers are those of syslog(3) */
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_INFO = 6,
};

enum { LOG_RECORD_MAX = 1024 };

/* Lines start with "sendfiled[NAME]: ". They go to standard error. */
void log_init(const char *name);

/* From now on to the system log (/dev/log). A line that it does not take at once is lost: nothing here waits for it. */
void log_to_system(void);

/* From now on to a writer: standard error is a socket that keeps records apart, and logger.c reads its other end. */
void log_to_writer(void);

/* In a process that was just forked: what was lost so far is its parent's to tell. */
void log_forked(void);

/* From now on to standard error, or to where they went before log_to_writer(). */
void log_directly(void);

/*
 * What is not printable is escaped (escape.h). Never waits for whoever reads the log: a line that there is no room for is
 * counted, and the next one that there is room for says so. Only a log that is a file may wait, for its disk, and where there
 * is a writer that does it. Leaves errno alone.
 */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * The same for a line that is finished, behind its priority as of RFC 5424, "<30>", and without its newline. Something else, which a
 * library wrote to standard error perhaps, goes as it is.
 */
void log_record(const char *record, size_t n);

#endif
