/* See fixture.h. */
#include "tests/unit/config/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void open_keeper(struct t_conf *f, size_t bytes_max)
{
	struct foil_error err = {0};
	struct mesh_shared_params mp = {.n_workers = 1};
	f->mesh = mesh_shared_new(&mp);
	assert_non_null(f->mesh);
	struct snap_params p = {.shared = f->mesh, .n_workers = 1, .state_dir = f->dir[0] ? f->dir : NULL, .abi = T_ABI, .bytes_max = bytes_max, .seed = 7};
	assert_int_equal(snap_new(&p, &f->snap, &err), 0);
}

struct t_conf *t_conf_new(struct t_conf_params p)
{
	struct t_conf *f = calloc(1, sizeof(*f));
	f->w = aligned_alloc(64, (sizeof(*f->w) + 63) / 64 * 64);
	assert_non_null(f->w);
	memset(f->w, 0, sizeof(*f->w));
	f->w->n_workers = 1;
	if (p.disk) {
		(void)snprintf(f->dir, sizeof(f->dir), "/tmp/foil-config-XXXXXX");
		assert_non_null(mkdtemp(f->dir));
	}
	open_keeper(f, p.bytes_max);
	return f;
}

void t_conf_restart(struct t_conf *f)
{
	snap_free(f->snap);
	mesh_shared_free(f->mesh);
	open_keeper(f, 0);
}

static void clear(struct t_conf *f)
{
	for (size_t i = 0; i < f->n; i++)
		free((void *)(uintptr_t)f->list[i].body.data);
	f->n = 0;
}

void t_conf_free(struct t_conf *f)
{
	char path[128];
	clear(f);
	snap_free(f->snap);
	mesh_shared_free(f->mesh);
	if (f->dir[0]) {
		(void)snprintf(path, sizeof(path), "%s/snapshot.bin", f->dir);
		(void)unlink(path);
		assert_int_equal(rmdir(f->dir), 0); /* nothing else was left there */
	}
	free(f->w);
	free(f);
}

void t_put_raw(struct t_conf *f, uint32_t type, const char *name, const void *body, size_t n_bytes)
{
	assert_true(f->n < T_UPDATE_MAX);
	char *copy = malloc(n_bytes + 1);
	if (n_bytes)
		memcpy(copy, body, n_bytes);
	f->list[f->n++] = (struct snap_resource){.type = type, .name = foil_slice_str(name), .body = foil_slice_of(copy, n_bytes)};
}

void t_put(struct t_conf *f, uint32_t type, const char *name, const ProtobufCMessage *m)
{
	size_t n = protobuf_c_message_get_packed_size(m);
	uint8_t *bytes = malloc(n + 1);
	assert_int_equal(protobuf_c_message_pack(m, bytes), n);
	t_put_raw(f, type, name, bytes, n);
	free(bytes);
}

void t_put_removed(struct t_conf *f, uint32_t type, const char *name)
{
	t_put_raw(f, type, name, "", 0);
	f->list[f->n - 1].removed = true;
}

enum snap_result t_apply(struct t_conf *f, const char *version, bool full)
{
	struct snap_update u = {.version = foil_slice_str(version), .full = full, .resources = f->list, .n_resources = f->n};
	enum snap_result r = snap_apply(f->snap, &u);
	clear(f);
	return r;
}

void t_adopt(struct t_conf *f)
{
	mesh_shared_adopted(f->mesh, f->w, mesh_shared_config(f->mesh));
}

void t_assert_rejected(struct t_conf *f, const char *name, const char *field, const char *reason_part)
{
	size_t n, n_more;
	const struct snap_rejection *r = snap_rejections(f->snap, &n, &n_more);
	if (n != 1)
		fail_msg("%zu rejections, first %s %s: %s", n, n ? r[0].name : "", n ? r[0].field : "", n ? r[0].reason : "");
	if (!strstr(r[0].reason, reason_part))
		fail_msg("\"%s\" is not in \"%s\" (%s)", reason_part, r[0].reason, r[0].field);
	assert_string_equal(r[0].name, name);
	assert_string_equal(r[0].field, field);
}

void t_put_mesh(struct t_conf *f, const char *server_name)
{
	Foil__Conf__MeshSettings m = FOIL__CONF__MESH_SETTINGS__INIT;
	m.server_name = t_text(server_name);
	t_put(f, T_MESH, "mesh", &m.base);
}

void t_put_listener(struct t_conf *f, const char *name, const char *address, uint32_t port, const char *routes)
{
	Foil__Conf__HttpConnectionManager http = FOIL__CONF__HTTP_CONNECTION_MANAGER__INIT;
	Foil__Conf__FilterChain chain = FOIL__CONF__FILTER_CHAIN__INIT, *chains[] = {&chain};
	Foil__Conf__Listener m = FOIL__CONF__LISTENER__INIT;
	http.routes = t_text(routes);
	chain.network_case = FOIL__CONF__FILTER_CHAIN__NETWORK_HTTP;
	chain.http = &http;
	m.name = t_text(name);
	m.address = t_text(address);
	m.has_port = true;
	m.port = port;
	m.filter_chains = chains;
	m.n_filter_chains = 1;
	t_put(f, T_LISTENER, name, &m.base);
}

void t_put_routes(struct t_conf *f, const char *name, const char *domain, const char *cluster)
{
	Foil__Conf__WeightedCluster target = FOIL__CONF__WEIGHTED_CLUSTER__INIT, *targets[] = {&target};
	Foil__Conf__RouteAction action = FOIL__CONF__ROUTE_ACTION__INIT;
	Foil__Conf__RouteMatch match = FOIL__CONF__ROUTE_MATCH__INIT;
	Foil__Conf__Route route = FOIL__CONF__ROUTE__INIT, *routes[] = {&route};
	Foil__Conf__VirtualHost vhost = FOIL__CONF__VIRTUAL_HOST__INIT, *vhosts[] = {&vhost};
	Foil__Conf__RouteConfig m = FOIL__CONF__ROUTE_CONFIG__INIT;
	char *domains[] = {t_text(domain)};
	target.cluster = t_text(cluster);
	action.clusters = targets;
	action.n_clusters = 1;
	route.match = &match;
	route.action_case = FOIL__CONF__ROUTE__ACTION_ROUTE;
	route.route = &action;
	vhost.name = t_text(domain);
	vhost.domains = domains;
	vhost.n_domains = 1;
	vhost.routes = routes;
	vhost.n_routes = 1;
	m.name = t_text(name);
	m.virtual_hosts = vhosts;
	m.n_virtual_hosts = 1;
	t_put(f, T_ROUTES, name, &m.base);
}

void t_put_cluster(struct t_conf *f, const char *name)
{
	Foil__Conf__Cluster m = FOIL__CONF__CLUSTER__INIT;
	m.name = t_text(name);
	t_put(f, T_CLUSTER, name, &m.base);
}

void t_put_endpoints(struct t_conf *f, const char *cluster, const char *address, uint32_t port)
{
	Foil__Conf__Endpoint e = FOIL__CONF__ENDPOINT__INIT, *list[] = {&e};
	Foil__Conf__Endpoints m = FOIL__CONF__ENDPOINTS__INIT;
	e.address = t_text(address);
	e.has_port = true;
	e.port = port;
	m.cluster = t_text(cluster);
	m.endpoints = list;
	m.n_endpoints = 1;
	t_put(f, T_ENDPOINTS, cluster, &m.base);
}

void t_put_all(struct t_conf *f)
{
	t_put_mesh(f, NULL);
	t_put_listener(f, "l", "198.18.0.1", 80, "r");
	t_put_routes(f, "r", "a.test", "c");
	t_put_cluster(f, "c");
	t_put_endpoints(f, "c", "198.19.0.10", 8080);
}
