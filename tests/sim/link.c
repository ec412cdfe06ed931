/* The wire: what happens to a frame between being sent and arriving. Frames in the air are a heap by time of arrival, then by order
 * of sending, so that equal times never depend on addresses. */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

#define QUEUE_BYTES 262144u

static bool is_before(const struct sim_frame *a, const struct sim_frame *b)
{
	return a->at_us < b->at_us || (a->at_us == b->at_us && a->order < b->order);
}

static void heap_push(struct sim *s, struct sim_frame *own_f)
{
	uint32_t i = s->n_heap++;

	if (s->n_heap > s->heap_max) {
		s->heap_max = s->heap_max ? 2 * s->heap_max : 1024;
		s->heap = realloc(s->heap, s->heap_max * sizeof(s->heap[0]));
		if (!s->heap)
			abort();
	}
	for (; i && is_before(own_f, s->heap[(i - 1) / 2]); i = (i - 1) / 2)
		s->heap[i] = s->heap[(i - 1) / 2];
	s->heap[i] = own_f;
}

struct sim_frame *sim_frame_pop(struct sim *s)
{
	struct sim_frame *top = s->heap[0], *last = s->heap[--s->n_heap];
	uint32_t i = 0;

	for (;;) {
		uint32_t child = 2 * i + 1;
		if (child >= s->n_heap)
			break;
		if (child + 1 < s->n_heap && is_before(s->heap[child + 1], s->heap[child]))
			child++;
		if (!is_before(s->heap[child], last))
			break;
		s->heap[i] = s->heap[child];
		i = child;
	}
	s->heap[i] = last;
	return top;
}

static struct sim_frame *frame_new(struct sim *s)
{
	if (s->n_free)
		return s->free_frames[--s->n_free];
	struct sim_frame *f = malloc(sizeof(*f));
	s->n_frames_max++;
	s->free_frames = realloc(s->free_frames, s->n_frames_max * sizeof(s->free_frames[0]));
	if (!f || !s->free_frames)
		abort();
	return f;
}

void sim_frame_free(struct sim *s, struct sim_frame *own_f)
{
	s->free_frames[s->n_free++] = own_f;
}

void sim_frames_clear(struct sim *s)
{
	while (s->n_heap)
		sim_frame_free(s, s->heap[--s->n_heap]);
}

static void put(struct sim *s, uint8_t to, uint64_t at_us, const uint8_t *frame, uint16_t n_bytes)
{
	struct sim_frame *f = frame_new(s);

	f->at_us = at_us;
	f->order = s->order++;
	f->to = to;
	f->n_bytes = n_bytes;
	memcpy(f->data, frame, n_bytes);
	heap_push(s, f);
}

void sim_inject(struct sim *s, uint8_t to, uint64_t at_us, const uint8_t *frame, uint16_t n_bytes)
{
	sim_mix(s, &at_us, sizeof(at_us));
	sim_mix(s, frame, n_bytes);
	sim_pcap(s, frame, n_bytes);
	put(s, to, at_us, frame, n_bytes);
}

/* What middleboxes do: an option they do not know, or do not want, becomes NOPs. */
static void strip_options(struct sim *s, uint8_t *f, uint16_t n_bytes, uint32_t kinds)
{
	struct sim_tcp t;

	if (!sim_tcp_parse(f, n_bytes, &t) || !(t.flags & 2))
		return;
	uint8_t *tcp = f + (t.tcp - f), *o = tcp + 20, *end = tcp + (t.payload - t.tcp);
	while (o < end && *o) {
		uint32_t n = *o == 1 ? 1 : o + 1 < end ? o[1] : 0;
		if (!n || n > (uint32_t)(end - o))
			return;
		if (*o < 32 && kinds >> *o & 1)
			memset(o, 1, n);
		o += n;
	}
	tcp[16] = tcp[17] = 0;
	uint16_t sum = sim_checksum(sim_pseudo(f + 14, t.v4, 6, t.n_tcp), tcp, t.n_tcp);
	memcpy(tcp + 16, &sum, 2);
}

static bool is_pure_ack(const uint8_t *frame, uint16_t n_bytes)
{
	struct sim_tcp t;

	return sim_tcp_parse(frame, n_bytes, &t) && t.n_payload == 0 && (t.flags & 0x17) == 0x10;
}

static bool is_lost(struct sim *s, struct sim_link *l, const uint8_t *frame, uint16_t n_bytes)
{
	const struct sim_link_params *p = &l->p;
	bool lost = false;

	struct sim_tcp t;

	if (p->down_every_us && s->now_us % p->down_every_us < p->down_for_us)
		return true;
	if (p->loss_ppm < 1000000 && !sim_tcp_parse(frame, n_bytes, &t))
		return false; /* a neighbour that misses three questions is an unreachable host: not what loss is to show */
	if (p->eats_ecn_syns && sim_tcp_parse(frame, n_bytes, &t) && (t.flags & 0xd2) == 0xc2)
		return true;
	if (p->loss_every && l->n_frames % p->loss_every == 0)
		lost = true;
	lost |= sim_chance(s, p->loss_ppm);
	if (!l->bad_left && sim_chance(s, p->burst_ppm))
		l->bad_left = 1 + foil_prng_below(&s->prng, 2 * p->burst_len + 1);
	if (l->bad_left) {
		l->bad_left--;
		lost |= sim_chance(s, 500000);
	}
	if (p->ack_loss_ppm && is_pure_ack(frame, n_bytes))
		lost |= sim_chance(s, p->ack_loss_ppm);
	return lost;
}

/* An ICMP error from a router on the way: the IP header and the first bytes of what was too big (RFC 792, RFC 4443 3.2). */
static void tell_too_big(struct sim *s, uint8_t from, const uint8_t *frame, uint16_t mtu)
{
	static const uint8_t router[2][16] = {{198, 18, 0, 254}, {0xfd, 0, 0xf0, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xfe}};
	uint8_t out[14 + 40 + 8 + 80] = {0};
	bool v4 = frame[12] == 0x08;
	uint16_t l3 = v4 ? 20 : 40, quoted = v4 ? 28 : 80, l4_len = (uint16_t)(8 + quoted);
	uint8_t *ip = out + 14, *icmp = ip + l3;

	memcpy(out, frame + 6, 6);
	out[6] = 0x02;
	out[11] = 0xfe;
	memcpy(out + 12, frame + 12, 2);
	memcpy(icmp + 8, frame + 14, quoted);
	if (v4) {
		ip[0] = 0x45;
		ip[2] = (uint8_t)((l3 + l4_len) >> 8);
		ip[3] = (uint8_t)(l3 + l4_len);
		ip[8] = 64;
		ip[9] = 1;
		memcpy(ip + 12, router[0], 4);
		memcpy(ip + 16, frame + 14 + 12, 4);
		uint16_t sum = sim_checksum(0, ip, 20);
		memcpy(ip + 10, &sum, 2);
		icmp[0] = 3;
		icmp[1] = 4;
		icmp[6] = (uint8_t)(mtu >> 8);
		icmp[7] = (uint8_t)mtu;
		sum = sim_checksum(0, icmp, l4_len);
		memcpy(icmp + 2, &sum, 2);
	} else {
		ip[0] = 0x60;
		ip[4] = (uint8_t)(l4_len >> 8);
		ip[5] = (uint8_t)l4_len;
		ip[6] = 58;
		ip[7] = 64;
		memcpy(ip + 8, router[1], 16);
		memcpy(ip + 24, frame + 14 + 8, 16);
		icmp[0] = 2;
		icmp[6] = (uint8_t)(mtu >> 8);
		icmp[7] = (uint8_t)mtu;
		uint16_t sum = sim_checksum(sim_pseudo(ip, false, 58, l4_len), icmp, l4_len);
		memcpy(icmp + 2, &sum, 2);
	}
	put(s, from, s->now_us + s->l[from].p.delay_us, out, (uint16_t)(14 + l3 + l4_len));
}

/* When the frame arrives; 0: the queue before the wire is full. */
static uint64_t arrival(struct sim *s, struct sim_link *l, uint16_t n_bytes)
{
	const struct sim_link_params *p = &l->p;
	uint64_t at_us = s->now_us;

	if (p->rate_bps) {
		uint64_t start_us = FOIL_MAX(l->busy_until_us, s->now_us), queued = (start_us - s->now_us) * p->rate_bps / 8000000;
		if (queued + n_bytes > (p->queue_bytes ? p->queue_bytes : QUEUE_BYTES)) {
			l->n_queue_drops++;
			return 0;
		}
		at_us = start_us + (n_bytes + 24u) * 8000000ull / p->rate_bps; /* preamble, FCS and gap */
		l->busy_until_us = at_us;
	}
	at_us += p->delay_us;
	if (p->jitter_us)
		at_us += foil_prng_below(&s->prng, p->jitter_us);
	at_us = FOIL_MAX(at_us, l->last_at_us);
	l->last_at_us = at_us;
	if (sim_chance(s, p->reorder_ppm))
		at_us += 1 + foil_prng_below(&s->prng, p->reorder_us);
	return at_us;
}

static void mark(uint8_t *f)
{
	if (f[12] == 0x08 && (f[15] & 3)) {
		f[15] |= 3;
		f[24] = f[25] = 0;
		uint16_t sum = sim_checksum(0, f + 14, 20);
		memcpy(f + 24, &sum, 2);
	} else if (f[12] == 0x86 && (f[15] & 0x30)) {
		f[15] |= 0x30;
	}
}

void sim_send(struct sim *s, uint8_t from, const uint8_t *frame, uint16_t n_bytes)
{
	struct sim_link *l = &s->l[from];
	uint8_t copy[SIM_FRAME_MAX];

	l->n_frames++;
	l->n_bytes += n_bytes;
	sim_mix(s, &s->now_us, sizeof(s->now_us));
	sim_mix(s, frame, n_bytes);
	sim_wire_sent(s, from, frame, n_bytes);
	if (l->p.mtu && n_bytes - 14 > l->p.mtu) {
		l->n_dropped++;
		if (!l->p.is_blackhole)
			tell_too_big(s, from, frame, l->p.mtu);
		return;
	}
	if (is_lost(s, l, frame, n_bytes)) {
		l->n_dropped++;
		return;
	}
	uint64_t at_us = arrival(s, l, n_bytes);
	if (!at_us)
		return;
	memcpy(copy, frame, n_bytes);
	if (l->p.strips)
		strip_options(s, copy, n_bytes, l->p.strips);
	if (sim_chance(s, l->p.mark_ppm))
		mark(copy);
	if (copy[13] != 0x06 && sim_chance(s, l->p.corrupt_ppm)) { /* what a checksum must notice; ARP has none */
		uint32_t bit = foil_prng_below(&s->prng, (n_bytes - 14u) * 8);
		copy[14 + bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	put(s, l->to, at_us, copy, n_bytes);
	if (sim_chance(s, l->p.dup_ppm))
		put(s, l->to, at_us + foil_prng_below(&s->prng, 1000), frame, n_bytes);
}
