/* The parser of heads and trailers: pure functions over contiguous bytes, one pass, strict (RFC 9112 sections 2 to 5, without the
 * leniency that it permits: no bare LF, no obs-fold, no white space but the one space). What origins may do all the same is made strict before: h1_tidy.
 * Not here: what fields mean together; h1_message.c.
 * Invariant: no byte of a value, name or target is copied, but for names that are not in header_names.def and have capitals. */
#include "dataplane/http/h1_priv.h"
#include "dataplane/http/h1_scan.h"

#define IS_DIGIT(c) ((c) >= '0' && (c) <= '9')
#define IS_UPPER(c) ((c) >= 'A' && (c) <= 'Z')
#define IS_LOWER(c) ((c) >= 'a' && (c) <= 'z')
#define IS_ALNUM(c) (IS_DIGIT(c) || IS_UPPER(c) || IS_LOWER(c))
#define IS_TOKEN(c)                                                                                                                       \
	(IS_ALNUM(c) || (c) == '!' || (c) == '#' || (c) == '$' || (c) == '%' || (c) == '&' || (c) == '\'' || (c) == '*' || (c) == '+' ||     \
	 (c) == '-' || (c) == '.' || (c) == '^' || (c) == '_' || (c) == '`' || (c) == '|' || (c) == '~')
#define IS_NAME(c)                                                                                                                        \
	(IS_ALNUM(c) || (c) == '-' || (c) == '.' || (c) == '_' || (c) == '~' || (c) == '%' || (c) == '!' || (c) == '$' || (c) == '&' ||      \
	 (c) == '\'' || (c) == '(' || (c) == ')' || (c) == '*' || (c) == '+' || (c) == ';' || (c) == '=')
#define IS_HEX(c) (IS_DIGIT(c) || ((c) >= 'a' && (c) <= 'f') || ((c) >= 'A' && (c) <= 'F'))
#define CLASS(c)                                                                                                                          \
	((IS_TOKEN(c) ? H1_TOKEN : 0) | ((c) > 0x20 && (c) < 0x7f ? H1_TARGET : 0) |                                                         \
	 (((c) >= 0x20 && (c) != 0x7f) || (c) == '\t' ? H1_VALUE : 0) | (IS_NAME(c) ? H1_NAME : 0) | (IS_UPPER(c) ? H1_UPPER : 0) |          \
	 (IS_HEX(c) ? H1_HEX : 0) | ((c) == ' ' || (c) == '\t' ? H1_SPACE : 0) | (IS_DIGIT(c) ? H1_DIGIT : 0))
#define CLASS4(c) CLASS(c), CLASS((c) + 1), CLASS((c) + 2), CLASS((c) + 3)
#define CLASS16(c) CLASS4(c), CLASS4((c) + 4), CLASS4((c) + 8), CLASS4((c) + 12)
#define CLASS64(c) CLASS16(c), CLASS16((c) + 16), CLASS16((c) + 32), CLASS16((c) + 48)

const uint8_t h1_class[256] = {CLASS64(0), CLASS64(64), CLASS64(128), CLASS64(192)};

#define HALVES2(is, c) ((is((c)) ? 1 : 0) | (is((c) + 16) ? 2 : 0))
#define HALVES(is, c) (HALVES2(is, c) | HALVES2(is, (c) + 32) << 2 | HALVES2(is, (c) + 64) << 4 | HALVES2(is, (c) + 96) << 6)
#define HALVES4(is, c) HALVES(is, c), HALVES(is, (c) + 1), HALVES(is, (c) + 2), HALVES(is, (c) + 3)
#define HALVES16(is) HALVES4(is, 0), HALVES4(is, 4), HALVES4(is, 8), HALVES4(is, 12)

const uint8_t h1_token_by_low[16] = {HALVES16(IS_TOKEN)};
const uint8_t h1_name_by_low[16] = {HALVES16(IS_NAME)};

/* A bit for each LF of the 32 bytes at p, or of n when there are fewer. */
static inline uint32_t line_feeds(const char *p, uint32_t n)
{
#ifdef FOIL_HAS_VECTORS
	const __m128i lf = _mm_set1_epi8('\n');
	uint32_t first = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(foil_load_16(p, n), lf));

	return n <= 16 ? first : first | (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(foil_load_16(&p[16], n - 16), lf)) << 16;
#else
	uint32_t bits = 0;

	for (uint32_t i = 0; i < FOIL_MIN(n, 32u); i++)
		bits |= (uint32_t)(p[i] == '\n') << i;
	return bits;
#endif
}

enum h1_block_result h1_block_scan(struct h1_block *b, const char *p, uint32_t n_bytes, uint32_t *end_bytes)
{
	uint32_t start = b->line_start, n_lines = 0;
	enum h1_block_result r = H1_BLOCK_MORE;

	for (uint32_t from = b->scanned; from < n_bytes && r == H1_BLOCK_MORE; from += 32) {
		for (uint32_t lf = line_feeds(&p[from], n_bytes - from); lf; lf &= lf - 1) {
			uint32_t at = from + (uint32_t)__builtin_ctz(lf);
			bool has_cr = at > start && p[at - 1] == '\r';
			if (FOIL_UNLIKELY(b->takes_lf))
				b->is_untidy |= !has_cr || h1_is((uint8_t)p[start], H1_SPACE);
			else if (FOIL_UNLIKELY(!has_cr))
				return H1_BLOCK_BARE_LF;
			if (at - has_cr == start) {
				*end_bytes = n_bytes = at + 1;
				r = H1_BLOCK_FOUND;
				break;
			}
			start = at + 1;
			n_lines++;
		}
	}
	b->line_start = start;
	b->n_lines += n_lines;
	b->scanned = n_bytes;
	return r;
}

struct foil_slice h1_tidy(struct foil_worker *w, struct foil_arena *a, struct foil_slice bytes, uint32_t *n_lines)
{
	struct foil_cur c = cur_of(bytes.data, bytes.n_bytes);
	char *out = foil_arena_alloc(w, a, bytes.n_bytes + *n_lines + 1u); /* a CR more a line at most */
	uint32_t n = 0;

	if (!out)
		return (struct foil_slice){NULL, 0};
	*n_lines = 0;
	for (const uint8_t *lf; (lf = memchr(c.at, '\n', cur_left(&c)));) {
		struct foil_slice line = cur_slice(&c, (size_t)(lf - c.at));
		(void)cur_u8(&c);
		if (line.n_bytes && line.data[line.n_bytes - 1] == '\r')
			line.n_bytes--;
		if (*n_lines > 1 && line.n_bytes && h1_is((uint8_t)line.data[0], H1_SPACE)) { /* of a field; the status line has no second one */
			n -= 2;
			out[n++] = ' ';
			line = h1_trim(line);
		} else if (line.n_bytes) {
			(*n_lines)++;
		}
		if (line.n_bytes)
			memcpy(&out[n], line.data, line.n_bytes);
		n += line.n_bytes;
		out[n++] = '\r';
		out[n++] = '\n';
	}
	return foil_slice_of(out, n);
}

static bool take_crlf(struct foil_cur *c)
{
	const uint8_t *p = cur_bytes(c, 2);

	return p && p[0] == '\r' && p[1] == '\n';
}

/* There is room for 16 bytes more than it has. */
static void to_lower(char *to, struct foil_slice from)
{
#ifdef FOIL_HAS_VECTORS
	for (uint32_t i = 0; i < from.n_bytes; i += 16) {
		foil_store_16(&to[i], foil_lower_16(foil_load_16(&from.data[i], from.n_bytes - i)));
	}
#else
	for (uint32_t i = 0; i < from.n_bytes; i++)
		to[i] = foil_ascii_lower(from.data[i]);
#endif
}

/* The name in lower case: the table's own bytes, the line's, or a copy in the arena; {NULL,0} when that is exhausted. */
static struct foil_slice lower_name(struct foil_worker *w, struct foil_arena *a, struct foil_slice name, bool has_upper, uint16_t *id)
{
	char text[HTTP_NAME_BYTES_MAX + 16];
	struct foil_slice lower = name;

	if (has_upper) {
		char *at = text;
		if (name.n_bytes > HTTP_NAME_BYTES_MAX) {
			at = foil_arena_alloc(w, a, name.n_bytes + 16u);
			if (!at)
				return (struct foil_slice){NULL, 0};
		}
		to_lower(at, name);
		lower.data = at;
	}
	*id = (uint16_t)http_header_intern(lower);
	if (*id != HTTP_HDR_OTHER)
		return http_header_name(*id);
	return lower.data == text ? foil_arena_copy(w, a, lower) : lower;
}

/* name ":" OWS value OWS CRLF. Every index is below left. */
static enum http_reason parse_field(struct foil_worker *w, struct foil_arena *a, struct foil_cur *c, struct http_header *out)
{
	const uint8_t *p = c->at;
	size_t left = cur_left(c), from, end;
	uint8_t classes = 0;
	size_t n_name = h1_span_token(c, &classes);

	if (FOIL_UNLIKELY(n_name == 0))
		return h1_is(h1_peek(c), H1_SPACE) ? HTTP_REASON_OBS_FOLD : HTTP_REASON_INVALID_HEADER_NAME;
	if (FOIL_UNLIKELY(n_name == left || p[n_name] != ':'))
		return n_name < left && h1_is(p[n_name], H1_SPACE) ? HTTP_REASON_SPACE_BEFORE_COLON : HTTP_REASON_INVALID_HEADER_NAME;
	for (from = n_name + 1; from < left && h1_is(p[from], H1_SPACE);)
		from++;
	end = from + h1_span_value(&(struct foil_cur){.at = &p[from], .end = c->end});
	if (FOIL_UNLIKELY(left - end < 2 || p[end] != '\r' || p[end + 1] != '\n'))
		return HTTP_REASON_INVALID_HEADER_VALUE;
	(void)cur_skip(c, end + 2); /* counted */
	while (end > from && h1_is(p[end - 1], H1_SPACE))
		end--;
	out->value = foil_slice_of(&p[from], end - from);
	out->is_removed = false;
	out->judged = 0;
	out->name = lower_name(w, a, foil_slice_of(p, n_name), classes & H1_UPPER, &out->id);
	return out->name.data ? HTTP_REASON_OK : HTTP_REASON_OUT_OF_MEMORY;
}

static void note_once(struct foil_slice *slot, uint16_t *n, struct foil_slice value)
{
	if ((*n)++ == 0)
		*slot = value;
}

/* Puts a field where it belongs: facts, or the headers. False: it was not for the headers. */
static bool is_for_headers(const struct http_header *h, bool is_request, struct h1_facts *f)
{
	switch (h->id) {
	case HTTP_HDR_HOST:
		if (!is_request)
			return true;
		if (f->n_host < FOIL_COUNT_OF(f->host))
			f->host[f->n_host] = h->value;
		f->n_host++;
		return false;
	case HTTP_HDR_CONTENT_LENGTH:
		note_once(&f->content_length, &f->n_content_length, h->value);
		return false;
	case HTTP_HDR_TRANSFER_ENCODING:
		note_once(&f->transfer_encoding, &f->n_transfer_encoding, h->value);
		return false;
	case HTTP_HDR_CONNECTION:
		if (f->n_connection < H1_CONNECTION_LINES_MAX)
			f->connection[f->n_connection] = h->value;
		f->n_connection++;
		return false;
	case HTTP_HDR_TE:
		if (is_request && !f->te.n_bytes)
			f->te = h->value;
		return false;
	case HTTP_HDR_UPGRADE:
		note_once(&f->upgrade, &f->n_upgrade, h->value);
		return true; /* taken out again unless the connection is to be upgraded */
	case HTTP_HDR_EXPECT:
		if (is_request && foil_slice_eq_nocase(h->value, FOIL_SLICE("100-continue")))
			f->has_expect_continue = true;
		return true;
	case HTTP_HDR_KEEP_ALIVE:
	case HTTP_HDR_PROXY_CONNECTION:
	case HTTP_HDR_HTTP2_SETTINGS:
		return false;
	default:
		return true;
	}
}

/* All fields up to the empty line, which must end the block. */
static enum http_reason parse_fields(struct foil_worker *w, struct foil_arena *a, struct foil_cur *c, uint32_t n_lines,
				     const struct http_limits *limits, bool is_request, struct http_head *out, struct h1_facts *f)
{
	if (n_lines > limits->headers_max)
		return HTTP_REASON_TOO_MANY_HEADERS;
	if (http_headers_reserve(w, a, &out->headers, n_lines + 16) != 0) /* room for what filters add */
		return HTTP_REASON_OUT_OF_MEMORY;
	http_headers_lack_all(&out->headers);
	for (uint32_t i = 0; i < n_lines; i++) {
		struct http_header *h = &out->headers.list[out->headers.n];
		enum http_reason why = parse_field(w, a, c, h);
		if (FOIL_UNLIKELY(why != HTTP_REASON_OK))
			return why;
		if (FOIL_UNLIKELY(limits->reject_underscores || limits->drop_underscores) && memchr(h->name.data, '_', h->name.n_bytes)) {
			if (limits->reject_underscores)
				return HTTP_REASON_UNDERSCORE;
			continue;
		}
		if (!is_for_headers(h, is_request, f))
			continue;
		if (h->id == HTTP_HDR_CONTENT_TYPE && http_content_type_is_grpc(h->value))
			out->is_grpc = true;
		out->headers.n++;
		http_headers_gain(&out->headers, h->id);
	}
	return take_crlf(c) && cur_left(c) == 0 ? HTTP_REASON_OK : HTTP_REASON_CODEC_ERROR;
}

/* HTTP-version: "HTTP/" DIGIT "." DIGIT, case-sensitive. Any minor of 1 from 1 on is 1.1 (RFC 9110 2.5). */
static enum http_reason parse_version(struct foil_cur *c, enum http_version *out)
{
	struct foil_slice v = cur_slice(c, 8);

	if (!v.data || memcmp(v.data, "HTTP/", 5) != 0 || v.data[6] != '.' || !h1_is((uint8_t)v.data[5], H1_DIGIT) ||
	    !h1_is((uint8_t)v.data[7], H1_DIGIT))
		return HTTP_REASON_INVALID_VERSION;
	if (v.data[5] != '1')
		return HTTP_REASON_UNSUPPORTED_VERSION;
	*out = v.data[7] == '0' ? HTTP_VERSION_10 : HTTP_VERSION_11;
	return HTTP_REASON_OK;
}

/* scheme "://" authority path-abempty [ "?" query ] */
static enum http_reason parse_absolute_form(struct foil_slice target, struct http_head *out, struct h1_facts *f)
{
	struct foil_cur c = cur_of(target.data, target.n_bytes);
	size_t n = 0;

	while (n < cur_left(&c) && c.at[n] != ':')
		n++;
	struct foil_slice scheme = cur_slice(&c, n);
	struct foil_slice mark = cur_slice(&c, 3);
	if (!mark.data || !foil_slice_eq(mark, FOIL_SLICE("://")))
		return HTTP_REASON_INVALID_URL;
	if (foil_slice_eq_nocase(scheme, FOIL_SLICE("http")))
		out->scheme = FOIL_SLICE("http");
	else if (foil_slice_eq_nocase(scheme, FOIL_SLICE("https")))
		out->scheme = FOIL_SLICE("https");
	else
		return HTTP_REASON_INVALID_SCHEME;
	for (n = 0; n < cur_left(&c) && c.at[n] != '/' && c.at[n] != '?' && c.at[n] != '#';)
		n++;
	out->authority = cur_slice(&c, n);
	if (out->authority.n_bytes == 0 || h1_peek(&c) == '#')
		return HTTP_REASON_INVALID_URL;
	out->path = foil_slice_of(c.at, cur_left(&c));
	out->was_absolute_form = true;
	f->is_authority_from_target = true;
	return HTTP_REASON_OK;
}

static enum http_reason parse_target(struct foil_worker *w, struct foil_arena *a, struct foil_slice target, struct http_head *out,
				     struct h1_facts *f)
{
	enum http_reason why;

	if (out->method == HTTP_METHOD_CONNECT) { /* authority-form, RFC 9112 3.2.3 */
		out->authority = target;
		out->path = FOIL_SLICE("/");
		f->is_authority_from_target = true;
		return HTTP_REASON_OK;
	}
	if (FOIL_LIKELY(target.data[0] == '/')) {
		out->path = target;
		return HTTP_REASON_OK;
	}
	if (foil_slice_eq(target, FOIL_SLICE("*"))) {
		out->path = target;
		return out->method == HTTP_METHOD_OPTIONS ? HTTP_REASON_OK : HTTP_REASON_INVALID_URL;
	}
	why = parse_absolute_form(target, out, f);
	if (why == HTTP_REASON_OK && out->path.n_bytes == 0)
		out->path = FOIL_SLICE("/");
	if (why == HTTP_REASON_OK && out->path.data[0] != '/') { /* "http://host?query" */
		char *p = foil_arena_alloc(w, a, out->path.n_bytes + 1u);
		if (!p)
			return HTTP_REASON_OUT_OF_MEMORY;
		p[0] = '/';
		memcpy(&p[1], out->path.data, out->path.n_bytes);
		out->path = foil_slice_of(p, out->path.n_bytes + 1u);
	}
	return why;
}

/* method SP target SP HTTP-version CRLF */
static enum http_reason parse_request_line(struct foil_worker *w, struct foil_arena *a, struct foil_cur *c, struct http_head *out,
					   struct h1_facts *f)
{
	out->method_text = cur_slice(c, h1_span(c, H1_TOKEN));
	if (out->method_text.n_bytes == 0 || cur_u8(c) != ' ')
		return HTTP_REASON_INVALID_METHOD;
	out->method = http_method_of(out->method_text);
	struct foil_slice target = cur_slice(c, h1_span(c, H1_TARGET));
	if (target.n_bytes == 0 || cur_u8(c) != ' ')
		return HTTP_REASON_INVALID_TARGET;
	enum http_reason why = parse_version(c, &out->version);
	if (why != HTTP_REASON_OK)
		return why;
	if (!take_crlf(c))
		return HTTP_REASON_INVALID_VERSION;
	return parse_target(w, a, target, out, f);
}

enum http_reason h1_parse_request(struct foil_worker *w, struct foil_arena *a, struct foil_slice bytes, uint32_t n_lines,
				  const struct http_limits *limits, struct http_head *out, struct h1_facts *facts)
{
	struct foil_cur c = cur_of(bytes.data, bytes.n_bytes);

	*out = (struct http_head){.version = HTTP_VERSION_11, .head_bytes = bytes.n_bytes};
	*facts = (struct h1_facts){0};
	if (n_lines == 0)
		return HTTP_REASON_CODEC_ERROR;
	enum http_reason why = parse_request_line(w, a, &c, out, facts);
	if (why == HTTP_REASON_OK && out->was_absolute_form && limits->refuse_https && foil_slice_eq(out->scheme, FOIL_SLICE("https")))
		return HTTP_REASON_HTTPS_ON_PLAINTEXT;
	return why == HTTP_REASON_OK ? parse_fields(w, a, &c, n_lines - 1, limits, true, out, facts) : why;
}

/* HTTP-version SP 3DIGIT SP [ reason-phrase ] CRLF; the second space may be missing when there is no phrase, as many servers do. */
static enum http_reason parse_status_line(struct foil_cur *c, struct http_head *out)
{
	enum http_reason why = parse_version(c, &out->version);

	if (why != HTTP_REASON_OK)
		return why == HTTP_REASON_INVALID_VERSION ? HTTP_REASON_CODEC_ERROR : why;
	struct foil_slice s = cur_slice(c, 4);
	if (!s.data || s.data[0] != ' ' || !h1_is((uint8_t)s.data[1], H1_DIGIT) || !h1_is((uint8_t)s.data[2], H1_DIGIT) ||
	    !h1_is((uint8_t)s.data[3], H1_DIGIT) || s.data[1] == '0')
		return HTTP_REASON_INVALID_STATUS;
	out->status = (uint16_t)((s.data[1] - '0') * 100 + (s.data[2] - '0') * 10 + (s.data[3] - '0'));
	if (h1_peek(c) == ' ') {
		(void)cur_u8(c); /* the space seen */
		out->reason = cur_slice(c, h1_span_value(c));
	}
	return take_crlf(c) ? HTTP_REASON_OK : HTTP_REASON_INVALID_STATUS;
}

enum http_reason h1_parse_response(struct foil_worker *w, struct foil_arena *a, struct foil_slice bytes, uint32_t n_lines,
				   const struct http_limits *limits, struct http_head *out, struct h1_facts *facts)
{
	struct foil_cur c = cur_of(bytes.data, bytes.n_bytes);

	*out = (struct http_head){.version = HTTP_VERSION_11, .head_bytes = bytes.n_bytes};
	*facts = (struct h1_facts){0};
	if (n_lines == 0)
		return HTTP_REASON_CODEC_ERROR;
	enum http_reason why = parse_status_line(&c, out);
	return why == HTTP_REASON_OK ? parse_fields(w, a, &c, n_lines - 1, limits, false, out, facts) : why;
}

/* Framing, routing, authentication and what says how content is to be read (RFC 9110 6.5.1). */
static bool is_forbidden_trailer(const struct http_header *h)
{
	switch (h->id) {
	case HTTP_HDR_HOST: case HTTP_HDR_CONNECTION: case HTTP_HDR_KEEP_ALIVE: case HTTP_HDR_PROXY_CONNECTION: case HTTP_HDR_TE:
	case HTTP_HDR_TRAILER: case HTTP_HDR_TRANSFER_ENCODING: case HTTP_HDR_UPGRADE: case HTTP_HDR_CONTENT_LENGTH:
	case HTTP_HDR_CONTENT_TYPE: case HTTP_HDR_CONTENT_ENCODING: case HTTP_HDR_CONTENT_RANGE: case HTTP_HDR_EXPECT:
	case HTTP_HDR_AUTHORIZATION: case HTTP_HDR_COOKIE: case HTTP_HDR_SET_COOKIE: case HTTP_HDR_CACHE_CONTROL: case HTTP_HDR_PRAGMA:
	case HTTP_HDR_AGE: case HTTP_HDR_EXPIRES: case HTTP_HDR_VARY: case HTTP_HDR_RANGE: case HTTP_HDR_MAX_FORWARDS:
	case HTTP_HDR_LOCATION: case HTTP_HDR_RETRY_AFTER: case HTTP_HDR_DATE: case HTTP_HDR_WWW_AUTHENTICATE:
	case HTTP_HDR_PROXY_AUTHENTICATE: case HTTP_HDR_PROXY_AUTHORIZATION: case HTTP_HDR_HTTP2_SETTINGS: case HTTP_HDR_FORWARDED:
		return true;
	default:
		return foil_slice_has_prefix(h->name, FOIL_SLICE("x-forwarded-")) || foil_slice_has_prefix(h->name, FOIL_SLICE("x-envoy-"));
	}
}

enum http_reason h1_parse_trailers(struct foil_worker *w, struct foil_arena *a, struct foil_slice bytes, uint32_t n_lines,
				   const struct http_limits *limits, struct http_headers *out)
{
	struct foil_cur c = cur_of(bytes.data, bytes.n_bytes);

	*out = (struct http_headers){0};
	if (n_lines > limits->headers_max)
		return HTTP_REASON_TRAILERS_TOO_LARGE;
	if (n_lines && http_headers_reserve(w, a, out, n_lines) != 0)
		return HTTP_REASON_OUT_OF_MEMORY;
	for (uint32_t i = 0; i < n_lines; i++) {
		enum http_reason why = parse_field(w, a, &c, &out->list[out->n]);
		if (why != HTTP_REASON_OK)
			return why;
		if (!is_forbidden_trailer(&out->list[out->n]))
			out->n++;
	}
	return take_crlf(&c) && cur_left(&c) == 0 ? HTTP_REASON_OK : HTTP_REASON_CODEC_ERROR;
}
