/* The byte-stream interface that tcp and tls both offer; codecs and L4 proxies know nothing else of transport.
 *
 * A stream is embedded in its transport's connection block. Exactly one user (codec, L4 proxy, tls) owns it at a time.
 * All calls and callbacks happen on the connection's own worker. Callbacks may call any function of this header on the
 * same stream, stream_abort included; after `closed` has returned, or stream_abort or stream_release was called, the pointer is dead
 * for the user and no callback comes any more.
 *
 * Reading: the transport appends in-order bytes to s->rx and calls readable; the user consumes or takes what it can and leaves the
 * rest. What stays in rx closes the peer's window: that is backpressure, and all that is needed for it. After each change of rx the
 * user calls stream_consumed (stream_consume and stream_take do), so that the window opens again.
 * EOF: s->rx_eof turns true and readable is called; bytes may still be in rx.
 *
 * Writing: stream_write takes a chain whole, always; the transport sends as it may. stream_tx_room says how much may be written
 * before the user should stop; `writable` comes when the queue has fallen to half of tx_high_bytes after it had reached it. The transport raises
 * tx_high_bytes with the path: what is in flight is queued, too.
 * Output is not sent at once but at the end of the worker's burst. */
#pragma once

#include "dataplane/core/chain.h"
#include "dataplane/core/worker.h"

struct stream;

/* Why a stream ended; also what `%UPSTREAM_TRANSPORT_FAILURE_REASON%` and response flags are made from. */
enum stream_end {
	STREAM_END_NONE,             /* not ended */
	STREAM_END_FIN,              /* both sides finished in order */
	STREAM_END_RESET,            /* RST from the peer after the connection was established */
	STREAM_END_REFUSED,          /* RST in answer to our SYN */
	STREAM_END_UNREACHABLE,      /* ICMP or no route, ARP/ND failed */
	STREAM_END_CONNECT_TIMEOUT,  /* the active open got no answer in time (transport's own limit) */
	STREAM_END_TIMEOUT,          /* user timeout or retransmissions given up */
	STREAM_END_LOCAL,            /* aborted by this side's transport: memory, drain, protocol error of the peer */
	STREAM_END_TLS,              /* handshake or record failure */
	STREAM_END_COUNT
};

/* What the user of a stream implements. Any member may be NULL. */
struct stream_user {
	void (*opened)(struct foil_worker *w, struct stream *s);   /* active open only: connected, may write (it may before, too) */
	void (*readable)(struct foil_worker *w, struct stream *s); /* rx grew or rx_eof was set; once a segment burst */
	void (*writable)(struct foil_worker *w, struct stream *s);
	void (*closed)(struct foil_worker *w, struct stream *s, enum stream_end why); /* last call; not after stream_abort */
};

struct stream_ops {
	void (*write)(struct foil_worker *w, struct stream *s, struct foil_chain *own_chain);
	void (*shutdown)(struct foil_worker *w, struct stream *s); /* FIN after what is queued; later writes are freed, counted */
	void (*abort)(struct foil_worker *w, struct stream *s);    /* RST now; queued bytes are dropped */
	void (*release)(struct foil_worker *w, struct stream *s);  /* user is done reading: finish sending, close in order, discard
								      what still arrives (RST if the peer sends on for long), lingering
								      on the transport's account */
	void (*consumed)(struct foil_worker *w, struct stream *s); /* rx shrank: update the window */
};

/* Addresses: 16 bytes, IPv4 as ::ffff:a.b.c.d, port in host order. */
struct stream_addr {
	uint8_t ip[16];
	uint16_t port;
};

struct stream {
	const struct stream_ops *ops;
	const struct stream_user *user;
	void *user_data;
	struct foil_chain rx;
	uint32_t tx_queued_bytes; /* written, not yet acknowledged by the peer */
	uint32_t tx_high_bytes;   /* default STREAM_TX_HIGH_BYTES; the user may change it */
	bool rx_eof;              /* the peer sent FIN (or close_notify): nothing comes after rx */
	bool tx_shut;             /* stream_shutdown was called */
	bool is_open;             /* established; false during an active open */
	bool was_full;            /* the transport's own: writable is owed */
	struct stream_addr local, remote;
	uint16_t tx_spare_kib;    /* stream_bound_tx; 0: the transport's own */
	uint32_t rtt_us;          /* smoothed, 0 if unknown */
	uint64_t opened_us;       /* when it became open */
};

#define STREAM_TX_HIGH_BYTES (256u * 1024u)

static inline uint32_t stream_tx_room(const struct stream *s)
{
	return s->tx_queued_bytes >= s->tx_high_bytes ? 0 : s->tx_high_bytes - s->tx_queued_bytes;
}

/* No more than n_bytes, in whole KiB, may wait beside what is in flight. Before anything was written. */
#define STREAM_TX_FLIGHT_BYTES 16384u /* to begin with */
static inline void stream_bound_tx(struct stream *s, uint32_t n_bytes)
{
	uint32_t kib = n_bytes / 1024u + (n_bytes % 1024u != 0);

	s->tx_spare_kib = (uint16_t)(kib < UINT16_MAX ? kib : UINT16_MAX);
	s->tx_high_bytes = s->tx_spare_kib * 1024u + STREAM_TX_FLIGHT_BYTES;
}

static inline void stream_write(struct foil_worker *w, struct stream *s, struct foil_chain *own_chain)
{
	s->ops->write(w, s, own_chain);
}

static inline void stream_shutdown(struct foil_worker *w, struct stream *s)
{
	s->ops->shutdown(w, s);
}

static inline void stream_abort(struct foil_worker *w, struct stream *s)
{
	s->ops->abort(w, s);
}

static inline void stream_release(struct foil_worker *w, struct stream *s)
{
	s->ops->release(w, s);
}

static inline void stream_consumed(struct foil_worker *w, struct stream *s)
{
	s->ops->consumed(w, s);
}

static inline void stream_consume(struct foil_worker *w, struct stream *s, uint32_t n_bytes)
{
	foil_chain_consume(&s->rx, n_bytes);
	s->ops->consumed(w, s);
}

/* Moves the first n_bytes of rx to the end of to, by reference. 0, or -ENOBUFS with nothing moved. */
static inline int FOIL_MUST_USE stream_take(struct foil_worker *w, struct stream *s, uint32_t n_bytes, struct foil_chain *to)
{
	int rc = foil_chain_split(w, &s->rx, n_bytes, to);
	if (rc == 0)
		s->ops->consumed(w, s);
	return rc;
}
