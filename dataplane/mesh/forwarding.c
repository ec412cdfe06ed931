/* The headers that say where a request comes from (features.md HD-1..HD-6), as Envoy's ConnectionManagerUtility::mutateRequestHeaders does it.
 *
 * Two kinds of listeners: at the edge (use_remote_address, every gateway) the connection's peer is appended to x-forwarded-for and what strangers
 * say about themselves is thrown away; elsewhere x-forwarded-for is believed and left alone. With N trusted proxies in front, the client is the
 * N-th address from the right of what they sent. A caller is internal when it came straight (no x-forwarded-for; one address where that is
 * believed) from one of settings.internal_cidrs, of which there are none unless the mesh names them.
 * Invariant: no x-envoy-* request header of a caller that is not internal gets past here, but those that are set here. */
#include "dataplane/mesh/forwarding.h"

#include <errno.h>

#include "dataplane/mesh/addr_priv.h"

#define UUID_BYTES 36u

struct forwarding {
	struct foil_worker *w;
	struct foil_arena *a;
	const struct mesh_forwarding_params *p;
	struct http_head *head;
	bool came_straight; /* one hop, as far as can be believed */
	const struct stream_addr *peer; /* whose address was appended to x-forwarded-for, NULL: nobody's; and how it was written, in the arena */
	struct foil_slice peer_text;
};

static int set_copy(const struct forwarding *f, enum http_header_id id, struct foil_slice value)
{
	struct foil_slice copy = foil_arena_copy(f->w, f->a, value);

	if (!copy.data)
		return -ENOBUFS;
	http_header_remove_id(&f->head->headers, id);
	return http_header_add_id(f->w, f->a, &f->head->headers, id, copy);
}

/* text lives as long as the request. */
static int set_kept(const struct forwarding *f, enum http_header_id id, struct foil_slice text)
{
	http_header_remove_id(&f->head->headers, id);
	return http_header_add_id(f->w, f->a, &f->head->headers, id, text);
}

static bool is_internal_address(const struct mesh_settings *s, const uint8_t ip[16])
{
	for (uint16_t i = 0; i < s->n_internal_cidrs; i++)
		if (mesh_cidr_has(&s->internal_cidrs[i], ip))
			return true;
	return false;
}

static bool is_loopback(const uint8_t ip[16])
{
	static const uint8_t v6[16] = {[15] = 1}, v4[13] = {[10] = 0xff, [11] = 0xff, [12] = 127};

	return memcmp(ip, v6, sizeof(v6)) == 0 || memcmp(ip, v4, sizeof(v4)) == 0;
}

/* ---- x-forwarded-for ---- */
/* All lines of x-forwarded-for as one; {NULL, 0}: there is none. */
static int forwarded_for(const struct forwarding *f, struct foil_slice *out)
{
	const struct http_header *h = http_header_get(&f->head->headers, HTTP_HDR_X_FORWARDED_FOR);

	*out = (struct foil_slice){NULL, 0};
	if (!h)
		return 0;
	*out = http_header_joined(f->w, f->a, &f->head->headers, http_header_name(HTTP_HDR_X_FORWARDED_FOR));
	return out->data ? 0 : -ENOBUFS;
}

/* The address with n_skip others to its right. False: too few, or no address. *is_only: nothing else stands in the list. */
static bool address_from_right(struct foil_slice list, uint32_t n_skip, uint8_t ip[16], bool *is_only)
{
	uint32_t end = list.n_bytes;

	for (uint32_t i = end; i > 0; i--) {
		if (list.data[i - 1] != ',')
			continue;
		if (n_skip == 0) {
			*is_only = false;
			return mesh_addr_parse(foil_slice_of(list.data + i, end - i), ip);
		}
		n_skip--;
		end = i - 1;
	}
	*is_only = end == list.n_bytes;
	return n_skip == 0 && end && mesh_addr_parse(foil_slice_of(list.data, end), ip);
}

static int append_peer(struct forwarding *f, struct foil_slice list)
{
	const struct stream_addr *peer = is_loopback(f->p->remote->ip) ? f->p->local : f->p->remote; /* Envoy: what is local means this machine */
	char text[ADDR_TEXT_BYTES];
	struct foil_slice address = mesh_addr_text(peer, false, text);
	bool comma = list.n_bytes != 0;
	char *data = foil_arena_alloc(f->w, f->a, (size_t)list.n_bytes + comma + address.n_bytes);

	if (!data)
		return -ENOBUFS;
	if (list.n_bytes) {
		memcpy(data, list.data, list.n_bytes);
		data[list.n_bytes] = ',';
	}
	foil_copy(data + list.n_bytes + comma, address.data, address.n_bytes);
	f->peer = peer;
	f->peer_text = foil_slice_of(data + list.n_bytes + comma, address.n_bytes);
	http_header_remove_id(&f->head->headers, HTTP_HDR_X_FORWARDED_FOR);
	return http_header_add_id(f->w, f->a, &f->head->headers, HTTP_HDR_X_FORWARDED_FOR,
				  foil_slice_of(data, (size_t)list.n_bytes + comma + address.n_bytes));
}

/* Who the client is, before the peer is appended. */
static int find_client(struct forwarding *f, struct mesh_forwarding_result *out)
{
	uint32_t hops = f->p->hcm->xff_num_trusted_hops;
	bool at_edge = f->p->hcm->use_remote_address, is_only = false, found = false;
	struct foil_slice list;
	int rc = forwarded_for(f, &list);

	if (rc)
		return rc;
	out->client = *f->p->remote;
	f->came_straight = list.data == NULL;
	if (list.data && (!at_edge || hops > 0))
		found = address_from_right(list, at_edge ? hops - 1 : hops, out->client.ip, &is_only);
	if (found)
		out->client.port = 0;
	else
		out->client = *f->p->remote;
	if (!at_edge)
		f->came_straight |= found && is_only && hops == 0;
	return at_edge ? append_peer(f, list) : 0;
}

/* ---- scheme ---- */
static struct foil_slice scheme_of(struct foil_slice proto, struct foil_slice otherwise)
{
	if (foil_slice_eq_nocase(proto, FOIL_SLICE("https")))
		return FOIL_SLICE("https");
	return foil_slice_eq_nocase(proto, FOIL_SLICE("http")) ? FOIL_SLICE("http") : otherwise;
}

/* x-forwarded-proto is what the connection is, unless a trusted proxy (or, inside the mesh, anybody) said so already; a scheme that the request did
 * not bring itself (:scheme, an absolute target) follows. Claimed schemes are for routes and locations only; that TLS was there is_https says. */
static int put_proto(const struct forwarding *f, struct mesh_forwarding_result *r)
{
	const struct mesh_hcm *hcm = f->p->hcm;
	const struct http_header *h = http_header_get(&f->head->headers, HTTP_HDR_X_FORWARDED_PROTO);
	struct foil_slice own = hcm->scheme.n_bytes ? hcm->scheme : FOIL_SLICE("http");
	bool overwrite = hcm->use_remote_address && hcm->xff_num_trusted_hops == 0;
	struct foil_slice proto = h && !overwrite ? h->value : own, scheme = scheme_of(proto, own), claimed = f->head->scheme;

	r->has_proto = proto.n_bytes != 0;
	r->is_https = scheme.n_bytes == sizeof("https") - 1;
	f->head->scheme = claimed.n_bytes ? scheme_of(claimed, claimed) : scheme;
	return h && !overwrite ? 0 : set_kept(f, HTTP_HDR_X_FORWARDED_PROTO, own);
}

static int put_port(const struct forwarding *f)
{
	const struct mesh_hcm *hcm = f->p->hcm;
	char text[ADDR_TEXT_BYTES];

	if (!hcm->add_forwarded_port)
		return 0;
	if (hcm->xff_num_trusted_hops > 0 && http_header_get(&f->head->headers, HTTP_HDR_X_FORWARDED_PORT))
		return 0;
	return set_copy(f, HTTP_HDR_X_FORWARDED_PORT, mesh_addr_number(f->p->local->port, text));
}

/* ---- x-envoy-* ---- */
/* By bits: this is asked of every request. */
#define OF(W, ID) ((ID) / 64 == (W) ? (uint64_t)1 << ((ID) % 64) : 0)
#define ALWAYS(W) \
	(OF(W, HTTP_HDR_X_ENVOY_RETRIABLE_STATUS_CODES) | OF(W, HTTP_HDR_X_ENVOY_RETRIABLE_HEADER_NAMES) | OF(W, HTTP_HDR_X_ENVOY_RETRY_ON) | \
	 OF(W, HTTP_HDR_X_ENVOY_RETRY_GRPC_ON) | OF(W, HTTP_HDR_X_ENVOY_MAX_RETRIES) | OF(W, HTTP_HDR_X_ENVOY_UPSTREAM_ALT_STAT_NAME) | \
	 OF(W, HTTP_HDR_X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS) | OF(W, HTTP_HDR_X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS) | \
	 OF(W, HTTP_HDR_X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE) | OF(W, HTTP_HDR_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS) | OF(W, HTTP_HDR_X_ENVOY_FORCE_TRACE) | \
	 OF(W, HTTP_HDR_X_ENVOY_IP_TAGS) | OF(W, HTTP_HDR_X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT) | OF(W, HTTP_HDR_X_ENVOY_ORIGINAL_URL) | \
	 OF(W, HTTP_HDR_X_ENVOY_UPSTREAM_STREAM_DURATION_MS))
#define AT_EDGE(W) \
	(OF(W, HTTP_HDR_X_ENVOY_DECORATOR_OPERATION) | OF(W, HTTP_HDR_X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER) | OF(W, HTTP_HDR_X_ENVOY_DOWNSTREAM_SERVICE_NODE) | \
	 OF(W, HTTP_HDR_X_ENVOY_ORIGINAL_PATH))
static_assert(HTTP_HDR_WORDS == 2, "words below");

static void remove_strangers_headers(struct http_headers *h, bool at_edge)
{
	static const uint64_t always[HTTP_HDR_WORDS] = {ALWAYS(0), ALWAYS(1)}, edge[HTTP_HDR_WORDS] = {AT_EDGE(0), AT_EDGE(1)};

	for (unsigned int i = 0; i < HTTP_HDR_WORDS; i++) {
		uint64_t may_be_there = ~h->lacks[i] & (always[i] | (at_edge ? edge[i] : 0));
		for (; FOIL_UNLIKELY(may_be_there); may_be_there &= may_be_there - 1)
			http_header_remove_id(h, (enum http_header_id)(64 * i + (unsigned int)__builtin_ctzll(may_be_there)));
	}
}

static int put_origin(const struct forwarding *f, const struct mesh_forwarding_result *r)
{
	char text[ADDR_TEXT_BYTES];

	http_header_remove_id(&f->head->headers, HTTP_HDR_X_ENVOY_INTERNAL);
	if (r->is_internal)
		return set_kept(f, HTTP_HDR_X_ENVOY_INTERNAL, FOIL_SLICE("true"));
	remove_strangers_headers(&f->head->headers, f->p->hcm->use_remote_address);
	if (!f->p->hcm->use_remote_address)
		return 0;
	if (f->peer && memcmp(f->peer->ip, r->client.ip, sizeof(r->client.ip)) == 0)
		return set_kept(f, HTTP_HDR_X_ENVOY_EXTERNAL_ADDRESS, f->peer_text);
	return set_copy(f, HTTP_HDR_X_ENVOY_EXTERNAL_ADDRESS, mesh_addr_text(&r->client, false, text));
}

/* ---- x-request-id ---- */
/* Sixteen bytes as 32 hexadecimal digits. */
static void hex_put(char to[32], const uint8_t bytes[16])
{
	static const char digits[16] = "0123456789abcdef";
#ifdef FOIL_HAS_VECTORS
	const __m128i table = foil_load_16(digits, 16), low_half = _mm_set1_epi8(15);
	__m128i v = foil_load_16(bytes, 16), high = _mm_and_si128(_mm_srli_epi16(v, 4), low_half), low = _mm_and_si128(v, low_half);

	foil_store_16(to, _mm_shuffle_epi8(table, _mm_unpacklo_epi8(high, low)));
	foil_store_16(&to[16], _mm_shuffle_epi8(table, _mm_unpackhi_epi8(high, low)));
#else
	for (uint32_t i = 0; i < 16; i++) {
		to[2 * i] = digits[bytes[i] >> 4];
		to[2 * i + 1] = digits[bytes[i] & 15];
	}
#endif
}

/* A random UUID (RFC 9562 version 4). The version digit is where Envoy packs why a request is traced; 4 says that it is not. */
static void uuid_make(struct foil_worker *w, char text[UUID_BYTES])
{
	uint8_t bytes[16];
	char hex[32];
	uint64_t random[2] = {foil_prng_u64(&w->prng), foil_prng_u64(&w->prng)};

	memcpy(bytes, random, sizeof(bytes));
	bytes[6] = (uint8_t)((bytes[6] & 0x0f) | 0x40);
	bytes[8] = (uint8_t)((bytes[8] & 0x3f) | 0x80);
	hex_put(hex, bytes);
	memset(text, '-', UUID_BYTES);
	memcpy(text, hex, 8);
	memcpy(&text[9], &hex[8], 4);
	memcpy(&text[14], &hex[12], 4);
	memcpy(&text[19], &hex[16], 4);
	memcpy(&text[24], &hex[20], 12);
}

/* Made when there is none, and for every caller at the edge that is not internal. */
static int put_request_id(const struct forwarding *f, const struct mesh_forwarding_result *r)
{
	const struct http_header *h = http_header_get(&f->head->headers, HTTP_HDR_X_REQUEST_ID);
	bool is_edge_request = f->p->hcm->use_remote_address && !r->is_internal;
	char text[UUID_BYTES];

	if (f->p->hcm->request_id_off || (h && h->value.n_bytes && !is_edge_request))
		return 0;
	uuid_make(f->w, text);
	return set_copy(f, HTTP_HDR_X_REQUEST_ID, foil_slice_of(text, sizeof(text)));
}

/* Whoever sent it (Envoy). */
static void check_referer(struct http_headers *h)
{
	const struct http_header *referer = http_header_get(h, HTTP_HDR_REFERER);

	if (FOIL_UNLIKELY(referer != NULL) && !mesh_referer_is_valid(referer->value))
		http_header_remove_id(h, HTTP_HDR_REFERER);
}

int mesh_forwarding_apply(struct foil_worker *w, struct foil_arena *a, const struct mesh_forwarding_params *p, struct http_head *head,
			  struct mesh_forwarding_result *out)
{
	struct forwarding f = {.w = w, .a = a, .p = p, .head = head};
	struct mesh_forwarding_result r = {.is_internal = false};

	if (find_client(&f, &r) != 0)
		return -ENOBUFS;
	check_referer(&head->headers);
	r.is_internal = f.came_straight && is_internal_address(p->settings, r.client.ip);
	if (put_proto(&f, &r) != 0 || put_port(&f) != 0 || put_origin(&f, &r) != 0 || put_request_id(&f, &r) != 0 ||
	    mesh_xfcc_put(w, a, &head->headers, &p->hcm->client_cert, p->tls) != 0)
		return -ENOBUFS;
	*out = r;
	return 0;
}
