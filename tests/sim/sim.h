/* The simulated network: two hosts of our code (a worker with net/ and tcp/ each), two links between them that do what networks do,
 * one virtual clock, everything from one seed. The checkers watch the wire and the applications, and know nothing of the code under
 * test but its public headers.
 *
 * One run: sim_begin, the scenario's set-up (links, hosts, flows, timed actions), sim_go until nothing is left to do, sim_end. A
 * checker that finds fault calls sim_fail; the first one counts and ends the run. */
#pragma once

#include <stdio.h>

#include "dataplane/core/prng.h"
#include "dataplane/tcp/tcp.h"

#define SIM_FRAME_MAX 2048u
#define SIM_FLOWS_MAX 320
#define SIM_START_US 1000000u
#define SIM_PATTERN_PERIOD 65521u /* a prime: shifted data does not look right by chance */
#define SIM_SERVER_PORT 80

struct sim;

/* One direction of the wire. Zero is "does not happen"; ppm are chances of one frame in a million. */
struct sim_link_params {
	uint64_t rate_bps;              /* 0: without limit */
	uint32_t delay_us, jitter_us;   /* jitter keeps the order; reorder_ppm does not */
	uint32_t queue_bytes;           /* behind rate_bps; 0: 256 KiB */
	uint32_t loss_ppm, ack_loss_ppm /* segments without payload */, burst_ppm /* enters a bad time, where half is lost */, burst_len;
	uint32_t loss_every;            /* each n-th frame */
	uint32_t reorder_ppm, reorder_us, dup_ppm, corrupt_ppm;
	uint32_t mark_ppm;              /* congestion experienced, on what says that it can take it; others pass */
	uint64_t down_every_us, down_for_us;
	uint16_t mtu;                   /* IP; smaller than a packet: dropped, and told by ICMP unless is_blackhole */
	bool is_blackhole;
	bool eats_ecn_syns;             /* a SYN that asks for ECN does not arrive */
	uint32_t strips;                /* bit n: a middlebox takes the TCP option of kind n out of SYNs */
};

struct sim_link {
	struct sim_link_params p;
	struct sim *sim;
	uint8_t to;
	uint64_t busy_until_us, last_at_us;
	uint32_t n_frames, bad_left;
	uint64_t n_dropped, n_queue_drops, n_bytes;
};

/* What the wire checker knows of one direction of one connection. */
struct sim_wire_dir {
	bool has_syn, has_wscale, has_edge;
	uint8_t wscale;
	uint32_t isn, edge;     /* edge: the furthest right edge that reached the data's sender */
	uint32_t max_sent;
};

struct sim_end {
	struct sim_flow *flow;
	uint8_t side, host;         /* side 0 opened (in a simultaneous open both did) */
	struct stream *s;
	uint64_t n_sent, n_got, to_send;
	bool is_open, shut, eof, closed, gone; /* gone: released or aborted by us, or its host crashed */
	enum stream_end why;
	uint32_t piece_bytes;       /* of one write */
	uint32_t read_bytes, read_us; /* 0: all at once, at once */
	uint64_t pause_us;          /* does not read for so long from its opening on */
	bool shut_after_eof, release_at_end;
	uint64_t shut_us;           /* not before so long after its opening */
	uint64_t abort_at, release_at; /* after so many bytes received; 0: never */
	struct foil_timer timer;
};

struct sim_flow {
	struct sim *sim;
	uint32_t id;
	uint64_t start_us, opened_us, done_us;
	uint16_t port;              /* of the opener */
	uint16_t local_port, remote_port; /* 0: chosen by tcp; SIM_SERVER_PORT */
	bool simultaneous, may_fail, is_started;
	uint32_t rr_request, rr_response; /* request/response: bytes each; 0: both send at will */
	struct sim_end e[2];
	struct sim_wire_dir dir[2]; /* data of side 0, of side 1 */
};

struct sim_host {
	struct foil_worker w;
	struct foil_pools pools;
	struct net_port port;
	struct sim *sim;
	uint8_t index;
	bool up, wants_turns;       /* turns every millisecond even if nothing happens: a loop that retries */
	bool moves;                 /* comes back from a crash with another link-layer address */
	uint32_t n_mbuf, n_indirect, fault_ppm /* chance of a pool to seem empty */, neighbours_max /* 0: 64 */;
	struct tcp_params tcp;
	struct tcp_listener *listener;
	void **taken;               /* pool objects that a scenario keeps from it */
	uint32_t n_taken;
	uint64_t n_crashes;
};

struct sim_frame {
	uint64_t at_us, order;
	uint8_t to;
	uint16_t n_bytes;
	uint8_t data[SIM_FRAME_MAX];
};

typedef void (*sim_action_fn)(struct sim *s, uint64_t arg);
struct sim_action {
	uint64_t at_us, arg;
	sim_action_fn fn;
};
#define SIM_ACTIONS_MAX 64

/* How a third party on the wire builds what it sends (forge.c). */
struct sim_forged {
	struct net_addr src, dst;
	uint16_t sport, dport;
	uint32_t seq, ack;
	uint16_t wnd;
	uint8_t flags, ttl; /* ttl 0: 64 */
	const uint8_t *opt, *data, *ip_opt; /* ip_opt: IPv4 options, or IPv6 extension headers whose first is of type ip_next */
	uint8_t n_opt, n_ip_opt, ip_next;
	uint32_t n_data;
	bool bad_checksum;
};

struct sim_scenario {
	const char *name, *help;
	void (*setup)(struct sim *s);
	void (*verdict)(struct sim *s); /* after the last event; NULL: sim_verdict_all_done */
	/* The second host is not ours but a liar: gets every frame that comes to it. NULL: two of our hosts. */
	void (*raw_input)(struct sim *s, const uint8_t *frame, uint16_t n_bytes);
};

struct sim {
	const struct sim_scenario *scenario;
	uint64_t seed, now_us, end_us, order, hash;
	struct foil_prng prng;
	bool v6, failed, quiet;
	char why[400];
	struct sim_host h[2];
	struct sim_link l[2]; /* l[i]: from host i */
	struct sim_frame **heap;
	uint32_t n_heap, heap_max, n_free, n_frames_max;
	struct sim_frame **free_frames;
	struct sim_flow flows[SIM_FLOWS_MAX];
	uint32_t n_flows;
	struct sim_action actions[SIM_ACTIONS_MAX];
	uint32_t n_actions;
	bool rst_expected, refuse_expected, held_expected; /* held: TIME-WAIT and half-open may be left at the end */
	uint16_t mtu;
	uint64_t raw_state[64]; /* a liar's or a stranger's own */
	FILE *pcap;
	bool verbose; /* counters to stderr at the end of a run */
};

/* sim.c */
void sim_init(struct sim *s);
void sim_run(struct sim *s, const struct sim_scenario *scenario, uint64_t seed, FILE *pcap);
void sim_fail(struct sim *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_at(struct sim *s, uint64_t at_us, sim_action_fn fn, uint64_t arg);
void sim_mix(struct sim *s, const void *data, size_t n_bytes); /* into the trace hash */
static inline uint32_t sim_pick(struct sim *s, uint32_t min, uint32_t max)
{
	return min + foil_prng_below(&s->prng, max - min + 1);
}
static inline bool sim_chance(struct sim *s, uint32_t ppm)
{
	return ppm && foil_prng_below(&s->prng, 1000000) < ppm;
}

/* link.c */
void sim_send(struct sim *s, uint8_t from, const uint8_t *frame, uint16_t n_bytes);
struct sim_frame *sim_frame_pop(struct sim *s);
void sim_frame_free(struct sim *s, struct sim_frame *own_f);
void sim_frames_clear(struct sim *s);

/* A frame that a third party puts on the wire: arrives, whatever the links do. */
void sim_inject(struct sim *s, uint8_t to, uint64_t at_us, const uint8_t *frame, uint16_t n_bytes);

/* forge.c: write a frame towards host `to` and return its length */
uint16_t sim_forge_tcp(struct sim *s, uint8_t to, const struct sim_forged *g, uint8_t *f);
/* Any protocol; the checksum of ICMP and ICMPv6 is put right. */
uint16_t sim_forge_ip(struct sim *s, uint8_t to, const struct sim_forged *g, uint8_t proto, const uint8_t *l4, uint32_t n_l4, uint8_t *f);
uint16_t sim_forge_arp(struct sim *s, uint8_t to, uint8_t op, const struct net_addr *sender, const struct net_addr *target, uint8_t *f);
uint16_t sim_forge_nd(struct sim *s, uint8_t to, uint8_t type, const struct sim_forged *g, const struct net_addr *target, uint32_t flags, uint8_t *f);
void sim_forge_ip4_sum(uint8_t *ip);

/* host.c */
void sim_hosts_make(struct sim *s);   /* pools, once a process */
void sim_host_up(struct sim_host *h);
void sim_host_down(struct sim_host *h);
void sim_host_turn(struct sim_host *h, struct sim_frame **frames, uint32_t n_frames);
uint64_t sim_host_next_us(const struct sim_host *h);
void sim_host_starve(struct sim_host *h, uint32_t leave_n);
void sim_host_feed(struct sim_host *h);
struct net_addr sim_addr(const struct sim *s, uint8_t host);
#define SIM_MAC(i) {{0x02, 0, 0, 0, 0, (uint8_t)(1 + (i))}}

/* rare.c */
void sim_rare_collect(const struct foil_worker *w);
uint32_t sim_rare_print(bool tap, uint32_t n_tests); /* how many were never reached */
uint32_t sim_rare_count(void);

/* app.c */
struct sim_flow *sim_flow_new(struct sim *s, uint8_t opener, uint64_t start_us);
bool sim_accept(struct foil_worker *w, struct tcp_listener *l, struct stream *stream);
void sim_flows_crashed(struct sim *s, uint8_t host);
void sim_verdict_all_done(struct sim *s);
bool sim_flow_is_done(const struct sim_flow *f);
const uint8_t *sim_pattern(const struct sim_flow *f, uint8_t side, uint64_t at, uint32_t *n_there);

/* wire.c: every frame as it is sent and as it arrives */
void sim_wire_sent(struct sim *s, uint8_t from, const uint8_t *frame, uint16_t n_bytes);
void sim_wire_arrived(struct sim *s, uint8_t to, const uint8_t *frame, uint16_t n_bytes);
void sim_pcap(const struct sim *s, const uint8_t *frame, uint16_t n_bytes);
struct sim_tcp { /* a TCP segment found in a frame */
	bool v4;
	uint16_t sport, dport, wnd;
	uint32_t seq, ack, n_payload;
	uint8_t flags;
	int wscale; /* -1: none */
	const uint8_t *tcp, *payload;
	uint16_t n_tcp;
};
bool sim_tcp_parse(const uint8_t *frame, uint16_t n_bytes, struct sim_tcp *out);
uint16_t sim_checksum(uint32_t sum, const uint8_t *p, uint32_t n_bytes);
uint32_t sim_pseudo(const uint8_t *ip, bool v4, uint8_t proto, uint32_t l4_bytes);

/* scenarios.c, corners.c, liars.c, strangers.c */
extern const struct sim_scenario sim_scenarios[];
extern const uint32_t sim_n_scenarios;
extern const struct sim_scenario sim_liars[];
extern const uint32_t sim_n_liars;
extern const struct sim_scenario sim_corners[];
extern const uint32_t sim_n_corners;
extern const struct sim_scenario sim_strangers[];
extern const uint32_t sim_n_strangers;
