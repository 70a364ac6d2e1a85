/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/log.h"

#include "server/complaint.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	LINE_SIZE = 1024,
	FACILITY_DAEMON = 3 << 3, /* RFC 5424, 6.2.1 */
};

static char prefix[128] = "sendfiled: ";
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
static void send_to_system(const char *line, int len)
{
	const struct sockaddr_un sa = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return;
	sendto(fd, line, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&sa, sizeof sa);
	close(fd);
}

void log_line(enum log_level level, const char *format, ...)
{
	char line[LINE_SIZE];
	const int saved = errno;
	va_list ap;
	int n;

	if (system_log)
		n = snprintf(line, sizeof line, "<%d>", FACILITY_DAEMON | (int)level);
	else
		n = 0;
	n += snprintf(line + n, sizeof line - (size_t)n, "%s", prefix);
	va_start(ap, format);
	n += vsnprintf(line + n, sizeof line - (size_t)n, format, ap);
	va_end(ap);
	if (n > LINE_SIZE - 2)
		n = LINE_SIZE - 2;
	make_printable(line);
	if (system_log) {
		send_to_system(line, n);
	} else {
		line[n++] = '\n';
		/* One write, so that the lines of several processes do not mix. If it fails there is nobody to tell. */
		(void)!write(STDERR_FILENO, line, (size_t)n);
	}
	errno = saved;
}
