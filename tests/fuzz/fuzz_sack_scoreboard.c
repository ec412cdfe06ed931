/* ACKs of any kind to a sender with much in flight: cumulative, partial, SACK blocks in and out of what was sent, D-SACK, windows that shrink
 * and open, waits for every timer, records and mbufs that run out. After each, the sums of the scoreboard are what its records say (rig.c's
 * t_check); at the end everything is acknowledged, and nothing is left of it. */
#include "tests/unit/tcp/rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static uint32_t in_flight_at(const struct tcp_conn *c, uint16_t part)
{
	return c->snd_una + (uint32_t)((uint64_t)(c->snd_nxt - c->snd_una) * part / 65535);
}

/* Mostly edges of segments, as an honest receiver would name them. */
static uint32_t number(struct foil_cur *c, const struct tcp_conn *conn)
{
	uint8_t kind = cur_u8(c);

	if (kind < 200) {
		uint32_t n_segs = (conn->snd_nxt - conn->snd_una) / conn->mss_bytes + 1;
		return seq_min(conn->snd_una + cur_u8(c) % n_segs * conn->mss_bytes, conn->snd_nxt);
	}
	if (kind < 240)
		return in_flight_at(conn, cur_be16(c));
	return conn->snd_una + (uint32_t)(int16_t)cur_be16(c);
}

static void ack(struct t_tcp *t, struct foil_cur *c)
{
	const struct tcp_conn *conn = tcp_conn_of(t->s);
	uint8_t how = cur_u8(c);
	struct t_seg g = {.flags = T_ACK, .seq = conn->rcv_nxt, .ack = how & 1 ? number(c, conn) : conn->snd_una, .wnd = how & 2 ? cur_be16(c) : 65535,
			  .no_wnd = true};

	if (conn->has_ts)
		g.opt = (struct tcp_options){.has_ts = true, .ts_val = conn->ts_recent + (how >> 7),
					     .ts_ecr = how & 64 ? cur_u8(c) : tcp_ts_now(t->w, conn->ts_offset)};
	g.opt.n_sack = how >> 2 & 3;
	for (uint8_t i = 0; i < g.opt.n_sack; i++) {
		g.opt.sack[i].start = number(c, conn);
		g.opt.sack[i].end = how & 32 ? g.opt.sack[i].start + conn->mss_bytes * (cur_u8(c) % 8u) : number(c, conn);
	}
	t_in_seg(t, &g);
}

static void step(struct t_tcp *t, struct foil_cur *c)
{
	static const uint8_t zeros[65536];
	struct foil_chain chain = {0};
	uint8_t op = cur_u8(c);

	if (op < 180) {
		ack(t, c);
	} else if (op < 210) {
		t_clock(t->w, (uint64_t)cur_u8(c) << cur_u8(c) % 18);
		t_turn(t);
	} else if (op < 240) {
		if (stream_tx_room(t->s) > 0 && foil_chain_append(t->w, &chain, zeros, 1 + cur_be16(c) % 9000u) == 0)
			stream_write(t->w, t->s, &chain);
		t_turn(t);
	} else {
		t->w->tcp->sents.fail_nth = 1 + cur_u8(c) % 8u;
	}
	t_forget(t);
}

static void finish(struct t_tcp *t)
{
	t->w->tcp->sents.fail_nth = 0;
	for (int i = 0; i < 400 && t->s; i++) {
		const struct tcp_conn *conn = tcp_conn_of(t->s);
		if (conn->snd_una == conn->snd_nxt && !conn->tx.n_bytes)
			break;
		struct t_seg g = {.flags = T_ACK, .seq = conn->rcv_nxt, .ack = conn->snd_nxt, .wnd = 65535};
		if (conn->has_ts)
			g.opt = (struct tcp_options){.has_ts = true, .ts_val = conn->ts_recent, .ts_ecr = tcp_ts_now(t->w, conn->ts_offset)};
		t_in_seg(t, &g);
		t_wait(t, 50000); /* less than a timeout, or the window would stay at two segments */
		t_forget(t);
	}
	if (!t->s)
		return;
	const struct tcp_conn *conn = tcp_conn_of(t->s);
	FOIL_ASSERT(conn->is_finished || (conn->snd_una == conn->snd_nxt && !conn->n_sacked_bytes && !conn->n_lost_bytes));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	static struct foil_worker *w;
	struct foil_cur c = cur_of(data, n_bytes);

	if (!w)
		w = t_worker(.seed = 7, .n_mbufs = 2047, .n_indirect = 2047);
	uint8_t how = cur_u8(&c);
	struct t_tcp *t = t_tcp_on(w, (struct tcp_params){
		.has_fixed_isn = true, .fixed_isn = how & 1 ? T_ISN : UINT32_MAX - 20000, .conns_max = 4, .syn_backlog_max = 2, .time_wait_max = 2,
		.congestion = how & 2 ? "cubic" : how & 4 ? "bbr" : "newreno"});
	struct tcp_options opt = {.has_mss = true, .mss_bytes = how & 8 ? 536 : 1460, .sack_permitted = !(how & 16), .has_ts = how & 32, .ts_val = 1000,
				  .has_wscale = how & 64, .wscale = 3};
	(void)t_accept_with(t, &opt, 65535);
	struct tcp_conn *conn = tcp_conn_of(t->s);
	conn->cwnd = how & 128 ? 30000 : conn->cwnd; /* much in flight at once */
	for (uint32_t i = 0; i < 120 && cur_left(&c) > 0 && t->s; i++)
		step(t, &c);
	if (t->s)
		finish(t);
	t_tcp_off(t);
	t_assert_no_leaks(w);
	return 0;
}
