/* Numbers and known headers for the fast path of a request: no format strings, no look-up of names. */
#include "dataplane/mesh/addr_priv.h"
#include "dataplane/mesh/runtime.h"

struct foil_slice mesh_decimal(struct foil_worker *w, struct foil_arena *a, uint64_t n)
{
	char text[20];
	unsigned int at = sizeof(text);

	if (n <= UINT8_MAX)
		return mesh_octet_text((uint8_t)n);
	do
		text[--at] = (char)('0' + n % 10u);
	while (n /= 10u);
	char *p = foil_arena_alloc(w, a, sizeof(text) - at);
	if (!p)
		return (struct foil_slice){NULL, 0};
	memcpy(p, text + at, sizeof(text) - at);
	return foil_slice_of(p, sizeof(text) - at);
}

/* judged: enum http_judged. */
static int put(struct foil_worker *w, struct foil_arena *a, struct http_headers *h, enum http_header_id id, struct foil_slice value, uint8_t judged)
{
	struct http_header *first = NULL;

	if (http_headers_lack(h, id))
		return http_header_add_judged(w, a, h, id, value, judged);
	for (uint16_t i = 0; i < h->n; i++) {
		struct http_header *at = &h->list[i];
		if (at->id != id || at->is_removed)
			continue;
		if (first)
			at->is_removed = true;
		else
			first = at;
	}
	if (!first)
		return http_header_add_judged(w, a, h, id, value, judged);
	first->value = value;
	first->judged = judged;
	return 0;
}

int mesh_header_put(struct foil_worker *w, struct foil_arena *a, struct http_headers *h, enum http_header_id id, struct foil_slice value)
{
	return put(w, a, h, id, value, 0);
}

int mesh_header_put_number(struct foil_worker *w, struct foil_arena *a, struct http_headers *h, enum http_header_id id, uint64_t n)
{
	struct foil_slice text = mesh_decimal(w, a, n);

	return text.data ? put(w, a, h, id, text, HTTP_JUDGED_SENDABLE) : -1;
}
