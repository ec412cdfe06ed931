/* mbuf chains as byte queues. Sharing is by indirect mbufs (rte_pktmbuf_attach), so that no payload byte is copied when a
 * chain is cut, sent again or mirrored.
 * Invariant: n_bytes is the sum of data_len; head and tail are both NULL or both set; tail->next is NULL. */
#include "dataplane/core/chain.h"

#include <errno.h>

#include "dataplane/core/worker.h"

void foil_chain_free(struct foil_chain *c)
{
	struct rte_mbuf *m = c->head;

	while (m) {
		struct rte_mbuf *next = m->next;
		rte_pktmbuf_free_seg(m);
		m = next;
	}
	*c = (struct foil_chain){0};
}

static void append_seg(struct foil_chain *to, struct rte_mbuf *m)
{
	m->next = NULL;
	if (to->tail)
		to->tail->next = m;
	else
		to->head = m;
	to->tail = m;
	to->n_bytes += m->data_len;
}

void foil_chain_append_mbuf(struct foil_chain *to, struct rte_mbuf *own_m)
{
	while (own_m) {
		struct rte_mbuf *next = own_m->next;
		own_m->nb_segs = 1;
		if (own_m->data_len)
			append_seg(to, own_m);
		else {
			own_m->next = NULL;
			rte_pktmbuf_free_seg(own_m);
		}
		own_m = next;
	}
}

void foil_chain_consume_slow(struct foil_chain *c, uint32_t n_bytes)
{
	FOIL_ASSERT(n_bytes <= c->n_bytes);
	c->n_bytes -= n_bytes;
	while (n_bytes) {
		struct rte_mbuf *m = c->head;
		if (m->data_len > n_bytes) {
			m->data_off = (uint16_t)(m->data_off + n_bytes);
			m->data_len = (uint16_t)(m->data_len - n_bytes);
			return;
		}
		n_bytes -= m->data_len;
		c->head = m->next;
		if (!c->head)
			c->tail = NULL;
		m->next = NULL;
		rte_pktmbuf_free_seg(m);
	}
}

/* A reference to n_bytes of m from offset. */
static struct rte_mbuf *seg_share(struct foil_worker *w, struct rte_mbuf *m, uint32_t offset, uint32_t n_bytes)
{
	struct rte_mbuf *ref = rte_pktmbuf_alloc(w->indirect_pool);

	if (FOIL_UNLIKELY(!ref)) {
		foil_count(w, CORE, MBUF_EXHAUSTED, 1);
		return NULL;
	}
	rte_pktmbuf_attach(ref, m);
	ref->data_off = (uint16_t)(m->data_off + offset);
	ref->data_len = (uint16_t)n_bytes;
	ref->pkt_len = n_bytes;
	ref->nb_segs = 1;
	ref->next = NULL;
	return ref;
}

int foil_chain_split(struct foil_worker *w, struct foil_chain *from, uint32_t n_bytes, struct foil_chain *to)
{
	FOIL_ASSERT(n_bytes <= from->n_bytes);
	if (n_bytes == 0)
		return 0;
	if (n_bytes == from->n_bytes) {
		foil_chain_move(to, from);
		return 0;
	}
	uint32_t left = n_bytes;
	struct rte_mbuf *last = NULL, *cut = from->head;
	while (left >= cut->data_len) {
		left -= cut->data_len;
		last = cut;
		cut = cut->next;
	}
	struct rte_mbuf *part = NULL;
	if (left) {
		part = seg_share(w, cut, 0, left);
		if (!part)
			return -ENOBUFS;
		cut->data_off = (uint16_t)(cut->data_off + left);
		cut->data_len = (uint16_t)(cut->data_len - left);
	}
	if (last) {
		struct foil_chain whole = {from->head, last, n_bytes - left};
		last->next = NULL;
		foil_chain_move(to, &whole);
	}
	if (part)
		append_seg(to, part);
	from->head = cut;
	from->n_bytes -= n_bytes;
	return 0;
}

static bool is_writable_seg(const struct rte_mbuf *m)
{
	return RTE_MBUF_DIRECT(m) && rte_mbuf_refcnt_read(m) == 1;
}

int foil_chain_append(struct foil_worker *w, struct foil_chain *to, const void *data, uint32_t n_bytes)
{
	const uint8_t *p = data;
	struct foil_chain fresh = {0};
	uint32_t in_tail = 0;

	if (to->tail && is_writable_seg(to->tail))
		in_tail = FOIL_MIN(n_bytes, (uint32_t)rte_pktmbuf_tailroom(to->tail));
	for (uint32_t done = in_tail; done < n_bytes;) {
		struct rte_mbuf *m = rte_pktmbuf_alloc(w->mbuf_pool);
		if (FOIL_UNLIKELY(!m)) {
			foil_count(w, CORE, MBUF_EXHAUSTED, 1);
			foil_chain_clear(&fresh);
			return -ENOBUFS;
		}
		uint32_t n = FOIL_MIN(n_bytes - done, (uint32_t)rte_pktmbuf_tailroom(m));
		memcpy(rte_pktmbuf_mtod(m, void *), p + done, n);
		m->data_len = (uint16_t)n;
		append_seg(&fresh, m);
		done += n;
	}
	if (in_tail) {
		memcpy(rte_pktmbuf_mtod_offset(to->tail, void *, to->tail->data_len), p, in_tail);
		to->tail->data_len = (uint16_t)(to->tail->data_len + in_tail);
		to->n_bytes += in_tail;
	}
	foil_chain_move(to, &fresh);
	return 0;
}

void foil_chain_copy_out(const struct foil_chain *c, uint32_t offset, void *out, uint32_t n_bytes)
{
	uint8_t *p = out;

	FOIL_ASSERT(offset <= c->n_bytes && n_bytes <= c->n_bytes - offset);
	for (const struct rte_mbuf *m = c->head; n_bytes; m = m->next) {
		if (offset >= m->data_len) {
			offset -= m->data_len;
			continue;
		}
		uint32_t n = FOIL_MIN(n_bytes, (uint32_t)m->data_len - offset);
		memcpy(p, rte_pktmbuf_mtod_offset(m, const void *, offset), n);
		p += n;
		n_bytes -= n;
		offset = 0;
	}
}

int foil_chain_share(struct foil_worker *w, const struct foil_chain *from, uint32_t offset, uint32_t n_bytes, struct foil_chain *to)
{
	FOIL_ASSERT(offset <= from->n_bytes && n_bytes <= from->n_bytes - offset);
	for (struct rte_mbuf *m = from->head; n_bytes; m = m->next) {
		if (offset >= m->data_len) {
			offset -= m->data_len;
			continue;
		}
		uint32_t n = FOIL_MIN(n_bytes, (uint32_t)m->data_len - offset);
		struct rte_mbuf *ref = seg_share(w, m, offset, n);
		if (!ref) {
			foil_chain_clear(to);
			return -ENOBUFS;
		}
		append_seg(to, ref);
		n_bytes -= n;
		offset = 0;
	}
	return 0;
}
