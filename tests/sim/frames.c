/* Frames taken apart by hand, for checkers that must not use the code under test. */
#include <string.h>

#include "tests/sim/sim.h"

static uint16_t be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)be16(p) << 16 | be16(p + 2);
}

uint16_t sim_checksum(uint32_t sum, const uint8_t *p, uint32_t n_bytes)
{
	for (; n_bytes > 1; p += 2, n_bytes -= 2)
		sum += be16(p);
	if (n_bytes)
		sum += (uint32_t)p[0] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	sum = ~sum & 0xffff;
	return (uint16_t)(sum << 8 | sum >> 8); /* as it lies on the wire */
}

uint32_t sim_pseudo(const uint8_t *ip, bool v4, uint8_t proto, uint32_t l4_bytes)
{
	uint32_t sum = proto + l4_bytes;

	for (uint32_t i = v4 ? 12 : 8; i < (v4 ? 20u : 40u); i += 2)
		sum += be16(ip + i);
	return sum;
}

static int wscale_of(const uint8_t *opt, uint32_t n)
{
	while (n > 0 && opt[0] != 0) {
		if (opt[0] == 1) {
			opt++;
			n--;
			continue;
		}
		if (n < 2 || opt[1] < 2 || opt[1] > n)
			return -1;
		if (opt[0] == 3 && opt[1] == 3)
			return opt[2];
		n -= opt[1];
		opt += opt[1];
	}
	return -1;
}

bool sim_tcp_parse(const uint8_t *frame, uint16_t n_bytes, struct sim_tcp *out)
{
	const uint8_t *ip = frame + 14;
	uint16_t type = n_bytes >= 54 ? be16(frame + 12) : 0;
	uint32_t l3 = type == 0x0800 ? 20 : 40, n_ip = type == 0x0800 ? be16(ip + 2) : 40u + be16(ip + 4);

	memset(out, 0, sizeof(*out));
	if ((type != 0x0800 && type != 0x86dd) || n_ip > n_bytes - 14u || n_ip < l3 + 20 || ip[type == 0x0800 ? 9 : 6] != 6)
		return false;
	out->v4 = type == 0x0800;
	out->tcp = ip + l3;
	out->n_tcp = (uint16_t)(n_ip - l3);
	uint32_t header = (uint32_t)(out->tcp[12] >> 4) * 4;
	if (header < 20 || header > out->n_tcp)
		return false;
	out->sport = be16(out->tcp);
	out->dport = be16(out->tcp + 2);
	out->seq = be32(out->tcp + 4);
	out->ack = be32(out->tcp + 8);
	out->flags = out->tcp[13];
	out->wnd = be16(out->tcp + 14);
	out->payload = out->tcp + header;
	out->n_payload = out->n_tcp - header;
	out->wscale = out->flags & 2 ? wscale_of(out->tcp + 20, header - 20) : -1;
	return true;
}
