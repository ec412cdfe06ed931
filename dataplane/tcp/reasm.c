/* Segments above rcv_nxt, kept by reference until the hole before them is filled (RFC 9293 3.4, RFC 2018 4).
 *
 * Bounded: in ranges (holes), and in mbufs by the receive buffer, so that tiny segments cannot hold more memory than the buffer is
 * worth. Where new bytes overlap what is there, what came first stays, but for ranges that they cover whole: one piece replaces many.
 * Invariant: ranges are disjoint, not adjacent, ordered by seq, and all above rcv_nxt; a connection with ranges has a tcp_rare, whose ooo_recent has the
 * latest touched first. */
#include "dataplane/tcp/tcp_priv.h"

static struct tcp_ooo *range_of(struct tcp_node *by_seq)
{
	return FOIL_CONTAINER_OF(by_seq, struct tcp_ooo, by_seq);
}

static uint32_t count_mbufs(const struct rte_mbuf *m)
{
	uint32_t n = 0;

	for (; m; m = m->next)
		n++;
	return n;
}

void tcp_chain_cut_tail(struct foil_chain *chain, uint32_t n_keep)
{
	uint32_t left = n_keep;

	if (n_keep >= chain->n_bytes)
		return;
	if (!n_keep) {
		foil_chain_clear(chain);
		return;
	}
	struct rte_mbuf *m = chain->head;
	while (left > m->data_len) {
		left -= m->data_len;
		m = m->next;
	}
	struct foil_chain rest = {m->next, chain->tail, chain->n_bytes - n_keep};
	m->data_len = (uint16_t)left;
	m->next = NULL;
	chain->tail = m;
	chain->n_bytes = n_keep;
	if (rest.head)
		foil_chain_clear(&rest);
}

void tcp_rx_append(struct foil_chain *to, struct foil_chain *own_from)
{
	struct rte_mbuf *m = own_from->head, *tail = to->tail;

	if (m && !m->next && tail && m->data_len <= TCP_RX_COPY_BYTES_MAX && RTE_MBUF_DIRECT(tail) && rte_mbuf_refcnt_read(tail) == 1 &&
	    rte_pktmbuf_tailroom(tail) >= m->data_len) {
		memcpy(rte_pktmbuf_mtod_offset(tail, void *, tail->data_len), rte_pktmbuf_mtod(m, const void *), m->data_len);
		tail->data_len = (uint16_t)(tail->data_len + m->data_len);
		to->n_bytes += m->data_len;
		foil_chain_clear(own_from);
		return;
	}
	foil_chain_move(to, own_from);
}

static void range_free(struct foil_worker *w, struct tcp_conn *c, struct tcp_ooo *o)
{
	c->rare->n_ooo_bytes -= o->chain.n_bytes;
	c->rare->n_ooo_mbufs -= count_mbufs(o->chain.head);
	c->rare->n_ooo_ranges--;
	foil_chain_clear(&o->chain);
	tcp_node_remove(&o->by_seq);
	tcp_node_remove(&o->by_recency);
	tcp_pool_put(&w->tcp->ooos, o);
}

/* own_chain's bytes follow the range's end. */
static void range_append(struct tcp_conn *c, struct tcp_ooo *o, struct foil_chain *own_chain)
{
	const struct rte_mbuf *tail_before = o->chain.tail;
	uint32_t n_mbufs = count_mbufs(own_chain->head);

	o->end += own_chain->n_bytes;
	c->rare->n_ooo_bytes += own_chain->n_bytes;
	tcp_rx_append(&o->chain, own_chain);
	if (o->chain.tail != tail_before) /* else it was copied into the tail's room */
		c->rare->n_ooo_mbufs += n_mbufs;
	tcp_node_remove(&o->by_recency);
	tcp_list_push_front(&c->rare->ooo_recent, &o->by_recency);
}

static struct tcp_ooo *range_new(struct foil_worker *w, struct tcp_conn *c, struct tcp_node *before, uint32_t seq)
{
	struct tcp_ooo *o = c->rare->n_ooo_ranges < TCP_OOO_RANGES_MAX ? tcp_pool_get(&w->tcp->ooos) : NULL;

	if (c->rare->n_ooo_ranges >= TCP_OOO_RANGES_MAX)
		FOIL_PROBE(w, TCP, OOO_RANGES_FULL);
	if (!o)
		return NULL;
	o->seq = o->end = seq;
	tcp_list_push_back(before, &o->by_seq); /* before its successor */
	c->rare->n_ooo_ranges++;
	return o;
}

static struct tcp_node *last_not_after(const struct tcp_conn *c, uint32_t seq)
{
	struct tcp_node *n = c->rare->ooo.prev;

	while (n != &c->rare->ooo && seq_gt(range_of(n)->seq, seq))
		n = n->prev;
	return n;
}

/* Frees what the new bytes [seq, seq + chain) cover whole, and cuts from them what the first range behind them has. */
static void cut_by_followers(struct foil_worker *w, struct tcp_conn *c, struct tcp_node *follower, uint32_t seq, struct foil_chain *chain)
{
	while (follower != &c->rare->ooo) {
		struct tcp_ooo *o = range_of(follower);
		follower = follower->next;
		uint32_t end = seq + chain->n_bytes;
		if (seq_geq(o->seq, end))
			return;
		if (seq_gt(o->end, end)) {
			FOIL_PROBE(w, TCP, OOO_CUT);
			tcp_chain_cut_tail(chain, o->seq - seq);
			return;
		}
		FOIL_PROBE(w, TCP, OOO_COVERED);
		range_free(w, c, o);
	}
}

static void merge_with_next(struct foil_worker *w, struct tcp_conn *c, struct tcp_ooo *o)
{
	struct tcp_node *next = o->by_seq.next;

	if (next == &c->rare->ooo || range_of(next)->seq != o->end)
		return;
	struct tcp_ooo *gone = range_of(next);
	foil_chain_move(&o->chain, &gone->chain); /* mbufs and bytes stay in the connection's sums */
	o->end = gone->end;
	tcp_node_remove(&gone->by_seq);
	tcp_node_remove(&gone->by_recency);
	c->rare->n_ooo_ranges--;
	tcp_pool_put(&w->tcp->ooos, gone);
}

/* Where the new bytes go: an existing range that they extend, or a new one. NULL: full. */
static struct tcp_ooo *range_for(struct foil_worker *w, struct tcp_conn *c, struct tcp_node *before, uint32_t seq)
{
	if (c->rare->n_ooo_mbufs >= c->rcv_buf_bytes / TCP_OOO_MBUF_BYTES_MIN) {
		FOIL_PROBE(w, TCP, OOO_MBUFS_FULL);
		return NULL;
	}
	if (before != &c->rare->ooo && range_of(before)->end == seq)
		return range_of(before);
	return range_new(w, c, before->next, seq);
}

enum tcp_reason tcp_reasm_insert(struct foil_worker *w, struct tcp_conn *c, uint32_t seq, struct foil_chain *own_chain)
{
	if (!tcp_rare_need(w, c)) {
		tcp_conn_drop_note(w, c, own_chain->head, TCP_REASON_OOO_FULL);
		foil_chain_clear(own_chain);
		return TCP_REASON_OOO_FULL;
	}
	struct tcp_node *before = last_not_after(c, seq);

	if (before != &c->rare->ooo && seq_gt(range_of(before)->end, seq)) {
		uint32_t known = range_of(before)->end - seq;
		c->dsack = (struct tcp_sack_block){seq, seq + FOIL_MIN(known, own_chain->n_bytes)};
		c->dsack_owed = c->has_sack;
		if (known >= own_chain->n_bytes) {
			tcp_conn_drop_note(w, c, own_chain->head, TCP_REASON_DUPLICATE);
			foil_chain_clear(own_chain);
			return TCP_REASON_DUPLICATE;
		}
		foil_chain_consume(own_chain, known);
		seq += known;
	}
	cut_by_followers(w, c, before->next, seq, own_chain);
	struct tcp_ooo *o = range_for(w, c, before, seq);
	if (!o) {
		tcp_conn_drop_note(w, c, own_chain->head, TCP_REASON_OOO_FULL);
		foil_chain_clear(own_chain);
		return TCP_REASON_OOO_FULL;
	}
	range_append(c, o, own_chain);
	merge_with_next(w, c, o);
	return TCP_REASON_OK;
}

void tcp_reasm_pull(struct foil_worker *w, struct tcp_conn *c)
{
	struct tcp_node *n;

	if (!c->rare)
		return;
	while ((n = tcp_list_first(&c->rare->ooo)) && seq_leq(range_of(n)->seq, c->rcv_nxt)) {
		struct tcp_ooo *o = range_of(n);
		if (seq_gt(o->end, c->rcv_nxt)) {
			struct foil_chain chain = o->chain;
			uint32_t known = c->rcv_nxt - o->seq;
			c->rare->n_ooo_bytes -= chain.n_bytes;
			c->rare->n_ooo_mbufs -= count_mbufs(chain.head);
			o->chain = (struct foil_chain){0};
			foil_chain_consume(&chain, known);
			foil_count(w, TCP, BYTES_RX, chain.n_bytes);
			c->rcv_nxt = o->end;
			tcp_rx_append(&c->s.rx, &chain);
		}
		range_free(w, c, o);
	}
	tcp_rare_rest(w, c);
}

void tcp_reasm_clear(struct foil_worker *w, struct tcp_conn *c)
{
	struct tcp_node *n;

	while (c->rare && (n = tcp_list_first(&c->rare->ooo)))
		range_free(w, c, range_of(n));
}

uint8_t tcp_reasm_sack_blocks(const struct tcp_conn *c, struct tcp_sack_block *out, uint8_t n_max)
{
	uint8_t n_blocks = 0;

	if (!c->rare)
		return 0;
	for (struct tcp_node *n = c->rare->ooo_recent.next; n != &c->rare->ooo_recent && n_blocks < n_max; n = n->next) {
		const struct tcp_ooo *o = FOIL_CONTAINER_OF(n, struct tcp_ooo, by_recency);
		out[n_blocks++] = (struct tcp_sack_block){o->seq, o->end};
	}
	return n_blocks;
}
