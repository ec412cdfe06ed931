/* Blocks, one after the other, into one HPACK decoder: each begins with its length in two bytes. What is said of a field is what is true of its bytes,
 * whichever table it came from; and what decodes is encoded again, with the peer's table, and decodes to the same. */
#include "tests/unit/support.h"

#include "dataplane/core/cursor.h"
#include "dataplane/http/h2_priv.h"

/* False: no room. */
static bool goes_on(struct foil_worker *w, struct hpack_encoder *e, struct hpack_decoder *next, const struct http_headers *list)
{
	static const struct hpack_limits limits = {.list_bytes_max = 8192, .fields_max = 20};
	static uint8_t block[16384];
	struct hpack_out o = {.at = block, .end = block + sizeof(block)};
	struct http_headers again = {0};
	struct foil_arena a = {0};

	hpack_encoder_begin(&o, e);
	for (uint16_t i = 0; i < list->n; i++)
		hpack_put_indexed(&o, e, list->list[i].id == HPACK_STATUS ? HTTP_HDR_OTHER : list->list[i].id, list->list[i].name, list->list[i].value);
	FOIL_ASSERT(!o.is_full);
	enum hpack_result rc = hpack_decode(w, next, foil_slice_of(block, (size_t)(o.at - block)), &limits, &a, &again);
	FOIL_ASSERT(rc == HPACK_OK || rc == HPACK_NO_MEMORY);
	FOIL_ASSERT(rc != HPACK_OK || again.n == list->n);
	for (uint16_t i = 0; rc == HPACK_OK && i < list->n; i++) {
		const struct http_header *a1 = &again.list[i], *b1 = &list->list[i];
		FOIL_ASSERT(foil_slice_eq(a1->name, b1->name) && foil_slice_eq(a1->value, b1->value) && a1->id == b1->id && a1->judged == b1->judged);
	}
	foil_arena_reset(w, &a);
	return rc == HPACK_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct foil_worker *w;
	static struct hpack_decoder d, next;
	static struct hpack_encoder e;
	static const struct hpack_limits limits = {.list_bytes_max = 8192, .fields_max = 20};
	struct foil_cur in = cur_of(data, size);

	if (!w)
		w = t_worker(.seed = 1);
	hpack_decoder_init(&d);
	hpack_decoder_init(&next);
	memset(&e, 0, sizeof(e));
	while (cur_left(&in)) {
		struct foil_arena a = {0};
		struct http_headers list = {0};
		size_t n = FOIL_MIN((size_t)cur_be16(&in), cur_left(&in));
		enum hpack_result rc = hpack_decode(w, &d, cur_slice(&in, n), &limits, &a, &list);
		uint32_t n_bytes = 0;
		for (uint16_t i = 0; i < list.n; i++)
			n_bytes += list.list[i].name.n_bytes + list.list[i].value.n_bytes + HPACK_ENTRY_OVERHEAD;
		for (uint16_t i = 0; i < list.n; i++)
			FOIL_ASSERT(list.list[i].judged == h2_judge(list.list[i].id, list.list[i].name, list.list[i].value));
		FOIL_ASSERT(n_bytes <= limits.list_bytes_max && list.n <= limits.fields_max);
		FOIL_ASSERT(d.n_bytes <= d.max_bytes && d.max_bytes <= HPACK_TABLE_BYTES);
		bool fits = goes_on(w, &e, &next, &list);
		foil_arena_reset(w, &a);
		if (hpack_is_fatal(rc) || !fits)
			break;
	}
	t_assert_no_leaks(w);
	return 0;
}
