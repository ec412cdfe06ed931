/* The limits of connections, kept once for all that are opened with the same: a connection at rest holds a pointer.
 * What differs comes from listeners' and clusters' configuration, so a few copies serve all; only the ones used last are compared, and whoever finds
 * none gets a copy of his own, so that many configurations cost memory and never time.
 * Invariant: a kept one has n_conns > 0 and is on ctx->limits. */
#include "dataplane/http/h2_priv.h"

#define HEAD_BYTES_DEFAULT (60u * 1024u) /* features.md OM-6 */
#define HEAD_BYTES_MOST (FOIL_LARGE_CHUNK_BYTES - 256u) /* a head is contiguous, and a large chunk is what holds it */
#define HEADERS_DEFAULT 100u
#define HEADERS_MOST 4096u
#define LOOKED_AT_MAX 16u

static struct http_limits bounded(const struct http_limits *limits)
{
	struct http_limits l = limits ? *limits : (struct http_limits){0};

	l.head_bytes_max = FOIL_MIN(l.head_bytes_max ? l.head_bytes_max : HEAD_BYTES_DEFAULT, HEAD_BYTES_MOST);
	l.headers_max = (uint16_t)FOIL_MIN(l.headers_max ? l.headers_max : HEADERS_DEFAULT, HEADERS_MOST);
	l.h2_streams_max = l.h2_streams_max ? l.h2_streams_max : H2_STREAMS_DEFAULT;
	l.h2_stream_window_bytes = FOIL_MIN(FOIL_MAX(l.h2_stream_window_bytes ? l.h2_stream_window_bytes : H2_STREAM_WINDOW_DEFAULT,
						     H2_STREAM_WINDOW_DEFAULT), H2_WINDOW_MAX);
	l.h2_conn_window_bytes = FOIL_MIN(FOIL_MAX(l.h2_conn_window_bytes ? l.h2_conn_window_bytes : H2_CONN_WINDOW_DEFAULT,
						   2 * H2_STREAM_WINDOW_DEFAULT), H2_WINDOW_MAX);
	l.h2_queue_bytes_max = l.h2_queue_bytes_max ? FOIL_MAX(FOIL_MIN(l.h2_queue_bytes_max, H2_STREAM_TX_HIGH_BYTES), 1024u) : H2_STREAM_TX_HIGH_BYTES;
	return l;
}

/* By member: what lies between them is nobody's. */
static bool are_equal(const struct http_limits *a, const struct http_limits *b)
{
	return a->head_bytes_max == b->head_bytes_max && a->headers_max == b->headers_max && a->accept_http10 == b->accept_http10 &&
	       a->reject_underscores == b->reject_underscores && a->drop_underscores == b->drop_underscores && a->refuse_https == b->refuse_https &&
	       a->head_timeout_us == b->head_timeout_us && a->idle_timeout_us == b->idle_timeout_us &&
	       a->h2_streams_max == b->h2_streams_max && a->h2_stream_window_bytes == b->h2_stream_window_bytes &&
	       a->h2_conn_window_bytes == b->h2_conn_window_bytes && a->h2_ping_interval_us == b->h2_ping_interval_us &&
	       a->h2_ping_timeout_us == b->h2_ping_timeout_us && a->h2_drain_us == b->h2_drain_us &&
	       a->h2_queue_bytes_max == b->h2_queue_bytes_max;
}

const struct http_limits *http_limits_get(struct http_ctx *ctx, const struct http_limits *limits)
{
	const struct http_limits l = bounded(limits);
	struct h2_link *n = ctx->limits.next;
	struct http_limits_kept *k = NULL;

	for (unsigned int i = 0; i < LOOKED_AT_MAX && n != &ctx->limits && !k; i++, n = n->next) {
		struct http_limits_kept *other = FOIL_CONTAINER_OF(n, struct http_limits_kept, node);
		k = are_equal(&other->limits, &l) ? other : NULL;
	}
	if (!k) {
		k = http_pool_get(&ctx->limits_kept);
		FOIL_ASSERT(k); /* one a connection at most, and there is a connection that wants it */
		k->limits = l;
	}
	h2_link_del(&k->node);
	h2_link_add(ctx->limits.next, &k->node); /* to the front: in front of the one that is first */
	k->n_conns++;
	return &k->limits;
}

void http_limits_put(struct http_ctx *ctx, const struct http_limits *own_limits)
{
	struct http_limits_kept *k = FOIL_CONTAINER_OF((struct http_limits *)(uintptr_t)own_limits, struct http_limits_kept, limits);

	FOIL_ASSERT(k->n_conns > 0);
	if (--k->n_conns > 0)
		return;
	h2_link_del(&k->node);
	http_pool_put(&ctx->limits_kept, k);
}
