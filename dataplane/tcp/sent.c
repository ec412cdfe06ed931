/* The records of what is in flight: added at the first transmission, freed by the cumulative ACK. The scoreboard of RFC 6675 and
 * the transmission order of RFC 8985 are both flags and lists of these.
 * Invariant: by sequence the records cover [snd_una, snd_nxt) without gaps (but for a partly acknowledged first one, which is
 * trimmed); n_sacked_bytes and n_lost_bytes are the sums over flagged records; none is both SACKed and lost. */
#include "dataplane/tcp/tcp_priv.h"

struct tcp_sent *tcp_sent_add(struct foil_worker *w, struct tcp_conn *c, uint32_t seq, uint32_t end, struct rte_mbuf *m, uint16_t at,
			      uint8_t flags)
{
	struct tcp_sent *r = tcp_pool_get(&w->tcp->sents);

	if (FOIL_UNLIKELY(!r)) {
		foil_reason(w, TCP, TX_NO_RECORD);
		return NULL;
	}
	r->seq = seq;
	r->end = end;
	r->m = m;
	r->at = at;
	r->flags = flags;
	r->xmit_us = w->now_us;
	tcp_list_push_back(&c->sent, &r->by_seq);
	tcp_list_push_back(&c->rack_order, &r->by_time);
	tcp_rate_sent(w, c, r);
	return r;
}

void tcp_sent_resent(struct foil_worker *w, struct tcp_conn *c, struct tcp_sent *r)
{
	if (r->flags & TCP_SENT_LOST)
		c->n_lost_bytes -= r->end - r->seq;
	c->n_resent++;
	c->resent_bytes += r->end - r->seq;
	r->flags = (uint8_t)((r->flags & ~TCP_SENT_LOST) | TCP_SENT_RETRANS);
	r->xmit_us = w->now_us;
	tcp_node_remove(&r->by_time);
	tcp_list_push_back(&c->rack_order, &r->by_time);
	tcp_rate_sent(w, c, r);
}

void tcp_sent_mark_lost(struct tcp_conn *c, struct tcp_sent *r)
{
	if (r->flags & (TCP_SENT_LOST | TCP_SENT_SACKED))
		return;
	r->flags |= TCP_SENT_LOST;
	c->n_lost_bytes += r->end - r->seq;
	tcp_node_remove(&r->by_time);
}

void tcp_sent_mark_sacked(struct tcp_conn *c, struct tcp_sent *r)
{
	if (r->flags & TCP_SENT_SACKED)
		return;
	if (r->flags & TCP_SENT_LOST)
		c->n_lost_bytes -= r->end - r->seq;
	r->flags = (uint8_t)((r->flags & ~TCP_SENT_LOST) | TCP_SENT_SACKED);
	c->n_sacked_bytes += r->end - r->seq;
	tcp_node_remove(&r->by_time);
}

/* After a timeout. A first record that was SACKed means that the peer threw away what it had (RFC 2018 8): then nothing of the
 * scoreboard holds any more. */
void tcp_sent_mark_all_lost(struct tcp_conn *c)
{
	struct tcp_sent *first = tcp_sent_of(tcp_list_first(&c->sent));
	bool is_reneged = first && (first->flags & TCP_SENT_SACKED);

	for (struct tcp_node *n = c->sent.next; n != &c->sent; n = n->next) {
		struct tcp_sent *r = tcp_sent_of(n);
		if (is_reneged && (r->flags & TCP_SENT_SACKED)) {
			r->flags &= (uint8_t)~TCP_SENT_SACKED;
			c->n_sacked_bytes -= r->end - r->seq;
		}
		tcp_sent_mark_lost(c, r);
	}
	if (is_reneged && c->rare)
		memset(c->rare->sack_seen, 0, sizeof(c->rare->sack_seen));
}

void tcp_sent_free(struct foil_worker *w, struct tcp_conn *c, struct tcp_sent *r)
{
	if (r->flags & TCP_SENT_SACKED)
		c->n_sacked_bytes -= r->end - r->seq;
	if (r->flags & TCP_SENT_LOST)
		c->n_lost_bytes -= r->end - r->seq;
	if (FOIL_UNLIKELY(c->rare != NULL) && c->rare->sack_hint == r)
		c->rare->sack_hint = NULL;
	tcp_node_remove(&r->by_seq);
	tcp_node_remove(&r->by_time);
	tcp_pool_put(&w->tcp->sents, r);
}

void tcp_sent_clear(struct foil_worker *w, struct tcp_conn *c)
{
	struct tcp_node *n;

	while ((n = tcp_list_first(&c->sent)))
		tcp_sent_free(w, c, tcp_sent_of(n));
}

/* Where the byte n_bytes behind the record's start lies. */
static void position_after(const struct tcp_sent *r, uint32_t n_bytes, struct rte_mbuf **m, uint16_t *at)
{
	struct rte_mbuf *p = r->m;
	uint32_t offset = r->at + n_bytes;

	while (p && offset >= (uint32_t)p->data_off + p->data_len && p->next) {
		offset -= (uint32_t)p->data_off + p->data_len;
		p = p->next;
		offset += p->data_off;
	}
	*m = p;
	*at = (uint16_t)offset;
}

bool tcp_sent_split(struct foil_worker *w, struct tcp_conn *c, struct tcp_sent *r, uint32_t n_bytes)
{
	struct tcp_sent *rest = tcp_pool_get(&w->tcp->sents);

	if (!rest) {
		foil_reason(w, TCP, TX_NO_RECORD);
		return false;
	}
	rest->seq = r->seq + n_bytes;
	rest->end = r->end;
	rest->flags = r->flags;
	rest->xmit_us = r->xmit_us;
	position_after(r, n_bytes, &rest->m, &rest->at);
	tcp_rate_split(w, c, r, rest);
	r->end = rest->seq;
	r->flags &= (uint8_t)~TCP_SENT_FIN;
	tcp_list_push_front(&r->by_seq, &rest->by_seq);
	if (tcp_node_is_on(&r->by_time))
		tcp_list_push_front(&r->by_time, &rest->by_time);
	return true;
}

struct tcp_sent *tcp_sent_first_lost(const struct tcp_conn *c)
{
	if (!c->n_lost_bytes)
		return NULL;
	for (struct tcp_node *n = c->sent.next; n != &c->sent; n = n->next)
		if (tcp_sent_of(n)->flags & TCP_SENT_LOST)
			return tcp_sent_of(n);
	FOIL_UNREACHABLE();
}
