/* Packets into a ring for whoever looks on from housekeeping: those that were dropped, under the reasons asked for, or all of a flow with the reason of
 * those that were. Off unless asked for: then a burst, a flush and a drop each cost one branch on w->net.
 *
 * One struct net_capture a worker. Housekeeping makes it, the worker writes it (net_capture_start says from when on), housekeeping reads it and frees it
 * after the worker has let go. The ring loses what does not fit and counts it: a worker never waits. */
#pragma once

#include "dataplane/net/net.h"

#define NET_CAPTURE_REASONS_MAX 128u /* a room's; the bits of a filter */
#define NET_CAPTURE_ENDS 2
#define NET_CAPTURE_BYTES_MAX 9236u  /* of a packet: a jumbo frame with its tag */
#define NET_CAPTURE_PENDING_MAX 128u

/* One end of a flow; what is zero or false is not asked about. */
struct net_capture_end {
	struct net_addr addr;
	uint16_t port;
	bool has_addr;
};

struct net_capture_filter {
	bool reasons_only; /* packets that had one of these reasons; else everything that matches the ends, and any reason in the comment */
	uint64_t reasons[FOIL_ROOM_COUNT][NET_CAPTURE_REASONS_MAX / 64];
	struct net_capture_end ends[NET_CAPTURE_ENDS]; /* a packet between them, either way; errors of ICMP that quote one, too */
	uint32_t snap_bytes; /* of each packet; 0: NET_CAPTURE_BYTES_MAX */
};

enum net_capture_dir { NET_CAPTURE_UNKNOWN, NET_CAPTURE_IN, NET_CAPTURE_OUT }; /* pcapng's numbers (epb_flags) */

struct net_capture_record {
	uint64_t wall_us;
	uint32_t n_bytes, n_bytes_all; /* here, and in truth */
	uint16_t port;                 /* index */
	uint8_t dir, room;             /* enum foil_room of the reason */
	uint16_t why;
	uint16_t has_why;
	uint8_t bytes[NET_CAPTURE_BYTES_MAX]; /* from the Ethernet header on; one of zeros where there was none yet */
};

struct net_capture;

/* Housekeeping. ring_bytes: a power of two, 64 KiB at least. NULL: no memory. */
struct net_capture *net_capture_new(const struct net_capture_filter *f, uint32_t ring_bytes);
void net_capture_free(struct net_capture *own_c);
/* Housekeeping: the oldest record. false: none. peek leaves it there. */
bool net_capture_take(struct net_capture *c, struct net_capture_record *out);
bool net_capture_peek_us(const struct net_capture *c, uint64_t *wall_us);
/* Packets that matched and were lost, all in all (any thread). */
uint64_t net_capture_lost(const struct net_capture *c);

/* The worker, between bursts: from now on into c; NULL: nowhere. */
void net_capture_start(struct foil_worker *w, struct net_capture *c);

/* The worker, in every room: the packet m goes under that reason, before it is freed. */
enum net_capture_at {
	NET_CAPTURE_FRAME,    /* received, as the port gave it */
	NET_CAPTURE_FRAME_TX, /* to send, complete */
	NET_CAPTURE_IP_TX,    /* to send, from the IP header on */
	NET_CAPTURE_UPPER     /* received, handed to an upper protocol, however much of its front has been taken off */
};
FOIL_COLD void net_capture_drop(struct foil_worker *w, enum foil_room room, uint16_t why, const struct net_port *p, struct rte_mbuf *m,
		      enum net_capture_at at);
