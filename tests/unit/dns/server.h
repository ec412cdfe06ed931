/* A name server of the test's on loopback, UDP and TCP, in the test's own thread: it answers when it is turned. What it says of a name, good or hostile,
 * stands in a table that the test may change at any moment. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum dns_say {
	SAY_ADDRESSES,     /* a[] and aaaa[] by the question's type; none of that type: an empty answer */
	SAY_NO_NAME,
	SAY_FAILURE,       /* SERVFAIL */
	SAY_REFUSED,
	SAY_NOTHING,
	SAY_NO_BYTES,      /* a datagram without any */
	SAY_NOISE,
	SAY_WRONG_ID,
	SAY_WRONG_NAME,    /* the answer to another question */
	SAY_WRONG_TYPE,    /* TXT records where addresses were asked for */
	SAY_CNAME,         /* an alias with ttl cname_ttl, then the addresses */
	SAY_CNAME_LOOP,    /* two aliases of each other */
	SAY_POINTER_LOOP,  /* a compressed name that points at itself */
	SAY_TOO_FEW,       /* counts more records than there are */
	SAY_SHORT_RECORD,  /* an address of 3 bytes */
	SAY_CUT,           /* UDP says truncated; TCP has n_many addresses */
	SAY_COUNT
};

struct dns_zone {
	const char *name;
	enum dns_say say;
	uint32_t ttl, cname_ttl, n_many;
	const char *a[4], *aaaa[4];
	uint32_t n_asked; /* questions of type A and AAAA */
};

struct dns_server {
	int udp, listener, tcp; /* -1: not open */
	uint16_t port;
	struct dns_zone *zones;
	uint32_t n_zones;
	bool is_dead; /* takes nothing: questions pile up and are lost */
};

void dns_server_open(struct dns_server *s, struct dns_zone *zones, uint32_t n_zones); /* fails the test when it cannot */
void dns_server_close(struct dns_server *s);
void dns_server_turn(struct dns_server *s);
