/* Whether the data plane's workers turn (features.md HC-6): each counts its turns, and at rest it turns once a second at least. One whose count stood still
 * between two looks, over five seconds and more, serves nobody any more. Looked at when somebody asks; the first look after a data plane came says nothing. */
#include "programs/foil_agent.h"

#include "programs/foil_agent_perf.h"

#define STANDSTILL_MS 5000u
#define TURNS "foil_core_loops_total"

static void look(void *arg, const struct tele_sample *s, const uint64_t *by_slot, uint32_t n_slots)
{
	struct agent *a = arg;
	struct agent_turns *t = &a->turns;
	uint64_t now_ms = agent_now_ms();

	if (!foil_slice_eq(s->name, FOIL_SLICE(TURNS)))
		return;
	for (uint32_t i = 0; i + 1 < n_slots && i < AGENT_WORKERS_MAX; i++) { /* the last slot is housekeeping's, which counts none */
		if (i < t->n && t->counts[i] == by_slot[i])
			continue;
		t->counts[i] = by_slot[i];
		t->moved_ms[i] = now_ms;
	}
	t->n = FOIL_MIN(n_slots ? n_slots - 1 : 0, AGENT_WORKERS_MAX);
}

bool agent_worker_is_stalled(struct agent *a, uint32_t *worker)
{
	struct tele_reader *r = ring_sender_is_connected(a->sender) ? agent_reader(a) : NULL;

	if (!r) {
		a->turns.n = 0;
		return false;
	}
	if (a->turns.generation != tele_reader_generation(r)) /* another process */
		a->turns = (struct agent_turns){.generation = tele_reader_generation(r)};
	tele_reader_cells(r, look, a);
	for (uint32_t i = 0; i < a->turns.n; i++)
		if (agent_now_ms() - a->turns.moved_ms[i] >= STANDSTILL_MS) {
			*worker = i;
			return true;
		}
	return false;
}
