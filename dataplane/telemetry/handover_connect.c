/* The reader's end of the stats socket (handover.c): connects, takes the descriptor, checks what it can see of it. What is in the segment is
 * reader.c's to doubt. Blocks, within a time. */
#include "dataplane/telemetry/reader.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "dataplane/telemetry/handover_priv.h"

/* One message; fds beyond the one we want are closed. Returns the descriptor or -errno. */
static int receive(int fd, struct tele_handover *hello)
{
	struct iovec iov = {hello, sizeof(*hello)};
	union {
		char room[CMSG_SPACE(8 * sizeof(int))];
		struct cmsghdr align;
	} control = {{0}};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof(control.room)};
	ssize_t n;
	int got = -1;
	do
		n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	int why = n < 0 ? (errno == EAGAIN ? ETIMEDOUT : errno) : EPROTO;
	for (struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || c->cmsg_len < CMSG_LEN(0))
			continue;
		size_t n_fds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n_fds; i++) {
			int one;
			memcpy(&one, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (got < 0)
				got = one;
			else
				(void)close(one); /* not asked for */
		}
	}
	if (n == (ssize_t)sizeof(*hello) && got >= 0)
		return got;
	if (got >= 0)
		(void)close(got); /* came with something that is no hello */
	return -why;
}

int tele_handover_connect(const char *path, int timeout_ms, struct foil_error *err)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct timeval limit = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
	struct tele_handover hello = {0};
	if (strlen(path) >= sizeof(a.sun_path))
		return foil_error_set(err, -EINVAL, "the stats socket's path has more than %zu bytes", sizeof(a.sun_path) - 1);
	memcpy(a.sun_path, path, strlen(path) + 1);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return foil_error_set(err, -errno, "cannot make a socket: %s", strerror(errno));
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
	    connect(fd, (const struct sockaddr *)&a, sizeof(a)) < 0) {
		int why = errno;
		(void)close(fd); /* nothing was sent */
		return foil_error_set(err, -why, "no data plane at the stats socket %s: %s", path, strerror(why));
	}
	int got = receive(fd, &hello);
	(void)close(fd); /* it said all that it has to say */
	if (got < 0)
		return foil_error_set(err, got, "the stats socket %s gave no segment: %s", path, strerror(-got));
	if (hello.magic != TELE_SEGMENT_MAGIC || hello.abi != TELE_SEGMENT_ABI) {
		(void)close(got); /* not ours to read */
		return foil_error_set(err, -EPROTO, "the data plane at %s speaks ABI %u of the metrics segment, this reader %u; upgrade the older one",
				      path, hello.abi, TELE_SEGMENT_ABI);
	}
	return got;
}
