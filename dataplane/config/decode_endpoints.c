/* Endpoints of one cluster, in the order given. Weights add up within 32 bits, so that balancing can sum them; so do those of localities. */
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
		{"principal", m->principal, &out->principal},
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
	out->tls = m->tls;
	int rc = snap_ip(d, "address", m->address, out->ip);
	if (rc == 0)
		rc = snap_port(d, "port", m->port, &out->port);
	if (rc == 0)
		rc = snap_range(d, "weight", out->weight, 1, WEIGHT_MAX);
	if (rc == 0)
		rc = snap_range(d, "priority", m->priority, 0, MESH_PRIORITIES_MAX - 1);
	out->priority = (uint8_t)m->priority;
	if (rc == 0 && m->locality)
		rc = snap_text(d, "locality", m->locality, SNAP_TEXT_ANY, &out->locality);
	if (rc == 0)
		rc = decode_labels(d, m, &out->labels);
	return rc;
}

/* ---- localities and priorities ---- */
static int decode_localities(struct snap_dec *d, const Foil__Conf__Endpoints *m, struct mesh_endpoints *e)
{
	uint32_t *weights = NULL;
	uint64_t sum = 0;
	int rc = snap_list(d, "locality_weights", m->n_locality_weights, 0, MESH_LOCALITIES_MAX, sizeof(*weights), (void **)&weights);

	for (size_t i = 0; rc == 0 && i < m->n_locality_weights; i++)
		sum += weights[i] = m->locality_weights[i]->weight;
	if (rc == 0 && sum > UINT32_MAX)
		rc = snap_fail(d, "locality_weights", "add up to %llu; %u at most", (unsigned long long)sum, UINT32_MAX);
	e->locality_weights = weights;
	e->n_localities = (uint16_t)m->n_locality_weights;
	return rc;
}

static int find_locality(struct snap_dec *d, const Foil__Conf__Endpoints *m, struct mesh_endpoint *e)
{
	if (m->n_locality_weights == 0)
		return 0;
	for (size_t i = 0; i < m->n_locality_weights; i++) {
		const char *name = m->locality_weights[i]->locality;
		if (foil_slice_eq(e->locality, foil_slice_str(name ? name : ""))) {
			e->locality_index = (uint16_t)i;
			return 0;
		}
	}
	return snap_fail(d, "locality", "is not one of locality_weights");
}

static int find_check(struct snap_dec *d, const Foil__Conf__Endpoints *m, size_t i, const struct mesh_health_check *checks, struct mesh_endpoint *e)
{
	uint32_t at = m->endpoints[i]->health_check;

	if (at)
		e->check = at <= m->n_health_checks ? &checks[at - 1] : NULL;
	return snap_range(d, "health_check", at, 0, m->n_health_checks);
}

/* Every priority below the last has an endpoint. */
static int check_priorities(struct snap_dec *d, struct mesh_endpoints *e)
{
	bool is_there[MESH_PRIORITIES_MAX] = {false};
	uint16_t n = 0;

	for (uint32_t i = 0; i < e->n_endpoints; i++) {
		is_there[e->endpoints[i].priority] = true;
		n = FOIL_MAX(n, (uint16_t)(e->endpoints[i].priority + 1));
	}
	for (uint16_t p = 0; p < n; p++)
		if (!is_there[p])
			return snap_fail(d, "endpoints", "none has priority %u, and one has %u", p, n - 1u);
	e->n_priorities = n;
	return 0;
}

int snap_decode_endpoints(struct snap_dec *d, const ProtobufCMessage *message, void *own)
{
	const Foil__Conf__Endpoints *m = (const Foil__Conf__Endpoints *)message;
	struct mesh_endpoints *e = own;
	struct mesh_endpoint *list = NULL;
	struct mesh_health_check *checks = NULL;
	struct foil_slice name;
	uint64_t weights = 0;
	int rc = snap_own_name(d, "cluster", m->cluster);
	if (rc == 0)
		rc = snap_cluster_ref(d, "cluster", m->cluster, &name, &e->cluster_slot);
	if (rc == 0)
		rc = snap_list(d, "endpoints", m->n_endpoints, 0, ENDPOINTS_MAX, sizeof(*list), (void **)&list);
	if (rc == 0)
		rc = decode_localities(d, m, e);
	if (rc == 0)
		rc = snap_decode_health_checks(d, m, &checks);
	for (size_t i = 0; rc == 0 && i < m->n_endpoints; i++) {
		uint16_t mark = snap_enter(d, "endpoints", (long)i);
		rc = decode_endpoint(d, m->endpoints[i], &list[i]);
		if (rc == 0)
			rc = find_locality(d, m, &list[i]);
		if (rc == 0)
			rc = find_check(d, m, i, checks, &list[i]);
		e->has_checks |= list[i].check != NULL;
		weights += list[i].weight;
		if (rc == 0)
			snap_leave(d, mark);
	}
	if (rc == 0 && weights > UINT32_MAX)
		rc = snap_fail(d, "endpoints", "weights add up to %llu; %u at most", (unsigned long long)weights, UINT32_MAX);
	e->endpoints = list;
	e->n_endpoints = (uint32_t)m->n_endpoints;
	return rc ? rc : check_priorities(d, e);
}
