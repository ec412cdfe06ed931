/* What tcp's unit tests start from: one worker with net/ and tcp/ on a fake port, a peer that is the test itself, and a stream's user
 * that writes down what it was told.
 *
 *   struct t_tcp *t = t_tcp(.has_fixed_isn = true, .fixed_isn = 999);
 *   t_in(t, .flags = T_SYN, .seq = 5000);          one segment from the peer, and a turn of the loop
 *   t_expect(t, T_SYN | T_ACK, 999, 5001, 0);      the next segment of ours
 *   t_silent(t);                                   and no other
 *   t_tcp_free(t);                                 every mbuf must be home
 *
 * The peer is 198.18.0.2 port 4000, we are 198.18.0.1 port 80 (passive) or 198.18.0.1 port 5000 (active). Neighbour messages are
 * answered behind the scenes. */
#pragma once

#include "dataplane/tcp/tcp_priv.h"
#include "tests/unit/support.h"

enum { T_FIN = 1, T_SYN = 2, T_RST = 4, T_PSH = 8, T_ACK = 16 };
#define T_ISN 999u       /* ours, when fixed: our first byte is 1000 */
#define T_PEER_ISN 4999u /* the peer's first byte is 5000 */
#define T_PORT 80
#define T_CAPTURED "203.0.113.9"
#define T_PEER_PORT 4000
#define T_OUT_MAX 512

struct t_seg {
	uint8_t flags, tos;
	uint16_t wnd, port, peer_port; /* wnd 0 with no_wnd false: 65535; ports 0: the usual */
	bool no_wnd, v6, bad_checksum, captured; /* captured: to T_CAPTURED, another station's address whose connections come to us */
	uint32_t seq, ack;
	const void *data;
	uint32_t n_bytes;
	struct tcp_options opt;
	const uint8_t *raw_opt; /* instead of opt */
	uint8_t n_raw_opt;
	uint8_t payload[2048]; /* of what was sent */
};

struct t_tcp {
	struct foil_worker *w;
	struct net_port port;
	struct tcp_listener *listener;
	struct t_seg out[T_OUT_MAX]; /* sent by us and not looked at yet */
	uint32_t n_out, n_icmp_out, n_packets_out;
	struct rte_mbuf *answers[8]; /* of neighbours */
	uint32_t n_answers;
	/* what the user heard */
	struct stream *s;
	uint32_t n_accepted, n_opened, n_readable, n_writable, n_closed;
	enum stream_end why;
	bool refuse;  /* accept says no */
	bool consume; /* readable takes everything */
	bool v6;
};

struct t_tcp *t_tcp_new(struct tcp_params p);
/* The same on a worker that outlives it, for fuzzers; ended by t_tcp_off. */
struct t_tcp *t_tcp_on(struct foil_worker *w, struct tcp_params p);
void t_tcp_off(struct t_tcp *t);
/* What must hold between two turns of the loop, for every connection: fails the test with what does not. */
void t_check(const struct t_tcp *t);
#define t_tcp(...) t_tcp_new((struct tcp_params){__VA_ARGS__})
#define t_tcp_fixed(...) t_tcp_new((struct tcp_params){.has_fixed_isn = true, .fixed_isn = T_ISN, __VA_ARGS__})
void t_tcp_free(struct t_tcp *t);
/* Puts a segment into the worker's hands without a turn of the loop. */
void t_put(struct t_tcp *t, const struct t_seg *g);
void t_turn(struct t_tcp *t);
void t_in_seg(struct t_tcp *t, const struct t_seg *g);
#define t_in(t, ...) t_in_seg(t, &(struct t_seg){__VA_ARGS__})
#define T_QUICK_DELACK_US 2000u /* what is acknowledged soon has been by then */
/* Moves the clock on, with turns of the loop at every timer. */
void t_wait(struct t_tcp *t, uint64_t us);
/* The next segment of ours; fails the test if there is none. */
struct t_seg t_out(struct t_tcp *t);
struct t_seg t_expect(struct t_tcp *t, uint8_t flags, uint32_t seq, uint32_t ack, uint32_t n_bytes);
void t_silent(struct t_tcp *t);
static inline void t_forget(struct t_tcp *t)
{
	t->n_out = 0;
}
/* Passive open with these options of the peer; our SYN-ACK and the handshake's rest are taken. Returns the connection. */
struct tcp_conn *t_accept_with(struct t_tcp *t, const struct tcp_options *opt, uint16_t wnd);
/* With MSS 1460 and SACK, window scale 0 offered, no timestamps. */
struct tcp_conn *t_accept(struct t_tcp *t);
/* Active open from port 5000 to the peer's 4000, with the same options. */
struct tcp_conn *t_open(struct t_tcp *t);
void t_write(struct t_tcp *t, const void *data, uint32_t n_bytes); /* and a turn */
void t_write_n(struct t_tcp *t, uint32_t n_bytes);                 /* of zeros */
