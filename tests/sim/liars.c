/* Peers that do not play by the rules, as raw segments against one host of ours, which serves as the other end of a flow.
 *
 * A liar is a small TCP of its own: it opens properly, and then lies in the way that its scenario says. What must hold: nothing
 * breaks, the wire's rules stay kept (windows, checksums), memory comes home, and honest bytes arrive as they were sent. */
#include <string.h>

#include "tests/sim/sim.h"

enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };
enum lie { LIE_SHRINK, LIE_SACK, LIE_DIVISION, LIE_OPTIMISTIC, LIE_SILLY, LIE_RENEGE, LIE_NOISE, LIE_CRUMBS, LIE_OVERLAP };

/* In s->raw_state. */
struct liar {
	enum lie lie;
	bool is_open, knows_mac, is_done, has_ts;
	uint16_t port;
	uint32_t snd_nxt, rcv_nxt, iss, irs, highest; /* highest: end of what arrived, holes or not */
	uint32_t ts_peer, n_in, wnd, n_sent_segs;
	uint64_t n_data; /* to send, for lies of a sender */
};
static_assert(sizeof(struct liar) <= sizeof(((struct sim *)0)->raw_state), "fits");

static struct liar *liar_of(struct sim *s)
{
	return (struct liar *)s->raw_state;
}

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v);
}

struct raw_seg {
	uint32_t seq, ack, wnd;
	uint8_t flags;
	const uint8_t *data;
	uint32_t n_data;
	uint32_t sack[8];
	uint32_t n_sack;
	bool no_ts;
};

static uint32_t put_options(struct sim *s, uint8_t *o, const struct raw_seg *g)
{
	struct liar *l = liar_of(s);
	uint32_t n = 0;

	if (g->flags & SYN) {
		static const uint8_t syn[8] = {2, 4, 0x05, 0xb4, 1, 3, 3, 4};
		memcpy(o, syn, 8);
		o[8] = o[9] = 1;
		o[10] = 4;
		o[11] = 2;
		n = 12;
	}
	if (l->has_ts && !g->no_ts) {
		o[n] = o[n + 1] = 1;
		o[n + 2] = 8;
		o[n + 3] = 10;
		put32(o + n + 4, (uint32_t)(s->now_us / 1000) + 77);
		put32(o + n + 8, l->ts_peer);
		n += 12;
	}
	if (g->n_sack) {
		o[n] = o[n + 1] = 1;
		o[n + 2] = 5;
		o[n + 3] = (uint8_t)(2 + 8 * g->n_sack);
		for (uint32_t i = 0; i < 2 * g->n_sack; i++)
			put32(o + n + 4 + 4 * i, g->sack[i]);
		n += 4 + 8 * g->n_sack;
	}
	return n;
}

static void raw_send(struct sim *s, const struct raw_seg *g)
{
	struct liar *l = liar_of(s);
	uint8_t f[SIM_FRAME_MAX] = {0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2};
	uint8_t *ip = f + 14, *tcp = ip + (s->v6 ? 40 : 20), proto = 6;
	struct net_addr me = sim_addr(s, 1), you = sim_addr(s, 0);
	uint32_t n_opt = put_options(s, tcp + 20, g), n_tcp = 20 + n_opt + g->n_data;

	put16(f + 12, s->v6 ? 0x86dd : 0x0800);
	put16(tcp, l->port);
	put16(tcp + 2, SIM_SERVER_PORT);
	put32(tcp + 4, g->seq);
	put32(tcp + 8, g->ack);
	tcp[12] = (uint8_t)((20 + n_opt) / 4 << 4);
	tcp[13] = g->flags;
	put16(tcp + 14, g->wnd);
	if (g->n_data)
		memcpy(tcp + 20 + n_opt, g->data, g->n_data);
	if (s->v6) {
		ip[0] = 0x60;
		put16(ip + 4, n_tcp);
		ip[6] = proto;
		ip[7] = 64;
		memcpy(ip + 8, me.b, 16);
		memcpy(ip + 24, you.b, 16);
	} else {
		ip[0] = 0x45;
		put16(ip + 2, 20 + n_tcp);
		ip[8] = 64;
		ip[9] = proto;
		memcpy(ip + 12, me.b + 12, 4);
		memcpy(ip + 16, you.b + 12, 4);
		uint16_t sum = sim_checksum(0, ip, 20);
		memcpy(ip + 10, &sum, 2);
	}
	uint16_t sum = sim_checksum(sim_pseudo(ip, !s->v6, proto, n_tcp), tcp, n_tcp);
	memcpy(tcp + 16, &sum, 2);
	sim_send(s, 1, f, (uint16_t)(tcp + n_tcp - f));
}

static void answer_arp(struct sim *s, const uint8_t *frame, uint16_t n_bytes)
{
	uint8_t f[86] = {0};

	if (frame[12] == 0x08 && frame[13] == 0x06 && n_bytes >= 42 && frame[21] == 1) {
		memcpy(f, frame, 42);
		memcpy(f, frame + 6, 6);
		memcpy(f + 6, (uint8_t[]){0x02, 0, 0, 0, 0, 2}, 6);
		f[21] = 2;
		memcpy(f + 22, f + 6, 6);
		memcpy(f + 28, frame + 38, 4);
		memcpy(f + 32, frame + 22, 10);
		sim_send(s, 1, f, 42);
		return;
	}
	if (frame[12] != 0x86 || n_bytes < 86 || frame[20] != 58 || frame[54] != 135)
		return;
	memcpy(f, frame + 6, 6);
	memcpy(f + 6, (uint8_t[]){0x02, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60}, 9);
	put16(f + 18, 32);
	f[20] = 58;
	f[21] = 255;
	memcpy(f + 22, frame + 62, 16);
	memcpy(f + 38, frame + 22, 16);
	f[54] = 136;
	f[58] = 0x60;
	memcpy(f + 62, frame + 62, 16);
	memcpy(f + 78, (uint8_t[]){2, 1, 0x02, 0, 0, 0, 0, 2}, 8);
	uint16_t sum = sim_checksum(sim_pseudo(f + 14, false, 58, 32), f + 54, 32);
	memcpy(f + 56, &sum, 2);
	sim_send(s, 1, f, 86);
}

static void learn_ts(struct liar *l, const struct sim_tcp *t)
{
	const uint8_t *o = t->tcp + 20, *end = t->payload;

	while (o + 10 <= end && *o) {
		if (*o == 1) {
			o++;
			continue;
		}
		if (o[0] == 8) {
			l->ts_peer = (uint32_t)o[2] << 24 | (uint32_t)o[3] << 16 | (uint32_t)o[4] << 8 | o[5];
			return;
		}
		if (o[1] < 2)
			return;
		o += o[1];
	}
}

static void ack_plain(struct sim *s, uint32_t wnd)
{
	struct liar *l = liar_of(s);
	struct raw_seg g = {.seq = l->snd_nxt, .ack = l->rcv_nxt, .wnd = wnd, .flags = ACK};

	raw_send(s, &g);
}

static void lie_about(struct sim *s, uint32_t before)
{
	struct liar *l = liar_of(s);
	struct raw_seg g = {.seq = l->snd_nxt, .ack = l->rcv_nxt, .wnd = l->wnd, .flags = ACK};
	uint32_t wild = (uint32_t)foil_prng_u64(&s->prng);

	switch (l->lie) {
	case LIE_SHRINK: /* takes back what was offered, down to nothing; later it comes back; and says something now and then, to be acknowledged meanwhile */
		l->wnd = sim_chance(s, 300000) ? 0 : sim_pick(s, 0, 4000);
		g.wnd = l->wnd;
		if (sim_chance(s, 200000)) {
			uint32_t n_there;
			g.data = sim_pattern(&s->flows[0], 0, l->snd_nxt++ - l->iss - 1, &n_there);
			g.n_data = 1;
		}
		break;
	case LIE_SACK: /* above what was sent, below what was acknowledged, turned round, overlapping */
		g.n_sack = sim_pick(s, 1, 3);
		for (uint32_t i = 0; i < g.n_sack; i++) {
			g.sack[2 * i] = l->rcv_nxt + (wild >> 4 * i) % 100000 - 20000;
			g.sack[2 * i + 1] = g.sack[2 * i] + wild % 30000 - 1000;
		}
		break;
	case LIE_DIVISION: /* one segment, many ACKs */
		for (uint32_t at = before; at != l->rcv_nxt; at += FOIL_MIN(200u, l->rcv_nxt - at)) {
			g.ack = at;
			raw_send(s, &g);
		}
		g.ack = l->rcv_nxt;
		break;
	case LIE_OPTIMISTIC: /* of what did not arrive yet, and of what was never sent */
		g.ack = l->rcv_nxt + (sim_chance(s, 200000) ? wild : wild % 60000);
		break;
	case LIE_SILLY:
		g.wnd = sim_pick(s, 0, 3);
		break;
	case LIE_RENEGE: /* has it all SACKed, then forgets */
		if (l->n_in % 40 < 30) {
			g.ack = l->irs + 1 + (l->rcv_nxt - l->irs - 1) / 20000 * 20000;
			g.n_sack = (int32_t)(l->rcv_nxt - g.ack) > 1000;
			g.sack[0] = l->n_in % 3 ? g.ack + 1000 : g.ack; /* or of the very byte that it waits for */
			g.sack[1] = l->rcv_nxt;
		}
		break;
	case LIE_NOISE: /* anything at all, near what is expected */
		g.seq += sim_chance(s, 500000) ? wild % 70000 - 3000 : 0;
		g.ack += sim_chance(s, 500000) ? wild % 30000 - 15000 : 0;
		g.flags = sim_chance(s, 500000) ? (uint8_t)(wild >> 8) & (uint8_t)~RST : ACK;
		g.no_ts = sim_chance(s, 100000);
		g.wnd = sim_pick(s, 0, 65535);
		break;
	case LIE_CRUMBS:
	case LIE_OVERLAP:
		break;
	}
	raw_send(s, &g);
}

/* Data of a lying sender: the flow's own bytes, so that the reader can judge them, but cut and laid as the lie wants. */
static void lie_with_data(struct sim *s)
{
	struct liar *l = liar_of(s);
	const struct sim_flow *f = &s->flows[0];
	struct raw_seg g = {.ack = l->rcv_nxt, .wnd = l->wnd, .flags = ACK};
	uint32_t n_there, at;

	switch (l->lie) {
	case LIE_CRUMBS: /* single bytes, every second one, far beyond what is expected: each would want memory of its own */
		at = (uint32_t)(l->n_sent_segs * 2 % 60000) + 1;
		g.n_data = 1;
		break;
	case LIE_OVERLAP: /* pieces of all sizes anywhere in the window */
		at = sim_pick(s, 0, 60000);
		g.n_data = sim_pick(s, 1, 1400);
		break;
	default:
		return;
	}
	at += l->snd_nxt - l->iss - 1;
	g.n_data = (uint32_t)FOIL_MIN((uint64_t)g.n_data, l->n_data > at ? l->n_data - at : 0);
	if (!g.n_data)
		return;
	g.seq = l->iss + 1 + at;
	g.data = sim_pattern(f, 0, at, &n_there);
	l->n_sent_segs++;
	raw_send(s, &g);
}

static void sender_tick(struct sim *s, uint64_t left)
{
	struct liar *l = liar_of(s);

	if (!l->is_open || l->is_done || !left)
		return;
	for (int i = 0; i < 40; i++)
		lie_with_data(s);
	sim_at(s, s->now_us + 500, sender_tick, left - 1);
}

/* The liar's end: what a crash would leave behind. */
static void go_silent(struct sim *s, uint64_t arg)
{
	struct liar *l = liar_of(s);
	struct raw_seg g = {.seq = l->snd_nxt, .ack = l->rcv_nxt, .flags = RST | ACK};

	l->is_done = true;
	if (l->is_open && arg)
		raw_send(s, &g);
}

static void knock(struct sim *s, uint64_t arg)
{
	struct liar *l = liar_of(s);
	struct raw_seg g = {.seq = l->iss, .wnd = 60000, .flags = SYN};

	s->flows[0].is_started = true;
	s->flows[0].port = l->port;
	raw_send(s, &g);
}

static void opened(struct sim *s, const struct sim_tcp *t)
{
	struct liar *l = liar_of(s);

	l->is_open = true;
	l->irs = t->seq;
	l->rcv_nxt = l->highest = t->seq + 1;
	l->snd_nxt = l->iss + 1;
	s->flows[0].dir[0].has_syn = true;
	s->flows[0].dir[0].isn = l->iss;
	s->flows[0].dir[0].has_wscale = true;
	s->flows[0].dir[0].wscale = 4;
	s->flows[0].e[0].n_sent = UINT32_MAX; /* what a liar writes is not counted */
	ack_plain(s, l->wnd);
	if (l->lie >= LIE_CRUMBS)
		sim_at(s, s->now_us + 1000, sender_tick, 100);
}

static void raw_input(struct sim *s, const uint8_t *frame, uint16_t n_bytes)
{
	struct liar *l = liar_of(s);
	struct sim_tcp t;

	if (!sim_tcp_parse(frame, n_bytes, &t)) {
		answer_arp(s, frame, n_bytes);
		return;
	}
	if (l->is_done || t.dport != l->port)
		return;
	learn_ts(l, &t);
	if (t.flags & RST) {
		l->is_done = true;
		return;
	}
	if (!l->is_open) {
		if ((t.flags & (SYN | ACK)) == (SYN | ACK))
			opened(s, &t);
		return;
	}
	l->n_in++;
	if (l->lie >= LIE_CRUMBS && (int32_t)(t.ack - l->snd_nxt) > 0)
		l->snd_nxt = t.ack;
	if (!t.n_payload && !(t.flags & FIN))
		return;
	uint32_t before = l->rcv_nxt, end = t.seq + t.n_payload + !!(t.flags & FIN);
	if ((int32_t)(t.seq - l->rcv_nxt) <= 0 && (int32_t)(end - l->rcv_nxt) > 0)
		l->rcv_nxt = end;
	lie_about(s, before);
}

static void setup(struct sim *s, enum lie lie)
{
	struct liar *l = liar_of(s);
	struct sim_flow *f = &s->flows[0];

	*l = (struct liar){.lie = lie, .port = (uint16_t)sim_pick(s, 1024, 65535), .iss = (uint32_t)foil_prng_u64(&s->prng), .wnd = 65535,
			   .has_ts = sim_chance(s, 500000), .n_data = lie >= LIE_CRUMBS ? 400000 : 0};
	s->l[0].p = s->l[1].p = (struct sim_link_params){.rate_bps = 100000000, .delay_us = sim_pick(s, 50, 20000)};
	s->h[0].tcp.congestion = sim_chance(s, 500000) ? "newreno" : "cubic";
	*f = (struct sim_flow){.sim = s, .may_fail = true};
	for (uint8_t side = 0; side < 2; side++)
		f->e[side] = (struct sim_end){.flow = f, .side = side, .host = !side, .piece_bytes = sim_pick(s, 100, 9000)};
	if (sim_chance(s, 200000))
		s->h[0].fault_ppm = 50000;
	if (lie == LIE_CRUMBS && sim_chance(s, 500000))
		s->h[0].tcp.rx_window_bytes = s->h[0].tcp.rx_window_bytes_max = sim_pick(s, 4, 32) << 10;
	f->e[1].to_send = lie >= LIE_CRUMBS ? 10 : sim_pick(s, 50000, 400000);
	s->n_flows = 1;
	s->rst_expected = true;
	s->h[0].tcp.keepalive_idle_us = 20000000;
	s->end_us = 2000000000;
	sim_at(s, SIM_START_US, knock, 0);
	sim_at(s, SIM_START_US + sim_pick(s, 500000, 5000000), go_silent, sim_chance(s, 500000));
}

/* Our end is over, one way or another; a liar cannot keep it. */
static void verdict(struct sim *s)
{
	const struct sim_end *e = &s->flows[0].e[1];

	if (e->s && !e->closed && !e->gone)
		sim_fail(s, "the liar kept the connection for ever");
}

static void setup_shrink(struct sim *s)
{
	setup(s, LIE_SHRINK);
}

static void setup_sack(struct sim *s)
{
	setup(s, LIE_SACK);
}

static void setup_division(struct sim *s)
{
	setup(s, LIE_DIVISION);
}

static void setup_optimistic(struct sim *s)
{
	setup(s, LIE_OPTIMISTIC);
}

static void setup_silly(struct sim *s)
{
	setup(s, LIE_SILLY);
}

static void setup_renege(struct sim *s)
{
	setup(s, LIE_RENEGE);
}

static void setup_noise(struct sim *s)
{
	setup(s, LIE_NOISE);
}

static void setup_crumbs(struct sim *s)
{
	setup(s, LIE_CRUMBS);
}

static void setup_overlap(struct sim *s)
{
	setup(s, LIE_OVERLAP);
}

const struct sim_scenario sim_liars[] = {
	{"lie-shrink", "a peer takes its window back", setup_shrink, verdict, raw_input},
	{"lie-sack", "SACK blocks of anything", setup_sack, verdict, raw_input},
	{"lie-division", "many ACKs for one segment", setup_division, verdict, raw_input},
	{"lie-optimistic", "ACKs of what did not arrive", setup_optimistic, verdict, raw_input},
	{"lie-silly", "windows of a few bytes", setup_silly, verdict, raw_input},
	{"lie-renege", "SACKed and forgotten", setup_renege, verdict, raw_input},
	{"lie-noise", "any flags and numbers", setup_noise, verdict, raw_input},
	{"lie-crumbs", "single bytes with holes between", setup_crumbs, verdict, raw_input},
	{"lie-overlap", "pieces over each other", setup_overlap, verdict, raw_input},
};
const uint32_t sim_n_liars = FOIL_COUNT_OF(sim_liars);
