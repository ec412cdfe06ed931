/* The PROXY protocol, versions 1 and 2 (haproxy.org, proxy-protocol.txt): who the client of a connection really is, told by the proxy in front in a
 * header before all else; and the same from us to an upstream. Pure functions over bytes. */
#pragma once

#include "dataplane/core/chain.h"
#include "dataplane/stream/stream.h"

enum proxy_header_result {
	PROXY_HEADER_MORE,
	PROXY_HEADER_READY,
	PROXY_HEADER_ABSENT, /* the first bytes are of something else */
	PROXY_HEADER_BAD
};

struct proxy_header {
	uint32_t n_bytes;               /* of the header; what follows is the connection's */
	bool has_addresses;             /* LOCAL and UNKNOWN have none: the connection's own hold */
	struct stream_addr source, destination;
};

/* Looks at the beginning of rx and takes nothing. */
enum proxy_header_result proxy_header_read(const struct foil_chain *rx, struct proxy_header *out) FOIL_MUST_USE;

#define PROXY_HEADER_TLV_BYTES_MAX 8192u /* of version 2 behind the addresses: far beyond what certificates' names need */
#define PROXY_HEADER_WRITE_BYTES_MAX 108u
enum proxy_header_version { PROXY_HEADER_NONE, PROXY_HEADER_V1, PROXY_HEADER_V2 };
/* source and destination NULL: the proxy's own connection (UNKNOWN, LOCAL). Addresses of two families are both told as IPv6. Returns how many bytes of out
 * were written. */
uint32_t proxy_header_write(enum proxy_header_version version, const struct stream_addr *source, const struct stream_addr *destination,
			    uint8_t out[PROXY_HEADER_WRITE_BYTES_MAX]);
