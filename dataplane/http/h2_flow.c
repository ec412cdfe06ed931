/* Windows (RFC 9113 sections 5.2 and 6.9). Receiving: DATA takes from the stream's window and the connection's when it arrives, and gives back to
 * both when its bytes were handed to the user; so a user that is held back closes its own stream, and of the connection's window it can
 * hold no more than its stream's. Bytes that nobody will get (padding, streams that ended) give back at once. An update is told when half of a
 * window is owed. Sending: see h2_send.c; here the peer's updates arrive. */
#include "dataplane/http/h2_priv.h"

static uint32_t stream_window(const struct h2_conn *h)
{
	return h->c->limits->h2_stream_window_bytes;
}

bool h2_flow_arrived(struct foil_worker *w, struct h2_conn *h, uint32_t n_bytes)
{
	if (n_bytes > h->rx_window)
		return h2_fail(w, h, H2_FLOW_CONTROL_ERROR, HTTP_REASON_H2_BAD_WINDOW);
	h->rx_window -= n_bytes;
	return true;
}

void h2_flow_credit(struct foil_worker *w, struct h2_conn *h, struct h2_stream *x, uint32_t n_bytes)
{
	if (!n_bytes || h2_is_over(h))
		return;
	h->rx_credit += n_bytes;
	if (h->rx_credit >= h->c->limits->h2_conn_window_bytes / 2) {
		h->rx_window += h->rx_credit;
		h2_put_u32(w, h, H2_WINDOW_UPDATE, 0, h->rx_credit);
		h->rx_credit = 0;
	}
	if (!x || x->is_dead || x->rx >= H2_RX_ENDED)
		return; /* it sends no more */
	x->rx_credit += n_bytes;
	if (x->rx_credit >= stream_window(h) / 2) {
		x->rx_window += x->rx_credit;
		h2_put_u32(w, h, H2_WINDOW_UPDATE, x->id, x->rx_credit);
		x->rx_credit = 0;
	}
}

void h2_flow_window_update(struct foil_worker *w, struct h2_conn *h, uint32_t id, uint32_t increment)
{
	struct h2_stream *x;

	if (id == 0) {
		if (increment == 0)
			(void)h2_fail(w, h, H2_PROTOCOL_ERROR, HTTP_REASON_H2_BAD_WINDOW); /* the caller looks at h2_is_over */
		else if (h->tx_window + increment > H2_WINDOW_MAX)
			(void)h2_fail(w, h, H2_FLOW_CONTROL_ERROR, HTTP_REASON_H2_BAD_WINDOW); /* the same */
		else {
			h->tx_window += increment;
			h2_unblock(h);
		}
		return;
	}
	x = h2_stream_find(h, id);
	if (!x && increment == 0)
		h2_put_u32(w, h, H2_RST_STREAM, id, H2_PROTOCOL_ERROR); /* an error whenever it comes */
	if (!x)
		return; /* it ended while this was on its way */
	if (increment == 0 || x->tx_window + increment > H2_WINDOW_MAX) {
		h2_stream_fail(w, h, x, increment ? H2_FLOW_CONTROL_ERROR : H2_PROTOCOL_ERROR, HTTP_RESET_PROTOCOL, HTTP_REASON_H2_BAD_WINDOW);
		return;
	}
	x->tx_window += increment;
	h2_stream_may_send(h, x);
}

bool h2_flow_initial(struct foil_worker *w, struct h2_conn *h, uint32_t window)
{
	int64_t delta = (int64_t)window - h->peer_window;

	h->peer_window = window;
	for (struct h2_link *l = h->streams.next; l != &h->streams; l = l->next) {
		struct h2_stream *x = FOIL_CONTAINER_OF(l, struct h2_stream, all);
		x->tx_window += delta;
		if (x->tx_window > (int64_t)H2_WINDOW_MAX)
			return h2_fail(w, h, H2_FLOW_CONTROL_ERROR, HTTP_REASON_H2_BAD_WINDOW);
		if (delta > 0)
			h2_stream_may_send(h, x);
	}
	return true;
}
