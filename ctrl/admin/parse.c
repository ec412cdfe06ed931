/* One HTTP/1.1 request head from contiguous bytes (RFC 9112 sections 2 to 6), for the agent's own pages. Not the data plane's codec:
 * no chunked bodies, no trailers, no upgrades; what it does not know it refuses.
 * Invariant: nothing past data[n_bytes) is read, and out is only meaningful for ADM_PARSE_OK (and status for a refusal). */
#include "ctrl/admin/admin_priv.h"

#define HEADERS_MAX 64u

static bool is_token(struct foil_slice s)
{
	if (s.n_bytes == 0)
		return false;
	for (uint32_t i = 0; i < s.n_bytes; i++) {
		char c = s.data[i];
		bool is_alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
		if (!is_alnum && (c == 0 || !strchr("!#$%&'*+-.^_`|~", c)))
			return false;
	}
	return true;
}

static bool is_field_value(struct foil_slice s)
{
	for (uint32_t i = 0; i < s.n_bytes; i++) {
		unsigned char c = (unsigned char)s.data[i];
		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return false;
	}
	return true;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = foil_ascii_lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decodes raw into room; false when it is too long, badly encoded or has a control character. */
static bool decode_path(struct foil_slice raw, char *room, size_t n_room, struct foil_slice *out)
{
	size_t n = 0;

	for (uint32_t i = 0; i < raw.n_bytes; i++) {
		unsigned char c = (unsigned char)raw.data[i];
		if (c == '%') {
			if (raw.n_bytes - i < 3)
				return false;
			int high = hex_digit(raw.data[i + 1]), low = hex_digit(raw.data[i + 2]);
			if (high < 0 || low < 0)
				return false;
			c = (unsigned char)(high << 4 | low);
			i += 2;
		}
		if (c < 0x20 || c == 0x7f || n == n_room)
			return false;
		room[n++] = (char)c;
	}
	*out = foil_slice_of(room, n);
	return true;
}

/* The next line up to CRLF; false when there is none yet. A bare LF ends it too (RFC 9112 2.2), a bare CR stays in it. */
static bool next_line(struct foil_slice *rest, struct foil_slice *line)
{
	const char *lf = rest->n_bytes ? memchr(rest->data, '\n', rest->n_bytes) : NULL;

	if (!lf)
		return false;
	size_t n = (size_t)(lf - rest->data);
	*line = foil_slice_of(rest->data, n && rest->data[n - 1] == '\r' ? n - 1 : n);
	*rest = foil_slice_of(lf + 1, rest->n_bytes - n - 1);
	return true;
}

static bool cut_at(struct foil_slice *rest, char at, struct foil_slice *before)
{
	const char *p = rest->n_bytes ? memchr(rest->data, at, rest->n_bytes) : NULL;

	if (!p)
		return false;
	size_t n = (size_t)(p - rest->data);
	*before = foil_slice_of(rest->data, n);
	*rest = foil_slice_of(p + 1, rest->n_bytes - n - 1);
	return true;
}

static enum adm_parse refuse(struct adm_parsed *out, enum adm_parse what, unsigned int status)
{
	out->status = status;
	return what;
}

static enum adm_parse request_line(struct foil_slice line, struct adm_parsed *out)
{
	struct foil_slice target, version = line;

	if (!cut_at(&version, ' ', &out->request.method) || !cut_at(&version, ' ', &target) || !is_token(out->request.method))
		return refuse(out, ADM_PARSE_BAD, 400);
	if (version.n_bytes != 8 || !foil_slice_has_prefix(version, FOIL_SLICE("HTTP/")) || version.data[6] != '.')
		return refuse(out, ADM_PARSE_BAD, 400);
	if (version.data[5] != '1' || (version.data[7] != '0' && version.data[7] != '1'))
		return refuse(out, ADM_PARSE_VERSION, 505);
	out->is_1_1 = out->keep_alive = version.data[7] == '1';
	struct foil_slice path = target;
	if (!cut_at(&target, '?', &path))
		target = (struct foil_slice){"", 0};
	out->request.query = target;
	if (path.n_bytes == 0 || path.data[0] != '/' || !is_field_value(target) ||
	    !decode_path(path, out->path_room, sizeof(out->path_room), &out->request.path))
		return refuse(out, ADM_PARSE_BAD, 400);
	out->is_head = foil_slice_eq(out->request.method, FOIL_SLICE("HEAD"));
	return ADM_PARSE_OK;
}

static struct foil_slice trim(struct foil_slice s)
{
	while (s.n_bytes && (s.data[0] == ' ' || s.data[0] == '\t'))
		s = foil_slice_of(s.data + 1, s.n_bytes - 1);
	while (s.n_bytes && (s.data[s.n_bytes - 1] == ' ' || s.data[s.n_bytes - 1] == '\t'))
		s.n_bytes--;
	return s;
}

static bool parse_length(struct foil_slice s, uint64_t *out)
{
	uint64_t v = 0;

	if (s.n_bytes == 0 || s.n_bytes > 18)
		return false;
	for (uint32_t i = 0; i < s.n_bytes; i++) {
		if (s.data[i] < '0' || s.data[i] > '9')
			return false;
		v = v * 10 + (uint64_t)(s.data[i] - '0');
	}
	*out = v;
	return true;
}

struct head_facts {
	uint64_t body_bytes;
	bool has_length, has_host;
};

static enum adm_parse header_line(struct foil_slice line, struct adm_parsed *out, struct head_facts *facts)
{
	struct foil_slice name, value = line;

	if (!cut_at(&value, ':', &name) || !is_token(name) || !is_field_value(value))
		return refuse(out, ADM_PARSE_BAD, 400);
	value = trim(value);
	if (foil_slice_eq_nocase(name, FOIL_SLICE("transfer-encoding")))
		return refuse(out, ADM_PARSE_BAD, 501);
	if (foil_slice_eq_nocase(name, FOIL_SLICE("content-length"))) {
		if (facts->has_length || !parse_length(value, &facts->body_bytes))
			return refuse(out, ADM_PARSE_BAD, 400);
		facts->has_length = true;
	}
	if (foil_slice_eq_nocase(name, FOIL_SLICE("host"))) {
		if (facts->has_host)
			return refuse(out, ADM_PARSE_BAD, 400);
		facts->has_host = true;
	}
	if (foil_slice_eq_nocase(name, FOIL_SLICE("connection"))) {
		if (foil_slice_eq_nocase(value, FOIL_SLICE("close")))
			out->keep_alive = false;
		else if (foil_slice_eq_nocase(value, FOIL_SLICE("keep-alive")))
			out->keep_alive = true;
	}
	return ADM_PARSE_OK;
}

/* The head ends at the first empty line; false when it is not there yet. */
static bool head_is_whole(struct foil_slice rest)
{
	struct foil_slice line;

	while (next_line(&rest, &line))
		if (line.n_bytes == 0)
			return true;
	return false;
}

enum adm_parse adm_parse(const char *data, size_t n_bytes, struct adm_parsed *out)
{
	struct foil_slice rest = foil_slice_of(data, FOIL_MIN(n_bytes, (size_t)ADM_HEAD_BYTES_MAX)), line;
	struct head_facts facts = {0};

	*out = (struct adm_parsed){.status = 400};
	if (!head_is_whole(rest))
		return n_bytes >= ADM_HEAD_BYTES_MAX ? refuse(out, ADM_PARSE_TOO_LONG, 431) : ADM_PARSE_MORE;
	if (!next_line(&rest, &line))
		return refuse(out, ADM_PARSE_BAD, 400);
	enum adm_parse result = request_line(line, out);
	for (uint32_t n = 0; result == ADM_PARSE_OK && next_line(&rest, &line) && line.n_bytes; n++)
		result = n < HEADERS_MAX ? header_line(line, out, &facts) : refuse(out, ADM_PARSE_TOO_LONG, 431);
	if (result != ADM_PARSE_OK)
		return result;
	if (!facts.has_host && out->is_1_1)
		return refuse(out, ADM_PARSE_BAD, 400); /* RFC 9112 3.2 */
	if (facts.body_bytes > ADM_BODY_BYTES_MAX)
		return refuse(out, ADM_PARSE_TOO_LONG, 413);
	size_t head_bytes = (size_t)(rest.data - data);
	if (n_bytes - head_bytes < facts.body_bytes)
		return ADM_PARSE_MORE;
	out->request.body = foil_slice_of(data + head_bytes, (size_t)facts.body_bytes);
	out->n_bytes = head_bytes + (size_t)facts.body_bytes;
	return ADM_PARSE_OK;
}
