/* A client connection whose first bytes decide which filter chain takes it: listeners with chains that ask for a server name, end TLS or pass it on. First
 * the ClientHello is looked at where it lies; then the chain's TLS context ends TLS over the same stream, or the L4 proxy gets the bytes as they came.
 * Where the listener says so a PROXY header comes before all that, and tells who the client is.
 * What fits no chain is reset and leaves one line (AL-10); a handshake that fails leaves none, as in Envoy, but a reason of tls.
 * Invariant: a hello holds the configuration of its chain from the choice until the connection is handed over; it owns its stream until then. */
#include "dataplane/mesh/runtime.h"

#define HELLO_US 15000000u /* features.md GW-22, over hello and handshake together */

struct hello {
	struct mesh_grave grave; /* held: of chain */
	struct mesh_list node;   /* ctx->hello_list */
	struct mesh_port *port;
	struct stream *s;        /* accepted, later the TLS stream on it; NULL: handed over or gone */
	const struct mesh_chain *chain;
	struct tls_hello_scan scan;
	struct foil_timer timer;
	uint64_t deadline_us;
	struct tls_place place; /* among the handshakes in flight, from the first byte of a hello on */
	struct stream_addr remote, local; /* of the client: what a PROXY header told, where there was one */
	bool awaits_proxy_header;
	char sni[MESH_SNI_BYTES];
	uint8_t n_sni;
};

int mesh_hellos_init(struct mesh_ctx *m, uint32_t n_max)
{
	mesh_list_init(&m->hello_list);
	return mesh_slab_init(&m->hellos, sizeof(struct hello), n_max);
}

/* is_handed_over: whoever has the connection now is the client that was admitted. */
static void hello_over(struct foil_worker *w, struct hello *h, bool is_handed_over)
{
	h->s = NULL;
	tls_place_give(w, &h->place);
	foil_timer_cancel(w, &h->timer);
	mesh_list_del(&h->node);
	foil_count(w, MESH, HELLOS, -1);
	if (!is_handed_over)
		mesh_client_leave(w, h->port);
	mesh_port_put(w, h->port);
	h->port = NULL;
	mesh_bury(w, h, &w->mesh->hellos);
}

static void hello_abort(struct foil_worker *w, struct hello *h)
{
	struct stream *s = h->s;

	hello_over(w, h, false);
	stream_abort(w, s);
}

static void choose(struct foil_worker *w, struct hello *h, const struct mesh_first *first);

/* features.md PA-9: who says nothing at all may wait for the server's first word. */
static void took_too_long(struct foil_worker *w, struct foil_timer *t)
{
	struct hello *h = FOIL_CONTAINER_OF(t, struct hello, timer);

	if (!h->awaits_proxy_header && h->port->listener && h->port->listener->hello_timeout_us && h->s->rx.n_bytes == 0) {
		foil_count(w, MESH, HELLOS_SILENT, 1);
		choose(w, h, &(struct mesh_first){.is_tls = false});
		return;
	}
	if (w->now_us < h->deadline_us) { /* a hello has begun */
		foil_timer_arm(w, &h->timer, h->deadline_us, took_too_long);
		return;
	}
	foil_reason(w, MESH, HELLO_TIMEOUT);
	hello_abort(w, h);
}

static void hello_closed(struct foil_worker *w, struct stream *s, enum stream_end why)
{
	(void)why; /* a client that leaves early, or a handshake that failed: tls counts which */
	hello_over(w, s->user_data, false);
}

/* The codec or the proxy takes it over, with what has arrived. */
static void hand_over(struct foil_worker *w, struct hello *h)
{
	struct stream *s = h->s;
	struct mesh_port *p = h->port;
	const struct mesh_accept a = {.port = p, .chain = h->chain, .cfg = h->grave.held, .sni = foil_slice_of(h->sni, h->n_sni),
				      .remote = h->remote, .local = h->local};

	if (p->listener && mesh_chain_accept(w, &a, s)) {
		hello_over(w, h, true);
		if (s->rx.n_bytes && s->user && s->user->readable)
			s->user->readable(w, s);
		return;
	}
	hello_abort(w, h);
}

static void handshake_done(struct foil_worker *w, struct stream *s)
{
	hand_over(w, s->user_data);
}

static const struct stream_user tls_user = {.opened = handshake_done, .closed = hello_closed};

static void begin_tls(struct foil_worker *w, struct hello *h)
{
	struct tls_context *context = mesh_tls_context(h->grave.held, &h->chain->tls->rules);
	struct tls_server_params p = {
		.context = context, .user = &tls_user, .user_data = h, .sni = foil_slice_of(h->sni, h->n_sni), .deadline_us = h->deadline_us,
		.place = &h->place,
	};

	if (!context) {
		foil_reason(w, MESH, TLS_SECRET_MISSING);
		hello_abort(w, h);
		return;
	}
	if (!tls_place_take(w, &h->place, &h->remote) || tls_server_open(w, h->s, &p, &h->s) != 0)
		hello_abort(w, h);
	else
		foil_timer_cancel(w, &h->timer); /* the handshake has the same deadline */
}

static void choose(struct foil_worker *w, struct hello *h, const struct mesh_first *first)
{
	struct mesh_ctx *m = w->mesh;

	h->chain = h->port->listener ? mesh_chain_choose(h->port->listener, h->local.ip, first) : NULL;
	if (!h->chain) {
		const struct mesh_accept of = {.port = h->port, .sni = first->sni, .remote = h->remote, .local = h->local};
		mesh_log_no_chain(w, &of);
		hello_abort(w, h);
		return;
	}
	mesh_config_get(w, m->cfg);
	h->grave.held = m->cfg;
	if (h->chain->tls)
		begin_tls(w, h);
	else
		hand_over(w, h);
}

static void keep_name(struct hello *h, const struct tls_hello *found)
{
	FOIL_ASSERT(found->sni.n_bytes < sizeof(h->sni));
	for (uint32_t i = 0; i < found->sni.n_bytes; i++)
		h->sni[i] = foil_ascii_lower(found->sni.data[i]);
	h->n_sni = (uint8_t)found->sni.n_bytes;
}

static void wait_for_hello(struct foil_worker *w, struct hello *h)
{
	uint64_t silent_us = h->port->listener ? h->port->listener->hello_timeout_us : 0;

	foil_timer_arm(w, &h->timer, silent_us ? w->now_us + silent_us : h->deadline_us, took_too_long);
}

/* GW-16, PR-10: the header comes first and must be good, or nobody knows who the client is. False: nothing is left to look at. */
static bool take_proxy_header(struct foil_worker *w, struct hello *h)
{
	struct proxy_header found;

	switch (proxy_header_read(&h->s->rx, &found)) {
	case PROXY_HEADER_MORE:
		if (h->s->rx_eof)
			hello_abort(w, h);
		return false;
	case PROXY_HEADER_READY: break;
	case PROXY_HEADER_ABSENT:
	case PROXY_HEADER_BAD:
		foil_reason(w, MESH, PROXY_HEADER_BAD);
		hello_abort(w, h);
		return false;
	}
	foil_count(w, MESH, PROXY_HEADERS, 1);
	stream_consume(w, h->s, found.n_bytes);
	h->awaits_proxy_header = false;
	if (found.has_addresses) {
		h->remote = found.source;
		h->local = found.destination;
	}
	wait_for_hello(w, h);
	if (h->port->listener && h->port->listener->wants_hello)
		return h->s->rx.n_bytes || h->s->rx_eof;
	choose(w, h, &(struct mesh_first){.is_tls = false});
	return false;
}

static void hello_readable(struct foil_worker *w, struct stream *s)
{
	struct hello *h = s->user_data;
	struct mesh_first first = {.is_tls = true};
	struct tls_hello found;

	if (h->awaits_proxy_header && !take_proxy_header(w, h))
		return;
	switch (tls_hello_peek(w, &s->rx, &h->scan, &found)) {
	case TLS_HELLO_MORE:
		if (s->rx_eof || (s->rx.n_bytes && !tls_place_take(w, &h->place, &h->remote)))
			hello_abort(w, h);
		return;
	case TLS_HELLO_READY:
		keep_name(h, &found);
		first.sni = foil_slice_of(h->sni, h->n_sni);
		first.alpn = found.alpn;
		break;
	case TLS_HELLO_NOT_TLS:
		first.is_tls = false;
		if (!h->port->listener || !h->port->listener->takes_plaintext)
			foil_reason(w, TLS, HELLO_NOT_TLS);
		break;
	case TLS_HELLO_BAD: foil_reason(w, TLS, HELLO_BAD); break;
	}
	choose(w, h, &first);
}

static const struct stream_user peek_user = {.readable = hello_readable, .closed = hello_closed};

bool mesh_hello_accept(struct foil_worker *w, struct mesh_port *p, struct stream *s)
{
	struct hello *h = mesh_slab_take(&w->mesh->hellos);

	if (!h) {
		foil_reason(w, MESH, CONNECTIONS_EXHAUSTED);
		return false;
	}
	h->port = p;
	p->n_conns++;
	h->s = s;
	h->deadline_us = w->now_us + HELLO_US;
	s->user = &peek_user;
	s->user_data = h;
	mesh_list_add_tail(&w->mesh->hello_list, &h->node);
	foil_count(w, MESH, HELLOS, 1);
	h->remote = s->remote;
	h->local = s->local;
	h->awaits_proxy_header = p->listener->proxy_protocol;
	if (h->awaits_proxy_header)
		foil_timer_arm(w, &h->timer, h->deadline_us, took_too_long);
	else
		wait_for_hello(w, h);
	return true;
}

void mesh_hellos_close(struct foil_worker *w)
{
	struct mesh_list *head = &w->mesh->hello_list;

	while (!mesh_list_is_empty(head))
		hello_abort(w, FOIL_CONTAINER_OF(head->next, struct hello, node));
}
