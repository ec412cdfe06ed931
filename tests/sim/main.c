/* foil-sim [--seed N] [--count M] [--tap] [--hash] [--probes] [--list] [SCENARIO...]
 * Runs seeds from N on (1; one seed when N is given, else 20) of each scenario (all). Stops at the first failure with exit code 1 and
 * says how to run that seed alone, which writes foil-sim-SCENARIO-SEED.pcap. --hash prints each run's trace hash. --probes
 * says at the end how often each rare path was reached (rare.def), and 1 is the exit code if one was not. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_eal.h>

#include "tests/sim/sim.h"

static struct sim sim;

static void start_eal(void)
{
	char *argv[] = {(char[]){"foil-sim"}, (char[]){"--no-huge"}, (char[]){"--no-pci"}, (char[]){"--no-shconf"}, (char[]){"-m"},
			(char[]){"128"}, (char[]){"--no-telemetry"}, (char[]){"-l"}, (char[]){"0"}, (char[]){"--log-level=3"}, NULL};

	cpu_set_t cpus;
	bool has_cpus = sched_getaffinity(0, sizeof(cpus), &cpus) == 0;

	if (rte_eal_init((int)FOIL_COUNT_OF(argv) - 1, argv) < 0) {
		fprintf(stderr, "foil-sim: EAL does not start\n");
		exit(1);
	}
	if (has_cpus && sched_setaffinity(0, sizeof(cpus), &cpus)) /* EAL has pinned this thread: several simulations would share one core */
		fprintf(stderr, "foil-sim: stays on one core\n");
}

/* An assertion ended the process: say which run it was. */
static void on_abort(int sig)
{
	char text[160];
	int n = snprintf(text, sizeof(text), "\nfoil-sim: died in: ./foil sim --seed 0x%llx %s\n", (unsigned long long)sim.seed,
			 sim.scenario ? sim.scenario->name : "");

	if (n > 0 && write(STDERR_FILENO, text, (size_t)n) < 0)
		_exit(3);
	if (sim.pcap)
		fflush(sim.pcap);
	_exit(1);
}

static FILE *pcap_open(const struct sim_scenario *sc, uint64_t seed)
{
	static const uint32_t head[6] = {0xa1b2c3d4, 0x00040002, 0, 0, 65535, 1};
	char path[128];

	snprintf(path, sizeof(path), "foil-sim-%s-%llx.pcap", sc->name, (unsigned long long)seed);
	FILE *f = fopen(path, "wb");
	if (f && fwrite(head, sizeof(head), 1, f) == 1)
		fprintf(stderr, "foil-sim: capture in %s\n", path);
	return f;
}

static const struct sim_scenario *find(const char *name)
{
	for (uint32_t i = 0; i < sim_n_scenarios; i++)
		if (strcmp(sim_scenarios[i].name, name) == 0)
			return &sim_scenarios[i];
	for (uint32_t i = 0; i < sim_n_liars; i++)
		if (strcmp(sim_liars[i].name, name) == 0)
			return &sim_liars[i];
	for (uint32_t i = 0; i < sim_n_strangers; i++)
		if (strcmp(sim_strangers[i].name, name) == 0)
			return &sim_strangers[i];
	for (uint32_t i = 0; i < sim_n_corners; i++)
		if (strcmp(sim_corners[i].name, name) == 0)
			return &sim_corners[i];
	return NULL;
}

static bool run_seed(const struct sim_scenario *sc, uint64_t seed, bool with_hash, bool with_pcap)
{
	FILE *pcap = with_pcap ? pcap_open(sc, seed) : NULL;

	sim.verbose = with_pcap && !with_hash;
	sim_run(&sim, sc, seed, pcap);
	if (pcap)
		fclose(pcap);
	sim.pcap = NULL;
	if (with_hash)
		printf("%s 0x%llx %016llx\n", sc->name, (unsigned long long)seed, (unsigned long long)sim.hash);
	return !sim.failed;
}

static bool run_scenario(const struct sim_scenario *sc, uint64_t seed, uint64_t count, bool with_hash)
{
	for (uint64_t i = 0; i < count; i++) {
		if (run_seed(sc, seed + i, with_hash, count == 1))
			continue;
		fprintf(stderr, "# %s: %s\n# again: ./foil sim --seed 0x%llx %s\n", sc->name, sim.why, (unsigned long long)(seed + i), sc->name);
		return false;
	}
	return true;
}

static uint64_t number(const char *text)
{
	char *end;

	errno = 0;
	unsigned long long v = text ? strtoull(text, &end, 0) : 0;
	if (!text || errno || end == text || *end) {
		fprintf(stderr, "foil-sim: \"%s\" is no number\n", text ? text : "");
		exit(2);
	}
	return v;
}

static int list(void)
{
	for (uint32_t i = 0; i < sim_n_scenarios; i++)
		printf("%-16s %s\n", sim_scenarios[i].name, sim_scenarios[i].help);
	for (uint32_t i = 0; i < sim_n_liars; i++)
		printf("%-16s %s\n", sim_liars[i].name, sim_liars[i].help);
	for (uint32_t i = 0; i < sim_n_strangers; i++)
		printf("%-16s %s\n", sim_strangers[i].name, sim_strangers[i].help);
	for (uint32_t i = 0; i < sim_n_corners; i++)
		printf("%-16s %s\n", sim_corners[i].name, sim_corners[i].help);
	return 0;
}

int main(int argc, char **argv)
{
	const struct sim_scenario *chosen[64];
	uint32_t n_chosen = 0;
	uint64_t seed = 1, count = 0;
	bool tap = false, with_hash = false, with_rare = false, all_good = true, has_seed = false;

	for (int i = 1; i < argc; i++) {
		const struct sim_scenario *sc = argv[i][0] != '-' ? find(argv[i]) : NULL;
		if (strcmp(argv[i], "--seed") == 0) {
			seed = number(argv[++i]);
			has_seed = true;
		} else if (strcmp(argv[i], "--count") == 0) {
			count = number(argv[++i]);
		} else if (strcmp(argv[i], "--tap") == 0) {
			tap = true;
		} else if (strcmp(argv[i], "--hash") == 0) {
			with_hash = true;
		} else if (strcmp(argv[i], "--probes") == 0) {
			with_rare = true;
		} else if (strcmp(argv[i], "--list") == 0) {
			return list();
		} else if (sc && n_chosen < FOIL_COUNT_OF(chosen)) {
			chosen[n_chosen++] = sc;
		} else {
			fprintf(stderr, "foil-sim: no scenario or option \"%s\"; --list shows the scenarios\n", argv[i]);
			return 2;
		}
	}
	if (!n_chosen) {
		for (uint32_t i = 0; i < sim_n_scenarios; i++)
			chosen[n_chosen++] = &sim_scenarios[i];
		for (uint32_t i = 0; i < sim_n_liars; i++)
			chosen[n_chosen++] = &sim_liars[i];
		for (uint32_t i = 0; i < sim_n_strangers; i++)
			chosen[n_chosen++] = &sim_strangers[i];
		for (uint32_t i = 0; i < sim_n_corners; i++)
			chosen[n_chosen++] = &sim_corners[i];
	}
	if (!count)
		count = has_seed ? 1 : 20;
	start_eal();
	sim_hosts_make(&sim);
	signal(SIGABRT, on_abort);
	for (uint32_t i = 0; i < n_chosen && (tap || all_good); i++) {
		bool good = run_scenario(chosen[i], seed, count, with_hash);
		all_good &= good;
		if (tap)
			printf("%sok %u - %s: seeds 0x%llx to 0x%llx\n", good ? "" : "not ", i + 1, chosen[i]->name, (unsigned long long)seed,
			       (unsigned long long)(seed + count - 1));
		else if (good && !with_hash)
			printf("%-16s %llu seeds from 0x%llx hold\n", chosen[i]->name, (unsigned long long)count, (unsigned long long)seed);
		fflush(stdout);
	}
	if (with_rare)
		all_good &= sim_rare_print(tap, n_chosen) == 0;
	if (tap)
		printf("1..%u\n", n_chosen + (with_rare ? sim_rare_count() : 0));
	return all_good ? 0 : 1;
}
