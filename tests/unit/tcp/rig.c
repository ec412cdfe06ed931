/* The unit tests' peer (rig.h). */
#include "tests/cutter.h"
#include "tests/unit/tcp/rig.h"

#include <stdlib.h>

#include <rte_arp.h>
#include <rte_ip.h>

#include "dataplane/core/error.h"
#include "dataplane/net/checksum.h"

static const struct rte_ether_addr our_mac = {{2, 0, 0, 0, 0, 1}}, peer_mac = {{2, 0, 0, 0, 0, 2}};
static const struct stream_user user;

static struct net_addr addr(const struct t_tcp *t, bool peer)
{
	struct net_addr a;

	assert_int_equal(net_addr_parse(t->v6 ? peer ? "fd00:f011::2" : "fd00:f011::1" : peer ? "198.18.0.2" : "198.18.0.1", &a), 0);
	return a;
}

static struct rte_mbuf *arp_reply(struct t_tcp *t, const uint8_t *frame)
{
	uint8_t f[42];

	memcpy(f, frame, 42);
	memcpy(f, frame + 6, 6);
	memcpy(f + 6, &peer_mac, 6);
	f[21] = 2;
	memcpy(f + 22, &peer_mac, 6);
	memcpy(f + 28, frame + 38, 4);
	memcpy(f + 32, frame + 22, 10);
	return t_mbuf(t->w, f, 42);
}

static struct rte_mbuf *nd_advert(struct t_tcp *t, const uint8_t *frame)
{
	uint8_t f[86] = {0};
	static const uint8_t fixed[] = {0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255};
	struct net_addr src, dst;

	memcpy(f, frame + 6, 6);
	memcpy(f + 6, &peer_mac, 6);
	memcpy(f + 12, fixed, sizeof(fixed));
	memcpy(f + 22, frame + 62, 16);
	memcpy(f + 38, frame + 22, 16);
	f[54] = 136;
	f[58] = 0x60;
	memcpy(f + 62, frame + 62, 16);
	f[78] = 2;
	f[79] = 1;
	memcpy(f + 80, &peer_mac, 6);
	memcpy(src.b, f + 22, 16);
	memcpy(dst.b, f + 38, 16);
	struct rte_mbuf *m = t_mbuf(t->w, f, 86);
	uint16_t sum = net_sum_fold(net_sum_pseudo(&src, &dst, 58, 32) + net_sum_chain(m, 54, 32));
	memcpy(rte_pktmbuf_mtod_offset(m, uint8_t *, 56), &sum, 2);
	return m;
}

static void take_segment(struct t_tcp *t, const uint8_t *ip, const uint8_t *tcp, uint32_t n_tcp, bool v6)
{
	struct t_seg *g = &t->out[t->n_out++];
	const struct rte_tcp_hdr *h = (const void *)tcp;
	uint32_t n_header = (uint32_t)(h->data_off >> 4) * 4;

	assert_true(t->n_out <= T_OUT_MAX);
	memset(g, 0, sizeof(*g));
	g->v6 = v6;
	g->tos = v6 ? (uint8_t)(ip[0] << 4 | ip[1] >> 4) : ip[1];
	g->flags = h->tcp_flags;
	g->port = rte_be_to_cpu_16(h->src_port);
	g->peer_port = rte_be_to_cpu_16(h->dst_port);
	g->seq = rte_be_to_cpu_32(h->sent_seq);
	g->ack = rte_be_to_cpu_32(h->recv_ack);
	g->wnd = rte_be_to_cpu_16(h->rx_win);
	assert_true(tcp_options_parse(tcp + 20, n_header - 20, &g->opt));
	g->n_bytes = n_tcp - n_header;
	assert_true(g->n_bytes <= sizeof(g->payload));
	memcpy(g->payload, tcp + n_header, g->n_bytes);
}

static void take_frame(void *arg, const uint8_t *f, uint32_t n)
{
	struct t_tcp *t = arg;
	bool v6 = f[12] == 0x86, may_answer = t->n_answers < FOIL_COUNT_OF(t->answers) && rte_mempool_avail_count(t->w->mbuf_pool) > 0;
	uint32_t l3 = v6 ? 40 : 20;

	assert_true(n <= 1514);
	if (f[12] == 8 && f[13] == 6) {
		if (may_answer && f[21] == 1 && memcmp(f + 28, f + 38, 4) != 0)
			t->answers[t->n_answers++] = arp_reply(t, f);
		return;
	}
	if (f[v6 ? 20 : 23] == IPPROTO_TCP)
		take_segment(t, f + 14, f + 14 + l3, n - 14 - l3, v6);
	else if (may_answer && v6 && f[54] == 135)
		t->answers[t->n_answers++] = nd_advert(t, f);
	else
		t->n_icmp_out++;
}

static uint16_t tx(struct foil_worker *w, struct net_port *p, struct rte_mbuf **own_pkts, uint16_t n_pkts)
{
	for (uint16_t i = 0; i < n_pkts; i++) {
		((struct t_tcp *)p->driver)->n_packets_out++;
		assert_true(cutter_send(own_pkts[i], take_frame, p->driver));
		rte_pktmbuf_free(own_pkts[i]);
	}
	return n_pkts;
}

static uint16_t rx(struct foil_worker *w, struct net_port *p, struct rte_mbuf **pkts, uint16_t n_pkts)
{
	return 0;
}

static bool on_accept(struct foil_worker *w, struct tcp_listener *l, struct stream *s)
{
	struct t_tcp *t = tcp_listener_data(l);

	t->n_accepted++;
	if (t->refuse)
		return false;
	t->s = s;
	s->user = &user;
	s->user_data = t;
	return true;
}

static void on_opened(struct foil_worker *w, struct stream *s)
{
	((struct t_tcp *)s->user_data)->n_opened++;
}

static void on_readable(struct foil_worker *w, struct stream *s)
{
	struct t_tcp *t = s->user_data;

	t->n_readable++;
	if (t->consume)
		stream_consume(w, s, s->rx.n_bytes);
}

static void on_writable(struct foil_worker *w, struct stream *s)
{
	((struct t_tcp *)s->user_data)->n_writable++;
}

static void on_closed(struct foil_worker *w, struct stream *s, enum stream_end why)
{
	struct t_tcp *t = s->user_data;

	t->n_closed++;
	t->why = why;
	t->s = NULL;
}

static const struct stream_user user = {on_opened, on_readable, on_writable, on_closed};

struct t_tcp *t_tcp_new(struct tcp_params p)
{
	return t_tcp_on(t_worker(.seed = 7), p);
}

struct t_tcp *t_tcp_on(struct foil_worker *w, struct tcp_params p)
{
	struct t_tcp *t = calloc(1, sizeof(*t));
	struct net_local_conf locals[2] = {{.prefix.len = 120}, {.prefix.len = 64}};
	struct foil_error err = {0};

	assert_non_null(t);
	t->w = w;
	t->consume = true;
	t->port = (struct net_port){.rx_burst = rx, .tx_burst = tx, .driver = t, .mtu = 1500, .tx_multi_seg = true, .mac = our_mac};
	locals[0].prefix.addr = addr(t, false);
	t->v6 = true;
	locals[1].prefix.addr = addr(t, false);
	t->v6 = false;
	struct net_prefix captured = {.len = 120};
	assert_int_equal(net_addr_parse(T_CAPTURED, &captured.addr), 0);
	struct net_params np = {.ports = {&t->port}, .n_ports = 1, .locals = locals, .n_locals = 2, .neighbours_max = 16,
				.captured = &captured, .n_captured = 1};
	p.conns_max = p.conns_max ? p.conns_max : 64;
	p.time_wait_max = p.time_wait_max ? p.time_wait_max : 64;
	p.syn_backlog_max = p.syn_backlog_max ? p.syn_backlog_max : 16;
	struct tcp_listen_params lp = {.port = T_PORT, .accept = on_accept, .user_data = t};
	if (net_init(t->w, &np, &err) || tcp_init(t->w, &p, &err) || tcp_listen(t->w, &lp, &t->listener))
		fail_msg("%s", err.text);
	t_turn(t);
	return t;
}

void t_tcp_off(struct t_tcp *t)
{
	tcp_fini(t->w);
	net_fini(t->w);
	for (uint32_t i = 0; i < t->n_answers; i++)
		rte_pktmbuf_free(t->answers[i]);
	free(t);
}

void t_tcp_free(struct t_tcp *t)
{
	struct foil_worker *w = t->w;

	t_tcp_off(t);
	t_worker_free(w);
}

static void check_sent(const struct tcp_conn *c)
{
	uint32_t seq = c->snd_una, n_sacked = 0, n_lost = 0, n_by_time = 0, n_open = 0;

	for (const struct tcp_node *n = c->sent.next; n != &c->sent; n = n->next) {
		const struct tcp_sent *r = FOIL_CONTAINER_OF(n, const struct tcp_sent, by_seq);
		assert_int_equal(r->seq, seq); /* no gaps */
		assert_true(seq_gt(r->end, r->seq));
		seq = r->end;
		n_sacked += r->flags & TCP_SENT_SACKED ? r->end - r->seq : 0;
		n_lost += r->flags & TCP_SENT_LOST ? r->end - r->seq : 0;
		n_open += !(r->flags & (TCP_SENT_SACKED | TCP_SENT_LOST));
		assert_true((r->flags & (TCP_SENT_SACKED | TCP_SENT_LOST)) != (TCP_SENT_SACKED | TCP_SENT_LOST));
	}
	for (const struct tcp_node *n = c->rack_order.next; n != &c->rack_order; n = n->next)
		n_by_time++;
	assert_int_equal(seq, c->snd_nxt);
	assert_int_equal(n_sacked, c->n_sacked_bytes);
	assert_int_equal(n_lost, c->n_lost_bytes);
	assert_int_equal(n_by_time, n_open);
}

static void check_ooo(const struct tcp_conn *c)
{
	uint32_t end = c->rcv_nxt, n_bytes = 0, n = 0;

	for (const struct tcp_node *at = c->rare ? c->rare->ooo.next : NULL; at && at != &c->rare->ooo; at = at->next, n++) {
		const struct tcp_ooo *o = FOIL_CONTAINER_OF(at, const struct tcp_ooo, by_seq);
		assert_true(seq_gt(o->seq, end)); /* not touching what is before it */
		assert_int_equal(o->end - o->seq, o->chain.n_bytes);
		n_bytes += o->chain.n_bytes;
		end = o->end;
	}
	assert_int_equal(n, tcp_ooo_ranges(c));
	assert_int_equal(n_bytes, tcp_ooo_bytes(c));
	assert_true(seq_leq(end, c->rcv_adv));
}

static void check_conn(const struct tcp_conn *c)
{
	bool is_outstanding = c->snd_una != c->snd_nxt, is_waiting = tcp_unsent_bytes(c) || (c->fin_queued && !c->fin_sent);

	assert_true(seq_leq(c->rcv_nxt, c->rcv_adv));
	check_ooo(c);
	if (c->state < TCP_STATE_ESTABLISHED)
		return;
	assert_true(c->mss_bytes >= TCP_MSS_MIN);
	check_sent(c);
	assert_int_equal(c->s.tx_queued_bytes, c->tx.n_bytes);
	assert_true(c->cwnd >= c->mss_bytes / 2);
	if ((is_outstanding || is_waiting) && !tcp_node_is_on(&c->out_node)) /* nothing may wait for nobody */
		assert_true(c->rtx_mode != TCP_RTX_NONE && foil_timer_is_armed(&c->timer));
	if (c->ack_delayed && !c->ack_now && !tcp_node_is_on(&c->out_node))
		assert_true(c->delack_armed && foil_timer_is_armed(&c->timer));
}

void t_check(const struct t_tcp *t)
{
	const struct tcp_ctx *ctx = t->w->tcp;

	for (uint32_t i = 0; i < ctx->conns.n_fresh; i++) {
		const struct tcp_conn *c = tcp_pool_at(&ctx->conns, i);
		if (c->s.ops == &tcp_stream_ops && c->in_table)
			check_conn(c);
	}
}

void t_turn(struct t_tcp *t)
{
	for (int i = 0; i < 8; i++) {
		struct rte_mbuf *pkts[8];
		uint16_t n = (uint16_t)t->n_answers;
		memcpy(pkts, t->answers, sizeof(pkts));
		t->n_answers = 0;
		if (n)
			net_input_burst(t->w, &t->port, pkts, n);
		(void)foil_wheel_advance(t->w, 64);
		tcp_flush(t->w);
		net_flush(t->w);
		if (!t->n_answers)
			break;
	}
	t_check(t);
}

void t_put(struct t_tcp *t, const struct t_seg *g)
{
	uint8_t f[2048] = {0};
	bool v6 = t->v6;
	struct net_addr src = addr(t, true), dst = addr(t, false);
	uint8_t *ip = f + 14, *tcp = ip + (v6 ? 40 : 20), opt[40];
	uint32_t n_opt = g->raw_opt ? g->n_raw_opt : tcp_options_emit(&g->opt, opt), n_tcp = 20 + n_opt + g->n_bytes;
	struct rte_tcp_hdr *h = (void *)tcp;

	if (g->captured)
		assert_int_equal(net_addr_parse(T_CAPTURED, &dst), 0);
	memcpy(f, &our_mac, 6);
	memcpy(f + 6, &peer_mac, 6);
	f[12] = v6 ? 0x86 : 0x08;
	f[13] = v6 ? 0xdd : 0;
	if (v6) {
		ip[0] = (uint8_t)(0x60 | g->tos >> 4);
		ip[1] = (uint8_t)(g->tos << 4);
		ip[4] = (uint8_t)(n_tcp >> 8);
		ip[5] = (uint8_t)n_tcp;
		ip[6] = 6;
		ip[7] = 64;
		memcpy(ip + 8, src.b, 16);
		memcpy(ip + 24, dst.b, 16);
	} else {
		struct rte_ipv4_hdr *h4 = (void *)ip;
		*h4 = (struct rte_ipv4_hdr){.version_ihl = 0x45, .type_of_service = g->tos, .total_length = rte_cpu_to_be_16((uint16_t)(20 + n_tcp)),
					    .time_to_live = 64, .next_proto_id = 6};
		memcpy(&h4->src_addr, src.b + 12, 4);
		memcpy(&h4->dst_addr, dst.b + 12, 4);
		h4->hdr_checksum = rte_ipv4_cksum(h4);
	}
	h->src_port = rte_cpu_to_be_16(g->peer_port ? g->peer_port : T_PEER_PORT);
	h->dst_port = rte_cpu_to_be_16(g->port ? g->port : T_PORT);
	h->sent_seq = rte_cpu_to_be_32(g->seq);
	h->recv_ack = rte_cpu_to_be_32(g->ack);
	h->data_off = (uint8_t)((20 + n_opt) / 4 << 4);
	h->tcp_flags = g->flags;
	h->rx_win = rte_cpu_to_be_16(g->wnd || g->no_wnd ? g->wnd : UINT16_MAX);
	memcpy(tcp + 20, g->raw_opt ? g->raw_opt : opt, n_opt);
	if (g->data)
		memcpy(tcp + 20 + n_opt, g->data, g->n_bytes);
	struct rte_mbuf *m = t_mbuf(t->w, f, (uint16_t)(tcp + n_tcp - f));
	h = rte_pktmbuf_mtod_offset(m, struct rte_tcp_hdr *, tcp - f);
	h->cksum = net_sum_fold(net_sum_pseudo(&src, &dst, 6, n_tcp) + net_sum_chain(m, (uint32_t)(tcp - f), n_tcp));
	if (g->bad_checksum)
		h->cksum ^= 1;
	net_input_burst(t->w, &t->port, &m, 1);
}

void t_in_seg(struct t_tcp *t, const struct t_seg *g)
{
	t_put(t, g);
	t_turn(t);
}

void t_wait(struct t_tcp *t, uint64_t us)
{
	uint64_t end = t->w->now_us + us;

	while (t->w->now_us < end) {
		uint64_t next = foil_wheel_next_us(t->w), to = FOIL_MIN(end, FOIL_MAX(next, t->w->now_us + FOIL_TICK_US));
		t_clock(t->w, to - t->w->now_us);
		t_turn(t);
	}
}

struct t_seg t_out(struct t_tcp *t)
{
	assert_true(t->n_out > 0);
	struct t_seg g = t->out[0];
	memmove(t->out, t->out + 1, --t->n_out * sizeof(g));
	return g;
}

struct t_seg t_expect(struct t_tcp *t, uint8_t flags, uint32_t seq, uint32_t ack, uint32_t n_bytes)
{
	struct t_seg g = t_out(t);

	assert_int_equal(g.flags & ~T_PSH, flags & ~T_PSH);
	assert_int_equal(g.seq, seq);
	if (flags & T_ACK)
		assert_int_equal(g.ack, ack);
	assert_int_equal(g.n_bytes, n_bytes);
	return g;
}

void t_silent(struct t_tcp *t)
{
	assert_int_equal(t->n_out, 0);
}

struct tcp_conn *t_accept_with(struct t_tcp *t, const struct tcp_options *opt, uint16_t wnd)
{
	t_in(t, .flags = T_SYN, .seq = T_PEER_ISN, .opt = *opt);
	struct t_seg synack = t_out(t);
	assert_int_equal(synack.flags, T_SYN | T_ACK);
	struct tcp_options rest = {.has_ts = opt->has_ts, .ts_val = opt->ts_val + 1, .ts_ecr = synack.opt.ts_val};
	t_in(t, .flags = T_ACK, .seq = T_PEER_ISN + 1, .ack = synack.seq + 1, .wnd = wnd, .no_wnd = true, .opt = rest);
	assert_int_equal(t->n_accepted, 1);
	assert_non_null(t->s);
	t_silent(t);
	return tcp_conn_of(t->s);
}

struct tcp_conn *t_accept(struct t_tcp *t)
{
	struct tcp_options opt = {.has_mss = true, .mss_bytes = 1460, .sack_permitted = true, .has_wscale = true};

	return t_accept_with(t, &opt, UINT16_MAX);
}

struct tcp_conn *t_open(struct t_tcp *t)
{
	struct tcp_options opt = {.has_mss = true, .mss_bytes = 1460, .sack_permitted = true, .has_wscale = true};
	struct tcp_connect_params p = {.remote = addr(t, true), .remote_port = T_PEER_PORT, .local_port = 5000, .user = &user, .user_data = t};

	assert_int_equal(tcp_connect(t->w, &p, &t->s), 0);
	t_turn(t);
	struct t_seg syn = t_out(t);
	assert_int_equal(syn.flags, T_SYN);
	t_in(t, .flags = T_SYN | T_ACK, .seq = T_PEER_ISN, .ack = syn.seq + 1, .port = 5000, .opt = opt);
	t_expect(t, T_ACK, syn.seq + 1, T_PEER_ISN + 1, 0);
	assert_int_equal(t->n_opened, 1);
	return tcp_conn_of(t->s);
}

void t_write(struct t_tcp *t, const void *data, uint32_t n_bytes)
{
	struct foil_chain chain = {0};

	t_chain(t->w, &chain, data, n_bytes, 0);
	stream_write(t->w, t->s, &chain);
	t_turn(t);
}

void t_write_n(struct t_tcp *t, uint32_t n_bytes)
{
	void *zeros = calloc(1, n_bytes);

	assert_non_null(zeros);
	t_write(t, zeros, n_bytes);
	free(zeros);
}
