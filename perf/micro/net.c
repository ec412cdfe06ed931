/* Stages of net/ and tcp/ on 64 connections: a frame from the port to its upper protocol, segments in, segments out. */
#include <stdio.h>

#include "perf/micro/micro.h"

#define NOBODYS_PROTOCOL 253 /* RFC 3692: for experiments */

static void swallow(struct foil_worker *w, struct rte_mbuf **own_segs, uint16_t n_segs)
{
	rte_pktmbuf_free_bulk(own_segs, n_segs);
}

static void rx_parse(struct micro *m)
{
	net_register_l4(&m->rig.w, NOBODYS_PROTOCOL, swallow, NULL);
	for (int n = 0; n < MICRO_BURSTS; n++) {
		struct rte_mbuf *pkts[RIG_BURST];
		for (uint32_t i = 0; i < RIG_BURST; i++) {
			pkts[i] = rig_seg(&m->rig, i, RTE_TCP_ACK_FLAG, 0, 0, 64);
			rte_pktmbuf_mtod(pkts[i], uint8_t *)[23] = NOBODYS_PROTOCOL;
		}
		uint64_t before = rig_cycles();
		net_input_burst(&m->rig.w, &m->rig.port, pkts, RIG_BURST);
		rig_note(&m->figures, rig_cycles() - before);
	}
	micro_say(m, "net.rx_parse", RIG_BURST);
}

/* n_bytes from each of the connections, in order; 0: an ACK of nothing new. */
static void input(struct micro *m, const char *name, uint32_t n_bytes)
{
	for (int n = 0; n < MICRO_BURSTS; n++) {
		struct rte_mbuf *pkts[RIG_BURST];
		for (uint32_t i = 0; i < RIG_BURST; i++) {
			const struct tcp_conn *c = rig_conn(&m->rig, i);
			pkts[i] = rig_seg(&m->rig, i, RTE_TCP_ACK_FLAG, c->rcv_nxt, c->snd_nxt, n_bytes);
		}
		uint64_t before = rig_cycles();
		net_input_burst(&m->rig.w, &m->rig.port, pkts, RIG_BURST);
		rig_note(&m->figures, rig_cycles() - before);
		rig_turn(&m->rig, NULL, 0); /* the ACKs owed, outside of the clock */
		m->rig.w.now_us += 100;
	}
	micro_say(m, name, RIG_BURST);
}

static void write_all(struct micro *m, uint32_t n_bytes)
{
	static const uint8_t zeros[2048];

	for (uint32_t i = 0; i < RIG_BURST; i++) {
		struct foil_chain chain = {0};
		if (foil_chain_append(&m->rig.w, &chain, zeros, n_bytes))
			return;
		stream_write(&m->rig.w, &rig_conn(&m->rig, i)->s, &chain);
	}
}

static void acknowledge_all(struct micro *m)
{
	struct rte_mbuf *pkts[RIG_BURST];

	m->rig.w.now_us += 100;
	for (uint32_t i = 0; i < RIG_BURST; i++) {
		const struct tcp_conn *c = rig_conn(&m->rig, i);
		pkts[i] = rig_seg(&m->rig, i, RTE_TCP_ACK_FLAG, c->rcv_nxt, c->snd_nxt, 0);
	}
	rig_turn(&m->rig, pkts, RIG_BURST);
}

/* A write of each connection is there; the clock runs while they become packets at the port. */
static void output(struct micro *m, const char *name, uint32_t n_bytes)
{
	for (int n = 0; n < MICRO_BURSTS; n++) {
		write_all(m, n_bytes);
		uint64_t before = rig_cycles();
		tcp_flush(&m->rig.w);
		net_flush(&m->rig.w);
		rig_note(&m->figures, rig_cycles() - before);
		acknowledge_all(m);
	}
	micro_say(m, name, RIG_BURST);
}

void micro_net(struct micro *m)
{
	rx_parse(m);
	(void)rig_open(&m->rig, 0, RIG_BURST);
	input(m, "tcp.input_ack", 0);
	input(m, "tcp.input_128", 128);
	input(m, "tcp.input_1400", 1400);
	output(m, "tcp.output_128", 128);
	output(m, "tcp.output_1400", 1400);
}
