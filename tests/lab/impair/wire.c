/* What becomes of a frame in one direction (wire.h). Frames under way lie in a heap by the time at which they leave; only a frame
 * chosen for it is overtaken, jitter alone keeps the order. Invariant: every buffer is in the heap, idle, or with the caller of wire_buffer. */
#include "tests/lab/impair/wire.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ETHER_BYTES 14u
#define WIRE_OVERHEAD_BYTES 24u /* preamble, gap and frame check sequence, as an Ethernet line counts them */
#define NS_PER_MS 1e6
#define NS_PER_S 1000000000u

/* ---- specification */

enum unit { CHANCE, COUNT, MS, SECONDS, MBIT };

struct key {
	const char *name;
	enum unit unit;
	size_t offset;
	enum unit second_unit;
	size_t second_offset; /* 0: takes one number */
};

#define AT(field) offsetof(struct wire_spec, field)
static const struct key keys[] = {
	{"loss", CHANCE, AT(loss), 0, 0},
	{"burst", CHANCE, AT(burst), COUNT, AT(burst_frames)},
	{"corrupt", CHANCE, AT(corrupt), 0, 0},
	{"dup", CHANCE, AT(dup), 0, 0},
	{"reorder", CHANCE, AT(reorder), MS, AT(reorder_ns)},
	{"delay", MS, AT(delay_ns), 0, 0},
	{"jitter", MS, AT(jitter_ns), 0, 0},
	{"rate", MBIT, AT(rate_bps), 0, 0},
	{"queue", COUNT, AT(queue_bytes), 0, 0},
	{"mark", COUNT, AT(mark_bytes), 0, 0},
	{"blackhole", COUNT, AT(black_hole_bytes), 0, 0},
	{"down", SECONDS, AT(down_at_ns), SECONDS, AT(down_for_ns)},
};

static bool number(const char **text, enum unit unit, void *into)
{
	static const double max[] = {[CHANCE] = 100, [COUNT] = 1e9, [MS] = 60000, [SECONDS] = 86400, [MBIT] = 100000};
	char *end;

	errno = 0;
	double v = strtod(*text, &end);
	if (end == *text || errno || !(v >= 0 && v <= max[unit]))
		return false;
	*text = end;
	switch (unit) {
	case CHANCE:
		*(uint32_t *)into = (uint32_t)(v * WIRE_CHANCE_ALWAYS / 100 + 0.5);
		return true;
	case COUNT:
		*(uint32_t *)into = (uint32_t)v;
		return true;
	case MS:
		*(uint64_t *)into = (uint64_t)(v * NS_PER_MS);
		return true;
	case SECONDS:
		*(uint64_t *)into = (uint64_t)(v * NS_PER_S);
		return true;
	case MBIT:
		*(uint64_t *)into = (uint64_t)(v * 1e6);
		return true;
	}
	return false;
}

bool wire_spec_parse(const char *text, struct wire_spec *out)
{
	const char *p = text;

	while (*p) {
		const struct key *k = keys, *end = keys + sizeof(keys) / sizeof(keys[0]);
		size_t n = strcspn(p, "=");
		while (k < end && (strlen(k->name) != n || strncmp(k->name, p, n) != 0))
			k++;
		p += n;
		bool good = k < end && *p++ == '=' && number(&p, k->unit, (char *)out + k->offset);
		if (good && k->second_offset)
			good = *p++ == ':' && number(&p, k->second_unit, (char *)out + k->second_offset);
		if (!good || (*p && *p != ',')) {
			fprintf(stderr, "impair: \"%s\" is no specification; it is key=number, comma between, of tests/lab/impair/README.md\n", text);
			return false;
		}
		p += *p == ',';
	}
	return true;
}

/* ---- frames under way */

void wire_init(struct wire *w, const struct wire_spec *spec, uint64_t seed, uint64_t now_ns, uint8_t *own_buffers)
{
	memset(w, 0, sizeof(*w));
	w->spec = *spec;
	w->begin_ns = now_ns;
	foil_prng_seed(&w->prng, seed);
	for (uint32_t i = 0; i < WIRE_FRAMES_MAX + 1; i++) /* the last is given first: what was used lately is used again */
		w->idle[w->n_idle++] = own_buffers + (size_t)i * WIRE_FRAME_BYTES_MAX;
}

static void give_back(struct wire *w, uint8_t *buffer)
{
	w->idle[w->n_idle++] = buffer;
}

uint8_t *wire_buffer(struct wire *w)
{
	return w->idle[--w->n_idle];
}

static bool leaves_before(const struct wire_frame *a, const struct wire_frame *b)
{
	return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->number < b->number;
}

static void heap_push(struct wire *w, const struct wire_frame *f)
{
	uint32_t i = w->n_heap++;

	for (; i && leaves_before(f, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
		w->heap[i] = w->heap[(i - 1) / 2];
	w->heap[i] = *f;
}

const struct wire_frame *wire_due(const struct wire *w, uint64_t now_ns)
{
	return w->n_heap && w->heap[0].at_ns <= now_ns ? &w->heap[0] : NULL;
}

void wire_done(struct wire *w)
{
	give_back(w, w->heap[0].data);
	struct wire_frame last = w->heap[--w->n_heap];
	uint32_t i = 0;

	for (uint32_t k; (k = 2 * i + 1) < w->n_heap; i = k) {
		if (k + 1 < w->n_heap && leaves_before(&w->heap[k + 1], &w->heap[k]))
			k++;
		if (!leaves_before(&w->heap[k], &last))
			break;
		w->heap[i] = w->heap[k];
	}
	w->heap[i] = last;
}

/* ---- fates */

static bool happens(struct wire *w, uint32_t chance)
{
	return chance && foil_prng_below(&w->prng, WIRE_CHANCE_ALWAYS) < chance;
}

/* ARP and ICMPv6 (ND) are spared: a lost one would stop both ends for a second, and measure that instead of TCP. */
static bool is_spared(const uint8_t *frame, uint32_t n_bytes)
{
	if (n_bytes < ETHER_BYTES + 28)
		return false;
	return (frame[12] == 0x08 && frame[13] == 0x06) || (frame[12] == 0x86 && frame[13] == 0xdd && frame[ETHER_BYTES + 6] == 58);
}

static bool is_lost(struct wire *w)
{
	if (w->burst_left) {
		w->burst_left--;
		return true;
	}
	if (happens(w, w->spec.burst)) {
		w->burst_left = w->spec.burst_frames ? w->spec.burst_frames - 1 : 0;
		return true;
	}
	return happens(w, w->spec.loss);
}

static bool is_down(const struct wire *w, uint64_t at_ns)
{
	uint64_t since_ns = at_ns - w->begin_ns;

	return w->spec.down_for_ns && since_ns >= w->spec.down_at_ns && since_ns - w->spec.down_at_ns < w->spec.down_for_ns;
}

/* "Congestion experienced" on a packet whose ends know of ECN; IPv4's checksum by RFC 1624. */
static bool mark(uint8_t *frame, uint32_t n_bytes)
{
	uint8_t *ip = frame + ETHER_BYTES;

	if (n_bytes < ETHER_BYTES + 40)
		return false;
	if (frame[12] == 0x08 && frame[13] == 0 && (ip[1] & 3)) {
		uint32_t sum = (uint32_t)(~((uint32_t)ip[10] << 8 | ip[11]) & 0xffff) + (uint32_t)(3 - (ip[1] & 3));
		sum = (sum & 0xffff) + (sum >> 16);
		ip[1] |= 3;
		ip[10] = (uint8_t)(~sum >> 8);
		ip[11] = (uint8_t)~sum;
		return true;
	}
	if (frame[12] == 0x86 && frame[13] == 0xdd && (ip[1] >> 4 & 3)) {
		ip[1] |= 0x30;
		return true;
	}
	return false;
}

/* The bottleneck: when the frame has passed it; false: its queue is full. */
static bool pass_bottleneck(struct wire *w, uint8_t *frame, uint32_t n_bytes, uint64_t *at_ns)
{
	const struct wire_spec *s = &w->spec;

	if (!s->rate_bps)
		return true;
	if (w->free_at_ns < *at_ns)
		w->free_at_ns = *at_ns;
	uint64_t queued_bytes = (w->free_at_ns - *at_ns) / 1000 * s->rate_bps / 8000000;
	if (s->queue_bytes && queued_bytes + n_bytes > s->queue_bytes)
		return false;
	if (s->mark_bytes && queued_bytes > s->mark_bytes)
		w->counts.marked += mark(frame, n_bytes);
	w->free_at_ns += (uint64_t)(n_bytes + WIRE_OVERHEAD_BYTES) * 8 * NS_PER_S / s->rate_bps;
	*at_ns = w->free_at_ns;
	return true;
}

static void set_off(struct wire *w, uint8_t *own_frame, uint32_t n_bytes, uint64_t at_ns)
{
	struct wire_frame f = {.at_ns = at_ns, .number = w->n_frames_seen++, .data = own_frame, .n_bytes = n_bytes};

	if (w->n_heap == WIRE_FRAMES_MAX) {
		w->counts.queue_full++;
		give_back(w, own_frame);
		return;
	}
	heap_push(w, &f);
}

void wire_take(struct wire *w, uint8_t *own_frame, uint32_t n_bytes, uint64_t at_ns)
{
	const struct wire_spec *s = &w->spec;
	struct wire_counts *c = &w->counts;
	uint64_t *why = NULL;

	c->in++;
	if (is_spared(own_frame, n_bytes)) {
		set_off(w, own_frame, n_bytes, at_ns + s->delay_ns);
		return;
	}
	if (is_down(w, at_ns))
		why = &c->down;
	else if (s->black_hole_bytes && n_bytes > s->black_hole_bytes)
		why = &c->black_holed;
	else if (is_lost(w))
		why = &c->lost;
	else if (!pass_bottleneck(w, own_frame, n_bytes, &at_ns))
		why = &c->queue_full;
	if (why) {
		(*why)++;
		give_back(w, own_frame);
		return;
	}
	if (n_bytes > ETHER_BYTES && happens(w, s->corrupt)) {
		own_frame[ETHER_BYTES + foil_prng_below(&w->prng, n_bytes - ETHER_BYTES)] ^= (uint8_t)(1u << foil_prng_below(&w->prng, 8));
		c->corrupted++;
	}
	at_ns += s->delay_ns + (s->jitter_ns ? foil_prng_u64(&w->prng) % s->jitter_ns : 0);
	if (happens(w, s->reorder)) {
		c->reordered++;
		at_ns += s->reorder_ns;
	} else {
		at_ns = w->last_at_ns = at_ns > w->last_at_ns ? at_ns : w->last_at_ns;
	}
	if (happens(w, s->dup) && w->n_idle) {
		uint8_t *twin = wire_buffer(w);
		memcpy(twin, own_frame, n_bytes);
		c->doubled++;
		set_off(w, twin, n_bytes, at_ns);
	}
	set_off(w, own_frame, n_bytes, at_ns);
}
