/* Both ends of the channel, see channel.h. The segment's header is written once by the server; the client believes none of it before checking it against
 * the file's size and seals. Invariant: a channel that is not broken has its map, both eventfds and its socket. */
#include "ctrl/ring/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "dataplane/core/error.h"

#define SEGMENT_MAGIC 0x4c494f46u /* "FOIL" */
#define SEGMENT_BYTES_MAX (256u << 20)
#define N_FDS 3

struct segment {
	uint32_t magic, abi;
	uint64_t n_bytes, epoch;
	struct {
		uint64_t offset, n_bytes;
	} ring[2]; /* 0: to the data plane, 1: to the agent */
	struct ring_shared shared[2];
};
#define DATA_OFFSET 4096u
_Static_assert(sizeof(struct segment) <= DATA_OFFSET, "the header fits its page");

struct hello {
	uint32_t magic, abi;
};
struct welcome {
	uint32_t magic, abi, refused;
	char reason[RING_REASON_BYTES];
};

struct ring_server {
	int listener;
	char path[108];
	uint64_t to_node_bytes, to_agent_bytes, epoch;
	int candidate; /* accepted, hello not yet here; -1 */
	struct ring_channel *channel;
	bool is_announced;
};

static void __attribute__((format(printf, 2, 3))) say(char reason[RING_REASON_BYTES], const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(reason, RING_REASON_BYTES, fmt, ap); /* a cut sentence will do */
	va_end(ap);
}

static void close_fd(int fd)
{
	if (fd >= 0)
		(void)close(fd); /* nothing can be done about it */
}

/* ---- the channel itself */

static void broken(struct ring_channel *ch, const char *what)
{
	if (!ch->is_broken)
		say(ch->reason, "%s", what);
	ch->is_broken = true;
}

static void wake(const struct ring_channel *ch)
{
	uint64_t one = 1;
	if (write(ch->wake_fd, &one, sizeof(one)) < 0)
		return; /* the counter is at its maximum: the other side is woken anyway */
}

enum ring_result ring_channel_send(struct ring_channel *ch, uint16_t type, const void *payload, uint32_t n_bytes)
{
	if (ch->is_broken)
		return RING_BAD_INDEX;
	enum ring_result r = ring_put(&ch->out, type, payload, n_bytes);
	if (r == RING_OK)
		wake(ch);
	else if (r == RING_BAD_INDEX)
		broken(ch, ring_result_text(r));
	return r;
}

enum ring_result ring_channel_recv(struct ring_channel *ch, uint16_t *type, const uint8_t **payload, uint32_t *n_bytes)
{
	if (ch->is_broken)
		return RING_BAD_INDEX;
	uint64_t tail = ch->in.tail;
	enum ring_result r = ring_take(&ch->in, type, payload, n_bytes);
	if (r == RING_OK && ((tail ^ ch->in.tail) & (ch->in.n_bytes / 4)))
		wake(ch); /* a quarter was taken: a producer that found it full may go on */
	if (r != RING_OK && r != RING_EMPTY)
		broken(ch, ring_result_text(r));
	return r;
}

void ring_channel_turn(struct ring_channel *ch)
{
	uint64_t n;
	char byte;
	if (ch->is_broken)
		return;
	if (read(ch->wait_fd, &n, sizeof(n)) < 0 && errno != EAGAIN)
		broken(ch, "the eventfd is unreadable");
	ssize_t got = recv(ch->socket, &byte, 1, MSG_DONTWAIT);
	if (got >= 0)
		broken(ch, got == 0 ? "the peer closed" : "the peer wrote to the socket, which it must not");
	else if (errno != EAGAIN && errno != EINTR)
		broken(ch, strerror(errno));
	__atomic_store_n(&ch->out.shared->heartbeat, ch->out.shared->heartbeat + 1, __ATOMIC_RELAXED);
}

unsigned int ring_channel_fds(const struct ring_channel *ch, struct pollfd out[2])
{
	out[0] = (struct pollfd){.fd = ch->socket, .events = POLLIN};
	out[1] = (struct pollfd){.fd = ch->wait_fd, .events = POLLIN};
	return 2;
}

void ring_channel_free(struct ring_channel *ch)
{
	if (!ch)
		return;
	ring_consumer_fini(&ch->in);
	if (ch->map)
		(void)munmap(ch->map, ch->n_map_bytes); /* cannot fail for a mapping of ours */
	close_fd(ch->socket);
	close_fd(ch->memfd);
	close_fd(ch->wait_fd);
	close_fd(ch->wake_fd);
	free(ch);
}

static struct ring_channel *channel_new(int own_socket)
{
	struct ring_channel *ch = calloc(1, sizeof(*ch));
	if (!ch) {
		close_fd(own_socket);
		return NULL;
	}
	*ch = (struct ring_channel){.socket = own_socket, .memfd = -1, .wait_fd = -1, .wake_fd = -1};
	return ch;
}

static void attach(struct ring_channel *ch, unsigned int out_ring)
{
	struct segment *seg = ch->map;
	uint64_t at[2] = {DATA_OFFSET, DATA_OFFSET + seg->ring[0].n_bytes};
	uint64_t n[2] = {seg->ring[0].n_bytes, seg->ring[1].n_bytes};
	ring_producer_init(&ch->out, &seg->shared[out_ring], (uint8_t *)ch->map + at[out_ring], n[out_ring]);
	ring_consumer_init(&ch->in, &seg->shared[1 - out_ring], (uint8_t *)ch->map + at[1 - out_ring], n[1 - out_ring]);
}

/* ---- server */

static int make_segment(struct ring_server *s, struct ring_channel *ch)
{
	uint64_t n_bytes = DATA_OFFSET + s->to_node_bytes + s->to_agent_bytes;
	ch->memfd = memfd_create("foil-channel", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	ch->wait_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ch->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (ch->memfd < 0 || ch->wait_fd < 0 || ch->wake_fd < 0 || ftruncate(ch->memfd, (off_t)n_bytes) < 0 ||
	    fcntl(ch->memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	ch->map = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ch->memfd, 0);
	if (ch->map == MAP_FAILED) {
		ch->map = NULL;
		return -errno;
	}
	ch->n_map_bytes = n_bytes;
	*(struct segment *)ch->map = (struct segment){
		.magic = SEGMENT_MAGIC, .abi = RING_ABI, .n_bytes = n_bytes, .epoch = ++s->epoch,
		.ring = {{DATA_OFFSET, s->to_node_bytes}, {DATA_OFFSET + s->to_node_bytes, s->to_agent_bytes}},
	};
	attach(ch, 1);
	return 0;
}

/* One datagram; fds only when n_fds > 0. */
static int send_welcome(int sock, const struct welcome *msg, const int *fds, unsigned int n_fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * N_FDS)];
	} control = {0};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)msg, .iov_len = sizeof(*msg)};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
	if (n_fds) {
		mh.msg_control = control.bytes;
		mh.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		struct cmsghdr *cm = CMSG_FIRSTHDR(&mh);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(cm), fds, sizeof(int) * n_fds);
	}
	return sendmsg(sock, &mh, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)sizeof(*msg) ? 0 : -errno;
}

static void refuse_agent(int own_sock, char reason[RING_REASON_BYTES], const char *why)
{
	struct welcome msg = {.magic = SEGMENT_MAGIC, .abi = RING_ABI, .refused = 1};
	say(msg.reason, "%s", why);
	say(reason, "an agent was refused: %s", why);
	(void)send_welcome(own_sock, &msg, NULL, 0); /* if it cannot be told, it sees the close */
	close_fd(own_sock);
}

static bool is_stale(const struct sockaddr_un *addr)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool stale = fd >= 0 && connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 && errno == ECONNREFUSED;
	close_fd(fd);
	return stale;
}

static int make_folder(const char *path, struct foil_error *err)
{
	char dir[108];
	(void)snprintf(dir, sizeof(dir), "%s", path); /* the caller has checked the length */
	char *slash = strrchr(dir, '/');
	if (!slash || slash == dir)
		return 0;
	*slash = 0;
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return foil_error_set(err, -errno, "agent socket: cannot make the folder %s: %s", dir, strerror(errno));
	return 0;
}

int ring_server_open(const struct ring_server_params *p, struct ring_server **out, struct foil_error *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	if (strlen(p->path) >= sizeof(addr.sun_path))
		return foil_error_set(err, -ENAMETOOLONG, "agent socket: the path %s is longer than %zu bytes", p->path, sizeof(addr.sun_path) - 1);
	memcpy(addr.sun_path, p->path, strlen(p->path) + 1);
	int rc = make_folder(p->path, err);
	if (rc < 0)
		return rc;
	struct ring_server *s = calloc(1, sizeof(*s));
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (!s || fd < 0) {
		rc = foil_error_set(err, s ? -errno : -ENOMEM, "agent socket: %s", s ? strerror(errno) : "no memory");
		close_fd(fd);
		free(s);
		return rc;
	}
	if (is_stale(&addr))
		(void)unlink(p->path); /* bind says if it is still there */
	mode_t old = umask(0177);
	rc = bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 4) < 0 ? -errno : 0;
	(void)umask(old);
	if (rc < 0) {
		close_fd(fd);
		free(s);
		return rc == -EADDRINUSE ? foil_error_set(err, rc,
				      "agent socket %s: another hydrofoil listens there; stop it, or give this node its own agent_socket", p->path)
					 : foil_error_set(err, rc, "agent socket %s: %s", p->path, strerror(-rc));
	}
	*s = (struct ring_server){.listener = fd, .candidate = -1, .to_node_bytes = p->to_node_bytes ? p->to_node_bytes : 16u << 20,
				  .to_agent_bytes = p->to_agent_bytes ? p->to_agent_bytes : 1u << 20};
	memcpy(s->path, addr.sun_path, sizeof(s->path));
	*out = s;
	return 0;
}

static void greet(struct ring_server *s, char reason[RING_REASON_BYTES])
{
	struct hello hello;
	ssize_t n = recv(s->candidate, &hello, sizeof(hello), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	int sock = s->candidate;
	s->candidate = -1;
	if (n != (ssize_t)sizeof(hello) || hello.magic != SEGMENT_MAGIC) {
		refuse_agent(sock, reason, "what connected is not a foil-agent");
		return;
	}
	if (hello.abi != RING_ABI) {
		char why[RING_REASON_BYTES];
		say(why, "it speaks ABI %u and this hydrofoil %u; install the same version of both", hello.abi, RING_ABI);
		refuse_agent(sock, reason, why);
		return;
	}
	struct ring_channel *ch = channel_new(sock);
	struct welcome msg = {.magic = SEGMENT_MAGIC, .abi = RING_ABI};
	if (!ch)
		return;
	int rc = make_segment(s, ch);
	int fds[N_FDS] = {ch->memfd, ch->wake_fd, ch->wait_fd}; /* the agent waits on what we wake */
	if (rc == 0)
		rc = send_welcome(ch->socket, &msg, fds, N_FDS);
	if (rc < 0) {
		say(reason, "no segment for the agent: %s", strerror(-rc));
		ring_channel_free(ch);
		return;
	}
	s->channel = ch;
	s->is_announced = false;
}

struct ring_channel *ring_server_turn(struct ring_server *s, bool *is_new, char reason[RING_REASON_BYTES])
{
	reason[0] = 0;
	*is_new = false;
	if (s->channel) {
		ring_channel_turn(s->channel);
		if (s->channel->is_broken) {
			say(reason, "the agent is gone: %s", s->channel->reason);
			ring_server_drop(s);
		}
	}
	int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0 && s->channel) {
		refuse_agent(fd, reason, "another agent is connected; stop it first");
	} else if (fd >= 0) {
		close_fd(s->candidate); /* the newest of those that have not said hello */
		s->candidate = fd;
	}
	if (s->candidate >= 0 && !s->channel)
		greet(s, reason);
	if (s->channel && !s->is_announced)
		*is_new = s->is_announced = true;
	return s->channel;
}

unsigned int ring_server_fds(const struct ring_server *s, struct pollfd out[3])
{
	unsigned int n = 0;
	out[n++] = (struct pollfd){.fd = s->listener, .events = POLLIN};
	if (s->channel)
		n += ring_channel_fds(s->channel, out + n);
	else if (s->candidate >= 0)
		out[n++] = (struct pollfd){.fd = s->candidate, .events = POLLIN};
	return n;
}

void ring_server_drop(struct ring_server *s)
{
	ring_channel_free(s->channel);
	s->channel = NULL;
}

void ring_server_close(struct ring_server *s)
{
	if (!s)
		return;
	ring_server_drop(s);
	close_fd(s->candidate);
	close_fd(s->listener);
	(void)unlink(s->path); /* it may be gone already */
	free(s);
}

/* ---- client */

static bool wait_readable(int fd, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	return poll(&p, 1, timeout_ms) == 1;
}

static bool recv_welcome(int sock, struct welcome *msg, int fds[N_FDS])
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * N_FDS)];
	} control;
	struct iovec iov = {.iov_base = msg, .iov_len = sizeof(*msg)};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
	ssize_t n = recvmsg(sock, &mh, MSG_CMSG_CLOEXEC);
	unsigned int n_fds = 0;
	for (struct cmsghdr *cm = n > 0 ? CMSG_FIRSTHDR(&mh) : NULL; cm; cm = CMSG_NXTHDR(&mh, cm)) {
		if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
			continue;
		unsigned int here = (unsigned int)((cm->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		for (unsigned int i = 0; i < here && n_fds < N_FDS; i++)
			memcpy(&fds[n_fds++], CMSG_DATA(cm) + i * sizeof(int), sizeof(int));
	}
	msg->reason[sizeof(msg->reason) - 1] = 0;
	return n == (ssize_t)sizeof(*msg) && msg->magic == SEGMENT_MAGIC && (msg->refused || n_fds == N_FDS);
}

static const char *check_segment(const struct segment *seg, uint64_t n_bytes)
{
	if (seg->magic != SEGMENT_MAGIC || seg->abi != RING_ABI || seg->n_bytes != n_bytes)
		return "its header is not ours";
	uint64_t at = DATA_OFFSET;
	for (unsigned int i = 0; i < 2; i++) {
		uint64_t n = seg->ring[i].n_bytes;
		if (seg->ring[i].offset != at || n < 4096 || n > SEGMENT_BYTES_MAX || (n & (n - 1)) != 0)
			return "a ring lies where it cannot";
		at += n;
	}
	return at == n_bytes ? NULL : "its size does not fit its rings";
}

static const char *map_segment(struct ring_channel *ch)
{
	struct stat st;
	int seals = fcntl(ch->memfd, F_GET_SEALS);
	if (fstat(ch->memfd, &st) < 0 || st.st_size < (off_t)DATA_OFFSET || st.st_size > (off_t)(2 * (uint64_t)SEGMENT_BYTES_MAX + DATA_OFFSET))
		return "it has no sensible size";
	if (seals < 0 || !(seals & F_SEAL_SHRINK))
		return "it is not sealed and could shrink under us";
	ch->map = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, ch->memfd, 0);
	if (ch->map == MAP_FAILED) {
		ch->map = NULL;
		return "it cannot be mapped";
	}
	ch->n_map_bytes = (size_t)st.st_size;
	struct segment copy;
	memcpy(&copy, ch->map, sizeof(copy));
	const char *why = check_segment(&copy, ch->n_map_bytes);
	if (why)
		return why;
	uint64_t at = DATA_OFFSET + copy.ring[0].n_bytes;
	struct segment *seg = ch->map;
	ring_producer_init(&ch->out, &seg->shared[0], (uint8_t *)ch->map + DATA_OFFSET, copy.ring[0].n_bytes);
	ring_consumer_init(&ch->in, &seg->shared[1], (uint8_t *)ch->map + at, copy.ring[1].n_bytes);
	return NULL;
}

struct ring_channel *ring_client_connect(const char *path, int timeout_ms, char reason[RING_REASON_BYTES])
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct hello hello = {.magic = SEGMENT_MAGIC, .abi = RING_ABI};
	struct welcome msg = {0};
	int fds[N_FDS] = {-1, -1, -1};
	if (strlen(path) >= sizeof(addr.sun_path)) {
		say(reason, "the socket's path is longer than %zu bytes", sizeof(addr.sun_path) - 1);
		return NULL;
	}
	memcpy(addr.sun_path, path, strlen(path) + 1);
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct ring_channel *ch = sock < 0 ? NULL : channel_new(sock);
	if (!ch) {
		say(reason, "no socket: %s", strerror(errno));
		return NULL;
	}
	const char *why = NULL;
	if (connect(sock, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		say(reason, "hydrofoil does not answer at %s: %s", path, strerror(errno));
	else if (send(sock, &hello, sizeof(hello), MSG_NOSIGNAL) != (ssize_t)sizeof(hello) || !wait_readable(sock, timeout_ms) ||
		 !recv_welcome(sock, &msg, fds))
		say(reason, "what answers at %s is not a hydrofoil, or it hangs", path);
	else if (msg.refused)
		say(reason, "hydrofoil refused us: %.200s", msg.reason);
	else {
		ch->memfd = fds[0];
		ch->wait_fd = fds[1];
		ch->wake_fd = fds[2];
		why = map_segment(ch);
		if (!why)
			return ch;
		say(reason, "the segment is refused: %s", why);
		fds[0] = fds[1] = fds[2] = -1;
	}
	for (unsigned int i = 0; i < N_FDS; i++)
		close_fd(fds[i]);
	ring_channel_free(ch);
	return NULL;
}
