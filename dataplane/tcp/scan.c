/* Connections as they stand (scan.h). Reads only; a turn of it costs what a few segments cost. */
#include "dataplane/tcp/scan.h"

#include "dataplane/tcp/tcp_priv.h"

static const char *const ca_names[] = {[TCP_CA_OPEN] = "open", [TCP_CA_RECOVERY] = "recovery", [TCP_CA_LOSS] = "loss"};

static char plain(char c)
{
	return foil_ascii_lower(c == '_' ? '-' : c);
}

const char *tcp_scan_state(const char *text)
{
	for (int s = 0; s < TCP_STATE_COUNT; s++) {
		const char *name = tcp_state_name((enum tcp_state)s);
		size_t i = 0;
		while (name[i] && plain(name[i]) == plain(text[i]))
			i++;
		if (!name[i] && !text[i])
			return name;
	}
	return NULL;
}

static bool key_matches(const struct tcp_scan_filter *f, const struct tcp_key *k)
{
	return (!f->has_local || net_addr_eq(&f->local, tcp_addr(&k->local))) && (!f->has_remote || net_addr_eq(&f->remote, tcp_addr(&k->remote))) &&
	       (!f->local_port || f->local_port == k->local.port) && (!f->remote_port || f->remote_port == k->remote.port);
}

static void fill_key(struct tcp_conn_info *i, const struct tcp_key *k)
{
	i->local = *tcp_addr(&k->local);
	i->remote = *tcp_addr(&k->remote);
	i->local_port = k->local.port;
	i->remote_port = k->remote.port;
}

static void fill_conn(const struct foil_worker *w, const struct tcp_conn *c, struct tcp_conn_info *i)
{
	i->kind = TCP_SCAN_CONN;
	i->is_active = c->is_active;
	i->congestion = c->cc->name;
	i->phase = ca_names[c->ca_state];
	i->last_drop = c->n_dropped ? tcp_room_desc.reasons[c->last_drop].name : NULL;
	i->mss_bytes = c->mss_bytes;
	i->cwnd_bytes = c->cwnd;
	i->ssthresh_bytes = c->ssthresh >= UINT32_MAX / 2 ? UINT32_MAX : c->ssthresh;
	i->in_flight_bytes = tcp_in_flight(c);
	i->lost_bytes = c->n_lost_bytes;
	i->sacked_bytes = c->n_sacked_bytes;
	i->srtt_us = c->srtt_us;
	i->rttvar_us = c->rttvar_us;
	i->rto_us = c->rto_us;
	i->min_rtt_us = c->min_rtt_us;
	i->n_resent = c->n_resent;
	i->resent_bytes = c->resent_bytes;
	i->n_timeouts = c->n_rto;
	i->n_dropped = c->n_dropped;
	i->snd_wnd_bytes = c->snd_wnd;
	i->rcv_wnd_bytes = c->rcv_adv - c->rcv_nxt;
	i->rx_waiting_bytes = c->s.rx.n_bytes;
	i->tx_waiting_bytes = c->tx.n_bytes;
	i->ooo_bytes = tcp_ooo_bytes(c);
	i->pace_Bps = c->pace_Bps;
	i->age_us = c->s.opened_us ? w->now_us - c->s.opened_us : 0;
	i->idle_us = w->now_us - FOIL_MAX(c->last_rx_us, c->last_tx_us);
	i->has_ts = c->has_ts;
	i->has_sack = c->has_sack;
	i->has_wscale = c->has_wscale;
	i->has_ecn = c->has_ecn;
}

static void fill_syn(const struct foil_worker *w, const struct tcp_syn *y, struct tcp_conn_info *i)
{
	i->kind = TCP_SCAN_HALF_OPEN;
	i->mss_bytes = y->mss_peer_bytes;
	i->snd_wnd_bytes = y->wnd_peer;
	i->n_resent = y->n_retries;
	i->age_us = w->now_us - y->sent_us;
	i->has_ts = y->has_ts;
	i->has_sack = y->has_sack;
	i->has_wscale = y->has_wscale;
	i->has_ecn = y->has_ecn;
}

static const char *state_of(enum tcp_kind kind, const void *block)
{
	switch (kind) {
	case TCP_KIND_CONN:
		return tcp_state_name((enum tcp_state)((const struct tcp_conn *)block)->state);
	case TCP_KIND_SYN:
		return tcp_state_name(TCP_STATE_SYN_RCVD);
	case TCP_KIND_TW:
		return tcp_state_name(TCP_STATE_TIME_WAIT);
	case TCP_KIND_NONE:
		break;
	}
	FOIL_UNREACHABLE();
}

static void tell(const struct foil_worker *w, struct tcp_scan *s, enum tcp_kind kind, const void *block)
{
	const struct tcp_key *key = tcp_flow_key(kind, block);
	const char *state = state_of(kind, block);
	struct tcp_conn_info *i = &s->infos[s->n_infos];

	if (!key_matches(&s->filter, key) || (s->filter.state && s->filter.state != state))
		return;
	*i = (struct tcp_conn_info){.state = state, .kind = TCP_SCAN_TIME_WAIT};
	fill_key(i, key);
	if (kind == TCP_KIND_CONN)
		fill_conn(w, block, i);
	else if (kind == TCP_KIND_SYN)
		fill_syn(w, block, i);
	s->n_infos++;
}

void tcp_scan_turn(struct foil_worker *w, struct tcp_scan *s)
{
	const void *blocks[TCP_FLOW_ENTRIES_PER_BUCKET];
	enum tcp_kind kinds[TCP_FLOW_ENTRIES_PER_BUCKET];

	for (unsigned int i = 0; i < TCP_SCAN_BUCKETS_A_TURN && s->n_infos <= TCP_SCAN_INFOS - TCP_FLOW_ENTRIES_PER_BUCKET; i++) {
		int n = tcp_flow_bucket(w->tcp, s->at, kinds, blocks);
		if (n < 0) {
			s->is_done = true;
			break;
		}
		for (int k = 0; k < n; k++)
			tell(w, s, kinds[k], blocks[k]);
		s->at++;
	}
	if (s->is_done || s->n_infos > TCP_SCAN_INFOS - TCP_FLOW_ENTRIES_PER_BUCKET)
		__atomic_store_n(&s->owner, TCP_SCAN_HOUSE, __ATOMIC_RELEASE);
}
