/* Listeners, and the first segment of a passive open (RFC 9293 3.10.1, 3.10.7.2). A SYN makes a small block (syn.c); when too many
 * are half-open it is answered by a cookie instead (syncookie.c); when memory is short it is dropped, since the peer tries again.
 * Invariant: l->n_half_open is the length of l->syns. */
#include <errno.h>
#include <stdlib.h>

#include "dataplane/tcp/tcp_priv.h"

#define TCP_LISTENER_BACKLOG 1024u

static const struct net_addr any_addr;

static struct tcp_listener *find_exact(const struct tcp_ctx *t, const struct net_addr *addr, uint16_t port)
{
	for (struct tcp_node *n = t->listeners.next; n != &t->listeners; n = n->next) {
		struct tcp_listener *l = FOIL_CONTAINER_OF(n, struct tcp_listener, node);
		if (l->p.port == port && net_addr_eq(&l->p.addr, addr))
			return l;
	}
	return NULL;
}

/* Behind all others, and for captured addresses alone, the listener of port 0: ports that nobody has. */
struct tcp_listener *tcp_listener_find(const struct foil_worker *w, const struct stream_addr *local)
{
	const struct tcp_ctx *t = w->tcp;
	struct tcp_listener *l = find_exact(t, tcp_addr(local), local->port);

	if (!l && local->port)
		l = find_exact(t, &any_addr, local->port);
	if (!l) {
		l = find_exact(t, &any_addr, 0);
		if (l && !net_is_captured(w, tcp_addr(local)))
			l = NULL;
	}
	return l;
}

int tcp_listen(struct foil_worker *w, const struct tcp_listen_params *p, struct tcp_listener **out)
{
	if (find_exact(w->tcp, &p->addr, p->port))
		return -EADDRINUSE;
	struct tcp_listener *l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->p = *p;
	if (!l->p.backlog_max)
		l->p.backlog_max = TCP_LISTENER_BACKLOG;
	tcp_list_init(&l->syns);
	tcp_list_push_back(&w->tcp->listeners, &l->node);
	*out = l;
	return 0;
}

void tcp_unlisten(struct foil_worker *w, struct tcp_listener *l)
{
	struct tcp_node *n;

	if (!l)
		return;
	while ((n = tcp_list_first(&l->syns))) {
		struct tcp_syn *y = FOIL_CONTAINER_OF(n, struct tcp_syn, node);
		struct tcp_segment_spec rst = {.key = &y->key, .seq = y->iss + 1, .flags = RTE_TCP_RST_FLAG, .dst = &y->dst};
		if (tcp_segment_send(w, &rst))
			foil_count(w, TCP, RSTS_TX, 1);
		tcp_syn_free(w, y);
	}
	for (n = w->tcp->events.next; n != &w->tcp->events; n = n->next) { /* established, accept not told yet: told and refused */
		struct tcp_conn *c = FOIL_CONTAINER_OF(n, struct tcp_conn, ev_node);
		if (c->listener == l)
			c->listener = NULL;
	}
	tcp_node_remove(&l->node);
	free(l);
}

void *tcp_listener_data(const struct tcp_listener *l)
{
	return l->p.user_data;
}

/* The SYN goes without an answer. Its mbuf is the caller's. */
static FOIL_COLD void refuse(struct foil_worker *w, const struct tcp_seg *seg, enum tcp_reason why)
{
	foil_reason_id(w, TCP, why);
	net_capture_drop(w, FOIL_ROOM_TCP, (uint16_t)why, NULL, seg->m, NET_CAPTURE_UPPER);
}

static void syn_new(struct foil_worker *w, struct tcp_listener *l, const struct tcp_seg *seg, uint32_t iss_above)
{
	struct tcp_ctx *t = w->tcp;
	struct tcp_syn *y = tcp_pool_get(&t->syns);

	if (!y || !tcp_flow_add(t, seg->hash, TCP_KIND_SYN, y)) {
		if (y)
			tcp_pool_put(&t->syns, y);
		refuse(w, seg, TCP_REASON_SYN_BACKLOG);
		return;
	}
	y->key = seg->key;
	y->hash = seg->hash;
	y->irs = seg->seq;
	y->iss = tcp_isn(w, &seg->key);
	if (iss_above && seq_leq(y->iss, iss_above))
		y->iss = iss_above + 1; /* RFC 6191 2: above everything of the old incarnation */
	y->ts_recent = seg->opt.ts_val;
	y->ts_offset = tcp_ts_offset(w, &seg->key);
	y->mss_peer_bytes = seg->opt.has_mss ? seg->opt.mss_bytes : 0;
	y->wnd_peer = seg->wnd;
	y->wscale_peer = seg->opt.wscale;
	y->has_ts = seg->opt.has_ts;
	y->has_sack = seg->opt.sack_permitted;
	y->has_wscale = seg->opt.has_wscale;
	y->has_ecn = (seg->flags & TCP_FLAGS_ECN) == TCP_FLAGS_ECN; /* RFC 3168 6.1.1 */
	y->listener = l;
	y->sent_us = w->now_us;
	tcp_list_push_back(&l->syns, &y->node);
	l->n_half_open++;
	foil_gauge_set(w, TCP, HALF_OPEN, t->syns.n_used);
	tcp_synack_send(w, y);
}

void tcp_listener_input(struct foil_worker *w, struct tcp_listener *l, struct tcp_seg *seg, uint32_t iss_above)
{
	struct tcp_ctx *t = w->tcp;

	if (t->is_short_of_mbufs)
		refuse(w, seg, TCP_REASON_MEMORY);
	else if (FOIL_UNLIKELY(w->overload & FOIL_OVERLOAD_STOP_CONNECTIONS))
		refuse(w, seg, TCP_REASON_OVERLOADED);
	else if (t->conns.n_used >= t->conns.n_max)
		refuse(w, seg, TCP_REASON_CONNS_EXHAUSTED);
	else if (l->n_half_open >= l->p.backlog_max || t->syns.n_used >= t->syns.n_max)
		tcp_cookie_send(w, l, seg);
	else
		syn_new(w, l, seg, iss_above);
	rte_pktmbuf_free(seg->m);
}
