/* What host.h hands out of a prepared set. */
#include "dataplane/mesh/host_set_priv.h"

struct mesh_cluster_state *mesh_host_set_cluster(const struct mesh_host_set *set)
{
	return set->cluster;
}
