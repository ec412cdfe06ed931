/* Sockets as Linux has them, over streams: what a script's calls mean to tcp.h and stream.h. A socket outlives its stream, with the
 * bytes not read yet and the error that ended it.
 * Invariant: k->s is a live stream or NULL; a socket in an accept queue has no descriptor yet and is freed with its listener. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "tests/packetdrill/door.h"

#define SNDBUF_BYTES (256u << 10)

static const struct stream_user door_user;

static int error_of(enum stream_end why)
{
	switch (why) {
	case STREAM_END_NONE:
	case STREAM_END_FIN:
	case STREAM_END_COUNT:
		return 0;
	case STREAM_END_RESET:
		return ECONNRESET;
	case STREAM_END_REFUSED:
		return ECONNREFUSED;
	case STREAM_END_UNREACHABLE:
		return EHOSTUNREACH;
	case STREAM_END_CONNECT_TIMEOUT:
	case STREAM_END_TIMEOUT:
		return ETIMEDOUT;
	case STREAM_END_LOCAL:
	case STREAM_END_TLS:
		return ECONNABORTED;
	}
	return EIO;
}

static struct door_sock *sock_new(struct door *d, enum door_kind kind, int domain)
{
	struct door_sock *k = calloc(1, sizeof(*k));

	if (!k)
		door_die(d, "out of memory");
	k->d = d;
	k->kind = kind;
	k->domain = domain;
	k->sndbuf = SNDBUF_BYTES;
	k->queue_tail = &k->queue_head;
	return k;
}

int door_fd_new(struct door *d, enum door_kind kind, int domain)
{
	for (int i = 0; i < DOOR_FDS_MAX; i++)
		if (!d->fds[i]) {
			d->fds[i] = sock_new(d, kind, domain);
			return DOOR_FD_BASE + i;
		}
	return -EMFILE;
}

struct door_sock *door_sock_of(struct door *d, int fd)
{
	return fd < DOOR_FD_BASE || fd >= DOOR_FD_BASE + DOOR_FDS_MAX ? NULL : d->fds[fd - DOOR_FD_BASE];
}

static struct door_sock *socket_of(struct door *d, int fd)
{
	struct door_sock *k = door_sock_of(d, fd);

	return k && k->kind == DOOR_SOCKET ? k : NULL;
}

int door_socket(struct door *d, int domain, int type, int protocol)
{
	if (domain != AF_INET && domain != AF_INET6)
		return -EAFNOSUPPORT;
	if ((type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) != SOCK_STREAM || (protocol && protocol != IPPROTO_TCP))
		return -EPROTONOSUPPORT;
	door_host_up(d);
	int fd = door_fd_new(d, DOOR_SOCKET, domain);
	if (fd >= 0 && (type & SOCK_NONBLOCK))
		door_sock_of(d, fd)->nonblock = true;
	return fd;
}

static bool address_in(const struct sockaddr *addr, socklen_t n, struct stream_addr *out)
{
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;

	memset(out, 0, sizeof(*out));
	if (addr && n >= sizeof(v4) && addr->sa_family == AF_INET) {
		memcpy(&v4, addr, sizeof(v4));
		struct net_addr a = net_addr_v4(v4.sin_addr.s_addr);
		if (v4.sin_addr.s_addr)
			memcpy(out->ip, a.b, sizeof(out->ip));
		out->port = ntohs(v4.sin_port);
		return true;
	}
	if (addr && n >= sizeof(v6) && addr->sa_family == AF_INET6) {
		memcpy(&v6, addr, sizeof(v6));
		memcpy(out->ip, &v6.sin6_addr, sizeof(out->ip));
		out->port = ntohs(v6.sin6_port);
		return true;
	}
	return false;
}

static void address_out(int domain, const struct stream_addr *a, struct sockaddr *addr, socklen_t *n)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(a->port)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(a->port)};
	const void *from = &v6;
	socklen_t size = sizeof(v6);

	if (!addr || !n)
		return;
	if (domain == AF_INET) {
		memcpy(&v4.sin_addr, a->ip + 12, 4);
		from = &v4;
		size = sizeof(v4);
	} else {
		memcpy(&v6.sin6_addr, a->ip, 16);
	}
	memcpy(addr, from, FOIL_MIN(*n, size));
	*n = size;
}

void door_address(const struct door_sock *k, struct sockaddr *addr, socklen_t *n)
{
	address_out(k->domain, &k->local, addr, n);
}

int door_bind(struct door *d, int fd, const struct sockaddr *addr, socklen_t n)
{
	struct door_sock *k = socket_of(d, fd);

	if (!k)
		return -EBADF;
	if (k->is_bound || !address_in(addr, n, &k->local))
		return -EINVAL;
	k->is_bound = true;
	return 0;
}

static bool on_accept(struct foil_worker *w, struct tcp_listener *l, struct stream *s)
{
	struct door_sock *at = tcp_listener_data(l), *k;

	if (at->n_queue > at->backlog)
		return false;
	k = sock_new(at->d, DOOR_SOCKET, at->domain);
	k->s = s;
	k->connected = k->had_stream = k->in_queue = true;
	k->local = s->local;
	k->remote = s->remote;
	k->sndbuf = at->sndbuf;
	k->rcvbuf = at->rcvbuf;
	k->user_timeout_ms = at->user_timeout_ms;
	memcpy(k->congestion, at->congestion, sizeof(k->congestion));
	k->queue_tail = &k->queue_head;
	*at->queue_tail = k;
	at->queue_tail = &k->queue_next;
	at->n_queue++;
	s->user = &door_user;
	s->user_data = k;
	door_apply_options(at->d, k);
	return true;
}

int door_listen(struct door *d, int fd, int backlog)
{
	struct door_sock *k = socket_of(d, fd);

	if (!k)
		return -EBADF;
	if (k->s || k->had_stream)
		return -EINVAL;
	k->backlog = (uint32_t)FOIL_MAX(backlog, 0);
	if (k->l)
		return 0;
	struct tcp_listen_params p = {.port = k->local.port, .backlog_max = k->backlog + 1, .accept = on_accept, .user_data = k};
	memcpy(p.addr.b, k->local.ip, sizeof(p.addr.b));
	return tcp_listen(&d->w, &p, &k->l);
}

static bool may_accept(struct door *d, void *arg)
{
	return ((struct door_sock *)arg)->queue_head != NULL;
}

int door_accept(struct door *d, int fd, struct sockaddr *addr, socklen_t *n)
{
	struct door_sock *l = socket_of(d, fd), *k;

	if (!l)
		return -EBADF;
	if (!l->l)
		return -EINVAL;
	if (!l->queue_head && l->nonblock)
		return -EAGAIN;
	(void)door_wait(d, may_accept, l, UINT64_MAX); /* without a limit it ends when it may */
	k = l->queue_head;
	int at = 0;
	while (at < DOOR_FDS_MAX && d->fds[at])
		at++;
	if (at == DOOR_FDS_MAX)
		return -EMFILE;
	l->queue_head = k->queue_next;
	if (!l->queue_head)
		l->queue_tail = &l->queue_head;
	l->n_queue--;
	k->in_queue = false;
	k->queue_next = NULL;
	d->fds[at] = k;
	address_out(k->domain, &k->remote, addr, n);
	return DOOR_FD_BASE + at;
}

static void on_opened(struct foil_worker *w, struct stream *s)
{
	struct door_sock *k = s->user_data;

	k->connecting = false;
	k->connected = true;
	k->local = s->local;
	door_apply_options(k->d, k);
}

static void on_closed(struct foil_worker *w, struct stream *s, enum stream_end why)
{
	struct door_sock *k = s->user_data;

	door_keep_info(k);
	foil_chain_move(&k->left, &s->rx);
	k->s = NULL;
	k->connecting = false;
	k->eof = true;
	k->error = error_of(why);
	foil_chain_clear(&k->held);
}

static const struct stream_user door_user = {.opened = on_opened, .closed = on_closed};

static bool is_settled(struct door *d, void *arg)
{
	return !((struct door_sock *)arg)->connecting;
}

static int take_error(struct door_sock *k)
{
	int error = k->error;

	k->error = 0;
	return -error;
}

int door_connect(struct door *d, int fd, const struct sockaddr *addr, socklen_t n)
{
	struct door_sock *k = socket_of(d, fd);

	if (!k)
		return -EBADF;
	if (k->connecting)
		return -EALREADY;
	if (k->s)
		return -EISCONN;
	if (k->error)
		return take_error(k);
	if (k->l || !address_in(addr, n, &k->remote))
		return -EINVAL;
	struct tcp_connect_params p = {.remote_port = k->remote.port, .local_port = k->local.port, .user = &door_user, .user_data = k};
	memcpy(p.remote.b, k->remote.ip, 16);
	memcpy(p.local.b, k->local.ip, 16);
	int rc = tcp_connect(&d->w, &p, &k->s);
	if (rc)
		return rc;
	k->connecting = k->had_stream = true;
	k->local = k->s->local;
	door_turn(d);
	if (k->nonblock)
		return k->connecting ? -EINPROGRESS : take_error(k);
	(void)door_wait(d, is_settled, k, UINT64_MAX); /* without a limit it ends when it may */
	return k->connected ? 0 : take_error(k);
}

static struct foil_chain *rx_of(struct door_sock *k)
{
	return k->s ? &k->s->rx : &k->left;
}

uint32_t door_rx_bytes(const struct door_sock *k)
{
	return k->s ? k->s->rx.n_bytes : k->left.n_bytes;
}

static bool may_read(struct door *d, void *arg)
{
	const struct door_sock *k = arg;

	return door_rx_bytes(k) || k->error || k->rd_shut || k->eof || (k->s && k->s->rx_eof) || (!k->s && !k->connecting);
}

static uint32_t copy_out(const struct foil_chain *c, const struct iovec *iov, int n_iov)
{
	uint32_t at = 0;

	for (int i = 0; i < n_iov && at < c->n_bytes; i++) {
		uint32_t n = (uint32_t)FOIL_MIN((size_t)(c->n_bytes - at), iov[i].iov_len);
		foil_chain_copy_out(c, at, iov[i].iov_base, n);
		at += n;
	}
	return at;
}

ssize_t door_recv(struct door *d, int fd, const struct iovec *iov, int n_iov, int flags)
{
	struct door_sock *k = socket_of(d, fd);

	if (!k)
		return -EBADF;
	if (!k->had_stream)
		return -ENOTCONN;
	if (!may_read(d, k)) {
		if (k->nonblock || (flags & MSG_DONTWAIT))
			return -EAGAIN;
		(void)door_wait(d, may_read, k, UINT64_MAX); /* without a limit it ends when it may */
	}
	if (!door_rx_bytes(k))
		return take_error(k);
	uint32_t n = copy_out(rx_of(k), iov, n_iov);
	if (flags & MSG_PEEK)
		return n;
	if (k->s)
		stream_consume(&d->w, k->s, n);
	else
		foil_chain_consume(&k->left, n);
	door_turn(d);
	return n;
}

static bool may_write(struct door *d, void *arg)
{
	const struct door_sock *k = arg;

	return !k->s || (!k->connecting && stream_tx_room(k->s) > 0);
}

/* Under a cork only full segments go. */
static void send_held(struct door *d, struct door_sock *k, bool all)
{
	uint32_t mss_bytes = k->s ? door_segment_bytes(k) : 0, n_bytes = all ? k->held.n_bytes : mss_bytes ? k->held.n_bytes / mss_bytes * mss_bytes : 0;
	struct foil_chain part = {0};

	if (!k->s || !n_bytes)
		return;
	if (foil_chain_split(&d->w, &k->held, n_bytes, &part))
		door_die(d, "no mbuf for a write");
	stream_write(&d->w, k->s, &part);
}

void door_uncork(struct door *d, struct door_sock *k)
{
	send_held(d, k, true);
	door_turn(d);
}

static void write_bytes(struct door *d, struct door_sock *k, const uint8_t *data, uint32_t n_bytes, bool more)
{
	if (foil_chain_append(&d->w, &k->held, data, n_bytes))
		door_die(d, "no mbuf for a write");
	send_held(d, k, !more && !k->cork);
	door_turn(d);
}

static ssize_t refuse_write(struct door_sock *k)
{
	return k->error ? take_error(k) : -EPIPE;
}

/* The bytes of iov from offset on, as far as they fit. */
static uint32_t gather(const struct iovec *iov, int n_iov, size_t offset, uint8_t *out, uint32_t n_max)
{
	uint32_t n = 0;

	for (int i = 0; i < n_iov && n < n_max; i++) {
		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		uint32_t here = (uint32_t)FOIL_MIN(iov[i].iov_len - offset, (size_t)(n_max - n));
		memcpy(out + n, (const uint8_t *)iov[i].iov_base + offset, here);
		n += here;
		offset = 0;
	}
	return n;
}

ssize_t door_send(struct door *d, int fd, const struct iovec *iov, int n_iov, int flags)
{
	struct door_sock *k = socket_of(d, fd);
	size_t all = 0, done = 0;
	uint8_t piece[16384];

	if (!k)
		return -EBADF;
	for (int i = 0; i < n_iov; i++)
		all += iov[i].iov_len;
	while (done < all) {
		if (!k->s || k->wr_shut)
			return done ? (ssize_t)done : refuse_write(k);
		if (!may_write(d, k)) {
			if (k->nonblock || (flags & MSG_DONTWAIT))
				return done ? (ssize_t)done : -EAGAIN;
			(void)door_wait(d, may_write, k, UINT64_MAX); /* without a limit it ends when it may */
			continue;
		}
		uint32_t n_max = FOIL_MIN(stream_tx_room(k->s), (uint32_t)sizeof(piece));
		uint32_t n = gather(iov, n_iov, done, piece, n_max);
		done += n;
		write_bytes(d, k, piece, n, (flags & MSG_MORE) != 0 || (done < all && stream_tx_room(k->s) > n));
	}
	return (ssize_t)done;
}

int door_shutdown(struct door *d, int fd, int how)
{
	struct door_sock *k = socket_of(d, fd);

	if (!k)
		return -EBADF;
	if (how < SHUT_RD || how > SHUT_RDWR)
		return -EINVAL;
	if (!k->s)
		return -ENOTCONN;
	if (how != SHUT_WR)
		k->rd_shut = true;
	if (how != SHUT_RD && !k->wr_shut) {
		k->wr_shut = true;
		send_held(d, k, true);
		stream_shutdown(&d->w, k->s);
	}
	door_turn(d);
	return 0;
}

static void sock_free(struct door *d, struct door_sock *k)
{
	struct door_sock *next;

	if (k->l)
		tcp_unlisten(&d->w, k->l);
	for (struct door_sock *q = k->queue_head; q; q = next) {
		next = q->queue_next;
		if (q->s)
			stream_abort(&d->w, q->s);
		q->s = NULL;
		sock_free(d, q);
	}
	foil_chain_clear(&k->left);
	foil_chain_clear(&k->held);
	free(k);
}

int door_close(struct door *d, int fd)
{
	struct door_sock *k = door_sock_of(d, fd);

	if (!k)
		return -EBADF;
	if (k->s) {
		send_held(d, k, true);
		/* RFC 2525 2.17: data that nobody will read is answered by a reset, so that the peer knows */
		if (k->s->rx.n_bytes || (k->has_linger && k->linger_s == 0 && !k->connecting))
			stream_abort(&d->w, k->s);
		else
			stream_release(&d->w, k->s);
		k->s = NULL;
	}
	d->fds[fd - DOOR_FD_BASE] = NULL;
	sock_free(d, k);
	door_turn(d);
	return 0;
}

short door_poll_events(const struct door_sock *k)
{
	bool is_eof = k->eof || (k->s && k->s->rx_eof), is_new = !k->had_stream;
	short e = 0;

	if (k->l)
		return k->queue_head ? POLLIN | POLLRDNORM : 0;
	if (door_rx_bytes(k) || is_eof || k->rd_shut)
		e |= POLLIN | POLLRDNORM;
	if (is_eof || k->rd_shut)
		e |= POLLRDHUP;
	if (k->error)
		e |= POLLERR | POLLIN | POLLRDNORM;
	if ((is_new || !k->s || ((is_eof || k->rd_shut) && k->wr_shut)) && !k->connecting)
		e |= POLLHUP;
	if (is_new || !k->s || k->wr_shut || (!k->connecting && stream_tx_room(k->s) >= k->sndbuf / 3))
		e |= POLLOUT | POLLWRNORM;
	return e;
}
