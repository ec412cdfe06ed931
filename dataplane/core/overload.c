/* Which actions are on (overload.h). Invariant: w->overload has a bit only while one of the action's resources is above its threshold less the
 * hysteresis. */
#include "dataplane/core/overload.h"

#include "dataplane/core/worker.h"

#define BIT(PRESSURE) (1u << FOIL_PRESSURE_##PRESSURE)
#define MEMORY (BIT(PACKETS) | BIT(CHUNKS))

/* What calls for each action; its gauge is the one of the same place in counters.def. */
static const uint8_t callers[FOIL_OVERLOAD_ACTIONS] = {
	MEMORY | BIT(CONNECTIONS),
	MEMORY | BIT(CONNECTIONS),
	MEMORY | BIT(CONNECTIONS) | BIT(REQUESTS) | BIT(STEERING),
	MEMORY | BIT(REQUESTS),
};

static_assert(CORE_CTR_OVERLOAD_SHRINK + FOIL_OVERLOAD_ACTIONS - 1u == CORE_CTR_OVERLOAD_STOP_REQUESTS, "counters.def has them in the order of the actions");
#define X(ID, name) static_assert(CORE_CTR_PRESSURE_PACKETS + FOIL_PRESSURE_##ID == CORE_CTR_PRESSURE_##ID, "counters.def has them in the order here");
#include "dataplane/core/pressures.def"
#undef X

/* Of the resources in may, those that are at the threshold, or were and have not eased. */
static uint8_t pressing(uint32_t at_percent, uint32_t may, uint32_t before, const uint8_t percent[FOIL_PRESSURE_COUNT])
{
	uint32_t now = 0, eased_at = at_percent - FOIL_MIN(at_percent, FOIL_OVERLOAD_HYSTERESIS_PERCENT);

	for (uint32_t i = 0; at_percent && i < FOIL_PRESSURE_COUNT; i++)
		if (may >> i & 1u && percent[i] >= (before >> i & 1u ? eased_at + 1u : at_percent))
			now |= 1u << i;
	return (uint8_t)now;
}

void foil_overload_look(struct foil_worker *w, const uint8_t percent[FOIL_PRESSURE_COUNT])
{
	struct foil_overload *o = &w->overload_state;
	uint64_t *cells = w->ctr[FOIL_ROOM_CORE];
	uint32_t on = 0, all = pressing(FOIL_OVERLOAD_BUSY_PERCENT, BIT(CYCLES), o->all, percent);

	for (uint32_t a = 0; a < FOIL_OVERLOAD_ACTIONS; a++) {
		uint32_t may = callers[a];
		if (1u << a == FOIL_OVERLOAD_STOP_CONNECTIONS && o->conf.cycles_stop_connections)
			may |= BIT(CYCLES);
		o->pressing[a] = pressing(o->conf.at_percent[a], may, o->pressing[a], percent);
		cells[CORE_CTR_OVERLOAD_SHRINK + a] = o->pressing[a] != 0;
		all |= o->pressing[a];
		on |= o->pressing[a] ? 1u << a : 0u;
	}
	for (uint32_t i = 0; i < FOIL_PRESSURE_COUNT; i++)
		cells[CORE_CTR_PRESSURE_PACKETS + i] += all >> i & ~(uint32_t)o->all >> i & 1u;
	o->all = (uint8_t)all;
	w->overload = (uint8_t)on;
}
