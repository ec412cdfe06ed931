/* Byte queues made of mbufs: what flows between tcp, tls, codecs and proxies without being copied.
 *
 * A chain is a singly linked list of mbuf segments (by mbuf->next) of which only data_off and data_len count; nb_segs and
 * pkt_len are not kept. Every segment has data_len > 0. A segment may be indirect or shared (refcnt > 1), so the bytes
 * of a chain are read-only unless its owner made the segment itself. Memory comes from w->mbuf_pool. */
#pragma once

#include <rte_mbuf.h>

#include "dataplane/core/base.h"

struct foil_worker;

struct foil_chain {
	struct rte_mbuf *head, *tail;
	uint32_t n_bytes;
};

static inline bool foil_chain_is_empty(const struct foil_chain *c)
{
	return c->n_bytes == 0;
}

/* Bytes that foil_chain_append would put behind the last segment's, without taking another. */
static inline uint32_t foil_chain_tailroom(const struct foil_chain *c)
{
	return c->tail && RTE_MBUF_DIRECT(c->tail) && rte_mbuf_refcnt_read(c->tail) == 1 ? rte_pktmbuf_tailroom(c->tail) : 0;
}

void foil_chain_free(struct foil_chain *c); /* foil_chain_clear of one that is not empty */

/* Frees every segment; the chain is empty and usable again. */
static inline void foil_chain_clear(struct foil_chain *c)
{
	if (c->head)
		foil_chain_free(c);
}

/* Moves all of own_from to the end of to, by reference; own_from is empty afterwards. */
static inline void foil_chain_move(struct foil_chain *to, struct foil_chain *own_from)
{
	if (!own_from->head)
		return;
	if (to->tail)
		to->tail->next = own_from->head;
	else
		to->head = own_from->head;
	to->tail = own_from->tail;
	to->n_bytes += own_from->n_bytes;
	*own_from = (struct foil_chain){0};
}

/* Takes a packet's segments (data_off already past the headers) into the chain; empty segments are freed. */
void foil_chain_append_mbuf(struct foil_chain *to, struct rte_mbuf *own_m);
/* The same when more than a part of the first segment goes. */
void foil_chain_consume_slow(struct foil_chain *c, uint32_t n_bytes);
/* Drops n_bytes (<= c->n_bytes) from the front. */
static inline void foil_chain_consume(struct foil_chain *c, uint32_t n_bytes)
{
	struct rte_mbuf *m = c->head;

	if (!m || n_bytes >= m->data_len) {
		foil_chain_consume_slow(c, n_bytes);
		return;
	}
	m->data_off = (uint16_t)(m->data_off + n_bytes);
	m->data_len = (uint16_t)(m->data_len - n_bytes);
	c->n_bytes -= n_bytes;
}
/* Moves the first n_bytes (<= from->n_bytes) to the end of to; a segment cut in two is shared by an indirect mbuf. 0, or
 * -ENOBUFS with both chains unchanged. */
int foil_chain_split(struct foil_worker *w, struct foil_chain *from, uint32_t n_bytes, struct foil_chain *to) FOIL_MUST_USE;
/* Copies bytes to the end, into tail room that the chain's owner may write (refcnt 1, direct) or fresh mbufs. 0, or
 * -ENOBUFS with the chain unchanged. */
int foil_chain_append(struct foil_worker *w, struct foil_chain *to, const void *data, uint32_t n_bytes) FOIL_MUST_USE;
/* Copies n_bytes from offset (offset + n_bytes <= c->n_bytes) to out. */
void foil_chain_copy_out(const struct foil_chain *c, uint32_t offset, void *out, uint32_t n_bytes);
/* Makes to (empty) a second reference to n_bytes of from at offset, by indirect mbufs: for retries and mirrors, which
 * send the same bytes again. 0 or -ENOBUFS, to stays empty then. */
int foil_chain_share(struct foil_worker *w, const struct foil_chain *from, uint32_t offset, uint32_t n_bytes,
		     struct foil_chain *to) FOIL_MUST_USE;

static inline struct foil_slice foil_mbuf_slice(const struct rte_mbuf *m)
{
	return foil_slice_of(rte_pktmbuf_mtod(m, const char *), m->data_len);
}
