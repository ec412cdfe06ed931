/* Both ends of the channel, see channel.h. The segment's header is written once by the server; the client believes none of it before checking it against
 * the file's size and seals. A side wakes the other by a byte on the socket, not by an eventfd: that would be one
 * open file description for both, and a hostile side could make it block for the other (O_NONBLOCK is the description's).
 * Invariant: a channel that is not broken has its map and its socket. */
#include "ctrl/ring/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "dataplane/core/error.h"

#define SEGMENT_MAGIC 0x4c494f46u /* "FOIL" */
#define SEGMENT_BYTES_MAX (256u << 20)
#define WAKES_A_TURN 4096u /* more than a socket holds */

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
	(void)send(ch->socket, "w", 1, MSG_DONTWAIT | MSG_NOSIGNAL); /* full: the other side has enough to wake up for; closed: the next turn says so */
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
	char byte[8];
	ssize_t got = 1;
	for (unsigned int i = 0; got > 0 && i < WAKES_A_TURN && !ch->is_broken; i++)
		got = recv(ch->socket, byte, sizeof(byte), MSG_DONTWAIT);
	if (ch->is_broken)
		return;
	if (got == 0)
		broken(ch, "the peer closed");
	else if (got < 0 && errno != EAGAIN && errno != EINTR)
		broken(ch, errno == ECONNRESET ? "the peer closed" : strerror(errno));
	__atomic_store_n(&ch->out.shared->heartbeat, ++ch->heartbeat, __ATOMIC_RELAXED);
}

unsigned int ring_channel_fds(const struct ring_channel *ch, struct pollfd out[1])
{
	out[0] = (struct pollfd){.fd = ch->socket, .events = POLLIN};
	return 1;
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
	free(ch);
}

static struct ring_channel *channel_new(int own_socket)
{
	struct ring_channel *ch = calloc(1, sizeof(*ch));
	if (!ch) {
		close_fd(own_socket);
		return NULL;
	}
	*ch = (struct ring_channel){.socket = own_socket, .memfd = -1};
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
	if (ch->memfd < 0 || ftruncate(ch->memfd, (off_t)n_bytes) < 0 ||
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

/* One datagram; memfd goes with it unless it is -1. */
static int send_welcome(int sock, const struct welcome *msg, int memfd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)msg, .iov_len = sizeof(*msg)};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
	if (memfd >= 0) {
		mh.msg_control = control.bytes;
		mh.msg_controllen = sizeof(control.bytes);
		struct cmsghdr *cm = CMSG_FIRSTHDR(&mh);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cm), &memfd, sizeof(int));
	}
	return sendmsg(sock, &mh, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)sizeof(*msg) ? 0 : -errno;
}

static void refuse_agent(int own_sock, char reason[RING_REASON_BYTES], const char *why)
{
	struct welcome msg = {.magic = SEGMENT_MAGIC, .abi = RING_ABI, .refused = 1};
	say(msg.reason, "%s", why);
	say(reason, "an agent was refused: %s", why);
	(void)send_welcome(own_sock, &msg, -1); /* if it cannot be told, it sees the close */
	close_fd(own_sock);
}

/* The process that listens at addr; 0: a socket file that nobody listens at; -1: neither can be said (another kind of file, say). */
static pid_t who_listens(const struct sockaddr_un *addr)
{
	struct ucred cred = {.pid = -1};
	socklen_t n = sizeof(cred);
	struct stat st;
	if (lstat(addr->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return -1;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0)
		cred.pid = errno == ECONNREFUSED ? 0 : -1;
	else if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0)
		cred.pid = -1;
	close_fd(fd);
	return cred.pid;
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
	pid_t other = who_listens(&addr);
	if (other == 0)
		(void)unlink(p->path); /* bind says if it is still there */
	mode_t old = umask(0177);
	rc = bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 4) < 0 ? -errno : 0;
	(void)umask(old);
	if (rc < 0) {
		close_fd(fd);
		free(s);
		if (rc != -EADDRINUSE)
			return foil_error_set(err, rc, "agent socket %s: %s", p->path, strerror(-rc));
		if (other < 0)
			return foil_error_set(err, rc, "agent socket %s: there is something that we did not make; remove it, or name another path", p->path);
		return foil_error_set(err, rc, "agent socket %s: another hydrofoil (process %d) listens there; stop it, or give this node its own "
				      "agent_socket", p->path, (int)other);
	}
	*s = (struct ring_server){.listener = fd, .candidate = -1, .to_node_bytes = p->to_node_bytes ? p->to_node_bytes : 32u << 20,
				  .to_agent_bytes = p->to_agent_bytes ? p->to_agent_bytes : 1u << 20};
	memcpy(s->path, addr.sun_path, sizeof(s->path));
	*out = s;
	return 0;
}

/* What a hello must be: NULL, or why it is refused. */
static const char *judge_hello(const struct ring_server *s, const struct hello *hello, ssize_t n, char why[RING_REASON_BYTES])
{
	if (n != (ssize_t)sizeof(*hello) || hello->magic != SEGMENT_MAGIC)
		return "what connected is not a foil-agent";
	if (hello->abi != RING_ABI) {
		say(why, "it speaks ABI %u and this hydrofoil %u; install the same version of both", hello->abi, RING_ABI);
		return why;
	}
	return s->channel ? "another agent is connected; stop it first" : NULL;
}

static void greet(struct ring_server *s, char reason[RING_REASON_BYTES])
{
	struct hello hello;
	char text[RING_REASON_BYTES];
	ssize_t n = recv(s->candidate, &hello, sizeof(hello), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	int sock = s->candidate;
	s->candidate = -1;
	if (n <= 0) {
		close_fd(sock); /* it only looked whether somebody is here */
		return;
	}
	const char *why = judge_hello(s, &hello, n, text);
	if (why) {
		refuse_agent(sock, reason, why);
		return;
	}
	struct ring_channel *ch = channel_new(sock);
	struct welcome msg = {.magic = SEGMENT_MAGIC, .abi = RING_ABI};
	if (!ch)
		return;
	int rc = make_segment(s, ch);
	if (rc == 0)
		rc = send_welcome(ch->socket, &msg, ch->memfd);
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
	if (fd >= 0) {
		close_fd(s->candidate); /* the newest of those that have not said hello */
		s->candidate = fd;
	}
	if (s->candidate >= 0)
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
	if (s->candidate >= 0)
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

/* *memfd is set when one came, whatever else is wrong. Spare descriptors have no room in control: the kernel closes them. */
static bool recv_welcome(int sock, struct welcome *msg, int *memfd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = msg, .iov_len = sizeof(*msg)};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = CMSG_LEN(sizeof(int))};
	ssize_t n = recvmsg(sock, &mh, MSG_CMSG_CLOEXEC);
	struct cmsghdr *cm = n > 0 ? CMSG_FIRSTHDR(&mh) : NULL;
	if (cm && cm->cmsg_level == SOL_SOCKET && cm->cmsg_type == SCM_RIGHTS && cm->cmsg_len >= CMSG_LEN(sizeof(int)))
		memcpy(memfd, CMSG_DATA(cm), sizeof(int));
	msg->reason[sizeof(msg->reason) - 1] = 0;
	return n == (ssize_t)sizeof(*msg) && msg->magic == SEGMENT_MAGIC && (msg->refused || *memfd >= 0);
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

/* From the connected socket to the mapped channel; false with a sentence. */
static bool shake_hands(struct ring_channel *ch, const char *path, int timeout_ms, char reason[RING_REASON_BYTES])
{
	struct hello hello = {.magic = SEGMENT_MAGIC, .abi = RING_ABI};
	struct welcome msg = {0};
	if (send(ch->socket, &hello, sizeof(hello), MSG_NOSIGNAL) != (ssize_t)sizeof(hello) || !wait_readable(ch->socket, timeout_ms) ||
	    !recv_welcome(ch->socket, &msg, &ch->memfd)) {
		say(reason, "what answers at %s is not a hydrofoil, or it hangs", path);
		return false;
	}
	if (msg.refused) {
		say(reason, "hydrofoil refused us: %.200s", msg.reason);
		return false;
	}
	if (msg.abi != RING_ABI) {
		say(reason, "hydrofoil speaks ABI %u and we %u; install the same version of both", msg.abi, RING_ABI);
		return false;
	}
	const char *why = map_segment(ch);
	if (why)
		say(reason, "the segment is refused: %s", why);
	return why == NULL;
}

struct ring_channel *ring_client_connect(const char *path, int timeout_ms, char reason[RING_REASON_BYTES])
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
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
	if (connect(sock, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		say(reason, "hydrofoil does not answer at %s: %s", path, strerror(errno));
	else if (shake_hands(ch, path, timeout_ms, reason))
		return ch;
	ring_channel_free(ch);
	return NULL;
}
