/* Weighted clusters of a route or a TCP proxy (features.md VS-17): a single one gets everything whatever its weight says. */
#include "dataplane/config/config_priv.h"

#include <errno.h>

#define CLUSTERS_MAX 1024u

static int decode_one(struct snap_dec *d, const Foil__Conf__WeightedCluster *m, struct mesh_weighted_cluster *out)
{
	int rc = snap_cluster_ref(d, "cluster", m->cluster, &out->cluster, &out->slot);
	if (rc == 0)
		rc = snap_decode_header_ops(d, "request_headers", m->request_headers, true, &out->request_headers);
	if (rc == 0)
		rc = snap_decode_header_ops(d, "response_headers", m->response_headers, false, &out->response_headers);
	out->weight = m->weight;
	return rc;
}

int snap_decode_weighted(struct snap_dec *d, Foil__Conf__WeightedCluster *const *list, size_t n, const struct mesh_weighted_cluster **out,
			 uint16_t *n_out, uint32_t *total_weight)
{
	struct mesh_weighted_cluster *own = NULL;
	uint64_t total = 0;
	int rc = snap_list(d, "clusters", n, 1, CLUSTERS_MAX, sizeof(*own), (void **)&own);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		uint16_t mark = snap_enter(d, "clusters", (long)i);
		rc = decode_one(d, list[i], &own[i]);
		total += own[i].weight;
		if (rc == 0)
			snap_leave(d, mark);
	}
	if (rc < 0)
		return rc;
	if (n == 1)
		total = own[0].weight = 1;
	if (total == 0 || total > UINT32_MAX)
		return snap_fail(d, "clusters", "weights add up to %llu; must be 1 to %u", (unsigned long long)total, UINT32_MAX);
	*out = own;
	*n_out = (uint16_t)n;
	*total_weight = (uint32_t)total;
	return 0;
}
