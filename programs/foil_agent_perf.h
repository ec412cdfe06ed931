/* What the page /perf draws (ctrl/admin/perf.html). */
#pragma once

#include "ctrl/admin/admin.h"

/* For struct adm_sources; arg is the agent. */
void agent_perf(void *arg, struct adm_reply *r);
