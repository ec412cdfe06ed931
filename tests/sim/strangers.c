/* Attacks from beside: two hosts of ours talk, and a third party puts frames of its own on the wire. What must hold: what the two say to
 * each other arrives as it was said and as fast as before, new connections can still be made, every frame of the stranger is counted
 * under the reason that docs/attacks.md names, and nothing of it is kept. */
#include <string.h>

#include "tests/sim/sim.h"

enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };
#define MBPS 1000000ull
#define BEFORE_US (SIM_START_US + 500000u)  /* the victim's goodput is measured from here on, for as long as the attack lasts */
#define WINDOW_US 1000000u
#define ATTACK_US (BEFORE_US + WINDOW_US)

/* In s->raw_state. */
struct stranger {
	uint64_t got[3]; /* of the victim: when measuring begins, when the attack does, when it ends */
	uint32_t a_tick; /* frames each */
	uint64_t n_sent;
	void (*send)(struct sim *s, uint64_t i);
};
static_assert(sizeof(struct stranger) <= sizeof(((struct sim *)0)->raw_state), "fits");

static struct stranger *stranger_of(struct sim *s)
{
	return (struct stranger *)s->raw_state;
}

static uint32_t wild(struct sim *s)
{
	return (uint32_t)foil_prng_u64(&s->prng);
}

static uint64_t why(const struct sim *s, int host, enum foil_room room, int reason)
{
	return s->h[host].w.why[room][reason];
}

static void must_count(struct sim *s, int host, enum foil_room room, int reason, const char *name)
{
	if (!s->failed && !why(s, host, room, reason))
		sim_fail(s, "host %d never counted %s", host, name);
}
#define MUST_COUNT(s, host, ROOM, ID) must_count(s, host, FOIL_ROOM_##ROOM, ROOM##_REASON_##ID, #ID)

static void sample(struct sim *s, uint64_t which)
{
	stranger_of(s)->got[which] = s->flows[0].e[0].n_got;
}

#define TICK_US 1000u
static void tick(struct sim *s, uint64_t left)
{
	struct stranger *x = stranger_of(s);

	for (uint32_t i = 0; i < x->a_tick; i++)
		x->send(s, x->n_sent++);
	if (left)
		sim_at(s, s->now_us + TICK_US, tick, left - 1);
}

/* A stream from host 1 to host 0 that its window holds at a steady rate, for longer than the attack; and clients that come during it. */
static void setup(struct sim *s, void (*send)(struct sim *s, uint64_t i), uint32_t a_tick, uint32_t n_clients)
{
	struct sim_link_params p = {.rate_bps = 200 * MBPS, .delay_us = sim_pick(s, 1000, 10000), .queue_bytes = 4u << 20};
	struct stranger *x = stranger_of(s);
	uint32_t window_bytes = sim_pick(s, 20, 120) << 10;

	s->l[0].p = s->l[1].p = p;
	s->rst_expected = s->held_expected = true;
	*x = (struct stranger){.send = send, .a_tick = a_tick};
	for (int i = 0; i < 2; i++) {
		s->h[i].tcp.rx_window_bytes = s->h[i].tcp.rx_window_bytes_max = window_bytes;
		s->h[i].tcp.congestion = sim_chance(s, 500000) ? "cubic" : "newreno";
	}
	struct sim_flow *f = sim_flow_new(s, 0, SIM_START_US);
	f->e[0].to_send = 10;
	f->e[1].to_send = 3ull * window_bytes * 1000000 / (2 * p.delay_us); /* three seconds' worth */
	f->e[1].piece_bytes = 9000;
	f->e[0].shut_after_eof = true;
	for (uint32_t i = 0; i < n_clients; i++) {
		struct sim_flow *c = sim_flow_new(s, sim_chance(s, 700000) ? 1 : 0, ATTACK_US + sim_pick(s, 100000, WINDOW_US - 100000));
		c->e[0].to_send = sim_pick(s, 1, 3000);
		c->e[1].to_send = sim_pick(s, 1, 20000);
	}
	sim_at(s, BEFORE_US, sample, 0);
	sim_at(s, ATTACK_US, sample, 1);
	sim_at(s, ATTACK_US, tick, WINDOW_US / TICK_US);
	sim_at(s, ATTACK_US + WINDOW_US, sample, 2);
}

static void verdict(struct sim *s)
{
	const struct stranger *x = stranger_of(s);
	uint64_t before = x->got[1] - x->got[0], during = x->got[2] - x->got[1];

	sim_verdict_all_done(s);
	if (!s->failed && during * 10 < before * 9)
		sim_fail(s, "the victim got %llu bytes before the attack and %llu during it", (unsigned long long)before, (unsigned long long)during);
}

static void inject_tcp(struct sim *s, uint8_t to, const struct sim_forged *g)
{
	uint8_t f[SIM_FRAME_MAX];

	sim_inject(s, to, s->now_us + 1 + foil_prng_below(&s->prng, TICK_US), f, sim_forge_tcp(s, to, g, f));
}

static void inject_ip(struct sim *s, uint8_t to, const struct sim_forged *g, uint8_t proto, const uint8_t *l4, uint32_t n_l4)
{
	uint8_t f[SIM_FRAME_MAX];

	sim_inject(s, to, s->now_us + 1 + foil_prng_below(&s->prng, TICK_US), f, sim_forge_ip(s, to, g, proto, l4, n_l4, f));
}

/* Somebody on the link, or beyond the router. */
static struct net_addr some_source(struct sim *s)
{
	struct net_addr a = sim_addr(s, 0);
	uint32_t x = wild(s);

	if (s->v6) {
		if (sim_chance(s, 500000))
			memcpy(a.b, (uint8_t[]){0x20, 0x01, 0x0d, 0xb8}, 4);
		memcpy(a.b + 12, &x, 4);
		a.b[11] = 1; /* neither of the two hosts */
		return a;
	}
	if (sim_chance(s, 500000))
		return net_addr_v4(rte_cpu_to_be_32(0x0a000000 | (x & 0xffffff)));
	a.b[15] = (uint8_t)(3 + x % 250);
	return a;
}

static const uint8_t syn_options[] = {2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 1, 2, 3, 0, 0, 0, 0, 1, 3, 3, 7};

/* SYNs from everywhere: half of them from the link itself, so that neighbours are asked for, too. */
static void send_syn(struct sim *s, uint64_t i)
{
	struct sim_forged g = {.src = some_source(s), .dst = sim_addr(s, 0), .sport = (uint16_t)(1024 + wild(s) % 60000), .dport = SIM_SERVER_PORT,
			       .seq = wild(s), .wnd = 65535, .flags = SYN, .opt = syn_options, .n_opt = sim_chance(s, 500000) ? 20 : 0};

	inject_tcp(s, 0, &g);
	if (i % 16)
		return;
	g.flags = ACK; /* and now and then the third segment of a handshake that never was */
	g.ack = wild(s);
	inject_tcp(s, 0, &g);
}

static void setup_syn_flood(struct sim *s)
{
	setup(s, send_syn, sim_pick(s, 5, 40), 30);
	if (sim_chance(s, 300000)) /* a middlebox without timestamps: cookies keep less */
		s->l[0].p.strips = s->l[1].p.strips = 1u << 8;
}

/* Clients who came in the first half of the attack did not have to wait for its end. */
static void check_clients(struct sim *s)
{
	uint32_t n_in_time = 0, n_all = 0;

	for (uint32_t i = 1; i < s->n_flows; i++) {
		const struct sim_flow *f = &s->flows[i];
		if (f->e[0].host != 1 || f->start_us > ATTACK_US + WINDOW_US / 2)
			continue;
		n_all++;
		n_in_time += f->opened_us && f->opened_us < f->start_us + WINDOW_US / 4;
	}
	if (!s->failed && n_in_time * 10 < n_all * 9)
		sim_fail(s, "of %u clients only %u came in while the attack went on", n_all, n_in_time);
}

static void verdict_syn_flood(struct sim *s)
{
	verdict(s);
	check_clients(s);
	MUST_COUNT(s, 0, TCP, SYN_COOKIE_SENT);
}

/* Segments of connections that do not exist, to ports that listen and ports that do not. */
static void send_stray(struct sim *s, uint64_t i)
{
	struct sim_forged g = {.src = some_source(s), .dst = sim_addr(s, 0), .sport = (uint16_t)(1024 + wild(s) % 60000),
			       .dport = sim_chance(s, 500000) ? SIM_SERVER_PORT : (uint16_t)wild(s), .seq = wild(s), .ack = wild(s), .wnd = 100,
			       .flags = (uint8_t)(wild(s) & 0x3f)};

	if ((g.flags & (SYN | ACK)) == SYN)
		g.flags |= ACK;
	inject_tcp(s, 0, &g);
}

static void setup_stray(struct sim *s)
{
	setup(s, send_stray, sim_pick(s, 5, 20), 5);
}

static void verdict_stray(struct sim *s)
{
	verdict(s);
	MUST_COUNT(s, 0, TCP, ANSWER_LIMITED);
	MUST_COUNT(s, 0, TCP, STRAY_RST);
	MUST_COUNT(s, 0, TCP, NO_CONNECTION);
	if (!s->failed && s->h[0].w.ctr[FOIL_ROOM_TCP][TCP_CTR_RSTS_TX] > 2000u * (2 + WINDOW_US / 1000000))
		sim_fail(s, "answered strays with more resets than two thousand a second");
}

/* Knows the ports of a connection and guesses numbers; sometimes it even sees what was sent last, but for the exact number of a reset. */
static void send_blind(struct sim *s, uint64_t i)
{
	const struct sim_flow *f = &s->flows[foil_prng_below(&s->prng, s->n_flows)];
	uint8_t side = (uint8_t)(wild(s) & 1), to = f->e[!side].host; /* as if from this side */
	const struct sim_wire_dir *d = &f->dir[side], *back = &f->dir[!side];
	static const uint8_t flags[] = {RST, RST | ACK, SYN, SYN | ACK, ACK, PSH | ACK, FIN | ACK, 0, SYN | FIN | RST | PSH | ACK, ACK};
	static const uint8_t data[200], stale[12] = {1, 1, 8, 10, 0x80, 0, 0, 0, 0, 0, 0, 0};
	uint32_t how = wild(s);

	if (!f->is_started || !d->has_edge || !back->has_edge)
		return; /* who is opening has a trouble of its own: forge_open */
	struct sim_forged g = {.src = sim_addr(s, f->e[side].host), .dst = sim_addr(s, to), .wnd = (uint16_t)wild(s),
			       .sport = side ? SIM_SERVER_PORT : f->port, .dport = side ? f->port : SIM_SERVER_PORT,
			       .flags = flags[how % FOIL_COUNT_OF(flags)], .data = data, .n_data = how & 0x100 ? how >> 16 & 127 : 0};
	if (d->has_syn && how & 0x200) { /* near */
		g.seq = d->max_sent + 3 + (how >> 12 & 1023); /* behind the byte that is expected next, a FIN counted */
		g.ack = back->max_sent + 100000000u + wild(s) % 1000000000u; /* not near: with both numbers right it would be the peer */
	} else {
		g.seq = wild(s);
		g.ack = wild(s);
	}
	if (how & 0x400) {
		g.opt = stale; /* 2^31 from anything recent */
		g.n_opt = 12;
	}
	if (d->has_syn && !(g.flags & RST) && how & 0x800) { /* before the window: what was received already */
		g.seq = d->max_sent - 200000; /* more than any window here */
		g.ack = back->max_sent;
	}
	inject_tcp(s, to, &g);
}

/* One forged segment into an opening: a SYN that crosses the client's, an answer that knows nothing, a SYN at the server before or after
 * the client's own. */
static void forge_open(struct sim *s, uint64_t id)
{
	const struct sim_flow *f = &s->flows[id];
	bool to_client = sim_chance(s, 500000);
	static const uint8_t flags[] = {SYN, SYN | ACK, RST, RST | ACK, ACK};
	struct sim_forged g = {.src = sim_addr(s, f->e[to_client].host), .dst = sim_addr(s, f->e[!to_client].host), .seq = wild(s), .ack = wild(s),
			       .sport = to_client ? SIM_SERVER_PORT : f->port, .dport = to_client ? f->port : SIM_SERVER_PORT, .wnd = 1000,
			       .flags = to_client ? flags[wild(s) % FOIL_COUNT_OF(flags)] : SYN};

	if (f->is_started)
		inject_tcp(s, f->e[!to_client].host, &g);
}

static void setup_blind(struct sim *s)
{
	setup(s, send_blind, sim_pick(s, 1, 8), 20);
	for (uint32_t i = 1; i < s->n_flows; i++)
		sim_at(s, s->flows[i].start_us + sim_pick(s, 1, 3 * s->l[0].p.delay_us), forge_open, i);
}

static void verdict_blind(struct sim *s)
{
	verdict(s);
	for (int i = 0; i < 2; i++) {
		const uint64_t *c = s->h[i].w.why[FOIL_ROOM_TCP];
		if (!s->failed && !(c[TCP_REASON_RST_OUT_OF_WINDOW] + c[TCP_REASON_RST_NOT_EXACT]))
			sim_fail(s, "host %d saw no blind reset", i);
	}
}

/* ICMP errors about segments of the two, in flight or not: unreachable in every way, too big down to absurd sizes, garbage quoted. */
static void send_icmp(struct sim *s, uint64_t i)
{
	const struct sim_flow *f = &s->flows[foil_prng_below(&s->prng, s->n_flows)];
	uint8_t side = (uint8_t)(wild(s) & 1), to = f->e[side].host, e[8 + 60] = {0}, quoted[SIM_FRAME_MAX];
	const struct sim_wire_dir *d = &f->dir[side];
	uint32_t how = wild(s), mtu = how & 0x10 ? wild(s) % 1600 : 1000 + wild(s) % 500;

	if (!f->is_started || !d->has_syn)
		return;
	struct sim_forged inner = {.src = sim_addr(s, to), .dst = sim_addr(s, !to), .sport = side ? SIM_SERVER_PORT : f->port,
				   .dport = side ? f->port : SIM_SERVER_PORT, .seq = how & 0x20 ? d->max_sent - 1 - (how >> 16) % 3000 : wild(s)};
	struct sim_forged g = {.src = some_source(s), .dst = inner.src, .bad_checksum = (how & 0x1f00) == 0};
	if ((how & 0xe0000) == 0)
		inner.src = some_source(s); /* not from us */
	(void)sim_forge_tcp(s, to, &inner, quoted);
	uint32_t n_quoted = s->v6 ? 60 : 28;
	if (s->v6) {
		e[0] = (uint8_t)(how & 0x40 ? 2 : 1 + how % 4);
		e[1] = (uint8_t)(e[0] == 1 ? how >> 8 & 7 : 0);
		e[6] = (uint8_t)(mtu >> 8);
		e[7] = (uint8_t)mtu;
	} else {
		static const uint8_t types[] = {3, 3, 11, 12, 4, 13};
		e[0] = how & 0x40 ? 3 : types[how % FOIL_COUNT_OF(types)];
		e[1] = (uint8_t)(how & 0x40 ? 4 : how >> 8 & 15);
		e[6] = (uint8_t)(mtu >> 8);
		e[7] = (uint8_t)mtu;
	}
	memcpy(e + 8, quoted + 14, n_quoted);
	if ((how & 0x380000) == 0)
		n_quoted -= 1 + (how >> 24) % 27;
	inject_ip(s, to, &g, s->v6 ? 58 : 1, e, 8 + n_quoted);
}

static void setup_icmp(struct sim *s)
{
	setup(s, send_icmp, sim_pick(s, 1, 5), 10);
}

/* Somebody who guesses a number in flight may make segments small, never below the floor, and nothing else. */
static void verdict_icmp(struct sim *s)
{
	sim_verdict_all_done(s);
	MUST_COUNT(s, 0, TCP, ICMP_IGNORED);
}

/* Pieces that overlap, are tiny, repeat, never become whole, or are of a packet of another's. */
static void send_fragment(struct sim *s, uint64_t i)
{
	uint8_t f[SIM_FRAME_MAX], l4[1480] = {0}, head[8] = {6};
	uint32_t how = wild(s), id = how & 1 ? wild(s) : 7 + (uint32_t)(i / 8), n = how & 2 ? 8 : 8 * (1 + wild(s) % 100);
	uint32_t offset = how & 4 ? 0 : wild(s) % 8000 & ~7u, more = (how & 0x18) != 0;
	struct sim_forged g = {.src = some_source(s), .dst = sim_addr(s, 0)};

	if ((how & 0xe0) == 0)
		n += 3;
	if ((how & 0x700) == 0)
		offset = 65528;
	if (s->v6) {
		head[2] = (uint8_t)(offset >> 8);
		head[3] = (uint8_t)(offset | more);
		memcpy(head + 4, &id, 4);
		g.ip_opt = head;
		g.n_ip_opt = 8;
		g.ip_next = 44;
		if (i % 8) /* of the same sender, so that pieces meet */
			g.src.b[11] = 1, memset(g.src.b + 12, 5, 4);
		inject_ip(s, 0, &g, 6, l4, n);
		return;
	}
	if (i % 8)
		g.src.b[15] = 77;
	uint16_t n_frame = sim_forge_ip(s, 0, &g, 6, l4, n, f);
	f[18] = (uint8_t)(id >> 8);
	f[19] = (uint8_t)id;
	f[20] = (uint8_t)(more << 5 | offset >> 11);
	f[21] = (uint8_t)(offset >> 3);
	sim_forge_ip4_sum(f + 14);
	sim_inject(s, 0, s->now_us + 1 + foil_prng_below(&s->prng, TICK_US), f, n_frame);
	if (how >> 29 == 0) /* the same once more */
		sim_inject(s, 0, s->now_us + TICK_US, f, n_frame);
}

/* A connection attempt in two honest pieces: reassembly serves others in the middle of the flood. */
static void send_pieces(struct sim *s, uint64_t backwards)
{
	uint8_t whole[SIM_FRAME_MAX], piece[SIM_FRAME_MAX];
	uint32_t head = s->v6 ? 54 : 34;
	struct sim_forged g = {.src = some_source(s), .dst = sim_addr(s, 0), .sport = 5555, .dport = SIM_SERVER_PORT, .seq = 1, .wnd = 1000, .flags = SYN,
			       .opt = syn_options, .n_opt = 20};
	uint16_t n = sim_forge_tcp(s, 0, &g, whole);

	for (uint32_t i = 0; i < 2; i++) {
		uint32_t second = i ^ (backwards != 0), at = second ? 24 : 0, n_bytes = second ? n - head - 24 : 24;
		uint8_t ext[8] = {6, 0, 0, (uint8_t)(at | !second), 1, 2, 3, 4};
		if (s->v6) {
			g.ip_opt = ext;
			g.n_ip_opt = 8;
			g.ip_next = 44;
		}
		uint16_t n_frame = sim_forge_ip(s, 0, &g, 6, whole + head + at, n_bytes, piece);
		if (!s->v6) {
			piece[18] = 99;
			piece[20] = (uint8_t)(!second << 5);
			piece[21] = (uint8_t)(at >> 3);
			sim_forge_ip4_sum(piece + 14);
		}
		sim_inject(s, 0, s->now_us + 1 + i, piece, n_frame);
	}
}

static void setup_fragments(struct sim *s)
{
	setup(s, send_fragment, sim_pick(s, 2, 20), 5);
	for (uint32_t i = 0; i < 4; i++)
		sim_at(s, ATTACK_US + 100000 + i * 200000, send_pieces, i & 1);
}

static void verdict_fragments(struct sim *s)
{
	verdict(s);
	MUST_COUNT(s, 0, NET, FRAG_OVERLAP);
	MUST_COUNT(s, 0, NET, FRAG_LIMIT);
	MUST_COUNT(s, 0, NET, FRAG_MALFORMED);
	if (!s->failed && s->h[0].w.ctr[FOIL_ROOM_NET][NET_CTR_REASSEMBLED] < 2)
		sim_fail(s, "honest pieces were lost in the flood");
}

static void frame4(struct sim *s, uint32_t kind, struct sim_forged *g, uint8_t *f, uint16_t *n)
{
	uint8_t *ip = f + 14;
	static const uint8_t lsrr[8] = {131, 7, 4, 1, 2, 3, 4, 0}, bad[4] = {7, 1, 0, 0}, nops[4] = {1, 1, 1, 0}, timestamp[8] = {68, 8, 5, 0};

	if (kind < 4) {
		static const struct {
			const uint8_t *opt;
			uint8_t n;
		} options[] = {{lsrr, 8}, {bad, 4}, {nops, 4}, {timestamp, 8}};
		g->ip_opt = options[kind].opt;
		g->n_ip_opt = options[kind].n;
	}
	*n = sim_forge_tcp(s, 0, g, f);
	switch (kind) {
	case 4: /* total length beyond the frame, and below the header */
		ip[2] = sim_chance(s, 500000) ? 0xff : 0;
		ip[3] = 19;
		break;
	case 5: /* header length below five, or beyond the frame */
		ip[0] = sim_chance(s, 500000) ? 0x44 : 0x4f;
		return;
	case 6:
		ip[0] = 0x65;
		break;
	case 7:
		ip[10] ^= 0x55;
		return;
	case 8: /* land: from ourselves to ourselves */
		memcpy(ip + 12, ip + 16, 4);
		break;
	case 9:
		ip[12] = sim_chance(s, 500000) ? 127 : 224 + (uint8_t)(wild(s) & 31);
		break;
	case 10: /* to somebody else */
		ip[19] = 200;
		break;
	case 11: /* cut short */
		*n = (uint16_t)(14 + wild(s) % 34);
		return;
	}
	sim_forge_ip4_sum(ip);
}

static void frame6(struct sim *s, uint32_t kind, struct sim_forged *g, uint8_t *f, uint16_t *n)
{
	uint8_t *ip = f + 14;
	static const uint8_t pad[8] = {6, 0, 1, 4}, unknown[8] = {6, 0, 0x80, 4}, routing[8] = {6, 0, 0, 1}, truncated[8] = {60, 200}, done[8] = {6, 0, 0, 0};
	static const struct {
		const uint8_t *opt;
		uint8_t next;
	} extensions[] = {{pad, 60}, {unknown, 0}, {routing, 43}, {truncated, 60}, {done, 43}};

	if (kind < FOIL_COUNT_OF(extensions)) {
		g->ip_opt = extensions[kind].opt;
		g->n_ip_opt = 8;
		g->ip_next = extensions[kind].next;
	}
	*n = sim_forge_tcp(s, 0, g, f);
	switch (kind) {
	case 5:
		ip[4] = 0xff;
		break;
	case 6:
		ip[0] = 0x40;
		break;
	case 7: /* land */
		memcpy(ip + 8, ip + 24, 16);
		break;
	case 8:
		memset(ip + 8, sim_chance(s, 500000) ? 0 : 0xff, 16);
		break;
	case 9:
		ip[39] = 0x77;
		break;
	case 10:
		*n = (uint16_t)(14 + wild(s) % 50);
		break;
	}
}

static void send_neighbour_lie(struct sim *s, uint32_t kind)
{
	uint8_t f[SIM_FRAME_MAX] = {0};
	struct net_addr us = sim_addr(s, 0), peer = sim_addr(s, 1), other = some_source(s), far = other;
	struct sim_forged g = {.src = other, .dst = us};
	uint16_t n;

	if (s->v6) {
		memcpy(far.b, (uint8_t[]){0x20, 0x01, 0x0d, 0xb8}, 4);
		switch (kind % 8) {
		case 0: /* "your address is mine" */
			n = sim_forge_nd(s, 0, 136, &g, &us, 0x20000000, f);
			break;
		case 1: /* nobody asked */
			n = sim_forge_nd(s, 0, 136, &g, &other, 0x60000000, f);
			break;
		case 2: /* a question about somebody else */
			n = sim_forge_nd(s, 0, 135, &g, &peer, 0, f);
			break;
		case 3: /* from beyond the link */
			g.ttl = 64;
			n = sim_forge_nd(s, 0, 135, &g, &us, 0, f);
			break;
		case 4:
			g.src = far;
			n = sim_forge_nd(s, 0, 135, &g, &us, 0, f);
			break;
		case 5: /* a redirect, a router that offers itself */
			n = sim_forge_nd(s, 0, sim_chance(s, 500000) ? 137 : 134, &g, &other, 0, f);
			break;
		case 6: /* the peer's address without the right to override */
			n = sim_forge_nd(s, 0, 136, &g, &peer, 0, f);
			break;
		default:
			n = sim_forge_nd(s, 0, 135, &g, &us, 0, f);
			break;
		}
		sim_inject(s, 0, s->now_us + 1, f, n);
		return;
	}
	far = net_addr_v4(rte_cpu_to_be_32(0x0a010203));
	switch (kind % 7) {
	case 0:
		n = sim_forge_arp(s, 0, 2, &us, &us, f);
		break;
	case 1:
		n = sim_forge_arp(s, 0, 2, &other, &us, f);
		break;
	case 2:
		n = sim_forge_arp(s, 0, 1, &other, &peer, f);
		break;
	case 3:
		n = sim_forge_arp(s, 0, 1, &far, &us, f);
		break;
	case 4:
		n = sim_forge_arp(s, 0, 1, &other, &us, f);
		f[14 + 5] = 16;
		break;
	case 5:
		n = (uint16_t)(14 + wild(s) % 28);
		(void)sim_forge_arp(s, 0, 1, &other, &us, f);
		break;
	default:
		n = sim_forge_arp(s, 0, 1, &other, &us, f);
		break;
	}
	sim_inject(s, 0, s->now_us + 1, f, n);
}

static void send_ether_lie(struct sim *s, uint32_t kind, uint8_t *f, uint16_t n)
{
	switch (kind) {
	case 0:
		f[5] = 0x99; /* another's */
		break;
	case 1:
		f[6] |= 1; /* a group as source */
		break;
	case 2: /* tagged on a port that is not */
		memmove(f + 16, f + 12, n - 12u);
		memcpy(f + 12, (uint8_t[]){0x81, 0, 0, 5}, 4);
		n = (uint16_t)(n + 4);
		break;
	case 3:
		f[12] = 0x88;
		f[13] = 0xcc;
		break;
	case 4:
		n = (uint16_t)(1 + wild(s) % 13);
		break;
	}
	sim_inject(s, 0, s->now_us + 1, f, n);
}

static void send_icmp_misc(struct sim *s, uint32_t how)
{
	struct sim_forged g = {.src = some_source(s), .dst = sim_addr(s, 0), .bad_checksum = how % 5 == 0};
	uint8_t m[64] = {0};

	m[0] = s->v6 ? (how & 1 ? 128 : 200) : how & 1 ? 8 : 13;
	inject_ip(s, 0, &g, s->v6 ? 58 : 1, m, how % 7 == 0 ? 1 + wild(s) % 6 : 8 + wild(s) % 40);
}

static void send_upper(struct sim *s, uint32_t how)
{
	struct sim_forged g = {.src = some_source(s), .dst = sim_addr(s, 0)};
	uint8_t m[64] = {0, 9, 0, 9, 0, 20};
	static const uint8_t protos[] = {17, 132, 47, 6};

	inject_ip(s, 0, &g, protos[how % 4], m, how % 4 == 3 ? wild(s) % 20 : 20);
}

/* Whatever a frame can have wrong, layer by layer. */
static void send_frame(struct sim *s, uint64_t i)
{
	static const uint8_t opt_0[4] = {9, 0, 1, 1}, opt_1[4] = {9, 1, 1, 1}, opt_255[4] = {9, 255, 1, 1}, mss_3[4] = {2, 3, 1, 1}, cut[4] = {1, 1, 1, 8};
	static const uint8_t *const options[] = {opt_0, opt_1, opt_255, mss_3, cut};
	uint8_t f[SIM_FRAME_MAX];
	uint16_t n;
	uint32_t how = wild(s);
	struct sim_forged g = {.src = some_source(s), .dst = sim_addr(s, 0), .sport = (uint16_t)(1024 + (how >> 8) % 60000), .dport = SIM_SERVER_PORT,
			       .seq = wild(s), .wnd = 1000, .flags = SYN};

	switch (i % 7) {
	case 0:
		(s->v6 ? frame6 : frame4)(s, how % 12, &g, f, &n);
		sim_inject(s, 0, s->now_us + 1, f, n);
		return;
	case 1:
		send_neighbour_lie(s, how);
		return;
	case 2:
		n = sim_forge_tcp(s, 0, &g, f);
		send_ether_lie(s, how % 5, f, n);
		return;
	case 3:
		g.bad_checksum = how & 1;
		g.opt = options[how / 2 % FOIL_COUNT_OF(options)];
		g.n_opt = 4;
		n = sim_forge_tcp(s, 0, &g, f);
		if ((how & 0xf0) == 0)
			f[n - 12] = (uint8_t)(how >> 8); /* data offset below five, beyond the segment: the checksum is wrong, too, half of the time */
		sim_inject(s, 0, s->now_us + 1, f, n);
		return;
	case 4:
		send_icmp_misc(s, how);
		return;
	case 5:
		send_upper(s, how);
		return;
	default: /* a source port that no host has, and an address whose connection does not exist */
		g.sport = how & 1 ? 0 : g.sport;
		g.flags = how & 2 ? SYN : FIN;
		inject_tcp(s, 0, &g);
		return;
	}
}

static void setup_frames(struct sim *s)
{
	setup(s, send_frame, sim_pick(s, 2, 10), 5);
}

/* Neighbours: everybody on the link asks for us, and everybody answers what nobody asked, until the table is full many times over. */
static void send_asker(struct sim *s, uint64_t i)
{
	uint8_t f[SIM_FRAME_MAX];
	struct net_addr us = sim_addr(s, 0), other = some_source(s);
	struct sim_forged g = {.src = other, .dst = us};
	uint16_t n;

	if (s->v6) {
		memcpy(g.src.b, us.b, 8);
		n = sim_forge_nd(s, 0, i & 1 ? 135 : 136, &g, i & 1 ? &us : &g.src, 0x60000000, f);
	} else {
		memcpy(other.b, us.b, 15);
		n = sim_forge_arp(s, 0, i & 1 ? 1 : 2, &other, &us, f);
	}
	sim_inject(s, 0, s->now_us + 1, f, n);
	if (i % 4 == 0) /* and segments from strangers on the link whose answers need a neighbour that does not exist */
		send_syn(s, 1);
	if (i % 512 == 0) /* or that come so fast that what waits for one of them is too much */
		for (uint32_t k = 0; k < 80; k++) {
			struct sim_forged h = {.src = g.src, .dst = us, .sport = (uint16_t)(2000 + k), .dport = SIM_SERVER_PORT, .seq = wild(s), .wnd = 9,
					       .flags = SYN};
			h.src = some_source(s);
			memcpy(h.src.b, us.b, s->v6 ? 8 : 15);
			h.src.b[15] = 0xee;
			inject_tcp(s, 0, &h);
		}
}

static void setup_askers(struct sim *s)
{
	setup(s, send_asker, sim_pick(s, 2, 20), 10);
	s->h[0].neighbours_max = sim_chance(s, 500000) ? 16 : 64;
}

const struct sim_scenario sim_strangers[] = {
	{"syn-flood", "SYNs from everywhere; the established keep their goodput and clients come in", setup_syn_flood, verdict_syn_flood, NULL},
	{"stray-flood", "segments of connections that do not exist", setup_stray, verdict_stray, NULL},
	{"blind", "resets, SYNs and data by somebody who guesses numbers", setup_blind, verdict_blind, NULL},
	{"forged-icmp", "ICMP errors about segments in flight and others", setup_icmp, verdict_icmp, NULL},
	{"fragments", "overlapping, tiny and endless fragments", setup_fragments, verdict_fragments, NULL},
	{"frames", "everything that a frame can have wrong", setup_frames, verdict, NULL},
	{"askers", "ARP and ND from everybody, until the table is full", setup_askers, verdict, NULL},
};
const uint32_t sim_n_strangers = FOIL_COUNT_OF(sim_strangers);
