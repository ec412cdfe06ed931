/* foil-load: see load.h. Exit status: 0 the load ran (errors, if any, are in its result), 1 it could not, 2 a wrong command line. */
#include "perf/load/load.h"

int main(int argc, char **argv)
{
	static struct load load; /* too large for a stack */
	struct load_conf conf;
	int rc = load_options(argc, argv, &conf);

	if (rc)
		return rc > 0 ? 0 : 2;
	rc = conf.sockets ? load_run_sockets(&load, &conf) : load_run_wire(&load, &conf);
	load_fini(&load);
	return rc ? 1 : 0;
}
