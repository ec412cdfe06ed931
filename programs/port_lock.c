/* See port_lock.h. The socket is only a name: nobody talks over it. */
#include "programs/port_lock.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* The interface of an af_packet: or af_xdp: URI; false for every other. */
static bool iface_of(const char *uri, char *out, size_t n_out)
{
	if (strncmp(uri, "af_packet:", 10) != 0 && strncmp(uri, "af_xdp:", 7) != 0)
		return false;
	const char *at = strstr(uri, "iface=");
	if (!at)
		return false;
	at += 6;
	size_t n = strcspn(at, ",");
	if (n >= n_out)
		return false;
	memcpy(out, at, n);
	out[n] = 0;
	return true;
}

static pid_t holder(const struct sockaddr_un *addr, socklen_t n_addr)
{
	struct ucred cred = {0};
	socklen_t n = sizeof(cred);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return 0;
	if (connect(fd, (const struct sockaddr *)addr, n_addr) < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0)
		cred.pid = 0;
	(void)close(fd); /* nothing was sent */
	return cred.pid;
}

static int take(const char *iface, struct foil_error *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int n = snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1, "hydrofoil-port-%s", iface);
	socklen_t n_addr = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return foil_error_set(err, -errno, "no socket: %s", strerror(errno));
	if (bind(fd, (const struct sockaddr *)&addr, n_addr) == 0 && listen(fd, 1) == 0)
		return fd;
	int rc = -errno;
	(void)close(fd);
	if (rc != -EADDRINUSE)
		return foil_error_set(err, rc, "port %s: %s", iface, strerror(-rc));
	return foil_error_set(err, rc, "port %s: another hydrofoil (process %d) has it; stop that one, or give this node another port", iface,
			      (int)holder(&addr, n_addr));
}

int port_locks_take(struct port_locks *l, const struct node_conf *conf, struct foil_error *err)
{
	char iface[64];
	*l = (struct port_locks){0};
	for (uint16_t i = 0; i < conf->n_ports; i++) {
		if (!iface_of(conf->ports[i].uri, iface, sizeof(iface)))
			continue;
		int fd = take(iface, err);
		if (fd < 0) {
			port_locks_drop(l);
			return fd;
		}
		l->fds[l->n++] = fd;
	}
	return 0;
}

void port_locks_drop(struct port_locks *l)
{
	for (uint16_t i = 0; i < l->n; i++)
		(void)close(l->fds[i]); /* nothing can be done about it */
	l->n = 0;
}
