/* What gateway listeners and service listeners are made of: filter chains, connection managers, virtual hosts. */
#include "ctrl/istio/compile.h"
#include "ctrl/istio/telemetry.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#define IDLE_US 3600000000ull          /* OM-2 */
#define REQUEST_HEADERS_KIB 60         /* OM-6 */
#define REQUEST_HEADERS_COUNT 100
#define LISTENERS_MAX 4096                /* what the data plane takes, here and below */
#define RESOURCE_BYTES_MAX (24u << 20)    /* and what the channel carries */
#define TABLE_ROOM_BYTES 1024           /* of a table beside its virtual hosts, and of the frame around it */

static char *word(const char *text)
{
	return (char *)(uintptr_t)text; /* protobuf-c's structs want it writable; they are only packed */
}

/* ---- addresses ---- */

static int parse_address(const char *text, size_t n, unsigned char bytes[16])
{
	char copy[64];

	if (n >= sizeof(copy))
		return 0;
	memcpy(copy, text, n);
	copy[n] = 0;
	if (inet_pton(AF_INET, copy, bytes) == 1)
		return 4;
	return inet_pton(AF_INET6, copy, bytes) == 1 ? 16 : 0;
}

bool istio_compile_cidr_has(const char *cidr, const char *address)
{
	unsigned char net[16], one[16];
	size_t n_net = strcspn(cidr, "/");
	int n_bytes = parse_address(cidr, n_net, net);

	if (n_bytes == 0 || parse_address(address, strlen(address), one) != n_bytes)
		return false;
	unsigned long n_bits = cidr[n_net] ? strtoul(cidr + n_net + 1, NULL, 10) : 8ul * (unsigned long)n_bytes;
	if (n_bits > 8ul * (unsigned long)n_bytes)
		return false;
	if (memcmp(net, one, n_bits / 8) != 0)
		return false;
	unsigned char mask = (unsigned char)(0xff00u >> (n_bits % 8));
	return n_bits % 8 == 0 || ((net[n_bits / 8] ^ one[n_bits / 8]) & mask) == 0;
}

/* ---- listeners ---- */

bool istio_compile_is_captured(const struct compile *c, const char *address)
{
	for (size_t i = 0; i < c->node->n_service_cidrs; i++)
		if (istio_compile_cidr_has(c->node->service_cidrs[i], address))
			return false; /* the node's own */
	for (size_t i = 0; i < c->node->n_captured_cidrs; i++)
		if (istio_compile_cidr_has(c->node->captured_cidrs[i], address))
			return true;
	return strcmp(address, CAPTURED_ADDRESS) == 0;
}

Foil__Conf__FilterChain *istio_compile_chain(struct compile *c, const char *name, const struct resource *r, struct istio_pos at)
{
	Foil__Conf__FilterChain *f = ARENA_NEW(c->arena, Foil__Conf__FilterChain);

	foil__conf__filter_chain__init(f);
	f->name = word(name);
	f->source = istio_compile_source(c, r, at);
	return f;
}

static Foil__Conf__PathNormalization normalization(const struct mesh_config *mesh)
{
	switch ((enum normalization)(mesh->normalization ? mesh->normalization->normalization.value : NORMALIZE_DEFAULT)) {
	case NORMALIZE_NONE: return FOIL__CONF__PATH_NORMALIZATION__PATH_NONE;
	case NORMALIZE_MERGE_SLASHES: return FOIL__CONF__PATH_NORMALIZATION__PATH_MERGE_SLASHES;
	case NORMALIZE_DECODE_AND_MERGE: return FOIL__CONF__PATH_NORMALIZATION__PATH_DECODE_AND_MERGE_SLASHES;
	case NORMALIZE_DEFAULT:
	case NORMALIZE_BASE: break;
	}
	return FOIL__CONF__PATH_NORMALIZATION__PATH_BASE;
}

static bool is_off(const struct header_switch *s)
{
	return s && s->disabled.is_true;
}

static void hcm_headers(Foil__Conf__HttpConnectionManager *m, const struct proxy_headers *h)
{
	m->has_envoy_debug_headers_off = m->has_request_id_off = m->has_attempt_count_off = true;
	m->envoy_debug_headers_off = is_off(h->envoy_debug_headers);
	m->request_id_off = is_off(h->request_id);
	m->attempt_count_off = is_off(h->attempt_count);
	m->has_add_forwarded_host = m->has_add_forwarded_port = m->has_preserve_header_case = true;
	m->add_forwarded_host = h->x_forwarded_host && h->x_forwarded_host->enabled.is_true;
	m->add_forwarded_port = h->x_forwarded_port && h->x_forwarded_port->enabled.is_true;
	m->preserve_header_case = h->preserve_case.is_true;
	m->has_server_header = true;
	m->server_header = is_off(h->server) ? FOIL__CONF__SERVER_HEADER__SERVER_PASS_THROUGH : FOIL__CONF__SERVER_HEADER__SERVER_OVERWRITE;
}

/* HD-10, GW-15: a gateway's default tells all of a verified certificate and forgets what the client said; inside the mesh the client's word stays before it. */
static Foil__Conf__ClientCertHeader *client_cert(struct compile *c, const struct proxy_config *p, bool is_gateway)
{
	static const Foil__Conf__ClientCertForward of[] = {
		[XFCC_SANITIZE] = FOIL__CONF__CLIENT_CERT_FORWARD__CERT_SANITIZE, [XFCC_FORWARD_ONLY] = FOIL__CONF__CLIENT_CERT_FORWARD__CERT_FORWARD_ONLY,
		[XFCC_APPEND_FORWARD] = FOIL__CONF__CLIENT_CERT_FORWARD__CERT_APPEND_FORWARD,
		[XFCC_SANITIZE_SET] = FOIL__CONF__CLIENT_CERT_FORWARD__CERT_SANITIZE_SET,
		[XFCC_ALWAYS_FORWARD_ONLY] = FOIL__CONF__CLIENT_CERT_FORWARD__CERT_ALWAYS_FORWARD_ONLY};
	const struct proxy_headers *h = p ? p->headers : NULL;
	const struct client_cert_details *told = h && !is_gateway ? h->client_cert_details : NULL;
	int64_t mode = is_gateway ? (p && p->topology ? p->topology->forward_client_cert.value : 0) : h ? h->forwarded_client_cert.value : 0;
	Foil__Conf__ClientCertHeader *m = ARENA_NEW(c->arena, Foil__Conf__ClientCertHeader);

	foil__conf__client_cert_header__init(m);
	m->has_forward = m->has_subject = m->has_cert = m->has_dns = m->has_uri = true;
	m->forward = of[mode != XFCC_UNDEFINED ? mode : is_gateway ? XFCC_SANITIZE_SET : XFCC_APPEND_FORWARD];
	m->subject = !told || !told->subject.is_set || told->subject.is_true;
	m->cert = told ? told->cert.is_true : is_gateway;
	m->dns = !told || !told->dns.is_set || told->dns.is_true;
	m->uri = !told || !told->uri.is_set || told->uri.is_true;
	return m;
}

/* What istiod fills in for gateways under profile EDGE (features.md OM-1 to OM-9). */
#define EDGE_STREAM_IDLE_US 300000000u
#define EDGE_REQUEST_US 300000000u
#define EDGE_REQUEST_HEADERS_US 60000000u
#define EDGE_BUFFER_BYTES 32768
#define EDGE_STREAMS 100
#define EDGE_STREAM_WINDOW_BYTES 65536
#define EDGE_CONNECTION_WINDOW_BYTES 1048576

static struct connection_settings edge(const struct connection_settings *given)
{
	struct connection_settings s = *given;
	const struct {
		struct istio_int *field;
		int64_t value;
	} defaults[] = {{&s.stream_idle, EDGE_STREAM_IDLE_US}, {&s.request, EDGE_REQUEST_US}, {&s.request_headers, EDGE_REQUEST_HEADERS_US},
			{&s.listener_buffer, EDGE_BUFFER_BYTES},
			{&s.max_streams, EDGE_STREAMS}, {&s.stream_window, EDGE_STREAM_WINDOW_BYTES}, {&s.connection_window, EDGE_CONNECTION_WINDOW_BYTES}};

	for (size_t i = 0; i < sizeof(defaults) / sizeof(defaults[0]); i++)
		if (!defaults[i].field->is_set)
			*defaults[i].field = (struct istio_int){.is_set = true, .value = defaults[i].value};
	if (s.underscores.value == UNDERSCORES_UNSPECIFIED)
		s.underscores.value = UNDERSCORES_REJECT;
	if (!s.merge_slashes.is_set)
		s.merge_slashes = (struct istio_bool){.is_set = true, .is_true = true};
	if (s.escaped_slashes.value == SLASHES_UNSPECIFIED)
		s.escaped_slashes.value = SLASHES_REDIRECT;
	return s;
}

static struct connection_settings in_force(const struct connection_settings *given, bool is_gateway)
{
	return is_gateway && given->profile.value == PROFILE_EDGE ? edge(given) : *given;
}

static void take_time(const struct istio_int *from, protobuf_c_boolean *has, uint64_t *us)
{
	if (!from->is_set)
		return;
	*has = true;
	*us = (uint64_t)from->value;
}

static void take_count(const struct istio_int *from, protobuf_c_boolean *has, uint32_t *n)
{
	if (!from->is_set)
		return;
	*has = true;
	*n = (uint32_t)from->value;
}

/* OM-1, OM-11: each listener's; buffers are gateways' alone (istiod). */
static void connection_limits(Foil__Conf__Listener *l, const struct connection_settings *given)
{
	bool is_gateway = l->direction == FOIL__CONF__DIRECTION__DIRECTION_GATEWAY;
	const struct connection_settings s = in_force(given, is_gateway);

	take_count(&s.listener_connections, &l->has_connection_limit, &l->connection_limit);
	if (is_gateway)
		take_count(&s.listener_buffer, &l->has_buffer_bytes, &l->buffer_bytes);
}

static void emit_listener(struct compile *c, const struct resource *r, struct istio_pos at, const char *address, uint32_t port,
			  Foil__Conf__Direction direction, Foil__Conf__FilterChain **chains, size_t n_chains, uint64_t hello_timeout_us)
{
	const char *name = istio_arena_printf(c->arena, "%s_%u", address, port);
	Foil__Conf__Listener l = FOIL__CONF__LISTENER__INIT;
	bool is_new;
	void **place = istio_map_put(c->arena, &c->listener_keys, name, &is_new);

	if (!is_new) {
		const struct resource *first = *place;
		if (first != r)
			istio_compile_report(c, ISTIO_WARNING, "IST0145", r, at, "", "%s port %u is already that of %s: this one is not served", address,
					     port, first->id);
		return;
	}
	*place = (void *)(uintptr_t)r; /* only read */
	if (c->listener_keys.n > LISTENERS_MAX) {
		istio_compile_report(c, ISTIO_ERROR, "HF0016", r, at, "", "more than %d listeners: %s port %u is not served", LISTENERS_MAX, address, port);
		return;
	}
	l.name = word(name);
	l.address = word(address);
	l.has_port = l.has_direction = true;
	l.port = port;
	l.direction = direction;
	const struct proxy_config *proxy = c->model->mesh->proxy;
	if (direction == FOIL__CONF__DIRECTION__DIRECTION_GATEWAY && proxy && proxy->topology && proxy->topology->proxy_protocol) /* GW-16 */
		l.has_proxy_protocol = l.proxy_protocol = true;
	if (direction == FOIL__CONF__DIRECTION__DIRECTION_OUTBOUND && istio_compile_is_captured(c, address))
		l.has_captured = l.captured = true;
	l.filter_chains = chains;
	l.n_filter_chains = n_chains;
	l.source = istio_compile_source(c, r, at);
	l.has_hello_timeout_us = hello_timeout_us != 0;
	if (proxy && proxy->connection_settings)
		connection_limits(&l, proxy->connection_settings);
	l.hello_timeout_us = hello_timeout_us;
	istio_telemetry_of_listener(c, r, &l);
	istio_compile_emit(c, FOIL__CONF__RESOURCE_TYPE__RESOURCE_LISTENER, name, &l.base);
}

void istio_compile_listener(struct compile *c, const struct resource *r, struct istio_pos at, const char *address, uint32_t port,
			    Foil__Conf__Direction direction, Foil__Conf__FilterChain **chains, size_t n_chains)
{
	emit_listener(c, r, at, address, port, direction, chains, n_chains, 0);
}

void istio_compile_listener_with_hello(struct compile *c, const struct resource *r, struct istio_pos at, const char *address, uint32_t port,
				       Foil__Conf__FilterChain **chains, size_t n_chains, uint64_t hello_timeout_us)
{
	emit_listener(c, r, at, address, port, FOIL__CONF__DIRECTION__DIRECTION_OUTBOUND, chains, n_chains, hello_timeout_us);
}

static void take_slashes(const struct connection_settings *s, Foil__Conf__HttpConnectionManager *m)
{
	static const Foil__Conf__EscapedSlashes of[] = {[SLASHES_KEEP] = FOIL__CONF__ESCAPED_SLASHES__SLASHES_KEPT,
							[SLASHES_REJECT] = FOIL__CONF__ESCAPED_SLASHES__SLASHES_REFUSED,
							[SLASHES_REDIRECT] = FOIL__CONF__ESCAPED_SLASHES__SLASHES_REDIRECTED,
							[SLASHES_FORWARD] = FOIL__CONF__ESCAPED_SLASHES__SLASHES_UNESCAPED};

	m->has_merge_slashes = s->merge_slashes.is_set;
	m->merge_slashes = s->merge_slashes.is_true;
	m->has_escaped_slashes = s->escaped_slashes.value != SLASHES_UNSPECIFIED;
	m->escaped_slashes = m->has_escaped_slashes ? of[s->escaped_slashes.value] : FOIL__CONF__ESCAPED_SLASHES__SLASHES_KEPT;
}

static void connection_settings(Foil__Conf__HttpConnectionManager *m, const struct connection_settings *given, bool is_gateway)
{
	const struct connection_settings s = in_force(given, is_gateway);

	take_time(&s.idle, &m->has_idle_timeout_us, &m->idle_timeout_us);
	take_time(&s.max_connection_duration, &m->has_max_connection_duration_us, &m->max_connection_duration_us);
	take_time(&s.max_stream_duration, &m->has_max_stream_duration_us, &m->max_stream_duration_us);
	take_time(&s.drain, &m->has_drain_timeout_us, &m->drain_timeout_us);
	take_time(&s.request, &m->has_request_timeout_us, &m->request_timeout_us);
	take_time(&s.request_headers, &m->has_request_headers_timeout_us, &m->request_headers_timeout_us);
	take_time(&s.stream_idle, &m->has_stream_idle_timeout_us, &m->stream_idle_timeout_us);
	take_count(&s.max_streams, &m->has_h2_streams_max, &m->h2_streams_max);
	take_count(&s.stream_window, &m->has_h2_stream_window_bytes, &m->h2_stream_window_bytes);
	take_count(&s.connection_window, &m->has_h2_conn_window_bytes, &m->h2_conn_window_bytes);
	m->has_reject_underscores = m->reject_underscores = s.underscores.value == UNDERSCORES_REJECT;
	m->has_drop_underscores = m->drop_underscores = s.underscores.value == UNDERSCORES_DROP;
	take_slashes(&s, m);
}

static bool accepts_http10(const struct proxy_config *p)
{
	const char *value = p ? istio_compile_label(&p->environment, "ISTIO_META_HTTP10") : NULL;

	return value && (strcmp(value, "1") == 0 || strcmp(value, "true") == 0);
}

Foil__Conf__HttpConnectionManager *istio_compile_hcm(struct compile *c, const char *routes, bool is_gateway)
{
	const struct mesh_config *mesh = c->model->mesh;
	const struct proxy_config *proxy = mesh->proxy;
	Foil__Conf__HttpConnectionManager *m = ARENA_NEW(c->arena, Foil__Conf__HttpConnectionManager);

	foil__conf__http_connection_manager__init(m);
	m->routes = word(routes);
	m->has_use_remote_address = m->has_path_normalization = m->has_idle_timeout_us = m->has_stream_idle_timeout_us = true;
	m->use_remote_address = is_gateway;
	m->path_normalization = normalization(mesh);
	m->idle_timeout_us = IDLE_US;
	m->has_max_request_headers_kib = m->has_max_request_headers_count = m->has_accept_http10 = true;
	m->max_request_headers_kib = REQUEST_HEADERS_KIB;
	m->max_request_headers_count = REQUEST_HEADERS_COUNT;
	m->accept_http10 = !is_gateway || accepts_http10(proxy); /* HD-15 */
	m->scheme = word("http");
	m->client_cert = client_cert(c, proxy, is_gateway);
	if (is_gateway && proxy && proxy->topology) {
		m->has_xff_num_trusted_hops = true;
		m->xff_num_trusted_hops = (uint32_t)proxy->topology->num_trusted_proxies.value;
	}
	if (proxy && proxy->headers)
		hcm_headers(m, proxy->headers);
	if (proxy && proxy->connection_settings)
		connection_settings(m, proxy->connection_settings, is_gateway);
	if (!is_gateway)
		m->server_name = word("envoy"); /* HD-8 */
	return m;
}

Foil__Conf__VirtualHost *istio_compile_vhost(struct compile *c, const char *host, uint32_t port, uint32_t n_domains)
{
	Foil__Conf__VirtualHost *v = ARENA_NEW(c->arena, Foil__Conf__VirtualHost);

	foil__conf__virtual_host__init(v);
	v->name = istio_arena_printf(c->arena, "%s:%u", host, port);
	v->domains = ARENA_ARRAY(c->arena, char *, n_domains);
	v->has_include_attempt_count = true;
	v->include_attempt_count = 1;
	return v;
}

void istio_compile_route_config(struct compile *c, const char *name, Foil__Conf__VirtualHost **vhosts, size_t n)
{
	Foil__Conf__RouteConfig rc = FOIL__CONF__ROUTE_CONFIG__INIT;
	size_t n_bytes = strlen(name) + TABLE_ROOM_BYTES, n_fit = 0;

	for (; n_fit < n; n_fit++) {
		size_t one = protobuf_c_message_get_packed_size(&vhosts[n_fit]->base) + 8; /* its tag and length */
		if (one > RESOURCE_BYTES_MAX - n_bytes)
			break;
		n_bytes += one;
	}
	if (n_fit < n)
		istio_diags_add(c->diags, ISTIO_ERROR, "HF0016", "", (struct istio_pos){0}, name, "",
				"the route table is larger than 24 MiB: the last %zu of its %zu virtual hosts, from %s on, are left out; give some hosts "
					"another port",
				n - n_fit, n, vhosts[n_fit]->name);
	rc.name = word(name);
	rc.virtual_hosts = vhosts;
	rc.n_virtual_hosts = n_fit;
	istio_compile_emit(c, FOIL__CONF__RESOURCE_TYPE__RESOURCE_ROUTES, name, &rc.base);
}
