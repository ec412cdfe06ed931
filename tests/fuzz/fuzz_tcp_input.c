/* A peer with libFuzzer's mind: a sequence of segments near what a live connection expects, of writes, reads, ends and waits. After
 * each the connections' invariants are checked (rig.c), at the end that every mbuf came home. */
#include "tests/unit/tcp/rig.h"

enum op { OP_SEGMENT, OP_RAW_OPTIONS, OP_WAIT, OP_WRITE, OP_CONSUME, OP_END, OP_STARVE, OP_FEED, OP_N };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static const struct tcp_conn *conn_of(const struct t_tcp *t)
{
	return t->s ? tcp_conn_of(t->s) : NULL;
}

/* Numbers are small distances from what the connection expects, most of the time. */
static uint32_t near(struct foil_cur *c, uint32_t base)
{
	uint8_t kind = cur_u8(c);

	if (kind < 64)
		return base;
	if (kind < 160)
		return base + (uint32_t)(int8_t)cur_u8(c);
	if (kind < 240)
		return base + (uint32_t)(int16_t)cur_be16(c);
	return cur_be32(c);
}

static void segment(struct t_tcp *t, struct foil_cur *c, bool with_raw)
{
	static const uint8_t payload[2048];
	const struct tcp_conn *conn = conn_of(t);
	struct t_seg g = {.no_wnd = true};
	uint32_t seq = conn ? conn->rcv_nxt : T_PEER_ISN, ack = conn ? conn->snd_nxt : T_ISN + 1;
	uint8_t what = cur_u8(c);

	g.flags = what & 128 ? cur_u8(c) : T_ACK | (what & 3);
	g.seq = near(c, seq);
	g.ack = near(c, conn && what & 4 ? conn->snd_una : ack);
	g.wnd = cur_be16(c);
	g.n_bytes = what & 8 ? cur_u8(c) : what & 16 ? cur_be16(c) % 1461 : 0;
	g.data = payload;
	g.port = conn ? conn->s.local.port : what & 64 ? 5000 : 0;
	if (conn && conn->has_ts)
		g.opt = (struct tcp_options){.has_ts = !(what & 32), .ts_val = near(c, conn->ts_recent), .ts_ecr = cur_be16(c)};
	if (!conn && what & 32)
		g.opt = (struct tcp_options){.has_mss = true, .mss_bytes = cur_be16(c), .has_wscale = true, .wscale = cur_u8(c) % 15, .sack_permitted = true,
					     .has_ts = what & 16, .ts_val = 1};
	if (conn && conn->has_sack && what & 64) {
		g.opt.n_sack = 1 + cur_u8(c) % 3;
		for (uint8_t i = 0; i < g.opt.n_sack; i++) {
			g.opt.sack[i].start = near(c, conn->snd_una);
			g.opt.sack[i].end = near(c, conn->snd_nxt);
		}
	}
	if (with_raw) {
		g.n_raw_opt = cur_u8(c) % 11 * 4;
		g.raw_opt = cur_bytes(c, g.n_raw_opt);
		g.n_raw_opt = g.raw_opt ? g.n_raw_opt : 0;
	}
	g.n_bytes = FOIL_MIN(g.n_bytes, 1400u);
	if (rte_mempool_avail_count(t->w->mbuf_pool) > 4)
		t_in_seg(t, &g);
}

static void end(struct t_tcp *t, uint8_t how)
{
	if (!t->s)
		return;
	if (how % 3 == 0) {
		stream_shutdown(t->w, t->s);
		return;
	}
	struct stream *s = t->s;
	t->s = NULL;
	if (how % 3 == 1)
		stream_release(t->w, s);
	else
		stream_abort(t->w, s);
}

static void write_some(struct t_tcp *t, uint32_t n_bytes)
{
	static const uint8_t zeros[65536];
	struct foil_chain chain = {0};

	if (t->s && stream_tx_room(t->s) > n_bytes && foil_chain_append(t->w, &chain, zeros, n_bytes) == 0)
		stream_write(t->w, t->s, &chain);
}

static void consume(struct t_tcp *t, uint32_t n_bytes)
{
	if (t->s)
		stream_consume(t->w, t->s, FOIL_MIN(t->s->rx.n_bytes, n_bytes));
}

static bool starving;

static void feed(struct t_tcp *t)
{
	if (starving)
		t_pool_refill(t->w->mbuf_pool);
	starving = false;
}

static void step(struct t_tcp *t, struct foil_cur *c)
{
	switch ((enum op)(cur_u8(c) % OP_N)) {
	case OP_SEGMENT:
		segment(t, c, false);
		break;
	case OP_RAW_OPTIONS:
		segment(t, c, true);
		break;
	case OP_WAIT:
		t_clock(t->w, (uint64_t)cur_u8(c) << cur_u8(c) % 24);
		break;
	case OP_WRITE:
		write_some(t, cur_be16(c));
		break;
	case OP_CONSUME:
		consume(t, cur_be16(c));
		break;
	case OP_END:
		end(t, cur_u8(c));
		break;
	case OP_STARVE:
		if (!starving)
			t_pool_drain(t->w->mbuf_pool, cur_u8(c) % 16);
		starving = true;
		break;
	case OP_FEED:
	case OP_N:
		feed(t);
		break;
	}
	t_turn(t);
	t_forget(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	static struct foil_worker *w;
	struct foil_cur c = cur_of(data, n_bytes);

	if (!w)
		w = t_worker(.seed = 7, .n_mbufs = 1023, .n_indirect = 1023);
	uint8_t how = cur_u8(&c);
	struct t_tcp *t = t_tcp_on(w, (struct tcp_params){
		.has_fixed_isn = true, .fixed_isn = how & 1 ? T_ISN : UINT32_MAX - 2000, .conns_max = 4, .syn_backlog_max = 2, .time_wait_max = 2,
		.congestion = how & 128 ? "bbr" : how & 2 ? "cubic" : "newreno", .rx_window_bytes = how & 4 ? 4096 : 0,
		.keepalive_idle_us = how & 8 ? 10000000 : 0});
	t->consume = how & 16;
	t->v6 = how & 32;
	if (how & 64)
		(void)t_accept(t);
	for (uint32_t i = 0; i < 400 && cur_left(&c) > 0; i++)
		step(t, &c);
	feed(t);
	t_tcp_off(t);
	t_assert_no_leaks(w);
	return 0;
}
