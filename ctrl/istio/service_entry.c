/* The field tables of ServiceEntry and WorkloadEntry (features.md SE-1..SE-12, WE-1..WE-3). */
#include "ctrl/istio/rows.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- WorkloadEntry, also inline ---- */

static void check_workload_entry(struct istio_decode *d, void *object)
{
	struct workload_entry *w = object;

	if ((!w->address || !w->address[0]) && w->network && w->network[0])
		return; /* behind the gateway of its network */
	if (!w->address || !w->address[0])
		istio_decode_error(d, "IST0106", &w->head, "address", "needs an address: an IP address, or a name where the ServiceEntry has resolution DNS; "
				   "or else a network");
	else if (strncmp(w->address, "unix:", 5) == 0)
		istio_decode_error(d, "HF0005", &w->head, "address", "not supported: a Unix socket is not reachable from the data plane; give an IP address");
	else if (!istio_is_ip(w->address) && !istio_is_host(w->address, false))
		istio_decode_error(d, "IST0106", &w->head, "address", "\"%.80s\" is neither an IP address nor a name", w->address);
}

static const struct istio_field workload_entry_rows[] = {
	ROW(workload_entry, address, "address", F_STRING),
	ROW(workload_entry, ports, "ports", F_INT_MAP, .min = 1, .max = PORT_MAX),
	ROW(workload_entry, labels, "labels", F_STRING_MAP),
	ROW(workload_entry, network, "network", F_STRING),
	ROW(workload_entry, locality, "locality", F_STRING),
	ROW(workload_entry, weight, "weight", F_INT, .min = 0, .max = 1000000),
	ROW(workload_entry, service_account, "serviceAccount", F_STRING),
};
const struct istio_table istio_table_workload_entry = TABLE(workload_entry, "WorkloadEntry", workload_entry_rows, .check = check_workload_entry);

/* A WorkloadGroup's, which has no address of its own. */
static void check_template(struct istio_decode *d, void *object)
{
	const struct workload_entry *w = object;

	if (w->address)
		istio_decode_error(d, "IST0106", &w->head, "address", "a template has none: write it in each WorkloadEntry");
}

const struct istio_table istio_table_workload_template = TABLE(workload_entry, "WorkloadEntry", workload_entry_rows, .check = check_template);

/* ---- ServiceEntry ---- */

static const struct istio_field port_rows[] = {
	ROW(object_port, number, "number", F_INT, .min = 1, .max = PORT_MAX),
	ROW(object_port, protocol, "protocol", F_STRING, .min = 0, .max = 256),
	ROW(object_port, name, "name", F_STRING, .min = 1, .max = 256),
	ROW(object_port, target_port, "targetPort", F_INT, .min = 0, .max = PORT_MAX),
};

static void check_port(struct istio_decode *d, void *object)
{
	struct object_port *p = object;

	if (!p->number.is_set)
		istio_decode_error(d, "IST0106", &p->head, "number", "a port needs a number");
	if (!p->name)
		istio_decode_error(d, "IST0106", &p->head, "name", "a port needs a name");
}

static const struct istio_table table_port = TABLE(object_port, "ServicePort", port_rows, .check = check_port);

static const char *const locations[] = {"MESH_EXTERNAL", "MESH_INTERNAL", NULL};
static const char *const resolutions[] = {"NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS", NULL};
static const struct istio_field service_entry_rows[] = {
	ROW(service_entry, hosts, "hosts", F_STRINGS, .min = 1, .max = 256),
	ROW(service_entry, addresses, "addresses", F_STRINGS, .min = 0, .max = 256),
	ROW(service_entry, ports, "ports", F_OBJECTS, .table = &table_port, .min = 0, .max = 256),
	ROW(service_entry, location, "location", F_ENUM, .words = locations),
	ROW(service_entry, resolution, "resolution", F_ENUM, .words = resolutions),
	ROW(service_entry, endpoints, "endpoints", F_OBJECTS, .table = &istio_table_workload_entry, .min = 0, .max = 65536),
	ROW(service_entry, selector, "workloadSelector", F_OBJECT, .table = &istio_table_workload_selector),
	ROW(service_entry, export_to, "exportTo", F_STRINGS),
	ROW(service_entry, subject_alt_names, "subjectAltNames", F_STRINGS),
};

static void check_hosts(struct istio_decode *d, const struct service_entry *s)
{
	for (uint32_t i = 0; i < s->hosts.n; i++)
		if (strcmp(s->hosts.list[i], "*") == 0)
			istio_decode_error(d, "IST0106", &s->head, "hosts", "a host cannot be \"*\": name the hosts, or use \"*.example.com\"");
		else if (!istio_is_host(s->hosts.list[i], true))
			istio_decode_error(d, "IST0106", &s->head, "hosts", "\"%.80s\" is not a host", s->hosts.list[i]);
	for (uint32_t i = 0; i < s->addresses.n; i++)
		if (!istio_is_cidr(s->addresses.list[i]))
			istio_decode_error(d, "IST0106", &s->head, "addresses", "\"%.60s\" is not an address with or without /length", s->addresses.list[i]);
}

static void check_ports(struct istio_decode *d, const struct service_entry *s)
{
	char field[48];

	for (uint32_t i = 0; i < s->ports.n; i++)
		for (uint32_t j = 0; j < i; j++) {
			const struct object_port *a = ISTIO_ITEM(s->ports, struct object_port, i), *b = ISTIO_ITEM(s->ports, struct object_port, j);
			bool same_number = a->number.value == b->number.value;
			(void)snprintf(field, sizeof(field), "ports[%u].%s", i, same_number ? "number" : "name"); /* it fits */
			if (same_number)
				istio_decode_error(d, "IST0106", &s->head, field, "a second port %lld", (long long)a->number.value);
			else if (strcmp(a->name, b->name) == 0)
				istio_decode_error(d, "IST0106", &s->head, field, "a second port named \"%.80s\"", a->name);
		}
}

/* What istiod's validation says of names. */
static void check_names(struct istio_decode *d, const struct service_entry *s)
{
	for (uint32_t i = 0; i < s->hosts.n && s->endpoints.n == 0 && !s->selector; i++)
		if (s->hosts.list[i][0] == '*')
			istio_decode_error(d, "IST0106", &s->head, "hosts", "\"%.80s\" cannot be resolved: with resolution DNS and no endpoints every host "
					   "must be a whole name", s->hosts.list[i]);
	for (uint32_t i = 0; i < s->addresses.n; i++)
		if (strchr(s->addresses.list[i], '/'))
			istio_decode_error(d, "IST0106", &s->head, "addresses", "\"%.60s\": ranges go with resolution NONE or STATIC", s->addresses.list[i]);
	if (s->resolution.value == RESOLUTION_DNS_ROUND_ROBIN && s->endpoints.n > 1)
		istio_decode_error(d, "IST0106", &s->head, "endpoints", "resolution DNS_ROUND_ROBIN takes one endpoint at most");
}

/* What istiod's validation says of hosts that requests name. */
static void check_dynamic(struct istio_decode *d, const struct service_entry *s)
{
	char field[48];

	for (uint32_t i = 0; i < s->hosts.n; i++)
		if (s->hosts.list[i][0] != '*')
			istio_decode_error(d, "IST0106", &s->head, "hosts", "\"%.80s\" is a whole name: resolution DYNAMIC_DNS is for wildcards; use DNS",
					   s->hosts.list[i]);
	if (s->addresses.n)
		istio_decode_error(d, "IST0106", &s->head, "addresses", "resolution DYNAMIC_DNS takes no addresses");
	if (s->endpoints.n)
		istio_decode_error(d, "IST0106", &s->head, "endpoints", "resolution DYNAMIC_DNS takes no endpoints: the request says which host is meant");
	for (uint32_t i = 0; i < s->ports.n; i++) {
		const struct object_port *p = ISTIO_ITEM(s->ports, struct object_port, i);
		const char *word = p->protocol ? p->protocol : "";
		(void)snprintf(field, sizeof(field), "ports[%u].protocol", i); /* it fits */
		if (strcasecmp(word, "HTTP") != 0 && strcasecmp(word, "HTTP2") != 0 && strcasecmp(word, "GRPC") != 0 && strcasecmp(word, "TLS") != 0)
			istio_decode_error(d, "IST0106", &s->head, field, "resolution DYNAMIC_DNS knows HTTP, HTTP2, GRPC and TLS, not \"%.20s\"", word);
	}
}

static void check_endpoints(struct istio_decode *d, const struct service_entry *s)
{
	char field[48];

	for (uint32_t i = 0; i < s->endpoints.n; i++) {
		const struct workload_entry *w = ISTIO_ITEM(s->endpoints, struct workload_entry, i);
		(void)snprintf(field, sizeof(field), "endpoints[%u].address", i); /* it fits */
		if (s->resolution.value == RESOLUTION_STATIC && w->address && w->address[0] && !istio_is_ip(w->address))
			istio_decode_error(d, "IST0106", &s->head, field, "\"%.60s\" is not an IP address, which resolution STATIC needs", w->address);
	}
}

static void check_service_entry(struct istio_decode *d, void *object)
{
	struct service_entry *s = object;
	int64_t how = s->resolution.value;

	if (s->hosts.n == 0)
		istio_decode_error(d, "IST0106", &s->head, "hosts", "a ServiceEntry needs hosts");
	if (s->ports.n == 0)
		istio_decode_error(d, "IST0106", &s->head, "ports", "a ServiceEntry needs ports");
	if (s->endpoints.n && s->selector)
		istio_decode_error(d, "IST0106", &s->head, "workloadSelector", "endpoints and workloadSelector exclude each other");
	if (how == RESOLUTION_NONE && s->endpoints.n)
		istio_decode_error(d, "IST0106", &s->head, "endpoints", "resolution NONE takes no endpoints: set resolution: STATIC");
	if (how == RESOLUTION_DYNAMIC_DNS)
		check_dynamic(d, s);
	if (how == RESOLUTION_DNS || how == RESOLUTION_DNS_ROUND_ROBIN)
		check_names(d, s);
	check_hosts(d, s);
	check_ports(d, s);
	check_endpoints(d, s);
}

const struct istio_table istio_table_service_entry = TABLE(service_entry, "ServiceEntry", service_entry_rows, .check = check_service_entry);

/* ---- shared checks ---- */

bool istio_is_ip(const char *text)
{
	unsigned char bytes[16];

	return inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1;
}

bool istio_is_cidr(const char *text)
{
	char address[64];
	size_t n = strcspn(text, "/");

	if (n >= sizeof(address))
		return false;
	memcpy(address, text, n);
	address[n] = 0;
	if (!istio_is_ip(address))
		return false;
	if (!text[n])
		return true;
	size_t digits = strspn(text + n + 1, "0123456789");
	return digits >= 1 && digits <= 3 && !text[n + 1 + digits] && strtoul(text + n + 1, NULL, 10) <= (strchr(address, ':') ? 128u : 32u);
}

static bool is_label(const char *s, size_t n)
{
	static const char chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

	return n >= 1 && n <= 63 && strspn(s, chars) >= n && s[0] != '-' && s[n - 1] != '-';
}

bool istio_is_label(const char *text)
{
	size_t n = strlen(text);

	return is_label(text, n) && strlen(text) == n && !strpbrk(text, "_.");
}

bool istio_is_host(const char *host, bool wildcard_allowed)
{
	if (strlen(host) > 253)
		return false;
	if (host[0] == '*') {
		if (!wildcard_allowed)
			return false;
		if (!host[1])
			return true;
		if (host[1] != '.' || !host[2])
			return false;
		host += 2;
	}
	for (;;) {
		size_t n = strcspn(host, ".");
		if (!is_label(host, n))
			return false;
		host += n;
		if (!*host)
			return true;
		if (!*++host)
			return true; /* a trailing dot */
	}
}
