/* An answer as c-ares parsed it, made into addresses that an endpoint may have. Everything in it is the name server's choice: how many, which, for how
 * long. Invariant: at most DNS_ADDRESSES_MAX, no two alike, none that is not a host's, IPv4 before IPv6 and else in the answer's order. */
#include "ctrl/dns/dns_priv.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

/* No other host has it: what names such an address would have us speak to ourselves, to nobody or to everybody. */
static bool is_usable_v4(const uint8_t b[4])
{
	return b[0] != 0 && b[0] != 127 && b[0] < 224;
}

static bool is_usable_v6(const uint8_t b[16])
{
	static const uint8_t zeros[15];

	if (b[0] == 0xff || (memcmp(b, zeros, 15) == 0 && b[15] <= 1))
		return false;
	if (b[0] == 0xfe && (b[1] & 0xc0) == 0x80)
		return false; /* a link's own, and which link is not said */
	if (memcmp(b, zeros, 10) == 0 && b[10] == 0xff && b[11] == 0xff)
		return is_usable_v4(b + 12);
	return true;
}

static const void *bytes_of(const struct ares_addrinfo_node *n)
{
	if (n->ai_family == AF_INET)
		return &((const struct sockaddr_in *)(const void *)n->ai_addr)->sin_addr;
	return &((const struct sockaddr_in6 *)(const void *)n->ai_addr)->sin6_addr;
}

static bool is_usable(const struct ares_addrinfo_node *n)
{
	return n->ai_family == AF_INET ? is_usable_v4(bytes_of(n)) : is_usable_v6(bytes_of(n));
}

static bool has(const struct dns_answer *a, const char *text)
{
	for (uint32_t i = 0; i < a->n_addresses; i++)
		if (strcmp(a->addresses[i].text, text) == 0)
			return true;
	return false;
}

static void take_family(const struct ares_addrinfo *info, int family, struct dns_answer *out)
{
	struct dns_address text;

	for (const struct ares_addrinfo_node *n = info->nodes; n; n = n->ai_next) {
		if (n->ai_family != family || !n->ai_addr)
			continue;
		if (!is_usable(n)) {
			out->n_unusable++;
			continue;
		}
		if (out->n_addresses == DNS_ADDRESSES_MAX) {
			out->n_left_out++;
			continue;
		}
		if (inet_ntop(family, bytes_of(n), text.text, sizeof(text.text)) && !has(out, text.text))
			out->addresses[out->n_addresses++] = text;
	}
}

/* RFC 2181 8: what has the highest bit set counts as 0. */
static uint32_t seconds(int ttl)
{
	return ttl < 0 ? 0 : (uint32_t)ttl > DNS_TTL_MAX_S ? DNS_TTL_MAX_S : (uint32_t)ttl;
}

static uint32_t least_ttl(const struct ares_addrinfo *info)
{
	uint32_t least = DNS_TTL_MAX_S;

	for (const struct ares_addrinfo_node *n = info->nodes; n; n = n->ai_next)
		least = seconds(n->ai_ttl) < least ? seconds(n->ai_ttl) : least;
	for (const struct ares_addrinfo_cname *n = info->cnames; n; n = n->next)
		least = seconds(n->ttl) < least ? seconds(n->ttl) : least;
	return least;
}

static enum dns_outcome outcome_of(int status)
{
	switch (status) {
	case ARES_SUCCESS: return DNS_OK;
	case ARES_ENODATA: return DNS_EMPTY;
	case ARES_ENOTFOUND: return DNS_NO_NAME;
	case ARES_ETIMEOUT: return DNS_TIMEOUT;
	default: return DNS_FAILED; /* servers' errors, and what c-ares could not parse or send */
	}
}

void dns_answer_read(int status, const struct ares_addrinfo *info, struct dns_answer *out)
{
	out->n_addresses = out->n_left_out = out->n_unusable = out->ttl_s = 0;
	out->error[0] = 0;
	out->outcome = outcome_of(status);
	if (out->outcome == DNS_OK && info) {
		take_family(info, AF_INET, out);
		take_family(info, AF_INET6, out);
		out->ttl_s = least_ttl(info);
	}
	if (out->outcome == DNS_OK && out->n_addresses == 0) {
		out->outcome = DNS_EMPTY;
		(void)snprintf(out->error, sizeof(out->error), "the answer has %u addresses, and none can be an endpoint's", out->n_unusable); /* fits */
	} else if (out->outcome != DNS_OK) {
		(void)snprintf(out->error, sizeof(out->error), "%s", ares_strerror(status)); /* a longer one is cut */
	}
}

bool dns_is_askable(const char *name)
{
	size_t n = strlen(name), n_label = 0;

	if (n == 0 || n > 253)
		return false;
	for (size_t i = 0; i < n; i++) {
		unsigned char ch = (unsigned char)name[i];
		n_label = ch == '.' ? 0 : n_label + 1;
		if (n_label > 63 || ch <= ' ' || ch >= 127 || ch == '*' || ch == '\\' || (ch == '.' && (i == 0 || name[i - 1] == '.')))
			return false;
	}
	return true;
}
