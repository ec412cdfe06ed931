/* WebSocket and whatever else may be upgraded to (features.md VS-60, PR-6): an upstream's 101 makes of an exchange a tunnel of bytes, by the codecs'
 * common view of upgrades (http/codec.h), so HTTP/1.1 and HTTP/2 meet in all four ways.
 * As Envoy does it: websocket and nothing else; 4xx and 5xx of the upstream pass with their bodies, other refusals without; no time limit of the route
 * applies; the side that ends it stands in the record (DC, UC). Unlike Envoy a half-close is passed on, and the client's bytes wait for the 101: with an
 * origin that refuses they would be a request that no route and no policy has seen.
 * Invariant: bytes of a request that asks for an upgrade go up only when is_tunnel is set. */
#include <errno.h>

#include "dataplane/http/websocket.h"
#include "dataplane/mesh/runtime.h"

#define KEY FOIL_SLICE("sec-websocket-key")
#define ACCEPT FOIL_SLICE("sec-websocket-accept")

bool mesh_upgrade_is_allowed(const struct http_head *request)
{
	uint32_t n = 0;

	for (uint16_t i = 0; i < request->headers.n; i++) {
		const struct http_header *h = &request->headers.list[i];
		if (h->is_removed || h->id != HTTP_HDR_UPGRADE)
			continue;
		if (!foil_slice_eq_nocase(h->value, FOIL_SLICE("websocket")))
			return false;
		n++;
	}
	return n == 1;
}

int mesh_tunnel_request(struct foil_worker *w, struct mesh_exchange *x, bool up_is_h2)
{
	char key[WEBSOCKET_KEY_BYTES];
	struct foil_slice copy;

	if (up_is_h2 || !mesh_exchange_is_h2(x) || http_header_find(&x->request->headers, KEY))
		return 0;
	websocket_key_make(w, key);
	copy = foil_arena_copy(w, x->arena, foil_slice_of(key, sizeof(key)));
	if (!copy.data)
		return -ENOBUFS;
	x->owns_websocket_key = true;
	return http_header_add(w, x->arena, &x->request->headers, KEY, copy);
}

/* The client asked over HTTP/2 and has no use for what proves that its key was read; a key of ours is proved here. */
static enum mesh_tunnel_answer check_accept(struct mesh_exchange *x, struct http_head *head)
{
	const struct http_header *key = http_header_find(&x->request->headers, KEY), *accept = http_header_find(&head->headers, ACCEPT);
	char want[WEBSOCKET_ACCEPT_BYTES];

	if (!x->owns_websocket_key || !key)
		return MESH_TUNNEL_TAKEN;
	websocket_accept_make(key->value, want);
	if (!accept || !foil_slice_eq(accept->value, foil_slice_of(want, sizeof(want))))
		return MESH_TUNNEL_WRONG_ANSWER;
	http_header_remove(&head->headers, ACCEPT);
	return MESH_TUNNEL_TAKEN;
}

/* The upstream answered over HTTP/2, where there is no such proof; the client waits for one. */
static enum mesh_tunnel_answer put_accept(struct foil_worker *w, struct mesh_exchange *x, struct http_head *head)
{
	const struct http_header *key = http_header_find(&x->request->headers, KEY);
	char accept[WEBSOCKET_ACCEPT_BYTES];
	struct foil_slice copy;

	if (!key || http_header_find(&head->headers, ACCEPT))
		return MESH_TUNNEL_TAKEN;
	websocket_accept_make(key->value, accept);
	copy = foil_arena_copy(w, x->arena, foil_slice_of(accept, sizeof(accept)));
	if (!copy.data || http_header_add(w, x->arena, &head->headers, ACCEPT, copy) != 0)
		return MESH_TUNNEL_NO_MEMORY;
	return MESH_TUNNEL_TAKEN;
}

enum mesh_tunnel_answer mesh_tunnel_begin(struct foil_worker *w, struct mesh_exchange *x, bool up_is_h2, struct http_head *head)
{
	enum mesh_tunnel_answer a = MESH_TUNNEL_TAKEN;

	if (!mesh_upgrade_is_allowed(head))
		return MESH_TUNNEL_WRONG_ANSWER; /* it speaks something that nobody asked for */
	if (!up_is_h2 && mesh_exchange_is_h2(x))
		a = check_accept(x, head);
	else if (up_is_h2 && !mesh_exchange_is_h2(x))
		a = put_accept(w, x, head);
	if (a != MESH_TUNNEL_TAKEN)
		return a;
	x->is_tunnel = true;
	foil_count(w, MESH, TUNNELS, 1);
	foil_count(w, MESH, TUNNELS_ACTIVE, 1);
	mesh_timeouts_tunnel(w, x);
	return a;
}

void mesh_tunnel_half_closed(struct foil_worker *w, struct mesh_exchange *x, bool by_client)
{
	bool is_h2 = by_client ? mesh_exchange_is_h2(x) : http_conn_version(x->try.stream->conn) == HTTP_VERSION_2;

	if (by_client ? x->response_ended : x->request_ended)
		return; /* the other one was first */
	mesh_timeouts_half_closed(w, x);
	if (is_h2)
		return; /* END_STREAM is how it ends there */
	x->flags |= by_client ? TELE_FLAG_DC : TELE_FLAG_UC;
	x->details = by_client ? FOIL_SLICE("downstream_remote_disconnect")
			       : FOIL_SLICE("upstream_reset_after_response_started{connection_termination}");
}
