/* Probes: marks on rare arms of the code, counted by the simulation, which says what no seed has reached (tests/sim/rare.def,
 * docs/testing.md); and faults, by which a scenario makes a rare arm common. Each worker has its own cells and its own chance. Only where
 * FOIL_CHECKS is on: elsewhere they are nothing, and w->probes is not looked at.
 *
 *   dataplane/tcp/probes.def   X(TLP_NEW_DATA, "a tail loss probe carried new data")
 *                              -> FOIL_PROBE(w, TCP, TLP_NEW_DATA)
 */
#pragma once

#include "dataplane/core/counters.h"

#ifdef FOIL_CHECKS
#define FOIL_PROBE(w, ROOM, ID) ((void)((w)->probes[FOIL_ROOM_##ROOM][ROOM##_PROBE_##ID]++))
/* True now and then, if a scenario has set w->fault_ppm: the call behind it is to fail as if its pool were empty. */
#define FOIL_SIM_FAULT(w) ((w)->fault_ppm && foil_prng_below(&(w)->fault_prng, 1000000) < (w)->fault_ppm)
#else
#define FOIL_PROBE(w, ROOM, ID) ((void)(w))
#define FOIL_SIM_FAULT(w) false
#endif
