/* How many handshakes of clients may be in flight at once, in all and of one network, so that a flood of them leaves memory, and others their turn. A
 * handshake counts from the first byte of its ClientHello until it is done or has failed; connections that are open never count.
 * A network is an IPv4 /24 or an IPv6 /64: less than what one owner usually has, more than one machine.
 * Invariant: every prefix in the table has one handshake in flight at least, so the table of twice the limit never fills. */
#include <errno.h>
#include <stdlib.h>

#include "dataplane/tls/tls_priv.h"

#define PER_PREFIX_SHARE 4u /* of the limit in all, unless the node file says otherwise */

int tls_places_init(struct tls_places *t, uint32_t n_max, uint32_t n_prefix_max)
{
	uint32_t size = 64;

	while (size < 2 * n_max)
		size *= 2;
	*t = (struct tls_places){.n_max = n_max, .n_prefix_max = n_prefix_max ? n_prefix_max : FOIL_MAX(n_max / PER_PREFIX_SHARE, 1u), .mask = size - 1};
	t->slots = calloc(size, sizeof(*t->slots));
	return t->slots ? 0 : -ENOMEM;
}

void tls_places_fini(struct tls_places *t)
{
	free(t->slots);
	*t = (struct tls_places){.slots = NULL};
}

static uint64_t prefix_of(const struct stream_addr *a)
{
	static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	uint64_t v;

	if (memcmp(a->ip, mapped, sizeof(mapped)) == 0)
		return 0xffff000000000000u | (uint64_t)a->ip[12] << 16 | (uint64_t)a->ip[13] << 8 | a->ip[14]; /* no unicast IPv6 begins so */
	memcpy(&v, a->ip, sizeof(v));
	return v;
}

/* Its slot, or the free one where it would be. */
static uint32_t find(const struct foil_worker *w, const struct tls_places *t, uint64_t prefix)
{
	uint32_t at = (uint32_t)foil_siphash(&w->secret, &prefix, sizeof(prefix)) & t->mask;

	while (t->slots[at].n && t->slots[at].prefix != prefix)
		at = (at + 1) & t->mask;
	return at;
}

/* Closes the gap at hole, so that a search never needs to know of what was there. */
static void close_gap(const struct foil_worker *w, struct tls_places *t, uint32_t hole)
{
	for (uint32_t at = (hole + 1) & t->mask; t->slots[at].n; at = (at + 1) & t->mask) {
		uint32_t home = (uint32_t)foil_siphash(&w->secret, &t->slots[at].prefix, sizeof(uint64_t)) & t->mask;
		if (((at - home) & t->mask) < ((at - hole) & t->mask))
			continue; /* would come before its home */
		t->slots[hole] = t->slots[at];
		hole = at;
	}
	t->slots[hole] = (struct tls_prefix){.n = 0};
}

bool tls_place_take(struct foil_worker *w, struct tls_place *p, const struct stream_addr *source)
{
	if (p->is_held)
		return true;
	struct tls_places *t = &w->tls->places;
	if (t->n >= t->n_max) {
		foil_reason(w, TLS, HANDSHAKES_EXHAUSTED);
		return false;
	}
	uint64_t prefix = prefix_of(source);
	struct tls_prefix *s = &t->slots[find(w, t, prefix)];
	if (s->n >= t->n_prefix_max) {
		foil_reason(w, TLS, HANDSHAKES_OF_PREFIX);
		return false;
	}
	s->prefix = prefix;
	s->n++;
	t->n++;
	foil_count(w, TLS, HANDSHAKE_PLACES, 1);
	*p = (struct tls_place){.prefix = prefix, .is_held = true};
	return true;
}

void tls_place_give(struct foil_worker *w, struct tls_place *p)
{
	if (!p->is_held)
		return;
	struct tls_places *t = &w->tls->places;
	uint32_t at = find(w, t, p->prefix);
	FOIL_ASSERT(t->n > 0 && t->slots[at].n > 0);
	t->n--;
	foil_count(w, TLS, HANDSHAKE_PLACES, -1);
	if (--t->slots[at].n == 0)
		close_gap(w, t, at);
	p->is_held = false;
}
