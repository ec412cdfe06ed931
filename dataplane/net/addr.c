/* Addresses as text and as masks (RFC 4291 2.2, 4632 3.1). Text is for setup; the rest is pure.
 * Invariant: a struct net_match's value has no bit outside its mask. */
#include "dataplane/net/net_priv.h"

#include <arpa/inet.h>
#include <errno.h>

int net_addr_parse(const char *text, struct net_addr *out)
{
	struct in_addr v4;
	struct in6_addr v6;

	if (inet_pton(AF_INET, text, &v4) == 1) {
		*out = net_addr_v4(v4.s_addr);
		return 0;
	}
	if (inet_pton(AF_INET6, text, &v6) == 1) {
		memcpy(out->b, &v6, 16);
		return 0;
	}
	return -EINVAL;
}

static int prefix_len_parse(const char *digits, unsigned int max, unsigned int *out)
{
	unsigned int v = 0;
	size_t n = strlen(digits);

	if (n == 0 || n > 3 || (n > 1 && digits[0] == '0'))
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (digits[i] < '0' || digits[i] > '9')
			return -EINVAL;
		v = v * 10 + (unsigned int)(digits[i] - '0');
	}
	if (v > max)
		return -EINVAL;
	*out = v;
	return 0;
}

int net_prefix_parse(const char *text, struct net_prefix *out)
{
	const char *slash = strchr(text, '/');
	char host[NET_ADDR_STRLEN];
	struct net_prefix p = {0};
	unsigned int len = 128;
	size_t n = slash ? (size_t)(slash - text) : strlen(text);

	if (n >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, n);
	host[n] = 0;
	if (net_addr_parse(host, &p.addr))
		return -EINVAL;
	bool v4 = strchr(host, ':') == NULL;
	if (slash && prefix_len_parse(slash + 1, v4 ? 32 : 128, &len))
		return -EINVAL;
	p.len = (uint8_t)(slash && v4 ? len + 96 : len);
	*out = p;
	return 0;
}

const char *net_addr_format(const struct net_addr *a, char out[NET_ADDR_STRLEN])
{
	bool v4 = net_addr_is_v4(a);

	if (!inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? a->b + 12 : a->b, out, NET_ADDR_STRLEN))
		out[0] = 0; /* cannot happen: the room is enough for both */
	return out;
}

void net_addr_mask(struct net_addr *a, uint8_t len)
{
	for (unsigned int i = 0; i < 16; i++) {
		unsigned int n_bits = len > i * 8 ? FOIL_MIN(len - i * 8, 8u) : 0;
		a->b[i] &= (uint8_t)(0xff00u >> n_bits);
	}
}

struct net_match net_match_of(const struct net_prefix *p)
{
	struct net_addr mask, value = p->addr;
	struct net_match m;

	memset(&mask, 0xff, sizeof(mask));
	net_addr_mask(&mask, p->len);
	net_addr_mask(&value, p->len);
	memcpy(m.value, value.b, 16);
	memcpy(m.mask, mask.b, 16);
	return m;
}

bool net_ip4_source_ok(rte_be32_t ip)
{
	uint32_t h = rte_be_to_cpu_32(ip);

	return h >> 24 != 0 && h >> 24 != 127 && h >> 28 < 0xe; /* 224.0.0.0/3: groups, reserved, broadcast */
}

bool net_ip6_source_ok(const struct net_addr *a)
{
	static const struct net_addr loopback = {{[15] = 1}};

	return a->b[0] != 0xff && !net_addr_is_zero(a) && !net_addr_eq(a, &loopback) && !net_addr_is_v4(a);
}
