/* Listener: an address, its filter chains, and what each of them does with a connection (HTTP in decode_hcm.c, TCP here). */
#include "dataplane/config/config_priv.h"

#define CHAINS_MAX 4096u
#define TCP_IDLE_US 3600000000ull
#define CONNECT_ATTEMPTS_MAX 100u
#define PROTOCOLS_MAX 32u
#define LOG_STATUSES_MAX 512u
#define HELLO_US_MAX 15000000u /* the time that hello and handshake have together */

/* SNI: a host, or "*." and a host. */
static int decode_server_names(struct snap_dec *d, const Foil__Conf__FilterChain *m, struct mesh_chain *out)
{
	struct foil_slice *own;
	int rc = snap_list(d, "server_names", m->n_server_names, 0, SNAP_ARRAY_MAX, sizeof(*own), (void **)&own);
	for (size_t i = 0; rc == 0 && i < m->n_server_names; i++) {
		const char *name = m->server_names[i];
		bool wild = name[0] == '*' && name[1] == '.';
		uint16_t mark = snap_enter(d, "server_names", (long)i);
		rc = snap_text(d, NULL, wild ? name + 2 : name, SNAP_TEXT_HOST, &own[i]);
		if (rc == 0 && own[i].n_bytes == 0)
			rc = snap_fail(d, NULL, "is empty");
		if (rc == 0 && wild)
			own[i] = foil_blob_copy(d->b, name, strlen(name));
		if (rc == 0 && !own[i].data)
			rc = snap_no_memory(d);
		if (rc == 0)
			snap_leave(d, mark);
	}
	if (rc < 0)
		return rc;
	out->server_names = own;
	out->n_server_names = (uint16_t)m->n_server_names;
	return 0;
}

static int decode_tcp(struct snap_dec *d, const Foil__Conf__TcpProxy *m, struct mesh_tcp_proxy *out)
{
	uint16_t mark = snap_enter(d, "tcp", -1);
	out->max_connect_attempts = m->has_max_connect_attempts ? m->max_connect_attempts : 1;
	out->hash_source_ip = m->hash_source_ip;
	int rc = snap_decode_weighted(d, m->clusters, m->n_clusters, &out->clusters, &out->n_clusters, &out->total_weight);
	if (rc == 0)
		rc = snap_duration(d, "idle_timeout_us", m->has_idle_timeout_us, m->idle_timeout_us, TCP_IDLE_US, &out->idle_timeout_us);
	if (rc == 0)
		rc = snap_range(d, "max_connect_attempts", out->max_connect_attempts, 1, CONNECT_ATTEMPTS_MAX);
	if (rc == 0)
		rc = snap_text(d, "stat_prefix", m->stat_prefix, SNAP_TEXT_ANY, &out->stat_prefix);
	if (rc == 0)
		snap_leave(d, mark);
	return rc;
}

static int decode_network(struct snap_dec *d, const Foil__Conf__FilterChain *m, struct mesh_chain *out)
{
	switch (m->network_case) {
	case FOIL__CONF__FILTER_CHAIN__NETWORK_HTTP:
		out->network = MESH_NETWORK_HTTP;
		return snap_decode_hcm(d, m->http, &out->http);
	case FOIL__CONF__FILTER_CHAIN__NETWORK_TCP:
		out->network = MESH_NETWORK_TCP;
		return decode_tcp(d, m->tcp, &out->tcp);
	default:
		return snap_fail(d, NULL, "a filter chain that is neither HTTP nor TCP");
	}
}

static enum mesh_chain_transport transport_of(Foil__Conf__Transport t)
{
	switch (t) {
	case FOIL__CONF__TRANSPORT__TRANSPORT_PLAINTEXT: return MESH_TRANSPORT_PLAINTEXT;
	case FOIL__CONF__TRANSPORT__TRANSPORT_TLS: return MESH_TRANSPORT_TLS;
	default: return MESH_TRANSPORT_ANY; /* the scan has refused every other number */
	}
}

static int decode_first_bytes(struct snap_dec *d, const Foil__Conf__FilterChain *m, struct mesh_chain *out)
{
	out->transport = transport_of(m->transport);
	if (out->transport == MESH_TRANSPORT_PLAINTEXT && (m->tls || m->is_tls_passthrough || m->n_application_protocols || m->n_server_names))
		return snap_fail(d, "transport", "is plaintext where TLS is ended, passed on or asked for its names");
	if (m->n_application_protocols > PROTOCOLS_MAX)
		return snap_fail(d, "application_protocols", "has %zu entries; %u at most", m->n_application_protocols, PROTOCOLS_MAX);
	return snap_texts(d, "application_protocols", m->application_protocols, m->n_application_protocols, SNAP_TEXT_NAME, &out->application_protocols,
			  &out->n_application_protocols);
}

static int decode_chain(struct snap_dec *d, const Foil__Conf__FilterChain *m, struct mesh_chain *out)
{
	int rc = snap_text(d, "name", m->name, SNAP_TEXT_ANY, &out->name);
	if (rc == 0)
		rc = decode_server_names(d, m, out);
	if (rc == 0)
		rc = snap_cidrs(d, "destination_cidrs", m->destination_cidrs, m->n_destination_cidrs, &out->destination_cidrs,
				&out->n_destination_cidrs);
	if (rc == 0)
		rc = decode_first_bytes(d, m, out);
	if (rc == 0)
		rc = decode_network(d, m, out);
	if (rc == 0)
		rc = snap_source(d, m->source, &out->source);
	if (rc == 0)
		rc = snap_decode_downstream_tls(d, m->tls, &out->tls);
	if (rc == 0 && m->tls && m->is_tls_passthrough)
		rc = snap_fail(d, "is_tls_passthrough", "is set where tls is ended");
	out->is_tls_passthrough = m->is_tls_passthrough;
	return rc;
}

static int decode_log_statuses(struct snap_dec *d, const Foil__Conf__Listener *m, struct mesh_listener *l)
{
	struct mesh_status_range *own = NULL;
	int rc = snap_list(d, "access_log_statuses", m->n_access_log_statuses, 0, LOG_STATUSES_MAX, sizeof(*own), (void **)&own);

	for (size_t i = 0; rc == 0 && i < m->n_access_log_statuses; i++) {
		const Foil__Conf__StatusRange *r = m->access_log_statuses[i];
		rc = snap_range(d, "access_log_statuses", r->to, 100, 599);
		if (rc == 0)
			rc = snap_range(d, "access_log_statuses", r->from, 100, r->to);
		own[i] = (struct mesh_status_range){(uint16_t)r->from, (uint16_t)r->to};
	}
	l->log_statuses = own;
	l->n_log_statuses = (uint16_t)m->n_access_log_statuses;
	return rc;
}

static bool takes_plaintext(const struct mesh_chain *c)
{
	if (c->transport == MESH_TRANSPORT_PLAINTEXT)
		return true;
	return c->transport == MESH_TRANSPORT_ANY && !c->tls && !c->is_tls_passthrough && !c->n_server_names && !c->n_application_protocols;
}

/* 0: every port of the captured addresses that no other listener has. */
static int decode_listener_port(struct snap_dec *d, const Foil__Conf__Listener *m, struct mesh_listener *l)
{
	static const uint8_t any[16];

	if (m->port || !m->captured || memcmp(l->ip, any, sizeof(any)) != 0)
		return snap_port(d, "port", m->port, &l->port);
	l->port = 0;
	return 0;
}

int snap_decode_listener(struct snap_dec *d, const ProtobufCMessage *message, void *own)
{
	const Foil__Conf__Listener *m = (const Foil__Conf__Listener *)message;
	struct mesh_listener *l = own;
	struct mesh_chain *chains = NULL;
	int rc = snap_own_name(d, "name", m->name);
	if (rc == 0)
		rc = snap_ip(d, "address", m->address, l->ip);
	if (rc == 0)
		rc = decode_listener_port(d, m, l);
	if (rc == 0)
		rc = snap_list(d, "filter_chains", m->n_filter_chains, 1, CHAINS_MAX, sizeof(*chains), (void **)&chains);
	for (size_t i = 0; rc == 0 && i < m->n_filter_chains; i++) {
		uint16_t mark = snap_enter(d, "filter_chains", (long)i);
		rc = decode_chain(d, m->filter_chains[i], &chains[i]);
		if (rc == 0)
			snap_leave(d, mark);
		l->wants_hello |= chains[i].tls || chains[i].is_tls_passthrough || chains[i].n_server_names || chains[i].transport != MESH_TRANSPORT_ANY ||
				  chains[i].n_application_protocols;
		l->takes_plaintext |= takes_plaintext(&chains[i]);
	}
	if (rc == 0)
		rc = snap_range(d, "hello_timeout_us", m->hello_timeout_us, 0, HELLO_US_MAX);
	l->hello_timeout_us = m->hello_timeout_us;
	if (rc == 0)
		rc = snap_source(d, m->source, &l->source);
	l->direction = m->direction == FOIL__CONF__DIRECTION__DIRECTION_OUTBOUND ? MESH_DIRECTION_OUTBOUND : MESH_DIRECTION_GATEWAY;
	l->proxy_protocol = m->proxy_protocol;
	l->is_captured = m->captured;
	l->is_log_off = m->access_log_off;
	l->connection_limit = m->connection_limit;
	l->buffer_bytes = m->buffer_bytes;
	if (rc == 0)
		rc = decode_log_statuses(d, m, l);
	if (rc == 0 && m->captured && m->proxy_protocol)
		rc = snap_fail(d, "captured", "goes with no PROXY header: its destination is another one");
	l->chains = chains;
	l->n_chains = (uint16_t)m->n_filter_chains;
	return rc;
}
