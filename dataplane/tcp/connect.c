/* Active opens: choice of the local port, SYN, and what answers it (RFC 9293 3.10.1, 3.10.7.3; RFC 6056 3.3.1 for the port).
 * With several workers a port is taken only if the reply's flow hash leads back to this one. */
#include <errno.h>

#include "dataplane/tcp/tcp_priv.h"

#define TCP_PORT_MIN 16384u
#define TCP_PORT_MAX 65535u
#define TCP_PORT_TRIES_PER_WORKER 256u

/* The port belongs to nobody towards this peer, or to a TIME-WAIT that may end now. */
static bool is_port_free(struct foil_worker *w, const struct tcp_key *key, uint32_t hash, uint32_t *iss_above)
{
	void *block = NULL;

	switch (tcp_flow_find(w->tcp, key, hash, &block)) {
	case TCP_KIND_NONE:
		*iss_above = 0;
		return true;
	case TCP_KIND_TW:
		if (!tcp_tw_may_reuse(w, block))
			return false;
		*iss_above = ((struct tcp_tw *)block)->snd_nxt;
		foil_reason(w, TCP, TW_REUSED);
		FOIL_PROBE(w, TCP, TW_ACTIVE_REUSE);
		tcp_tw_free(w, block);
		return true;
	case TCP_KIND_CONN:
	case TCP_KIND_SYN:
		return false;
	}
	FOIL_UNREACHABLE();
}

static bool choose_port(struct foil_worker *w, struct tcp_key *key, uint32_t *hash, uint32_t *iss_above)
{
	uint32_t n_tries = TCP_PORT_TRIES_PER_WORKER * FOIL_MAX(w->n_workers, 1);

	if (key->local.port) {
		*hash = tcp_flow_hash(w->tcp, key);
		return is_port_free(w, key, *hash, iss_above);
	}
	while (n_tries--) {
		key->local.port = (uint16_t)(TCP_PORT_MIN + foil_prng_below(&w->prng, TCP_PORT_MAX - TCP_PORT_MIN + 1));
		if (w->n_workers > 1 && net_flow_worker(net_flow_hash(tcp_addr(&key->remote), tcp_addr(&key->local), key->remote.port,
								      key->local.port), w->n_workers) != w->id)
			continue;
		if (tcp_listener_find(w, &key->local))
			continue;
		*hash = tcp_flow_hash(w->tcp, key);
		if (is_port_free(w, key, *hash, iss_above))
			return true;
	}
	return false;
}

void tcp_send_syn(struct foil_worker *w, struct tcp_conn *c)
{
	bool is_answer = c->state == TCP_STATE_SYN_RCVD;
	bool asks_ecn = w->tcp->p.ecn_request && c->n_rto < 2; /* a path that eats such SYNs gets plain ones (RFC 3168 6.1.1.1) */
	struct tcp_options opt = {
		.has_mss = true, .mss_bytes = tcp_own_mss(w, tcp_addr(&c->s.remote), &c->dst),
		.has_wscale = !is_answer || c->has_wscale, .wscale = w->tcp->rcv_wscale,
		.sack_permitted = !is_answer || c->has_sack, .has_ts = !is_answer || c->has_ts,
		.ts_val = tcp_ts_now(w, c->ts_offset), .ts_ecr = c->ts_recent,
	};
	struct tcp_segment_spec spec = {
		.key = tcp_conn_key(c), .seq = c->iss, .ack = is_answer ? c->rcv_nxt : 0,
		.wnd = FOIL_MIN(c->rcv_buf_bytes, (uint32_t)UINT16_MAX),
		.flags = (uint8_t)(RTE_TCP_SYN_FLAG | (is_answer ? RTE_TCP_ACK_FLAG : asks_ecn ? TCP_FLAGS_ECN : 0)), .opt = &opt, .dst = &c->dst,
	};

	if (w->tcp->p.ecn_request && !asks_ecn)
		FOIL_PROBE(w, TCP, ECN_SYN_FALLBACK);
	(void)tcp_segment_send(w, &spec); /* without an mbuf: when the timer fires */
	if (is_answer)
		c->rcv_adv = c->rcv_nxt + spec.wnd;
	c->last_tx_us = w->now_us;
}

int tcp_connect(struct foil_worker *w, const struct tcp_connect_params *p, struct stream **out)
{
	static const struct net_addr any_addr;
	struct net_addr local = p->local;
	struct net_dst dst = {0};
	struct tcp_key key;
	uint32_t hash, iss_above;

	if (net_addr_eq(&local, &any_addr) && !net_source_for(w, &p->remote, &local))
		return -EHOSTUNREACH;
	if (!net_dst_lookup(w, &p->remote, &dst))
		return -EHOSTUNREACH;
	memcpy(key.local.ip, local.b, 16);
	memcpy(key.remote.ip, p->remote.b, 16);
	key.remote.port = p->remote_port;
	key.local.port = p->local_port;
	if (w->tcp->is_short_of_mbufs) {
		foil_reason(w, TCP, MEMORY);
		return -ENOBUFS;
	}
	if (!choose_port(w, &key, &hash, &iss_above)) {
		foil_reason(w, TCP, PORTS_EXHAUSTED);
		return -EADDRNOTAVAIL;
	}
	struct tcp_conn *c = tcp_conn_new(w, &key, hash);
	if (!c)
		return -ENOBUFS;
	c->dst = dst;
	c->s.user = p->user;
	c->s.user_data = p->user_data;
	c->is_owned = true;
	c->is_active = true;
	c->iss = tcp_isn(w, &key);
	if (iss_above && seq_leq(c->iss, iss_above))
		c->iss = iss_above + 1;
	c->snd_una = c->iss;
	c->snd_nxt = c->iss + 1;
	tcp_conn_become(w, c, TCP_STATE_SYN_SENT);
	tcp_rtx_restart(w, c);
	tcp_send_syn(w, c); /* last: net may know at once that nobody is there, and say so to tcp_icmp_input */
	*out = &c->s;
	return 0;
}

/* What the peer's SYN, with or without ACK, agrees on. */
static void take_syn(struct foil_worker *w, struct tcp_conn *c, const struct tcp_seg *seg)
{
	c->irs = seg->seq;
	c->rcv_nxt = c->last_ack_sent = seg->seq + 1;
	c->rcv_adv = c->rcv_nxt + FOIL_MIN(c->rcv_buf_bytes, (uint32_t)UINT16_MAX);
	c->has_ts = seg->opt.has_ts;
	c->ts_recent = seg->opt.ts_val;
	c->ts_recent_us = w->now_us;
	c->has_sack = seg->opt.sack_permitted;
	c->has_wscale = seg->opt.has_wscale;
	c->has_ecn = w->tcp->p.ecn_request && (seg->flags & (RTE_TCP_ACK_FLAG | TCP_FLAGS_ECN)) == (RTE_TCP_ACK_FLAG | RTE_TCP_ECE_FLAG);
	c->ecn_recover_seq = c->iss;
	c->snd_wscale = seg->opt.has_wscale ? seg->opt.wscale : 0;
	c->rcv_wscale = seg->opt.has_wscale ? w->tcp->rcv_wscale : 0;
	c->snd_wnd = c->snd_wnd_max = seg->wnd; /* never scaled in a SYN */
	c->snd_wl1 = seg->seq;
	tcp_conn_set_mss(c, seg->opt.has_mss ? seg->opt.mss_bytes : 0, tcp_own_mss(w, tcp_addr(&c->s.remote), &c->dst));
}

void tcp_syn_sent_input(struct foil_worker *w, struct tcp_conn *c, struct tcp_seg *seg)
{
	bool has_ack = seg->flags & RTE_TCP_ACK_FLAG;

	if (has_ack && seg->ack != c->snd_nxt) { /* nothing but the SYN was sent */
		tcp_send_rst_for(w, seg);
		tcp_conn_drop(w, c, seg, TCP_REASON_SYN_ACK_BAD);
		return;
	}
	if (seg->flags & RTE_TCP_RST_FLAG) {
		tcp_conn_drop(w, c, seg, has_ack ? TCP_REASON_REFUSED : TCP_REASON_RST_UNACCEPTABLE);
		if (has_ack)
			tcp_conn_finish(w, c, STREAM_END_REFUSED);
		return;
	}
	if (!(seg->flags & RTE_TCP_SYN_FLAG)) {
		tcp_conn_drop(w, c, seg, TCP_REASON_NO_ACK);
		return;
	}
	take_syn(w, c, seg);
	if (!has_ack) { /* simultaneous open, RFC 9293 figure 8 */
		FOIL_PROBE(w, TCP, SIMULTANEOUS_OPEN);
		tcp_conn_become(w, c, TCP_STATE_SYN_RCVD);
		tcp_rtx_restart(w, c);
		tcp_send_syn(w, c);
		rte_pktmbuf_free(seg->m);
		return;
	}
	c->snd_una = seg->ack;
	if (c->state == TCP_STATE_SYN_RCVD)
		FOIL_PROBE(w, TCP, SYN_TRUE_ANSWER);
	else if (!c->n_rto)
		tcp_rtt_sample(c, (uint32_t)(w->now_us - c->last_tx_us));
	tcp_conn_established(w, c);
	tcp_ack_owe(w, c);
	if (!seg->n_bytes && !(seg->flags & RTE_TCP_FIN_FLAG)) {
		rte_pktmbuf_free(seg->m);
		return;
	}
	seg->seq++;
	tcp_receive(w, c, seg);
}
