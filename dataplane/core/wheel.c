/* Hierarchical timing wheel (Varghese and Lauck 1987, scheme 7). Level l holds timers 256^l..256^(l+1) ticks ahead; when the
 * low wheel turns over, one slot of the next level is dealt out again.
 * Invariant: an armed timer is on exactly one slot list or on the due list; occupied[] has a bit for each list in use. */
#include "dataplane/core/worker.h"

static void list_push(struct foil_timer **head, struct foil_timer *t)
{
	t->next = *head;
	if (t->next)
		t->next->pprev = &t->next;
	*head = t;
	t->pprev = head;
}

static void list_remove(struct foil_timer *t)
{
	*t->pprev = t->next;
	if (t->next)
		t->next->pprev = t->pprev;
	t->next = NULL;
	t->pprev = NULL;
}

static void place(struct foil_wheel *wheel, struct foil_timer *t)
{
	uint64_t delta = t->expires_tick - wheel->now_tick; /* > 0: place is never called for a due timer */
	unsigned int level = 0;

	while (level + 1 < FOIL_WHEEL_LEVELS && delta >> (8 * (level + 1)))
		level++;
	uint64_t at = t->expires_tick;
	if (delta >> (8 * FOIL_WHEEL_LEVELS)) /* farther than the wheel reaches: dealt out again when it comes round */
		at = wheel->now_tick + ((uint64_t)1 << (8 * FOIL_WHEEL_LEVELS)) - 1;
	unsigned int slot = (unsigned int)(at >> (8 * level)) & (FOIL_WHEEL_SLOTS - 1);
	list_push(&wheel->slot[level][slot], t);
	wheel->occupied[level][slot / 64] |= (uint64_t)1 << (slot % 64);
}

void foil_wheel_init(struct foil_wheel *wheel, uint64_t now_us)
{
	memset(wheel, 0, sizeof(*wheel));
	wheel->now_tick = now_us / FOIL_TICK_US;
	wheel->next_hint_tick = UINT64_MAX;
}

void foil_timer_arm(struct foil_worker *w, struct foil_timer *t, uint64_t at_us, foil_timer_fn fn)
{
	struct foil_wheel *wheel = &w->wheel;
	uint64_t tick = at_us / FOIL_TICK_US + 1; /* rounded up: never early */

	if (foil_timer_is_armed(t)) {
		list_remove(t);
		wheel->n_armed--;
	}
	t->fn = fn;
	t->expires_tick = FOIL_MAX(tick, wheel->now_tick + 1);
	place(wheel, t);
	wheel->n_armed++;
	if (t->expires_tick < wheel->next_hint_tick)
		wheel->next_hint_tick = t->expires_tick;
}

void foil_timer_cancel(struct foil_worker *w, struct foil_timer *t)
{
	if (!foil_timer_is_armed(t))
		return;
	list_remove(t);
	w->wheel.n_armed--;
}

/* Deals the slot of level that now_tick has reached out to the levels below it, or to the due list. */
static void cascade(struct foil_wheel *wheel, unsigned int level)
{
	unsigned int slot = (unsigned int)(wheel->now_tick >> (8 * level)) & (FOIL_WHEEL_SLOTS - 1);
	struct foil_timer *t = wheel->slot[level][slot];

	wheel->slot[level][slot] = NULL;
	wheel->occupied[level][slot / 64] &= ~((uint64_t)1 << (slot % 64));
	while (t) {
		struct foil_timer *next = t->next;
		if (t->expires_tick <= wheel->now_tick)
			list_push(&wheel->due, t);
		else
			place(wheel, t);
		t = next;
	}
}

/* The first tick after now_tick at which a slot may need work, no later than limit. */
static uint64_t next_event(const struct foil_wheel *wheel, uint64_t limit)
{
	for (unsigned int level = 0; level < FOIL_WHEEL_LEVELS; level++) {
		uint64_t unit = wheel->now_tick >> (8 * level);
		unsigned int from = (unsigned int)(unit & (FOIL_WHEEL_SLOTS - 1)) + 1;
		for (unsigned int slot = from; slot < FOIL_WHEEL_SLOTS; slot++) {
			uint64_t word = wheel->occupied[level][slot / 64] >> (slot % 64);
			if (!word) {
				slot |= 63;
				continue;
			}
			slot += (unsigned int)__builtin_ctzll(word);
			uint64_t at = ((unit & ~(uint64_t)(FOIL_WHEEL_SLOTS - 1)) + slot) << (8 * level);
			return FOIL_MIN(at, limit);
		}
		uint64_t turn = ((unit | (FOIL_WHEEL_SLOTS - 1)) + 1) << (8 * level); /* where the level above deals out */
		if (turn >= limit)
			return limit;
		for (unsigned int i = 0; i < FOIL_WHEEL_SLOTS / 64; i++)
			if (wheel->occupied[level][i])
				return FOIL_MIN(turn, limit);
	}
	return limit;
}

static void step_to(struct foil_wheel *wheel, uint64_t tick)
{
	wheel->now_tick = tick;
	for (unsigned int level = FOIL_WHEEL_LEVELS - 1; level > 0; level--)
		if ((tick & (((uint64_t)1 << (8 * level)) - 1)) == 0)
			cascade(wheel, level);
	cascade(wheel, 0);
}

unsigned int foil_wheel_advance(struct foil_worker *w, unsigned int max_timers)
{
	struct foil_wheel *wheel = &w->wheel;
	uint64_t target = w->now_us / FOIL_TICK_US;
	unsigned int n = 0;

	if (target < wheel->next_hint_tick && !wheel->due)
		return 0; /* slots behind the hint are empty; now_tick catches up with the next timer */
	for (;;) {
		while (wheel->due && n < max_timers) {
			struct foil_timer *t = wheel->due;
			list_remove(t);
			wheel->n_armed--;
			n++;
			t->fn(w, t);
		}
		if (wheel->due || wheel->now_tick >= target)
			break;
		step_to(wheel, next_event(wheel, target));
	}
	wheel->next_hint_tick = wheel->due ? wheel->now_tick : next_event(wheel, UINT64_MAX);
	if (n)
		foil_count(w, CORE, TIMERS_FIRED, n);
	return n;
}

uint64_t foil_wheel_next_us(const struct foil_worker *w)
{
	uint64_t tick = w->wheel.due ? w->wheel.now_tick : w->wheel.next_hint_tick;

	return w->wheel.n_armed == 0 || tick > UINT64_MAX / FOIL_TICK_US ? UINT64_MAX : tick * FOIL_TICK_US;
}
