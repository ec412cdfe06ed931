/* What only the client side of HTTP/2 does: streams are begun here, as many as the server lets us. */
#include "dataplane/http/h2_priv.h"

uint32_t h2_client_capacity(const struct http_conn *c)
{
	const struct h2_conn *h = c->h2;
	uint32_t most = FOIL_MIN(h->peer_streams_max, c->limits->h2_streams_max);

	if (h2_is_over(h) || c->must_close || !c->s || c->s->rx_eof || h->next_id + 2 * (uint64_t)h->n_streams >= H2_ID_MAX)
		return 0;
	return h->n_streams >= most ? 0 : most - h->n_streams;
}

struct http_stream *h2_client_start(struct foil_worker *w, struct http_conn *c, struct foil_arena *arena, const struct http_stream_events *ev,
				    void *user_data)
{
	struct h2_stream *x = h2_client_capacity(c) ? h2_stream_new(w, c->h2, 0, arena) : NULL;

	if (!x)
		return NULL;
	x->ev = ev;
	x->hs.user_data = user_data;
	return &x->hs;
}
