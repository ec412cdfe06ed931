/* A server connection whose protocol is not known yet: the first bytes are HTTP/2's preface (prior knowledge, RFC 9113 3.3) or they are not, and then
 * it is HTTP/1.1. One byte that differs decides; as long as none does, more is waited for as for a head.
 * Invariant: no exchange exists before it is decided. */
#include "dataplane/http/h1_priv.h"
#include "dataplane/http/h2_priv.h"

#define DECIDED_BYTES 12u /* "PRI * HTTP/2": what Envoy looks at; the codec checks the rest */

static void become_h1(struct http_conn *c)
{
	c->ops = &h1_server_ops;
	c->wants_run = true;
}

static void become_h2(struct foil_worker *w, struct http_conn *c)
{
	if (!h2_begin(w, c)) {
		c->is_closing = true;
		http_conn_abort(w, c);
		http_conn_gone(w, c, STREAM_END_LOCAL);
		return;
	}
	c->ops = &h2_server_ops;
	c->wants_run = true;
	http_conn_timer(w, c, c->limits->idle_timeout_us);
	c->h2->timer_at_us = w->now_us + c->limits->idle_timeout_us;
}

static void sniff_run(struct foil_worker *w, struct http_conn *c)
{
	char bytes[DECIDED_BYTES];
	uint32_t n = FOIL_MIN((uint32_t)sizeof(bytes), c->s->rx.n_bytes);

	if (c->is_closing)
		return;
	c->has_sniffed = c->has_sniffed || n;
	foil_chain_copy_out(&c->s->rx, 0, bytes, n);
	if (memcmp(bytes, h2_preface, n) != 0 || c->s->rx_eof)
		become_h1(c);
	else if (n == sizeof(bytes))
		become_h2(w, c);
	else if (n && c->limits->head_timeout_us)
		http_conn_timer(w, c, c->limits->head_timeout_us);
}

static void sniff_timeout(struct foil_worker *w, struct http_conn *c)
{
	if (c->has_sniffed || foil_chain_is_empty(&c->s->rx)) {
		c->ops = &h1_server_ops; /* which knows what to do with an idle connection and with half a head */
		c->ops->timeout(w, c);
		return;
	}
	c->wants_run = true; /* what was there before the codec */
	http_conn_timer(w, c, c->limits->idle_timeout_us);
}

static void sniff_end(struct foil_worker *w, struct http_conn *c, bool in_order, enum stream_end why)
{
	c->is_closing = true;
	if (in_order)
		http_conn_release(w, c);
	http_conn_gone(w, c, why);
}

static void sniff_closed(struct foil_worker *w, struct http_conn *c, enum stream_end why)
{
	c->s = NULL;
	sniff_end(w, c, false, why);
}

static void sniff_close(struct foil_worker *w, struct http_conn *c)
{
	sniff_end(w, c, true, STREAM_END_LOCAL);
}

static void sniff_drain(struct foil_worker *w, struct http_conn *c)
{
	if (!c->is_closing)
		sniff_end(w, c, true, STREAM_END_FIN);
}

static void sniff_writable(struct foil_worker *w, struct http_conn *c)
{
	c->wants_run = true;
}

static bool sniff_is_idle(const struct http_conn *c)
{
	return !c->is_gone && !c->is_closing;
}

const struct http_conn_ops http_sniff_ops = {
	.run = sniff_run, .writable = sniff_writable, .closed = sniff_closed, .drain = sniff_drain, .close = sniff_close, .is_idle = sniff_is_idle,
	.timeout = sniff_timeout, .version = HTTP_VERSION_11,
};
