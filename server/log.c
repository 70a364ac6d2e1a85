/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/log.h"

#include "server/escape.h"
#include "server/os/files.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	LINE_SIZE = 1024,
	PREFIX_SIZE = 128,
	FACILITY_DAEMON = 3 << 3, /* RFC 5424, 6.2.1 */
};

static char prefix[PREFIX_SIZE] = "sendfiled: ";
static int system_log; /* 0: standard error */

void log_init(const char *name)
{
	snprintf(prefix, sizeof prefix, "sendfiled[%.64s]: ", name);
}

void log_to_system(void)
{
	system_log = 1;
}

/* A socket for each line: lines are rare, and it survives a restart of the system log. */
static bool send_to_system(const char *line, size_t len)
{
	const struct sockaddr_un sa = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ssize_t n;

	if (fd < 0)
		return false;
	n = sendto(fd, line, len, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&sa, sizeof sa);
	close(fd);
	return n >= 0;
}

/*
 * Whoever reads standard error may have stopped to. Its flags are not ours to change: others have it open, too. One write,
 * so that the lines of several processes do not mix. (A file's disk may still make it wait.)
 */
static bool send_to_stderr(const char *line, size_t len)
{
	struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};

	if (os_is_pipe(STDERR_FILENO))
		return os_write_pipe(STDERR_FILENO, line, len) >= 0;
	if (send(STDERR_FILENO, line, len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return true;
	if (errno != ENOTSOCK)
		return false;
	if (poll(&p, 1, 0) > 0 && p.revents & POLLOUT)
		return write(STDERR_FILENO, line, len) >= 0;
	return false;
}

/* The text is escaped already. */
static bool put(enum log_level level, const char *text)
{
	char line[LINE_SIZE];
	int n = 0;

	if (system_log)
		n = snprintf(line, sizeof line, "<%d>", FACILITY_DAEMON | (int)level);
	n += snprintf(line + n, sizeof line - (size_t)n, "%s%s", prefix, text);
	if (n > LINE_SIZE - 2)
		n = LINE_SIZE - 2;
	if (system_log)
		return send_to_system(line, (size_t)n);
	line[n++] = '\n';
	return send_to_stderr(line, (size_t)n);
}

void log_line(enum log_level level, const char *format, ...)
{
	static unsigned long lost;
	char text[LINE_SIZE], escaped[LINE_SIZE - PREFIX_SIZE - 8];
	const int saved = errno;
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	if (lost > 0) {
		snprintf(escaped, sizeof escaped, "lines lost, because the log was full: %lu", lost);
		if (put(LOG_LEVEL_WARNING, escaped))
			lost = 0;
	}
	escape(escaped, sizeof escaped, text);
	if (!put(level, escaped))
		lost++;
	errno = saved;
}
