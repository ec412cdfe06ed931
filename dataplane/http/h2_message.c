/* What the fields of an HTTP/2 block mean together (RFC 9113 section 8): pseudo fields in front, each once; no field that belongs to a
 * connection; lengths that fit. A message that breaks a rule is malformed, and its stream ends (8.1.1).
 * The judging of names, values, targets and authorities is h1's, so that what is let in here can go out as HTTP/1.1 (PR-5).
 * Invariant: after OK no pseudo field, host, te or content-length is left among the headers. */
#include "dataplane/http/h1_priv.h"
#include "dataplane/http/h1_scan.h"
#include "dataplane/http/h2_priv.h"

/* A bit a pseudo field that was seen. */
enum pseudo {
	PSEUDO_METHOD = 1 << (HPACK_METHOD - HTTP_HDR_COUNT), PSEUDO_SCHEME = 1 << (HPACK_SCHEME - HTTP_HDR_COUNT),
	PSEUDO_AUTHORITY = 1 << (HPACK_AUTHORITY - HTTP_HDR_COUNT), PSEUDO_PATH = 1 << (HPACK_PATH - HTTP_HDR_COUNT),
	PSEUDO_STATUS = 1 << (HPACK_STATUS - HTTP_HDR_COUNT), PSEUDO_PROTOCOL = 1 << (HPACK_PROTOCOL - HTTP_HDR_COUNT),
	PSEUDO_OF_RESPONSE = PSEUDO_STATUS,
	PSEUDO_OF_REQUEST = PSEUDO_METHOD | PSEUDO_SCHEME | PSEUDO_AUTHORITY | PSEUDO_PATH | PSEUDO_PROTOCOL,
};

static bool is_span(struct foil_slice s, uint8_t cls)
{
	struct foil_cur c = cur_of(s.data, s.n_bytes);

	return s.n_bytes && h1_span(&c, cls) == s.n_bytes;
}

/* No upper case, and a token. */
static bool name_is_valid(struct foil_slice name, bool *has_underscore)
{
	struct foil_cur c = cur_of(name.data, name.n_bytes);
	uint8_t classes;

	if (name.n_bytes == 0 || h1_span_token(&c, &classes) != name.n_bytes || (classes & H1_UPPER))
		return false;
	*has_underscore = memchr(name.data, '_', name.n_bytes) != NULL;
	return true;
}

/* Section 8.2.1: no space around it, nothing that would end a line. */
static bool value_is_valid(struct foil_slice v)
{
	if (v.n_bytes == 0)
		return true;
	if (h1_is((uint8_t)v.data[0], H1_SPACE) || h1_is((uint8_t)v.data[v.n_bytes - 1], H1_SPACE))
		return false;
	return h1_is_value(v);
}

static bool is_status(struct foil_slice v)
{
	for (uint32_t i = 0; i < v.n_bytes; i++)
		if (!h1_is((uint8_t)v.data[i], H1_DIGIT))
			return false;
	return v.n_bytes == 3 && v.data[0] != '0';
}

/* RFC 3986 3.1. Others than http and https are let in (RFC 9113 8.3.1); routes and locations go by it, what needs TLS does not. */
static bool is_scheme(struct foil_slice s)
{
	for (uint32_t i = 0; i < s.n_bytes; i++) {
		char c = foil_ascii_lower(s.data[i]);
		bool is_letter = c >= 'a' && c <= 'z';
		if (!is_letter && (i == 0 || (!h1_is((uint8_t)c, H1_DIGIT) && c != '+' && c != '-' && c != '.')))
			return false;
	}
	return s.n_bytes != 0;
}

static bool fits(uint16_t id, struct foil_slice value)
{
	switch (id) {
	case HPACK_SCHEME: return is_scheme(value);
	case HPACK_METHOD:
	case HPACK_PROTOCOL: return is_span(value, H1_TOKEN);
	case HPACK_PATH: return is_span(value, H1_TARGET);
	case HPACK_AUTHORITY: return h1_authority_is_valid(value);
	case HPACK_STATUS: return is_status(value);
	default: return false;
	}
}

uint8_t h2_judge(uint16_t id, struct foil_slice name, struct foil_slice value)
{
	bool has_underscore = false, is_name = id != HTTP_HDR_OTHER || name_is_valid(name, &has_underscore);

	return (uint8_t)((is_name ? HTTP_JUDGED_NAME : 0) | (value_is_valid(value) ? HTTP_JUDGED_VALUE : 0) | (has_underscore ? HTTP_JUDGED_UNDERSCORE : 0) |
			 (id >= HTTP_HDR_COUNT && fits(id, value) ? HTTP_JUDGED_FITS : 0));
}

struct reading {
	struct http_head *out;
	struct foil_slice host, cookie, protocol;
	uint32_t seen;         /* enum pseudo */
	uint16_t n_host, n_cookies;
	uint32_t cookie_bytes;
	bool is_request, has_expect_continue, authority_fits;
};

static enum http_reason read_pseudo(struct reading *r, const struct http_header *f)
{
	uint32_t which = 1u << (f->id - HTTP_HDR_COUNT);
	struct http_head *out = r->out;

	if (!(which & (r->is_request ? PSEUDO_OF_REQUEST : PSEUDO_OF_RESPONSE)) || (r->seen & which) || !(f->judged & HTTP_JUDGED_VALUE))
		return HTTP_REASON_H2_BAD_PSEUDO;
	if (!(f->judged & HTTP_JUDGED_FITS) && f->id != HPACK_AUTHORITY)
		return HTTP_REASON_H2_BAD_PSEUDO;
	r->seen |= which;
	switch (f->id) {
	case HPACK_METHOD: out->method_text = f->value; break;
	case HPACK_PATH: out->path = f->value; break;
	case HPACK_SCHEME: out->scheme = f->value; break;
	case HPACK_AUTHORITY:
		out->authority = f->value;
		r->authority_fits = f->judged & HTTP_JUDGED_FITS;
		break;
	case HPACK_PROTOCOL: r->protocol = f->value; break;
	default: /* :status */
		out->status = (uint16_t)((f->value.data[0] - '0') * 100 + (f->value.data[1] - '0') * 10 + (f->value.data[2] - '0'));
		break;
	}
	return HTTP_REASON_OK;
}

/* A field that is no pseudo field. *keep: it stays among the headers. */
static enum http_reason read_field(struct reading *r, const struct http_header *f, bool *keep)
{
	struct http_head *out = r->out;

	*keep = true;
	switch (f->id) {
	case HTTP_HDR_CONNECTION: case HTTP_HDR_KEEP_ALIVE: case HTTP_HDR_PROXY_CONNECTION: case HTTP_HDR_TRANSFER_ENCODING: case HTTP_HDR_UPGRADE:
		return HTTP_REASON_H2_CONNECTION_FIELD;
	case HTTP_HDR_TE:
		*keep = false;
		out->has_te_trailers = true;
		return foil_slice_eq_nocase(f->value, FOIL_SLICE("trailers")) ? HTTP_REASON_OK : HTTP_REASON_H2_CONNECTION_FIELD;
	case HTTP_HDR_HOST:
		*keep = !r->is_request;
		r->host = f->value;
		r->n_host++;
		return HTTP_REASON_OK;
	case HTTP_HDR_CONTENT_LENGTH:
		*keep = false;
		if (out->body == HTTP_BODY_LENGTH || !http_length_parse(f->value, &out->content_length))
			return HTTP_REASON_H2_BAD_LENGTH;
		out->body = HTTP_BODY_LENGTH;
		return HTTP_REASON_OK;
	case HTTP_HDR_EXPECT:
		if (r->is_request && foil_slice_eq_nocase(f->value, FOIL_SLICE("100-continue")))
			r->has_expect_continue = true;
		return HTTP_REASON_OK;
	case HTTP_HDR_COOKIE:
		if (r->n_cookies++ == 0)
			r->cookie = f->value;
		r->cookie_bytes += f->value.n_bytes + 2;
		return HTTP_REASON_OK;
	case HTTP_HDR_CONTENT_TYPE:
		out->is_grpc = out->is_grpc || http_content_type_is_grpc(f->value);
		return HTTP_REASON_OK;
	default:
		return HTTP_REASON_OK;
	}
}

/* The pseudo fields, which come first, go out of the list. */
static enum http_reason read_pseudos(struct reading *r, struct http_headers *list)
{
	uint16_t n = 0;

	for (; n < list->n && list->list[n].id >= HTTP_HDR_COUNT; n++) {
		enum http_reason why = read_pseudo(r, &list->list[n]);
		if (why != HTTP_REASON_OK)
			return why;
	}
	list->list += n;
	list->n = (uint16_t)(list->n - n);
	list->cap = (uint16_t)(list->cap - n);
	return HTTP_REASON_OK;
}

static enum http_reason read_fields(struct reading *r, struct http_headers *list, const struct http_limits *limits)
{
	enum http_reason why = read_pseudos(r, list);
	uint16_t n = 0;

	http_headers_lack_all(list);
	for (uint16_t i = 0; why == HTTP_REASON_OK && i < list->n; i++) {
		struct http_header *f = &list->list[i];
		bool keep = false;
		if (FOIL_UNLIKELY(f->id >= HTTP_HDR_COUNT || (f->name.n_bytes && f->name.data[0] == ':')))
			return HTTP_REASON_H2_BAD_PSEUDO; /* one that is not known, or does not come first */
		if (FOIL_UNLIKELY(!(f->judged & HTTP_JUDGED_NAME)))
			return HTTP_REASON_H2_BAD_FIELD;
		if (FOIL_UNLIKELY((f->judged & HTTP_JUDGED_UNDERSCORE) && limits && limits->reject_underscores))
			return HTTP_REASON_H2_UNDERSCORE;
		if (FOIL_UNLIKELY(!(f->judged & HTTP_JUDGED_VALUE)))
			return HTTP_REASON_H2_BAD_FIELD;
		if (FOIL_UNLIKELY((f->judged & HTTP_JUDGED_UNDERSCORE) && limits && limits->drop_underscores))
			continue;
		why = read_field(r, f, &keep);
		if (!keep)
			continue;
		if (n != i)
			list->list[n] = *f;
		n++;
		http_headers_gain(list, f->id);
	}
	list->n = n;
	return why;
}

/* Section 8.2.3: the crumbs become one field before anybody sees them. */
static enum http_reason join_cookies(struct foil_worker *w, struct foil_arena *a, const struct reading *r, struct http_headers *list)
{
	struct http_header *first = NULL;
	uint32_t at = 0;
	uint16_t n = 0;

	if (r->n_cookies < 2)
		return HTTP_REASON_OK;
	char *p = foil_arena_alloc(w, a, r->cookie_bytes);
	if (!p)
		return HTTP_REASON_OUT_OF_MEMORY;
	for (uint16_t i = 0; i < list->n; i++) {
		const struct http_header f = list->list[i];
		if (f.id != HTTP_HDR_COOKIE) {
			list->list[n++] = f;
			continue;
		}
		if (at && f.value.n_bytes) { /* an empty crumb would leave white space at the end (RFC 9113 8.2.1) */
			memcpy(&p[at], "; ", 2);
			at += 2;
		}
		if (f.value.n_bytes)
			memcpy(&p[at], f.value.data, f.value.n_bytes);
		at += f.value.n_bytes;
		if (!first) {
			first = &list->list[n];
			list->list[n++] = f;
		}
	}
	list->n = n;
	if (first)
		first->value = foil_slice_of(p, at); /* of values that were judged, and "; " */
	return HTTP_REASON_OK;
}

/* Section 8.3.1. :authority wins, host is dropped as Envoy does; without it host is the authority. */
static enum http_reason read_authority(const struct reading *r, struct http_head *out)
{
	if (r->n_host > 1)
		return HTTP_REASON_H2_BAD_AUTHORITY;
	if (!(r->seen & PSEUDO_AUTHORITY) || out->authority.n_bytes == 0)
		out->authority = r->host;
	else if (r->authority_fits)
		return HTTP_REASON_OK;
	if (out->authority.n_bytes == 0)
		return HTTP_REASON_MISSING_HOST;
	return h1_authority_is_valid(out->authority) ? HTTP_REASON_OK : HTTP_REASON_H2_BAD_AUTHORITY;
}

/* Extended CONNECT (RFC 8441 4): what HTTP/1.1 asks for by GET and Upgrade. Ours is to read as that. */
static void read_upgrade(struct http_head *out)
{
	out->is_upgrade = true;
	out->method = HTTP_METHOD_GET;
	out->method_text = FOIL_SLICE("GET");
}

static enum http_reason check_target(const struct reading *r, struct http_head *out)
{
	const uint32_t most = PSEUDO_METHOD | PSEUDO_SCHEME | PSEUDO_PATH;

	if (!(r->seen & PSEUDO_METHOD))
		return HTTP_REASON_H2_BAD_PSEUDO;
	out->method = http_method_of(out->method_text);
	if (r->seen & PSEUDO_PROTOCOL) {
		if (out->method != HTTP_METHOD_CONNECT || !(r->seen & PSEUDO_AUTHORITY))
			return HTTP_REASON_H2_BAD_PSEUDO;
		if (out->body == HTTP_BODY_LENGTH)
			return HTTP_REASON_H2_BAD_LENGTH; /* bytes of a tunnel have no number */
		read_upgrade(out);
	} else if (out->method == HTTP_METHOD_CONNECT) { /* section 8.5 */
		if ((r->seen & (PSEUDO_SCHEME | PSEUDO_PATH)) || !(r->seen & PSEUDO_AUTHORITY))
			return HTTP_REASON_H2_BAD_PSEUDO;
		out->path = FOIL_SLICE("/");
		return HTTP_REASON_OK;
	}
	if ((r->seen & most) != most)
		return HTTP_REASON_H2_BAD_PSEUDO;
	if (out->path.data[0] == '/')
		return HTTP_REASON_OK;
	if (out->method == HTTP_METHOD_OPTIONS && foil_slice_eq(out->path, FOIL_SLICE("*")))
		return HTTP_REASON_OK;
	return HTTP_REASON_H2_BAD_PSEUDO;
}

enum http_reason h2_read_request(struct foil_worker *w, struct foil_arena *a, struct http_headers *list, const struct http_limits *limits, bool end,
				 struct http_head *out)
{
	struct reading r = {.out = out, .is_request = true};

	*out = (struct http_head){.version = HTTP_VERSION_2};
	enum http_reason why = read_fields(&r, list, limits);
	if (why == HTTP_REASON_OK)
		why = check_target(&r, out);
	if (why == HTTP_REASON_OK)
		why = join_cookies(w, a, &r, list);
	if (why == HTTP_REASON_OK && out->is_upgrade)
		why = end ? HTTP_REASON_H2_BAD_MESSAGE
			  : http_header_add_id(w, a, list, HTTP_HDR_UPGRADE, r.protocol) == 0 ? HTTP_REASON_OK : HTTP_REASON_OUT_OF_MEMORY;
	if (why != HTTP_REASON_OK)
		return why;
	if (out->is_upgrade)
		out->body = HTTP_BODY_NONE;
	else if (out->body == HTTP_BODY_NONE && !end)
		out->body = HTTP_BODY_CHUNKED; /* of a length that is not known yet */
	else if (end && out->body == HTTP_BODY_LENGTH && out->content_length)
		return HTTP_REASON_H2_BAD_LENGTH;
	out->headers = *list;
	out->expects_continue = r.has_expect_continue && !end; /* the field goes on to the origin, as HTTP/1.1's */
	return read_authority(&r, out);
}

enum http_reason h2_read_response(struct http_headers *list, bool end, struct http_head *out)
{
	struct reading r = {.out = out, .is_request = false};

	*out = (struct http_head){.version = HTTP_VERSION_2};
	enum http_reason why = read_fields(&r, list, NULL);
	if (why != HTTP_REASON_OK)
		return why;
	if (!(r.seen & PSEUDO_STATUS) || out->status == 101 || (out->status < 200 && end))
		return HTTP_REASON_H2_BAD_PSEUDO;
	if (out->body == HTTP_BODY_NONE && !end)
		out->body = HTTP_BODY_CHUNKED;
	out->headers = *list;
	return HTTP_REASON_OK;
}

enum http_reason h2_read_trailers(struct http_headers *list)
{
	struct http_head unused = {.version = HTTP_VERSION_2};
	struct reading r = {.out = &unused, .is_request = false};

	for (uint16_t i = 0; i < list->n; i++)
		if (list->list[i].name.n_bytes && list->list[i].name.data[0] == ':') /* an id says the same, but for those that nobody knows */
			return HTTP_REASON_H2_BAD_PSEUDO;
	return read_fields(&r, list, NULL);
}
