/* WorkloadEntries with what stands beside their spec. Private to the room. */
#pragma once

#include "ctrl/istio/compile.h"

struct workload {
	const struct workload_entry *entry; /* the scratch arena's */
	bool is_well;
};

/* r: a WorkloadEntry. */
struct workload istio_workload_of(struct compile *c, const struct resource *r);
