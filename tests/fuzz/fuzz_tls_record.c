/* Bytes of a stranger into a TLS stream of ours, server or client, before and after a real handshake: it opens, it fails, it closes; it never reads outside,
 * leaks, or calls its user after the end. The first byte chooses the side and whether a handshake comes first, the second how the bytes are cut. */
#include "tests/unit/tls/rig.h"

#include <openssl/err.h>

static struct t_cert *cert;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct foil_worker *w;

	if (size < 2 || size > 40000)
		return 0;
	if (!w)
		w = t_worker(.seed = 1);
	if (!cert)
		cert = t_cert(.cn = "web", .is_ca = true, .sans = "DNS:web");
	bool is_client = data[0] & 1, shakes = data[0] & 2;
	SSL_CTX *peer = t_peer_ctx(is_client, is_client ? cert : NULL);
	if (data[0] & 4)
		FOIL_ASSERT(SSL_CTX_set_max_proto_version(peer, TLS1_2_VERSION) == 1);
	struct rig *r = rig(.w = w, .is_client = is_client, .peer = peer,
			    .context = is_client ? t_client(cert) : t_server(cert, cert, data[0] & 8 ? TLS_AUTH_OPTIONAL : TLS_AUTH_NONE, NULL));
	tls_turn(r->w);
	if (shakes)
		rig_pump(r);
	r->seg_bytes = data[1];
	rig_push(r, data + 2, size - 2);
	if (r->s && data[0] & 16)
		rig_write(r, "answer", 6);
	if (r->s && data[0] & 32)
		stream_shutdown(r->w, r->s);
	if (r->s)
		rig_fin(r);
	FOIL_ASSERT(r->n_closed <= 1 && r->n_opened <= 1);
	ERR_clear_error();
	rig_free(r);
	FOIL_ASSERT(w->ctr[FOIL_ROOM_TLS][TLS_CTR_CONNS] == 0);
	return 0;
}
