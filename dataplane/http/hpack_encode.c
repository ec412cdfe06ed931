/* The HPACK encoder (RFC 7541 section 6) without a dynamic table and without Huffman: a head costs a few copies, and needs no state. What that
 * gives up is some bytes on links inside a data centre; decisions/ has the figures. */
#include "dataplane/http/hpack.h"

#include "dataplane/http/hpack_tables.h"

#define STATIC_AUTHORITY 1u
#define STATIC_METHOD_GET 2u  /* and POST */
#define STATIC_PATH_ROOT 4u
#define STATIC_SCHEME_HTTP 6u /* and https */
#define STATIC_STATUS_200 8u
#define STATIC_STATUS_LAST 14u

#define INDEXED 0x80u
#define LITERAL 0x00u
#define NEVER_INDEXED 0x10u

static void put_byte(struct hpack_out *o, uint8_t byte)
{
	if (FOIL_UNLIKELY(o->at == o->end)) {
		o->is_full = true;
		return;
	}
	*o->at++ = byte;
}

static void put_integer(struct hpack_out *o, uint8_t pattern, unsigned int prefix_bits, uint32_t value)
{
	uint32_t max = (1u << prefix_bits) - 1;
	if (value < max) {
		put_byte(o, (uint8_t)(pattern | value));
		return;
	}
	put_byte(o, (uint8_t)(pattern | max));
	for (value -= max; value >= 0x80; value >>= 7)
		put_byte(o, (uint8_t)(0x80 | (value & 0x7f)));
	put_byte(o, (uint8_t)value);
}

static void put_string(struct hpack_out *o, struct foil_slice s)
{
	put_integer(o, 0, 7, s.n_bytes);
	if (FOIL_UNLIKELY((size_t)(o->end - o->at) < s.n_bytes)) {
		o->is_full = true;
		return;
	}
	if (s.n_bytes)
		memcpy(o->at, s.data, s.n_bytes);
	o->at += s.n_bytes;
}

void hpack_put_status(struct hpack_out *o, uint16_t status)
{
	char text[3] = {(char)('0' + status / 100 % 10), (char)('0' + status / 10 % 10), (char)('0' + status % 10)};
	for (uint32_t i = STATIC_STATUS_200; i <= STATIC_STATUS_LAST; i++) {
		if (memcmp(hpack_static_table[i].value.data, text, 3) == 0) {
			put_byte(o, (uint8_t)(INDEXED | i));
			return;
		}
	}
	put_integer(o, LITERAL, 4, STATIC_STATUS_200);
	put_string(o, foil_slice_of(text, 3));
}

/* The static index of a pseudo field's name, and whether the whole field is there (a value of the table): its second letter says where to look. */
static uint32_t pseudo_index(struct foil_slice name, struct foil_slice value, bool *is_whole)
{
	static const struct {
		uint8_t first, n_values;
	} places['s' - 'a' + 1] = {['a' - 'a'] = {STATIC_AUTHORITY, 0}, ['m' - 'a'] = {STATIC_METHOD_GET, 2}, ['p' - 'a'] = {STATIC_PATH_ROOT, 1},
				   ['s' - 'a'] = {STATIC_SCHEME_HTTP, 2}};
	uint8_t at = name.n_bytes > 1 ? (uint8_t)(name.data[1] - 'a') : UINT8_MAX;
	uint32_t first = at < FOIL_COUNT_OF(places) ? places[at].first : 0;

	if (!first || !foil_slice_eq(hpack_static_table[first].name, name))
		return 0;
	for (uint32_t i = first; i < first + places[at].n_values; i++) {
		if (foil_slice_eq(hpack_static_table[i].value, value)) {
			*is_whole = true;
			return i;
		}
	}
	return first;
}

/* Section 7.1.3: values that an attacker could guess through a shared table downstream of us. */
static bool is_sensitive(uint16_t id, struct foil_slice value)
{
	return id == HTTP_HDR_AUTHORIZATION || id == HTTP_HDR_PROXY_AUTHORIZATION || (id == HTTP_HDR_COOKIE && value.n_bytes < 20);
}

void hpack_put(struct hpack_out *o, uint16_t id, struct foil_slice name, struct foil_slice value)
{
	bool is_whole = false;
	uint32_t index = id != HTTP_HDR_OTHER ? hpack_static_of_id[id] : 0;
	if (id == HTTP_HDR_OTHER && name.n_bytes && name.data[0] == ':')
		index = pseudo_index(name, value, &is_whole);
	if (is_whole) {
		put_byte(o, (uint8_t)(INDEXED | index));
		return;
	}
	put_integer(o, is_sensitive(id, value) ? NEVER_INDEXED : LITERAL, 4, index);
	if (!index)
		put_string(o, name);
	put_string(o, value);
}
