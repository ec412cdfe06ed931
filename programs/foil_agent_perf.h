/* What the page /perf draws (ctrl/admin/perf.html). */
#pragma once

#include "ctrl/admin/admin.h"
#include "programs/foil_agent.h"

/* For struct adm_sources; arg is the agent. */
void agent_perf(void *arg, struct adm_reply *r);

/* The segment's reader; NULL: there is none. Kept in a->reader while a data plane is connected, else the caller's to free. */
struct tele_reader *agent_reader(struct agent *a);

/* Whether a worker stands still, and which. False when none does, or nothing can be seen. */
bool agent_worker_is_stalled(struct agent *a, uint32_t *worker);
