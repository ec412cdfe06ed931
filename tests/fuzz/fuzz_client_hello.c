/* First bytes of a connection: the ClientHello's names, in one piece and cut at a place that the input chooses; both ways must agree. */
#include "tests/unit/support.h"

#include "dataplane/core/error.h"
#include "dataplane/tls/tls.h"

static bool is_inside(struct foil_slice s, uint32_t max)
{
	return s.n_bytes <= max && (s.data || !s.n_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct foil_worker *w;
	struct tls_hello message, whole, parts;
	struct tls_hello_scan one = {0}, two = {0};
	struct foil_chain rx = {0}, slow = {0};
	const struct tls_params p = {.conns_max = 1};
	struct foil_error err;
	enum tls_hello_result a, b = TLS_HELLO_MORE;

	if (!w) {
		w = t_worker(.seed = 1, .n_mbufs = 4095);
		FOIL_ASSERT(tls_init(w, &p, &err) == 0);
	}
	if (size < 1 || size > 100000)
		return 0;
	if (tls_hello_parse(foil_slice_of(data, size), &message) == TLS_HELLO_READY)
		FOIL_ASSERT(is_inside(message.sni, 255) && is_inside(message.alpn, 65535));
	FOIL_ASSERT(foil_chain_append(w, &rx, data + 1, (uint32_t)size - 1) == 0);
	a = tls_hello_peek(w, &rx, &one, &whole);
	size_t step = data[0] ? data[0] : 1;
	for (size_t at = 1; at < size && b == TLS_HELLO_MORE; at += step) {
		FOIL_ASSERT(foil_chain_append(w, &slow, data + at, (uint32_t)FOIL_MIN(step, size - at)) == 0);
		b = tls_hello_peek(w, &slow, &two, &parts);
		FOIL_ASSERT(b != TLS_HELLO_MORE || two.wanted_bytes > slow.n_bytes);
	}
	FOIL_ASSERT(a == b || size == 1);
	if (a == TLS_HELLO_READY && size > 1) {
		FOIL_ASSERT(whole.sni.n_bytes == parts.sni.n_bytes && whole.alpn.n_bytes == parts.alpn.n_bytes);
		FOIL_ASSERT(is_inside(parts.sni, 255));
	}
	foil_chain_clear(&rx);
	foil_chain_clear(&slow);
	t_assert_no_leaks(w);
	return 0;
}
