/* What the small lab programs share: EAL, one port by URI, workers with net/ on it, their loops, and the counters at the end. */
#pragma once

#include <stdio.h>

#include "nic/idle.h"
#include "nic/nic.h"

#define RIG_ADDRESSES_MAX 16

struct rig_params {
	const char *program, *uri;
	uint64_t seconds; /* then the loops end */
	enum nic_idle_mode mode;
	uint16_t n_workers;
	uint32_t n_mbufs, memory_mb;    /* a worker's; of all */
	uint32_t mbuf_data_bytes;       /* 0: for frames of 1500 bytes */
	const char *const *addresses;   /* "198.18.77.1/24" */
	int n_addresses;
	bool exception_tap;
	int (*setup)(struct foil_worker *w, struct foil_error *err); /* after net_init; NULL: nothing above net */
	void (*flush)(struct foil_worker *w);                         /* before net_flush; may be NULL */
	void (*teardown)(struct foil_worker *w);                      /* before net_fini; may be NULL */
	const struct foil_room_desc *room;                            /* reported beside net and nic; may be NULL */
};

/* Runs to the end; prints "ready" when packets are answered and the report at the end. The exit code. */
int rig_run(const struct rig_params *p);
/* The counters and reasons of a room that are not zero, one a line. */
void rig_report(const struct foil_worker *w, const struct foil_room_desc *d, FILE *to);
/* A whole number in [min, max], or the program ends with code 2. */
uint64_t rig_number(const char *text, uint64_t min, uint64_t max);
