/* Reads the node file (docs/node-file.md) with libyaml's documents: nodes carry marks, aliases are shared and never multiplied, and we walk only the
 * shape that we know, so that no input makes the reading longer than the file.
 * Invariant: out is written only when everything was good. */
#include "programs/node_file.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include <yaml.h>

struct reader {
	const char *name;
	yaml_document_t *doc;
	struct foil_error *err;
	struct node_conf *conf;
};

typedef int (*read_fn)(struct reader *r, const char *key, yaml_node_t *value, void *into);
struct key {
	const char *name;
	read_fn read;
	size_t offset; /* into the struct that `into` points at */
};

static int __attribute__((format(printf, 3, 4))) refuse(struct reader *r, const yaml_mark_t *at, const char *fmt, ...)
{
	char what[400];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(what, sizeof(what), fmt, ap); /* a cut sentence is better than none */
	va_end(ap);
	if (r->err) {
		r->err->line = (unsigned int)at->line + 1;
		r->err->column = (unsigned int)at->column + 1;
		(void)snprintf(r->err->resource, sizeof(r->err->resource), "%.150s", r->name);
	}
	return foil_error_set(r->err, -EINVAL, "%.100s:%zu:%zu: %s", r->name, at->line + 1, at->column + 1, what);
}

static const char *scalar(struct reader *r, const char *key, yaml_node_t *n)
{
	if (n->type == YAML_SCALAR_NODE && strlen((char *)n->data.scalar.value) == n->data.scalar.length)
		return (const char *)n->data.scalar.value;
	(void)refuse(r, &n->start_mark, "%s: expected one plain value", key);
	return NULL;
}

/* "a, b, c" of the known keys, for the sentence about an unknown one. */
static void list_keys(const struct key *keys, size_t n, char *out, size_t out_bytes)
{
	size_t at = 0;
	out[0] = 0;
	for (size_t i = 0; i < n && at < out_bytes; i++)
		at += (size_t)snprintf(out + at, out_bytes - at, "%s%s", i ? ", " : "", keys[i].name);
}

static int read_mapping(struct reader *r, const char *what, yaml_node_t *n, const struct key *keys, size_t n_keys, void *into)
{
	if (n->type != YAML_MAPPING_NODE)
		return refuse(r, &n->start_mark, "%s: expected a mapping of keys to values", what);
	uint64_t seen = 0;
	for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
		yaml_node_t *k = yaml_document_get_node(r->doc, p->key), *v = yaml_document_get_node(r->doc, p->value);
		const char *name = scalar(r, what, k);
		if (!name)
			return -EINVAL;
		size_t i = 0;
		while (i < n_keys && strcmp(keys[i].name, name) != 0)
			i++;
		if (i == n_keys) {
			char known[300];
			list_keys(keys, n_keys, known, sizeof(known));
			return refuse(r, &k->start_mark, "%s: unknown key \"%.60s\"; known are %s", what, name, known);
		}
		if (seen & UINT64_C(1) << i)
			return refuse(r, &k->start_mark, "%s: key \"%s\" is given twice; keep one", what, name);
		seen |= UINT64_C(1) << i;
		int rc = keys[i].read(r, name, v, (char *)into + keys[i].offset);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Calls each() for every item of a sequence. */
static int read_sequence(struct reader *r, const char *key, yaml_node_t *n, size_t max, int (*each)(struct reader *, const char *, yaml_node_t *, void *),
			 void *into)
{
	if (n->type != YAML_SEQUENCE_NODE)
		return refuse(r, &n->start_mark, "%s: expected a list", key);
	size_t count = (size_t)(n->data.sequence.items.top - n->data.sequence.items.start);
	if (count > max)
		return refuse(r, &n->start_mark, "%s: %zu entries, at most %zu", key, count, max);
	for (yaml_node_item_t *it = n->data.sequence.items.start; it < n->data.sequence.items.top; it++) {
		int rc = each(r, key, yaml_document_get_node(r->doc, *it), into);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* ---- plain values */

static int read_u64(struct reader *r, const char *key, yaml_node_t *n, uint64_t min, uint64_t max, uint64_t *out)
{
	const char *s = scalar(r, key, n);
	if (!s)
		return -EINVAL;
	char *end;
	errno = 0;
	unsigned long long v = strtoull(s, &end, 0);
	if (*s < '0' || *s > '9' || *end || errno || v < min || v > max)
		return refuse(r, &n->start_mark, "%s: \"%.40s\" is not a number from %llu to %llu", key, s, (unsigned long long)min, (unsigned long long)max);
	*out = v;
	return 0;
}

static int read_u32_in(struct reader *r, const char *key, yaml_node_t *n, uint64_t min, uint64_t max, uint32_t *out)
{
	uint64_t v;
	int rc = read_u64(r, key, n, min, max, &v);
	if (rc == 0)
		*out = (uint32_t)v;
	return rc;
}

static int read_u16_in(struct reader *r, const char *key, yaml_node_t *n, uint64_t min, uint64_t max, uint16_t *out)
{
	uint64_t v;
	int rc = read_u64(r, key, n, min, max, &v);
	if (rc == 0)
		*out = (uint16_t)v;
	return rc;
}

static int read_text(struct reader *r, const char *key, yaml_node_t *n, char *out, size_t out_bytes)
{
	const char *s = scalar(r, key, n);
	if (!s)
		return -EINVAL;
	if (!*s)
		return refuse(r, &n->start_mark, "%s: is empty", key);
	if (strlen(s) >= out_bytes)
		return refuse(r, &n->start_mark, "%s: longer than %zu bytes", key, out_bytes - 1);
	memcpy(out, s, strlen(s) + 1);
	return 0;
}

static int read_bool(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	const char *s = scalar(r, key, n);
	if (!s)
		return -EINVAL;
	if (strcmp(s, "true") != 0 && strcmp(s, "false") != 0)
		return refuse(r, &n->start_mark, "%s: \"%.40s\" is not true or false", key, s);
	*(bool *)into = strcmp(s, "true") == 0;
	return 0;
}

static int read_choice(struct reader *r, const char *key, yaml_node_t *n, const char *const *words, size_t n_words, unsigned int *out)
{
	const char *s = scalar(r, key, n);
	if (!s)
		return -EINVAL;
	for (size_t i = 0; i < n_words; i++)
		if (strcmp(words[i], s) == 0) {
			*out = (unsigned int)i;
			return 0;
		}
	char known[120];
	size_t at = 0;
	for (size_t i = 0; i < n_words && at < sizeof(known); i++)
		at += (size_t)snprintf(known + at, sizeof(known) - at, "%s%s", i ? " | " : "", words[i]);
	return refuse(r, &n->start_mark, "%s: \"%.40s\" is not one of %s", key, s, known);
}

static int read_addr(struct reader *r, const char *key, yaml_node_t *n, struct net_addr *out)
{
	const char *s = scalar(r, key, n);
	if (!s)
		return -EINVAL;
	if (net_addr_parse(s, out) < 0)
		return refuse(r, &n->start_mark, "%s: \"%.60s\" is not an IPv4 or IPv6 address", key, s);
	return 0;
}

static int read_prefix(struct reader *r, const char *key, yaml_node_t *n, struct net_prefix *out)
{
	const char *s = scalar(r, key, n);
	if (!s)
		return -EINVAL;
	if (!strchr(s, '/') || net_prefix_parse(s, out) < 0)
		return refuse(r, &n->start_mark, "%s: \"%.60s\" is not an address with its prefix length, as 198.18.0.1/24 or fd00::1/64", key, s);
	return 0;
}

/* ---- the keys */

static int key_name(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	return read_text(r, key, n, into, sizeof(((struct node_conf *)0)->node_name));
}

static int key_path(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	return read_text(r, key, n, into, sizeof(((struct node_conf *)0)->state_dir));
}

static int key_socket(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	return read_text(r, key, n, into, sizeof(((struct node_conf *)0)->agent_socket));
}

static int key_uri(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	return read_text(r, key, n, into, sizeof(((struct node_port *)0)->uri));
}

static int key_vlan(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	return read_u16_in(r, key, n, 0, 4094, into);
}

static int key_mtu(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	return read_u16_in(r, key, n, 1280, 9600, into);
}

static int one_port_address(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	struct node_port *p = into;
	int rc = read_prefix(r, key, n, &p->addresses[p->n_addresses]);
	p->n_addresses += rc == 0;
	return rc;
}

static int key_port_addresses(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	return read_sequence(r, key, n, NODE_ADDRS_MAX, one_port_address, into);
}

static int one_port(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	static const struct key keys[] = {
		{"uri", key_uri, offsetof(struct node_port, uri)},
		{"addresses", key_port_addresses, 0},
		{"vlan", key_vlan, offsetof(struct node_port, vlan)},
		{"mtu", key_mtu, offsetof(struct node_port, mtu)},
	};
	struct node_conf *c = into;
	struct node_port *p = &c->ports[c->n_ports];
	p->line = (unsigned int)n->start_mark.line + 1;
	p->column = (unsigned int)n->start_mark.column + 1;
	int rc = read_mapping(r, key, n, keys, FOIL_COUNT_OF(keys), p);
	if (rc < 0)
		return rc;
	if (!p->uri[0])
		return refuse(r, &n->start_mark, "ports: an entry has no uri; give one, as \"af_packet:iface=eth1\"");
	c->n_ports++;
	return 0;
}

static int key_ports(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	return read_sequence(r, key, n, NODE_PORTS_MAX, one_port, into);
}

static int key_route_to(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	return read_prefix(r, key, n, into);
}

static int key_route_via(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	return read_addr(r, key, n, into);
}

static bool is_zero(const struct net_addr *a)
{
	static const struct net_addr zero;
	return net_addr_eq(a, &zero);
}

static int one_route(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	static const struct key keys[] = {
		{"to", key_route_to, offsetof(struct node_route, to)},
		{"via", key_route_via, offsetof(struct node_route, via)},
	};
	struct node_conf *c = into;
	struct node_route *route = &c->routes[c->n_routes];
	int rc = read_mapping(r, key, n, keys, FOIL_COUNT_OF(keys), route);
	if (rc < 0)
		return rc;
	if (is_zero(&route->via))
		return refuse(r, &n->start_mark, "routes: an entry needs both to and via");
	c->n_routes++;
	return 0;
}

static int key_routes(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	return read_sequence(r, key, n, NODE_ADDRS_MAX, one_route, into);
}

static int one_service(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	struct node_conf *c = into;
	int rc = read_prefix(r, key, n, &c->services[c->n_services]);
	c->n_services += rc == 0;
	return rc;
}

static int key_services(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	return read_sequence(r, key, n, NODE_ADDRS_MAX, one_service, into);
}

static int key_labels(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	struct node_gateway *g = into;
	if (n->type != YAML_MAPPING_NODE)
		return refuse(r, &n->start_mark, "%s: expected a mapping, as istio: ingressgateway", key);
	for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
		yaml_node_t *k = yaml_document_get_node(r->doc, p->key), *v = yaml_document_get_node(r->doc, p->value);
		if (g->n_labels == NODE_LABELS_MAX)
			return refuse(r, &k->start_mark, "%s: more than %d labels", key, NODE_LABELS_MAX);
		int rc = read_text(r, key, k, g->label_keys[g->n_labels], sizeof(g->label_keys[0]));
		if (rc == 0)
			rc = read_text(r, key, v, g->label_values[g->n_labels], sizeof(g->label_values[0]));
		if (rc < 0)
			return rc;
		g->n_labels++;
	}
	return 0;
}

static int one_gateway_address(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	struct node_gateway *g = into;
	int rc = read_addr(r, key, n, &g->addresses[g->n_addresses]);
	g->n_addresses += rc == 0;
	return rc;
}

static int key_gateway_addresses(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	return read_sequence(r, key, n, NODE_ADDRS_MAX, one_gateway_address, into);
}

static int one_gateway(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	static const struct key keys[] = {{"labels", key_labels, 0}, {"addresses", key_gateway_addresses, 0}};
	struct node_conf *c = into;
	struct node_gateway *g = &c->gateways[c->n_gateways];
	int rc = read_mapping(r, key, n, keys, FOIL_COUNT_OF(keys), g);
	if (rc < 0)
		return rc;
	if (!g->n_labels || !g->n_addresses)
		return refuse(r, &n->start_mark, "gateways: an entry needs labels and addresses");
	c->n_gateways++;
	return 0;
}

static int key_gateways(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	return read_sequence(r, key, n, NODE_ADDRS_MAX, one_gateway, into);
}

static int key_worker_count(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	return read_u16_in(r, key, n, 1, NODE_WORKERS_MAX, into);
}

static int key_core(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	return read_u16_in(r, key, n, 0, 1023, into);
}

struct cores {
	uint16_t *list;
	uint16_t n;
};

static int one_core(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	struct cores *c = into;
	for (uint16_t i = 0; i < c->n; i++) {
		uint16_t core;
		if (read_u16_in(r, key, n, 0, 1023, &core) == 0 && core == c->list[i])
			return refuse(r, &n->start_mark, "%s: core %u is given twice", key, core);
	}
	return read_u16_in(r, key, n, 0, 1023, &c->list[c->n++]);
}

static int key_cores(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	struct node_conf *c = into;
	struct cores cores = {.list = c->cores};
	int rc = read_sequence(r, key, n, NODE_WORKERS_MAX, one_core, &cores);
	if (rc < 0)
		return rc;
	if (cores.n == 0)
		return refuse(r, &n->start_mark, "cores: is empty; leave it out to have them chosen");
	c->has_cores = true;
	if (c->n_workers == 0)
		c->n_workers = cores.n;
	if (cores.n != c->n_workers)
		return refuse(r, &n->start_mark, "workers: count is %u, but cores names %u; they must agree", c->n_workers, cores.n);
	return 0;
}

static int key_workers(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	static const struct key keys[] = {
		{"count", key_worker_count, offsetof(struct node_conf, n_workers)},
		{"cores", key_cores, 0},
		{"housekeeping_core", key_core, offsetof(struct node_conf, housekeeping_core)},
	};
	return read_mapping(r, key, n, keys, FOIL_COUNT_OF(keys), into);
}

static int key_megabytes(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	return read_u32_in(r, key, n, 64, 1u << 20, into);
}

static int key_pool(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	return read_u32_in(r, key, n, 64, 1u << 24, into);
}

static int key_hugepages(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	static const char *const words[] = {"auto", "on", "off"};
	unsigned int v;
	int rc = read_choice(r, key, n, words, FOIL_COUNT_OF(words), &v);
	if (rc == 0)
		*(enum node_hugepages *)into = (enum node_hugepages)v;
	return rc;
}

static int key_memory(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	static const struct key keys[] = {
		{"megabytes", key_megabytes, offsetof(struct node_conf, memory_megabytes)},
		{"hugepages", key_hugepages, offsetof(struct node_conf, hugepages)},
		{"connections", key_pool, offsetof(struct node_conf, connections_max)},
		{"requests", key_pool, offsetof(struct node_conf, requests_max)},
		{"packets", key_pool, offsetof(struct node_conf, packets)},
	};
	return read_mapping(r, key, n, keys, FOIL_COUNT_OF(keys), into);
}

static int key_idle(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	static const char *const words[] = {"pause", "poll", "interrupt"};
	unsigned int v;
	int rc = read_choice(r, key, n, words, FOIL_COUNT_OF(words), &v);
	if (rc == 0)
		*(enum node_idle *)into = (enum node_idle)v;
	return rc;
}

static int key_drain_s(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	return read_u32_in(r, key, n, 0, 86400, into);
}

static int key_seed(struct reader *r, const char *key, yaml_node_t *n, void *into)
{
	struct node_conf *c = into;
	c->has_seed = true;
	return read_u64(r, key, n, 0, UINT64_MAX, &c->seed);
}

static const struct key top_keys[] = {
	{"node_name", key_name, offsetof(struct node_conf, node_name)},
	{"ports", key_ports, 0},
	{"routes", key_routes, 0},
	{"services", key_services, 0},
	{"gateways", key_gateways, 0},
	{"workers", key_workers, 0},
	{"memory", key_memory, 0},
	{"idle", key_idle, offsetof(struct node_conf, idle)},
	{"agent_socket", key_socket, offsetof(struct node_conf, agent_socket)},
	{"stats_socket", key_socket, offsetof(struct node_conf, stats_socket)},
	{"state_dir", key_path, offsetof(struct node_conf, state_dir)},
	{"access_log", key_path, offsetof(struct node_conf, access_log)},
	{"drain_s", key_drain_s, offsetof(struct node_conf, drain_s)},
	{"exception_path", read_bool, offsetof(struct node_conf, exception_path)},
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

static int find_ports_of_routes(struct reader *r, const yaml_mark_t *at)
{
	struct node_conf *c = r->conf;
	for (uint16_t i = 0; i < c->n_routes; i++) {
		struct node_route *route = &c->routes[i];
		route->port = UINT16_MAX;
		for (uint16_t p = 0; p < c->n_ports; p++)
			for (uint16_t a = 0; a < c->ports[p].n_addresses; a++)
				if (on_link(&c->ports[p].addresses[a], &route->via))
					route->port = p;
		char via[NET_ADDR_STRLEN];
		if (route->port == UINT16_MAX)
			return refuse(r, at, "routes: via %s is in no port's prefix; add an address of that network to a port",
				      net_addr_format(&route->via, via));
	}
	return 0;
}

static void default_cores(struct node_conf *c)
{
	long n_online = sysconf(_SC_NPROCESSORS_ONLN);
	for (uint16_t i = 0; i < c->n_workers; i++)
		c->cores[i] = n_online > c->n_workers ? (uint16_t)(i + 1) : i;
}

static int finish(struct reader *r, const yaml_mark_t *at)
{
	struct node_conf *c = r->conf;
	if (c->n_ports == 0)
		return refuse(r, at, "no ports; give at least one under ports:, see docs/node-file.md");
	if (c->n_workers == 0)
		c->n_workers = 1;
	if (!c->has_cores)
		default_cores(c);
	if (!c->node_name[0] && gethostname(c->node_name, sizeof(c->node_name) - 1) != 0)
		strncpy(c->node_name, "hydrofoil", sizeof(c->node_name) - 1);
	if (!c->stats_socket[0]) {
		const char *slash = strrchr(c->agent_socket, '/');
		int dir = slash ? (int)(slash - c->agent_socket) : 1;
		if (snprintf(c->stats_socket, sizeof(c->stats_socket), "%.*s/stats.sock", dir, slash ? c->agent_socket : ".") >=
		    (int)sizeof(c->stats_socket))
			return refuse(r, at, "agent_socket: too long to put stats.sock beside it; give stats_socket too");
	}
	return find_ports_of_routes(r, at);
}

int node_file_parse(const char *name, const void *text, size_t n_bytes, struct node_conf *out, struct foil_error *err)
{
	yaml_parser_t parser;
	yaml_document_t doc;
	if (!yaml_parser_initialize(&parser))
		return foil_error_set(err, -ENOMEM, "%s: no memory for the YAML parser", name);
	yaml_parser_set_input_string(&parser, text, n_bytes);
	if (!yaml_parser_load(&parser, &doc)) {
		int rc = foil_error_set(err, -EINVAL, "%.100s:%zu:%zu: not YAML: %s", name, parser.problem_mark.line + 1,
					parser.problem_mark.column + 1, parser.problem ? parser.problem : "unreadable");
		yaml_parser_delete(&parser);
		return rc;
	}
	struct node_conf *c = calloc(1, sizeof(*c));
	struct reader r = {.name = name, .doc = &doc, .err = err, .conf = c};
	int rc = c ? 0 : foil_error_set(err, -ENOMEM, "%s: no memory", name);
	if (c) {
		*c = (struct node_conf){.memory_megabytes = 512, .connections_max = 65536, .requests_max = 16384, .drain_s = 45,
					.agent_socket = "/run/hydrofoil/agent.sock", .state_dir = "/var/lib/hydrofoil", .access_log = "/dev/stdout"};
		yaml_node_t *root = yaml_document_get_root_node(&doc);
		yaml_mark_t start = {0};
		rc = root ? read_mapping(&r, "node file", root, top_keys, FOIL_COUNT_OF(top_keys), c) : refuse(&r, &start, "the file is empty");
		if (rc == 0)
			rc = finish(&r, &root->start_mark);
		if (rc == 0)
			*out = *c;
	}
	free(c);
	yaml_document_delete(&doc);
	yaml_parser_delete(&parser);
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
