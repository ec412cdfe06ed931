/* The log of a program, see log.h. One write(2) a line, so that lines of several processes in one file do not mix. */
#include "programs/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int fd = STDERR_FILENO;
static char path_now[256] = "-";

int log_open(const char *path)
{
	int new_fd = STDERR_FILENO;
	if (strcmp(path, "-") != 0) {
		new_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
		if (new_fd < 0)
			return -errno;
	}
	log_close();
	fd = new_fd;
	(void)snprintf(path_now, sizeof(path_now), "%s", path); /* the node file bounds it */
	return 0;
}

void log_reopen(void)
{
	char path[sizeof(path_now)];
	memcpy(path, path_now, sizeof(path));
	if (log_open(path) < 0)
		log_line(LOG_LEVEL_ERROR, "log.reopen", "%s: %s; going on with the old file", path, strerror(errno));
}

void log_close(void)
{
	if (fd != STDERR_FILENO)
		(void)close(fd); /* nothing can be done about it */
	fd = STDERR_FILENO;
}

void log_line(enum log_level level, const char *event, const char *fmt, ...)
{
	static const char *const names[] = {"ERROR", "WARNING", "NOTICE"};
	char line[1400];
	struct timespec ts;
	struct tm tm;
	va_list ap;
	(void)clock_gettime(CLOCK_REALTIME, &ts); /* cannot fail with this clock */
	(void)gmtime_r(&ts.tv_sec, &tm);
	size_t n = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
	n += (size_t)snprintf(line + n, sizeof(line) - n, ".%03ldZ %s %s ", ts.tv_nsec / 1000000, names[level], event);
	va_start(ap, fmt);
	int m = vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	va_end(ap);
	n += m < 0 ? 0 : (size_t)m < sizeof(line) - n - 1 ? (size_t)m : sizeof(line) - n - 2;
	line[n++] = '\n';
	if (write(fd, line, n) < 0)
		return; /* a full disk must not stop the data plane */
}
