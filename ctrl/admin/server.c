/* The agent's HTTP/1.1 server: one epoll set of listeners and connections, all non-blocking. What it answers is in the route table;
 * what a request may look like is in parse.c (RFC 9112). No TLS, no user names: it listens on loopback unless told otherwise.
 * Invariant: a slot of s->conn with fd >= 0 is registered in epoll with its index; its buffers are its own and bounded. */
#include "ctrl/admin/admin.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ctrl/admin/admin_priv.h"

#define LISTENERS_MAX 16u
#define EVENTS_A_TURN 32
#define REQUESTS_A_TURN 16 /* pipelined by one connection before the others have their turn */
#define TAG_LISTENER 0x10000u

struct conn {
	int fd;         /* -1: free */
	uint16_t port;
	bool closing;   /* close when out is written */
	bool has_half;  /* in holds the beginning of a request, since half_ms */
	uint64_t last_ms, half_ms;
	char *in;       /* grows to ADM_HEAD_BYTES_MAX + ADM_BODY_BYTES_MAX */
	size_t n_in, n_in_room;
	char head[768];
	size_t n_head, n_head_sent;
	char *out;
	size_t n_out, n_out_sent;
};

struct listener {
	int fd;
	uint16_t port;
};

struct adm_server {
	int epoll_fd;
	struct adm_route *routes;
	size_t n_routes;
	struct listener listeners[LISTENERS_MAX];
	uint32_t n_listeners;
	struct conn conn[ADM_CONNECTIONS_MAX];
	struct adm_counters counters;
	uint64_t now_ms;
};

static const char *status_words(unsigned int status)
{
	switch (status) {
	case 200: return "OK";
	case 202: return "Accepted";
	case 204: return "No Content";
	case 400: return "Bad Request";
	case 403: return "Forbidden";
	case 404: return "Not Found";
	case 405: return "Method Not Allowed";
	case 408: return "Request Timeout";
	case 409: return "Conflict";
	case 413: return "Content Too Large";
	case 431: return "Request Header Fields Too Large";
	case 500: return "Internal Server Error";
	case 501: return "Not Implemented";
	case 503: return "Service Unavailable";
	case 505: return "HTTP Version Not Supported";
	default: return "Status";
	}
}

/* ---- listening ---- */

static int add_to_epoll(int epoll_fd, int fd, uint32_t tag, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.u32 = tag};

	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e) == 0 ? 0 : -errno;
}

static int bind_and_listen(int fd, const char *address, uint16_t port)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	int on = 1, rc;

	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)); /* without it a restart waits for TIME-WAIT, no more */
	if (inet_pton(AF_INET, address, &v4.sin_addr) == 1)
		rc = bind(fd, (const struct sockaddr *)&v4, sizeof(v4));
	else if (inet_pton(AF_INET6, address, &v6.sin6_addr) == 1) {
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)); /* so that 127.0.0.1 can be bound beside it */
		rc = bind(fd, (const struct sockaddr *)&v6, sizeof(v6));
	} else {
		return -EINVAL;
	}
	return rc == 0 && listen(fd, 64) == 0 ? 0 : -errno;
}

static int listen_at(struct adm_server *s, const char *address, uint16_t port, struct foil_error *err)
{
	int family = strchr(address, ':') ? AF_INET6 : AF_INET;
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int rc = fd < 0 ? -errno : bind_and_listen(fd, address, port);

	if (rc == 0 && s->n_listeners == LISTENERS_MAX)
		rc = -ENOSPC;
	if (rc == 0)
		rc = add_to_epoll(s->epoll_fd, fd, TAG_LISTENER | s->n_listeners, EPOLLIN);
	if (rc) {
		if (fd >= 0)
			close(fd);
		return foil_error_set(err, rc, "cannot listen on %s port %u: %s%s", address, port, strerror(-rc),
				      rc == -EADDRINUSE ? "; another foil-agent or a sidecar may have it (ss -ltnp)" : "");
	}
	s->listeners[s->n_listeners++] = (struct listener){fd, port};
	return 0;
}

static bool listens_on(const struct adm_server *s, uint16_t port)
{
	for (uint32_t i = 0; i < s->n_listeners; i++)
		if (s->listeners[i].port == port)
			return true;
	return false;
}

static int listen_all(struct adm_server *s, const char *address, struct foil_error *err)
{
	for (size_t i = 0; i < s->n_routes; i++) {
		uint16_t port = s->routes[i].port;
		if (listens_on(s, port))
			continue;
		int rc = listen_at(s, address ? address : "127.0.0.1", port, err);
		if (rc)
			return rc;
		if (!address)
			(void)listen_at(s, "::1", port, NULL); /* a machine without IPv6 has the other */
	}
	return 0;
}

int adm_open(struct adm_server **out, const struct adm_params *p, struct foil_error *err)
{
	struct adm_server *s = calloc(1, sizeof(*s));

	if (!s)
		return foil_error_set(err, -ENOMEM, "no memory for the admin server");
	for (uint32_t i = 0; i < ADM_CONNECTIONS_MAX; i++)
		s->conn[i].fd = -1;
	s->now_ms = p->now_ms;
	s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	s->routes = calloc(p->n_routes + 1, sizeof(*s->routes));
	int rc = s->epoll_fd < 0 ? -errno : s->routes ? 0 : -ENOMEM;
	if (rc) {
		adm_close(s);
		return foil_error_set(err, rc, "cannot make the admin server: %s", strerror(-rc));
	}
	memcpy(s->routes, p->routes, p->n_routes * sizeof(*s->routes));
	s->n_routes = p->n_routes;
	rc = listen_all(s, p->address, err);
	if (rc) {
		adm_close(s);
		return rc;
	}
	*out = s;
	return 0;
}

int adm_fd(const struct adm_server *s)
{
	return s->epoll_fd;
}

struct adm_counters adm_counters(const struct adm_server *s)
{
	return s->counters;
}

/* ---- connections ---- */

static void conn_close(struct conn *c)
{
	if (c->fd >= 0)
		close(c->fd);
	free(c->in);
	free(c->out);
	*c = (struct conn){.fd = -1};
}

void adm_close(struct adm_server *s)
{
	if (!s)
		return;
	for (uint32_t i = 0; i < ADM_CONNECTIONS_MAX; i++)
		if (s->conn[i].fd >= 0)
			conn_close(&s->conn[i]);
	for (uint32_t i = 0; i < s->n_listeners; i++)
		close(s->listeners[i].fd);
	if (s->epoll_fd >= 0)
		close(s->epoll_fd);
	free(s->routes);
	free(s);
}

static struct conn *free_slot(struct adm_server *s)
{
	for (uint32_t i = 0; i < ADM_CONNECTIONS_MAX; i++)
		if (s->conn[i].fd < 0)
			return &s->conn[i];
	return NULL;
}

static void accept_some(struct adm_server *s, const struct listener *l)
{
	for (int i = 0; i < EVENTS_A_TURN; i++) {
		int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return; /* nothing left, or out of descriptors: the next turn tries again */
		struct conn *c = free_slot(s);
		if (!c || add_to_epoll(s->epoll_fd, fd, (uint32_t)(c - s->conn), EPOLLIN) != 0) {
			s->counters.n_refused_connections++;
			close(fd);
			continue;
		}
		*c = (struct conn){.fd = fd, .port = l->port, .last_ms = s->now_ms};
		s->counters.n_accepted++;
	}
}

static bool want(struct adm_server *s, struct conn *c, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.u32 = (uint32_t)(c - s->conn)};

	return epoll_ctl(s->epoll_fd, EPOLL_CTL_MOD, c->fd, &e) == 0;
}

/* Bytes from the socket into c->in. False when the connection is over. */
static bool read_some(struct adm_server *s, struct conn *c)
{
	size_t most = ADM_HEAD_BYTES_MAX + ADM_BODY_BYTES_MAX;

	if (c->n_in == c->n_in_room) {
		size_t room = FOIL_MIN(most, c->n_in_room ? c->n_in_room * 2 : 4096);
		char *in = room > c->n_in_room ? realloc(c->in, room) : NULL;
		if (!in)
			return c->n_in > 0; /* full: the parser says what to answer */
		c->in = in;
		c->n_in_room = room;
	}
	ssize_t n = recv(c->fd, c->in + c->n_in, c->n_in_room - c->n_in, 0);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		return false;
	if (n > 0) {
		c->n_in += (size_t)n;
		c->last_ms = s->now_ms;
	}
	return true;
}

static void queue_answer(struct conn *c, struct adm_reply *own_reply, bool keep_alive, bool is_head)
{
	if (own_reply->is_broken) {
		adm_reply_fini(own_reply);
		adm_reply_init(own_reply);
		own_reply->status = 500;
		adm_reply_printf(own_reply, "the answer is larger than %u bytes, or there is no memory for it\n", ADM_REPLY_BYTES_MAX);
	}
	int n = snprintf(c->head, sizeof(c->head),
			 "HTTP/1.1 %u %s\r\ncontent-type: %s\r\ncontent-length: %zu\r\ncache-control: no-cache\r\n"
			 "x-content-type-options: nosniff\r\nx-frame-options: DENY\r\ncontent-security-policy: %s\r\n%s\r\n",
			 own_reply->status, status_words(own_reply->status), own_reply->type, own_reply->n_bytes, own_reply->policy,
			 keep_alive ? "" : "connection: close\r\n");
	c->n_head = n > 0 && (size_t)n < sizeof(c->head) ? (size_t)n : 0;
	c->n_head_sent = c->n_out_sent = 0;
	c->closing = !keep_alive || c->n_head == 0;
	c->out = own_reply->data;
	c->n_out = is_head ? 0 : own_reply->n_bytes;
	own_reply->data = NULL;
	adm_reply_fini(own_reply);
}

static void refuse(struct adm_server *s, struct conn *c, unsigned int status)
{
	struct adm_reply r;

	s->counters.n_bad_requests++;
	adm_reply_init(&r);
	r.status = status;
	adm_reply_printf(&r, "%u %s\n", status, status_words(status));
	queue_answer(c, &r, false, false);
}

static void handle(struct adm_server *s, struct conn *c, const struct adm_parsed *p)
{
	const struct adm_route *found = NULL;
	bool knows_path = false;
	struct adm_reply r;

	for (size_t i = 0; i < s->n_routes && !found; i++) {
		const struct adm_route *route = &s->routes[i];
		if (route->port != c->port || !foil_slice_eq(p->request.path, foil_slice_str(route->path)))
			continue;
		knows_path = true;
		if (foil_slice_eq(p->is_head ? FOIL_SLICE("GET") : p->request.method, foil_slice_str(route->method)))
			found = route;
	}
	s->counters.n_requests++;
	adm_reply_init(&r);
	if (found) {
		found->handler(found->arg, &p->request, &r);
	} else {
		r.status = knows_path ? 405 : 404;
		adm_reply_printf(&r, "%s; GET /help on port 15000 lists the pages\n", status_words(r.status));
	}
	queue_answer(c, &r, p->keep_alive, p->is_head);
}

/* Writes what is queued. 1: all written, 0: the socket is full, -1: the connection is over. */
static int write_some(struct adm_server *s, struct conn *c)
{
	while (c->n_head_sent < c->n_head || c->n_out_sent < c->n_out) {
		bool in_head = c->n_head_sent < c->n_head;
		const char *from = in_head ? c->head + c->n_head_sent : c->out + c->n_out_sent;
		size_t n_left = in_head ? c->n_head - c->n_head_sent : c->n_out - c->n_out_sent;
		int more = in_head && c->n_out ? MSG_MORE : 0;
		ssize_t n = send(c->fd, from, n_left, MSG_NOSIGNAL | more);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		if (n <= 0)
			return -1;
		*(in_head ? &c->n_head_sent : &c->n_out_sent) += (size_t)n;
		c->last_ms = s->now_ms;
	}
	free(c->out);
	c->out = NULL;
	c->n_out = c->n_out_sent = c->n_head = c->n_head_sent = 0;
	return c->closing ? -1 : 1;
}

/* Takes one request off c->in and queues its answer. False when there is no whole request. */
static bool take_request(struct adm_server *s, struct conn *c)
{
	struct adm_parsed p;
	enum adm_parse result = adm_parse(c->in, c->n_in, &p);

	if (result == ADM_PARSE_MORE) {
		if (!c->has_half && c->n_in)
			c->half_ms = s->now_ms;
		c->has_half = c->n_in > 0;
		return false;
	}
	c->has_half = false;
	if (result != ADM_PARSE_OK) {
		refuse(s, c, p.status);
		c->n_in = 0;
		return true;
	}
	handle(s, c, &p);
	memmove(c->in, c->in + p.n_bytes, c->n_in - p.n_bytes);
	c->n_in -= p.n_bytes;
	return true;
}

static void conn_turn(struct adm_server *s, struct conn *c, uint32_t events)
{
	bool is_writing = c->n_head > 0;

	if (!is_writing && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !read_some(s, c)) {
		conn_close(c);
		return;
	}
	for (int i = 0; i < REQUESTS_A_TURN; i++) {
		int wrote = write_some(s, c);
		if (wrote < 0) {
			conn_close(c);
			return;
		}
		if (wrote == 0) {
			if (!want(s, c, EPOLLOUT))
				conn_close(c);
			return;
		}
		if (c->n_in == 0 || !take_request(s, c)) {
			if (!want(s, c, EPOLLIN))
				conn_close(c);
			return;
		}
	}
	if (!want(s, c, EPOLLIN | EPOLLOUT)) /* more requests wait in c->in: come again at once */
		conn_close(c);
}

static void close_overdue(struct adm_server *s)
{
	for (uint32_t i = 0; i < ADM_CONNECTIONS_MAX; i++) {
		struct conn *c = &s->conn[i];
		if (c->fd < 0)
			continue;
		if (c->has_half && s->now_ms - c->half_ms > ADM_HEAD_MS) {
			s->counters.n_timeouts++;
			c->has_half = false;
			refuse(s, c, 408);
			c->n_in = 0;
			if (write_some(s, c) != 0 || !want(s, c, EPOLLOUT))
				conn_close(c);
		} else if (s->now_ms - c->last_ms > ADM_IDLE_MS) {
			s->counters.n_timeouts++;
			conn_close(c);
		}
	}
}

void adm_turn(struct adm_server *s, uint64_t now_ms)
{
	struct epoll_event events[EVENTS_A_TURN];

	s->now_ms = FOIL_MAX(now_ms, s->now_ms);
	int n = epoll_wait(s->epoll_fd, events, EVENTS_A_TURN, 0);
	for (int i = 0; i < n; i++) {
		uint32_t tag = events[i].data.u32;
		if (tag & TAG_LISTENER)
			accept_some(s, &s->listeners[tag & ~TAG_LISTENER]);
		else if (s->conn[tag].fd >= 0)
			conn_turn(s, &s->conn[tag], events[i].events);
	}
	close_overdue(s);
}
