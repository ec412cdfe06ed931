/* Capture (capture.h): which packets, and the ring. Nothing here runs unless somebody looks on.
 *
 * With a filter for a flow, a received packet is written when it comes in, and its reason is filled in if it is dropped before the burst ends; so it is in
 * the capture once. With a filter for reasons it is written when it is dropped.
 * The ring holds records one after the other, each a head and its bytes, from an 8-byte boundary on and never over the ring's end.
 * Invariant: housekeeping sees nothing behind `published`, the worker writes nothing at or behind `taken` + ring_bytes. */
#include "dataplane/net/capture.h"

#include <stdlib.h>

#include "dataplane/net/net_priv.h"

#define HEAD_BYTES offsetof(struct net_capture_record, bytes)
#define NOWHERE UINT64_MAX
#define SKIP UINT32_MAX /* n_bytes of a head that says: go on at the ring's start */
#define EXTENSIONS_MAX 8u
#define RING_BYTES_MIN (64u * 1024u)

struct pending {
	const struct rte_mbuf *m;
	uint64_t at;
};

struct net_capture {
	struct net_capture_filter filter;
	uint8_t *ring;
	uint64_t ring_bytes;
	/* the worker's */
	uint64_t written FOIL_CACHE_ALIGNED;
	uint32_t n_pending;
	struct pending pending[NET_CAPTURE_PENDING_MAX]; /* received ones of this burst */
	/* from the worker to housekeeping, and back */
	uint64_t published FOIL_CACHE_ALIGNED;
	uint64_t lost;
	uint64_t taken FOIL_CACHE_ALIGNED;
};

/* What a packet shows of itself, as far as a filter asks. */
struct ends {
	struct net_addr src, dst;
	uint16_t src_port, dst_port; /* 0: none, or in a fragment that has none */
};

/* Bytes that lie in front of one another: head, then the chain behind it. */
struct view {
	const uint8_t *head;
	uint32_t n_head, n_all;
	const struct rte_mbuf *rest;
};

/* ---- housekeeping's side */

struct net_capture *net_capture_new(const struct net_capture_filter *f, uint32_t ring_bytes)
{
	struct net_capture *c;

	FOIL_ASSERT(ring_bytes >= RING_BYTES_MIN);
	FOIL_ASSERT((ring_bytes & (ring_bytes - 1)) == 0);
	if (posix_memalign((void **)&c, 64, sizeof(*c)))
		return NULL;
	*c = (struct net_capture){.filter = *f, .ring_bytes = ring_bytes};
	if (!c->filter.snap_bytes || c->filter.snap_bytes > NET_CAPTURE_BYTES_MAX)
		c->filter.snap_bytes = NET_CAPTURE_BYTES_MAX;
	if (posix_memalign((void **)&c->ring, 64, ring_bytes)) {
		free(c);
		return NULL;
	}
	memset(c->ring, 0, ring_bytes); /* its pages come now, not under the worker's hands */
	return c;
}

void net_capture_free(struct net_capture *own_c)
{
	if (!own_c)
		return;
	free(own_c->ring);
	free(own_c);
}

/* The oldest record's place; false: none. */
static bool oldest(const struct net_capture *c, uint64_t *at)
{
	uint64_t published = __atomic_load_n(&c->published, __ATOMIC_ACQUIRE);
	struct net_capture_record head;

	*at = c->taken;
	if (*at == published)
		return false;
	uint64_t here = *at & (c->ring_bytes - 1);
	if (c->ring_bytes - here >= HEAD_BYTES)
		memcpy(&head, c->ring + here, HEAD_BYTES);
	else
		head.n_bytes = SKIP;
	if (head.n_bytes == SKIP)
		*at += c->ring_bytes - here;
	return *at != published;
}

static uint64_t end_of(uint64_t at, uint32_t n_bytes)
{
	return at + ((HEAD_BYTES + n_bytes + 7) & ~(uint64_t)7);
}

bool net_capture_take(struct net_capture *c, struct net_capture_record *out)
{
	uint64_t at;

	if (!oldest(c, &at))
		return false;
	const uint8_t *p = c->ring + (at & (c->ring_bytes - 1));
	memcpy(out, p, HEAD_BYTES);
	memcpy(out->bytes, p + HEAD_BYTES, out->n_bytes);
	__atomic_store_n(&c->taken, end_of(at, out->n_bytes), __ATOMIC_RELEASE);
	return true;
}

bool net_capture_peek_us(const struct net_capture *c, uint64_t *wall_us)
{
	uint64_t at;

	if (!oldest(c, &at))
		return false;
	memcpy(wall_us, c->ring + (at & (c->ring_bytes - 1)) + offsetof(struct net_capture_record, wall_us), sizeof(*wall_us));
	return true;
}

uint64_t net_capture_lost(const struct net_capture *c)
{
	return __atomic_load_n(&c->lost, __ATOMIC_RELAXED);
}

/* ---- the worker's side: what matches */

static void ports_of(struct foil_cur *c, uint8_t proto, struct ends *e)
{
	if (proto != IPPROTO_TCP && proto != IPPROTO_UDP)
		return;
	e->src_port = cur_be16(c);
	e->dst_port = cur_be16(c);
	if (c->short_read)
		e->src_port = e->dst_port = 0;
}

static bool ip4_ends(struct foil_cur *c, struct ends *e, uint8_t *proto)
{
	const struct rte_ipv4_hdr *h = (const struct rte_ipv4_hdr *)(const void *)cur_bytes(c, sizeof(*h));

	if (!h || rte_ipv4_hdr_len(h) < sizeof(*h) || !cur_skip(c, rte_ipv4_hdr_len(h) - sizeof(*h)))
		return false;
	*e = (struct ends){.src = net_addr_v4(h->src_addr), .dst = net_addr_v4(h->dst_addr)};
	*proto = h->next_proto_id;
	if (h->fragment_offset & RTE_BE16(RTE_IPV4_HDR_OFFSET_MASK))
		*proto = IPPROTO_NONE;
	ports_of(c, *proto, e);
	return true;
}

static bool ip6_ends(struct foil_cur *c, struct ends *e, uint8_t *proto)
{
	(void)cur_skip(c, 6); /* a short packet is noticed below */
	*proto = cur_u8(c);
	(void)cur_u8(c);
	const uint8_t *src = cur_bytes(c, 16), *dst = cur_bytes(c, 16);
	if (!src || !dst)
		return false;
	*e = (struct ends){.src = net_addr_v6(src), .dst = net_addr_v6(dst)};
	for (unsigned int i = 0; i < EXTENSIONS_MAX; i++) {
		if (*proto == IPPROTO_FRAGMENT) {
			*proto = cur_u8(c);
			(void)cur_u8(c);
			if (cur_be16(c) & 0xfff8u)
				*proto = IPPROTO_NONE;
			(void)cur_be32(c);
		} else if (*proto == IPPROTO_HOPOPTS || *proto == IPPROTO_ROUTING || *proto == IPPROTO_DSTOPTS) {
			*proto = cur_u8(c);
			(void)cur_skip(c, cur_u8(c) * 8u + 6);
		} else {
			break;
		}
	}
	ports_of(c, *proto, e);
	return true;
}

static bool arp_ends(struct foil_cur *c, struct ends *e)
{
	rte_be32_t sender, target;

	(void)cur_skip(c, 14);
	const uint8_t *spa = cur_bytes(c, 4);
	(void)cur_skip(c, 6);
	const uint8_t *tpa = cur_bytes(c, 4);
	if (!spa || !tpa)
		return false;
	memcpy(&sender, spa, 4);
	memcpy(&target, tpa, 4);
	*e = (struct ends){.src = net_addr_v4(sender), .dst = net_addr_v4(target)};
	return true;
}

static bool end_matches(const struct net_capture_end *f, const struct net_addr *a, uint16_t port)
{
	return (!f->has_addr || net_addr_eq(&f->addr, a)) && (!f->port || f->port == port);
}

static bool ends_match(const struct net_capture_filter *f, const struct ends *e)
{
	return (end_matches(&f->ends[0], &e->src, e->src_port) && end_matches(&f->ends[1], &e->dst, e->dst_port)) ||
	       (end_matches(&f->ends[0], &e->dst, e->dst_port) && end_matches(&f->ends[1], &e->src, e->src_port));
}

static bool asks_ends(const struct net_capture_filter *f)
{
	for (unsigned int i = 0; i < NET_CAPTURE_ENDS; i++)
		if (f->ends[i].has_addr || f->ends[i].port)
			return true;
	return false;
}

/* The packet that an ICMP error quotes. c stands at the ICMP header. */
static bool quote_matches(const struct net_capture_filter *f, struct foil_cur *c, bool v4)
{
	uint8_t type = cur_u8(c), proto;
	bool is_error = v4 ? type == 3 || type == 11 || type == 12 : type >= 1 && type <= 4;
	struct ends e;

	if (!is_error || !cur_skip(c, 7))
		return false;
	return (v4 ? ip4_ends(c, &e, &proto) : ip6_ends(c, &e, &proto)) && ends_match(f, &e);
}

/* at: where the IP header or the like begins; type says which. */
static bool matches(const struct net_capture_filter *f, const struct view *v, uint16_t type, uint32_t at)
{
	struct foil_cur c = cur_of(v->head, v->n_head);
	struct ends e;
	uint8_t proto = IPPROTO_NONE;

	if (!asks_ends(f))
		return true;
	if (!cur_skip(&c, at))
		return false;
	if (type == RTE_ETHER_TYPE_ARP)
		return arp_ends(&c, &e) && ends_match(f, &e);
	if (type != RTE_ETHER_TYPE_IPV4 && type != RTE_ETHER_TYPE_IPV6)
		return false;
	bool v4 = type == RTE_ETHER_TYPE_IPV4;
	if (!(v4 ? ip4_ends(&c, &e, &proto) : ip6_ends(&c, &e, &proto)))
		return false;
	if (ends_match(f, &e))
		return true;
	return proto == (v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6) && quote_matches(f, &c, v4);
}

static uint16_t frame_type(const struct view *v, uint32_t *at)
{
	struct foil_cur c = cur_of(v->head, v->n_head);

	(void)cur_skip(&c, 2 * RTE_ETHER_ADDR_LEN);
	uint16_t type = cur_be16(&c);
	*at = sizeof(struct rte_ether_hdr);
	if (type != RTE_ETHER_TYPE_VLAN)
		return type;
	(void)cur_be16(&c);
	*at = NET_L2_BYTES_MAX;
	return cur_be16(&c);
}

/* ---- the worker's side: writing */

/* Room for a record of n_bytes; NULL: the ring is full. */
static uint8_t *room_for(struct net_capture *c, uint32_t n_bytes)
{
	uint64_t taken = __atomic_load_n(&c->taken, __ATOMIC_ACQUIRE), at = c->written;
	uint64_t here = at & (c->ring_bytes - 1), need = end_of(0, n_bytes);
	bool wraps = here + need > c->ring_bytes;
	struct net_capture_record skip = {.n_bytes = SKIP};

	if (wraps)
		at += c->ring_bytes - here;
	if (at + need - taken > c->ring_bytes) {
		(void)__atomic_add_fetch(&c->lost, 1, __ATOMIC_RELAXED);
		return NULL;
	}
	if (wraps && c->ring_bytes - here >= HEAD_BYTES)
		memcpy(c->ring + here, &skip, HEAD_BYTES);
	c->written = at;
	return c->ring + (at & (c->ring_bytes - 1));
}

static void copy_bytes(uint8_t *to, const struct view *v, uint32_t n)
{
	uint32_t here = FOIL_MIN(n, v->n_head);

	memcpy(to, v->head, here);
	for (const struct rte_mbuf *m = v->rest; m && here < n; m = m->next) {
		uint32_t part = FOIL_MIN(n - here, (uint32_t)m->data_len);
		memcpy(to + here, rte_pktmbuf_mtod(m, const uint8_t *), part);
		here += part;
	}
}

struct why {
	uint8_t room;
	uint16_t id;
	bool is_there;
};

/* front: n_front bytes to stand before v's. Where the record begins, or NOWHERE: the ring is full. */
static uint64_t write_record(struct foil_worker *w, struct net_capture *c, uint16_t port, enum net_capture_dir dir, struct why why,
			 const void *front, uint32_t n_front, const struct view *v)
{
	uint32_t n_all = n_front + v->n_all, n = FOIL_MIN(n_all, c->filter.snap_bytes), n_f = FOIL_MIN(n_front, n);
	struct net_capture_record head = {.wall_us = w->wall_us, .n_bytes = n, .n_bytes_all = n_all, .port = port, .dir = (uint8_t)dir,
					  .room = why.room, .why = why.id, .has_why = why.is_there};
	uint8_t *to = room_for(c, n);

	if (!to) {
		foil_count(w, NET, CAPTURE_LOST, 1);
		return NOWHERE;
	}
	memcpy(to, &head, HEAD_BYTES);
	if (n_f)
		memcpy(to + HEAD_BYTES, front, n_f);
	copy_bytes(to + HEAD_BYTES + n_f, v, n - n_f);
	uint64_t at = c->written;
	c->written = end_of(at, n);
	foil_count(w, NET, CAPTURED, 1);
	return at;
}

static struct view view_of(const struct rte_mbuf *m, uint16_t from)
{
	struct view v = {.head = (const uint8_t *)m->buf_addr + from, .n_head = (uint32_t)m->data_off + m->data_len - from, .rest = m->next};

	v.n_all = v.n_head;
	for (const struct rte_mbuf *s = m->next; s; s = s->next)
		v.n_all += s->data_len;
	return v;
}

void net_capture_start(struct foil_worker *w, struct net_capture *c)
{
	w->net->capture = c;
}

void capture_commit(struct net_capture *c)
{
	c->n_pending = 0;
	__atomic_store_n(&c->published, c->written, __ATOMIC_RELEASE);
}

void capture_frame(struct foil_worker *w, const struct net_port *p, const struct rte_mbuf *m, enum net_capture_dir dir)
{
	struct net_capture *c = w->net->capture;
	struct view v = view_of(m, m->data_off);
	uint32_t at;

	if (c->filter.reasons_only)
		return;
	uint16_t type = frame_type(&v, &at);
	if (!matches(&c->filter, &v, type, at))
		return;
	uint64_t place = write_record(w, c, p->index, dir, (struct why){0}, NULL, 0, &v);
	if (dir == NET_CAPTURE_IN && place != NOWHERE && c->n_pending < NET_CAPTURE_PENDING_MAX)
		c->pending[c->n_pending++] = (struct pending){m, place};
}

void capture_moved(struct net_capture *c, const struct rte_mbuf *from, const struct rte_mbuf *to)
{
	for (uint32_t i = c->n_pending; i-- > 0;)
		if (c->pending[i].m == from)
			c->pending[i].m = to;
}

/* The packet is in the ring already, of this burst: only its reason is missing. */
static bool patch(struct net_capture *c, const struct rte_mbuf *m, struct why why)
{
	for (uint32_t i = c->n_pending; i-- > 0;) {
		struct net_capture_record head;
		if (c->pending[i].m != m)
			continue;
		uint8_t *p = c->ring + (c->pending[i].at & (c->ring_bytes - 1));
		memcpy(&head, p, HEAD_BYTES);
		head.room = why.room;
		head.why = why.id;
		head.has_why = true;
		memcpy(p, &head, HEAD_BYTES);
		return true;
	}
	return false;
}

static void drop_ip(struct foil_worker *w, struct net_capture *c, const struct net_port *p, struct why why, const void *ip, uint32_t n_ip,
		    const struct view *v)
{
	const uint8_t *first = n_ip ? ip : v->head;
	bool v4 = first[0] >> 4 == 4;
	uint8_t front[sizeof(struct rte_ether_hdr) + sizeof(struct rte_ipv6_hdr)] = {0};
	uint16_t type = v4 ? RTE_ETHER_TYPE_IPV4 : RTE_ETHER_TYPE_IPV6;
	rte_be16_t type_be = rte_cpu_to_be_16(type);
	uint8_t seen[128];
	uint32_t n_seen = FOIL_MIN(v->n_head, (uint32_t)(sizeof(seen) - sizeof(struct rte_ipv6_hdr)));

	if (n_ip)
		memcpy(seen, ip, n_ip);
	memcpy(seen + n_ip, v->head, n_seen);
	if (!matches(&c->filter, &(struct view){seen, n_ip + n_seen, n_ip + n_seen, NULL}, type, 0))
		return;
	if (p)
		memcpy(front + RTE_ETHER_ADDR_LEN, p->mac.addr_bytes, RTE_ETHER_ADDR_LEN);
	memcpy(front + 2 * RTE_ETHER_ADDR_LEN, &type_be, 2);
	if (n_ip)
		memcpy(front + sizeof(struct rte_ether_hdr), ip, n_ip);
	(void)write_record(w, c, p ? p->index : 0, NET_CAPTURE_OUT, why, front, (uint32_t)sizeof(struct rte_ether_hdr) + n_ip, v);
}

static bool asked(const struct net_capture_filter *f, enum foil_room room, uint16_t id)
{
	return !f->reasons_only || (id < NET_CAPTURE_REASONS_MAX && (f->reasons[room][id / 64] >> (id % 64) & 1));
}

void net_capture_drop(struct foil_worker *w, enum foil_room room, uint16_t id, const struct net_port *p, struct rte_mbuf *m,
		      enum net_capture_at at)
{
	struct net_capture *c = w->net ? w->net->capture : NULL; /* none: a room by itself, in its tests */
	struct why why = {(uint8_t)room, id, true};

	if (FOIL_LIKELY(!c) || !m || !asked(&c->filter, room, id))
		return;
	if (at == NET_CAPTURE_IP_TX) {
		struct view ip = view_of(m, m->data_off);
		drop_ip(w, c, p, why, NULL, 0, &ip);
		return;
	}
	bool is_in = at != NET_CAPTURE_FRAME_TX;
	if (is_in && !c->filter.reasons_only && patch(c, m, why))
		return;
	struct view v = view_of(m, at == NET_CAPTURE_UPPER ? NET_RX_META(m)->frame_at : m->data_off);
	uint32_t ip_at;
	uint16_t type = frame_type(&v, &ip_at);
	uint16_t port = at == NET_CAPTURE_UPPER ? NET_RX_META(m)->port : p ? p->index : 0;
	if (matches(&c->filter, &v, type, ip_at)) /* that it may be lost is counted there */
		(void)write_record(w, c, port, is_in ? NET_CAPTURE_IN : NET_CAPTURE_OUT, why, NULL, 0, &v);
}

void capture_drop_upper(struct foil_worker *w, enum net_reason id, const struct net_port *p, const struct rte_mbuf *m, const struct net_addr *src,
			const struct net_addr *dst, uint8_t proto)
{
	struct net_capture *c = w->net->capture;
	struct view v = view_of(m, m->data_off);
	uint8_t ip[sizeof(struct rte_ipv6_hdr)];
	bool v4 = net_addr_is_v4(src);

	if (!asked(&c->filter, FOIL_ROOM_NET, (uint16_t)id))
		return;
	if (v4)
		ip4_header_make((struct rte_ipv4_hdr *)(void *)ip, src, dst, proto, 0, v.n_all);
	else
		ip6_header_make((struct rte_ipv6_hdr *)(void *)ip, src, dst, proto, 0, v.n_all, NET_TTL);
	drop_ip(w, c, p, (struct why){FOIL_ROOM_NET, (uint16_t)id, true}, ip, v4 ? sizeof(struct rte_ipv4_hdr) : sizeof(struct rte_ipv6_hdr), &v);
}
