/* How fast the path delivers (draft-cheng-iccrg-delivery-rate-estimation): each segment remembers what had been delivered when it
 * left; its acknowledgement tells how much came through since, and in what time. Only for algorithms that want it (tcp_cc.on_rate).
 * What is remembered lies beside the records, in a table of its own, so that a record stays one cache line.
 * Times are microseconds modulo 2^32; no interval of interest is that long. */
#include "dataplane/tcp/tcp_priv.h"

struct tcp_sent_rate {
	uint32_t delivered, delivered_us, first_sent_us;
	uint32_t is_app_limited;
};
static_assert(sizeof(struct tcp_sent_rate) == TCP_SENT_RATE_BYTES, "what the table is made for");

static struct tcp_sent_rate *rate_of(const struct foil_worker *w, const struct tcp_sent *r)
{
	return tcp_pool_at(&w->tcp->rates, tcp_pool_index(&w->tcp->sents, r));
}

void tcp_rate_sent(struct foil_worker *w, struct tcp_conn *c, const struct tcp_sent *r)
{
	if (!c->cc->on_rate)
		return;
	if (tcp_list_first(&c->sent) == &r->by_seq && !(r->flags & TCP_SENT_RETRANS)) /* the path was empty: time begins now */
		c->rate.first_sent_us = c->rate.delivered_us = (uint32_t)w->now_us;
	*rate_of(w, r) = (struct tcp_sent_rate){c->rate.delivered, c->rate.delivered_us, c->rate.first_sent_us, c->rate.app_limited_until != 0};
}

void tcp_rate_split(struct foil_worker *w, const struct tcp_conn *c, const struct tcp_sent *from, const struct tcp_sent *to)
{
	if (c->cc->on_rate)
		*rate_of(w, to) = *rate_of(w, from);
}

void tcp_rate_delivered(struct foil_worker *w, struct tcp_conn *c, const struct tcp_sent *r, struct tcp_rate *s)
{
	if (!c->cc->on_rate)
		return;
	const struct tcp_sent_rate *x = rate_of(w, r);
	c->rate.delivered += r->end - r->seq;
	c->rate.delivered_us = (uint32_t)w->now_us;
	s->delivered_now += r->end - r->seq;
	if (s->is_valid && seq_lt(x->delivered, s->prior_delivered))
		return; /* another one of this ACK left later */
	s->is_valid = true;
	s->is_app_limited = x->is_app_limited;
	s->prior_delivered = x->delivered;
	s->prior_us = x->delivered_us;
	s->send_us = (uint32_t)r->xmit_us - x->first_sent_us;
	c->rate.first_sent_us = (uint32_t)r->xmit_us;
}

/* Without SACK what a duplicate ACK tells counts when it comes, not again when the hole before it is filled. */
void tcp_rate_delivered_without_sack(struct tcp_conn *c, struct tcp_rate *s, uint32_t delivered_bytes)
{
	if (!c->cc->on_rate)
		return;
	c->rate.delivered += delivered_bytes - s->delivered_now;
	s->delivered_now = delivered_bytes;
}

void tcp_rate_finish(struct foil_worker *w, struct tcp_conn *c, struct tcp_rate *s)
{
	if (!c->cc->on_rate)
		return;
	if (c->rate.app_limited_until && seq_gt(c->rate.delivered, c->rate.app_limited_until))
		c->rate.app_limited_until = 0;
	if (s->is_valid) {
		s->delivered = c->rate.delivered - s->prior_delivered;
		s->interval_us = FOIL_MAX(s->send_us, (uint32_t)w->now_us - s->prior_us); /* ACKs that come in a bundle look too fast */
		if (s->interval_us < FOIL_MAX(c->min_rtt_us, 1u))
			s->is_valid = false;
	}
	c->cc->on_rate(w, c, s);
}

/* Nothing is left to send and the window has room: what is measured from here on is the user's speed, not the path's. */
void tcp_rate_check_app_limited(struct tcp_conn *c)
{
	uint32_t in_flight = tcp_in_flight(c);

	if (!c->cc->on_rate || tcp_unsent_bytes(c) || c->n_lost_bytes || in_flight >= c->cwnd)
		return;
	c->rate.app_limited_until = c->rate.delivered + in_flight;
	if (!c->rate.app_limited_until)
		c->rate.app_limited_until = 1;
}
