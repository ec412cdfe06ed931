/* What the resolver's two halves share: what is made of an answer (answer.c), when which name is asked (resolver.c). Private to the room. */
#pragma once

#include "ctrl/dns/dns.h"

#include <ares.h>

struct dns_answer {
	struct dns_address addresses[DNS_ADDRESSES_MAX];
	uint32_t n_addresses, ttl_s, n_left_out, n_unusable;
	enum dns_outcome outcome;
	char error[DNS_ERROR_BYTES];
};

/* What c-ares says of a question; info may be NULL and stays the caller's. ttl_s is the least of all records that led to an address. */
void dns_answer_read(int status, const struct ares_addrinfo *info, struct dns_answer *out);
bool dns_is_askable(const char *name);
