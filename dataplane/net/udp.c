/* UDP (RFC 768, RFC 8200 8.1, RFC 1122 4.1): who takes datagrams for a port of ours, and sending. A port that nobody has is answered by ICMP, at the rate
 * limit of all ICMP errors, or goes to the kernel with the exception path. Checksums: input.c looks at them; 0 is "none" for IPv4 and refused for IPv6.
 * Invariant: a port is in udp_ports once for each address; UDP is registered with net from the first bind on. */
#include <errno.h>

#include "dataplane/net/net_priv.h"

#define UDP_HDR_BYTES 8u

static const struct net_udp_port *port_find(const struct net_ctx *n, const struct net_addr *addr, uint16_t port)
{
	for (uint16_t i = 0; i < n->n_udp_ports; i++)
		if (n->udp_ports[i].port == port && (!n->udp_ports[i].has_addr || net_addr_eq(&n->udp_ports[i].addr, addr)))
			return &n->udp_ports[i];
	return NULL;
}

bool udp_is_bound(const struct net_ctx *n, const struct rte_mbuf *m, const struct net_rx *rx)
{
	struct foil_cur c = net_l4_cursor(m, rx);

	(void)cur_be16(&c); /* source port; a short datagram has no destination's either */
	uint16_t port = cur_be16(&c);
	return c.short_read || port_find(n, &rx->dst, port); /* a short one is refused by its length */
}

static void take(struct foil_worker *w, struct rte_mbuf *own_m)
{
	const struct net_rx_meta *meta = NET_RX_META(own_m);
	const uint8_t *h = rte_pktmbuf_mtod(own_m, const uint8_t *);
	struct foil_cur c = cur_of(h, own_m->data_len);
	struct net_udp_datagram d = {.src = meta->src, .dst = meta->dst, .src_port = cur_be16(&c), .dst_port = cur_be16(&c), .port = meta->port,
				     .tos = meta->tos};
	uint16_t len = cur_be16(&c);
	const struct net_udp_port *p = port_find(w->net, &d.dst, d.dst_port);

	FOIL_ASSERT(!c.short_read); /* input.c has read the header there */
	net_trim(own_m, len);       /* IP may carry more behind it (RFC 768 says nothing of that; nobody reads it) */
	own_m->data_off = (uint16_t)(own_m->data_off + UDP_HDR_BYTES);
	own_m->data_len = (uint16_t)(own_m->data_len - UDP_HDR_BYTES);
	own_m->pkt_len -= UDP_HDR_BYTES;
	if (!p) { /* given up by a handler in this very burst */
		rte_pktmbuf_free(own_m);
		return;
	}
	foil_count(w, NET, UDP_RX, 1);
	p->fn(w, p->arg, own_m, &d);
}

static void udp_input(struct foil_worker *w, struct rte_mbuf **own_segs, uint16_t n_segs)
{
	for (uint16_t i = 0; i < n_segs; i++)
		take(w, own_segs[i]);
}

static void udp_error(struct foil_worker *w, const struct net_icmp_error *e)
{
	struct foil_cur c = cur_of(e->l4, e->n_l4_bytes);
	const struct net_udp_port *p = port_find(w->net, &e->src, cur_be16(&c));

	if (p && p->error)
		p->error(w, p->arg, e);
}

int net_udp_bind(struct foil_worker *w, const struct net_udp_params *p)
{
	struct net_ctx *n = w->net;

	for (uint16_t i = 0; i < n->n_udp_ports; i++)
		if (n->udp_ports[i].port == p->port && n->udp_ports[i].has_addr == p->has_addr && net_addr_eq(&n->udp_ports[i].addr, &p->addr))
			return -EADDRINUSE;
	if (n->n_udp_ports == NET_UDP_PORTS_MAX)
		return -ENOSPC;
	if (p->has_addr && !net_is_local(w, &p->addr))
		return -EADDRNOTAVAIL;
	uint16_t at = n->n_udp_ports++;
	for (; p->has_addr && at > 0 && !n->udp_ports[at - 1].has_addr; at--) /* those with an address are asked first */
		n->udp_ports[at] = n->udp_ports[at - 1];
	n->udp_ports[at] = (struct net_udp_port){.addr = p->addr, .port = p->port, .has_addr = p->has_addr, .fn = p->input, .error = p->error, .arg = p->arg};
	net_register_l4(w, IPPROTO_UDP, udp_input, udp_error);
	return 0;
}

void net_udp_unbind(struct foil_worker *w, const struct net_udp_params *p)
{
	struct net_ctx *n = w->net;
	uint16_t kept = 0;

	for (uint16_t i = 0; i < n->n_udp_ports; i++) {
		const struct net_udp_port *u = &n->udp_ports[i];
		if (u->port != p->port || u->has_addr != p->has_addr || !net_addr_eq(&u->addr, &p->addr))
			n->udp_ports[kept++] = *u;
	}
	n->n_udp_ports = kept;
}

/* A header in front: where there is room that is ours, else in an mbuf of its own. NULL: no mbuf. */
static struct rte_mbuf *with_header(struct foil_worker *w, struct rte_mbuf *m, uint8_t **header)
{
	if (rte_mbuf_refcnt_read(m) == 1 && RTE_MBUF_DIRECT(m) && rte_pktmbuf_headroom(m) >= NET_HEADROOM_BYTES + UDP_HDR_BYTES) {
		*header = (uint8_t *)rte_pktmbuf_prepend(m, UDP_HDR_BYTES);
		return m;
	}
	struct rte_mbuf *h = rte_pktmbuf_alloc(w->mbuf_pool);
	*header = h ? (uint8_t *)rte_pktmbuf_append(h, UDP_HDR_BYTES) : NULL;
	if (!*header || rte_pktmbuf_chain(h, m)) {
		rte_pktmbuf_free(h);
		return NULL;
	}
	return h;
}

void net_udp_send(struct foil_worker *w, struct rte_mbuf *own_payload, const struct net_udp_datagram *d, struct net_dst *dst_cache)
{
	uint8_t *h;
	uint32_t n_bytes = own_payload->pkt_len + UDP_HDR_BYTES;
	struct rte_mbuf *m = n_bytes <= UINT16_MAX ? with_header(w, own_payload, &h) : NULL;

	if (!m) {
		foil_reason_id(w, NET, n_bytes <= UINT16_MAX ? NET_REASON_NO_MBUF : NET_REASON_OVER_MTU);
		rte_pktmbuf_free(own_payload);
		return;
	}
	rte_be16_t fields[4] = {rte_cpu_to_be_16(d->src_port), rte_cpu_to_be_16(d->dst_port), rte_cpu_to_be_16((uint16_t)n_bytes), 0};
	memcpy(h, fields, sizeof(fields));
	foil_count(w, NET, UDP_TX, 1);
	net_ip_output(w, m, &d->src, &d->dst, IPPROTO_UDP, d->tos, dst_cache);
}
