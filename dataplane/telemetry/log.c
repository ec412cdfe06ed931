/* Where access log lines go: a file or standard output, opened for append, opened again after rotation. Bytes wait in one bounded buffer.
 * Never waits: a pipe or terminal is written only when poll says that it takes PIPE_BUF bytes, a socket with MSG_DONTWAIT. An ordinary file is
 * written as it is: the page cache takes it. The program ignores SIGPIPE. Housekeeping only.
 * Invariant: the buffer's first byte is the next one to write, whatever was written of its line before. */
#include "dataplane/telemetry/tele_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_sink(const char *path, struct foil_error *err)
{
	int fd = strcmp(path, "-") == 0 ? fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3) :
					  open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
	if (fd < 0)
		return foil_error_set(err, -errno, "cannot open the access log %s: %s%s", path, strerror(errno),
				      errno == ENXIO ? " (a FIFO needs a reader first)" : "");
	return fd;
}

static void set_sink(struct tele_log *log, int fd)
{
	struct stat st;
	if (log->fd >= 0)
		(void)close(log->fd); /* what the kernel took is the kernel's */
	log->fd = fd;
	bool is_known = fstat(fd, &st) == 0;
	log->is_regular = is_known && S_ISREG(st.st_mode);
	log->is_socket = is_known && S_ISSOCK(st.st_mode);
	log->is_failing = false;
}

int tele_log_open(struct tele_shared *s, const char *path, struct foil_error *err)
{
	struct tele_log *log = &s->log;
	uint64_t *cells = tele_shared_counters(s, FOIL_ROOM_TELE);
	if (!path || !path[0]) {
		(void)tele_log_flush(log, cells); /* what does not go now is lost: there is no log any more */
		tele_log_close(log);
		return 0;
	}
	if (strlen(path) >= sizeof(log->path))
		return foil_error_set(err, -ENAMETOOLONG, "the access log's path has more than %zu bytes", sizeof(log->path) - 1);
	int fd = open_sink(path, err);
	if (fd < 0)
		return fd;
	(void)tele_log_flush(log, cells); /* the rest goes to the new sink */
	set_sink(log, fd);
	if (path != log->path)
		memcpy(log->path, path, strlen(path) + 1);
	return 0;
}

int tele_log_reopen(struct tele_shared *s, struct foil_error *err)
{
	return s->log.path[0] ? tele_log_open(s, s->log.path, err) : 0;
}

/* How much may be handed over now without waiting: 0 = nothing. */
static size_t takes_now(const struct tele_log *log)
{
	struct pollfd p = {.fd = log->fd, .events = POLLOUT};
	if (log->is_regular || log->is_socket)
		return log->n_bytes;
	if (poll(&p, 1, 0) != 1 || !(p.revents & (POLLOUT | POLLERR)))
		return 0;
	return FOIL_MIN(log->n_bytes, (size_t)PIPE_BUF);
}

bool tele_log_flush(struct tele_log *log, uint64_t *cells)
{
	size_t at = 0, n_all = log->n_bytes;
	if (log->fd < 0)
		return n_all == 0;
	while (log->n_bytes) {
		size_t n = takes_now(log);
		if (!n)
			break;
		ssize_t done = log->is_socket ? send(log->fd, log->data + at, n, MSG_DONTWAIT | MSG_NOSIGNAL) : write(log->fd, log->data + at, n);
		if (done < 0 && errno == EINTR)
			continue;
		log->is_failing = done < 0 && errno != EAGAIN;
		if (log->is_failing)
			tele_cell_add(&cells[TELE_CTR_ACCESS_LOG_ERRORS], 1);
		if (done <= 0)
			break;
		at += (size_t)done;
		log->n_bytes -= (size_t)done;
	}
	if (at && log->n_bytes)
		memmove(log->data, log->data + at, log->n_bytes);
	return log->n_bytes == 0;
}

void tele_log_close(struct tele_log *log)
{
	if (log->fd >= 0)
		(void)close(log->fd); /* what the kernel took is the kernel's */
	log->fd = -1;
	log->path[0] = 0;
	log->n_bytes = 0;
}
