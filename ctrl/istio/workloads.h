/* WorkloadEntries with what stands beside their spec. Private to the room. */
#pragma once

#include "ctrl/istio/compile.h"

struct workload {
	const struct workload_entry *entry; /* the scratch arena's */
	const struct health_check *check; /* its group's, or NULL */
	bool is_well;
};

/* r: a WorkloadEntry. */
struct workload istio_workload_of(struct compile *c, const struct resource *r);
/* After the registry: WorkloadGroups that no entry names. */
void istio_workloads_lint(struct compile *c);
