/* The table: every member takes the lock, does its work in sockets.c, options.c or host.c, and turns -errno into errno. Here, too:
 * waiting, poll and epoll, and the clock's calls. See door.h for who moves the clock.
 *
 * packetdrill's %{ code }% asks getsockopt of the C library and not of the table, and so does its last close; with the library in
 * LD_PRELOAD, the two below answer for our descriptors. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "tests/packetdrill/door.h"

#define IDLE_CHECK_NS 1000000l /* real time */
#define IDLE_CHECKS 15         /* the main thread asleep for so long waits for our call */

static struct door *the_door; /* of getsockopt and close below */

static struct door *enter(void *ud)
{
	struct door *d = ud;

	atomic_fetch_add(&d->n_knocking, 1);
	pthread_mutex_lock(&d->lock);
	atomic_fetch_sub(&d->n_knocking, 1);
	foil_worker_set_current(&d->w);
	return d;
}

static long leave(struct door *d, long rc)
{
	pthread_mutex_unlock(&d->lock);
	if (rc >= 0)
		return rc;
	errno = (int)-rc;
	return -1;
}

/* The clock stands while a call that has become ready was not taken up. */
static void wait_for_waiter(struct door *d)
{
	while (d->wait_state == DOOR_READY && !pthread_equal(d->wait_thread, pthread_self()))
		pthread_cond_wait(&d->changed, &d->lock);
}

void door_check_waiter(struct door *d)
{
	if (d->wait_state != DOOR_WAITING || (!d->wait_ready(d, d->wait_arg) && d->w.now_us < d->wait_until_us))
		return;
	d->wait_state = DOOR_READY;
	pthread_cond_broadcast(&d->changed);
}

static bool main_is_asleep(const struct door *d)
{
	char path[64], text[256], *at;
	bool is_asleep = false;

	if (atomic_load(&d->n_knocking))
		return false;
	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", d->main_tid);
	FILE *f = fopen(path, "r");
	if (!f)
		return false;
	if (fgets(text, sizeof(text), f) && (at = strrchr(text, ')')) && strlen(at) > 2)
		is_asleep = at[2] == 'S';
	fclose(f);
	return is_asleep;
}

static void wait_in_second_thread(struct door *d)
{
	int n_idle = 0;

	while (d->wait_state == DOOR_WAITING) {
		struct timespec at;
		clock_gettime(CLOCK_REALTIME, &at);
		at.tv_nsec += IDLE_CHECK_NS;
		at.tv_sec += at.tv_nsec / 1000000000;
		at.tv_nsec %= 1000000000;
		if (pthread_cond_timedwait(&d->changed, &d->lock, &at) != ETIMEDOUT || d->wait_state != DOOR_WAITING)
			continue;
		n_idle = main_is_asleep(d) ? n_idle + 1 : 0;
		if (n_idle < IDLE_CHECKS)
			continue;
		if (!door_step(d, FOIL_MIN(d->wait_until_us, d->w.now_us + DOOR_WAIT_US_MAX)) && d->wait_until_us == UINT64_MAX)
			door_die(d, "a call waits for what never comes");
		if (d->wait_state == DOOR_WAITING && d->wait_until_us != UINT64_MAX && foil_wheel_next_us(&d->w) > d->wait_until_us)
			door_advance(d, d->wait_until_us);
	}
}

bool door_wait(struct door *d, door_ready_fn ready, void *arg, uint64_t until_us)
{
	if (ready(d, arg))
		return true;
	if (pthread_equal(pthread_self(), d->main_thread)) {
		uint64_t limit_us = d->w.now_us + DOOR_WAIT_US_MAX;
		while (!ready(d, arg) && d->w.now_us < until_us)
			if (!door_step(d, FOIL_MIN(until_us, limit_us))) {
				if (until_us > limit_us)
					door_die(d, "a call of the main thread waits for what never comes");
				door_advance(d, until_us);
			}
		return ready(d, arg);
	}
	d->wait_ready = ready;
	d->wait_arg = arg;
	d->wait_until_us = until_us;
	d->wait_thread = pthread_self();
	d->wait_state = DOOR_WAITING;
	pthread_cond_broadcast(&d->changed); /* a call that waits again: the clock may go on */
	wait_in_second_thread(d);
	return ready(d, arg); /* the state stays DOOR_READY until this thread looks at the clock: see p_gettimeofday */
}

/* ---- the clock and the wire ---- */

static int p_gettimeofday(void *ud, struct timeval *tv, struct timezone *tz)
{
	struct door *d = enter(ud);

	if (d->wait_state == DOOR_READY && pthread_equal(d->wait_thread, pthread_self())) {
		d->wait_state = DOOR_NOT_WAITING;
		pthread_cond_broadcast(&d->changed);
	} else {
		wait_for_waiter(d);
		door_advance(d, d->w.now_us + 1);
	}
	tv->tv_sec = (time_t)(d->w.now_us / 1000000);
	tv->tv_usec = (suseconds_t)(d->w.now_us % 1000000);
	return (int)leave(d, 0);
}

static int p_usleep(void *ud, useconds_t us)
{
	struct door *d = enter(ud);
	uint64_t to_us = d->w.now_us + us;

	do {
		wait_for_waiter(d);
		door_advance(d, to_us);
	} while (d->w.now_us < to_us);
	return (int)leave(d, 0);
}

static int p_netdev_send(void *ud, const void *packet, size_t n)
{
	struct door *d = enter(ud);

	door_host_up(d); /* a script may begin by a segment for a socket that neither listens nor connects */
	return (int)leave(d, door_host_input(d, packet, n));
}

static int p_netdev_receive(void *ud, void *packet, size_t *count, long long *time_usecs)
{
	struct door *d = enter(ud);
	uint64_t limit_us = d->w.now_us + DOOR_WAIT_US_MAX;

	while (!d->out_head) {
		wait_for_waiter(d);
		if (!d->out_head && !door_step(d, limit_us))
			door_die(d, "the script expects a packet and none will come");
	}
	struct door_packet *p = d->out_head;
	d->out_head = p->next;
	if (!d->out_head)
		d->out_tail = &d->out_head;
	*count = FOIL_MIN(*count, (size_t)p->n_bytes);
	memcpy(packet, p->data, *count);
	*time_usecs = (long long)p->at_us;
	free(p);
	return (int)leave(d, 0);
}

/* ---- sockets ---- */

static int p_socket(void *ud, int domain, int type, int protocol)
{
	struct door *d = enter(ud);

	return (int)leave(d, door_socket(d, domain, type, protocol));
}

static int p_bind(void *ud, int fd, const struct sockaddr *addr, socklen_t n)
{
	struct door *d = enter(ud);

	return (int)leave(d, door_bind(d, fd, addr, n));
}

static int p_listen(void *ud, int fd, int backlog)
{
	struct door *d = enter(ud);

	return (int)leave(d, door_listen(d, fd, backlog));
}

static int p_accept(void *ud, int fd, struct sockaddr *addr, socklen_t *n)
{
	struct door *d = enter(ud);

	return (int)leave(d, door_accept(d, fd, addr, n));
}

static int p_connect(void *ud, int fd, const struct sockaddr *addr, socklen_t n)
{
	struct door *d = enter(ud);

	return (int)leave(d, door_connect(d, fd, addr, n));
}

static ssize_t p_recvmsg(void *ud, int fd, struct msghdr *msg, int flags)
{
	struct door *d = enter(ud);
	ssize_t n = door_recv(d, fd, msg->msg_iov, (int)msg->msg_iovlen, flags);

	msg->msg_flags = 0;
	msg->msg_controllen = 0;
	msg->msg_namelen = 0;
	return leave(d, n);
}

static ssize_t p_readv(void *ud, int fd, const struct iovec *iov, int n)
{
	struct door *d = enter(ud);

	return leave(d, door_recv(d, fd, iov, n, 0));
}

static ssize_t p_recv(void *ud, int fd, void *buf, size_t n, int flags)
{
	struct door *d = enter(ud);
	struct iovec iov = {buf, n};

	return leave(d, door_recv(d, fd, &iov, 1, flags));
}

static ssize_t p_read(void *ud, int fd, void *buf, size_t n)
{
	return p_recv(ud, fd, buf, n, 0);
}

static ssize_t p_recvfrom(void *ud, int fd, void *buf, size_t n, int flags, struct sockaddr *addr, socklen_t *n_addr)
{
	if (n_addr)
		*n_addr = 0; /* a stream names no sender */
	return p_recv(ud, fd, buf, n, flags);
}

static ssize_t p_sendmsg(void *ud, int fd, const struct msghdr *msg, int flags)
{
	struct door *d = enter(ud);

	return leave(d, door_send(d, fd, msg->msg_iov, (int)msg->msg_iovlen, flags));
}

static ssize_t p_writev(void *ud, int fd, const struct iovec *iov, int n)
{
	struct door *d = enter(ud);

	return leave(d, door_send(d, fd, iov, n, 0));
}

static ssize_t p_send(void *ud, int fd, const void *buf, size_t n, int flags)
{
	struct door *d = enter(ud);
	struct iovec iov = {(void *)(uintptr_t)buf, n};

	return leave(d, door_send(d, fd, &iov, 1, flags));
}

static ssize_t p_write(void *ud, int fd, const void *buf, size_t n)
{
	return p_send(ud, fd, buf, n, 0);
}

static ssize_t p_sendto(void *ud, int fd, const void *buf, size_t n, int flags, const struct sockaddr *addr, socklen_t n_addr)
{
	return p_send(ud, fd, buf, n, flags);
}

static int p_fcntl(void *ud, int fd, int cmd, ...)
{
	struct door *d = enter(ud);
	struct door_sock *k = door_sock_of(d, fd);
	va_list args;

	va_start(args, cmd);
	int flags = cmd == F_SETFL ? va_arg(args, int) : 0;
	va_end(args);
	if (!k)
		return (int)leave(d, -EBADF);
	if (cmd == F_SETFL) {
		k->nonblock = (flags & O_NONBLOCK) != 0;
		return (int)leave(d, 0);
	}
	return (int)leave(d, cmd == F_GETFL ? O_RDWR | (k->nonblock ? O_NONBLOCK : 0) : -EINVAL);
}

static int p_ioctl(void *ud, int fd, unsigned long request, ...)
{
	struct door *d = enter(ud);
	va_list args;

	va_start(args, request);
	int *value = va_arg(args, int *);
	va_end(args);
	return (int)leave(d, door_ioctl(d, fd, request, value));
}

static int p_close(void *ud, int fd)
{
	struct door *d = enter(ud);

	return (int)leave(d, door_close(d, fd));
}

static int p_shutdown(void *ud, int fd, int how)
{
	struct door *d = enter(ud);

	return (int)leave(d, door_shutdown(d, fd, how));
}

static int p_getsockopt(void *ud, int fd, int level, int name, void *value, socklen_t *n)
{
	struct door *d = enter(ud);

	return (int)leave(d, door_getsockopt(d, fd, level, name, value, n));
}

static int p_setsockopt(void *ud, int fd, int level, int name, const void *value, socklen_t n)
{
	struct door *d = enter(ud);

	return (int)leave(d, door_setsockopt(d, fd, level, name, value, n));
}

int getsockopt(int fd, int level, int name, void *restrict value, socklen_t *restrict n)
{
	if (the_door && fd >= DOOR_FD_BASE && fd < DOOR_FD_BASE + DOOR_FDS_MAX)
		return p_getsockopt(the_door, fd, level, name, value, n);
	return (int)syscall(SYS_getsockopt, fd, level, name, value, n);
}

int close(int fd)
{
	if (the_door && fd >= DOOR_FD_BASE && fd < DOOR_FD_BASE + DOOR_FDS_MAX)
		return p_close(the_door, fd);
	return (int)syscall(SYS_close, fd);
}

/* ---- poll and epoll ---- */

struct polling {
	struct pollfd *fds;
	nfds_t n;
};

static int poll_now(struct door *d, struct polling *p)
{
	int n_ready = 0;

	for (nfds_t i = 0; i < p->n; i++) {
		const struct door_sock *k = door_sock_of(d, p->fds[i].fd);
		p->fds[i].revents = 0;
		if (p->fds[i].fd < 0)
			continue;
		p->fds[i].revents = k ? door_poll_events(k) & (p->fds[i].events | POLLERR | POLLHUP) : POLLNVAL;
		n_ready += p->fds[i].revents != 0;
	}
	return n_ready;
}

static bool poll_ready(struct door *d, void *arg)
{
	return poll_now(d, arg) > 0;
}

static uint64_t until(const struct door *d, int timeout_ms)
{
	return timeout_ms < 0 ? UINT64_MAX : d->w.now_us + (uint64_t)timeout_ms * 1000;
}

static int p_poll(void *ud, struct pollfd *fds, nfds_t n, int timeout_ms)
{
	struct door *d = enter(ud);
	struct polling p = {fds, n};

	if (timeout_ms)
		(void)door_wait(d, poll_ready, &p, until(d, timeout_ms)); /* poll_now says it again */
	return (int)leave(d, poll_now(d, &p));
}

static int p_epoll_create(void *ud, int size)
{
	struct door *d = enter(ud);

	return (int)leave(d, size > 0 ? door_fd_new(d, DOOR_EPOLL, 0) : -EINVAL);
}

static int epoll_change(struct door *d, struct door_sock *e, int op, int fd, const struct epoll_event *event)
{
	uint32_t at = 0;

	while (at < e->n_epoll && e->epoll[at].fd != fd)
		at++;
	if (!door_sock_of(d, fd))
		return -EBADF;
	if (op == EPOLL_CTL_ADD && at < e->n_epoll)
		return -EEXIST;
	if (op != EPOLL_CTL_ADD && at == e->n_epoll)
		return -ENOENT;
	if (at == FOIL_COUNT_OF(e->epoll))
		return -ENOSPC;
	if (op == EPOLL_CTL_DEL) {
		e->epoll[at] = e->epoll[--e->n_epoll];
		return 0;
	}
	if (op == EPOLL_CTL_ADD)
		e->n_epoll++;
	e->epoll[at].fd = fd;
	e->epoll[at].ev = *event;
	e->epoll[at].last = 0;
	return 0;
}

static int p_epoll_ctl(void *ud, int epfd, int op, int fd, struct epoll_event *event)
{
	struct door *d = enter(ud);
	struct door_sock *e = door_sock_of(d, epfd);

	if (!e)
		return (int)leave(d, -EBADF);
	if (e->kind != DOOR_EPOLL || (op != EPOLL_CTL_DEL && !event))
		return (int)leave(d, -EINVAL);
	return (int)leave(d, epoll_change(d, e, op, fd, event));
}

/* Edge-triggered entries tell only what was not so when they were looked at last. */
static int epoll_now(struct door *d, struct door_sock *e, struct epoll_event *events, int n_max, bool is_look)
{
	int n = 0;

	for (uint32_t i = 0; i < e->n_epoll && n < n_max; i++) {
		const struct door_sock *k = door_sock_of(d, e->epoll[i].fd);
		uint32_t now = k ? (uint16_t)door_poll_events(k) & (e->epoll[i].ev.events | EPOLLERR | EPOLLHUP) : 0;
		uint32_t told = e->epoll[i].ev.events & EPOLLET ? now & ~e->epoll[i].last : now;
		if (!is_look)
			e->epoll[i].last = now;
		if (!told)
			continue;
		if (!is_look) {
			events[n].events = now;
			events[n].data = e->epoll[i].ev.data;
			if (e->epoll[i].ev.events & EPOLLONESHOT)
				e->epoll[i].ev.events = 0;
		}
		n++;
	}
	return n;
}

static bool epoll_ready(struct door *d, void *arg)
{
	return epoll_now(d, arg, NULL, 1, true) > 0;
}

static int p_epoll_wait(void *ud, int epfd, struct epoll_event *events, int n_max, int timeout_ms)
{
	struct door *d = enter(ud);
	struct door_sock *e = door_sock_of(d, epfd);

	if (!e || e->kind != DOOR_EPOLL || n_max <= 0)
		return (int)leave(d, e ? -EINVAL : -EBADF);
	if (timeout_ms)
		(void)door_wait(d, epoll_ready, e, until(d, timeout_ms)); /* epoll_now says it again */
	return (int)leave(d, epoll_now(d, e, events, n_max, false));
}

static int p_pipe(void *ud, int fds[2])
{
	errno = ENOSYS;
	return -1;
}

static int p_splice(void *ud, int fd_in, loff_t *off_in, int fd_out, loff_t *off_out, size_t n, unsigned int flags)
{
	errno = ENOSYS;
	return -1;
}

static void p_free(void *ud)
{
	struct door *d = enter(ud);

	for (int i = 0; i < DOOR_FDS_MAX; i++)
		if (d->fds[i])
			(void)door_close(d, DOOR_FD_BASE + i); /* exists: just looked */
	door_host_stop(d);
	the_door = NULL;
	(void)leave(d, 0);
}

void packetdrill_interface_init(const char *flags, struct packetdrill_interface *ifc)
{
	const char *mtu = flags ? strstr(flags, "mtu=") : NULL;
	struct door *d = aligned_alloc(64, (sizeof(*d) + 63) / 64 * 64);

	if (!d)
		abort();
	memset(d, 0, sizeof(*d));
	(void)unsetenv("LD_PRELOAD"); /* the script's shell commands are no business of ours */
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->changed, NULL);
	d->main_thread = pthread_self();
	d->no_push = flags && strstr(flags, "nopush");
	d->mtu = mtu ? (uint16_t)strtoul(mtu + 4, NULL, 10) : 1500;
	d->main_tid = (int)syscall(SYS_gettid);
	door_host_start(d);
	the_door = d;
	*ifc = (struct packetdrill_interface){
		d, p_free, p_socket, p_bind, p_listen, p_accept, p_connect, p_read, p_readv, p_recv, p_recvfrom, p_recvmsg, p_write, p_writev,
		p_send, p_sendto, p_sendmsg, p_fcntl, p_ioctl, p_close, p_shutdown, p_getsockopt, p_setsockopt, p_poll, p_netdev_send,
		p_netdev_receive, p_usleep, p_gettimeofday, p_epoll_create, p_epoll_ctl, p_epoll_wait, p_pipe, p_splice,
	};
}
