/* The PROXY protocol's reader, on bytes in one piece and cut in two. What must hold: the same result however they are cut; no more is taken than there is; a
 * good header is no longer than its bounds, and what is told of it reads back from our own writing. */
#include "tests/unit/support.h"

#include "dataplane/mesh/proxy_header.h"

#define HEADER_BYTES_MAX (16u + 216u + PROXY_HEADER_TLV_BYTES_MAX)

static struct foil_worker *w;

static enum proxy_header_result read_pieces(const uint8_t *data, uint32_t n, uint32_t cut, struct proxy_header *out)
{
	struct foil_chain rx = {0}, second = {0};
	enum proxy_header_result r;

	FOIL_ASSERT(foil_chain_append(w, &rx, data, cut) == 0 && foil_chain_append(w, &second, data + cut, n - cut) == 0);
	foil_chain_move(&rx, &second);
	r = proxy_header_read(&rx, out);
	FOIL_ASSERT(rx.n_bytes == n);
	foil_chain_clear(&rx);
	return r;
}

static void check_written(const struct proxy_header *h)
{
	uint8_t bytes[PROXY_HEADER_WRITE_BYTES_MAX];
	struct proxy_header again;

	for (int v = PROXY_HEADER_V1; v <= PROXY_HEADER_V2; v++) {
		uint32_t n = proxy_header_write((enum proxy_header_version)v, &h->source, &h->destination, bytes);
		FOIL_ASSERT(n <= sizeof(bytes));
		FOIL_ASSERT(read_pieces(bytes, n, n / 2, &again) == PROXY_HEADER_READY);
		FOIL_ASSERT(again.n_bytes == n && again.has_addresses);
		FOIL_ASSERT(again.source.port == h->source.port && again.destination.port == h->destination.port);
		FOIL_ASSERT(memcmp(again.source.ip, h->source.ip, 16) == 0 && memcmp(again.destination.ip, h->destination.ip, 16) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	struct proxy_header whole, cut;
	uint32_t n = (uint32_t)n_bytes - 1;

	if (!w)
		w = t_worker(0);
	if (n_bytes < 2 || n_bytes > 20000)
		return 0;
	enum proxy_header_result r = read_pieces(data + 1, n, n, &whole);
	FOIL_ASSERT(read_pieces(data + 1, n, data[0] % n, &cut) == r);
	if (r != PROXY_HEADER_READY)
		return 0;
	FOIL_ASSERT(whole.n_bytes == cut.n_bytes && whole.n_bytes <= n && whole.n_bytes <= HEADER_BYTES_MAX);
	FOIL_ASSERT(whole.has_addresses == cut.has_addresses);
	if (whole.has_addresses)
		check_written(&whole);
	return 0;
}
