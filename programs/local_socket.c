/* See local_socket.h. */
#include "programs/local_socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 16

static int make_folder(const char *path, const char *key, struct foil_error *err)
{
	char folder[sizeof(((struct sockaddr_un *)0)->sun_path)];
	for (size_t i = 1; path[i]; i++) {
		if (path[i] != '/')
			continue;
		memcpy(folder, path, i);
		folder[i] = 0;
		if (mkdir(folder, 0700) < 0 && errno != EEXIST)
			return foil_error_set(err, -errno, "%s: cannot make the folder %s: %s", key, folder, strerror(errno));
	}
	return 0;
}

static int new_socket(struct foil_error *err)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return fd < 0 ? foil_error_set(err, -errno, "cannot make a socket: %s", strerror(errno)) : fd;
}

/* A socket file without a process behind it is left from one that died. */
static int remove_stale(const struct sockaddr_un *a, const char *key, struct foil_error *err)
{
	struct stat st;
	if (lstat(a->sun_path, &st) < 0)
		return 0; /* bind says it if it is more than missing */
	if (!S_ISSOCK(st.st_mode))
		return foil_error_set(err, -EEXIST, "%s: %s exists and is no socket; remove it, or name another path", key, a->sun_path);
	int fd = new_socket(err);
	if (fd < 0)
		return fd;
	int rc = connect(fd, (const struct sockaddr *)a, sizeof(*a)) < 0 ? -errno : 0;
	(void)close(fd); /* was only to ask */
	if (rc == 0 || rc == -EAGAIN)
		return foil_error_set(err, -EADDRINUSE, "%s: another process listens at %s; stop it, or name another path", key, a->sun_path);
	(void)unlink(a->sun_path); /* bind says it if that failed */
	return 0;
}

int local_socket_listen(const char *path, const char *key, struct foil_error *err)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	if (path[0] != '/' || strlen(path) >= sizeof(a.sun_path))
		return foil_error_set(err, -EINVAL, "%s: \"%s\" is no absolute path of at most %zu bytes", key, path, sizeof(a.sun_path) - 1);
	memcpy(a.sun_path, path, strlen(path) + 1);
	int rc = make_folder(path, key, err);
	if (rc == 0)
		rc = remove_stale(&a, key, err);
	int fd = rc == 0 ? new_socket(err) : rc;
	if (fd < 0)
		return fd;
	mode_t before = umask(0117);
	rc = bind(fd, (const struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, BACKLOG) < 0 ? -errno : 0;
	(void)umask(before);
	if (rc < 0) {
		(void)close(fd); /* nothing was sent */
		return foil_error_set(err, rc, "%s: cannot listen at %s: %s", key, path, strerror(-rc));
	}
	return fd;
}
