/* HyStart++ (RFC 9406): the first slow start ends when round trips grow, before the bottleneck's queue overflows and a window's worth is lost at
 * once. A round whose shortest round trip is clearly longer than the last one's begins conservative slow start, a quarter as fast; a shorter one
 * takes that back, five rounds of it make it final. For cc_cubic.c and cc_newreno.c. Segments are not limited to eight an ACK (L of RFC 9406 4.3):
 * receivers and busy hosts bundle ACKs, and a burst of ours is never longer than what an ACK told of. */
#include "dataplane/tcp/tcp_priv.h"

#define HYSTART_THRESH_US_MIN 4000u /* RFC 9406 4.3 */
#define HYSTART_THRESH_US_MAX 16000u
#define HYSTART_RTT_DIVISOR 8u
#define HYSTART_SAMPLES 8u
#define HYSTART_CSS_DIVISOR 4u
#define HYSTART_CSS_ROUNDS 5u

static void round_begin(struct tcp_conn *c, struct tcp_hystart *h)
{
	h->last_us = h->now_us;
	h->now_us = 0;
	h->n_samples = 0;
	h->round_end = c->snd_nxt;
	h->is_begun = true;
}

static bool has_grown(const struct tcp_hystart *h)
{
	uint32_t thresh_us = FOIL_MIN(FOIL_MAX(h->last_us / HYSTART_RTT_DIVISOR, HYSTART_THRESH_US_MIN), HYSTART_THRESH_US_MAX);

	return h->n_samples >= HYSTART_SAMPLES && h->last_us && h->now_us >= h->last_us + thresh_us;
}

uint32_t tcp_hystart_grow(struct foil_worker *w, struct tcp_conn *c, struct tcp_hystart *h, uint32_t acked_bytes)
{
	if (!h->is_begun) {
		round_begin(c, h);
	} else if (seq_geq(c->snd_una, h->round_end)) {
		round_begin(c, h);
		if (h->css_base_us && ++h->css_rounds >= HYSTART_CSS_ROUNDS) {
			FOIL_PROBE(w, TCP, HYSTART_LEFT);
			c->ssthresh = c->cwnd;
			return 0;
		}
	}
	if (c->rack_rtt_us) { /* of what this ACK delivered */
		h->now_us = h->now_us ? FOIL_MIN(h->now_us, c->rack_rtt_us) : c->rack_rtt_us;
		h->n_samples += h->n_samples < HYSTART_SAMPLES;
	}
	if (!h->css_base_us && has_grown(h)) {
		if (!c->has_sack) { /* each hole would cost a round trip: out at once */
			c->ssthresh = c->cwnd;
			return 0;
		}
		h->css_base_us = h->now_us;
		h->css_rounds = 0;
	} else if (h->css_base_us && h->n_samples >= HYSTART_SAMPLES && h->now_us < h->css_base_us) {
		FOIL_PROBE(w, TCP, HYSTART_RESUMED);
		h->css_base_us = 0;
	}
	return h->css_base_us ? acked_bytes / HYSTART_CSS_DIVISOR : acked_bytes;
}
