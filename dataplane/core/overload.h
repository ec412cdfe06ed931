/* Overload: what a worker has too little of, and what it stops doing for that before nothing is left (features.md OM-13, OM-14). Actions have the
 * names of Envoy's overload manager; resources are ours.
 *
 * The loop measures, every 10 ms, how much of each resource is in use (foil_overload_look); an action begins when one of the resources that call for it
 * reaches the action's threshold, and ends when all of them are FOIL_OVERLOAD_HYSTERESIS_PERCENT below. The rooms look at w->overload, bits of
 * enum foil_overload_action, where they would begin something. Nothing here is shared: each worker has pools and actions of its own. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct foil_worker;

enum foil_pressure {
#define X(ID, name) FOIL_PRESSURE_##ID,
#include "dataplane/core/pressures.def"
#undef X
	FOIL_PRESSURE_COUNT
};

enum foil_overload_action {
	FOIL_OVERLOAD_SHRINK = 1u << 0,            /* connections at rest are closed, those of clients and those of origins */
	FOIL_OVERLOAD_DISABLE_KEEPALIVE = 1u << 1, /* an answer is the last of its connection; HTTP/2: GOAWAY */
	FOIL_OVERLOAD_STOP_CONNECTIONS = 1u << 2,  /* a SYN is dropped before memory is touched */
	FOIL_OVERLOAD_STOP_REQUESTS = 1u << 3,     /* a request is answered 503 with flag OM before filters see it */
};
#define FOIL_OVERLOAD_ACTIONS 4u
#define FOIL_OVERLOAD_HYSTERESIS_PERCENT 3u

struct foil_overload_conf {
	uint8_t at_percent[FOIL_OVERLOAD_ACTIONS]; /* in the order of the actions, 1 to 100; 0: never */
	bool cycles_stop_connections;              /* else a busy worker is only counted */
};

struct foil_overload {
	struct foil_overload_conf conf;
	uint8_t pressing[FOIL_OVERLOAD_ACTIONS], all; /* bits by enum foil_pressure: which keep an action on; those that are counted */
};

#define FOIL_OVERLOAD_BUSY_PERCENT 95u /* of cycles, from where on a worker counts as busy */

/* How much of n_all is in use, in percent; a part of nothing is nothing. */
static inline uint8_t foil_percent(uint64_t n_used, uint64_t n_all)
{
	return n_all ? (uint8_t)(n_used >= n_all ? 100u : n_used * 100u / n_all) : 0;
}

/* percent: of each resource, what is in use. Sets w->overload and counts what begins. */
void foil_overload_look(struct foil_worker *w, const uint8_t percent[FOIL_PRESSURE_COUNT]);
