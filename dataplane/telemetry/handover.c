/* Hands the metrics segment to readers over a Unix socket: who connects gets one message, whose bytes say what it is and whose ancillary data is the
 * descriptor, and is closed. handover_connect.c is the other end. Housekeeping only; never blocks. */
#include "dataplane/telemetry/handover_priv.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 16
#define SERVED_A_TURN 16u

/* The folders above path, each 0700. Those that exist stay as they are. */
static int make_folder(const char *path, struct foil_error *err)
{
	char folder[sizeof(((struct sockaddr_un *)0)->sun_path)];
	for (size_t i = 1; path[i]; i++) {
		if (path[i] != '/')
			continue;
		memcpy(folder, path, i);
		folder[i] = 0;
		if (mkdir(folder, 0700) < 0 && errno != EEXIST)
			return foil_error_set(err, -errno, "cannot make the folder %s for the stats socket: %s", folder, strerror(errno));
	}
	return 0;
}

/* A socket file without a process behind it is left from one that died. */
static int remove_stale(const struct sockaddr_un *a, struct foil_error *err)
{
	struct stat st;
	if (lstat(a->sun_path, &st) < 0)
		return 0; /* bind says it if it is more than missing */
	if (!S_ISSOCK(st.st_mode))
		return foil_error_set(err, -EEXIST, "%s exists and is no socket; remove it or set stats_socket", a->sun_path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return foil_error_set(err, -errno, "cannot make a socket: %s", strerror(errno));
	int rc = connect(fd, (const struct sockaddr *)a, sizeof(*a)) < 0 ? -errno : 0;
	(void)close(fd); /* was only to ask */
	if (rc == 0 || rc == -EAGAIN)
		return foil_error_set(err, -EADDRINUSE, "another process serves %s; stop it or set stats_socket", a->sun_path);
	(void)unlink(a->sun_path); /* bind says it if that failed */
	return 0;
}

int tele_handover_listen(const char *path, struct foil_error *err)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	if (path[0] != '/' || strlen(path) >= sizeof(a.sun_path))
		return foil_error_set(err, -EINVAL, "stats_socket \"%s\" is no absolute path of at most %zu bytes", path, sizeof(a.sun_path) - 1);
	memcpy(a.sun_path, path, strlen(path) + 1);
	int rc = make_folder(path, err);
	if (rc == 0)
		rc = remove_stale(&a, err);
	if (rc < 0)
		return rc;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return foil_error_set(err, -errno, "cannot make a socket: %s", strerror(errno));
	mode_t before = umask(0117);
	rc = bind(fd, (const struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, BACKLOG) < 0 ? -errno : 0;
	(void)umask(before);
	if (rc < 0) {
		(void)close(fd); /* nothing was sent */
		return foil_error_set(err, rc, "cannot listen at %s: %s", path, strerror(-rc));
	}
	return fd;
}

static bool hand_over(int to, int segment_fd)
{
	struct tele_handover hello = {TELE_SEGMENT_MAGIC, TELE_SEGMENT_ABI, 0};
	struct iovec iov = {&hello, sizeof(hello)};
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {{0}};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof(control.room)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &segment_fd, sizeof(int));
	return sendmsg(to, &m, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof(hello);
}

unsigned int tele_handover_turn(int listen_fd, const struct tele_shared *s)
{
	unsigned int n = 0;
	for (unsigned int i = 0; i < SERVED_A_TURN; i++) {
		int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0)
			break;
		n += hand_over(fd, tele_segment_fd(s));
		(void)close(fd); /* a fresh socket's buffer took the message whole, or it is the reader's loss */
	}
	return n;
}
