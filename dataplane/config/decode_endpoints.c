/* Endpoints of one cluster, in the order given. Weights add up within 32 bits, so that balancing can sum them. */
#include "dataplane/config/config_priv.h"

#define ENDPOINTS_MAX 65536u /* MESH_HOSTS_MAX lives at once over all clusters */
#define WEIGHT_MAX 1000000u

static int decode_labels(struct snap_dec *d, const Foil__Conf__Endpoint *m, struct tele_peer *out)
{
	const struct {
		const char *field, *text;
		struct foil_slice *to;
	} labels[] = {
		{"workload", m->workload, &out->workload}, {"workload_namespace", m->workload_namespace, &out->workload_namespace},
		{"canonical_service", m->canonical_service, &out->canonical_service},
		{"canonical_revision", m->canonical_revision, &out->canonical_revision}, {"app", m->app, &out->app},
		{"version", m->version, &out->version}, {"cluster_id", m->cluster_id, &out->cluster_id},
	};
	for (size_t i = 0; i < FOIL_COUNT_OF(labels); i++) {
		if (!labels[i].text)
			continue;
		int rc = snap_text(d, labels[i].field, labels[i].text, SNAP_TEXT_ANY, labels[i].to);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int decode_endpoint(struct snap_dec *d, const Foil__Conf__Endpoint *m, struct mesh_endpoint *out)
{
	out->weight = m->has_weight ? m->weight : 1;
	out->unhealthy = m->unhealthy;
	out->draining = m->draining;
	int rc = snap_ip(d, "address", m->address, out->ip);
	if (rc == 0)
		rc = snap_port(d, "port", m->port, &out->port);
	if (rc == 0)
		rc = snap_range(d, "weight", out->weight, 1, WEIGHT_MAX);
	if (rc == 0 && m->locality)
		rc = snap_text(d, "locality", m->locality, SNAP_TEXT_ANY, &out->locality);
	if (rc == 0)
		rc = decode_labels(d, m, &out->labels);
	return rc;
}

int snap_decode_endpoints(struct snap_dec *d, const ProtobufCMessage *message, void *own)
{
	const Foil__Conf__Endpoints *m = (const Foil__Conf__Endpoints *)message;
	struct mesh_endpoints *e = own;
	struct mesh_endpoint *list = NULL;
	struct foil_slice name;
	uint64_t weights = 0;
	int rc = snap_own_name(d, "cluster", m->cluster);
	if (rc == 0)
		rc = snap_cluster_ref(d, "cluster", m->cluster, &name, &e->cluster_slot);
	if (rc == 0)
		rc = snap_list(d, "endpoints", m->n_endpoints, 0, ENDPOINTS_MAX, sizeof(*list), (void **)&list);
	for (size_t i = 0; rc == 0 && i < m->n_endpoints; i++) {
		uint16_t mark = snap_enter(d, "endpoints", (long)i);
		rc = decode_endpoint(d, m->endpoints[i], &list[i]);
		weights += list[i].weight;
		if (rc == 0)
			snap_leave(d, mark);
	}
	if (rc == 0 && weights > UINT32_MAX)
		rc = snap_fail(d, "endpoints", "weights add up to %llu; %u at most", (unsigned long long)weights, UINT32_MAX);
	e->endpoints = list;
	e->n_endpoints = (uint32_t)m->n_endpoints;
	return rc;
}
