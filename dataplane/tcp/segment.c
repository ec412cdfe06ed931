/* One segment, from its parts to an mbuf: header and options in a fresh mbuf, payload behind it by reference or, when small or
 * in many pieces, copied. net computes the checksum. Also the segments without a connection: RST and the like. */
#include <rte_byteorder.h>

#include "dataplane/tcp/tcp_priv.h"

static void put_header(struct rte_mbuf *m, const struct tcp_segment_spec *spec)
{
	struct rte_tcp_hdr *h = rte_pktmbuf_mtod(m, struct rte_tcp_hdr *);
	uint32_t opt_bytes = spec->opt ? tcp_options_emit(spec->opt, (uint8_t *)(h + 1)) : 0;

	h->src_port = rte_cpu_to_be_16(spec->key->local.port);
	h->dst_port = rte_cpu_to_be_16(spec->key->remote.port);
	h->sent_seq = rte_cpu_to_be_32(spec->seq);
	h->recv_ack = rte_cpu_to_be_32(spec->ack);
	h->data_off = (uint8_t)((TCP_HDR_BYTES + opt_bytes) / 4 << 4);
	h->tcp_flags = spec->flags;
	h->rx_win = rte_cpu_to_be_16((uint16_t)spec->wnd);
	h->cksum = 0;
	h->tcp_urp = 0;
	m->data_len = (uint16_t)(TCP_HDR_BYTES + opt_bytes);
	m->pkt_len = m->data_len;
}

static uint32_t count_pieces(const struct tcp_segment_spec *spec)
{
	uint32_t n = 1, left = spec->payload_bytes, at = spec->payload_at;

	for (const struct rte_mbuf *p = spec->payload_m;; n++) {
		uint32_t here = (uint32_t)p->data_off + p->data_len - at;
		if (here >= left)
			return n;
		left -= here;
		p = p->next;
		at = p->data_off;
	}
}

static void copy_payload(struct rte_mbuf *m, const struct tcp_segment_spec *spec)
{
	uint8_t *to = rte_pktmbuf_mtod_offset(m, uint8_t *, m->data_len);
	uint32_t left = spec->payload_bytes, at = spec->payload_at;

	for (const struct rte_mbuf *p = spec->payload_m; left; p = p->next, at = p ? p->data_off : 0) {
		uint32_t n = FOIL_MIN(left, (uint32_t)p->data_off + p->data_len - at);
		memcpy(to, (const uint8_t *)p->buf_addr + at, n);
		to += n;
		left -= n;
	}
	m->data_len = (uint16_t)(m->data_len + spec->payload_bytes);
	m->pkt_len = m->data_len;
}

static bool refer_payload(struct foil_worker *w, struct rte_mbuf *m, const struct tcp_segment_spec *spec)
{
	struct rte_mbuf *last = m;
	uint32_t left = spec->payload_bytes, at = spec->payload_at;

	for (struct rte_mbuf *p = spec->payload_m; left; p = p->next, at = p ? p->data_off : 0) {
		struct rte_mbuf *ref = rte_pktmbuf_alloc(w->indirect_pool);
		if (FOIL_UNLIKELY(!ref))
			return false;
		rte_pktmbuf_attach(ref, p);
		uint32_t n = FOIL_MIN(left, (uint32_t)p->data_off + p->data_len - at);
		ref->data_off = (uint16_t)at;
		ref->data_len = (uint16_t)n;
		ref->pkt_len = n;
		ref->nb_segs = 1;
		ref->next = NULL;
		last->next = ref;
		last = ref;
		m->nb_segs++;
		m->pkt_len += n;
		left -= n;
	}
	return true;
}

static bool add_payload(struct foil_worker *w, struct rte_mbuf *m, const struct tcp_segment_spec *spec)
{
	bool want_copy = spec->payload_bytes <= TCP_TX_COPY_BYTES_MAX || (spec->dst && spec->dst->single_seg) ||
			 count_pieces(spec) > TCP_TX_MBUFS_PER_SEG_MAX;

	if (want_copy && spec->payload_bytes <= rte_pktmbuf_tailroom(m)) {
		if (spec->payload_bytes > TCP_TX_COPY_BYTES_MAX && spec->dst && !spec->dst->single_seg)
			FOIL_PROBE(w, TCP, TX_COPIED_WHOLE);
		copy_payload(m, spec);
		return true;
	}
	return refer_payload(w, m, spec);
}

bool tcp_segment_send(struct foil_worker *w, const struct tcp_segment_spec *spec)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(w->mbuf_pool);

	if (FOIL_UNLIKELY(!m)) {
		foil_count(w, CORE, MBUF_EXHAUSTED, 1);
		foil_reason(w, TCP, TX_NO_MBUF);
		return false;
	}
	put_header(m, spec);
	if (spec->payload_bytes && FOIL_UNLIKELY(!add_payload(w, m, spec))) {
		rte_pktmbuf_free(m);
		foil_count(w, CORE, MBUF_EXHAUSTED, 1);
		foil_reason(w, TCP, TX_NO_MBUF);
		return false;
	}
	if (spec->segment_bytes) {
		m->ol_flags |= RTE_MBUF_F_TX_TCP_SEG;
		m->tso_segsz = spec->segment_bytes;
		foil_count(w, TCP, SEGMENTS_TX, (spec->payload_bytes + spec->segment_bytes - 1) / spec->segment_bytes);
		foil_count(w, TCP, TSO_TRAINS_TX, 1);
		FOIL_PROBE(w, TCP, TSO_TRAIN);
	} else {
		foil_count(w, TCP, SEGMENTS_TX, 1);
	}
	net_ip_output(w, m, tcp_addr(&spec->key->local), tcp_addr(&spec->key->remote), TCP_PROTO, spec->tos, spec->dst);
	return true;
}

bool tcp_answer_allowed(struct foil_worker *w)
{
	struct tcp_ctx *t = w->tcp;

	if (w->now_us - t->answers_at_us >= 1000000) {
		t->answers_at_us = w->now_us;
		t->n_answers = 0;
	}
	if (t->n_answers >= TCP_ANSWERS_PER_SECOND) {
		foil_reason(w, TCP, ANSWER_LIMITED);
		return false;
	}
	t->n_answers++;
	return true;
}

/* RFC 9293 3.5.2 group 1: the RST takes its numbers from the segment that it answers. */
void tcp_send_rst_for(struct foil_worker *w, const struct tcp_seg *seg)
{
	struct tcp_segment_spec spec = {.key = &seg->key, .flags = RTE_TCP_RST_FLAG};

	if ((seg->flags & RTE_TCP_RST_FLAG) || !tcp_answer_allowed(w))
		return;
	if (seg->flags & RTE_TCP_ACK_FLAG) {
		spec.seq = seg->ack;
	} else {
		spec.ack = seg->seq + seg->n_bytes + !!(seg->flags & RTE_TCP_SYN_FLAG) + !!(seg->flags & RTE_TCP_FIN_FLAG);
		spec.flags |= RTE_TCP_ACK_FLAG;
	}
	if (tcp_segment_send(w, &spec))
		foil_count(w, TCP, RSTS_TX, 1);
}
