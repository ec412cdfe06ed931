/* Path normalisation, once, before routing and policy, and forwarded so (features.md HD-16).
 *
 * The rules are those of Envoy as Istio sets it: a fragment is cut off in every mode; BASE is googleurl's CanonicalizePath (dot segments,
 * '\' as '/', percent-encoded unreserved characters decoded, some characters encoded, %00 refused); MERGE_SLASHES joins slashes after that;
 * DECODE_SLASHES turns %2f and %5c into slashes before (OM-9: or the client is sent to the path without, or refused). The query is never touched.
 * Recordings: paths*.yaml, edge.yaml, connection-settings-*.yaml.
 * Invariant: a normalised path normalises to itself (fuzz_route_path). */
#include "dataplane/mesh/path.h"

/* What googleurl does with a character in a path. */
enum {
	PASS = 0,
	SPECIAL = 1,  /* needs a look: dot, backslash, percent, all that is encoded */
	ENCODE = 2 | SPECIAL,
	DECODE = 4,   /* its percent-encoded form is decoded */
	INVALID = 8 | SPECIAL,
};

static const uint8_t classes[256] = {
	[0] = INVALID,
	[1 ... ' '] = ENCODE, ['"'] = ENCODE, ['#'] = ENCODE, ['%'] = ENCODE, ['<'] = ENCODE, ['>'] = ENCODE, ['?'] = ENCODE,
	['\\'] = ENCODE, ['^'] = ENCODE, ['`'] = ENCODE, ['{' ... '}'] = ENCODE, [0x7f ... 0xff] = ENCODE,
	['.'] = SPECIAL,
	['-'] = DECODE, ['0' ... '9'] = DECODE, ['A' ... 'Z'] = DECODE, ['_'] = DECODE, ['a' ... 'z'] = DECODE, ['~'] = DECODE,
};

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = foil_ascii_lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that the %xx at data[at] stands for, or -1. */
static int escape_at(const char *data, uint32_t at, uint32_t end)
{
	if (end - at < 3 || data[at] != '%')
		return -1;
	int high = hex_value(data[at + 1]), low = hex_value(data[at + 2]);
	return high < 0 || low < 0 ? -1 : high << 4 | low;
}

/* Bytes of a dot, plain or encoded, at data[at]; 0: there is none. */
static uint32_t dot_at(const char *data, uint32_t at, uint32_t end)
{
	if (at >= end)
		return 0;
	if (data[at] == '.')
		return 1;
	return escape_at(data, at, end) == '.' ? 3 : 0;
}

static bool is_slash(char c)
{
	return c == '/' || c == '\\';
}

struct canon {
	const char *in;
	uint32_t n_in;
	char *out;
	uint32_t n, cap;
	uint32_t lone_percent; /* where in out the last '%' stands that began no escape; UINT32_MAX: none */
	bool refused;
};

static void push(struct canon *c, char byte)
{
	FOIL_ASSERT(c->n < c->cap);
	c->out[c->n++] = byte;
}

static void push_encoded(struct canon *c, uint8_t byte)
{
	static const char digits[] = "0123456789ABCDEF";

	push(c, '%');
	push(c, digits[byte >> 4]);
	push(c, digits[byte & 15]);
}

/* out ends with a slash: drop the segment before it, never the first slash. */
static void segment_up(struct canon *c)
{
	if (c->n <= 1)
		return;
	uint32_t i = c->n - 2;
	while (i > 0 && c->out[i] != '/')
		i--;
	c->n = i + 1;
	if (c->lone_percent != UINT32_MAX && c->lone_percent >= c->n)
		c->lone_percent = UINT32_MAX;
}

/* A dot of dot_bytes at in[at]. Returns the input bytes that are done with. */
static uint32_t take_dot(struct canon *c, uint32_t at, uint32_t dot_bytes)
{
	uint32_t next = at + dot_bytes, second;

	if (c->n == 0 || c->out[c->n - 1] != '/') {
		push(c, '.');
		return dot_bytes;
	}
	if (next == c->n_in)
		return dot_bytes;
	if (is_slash(c->in[next]))
		return dot_bytes + 1;
	second = dot_at(c->in, next, c->n_in);
	if (second && next + second == c->n_in) {
		segment_up(c);
		return dot_bytes + second;
	}
	if (second && is_slash(c->in[next + second])) {
		segment_up(c);
		return dot_bytes + second + 1;
	}
	push(c, '.');
	return dot_bytes;
}

/* A decoded character next to an earlier lone '%' might make a new escape ("%%32e" is not "%2e"): then that '%' becomes "%25", so that who
 * decodes once more does not see what routing did not see. next: the input after the character. */
static void check_nested(struct canon *c, uint32_t next)
{
	uint32_t at = c->lone_percent;
	char decoded = c->out[c->n - 1];
	bool has_one = at + 2 == c->n; /* "%c": the second digit would be the next input character */

	if (has_one) {
		if (next >= c->n_in || (uint8_t)c->in[next] >= 0x80 || hex_value(decoded) < 0 || hex_value(c->in[next]) < 0)
			return;
	} else if (escape_at(c->out, at, c->n) < 0) {
		return;
	}
	char first = c->out[at + 1];
	c->n = at;
	push(c, '%');
	push(c, '2');
	push(c, '5');
	push(c, first);
	if (!has_one)
		push(c, decoded);
	c->lone_percent = UINT32_MAX;
}

static uint32_t take_percent(struct canon *c, uint32_t at)
{
	int byte = escape_at(c->in, at, c->n_in);

	if (byte < 0) {
		c->lone_percent = c->n;
		push(c, '%');
		return 1;
	}
	uint8_t class = classes[byte];
	if (class & DECODE) {
		push(c, (char)byte);
		if (c->lone_percent != UINT32_MAX && c->lone_percent + 3 >= c->n)
			check_nested(c, at + 3);
		return 3;
	}
	c->refused |= class == INVALID;
	push(c, '%');
	push(c, c->in[at + 1]);
	push(c, c->in[at + 2]);
	return 3;
}

static void canonicalize(struct canon *c)
{
	for (uint32_t i = 0; i < c->n_in;) {
		uint8_t byte = (uint8_t)c->in[i], class = classes[byte];
		uint32_t dot_bytes = class & SPECIAL ? dot_at(c->in, i, c->n_in) : 0;

		if (!(class & SPECIAL)) {
			push(c, (char)byte);
			i++;
		} else if (dot_bytes) {
			i += take_dot(c, i, dot_bytes);
		} else if (byte == '\\') {
			push(c, '/');
			i++;
		} else if (byte == '%') {
			i += take_percent(c, i);
		} else {
			c->refused |= class == INVALID;
			push_encoded(c, byte);
			i++;
		}
	}
}

/* Room that canonicalize needs at most: each encoded byte grows by two, "%25" for a lone percent too. 0: the path is as it should be. */
static uint32_t canonical_room(const char *in, uint32_t n)
{
	uint32_t room = n;
	bool changes = false;

	for (uint32_t i = 0; i < n; i++) {
		uint8_t class = classes[(uint8_t)in[i]];

		if (!(class & SPECIAL))
			continue;
		if (in[i] == '.') {
			changes |= i > 0 && in[i - 1] == '/';
			continue;
		}
		changes = true;
		if (in[i] != '\\' && escape_at(in, i, n) < 0)
			room += 2;
	}
	return changes ? room : 0;
}

/* %2f and %5c, in place. */
static uint32_t unescape_slashes(char *data, uint32_t n)
{
	uint32_t to = 0;

	for (uint32_t i = 0; i < n;) {
		int byte = escape_at(data, i, n);
		if (byte == '/' || byte == '\\') {
			data[to++] = (char)byte;
			i += 3;
		} else {
			data[to++] = data[i++];
		}
	}
	return to;
}

/* In place. A path of slashes alone becomes "//", and any slash at the end stays: Envoy joins what is between the slashes and
 * puts one before and one after. */
static uint32_t merge_slashes(char *data, uint32_t n)
{
	uint32_t to = 0;

	uint32_t leading = 0;

	while (leading < n && data[leading] == '/')
		leading++;
	if (leading == n)
		return FOIL_MIN(n, 2u);
	for (uint32_t i = 0; i < n; i++)
		if (data[i] != '/' || to == 0 || data[to - 1] != '/')
			data[to++] = data[i];
	return to;
}

static bool has_two_slashes(struct foil_slice s)
{
	for (uint32_t i = 1; i < s.n_bytes; i++)
		if (s.data[i] == '/' && s.data[i - 1] == '/')
			return true;
	return false;
}

static bool has_escaped_slash(struct foil_slice s)
{
	for (uint32_t i = 0; i < s.n_bytes; i++) {
		int byte = escape_at(s.data, i, s.n_bytes);
		if (byte == '/' || byte == '\\')
			return true;
	}
	return false;
}

/* From path (without query) into out, which has room for cap bytes; scratch: as long as path, NULL unless slashes are decoded. Returns
 * the length, UINT32_MAX when refused. */
static uint32_t rewrite(enum mesh_path_normalization mode, struct foil_slice path, char *scratch, char *out, uint32_t cap)
{
	struct canon c = {.in = path.data, .n_in = path.n_bytes, .out = out, .cap = cap, .lone_percent = UINT32_MAX};

	if (scratch) {
		memcpy(scratch, path.data, path.n_bytes);
		c.in = scratch;
		c.n_in = unescape_slashes(scratch, path.n_bytes);
	}
	if (mode & MESH_PATHNORM_NONE) {
		memcpy(out, c.in, c.n_in);
		c.n = c.n_in;
	} else {
		canonicalize(&c);
		if (c.refused)
			return UINT32_MAX;
	}
	return mode & MESH_PATHNORM_MERGE_SLASHES ? merge_slashes(out, c.n) : c.n;
}

static struct foil_slice cut_at(struct foil_slice s, char c)
{
	const char *at = s.n_bytes ? memchr(s.data, c, s.n_bytes) : NULL;

	return at ? foil_slice_of(s.data, (size_t)(at - s.data)) : s;
}

enum mesh_path_result mesh_path_normalize(struct foil_worker *w, struct foil_arena *a, enum mesh_path_normalization mode, struct http_head *head)
{
	struct foil_slice whole = cut_at(head->path, '#'), path = cut_at(whole, '?');
	uint32_t n_query = whole.n_bytes - path.n_bytes;

	head->path = whole.n_bytes ? whole : FOIL_SLICE("/");
	if (mode == MESH_PATHNORM_NONE || path.n_bytes == 0 || !is_slash(path.data[0])) /* "*" and CONNECT's authority are no paths */
		return MESH_PATH_OK;
	uint32_t room = mode & MESH_PATHNORM_NONE ? 0 : canonical_room(path.data, path.n_bytes);
	bool slashes = (mode & MESH_PATHNORM_MERGE_SLASHES) && has_two_slashes(path);
	bool escaped = (mode & (MESH_PATHNORM_DECODE_SLASHES | MESH_PATHNORM_REFUSE_SLASHES)) && has_escaped_slash(path);
	if (!room && !slashes && !escaped)
		return MESH_PATH_OK;

	uint32_t cap = FOIL_MAX(room, path.n_bytes);
	char *out = foil_arena_alloc(w, a, (size_t)cap + n_query), *scratch = NULL;
	if (escaped)
		scratch = foil_arena_alloc(w, a, path.n_bytes);
	if (!out || (escaped && !scratch))
		return MESH_PATH_NO_MEMORY;
	uint32_t n = escaped && (mode & MESH_PATHNORM_REFUSE_SLASHES) ? UINT32_MAX : rewrite(mode, path, scratch, out, cap);
	bool refused = n == UINT32_MAX;
	if (refused && !escaped)
		return MESH_PATH_REFUSED;
	if (refused) { /* logged without escapes, as Envoy does */
		memcpy(out, path.data, path.n_bytes);
		n = unescape_slashes(out, path.n_bytes);
	}
	memcpy(out + n, path.data + path.n_bytes, n_query);
	head->path = foil_slice_of(out, n + n_query);
	if (refused)
		return MESH_PATH_REFUSED;
	return escaped && (mode & MESH_PATHNORM_REDIRECT_SLASHES) ? MESH_PATH_REDIRECT : MESH_PATH_OK;
}
