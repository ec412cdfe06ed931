/* How often the seeds of this process have reached what is rare: the rooms' probes, and the reasons and counters of rare.def. */
#include "tests/sim/sim.h"

enum kind { PROBE, REASON, COUNTER };

static struct rare {
	enum kind kind;
	enum foil_room room;
	const char *room_name, *name;
	uint16_t id;
	uint64_t n;
} rare[] = {
#ifdef FOIL_CHECKS
#define X(ID, help) {PROBE, FOIL_ROOM_TCP, "tcp", #ID, TCP_PROBE_##ID, 0},
#include "dataplane/tcp/probes.def"
#undef X
#define X(ID, help) {PROBE, FOIL_ROOM_NET, "net", #ID, NET_PROBE_##ID, 0},
#include "dataplane/net/probes.def"
#undef X
#endif
#define REASON(ROOM, ID) {REASON, FOIL_ROOM_##ROOM, #ROOM, #ID, ROOM##_REASON_##ID, 0},
#define COUNTER(ROOM, ID) {COUNTER, FOIL_ROOM_##ROOM, #ROOM, #ID, ROOM##_CTR_##ID, 0},
#include "tests/sim/rare.def"
#undef REASON
#undef COUNTER
};

void sim_rare_collect(const struct foil_worker *w)
{
	for (uint32_t i = 0; i < FOIL_COUNT_OF(rare); i++) {
		uint64_t *const *cells = rare[i].kind == PROBE ? w->probes : rare[i].kind == REASON ? w->why : w->ctr;
		rare[i].n += cells[rare[i].room][rare[i].id];
	}
}

static void print_lower(const char *text)
{
	for (; *text; text++)
		putchar(*text >= 'A' && *text <= 'Z' ? *text + 32 : *text);
}

uint32_t sim_rare_print(bool tap, uint32_t n_tests)
{
	static const char *const kinds[] = {"probe", "reason", "counter"};
	uint32_t n_missed = 0;

	for (uint32_t i = 0; i < FOIL_COUNT_OF(rare); i++) {
		n_missed += rare[i].n == 0;
		if (tap)
			printf("%sok %u - ", rare[i].n ? "" : "not ", n_tests + i + 1);
		printf("%s ", kinds[rare[i].kind]);
		print_lower(rare[i].room_name);
		putchar('.');
		print_lower(rare[i].name);
		printf(tap ? " was reached %llu times\n" : " %llu\n", (unsigned long long)rare[i].n);
	}
	return n_missed;
}

uint32_t sim_rare_count(void)
{
	return FOIL_COUNT_OF(rare);
}
