/* What telemetry keeps for all workers: the metrics segment, the workers' event rings, and the access log that housekeeping writes from them.
 *
 * Life: tele_shared_new, then tele_init for each worker; the workers run; tele_fini for each, tele_shared_free last. Everything here but tele_init
 * and tele_fini belongs to the housekeeping thread, one thread. A worker never waits for it: a full ring drops events and counts them. */
#pragma once

#include "dataplane/core/blob.h"
#include "dataplane/core/error.h"
#include "dataplane/telemetry/telemetry.h"

struct tele_shared;

#define X(ID, kind, unit, help) TELE_CTR_##ID,
enum tele_counter {
#include "dataplane/telemetry/counters.def"
	TELE_CTR_COUNT
};
#undef X
extern const struct foil_room_desc tele_room_desc; /* known to tele_shared_new without being in rooms */

#define TELE_EVENT_RING_BYTES (1u << 20)
#define TELE_SERIES_HTTP_MAX 4096u
#define TELE_SERIES_TCP_MAX 1024u
#define TELE_SERIES_CELL_MAX 16384u
#define TELE_SERIES_IDLE_US (15ull * 60 * 1000000)

struct tele_shared_params {
	uint16_t n_workers;
	const struct foil_room_desc *const *rooms; /* whose counters and reasons get a place in the segment; read only in this call */
	size_t n_rooms;
	/* 0: the defaults above. All but the last are a worker's: the hard cap on label sets (TM-7), reached: one overflow series */
	uint32_t event_ring_bytes; /* a power of two */
	uint32_t series_http_max, series_tcp_max, series_cell_max;
	uint64_t series_idle_us;   /* a series that no worker touched for so long goes */
};

/* NULL with a sentence: no memory, no memfd. */
struct tele_shared *tele_shared_new(const struct tele_shared_params *p, struct foil_error *err) FOIL_MUST_USE;
/* NULL-safe. After every worker's tele_fini. Writes what is still in the rings to the log if it can without waiting. */
void tele_shared_free(struct tele_shared *own_s);

/* Points w->ctr and w->why of every room described into the segment, carrying over what was counted so far. w->id < n_workers.
 * 0, or -errno with a sentence. */
int tele_init(struct foil_worker *w, struct tele_shared *s, struct foil_error *err) FOIL_MUST_USE;
/* w->ctr and w->why point at private cells again. NULL-safe: no effect without tele_init. */
void tele_fini(struct foil_worker *w);

/* The segment, for readers in other processes (segment.h, reader.h). Borrowed. It can be neither grown, shrunk nor, by whoever gets it, written. */
int tele_segment_fd(const struct tele_shared *s);
/* Cells of the housekeeping thread itself, which has a place in the segment next to the workers: counters of room, indexed by that room's
 * enum (config's and the program's own), and its reasons. NULL: the room was not described. Only housekeeping may write them. */
uint64_t *tele_shared_counters(struct tele_shared *s, enum foil_room room);
uint64_t *tele_shared_reasons(struct tele_shared *s, enum foil_room room);

/* ---- the access log */

/* path "-": standard output; NULL or "": none. Opened for append, made 0640 when missing. The old one stays on failure.
 * 0, or -errno with a sentence. Where to log is the program's business, whether to is each request's (tele_request.log). */
int tele_log_open(struct tele_shared *s, const char *path, struct foil_error *err) FOIL_MUST_USE;
/* After rotation: the same path again. On failure lines go on into the old file. 0, or -errno with a sentence. */
int tele_log_reopen(struct tele_shared *s, struct foil_error *err) FOIL_MUST_USE;
/* MeshSettings.access_log_format and access_log_json. format empty: Istio's default text (features.md AL-1), or with is_json its default keys
 * (AL-2); with is_json a format is a JSON object, nested at most TELE_FORMAT_DEPTH_MAX, whose keys come out in their order, as Envoy has them. From the
 * next line on; what was recorded for the format before is still written in that one. A broken format is refused with a sentence and changes nothing:
 * -EINVAL, -ENOMEM. What an operator means that is none of this room's is for tele_format_captures' caller to know.
 * tele_format_check says the same without changing anything, for whoever validates a configuration first (any thread). */
#define TELE_FORMAT_BYTES_MAX 8192u
#define TELE_FORMAT_DEPTH_MAX 4
/* What a format asks for that is not in every record: operators without their percents and length ("REQ(x-a)"), each once. Whoever records requests
 * (mesh) says what they mean, refuses what it does not know, and hands their values over with key (tele_request.captures). */
struct tele_captures {
	struct foil_slice list[TELE_CAPTURES_MAX]; /* in the blob */
	uint16_t n;
	uint64_t key; /* of the format */
};
int tele_format_captures(struct foil_slice format, bool is_json, struct foil_blob *b, struct tele_captures *out, struct foil_error *err) FOIL_MUST_USE;
int tele_set_format(struct tele_shared *s, struct foil_slice format, bool is_json, struct foil_error *err) FOIL_MUST_USE;
int tele_format_check(struct foil_slice format, bool is_json, struct foil_error *err) FOIL_MUST_USE;

/* One turn of housekeeping: takes events out of the rings, at most so many that it ends in a few ms, formats them, writes batches, and marks idle
 * series. Never blocks: where the log does not take lines (a full pipe, a full disk) they wait in a bounded buffer and are then dropped, counted.
 * now_us: the workers' clock. True when more waits: call again soon; else every 100 ms is enough. */
bool tele_turn(struct tele_shared *s, uint64_t now_us);

/* ---- handing the segment over: docs/node-file.md stats_socket. A reader connects, gets one message with the descriptor, and is closed. */

/* A listening, non-blocking socket at path, mode 0660; its folder is made, 0700, when missing. A stale file is replaced.
 * The descriptor, or -EADDRINUSE when another process answers there, or -errno, with a sentence. Close it and unlink the path at the end. */
int tele_handover_listen(const char *path, struct foil_error *err) FOIL_MUST_USE;
/* Serves who waits; call it when the socket is readable, or once a turn. Never blocks. Returns how many got the segment. */
unsigned int tele_handover_turn(int listen_fd, const struct tele_shared *s);
