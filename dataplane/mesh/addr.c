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

/* Not inet_ntop, which prints through sprintf: two addresses a request were a tenth of its cycles. */
static char *ip4_put(char *p, const uint8_t ip[4])
{
	for (int i = 0; i < 4; i++) {
		uint8_t v = ip[i];
		if (i)
			*p++ = '.';
		if (v >= 100)
			*p++ = (char)('0' + v / 100);
		if (v >= 10)
			*p++ = (char)('0' + v / 10 % 10);
		*p++ = (char)('0' + v % 10);
	}
	return p;
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
