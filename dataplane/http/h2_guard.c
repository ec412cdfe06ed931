/* Flood guards (features.md OM-12): what a peer may make us do without asking for anything. Each has a reason of its own, and the answer is
 * GOAWAY with ENHANCE_YOUR_CALM. The numbers are Envoy's where Envoy has one.
 * Output that is not read is bounded by counting the control frames of two halves: the older half is forgotten when all that was written by its
 * end has been acknowledged, so what is counted is never less than what is unread. */
#include "dataplane/http/h2_priv.h"

#define EMPTY_IN_A_ROW_MAX 1u            /* max_consecutive_inbound_frames_with_empty_payload */
#define PRIORITY_PER_STREAM_MAX 100u     /* max_inbound_priority_frames_per_stream */
#define WINDOW_UPDATES_PER_DATA_MAX 10u  /* max_inbound_window_update_frames_per_data_frame_sent */
#define WINDOW_UPDATES_FREE 5u
#define CONTROL_PER_SECOND_MAX 1000u
#define OUT_CONTROL_MAX 1000u            /* max_outbound_control_frames */
#define PREMATURE_LOOK_AT 500u           /* overload.premature_reset_total_stream_count */
#define PREMATURE_US 1000000u            /* overload.premature_reset_min_stream_lifetime_seconds */

static bool calm(struct foil_worker *w, struct h2_conn *h, enum http_reason reason)
{
	return h2_fail(w, h, H2_ENHANCE_YOUR_CALM, reason);
}

static bool is_empty_payload(const struct h2_frame *f)
{
	if (f->type == H2_DATA)
		return f->length_bytes == 0 && !(f->flags & H2_END_STREAM);
	if (f->type == H2_HEADERS || f->type == H2_CONTINUATION)
		return f->length_bytes == 0 && !(f->flags & H2_END_HEADERS);
	return false;
}

static bool control_is_too_much(struct foil_worker *w, struct h2_guard *g)
{
	if (w->now_us - g->second_us >= 1000000u) {
		g->second_us = w->now_us;
		g->n_control = 0;
	}
	return ++g->n_control > CONTROL_PER_SECOND_MAX;
}

bool h2_guard_frame(struct foil_worker *w, struct h2_conn *h)
{
	struct h2_guard *g = &h->guard;
	const struct h2_frame *f = &h->frame;

	switch (f->type) {
	case H2_DATA:
	case H2_HEADERS:
	case H2_CONTINUATION:
		g->n_empty = is_empty_payload(f) ? g->n_empty + 1 : 0;
		return g->n_empty <= EMPTY_IN_A_ROW_MAX || calm(w, h, HTTP_REASON_H2_EMPTY_FRAMES);
	case H2_PRIORITY:
		return ++g->n_priority <= PRIORITY_PER_STREAM_MAX * (1 + g->n_opened) || calm(w, h, HTTP_REASON_H2_PRIORITY_FLOOD);
	case H2_WINDOW_UPDATE:
		if (++g->n_window_updates <= WINDOW_UPDATES_FREE + 2 * (g->n_opened + WINDOW_UPDATES_PER_DATA_MAX * g->n_data_sent))
			return true;
		return calm(w, h, HTTP_REASON_H2_WINDOW_UPDATE_FLOOD);
	case H2_RST_STREAM:
		return true; /* h2_guard_closed counts them, those for streams that are no more h2_guard_control */
	default:
		return !control_is_too_much(w, g) || calm(w, h, HTTP_REASON_H2_CONTROL_FLOOD);
	}
}

bool h2_guard_control(struct foil_worker *w, struct h2_conn *h)
{
	return !control_is_too_much(w, &h->guard) || calm(w, h, HTTP_REASON_H2_CONTROL_FLOOD);
}

/* Envoy's maybeDrainDueToPrematureResets: of enough streams half or more, or so many that it cannot become less any more. */
static bool premature_is_too_much(const struct h2_guard *g)
{
	if (g->n_closed < PREMATURE_LOOK_AT)
		return g->n_premature * 2 >= PREMATURE_LOOK_AT;
	return g->n_premature * 2 >= g->n_closed;
}

bool h2_guard_closed(struct foil_worker *w, struct h2_conn *h, const struct h2_stream *x, bool by_peers_fault)
{
	struct h2_guard *g = &h->guard;

	if (!h->c->is_server)
		return true;
	g->n_closed++;
	if (!by_peers_fault)
		return true;
	if (w->now_us - x->hs.started_us < PREMATURE_US)
		g->n_premature++;
	return !premature_is_too_much(g) || calm(w, h, HTTP_REASON_H2_PREMATURE_RESETS);
}

/* A stream that never became one: it cost a header block. */
bool h2_guard_refused(struct foil_worker *w, struct h2_conn *h)
{
	h->guard.n_closed++;
	h->guard.n_premature++;
	return !premature_is_too_much(&h->guard) || calm(w, h, HTTP_REASON_H2_PREMATURE_RESETS);
}

bool h2_guard_out(struct h2_conn *h)
{
	struct h2_guard *g = &h->guard;
	const struct stream *s = h->c->s;
	uint64_t acked = h->written_bytes - FOIL_MIN(h->written_bytes, s ? s->tx_queued_bytes : 0);

	if (acked == h->written_bytes && foil_chain_is_empty(&h->out)) { /* all of it is read */
		g->n_out[0] = g->n_out[1] = 0;
		g->out_mark_bytes = acked;
	} else if (acked >= g->out_mark_bytes) {
		g->n_out[0] = g->n_out[1];
		g->n_out[1] = 0;
		g->out_mark_bytes = h->written_bytes + h->out.n_bytes;
	}
	g->n_out[1]++;
	return g->n_out[0] + g->n_out[1] <= OUT_CONTROL_MAX;
}
