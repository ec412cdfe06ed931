/* Reads the node file (docs/node-file.md) with libyaml's documents: nodes carry marks, aliases are shared and never multiplied, and we walk only the
 * shape that we know, so that no input makes the reading longer than the file.
 * Invariant: out is written only when everything was good. */
#include "programs/node_file.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "programs/node_reader.h"

#define DEPTH_MAX 8

/* ---- the keys */

static int key_name(struct node_reader *r, yaml_node_t *n, void *into)
{
	int rc = node_read_text(r, n, into, 64);
	if (rc == 0 && strspn(into, "abcdefghijklmnopqrstuvwxyz0123456789.-") != strlen(into))
		return node_refuse(r, &n->start_mark, "\"%.60s\" has characters other than a-z, 0-9, dot and dash", (char *)into);
	return rc;
}

static int read_path(struct node_reader *r, yaml_node_t *n, char *out, size_t out_bytes)
{
	int rc = node_read_text(r, n, out, out_bytes);
	if (rc == 0 && out[0] != '/')
		return node_refuse(r, &n->start_mark, "\"%.60s\" is a relative path; give it from the root, as /run/hydrofoil/x", out);
	return rc;
}

static int key_path(struct node_reader *r, yaml_node_t *n, void *into)
{
	return read_path(r, n, into, sizeof(((struct node_conf *)0)->state_dir));
}

static int key_socket(struct node_reader *r, yaml_node_t *n, void *into)
{
	return read_path(r, n, into, sizeof(((struct node_conf *)0)->agent_socket));
}

/* A path, or "-" for a standard stream. */
static int key_log(struct node_reader *r, yaml_node_t *n, void *into)
{
	if (n->type == YAML_SCALAR_NODE && strcmp((char *)n->data.scalar.value, "-") == 0)
		return node_read_text(r, n, into, sizeof(((struct node_conf *)0)->log));
	return read_path(r, n, into, sizeof(((struct node_conf *)0)->log));
}

static int key_uri(struct node_reader *r, yaml_node_t *n, void *into)
{
	return node_read_text(r, n, into, sizeof(((struct node_port *)0)->uri));
}

static int key_vlan(struct node_reader *r, yaml_node_t *n, void *into)
{
	return node_read_u16_in(r, n, 1, 4094, into);
}

static int key_mtu(struct node_reader *r, yaml_node_t *n, void *into)
{
	return node_read_u16_in(r, n, 1280, 9000, into);
}

static int one_port_address(struct node_reader *r, yaml_node_t *n, void *into)
{
	struct node_port *p = into;
	int rc = node_read_prefix(r, n, &p->addresses[p->n_addresses]);
	p->n_addresses += rc == 0;
	return rc;
}

static int key_port_addresses(struct node_reader *r, yaml_node_t *n, void *into)
{
	return node_read_sequence(r, n, NODE_ADDRS_MAX, one_port_address, into);
}

static int one_port(struct node_reader *r, yaml_node_t *n, void *into)
{
	static const struct node_key keys[] = {
		{"uri", key_uri, offsetof(struct node_port, uri)},
		{"addresses", key_port_addresses, 0},
		{"vlan", key_vlan, offsetof(struct node_port, vlan)},
		{"mtu", key_mtu, offsetof(struct node_port, mtu)},
	};
	struct node_conf *c = into;
	struct node_port *p = &c->ports[c->n_ports];
	p->line = (unsigned int)n->start_mark.line + 1;
	p->column = (unsigned int)n->start_mark.column + 1;
	int rc = node_read_mapping(r, n, keys, FOIL_COUNT_OF(keys), p);
	if (rc < 0)
		return rc;
	if (!p->uri[0])
		return node_refuse(r, &n->start_mark, "has no uri; give one, as \"af_packet:iface=eth1\"");
	c->n_ports++;
	return 0;
}

static int key_ports(struct node_reader *r, yaml_node_t *n, void *into)
{
	return node_read_sequence(r, n, NODE_PORTS_MAX, one_port, into);
}

static int key_route_to(struct node_reader *r, yaml_node_t *n, void *into)
{
	return node_read_prefix(r, n, into);
}

static int key_route_via(struct node_reader *r, yaml_node_t *n, void *into)
{
	return node_read_addr(r, n, into);
}

static int key_route_port(struct node_reader *r, yaml_node_t *n, void *into)
{
	struct node_route *route = into;

	route->has_port = true;
	return node_read_u16_in(r, n, 0, NODE_PORTS_MAX - 1, &route->port);
}

static bool is_zero(const struct net_addr *a)
{
	static const struct net_addr zero;
	return net_addr_eq(a, &zero);
}

static bool has_host_bits(const struct net_prefix *p)
{
	for (unsigned int bit = p->len; bit < 128; bit++)
		if (p->addr.b[bit / 8] & (0x80u >> (bit % 8)))
			return true;
	return false;
}

static int one_route(struct node_reader *r, yaml_node_t *n, void *into)
{
	static const struct node_key keys[] = {
		{"to", key_route_to, offsetof(struct node_route, to)},
		{"via", key_route_via, offsetof(struct node_route, via)},
		{"port", key_route_port, 0},
	};
	struct node_conf *c = into;
	struct node_route *route = &c->routes[c->n_routes];
	int rc = node_read_mapping(r, n, keys, FOIL_COUNT_OF(keys), route);
	if (rc < 0)
		return rc;
	if (has_host_bits(&route->to))
		return node_refuse(r, &n->start_mark, "to has bits set beyond its prefix length; give the network's address");
	if (is_zero(&route->via))
		return node_refuse(r, &n->start_mark, "needs both to and via");
	c->n_routes++;
	return 0;
}

static int key_routes(struct node_reader *r, yaml_node_t *n, void *into)
{
	return node_read_sequence(r, n, NODE_ROUTES_MAX, one_route, into);
}

static int one_service(struct node_reader *r, yaml_node_t *n, void *into)
{
	struct node_conf *c = into;
	int rc = node_read_prefix(r, n, &c->services[c->n_services]);
	c->n_services += rc == 0;
	return rc;
}

static int key_services(struct node_reader *r, yaml_node_t *n, void *into)
{
	return node_read_sequence(r, n, NODE_SERVICES_MAX, one_service, into);
}

static int one_captured(struct node_reader *r, yaml_node_t *n, void *into)
{
	struct node_conf *c = into;
	int rc = node_read_prefix(r, n, &c->captured[c->n_captured]);
	c->n_captured += rc == 0;
	return rc;
}

static int key_captured(struct node_reader *r, yaml_node_t *n, void *into)
{
	return node_read_sequence(r, n, NODE_SERVICES_MAX, one_captured, into);
}

static int one_refused(struct node_reader *r, yaml_node_t *n, void *into)
{
	struct node_conf *c = into;
	int rc = node_read_prefix(r, n, &c->names_refused[c->n_names_refused]);
	c->n_names_refused += rc == 0;
	return rc;
}

/* What is said replaces what holds without it. */
static int key_names_refused(struct node_reader *r, yaml_node_t *n, void *into)
{
	((struct node_conf *)into)->n_names_refused = 0;
	return node_read_sequence(r, n, NODE_SERVICES_MAX, one_refused, into);
}

static int key_names_max(struct node_reader *r, yaml_node_t *n, void *into)
{
	return node_read_u32_in(r, n, 16, 65536, into);
}

static int key_names(struct node_reader *r, yaml_node_t *n, void *into)
{
	static const struct node_key keys[] = {
		{"max", key_names_max, offsetof(struct node_conf, names_max)},
		{"refused", key_names_refused, 0},
	};
	return node_read_mapping(r, n, keys, FOIL_COUNT_OF(keys), into);
}

/* Links' own, and where clouds give machines their credentials or rule them: 169.254.169.254 is the one of most, the others are AWS's over IPv6, Azure's
 * and Alibaba's. */
static const struct net_prefix not_by_name[] = {
	{.addr = {.b = {[10] = 0xff, [11] = 0xff, [12] = 169, [13] = 254}}, .len = 112},
	{.addr = {.b = {0xfe, 0x80}}, .len = 10},
	{.addr = {.b = {0xfd, 0x00, 0x0e, 0xc2, [14] = 0x02, [15] = 0x54}}, .len = 128},
	{.addr = {.b = {[10] = 0xff, [11] = 0xff, [12] = 168, [13] = 63, [14] = 129, [15] = 16}}, .len = 128},
	{.addr = {.b = {[10] = 0xff, [11] = 0xff, [12] = 100, [13] = 100, [14] = 100, [15] = 200}}, .len = 128},
};

typedef char label_text[128];

static int read_labels(struct node_reader *r, yaml_node_t *n, label_text *keys, label_text *values, uint16_t *n_labels)
{
	if (n->type != YAML_MAPPING_NODE)
		return node_refuse(r, &n->start_mark, "expected a mapping, as istio: ingressgateway");
	for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
		yaml_node_t *k = yaml_document_get_node(r->doc, p->key), *v = yaml_document_get_node(r->doc, p->value);
		if (*n_labels == NODE_LABELS_MAX)
			return node_refuse(r, &k->start_mark, "more than %d labels", NODE_LABELS_MAX);
		int rc = node_read_text(r, k, keys[*n_labels], sizeof(keys[0]));
		if (rc == 0)
			rc = node_read_text(r, v, values[*n_labels], sizeof(values[0]));
		if (rc < 0)
			return rc;
		(*n_labels)++;
	}
	return 0;
}

static int key_labels(struct node_reader *r, yaml_node_t *n, void *into)
{
	struct node_gateway *g = into;
	return read_labels(r, n, g->label_keys, g->label_values, &g->n_labels);
}

static int key_node_labels(struct node_reader *r, yaml_node_t *n, void *into)
{
	struct node_conf *c = into;
	return read_labels(r, n, c->label_keys, c->label_values, &c->n_labels);
}

/* region, region/zone or region/zone/subzone. */
static int key_locality(struct node_reader *r, yaml_node_t *n, void *into)
{
	struct node_conf *c = into;
	unsigned int n_slashes = 0;
	int rc = node_read_text(r, n, c->locality, sizeof(c->locality));
	if (rc < 0)
		return rc;
	for (const char *p = c->locality; *p; p++)
		n_slashes += *p == '/';
	if (n_slashes > 2 || strchr(c->locality, '*') || c->locality[0] == '/' || strstr(c->locality, "//"))
		return node_refuse(r, &n->start_mark, "expected region, region/zone or region/zone/subzone");
	return 0;
}

static int key_service_account(struct node_reader *r, yaml_node_t *n, void *into)
{
	static const char chars[] = "abcdefghijklmnopqrstuvwxyz0123456789.-";
	struct node_conf *c = into;
	int rc = node_read_text(r, n, c->service_account, sizeof(c->service_account));
	if (rc < 0)
		return rc;
	size_t n_first = strspn(c->service_account, chars), n_second = c->service_account[n_first] == '/' ? strspn(c->service_account + n_first + 1, chars) : 0;
	if (n_first == 0 || n_second == 0 || c->service_account[n_first + 1 + n_second])
		return node_refuse(r, &n->start_mark, "expected namespace/name, of lower-case letters, digits, dots and dashes");
	return 0;
}

static int one_gateway_address(struct node_reader *r, yaml_node_t *n, void *into)
{
	struct node_gateway *g = into;
	int rc = node_read_addr(r, n, &g->addresses[g->n_addresses]);
	g->n_addresses += rc == 0;
	return rc;
}

static int key_gateway_addresses(struct node_reader *r, yaml_node_t *n, void *into)
{
	return node_read_sequence(r, n, NODE_ADDRS_MAX, one_gateway_address, into);
}

static int one_gateway(struct node_reader *r, yaml_node_t *n, void *into)
{
	static const struct node_key keys[] = {{"labels", key_labels, 0}, {"addresses", key_gateway_addresses, 0}};
	struct node_conf *c = into;
	struct node_gateway *g = &c->gateways[c->n_gateways];
	int rc = node_read_mapping(r, n, keys, FOIL_COUNT_OF(keys), g);
	if (rc < 0)
		return rc;
	if (!g->n_labels || !g->n_addresses)
		return node_refuse(r, &n->start_mark, "needs labels and addresses");
	c->n_gateways++;
	return 0;
}

static int key_gateways(struct node_reader *r, yaml_node_t *n, void *into)
{
	return node_read_sequence(r, n, NODE_GATEWAYS_MAX, one_gateway, into);
}

static int key_worker_count(struct node_reader *r, yaml_node_t *n, void *into)
{
	return node_read_u16_in(r, n, 1, NODE_WORKERS_MAX, into);
}

static int key_housekeeping(struct node_reader *r, yaml_node_t *n, void *into)
{
	struct node_conf *c = into;
	c->has_housekeeping_core = true;
	return node_read_u16_in(r, n, 0, 1023, &c->housekeeping_core);
}

struct cores {
	uint16_t *list;
	uint16_t n;
};

static int one_core(struct node_reader *r, yaml_node_t *n, void *into)
{
	struct cores *c = into;
	for (uint16_t i = 0; i < c->n; i++) {
		uint16_t core;
		if (node_read_u16_in(r, n, 0, 1023, &core) == 0 && core == c->list[i])
			return node_refuse(r, &n->start_mark, "core %u is given twice", core);
	}
	return node_read_u16_in(r, n, 0, 1023, &c->list[c->n++]);
}

static int key_cores(struct node_reader *r, yaml_node_t *n, void *into)
{
	struct node_conf *c = into;
	struct cores cores = {.list = c->cores};
	int rc = node_read_sequence(r, n, NODE_WORKERS_MAX, one_core, &cores);
	if (rc < 0)
		return rc;
	if (cores.n == 0)
		return node_refuse(r, &n->start_mark, "is empty; leave it out to have them chosen");
	c->has_cores = true;
	c->n_cores = cores.n;
	return 0;
}

static int key_workers(struct node_reader *r, yaml_node_t *n, void *into)
{
	static const struct node_key keys[] = {
		{"count", key_worker_count, offsetof(struct node_conf, n_workers)},
		{"cores", key_cores, 0},
		{"housekeeping", key_housekeeping, 0},
	};
	return node_read_mapping(r, n, keys, FOIL_COUNT_OF(keys), into);
}

static int key_megabytes(struct node_reader *r, yaml_node_t *n, void *into)
{
	return node_read_u32_in(r, n, 64, 1u << 20, into);
}

static int key_connections(struct node_reader *r, yaml_node_t *n, void *into)
{
	return node_read_u32_in(r, n, 64, 1u << 24, into);
}

static int key_requests(struct node_reader *r, yaml_node_t *n, void *into)
{
	return node_read_u32_in(r, n, 64, 1u << 20, into);
}

static int key_hugepages(struct node_reader *r, yaml_node_t *n, void *into)
{
	static const char *const words[] = {"auto", "on", "off"};
	unsigned int v;
	int rc = node_read_choice(r, n, words, FOIL_COUNT_OF(words), &v);
	if (rc == 0)
		*(enum node_hugepages *)into = (enum node_hugepages)v;
	return rc;
}

static int key_memory(struct node_reader *r, yaml_node_t *n, void *into)
{
	static const struct node_key keys[] = {
		{"megabytes", key_megabytes, offsetof(struct node_conf, memory_megabytes)},
		{"hugepages", key_hugepages, offsetof(struct node_conf, hugepages)},
		{"connections", key_connections, offsetof(struct node_conf, connections_max)},
		{"requests", key_requests, offsetof(struct node_conf, requests_max)},
	};
	return node_read_mapping(r, n, keys, FOIL_COUNT_OF(keys), into);
}

/* A threshold: percent of a resource in use, or never. */
static int key_percent(struct node_reader *r, yaml_node_t *n, void *into)
{
	const char *s = node_scalar(r, n);
	uint8_t v = 0;
	if (!s)
		return -EINVAL;
	for (size_t i = 0; s[i] >= '0' && s[i] <= '9'; i++)
		v = (uint8_t)FOIL_MIN(v * 10 + (s[i] - '0'), 101);
	if (strcmp(s, "never") != 0 && (v < 50 || v > 100 || strspn(s, "0123456789") != strlen(s)))
		return node_refuse(r, &n->start_mark, "\"%.40s\" is neither a percentage from 50 to 100 nor \"never\"", s);
	*(uint8_t *)into = v;
	return 0;
}

static int key_busy(struct node_reader *r, yaml_node_t *n, void *into)
{
	static const char *const words[] = {"count", "stop_accepting_connections"};
	unsigned int v;
	int rc = node_read_choice(r, n, words, FOIL_COUNT_OF(words), &v);
	if (rc == 0)
		*(bool *)into = v == 1;
	return rc;
}

static int key_overload(struct node_reader *r, yaml_node_t *n, void *into)
{
	static const struct node_key keys[] = {
		{"shrink", key_percent, offsetof(struct node_conf, overload.at_percent[0])},
		{"disable_keepalive", key_percent, offsetof(struct node_conf, overload.at_percent[1])},
		{"stop_accepting_connections", key_percent, offsetof(struct node_conf, overload.at_percent[2])},
		{"stop_accepting_requests", key_percent, offsetof(struct node_conf, overload.at_percent[3])},
		{"busy", key_busy, offsetof(struct node_conf, overload.cycles_stop_connections)},
	};
	return node_read_mapping(r, n, keys, FOIL_COUNT_OF(keys), into);
}

static int key_idle(struct node_reader *r, yaml_node_t *n, void *into)
{
	static const char *const words[] = {"auto", "pause", "poll", "interrupt"};
	unsigned int v;
	int rc = node_read_choice(r, n, words, FOIL_COUNT_OF(words), &v);
	if (rc == 0)
		*(enum node_idle *)into = (enum node_idle)v;
	return rc;
}

static int key_congestion(struct node_reader *r, yaml_node_t *n, void *into)
{
	static const char *const words[] = {"cubic", "bbr", "newreno"};
	unsigned int v;
	int rc = node_read_choice(r, n, words, FOIL_COUNT_OF(words), &v);
	if (rc == 0)
		*(const char **)into = words[v];
	return rc;
}

static int key_user_timeout(struct node_reader *r, yaml_node_t *n, void *into)
{
	return node_read_u32_in(r, n, 1, 86400, into);
}

static int key_tcp(struct node_reader *r, yaml_node_t *n, void *into)
{
	static const struct node_key keys[] = {
		{"congestion", key_congestion, offsetof(struct node_conf, tcp_congestion)},
		{"ecn", node_read_bool, offsetof(struct node_conf, tcp_ecn)},
		{"user_timeout_s", key_user_timeout, offsetof(struct node_conf, tcp_user_timeout_s)},
	};
	return node_read_mapping(r, n, keys, FOIL_COUNT_OF(keys), into);
}

static int key_crypto_workers(struct node_reader *r, yaml_node_t *n, void *into)
{
	return node_read_u16_in(r, n, 0, NODE_WORKERS_MAX, into);
}

static int key_handshakes(struct node_reader *r, yaml_node_t *n, void *into)
{
	return node_read_u32_in(r, n, 1, 1u << 20, into);
}

static int key_tls_engine(struct node_reader *r, yaml_node_t *n, void *into)
{
	static const char *const words[] = {"auto", "openssl"};
	unsigned int v;
	int rc = node_read_choice(r, n, words, FOIL_COUNT_OF(words), &v);
	if (rc == 0)
		*(bool *)into = v == 1;
	return rc;
}

static int key_tls(struct node_reader *r, yaml_node_t *n, void *into)
{
	static const struct node_key keys[] = {
		{"handshakes", key_handshakes, offsetof(struct node_conf, tls_handshakes_max)},
		{"handshakes_per_network", key_handshakes, offsetof(struct node_conf, tls_handshakes_network_max)},
		{"engine", key_tls_engine, offsetof(struct node_conf, tls_openssl)},
	};
	return node_read_mapping(r, n, keys, FOIL_COUNT_OF(keys), into);
}

static int key_drain_s(struct node_reader *r, yaml_node_t *n, void *into)
{
	return node_read_u32_in(r, n, 0, 3600, into);
}

static int key_seed(struct node_reader *r, yaml_node_t *n, void *into)
{
	struct node_conf *c = into;
	c->has_seed = true;
	return node_read_u64(r, n, 1, INT64_MAX, &c->seed);
}

static int key_address_check(struct node_reader *r, yaml_node_t *n, void *into)
{
	static const struct {
		const char *name;
		enum net_address_check check;
	} names[] = {{"off", NET_CHECK_NONE}, {"optimistic", NET_CHECK_OPTIMISTIC}, {"strict", NET_CHECK_STRICT}};
	const char *s = node_scalar(r, n);
	for (size_t i = 0; s && i < FOIL_COUNT_OF(names); i++)
		if (strcmp(s, names[i].name) == 0) {
			*(enum net_address_check *)into = names[i].check;
			return 0;
		}
	return s ? node_refuse(r, &n->start_mark, "\"%.40s\" is not off, optimistic or strict", s) : -EINVAL;
}

static const struct node_key top_keys[] = {
	{"node_name", key_name, offsetof(struct node_conf, node_name)},
	{"ports", key_ports, 0},
	{"routes", key_routes, 0},
	{"services", key_services, 0},
	{"captured", key_captured, 0},
	{"names", key_names, 0},
	{"gateways", key_gateways, 0},
	{"locality", key_locality, 0},
	{"service_account", key_service_account, 0},
	{"labels", key_node_labels, 0},
	{"workers", key_workers, 0},
	{"memory", key_memory, 0},
	{"overload", key_overload, 0},
	{"tcp", key_tcp, 0},
	{"crypto_workers", key_crypto_workers, offsetof(struct node_conf, n_crypto_workers)},
	{"tls", key_tls, 0},
	{"idle", key_idle, offsetof(struct node_conf, idle)},
	{"agent_socket", key_socket, offsetof(struct node_conf, agent_socket)},
	{"stats_socket", key_socket, offsetof(struct node_conf, stats_socket)},
	{"inspect_socket", key_socket, offsetof(struct node_conf, inspect_socket)},
	{"state_dir", key_path, offsetof(struct node_conf, state_dir)},
	{"access_log", key_log, offsetof(struct node_conf, access_log)},
	{"log", key_log, offsetof(struct node_conf, log)},
	{"drain_s", key_drain_s, offsetof(struct node_conf, drain_s)},
	{"exception_path", node_read_bool, offsetof(struct node_conf, exception_path)},
	{"address_check", key_address_check, offsetof(struct node_conf, address_check)},
	{"seed", key_seed, 0},
};

/* ---- what must hold between keys */

static bool on_link(const struct net_prefix *p, const struct net_addr *a)
{
	for (uint8_t bit = 0; bit < p->len; bit++) {
		uint8_t mask = (uint8_t)(0x80u >> (bit % 8));
		if ((p->addr.b[bit / 8] ^ a->b[bit / 8]) & mask)
			return false;
	}
	return true;
}

static bool has_v6(const struct node_port *p)
{
	for (uint16_t i = 0; i < p->n_addresses; i++)
		if (!net_addr_is_v4(&p->addresses[i].addr))
			return true;
	return false;
}

/* May via be on the link of this port? A link-local address may be on any that speaks IPv6. */
static bool reaches(const struct node_port *p, const struct net_addr *via)
{
	if (net_addr_is_link_local(via))
		return has_v6(p);
	for (uint16_t i = 0; i < p->n_addresses; i++)
		if (on_link(&p->addresses[i], via))
			return true;
	return false;
}

static int find_ports_of_routes(struct node_reader *r, const yaml_mark_t *at)
{
	struct node_conf *c = r->conf;

	for (uint16_t i = 0; i < c->n_routes; i++) {
		struct node_route *route = &c->routes[i];
		uint16_t n_found = 0, found = 0;
		char via[NET_ADDR_STRLEN];
		net_addr_format(&route->via, via);
		if (route->has_port && (route->port >= c->n_ports || !reaches(&c->ports[route->port], &route->via)))
			return node_refuse(r, at, "routes: via %s is not reached from port %u; ports are counted from 0", via, route->port);
		if (route->has_port)
			continue;
		for (uint16_t p = 0; p < c->n_ports; p++)
			if (reaches(&c->ports[p], &route->via)) {
				found = p;
				n_found++;
			}
		if (!n_found)
			return node_refuse(r, at, "routes: via %s is in no port's prefix; add an address of that network to a port", via);
		if (n_found > 1 && net_addr_is_link_local(&route->via))
			return node_refuse(r, at, "routes: via %s may be on the link of %u ports; say which, as \"port: 0\"", via, n_found);
		route->port = found;
	}
	return 0;
}

/* The last allowed cores for workers, the first for housekeeping; on fewer cores than that they share. */
static void default_cores(struct node_conf *c)
{
	cpu_set_t allowed;
	uint16_t list[CPU_SETSIZE], n = 0;
	if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
		CPU_ZERO(&allowed);
	for (unsigned int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &allowed))
			list[n++] = (uint16_t)i;
	if (n == 0)
		list[n++] = 0;
	if (!c->has_housekeeping_core)
		c->housekeeping_core = list[0];
	for (uint16_t i = 0; !c->has_cores && i < c->n_workers; i++)
		c->cores[i] = list[n >= c->n_workers ? n - c->n_workers + i : i % n];
}

static bool is_ours(const struct node_conf *c, const struct net_addr *a)
{
	for (uint16_t p = 0; p < c->n_ports; p++)
		for (uint16_t i = 0; i < c->ports[p].n_addresses; i++)
			if (net_addr_eq(&c->ports[p].addresses[i].addr, a))
				return true;
	for (uint16_t i = 0; i < c->n_services; i++)
		if (on_link(&c->services[i], a))
			return true;
	return false;
}

static int check_gateways(struct node_reader *r, const yaml_mark_t *at)
{
	const struct node_conf *c = r->conf;
	for (uint16_t g = 0; g < c->n_gateways; g++)
		for (uint16_t i = 0; i < c->gateways[g].n_addresses; i++) {
			char text[NET_ADDR_STRLEN];
			if (!is_ours(c, &c->gateways[g].addresses[i]))
				return node_refuse(r, at, "gateways[%u]: %s is neither a port's address nor in services; add it to a port", g,
					      net_addr_format(&c->gateways[g].addresses[i], text));
		}
	return 0;
}

static int finish(struct node_reader *r, const yaml_mark_t *at)
{
	struct node_conf *c = r->conf;
	if (c->n_ports == 0)
		return node_refuse(r, at, "no ports; give at least one under ports:, see docs/node-file.md");
	for (uint16_t p = 0; p < c->n_ports; p++)
		if (c->ports[p].n_addresses == 0)
			return node_refuse(r, at, "ports[%u]: has no addresses; give at least one, as 198.18.0.1/24", p);
	if (!c->agent_socket[0] || !c->state_dir[0])
		return node_refuse(r, at, "agent_socket and state_dir are required, as /run/hydrofoil/agent.sock and /var/lib/hydrofoil");
	if (c->n_workers == 0)
		c->n_workers = c->has_cores ? c->n_cores : 1;
	if (c->has_cores && c->n_cores != c->n_workers)
		return node_refuse(r, at, "workers: count is %u, but cores names %u; they must agree", c->n_workers, c->n_cores);
	default_cores(c);
	if (!c->node_name[0] && gethostname(c->node_name, sizeof(c->node_name) - 1) != 0)
		(void)snprintf(c->node_name, sizeof(c->node_name), "hydrofoil"); /* fits */
	if (!c->stats_socket[0] &&
	    snprintf(c->stats_socket, sizeof(c->stats_socket), "%s.stats", c->agent_socket) >= (int)sizeof(c->stats_socket))
		return node_refuse(r, at, "agent_socket: too long to append .stats; give stats_socket too");
	if (!c->inspect_socket[0] &&
	    snprintf(c->inspect_socket, sizeof(c->inspect_socket), "%s.inspect", c->agent_socket) >= (int)sizeof(c->inspect_socket))
		return node_refuse(r, at, "agent_socket: too long to append .inspect; give inspect_socket too");
	int rc = find_ports_of_routes(r, at);
	if (!c->tls_handshakes_network_max)
		c->tls_handshakes_network_max = (c->tls_handshakes_max + 3) / 4;
	if (rc == 0 && c->tls_handshakes_network_max > c->tls_handshakes_max)
		rc = node_refuse(r, at, "tls.handshakes_per_network %u is more than tls.handshakes %u; lower it or raise the other",
				 c->tls_handshakes_network_max, c->tls_handshakes_max);
	return rc < 0 ? rc : check_gateways(r, at);
}

/* The document API hides aliases and stops after one document; the tokens show both. */
static int check_tokens(struct node_reader *r, const void *text, size_t n_bytes)
{
	yaml_parser_t parser;
	unsigned int depth = 0;
	bool done = false;
	int rc = 0;
	if (!yaml_parser_initialize(&parser))
		return foil_error_set(r->err, -ENOMEM, "%s: no memory for the YAML parser", r->name);
	yaml_parser_set_input_string(&parser, text, n_bytes);
	for (unsigned int n_documents = 0; rc == 0 && !done;) {
		yaml_event_t e;
		if (!yaml_parser_parse(&parser, &e)) {
			rc = node_refuse(r, &parser.problem_mark, "not YAML: %s", parser.problem ? parser.problem : "unreadable");
			break;
		}
		done = e.type == YAML_STREAM_END_EVENT;
		bool opens = e.type == YAML_MAPPING_START_EVENT || e.type == YAML_SEQUENCE_START_EVENT;
		depth += opens;
		depth -= e.type == YAML_MAPPING_END_EVENT || e.type == YAML_SEQUENCE_END_EVENT;
		n_documents += e.type == YAML_DOCUMENT_START_EVENT;
		if (e.type == YAML_ALIAS_EVENT || (e.type == YAML_SCALAR_EVENT && e.data.scalar.anchor) ||
		    (e.type == YAML_MAPPING_START_EVENT && e.data.mapping_start.anchor) ||
		    (e.type == YAML_SEQUENCE_START_EVENT && e.data.sequence_start.anchor))
			rc = node_refuse(r, &e.start_mark, "anchors and aliases are not taken here; write the value out");
		else if (depth > DEPTH_MAX)
			rc = node_refuse(r, &e.start_mark, "nested deeper than %d", DEPTH_MAX);
		else if (n_documents > 1)
			rc = node_refuse(r, &e.start_mark, "a second document; a node file is one");
		yaml_event_delete(&e);
	}
	yaml_parser_delete(&parser);
	return rc;
}

static int walk(struct node_reader *r, yaml_parser_t *parser)
{
	yaml_document_t doc;
	if (!yaml_parser_load(parser, &doc))
		return node_refuse(r, &parser->problem_mark, "not YAML: %s", parser->problem ? parser->problem : "unreadable");
	yaml_node_t *root = yaml_document_get_root_node(&doc);
	yaml_mark_t start = {0};
	r->doc = &doc;
	int rc = root ? node_read_mapping(r, root, top_keys, FOIL_COUNT_OF(top_keys), r->conf) : node_refuse(r, &start, "the file is empty");
	if (rc == 0)
		rc = finish(r, &root->start_mark);
	yaml_document_delete(&doc);
	return rc;
}

int node_file_parse(const char *name, const void *text, size_t n_bytes, struct node_conf *out, struct foil_error *err)
{
	struct node_conf *c = calloc(1, sizeof(*c));
	struct node_reader r = {.name = name, .err = err, .conf = c};
	if (!c)
		return foil_error_set(err, -ENOMEM, "%s: no memory", name);
	*c = (struct node_conf){.memory_megabytes = 512, .overload.at_percent = {95, 95, 98, 98}, .connections_max = 16384, .requests_max = 4096, .drain_s = 30,
				 .tcp_congestion = "cubic", .log = "-", .address_check = NET_CHECK_OPTIMISTIC, .tls_handshakes_max = 8192, .names_max = 1024,
				 .n_names_refused = FOIL_COUNT_OF(not_by_name)};
	memcpy(c->names_refused, not_by_name, sizeof(not_by_name));
	yaml_parser_t parser;
	int rc = check_tokens(&r, text, n_bytes);
	if (rc == 0 && !yaml_parser_initialize(&parser))
		rc = foil_error_set(err, -ENOMEM, "%s: no memory for the YAML parser", name);
	else if (rc == 0) {
		yaml_parser_set_input_string(&parser, text, n_bytes);
		rc = walk(&r, &parser);
		yaml_parser_delete(&parser);
	}
	if (rc == 0)
		*out = *c;
	free(c);
	return rc;
}

int node_file_read(const char *path, struct node_conf *out, struct foil_error *err)
{
	FILE *f = fopen(path, "rb");
	if (!f)
		return foil_error_set(err, -errno, "node file %.200s: %s; give its path, as conf/examples/lab-node.yaml", path, strerror(errno));
	char *text = malloc(NODE_FILE_BYTES_MAX + 1);
	size_t n = text ? fread(text, 1, NODE_FILE_BYTES_MAX + 1, f) : 0;
	int rc;
	if (!text)
		rc = foil_error_set(err, -ENOMEM, "no memory to read %.200s", path);
	else if (ferror(f))
		rc = foil_error_set(err, -EIO, "node file %.200s: cannot be read (is it a folder?)", path);
	else if (n > NODE_FILE_BYTES_MAX)
		rc = foil_error_set(err, -EFBIG, "node file %.200s: larger than %u bytes; this is not a node file", path, NODE_FILE_BYTES_MAX);
	else
		rc = node_file_parse(path, text, n, out, err);
	free(text);
	(void)fclose(f);
	return rc;
}
