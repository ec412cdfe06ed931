/* The client's end of memif 2.0. It brings one region: two rings and their buffers.
 * Invariant: what mc_close leaves is nothing, from any state. */
#include "tests/unit/nic/memif_client.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define COOKIE 0x3e31f20u
#define VERSION 0x200u

static void put(struct mc_message *m, size_t at, uint64_t v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		m->bytes[at + i] = (uint8_t)(v >> 8 * i);
}

static struct mc_message of(enum mc_type type)
{
	struct mc_message m = {{0}};

	put(&m, 0, type, 2);
	return m;
}

struct mc_message mc_text(enum mc_type type, size_t at, const char *text)
{
	struct mc_message m = of(type);
	size_t n = strlen(text);

	memcpy(m.bytes + at, text, n < sizeof(m.bytes) - at ? n : sizeof(m.bytes) - at);
	return m;
}

struct mc_message mc_hello(uint16_t max_rings, uint8_t log2_ring_size)
{
	struct mc_message m = of(MC_HELLO);

	put(&m, 34, VERSION, 2);
	put(&m, 36, VERSION, 2);
	put(&m, 38, 255, 2);
	put(&m, 40, max_rings - 1u, 2);
	put(&m, 42, max_rings - 1u, 2);
	put(&m, 44, log2_ring_size, 1);
	return m;
}

struct mc_message mc_init(uint32_t id)
{
	struct mc_message m = of(MC_INIT);

	put(&m, 2, VERSION, 2);
	put(&m, 4, id, 4);
	put(&m, 33, 'x', 1);
	return m;
}

struct mc_message mc_region(uint16_t index, uint64_t n_bytes)
{
	struct mc_message m = of(MC_ADD_REGION);

	put(&m, 2, index, 2);
	put(&m, 4, n_bytes, 8);
	return m;
}

struct mc_message mc_ring(bool to_server, uint16_t index, uint16_t region, uint32_t offset, uint8_t log2_ring_size)
{
	struct mc_message m = of(MC_ADD_RING);

	put(&m, 2, to_server, 2);
	put(&m, 4, index, 2);
	put(&m, 6, region, 2);
	put(&m, 8, offset, 4);
	put(&m, 12, log2_ring_size, 1);
	return m;
}

bool mc_open(struct mc *c, const char *path)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	struct timeval limit = {.tv_sec = 5};

	*c = (struct mc){.sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), .memory = -1, .events = {-1, -1}};
	snprintf(to.sun_path, sizeof(to.sun_path), "%s", path);
	return c->sock >= 0 && setsockopt(c->sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) == 0 &&
	       connect(c->sock, (struct sockaddr *)&to, sizeof(to)) == 0;
}

bool mc_send(const struct mc *c, const struct mc_message *m, int fd)
{
	union { char bytes[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control = {{0}};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)m->bytes, .iov_len = sizeof(m->bytes)};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};

	if (fd >= 0) {
		h.msg_control = control.bytes;
		h.msg_controllen = sizeof(control.bytes);
		control.align = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
		memcpy(CMSG_DATA(&control.align), &fd, sizeof(fd));
	}
	return sendmsg(c->sock, &h, MSG_NOSIGNAL) == (ssize_t)sizeof(m->bytes);
}

int mc_hear(const struct mc *c)
{
	struct mc_message m;

	return recv(c->sock, m.bytes, sizeof(m.bytes), 0) == (ssize_t)sizeof(m.bytes) ? m.bytes[0] : 0;
}

static bool say(const struct mc *c, struct mc_message m, int fd, int answer)
{
	return mc_send(c, &m, fd) && mc_hear(c) == answer;
}

static uint8_t *ring_of(const struct mc *c, unsigned int ring)
{
	return c->at + ring * MC_RING_BYTES;
}

static uint16_t *slot_number(const struct mc *c, unsigned int ring, size_t at)
{
	return (uint16_t *)(void *)(ring_of(c, ring) + at);
}

#define HEAD 6u
#define TAIL 64u

static bool memory_make(struct mc *c, bool sealed)
{
	uint32_t cookie = COOKIE;
	uint16_t quiet = 1;

	c->memory = memfd_create("test", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	if (c->memory < 0 || ftruncate(c->memory, MC_REGION_BYTES) || (sealed && fcntl(c->memory, F_ADD_SEALS, F_SEAL_SHRINK)))
		return false;
	c->at = mmap(NULL, MC_REGION_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, c->memory, 0);
	if (c->at == MAP_FAILED) {
		c->at = NULL;
		return false;
	}
	for (unsigned int ring = 0; ring < 2; ring++) {
		memcpy(ring_of(c, ring), &cookie, sizeof(cookie));
		memcpy(ring_of(c, ring) + 4, &quiet, sizeof(quiet));
		for (unsigned int i = 0; i < MC_SLOTS; i++) {
			uint32_t words[4] = {0, MC_BUFFER_BYTES, 2 * MC_RING_BYTES + (ring * MC_SLOTS + i) * MC_BUFFER_BYTES, 0};
			memcpy(ring_of(c, ring) + 128 + 16 * i, words, sizeof(words));
		}
		c->events[ring] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	}
	return c->events[0] >= 0 && c->events[1] >= 0;
}

bool mc_connect(struct mc *c, const char *path, uint32_t id, bool sealed)
{
	return mc_open(c, path) && memory_make(c, sealed) && mc_hear(c) == MC_HELLO && say(c, mc_init(id), -1, MC_ACK) &&
	       say(c, mc_region(0, MC_REGION_BYTES), c->memory, MC_ACK) && say(c, mc_ring(true, 0, 0, 0, MC_LOG2_RING), c->events[0], MC_ACK) &&
	       say(c, mc_ring(false, 0, 0, MC_RING_BYTES, MC_LOG2_RING), c->events[1], MC_ACK) &&
	       say(c, mc_text(MC_CONNECT, 2, "test"), -1, MC_CONNECTED);
}

uint16_t mc_push(struct mc *c, uint16_t n_bytes)
{
	uint16_t tail = __atomic_load_n(slot_number(c, 0, TAIL), __ATOMIC_ACQUIRE), head = *slot_number(c, 0, HEAD);
	uint16_t n = (uint16_t)(tail + MC_SLOTS - head);

	for (uint16_t i = 0; i < n; i++) {
		uint32_t length = n_bytes;
		memcpy(ring_of(c, 0) + 128 + 16 * ((head + i) % MC_SLOTS) + 4, &length, sizeof(length));
	}
	__atomic_store_n(slot_number(c, 0, HEAD), (uint16_t)(head + n), __ATOMIC_RELEASE);
	return n;
}

void mc_pull(struct mc *c)
{
	uint16_t tail = __atomic_load_n(slot_number(c, 1, TAIL), __ATOMIC_ACQUIRE);

	for (uint16_t i = 0; i < MC_SLOTS; i++) {
		uint32_t length = MC_BUFFER_BYTES;
		memcpy(ring_of(c, 1) + 128 + 16 * i + 4, &length, sizeof(length));
	}
	__atomic_store_n(slot_number(c, 1, HEAD), (uint16_t)(tail + MC_SLOTS), __ATOMIC_RELEASE);
}

void mc_close(struct mc *c)
{
	if (c->at)
		(void)munmap(c->at, MC_REGION_BYTES);
	for (unsigned int i = 0; i < 2; i++)
		if (c->events[i] >= 0)
			close(c->events[i]);
	if (c->memory >= 0)
		close(c->memory);
	if (c->sock >= 0)
		close(c->sock);
	*c = (struct mc){.sock = -1, .memory = -1, .events = {-1, -1}};
}
