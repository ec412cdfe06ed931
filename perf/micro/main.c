/* foil-micro: runs every stage's figures and prints them as one JSON object, name to cycles. Arguments choose by a part of the name's room:
 * net, flow, http, mesh, request, tls, or by the whole name of one of request's or tls's. */
#include <stdio.h>
#include <string.h>

#include "perf/micro/micro.h"

static struct micro micro;
static bool is_first = true;

void micro_say(struct micro *m, const char *name, uint32_t n)
{
	printf("%s\n  \"%s\": %.1f", is_first ? "" : ",", name, rig_middle(&m->figures) / n);
	fflush(stdout);
	is_first = false;
	m->figures.n = 0;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(struct micro *m);
	} rooms[] = {{"net", micro_net}, {"flow", micro_flow}, {"http", micro_http}, {"mesh", micro_mesh}, {"request", micro_request}, {"tls", micro_tls}};
	struct tcp_params p = {.conns_max = 4096, .time_wait_max = 4096, .syn_backlog_max = 1024};

	rig_start(&micro.rig, &p, 8191, 4096);
	micro.only = argc == 2 && strchr(argv[1], '.') ? argv[1] : NULL;
	printf("{");
	for (size_t i = 0; i < FOIL_COUNT_OF(rooms); i++) {
		bool is_chosen = argc == 1;
		for (int a = 1; a < argc; a++)
			is_chosen |= strncmp(argv[a], rooms[i].name, strcspn(argv[a], ".")) == 0;
		if (is_chosen)
			rooms[i].run(&micro);
	}
	printf("\n}\n");
	rig_stop(&micro.rig);
	return 0;
}
