/* The applications at both ends of each flow, and what they check: every byte that one end wrote arrives at the other once, in
 * order, and nothing else does; ends are told how it ended; what waits to be read stays within the receive buffer. */
#include <string.h>

#include "tests/sim/sim.h"

static const struct stream_user user;

const uint8_t *sim_pattern(const struct sim_flow *f, uint8_t side, uint64_t at, uint32_t *n_there)
{
	static uint8_t table[2 * SIM_PATTERN_PERIOD];
	static bool is_made;

	if (!is_made) {
		uint64_t x = 88172645463325252ull;
		for (uint32_t i = 0; i < SIM_PATTERN_PERIOD; i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			table[i] = table[i + SIM_PATTERN_PERIOD] = (uint8_t)x;
		}
		is_made = true;
	}
	uint64_t offset = (at + f->id * 977ull + side * 31337ull) % SIM_PATTERN_PERIOD;
	*n_there = (uint32_t)(2 * SIM_PATTERN_PERIOD - offset);
	return table + offset;
}

bool sim_flow_is_done(const struct sim_flow *f)
{
	return (f->e[0].closed || f->e[0].gone) && (f->e[1].closed || f->e[1].gone || !f->e[1].s);
}

static struct sim_end *peer_of(const struct sim_end *e)
{
	return &((struct sim_flow *)e->flow)->e[!e->side];
}

static void check_bytes(struct sim_end *e, const struct foil_chain *chain, uint32_t n_bytes)
{
	struct sim *s = e->flow->sim;
	uint32_t left = n_bytes;

	for (const struct rte_mbuf *m = chain->head; left; m = m->next) {
		uint32_t n = FOIL_MIN(left, (uint32_t)m->data_len), n_there;
		const uint8_t *want = sim_pattern(e->flow, !e->side, e->n_got, &n_there);
		if (n > n_there || memcmp(rte_pktmbuf_mtod(m, const void *), want, n) != 0) {
			sim_fail(s, "flow %u side %u: wrong bytes in the %u behind offset %llu", e->flow->id, e->side, n,
				 (unsigned long long)e->n_got);
			return;
		}
		e->n_got += n;
		left -= n;
	}
	if (e->n_got > peer_of(e)->n_sent)
		sim_fail(s, "flow %u side %u: %llu bytes arrived, %llu were written", e->flow->id, e->side, (unsigned long long)e->n_got,
			 (unsigned long long)peer_of(e)->n_sent);
}

/* How far this end may write now. */
static uint64_t write_limit(const struct sim_end *e)
{
	const struct sim_flow *f = e->flow;

	if (!f->rr_request)
		return e->to_send;
	uint64_t n_exchanges = e->side ? e->n_got / f->rr_request : e->n_got / f->rr_response + 1;
	return FOIL_MIN(e->to_send, n_exchanges * (e->side ? f->rr_response : f->rr_request));
}

/* Some writers bring what they write in crumbs, as a proxy does that forwards by reference what came so. */
static int append(struct foil_worker *w, const struct sim_end *e, struct foil_chain *chain, const uint8_t *data, uint32_t n_bytes)
{
	if (e->piece_bytes % 5 || e->n_sent > 30000)
		return foil_chain_append(w, chain, data, n_bytes);
	for (uint32_t at = 0; at < n_bytes; at += 50) {
		struct foil_chain crumb = {0};
		if (foil_chain_append(w, &crumb, data + at, FOIL_MIN(50u, n_bytes - at))) {
			foil_chain_clear(chain);
			return -1;
		}
		foil_chain_move(chain, &crumb);
	}
	return 0;
}

static void write_some(struct foil_worker *w, struct sim_end *e)
{
	while (!e->gone && !e->shut && e->n_sent < write_limit(e) && stream_tx_room(e->s) > 0) {
		struct foil_chain chain = {0};
		uint32_t n = (uint32_t)FOIL_MIN(write_limit(e) - e->n_sent, e->piece_bytes), n_there;
		const uint8_t *data = sim_pattern(e->flow, e->side, e->n_sent, &n_there);
		if (append(w, e, &chain, data, FOIL_MIN(n, n_there)))
			break; /* no mbuf now: the end's timer comes again */
		e->n_sent += chain.n_bytes;
		stream_write(w, e->s, &chain);
	}
	if (e->gone || e->shut || e->n_sent < e->to_send || (e->shut_after_eof && !e->eof) || w->now_us < e->flow->opened_us + e->shut_us)
		return;
	e->shut = true;
	if (e->release_at_end && e->eof) {
		e->gone = true;
		foil_timer_cancel(w, &e->timer);
		stream_release(w, e->s);
		return;
	}
	stream_shutdown(w, e->s);
}

static void read_some(struct foil_worker *w, struct sim_end *e, uint32_t n_most)
{
	uint32_t n = FOIL_MIN(e->s->rx.n_bytes, n_most);
	const struct tcp_params *p = &e->flow->sim->h[e->host].tcp;

	if (e->s->rx.n_bytes > p->rx_window_bytes_max + SIM_FRAME_MAX)
		sim_fail(e->flow->sim, "flow %u side %u: %u bytes wait in a receive buffer of at most %u", e->flow->id, e->side, e->s->rx.n_bytes,
			 p->rx_window_bytes_max);
	if (n) {
		check_bytes(e, &e->s->rx, n);
		stream_consume(w, e->s, n);
	}
	if (e->gone || e->closed)
		return;
	e->eof = e->s->rx_eof && foil_chain_is_empty(&e->s->rx);
	if (e->release_at && e->n_got >= e->release_at) {
		e->gone = true;
		foil_timer_cancel(w, &e->timer);
		stream_release(w, e->s);
		return;
	}
	if (e->abort_at && e->n_got >= e->abort_at) {
		e->gone = true;
		foil_timer_cancel(w, &e->timer);
		stream_abort(w, e->s);
	}
}

static bool reads_at_will(const struct sim_end *e)
{
	return !e->read_us && e->flow->sim->now_us >= e->flow->opened_us + e->pause_us;
}

static void on_timer(struct foil_worker *w, struct foil_timer *t)
{
	struct sim_end *e = FOIL_CONTAINER_OF(t, struct sim_end, timer);
	uint64_t reads_from_us = e->flow->opened_us + e->pause_us;
	uint32_t again_us = e->read_us ? e->read_us : 50000;

	foil_timer_arm(w, t, w->now_us + again_us, on_timer);
	if (w->now_us >= reads_from_us)
		read_some(w, e, e->read_us ? e->read_bytes : UINT32_MAX);
	if (!e->gone)
		write_some(w, e);
}

static void begin(struct foil_worker *w, struct sim_end *e)
{
	e->is_open = true;
	if (!e->flow->opened_us)
		e->flow->opened_us = w->now_us;
	if (!foil_timer_is_armed(&e->timer))
		foil_timer_arm(w, &e->timer, w->now_us + 20000, on_timer);
	write_some(w, e);
}

static void on_opened(struct foil_worker *w, struct stream *s)
{
	begin(w, s->user_data);
}

static void on_readable(struct foil_worker *w, struct stream *s)
{
	struct sim_end *e = s->user_data;

	if (!reads_at_will(e))
		return;
	read_some(w, e, UINT32_MAX);
	if (!e->gone)
		write_some(w, e);
}

static void on_writable(struct foil_worker *w, struct stream *s)
{
	write_some(w, s->user_data);
}

static void on_closed(struct foil_worker *w, struct stream *s, enum stream_end why)
{
	struct sim_end *e = s->user_data;
	struct sim_flow *f = e->flow;
	struct sim_end *peer = peer_of(e);

	sim_mix(f->sim, &f->id, sizeof(f->id));
	sim_mix(f->sim, &why, sizeof(why));
	foil_timer_cancel(w, &e->timer);
	if (e->closed || e->gone)
		sim_fail(f->sim, "flow %u side %u: closed was told to an end that is gone", f->id, e->side);
	e->closed = true;
	e->why = why;
	f->done_us = f->sim->now_us;
	if (why == STREAM_END_FIN && !f->sim->scenario->raw_input && (!s->rx_eof || e->n_got != peer->n_sent))
		sim_fail(f->sim, "flow %u side %u: ended in order with %llu of %llu bytes", f->id, e->side, (unsigned long long)e->n_got,
			 (unsigned long long)peer->n_sent);
	if (why == STREAM_END_CONNECT_TIMEOUT && f->sim->l[0].p.loss_ppm >= 50000)
		f->may_fail = true; /* seven SYNs lost in a row happen there */
	if (why == STREAM_END_RESET && f->sim->h[!e->host].fault_ppm && s->rx_eof && e->n_got == peer->n_sent)
		f->may_fail = true; /* the peer had no place for TIME-WAIT, and our last FIN came again: all bytes were there */
	if (why != STREAM_END_FIN && !f->may_fail)
		sim_fail(f->sim, "flow %u side %u, port %u: ended with %d after %llu bytes in and %llu out", f->id, e->side, f->port, (int)why,
			 (unsigned long long)e->n_got, (unsigned long long)e->n_sent);
}

static const struct stream_user user = {.opened = on_opened, .readable = on_readable, .writable = on_writable, .closed = on_closed};

bool sim_accept(struct foil_worker *w, struct tcp_listener *l, struct stream *stream)
{
	struct sim_host *h = tcp_listener_data(l);
	struct sim *s = h->sim;

	for (uint32_t i = s->n_flows; i-- > 0;) {
		struct sim_flow *f = &s->flows[i];
		struct sim_end *e = &f->e[1];
		if (!f->is_started || f->port != stream->remote.port || e->host != h->index || e->s)
			continue;
		e->s = stream;
		stream->user = &user;
		stream->user_data = e;
		begin(w, e);
		return true;
	}
	if (!s->rst_expected)
		sim_fail(s, "a connection from port %u that nobody opened", stream->remote.port);
	return false;
}

static int open_end(struct sim_flow *f, uint8_t side, uint16_t local_port, uint16_t remote_port)
{
	struct sim_end *e = &f->e[side];
	struct sim_host *h = &f->sim->h[e->host];
	struct tcp_connect_params p = {.remote = sim_addr(f->sim, !e->host), .remote_port = remote_port, .local_port = local_port, .user = &user,
				       .user_data = e};

	h->w.now_us = f->sim->now_us;
	foil_worker_set_current(&h->w);
	return tcp_connect(&h->w, &p, &e->s);
}

static void start(struct sim *s, uint64_t id)
{
	struct sim_flow *f = &s->flows[id];
	struct sim_host *h = &s->h[f->e[0].host];

	if (!h->up || (f->simultaneous && !s->h[!h->index].up))
		return;
	uint16_t port = f->remote_port ? f->remote_port : SIM_SERVER_PORT;
	int rc = f->simultaneous ? open_end(f, 0, (uint16_t)(20000 + id), (uint16_t)(30000 + id)) : open_end(f, 0, f->local_port, port);
	if (rc) {
		f->e[0].gone = f->e[1].gone = true;
		if (!f->may_fail && !s->refuse_expected)
			sim_fail(s, "flow %u: tcp_connect says %d", f->id, rc);
		return;
	}
	f->is_started = true;
	f->port = f->e[0].s->local.port;
	sim_host_turn(h, NULL, 0);
	if (f->simultaneous) {
		if (open_end(f, 1, (uint16_t)(30000 + id), (uint16_t)(20000 + id)))
			sim_fail(s, "flow %u: the other side's tcp_connect fails", f->id);
		sim_host_turn(&s->h[!h->index], NULL, 0);
	}
}

struct sim_flow *sim_flow_new(struct sim *s, uint8_t opener, uint64_t start_us)
{
	if (s->n_flows == SIM_FLOWS_MAX) {
		sim_fail(s, "too many flows");
		return &s->flows[0];
	}
	struct sim_flow *f = &s->flows[s->n_flows];

	*f = (struct sim_flow){.sim = s, .id = s->n_flows, .start_us = start_us};
	for (uint8_t side = 0; side < 2; side++) {
		uint8_t host = side ? !opener : opener;
		f->e[side] = (struct sim_end){.flow = f, .side = side, .host = host, .piece_bytes = sim_pick(s, 100, 9000)};
	}
	s->n_flows++;
	sim_at(s, start_us, start, f->id);
	return f;
}

void sim_flows_crashed(struct sim *s, uint8_t host)
{
	for (uint32_t i = 0; i < s->n_flows; i++)
		for (uint8_t side = 0; side < 2; side++) {
			struct sim_end *e = &s->flows[i].e[side];
			if (e->host != host || !e->s) /* what was not accepted yet may be, by the host that comes back */
				continue;
			foil_timer_cancel(&s->h[host].w, &e->timer);
			if (!e->closed)
				e->gone = true;
		}
}

void sim_verdict_all_done(struct sim *s)
{
	for (uint32_t i = 0; i < s->n_flows && !s->failed; i++) {
		const struct sim_flow *f = &s->flows[i];
		if (!f->is_started && (f->may_fail || s->refuse_expected))
			continue;
		for (uint8_t side = 0; side < 2; side++)
			if (!f->e[side].closed && !f->e[side].gone && !(f->may_fail && !f->e[side].s))
				sim_fail(s, "flow %u side %u: not ended at %llu ms, %llu bytes in, %llu of %llu out%s", f->id, side,
					 (unsigned long long)s->now_us / 1000, (unsigned long long)f->e[side].n_got,
					 (unsigned long long)f->e[side].n_sent, (unsigned long long)f->e[side].to_send,
					 f->e[side].s ? "" : ", never accepted");
	}
}
