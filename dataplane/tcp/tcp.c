/* The room's own life: defaults, pools, keys, the end of a burst, and the figures for status pages. */
#include "dataplane/tcp/tcp.h"

#include <errno.h>
#include <stdlib.h>

#include "dataplane/core/error.h"
#include "dataplane/tcp/tcp_priv.h"

#define TCP_PRESSURE_CHECK_US 1000u   /* counting a pool's free mbufs looks at every core's cache */
#define TCP_PRESSURE_FREE_DIVISOR 8u  /* fewer free than an eighth: short */
#define TCP_PRESSURE_LAST_DIVISOR 32u /* fewer than this part: what is left is for headers and ACKs */
#define TCP_RECLAIM_PER_TURN 64u       /* connections looked at */
#define TCP_RECLAIM_BYTES_MIN 16384u   /* less is not worth a connection */
#define TCP_RECLAIM_IDLE_US 5000000u   /* nothing acknowledged and nothing received for so long */
#define TCP_SENTS_MIN 16384u
#define TCP_OOOS_MIN 1024u

static const struct foil_counter_desc counters[] = {
#define X(ID, kind, unit, help) {#ID, FOIL_##kind, #unit, help},
#include "dataplane/tcp/counters.def"
#undef X
};
static const struct foil_reason_desc reasons[] = {
#define X(ID, name, kind, help) {name, FOIL_REASON_##kind, help},
#include "dataplane/tcp/reasons.def"
#undef X
};
const struct foil_room_desc tcp_room_desc = {
	FOIL_ROOM_TCP, "tcp", counters, FOIL_COUNT_OF(counters), reasons, FOIL_COUNT_OF(reasons),
};

static void take_defaults(struct tcp_params *p)
{
	p->conns_max = p->conns_max ? p->conns_max : 65536;
	p->time_wait_max = p->time_wait_max ? p->time_wait_max : 65536;
	p->syn_backlog_max = p->syn_backlog_max ? p->syn_backlog_max : 4096;
	p->rx_window_bytes_max = p->rx_window_bytes_max ? p->rx_window_bytes_max : 4u << 20;
	p->rx_window_bytes = p->rx_window_bytes ? p->rx_window_bytes : FOIL_MIN(256u << 10, p->rx_window_bytes_max);
	p->msl_us = p->msl_us ? p->msl_us : 30000000;
	p->user_timeout_us = p->user_timeout_us ? p->user_timeout_us : 120000000;
	p->connect_timeout_us = p->connect_timeout_us ? p->connect_timeout_us : 127000000;
	p->congestion = p->congestion ? p->congestion : "cubic";
}

static int check_params(const struct tcp_params *p, struct foil_error *err)
{
	if (!tcp_cc_find(p->congestion))
		return foil_error_set(err, -EINVAL, "tcp.congestion is \"%s\"; say cubic, bbr or newreno", p->congestion);
	if (p->rx_window_bytes_max > 1u << 30 || p->rx_window_bytes > p->rx_window_bytes_max)
		return foil_error_set(err, -EINVAL, "tcp.rx_window_bytes %u and tcp.rx_window_bytes_max %u: the first must not be above the "
				      "second, nor that above 1 GiB (RFC 7323 2.3)",
				      p->rx_window_bytes, p->rx_window_bytes_max);
	if (p->mss_max && p->mss_max < TCP_MSS_MIN)
		return foil_error_set(err, -EINVAL, "tcp.mss_max is %u; at least %u", p->mss_max, TCP_MSS_MIN);
	if (p->conns_max >= 1u << 28)
		return foil_error_set(err, -EINVAL, "tcp.conns_max is %u; at most %u", p->conns_max, (1u << 28) - 1);
	return 0;
}

static uint8_t wscale_for(uint32_t window_bytes_max)
{
	uint8_t scale = 0;

	while (scale < TCP_WSCALE_MAX && window_bytes_max >> scale > UINT16_MAX)
		scale++;
	return scale;
}

static int make_tables(struct tcp_ctx *t)
{
	const struct tcp_params *p = &t->p;
	uint32_t n_flows = p->conns_max + p->time_wait_max + p->syn_backlog_max;

	if (tcp_flow_init(&t->flow, n_flows) || tcp_pool_init(&t->conns, p->conns_max, sizeof(struct tcp_conn)) ||
	    tcp_pool_init(&t->syns, p->syn_backlog_max, sizeof(struct tcp_syn)) ||
	    tcp_pool_init(&t->tws, p->time_wait_max, sizeof(struct tcp_tw)) ||
	    tcp_pool_init(&t->sents, FOIL_MAX(TCP_SENTS_MIN, 4 * p->conns_max), sizeof(struct tcp_sent)) ||
	    tcp_pool_init(&t->rates, FOIL_MAX(TCP_SENTS_MIN, 4 * p->conns_max), TCP_SENT_RATE_BYTES) ||
	    tcp_pool_init(&t->ooos, FOIL_MAX(TCP_OOOS_MIN, p->conns_max / 2), sizeof(struct tcp_ooo)) ||
	    tcp_pool_init(&t->rares, p->conns_max, sizeof(struct tcp_rare)))
		return -ENOMEM;
	return 0;
}

static void free_tables(struct tcp_ctx *t)
{
	tcp_pool_fini(&t->rares);
	tcp_pool_fini(&t->ooos);
	tcp_pool_fini(&t->rates);
	tcp_pool_fini(&t->sents);
	tcp_pool_fini(&t->tws);
	tcp_pool_fini(&t->syns);
	tcp_pool_fini(&t->conns);
	tcp_flow_fini(&t->flow);
}

static struct foil_siphash_key derive_key(const struct foil_worker *w, const char *what)
{
	struct foil_siphash_key other = {w->secret.k1, w->secret.k0};

	return (struct foil_siphash_key){foil_siphash(&w->secret, what, strlen(what)), foil_siphash(&other, what, strlen(what))};
}

int tcp_init(struct foil_worker *w, const struct tcp_params *p, struct foil_error *err)
{
	struct tcp_ctx *t = calloc(1, sizeof(*t));
	int rc;

	if (!t)
		return foil_error_set(err, -ENOMEM, "out of memory for tcp");
	t->p = *p;
	take_defaults(&t->p);
	rc = check_params(&t->p, err);
	if (rc == 0 && (rc = make_tables(t)) != 0)
		(void)foil_error_set(err, rc, "cannot map tcp's tables for %u connections; give the node file a smaller tcp.conns_max", t->p.conns_max);
	if (rc) {
		free_tables(t);
		free(t);
		return rc;
	}
	t->conns.w = t->syns.w = t->tws.w = t->sents.w = t->ooos.w = t->rares.w = w;
	t->cc = tcp_cc_find(t->p.congestion);
	t->rcv_wscale = wscale_for(t->p.rx_window_bytes_max);
	tcp_list_init(&t->events);
	tcp_list_init(&t->outs);
	tcp_list_init(&t->listeners);
	tcp_tw_init(t);
	t->flow_key = derive_key(w, "tcp flow table");
	t->isn_key = derive_key(w, "tcp isn");
	t->cookie_key = derive_key(w, "tcp syn cookie");
	w->tcp = t;
	net_register_l4(w, TCP_PROTO, tcp_input_burst, tcp_icmp_input);
	return 0;
}

void tcp_fini(struct foil_worker *w)
{
	struct tcp_ctx *t = w->tcp;
	struct tcp_node *n;
	struct tcp_tw *tw;

	if (!t)
		return;
	for (uint32_t i = 0; i < t->conns.n_fresh; i++) { /* a block on the free list has no operations */
		struct tcp_conn *c = tcp_pool_at(&t->conns, i);
		if (c->s.ops == &tcp_stream_ops)
			tcp_conn_free(w, c);
	}
	while ((n = tcp_list_first(&t->listeners))) {
		struct tcp_listener *l = FOIL_CONTAINER_OF(n, struct tcp_listener, node);
		while ((n = tcp_list_first(&l->syns)))
			tcp_syn_free(w, FOIL_CONTAINER_OF(n, struct tcp_syn, node));
		tcp_unlisten(w, l);
	}
	while ((tw = tcp_tw_first(t)))
		tcp_tw_free(w, tw);
	foil_timer_cancel(w, &t->tw_timer);
	free_tables(t);
	free(t);
	w->tcp = NULL;
}

void tcp_conn_check_pressure(struct foil_worker *w)
{
	struct tcp_ctx *t = w->tcp;

	if (w->now_us - t->pressure_at_us < TCP_PRESSURE_CHECK_US && !t->is_short_of_mbufs)
		return;
	t->pressure_at_us = w->now_us;
	uint32_t n_free = rte_mempool_avail_count(w->mbuf_pool);
	bool is_short = n_free < w->mbuf_pool->size / TCP_PRESSURE_FREE_DIVISOR;
	t->is_nearly_out_of_mbufs = n_free < w->mbuf_pool->size / TCP_PRESSURE_LAST_DIVISOR;
	if (is_short && !t->is_short_of_mbufs)
		FOIL_PROBE(w, TCP, MBUFS_SHORT);
	t->is_short_of_mbufs = is_short;
}

/* Mbufs are nearly out, so nobody gets on: a connection that holds many and moves nothing is given up, be it a reader who does not read or
 * a peer who keeps its window shut after asking for much. A few are looked at each turn, until there is room. */
static void reclaim(struct foil_worker *w)
{
	struct tcp_ctx *t = w->tcp;

	for (uint32_t n = FOIL_MIN(TCP_RECLAIM_PER_TURN, t->conns.n_fresh); n; n--) {
		t->reclaim_at = t->reclaim_at + 1 < t->conns.n_fresh ? t->reclaim_at + 1 : 0;
		struct tcp_conn *c = tcp_pool_at(&t->conns, t->reclaim_at);
		if (c->s.ops != &tcp_stream_ops || c->is_finished || c->state < TCP_STATE_ESTABLISHED ||
		    c->tx.n_bytes + c->s.rx.n_bytes + tcp_ooo_bytes(c) < TCP_RECLAIM_BYTES_MIN ||
		    w->now_us - c->last_progress_us < TCP_RECLAIM_IDLE_US || w->now_us - c->drs_at_us < TCP_RECLAIM_IDLE_US)
			continue;
		foil_reason(w, TCP, RECLAIMED);
		tcp_conn_reset(w, c, STREAM_END_LOCAL);
		return;
	}
}

/* Whoever is told that a connection ends may well never end its own side; all that was sent has arrived there (FIN-WAIT-2). */
void tcp_shrink(struct foil_worker *w)
{
	struct tcp_ctx *t = w->tcp;

	for (uint32_t n = FOIL_MIN(TCP_SHRINK_LOOKS, t->conns.n_fresh); n; n--) {
		t->reclaim_at = t->reclaim_at + 1 < t->conns.n_fresh ? t->reclaim_at + 1 : 0;
		struct tcp_conn *c = tcp_pool_at(&t->conns, t->reclaim_at);
		if (c->s.ops != &tcp_stream_ops || c->is_finished || !c->is_released || c->state != TCP_STATE_FIN_WAIT_2 ||
		    w->now_us - c->last_progress_us < TCP_SHRINK_LINGER_US)
			continue;
		foil_reason(w, TCP, LINGER_CUT);
		tcp_conn_reset(w, c, STREAM_END_LOCAL);
	}
}

void tcp_flush(struct foil_worker *w)
{
	struct tcp_ctx *t = w->tcp;
	struct tcp_node *n, last;

	tcp_conn_check_pressure(w);
	if (FOIL_UNLIKELY(t->is_nearly_out_of_mbufs))
		reclaim(w);
	tcp_events_run(w);
	tcp_list_push_back(&t->outs, &last); /* what is put on again, for want of an mbuf, waits for the next flush */
	while ((n = tcp_list_first(&t->outs)) != &last) {
		tcp_node_remove(n);
		tcp_output(w, FOIL_CONTAINER_OF(n, struct tcp_conn, out_node));
	}
	tcp_node_remove(&last);
}

void tcp_stats_get(const struct foil_worker *w, struct tcp_stats *out)
{
	const struct tcp_ctx *t = w->tcp;
	uint32_t n_listeners = 0;

	for (const struct tcp_node *n = t->listeners.next; n != &t->listeners; n = n->next)
		n_listeners++;
	*out = (struct tcp_stats){t->conns.n_used, t->syns.n_used, t->tws.n_used, n_listeners, t->conns.n_max, t->n_released};
}
