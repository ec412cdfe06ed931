/* Counters and reasons: one line in a room's counters.def or reasons.def gives the enum, the cell, the metric's name and its
 * help. A worker's cells are its own; adding is a plain add. See docs/architecture.md for the files' forms:
 *
 *   dataplane/tcp/counters.def   X(RETRANSMITTED_BYTES, COUNTER, bytes, "Payload sent again, any reason (RACK, RTO, TLP)")
 *                                -> TCP_CTR_RETRANSMITTED_BYTES, foil_tcp_retransmitted_bytes_total
 *   dataplane/tcp/reasons.def    X(PAWS_OLD, "paws_old", DROP, "timestamp older than TS.Recent (RFC 7323 5.3)")
 *                                -> TCP_REASON_PAWS_OLD, foil_tcp_drops_total{reason="paws_old"}
 *
 * Kinds: COUNTER (only grows), GAUGE (a plain set or add of a signed number; workers are summed). Reason kinds: DROP, RESET,
 * CHALLENGE, REFUSE, REPLY (local HTTP reply), NOTE -> metric foil_<room>_<kind>s_total{reason=}. */
#pragma once

#include "dataplane/core/base.h"

enum foil_room {
	FOIL_ROOM_CORE, FOIL_ROOM_NIC, FOIL_ROOM_NET, FOIL_ROOM_TCP, FOIL_ROOM_STREAM, FOIL_ROOM_TLS, FOIL_ROOM_HTTP,
	FOIL_ROOM_MESH, FOIL_ROOM_CONFIG, FOIL_ROOM_TELE, FOIL_ROOM_COUNT
};

enum foil_counter_kind { FOIL_COUNTER, FOIL_GAUGE };
enum foil_reason_kind {
	FOIL_REASON_DROP, FOIL_REASON_RESET, FOIL_REASON_CHALLENGE, FOIL_REASON_REFUSE, FOIL_REASON_REPLY, FOIL_REASON_NOTE
};

struct foil_counter_desc {
	const char *name; /* the ID of the .def line as it stands, "RETRANSMITTED_BYTES"; telemetry lowers it for the segment */
	enum foil_counter_kind kind;
	const char *unit, *help;
};

struct foil_reason_desc {
	const char *name;
	enum foil_reason_kind kind;
	const char *help;
};

/* What a room exports as `const struct foil_room_desc tcp_room_desc`; the telemetry segment is laid out from these. */
struct foil_room_desc {
	enum foil_room room;
	const char *name;
	const struct foil_counter_desc *counters;
	uint16_t n_counters;
	const struct foil_reason_desc *reasons;
	uint16_t n_reasons;
};

/* foil_count(w, TCP, RETRANSMITTED_BYTES, n); foil_reason(w, TCP, PAWS_OLD). w->ctr[room] and w->why[room] are never NULL:
 * foil_worker_init points them at private cells until telemetry gives them a place in the segment. */
#define foil_count(w, ROOM, ID, n) ((void)((w)->ctr[FOIL_ROOM_##ROOM][ROOM##_CTR_##ID] += (uint64_t)(n)))
#define foil_gauge_set(w, ROOM, ID, v) ((void)((w)->ctr[FOIL_ROOM_##ROOM][ROOM##_CTR_##ID] = (uint64_t)(v)))
#define foil_reason(w, ROOM, ID) ((void)((w)->why[FOIL_ROOM_##ROOM][ROOM##_REASON_##ID]++))
#define foil_reason_id(w, ROOM, id) ((void)((w)->why[FOIL_ROOM_##ROOM][(id)]++))
