/* Addresses and numbers as text, see addr_priv.h. inet_ntop's forms are RFC 5952's, as Envoy writes them. */
#include "dataplane/mesh/addr_priv.h"

#include <arpa/inet.h>

static const uint8_t mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};

static bool is_ip4(const uint8_t ip[16])
{
	return memcmp(ip, mapped_prefix, sizeof(mapped_prefix)) == 0;
}

struct foil_slice mesh_addr_number(uint64_t n, char text[ADDR_TEXT_BYTES])
{
	uint32_t at = ADDR_TEXT_BYTES;

	do
		text[--at] = (char)('0' + n % 10);
	while ((n /= 10) != 0);
	return foil_slice_of(text + at, ADDR_TEXT_BYTES - at);
}

/* A row is four bytes, so that it is copied whole; the last says how many are text. */
struct octet {
	char text[3];
	uint8_t n_bytes;
};
#define DIGIT(n, of) (char)('0' + (n) / (of) % 10)
#define OCTET(n)                                                                                                                          \
	{{(n) >= 100 ? DIGIT(n, 100) : (n) >= 10 ? DIGIT(n, 10) : DIGIT(n, 1), (n) >= 100 ? DIGIT(n, 10) : DIGIT(n, 1), DIGIT(n, 1)},        \
	 (n) >= 100 ? 3 : (n) >= 10 ? 2 : 1}
#define OCTET4(n) OCTET(n), OCTET((n) + 1), OCTET((n) + 2), OCTET((n) + 3)
#define OCTET16(n) OCTET4(n), OCTET4((n) + 4), OCTET4((n) + 8), OCTET4((n) + 12)
#define OCTET64(n) OCTET16(n), OCTET16((n) + 16), OCTET16((n) + 32), OCTET16((n) + 48)
static const struct octet octets[256] = {OCTET64(0), OCTET64(64), OCTET64(128), OCTET64(192)};

struct foil_slice mesh_octet_text(uint8_t n)
{
	return foil_slice_of(octets[n].text, octets[n].n_bytes);
}

/* Not inet_ntop, which prints through sprintf: two addresses a request were a tenth of its cycles. Writes up to four bytes more than it says. */
static char *ip4_put(char *p, const uint8_t ip[4])
{
	for (int i = 0; i < 4; i++) {
		memcpy(p, &octets[ip[i]], sizeof(octets[0]));
		p += octets[ip[i]].n_bytes;
		*p++ = '.';
	}
	return p - 1;
}

struct foil_slice mesh_addr_text(const struct stream_addr *addr, bool with_port, char text[ADDR_TEXT_BYTES])
{
	bool v4 = is_ip4(addr->ip), brackets = with_port && !v4;
	char number[ADDR_TEXT_BYTES], *p = text;

	if (brackets)
		*p++ = '[';
	if (v4)
		p = ip4_put(p, addr->ip + 12);
	else if (inet_ntop(AF_INET6, addr->ip, p, INET6_ADDRSTRLEN))
		p += strlen(p);
	else
		return (struct foil_slice){NULL, 0};
	if (brackets)
		*p++ = ']';
	if (with_port) {
		struct foil_slice port = mesh_addr_number(addr->port, number);
		*p++ = ':';
		memcpy(p, port.data, port.n_bytes);
		p += port.n_bytes;
	}
	return foil_slice_of(text, (size_t)(p - text));
}

bool mesh_addr_parse(struct foil_slice text, uint8_t ip[16])
{
	char copy[INET6_ADDRSTRLEN];

	while (text.n_bytes && (text.data[0] == ' ' || text.data[0] == '\t'))
		text = foil_slice_of(text.data + 1, text.n_bytes - 1);
	while (text.n_bytes && (text.data[text.n_bytes - 1] == ' ' || text.data[text.n_bytes - 1] == '\t'))
		text.n_bytes--;
	if (text.n_bytes == 0 || text.n_bytes >= sizeof(copy) || memchr(text.data, '\0', text.n_bytes))
		return false;
	memcpy(copy, text.data, text.n_bytes);
	copy[text.n_bytes] = '\0';
	if (inet_pton(AF_INET, copy, ip + 12) == 1) {
		memcpy(ip, mapped_prefix, sizeof(mapped_prefix));
		return true;
	}
	return inet_pton(AF_INET6, copy, ip) == 1;
}
