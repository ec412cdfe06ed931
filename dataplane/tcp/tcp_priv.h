/* What the files of the tcp room share: the connection block, the small blocks of half-open and TIME-WAIT connections, and the
 * room's context. Included nowhere else.
 *
 * Three kinds of block live in one flow table: struct tcp_conn (everything that has a stream), struct tcp_syn (a passive open
 * that waits for its third segment) and struct tcp_tw (TIME-WAIT). All come from pools that are sized at tcp_init.
 *
 * Callbacks to users never come from inside segment processing: a connection with news is put on ctx->events and
 * tcp_events_run tells its user afterwards. Output is never sent from inside either: a connection with something to say is
 * put on ctx->outs and tcp_flush lets tcp_output decide. Only answers that belong to no connection go out at once. */
#pragma once

#include <assert.h>

#include <rte_tcp.h>

#include "dataplane/core/cursor.h"
#include "dataplane/net/capture.h"
#include "dataplane/tcp/cc.h"
#include "dataplane/tcp/options.h"
#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/tcp.h"

#define TCP_PROTO 6
#define TCP_HDR_BYTES 20u
#define TCP_HDR_BYTES_MAX 60u
#define TCP_MSS_DEFAULT_V4 536u  /* RFC 9293 3.7.1 */
#define TCP_MSS_DEFAULT_V6 1220u
#define TCP_MSS_MIN 88u          /* below it a peer or an ICMP error wants to make us send dust; as Linux does */
#define TCP_IW_SEGS 10u          /* RFC 6928 */
#define TCP_SSTHRESH_INITIAL (UINT32_MAX / 2) /* until a loss, a mark or HyStart++ says more */
#define TCP_DUP_THRESH 3u        /* RFC 5681 3.2 */
/* A payload up to this is copied behind its header; above, it goes by reference. One copy of so much costs about what an
 * indirect mbuf's allocation, reference count and release cost. */
#define TCP_TX_COPY_BYTES_MAX 256u
/* A received segment up to this is copied into the tail of what waits before it, so that a peer who sends crumbs does not hold
 * a whole mbuf for each. */
#define TCP_RX_COPY_BYTES_MAX 512u
#define TCP_TX_MBUFS_PER_SEG_MAX 8u /* a segment of more pieces is copied whole: NICs bound their descriptors a packet */
#define TCP_TSO_MBUFS_MAX 40u       /* ... and of a packet that the port cuts: 64 KiB in mbufs of 2 KiB, and some to spare */
#define TCP_TSO_PACED_US 500u       /* a paced connection gives the port so much at a time */
#define TCP_TX_QUEUE_BYTES_MAX (4u * 1024u * 1024u) /* how far a stream's write queue may grow with the window */
#define TCP_OOO_RANGES_MAX 256u     /* holes a connection may have open in its reassembly queue */
#define TCP_OOO_MBUF_BYTES_MIN 128u /* the queue may hold one mbuf for each so many bytes of receive buffer */

#define TCP_RTO_INITIAL_US 1000000u /* RFC 6298 2.1 */
#define TCP_RTO_MIN_US 200000u      /* RFC 6298 2.4 says 1 s SHOULD; every current stack takes 200 ms */
#define TCP_RTO_MAX_US 60000000u    /* RFC 6298 2.5 */
#define TCP_DELACK_US 40000u
#define TCP_QUICKACK_SEGS 16u       /* acknowledged at once at the start, while the peer's slow start depends on our ACKs */
#define TCP_QUICK_DELACK_US 1000u   /* ... and so soon, so that an answer may carry it, where a segment shows that no window holds its sender back */
#define TCP_WCDELACK_US 200000u     /* RFC 8985 7.2: worst case delayed ACK of a peer with one segment in flight */
#define TCP_TLP_SLACK_US 8000u      /* on top of 2 SRTT: a peer's CPU may be elsewhere for a tick or two; as much as Linux adds */
#define TCP_USER_TIMEOUT_MS_MIN 100u       /* tcp_set_user_timeout */
#define TCP_KEEPALIVE_INTERVAL_US 75000000u /* RFC 9293 3.8.4 leaves it open; the usual numbers */
#define TCP_KEEPALIVE_PROBES 9u
#define TCP_SYNACK_RETRIES 5u
#define TCP_LINGER_US 60000000u           /* a released connection may take this long to finish */
#define TCP_SHRINK_LINGER_US 500000u      /* and no longer, when connections run short and only the peer's FIN is missing */
#define TCP_SHRINK_LOOKS 1024u
#define TCP_LINGER_DISCARD_BYTES_MAX (1024u * 1024u) /* and discard so much of what still arrives; then RST */
#define TCP_PAWS_IDLE_US (24ull * 24 * 3600 * 1000000) /* RFC 7323 5.5: TS.Recent of an idle connection grows invalid */
#define TCP_CHALLENGE_PER_WINDOW 10u      /* RFC 5961 7: per connection, so that no stranger can read a shared counter */
#define TCP_CHALLENGE_WINDOW_US 5000000u
#define TCP_ANSWERS_PER_SECOND 2000u      /* RSTs and TIME-WAIT answers of one worker to segments without a connection */

enum tcp_state {
	TCP_STATE_CLOSED,
	TCP_STATE_SYN_SENT,
	TCP_STATE_SYN_RCVD, /* only after a simultaneous open; a passive open's is struct tcp_syn */
	TCP_STATE_ESTABLISHED,
	TCP_STATE_FIN_WAIT_1,
	TCP_STATE_FIN_WAIT_2,
	TCP_STATE_CLOSING,
	TCP_STATE_CLOSE_WAIT,
	TCP_STATE_LAST_ACK,
	TCP_STATE_TIME_WAIT, /* momentary in a tcp_conn: struct tcp_tw waits on its behalf */
	TCP_STATE_COUNT
};

/* One doubly linked ring; a zeroed node is on none. */
struct tcp_node {
	struct tcp_node *next, *prev;
};

static inline void tcp_list_init(struct tcp_node *head)
{
	head->next = head->prev = head;
}

static inline bool tcp_node_is_on(const struct tcp_node *n)
{
	return n->next != NULL;
}

static inline void tcp_list_push_back(struct tcp_node *head, struct tcp_node *n)
{
	n->next = head;
	n->prev = head->prev;
	head->prev->next = n;
	head->prev = n;
}

static inline void tcp_list_push_front(struct tcp_node *head, struct tcp_node *n)
{
	tcp_list_push_back(head->next, n);
}

static inline void tcp_node_remove(struct tcp_node *n)
{
	if (!n->next)
		return;
	n->prev->next = n->next;
	n->next->prev = n->prev;
	n->next = n->prev = NULL;
}

static inline struct tcp_node *tcp_list_first(const struct tcp_node *head)
{
	return head->next == head ? NULL : head->next;
}

/* Both ends of a connection; what the flow table's key is. Laid out like local and remote of struct stream. */
struct tcp_key {
	struct stream_addr local, remote;
};
static_assert(sizeof(struct tcp_key) == 36, "the key is hashed and compared as bytes: no padding");
static_assert(offsetof(struct stream, remote) == offsetof(struct stream, local) + sizeof(struct stream_addr),
	      "a stream's addresses are its flow key");

enum tcp_kind { TCP_KIND_NONE, TCP_KIND_CONN, TCP_KIND_SYN, TCP_KIND_TW };

/* A received segment, decoded and in host order. m's data starts at the payload once tcp_seg_strip was called. */
struct tcp_seg {
	struct rte_mbuf *m;
	uint32_t seq, ack, n_bytes; /* payload */
	uint32_t hash;
	uint16_t wnd;
	uint8_t flags, hdr_bytes;
	uint8_t ecn;    /* of the IP header: 3 is "congestion experienced" */
	uint8_t reason; /* enum tcp_reason; not TCP_REASON_OK: drop */
	struct tcp_key key;
	struct tcp_options opt;
};

/* What was sent and not yet acknowledged: one record a segment, 64 bytes. Ordered by sequence in conn->sent, by time of
 * (re)transmission in conn->rack_order (RFC 8985 5.2), there only while neither SACKed nor lost. */
enum { TCP_SENT_SACKED = 1, TCP_SENT_LOST = 2, TCP_SENT_RETRANS = 4, TCP_SENT_FIN = 8 };
struct tcp_sent {
	struct tcp_node by_seq, by_time;
	uint64_t xmit_us;
	struct rte_mbuf *m; /* of conn->tx, where the payload starts; NULL for a FIN alone */
	uint32_t seq, end;  /* end counts the FIN */
	uint16_t at;        /* offset into m's buffer, from buf_addr */
	uint8_t flags;
};
static_assert(sizeof(struct tcp_sent) == 64, "one cache line a record");

/* A contiguous run of bytes received above rcv_nxt. */
struct tcp_ooo {
	struct tcp_node by_seq, by_recency;
	struct foil_chain chain;
	uint32_t seq, end;
};
static_assert(sizeof(struct tcp_ooo) == 64, "one cache line a run; see docs/memory.md");

enum tcp_rtx_mode { TCP_RTX_NONE, TCP_RTX_RTO, TCP_RTX_TLP, TCP_RTX_REO, TCP_RTX_PERSIST };
enum tcp_ca_state { TCP_CA_OPEN, TCP_CA_RECOVERY, TCP_CA_LOSS };
enum { /* events owed to the user, in the order in which they are told */
	TCP_EV_ACCEPT = 1, TCP_EV_OPENED = 2, TCP_EV_READABLE = 4, TCP_EV_WRITABLE = 8, TCP_EV_CLOSED = 16
};

struct tcp_conn {
	struct stream s; /* first: s.local and s.remote are the flow key */

	/* every segment, both ways */
	uint32_t hash;
	uint8_t state, ca_state, rtx_mode, events;
	uint32_t snd_una, snd_nxt, snd_wnd;
	uint32_t rcv_nxt, rcv_adv; /* rcv_adv: right edge that the peer was told */
	uint32_t ts_recent, ts_offset, last_ack_sent;
	bool has_ts : 1, has_sack : 1, has_wscale : 1;
	bool is_owned : 1;      /* a user hears of it */
	bool is_released : 1;   /* stream_release was called */
	bool is_active : 1;     /* opened by us */
	bool in_table : 1;
	bool ack_now : 1;       /* an ACK is owed at the next flush */
	bool ack_delayed : 1;   /* one is owed when delack fires */
	bool fin_queued : 1, fin_sent : 1, fin_acked : 1;
	bool peer_fin_seen : 1; /* peer_fin_seq is valid */
	bool is_cwnd_limited : 1;
	bool is_finished : 1;   /* closed both ways or failed; waits for its user to hear of it */
	bool tlp_pending : 1, tlp_is_retrans : 1;
	bool rack_reordering_seen : 1;
	bool has_rtt : 1;
	bool dsack_owed : 1;
	bool pace_waits : 1;    /* what could go waits for its time */
	bool pace_armed : 1, delack_armed : 1; /* the timer has to do it */
	bool has_ecn : 1;
	bool ecn_echo : 1;      /* congestion was seen on the way to us: told until the peer says that it slowed down */
	bool cwr_owed : 1;      /* we slowed down: told with the next new data */
	uint8_t snd_wscale, rcv_wscale;
	uint16_t mss_bytes;     /* of a segment with its options: what peer and path take (RFC 6691) */
	uint8_t n_dup_acks, quickack_left, n_rto, n_persist, n_challenges, n_keepalive;
	uint8_t n_dup_acks_owed;
	enum stream_end end;
	struct tcp_node ev_node, out_node;
	struct foil_chain tx;   /* from snd_una on */
	struct rte_mbuf *tx_m;  /* where snd_nxt's byte lies: NULL = head of tx */
	uint16_t tx_at;         /* offset into its buffer */
	uint16_t rcv_mss_bytes; /* estimate of the peer's segment size, for delayed ACK */
	uint32_t rcv_unacked_bytes;
	uint32_t n_sacked_bytes, n_lost_bytes; /* of the sent records */
	uint32_t cwnd_use_seq;   /* is_cwnd_limited holds until this is acknowledged */
	uint32_t n_dup_bytes;    /* without SACK: how much duplicate ACKs say has arrived */
	struct tcp_node sent, rack_order;
	uint32_t cwnd, ssthresh; /* bytes */
	uint32_t srtt_us, rttvar_us, rto_us;
	uint32_t snd_wl1, snd_wnd_max;
	uint32_t rcv_buf_bytes;
	uint64_t rtx_at_us;      /* when rtx_mode is due; the wheel's timer may be earlier */
	uint64_t last_rx_us, last_progress_us, last_tx_us;
	struct net_dst dst;
	const struct tcp_cc *cc;
	struct foil_timer timer; /* of all that time does here (timers.c): fires when the first of it is due, or before */

	/* loss recovery */
	struct tcp_rare *rare;   /* NULL: nothing was lost or came out of order of late */
	uint32_t recover_seq;    /* recovery ends when it is acknowledged */
	uint32_t prr_delivered, prr_out, prr_flight; /* RFC 6937; outside of recovery prr_flight: in flight when something was sent last */
	uint64_t rack_xmit_us;
	uint32_t rack_end_seq, rack_rtt_us, rack_fack;
	uint32_t min_rtt_us;
	uint32_t rack_dsack_seq;
	uint32_t ecn_recover_seq; /* one reduction a window */
	uint8_t rack_reo_mult, rack_reo_persist;
	uint32_t tlp_end_seq;
	struct tcp_cc_state cc_state;
	struct { /* rate.c: bytes and microseconds modulo 2^32 */
		uint32_t delivered, delivered_us, first_sent_us, app_limited_until;
	} rate;
	uint64_t pace_Bps, pace_at_ns; /* pace.c; 0: not paced */

	/* reassembly, window and close */
	struct tcp_sack_block dsack;
	uint32_t peer_fin_seq;
	uint32_t drs_bytes;      /* receive-window autotuning: taken since drs_at_us */
	uint64_t drs_at_us, ts_recent_us, challenge_at_us;
	uint32_t n_discarded_bytes;
	uint32_t iss, irs;
	uint64_t validated_us;   /* cwv.c: when cwnd was last in use by half or more; 0: never */
	uint32_t user_timeout_ms; /* 0: the worker's */
	uint32_t n_resent, resent_bytes; /* segments sent again, for whoever looks (scan.c) */
	uint32_t n_dropped;
	uint32_t delack_at_us;   /* modulo 2^32 */
	uint8_t last_drop;       /* enum tcp_reason */
	struct tcp_listener *listener; /* until accept was called */
};
static_assert(sizeof(struct tcp_conn) <= 11 * 64, "a connection at rest stays well under 1 KB; see docs/memory.md");

/* What a connection needs only while something is lost or out of order, given back when it is at rest again. Who cannot have one does without: no segment is
 * kept out of order, no recovery is undone, every SACK block is walked from the first record on. */
struct tcp_rare {
	struct tcp_node ooo, ooo_recent; /* reasm.c */
	uint32_t n_ooo_ranges, n_ooo_mbufs, n_ooo_bytes;
	struct tcp_sack_block sack_seen[TCP_SACK_BLOCKS_MAX]; /* ack.c */
	struct tcp_sent *sack_hint;
	/* what a recovery that proves needless gives back (undo.c); undo_ssthresh 0: nothing to give back */
	uint32_t undo_cwnd, undo_ssthresh, undo_una, undo_ts;
	int32_t undo_bytes;              /* sent again in this recovery and not reported as duplicates */
};
static_assert(sizeof(struct tcp_rare) <= 2 * 64, "see docs/memory.md");

static inline uint32_t tcp_ooo_ranges(const struct tcp_conn *c)
{
	return c->rare ? c->rare->n_ooo_ranges : 0;
}

static inline uint32_t tcp_ooo_bytes(const struct tcp_conn *c)
{
	return c->rare ? c->rare->n_ooo_bytes : 0;
}

struct tcp_syn {
	struct tcp_key key;
	uint32_t hash;
	uint32_t irs, iss, ts_recent, ts_offset;
	uint16_t mss_peer_bytes, wnd_peer;
	uint8_t wscale_peer, n_retries;
	bool has_ts : 1, has_sack : 1, has_wscale : 1, has_ecn : 1;
	struct tcp_listener *listener;
	struct tcp_node node; /* of its listener */
	uint64_t sent_us;
	struct foil_timer timer;
	struct net_dst dst;
};
static_assert(sizeof(struct tcp_syn) <= 192, "half-open: three cache lines; see docs/memory.md");

/* TIME-WAIT. Its hash and timestamp offset are made again from the key when needed, its route is looked up for each answer. */
struct tcp_tw {
	struct tcp_key key;
	uint32_t snd_nxt, rcv_nxt, ts_recent;
	uint32_t next, prev : 31, has_ts : 1; /* 1-based indices in ctx->tws, in order of expiry; 0: none */
	uint16_t expires; /* in units of ctx->tw_unit_us, modulo 2^16 */
	uint16_t wnd;
};
static_assert(sizeof(struct tcp_tw) == 60, "less than a cache line each; see docs/memory.md");

struct tcp_listener {
	struct tcp_listen_params p;
	uint32_t n_half_open;
	struct tcp_node node, syns;
};

/* A pool of equal blocks in one mapping that is touched only as far as it is used. */
struct tcp_pool {
	uint8_t *base;
	uint32_t block_bytes, n_max, n_fresh /* never used from here on */, n_used, free_head /* 1-based index, 0 = none */;
	/* with FOIL_CHECKS only: whose chance decides (probe.h), and a test's: from now, that one fails */
	struct foil_worker *w;
	uint32_t fail_nth;
};

struct tcp_flow_bucket; /* flow.c */
struct tcp_flow {
	struct tcp_flow_bucket *buckets;
	uint32_t mask, n_entries, n_entries_max;
};

struct tcp_ctx {
	struct tcp_params p;
	const struct tcp_cc *cc;
	struct tcp_flow flow;
	struct tcp_pool conns, syns, tws, sents, ooos, rares;
	struct tcp_pool rates; /* rate.c's table, by the index of the record */
	struct tcp_node events, outs, listeners;
	struct tcp_conn *telling; /* whose callback runs; NULL again when the connection was freed in it */
	struct foil_siphash_key flow_key, isn_key, cookie_key;
	struct foil_timer tw_timer;
	uint64_t tw_unit_us;
	uint32_t tw_first, tw_last; /* 1-based index in tws of the next to expire and of the last; 0: none */
	uint64_t answers_at_us, pressure_at_us;
	uint64_t cookie_sent_us; /* the last one; 0: none */
	uint32_t n_answers;
	uint8_t rcv_wscale;
	uint32_t reclaim_at;
	bool is_nearly_out_of_mbufs, is_short_of_mbufs;
	uint32_t n_released; /* connections that only have to end */
};

/* pool.c */
#define TCP_HUGE_PAGE_BYTES (2u * 1024u * 1024u)
int tcp_pool_init(struct tcp_pool *p, uint32_t n_max, size_t block_bytes) FOIL_MUST_USE;
void tcp_pool_fini(struct tcp_pool *p);
void *tcp_pool_get(struct tcp_pool *p) FOIL_MUST_USE; /* zeroed; NULL when exhausted */
void tcp_pool_put(struct tcp_pool *p, void *block);
uint32_t tcp_pool_index(const struct tcp_pool *p, const void *block); /* 0-based */
void *tcp_pool_at(const struct tcp_pool *p, uint32_t index);

/* flow.c: the table knows (hash, kind, index); the key is compared in the block. */
int tcp_flow_init(struct tcp_flow *f, uint32_t n_entries_max) FOIL_MUST_USE;
void tcp_flow_fini(struct tcp_flow *f);
uint32_t tcp_flow_hash(const struct tcp_ctx *t, const struct tcp_key *key);
enum tcp_kind tcp_flow_find(const struct tcp_ctx *t, const struct tcp_key *key, uint32_t hash, void **block);
bool tcp_flow_add(struct tcp_ctx *t, uint32_t hash, enum tcp_kind kind, const void *block); /* false: table full */
void tcp_flow_remove(struct tcp_ctx *t, uint32_t hash, enum tcp_kind kind, const void *block);
/* What bucket `at` holds, for scans; -1: there are no more buckets. */
#define TCP_FLOW_ENTRIES_PER_BUCKET 7u
int tcp_flow_bucket(const struct tcp_ctx *t, uint32_t at, enum tcp_kind kinds[TCP_FLOW_ENTRIES_PER_BUCKET],
		    const void *blocks[TCP_FLOW_ENTRIES_PER_BUCKET]);
const struct tcp_key *tcp_flow_key(enum tcp_kind kind, const void *block);
/* So many segments before its own turn a block is fetched: a whole burst ahead there were more pages under way than the TLB holds. */
#define TCP_FLOW_AHEAD 8u
void tcp_flow_prefetch_bucket(const struct tcp_flow *f, uint32_t hash);
void tcp_flow_prefetch_block(const struct tcp_ctx *t, uint32_t hash);

/* conn.c */
const char *tcp_state_name(enum tcp_state s);
bool tcp_state_may_become(enum tcp_state from, enum tcp_state to);
void tcp_conn_become(struct foil_worker *w, struct tcp_conn *c, enum tcp_state next);
/* A block in state CLOSED with defaults, in the flow table under key. NULL: exhausted, and the reason is counted. */
struct tcp_conn *tcp_conn_new(struct foil_worker *w, const struct tcp_key *key, uint32_t hash) FOIL_MUST_USE;
void tcp_conn_set_mss(struct tcp_conn *c, uint16_t peer_mss_bytes, uint16_t own_mss_bytes);
void tcp_conn_established(struct foil_worker *w, struct tcp_conn *c);
/* The connection is over for the network: everything but rx is let go; the user hears why, or the block is freed. */
void tcp_conn_finish(struct foil_worker *w, struct tcp_conn *c, enum stream_end why);
/* RST to the peer if it knows of us, then tcp_conn_finish. */
FOIL_COLD void tcp_conn_reset(struct foil_worker *w, struct tcp_conn *c, enum stream_end why);
void tcp_conn_free(struct foil_worker *w, struct tcp_conn *c);
uint16_t tcp_own_mss(const struct foil_worker *w, const struct net_addr *remote, struct net_dst *dst);
void tcp_conn_check_pressure(struct foil_worker *w);
/* The connection's, now at the latest; NULL: the pool is empty. */
struct tcp_rare *tcp_rare_need(struct foil_worker *w, struct tcp_conn *c) FOIL_MUST_USE;
void tcp_rare_rest(struct foil_worker *w, struct tcp_conn *c); /* gives it back if nothing is lost, out of order or in flight */

/* events.c */
void tcp_conn_notify(struct foil_worker *w, struct tcp_conn *c, uint8_t events);
void tcp_events_run(struct foil_worker *w);

/* input.c, ack.c, receive.c */
void tcp_input_burst(struct foil_worker *w, struct rte_mbuf **own_segs, uint16_t n_segs);
void tcp_conn_input(struct foil_worker *w, struct tcp_conn *c, struct tcp_seg *seg); /* takes seg->m */
void tcp_seg_decode(struct foil_worker *w, struct rte_mbuf *m, struct tcp_seg *seg);
void tcp_seg_strip(struct tcp_seg *seg);
FOIL_COLD void tcp_seg_drop(struct foil_worker *w, struct tcp_seg *seg, enum tcp_reason why);
/* The same for a segment of c, which remembers it. */
FOIL_COLD void tcp_conn_drop(struct foil_worker *w, struct tcp_conn *c, struct tcp_seg *seg, enum tcp_reason why);
/* Payload of c in m goes (some of it, perhaps): counted and captured, not freed. */
FOIL_COLD void tcp_conn_drop_note(struct foil_worker *w, struct tcp_conn *c, struct rte_mbuf *m, enum tcp_reason why);
void tcp_ack_input(struct foil_worker *w, struct tcp_conn *c, const struct tcp_seg *seg);
void tcp_ack_window(struct foil_worker *w, struct tcp_conn *c, const struct tcp_seg *seg);
void tcp_receive(struct foil_worker *w, struct tcp_conn *c, struct tcp_seg *seg);
uint32_t tcp_window_offer(struct foil_worker *w, struct tcp_conn *c); /* moves rcv_adv */
bool tcp_window_wants_update(const struct tcp_conn *c);
void tcp_ack_owe(struct foil_worker *w, struct tcp_conn *c);

/* reasm.c */
enum tcp_reason tcp_reasm_insert(struct foil_worker *w, struct tcp_conn *c, uint32_t seq, struct foil_chain *own_chain);
void tcp_reasm_pull(struct foil_worker *w, struct tcp_conn *c); /* moves what rcv_nxt has reached to s.rx */
void tcp_reasm_clear(struct foil_worker *w, struct tcp_conn *c);
uint8_t tcp_reasm_sack_blocks(const struct tcp_conn *c, struct tcp_sack_block *out, uint8_t n_max);
/* Keeps the first n_keep bytes, frees the rest. The chain is a received one: its segments are ours to shorten. */
void tcp_chain_cut_tail(struct foil_chain *chain, uint32_t n_keep);
/* Appends a received piece, copying small ones into the tail's room. */
void tcp_rx_append(struct foil_chain *to, struct foil_chain *own_from);

/* listen.c, syn.c, syncookie.c */
struct tcp_listener *tcp_listener_find(const struct foil_worker *w, const struct stream_addr *local);
void tcp_listener_input(struct foil_worker *w, struct tcp_listener *l, struct tcp_seg *seg, uint32_t iss_above);
void tcp_syn_input(struct foil_worker *w, struct tcp_syn *y, struct tcp_seg *seg);
void tcp_syn_free(struct foil_worker *w, struct tcp_syn *y);
struct tcp_conn *tcp_syn_to_conn(struct foil_worker *w, const struct tcp_syn *y, struct tcp_listener *l, struct tcp_seg *seg);
void tcp_synack_send(struct foil_worker *w, const struct tcp_syn *y);
void tcp_cookie_send(struct foil_worker *w, struct tcp_listener *l, const struct tcp_seg *seg);
/* The third segment of a handshake answered by a cookie: true and *y filled if it is ours. */
bool tcp_cookie_check(struct foil_worker *w, const struct tcp_seg *seg, struct tcp_syn *y);

/* timewait.c */
void tcp_tw_enter(struct foil_worker *w, struct tcp_conn *c);
void tcp_tw_input(struct foil_worker *w, struct tcp_tw *tw, struct tcp_seg *seg);
void tcp_tw_free(struct foil_worker *w, struct tcp_tw *tw);
void tcp_tw_init(struct tcp_ctx *t);
struct tcp_tw *tcp_tw_first(const struct tcp_ctx *t); /* the next to expire; NULL: none waits */
bool tcp_tw_may_reuse(const struct foil_worker *w, const struct tcp_tw *tw);

/* output.c, segment.c */
void tcp_output(struct foil_worker *w, struct tcp_conn *c);
void tcp_output_want(struct foil_worker *w, struct tcp_conn *c);
bool tcp_output_probe(struct foil_worker *w, struct tcp_conn *c);     /* TLP's new segment; false: nothing new may go */
bool tcp_output_retransmit(struct foil_worker *w, struct tcp_conn *c, struct tcp_sent *r); /* false: no memory */
static inline uint32_t tcp_unsent_bytes(const struct tcp_conn *c)
{
	return c->tx.n_bytes + (c->fin_sent && !c->fin_acked ? 1u : 0u) - (c->snd_nxt - c->snd_una);
}
struct tcp_segment_spec { /* one segment to build */
	const struct tcp_key *key;
	uint32_t seq, ack;
	uint32_t wnd; /* unscaled field value */
	uint8_t flags, tos;
	const struct tcp_options *opt; /* NULL: none */
	struct rte_mbuf *payload_m;    /* NULL: none */
	uint32_t payload_at, payload_bytes; /* offset into payload_m's buffer */
	uint16_t segment_bytes;             /* the port cuts the payload into segments of so much; 0: it is one */
	struct net_dst *dst;
};
bool tcp_segment_send(struct foil_worker *w, const struct tcp_segment_spec *spec); /* false: no memory, nothing sent */
/* A peer without SACK counts duplicate ACKs (RFC 5681 4.2): those owed go before the edge moves, though a burst is being taken. */
void tcp_send_dup_acks(struct foil_worker *w, struct tcp_conn *c);
bool tcp_send_control(struct foil_worker *w, struct tcp_conn *c, uint32_t seq, uint8_t flags);
void tcp_send_rst_for(struct foil_worker *w, const struct tcp_seg *seg);
void tcp_send_syn(struct foil_worker *w, struct tcp_conn *c);
/* true if one more answer to nobody's segment may go this second */
bool tcp_answer_allowed(struct foil_worker *w);
void tcp_challenge_ack(struct foil_worker *w, struct tcp_conn *c);

/* sent.c: records of what is in flight */
struct tcp_sent *tcp_sent_add(struct foil_worker *w, struct tcp_conn *c, uint32_t seq, uint32_t end, struct rte_mbuf *m, uint16_t at,
			      uint8_t flags) FOIL_MUST_USE;
void tcp_sent_resent(struct foil_worker *w, struct tcp_conn *c, struct tcp_sent *r);
void tcp_sent_mark_lost(struct tcp_conn *c, struct tcp_sent *r);
void tcp_sent_mark_all_lost(struct tcp_conn *c);
void tcp_sent_mark_sacked(struct tcp_conn *c, struct tcp_sent *r);
void tcp_sent_free(struct foil_worker *w, struct tcp_conn *c, struct tcp_sent *r);
void tcp_sent_clear(struct foil_worker *w, struct tcp_conn *c);
bool tcp_sent_split(struct foil_worker *w, struct tcp_conn *c, struct tcp_sent *r, uint32_t n_bytes) FOIL_MUST_USE;
struct tcp_sent *tcp_sent_first_lost(const struct tcp_conn *c);
static inline struct tcp_sent *tcp_sent_of(struct tcp_node *by_seq)
{
	return by_seq ? FOIL_CONTAINER_OF(by_seq, struct tcp_sent, by_seq) : NULL;
}
static inline uint32_t tcp_in_flight(const struct tcp_conn *c)
{
	uint32_t left = c->snd_nxt - c->snd_una - c->n_sacked_bytes - c->n_lost_bytes;
	return left - FOIL_MIN(left, c->n_dup_bytes);
}

/* rtt.c */
void tcp_rtt_sample(struct tcp_conn *c, uint32_t rtt_us);
uint32_t tcp_rto_backed_off(const struct tcp_conn *c, uint8_t n);

/* rack.c */
void tcp_rack_delivered(struct foil_worker *w, struct tcp_conn *c, const struct tcp_sent *r, const struct tcp_seg *seg);
void tcp_rack_dsack(struct tcp_conn *c);
bool tcp_rack_detect(struct foil_worker *w, struct tcp_conn *c, uint32_t *wait_us); /* true: something was marked lost */
uint32_t tcp_tlp_timeout_us(const struct foil_worker *w, const struct tcp_conn *c);
void tcp_tlp_fire(struct foil_worker *w, struct tcp_conn *c);
void tcp_tlp_acked(struct foil_worker *w, struct tcp_conn *c, uint32_t ack, bool is_dsack);

/* recovery.c */
/* What the ACK delivered: delivered_bytes, or for a peer without SACK an estimate. */
uint32_t tcp_recovery_after_ack(struct foil_worker *w, struct tcp_conn *c, uint32_t acked_bytes, uint32_t delivered_bytes, bool is_dup_ack);
void tcp_recovery_enter(struct foil_worker *w, struct tcp_conn *c);
void tcp_recovery_on_rto(struct foil_worker *w, struct tcp_conn *c);

/* hystart.c: an algorithm's part of the first slow start, in its own state; zeroed at first */
struct tcp_hystart {
	uint32_t last_us, now_us; /* the shortest round trip of the last round, and of this one so far; 0: none */
	uint32_t css_base_us;     /* not 0: conservative slow start, begun at this round trip */
	uint32_t round_end;
	uint8_t n_samples, css_rounds;
	bool is_begun;
};
/* By how much cwnd grows for acked_bytes while ssthresh is TCP_SSTHRESH_INITIAL; may set ssthresh, and slow start is over. */
uint32_t tcp_hystart_grow(struct foil_worker *w, struct tcp_conn *c, struct tcp_hystart *h, uint32_t acked_bytes);

/* rate.c, pace.c */
#define TCP_SENT_RATE_BYTES 16u
void tcp_rate_sent(struct foil_worker *w, struct tcp_conn *c, const struct tcp_sent *r);
void tcp_rate_split(struct foil_worker *w, const struct tcp_conn *c, const struct tcp_sent *from, const struct tcp_sent *to);
void tcp_rate_delivered(struct foil_worker *w, struct tcp_conn *c, const struct tcp_sent *r, struct tcp_rate *s);
void tcp_rate_delivered_without_sack(struct tcp_conn *c, struct tcp_rate *s, uint32_t delivered_bytes);
void tcp_rate_finish(struct foil_worker *w, struct tcp_conn *c, struct tcp_rate *s);
void tcp_rate_check_app_limited(struct tcp_conn *c);
/* false: not yet; the timer that says when is armed. */
bool tcp_pace_may_send(struct foil_worker *w, struct tcp_conn *c);
void tcp_pace_sent(const struct foil_worker *w, struct tcp_conn *c, uint32_t n_bytes);
void tcp_pace_done(struct tcp_conn *c); /* at the end of an output */
uint64_t tcp_pace_due_us(const struct tcp_conn *c); /* of one that waits: when it goes on */

/* cwv.c */
void tcp_cwv_sent(struct foil_worker *w, struct tcp_conn *c); /* after new data went */

/* ecn.c */
struct tcp_segment_spec;
#define TCP_FLAGS_ECN (RTE_TCP_ECE_FLAG | RTE_TCP_CWR_FLAG)
#define TCP_TOS_ECT0 2u /* RFC 3168 5 */
void tcp_ecn_input(struct foil_worker *w, struct tcp_conn *c, const struct tcp_seg *seg);
/* The bits of a segment of ours; new_data: never sent before (RFC 3168 6.1.5: nothing else is marked as capable). */
void tcp_ecn_output(struct tcp_conn *c, struct tcp_segment_spec *spec, bool new_data);

/* undo.c */
void tcp_undo_begin(struct foil_worker *w, struct tcp_conn *c);
void tcp_undo_resent(struct foil_worker *w, struct tcp_conn *c, uint32_t n_bytes);
void tcp_undo_dsack(struct tcp_conn *c, const struct tcp_sack_block *b);
/* true: the recovery that goes on was needless; it is over, and the window is what it was. */
bool tcp_undo_try(struct foil_worker *w, struct tcp_conn *c, const struct tcp_seg *seg);

static inline uint64_t tcp_user_timeout_us(const struct foil_worker *w, const struct tcp_conn *c)
{
	return c->user_timeout_ms ? (uint64_t)c->user_timeout_ms * 1000 : w->tcp->p.user_timeout_us;
}

/* timers.c */
void tcp_rtx_arm(struct foil_worker *w, struct tcp_conn *c, enum tcp_rtx_mode mode, uint64_t at_us);
void tcp_rtx_restart(struct foil_worker *w, struct tcp_conn *c); /* after an ACK: TLP, RTO, persist or none, from now on */
void tcp_rtx_start(struct foil_worker *w, struct tcp_conn *c);   /* after output: the same, but a running RTO runs on (RFC 6298 5.1) */
void tcp_delack_arm(struct foil_worker *w, struct tcp_conn *c, uint32_t in_us);
void tcp_timer_by(struct foil_worker *w, struct tcp_conn *c, uint64_t at_us); /* the timer fires then at the latest, and looks what is due */
void tcp_slow_arm(struct foil_worker *w, struct tcp_conn *c);
void tcp_timers_cancel(struct foil_worker *w, struct tcp_conn *c);

/* isn.c */
uint32_t tcp_isn(const struct foil_worker *w, const struct tcp_key *key);
uint32_t tcp_ts_offset(const struct foil_worker *w, const struct tcp_key *key);
static inline uint32_t tcp_ts_now(const struct foil_worker *w, uint32_t offset)
{
	return (uint32_t)(w->now_us / 1000) + offset; /* 1 ms: within RFC 7323 5.4 */
}

/* icmp.c: what the path carries */
/* Full segments time out again and again: a hop drops them without a word (RFC 2923 2.1). The segment size goes down a step. */
void tcp_blackhole_check(struct foil_worker *w, struct tcp_conn *c);
void tcp_icmp_input(struct foil_worker *w, const struct net_icmp_error *e);

/* connect.c */
void tcp_syn_sent_input(struct foil_worker *w, struct tcp_conn *c, struct tcp_seg *seg); /* takes seg->m */

extern const struct stream_ops tcp_stream_ops;

static inline struct tcp_conn *tcp_conn_of(struct stream *s)
{
	return FOIL_CONTAINER_OF(s, struct tcp_conn, s);
}

static inline const struct tcp_key *tcp_conn_key(const struct tcp_conn *c)
{
	return (const struct tcp_key *)&c->s.local;
}

static inline const struct net_addr *tcp_addr(const struct stream_addr *a)
{
	return (const struct net_addr *)a->ip;
}
