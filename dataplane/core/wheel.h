/* Timers: a hierarchical timing wheel (Varghese and Lauck 1987), one a worker, O(1) to arm, cancel and fire.
 *
 * Timers are embedded in what they belong to; nothing is allocated. The tick is FOIL_TICK_US; a timer never fires early
 * and fires at most one tick plus the loop's period late. Callbacks run from foil_wheel_advance in the worker's loop, in
 * order of expiry tick, and may arm or cancel any timer, their own and the next due included. */
#pragma once

#include "dataplane/core/base.h"

struct foil_worker;
struct foil_timer;
typedef void (*foil_timer_fn)(struct foil_worker *w, struct foil_timer *t);

#define FOIL_TICK_US 128u

struct foil_timer {
	struct foil_timer *next, **pprev; /* pprev is NULL when not armed */
	uint64_t expires_tick;
	foil_timer_fn fn;
};

#define FOIL_WHEEL_LEVELS 5
#define FOIL_WHEEL_SLOTS 256u

struct foil_wheel {
	uint64_t now_tick;  /* every timer with expires_tick <= now_tick has been fired */
	uint64_t n_armed;
	uint64_t next_hint_tick; /* no timer expires before this tick; lets an idle worker sleep */
	struct foil_timer *due;  /* the list being fired */
	struct foil_timer *slot[FOIL_WHEEL_LEVELS][FOIL_WHEEL_SLOTS];
	uint64_t occupied[FOIL_WHEEL_LEVELS][FOIL_WHEEL_SLOTS / 64];
};

void foil_wheel_init(struct foil_wheel *wheel, uint64_t now_us);
/* Arm, or re-arm if armed already, to fire fn once at or after at_us (absolute, on w->now_us's scale). */
void foil_timer_arm(struct foil_worker *w, struct foil_timer *t, uint64_t at_us, foil_timer_fn fn);
/* No effect on a timer that is not armed (zeroed memory is not armed). */
void foil_timer_cancel(struct foil_worker *w, struct foil_timer *t);
static inline bool foil_timer_is_armed(const struct foil_timer *t)
{
	return t->pprev != NULL;
}
/* It is armed and fires no later than if it were armed for at_us: for those who leave a timer armed and look at what is due when it fires. */
static inline bool foil_timer_fires_by(const struct foil_timer *t, uint64_t at_us)
{
	return t->pprev != NULL && t->expires_tick <= at_us / FOIL_TICK_US + 1;
}
/* Fire everything due by w->now_us; at most max_timers, the rest stay due for the next call. Returns how many fired. */
unsigned int foil_wheel_advance(struct foil_worker *w, unsigned int max_timers);
/* A time no later than the next expiry, UINT64_MAX if nothing is armed; for sleeping in pause and interrupt mode. */
uint64_t foil_wheel_next_us(const struct foil_worker *w);
