/* Peers that do not play by the rules, as raw segments against one host of ours. */
#include "tests/sim/sim.h"

const struct sim_scenario sim_liars[] = {
	{"none", "", NULL, NULL, NULL},
};
const uint32_t sim_n_liars = 0;
