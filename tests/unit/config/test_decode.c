/* Decoding single resources: defaults, what becomes of each field, and every field that must be refused, by its path. */
#include "tests/unit/config/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS 1000ull

/* A mesh with one of everything set; each test bends one thing and puts it into the update. */
struct world {
	Foil__Conf__MeshSettings mesh;
	Foil__Conf__Listener listener;
	Foil__Conf__FilterChain chain, *chains[1];
	Foil__Conf__HttpConnectionManager http;
	Foil__Conf__TcpProxy tcp;
	Foil__Conf__RouteConfig routes;
	Foil__Conf__VirtualHost vhost, *vhosts[1];
	Foil__Conf__Route route, *route_list[1];
	Foil__Conf__RouteMatch match;
	Foil__Conf__HeaderMatch header, *headers[1];
	Foil__Conf__QueryMatch query, *queries[1];
	Foil__Conf__StringMatch header_value, query_value;
	Foil__Conf__RouteAction action;
	Foil__Conf__Redirect redirect;
	Foil__Conf__DirectResponse direct;
	Foil__Conf__RegexRewrite rewrite;
	Foil__Conf__RetryPolicy retry;
	Foil__Conf__WeightedCluster target, second, *targets[2];
	Foil__Conf__HeaderOps request_ops, response_ops;
	Foil__Conf__HeaderValue request_add, response_add, *request_adds[1], *response_adds[1];
	Foil__Conf__FaultInjection fault;
	Foil__Conf__CorsPolicy cors;
	Foil__Conf__StringMatch origin, *origins[1];
	Foil__Conf__MirrorPolicy mirror, *mirrors[1];
	Foil__Conf__Cluster cluster;
	Foil__Conf__CircuitBreaker breaker;
	Foil__Conf__OutlierDetection outlier;
	Foil__Conf__Endpoints endpoints;
	Foil__Conf__Endpoint endpoint, *endpoint_list[1];
	char *domains[1], *remove[1], *retry_on[2], *server_names[1], *cidrs[1], *methods[2];
	uint32_t codes[1], errors[1];
};

static void init_routing(struct world *w)
{
	foil__conf__route_config__init(&w->routes);
	foil__conf__virtual_host__init(&w->vhost);
	foil__conf__route__init(&w->route);
	foil__conf__route_match__init(&w->match);
	foil__conf__header_match__init(&w->header);
	foil__conf__query_match__init(&w->query);
	foil__conf__string_match__init(&w->header_value);
	foil__conf__string_match__init(&w->query_value);
	foil__conf__route_action__init(&w->action);
	foil__conf__redirect__init(&w->redirect);
	foil__conf__direct_response__init(&w->direct);
	foil__conf__regex_rewrite__init(&w->rewrite);
	foil__conf__retry_policy__init(&w->retry);
	foil__conf__weighted_cluster__init(&w->target);
	foil__conf__weighted_cluster__init(&w->second);
	foil__conf__header_ops__init(&w->request_ops);
	foil__conf__header_ops__init(&w->response_ops);
	foil__conf__header_value__init(&w->request_add);
	foil__conf__header_value__init(&w->response_add);
	foil__conf__fault_injection__init(&w->fault);
	foil__conf__cors_policy__init(&w->cors);
	foil__conf__string_match__init(&w->origin);
	foil__conf__mirror_policy__init(&w->mirror);
}

static void init_rest(struct world *w)
{
	foil__conf__mesh_settings__init(&w->mesh);
	foil__conf__listener__init(&w->listener);
	foil__conf__filter_chain__init(&w->chain);
	foil__conf__http_connection_manager__init(&w->http);
	foil__conf__tcp_proxy__init(&w->tcp);
	foil__conf__cluster__init(&w->cluster);
	foil__conf__circuit_breaker__init(&w->breaker);
	foil__conf__outlier_detection__init(&w->outlier);
	foil__conf__endpoints__init(&w->endpoints);
	foil__conf__endpoint__init(&w->endpoint);
}

static void join_routing(struct world *w)
{
	w->routes.name = t_text("r");
	w->vhosts[0] = &w->vhost;
	w->routes.virtual_hosts = w->vhosts;
	w->routes.n_virtual_hosts = 1;
	w->domains[0] = t_text("a.test");
	w->vhost.domains = w->domains;
	w->vhost.n_domains = 1;
	w->route_list[0] = &w->route;
	w->vhost.routes = w->route_list;
	w->vhost.n_routes = 1;
	w->route.match = &w->match;
	w->route.action_case = FOIL__CONF__ROUTE__ACTION_ROUTE;
	w->route.route = &w->action;
	w->targets[0] = &w->target;
	w->targets[1] = &w->second;
	w->target.cluster = t_text("c");
	w->second.cluster = t_text("d");
	w->action.clusters = w->targets;
	w->action.n_clusters = 1;
	w->header.name = t_text("x-a");
	w->header.value = &w->header_value;
	w->header_value.kind_case = FOIL__CONF__STRING_MATCH__KIND_EXACT;
	w->header_value.exact = t_text("1");
	w->headers[0] = &w->header;
	w->match.headers = w->headers;
	w->match.n_headers = 1;
	w->query.name = t_text("q");
	w->query.value = &w->query_value;
	w->query_value.kind_case = FOIL__CONF__STRING_MATCH__KIND_PREFIX;
	w->query_value.prefix = t_text("A");
	w->queries[0] = &w->query;
	w->match.query = w->queries;
	w->match.n_query = 1;
}

static void join_route_parts(struct world *w)
{
	w->request_adds[0] = &w->request_add;
	w->request_add.name = t_text("x-b");
	w->request_add.value = t_text("%REQ(x-a)%");
	w->request_ops.add = w->request_adds;
	w->request_ops.n_add = 1;
	w->remove[0] = t_text("x-c");
	w->request_ops.remove = w->remove;
	w->request_ops.n_remove = 1;
	w->response_adds[0] = &w->response_add;
	w->response_add.name = t_text("server");
	w->response_add.value = t_text("plain");
	w->response_ops.add = w->response_adds;
	w->response_ops.n_add = 1;
	w->route.request_headers = &w->request_ops;
	w->route.response_headers = &w->response_ops;
	w->retry.has_num_retries = true;
	w->retry.num_retries = 2;
	w->retry_on[0] = t_text("connect-failure");
	w->retry_on[1] = t_text("5xx");
	w->retry.retry_on = w->retry_on;
	w->retry.n_retry_on = 2;
	w->codes[0] = 503;
	w->retry.retriable_status_codes = w->codes;
	w->retry.n_retriable_status_codes = 1;
	w->action.retry = &w->retry;
	w->methods[0] = t_text("GET");
	w->methods[1] = t_text("PUT");
	w->cors.allow_methods = w->methods;
	w->cors.n_allow_methods = 2;
	w->origins[0] = &w->origin;
	w->origin.kind_case = FOIL__CONF__STRING_MATCH__KIND_EXACT;
	w->origin.exact = t_text("http://a.test");
	w->cors.allow_origins = w->origins;
	w->cors.n_allow_origins = 1;
	w->cors.has_has_max_age = w->cors.has_max_age = true;
	w->cors.has_max_age_s = true;
	w->cors.max_age_s = 86400;
	w->mirror.cluster = t_text("c");
	w->mirrors[0] = &w->mirror;
}

static void join_rest(struct world *w)
{
	w->listener.name = t_text("l");
	w->listener.address = t_text("198.18.0.1");
	w->listener.has_port = true;
	w->listener.port = 80;
	w->chains[0] = &w->chain;
	w->listener.filter_chains = w->chains;
	w->listener.n_filter_chains = 1;
	w->chain.network_case = FOIL__CONF__FILTER_CHAIN__NETWORK_HTTP;
	w->chain.http = &w->http;
	w->http.routes = t_text("r");
	w->tcp.clusters = w->targets;
	w->tcp.n_clusters = 1;
	w->cluster.name = t_text("c");
	w->cluster.circuit_breaker = &w->breaker;
	w->cluster.outlier = &w->outlier;
	w->endpoints.cluster = t_text("c");
	w->endpoint.address = t_text("198.19.0.10");
	w->endpoint.has_port = true;
	w->endpoint.port = 8080;
	w->endpoint_list[0] = &w->endpoint;
	w->endpoints.endpoints = w->endpoint_list;
	w->endpoints.n_endpoints = 1;
}

static struct world *world_new(void)
{
	struct world *w = calloc(1, sizeof(*w));
	init_routing(w);
	init_rest(w);
	join_routing(w);
	join_route_parts(w);
	join_rest(w);
	return w;
}

static enum snap_result apply_world(struct t_conf *f, struct world *w)
{
	t_put(f, T_MESH, "mesh", &w->mesh.base);
	t_put(f, T_LISTENER, "l", &w->listener.base);
	t_put(f, T_ROUTES, "r", &w->routes.base);
	t_put(f, T_CLUSTER, "c", &w->cluster.base);
	t_put(f, T_ENDPOINTS, "c", &w->endpoints.base);
	return t_apply(f, "v", true);
}

/* ---- what becomes of the fields */

static const struct mesh_config *applied(struct t_conf *f, struct world *w)
{
	if (apply_world(f, w) != SNAP_APPLIED) {
		size_t n, n_more;
		const struct snap_rejection *r = snap_rejections(f->snap, &n, &n_more);
		fail_msg("%s: %s: %s", r[0].name, r[0].field, r[0].reason);
	}
	return snap_config(f->snap);
}

static void test_absent_fields_have_their_defaults(void **state)
{
	struct t_conf *f = t_conf();
	struct world *w = world_new();
	const struct mesh_config *c = applied(f, w);
	const struct mesh_hcm *h = &c->listeners[0]->chains[0].http;
	assert_int_equal(h->idle_timeout_us, 3600000 * MS);
	assert_int_equal(h->stream_idle_timeout_us, 0);
	assert_int_equal(h->max_request_headers_kib, 60);
	assert_int_equal(h->max_request_headers_count, 100);
	assert_true(foil_slice_eq(h->scheme, FOIL_SLICE("http")));
	assert_true(foil_slice_eq(h->server_name, FOIL_SLICE("istio-envoy")));
	const struct mesh_cluster *cl = c->clusters[c->endpoints[0] ? 0 : 1];
	assert_int_equal(cl->connect_timeout_us, 10000 * MS);
	assert_int_equal(cl->idle_timeout_us, 3600000 * MS);
	assert_int_equal(cl->breaker.max_connections, MESH_UNLIMITED);
	assert_int_equal(cl->outlier->interval_us, 10000 * MS);
	assert_int_equal(cl->outlier->base_ejection_us, 30000 * MS);
	assert_int_equal(cl->outlier->max_ejection_us, 300000 * MS);
	assert_int_equal(cl->outlier->max_ejection_percent, 10);
	assert_int_equal(cl->lb, MESH_LB_LEAST_REQUEST);
	const struct mesh_route *r = &c->routes[h->routes_slot]->vhosts[0].routes[0];
	assert_int_equal(r->route.cluster_not_found_status, 503);
	assert_int_equal(r->route.retry->backoff_base_us, 25 * MS);
	assert_int_equal(r->route.retry->backoff_max_us, 250 * MS);
	assert_int_equal(r->route.retry->host_selection_max_attempts, 5);
	assert_int_equal(r->match.path_kind, MESH_PATH_PREFIX);
	assert_true(foil_slice_eq(r->match.path, FOIL_SLICE("/")));
	assert_int_equal(c->settings.drain_duration_us, 45000 * MS);
	assert_true(foil_slice_eq(c->settings.trust_domain, FOIL_SLICE("cluster.local")));
	free(w);
	t_conf_free(f);
}

static void test_route_is_decoded_with_all_its_parts(void **state)
{
	struct t_conf *f = t_conf();
	struct world *w = world_new();
	w->header_value.has_ignore_case = w->header_value.ignore_case = true;
	w->header_value.exact = t_text("MiXed");
	w->action.n_clusters = 2;
	w->target.has_weight = w->second.has_weight = true;
	w->target.weight = 90;
	w->second.weight = 10;
	w->action.mirrors = w->mirrors;
	w->action.n_mirrors = 1;
	w->route.cors = &w->cors;
	const struct mesh_config *c = applied(f, w);
	const struct mesh_route *r = &c->routes[0]->vhosts[0].routes[0];
	assert_true(foil_slice_eq(r->match.headers[0].value.text, FOIL_SLICE("mixed")));
	assert_true(foil_slice_eq(r->match.query[0].value.text, FOIL_SLICE("A")));
	assert_int_equal(r->route.total_weight, 100);
	assert_int_equal(r->route.n_clusters, 2);
	assert_int_not_equal(r->route.clusters[0].slot, r->route.clusters[1].slot);
	assert_int_equal(r->route.retry->retry_on, MESH_RETRY_CONNECT_FAILURE | MESH_RETRY_5XX);
	assert_int_equal(r->route.retry->retriable_status_codes[0], 503);
	assert_false(r->request_headers.add[0].value.is_literal);
	assert_true(r->response_headers.add[0].value.is_literal);
	assert_true(foil_slice_eq(r->request_headers.remove[0], FOIL_SLICE("x-c")));
	assert_true(foil_slice_eq(r->cors->allow_methods, FOIL_SLICE("GET,PUT")));
	assert_true(foil_slice_eq(r->cors->max_age, FOIL_SLICE("86400")));
	assert_null(r->cors->allow_headers.data);
	assert_int_equal(r->route.mirrors[0].per_million, 1000000);
	assert_int_equal(r->route.mirrors[0].slot, r->route.clusters[0].slot);
	free(w);
	t_conf_free(f);
}

static void test_single_destination_gets_everything_whatever_its_weight(void **state)
{
	struct t_conf *f = t_conf();
	struct world *w = world_new();
	w->target.has_weight = true;
	w->target.weight = 0;
	const struct mesh_config *c = applied(f, w);
	assert_int_equal(c->routes[0]->vhosts[0].routes[0].route.total_weight, 1);
	free(w);
	t_conf_free(f);
}

static void test_addresses_and_ranges_are_in_their_16_byte_form(void **state)
{
	struct t_conf *f = t_conf();
	struct world *w = world_new();
	static const uint8_t v4[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 198, 18, 0, 1};
	w->cidrs[0] = t_text("10.0.0.0/8");
	w->chain.destination_cidrs = w->cidrs;
	w->chain.n_destination_cidrs = 1;
	w->endpoint.address = t_text("fd00:f011:1::10");
	const struct mesh_config *c = applied(f, w);
	assert_memory_equal(c->listeners[0]->ip, v4, 16);
	assert_int_equal(c->listeners[0]->chains[0].destination_cidrs[0].len, 104);
	uint32_t slot = c->endpoints[0] ? 0 : 1;
	assert_int_equal(c->endpoints[slot]->endpoints[0].ip[0], 0xfd);
	assert_int_equal(c->endpoints[slot]->endpoints[0].weight, 1);
	free(w);
	t_conf_free(f);
}

/* ---- what is refused */

#define ROUTE "virtual_hosts[0].routes[0]"

static void as_tcp(struct world *w)
{
	w->chain.network_case = FOIL__CONF__FILTER_CHAIN__NETWORK_TCP;
	w->chain.tcp = &w->tcp;
}

static void as_redirect(struct world *w)
{
	w->route.action_case = FOIL__CONF__ROUTE__ACTION_REDIRECT;
	w->route.redirect = &w->redirect;
}

static void as_direct(struct world *w, uint32_t status)
{
	w->route.action_case = FOIL__CONF__ROUTE__ACTION_DIRECT_RESPONSE;
	w->route.direct_response = &w->direct;
	w->direct.has_status = true;
	w->direct.status = status;
}

static void bad_listener_name(struct world *w) { w->listener.name = t_text("other"); }
static void bad_listener_address(struct world *w) { w->listener.address = t_text("198.18.0.300"); }
static void bad_listener_no_address(struct world *w) { w->listener.address = NULL; }
static void bad_listener_port(struct world *w) { w->listener.port = 0; }
static void bad_listener_port_large(struct world *w) { w->listener.port = 65536; }
static void bad_listener_chains(struct world *w) { w->listener.n_filter_chains = 0; }
static void bad_chain_network(struct world *w) { w->chain.network_case = FOIL__CONF__FILTER_CHAIN__NETWORK__NOT_SET; }
static void bad_chain_sni(struct world *w)
{
	w->server_names[0] = t_text("UPPER.test");
	w->chain.server_names = w->server_names;
	w->chain.n_server_names = 1;
}
static void bad_chain_cidr(struct world *w)
{
	w->cidrs[0] = t_text("10.0.0.0/33");
	w->chain.destination_cidrs = w->cidrs;
	w->chain.n_destination_cidrs = 1;
}
static void bad_hcm_routes(struct world *w) { w->http.routes = NULL; }
static void bad_hcm_scheme(struct world *w) { w->http.scheme = t_text("ftp"); }
static void bad_hcm_head(struct world *w) { w->http.has_max_request_headers_kib = true, w->http.max_request_headers_kib = 4096; }
static void bad_hcm_count(struct world *w) { w->http.has_max_request_headers_count = true, w->http.max_request_headers_count = 0; }
static void bad_hcm_idle(struct world *w) { w->http.has_idle_timeout_us = true, w->http.idle_timeout_us = UINT64_MAX; }
static void bad_hcm_hops(struct world *w) { w->http.has_xff_num_trusted_hops = true, w->http.xff_num_trusted_hops = 101; }
static void bad_hcm_server(struct world *w) { w->http.server_name = t_text("a\r\nb"); }
static void bad_tcp_none(struct world *w) { as_tcp(w), w->tcp.n_clusters = 0; }
static void bad_tcp_attempts(struct world *w) { as_tcp(w), w->tcp.has_max_connect_attempts = true, w->tcp.max_connect_attempts = 0; }
static void bad_routes_name(struct world *w) { w->routes.name = t_text("x"); }
static void bad_domains(struct world *w) { w->vhost.n_domains = 0; }
static void bad_domain_case(struct world *w) { w->domains[0] = t_text("A.test"); }
static void bad_domain_star(struct world *w) { w->domains[0] = t_text("a.*.test"); }
static void bad_domain_empty(struct world *w) { w->domains[0] = t_text(""); }
static void bad_attempt_count(struct world *w) { w->vhost.has_include_attempt_count = true, w->vhost.include_attempt_count = 2; }
static void bad_no_match(struct world *w) { w->route.match = NULL; }
static void bad_no_action(struct world *w) { w->route.action_case = FOIL__CONF__ROUTE__ACTION__NOT_SET; }
static void bad_path_regex(struct world *w)
{
	w->match.has_path_kind = true;
	w->match.path_kind = FOIL__CONF__PATH_MATCH_KIND__PATH_REGEX;
	w->match.path = t_text("/(unclosed");
}
static void bad_path_regex_case(struct world *w)
{
	w->match.has_path_kind = w->match.has_ignore_case = w->match.ignore_case = true;
	w->match.path_kind = FOIL__CONF__PATH_MATCH_KIND__PATH_REGEX;
	w->match.path = t_text("/a");
}
static void bad_path_missing(struct world *w) { w->match.has_path_kind = true, w->match.path_kind = FOIL__CONF__PATH_MATCH_KIND__PATH_EXACT; }
static void bad_path_segment(struct world *w)
{
	w->match.has_path_kind = true;
	w->match.path_kind = FOIL__CONF__PATH_MATCH_KIND__PATH_SEGMENT_PREFIX;
	w->match.path = t_text("a");
}
static void bad_header_name(struct world *w) { w->header.name = t_text("X-Upper"); }
static void bad_header_pseudo(struct world *w) { w->header.name = t_text(":status"); }
static void bad_header_value(struct world *w) { w->header.value = NULL; }
static void bad_header_kind(struct world *w) { w->header_value.kind_case = FOIL__CONF__STRING_MATCH__KIND__NOT_SET; }
static void bad_header_regex(struct world *w)
{
	w->header_value.kind_case = FOIL__CONF__STRING_MATCH__KIND_REGEX;
	w->header_value.regex = t_text("[");
}
static void bad_header_present(struct world *w)
{
	w->header_value.kind_case = FOIL__CONF__STRING_MATCH__KIND_PRESENT;
	w->header_value.present = false;
}
static void bad_query_name(struct world *w) { w->query.name = t_text(""); }
static void bad_weights_zero(struct world *w) { w->action.n_clusters = 2; }
static void bad_weights_large(struct world *w)
{
	w->action.n_clusters = 2;
	w->target.has_weight = w->second.has_weight = true;
	w->target.weight = w->second.weight = UINT32_MAX;
}
static void bad_cluster_name(struct world *w) { w->target.cluster = t_text(""); }
static void bad_rewrites(struct world *w)
{
	w->action.has_has_prefix_rewrite = w->action.has_prefix_rewrite = true;
	w->action.regex_rewrite = &w->rewrite;
}
static void bad_rewrite_regex(struct world *w) { w->rewrite.regex = t_text("*"), w->action.regex_rewrite = &w->rewrite; }
static void bad_rewrite_text(struct world *w)
{
	w->rewrite.regex = t_text("a");
	w->rewrite.substitution = t_text("\\x");
	w->action.regex_rewrite = &w->rewrite;
}
static void bad_timeout(struct world *w) { w->action.has_timeout_us = true, w->action.timeout_us = UINT64_MAX; }
static void bad_not_found(struct world *w) { w->action.has_cluster_not_found_status = true, w->action.cluster_not_found_status = 200; }
static void bad_retry_word(struct world *w) { w->retry_on[1] = t_text("sometimes"); }
static void bad_retry_code(struct world *w) { w->codes[0] = 99; }
static void bad_retry_number(struct world *w) { w->retry.num_retries = 100000; }
static void bad_retry_base(struct world *w) { w->retry.has_backoff_base_us = true, w->retry.backoff_base_us = 0; }
static void bad_retry_max(struct world *w) { w->retry.has_backoff_max_us = true, w->retry.backoff_max_us = 1; }
static void bad_redirect_code(struct world *w) { as_redirect(w), w->redirect.has_code = true, w->redirect.code = 304; }
static void bad_redirect_port(struct world *w) { as_redirect(w), w->redirect.has_port = true, w->redirect.port = 70000; }
static void bad_redirect_path(struct world *w)
{
	as_redirect(w);
	w->redirect.path = t_text("/a");
	w->redirect.has_has_prefix_rewrite = w->redirect.has_prefix_rewrite = true;
}
static void bad_redirect_host(struct world *w) { as_redirect(w), w->redirect.host = t_text("a\nb"); }
static void bad_direct_status(struct world *w) { as_direct(w, 100); }
static void bad_direct_fault(struct world *w) { as_direct(w, 200), w->route.fault = &w->fault; }
static void bad_remove_name(struct world *w) { w->remove[0] = t_text(":path"); }
static void bad_remove_host(struct world *w) { w->remove[0] = t_text("host"); }
static void bad_add_name(struct world *w) { w->request_add.name = t_text("a b"); }
static void bad_add_pseudo(struct world *w) { w->request_add.name = t_text(":path"); }
static void bad_add_value(struct world *w) { w->request_add.value = t_text("a\nb"); }
static void bad_add_format(struct world *w) { w->request_add.value = t_text("%NO_SUCH_OPERATOR%"); }
static void bad_response_authority(struct world *w) { w->response_add.name = t_text(":authority"); }
static void bad_fault_share(struct world *w) { w->route.fault = &w->fault, w->fault.has_delay_per_million = true, w->fault.delay_per_million = 1000001; }
static void bad_fault_status(struct world *w) { w->route.fault = &w->fault, w->fault.has_abort_http_status = true, w->fault.abort_http_status = 700; }
static void bad_fault_grpc(struct world *w)
{
	w->route.fault = &w->fault;
	w->fault.has_has_abort_grpc = w->fault.has_abort_grpc = w->fault.has_abort_grpc_status = true;
	w->fault.abort_grpc_status = 17;
}
static void bad_cors_origin(struct world *w)
{
	w->route.cors = &w->cors;
	w->origin.kind_case = FOIL__CONF__STRING_MATCH__KIND_REGEX;
	w->origin.regex = t_text("(");
}
static void bad_cors_method(struct world *w) { w->route.cors = &w->cors, w->methods[1] = t_text("a\x01"); }
static void bad_mirror(struct world *w)
{
	w->action.mirrors = w->mirrors;
	w->action.n_mirrors = 1;
	w->mirror.has_per_million = true;
	w->mirror.per_million = 2000000;
}
static void bad_connect_timeout(struct world *w) { w->cluster.has_connect_timeout_us = true, w->cluster.connect_timeout_us = 0; }
static void bad_panic(struct world *w) { w->cluster.has_panic_threshold_percent = true, w->cluster.panic_threshold_percent = 101; }
static void dynamic(struct world *w) { w->cluster.has_is_dynamic = w->cluster.is_dynamic = true; }
static void bad_dynamic_twice(struct world *w) { dynamic(w), w->cluster.has_is_original_dst = w->cluster.is_original_dst = true; }
static void bad_dynamic_told(struct world *w) { dynamic(w), w->cluster.has_proxy_protocol = true, w->cluster.proxy_protocol = 1; }
static void bad_dynamic_port(struct world *w) { dynamic(w), w->cluster.has_dynamic_port = true, w->cluster.dynamic_port = 65536; }
static void bad_probes(struct world *w) { w->cluster.has_tcp_keepalive_probes = true, w->cluster.tcp_keepalive_probes = 128; }
static void bad_outlier_interval(struct world *w) { w->outlier.has_interval_us = true, w->outlier.interval_us = 0; }
static void bad_outlier_max(struct world *w) { w->outlier.has_max_ejection_us = true, w->outlier.max_ejection_us = 1; }
static void bad_outlier_percent(struct world *w) { w->outlier.has_max_ejection_percent = true, w->outlier.max_ejection_percent = 101; }
static void bad_outlier_code(struct world *w)
{
	w->errors[0] = 600;
	w->outlier.error_codes = w->errors;
	w->outlier.n_error_codes = 1;
}
static void bad_cluster_own_name(struct world *w) { w->cluster.name = t_text("d"); }
static void bad_endpoint_address(struct world *w) { w->endpoint.address = t_text("backend.test"); }
static void bad_endpoint_port(struct world *w) { w->endpoint.port = 0; }
static void bad_endpoint_weight(struct world *w) { w->endpoint.has_weight = true, w->endpoint.weight = 0; }
static void bad_endpoint_label(struct world *w) { w->endpoint.workload = t_text("a\nb"); }
static void bad_mesh_format(struct world *w) { w->mesh.access_log_format = t_text("%NO_SUCH_OPERATOR%"); }
static void bad_mesh_server(struct world *w) { w->mesh.server_name = t_text("a\nb"); }
static void bad_mesh_domain(struct world *w) { w->mesh.trust_domain = t_text("a b"); }
static void bad_mesh_drain(struct world *w) { w->mesh.has_drain_duration_us = true, w->mesh.drain_duration_us = UINT64_MAX; }

static const struct bad {
	const char *resource, *field, *reason;
	void (*bend)(struct world *w);
} bads[] = {
	{"l", "name", "not the resource's name", bad_listener_name},
	{"l", "address", "no IPv4 or IPv6 address", bad_listener_address},
	{"l", "address", "no IPv4 or IPv6 address", bad_listener_no_address},
	{"l", "port", "1 to 65535", bad_listener_port},
	{"l", "port", "1 to 65535", bad_listener_port_large},
	{"l", "filter_chains", "1 at least", bad_listener_chains},
	{"l", "filter_chains[0]", "neither HTTP nor TCP", bad_chain_network},
	{"l", "filter_chains[0].server_names[0]", "lower case", bad_chain_sni},
	{"l", "filter_chains[0].destination_cidrs[0]", "no address range", bad_chain_cidr},
	{"l", "filter_chains[0].http.routes", "empty", bad_hcm_routes},
	{"l", "filter_chains[0].http.scheme", "http or https", bad_hcm_scheme},
	{"l", "filter_chains[0].http.max_request_headers_kib", "1 to 64", bad_hcm_head},
	{"l", "filter_chains[0].http.max_request_headers_count", "1 to 1000", bad_hcm_count},
	{"l", "filter_chains[0].http.idle_timeout_us", "31 years", bad_hcm_idle},
	{"l", "filter_chains[0].http.xff_num_trusted_hops", "0 to 100", bad_hcm_hops},
	{"l", "filter_chains[0].http.server_name", "no header's value", bad_hcm_server},
	{"l", "filter_chains[0].tcp.clusters", "1 at least", bad_tcp_none},
	{"l", "filter_chains[0].tcp.max_connect_attempts", "1 to 100", bad_tcp_attempts},
	{"r", "name", "not the resource's name", bad_routes_name},
	{"r", "virtual_hosts[0].domains", "1 at least", bad_domains},
	{"r", "virtual_hosts[0].domains[0]", "lower case", bad_domain_case},
	{"r", "virtual_hosts[0].domains[0]", "not a host", bad_domain_star},
	{"r", "virtual_hosts[0].domains[0]", "0 bytes", bad_domain_empty},
	{"r", "virtual_hosts[0].include_attempt_count", "0 to 1", bad_attempt_count},
	{"r", ROUTE ".match", "missing", bad_no_match},
	{"r", ROUTE, "without an action", bad_no_action},
	{"r", ROUTE ".match.path", "", bad_path_regex},
	{"r", ROUTE ".match.ignore_case", "(?i)", bad_path_regex_case},
	{"r", ROUTE ".match.path", "missing", bad_path_missing},
	{"r", ROUTE ".match.path", "slash", bad_path_segment},
	{"r", ROUTE ".match.headers[0].name", "lower case", bad_header_name},
	{"r", ROUTE ".match.headers[0].name", "lower case", bad_header_pseudo},
	{"r", ROUTE ".match.headers[0].value", "missing", bad_header_value},
	{"r", ROUTE ".match.headers[0].value", "without a condition", bad_header_kind},
	{"r", ROUTE ".match.headers[0].value.regex", "", bad_header_regex},
	{"r", ROUTE ".match.headers[0].value.present", "invert", bad_header_present},
	{"r", ROUTE ".match.query[0].name", "empty", bad_query_name},
	{"r", ROUTE ".route.clusters", "add up to 0", bad_weights_zero},
	{"r", ROUTE ".route.clusters", "add up to 8589934590", bad_weights_large},
	{"r", ROUTE ".route.clusters[0].cluster", "empty", bad_cluster_name},
	{"r", ROUTE ".route.regex_rewrite", "beside a prefix_rewrite", bad_rewrites},
	{"r", ROUTE ".route.regex_rewrite.regex", "", bad_rewrite_regex},
	{"r", ROUTE ".route.regex_rewrite.substitution", "backslash", bad_rewrite_text},
	{"r", ROUTE ".route.timeout_us", "31 years", bad_timeout},
	{"r", ROUTE ".route.cluster_not_found_status", "400 to 599", bad_not_found},
	{"r", ROUTE ".route.retry.retry_on[1]", "\"sometimes\"", bad_retry_word},
	{"r", ROUTE ".route.retry.retriable_status_codes", "100 to 599", bad_retry_code},
	{"r", ROUTE ".route.retry.num_retries", "0 to 65535", bad_retry_number},
	{"r", ROUTE ".route.retry.backoff_base_us", "at least 1", bad_retry_base},
	{"r", ROUTE ".route.retry.backoff_max_us", "less than", bad_retry_max},
	{"r", ROUTE ".redirect.code", "301, 302", bad_redirect_code},
	{"r", ROUTE ".redirect.port", "0 to 65535", bad_redirect_port},
	{"r", ROUTE ".redirect.prefix_rewrite", "beside a path", bad_redirect_path},
	{"r", ROUTE ".redirect.host", "control character", bad_redirect_host},
	{"r", ROUTE ".direct_response.status", "200 to 599", bad_direct_status},
	{"r", ROUTE ".fault", "goes to no cluster", bad_direct_fault},
	{"r", ROUTE ".request_headers.remove[0]", "header's name", bad_remove_name},
	{"r", ROUTE ".request_headers.remove", "host cannot be removed", bad_remove_host},
	{"r", ROUTE ".request_headers.add[0].name", "header's name", bad_add_name},
	{"r", ROUTE ".request_headers.add[0].name", "only :authority", bad_add_pseudo},
	{"r", ROUTE ".request_headers.add[0].value", "no header's value", bad_add_value},
	{"r", ROUTE ".request_headers.add[0].value", "NO_SUCH_OPERATOR", bad_add_format},
	{"r", ROUTE ".response_headers.add[0].name", "no host", bad_response_authority},
	{"r", ROUTE ".fault.delay_per_million", "0 to 1000000", bad_fault_share},
	{"r", ROUTE ".fault.abort_http_status", "200 to 599", bad_fault_status},
	{"r", ROUTE ".fault.abort_grpc_status", "0 to 16", bad_fault_grpc},
	{"r", ROUTE ".cors.allow_origins[0].regex", "", bad_cors_origin},
	{"r", ROUTE ".cors.allow_methods[1]", "control character", bad_cors_method},
	{"r", ROUTE ".route.mirrors[0].per_million", "0 to 1000000", bad_mirror},
	{"c", "connect_timeout_us", "at least 1", bad_connect_timeout},
	{"c", "panic_threshold_percent", "0 to 100", bad_panic},
	{"c", "tcp_keepalive_probes", "0 to 127", bad_probes},
	{"c", "is_dynamic", "no is_original_dst", bad_dynamic_twice},
	{"c", "is_dynamic", "no proxy_protocol", bad_dynamic_told},
	{"c", "dynamic_port", "0 to 65535", bad_dynamic_port},
	{"c", "outlier.interval_us", "at least 1", bad_outlier_interval},
	{"c", "outlier.max_ejection_us", "less than", bad_outlier_max},
	{"c", "outlier.max_ejection_percent", "0 to 100", bad_outlier_percent},
	{"c", "outlier.error_codes", "100 to 599", bad_outlier_code},
	{"c", "name", "not the resource's name", bad_cluster_own_name},
	{"c", "endpoints[0].address", "no IPv4 or IPv6 address", bad_endpoint_address},
	{"c", "endpoints[0].port", "1 to 65535", bad_endpoint_port},
	{"c", "endpoints[0].weight", "1 to 1000000", bad_endpoint_weight},
	{"c", "endpoints[0].workload", "control character", bad_endpoint_label},
	{"mesh", "access_log_format", "NO_SUCH_OPERATOR", bad_mesh_format},
	{"mesh", "server_name", "no header's value", bad_mesh_server},
	{"mesh", "trust_domain", "not a host", bad_mesh_domain},
	{"mesh", "drain_duration_us", "31 years", bad_mesh_drain},
};

static void test_port_zero_is_every_other_port_of_captured_addresses(void **state)
{
	struct t_conf *f = t_conf();
	struct world *w = world_new();
	w->listener.address = t_text("::");
	w->listener.port = 0;
	assert_int_equal(apply_world(f, w), SNAP_REJECTED); /* not a captured one's */
	t_assert_rejected(f, "l", "port", "1 to 65535");
	w->listener.has_captured = w->listener.captured = true;
	const struct mesh_config *c = applied(f, w);
	assert_int_equal(c->listeners[0]->port, 0);
	assert_true(c->listeners[0]->takes_plaintext);
	free(w);
	t_conf_free(f);
}

static void test_every_bad_field_is_refused_by_its_path(void **state)
{
	struct t_conf *f = t_conf();
	for (size_t i = 0; i < FOIL_COUNT_OF(bads); i++) {
		struct world *w = world_new();
		size_t n, n_more;
		bads[i].bend(w);
		if (apply_world(f, w) != SNAP_REJECTED)
			fail_msg("%s: %s was taken", bads[i].resource, bads[i].field);
		const struct snap_rejection *r = snap_rejections(f->snap, &n, &n_more);
		if (strcmp(r[0].field, bads[i].field) != 0 || !strstr(r[0].reason, bads[i].reason) || strcmp(r[0].name, bads[i].resource) != 0)
			fail_msg("wanted %s: %s: %s; got %s: %s: %s", bads[i].resource, bads[i].field, bads[i].reason, r[0].name, r[0].field, r[0].reason);
		assert_null(snap_config(f->snap));
		free(w);
	}
	t_conf_free(f);
}

static void test_domain_twice_in_a_table_is_refused(void **state)
{
	struct t_conf *f = t_conf();
	struct world *w = world_new();
	char *domains[] = {t_text("a.test"), t_text("a.test")};
	w->vhost.domains = domains;
	w->vhost.n_domains = 2;
	assert_int_equal(apply_world(f, w), SNAP_REJECTED);
	t_assert_rejected(f, "r", "virtual_hosts", "a.test");
	free(w);
	t_conf_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_absent_fields_have_their_defaults),
		cmocka_unit_test(test_route_is_decoded_with_all_its_parts),
		cmocka_unit_test(test_single_destination_gets_everything_whatever_its_weight),
		cmocka_unit_test(test_addresses_and_ranges_are_in_their_16_byte_form),
		cmocka_unit_test(test_port_zero_is_every_other_port_of_captured_addresses),
		cmocka_unit_test(test_every_bad_field_is_refused_by_its_path),
		cmocka_unit_test(test_domain_twice_in_a_table_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
