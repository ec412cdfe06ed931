/* The keys of a JSON log format in the order of their bytes, as Envoy writes them. In place: an object's members change places, and what spaces that frees
 * stands before its brace, where the reader of the format (format.c) skips it. What is no JSON is left as it is: format.c says so.
 * No recursion: one pass for each depth, the deepest first. Cold path. */
#include "dataplane/telemetry/tele_priv.h"

#define MEMBERS_MAX 512u

struct member {
	struct foil_slice text, key;
};

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static struct foil_slice trimmed(struct foil_slice s)
{
	while (s.n_bytes && is_space(s.data[0]))
		s = foil_slice_of(s.data + 1, s.n_bytes - 1);
	while (s.n_bytes && is_space(s.data[s.n_bytes - 1]))
		s.n_bytes--;
	return s;
}

/* False: this is no list of members, or a long one. */
static bool split(struct foil_slice inside, struct member *m, uint32_t *n_members)
{
	uint32_t depth = 0, from = 0, n = 0;
	for (uint32_t i = 0; i <= inside.n_bytes; i++) {
		char c = i < inside.n_bytes ? inside.data[i] : ',';
		if (c == '"') {
			uint32_t n_string = tele_json_string(foil_slice_of(inside.data + i, inside.n_bytes - i));
			if (!n_string)
				return false;
			i += n_string - 1;
			continue;
		}
		depth += c == '{';
		if (c == '}' && depth-- == 0)
			return false;
		if (c != ',' || depth)
			continue;
		if (n == MEMBERS_MAX)
			return false;
		m[n].text = trimmed(foil_slice_of(inside.data + from, i - from));
		uint32_t n_key = m[n].text.n_bytes && m[n].text.data[0] == '"' ? tele_json_string(m[n].text) : 0;
		if (!n_key)
			return false;
		m[n].key = foil_slice_of(m[n].text.data + 1, n_key - 2);
		n++;
		from = i + 1;
	}
	*n_members = n;
	return depth == 0;
}

static bool comes_before(struct foil_slice a, struct foil_slice b)
{
	int order = memcmp(a.data, b.data, FOIL_MIN(a.n_bytes, b.n_bytes));
	return order ? order < 0 : a.n_bytes < b.n_bytes;
}

/* inside: what stands between the braces; copy: room for as much. */
static void order_object(char *inside, uint32_t n_bytes, char *copy, struct member *m)
{
	uint32_t n = 0, at = 0;
	memcpy(copy, inside, n_bytes);
	if (!split(foil_slice_of(copy, n_bytes), m, &n))
		return;
	for (uint32_t i = 1; i < n; i++) {
		struct member one = m[i];
		uint32_t k = i;
		for (; k && comes_before(one.key, m[k - 1].key); k--)
			m[k] = m[k - 1];
		m[k] = one;
	}
	for (uint32_t i = 0; i < n; i++) {
		if (i)
			inside[at++] = ',';
		memcpy(inside + at, m[i].text.data, m[i].text.n_bytes);
		at += m[i].text.n_bytes;
	}
	memset(inside + at, ' ', n_bytes - at);
}

static void order_depth(char *text, uint32_t n_bytes, uint32_t wanted, char *copy, struct member *m)
{
	uint32_t depth = 0, from = 0;
	for (uint32_t i = 0; i < n_bytes; i++) {
		uint32_t n_string = text[i] == '"' ? tele_json_string(foil_slice_of(text + i, n_bytes - i)) : 0;
		if (text[i] == '"' && !n_string)
			return;
		if (n_string) {
			i += n_string - 1;
		} else if (text[i] == '{') {
			if (++depth == wanted)
				from = i + 1;
		} else if (text[i] == '}') {
			if (depth == wanted)
				order_object(text + from, i - from, copy, m);
			if (depth-- == 0)
				return;
		}
	}
}

int tele_json_order(char *text, uint32_t n_bytes, struct foil_blob *scratch)
{
	char *copy = foil_blob_alloc(scratch, n_bytes + 1);
	struct member *m = foil_blob_array(scratch, MEMBERS_MAX, sizeof(*m));
	if (!copy || !m)
		return -1;
	for (uint32_t depth = TELE_FORMAT_DEPTH_MAX; depth; depth--)
		order_depth(text, n_bytes, depth, copy, m);
	return 0;
}
