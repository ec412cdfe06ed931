/* foil-load over kernel sockets, for the wires of proxies that live on them: one epoll loop with client and origin, non-blocking, level-triggered,
 * one read and one write a message. What it measures is engine.c's business. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "perf/load/load.h"

#define EVENTS 256
#define SLEEP_NS_MAX 1000000u
#define READ_BYTES (256u * 1024u)

enum side { SIDE_CLIENT, SIDE_LISTENER, SIDE_SERVED };

struct sock {
	enum side side;
	int fd;
	bool connecting, dead, wants_out;
	struct load_conn *c;        /* SIDE_CLIENT */
	struct load_served served;
	const char *out;            /* what is left of the piece being written */
	uint32_t n_out, n_owed;     /* n_owed: answers after it */
	char *copy;                 /* of what does not stay; out is in it */
	uint32_t copy_cap;
	struct sock *next_dead;
};

struct sockets {
	struct load *load;
	int epoll_fd;
	struct sock *dead; /* freed after the events in hand */
	char buf[READ_BYTES];
};

static volatile sig_atomic_t stop;
static struct sockets the_sockets;

static void on_signal(int sig)
{
	stop = 1;
}

static struct sock *sock_new(enum side side, int fd, uint32_t events)
{
	struct sock *s = calloc(1, sizeof(*s));
	struct epoll_event e = {.events = events, .data.ptr = s};

	if (!s || epoll_ctl(the_sockets.epoll_fd, EPOLL_CTL_ADD, fd, &e)) {
		free(s);
		return NULL;
	}
	s->side = side;
	s->fd = fd;
	return s;
}

static void sock_end(struct sock *s)
{
	if (s->dead)
		return;
	s->dead = true;
	(void)close(s->fd);
	load_served_free(&s->served);
	free(s->copy);
	s->copy = NULL;
	s->next_dead = the_sockets.dead;
	the_sockets.dead = s;
}

static void wants_out(struct sock *s, bool on)
{
	struct epoll_event e = {.events = EPOLLIN | (on ? (uint32_t)EPOLLOUT : 0), .data.ptr = s};

	if (s->wants_out == on)
		return;
	s->wants_out = on;
	(void)epoll_ctl(the_sockets.epoll_fd, EPOLL_CTL_MOD, s->fd, &e); /* a descriptor that is there */
}

/* Writes what it can of out. False: the connection is broken. */
static bool push(struct sock *s)
{
	while (s->n_out > 0) {
		ssize_t n = send(s->fd, s->out, s->n_out, MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN) {
			wants_out(s, true);
			return true;
		}
		if (n < 0)
			return false;
		s->out += n;
		s->n_out -= (uint32_t)n;
		if (s->n_out == 0 && s->n_owed) {
			const struct load *l = the_sockets.load;
			bool origin = s->side == SIDE_SERVED;
			s->n_owed--;
			s->out = origin ? l->answer : l->request;
			s->n_out = origin ? l->n_answer : l->n_request;
		}
	}
	wants_out(s, false);
	return true;
}

static void enqueue(struct sock *s, const char *data, uint32_t n_bytes, uint32_t times)
{
	if (times == 0)
		return;
	if (s->n_out) {
		s->n_owed += times;
		return;
	}
	s->out = data;
	s->n_out = n_bytes;
	s->n_owed = times - 1;
	if (!s->connecting)
		(void)push(s); /* a broken connection shows at the next event */
}

/* Bytes that are good for the call only. */
static void enqueue_copy(struct sock *s, const char *data, uint32_t n_bytes)
{
	uint32_t at = s->n_out ? (uint32_t)(s->out - s->copy) + s->n_out : 0, gone = s->n_out ? (uint32_t)(s->out - s->copy) : 0;

	if (at + n_bytes > s->copy_cap) {
		s->copy_cap = FOIL_MAX(2 * s->copy_cap, at + n_bytes + 1024);
		s->copy = realloc(s->copy, s->copy_cap);
		if (!s->copy)
			abort();
	}
	memcpy(s->copy + at, data, n_bytes);
	s->out = s->copy + gone;
	s->n_out += n_bytes;
	if (!s->connecting)
		(void)push(s); /* a broken connection shows at the next event */
}

/* ---- client */

static int sockets_connect(struct load *l, struct load_conn *c)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(l->conf->target_port)};

	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* an optimisation */
	memcpy(&to.sin_addr, l->conf->target.b + 12, 4);
	struct sock *s = sock_new(SIDE_CLIENT, fd, EPOLLIN | EPOLLOUT);
	if (!s || (connect(fd, (struct sockaddr *)&to, sizeof(to)) && errno != EINPROGRESS)) {
		int rc = -errno;
		if (s)
			sock_end(s);
		else
			(void)close(fd);
		return rc;
	}
	s->connecting = s->wants_out = true;
	s->c = c;
	c->io = s;
	return 0;
}

static void sockets_write(struct load *l, struct load_conn *c, const void *data, uint32_t n_bytes)
{
	if (l->conf->tls || l->conf->http2)
		enqueue_copy(c->io, data, n_bytes);
	else
		enqueue(c->io, data, n_bytes, 1);
}

static void sockets_close(struct load *l, struct load_conn *c)
{
	sock_end(c->io);
}

static const struct load_io sockets_io = {.connect = sockets_connect, .write = sockets_write, .close = sockets_close};

static void client_end(struct sock *s)
{
	load_closed(the_sockets.load, s->c);
	sock_end(s);
}

static void client_event(struct sock *s, uint32_t events)
{
	struct sockets *x = &the_sockets;

	if (s->connecting) {
		int err = 0;
		socklen_t n = sizeof(err);
		if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &err, &n) || err) {
			client_end(s);
			return;
		}
		if (!(events & EPOLLOUT))
			return;
		s->connecting = false;
		load_opened(x->load, s->c);
	}
	if (s->dead)
		return;
	if ((events & EPOLLOUT || s->n_out) && !push(s)) {
		client_end(s);
		return;
	}
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return;
	ssize_t n = recv(s->fd, x->buf, READ_BYTES, 0);
	if (n > 0)
		(void)load_bytes(x->load, s->c, x->buf, (uint32_t)n); /* if it closed, s is dead and known to be */
	else if (n == 0 || errno != EAGAIN)
		client_end(s);
}

/* ---- origin */

static void served_event(struct sock *s, uint32_t events)
{
	struct sockets *x = &the_sockets;
	struct load *l = x->load;

	if (events & EPOLLOUT && !push(s)) {
		sock_end(s);
		return;
	}
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return;
	ssize_t n = recv(s->fd, x->buf, READ_BYTES, 0);
	if (n <= 0) {
		if (n == 0 || errno != EAGAIN)
			sock_end(s);
		return;
	}
	if (l->conf->work == LOAD_TCP) {
		if (send(s->fd, x->buf, (size_t)n, MSG_NOSIGNAL) != n)
			sock_end(s);
		return;
	}
	int n_answers = load_origin_bytes(l, &s->served, x->buf, (uint32_t)n);
	if (n_answers < 0) {
		l->n_origin_errors++;
		sock_end(s);
		return;
	}
	if (s->served.n_out)
		enqueue_copy(s, s->served.out, s->served.n_out);
	s->served.n_out = 0;
	enqueue(s, l->answer, l->n_answer, (uint32_t)n_answers);
}

static void listener_event(const struct sock *s)
{
	int one = 1;

	for (int i = 0; i < EVENTS; i++) {
		int fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return;
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* an optimisation */
		the_sockets.load->n_origin_conns++;
		if (!sock_new(SIDE_SERVED, fd, EPOLLIN))
			(void)close(fd);
	}
}

static int listen_at(const char *text, uint16_t port)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
	struct net_prefix p;

	if (fd < 0 || net_prefix_parse(text, &p))
		return fd < 0 ? -errno : -EINVAL;
	memcpy(&at.sin_addr, p.addr.b + 12, 4);
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)); /* bind says more */
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 65535) || !sock_new(SIDE_LISTENER, fd, EPOLLIN)) {
		int rc = -errno;
		(void)close(fd);
		return rc;
	}
	return 0;
}

static void event(struct sock *s, uint32_t events)
{
	if (s->dead)
		return;
	switch (s->side) {
	case SIDE_CLIENT:
		client_event(s, events);
		return;
	case SIDE_LISTENER:
		listener_event(s);
		return;
	case SIDE_SERVED:
		served_event(s, events);
		return;
	}
	FOIL_UNREACHABLE();
}

/* The open loop keeps its times by not sleeping, unless it is told to (--idle pause): then it sleeps until the next request is due, and is late by what
 * waking takes. */
static int wait_for_events(const struct load *l, int epoll_fd, struct epoll_event *events)
{
	bool is_open_loop = l->interval_ns > 0;

	if (!is_open_loop || l->conf->idle == NIC_IDLE_POLL)
		return epoll_wait(epoll_fd, events, EVENTS, is_open_loop ? 0 : 1);
	uint64_t now_ns = load_now_ns(), due_ns = (uint64_t)l->next_due_exact;
	struct timespec t = {.tv_nsec = 0};
	if (due_ns > now_ns)
		t.tv_nsec = (long)FOIL_MIN(due_ns - now_ns, SLEEP_NS_MAX);
	else if (!l->idle.head && !l->closed.head)
		t.tv_nsec = SLEEP_NS_MAX; /* until a connection is free */
	return epoll_pwait2(epoll_fd, events, EVENTS, &t, NULL);
}

static void loop(struct load *l)
{
	struct sockets *x = &the_sockets;
	struct epoll_event events[EVENTS];
	uint64_t before_ns = load_now_ns();

	while (load_turn(l) && !stop) {
		int n = wait_for_events(l, x->epoll_fd, events);
		before_ns = load_now_ns();
		for (int i = 0; i < n; i++)
			event(events[i].data.ptr, events[i].events);
		while (x->dead) {
			struct sock *s = x->dead;
			x->dead = s->next_dead;
			free(s);
		}
		if (n > 0)
			l->busy_ns += load_now_ns() - before_ns;
	}
}

int load_run_sockets(struct load *l, const struct load_conf *k)
{
	struct sockets *x = &the_sockets;
	struct rlimit files;
	int rc = 0;

	(void)signal(SIGTERM, on_signal); /* fails for signals that do not exist */
	(void)signal(SIGINT, on_signal);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files); /* too few show as connect errors */
	}
	x->load = l;
	x->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (x->epoll_fd < 0)
		rc = -errno;
	for (int i = 0; rc == 0 && k->origin_port && i < k->n_origin_addresses; i++)
		rc = listen_at(k->origin_addresses[i], k->origin_port);
	if (rc == 0)
		rc = load_init(l, k, &sockets_io);
	if (rc) {
		fprintf(stderr, "foil-load: sockets: %s\n", strerror(-rc));
		return rc;
	}
	loop(l);
	return load_report(l);
}
