/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/log.h"

#include "server/escape.h"
#include "server/os/files.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	PREFIX_SIZE = 128,
	FACILITY_DAEMON = 3 << 3, /* RFC 5424, 6.2.1 */
};

static char prefix[PREFIX_SIZE] = "sendfiled: ";
static bool has_writer, is_system_log;
static unsigned long lost; /* lines */

void log_init(const char *name)
{
	snprintf(prefix, sizeof prefix, "sendfiled[%.64s]: ", name);
}

void log_to_system(void)
{
	is_system_log = true;
}

void log_to_writer(void)
{
	has_writer = true;
}

void log_forked(void)
{
	lost = 0;
}

void log_directly(void)
{
	has_writer = false;
}

/* A socket for each line: lines are rare, and it survives a restart of the system log. */
static bool send_to_system(const char *record, size_t n)
{
	const struct sockaddr_un sa = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ssize_t sent;

	if (fd < 0)
		return false;
	sent = sendto(fd, record, n, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&sa, sizeof sa);
	close(fd);
	return sent >= 0;
}

/*
 * Whoever reads standard error may have stopped to. Its flags are not ours to change: others have it open, too. One write,
 * so that the lines of several processes do not mix. (A file's disk may still make it wait.)
 */
static bool send_to_stderr(const char *line, size_t n)
{
	struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};

	if (os_is_pipe(STDERR_FILENO))
		return os_write_pipe(STDERR_FILENO, line, n) >= 0;
	if (send(STDERR_FILENO, line, n, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return true;
	if (errno != ENOTSOCK)
		return false;
	if (poll(&p, 1, 0) > 0 && p.revents & POLLOUT)
		return write(STDERR_FILENO, line, n) >= 0;
	return false;
}

/* The size of what a record begins with, "<30>"; 0: with something else. */
static size_t priority_size(const char *record, size_t n)
{
	size_t at = 1;

	if (n == 0 || record[0] != '<')
		return 0;
	while (at < n && at <= 3 && record[at] >= '0' && record[at] <= '9')
		at++;
	return at > 1 && at < n && record[at] == '>' ? at + 1 : 0;
}

static bool put(const char *record, size_t n)
{
	char line[LOG_RECORD_MAX + 1];
	const size_t priority = priority_size(record, n);

	if (has_writer)
		return send(STDERR_FILENO, record, n, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
	if (is_system_log)
		return send_to_system(record, n);
	if (priority == 0)
		return send_to_stderr(record, n);
	if (n > LOG_RECORD_MAX)
		n = LOG_RECORD_MAX;
	memcpy(line, record + priority, n - priority);
	line[n - priority] = '\n';
	return send_to_stderr(line, n - priority + 1);
}

/* The text is escaped already. */
static size_t format_record(char *record, enum log_level level, const char *text)
{
	int n = snprintf(record, LOG_RECORD_MAX, "<%d>%s%s", FACILITY_DAEMON | (int)level, prefix, text);

	return n < LOG_RECORD_MAX ? (size_t)n : LOG_RECORD_MAX - 1;
}

void log_record(const char *record, size_t n)
{
	char text[64], before[LOG_RECORD_MAX];
	size_t len;

	if (lost > 0) {
		snprintf(text, sizeof text, "lines lost, because the log was full: %lu", lost);
		len = format_record(before, LOG_LEVEL_WARNING, text);
		if (put(before, len))
			lost = 0;
	}
	if (!put(record, n))
		lost++;
}

void log_line(enum log_level level, const char *format, ...)
{
	char text[LOG_RECORD_MAX], escaped[LOG_RECORD_MAX - PREFIX_SIZE - 8], record[LOG_RECORD_MAX];
	const int saved = errno;
	va_list ap;
	size_t n;

	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	escape(escaped, sizeof escaped, text);
	n = format_record(record, level, escaped);
	log_record(record, n);
	errno = saved;
}
