/* What the fields of a head mean together: who is asked (host), where the message ends (framing), what stays on this hop.
 * Rules: RFC 9112 sections 3.2 and 6, RFC 9110 sections 7.6.1, 8.6 and 10.1; where they leave a choice, the stricter one, and where Envoy
 * answers with a name that its users know, that name.
 * Invariant: after OK at most one of Content-Length and chunked was there, once, and valid; neither is left in the headers. */
#include "dataplane/http/h1_priv.h"
#include "dataplane/http/h1_scan.h"

uint16_t http_reason_status(enum http_reason reason)
{
	switch (reason) {
	case HTTP_REASON_LOW_VERSION:
		return 426;
	case HTTP_REASON_HEADERS_TOO_LARGE:
	case HTTP_REASON_TOO_MANY_HEADERS:
	case HTTP_REASON_H2_HEADERS_TOO_LARGE:
		return 431;
	case HTTP_REASON_HTTPS_ON_PLAINTEXT:
		return 403;
	case HTTP_REASON_INVALID_TRANSFER_ENCODING:
		return 501;
	case HTTP_REASON_UNSUPPORTED_VERSION:
		return 505;
	case HTTP_REASON_HEAD_TIMEOUT:
		return 408;
	default:
		return 400;
	}
}

/* *DIGIT: nobody connects to what a client writes here, so a number that is no port is only a host that has no route (Envoy, too). */
static bool port_is_valid(struct foil_slice port)
{
	uint64_t v;

	return port.n_bytes == 0 || http_length_parse(port, &v);
}

/* host [ ":" port ] of RFC 3986 3.2: reg-name or IPv4, or an IP literal in brackets. No user, no path. */
bool h1_authority_is_valid(struct foil_slice authority)
{
	struct foil_cur c = cur_of(authority.data, authority.n_bytes);

	if (h1_peek(&c) == '[') {
		size_t n = 1;
		while (n < cur_left(&c) && (h1_is(c.at[n], H1_HEX) || c.at[n] == ':' || c.at[n] == '.'))
			n++;
		if (n < 3 || n == cur_left(&c) || c.at[n] != ']')
			return false;
		(void)cur_skip(&c, n + 1); /* counted */
	} else {
		size_t n = h1_span(&c, H1_NAME);
		if (n == 0)
			return false;
		(void)cur_skip(&c, n); /* counted */
	}
	if (cur_left(&c) == 0)
		return true;
	if (cur_u8(&c) != ':')
		return false;
	return port_is_valid(foil_slice_of(c.at, cur_left(&c)));
}

static bool is_token(struct foil_slice s)
{
	struct foil_cur c = cur_of(s.data, s.n_bytes);

	return s.n_bytes && h1_span(&c, H1_TOKEN) == s.n_bytes;
}

/* Removes the fields that Connection names. Framing and host are not among the headers any more, so they cannot be named away. */
static void remove_named(struct http_headers *h, struct foil_slice name)
{
	for (uint16_t i = 0; i < h->n; i++)
		if (foil_slice_eq_nocase(h->list[i].name, name))
			h->list[i].is_removed = true;
}

struct connection_says {
	bool close, keep_alive;
	struct foil_slice upgrade_word; /* empty: it does not say it */
};

/* What no client may have taken out on its way: who it is (it would be somebody else here than at the next hop), and pseudo fields. As Envoy. */
static bool may_not_be_named(const struct h1_facts *f, struct foil_slice name)
{
	return name.data[0] == ':' || foil_slice_eq_nocase(name, FOIL_SLICE("x-forwarded-for")) ||
	       foil_slice_eq_nocase(name, FOIL_SLICE("x-forwarded-host")) || foil_slice_eq_nocase(name, FOIL_SLICE("x-forwarded-proto")) ||
	       (f->te.n_bytes >= H1_NAMED_TE_BYTES_MAX && foil_slice_eq_nocase(name, FOIL_SLICE("te")));
}

/* What a request's Connection says, which may be refused; of an answer nothing is. */
static bool connection_is_refused(const struct h1_facts *f)
{
	uint32_t n_names = 0;

	for (uint16_t i = 0; i < f->n_connection; i++) {
		struct foil_cur c = cur_of(f->connection[i].data, f->connection[i].n_bytes);
		struct foil_slice name;
		while (h1_list_next(&c, &name))
			if (++n_names >= H1_REQUEST_NAMES_MAX || may_not_be_named(f, name))
				return true;
	}
	return false;
}

static enum http_reason read_connection(const struct h1_facts *f, struct http_headers *h, struct connection_says *says)
{
	uint32_t n_names = 0;

	if (f->n_connection > H1_CONNECTION_LINES_MAX)
		return HTTP_REASON_CONNECTION_HEADER;
	for (uint16_t i = 0; i < f->n_connection; i++) {
		struct foil_cur c = cur_of(f->connection[i].data, f->connection[i].n_bytes);
		struct foil_slice name;
		while (h1_list_next(&c, &name)) {
			if (foil_slice_eq_nocase(name, FOIL_SLICE("close")))
				says->close = true;
			else if (foil_slice_eq_nocase(name, FOIL_SLICE("keep-alive")))
				says->keep_alive = true;
			else if (foil_slice_eq_nocase(name, FOIL_SLICE("upgrade")))
				says->upgrade_word = name;
			else if (++n_names > H1_CONNECTION_NAMES_MAX)
				return HTTP_REASON_CONNECTION_HEADER;
			else if (is_token(name))
				remove_named(h, name);
		}
	}
	return HTTP_REASON_OK;
}

static bool te_has_trailers(struct foil_slice te)
{
	struct foil_cur c = cur_of(te.data, te.n_bytes);
	struct foil_slice element;

	while (h1_list_next(&c, &element))
		if (foil_slice_eq(element, FOIL_SLICE("trailers"))) /* as it is written (Envoy) */
			return true;
	return false;
}

/* Content-Length and Transfer-Encoding as far as they are the same for requests and responses. */
static enum http_reason read_framing(const struct h1_facts *f, struct http_head *out)
{
	if (f->n_transfer_encoding) {
		if (f->n_content_length)
			return HTTP_REASON_CL_AND_TE;
		if (f->n_transfer_encoding > 1 || !foil_slice_eq_nocase(f->transfer_encoding, FOIL_SLICE("chunked")))
			return HTTP_REASON_INVALID_TRANSFER_ENCODING;
		if (out->version == HTTP_VERSION_10)
			return HTTP_REASON_TRANSFER_ENCODING_NOT_ALLOWED;
		out->body = HTTP_BODY_CHUNKED;
		return HTTP_REASON_OK;
	}
	if (f->n_content_length > 1)
		return HTTP_REASON_MULTIPLE_CONTENT_LENGTHS;
	if (f->n_content_length) {
		if (!http_length_parse(f->content_length, &out->content_length))
			return HTTP_REASON_INVALID_CONTENT_LENGTH;
		out->body = HTTP_BODY_LENGTH;
	}
	return HTTP_REASON_OK;
}

static bool request_has_body(const struct http_head *h)
{
	return h->body == HTTP_BODY_CHUNKED || (h->body == HTTP_BODY_LENGTH && h->content_length);
}

/* h2c is ignored (features.md PR-4): the request goes on as HTTP/1.1. So does one with a body, which a server may choose (RFC 9110 7.8): no
 * handshake has one, and what is body and what is already tunnel must not depend on who reads it. */
static void read_upgrade(const struct h1_facts *f, const struct connection_says *says, struct http_head *out)
{
	bool keeps_field = out->status == 426 && says->upgrade_word.n_bytes; /* which protocols would do (RFC 9110 15.5.22) */

	out->is_upgrade = says->upgrade_word.n_bytes && f->n_upgrade && f->upgrade.n_bytes && out->version == HTTP_VERSION_11 &&
			  !foil_slice_eq_nocase(f->upgrade, FOIL_SLICE("h2c")) && (out->status == 0 ? !request_has_body(out) : out->status == 101);
	out->upgrade_word = says->upgrade_word;
	if (!out->is_upgrade && !keeps_field && f->n_upgrade)
		http_header_remove_id(&out->headers, HTTP_HDR_UPGRADE);
}

/* A waiting client is told to go on by the server codec. The field goes on to the origin too, as RFC 9110 10.1.1 asks of proxies and Envoy does
 * it; an origin's own 100 is passed on to who was not told yet. */
static void read_expect(const struct h1_facts *f, struct http_head *out)
{
	if (!f->has_expect_continue || out->version == HTTP_VERSION_10 || !request_has_body(out))
		return;
	out->expects_continue = true;
}

/* Two Host lines: both, joined as Envoy joins them. No route matches a name with a comma, and the encoder refuses to send it. */
static enum http_reason join_hosts(struct foil_worker *w, struct foil_arena *a, const struct h1_facts *f, struct http_head *out)
{
	uint32_t n = f->host[0].n_bytes;

	if (f->n_host > 2 || !h1_authority_is_valid(f->host[0]) || !h1_authority_is_valid(f->host[1]))
		return HTTP_REASON_MULTIPLE_HOSTS;
	char *p = foil_arena_alloc(w, a, n + 1u + f->host[1].n_bytes);
	if (!p)
		return HTTP_REASON_OUT_OF_MEMORY;
	memcpy(p, f->host[0].data, n);
	p[n] = ',';
	memcpy(&p[n + 1], f->host[1].data, f->host[1].n_bytes);
	out->authority = foil_slice_of(p, n + 1u + f->host[1].n_bytes);
	out->has_several_hosts = true;
	return HTTP_REASON_OK;
}

/* The target's authority wins over Host (RFC 9112 3.2.2), which must be valid all the same. */
static enum http_reason read_host(struct foil_worker *w, struct foil_arena *a, const struct h1_facts *f, struct http_head *out)
{
	if (f->is_authority_from_target) {
		if (f->n_host > 1)
			return HTTP_REASON_MULTIPLE_HOSTS;
		if (!h1_authority_is_valid(out->authority))
			return HTTP_REASON_INVALID_AUTHORITY;
	} else if (f->n_host > 1) {
		return join_hosts(w, a, f, out);
	} else {
		out->authority = f->host[0];
	}
	if (f->n_host && f->host[0].n_bytes && !h1_authority_is_valid(f->host[0]))
		return HTTP_REASON_INVALID_AUTHORITY;
	return HTTP_REASON_OK;
}

enum http_reason h1_read_request(struct foil_worker *w, struct foil_arena *a, struct foil_slice bytes, uint32_t n_lines,
				 const struct http_limits *limits, struct http_head *out)
{
	struct h1_facts f;
	struct connection_says says = {0};
	enum http_reason why = h1_parse_request(w, a, bytes, n_lines, limits, out, &f);

	if (why == HTTP_REASON_OK)
		why = read_framing(&f, out);
	if (why == HTTP_REASON_TRANSFER_ENCODING_NOT_ALLOWED && !limits->accept_http10)
		why = HTTP_REASON_LOW_VERSION;
	if (why == HTTP_REASON_OK)
		why = read_host(w, a, &f, out);
	if (why == HTTP_REASON_OK)
		why = read_connection(&f, &out->headers, &says);
	if (why != HTTP_REASON_OK)
		return why;
	read_upgrade(&f, &says, out);
	if (FOIL_UNLIKELY(f.n_connection) && !out->is_upgrade && connection_is_refused(&f))
		return HTTP_REASON_CONNECTION_HEADER;
	read_expect(&f, out);
	out->has_te_trailers = f.te.n_bytes && te_has_trailers(f.te);
	out->wants_close = says.close || (out->version == HTTP_VERSION_10 && !says.keep_alive);
	if (out->version == HTTP_VERSION_10 && !limits->accept_http10)
		return HTTP_REASON_LOW_VERSION;
	if (f.n_host == 0 && out->version != HTTP_VERSION_10)
		return HTTP_REASON_MISSING_HOST; /* an absolute target does not excuse (RFC 9112 3.2); an empty one is one */
	return HTTP_REASON_OK;
}

/* 1xx and 204 have no body, and may not say that they have one; a length of 0 is harmless and dropped, as Envoy does. */
static enum http_reason read_bodyless_response(const struct h1_facts *f, struct http_head *out)
{
	uint64_t length = 0;

	if (f->n_transfer_encoding)
		return HTTP_REASON_TRANSFER_ENCODING_NOT_ALLOWED;
	if (f->n_content_length > 1 || (f->n_content_length && (!http_length_parse(f->content_length, &length) || length)))
		return HTTP_REASON_CONTENT_LENGTH_NOT_ALLOWED;
	out->body = HTTP_BODY_NONE;
	return HTTP_REASON_OK;
}

static enum http_reason read_response_framing(const struct h1_facts *f, bool to_head, struct http_head *out)
{
	if (out->status < 200 || out->status == 204)
		return read_bodyless_response(f, out);
	enum http_reason why = read_framing(f, out);
	if (why == HTTP_REASON_OK && out->body == HTTP_BODY_NONE && !to_head && out->status != 304)
		out->body = HTTP_BODY_UNTIL_CLOSE;
	return why;
}

enum http_reason h1_read_response(struct foil_worker *w, struct foil_arena *a, struct foil_slice bytes, uint32_t n_lines,
				  const struct http_limits *limits, bool to_head, struct http_head *out)
{
	struct h1_facts f;
	struct connection_says says = {0};
	enum http_reason why = h1_parse_response(w, a, bytes, n_lines, limits, out, &f);

	if (why == HTTP_REASON_OK)
		why = read_response_framing(&f, to_head, out);
	if (why == HTTP_REASON_OK)
		why = read_connection(&f, &out->headers, &says);
	if (why != HTTP_REASON_OK)
		return why;
	read_upgrade(&f, &says, out);
	out->wants_close = says.close || (out->version == HTTP_VERSION_10 && !says.keep_alive) || out->body == HTTP_BODY_UNTIL_CLOSE;
	return HTTP_REASON_OK;
}
