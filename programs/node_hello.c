/* See node_hello.h. */
#include "programs/node_hello.h"

#include <stdio.h>
#include <stdlib.h>

struct hello_text { /* the message, and what it points to */
	Foil__Conf__NodeHello message;
	char addresses[NODE_GATEWAYS_MAX][NODE_ADDRS_MAX][NET_ADDR_STRLEN];
	char *address_list[NODE_GATEWAYS_MAX][NODE_ADDRS_MAX];
	char *keys[NODE_GATEWAYS_MAX][NODE_LABELS_MAX], *values[NODE_GATEWAYS_MAX][NODE_LABELS_MAX];
	char cidrs[NODE_SERVICES_MAX][NET_ADDR_STRLEN + 4];
	char *cidr_list[NODE_SERVICES_MAX];
	char captured[NODE_SERVICES_MAX][NET_ADDR_STRLEN + 4];
	char *captured_list[NODE_SERVICES_MAX];
	char *label_keys[NODE_LABELS_MAX], *label_values[NODE_LABELS_MAX];
	Foil__Conf__GatewayAddress gateways[NODE_GATEWAYS_MAX], *gateway_list[NODE_GATEWAYS_MAX];
};

static void fill_gateway(struct hello_text *t, uint16_t i, const struct node_gateway *g)
{
	Foil__Conf__GatewayAddress *m = &t->gateways[i];
	foil__conf__gateway_address__init(m);
	for (uint16_t k = 0; k < g->n_labels; k++) {
		t->keys[i][k] = (char *)(uintptr_t)g->label_keys[k]; /* packed, not changed */
		t->values[i][k] = (char *)(uintptr_t)g->label_values[k];
	}
	for (uint16_t k = 0; k < g->n_addresses; k++) {
		(void)net_addr_format(&g->addresses[k], t->addresses[i][k]);
		t->address_list[i][k] = t->addresses[i][k];
	}
	m->label_keys = t->keys[i];
	m->label_values = t->values[i];
	m->n_label_keys = m->n_label_values = g->n_labels;
	m->addresses = t->address_list[i];
	m->n_addresses = g->n_addresses;
	t->gateway_list[i] = m;
}

/* The prefix as people write it: an IPv4 length counts from 32. */
static void format_cidr(const struct net_prefix *p, char *out, size_t n_out)
{
	char text[NET_ADDR_STRLEN];
	unsigned int len = net_addr_is_v4(&p->addr) ? p->len - 96u : p->len;
	(void)snprintf(out, n_out, "%s/%u", net_addr_format(&p->addr, text), len); /* sized for it */
}

Foil__Conf__NodeHello *node_hello_new(const struct node_conf *c)
{
	struct hello_text *t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	for (uint16_t i = 0; i < c->n_gateways; i++)
		fill_gateway(t, i, &c->gateways[i]);
	for (uint16_t i = 0; i < c->n_services; i++) {
		format_cidr(&c->services[i], t->cidrs[i], sizeof(t->cidrs[i]));
		t->cidr_list[i] = t->cidrs[i];
	}
	for (uint16_t i = 0; i < c->n_captured; i++) {
		format_cidr(&c->captured[i], t->captured[i], sizeof(t->captured[i]));
		t->captured_list[i] = t->captured[i];
	}
	for (uint16_t i = 0; i < c->n_labels; i++) {
		t->label_keys[i] = (char *)(uintptr_t)c->label_keys[i]; /* packed, not changed, here and below */
		t->label_values[i] = (char *)(uintptr_t)c->label_values[i];
	}
	Foil__Conf__NodeHello *m = &t->message;
	foil__conf__node_hello__init(m);
	m->node_name = (char *)(uintptr_t)c->node_name;
	m->has_n_workers = true;
	m->n_workers = c->n_workers;
	m->gateways = t->gateway_list;
	m->n_gateways = c->n_gateways;
	m->service_cidrs = t->cidr_list;
	m->n_service_cidrs = c->n_services;
	m->captured_cidrs = t->captured_list;
	m->n_captured_cidrs = c->n_captured;
	m->service_account = (char *)(uintptr_t)c->service_account;
	m->locality = (char *)(uintptr_t)c->locality;
	m->label_keys = t->label_keys;
	m->label_values = t->label_values;
	m->n_label_keys = m->n_label_values = c->n_labels;
	return m;
}

void node_hello_free(Foil__Conf__NodeHello *own_m)
{
	free(own_m); /* the first member of what was made */
}
