/* See server.h. Messages are written by hand, so that they can be wrong. */
#include "tests/unit/dns/server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define MESSAGE_MAX 65000

struct out {
	uint8_t bytes[MESSAGE_MAX];
	size_t n;
};

static void put(struct out *o, const void *data, size_t n)
{
	assert_true(o->n + n <= sizeof(o->bytes));
	memcpy(o->bytes + o->n, data, n);
	o->n += n;
}

static void put16(struct out *o, uint16_t v)
{
	put(o, (const uint8_t[]){(uint8_t)(v >> 8), (uint8_t)v}, 2);
}

static void put32(struct out *o, uint32_t v)
{
	put16(o, (uint16_t)(v >> 16));
	put16(o, (uint16_t)v);
}

static void record_head(struct out *o, uint16_t name, uint16_t type, uint32_t ttl, uint16_t n_data)
{
	put16(o, name);
	put16(o, type);
	put16(o, 1);
	put32(o, ttl);
	put16(o, n_data);
}

static uint16_t addresses(struct out *o, const struct dns_zone *z, uint16_t type, uint16_t name)
{
	const char *const *list = type == 28 ? z->aaaa : z->a;
	uint16_t n = 0;

	for (; n < 4 && list[n]; n++) {
		uint8_t bytes[16];
		assert_int_equal(inet_pton(type == 28 ? AF_INET6 : AF_INET, list[n], bytes), 1);
		record_head(o, name, type, z->ttl, type == 28 ? 16 : 4);
		put(o, bytes, type == 28 ? 16 : 4);
	}
	return n;
}

static uint16_t many(struct out *o, const struct dns_zone *z)
{
	for (uint32_t i = 0; i < z->n_many; i++) {
		record_head(o, 0xc00c, 1, z->ttl, 4);
		put32(o, 0xc6120000u + 0x100u + i); /* 198.18.1.0 and on */
	}
	return (uint16_t)z->n_many;
}

static struct dns_zone *zone_of(const struct dns_server *s, const uint8_t *name)
{
	char text[256];
	size_t n = 0;

	for (; *name && n + *name + 1 < sizeof(text); name += *name + 1) {
		memcpy(text + n, name + 1, *name);
		n += *name;
		text[n++] = '.';
	}
	text[n ? n - 1 : 0] = 0;
	for (uint32_t i = 0; i < s->n_zones; i++)
		if (strcasecmp(s->zones[i].name, text) == 0)
			return &s->zones[i];
	return NULL;
}

/* The records of an answer; how many it says there are. */
static uint16_t body(struct out *o, const struct dns_zone *z, uint16_t type, bool is_tcp)
{
	static const uint8_t other[] = "\5other\4test";
	uint16_t n = 0;

	switch (z->say) {
	case SAY_ADDRESSES: case SAY_WRONG_ID: case SAY_WRONG_NAME: return addresses(o, z, type, 0xc00c);
	case SAY_WRONG_TYPE: record_head(o, 0xc00c, 16, z->ttl, 5); put(o, "\4text", 5); return 1;
	case SAY_CNAME:
		record_head(o, 0xc00c, 5, z->cname_ttl, sizeof(other));
		n = (uint16_t)o->n;
		put(o, other, sizeof(other));
		return (uint16_t)(1 + addresses(o, z, type, (uint16_t)(0xc000 | n)));
	case SAY_CNAME_LOOP:
		record_head(o, 0xc00c, 5, z->ttl, sizeof(other));
		n = (uint16_t)o->n;
		put(o, other, sizeof(other));
		record_head(o, (uint16_t)(0xc000 | n), 5, z->ttl, 2);
		put16(o, 0xc00c);
		return 2;
	case SAY_POINTER_LOOP: n = (uint16_t)o->n; record_head(o, (uint16_t)(0xc000 | n), type, z->ttl, 4); put32(o, 0x0a000001); return 1;
	case SAY_TOO_FEW: (void)addresses(o, z, type, 0xc00c); return 40;
	case SAY_SHORT_RECORD: record_head(o, 0xc00c, type, z->ttl, 3); put(o, "\1\2\3", 3); return 1;
	case SAY_CUT: return is_tcp && type == 1 ? many(o, z) : 0;
	case SAY_NO_NAME: case SAY_FAILURE: case SAY_REFUSED: case SAY_NOTHING: case SAY_NO_BYTES: case SAY_NOISE: case SAY_COUNT: return 0;
	}
	return 0;
}

/* False: nothing is said. */
static bool answer(struct dns_server *s, const uint8_t *q, size_t n_q, bool is_tcp, struct out *o)
{
	size_t end = 12;

	while (end < n_q && q[end])
		end += q[end] + 1u;
	assert_true(end + 5 <= n_q);
	struct dns_zone *z = zone_of(s, q + 12);
	uint16_t type = (uint16_t)(q[end + 1] << 8 | q[end + 2]);
	static const struct dns_zone nobody = {.say = SAY_NO_NAME};
	const struct dns_zone *say = z ? z : &nobody;
	o->n = 0;
	if (z)
		z->n_asked++;
	if (say->say == SAY_NOTHING)
		return false;
	if (say->say == SAY_NO_BYTES)
		return true;
	if (say->say == SAY_NOISE) {
		put(o, "\xff\xff not DNS at all, and long enough to have a header", 50);
		return true;
	}
	uint16_t code = say->say == SAY_NO_NAME ? 3 : say->say == SAY_FAILURE ? 2 : say->say == SAY_REFUSED ? 5 : 0;
	put(o, q, 2);
	o->bytes[0] ^= say->say == SAY_WRONG_ID ? 0x55 : 0;
	put16(o, (uint16_t)(0x8180 | code | (say->say == SAY_CUT && !is_tcp ? 0x0200 : 0)));
	put16(o, 1);
	put(o, "\0\0\0\0\0\0", 6);
	put(o, q + 12, end + 5 - 12);
	if (say->say == SAY_WRONG_NAME)
		o->bytes[13] ^= 1;
	uint16_t n = body(o, say, type, is_tcp);
	o->bytes[6] = (uint8_t)(n >> 8);
	o->bytes[7] = (uint8_t)n;
	return true;
}

void dns_server_open(struct dns_server *s, struct dns_zone *zones, uint32_t n_zones)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);

	*s = (struct dns_server){.udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
				 .listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), .tcp = -1, .zones = zones, .n_zones = n_zones};
	assert_int_equal(bind(s->udp, (const struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(getsockname(s->udp, (struct sockaddr *)&a, &n), 0);
	assert_int_equal(bind(s->listener, (const struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(s->listener, 4), 0);
	s->port = ntohs(a.sin_port);
}

void dns_server_close(struct dns_server *s)
{
	(void)close(s->udp);
	(void)close(s->listener);
	if (s->tcp >= 0)
		(void)close(s->tcp);
}

static void turn_tcp(struct dns_server *s)
{
	static struct out o;
	uint8_t q[1024];

	if (s->tcp < 0)
		s->tcp = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (s->tcp < 0)
		return;
	ssize_t n = recv(s->tcp, q, sizeof(q), 0); /* a question comes in one piece over loopback */
	if (n == 0) {
		(void)close(s->tcp);
		s->tcp = -1;
	}
	for (size_t at = 0; n > 0 && at + 2 <= (size_t)n;) {
		size_t n_q = (size_t)(q[at] << 8 | q[at + 1]);
		if (answer(s, q + at + 2, n_q, true, &o)) {
			const uint8_t head[2] = {(uint8_t)(o.n >> 8), (uint8_t)o.n};
			assert_int_equal(send(s->tcp, head, 2, MSG_NOSIGNAL), 2);
			assert_int_equal(send(s->tcp, o.bytes, o.n, MSG_NOSIGNAL), (ssize_t)o.n);
		}
		at += 2 + n_q;
	}
}

void dns_server_turn(struct dns_server *s)
{
	static struct out o;
	struct sockaddr_in from;
	socklen_t n_from = sizeof(from);
	uint8_t q[1024];
	ssize_t n;

	while ((n = recvfrom(s->udp, q, sizeof(q), 0, (struct sockaddr *)&from, &n_from)) > 0)
		if (!s->is_dead && answer(s, q, (size_t)n, false, &o))
			(void)sendto(s->udp, o.bytes, o.n, 0, (const struct sockaddr *)&from, n_from); /* who is gone is gone */
	turn_tcp(s);
}
