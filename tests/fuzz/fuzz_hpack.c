/* Blocks, one after the other, into one HPACK decoder: each begins with its length in two bytes. */
#include "tests/unit/support.h"

#include "dataplane/core/cursor.h"
#include "dataplane/http/hpack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct foil_worker *w;
	static struct hpack_decoder d;
	static const struct hpack_limits limits = {.list_bytes_max = 8192, .fields_max = 20};
	struct foil_cur in = cur_of(data, size);

	if (!w)
		w = t_worker(.seed = 1);
	hpack_decoder_init(&d);
	while (cur_left(&in)) {
		struct foil_arena a = {0};
		struct http_headers list = {0};
		size_t n = FOIL_MIN((size_t)cur_be16(&in), cur_left(&in));
		enum hpack_result rc = hpack_decode(w, &d, cur_slice(&in, n), &limits, &a, &list);
		uint32_t n_bytes = 0;
		for (uint16_t i = 0; i < list.n; i++)
			n_bytes += list.list[i].name.n_bytes + list.list[i].value.n_bytes + HPACK_ENTRY_OVERHEAD;
		FOIL_ASSERT(n_bytes <= limits.list_bytes_max && list.n <= limits.fields_max);
		FOIL_ASSERT(d.n_bytes <= d.max_bytes && d.max_bytes <= HPACK_TABLE_BYTES);
		foil_arena_reset(w, &a);
		if (hpack_is_fatal(rc))
			break;
	}
	t_assert_no_leaks(w);
	return 0;
}
