/* Which referers go on to an origin: URLs with a host and without user and fragment, and relative references (RFC 9110 10.1.3). What else stands in the
 * field is taken out, as Envoy does it (recorded: tests/recorded/referers.yaml); "about:blank" is among that.
 * Invariant: a referer that goes on has no byte outside of 0x21..0x7e and no fragment. */
#include <arpa/inet.h>

#include "dataplane/mesh/forwarding.h"

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'z';
}

/* The scheme's length when "://" follows it; 0: it is no absolute URL. */
static uint32_t scheme_bytes(struct foil_slice v)
{
	uint32_t n = 0;

	while (n < v.n_bytes && (is_letter(v.data[n]) || (n && (is_digit(v.data[n]) || memchr("+-.", v.data[n], 3)))))
		n++;
	return n && v.n_bytes - n >= 3 && memcmp(&v.data[n], "://", 3) == 0 ? n : 0;
}

static bool is_port(struct foil_slice digits)
{
	uint32_t port = 0;

	for (uint32_t i = 0; i < digits.n_bytes && port <= UINT16_MAX; i++) {
		if (!is_digit(digits.data[i]))
			return false;
		port = 10 * port + (uint32_t)(digits.data[i] - '0');
	}
	return digits.n_bytes && port <= UINT16_MAX;
}

/* "[" IPv6 "]": its length, 0 when it is none. */
static uint32_t literal_bytes(struct foil_slice host)
{
	char text[INET6_ADDRSTRLEN];
	struct in6_addr ip;
	const char *end = memchr(host.data, ']', host.n_bytes);
	size_t n = end ? (size_t)(end - host.data) - 1 : 0;

	if (n == 0 || n >= sizeof(text))
		return 0;
	memcpy(text, &host.data[1], n);
	text[n] = '\0';
	return inet_pton(AF_INET6, text, &ip) == 1 ? (uint32_t)n + 2 : 0;
}

static uint32_t name_bytes(struct foil_slice host)
{
	uint32_t n = 0;

	while (n < host.n_bytes && (is_letter(host.data[n]) || is_digit(host.data[n]) || host.data[n] == '.' || host.data[n] == '-'))
		n++;
	return n;
}

static bool is_authority(struct foil_slice v)
{
	uint32_t n;

	if (v.n_bytes && v.data[0] == '@') /* a user that is none */
		v = foil_slice_of(v.data + 1, v.n_bytes - 1);
	if (v.n_bytes == 0)
		return false;
	n = v.data[0] == '[' ? literal_bytes(v) : name_bytes(v);
	if (n == 0 || n == v.n_bytes)
		return n != 0;
	return v.data[n] == ':' && is_port(foil_slice_of(&v.data[n + 1], v.n_bytes - n - 1));
}

static bool is_url(struct foil_slice rest)
{
	uint32_t n = 0;

	while (n < rest.n_bytes && rest.data[n] != '/' && rest.data[n] != '?')
		n++;
	for (uint32_t i = n; i < rest.n_bytes; i++)
		if (rest.data[i] <= ' ' || rest.data[i] >= 0x7f || rest.data[i] == '#')
			return false;
	return is_authority(foil_slice_of(rest.data, n));
}

/* path and query of RFC 3986 3.3, 3.4 and 4.2: what stands before the first slash would be a scheme if it had a colon. */
static bool is_relative(struct foil_slice v)
{
	bool seen_slash = false;

	for (uint32_t i = 0; i < v.n_bytes; i++) {
		seen_slash |= v.data[i] == '/';
		if (v.data[i] == ':' ? !seen_slash : !is_letter(v.data[i]) && !is_digit(v.data[i]) && !memchr("-._~!$&'()*+,;=@/?%", v.data[i], 19))
			return false;
	}
	return true;
}

bool mesh_referer_is_valid(struct foil_slice value)
{
	uint32_t n = scheme_bytes(value);

	return n ? is_url(foil_slice_of(&value.data[n + 3], value.n_bytes - n - 3)) : is_relative(value);
}
