/* Headers before each piece of the payload: lengths, identification and sequence of its own, FIN and PSH on the last, CWR on the first, checksums summed. */
#include "tests/cutter.h"

#include <string.h>

#define FIN 0x01u
#define PSH 0x08u
#define CWR 0x80u

static void put16(uint8_t *at, uint32_t v)
{
	at[0] = (uint8_t)(v >> 8);
	at[1] = (uint8_t)v;
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static uint64_t sum_of(const uint8_t *at, uint32_t n)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < n; i++)
		sum += (uint32_t)at[i] << (i & 1 ? 0 : 8);
	return sum;
}

static uint32_t folded(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return ~(uint32_t)sum & 0xffff;
}

struct cutter_shape {
	uint32_t l2, l3, l4, proto_at;
	bool v4;
};

static void finish(uint8_t *frame, uint32_t n_bytes, const struct cutter_shape *s, uint64_t flags)
{
	uint8_t *ip = frame + s->l2, *l4 = ip + s->l3;
	uint32_t n_l4 = n_bytes - s->l2 - s->l3, field_at = ip[s->proto_at] == 6 ? 16 : 6;

	if (s->v4 && (flags & RTE_MBUF_F_TX_IP_CKSUM)) {
		put16(ip + 10, 0);
		put16(ip + 10, folded(sum_of(ip, s->l3)));
	}
	if ((flags & RTE_MBUF_F_TX_L4_MASK) == RTE_MBUF_F_TX_TCP_CKSUM || (flags & RTE_MBUF_F_TX_L4_MASK) == RTE_MBUF_F_TX_UDP_CKSUM ||
	    (flags & RTE_MBUF_F_TX_TCP_SEG)) {
		put16(l4 + field_at, 0);
		uint64_t pseudo = (s->v4 ? sum_of(ip + 12, 8) : sum_of(ip + 8, 32)) + ip[s->proto_at] + n_l4;
		uint32_t sum = folded(pseudo + sum_of(l4, n_l4));
		put16(l4 + field_at, field_at == 6 && !sum ? 0xffff : sum);
	}
}

static void cut(const uint8_t *whole, uint32_t n_bytes, const struct cutter_shape *s, uint32_t segsz, uint64_t flags, cutter_out *out, void *arg)
{
	uint32_t n_headers = s->l2 + s->l3 + s->l4, seq = get32(whole + s->l2 + s->l3 + 4), id = (uint32_t)whole[s->l2 + 4] << 8 | whole[s->l2 + 5];

	for (uint32_t at = n_headers, i = 0; at < n_bytes; at += segsz, i++) {
		uint32_t n = n_bytes - at < segsz ? n_bytes - at : segsz;
		uint8_t frame[CUTTER_FRAME_MAX], *ip = frame + s->l2, *tcp = ip + s->l3;
		memcpy(frame, whole, n_headers);
		memcpy(frame + n_headers, whole + at, n);
		if (s->v4) {
			put16(ip + 2, s->l3 + s->l4 + n);
			put16(ip + 4, id + i);
		} else {
			put16(ip + 4, s->l3 - 40 + s->l4 + n);
		}
		put16(tcp + 4, seq >> 16);
		put16(tcp + 6, seq & 0xffff);
		seq += n;
		if (at + n < n_bytes)
			tcp[13] = (uint8_t)(tcp[13] & ~(FIN | PSH));
		if (i)
			tcp[13] = (uint8_t)(tcp[13] & ~CWR);
		finish(frame, n_headers + n, s, flags);
		out(arg, frame, n_headers + n);
	}
}

bool cutter_send(const struct rte_mbuf *m, cutter_out *out, void *arg)
{
	uint8_t whole[CUTTER_FRAME_MAX];
	uint32_t n = m->pkt_len;
	const void *at = n <= sizeof(whole) ? rte_pktmbuf_read(m, 0, n, whole) : NULL;
	struct cutter_shape s = {.l2 = m->l2_len, .l3 = m->l3_len, .l4 = m->l4_len, .v4 = m->ol_flags & RTE_MBUF_F_TX_IPV4, .proto_at = 6};

	if (!at)
		return false;
	if (at != whole)
		memcpy(whole, at, n);
	if (s.v4)
		s.proto_at = 9;
	if (!(m->ol_flags & (RTE_MBUF_F_TX_L4_MASK | RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_IP_CKSUM))) {
		out(arg, whole, n);
		return true;
	}
	if (!(m->ol_flags & (RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IPV6)) || s.l2 < 14 || s.l3 < (s.v4 ? 20u : 40u) || s.l2 + s.l3 > n)
		return false;
	if (!(m->ol_flags & RTE_MBUF_F_TX_TCP_SEG)) {
		finish(whole, n, &s, m->ol_flags);
		out(arg, whole, n);
		return true;
	}
	if (!m->tso_segsz || s.l4 < 20 || s.l4 != (uint32_t)(whole[s.l2 + s.l3 + 12] >> 4) * 4 || n <= s.l2 + s.l3 + s.l4)
		return false;
	cut(whole, n, &s, m->tso_segsz, m->ol_flags, out, arg);
	return true;
}
